//! A fixture: a root file system to run in, and the result of a run.

use dram_sandbox::{
    BindMount, BindSource, CommandExit, Jail, JailMount, JailRoot, JailStdio, RunningJail, SandboxError,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A caller of jails that the tests can kill, or start as another user.
pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_jail-probe");

static FIXTURE_NUMBER: AtomicU32 = AtomicU32::new(0);

/// The directories of one overlay, removed at the end.
pub(crate) struct JailFixture {
    pub(crate) dir: PathBuf,
    pub(crate) lowers: Vec<PathBuf>,
}

/// The exit status and output of a finished command.
pub(crate) struct FinishedCommand {
    pub(crate) exit: CommandExit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl JailFixture {
    /// An image with a static busybox in `/bin` and nothing else.
    pub(crate) fn bare_image() -> JailFixture {
        let number = FIXTURE_NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("dram-sandbox-{}-{number}", std::process::id()));
        for name in ["upper", "work", "mount_points", "base/bin"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        copy_program(Path::new("/bin/busybox"), &dir.join("base/bin/busybox"));
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            // Hard links: making and removing some hundred symbolic links for each fixture takes longer than most
            // tests.
            fs::hard_link(dir.join("base/bin/busybox"), dir.join("base/bin").join(applet)).unwrap();
        }
        JailFixture { lowers: vec![dir.join("base")], dir }
    }

    /// An image that also has the usual mount points.
    pub(crate) fn with_mount_points() -> JailFixture {
        let house = JailFixture::bare_image();
        for name in ["proc", "dev", "sys", "etc", "tmp"] {
            house.make_dir(name);
        }
        for name in ["resolv.conf", "hosts", "hostname"] {
            house.write_file(&format!("etc/{name}"), "");
        }
        house
    }

    pub(crate) fn base(&self, path: &str) -> PathBuf {
        self.dir.join("base").join(path)
    }

    pub(crate) fn make_dir(&self, path: &str) {
        fs::create_dir_all(self.base(path)).unwrap();
    }

    pub(crate) fn write_file(&self, path: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.base(path).parent().unwrap()).unwrap();
        fs::write(self.base(path), contents).unwrap();
    }

    pub(crate) fn write_program(&self, path: &str, contents: impl AsRef<[u8]>) {
        self.write_file(path, contents);
        fs::set_permissions(self.base(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn make_link(&self, says: &str, path: &str) {
        fs::create_dir_all(self.base(path).parent().unwrap()).unwrap();
        symlink(says, self.base(path)).unwrap();
    }

    pub(crate) fn jail_with(&self, argv: &[&str]) -> Jail {
        let root = JailRoot::Overlay {
            lowers: self.lowers.iter().map(|path| path.as_path().into()).collect(),
            upper: self.dir.join("upper").into(),
            work: self.dir.join("work").into(),
            mount_points_dir: self.dir.join("mount_points").into(),
        };
        let mut jail = Jail::new(root, argv.iter().map(|word| word.as_bytes().to_vec()).collect());
        jail.env = vec![b"PATH=/bin".to_vec()];
        jail
    }

    pub(crate) fn shell_jail(&self, script: &str) -> Jail {
        self.jail_with(&["/bin/sh", "-c", script])
    }

    /// The paths in the upper directory, with mode and owner.
    pub(crate) fn upper_entries(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        list_entries(&self.dir.join("upper"), "", &mut found);
        found
    }

    /// The paths in the upper directory.
    pub(crate) fn changed_paths(&self) -> Vec<String> {
        self.upper_entries().into_keys().collect()
    }
}

/// Copies a program in a child process: while this process writes it, a test beside this one could start a process that
/// inherits the open file, and a file open for writing cannot be executed.
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status().unwrap();
    assert!(copied.success(), "the tests need {} (busybox-static)", from.display());
}

fn list_entries(directory: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let status = entry.path().symlink_metadata().unwrap();
        found.insert(path.clone(), format!("{:o} {}:{}", status.mode(), status.uid(), status.gid()));
        if status.is_dir() {
            list_entries(&entry.path(), &path, found);
        }
    }
}

impl Drop for JailFixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Makes the work directory and the mount point directory new: each serves one mount only.
pub(crate) fn reset_work_dirs(jail: &Jail) {
    let JailRoot::Overlay { work, mount_points_dir, .. } = &jail.root else { panic!("a new kind of root") };
    for directory in [work, mount_points_dir] {
        fs::remove_dir_all(directory).unwrap();
        fs::create_dir(directory).unwrap();
    }
}

pub(crate) fn spawn_jail(jail: &Jail) -> Result<RunningJail, SandboxError> {
    reset_work_dirs(jail);
    let io = JailStdio::Streams { stdin: Stdio::null(), stdout: Stdio::piped(), stderr: Stdio::piped() };
    jail.spawn(io)
}

pub(crate) fn run_jail(jail: &Jail) -> FinishedCommand {
    let mut running = spawn_jail(jail).unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    running.take_stdout().unwrap().read_to_string(&mut out).unwrap();
    running.take_stderr().unwrap().read_to_string(&mut err).unwrap();
    FinishedCommand { exit: running.wait().unwrap(), stdout: out, stderr: err }
}

/// Runs a command that must succeed, and returns its output.
pub(crate) fn run_ok(jail: &Jail) -> String {
    let said = run_jail(jail);
    assert_eq!(said.exit, CommandExit::Code(0), "{}{}", said.stdout, said.stderr);
    said.stdout
}

/// Runs a jail through the probe; `before` is the command that starts the probe.
pub(crate) fn run_through_probe(house: &JailFixture, jail: &Jail, before: &[&str]) -> std::process::Output {
    probe_command(house, jail, before).output().unwrap()
}

pub(crate) fn probe_command(house: &JailFixture, jail: &Jail, before: &[&str]) -> Command {
    let file = house.dir.join("jail.json");
    fs::write(&file, serde_json::to_vec(jail).unwrap()).unwrap();
    let words: Vec<&str> = before.iter().copied().chain([PROBE, file.to_str().unwrap()]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// The exit code and output of a finished command, or the error that kept it from starting (then the code is 99).
pub(crate) struct ProbeResult {
    pub(crate) code: i32,
    pub(crate) output: String,
}

/// Runs a jail twice, each time in a new fixture: as root, and rootless. `make` describes the jail, `check` inspects
/// the result.
pub(crate) fn run_both(make: impl Fn(&JailFixture) -> Jail, check: impl Fn(&JailFixture, &ProbeResult)) {
    let house = JailFixture::with_mount_points();
    let output = run_through_probe(&house, &make(&house), &["/usr/bin/env"]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    check(&house, &ProbeResult { code: output.status.code().unwrap_or(-1), output: text });
    let house = JailFixture::with_mount_points();
    let mut jail = make(&house);
    jail.no_new_privs = true;
    let (code, text) = crate::rootless::run_as(&house, &jail, &crate::rootless::AS_USER);
    check(&house, &ProbeResult { code, output: text });
}

/// Like [`run_both`], for a command with this output that changes nothing in its image.
pub(crate) fn expect_output(expected: &str, make: impl Fn(&JailFixture) -> Jail) {
    run_both(make, |house, ended| {
        assert_eq!((ended.code, ended.output.as_str()), (0, expected));
        assert!(house.changed_paths().is_empty(), "{:?}", house.changed_paths());
    });
}

/// Like [`run_both`], for a jail that does not start, with this text in the error.
pub(crate) fn expect_refusal(reason: &str, make: impl Fn(&JailFixture) -> Jail) {
    run_both(make, |house, ended| {
        assert_eq!(ended.code, 99, "{}", ended.output);
        assert!(ended.output.contains(reason), "{}", ended.output);
        assert!(house.changed_paths().is_empty(), "{:?}", house.changed_paths());
    });
}

pub(crate) fn bind_mount(source: BindSource, target: &str, read_only: bool) -> JailMount {
    JailMount::Bind(BindMount { source, target: target.as_bytes().to_vec(), read_only })
}
