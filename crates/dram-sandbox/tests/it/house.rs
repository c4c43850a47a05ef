//! A fixture: a root file system to run in, and the result of a run.

use dram_sandbox::{Bind, Exit, Jail, Mount, Root, Running, SandboxError, Source, Stdio3};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The helper of the tests: their own `main` belongs to the test harness.
pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_jail-probe");

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The directories of one overlay, removed at the end.
pub(crate) struct House {
    pub(crate) place: PathBuf,
    pub(crate) lowers: Vec<PathBuf>,
}

/// The exit status and output of a finished command.
pub(crate) struct Said {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl House {
    /// An image with a static busybox in `/bin` and nothing else.
    pub(crate) fn bare() -> House {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = std::env::temp_dir().join(format!("dram-sandbox-{}-{number}", std::process::id()));
        for name in ["upper", "work", "stubs", "base/bin"] {
            fs::create_dir_all(place.join(name)).unwrap();
        }
        copy_program(Path::new("/bin/busybox"), &place.join("base/bin/busybox"));
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            // Hard links: making and removing some hundred symbolic links for each fixture takes longer than most
            // tests.
            fs::hard_link(place.join("base/bin/busybox"), place.join("base/bin").join(applet)).unwrap();
        }
        House { lowers: vec![place.join("base")], place }
    }

    /// An image that also has the usual mount points.
    pub(crate) fn usual() -> House {
        let house = House::bare();
        for name in ["proc", "dev", "sys", "etc", "tmp"] {
            house.dir(name);
        }
        for name in ["resolv.conf", "hosts", "hostname"] {
            house.file(&format!("etc/{name}"), "");
        }
        house
    }

    pub(crate) fn base(&self, path: &str) -> PathBuf {
        self.place.join("base").join(path)
    }

    pub(crate) fn dir(&self, path: &str) {
        fs::create_dir_all(self.base(path)).unwrap();
    }

    pub(crate) fn file(&self, path: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.base(path).parent().unwrap()).unwrap();
        fs::write(self.base(path), contents).unwrap();
    }

    pub(crate) fn program(&self, path: &str, contents: impl AsRef<[u8]>) {
        self.file(path, contents);
        fs::set_permissions(self.base(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn link(&self, says: &str, path: &str) {
        fs::create_dir_all(self.base(path).parent().unwrap()).unwrap();
        symlink(says, self.base(path)).unwrap();
    }

    pub(crate) fn jail(&self, argv: &[&str]) -> Jail {
        let root = Root::Overlay {
            lowers: self.lowers.clone(),
            upper: self.place.join("upper"),
            work: self.place.join("work"),
            stubs: self.place.join("stubs"),
        };
        let mut jail = Jail::new(root, argv.iter().map(|word| word.as_bytes().to_vec()).collect());
        jail.env = vec![b"PATH=/bin".to_vec()];
        jail
    }

    pub(crate) fn shell(&self, script: &str) -> Jail {
        self.jail(&["/bin/sh", "-c", script])
    }

    /// The paths in the upper directory, with mode and owner.
    pub(crate) fn upper(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        list(&self.place.join("upper"), "", &mut found);
        found
    }

    /// The paths in the upper directory.
    pub(crate) fn changed(&self) -> Vec<String> {
        self.upper().into_keys().collect()
    }
}

/// Copies a program in a child process: while this process writes it, a test beside this one could start a process that
/// inherits the open file, and a file open for writing cannot be executed.
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status().unwrap();
    assert!(copied.success(), "the tests need {} (busybox-static)", from.display());
}

fn list(directory: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let status = entry.path().symlink_metadata().unwrap();
        found.insert(path.clone(), format!("{:o} {}:{}", status.mode(), status.uid(), status.gid()));
        if status.is_dir() {
            list(&entry.path(), &path, found);
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// Makes the work directory and the mount point directory new: each serves one mount only.
pub(crate) fn refresh(jail: &Jail) {
    let Root::Overlay { work, stubs, .. } = &jail.root else { panic!("a new kind of root") };
    for directory in [work, stubs] {
        fs::remove_dir_all(directory).unwrap();
        fs::create_dir(directory).unwrap();
    }
}

pub(crate) fn start(jail: &Jail) -> Result<Running, SandboxError> {
    refresh(jail);
    let io = Stdio3::Streams { stdin: Stdio::null(), stdout: Stdio::piped(), stderr: Stdio::piped() };
    jail.spawn_with_helper(Path::new(PROBE), io)
}

pub(crate) fn run(jail: &Jail) -> Said {
    let mut running = start(jail).unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    running.take_stdout().unwrap().read_to_string(&mut out).unwrap();
    running.take_stderr().unwrap().read_to_string(&mut err).unwrap();
    Said { exit: running.wait().unwrap(), out, err }
}

/// Runs a command that must succeed, and returns its output.
pub(crate) fn out(jail: &Jail) -> String {
    let said = run(jail);
    assert_eq!(said.exit, Exit::Code(0), "{}{}", said.out, said.err);
    said.out
}

/// Runs a jail through the probe; `before` is the command that starts the probe.
pub(crate) fn by_probe(house: &House, jail: &Jail, before: &[&str]) -> std::process::Output {
    probe_command(house, jail, before).output().unwrap()
}

pub(crate) fn probe_command(house: &House, jail: &Jail, before: &[&str]) -> Command {
    let file = house.place.join("jail.json");
    fs::write(&file, serde_json::to_vec(jail).unwrap()).unwrap();
    let words: Vec<&str> = before.iter().copied().chain([PROBE, file.to_str().unwrap()]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// The exit code and output of a finished command, or the error that kept it from starting (then the code is 99).
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// Runs a jail twice, each time in a new fixture: as root, and rootless. `make` describes the jail, `check` inspects
/// the result.
pub(crate) fn both(make: impl Fn(&House) -> Jail, check: impl Fn(&House, &Ended)) {
    let house = House::usual();
    let output = by_probe(&house, &make(&house), &["/usr/bin/env"]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    check(&house, &Ended { code: output.status.code().unwrap_or(-1), text });
    let house = House::usual();
    let mut jail = make(&house);
    jail.no_new_privs = true;
    let (code, text) = crate::rootless::run(&house, &jail, &crate::rootless::AS_USER);
    check(&house, &Ended { code, text });
}

/// Like [`run_both`], for a command with this output that changes nothing in its image.
pub(crate) fn both_say(expected: &str, make: impl Fn(&House) -> Jail) {
    both(make, |house, ended| {
        assert_eq!((ended.code, ended.text.as_str()), (0, expected));
        assert!(house.changed().is_empty(), "{:?}", house.changed());
    });
}

/// Like [`run_both`], for a jail that does not start, with this text in the error.
pub(crate) fn both_refuse(reason: &str, make: impl Fn(&House) -> Jail) {
    both(make, |house, ended| {
        assert_eq!(ended.code, 99, "{}", ended.text);
        assert!(ended.text.contains(reason), "{}", ended.text);
        assert!(house.changed().is_empty(), "{:?}", house.changed());
    });
}

pub(crate) fn bind(source: Source, target: &str, read_only: bool) -> Mount {
    Mount::Bind(Bind { source, target: target.as_bytes().to_vec(), read_only })
}
