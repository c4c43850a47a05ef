//! Checks what a release needs that its start program does not tell the kernel: the emulator, native code and a shell.
//!
//! It knows the layout of Mix, relx and dram: `bin/NAME` beside `releases/start_erl.data` and `erts-VERSION`. A portable
//! release of dram starts its programs with its own loader, which `start.conf` names.

use std::collections::BTreeMap;

use dram_image::TreePath;
use dram_start::command::{StartCommandMatch, find_command};
use dram_start::env_script::evaluate_assignments;
use dram_start::named_release::{NamingFiles, mentions_node_name, needs_node_name};
use dram_start::start_conf::{START_HOOKS, StartConf};
use dram_store::{FileKind, StoreError, TreeNode};

use super::FaultReason;
use super::check_libraries::{DynamicLoader, LoadedLibraries};
use super::exec_rules::CommandChecker;
use super::image_files::{FileAccess, ImageFile, shown};

/// The largest file of a release that is read as text.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// The largest number of native libraries of a release that are looked at.
const MAX_NATIVE: usize = 1000;
/// The depth of directories in `priv` that are searched for native libraries.
const MAX_DEPTH: usize = 4;
/// Applications of OTP whose native libraries are loaded only when a program asks for a window.
const LOADED_ON_DEMAND: &[&str] = &["wx"];

/// A release in an image.
struct FoundRelease<'a> {
    checker: &'a CommandChecker<'a>,
    root: String,
    erts: String,
    version: String,
    /// The settings of a release of dram.
    conf: Option<StartConf>,
}

/// Returns what keeps the release from starting, if `program` is its start program; `words` is the command.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub(super) fn check_release(
    checker: &CommandChecker<'_>,
    program: &TreeNode,
    words: &[String],
) -> Result<Vec<FaultReason>, StoreError> {
    let Some(release) = FoundRelease::find(checker, &program.path)? else { return Ok(Vec::new()) };
    if let Some(fault) = release.check_shell(words)? {
        return Ok(vec![fault]);
    }
    release.check_emulator()
}

/// Returns a fault if `words` call the release of the start program `program` with a command that needs a node name, and
/// the release has none. `command` is the whole command of the image, which may set a name itself.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub(super) fn check_node_name(
    checker: &CommandChecker<'_>,
    program: &TreeNode,
    words: &[String],
    command: &str,
) -> Result<Option<FaultReason>, StoreError> {
    let [name, subcommand, ..] = words else { return Ok(None) };
    if !needs_node_name(subcommand.as_bytes()) || mentions_node_name(command.as_bytes()) {
        return Ok(None);
    }
    let Some(release) = FoundRelease::find(checker, &program.path)? else { return Ok(None) };
    let is_custom =
        release.conf.iter().flat_map(|conf| &conf.custom_commands).any(|own| own.name == subcommand.as_bytes());
    if is_custom || release.may_name_node()? {
        return Ok(None);
    }
    let fault = FaultReason::new(format!("`{name} {subcommand}` needs a node name, and the release has none"));
    let help = "write `ENV RELEASE_DISTRIBUTION=sname`, or set `distribution` in the dram.toml of the release";
    Ok(Some(fault.note("`ping` and `pid` need no name").help(help)))
}

impl<'a> FoundRelease<'a> {
    fn find(checker: &'a CommandChecker<'a>, program: &TreePath) -> Result<Option<FoundRelease<'a>>, StoreError> {
        let Some(bin) = program.parent().filter(|dir| dir.name() == Some(b"bin")) else { return Ok(None) };
        let root = shown(&bin.parent().unwrap_or_default());
        let root = root.trim_end_matches('/').to_owned();
        let text = |path: &str| -> Result<Option<Vec<u8>>, StoreError> {
            let node = checker.files.readable(path)?;
            node.map(|node| checker.files.read_start(&node, MAX_TEXT_BYTES)).transpose()
        };
        let Some(data) = text(&format!("{root}/releases/start_erl.data"))? else { return Ok(None) };
        let data = String::from_utf8_lossy(&data).into_owned();
        let mut words = data.split_ascii_whitespace().map(str::to_owned);
        let (Some(erts), Some(version)) = (words.next(), words.next()) else { return Ok(None) };
        let path = format!("{root}/releases/{version}/start.conf");
        let conf = text(&path)?.and_then(|conf| StartConf::parse(path.as_bytes(), &conf).ok());
        Ok(Some(FoundRelease { checker, root, erts, version, conf }))
    }

    /// Returns a fault if the start program of dram needs a shell for this command and the image has none.
    fn check_shell(&self, words: &[String]) -> Result<Option<FaultReason>, StoreError> {
        let (Some(conf), files) = (&self.conf, self.checker.files) else { return Ok(None) };
        let Some(cause) = self.shell_user(conf, words)? else { return Ok(None) };
        match files.find("/bin/sh", FileAccess::Execute)? {
            ImageFile::Missing => Ok(Some(
                FaultReason::new(format!("the release needs `/bin/sh`, which is not in the image: {cause}"))
                    .help("use a base image with a shell, or do without the script"),
            )),
            ImageFile::Found(_) | ImageFile::Forbidden(_) | ImageFile::Unknown => Ok(None),
        }
    }

    /// Returns the text of a file of the release's version.
    fn version_file(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let node = self.checker.files.readable(&format!("{}/releases/{}/{name}", self.root, self.version))?;
        node.map(|node| self.checker.files.read_start(&node, MAX_TEXT_BYTES)).transpose()
    }

    /// Returns false if the node surely has no name.
    fn may_name_node(&self) -> Result<bool, StoreError> {
        let Some(conf) = self.conf.clone() else { return Ok(true) };
        let vm_args = match self.version_file("vm.args")? {
            Some(text) => Some(text),
            None => self.version_file("vm.args.src")?,
        };
        let env_sh = self.version_file("env.sh")?;
        let files = NamingFiles { conf, vm_args: vm_args.as_deref().unwrap_or_default(), env_sh: env_sh.as_deref() };
        Ok(files.may_name_node(&self.checker.files.env_variables()))
    }

    /// Returns the reason why the start program needs a shell for this command.
    fn shell_user(&self, conf: &StartConf, words: &[String]) -> Result<Option<String>, StoreError> {
        let command = words.get(1).map(String::as_str).unwrap_or_default();
        if let Some(own) = conf.custom_commands.iter().find(|own| own.name == command.as_bytes()) {
            return Ok(Some(format!("the command `{command}` is the script `{}`", String::from_utf8_lossy(&own.path))));
        }
        if let Some(text) = self.version_file("env.sh")?
            && evaluate_assignments(&text, &self.checker.files.env_variables()).is_none()
        {
            let (root, version) = (&self.root, &self.version);
            return Ok(Some(format!("`{root}/releases/{version}/env.sh` does more than assign variables")));
        }
        let starts = match find_command(command.as_bytes(), &conf.custom_commands) {
            Ok(StartCommandMatch::Builtin(command)) => command.starts_release(),
            Ok(StartCommandMatch::Custom(_)) | Err(_) => false,
        };
        let hook = START_HOOKS.iter().find_map(|point| conf.hooks_at(*point).next());
        Ok(hook.filter(|_| starts).map(|path| format!("it has the hook `{}`", String::from_utf8_lossy(path))))
    }

    /// Checks the emulator, its helper program and the native libraries of the applications.
    fn check_emulator(&self) -> Result<Vec<FaultReason>, StoreError> {
        let files = self.checker.files;
        let path = format!("{}/erts-{}/bin/beam.smp", self.root, self.erts);
        // A release without ERTS uses that of the machine.
        let Some(node) = files.readable(&path)? else { return Ok(Vec::new()) };
        let Some(needs) = files.read_elf(&node)? else { return Ok(Vec::new()) };
        let own_loader = self.conf.as_ref().and_then(|conf| conf.loader.as_ref());
        let Some(loader_path) = (match own_loader {
            Some(loader) => Some(format!("{}/{}", self.root, String::from_utf8_lossy(loader))),
            None => needs.interpreter.clone(),
        }) else {
            return Ok(Vec::new());
        };
        if own_loader.is_none() {
            let start = files.read_start(&node, 256)?;
            if let Some(fault) = self.checker.execute_elf(&path, &node, &start)? {
                return Ok(vec![fault]);
            }
        }
        let ImageFile::Found(loader_node) = files.find(&loader_path, FileAccess::Execute)? else {
            let fault =
                FaultReason::new(format!("the release needs its loader `{loader_path}`, which is not in the image"));
            return Ok(vec![fault.help("copy the whole release into the image")]);
        };
        let mut loader = DynamicLoader::read(files, &loader_path, &loader_node)?;
        if let Some(conf) = self.conf.as_ref().filter(|_| own_loader.is_some()) {
            let dirs = String::from_utf8_lossy(&conf.library_path).into_owned();
            loader.first_dirs = dirs.split(':').map(|dir| format!("{}/{dir}", self.root)).collect();
        }
        let loaded = loader.load(files, &path, &needs)?;
        if !loaded.missing.is_empty() {
            return Ok(loaded.into_faults());
        }
        self.check_native(&loader, &loaded, needs.machine)
    }

    /// Checks the libraries of the native code in `lib/*/priv`: one fault for each missing library.
    fn check_native(
        &self,
        loader: &DynamicLoader,
        emulator: &LoadedLibraries,
        machine: u16,
    ) -> Result<Vec<FaultReason>, StoreError> {
        let files = self.checker.files;
        let mut missing: BTreeMap<String, LoadedLibraries> = BTreeMap::new();
        for path in self.native_libraries()? {
            let Some(node) = files.readable(&path)? else { continue };
            let Some(needs) = files.read_elf(&node)?.filter(|elf| elf.machine == machine) else { continue };
            let loaded = loader.load_after(files, &path, &needs, &emulator.names)?;
            for lack in loaded.missing {
                missing.entry(lack.0.clone()).or_default().missing.push(lack);
            }
        }
        let one = |mut lacks: LoadedLibraries| {
            let more: Vec<String> =
                lacks.missing.split_off(1).into_iter().map(|(_, by, _)| format!("`{by}`")).collect();
            let fault = lacks.into_faults().into_iter().next()?;
            Some(match more.is_empty() {
                true => fault,
                false => fault.note(format!("it is also needed by {}", more.join(", "))),
            })
        };
        Ok(missing.into_values().filter_map(one).collect())
    }

    /// Returns the paths of the shared objects in the `priv` directories of the applications.
    fn native_libraries(&self) -> Result<Vec<String>, StoreError> {
        let files = self.checker.files;
        let mut found = Vec::new();
        let lib = format!("{}/lib", self.root);
        let on_demand = |name: &&String| !LOADED_ON_DEMAND.iter().any(|app| name.starts_with(&format!("{app}-")));
        let mut dirs: Vec<(String, usize)> =
            files.names(&lib)?.iter().filter(on_demand).map(|app| (format!("{lib}/{app}/priv"), 0)).collect();
        while let Some((dir, depth)) = dirs.pop() {
            for name in files.names(&dir)? {
                let path = format!("{dir}/{name}");
                let ImageFile::Found(node) = files.find(&path, FileAccess::Exist)? else { continue };
                if node.status.kind == FileKind::Dir && depth < MAX_DEPTH {
                    dirs.push((path, depth + 1));
                } else if node.status.kind == FileKind::File && name.ends_with(".so") && found.len() < MAX_NATIVE {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}
