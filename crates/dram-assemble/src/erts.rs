//! The Erlang run-time system of a release, with only those programs that a release starts.

use std::fs;
use std::path::{Path, PathBuf};

use dram_image::TreePath;

use crate::AssembleError;
use crate::blueprint::OtpInstallation;
use crate::collect::{CollectOptions, collect_file};
use crate::libraries::{self, ElfProgram};
use crate::tree::{EXECUTABLE_MODE, FILE_MODE, ReleaseEntry, ReleaseFileContent, ReleaseTree, below_root};

/// The programs in every release. `beam.smp` itself starts `erl_child_setup` and `inet_gethost`; the others are for
/// distribution, `heart` and the daemon.
const ERTS_PROGRAMS: [&str; 8] =
    ["beam.smp", "erl_child_setup", "inet_gethost", "epmd", "heart", "run_erl", "to_erl", "erl_call"];
/// The programs without which the emulator does not start.
const REQUIRED_PROGRAMS: [&str; 3] = ["beam.smp", "erl_child_setup", "inet_gethost"];

/// The warning for a project that configures a release without ERTS.
pub(crate) const ERTS_ALWAYS_INCLUDED: &str =
    "`include_erts` is false, and the release brings Erlang along all the same: its start program starts no other";

/// Returns the ERTS directory of `otp`.
pub(crate) fn erts_dir(otp: &OtpInstallation) -> PathBuf {
    otp.root.join(format!("erts-{}", otp.erts))
}

/// Returns the OTP installation in `path`, which is its root directory or its `erts-VERSION`. The release number falls
/// back to that of `known`.
///
/// # Errors
/// Fails if there is no installation.
pub(crate) fn otp_from_path(path: &Path, known: &OtpInstallation) -> Result<OtpInstallation, AssembleError> {
    let version_of = |path: &Path| Some(path.file_name()?.to_str()?.strip_prefix("erts-")?.to_owned());
    let missing = || AssembleError::NoErts(path.to_owned());
    let below = || {
        let mut found: Vec<_> =
            fs::read_dir(path).ok()?.flatten().filter_map(|found| version_of(&found.path())).collect();
        found.sort();
        Some((path.to_owned(), found.pop()?))
    };
    let (root, erts) = match version_of(path) {
        Some(version) => (path.parent().unwrap_or(path).to_owned(), version),
        None => below().ok_or_else(missing)?,
    };
    if !root.join("lib").is_dir() || !root.join(format!("erts-{erts}")).is_dir() {
        return Err(missing());
    }
    let data = fs::read_to_string(root.join("releases/start_erl.data")).unwrap_or_default();
    let release = data.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(known.release);
    Ok(OtpInstallation { root, release, erts })
}

/// Adds the ERTS programs in `source` to `tree`, below `at`.
///
/// # Errors
/// Fails if a program that is required or requested is missing.
pub(crate) fn collect_programs(
    tree: &mut ReleaseTree,
    source: &Path,
    at: &TreePath,
    further: &[String],
) -> Result<(), AssembleError> {
    let bin = source.join("bin");
    for name in ERTS_PROGRAMS.iter().copied().chain(further.iter().map(String::as_str)) {
        let path = bin.join(name);
        if path.is_file() {
            // The caller refuses names that contain a slash.
            collect_file(tree, &CollectOptions::BUILT, path, at.join(b"bin").join(name.as_bytes()))?;
        } else if REQUIRED_PROGRAMS.contains(&name) || further.iter().any(|further| further == name) {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(AssembleError::Io { verb: "find", path, source });
        }
    }
    Ok(())
}

/// Adds the loader and the shared libraries that the release's programs need.
///
/// Programs that others start by name (`beam.smp` starts `erl_child_setup`) are moved to the directory `.elf`, and
/// replaced by a link to the start program, a trampoline that starts them with the release's own loader. Returns the
/// paths of the loader and of the libraries in the release.
///
/// # Errors
/// Fails if a library was not found.
pub(crate) fn make_portable(
    tree: &mut ReleaseTree,
    programs: &[ElfProgram],
    at: &TreePath,
    start_program: &TreePath,
) -> Result<(String, String), AssembleError> {
    let (loader, found) = libraries::library_closure(programs)?;
    let lib = at.join(b"lib");
    let name = loader.file_name().unwrap_or_default().to_owned();
    let loader_at = lib.join(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()));
    // The file itself is copied, because a link would be broken in the release.
    let real = fs::canonicalize(&loader).map_err(AssembleError::io("find the loader", &loader))?;
    tree.put(loader_at.clone(), ReleaseEntry::File { content: ReleaseFileContent::Disk(real), mode: EXECUTABLE_MODE });
    for (name, path) in found {
        let real = fs::canonicalize(&path).map_err(AssembleError::io("read", &path))?;
        tree.put(
            lib.join(name.as_bytes()),
            ReleaseEntry::File { content: ReleaseFileContent::Disk(real), mode: FILE_MODE },
        );
    }
    let bin = at.join(b"bin");
    for program in programs.iter().filter(|program| program.needs.interpreter.is_some()) {
        let (Some(dir), Some(name)) = (program.path.parent(), program.path.name()) else { continue };
        // The start program passes `beam.smp` to the loader directly.
        if dir == bin && name == b"beam.smp" {
            continue;
        }
        if let Some(entry) = tree.remove(&program.path) {
            tree.put(dir.join(b".elf").join(name), entry);
            // The link leads from the program's directory up to the root, and from there to the start program.
            let up = "../".repeat(dir.components().count()).into_bytes();
            tree.put(program.path.clone(), ReleaseEntry::Link([&up, start_program.as_bytes()].concat()));
        }
    }
    Ok((below_root(&loader_at), below_root(&lib)))
}

#[cfg(test)]
mod tests {
    use dram_image::elf::ElfRequirements;

    use super::*;
    use crate::test_project::{TestProject, mode_of, paths, put_disk, tree_path};

    fn known() -> OtpInstallation {
        OtpInstallation { root: PathBuf::new(), release: 25, erts: "13.1.5".to_owned() }
    }

    #[test]
    fn an_installation_is_found_by_its_root_or_by_its_erts() {
        let project = TestProject::new();
        for name in ["otp", "otp/erts-13.1.5"] {
            let found = otp_from_path(&project.path(name), &known()).unwrap();
            assert_eq!((found.root, found.erts.as_str()), (project.path("otp"), "13.1.5"), "{name}");
        }
        assert_eq!(otp_from_path(&project.path("otp"), &known()).unwrap().release, 25);
    }

    #[test]
    fn a_release_number_that_is_missing_is_that_of_the_running_otp() {
        let project = TestProject::new();
        fs::remove_file(project.path("otp/releases/start_erl.data")).unwrap();
        let other = OtpInstallation { release: 29, ..known() };
        assert_eq!(otp_from_path(&project.path("otp"), &other).unwrap().release, 29);
    }

    #[test]
    fn directories_without_an_installation_are_refused() {
        let project = TestProject::new();
        project.write("half/erts-9.0/bin/beam.smp", "");
        for name in ["project", "gone", "half", "half/erts-9.0", "otp/erts-1.0"] {
            let found = otp_from_path(&project.path(name), &known());
            assert!(matches!(found, Err(AssembleError::NoErts(_))), "{name}: {found:?}");
        }
    }

    /// A tree with the emulator and its helper, and their requirements: this loader, and no library.
    fn emulator(project: &TestProject, loader: &str) -> (ReleaseTree, Vec<ElfProgram>) {
        let mut tree = ReleaseTree::default();
        let programs = ["beam.smp", "inet_gethost"].map(|name| {
            let (path, source) = (format!("erts/bin/{name}"), project.path(&format!("otp/erts-13.1.5/bin/{name}")));
            put_disk(&mut tree, &path, &source, EXECUTABLE_MODE);
            let needs = ElfRequirements { interpreter: Some(loader.to_owned()), ..ElfRequirements::default() };
            ElfProgram { path: tree_path(&path), source, needs }
        });
        (tree, programs.into())
    }

    #[test]
    fn programs_of_a_portable_release_are_links_to_the_start_program_except_the_emulator() {
        let project = TestProject::new();
        project.write("system/real", "loader");
        project.link("real", "system/ld.so.2");
        let (mut tree, programs) = emulator(&project, project.path("system/ld.so.2").to_str().unwrap());
        let places = make_portable(&mut tree, &programs, &tree_path("erts"), &tree_path("bin/demo")).unwrap();
        assert_eq!(places, ("erts/lib/ld.so.2".to_owned(), "erts/lib".to_owned()));
        assert_eq!(
            paths(&tree),
            ["erts/bin/.elf/inet_gethost", "erts/bin/beam.smp", "erts/bin/inet_gethost", "erts/lib/ld.so.2"]
        );
        let link = tree.get(&tree_path("erts/bin/inet_gethost"));
        assert!(matches!(link, Some(ReleaseEntry::Link(to)) if to == b"../../bin/demo"), "{link:?}");
        assert_eq!(mode_of(&tree, "erts/lib/ld.so.2"), Some(EXECUTABLE_MODE));
    }

    #[test]
    fn a_loader_that_is_not_there_is_an_error_with_its_path() {
        let project = TestProject::new();
        let (mut tree, programs) = emulator(&project, "/gone/ld.so.2");
        let error = make_portable(&mut tree, &programs, &tree_path("erts"), &tree_path("bin/demo")).unwrap_err();
        assert_eq!(error.to_string(), "cannot find the loader `/gone/ld.so.2`");
    }
}
