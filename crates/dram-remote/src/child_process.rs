//! The programs `git`, podman, `getent` and the credential helpers. No other module of this crate starts processes.

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

use dram_error::{ErrorClass, ErrorReport};

use crate::{FetchError, NetworkSettings, redacted};

/// The largest output of `git` that is read, in bytes; a list of all references of a large repository is shorter.
const MAX_GIT_OUTPUT_BYTES: u64 = 8 << 20;
/// The interval at which a child process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The program `git`, for one repository.
pub(crate) struct GitProgram<'a> {
    net: &'a NetworkSettings<'a>,
    program: PathBuf,
    /// The remote URL with its credentials.
    remote: &'a str,
    /// The socket of the ssh agent, for a remote that is reached by ssh. No other gets it: submodules, for example, may
    /// be anywhere.
    agent: Option<&'a Path>,
    /// A private directory for the configuration and the output of `git`.
    private_dir: &'a Path,
}

impl<'a> GitProgram<'a> {
    /// Finds `git` in the search path and writes its configuration.
    pub(crate) fn new(
        net: &'a NetworkSettings<'a>,
        remote: &'a str,
        notes: &'a Path,
    ) -> Result<GitProgram<'a>, FetchError> {
        let program = find_git(&net.search_path).ok_or_else(|| FetchError::GitMissing { url: redacted(remote) })?;
        let agent = match (is_ssh(remote), &net.ssh_agent) {
            (false, _) => None,
            (true, Some(agent)) => Some(agent.as_path()),
            (true, None) => return Err(FetchError::NoAgent { url: redacted(remote) }),
        };
        let stall = net.stall_timeout.as_secs().max(1);
        let settings = format!("{GIT_CONFIG}\tlowSpeedTime = {stall}\n");
        let written = fs::write(notes.join("config"), settings);
        written.map_err(|source| FetchError::Write { url: redacted(remote), source })?;
        Ok(GitProgram { net, program, remote, agent, private_dir: notes })
    }

    /// Runs `git` with `args`. Returns its standard output.
    pub(crate) fn run(&self, what: &'static str, args: &[&OsStr]) -> Result<String, FetchError> {
        let fail = |why: String| FetchError::Git { what, url: redacted(self.remote), why };
        let (out, err) = (self.private_dir.join("out"), self.private_dir.join("err"));
        let streams = (File::create(&out), File::create(&err));
        let (Ok(stdout), Ok(stderr)) = streams else { return Err(fail("no place for its output".to_owned())) };
        #[allow(clippy::disallowed_types, reason = "see the module")]
        let mut command = Command::new(&self.program);
        command.args(args).env_clear().envs(self.net.git_env.iter().cloned());
        command
            .env("PATH", &self.net.search_path)
            .envs(GIT_ENVIRONMENT)
            .env("GIT_CONFIG_GLOBAL", self.private_dir.join("config"))
            .current_dir(self.private_dir);
        if let Some(agent) = self.agent {
            command.env("SSH_AUTH_SOCK", agent).env("GIT_ALLOW_PROTOCOL", "https:http:git:ssh");
        }
        // `git` starts other processes: the whole process group can be killed.
        command.process_group(0).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().map_err(|error| fail(error.to_string()))?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if (self.net.is_cancelled)() => {
                    kill_process_group(&mut child);
                    return Err(FetchError::Cancelled { url: redacted(self.remote) });
                }
                Ok(None)
                    if [&out, &err]
                        .iter()
                        .any(|path| fs::metadata(path).is_ok_and(|m| m.len() > MAX_GIT_OUTPUT_BYTES)) =>
                {
                    kill_process_group(&mut child);
                    return Err(fail(format!("it says more than {MAX_GIT_OUTPUT_BYTES} bytes")));
                }
                Ok(None) => thread::sleep(POLL_INTERVAL),
                Err(error) => return Err(fail(error.to_string())),
            }
        };
        if status.success() {
            return Ok(read_output(&out));
        }
        Err(fail(self.failure_reason(&read_output(&err))))
    }

    /// Returns the last lines of the error output, with credentials redacted.
    fn failure_reason(&self, stderr: &str) -> String {
        let stderr = stderr.replace(self.remote, &redacted(self.remote));
        let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hint:"));
        let words: Vec<&str> = lines.map(|line| line.strip_prefix("fatal: ").unwrap_or(line)).collect();
        let user = self.remote.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        let last = words[words.len().saturating_sub(4)..].join("; ");
        match user {
            // The output may hold the credentials in another form of the URL.
            Some((secret, _)) => last.replace(secret, "xxxxx"),
            None => last,
        }
    }
}

/// The configuration of `git` and of its child processes. The last section is open, so that a line can be added.
const GIT_CONFIG: &str = "\
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
\temptyAuth = false
\temptyAuth = false
\tlowSpeedLimit = 1
";

/// Returns whether `git` reaches `remote` by ssh: a URL, or the form `user@host:path`.
fn is_ssh(remote: &str) -> bool {
    match remote.split_once("://") {
        Some((scheme, _)) => !["https", "http", "git"].iter().any(|other| scheme.eq_ignore_ascii_case(other)),
        None => true,
    }
}

/// The environment of `git`: no settings of the system or the user, so neither credential helpers nor a netrc file, no
/// prompts, and only network transports.
const GIT_ENVIRONMENT: [(&str, &str); 9] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_TEMPLATE_DIR", ""),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("HOME", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("GIT_ALLOW_PROTOCOL", "https:http:git"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("LC_ALL", "C"),
];

/// The reasons why `git` has no answer about a work tree of this machine.
pub(crate) enum LocalGitError {
    /// It is not installed.
    Missing,
    /// It failed, for this reason.
    Failed(String),
    /// It was cancelled.
    Cancelled,
}

/// The most bytes of an answer about a work tree that are read.
const MAX_LOCAL_GIT_OUTPUT_BYTES: u64 = 64 << 10;

/// Runs `git` with `args` in the directory `dir` of the user, and returns the beginning of its standard output. It has the
/// user's environment and settings, which decide whether the directory is safe, but follows no variable that names another
/// repository, and starts no program for the state of the files.
pub(crate) fn run_local_git(
    search_path: &OsStr,
    dir: &Path,
    args: &[std::ffi::OsString],
    is_cancelled: &dyn Fn() -> bool,
) -> Result<String, LocalGitError> {
    let program = find_git(search_path).ok_or(LocalGitError::Missing)?;
    #[allow(clippy::disallowed_types, reason = "see the module")]
    let mut command = Command::new(program);
    command.arg("-C").arg(dir).args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]).args(args);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command.envs([("LC_ALL", "C"), ("GIT_OPTIONAL_LOCKS", "0"), ("GIT_TERMINAL_PROMPT", "0")]);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| LocalGitError::Failed(error.to_string());
    let mut child = command.spawn().map_err(failed)?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(LocalGitError::Failed("it has no streams".to_owned()));
    };
    // A stream that is dropped after its limit ends the program.
    let read = |stream: Box<dyn std::io::Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.take(MAX_LOCAL_GIT_OUTPUT_BYTES).read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (out, err) = (read(Box::new(stdout)), read(Box::new(stderr)));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if is_cancelled() => {
                kill_process_group(&mut child);
                return Err(LocalGitError::Cancelled);
            }
            Ok(None) => thread::sleep(POLL_INTERVAL),
            Err(error) => return Err(failed(error)),
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if status.success() || out.len() as u64 == MAX_LOCAL_GIT_OUTPUT_BYTES {
        return Ok(out);
    }
    let lines = err.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hint:"));
    let words: Vec<&str> = lines.map(|line| line.strip_prefix("fatal: ").unwrap_or(line)).take(4).collect();
    Err(LocalGitError::Failed(words.join("; ")))
}

/// Finds the program `git`.
fn find_git(search_path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .map(|dir| dir.join("git"))
        .find(|path| path.metadata().is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0))
}

/// A credential helper: `docker-credential-NAME`.
pub(crate) struct CredentialHelper<'a> {
    path: &'a OsStr,
    name: &'a str,
}

/// The outcome of a credential helper.
pub(crate) enum HelperOutcome {
    /// The helper succeeded, with this output.
    Success(String),
    /// The helper failed, with this output.
    Failure(String),
}

/// The largest output of a helper that is read, in bytes.
const MAX_HELPER_OUTPUT_BYTES: u64 = 1 << 20;
/// The time after the helper's exit within which its output must end.
const HELPER_OUTPUT_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of a helper; the user may have to unlock a keyring.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

impl<'a> CredentialHelper<'a> {
    /// Returns the helper called `name`, which is looked for in `path`.
    pub(crate) fn new(path: &'a OsStr, name: &'a str) -> CredentialHelper<'a> {
        CredentialHelper { path, name }
    }

    /// Runs the helper with `verb` and `input`. It inherits this process's environment, as it is the user's own
    /// program.
    pub(crate) fn run(&self, verb: &str, input: &[u8]) -> Result<HelperOutcome, String> {
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
        // The helper may have exited already; its status tells.
        let _ = stdin.write_all(input);
        drop(stdin);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = stdout.take(MAX_HELPER_OUTPUT_BYTES).read_to_end(&mut text);
            sender.send(read.map(|_| String::from_utf8_lossy(&text).into_owned()))
        });
        let mut waited = Duration::ZERO;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if waited < HELPER_TIMEOUT => {
                    thread::sleep(POLL_INTERVAL);
                    waited += POLL_INTERVAL;
                }
                Ok(None) => {
                    kill_process_group(&mut child);
                    return Err(format!("it takes more than {} s", HELPER_TIMEOUT.as_secs()));
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        // A child process of the helper may still hold the pipe open.
        let text = receiver.recv_timeout(HELPER_OUTPUT_TIMEOUT).map_err(|_| "its answer does not end".to_owned())?;
        let text = text.map_err(|error| error.to_string())?;
        Ok(if status.success() { HelperOutcome::Success(text) } else { HelperOutcome::Failure(text) })
    }
}

fn kill_process_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

fn read_output(path: &Path) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|file| file.take(MAX_GIT_OUTPUT_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The largest output of `getent` that is read, in bytes.
const MAX_GETENT_OUTPUT_BYTES: u64 = 64 << 10;

/// Asks the host's `getent ahosts` for `name`. Returns its output, or `None` when it knows no such name, does not end
/// within `limit`, or cannot be started. Its environment is empty.
pub(crate) fn getent_hosts(program: &Path, name: &str, limit: Duration) -> Option<String> {
    #[allow(clippy::disallowed_types, reason = "see the module")]
    let mut command = Command::new(program);
    command.args(["ahosts", name]).env_clear().process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let output = child.stdout.take()?;
    let (sender, text) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A closed channel means that nobody waits any more.
        let _ = output.take(MAX_GETENT_OUTPUT_BYTES).read_to_end(&mut bytes).map(|_| sender.send(bytes));
    });
    let Ok(bytes) = text.recv_timeout(limit) else {
        kill_process_group(&mut child);
        return None;
    };
    child.wait().ok()?.success().then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// An error of loading an image into podman.
#[derive(Debug, thiserror::Error)]
pub enum PodmanError {
    /// `podman` is not installed.
    #[error("`podman` is not installed")]
    Missing,
    /// `podman` cannot be started.
    #[error("cannot start `podman`")]
    Start(#[source] std::io::Error),
    /// `podman` failed.
    #[error("`podman load` says: {why}")]
    Refused {
        /// The last line of its error output.
        why: String,
    },
    /// It was cancelled.
    #[error("it was interrupted")]
    Cancelled,
}

impl ErrorReport for PodmanError {
    fn class(&self) -> ErrorClass {
        match self {
            PodmanError::Cancelled => ErrorClass::Interrupted,
            PodmanError::Missing | PodmanError::Start(_) | PodmanError::Refused { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        match self {
            PodmanError::Missing => vec!["install it: `apt-get install podman`".to_owned()],
            PodmanError::Start(_) | PodmanError::Refused { .. } | PodmanError::Cancelled => Vec::new(),
        }
    }
}

/// The largest error output of podman that is kept, in bytes.
const MAX_PODMAN_OUTPUT_BYTES: u64 = 1 << 20;

/// Loads the images of the OCI archive at `archive` into podman's store, under their names there. `podman` is looked for
/// in `path` and inherits this process's environment, as it is the user's own program. It is killed when `is_cancelled`
/// returns true.
///
/// # Errors
/// Fails when `podman` is not installed, refuses the archive, or is cancelled.
pub fn podman_load(path: &OsStr, archive: &Path, is_cancelled: &dyn Fn() -> bool) -> Result<(), PodmanError> {
    let program = std::env::split_paths(path).map(|dir| dir.join("podman")).find(|path| path.is_file());
    let program = program.ok_or(PodmanError::Missing)?;
    #[allow(clippy::disallowed_types, reason = "see the module")]
    let mut command = Command::new(program);
    command.args(["load", "--quiet", "--input"]).arg(archive);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(PodmanError::Start)?;
    let mut stderr = child.stderr.take().expect("it is a pipe");
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = (&mut stderr).take(MAX_PODMAN_OUTPUT_BYTES).read_to_end(&mut said);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        String::from_utf8_lossy(&said).into_owned()
    });
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if is_cancelled() => {
                kill_process_group(&mut child);
                return Err(PodmanError::Cancelled);
            }
            Ok(None) => thread::sleep(POLL_INTERVAL),
            Err(error) => return Err(PodmanError::Start(error)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = reader.join().unwrap_or_default();
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    Err(PodmanError::Refused { why: last.strip_prefix("Error: ").unwrap_or(last).to_owned() })
}
