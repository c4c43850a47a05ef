//! The caller's side: starts the helper and controls a running command.

use crate::error::SandboxError;
use crate::helper::HIDDEN_WORD;
use crate::jail::Jail;
use crate::talk::{self, News, Order};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::MemfdFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// The standard streams of the command.
#[derive(Debug)]
pub enum Stdio3 {
    /// One stream each, as for [`Command`].
    Streams {
        /// Standard input.
        stdin: Stdio,
        /// Standard output.
        stdout: Stdio,
        /// Standard error.
        stderr: Stdio,
    },
    /// The pseudo-terminal of the jail is all three; [`Jail::terminal`] must be set.
    Terminal,
}

/// The exit status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// The command exited with this code.
    Code(i32),
    /// The command was killed by this signal.
    Signal(i32),
}

impl Exit {
    /// The exit code as a shell shows it: 128 plus the number for a signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// A running command in its jail. Dropping it kills the command and waits for its end.
///
/// All processes of the jail die when this process dies, however it dies: the helper watches the connection that this
/// value holds. The thread that spawned it may end.
#[derive(Debug)]
pub struct Running {
    helper: Child,
    control: Arc<OwnedFd>,
    terminal: Option<OwnedFd>,
    exit: Option<Exit>,
}

/// Sends signals to a command, from any thread, also while another one waits for it.
#[derive(Debug, Clone)]
pub struct Handle(Arc<OwnedFd>);

/// A lock for the time during which a descriptor is inheritable: another helper started then would inherit it too.
static STARTING: Mutex<()> = Mutex::new(());

impl Jail {
    /// Starts the command. Returns once it runs.
    ///
    /// This program is executed again as the helper, so its `main` must begin with
    /// [`become_helper_if_asked`](crate::become_helper_if_asked).
    ///
    /// # Errors
    /// Returns the error that kept the command from starting. All mounts and namespaces of the jail are gone then.
    pub fn spawn(&self, io: Stdio3) -> Result<Running, SandboxError> {
        self.spawn_with_helper(Path::new("/proc/self/exe"), io)
    }

    /// Like [`spawn`](Jail::spawn), with another program as the helper. For callers that do not control their `main`.
    ///
    /// # Errors
    /// As for [`spawn`](Jail::spawn).
    pub fn spawn_with_helper(&self, helper: &Path, io: Stdio3) -> Result<Running, SandboxError> {
        self.check()?;
        if self.terminal != matches!(io, Stdio3::Terminal) {
            let what = "a terminal must be asked for in the jail and in its streams".to_owned();
            return Err(SandboxError::Description { what });
        }
        let (ours, theirs) = talk::pair().map_err(|e| SandboxError::talk("make a connection to", e))?;
        let description = self.to_memory_file().map_err(|e| SandboxError::talk("write the jail down for", e))?;
        talk::send(ours.as_fd(), &Order::Start, Some(description.as_fd()))
            .map_err(|e| SandboxError::talk("send the jail to", e))?;
        let child = start_helper(helper, theirs, io)?;
        let mut running = Running { helper: child, control: Arc::new(ours), terminal: None, exit: None };
        running.await_start()?;
        Ok(running)
    }

    fn to_memory_file(&self) -> std::io::Result<OwnedFd> {
        let mut file = File::from(rustix::fs::memfd_create("jail", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(file.into())
    }
}

fn start_helper(program: &Path, control: OwnedFd, io: Stdio3) -> Result<Child, SandboxError> {
    let [stdin, stdout, stderr] = match io {
        Stdio3::Streams { stdin, stdout, stderr } => [stdin, stdout, stderr],
        Stdio3::Terminal => [Stdio::null(), Stdio::null(), Stdio::null()],
    };
    let mut command = Command::new(program);
    command.arg0("dram-jail").arg(HIDDEN_WORD).arg(control.as_raw_fd().to_string());
    command.stdin(stdin).stdout(stdout).stderr(stderr).env_clear();
    let guard = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    fcntl_setfd(&control, FdFlags::empty()).map_err(|e| SandboxError::talk("hand the connection to", e))?;
    let child = command.spawn();
    drop(control);
    drop(guard);
    child.map_err(|source| SandboxError::HelperStart { path: program.display().to_string(), source })
}

impl Running {
    /// The reading end of the command's standard output, if it was piped and not yet taken.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.helper.stdout.take()
    }

    /// The reading end of the command's standard error, if it was piped and not yet taken.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.helper.stderr.take()
    }

    /// The outer end of the command's pseudo-terminal, if it has one and it was not yet taken. Reading fails with `EIO`
    /// once no process inside holds the inner end.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Returns a handle that sends signals to the command while [`wait`](RunningJail::wait) borrows this value.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.control))
    }

    /// Sends a signal to the command. As process 1 of its namespace it receives only signals that it handles, and
    /// `SIGKILL`. Does nothing if the command has ended.
    pub fn signal(&self, signal: i32) {
        self.handle().signal(signal);
    }

    /// Kills every process of the jail.
    pub fn kill(&self) {
        self.handle().kill();
    }

    /// Waits for the end of the command. All processes of the jail are gone then, all changes are in the upper
    /// directory, and nothing is mounted any more.
    ///
    /// # Errors
    /// Fails if the helper died first.
    pub fn wait(&mut self) -> Result<Exit, SandboxError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        loop {
            match self.news()? {
                Some((News::Ended(exit), _)) => {
                    self.exit = Some(exit);
                    self.helper.wait().map_err(|e| SandboxError::talk("wait for", e))?;
                    return Ok(exit);
                }
                Some((News::Failed(error), _)) => return Err(error),
                Some((News::Started | News::Terminal | News::Owners, _)) => {}
                None => return Err(self.died()),
            }
        }
    }

    fn await_start(&mut self) -> Result<(), SandboxError> {
        loop {
            match self.news()? {
                Some((News::Terminal, terminal)) => self.terminal = terminal,
                Some((News::Started, _)) => return Ok(()),
                Some((News::Failed(error), _)) => return Err(error),
                Some((News::Ended(_) | News::Owners, _)) | None => return Err(self.died()),
            }
        }
    }

    /// Receives the next event; `None` when the helper is gone. The helper process is polled as well: another program
    /// that was started at the wrong moment may hold the other end of the connection open.
    fn news(&mut self) -> Result<Option<(News, Option<OwnedFd>)>, SandboxError> {
        let helper = Pid::from_child(&self.helper);
        let pidfd = pidfd_open(helper, PidfdFlags::empty()).map_err(|e| SandboxError::talk("watch", e))?;
        match wait_for([self.control.as_fd(), pidfd.as_fd()])? {
            [true, _] => talk::receive(self.control.as_fd()).map_err(|e| SandboxError::talk("hear from", e)),
            [false, _] => Ok(None),
        }
    }

    fn died(&mut self) -> SandboxError {
        let status = match self.helper.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        SandboxError::HelperDied { status }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the helper is gone already.
        let _ = rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both);
        let _ = self.helper.wait();
    }
}

impl Handle {
    /// Sends a signal to the command; see [`RunningJail::signal`].
    pub fn signal(&self, signal: i32) {
        // Fails only if the helper, and so the command, has ended.
        let _ = talk::send(self.0.as_fd(), &Order::Signal(signal), None);
    }

    /// Kills every process of the jail; see [`RunningJail::kill`].
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }
}

/// Blocks until at least one of the descriptors is readable or at its end. Returns true for each of these.
pub(crate) fn wait_for<const N: usize>(fds: [BorrowedFd<'_>; N]) -> Result<[bool; N], SandboxError> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SandboxError::talk("wait for", error)),
            Ok(_) => return Ok(polled.map(|fd| !fd.revents().is_empty())),
        }
    }
}
