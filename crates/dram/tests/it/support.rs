//! Helpers that all tests share: running dram, build contexts, the base image, and the check that an image is valid.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

/// Timeout for every command that a test starts.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// Name of the image that most tests build from.
pub(crate) const BASE: &str = "parity-base";

/// Returns the absolute path of a file of the repository.
pub(crate) fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).canonicalize().unwrap()
}

/// Creates a directory that every user can read. Its name cannot be that of an image, because podman confuses the two.
pub(crate) fn temp() -> TempDir {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let name = format!("dram-it-{since:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Returns the path of a copy of the dram binary that every user can execute.
pub(crate) fn dram_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let dir = Path::new("/tmp").join(format!("dram-it-bin-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_dram"), dir.join("dram")).unwrap();
        remove_at_exit(&dir);
        dir.join("dram")
    })
}

/// Returns a `registries.conf` that blocks docker.io, so that names without a host are not looked up on the network.
pub(crate) fn registries_conf() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let file = dram_path().with_file_name("registries.conf");
        fs::write(&file, "[[registry]]\nlocation = \"docker.io\"\nblocked = true\n").unwrap();
        file
    })
}

/// Removes `dir` and the mounts below it when this process ends. Statics are never dropped, so a background shell waits
/// for the end of the process.
pub(crate) fn remove_at_exit(dir: &Path) {
    let script = r#"(while kill -0 "$1" 2>/dev/null; do sleep 1; done
        awk -v dir="$2/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r place; do
            umount -l "$place"
        done
        rm -rf --one-file-system "$2") &"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &std::process::id().to_string()]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    assert!(command.status().unwrap().success());
}

/// Returns the tar of the base image's root file system, which is made once per process.
pub(crate) fn base_tar() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| {
        let tar = dram_path().with_file_name("base.tar");
        tool("bash").arg(repo("tests/parity/base.sh")).arg(&tar).ok();
        tar
    })
}

/// Result of a command that has ended: exit code and output.
#[derive(Debug, Clone)]
pub(crate) struct CommandOutput {
    what: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandOutput { what, code, stdout, stderr } = self;
        write!(f, "`{what}` ended with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl CommandOutput {
    /// Returns the lines of standard error that start with `start`.
    pub(crate) fn lines(&self, start: &str) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with(start)).collect()
    }

    /// Asserts that standard error contains `text`.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> CommandOutput {
        assert!(self.stderr.contains(text), "expected to read {text:?}\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn does_not_say(self, text: &str) -> CommandOutput {
        assert!(!self.stderr.contains(text), "expected not to read {text:?}\n{self}");
        self
    }

    /// Returns how many steps the build executed and how many were cached.
    #[track_caller]
    pub(crate) fn steps(&self) -> (usize, usize) {
        let line = self.stderr.lines().find(|line| line.contains(" executed, "));
        let line = line.unwrap_or_else(|| panic!("no line with the counts\n{self}"));
        let words: Vec<&str> = line.rsplit("; ").next().unwrap().split(' ').collect();
        (words[0].parse().unwrap(), words[3].parse().unwrap())
    }

    /// Returns the last digest in the output.
    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        let text = format!("{}\n{}", self.stdout, self.stderr);
        let at = text.rfind("sha256:").unwrap_or_else(|| panic!("no digest\n{self}"));
        text[at..at + 71].to_owned()
    }
}

/// Builder of a command: program, arguments, environment, standard input and umask.
#[derive(Debug)]
pub(crate) struct TestCommand {
    command: Command,
    stdin: Vec<u8>,
    umask: Option<u32>,
}

/// Returns a builder for a program on the search path. Panics if the program is missing.
#[track_caller]
pub(crate) fn tool(program: &str) -> TestCommand {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = places.map(|dir| dir.join(program)).find(|file| file.is_file());
    let found = found.unwrap_or_else(|| panic!("`{program}` is missing: run scripts/install-needs.sh test"));
    TestCommand { command: Command::new(found), stdin: Vec::new(), umask: None }
}

impl TestCommand {
    /// Returns a builder for the program at this path.
    pub(crate) fn new(program: &Path) -> TestCommand {
        TestCommand { command: Command::new(program), stdin: Vec::new(), umask: None }
    }

    /// Removes a variable from the environment.
    pub(crate) fn without(mut self, name: &str) -> TestCommand {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> TestCommand {
        self.command.arg(word);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> TestCommand {
        self.command.args(words);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> TestCommand {
        self.command.env(name, value);
        self
    }

    /// Sets `SOURCE_DATE_EPOCH`, with which builds in different stores give the same digest.
    pub(crate) fn at_time_0(self) -> TestCommand {
        self.env("SOURCE_DATE_EPOCH", "0")
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> TestCommand {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> TestCommand {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn umask(mut self, umask: u32) -> TestCommand {
        self.umask = Some(umask);
        self
    }

    /// Runs the command as this user, with only `PATH` and `HOME` in the environment.
    pub(crate) fn user(mut self, user: &User) -> TestCommand {
        self.command.uid(user.uid).gid(user.gid).env_clear();
        self.command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &user.home);
        self
    }

    /// Starts the command and collects its output in threads.
    pub(crate) fn start(mut self) -> RunningCommand {
        if let Some(umask) = self.umask.take() {
            self = self.under_umask(umask);
        }
        let what = format!("{:?}", self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin;
        // A command that does not read its standard input closes the pipe early.
        thread::spawn(move || drop(stdin.write_all(&bytes)));
        let stdout = read_in_thread(child.stdout.take().unwrap());
        let stderr = read_in_thread(child.stderr.take().unwrap());
        RunningCommand { what, child: Some(child), stdout: Some(stdout), stderr: Some(stderr) }
    }

    fn under_umask(self, umask: u32) -> TestCommand {
        let script = format!(r#"umask {umask:03o}; exec "$0" "$@""#);
        self.run_under("sh", &["-c", &script])
    }

    /// Wraps the command as `PROGRAM WORDS COMMAND`, with the same environment and working directory, but as the user
    /// who runs the tests.
    pub(crate) fn run_under(self, program: &str, words: &[&str]) -> TestCommand {
        let mut outer = tool(program).args(words).arg(self.command.get_program());
        outer.command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            outer.command.env(name, value.unwrap_or_default());
        }
        if let Some(dir) = self.command.get_current_dir() {
            outer.command.current_dir(dir);
        }
        TestCommand { stdin: self.stdin, umask: self.umask, ..outer }
    }

    pub(crate) fn end(self) -> CommandOutput {
        self.start().end()
    }

    /// Runs the command and asserts that it succeeds.
    #[track_caller]
    pub(crate) fn ok(self) -> CommandOutput {
        self.fails(0)
    }

    /// Runs the command and asserts that it ends with this exit code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> CommandOutput {
        let done = self.end();
        assert!(done.code == code, "expected exit code {code}\n{done}");
        done
    }
}

fn read_in_thread(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A running command, killed when dropped.
#[derive(Debug)]
pub(crate) struct RunningCommand {
    what: String,
    child: Option<Child>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl RunningCommand {
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        tool("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).end();
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let end = Instant::now() + LIMIT;
        let child = self.child.as_mut().unwrap();
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(3));
        }
        None
    }

    /// Waits for the command to end; panics after [`LIMIT`].
    #[track_caller]
    pub(crate) fn end(mut self) -> CommandOutput {
        let status = self.wait();
        let in_time = status.is_some();
        if !in_time {
            let _ = self.child.as_mut().unwrap().kill();
        }
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&thread.unwrap().join().unwrap()).into_owned()
        };
        let code = status.map_or(-1, exit_code);
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let done = CommandOutput { what: self.what.clone(), code, stdout, stderr };
        assert!(in_time, "not over after {LIMIT:?}\n{done}");
        done
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the exit code as a shell reports it: 128 plus the signal for a killed process.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Polls until `is_so` returns true; panics after `limit`.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "still not so after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A user account of the host.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// A temporary store, removed when dropped.
#[derive(Debug)]
pub(crate) struct Store {
    dir: TempDir,
    user: Option<User>,
}

impl Store {
    /// Creates an empty store.
    pub(crate) fn empty() -> Store {
        Store { dir: temp(), user: None }
    }

    /// Creates a store that contains the base image.
    pub(crate) fn with_base() -> Store {
        let store = Store::empty();
        store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
        store
    }

    /// Creates an empty store owned by this user.
    pub(crate) fn for_user(user: &User) -> Store {
        let dir = temp();
        chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
        Store { dir, user: Some(user.clone()) }
    }

    /// Returns whether a user who is not root owns the store and runs its commands.
    pub(crate) fn is_rootless(&self) -> bool {
        self.user.is_some()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Returns the command `dram WORDS` on this store.
    pub(crate) fn dram<const N: usize>(&self, words: [&str; N]) -> TestCommand {
        let dram = TestCommand { command: Command::new(dram_path()), stdin: Vec::new(), umask: None };
        let dram = match &self.user {
            Some(user) => dram.user(user),
            None => dram,
        };
        let dram = dram.env("DRAM_STORE", self.path()).env("TERM", "dumb").dir(self.dir.path());
        let mut dram = dram.args(words);
        dram.command.env_remove("SOURCE_DATE_EPOCH");
        // Tests contact only servers that they started themselves, and without credentials of the host.
        for name in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONTEXT"] {
            dram.command.env_remove(name);
        }

        dram.env("CONTAINERS_REGISTRIES_CONF", registries_conf()).env("DOCKER_CONFIG", self.dir.path())
    }

    /// Returns the command `dram build -t demo CONTEXT`.
    pub(crate) fn build(&self, context: &Context) -> TestCommand {
        self.dram(["build", "--progress", "plain", "-t", "demo"]).arg(context.path())
    }

    /// Runs `dram run demo sh -c SCRIPT` and asserts that it succeeds.
    pub(crate) fn sh(&self, script: &str) -> CommandOutput {
        self.dram(["run", "demo", "sh", "-c", script]).ok()
    }

    /// Returns the output of `dram inspect NAME`.
    pub(crate) fn inspect(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.dram(["inspect", name]).ok().stdout).unwrap()
    }

    pub(crate) fn digest(&self, name: &str) -> String {
        self.inspect(name)["digest"].as_str().unwrap().to_owned()
    }

    /// Returns the hex digests of all blobs.
    pub(crate) fn blobs(&self) -> Vec<String> {
        names(&self.join("oci/blobs/sha256"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Files that a rootless build left belong to subordinate ids; root can remove them all.
        let _ = fs::remove_dir_all(self.path());
    }
}

/// A temporary containers-storage for buildah and podman.
#[derive(Debug)]
pub(crate) struct ContainersStorage {
    dir: TempDir,
}

impl ContainersStorage {
    pub(crate) fn new() -> ContainersStorage {
        let dir = temp();
        let at = dir.path().display();
        let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n");
        fs::write(dir.path().join("storage.conf"), conf).unwrap();
        ContainersStorage { dir }
    }

    /// Returns the command `PROGRAM WORDS` on this storage.
    pub(crate) fn tool<const N: usize>(&self, program: &str, words: [&str; N]) -> TestCommand {
        tool(program).args(words).env("CONTAINERS_STORAGE_CONF", self.dir.path().join("storage.conf"))
    }
}

/// Returns the sorted names of the entries of a directory.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A temporary build context.
#[derive(Debug)]
pub(crate) struct Context {
    dir: TempDir,
}

impl Context {
    /// Creates a context with this Dockerfile.
    pub(crate) fn new(dockerfile: &str) -> Context {
        Context { dir: temp() }.file("Dockerfile", dockerfile)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Adds a file.
    pub(crate) fn file(self, name: &str, text: &str) -> Context {
        self.write(name, text);
        self
    }

    /// Writes a file with mode 0644, replacing an existing one.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }
}

/// Asserts that skopeo and umoci can read the image `name` and that every blob matches its digest.
#[track_caller]
pub(crate) fn valid_image(store: &Store, name: &str) {
    let layout = store.join("oci");
    let place = format!("{}:{name}", layout.display());
    let inspected = tool("skopeo").arg("inspect").arg(format!("oci:{place}")).ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    let known = store.inspect(name);
    assert_eq!(inspected["Digest"], known["digest"], "skopeo reads another image than dram");
    assert_valid_blobs(&layout, &known);
    let bundle = temp();
    tool("umoci").args(["unpack", "--image", &place]).arg(bundle.path().join("bundle")).ok();
}

/// Verifies blobs and diff IDs with `sha256sum` and `gzip`.
#[track_caller]
fn assert_valid_blobs(layout: &Path, image: &serde_json::Value) {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let file = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let layers: Vec<String> = list(&image["manifest"]["layers"]).iter().map(|layer| text(&layer["digest"])).collect();
    let documents = [text(&image["digest"]), text(&image["manifest"]["config"]["digest"])];
    for digest in layers.iter().chain(&documents) {
        let sum = tool("sha256sum").arg(file(digest)).ok().stdout;
        assert_eq!(format!("sha256:{}", &sum[..64]), *digest);
    }
    for (layer, diff_id) in layers.iter().zip(list(&image["config"]["rootfs"]["diff_ids"])) {
        let sum = tool("sh").args(["-c", r#"gzip -dcf "$1" | sha256sum"#, "sh"]).arg(file(layer)).ok().stdout;
        assert_eq!(format!("sha256:{}", &sum[..64]), text(diff_id), "the diff_id of {layer}");
    }
}

pub(crate) fn list(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
