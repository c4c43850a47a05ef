//! The program `git`, and those that keep credentials: the one place of this room that starts processes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
#[allow(clippy::disallowed_types, reason = "`git` is started here and nowhere else in this room")]
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{Net, RemoteError, redacted};

/// The most that `git` may say. A list of all references of a large repository is shorter.
const MOST_OUTPUT: u64 = 8 << 20;
/// How often is looked whether it has ended.
const STEP: Duration = Duration::from_millis(10);

/// `git` for one repository.
pub(crate) struct Tool<'a> {
    net: &'a Net<'a>,
    program: PathBuf,
    /// The address, with all its secrets.
    remote: &'a str,
    /// A private directory for what it says.
    notes: &'a Path,
}

impl<'a> Tool<'a> {
    /// Finds the program.
    pub(crate) fn new(net: &'a Net<'a>, remote: &'a str, notes: &'a Path) -> Result<Tool<'a>, RemoteError> {
        let program = std::env::split_paths(&net.path).map(|dir| dir.join("git")).find(|path| {
            path.metadata().is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
        });
        let program = program.ok_or_else(|| RemoteError::NoGit { url: redacted(remote) })?;
        let stall = net.stall.as_secs().max(1);
        let settings = format!("{SETTINGS}\tlowSpeedTime = {stall}\n");
        let written = fs::write(notes.join("config"), settings);
        written.map_err(|source| RemoteError::Write { url: redacted(remote), source })?;
        Ok(Tool { net, program, remote, notes })
    }

    /// Runs `git` with `args`. Returns what it prints.
    pub(crate) fn run(&self, what: &'static str, args: &[&OsStr]) -> Result<String, RemoteError> {
        let fail = |why: String| RemoteError::Git { what, url: redacted(self.remote), why };
        let (out, err) = (self.notes.join("out"), self.notes.join("err"));
        let streams = (File::create(&out), File::create(&err));
        let (Ok(stdout), Ok(stderr)) = streams else { return Err(fail("no place for its output".to_owned())) };
        #[allow(clippy::disallowed_types, reason = "see the module")]
        let mut command = Command::new(&self.program);
        command.args(args).env_clear().envs(self.net.env.iter().cloned());
        command
            .env("PATH", &self.net.path)
            .envs(ENVIRONMENT)
            .env("GIT_CONFIG_GLOBAL", self.notes.join("config"))
            .current_dir(self.notes);
        // It starts others; all of them end when this does.
        command.process_group(0).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().map_err(|error| fail(error.to_string()))?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if (self.net.stop)() => {
                    end(&mut child);
                    return Err(RemoteError::Stopped { url: redacted(self.remote) });
                }
                Ok(None) if [&out, &err].iter().any(|path| fs::metadata(path).is_ok_and(|m| m.len() > MOST_OUTPUT)) => {
                    end(&mut child);
                    return Err(fail(format!("it says more than {MOST_OUTPUT} bytes")));
                }
                Ok(None) => thread::sleep(STEP),
                Err(error) => return Err(fail(error.to_string())),
            }
        };
        if status.success() {
            return Ok(text(&out));
        }
        Err(fail(self.reason(&text(&err))))
    }

    /// The last lines of what it complained about, without secrets.
    fn reason(&self, said: &str) -> String {
        let said = said.replace(self.remote, &redacted(self.remote));
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hint:"));
        let words: Vec<&str> = lines.map(|line| line.strip_prefix("fatal: ").unwrap_or(line)).collect();
        let user = self.remote.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        let last = words[words.len().saturating_sub(4)..].join("; ");
        match user {
            // It may say them in another form.
            Some((secret, _)) => last.replace(secret, "xxxxx"),
            None => last,
        }
    }
}

/// What holds for `git` and for those that it starts; the last section goes on.
const SETTINGS: &str = "\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tautocrlf = false
[init]
\tdefaultBranch = master
[gc]
\tauto = 0
[maintenance]
\tauto = false
[safe]
\tdirectory = *
[advice]
\tdetachedHead = false
[http]
\tfollowRedirects = initial
\tlowSpeedLimit = 1
";

/// Nothing of this machine's or user's settings, no questions, and only ways that lead to a network.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_TEMPLATE_DIR", ""),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("HOME", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("GIT_ALLOW_PROTOCOL", "https:http:git:ssh"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("LC_ALL", "C"),
];

/// A program that keeps credentials: `docker-credential-NAME`.
pub(crate) struct Keeper<'a> {
    path: &'a OsStr,
    name: &'a str,
}

/// What such a program says.
pub(crate) enum Kept {
    /// It did as it was told, and said this.
    Said(String),
    /// It did not, and said this.
    Refused(String),
}

/// The most that such a program may say.
const MOST_KEPT: u64 = 1 << 20;
/// How long its answer may take when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long it may take: a person may have to unlock something.
const KEEPER_TIME: Duration = Duration::from_secs(60);

impl<'a> Keeper<'a> {
    /// The one called `name`, looked for in `path`.
    pub(crate) fn new(path: &'a OsStr, name: &'a str) -> Keeper<'a> {
        Keeper { path, name }
    }

    /// Has it do `verb` with `input`. It sees this process's environment, as it is the user's own program.
    pub(crate) fn say(&self, verb: &str, input: &[u8]) -> Result<Kept, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || !self.name.chars().all(is_plain) {
            return Err("its name is none of a program".to_owned());
        }
        let file = format!("docker-credential-{}", self.name);
        let mut dirs = std::env::split_paths(self.path).map(|dir| dir.join(&file));
        let program = dirs.find(|path| path.is_file()).ok_or("it is not installed")?;
        #[allow(clippy::disallowed_types, reason = "see the module")]
        let mut command = Command::new(program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("it has no streams".to_owned());
        };
        // It may be gone already, and says so with its status.
        let _ = stdin.write_all(input);
        drop(stdin);
        let (told, said) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = stdout.take(MOST_KEPT).read_to_end(&mut text);
            told.send(read.map(|_| String::from_utf8_lossy(&text).into_owned()))
        });
        let mut waited = Duration::ZERO;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if waited < KEEPER_TIME => {
                    thread::sleep(STEP);
                    waited += STEP;
                }
                Ok(None) => {
                    end(&mut child);
                    return Err(format!("it takes more than {} s", KEEPER_TIME.as_secs()));
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        // Somebody whom it left behind may still hold the stream.
        let text = said.recv_timeout(LAST_WORDS).map_err(|_| "its answer does not end".to_owned())?;
        let text = text.map_err(|error| error.to_string())?;
        Ok(if status.success() { Kept::Said(text) } else { Kept::Refused(text) })
    }
}

fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|file| file.take(MOST_OUTPUT).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why podman did not take an image.
#[derive(Debug, thiserror::Error)]
pub enum PodmanError {
    /// It is not there.
    #[error("`podman` is not installed")]
    Missing,
    /// It cannot be started.
    #[error("cannot start `podman`")]
    Start(#[source] std::io::Error),
    /// It says no.
    #[error("`podman {verb}` says: {why}")]
    Refused {
        /// What it was told to do.
        verb: &'static str,
        /// Its last words.
        why: String,
    },
}

impl PodmanError {
    /// Whether it is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, PodmanError::Missing)
    }
}

/// Has podman, looked for in `path`, take the image `tag` of the layout at `layout` into its own store, as `name`. It
/// sees this process's environment, as it is the user's own program.
///
/// # Errors
/// When it is not there, or does not take it.
pub fn podman_load(path: &OsStr, layout: &Path, tag: &str, name: &str) -> Result<(), PodmanError> {
    let program = std::env::split_paths(path).map(|dir| dir.join("podman")).find(|path| path.is_file());
    let program = program.ok_or(PodmanError::Missing)?;
    let said = podman(&program, "pull", &[format!("oci:{}:{tag}", layout.display())])?;
    let id = said.lines().last().unwrap_or_default().trim().to_owned();
    podman(&program, "tag", &[id, name.to_owned()]).map(drop)
}

fn podman(program: &Path, verb: &'static str, words: &[String]) -> Result<String, PodmanError> {
    #[allow(clippy::disallowed_types, reason = "see the module")]
    let mut command = Command::new(program);
    let quiet: &[&str] = if verb == "pull" { &["--quiet"] } else { &[] };
    let done = command.arg(verb).args(quiet).args(words).stdin(Stdio::null()).output().map_err(PodmanError::Start)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4096)..]).into_owned();
    if done.status.success() {
        return Ok(text(&done.stdout));
    }
    let said = text(&done.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned();
    Err(PodmanError::Refused { verb, why: last.strip_prefix("Error: ").unwrap_or(&last).to_owned() })
}
