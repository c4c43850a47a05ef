//! The caller's side: starts the helper and controls a running command.

use crate::error::SandboxError;
use crate::helper::HELPER_ARGUMENT;
use crate::ipc::{self, HelperEvent, HelperRequest};
use crate::jail::Jail;
use crate::sealed_helper::SealedHelper;
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
use std::time::Duration;

/// The standard streams of the command.
#[derive(Debug)]
pub enum JailStdio {
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
pub enum CommandExit {
    /// The command exited with this code.
    Code(i32),
    /// The command was killed by this signal.
    Signal(i32),
}

/// The resources that a command and the processes that it waited for have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandUsage {
    /// CPU time in user mode.
    pub user_time: Duration,
    /// CPU time in the kernel.
    pub system_time: Duration,
    /// The largest resident set of one process, in bytes.
    pub max_rss: u64,
}

impl CommandExit {
    /// The exit code as a shell shows it: 128 plus the number for a signal.
    pub fn code(self) -> i32 {
        match self {
            CommandExit::Code(code) => code,
            CommandExit::Signal(signal) => 128 + signal,
        }
    }
}

/// A running command in its jail. Dropping it kills the command and waits for its end.
///
/// All processes of the jail die when this process dies, however it dies: the helper watches the connection that this
/// value holds. The thread that spawned it may end.
#[derive(Debug)]
pub struct RunningJail {
    helper: Child,
    control: Arc<OwnedFd>,
    terminal: Option<OwnedFd>,
    end: Option<(CommandExit, CommandUsage)>,
}

/// Sends signals to a command, from any thread, also while another one waits for it.
#[derive(Debug, Clone)]
pub struct SignalHandle(Arc<OwnedFd>);

/// A lock for the time during which a descriptor is inheritable: another helper started then would inherit it too.
static HELPER_START_LOCK: Mutex<()> = Mutex::new(());

impl Jail {
    /// Starts the command. Returns once it runs.
    ///
    /// This program is executed again as the helper, so its `main` must begin with
    /// [`become_helper_if_asked`](crate::become_helper_if_asked).
    ///
    /// # Errors
    /// Returns the error that kept the command from starting. All mounts and namespaces of the jail are gone then.
    pub fn spawn(&self, io: JailStdio) -> Result<RunningJail, SandboxError> {
        self.spawn_with_helper(Path::new("/proc/self/exe"), io)
    }

    /// Like [`spawn`](Jail::spawn), with another program as the helper. For callers that do not control their `main`.
    ///
    /// # Errors
    /// As for [`spawn`](Jail::spawn).
    pub fn spawn_with_helper(&self, helper: &Path, io: JailStdio) -> Result<RunningJail, SandboxError> {
        self.validate()?;
        if self.terminal != matches!(io, JailStdio::Terminal) {
            let what = "a terminal must be asked for in the jail and in its streams".to_owned();
            return Err(SandboxError::Description { what });
        }
        let (ours, theirs) =
            ipc::socket_pair().map_err(|e| SandboxError::helper_connection("make a connection to", e))?;
        let description =
            self.to_memory_file().map_err(|e| SandboxError::helper_connection("serialize the jail for", e))?;
        ipc::send(ours.as_fd(), &HelperRequest::Start, Some(description.as_fd()))
            .map_err(|e| SandboxError::helper_connection("send the jail to", e))?;
        let child = start_helper(helper, theirs, io)?;
        let mut running = RunningJail { helper: child, control: Arc::new(ours), terminal: None, end: None };
        running.wait_for_start()?;
        Ok(running)
    }

    fn to_memory_file(&self) -> std::io::Result<OwnedFd> {
        let mut file = File::from(rustix::fs::memfd_create("jail", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(file.into())
    }
}

fn start_helper(program: &Path, control: OwnedFd, io: JailStdio) -> Result<Child, SandboxError> {
    let helper = SealedHelper::of(program)?;
    let [stdin, stdout, stderr] = match io {
        JailStdio::Streams { stdin, stdout, stderr } => [stdin, stdout, stderr],
        JailStdio::Terminal => [Stdio::null(), Stdio::null(), Stdio::null()],
    };
    let mut command = Command::new(helper.path());
    command.arg0("dram-jail").arg(HELPER_ARGUMENT).arg(control.as_raw_fd().to_string());
    command.stdin(stdin).stdout(stdout).stderr(stderr).env_clear();
    let guard = HELPER_START_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    fcntl_setfd(&control, FdFlags::empty())
        .map_err(|e| SandboxError::helper_connection("pass the connection to", e))?;
    let child = command.spawn();
    drop(control);
    drop(guard);
    child.map_err(|source| SandboxError::HelperStart { path: program.display().to_string(), source })
}

impl RunningJail {
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
    pub fn signal_handle(&self) -> SignalHandle {
        SignalHandle(Arc::clone(&self.control))
    }

    /// Sends a signal to the command. As process 1 of its namespace it receives only signals that it handles, and
    /// `SIGKILL`. Does nothing if the command has ended.
    pub fn signal(&self, signal: i32) {
        self.signal_handle().signal(signal);
    }

    /// Kills every process of the jail.
    pub fn kill(&self) {
        self.signal_handle().kill();
    }

    /// Waits for the end of the command. All processes of the jail are gone then, all changes are in the upper
    /// directory, and nothing is mounted any more.
    ///
    /// # Errors
    /// Fails if the helper died first.
    pub fn wait(&mut self) -> Result<CommandExit, SandboxError> {
        if let Some((exit, _)) = self.end {
            return Ok(exit);
        }
        loop {
            match self.next_event()? {
                Some((HelperEvent::Ended { exit, usage }, _)) => {
                    self.end = Some((exit, usage));
                    self.helper.wait().map_err(|e| SandboxError::helper_connection("wait for", e))?;
                    return Ok(exit);
                }
                Some((HelperEvent::Failed(error), _)) => return Err(error),
                Some((HelperEvent::Started | HelperEvent::Terminal | HelperEvent::OwnerNotifications, _)) => {}
                None => return Err(self.helper_died_error()),
            }
        }
    }

    /// Returns the resources that the command has used, once [`wait`](RunningJail::wait) has returned.
    pub fn usage(&self) -> Option<CommandUsage> {
        self.end.map(|(_, usage)| usage)
    }

    fn wait_for_start(&mut self) -> Result<(), SandboxError> {
        loop {
            match self.next_event()? {
                Some((HelperEvent::Terminal, terminal)) => self.terminal = terminal,
                Some((HelperEvent::Started, _)) => return Ok(()),
                Some((HelperEvent::Failed(error), _)) => return Err(error),
                Some((HelperEvent::Ended { .. } | HelperEvent::OwnerNotifications, _)) | None => {
                    return Err(self.helper_died_error());
                }
            }
        }
    }

    /// Receives the next event; `None` when the helper is gone. The helper process is polled as well: another program
    /// that was started at the wrong moment may hold the other end of the connection open.
    fn next_event(&mut self) -> Result<Option<(HelperEvent, Option<OwnedFd>)>, SandboxError> {
        let helper = Pid::from_child(&self.helper);
        let pidfd = pidfd_open(helper, PidfdFlags::empty()).map_err(|e| SandboxError::helper_connection("watch", e))?;
        match wait_until_readable([self.control.as_fd(), pidfd.as_fd()])? {
            [true, _] => {
                ipc::receive(self.control.as_fd()).map_err(|e| SandboxError::helper_connection("hear from", e))
            }
            [false, _] => Ok(None),
        }
    }

    fn helper_died_error(&mut self) -> SandboxError {
        let status = match self.helper.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        SandboxError::HelperDied { status }
    }
}

impl Drop for RunningJail {
    fn drop(&mut self) {
        // Both fail only if the helper is gone already.
        let _ = rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both);
        let _ = self.helper.wait();
    }
}

impl SignalHandle {
    /// Sends a signal to the command; see [`RunningJail::signal`].
    pub fn signal(&self, signal: i32) {
        // Fails only if the helper, and so the command, has ended.
        let _ = ipc::send(self.0.as_fd(), &HelperRequest::Signal(signal), None);
    }

    /// Kills every process of the jail; see [`RunningJail::kill`].
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }
}

/// Blocks until at least one of the descriptors is readable or at its end. Returns true for each of these.
pub(crate) fn wait_until_readable<const N: usize>(fds: [BorrowedFd<'_>; N]) -> Result<[bool; N], SandboxError> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SandboxError::helper_connection("wait for", error)),
            Ok(_) => return Ok(polled.map(|fd| !fd.revents().is_empty())),
        }
    }
}
