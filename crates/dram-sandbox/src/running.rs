//! The caller's side: starts the helper and controls a running command.

use crate::error::SandboxError;
use crate::helper::MAX_DESCRIPTION;
use crate::ipc::{self, HelperEvent, HelperRequest, wait_until_readable};
use crate::jail::Jail;
use crate::outcome::{CommandExit, CommandUsage};
use crate::sealed_helper::SealedHelper;
use crate::small_files::write_all;
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// # Errors
    /// Returns the error that kept the command from starting. All mounts and namespaces of the jail are gone then.
    pub fn spawn(&self, io: JailStdio) -> Result<RunningJail, SandboxError> {
        self.validate()?;
        if self.terminal.is_some() != matches!(io, JailStdio::Terminal) {
            let what = "a terminal must be asked for in the jail and in its streams".to_owned();
            return Err(SandboxError::Description { what });
        }
        let (control, helper_end) =
            ipc::socket_pair().map_err(|e| SandboxError::helper_connection("make a connection to", e))?;
        let description =
            self.to_memory_file().map_err(|e| SandboxError::helper_connection("serialize the jail for", e))?;
        ipc::send(control.as_fd(), &HelperRequest::Start, Some(description.as_fd()))
            .map_err(|e| SandboxError::helper_connection("send the jail to", e))?;
        let child = start_helper(helper_end, io)?;
        let mut running = RunningJail { helper: child, control: Arc::new(control), terminal: None, end: None };
        running.wait_for_start()?;
        Ok(running)
    }

    fn to_memory_file(&self) -> Result<OwnedFd, Errno> {
        let bytes = serde_json::to_vec(self).map_err(|_| Errno::INVAL)?;
        if bytes.len() > MAX_DESCRIPTION {
            return Err(Errno::TOOBIG);
        }
        let file = rustix::fs::memfd_create("jail", MemfdFlags::CLOEXEC)?;
        write_all(file.as_fd(), &bytes)?;
        Ok(file)
    }
}

fn start_helper(control: OwnedFd, io: JailStdio) -> Result<Child, SandboxError> {
    let helper = SealedHelper::shared()?;
    let [stdin, stdout, stderr] = match io {
        JailStdio::Streams { stdin, stdout, stderr } => [stdin, stdout, stderr],
        JailStdio::Terminal => [Stdio::null(), Stdio::null(), Stdio::null()],
    };
    let mut command = Command::new(helper.path());
    command.arg0("dram-jail").arg(control.as_raw_fd().to_string());
    command.stdin(stdin).stdout(stdout).stderr(stderr).env_clear();
    let guard = HELPER_START_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    fcntl_setfd(&control, FdFlags::empty())
        .map_err(|e| SandboxError::helper_connection("pass the connection to", e))?;
    let child = command.spawn();
    drop(control);
    drop(guard);
    child.map_err(|error| SandboxError::HelperStart { source: error.into() })
}

impl RunningJail {
    /// The writing end of the command's standard input, if it was piped and not yet taken.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.helper.stdin.take()
    }

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
