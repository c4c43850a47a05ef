//! Shared libraries: those that the programs of a release need, and their files on this machine.
//!
//! It follows ld.so(8): first the file's own search path, then the directories of `/etc/ld.so.conf`, then the default
//! ones. ELF files are only read, never executed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::elf::{self, ElfRequirements};

use crate::AssembleError;
use crate::tree::{ReleaseEntry, ReleaseFileContent, ReleaseTree};

/// The maximum size of an ELF file that is read.
const MAX_ELF_SIZE: u64 = 1 << 30;
/// The maximum number of configuration files of the loader.
const MOST_INCLUDES: usize = 64;

/// An ELF file of a release.
#[derive(Debug, Clone)]
pub(crate) struct ElfProgram {
    /// The path in the release.
    pub path: TreePath,
    /// The file on this machine.
    pub source: PathBuf,
    /// The loader, libraries and symbol versions that it needs.
    pub needs: ElfRequirements,
}

/// The requirements of a release on the system it runs on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SystemRequirements {
    /// The processors that its programs are built for; more than one is an error of the project.
    pub machines: BTreeSet<String>,
    /// The loaders, with the programs that request them.
    pub loaders: BTreeMap<String, BTreeSet<String>>,
    /// The libraries that the release does not include, with the files that need them.
    pub libraries: BTreeMap<String, BTreeSet<String>>,
    /// The newest symbol version of each kind by library, such as `GLIBC_2.34`.
    pub versions: BTreeMap<String, BTreeSet<String>>,
}

/// Returns the ELF files of `tree`, sorted by path.
///
/// # Errors
/// Fails if a file cannot be read.
pub(crate) fn elf_programs(tree: &ReleaseTree) -> Result<Vec<ElfProgram>, AssembleError> {
    let mut found = Vec::new();
    for (path, entry) in tree.iter() {
        let ReleaseEntry::File { content: ReleaseFileContent::Disk(source), .. } = entry else { continue };
        if let Some(needs) = read_needs(source)? {
            found.push(ElfProgram { path: path.clone(), source: source.clone(), needs });
        }
    }
    Ok(found)
}

/// Returns the requirements of `programs` that they do not satisfy themselves.
pub(crate) fn system_requirements(programs: &[ElfProgram]) -> SystemRequirements {
    let own: BTreeSet<_> = programs.iter().filter_map(|program| program.path.name()).collect();
    let mut requires = SystemRequirements::default();
    let mut newest: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for program in programs {
        let needs = &program.needs;
        // The path is relative to the release's root.
        let place = program.path.as_path().display().to_string();
        requires.machines.insert(elf::machine_name(needs.machine));
        if let Some(loader) = &needs.interpreter {
            requires.loaders.entry(loader.clone()).or_default().insert(place.clone());
        }
        for library in needs.libraries.iter().filter(|library| !own.contains(library.as_bytes())) {
            requires.libraries.entry(library.clone()).or_default().insert(place.clone());
        }
        for (library, version) in &needs.versions {
            let (kind, number) = split_version(version);
            let known = newest.entry((library.clone(), kind)).or_default();
            *known = number.max(known.clone());
        }
    }
    for ((library, kind), number) in newest {
        let number: Vec<_> = number.iter().map(u64::to_string).collect();
        let version = if number.is_empty() { kind } else { format!("{kind}_{}", number.join(".")) };
        requires.versions.entry(library).or_default().insert(version);
    }
    requires
}

/// Splits `GLIBC_2.34` into the kind `GLIBC` and the numbers 2 and 34; a version without a number is only a kind.
fn split_version(version: &str) -> (String, Vec<u64>) {
    let numbers = |text: &str| text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>();
    match version.rsplit_once('_') {
        Some((kind, number)) => match numbers(number) {
            Some(number) => (kind.to_owned(), number),
            None => (version.to_owned(), Vec::new()),
        },
        None => (version.to_owned(), Vec::new()),
    }
}

/// Returns the loader and the libraries that `programs` need, as this machine would load them.
///
/// The result is the loader's path, and the library paths by name. Libraries that are in the release already, and are
/// found by `$ORIGIN`, are not returned.
///
/// # Errors
/// Fails if a library was not found, or two programs need different loaders.
pub(crate) fn library_closure(programs: &[ElfProgram]) -> Result<(PathBuf, BTreeMap<String, PathBuf>), AssembleError> {
    let places = LibrarySearchPath::from_system();
    let own: BTreeSet<_> = programs.iter().filter_map(|program| program.path.name()).collect();
    let mut loader: Option<&String> = None;
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut waiting: VecDeque<(String, PathBuf, ElfRequirements)> = programs
        .iter()
        .map(|program| (program.path.to_string(), program.source.clone(), program.needs.clone()))
        .collect();
    for program in programs {
        match (&program.needs.interpreter, loader) {
            (Some(named), Some(known)) if named != known => {
                let message = format!("needs the loader `{named}` where the other programs need `{known}`");
                return Err(AssembleError::Project { file: Some(program.path.to_string()), line: None, message });
            }
            (Some(named), _) => loader = Some(named),
            (None, _) => {}
        }
    }
    let Some(loader) = loader else { return Err(AssembleError::NoErts(PathBuf::from("erts"))) };
    let loader_name = loader.rsplit('/').next().unwrap_or(loader).to_owned();
    while let Some((program, source, needs)) = waiting.pop_front() {
        for library in &needs.libraries {
            if own.contains(library.as_bytes()) || found.contains_key(library) || *library == loader_name {
                continue;
            }
            let Some((path, its_needs)) = places.find(library, &source, &needs)? else {
                return Err(AssembleError::NoLibrary { program, library: library.clone() });
            };
            found.insert(library.clone(), path.clone());
            waiting.push_back((library.clone(), path, its_needs));
        }
    }
    Ok((PathBuf::from(loader), found))
}

/// Returns the requirements of the ELF file at `path`; `None` if it is not an ELF file.
pub(crate) fn read_needs(path: &Path) -> Result<Option<ElfRequirements>, AssembleError> {
    let read = || -> io::Result<Option<ElfRequirements>> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        match file.read_exact(&mut magic) {
            Ok(()) if magic == *b"\x7fELF" => {}
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut bytes = magic.to_vec();
        file.take(MAX_ELF_SIZE).read_to_end(&mut bytes)?;
        Ok(elf::read_requirements(&bytes))
    };
    read().map_err(AssembleError::io("read", path))
}

/// The library search path of this machine's loader.
struct LibrarySearchPath(Vec<PathBuf>);

impl LibrarySearchPath {
    fn from_system() -> LibrarySearchPath {
        let mut places = Vec::new();
        let mut waiting = VecDeque::from([PathBuf::from("/etc/ld.so.conf")]);
        for _ in 0..MOST_INCLUDES {
            let Some(file) = waiting.pop_front() else { break };
            // The file may be missing, as on musl systems.
            for line in fs::read_to_string(file).unwrap_or_default().lines() {
                match line.split('#').next().unwrap_or_default().trim() {
                    "" => {}
                    line => match line.strip_prefix("include") {
                        Some(pattern) => waiting.extend(expand_include(pattern.trim())),
                        None => places.push(PathBuf::from(line)),
                    },
                }
            }
        }
        let arch = std::env::consts::ARCH;
        let musl = fs::read_to_string(format!("/etc/ld-musl-{arch}.path")).unwrap_or_default();
        places.extend(musl.split([':', '\n']).map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from));
        let usual = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"];
        let multiarch = ["/lib", "/usr/lib"].map(|dir| PathBuf::from(format!("{dir}/{arch}-linux-gnu")));
        places.extend(multiarch);
        places.extend(usual.iter().map(PathBuf::from));
        LibrarySearchPath(places)
    }

    /// Returns the first library `name` for the same processor that the loader would find for `program` at `source`.
    fn find(
        &self,
        name: &str,
        source: &Path,
        program: &ElfRequirements,
    ) -> Result<Option<(PathBuf, ElfRequirements)>, AssembleError> {
        let origin = source.parent().map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
        let own = program
            .search
            .iter()
            .map(|dir| PathBuf::from(dir.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)));
        for path in own.chain(self.0.iter().cloned()).map(|dir| dir.join(name)) {
            if !path.is_file() {
                continue;
            }
            if let Some(needs) = read_needs(&path)?.filter(|needs| needs.machine == program.machine) {
                return Ok(Some((path, needs)));
            }
        }
        Ok(None)
    }
}

/// Returns the files that match a pattern such as `/etc/ld.so.conf.d/*.conf`; only a star in the last component is
/// supported.
fn expand_include(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let name = name.as_bytes();
    let Some(star) = name.iter().position(|&byte| byte == b'*') else { return vec![path.to_owned()] };
    let (start, end) = (&name[..star], &name[star + 1..]);
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_bytes();
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_project::tree_path;

    fn program(path: &str, loader: Option<&str>, libraries: &[&str], versions: &[(&str, &str)]) -> ElfProgram {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let needs = ElfRequirements {
            interpreter: loader.map(str::to_owned),
            libraries: texts(libraries),
            search: Vec::new(),
            versions: versions.iter().map(|(one, two)| ((*one).to_owned(), (*two).to_owned())).collect(),
            machine: 62,
            ..ElfRequirements::default()
        };
        ElfProgram { path: tree_path(path), source: PathBuf::from("/none"), needs }
    }

    #[test]
    fn requirements_are_the_newest_versions_and_the_libraries_that_are_not_included() {
        let requires = system_requirements(&[
            program("bin/a", Some("/lib/ld.so"), &["libc.so.6", "own.so"], &[("libc.so.6", "GLIBC_2.4")]),
            program("bin/b", None, &["libc.so.6"], &[("libc.so.6", "GLIBC_2.34"), ("libssl.so.3", "OPENSSL_3.0.0")]),
            program("lib/own.so", None, &[], &[("libc.so.6", "GLIBC_PRIVATE")]),
        ]);
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(requires.machines, set(&["x86_64"]));
        assert_eq!(requires.loaders["/lib/ld.so"], set(&["bin/a"]));
        assert_eq!(requires.libraries.keys().collect::<Vec<_>>(), ["libc.so.6"]);
        assert_eq!(requires.libraries["libc.so.6"], set(&["bin/a", "bin/b"]));
        assert_eq!(requires.versions["libc.so.6"], set(&["GLIBC_2.34", "GLIBC_PRIVATE"]));
        assert_eq!(requires.versions["libssl.so.3"], set(&["OPENSSL_3.0.0"]));
    }

    #[test]
    fn programs_with_two_loaders_or_with_none_are_refused() {
        let (one, other) = (program("a", Some("/lib/ld-1"), &[], &[]), program("b", Some("/lib/ld-2"), &[], &[]));
        let error = library_closure(&[one, other]).unwrap_err().to_string();
        assert_eq!(error, "needs the loader `/lib/ld-2` where the other programs need `/lib/ld-1`");
        assert!(matches!(library_closure(&[program("a", None, &[], &[])]), Err(AssembleError::NoErts(_))));
    }

    #[test]
    fn a_missing_library_is_named_with_the_program_that_needs_it() {
        let error = library_closure(&[program("bin/a", Some("/lib/ld-1"), &["libnone-at-all.so.9"], &[])]).unwrap_err();
        let AssembleError::NoLibrary { program, library } = error else { panic!("{error}") };
        assert_eq!((program, library), (tree_path("bin/a").to_string(), "libnone-at-all.so.9".to_owned()));
    }

    #[test]
    fn libraries_of_the_release_and_the_loader_itself_are_not_looked_for() {
        let programs =
            [program("bin/a", Some("/lib/ld-1"), &["own.so", "ld-1"], &[]), program("lib/own.so", None, &[], &[])];
        assert_eq!(library_closure(&programs).unwrap(), (PathBuf::from("/lib/ld-1"), BTreeMap::new()));
    }

    #[test]
    fn versions_are_split_into_kind_and_numbers() {
        for (version, kind, number) in [
            ("GLIBC_2.34", "GLIBC", vec![2, 34]),
            ("GLIBC_PRIVATE", "GLIBC_PRIVATE", vec![]),
            ("OPENSSL_1_1_0", "OPENSSL_1_1", vec![0]),
            ("plain", "plain", vec![]),
        ] {
            assert_eq!(split_version(version), (kind.to_owned(), number));
        }
    }

    #[test]
    fn includes_of_ld_so_conf_are_files_that_match_sorted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", "a.off"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let pattern = |name: &str| expand_include(dir.path().join(name).to_str().unwrap());
        assert_eq!(pattern("*.conf"), ["a.conf", "b.conf"].map(|name| dir.path().join(name)));
        assert_eq!(pattern("plain"), [dir.path().join("plain")], "it need not exist");
        assert_eq!(pattern("gone/*.conf"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_file_that_is_no_elf_file_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "abc", "#!/bin/sh\n", "\x7fELFbroken"] {
            fs::write(dir.path().join("file"), text).unwrap();
            assert_eq!(read_needs(&dir.path().join("file")).unwrap(), None, "{text:?}");
        }
        assert!(matches!(read_needs(&dir.path().join("gone")), Err(AssembleError::Io { verb: "read", .. })));
    }
}
