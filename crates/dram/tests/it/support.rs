//! What all tests share: running dram, small contexts, the base image, and the check that an image is whole.

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

/// Nothing a test starts may take longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// The image that most tests build from.
pub(crate) const BASE: &str = "parity-base";

/// A file of the repository.
pub(crate) fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).canonicalize().unwrap()
}

/// A directory that everybody may look into. Its name could be that of an image: podman mixes the two up.
pub(crate) fn temp() -> TempDir {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let name = format!("dram-it-{since:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

/// dram, copied to where every user may run it.
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

/// Settings under which the registry of names without a host is not asked.
pub(crate) fn registries_conf() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let file = dram_path().with_file_name("registries.conf");
        fs::write(&file, "[[registry]]\nlocation = \"docker.io\"\nblocked = true\n").unwrap();
        file
    })
}

/// Statics are never dropped: a shell waits for the end of this process and tidies up.
fn remove_at_exit(dir: &Path) {
    let script = r#"(while kill -0 "$1" 2>/dev/null; do sleep 1; done; rm -rf "$2") &"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &std::process::id().to_string()]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    assert!(command.status().unwrap().success());
}

/// The root file system of the base image, made once.
pub(crate) fn base_tar() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| {
        let tar = dram_path().with_file_name("base.tar");
        tool("bash").arg(repo("tests/parity/base.sh")).arg(&tar).ok();
        tar
    })
}

/// A command that ended.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    what: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { what, code, stdout, stderr } = self;
        write!(f, "`{what}` ended with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl Done {
    /// The lines on standard error that start like this.
    pub(crate) fn lines(&self, start: &str) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with(start)).collect()
    }

    /// Fails unless standard error has `text`.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Done {
        assert!(self.stderr.contains(text), "expected to read {text:?}\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn does_not_say(self, text: &str) -> Done {
        assert!(!self.stderr.contains(text), "expected not to read {text:?}\n{self}");
        self
    }

    /// How many steps a build carried out and how many it remembered.
    #[track_caller]
    pub(crate) fn steps(&self) -> (usize, usize) {
        let line = self.stderr.lines().find(|line| line.contains(" carried out, "));
        let line = line.unwrap_or_else(|| panic!("no line with the counts\n{self}"));
        let words: Vec<&str> = line.rsplit("; ").next().unwrap().split(' ').collect();
        (words[0].parse().unwrap(), words[4].parse().unwrap())
    }

    /// The digest that a build printed.
    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        let text = format!("{}\n{}", self.stdout, self.stderr);
        let at = text.rfind("sha256:").unwrap_or_else(|| panic!("no digest\n{self}"));
        text[at..at + 71].to_owned()
    }
}

/// A command in the making, that reads as a sentence.
#[derive(Debug)]
pub(crate) struct Tool {
    command: Command,
    stdin: Vec<u8>,
    umask: Option<u32>,
}

/// A program of this machine. One that is missing fails the test.
#[track_caller]
pub(crate) fn tool(program: &str) -> Tool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = places.map(|dir| dir.join(program)).find(|file| file.is_file());
    let found = found.unwrap_or_else(|| panic!("`{program}` is missing: run scripts/install-needs.sh test"));
    Tool { command: Command::new(found), stdin: Vec::new(), umask: None }
}

impl Tool {
    /// The program in that file.
    pub(crate) fn of(program: &Path) -> Tool {
        Tool { command: Command::new(program), stdin: Vec::new(), umask: None }
    }

    /// Without this variable of the environment.
    pub(crate) fn without(mut self, name: &str) -> Tool {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Tool {
        self.command.arg(word);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Tool {
        self.command.args(words);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Tool {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Tool {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Tool {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn umask(mut self, umask: u32) -> Tool {
        self.umask = Some(umask);
        self
    }

    /// As this user of the machine, with a user's environment.
    pub(crate) fn user(mut self, user: &User) -> Tool {
        self.command.uid(user.uid).gid(user.gid).env_clear();
        self.command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &user.home);
        self
    }

    /// Starts it. Output is collected from here on.
    pub(crate) fn start(mut self) -> Started {
        if let Some(umask) = self.umask.take() {
            self = self.under_umask(umask);
        }
        let what = format!("{:?}", self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin;
        // A command that reads nothing closes the pipe early.
        thread::spawn(move || drop(stdin.write_all(&bytes)));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Started { what, child: Some(child), stdout: Some(stdout), stderr: Some(stderr) }
    }

    fn under_umask(self, umask: u32) -> Tool {
        let script = format!(r#"umask {umask:03o}; exec "$0" "$@""#);
        self.within("sh", &["-c", &script])
    }

    /// `PROGRAM WORDS THIS`, in the same surroundings.
    pub(crate) fn within(self, program: &str, words: &[&str]) -> Tool {
        let mut outer = tool(program).args(words).arg(self.command.get_program());
        outer.command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            outer.command.env(name, value.unwrap_or_default());
        }
        if let Some(dir) = self.command.get_current_dir() {
            outer.command.current_dir(dir);
        }
        Tool { stdin: self.stdin, umask: self.umask, ..outer }
    }

    pub(crate) fn end(self) -> Done {
        self.start().end()
    }

    /// Runs it to its end, which must be good.
    #[track_caller]
    pub(crate) fn ok(self) -> Done {
        self.fails(0)
    }

    /// Runs it to its end, which must have this exit code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Done {
        let done = self.end();
        assert!(done.code == code, "expected exit code {code}\n{done}");
        done
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A command on its way; killed when dropped.
#[derive(Debug)]
pub(crate) struct Started {
    what: String,
    child: Option<Child>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Started {
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

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Done {
        let status = self.wait();
        let in_time = status.is_some();
        if !in_time {
            let _ = self.child.as_mut().unwrap().kill();
        }
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&thread.unwrap().join().unwrap()).into_owned()
        };
        let code = status.map_or(-1, code);
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let done = Done { what: self.what.clone(), code, stdout, stderr };
        assert!(in_time, "not over after {LIMIT:?}\n{done}");
        done
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// As a shell tells it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits for something that others bring about.
#[track_caller]
pub(crate) fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "still not so after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A user of this machine.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// A store of its own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Store {
    dir: TempDir,
    user: Option<User>,
}

impl Store {
    /// An empty one.
    pub(crate) fn empty() -> Store {
        Store { dir: temp(), user: None }
    }

    /// One with the base image.
    pub(crate) fn with_base() -> Store {
        let store = Store::empty();
        store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
        store
    }

    /// An empty one that is this user's.
    pub(crate) fn of(user: &User) -> Store {
        let dir = temp();
        chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
        Store { dir, user: Some(user.clone()) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// `dram WORDS`.
    pub(crate) fn dram<const N: usize>(&self, words: [&str; N]) -> Tool {
        let dram = Tool { command: Command::new(dram_path()), stdin: Vec::new(), umask: None };
        let dram = match &self.user {
            Some(user) => dram.user(user),
            None => dram,
        };
        let dram = dram.env("DRAM_STORE", self.path()).env("TERM", "dumb").dir(self.dir.path());
        let mut dram = dram.args(words);
        dram.command.env_remove("SOURCE_DATE_EPOCH");
        // No test asks anybody but whom it started itself, as nobody.
        for name in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_HOST"] {
            dram.command.env_remove(name);
        }

        dram.env("CONTAINERS_REGISTRIES_CONF", registries_conf()).env("DOCKER_CONFIG", self.dir.path())
    }

    /// `dram build -t demo CONTEXT`.
    pub(crate) fn build(&self, context: &Context) -> Tool {
        self.dram(["build", "--progress", "plain", "-t", "demo"]).arg(context.path())
    }

    /// `dram run demo sh -c SCRIPT`.
    pub(crate) fn sh(&self, script: &str) -> Done {
        self.dram(["run", "demo", "sh", "-c", script]).ok()
    }

    /// `dram inspect NAME`.
    pub(crate) fn inspect(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.dram(["inspect", name]).ok().stdout).unwrap()
    }

    pub(crate) fn digest(&self, name: &str) -> String {
        self.inspect(name)["digest"].as_str().unwrap().to_owned()
    }

    /// Digests of all blobs.
    pub(crate) fn blobs(&self) -> Vec<String> {
        names(&self.join("oci/blobs/sha256"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What an unprivileged user's jails left belongs to ids of that user; root may remove it all.
        let _ = fs::remove_dir_all(self.path());
    }
}

/// Containers' storage of its own for buildah and podman.
#[derive(Debug)]
pub(crate) struct Storage {
    dir: TempDir,
}

impl Storage {
    pub(crate) fn new() -> Storage {
        let dir = temp();
        let at = dir.path().display();
        let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n");
        fs::write(dir.path().join("storage.conf"), conf).unwrap();
        Storage { dir }
    }

    /// `PROGRAM WORDS` there.
    pub(crate) fn tool<const N: usize>(&self, program: &str, words: [&str; N]) -> Tool {
        tool(program).args(words).env("CONTAINERS_STORAGE_CONF", self.dir.path().join("storage.conf"))
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A build context.
#[derive(Debug)]
pub(crate) struct Context {
    dir: TempDir,
}

impl Context {
    /// With this Dockerfile.
    pub(crate) fn new(dockerfile: &str) -> Context {
        Context { dir: temp() }.file("Dockerfile", dockerfile)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// With this file.
    pub(crate) fn file(self, name: &str, text: &str) -> Context {
        self.write(name, text);
        self
    }

    /// Writes a file, whatever was there.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }
}

/// Fails unless `name` is an image that others can read and whose every blob is what its name says.
#[track_caller]
pub(crate) fn valid_image(store: &Store, name: &str) {
    let layout = store.join("oci");
    let place = format!("{}:{name}", layout.display());
    let inspected = tool("skopeo").arg("inspect").arg(format!("oci:{place}")).ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    let known = store.inspect(name);
    assert_eq!(inspected["Digest"], known["digest"], "skopeo reads another image than dram");
    valid_blobs(&layout, &known);
    let bundle = temp();
    tool("umoci").args(["unpack", "--image", &place]).arg(bundle.path().join("bundle")).ok();
}

/// Hashes blobs and what is in them with the tools of this machine.
#[track_caller]
fn valid_blobs(layout: &Path, image: &serde_json::Value) {
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
