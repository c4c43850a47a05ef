//! The execution of a command: the search of its program, and the kernel's rules for scripts and ELF files.

use dram_dockerfile::Diagnostic;
use dram_image::elf::machine_name;
use dram_store::{FileKind, FileStatus, StoreError, TreeNode};

use super::FaultReason;
use super::check_libraries::DynamicLoader;
use super::check_release::{check_node_name, check_release};
use super::command_words::{base_name, deciding_commands, needed_program, shell_script, wrapped_command};
use super::image_files::{FileAccess, ImageFile, ImageFiles, shown};

/// The kernel reads this much of a script to find its interpreter (`BINPRM_BUF_SIZE`).
const SCRIPT_START_BYTES: usize = 256;
/// An interpreter may be a script itself; the kernel follows this many.
const MAX_INTERPRETERS: usize = 5;
/// The length of the header of a 64-bit ELF file.
const ELF_HEADER_BYTES: usize = 64;

/// The executor of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartedBy {
    /// The container runtime: the kernel's rules alone.
    Runtime,
    /// A shell, or a program that uses `execvp`: a file of an unknown format is given to a shell.
    Program,
}

/// The program that a word leads to.
enum FoundProgram {
    /// It can be executed, as far as its permissions go.
    File(String, TreeNode),
    Fault(FaultReason),
    Unknown,
}

/// Checks commands in the files of an image.
pub(super) struct CommandChecker<'a> {
    pub(super) files: &'a ImageFiles<'a>,
    /// The Go name of the image's processor.
    pub(super) architecture: &'a str,
}

impl CommandChecker<'_> {
    /// Returns what keeps the command `words` from starting, with the index of the word that it is about.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(super) fn check_words(&self, words: &[String]) -> Result<Vec<(usize, FaultReason)>, StoreError> {
        let mut at = 0;
        let mut by = StartedBy::Runtime;
        while let Some(word) = words.get(at) {
            let (path, node) = match self.find_program(word, by)? {
                FoundProgram::File(path, node) => (path, node),
                FoundProgram::Fault(fault) => return Ok(vec![(at, fault)]),
                FoundProgram::Unknown => return Ok(Vec::new()),
            };
            if let Some(fault) = self.execute(&path, &node, by, 0)? {
                return Ok(vec![(at, fault)]);
            }
            let rest = &words[at..];
            if let Some(next) = wrapped_command(rest) {
                at += next;
                by = StartedBy::Program;
                continue;
            }
            if let Some(script) = shell_script(rest) {
                let faults = self.check_script(&shown(&node.path), &node, &rest[script])?;
                return Ok(faults.into_iter().map(|fault| (at + script, fault)).collect());
            }
            let mut faults = check_release(self, &node, rest)?;
            faults.extend(check_node_name(self, &node, rest, &words.join(" "))?);
            return Ok(faults.into_iter().map(|fault| (at, fault)).collect());
        }
        Ok(Vec::new())
    }

    /// Checks the programs without which a script of the shell `shell` fails.
    fn check_script(&self, shell: &str, node: &TreeNode, script: &str) -> Result<Vec<FaultReason>, StoreError> {
        if let Some(fault) = self.check_first_program(shell, node, script)? {
            return Ok(vec![fault]);
        }
        let first = needed_program(script);
        let mut faults = Vec::new();
        for words in deciding_commands(script) {
            let Some(word) = words.first().filter(|word| word.contains('/') || first == Some(word.as_str())) else {
                continue;
            };
            if let FoundProgram::File(_, node) = self.find_program(word, StartedBy::Program)? {
                // What comes before another command may bring the files that it needs, but no name.
                if first == Some(word.as_str()) {
                    faults.extend(check_release(self, &node, &words)?);
                }
                faults.extend(check_node_name(self, &node, &words, script)?);
            }
        }
        Ok(faults)
    }

    /// Checks the program with which a script of the shell `shell` begins.
    fn check_first_program(
        &self,
        shell: &str,
        node: &TreeNode,
        script: &str,
    ) -> Result<Option<FaultReason>, StoreError> {
        let Some(word) = needed_program(script) else { return Ok(None) };
        // Busybox's shell may have the program built in. The names of its programs are strings in it.
        if !word.contains('/') && base_name(shell).contains("busybox") {
            let name = [b"\0".as_slice(), word.as_bytes(), b"\0"].concat();
            let bytes = self.files.read_start(node, 16 << 20)?;
            if bytes.windows(name.len()).any(|part| part == name) {
                return Ok(None);
            }
        }
        match self.find_program(word, StartedBy::Program)? {
            FoundProgram::File(path, node) => self.execute(&path, &node, StartedBy::Program, 0),
            FoundProgram::Fault(fault) => Ok(Some(fault)),
            FoundProgram::Unknown => Ok(None),
        }
    }

    /// Finds the program `word`: with a slash it is a path, otherwise it is searched in `PATH`.
    fn find_program(&self, word: &str, by: StartedBy) -> Result<FoundProgram, StoreError> {
        if word.is_empty() {
            return Ok(FoundProgram::Fault(
                FaultReason::new("its first word is empty").help("write the program's path"),
            ));
        }
        if word.contains('/') {
            return Ok(match self.files.find(word, FileAccess::Execute)? {
                ImageFile::Found(node) if node.status.kind == FileKind::File => {
                    FoundProgram::File(word.to_owned(), node)
                }
                ImageFile::Found(node) => FoundProgram::Fault(not_a_file(word, &node.status)),
                ImageFile::Missing => FoundProgram::Fault(self.missing_program(word, by)?),
                ImageFile::Forbidden(status) => FoundProgram::Fault(not_executable(word, &status)),
                ImageFile::Unknown => FoundProgram::Unknown,
            });
        }
        let mut refused = None;
        for dir in self.files.search_path().split(':') {
            let path = format!("{}/{word}", if dir.is_empty() { "." } else { dir });
            match self.files.find(&path, FileAccess::Execute)? {
                ImageFile::Found(node) if node.status.kind == FileKind::File => {
                    return Ok(FoundProgram::File(path, node));
                }
                ImageFile::Forbidden(status) if status.kind == FileKind::File => {
                    refused = refused.or_else(|| Some(not_executable(&path, &status)));
                }
                ImageFile::Found(_) | ImageFile::Missing | ImageFile::Forbidden(_) => {}
                ImageFile::Unknown => return Ok(FoundProgram::Unknown),
            }
        }
        Ok(FoundProgram::Fault(match refused {
            Some(refused) => refused,
            None => self.missing_program(word, by)?,
        }))
    }

    /// Describes a program that does not exist, with paths that may be meant.
    fn missing_program(&self, word: &str, by: StartedBy) -> Result<FaultReason, StoreError> {
        let mut fault = match word.contains('/') {
            true => FaultReason::new(format!("`{}` is not in the image", self.files.absolute(word).escape_debug())),
            false => FaultReason::new(format!("`{}` is in no directory of `PATH`", word.escape_debug()))
                .note(format!("`PATH` is `{}`", self.files.search_path().escape_debug())),
        };
        if by == StartedBy::Runtime && word.contains(' ') {
            fault = fault.help("each string of the JSON form is one word: `[\"program\", \"argument\"]`");
        }
        if by == StartedBy::Runtime && word.contains('$') {
            fault = fault.note("variables are not replaced in the JSON form, because no shell is involved");
        }
        let (dir, name) = word.rsplit_once('/').unwrap_or(("", word));
        for place in self.files.search_path().split(':').filter(|_| word.contains('/')) {
            let path = format!("{place}/{name}");
            if let ImageFile::Found(_) = self.files.find(&path, FileAccess::Execute)? {
                return Ok(fault.help(format!("did you mean `{}`?", path.escape_debug())));
            }
        }
        if word.contains('/') {
            let names = self.files.names(if dir.is_empty() { "/" } else { dir })?;
            let near = Diagnostic::warning(None, 0..0, "").did_you_mean(name, names.iter().map(String::as_str));
            if !near.helps.is_empty() {
                fault.helps.extend(near.helps);
                return Ok(fault);
            }
        }
        Ok(fault.help("install it or copy it into the last stage, or correct the path"))
    }

    /// Returns what keeps the file `node`, called `path`, from being executed.
    fn execute(
        &self,
        path: &str,
        node: &TreeNode,
        by: StartedBy,
        depth: usize,
    ) -> Result<Option<FaultReason>, StoreError> {
        if depth > MAX_INTERPRETERS {
            let fault = FaultReason::new(format!("too many scripts interpret each other, the last is `{path}`"));
            return Ok(Some(fault.help("name a program that is no script after `#!`")));
        }
        let start = self.files.read_start(node, SCRIPT_START_BYTES as u64)?;
        if start.starts_with(b"\x7fELF") {
            return self.execute_elf(path, node, &start);
        }
        match parse_first_line(&start) {
            Some(Some(line)) => self.execute_script(path, &line, depth),
            Some(None) if by == StartedBy::Runtime => {
                let fault = FaultReason::new(format!("the first line of `{path}` names no interpreter"));
                Ok(Some(fault.help("begin the script with `#!/bin/sh`, or with the path of its interpreter")))
            }
            None if by == StartedBy::Runtime => Ok(Some(unknown_format(path, &start))),
            Some(None) | None => Ok(None),
        }
    }

    fn execute_script(&self, path: &str, line: &ScriptLine, depth: usize) -> Result<Option<FaultReason>, StoreError> {
        let interpreter = &line.interpreter;
        let node = match self.files.find(interpreter, FileAccess::Execute)? {
            ImageFile::Found(node) if node.status.kind == FileKind::File => node,
            ImageFile::Found(node) => return Ok(Some(not_a_file(interpreter, &node.status))),
            ImageFile::Missing if interpreter.ends_with('\r') => return Ok(Some(carriage_return(path))),
            ImageFile::Missing => return Ok(Some(missing_interpreter(path, interpreter))),
            ImageFile::Forbidden(status) => return Ok(Some(not_executable(interpreter, &status))),
            ImageFile::Unknown => return Ok(None),
        };
        // The kernel does not need to read the script; its interpreter does.
        if let ImageFile::Forbidden(status) = self.files.find(path, FileAccess::Read)? {
            let fault = FaultReason::new(format!(
                "the user of the image cannot read `{path}`, whose mode is {}",
                mode(&status)
            ));
            return Ok(Some(fault.help("give it a mode such as 0755: `COPY --chmod=755 …`")));
        }
        if let Some(fault) = self.execute(interpreter, &node, StartedBy::Runtime, depth + 1)? {
            return Ok(Some(fault));
        }
        match base_name(interpreter) {
            "env" => self.execute_by_env(path, line, depth),
            "sh" | "bash" | "dash" | "ash" | "ksh" | "zsh" if line.argument.ends_with('\r') => {
                Ok(Some(carriage_return(path)))
            }
            _ => Ok(None),
        }
    }

    /// Checks the program of `#!/usr/bin/env PROGRAM`.
    fn execute_by_env(&self, path: &str, line: &ScriptLine, depth: usize) -> Result<Option<FaultReason>, StoreError> {
        let argument = line.argument.as_str();
        let program = match argument.strip_prefix("-S") {
            // `env -S` splits its argument at spaces.
            Some(rest) => rest.split_ascii_whitespace().find(|word| !word.contains('=')).unwrap_or_default(),
            None => argument,
        };
        if program.is_empty() || program.starts_with('-') || program.contains(['=', '"', '\'', '$', '\\']) {
            return Ok(None);
        }
        match self.find_program(program, StartedBy::Program)? {
            FoundProgram::File(path, node) => self.execute(&path, &node, StartedBy::Program, depth + 1),
            FoundProgram::Fault(_) if program.ends_with('\r') => Ok(Some(carriage_return(path))),
            FoundProgram::Fault(fault) => {
                let first = format!("`{path}` begins with `#!{} {argument}`", line.interpreter);
                Ok(Some(FaultReason { notes: [vec![first], fault.notes].concat(), ..fault }))
            }
            FoundProgram::Unknown => Ok(None),
        }
    }

    /// Returns what keeps the ELF file `node` from being executed: its processor, its loader or its libraries.
    pub(super) fn execute_elf(
        &self,
        path: &str,
        node: &TreeNode,
        start: &[u8],
    ) -> Result<Option<FaultReason>, StoreError> {
        if start.len() < ELF_HEADER_BYTES && start.get(4) != Some(&1) {
            return Ok(Some(FaultReason::new(format!("`{path}` is only the beginning of a program"))));
        }
        // Files that cannot be read in full are left to the kernel.
        let Some(needs) = self.files.read_elf(node)? else { return Ok(None) };
        if !self.runs_here(needs.machine) {
            let (program, image) = (machine_name(needs.machine), self.architecture);
            let fault = FaultReason::new(format!("`{path}` is a program for {program}, and the image is for {image}"));
            return Ok(Some(fault.help("build it for this platform, or build the image with `--platform`")));
        }
        if !needs.is_loadable {
            let fault = FaultReason::new(format!("`{path}` is an object file, not a program"));
            return Ok(Some(fault.help("link it")));
        }
        let Some(loader) = &needs.interpreter else { return Ok(None) };
        let loader_node = match self.files.find(loader, FileAccess::Execute)? {
            ImageFile::Found(node) if node.status.kind == FileKind::File => node,
            ImageFile::Found(node) => return Ok(Some(not_a_file(loader, &node.status))),
            ImageFile::Missing => return Ok(Some(missing_loader(path, loader))),
            ImageFile::Forbidden(status) => return Ok(Some(not_executable(loader, &status))),
            ImageFile::Unknown => return Ok(None),
        };
        let of_loader = self.files.read_elf(&loader_node)?;
        if of_loader.as_ref().is_some_and(|of_loader| of_loader.machine != needs.machine) {
            return Ok(Some(missing_loader(path, loader).note("the file of that name is for another processor")));
        }
        let loader = DynamicLoader::read(self.files, loader, &loader_node)?;
        let loaded = loader.load(self.files, &shown(&node.path), &needs)?;
        Ok(loaded.into_faults().into_iter().next())
    }

    /// Returns true if programs of the machine type `machine` run in the image, or if that is not known.
    fn runs_here(&self, machine: u16) -> bool {
        let machines: &[u16] = match self.architecture {
            // 64-bit kernels execute 32-bit programs too.
            "amd64" => &[62, 3],
            "arm64" => &[183, 40],
            "386" => &[3],
            "arm" => &[40],
            "s390x" => &[22],
            "ppc64le" | "ppc64" => &[21],
            "riscv64" => &[243],
            "loong64" => &[258],
            "mips" | "mipsle" | "mips64" | "mips64le" => &[8],
            _ => return true,
        };
        machines.contains(&machine)
    }
}

/// The first line of a script: the interpreter and the rest of the line, which is one argument.
#[derive(Debug, PartialEq, Eq)]
struct ScriptLine {
    interpreter: String,
    argument: String,
}

/// Parses the first line of a script as `load_script` of the kernel does. `None` if it is no script; `Some(None)` if the
/// kernel refuses it.
fn parse_first_line(start: &[u8]) -> Option<Option<ScriptLine>> {
    let rest = start.strip_prefix(b"#!")?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => &rest[..end],
        None => {
            // Without a line end, the path of the interpreter must end within what the kernel reads.
            let is_cut = start.len() == SCRIPT_START_BYTES;
            let name = rest.iter().skip_while(|byte| is_blank(byte));
            if is_cut && !name.clone().any(|byte| is_blank(byte) || *byte == 0) {
                return Some(None);
            }
            rest
        }
    };
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let text = text.trim_matches([' ', '\t']);
    let (interpreter, argument) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    if interpreter.is_empty() {
        return Some(None);
    }
    let argument = argument.trim_start_matches([' ', '\t']).to_owned();
    Some(Some(ScriptLine { interpreter: interpreter.to_owned(), argument }))
}

fn mode(status: &FileStatus) -> String {
    format!("{:04o}", status.mode & 0o7777)
}

fn not_a_file(path: &str, status: &FileStatus) -> FaultReason {
    let what = if status.kind == FileKind::Dir { "a directory" } else { "no regular file" };
    FaultReason::new(format!("`{}` is {what}", path.escape_debug())).help("name the program")
}

fn not_executable(path: &str, status: &FileStatus) -> FaultReason {
    let (mode, path) = (mode(status), path.escape_debug());
    if status.kind == FileKind::Dir {
        let message = format!("the user of the image may not enter a directory of `{path}`, whose mode is {mode}");
        return FaultReason::new(message).help("change the directory's owner or mode in the build");
    }
    if status.mode & 0o111 != 0 {
        let message = format!("the user of the image may not execute `{path}`: its mode is {mode}");
        let owner = format!("it belongs to user {}, group {}", status.uid, status.gid);
        return FaultReason::new(message)
            .note(owner)
            .help("give it the mode 0755, or to that user: `COPY --chown=USER …`");
    }
    FaultReason::new(format!("`{path}` is not executable: its mode is {mode}"))
        .help("copy it with `COPY --chmod=755 …`, or set the mode in the source: `git update-index --chmod=+x FILE`")
}

fn missing_interpreter(path: &str, interpreter: &str) -> FaultReason {
    let interpreter = interpreter.escape_debug();
    let fault = FaultReason::new(format!("`{path}` needs `{interpreter}`, which is not in the image"))
        .note(format!("the first line of the script is `#!{interpreter}`"));
    match base_name(&interpreter.to_string()) {
        "sh" => fault.help("use a base image with a shell, or name a program that needs none"),
        "bash" => fault.help("install bash in the last stage, or write the script for `#!/bin/sh`"),
        _ => fault.help("install it or copy it into the last stage, or correct the first line"),
    }
}

fn carriage_return(path: &str) -> FaultReason {
    FaultReason::new(format!(
        "the lines of `{path}` end with a carriage return, which becomes a part of the interpreter's name"
    ))
    .help("save the file with Unix line ends; in Git: `*.sh text eol=lf` in `.gitattributes`")
}

fn missing_loader(path: &str, loader: &str) -> FaultReason {
    let fault =
        FaultReason::new(format!("`{path}` needs the loader `{}`, which is not in the image", loader.escape_debug()));
    match loader.contains("ld-musl") {
        true => fault
            .note("it was built for musl, the C library of Alpine")
            .help("build it in a stage of the same family as the last one, or link it statically"),
        false => fault.note("it was built for glibc, the C library of Debian, Ubuntu and Fedora").help(
            "build it in a stage of the same family as the last one, or link it statically (Go: `CGO_ENABLED=0`)",
        ),
    }
}

/// Describes a file that the kernel has no handler for.
fn unknown_format(path: &str, start: &[u8]) -> FaultReason {
    let fault = |what: &str| FaultReason::new(format!("`{path}` is {what}"));
    let mach = [[0xcf, 0xfa, 0xed, 0xfe], [0xce, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbe]];
    if start.is_empty() {
        return fault("an empty file").help("look at the step that writes it");
    }
    if start.starts_with(b"\xef\xbb\xbf#!") || start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return fault("a script with a byte order mark before `#!`, so it is not known as a script")
            .help("save it as UTF-8 without a byte order mark");
    }
    if start.trim_ascii_start().starts_with(b"#!") {
        return fault("a script whose `#!` is not at its very beginning").help("remove what is before `#!`");
    }
    if mach.iter().any(|magic| start.starts_with(magic)) {
        return fault("a program for macOS or a Java class, not for Linux").help("build it for Linux");
    }
    if start.starts_with(b"MZ") {
        return fault("a program for Windows, not for Linux").help("build it for Linux");
    }
    fault("neither a program for Linux nor a script that begins with `#!`")
        .help("begin the script with `#!/bin/sh`, or with the path of its interpreter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_is_parsed_as_the_kernel_does() {
        let line = |text: &[u8]| {
            parse_first_line(text).map(|line| line.map(|line| format!("{}|{}", line.interpreter, line.argument)))
        };
        let some = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(line(b"#!/bin/sh\nx"), some("/bin/sh|"));
        assert_eq!(line(b"#! \t /bin/sh  -e  -x \t\nx"), some("/bin/sh|-e  -x"));
        assert_eq!(line(b"#!/bin/sh\r\nx"), some("/bin/sh\r|"));
        assert_eq!(line(b"#!/bin/sh"), some("/bin/sh|"));
        assert_eq!(line(b"#!  \nx"), Some(None));
        assert_eq!(line(b"#!\n"), Some(None));
        assert_eq!(line(b" #!/bin/sh\n"), None);
        let long = [b"#!/".as_slice(), &[b'a'; 253]].concat();
        assert_eq!(line(&long), Some(None), "the path may be cut off");
        let long = [b"#!/a ".as_slice(), &[b'a'; 251]].concat();
        assert!(line(&long).unwrap().unwrap().starts_with("/a|"));
    }
}
