//! The helper: a small program with one thread, outside the jail.
//!
//! It starts process 1 of the jail, forwards signals and reports the exit status. It is not part of the jail: processes
//! inside cannot see, read or trace it. When the connection to its caller closes, it kills the jail; when it is killed
//! itself, the kernel kills process 1 of the jail and with it all others.

use crate::error::SandboxError;
use crate::extra_ids;
use crate::init;
use crate::ipc::{self, HelperEvent, HelperRequest, wait_until_readable};
use crate::jail::{Jail, JailNetwork};
use crate::outcome::{CommandExit, CommandUsage};
use crate::ownership;
use crate::small_files::read_to_end;
use crate::sys::{self, CloneResult};
use core::time::Duration;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions, WaitIdStatus, set_dumpable_behavior, setsid, waitid};

/// The signals that the helper forwards to the command.
const FORWARDED_SIGNALS: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// The largest description of a jail in bytes: arguments, environment, mounts and the contents of files in memory.
pub(crate) const MAX_DESCRIPTION: usize = 256 << 20;

/// The helper's program: runs the jail that is received from the connection, the inherited descriptor `number`, until
/// its end. Returns the exit code of the helper. The process must have a single thread.
pub fn run_jail_helper(number: i32) -> i32 {
    match sys::take_inherited_fd(number) {
        Ok(control) => run_helper(&control),
        Err(_) => 2,
    }
}

/// Ends the helper's process with this exit code.
pub fn end_helper(code: i32) -> ! {
    sys::exit_now(code)
}

fn run_helper(control: &OwnedFd) -> i32 {
    let sent = match supervise_command(control) {
        Ok((exit, usage)) => ipc::send(control.as_fd(), &HelperEvent::Ended { exit, usage }, None),
        Err(error) => ipc::send(control.as_fd(), &HelperEvent::Failed(error), None),
    };
    i32::from(sent.is_err())
}

fn supervise_command(control: &OwnedFd) -> Result<(CommandExit, CommandUsage), SandboxError> {
    fcntl_setfd(control, FdFlags::CLOEXEC).map_err(|e| SandboxError::helper_connection("set up", e))?;
    // A limit on the size of files is the command's: what is written for it before fails in words. The command gets the
    // default action back.
    sys::ignore_signal(libc::SIGXFSZ);
    // Signals of keys typed at the caller's terminal are for the caller. Fails only if this process leads a session
    // already.
    let _ = setsid();
    let jail = receive_jail(control.as_fd())?;
    if !jail.extra_ids.is_empty() {
        extra_ids::enter_namespace_with(&jail.extra_ids)?;
    }
    // The maps of a process that is not dumpable cannot be written.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| SandboxError::helper_connection("set up", e))?;
    let signals = sys::open_signalfd(&FORWARDED_SIGNALS).map_err(|e| SandboxError::helper_connection("set up", e))?;
    let (helper_end, init_end) = ipc::socket_pair().map_err(|e| SandboxError::helper_connection("set up", e))?;
    match clone_into_namespaces(jail.network)? {
        CloneResult::Child => {
            drop(helper_end);
            let error = init::run_init(&jail, init_end.as_fd(), control.as_fd());
            let _ = ipc::send(init_end.as_fd(), &HelperEvent::Failed(error), None);
            sys::exit_now(1)
        }
        CloneResult::Parent(command) => {
            drop(init_end);
            let attribute = jail.owner_attribute.unwrap_or_default();
            close_command_streams()?;
            let failed = forward_until_end(control.as_fd(), signals.as_fd(), command.as_fd(), helper_end, &attribute);
            let exit = reap_command(command.as_fd())?;
            failed?.map_or(Ok((exit, command_usage())), Err)
        }
    }
}

fn receive_jail(control: BorrowedFd<'_>) -> Result<Jail, SandboxError> {
    let failed = |error| SandboxError::helper_connection("receive the jail in", error);
    let (_, file) = ipc::receive::<HelperRequest>(control).map_err(failed)?.ok_or(Errno::PIPE).map_err(failed)?;
    let file = file.ok_or(Errno::PIPE).map_err(failed)?;
    let bytes = seek(&file, SeekFrom::Start(0)).and_then(|_| read_to_end(file.as_fd(), MAX_DESCRIPTION));
    serde_json::from_slice(&bytes.map_err(failed)?).map_err(|_| failed(Errno::BADMSG))
}

fn clone_into_namespaces(network: JailNetwork) -> Result<CloneResult, SandboxError> {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if network == JailNetwork::None {
        flags |= libc::CLONE_NEWNET;
    }
    // Kernels built without cgroups refuse a cgroup namespace.
    sys::clone_process((flags | libc::CLONE_NEWCGROUP) as u64).or_else(|_| sys::clone_process(flags as u64)).map_err(
        |error| match error {
            // In the words of the kernel, no space is left on the device.
            Errno::NOSPC => SandboxError::NamespaceLimit,
            error => SandboxError::Namespaces { source: error.into() },
        },
    )
}

/// Closes the command's streams here, so that their readers see the end of file when the command closes them.
fn close_command_streams() -> Result<(), SandboxError> {
    let set_up = |error: Errno| SandboxError::helper_connection("set up", error);
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(set_up)?;
    rustix::stdio::dup2_stdin(&null).map_err(set_up)?;
    rustix::stdio::dup2_stdout(&null).map_err(set_up)?;
    rustix::stdio::dup2_stderr(&null).map_err(set_up)
}

/// Forwards signals and events until the command has ended. Returns the error that kept it from starting, if any.
fn forward_until_end(
    control: BorrowedFd<'_>,
    signals: BorrowedFd<'_>,
    command: BorrowedFd<'_>,
    report: OwnedFd,
    attribute: &str,
) -> Result<Option<SandboxError>, SandboxError> {
    let (mut control_open, mut report, mut failed) = (true, Some(report), None);
    let mut owners: Option<OwnedFd> = None;
    loop {
        // The command's own descriptor stands in for those that are not polled any more.
        let orders = if control_open { control } else { command };
        let reporter = report.as_ref().map_or(command, |fd| fd.as_fd());
        let listener = owners.as_ref().map_or(command, |fd| fd.as_fd());
        let [ordered, signalled, ended, reported, asked] =
            wait_until_readable([orders, signals, command, reporter, listener])?;
        if asked && owners.as_ref().is_some_and(|fd| ownership::answer_chown(fd.as_fd(), attribute).is_err()) {
            owners = None;
        }
        if reported && let Some(fd) = report.take() {
            match ipc::receive::<HelperEvent>(fd.as_fd()) {
                Ok(Some((HelperEvent::OwnerNotifications, listener))) => (owners, report) = (listener, Some(fd)),
                Ok(Some((HelperEvent::Failed(error), _))) => failed = Some(error),
                // The end of the connection without a message: exec has closed the other side.
                Ok(_) => report_started(control),
                Err(error) => failed = Some(SandboxError::helper_connection("receive events from", error)),
            }
        }
        // A command that ends at once may have sent several events by then: all are received first. The end of the
        // command closes the other side, so the events end too.
        if ended && report.is_none() {
            return Ok(failed);
        }
        if signalled && let Ok(signal) = sys::read_signal(signals) {
            let _ = sys::pidfd_send_signal(command, signal);
        }
        if ordered {
            let signal = match ipc::receive::<HelperRequest>(control) {
                Ok(Some((HelperRequest::Signal(signal), _))) => signal,
                // The caller is gone, or sent an invalid packet.
                _ => {
                    control_open = false;
                    libc::SIGKILL
                }
            };
            let _ = sys::pidfd_send_signal(command, signal);
        }
    }
}

fn report_started(control: BorrowedFd<'_>) {
    // Fails only when the caller is gone, which the next poll of the connection shows.
    let _ = ipc::send(control, &HelperEvent::Started, None);
}

/// Returns what the command used; it was the only child of this process. Without an answer of the kernel it is nothing:
/// no command fails for a number.
fn command_usage() -> CommandUsage {
    let (user, system, kilobytes) = sys::usage_of_children().unwrap_or_default();
    CommandUsage {
        user_time: Duration::from_micros(user),
        system_time: Duration::from_micros(system),
        max_rss: kilobytes.saturating_mul(1024),
    }
}

fn reap_command(command: BorrowedFd<'_>) -> Result<CommandExit, SandboxError> {
    let status = waitid(WaitId::PidFd(command), WaitIdOptions::EXITED)
        .map_err(|e| SandboxError::helper_connection("wait for the command in", e))?;
    let status = status.as_ref();
    Ok(match (status.and_then(WaitIdStatus::exit_status), status.and_then(WaitIdStatus::terminating_signal)) {
        (Some(code), _) => CommandExit::Code(code),
        (None, Some(signal)) => CommandExit::Signal(signal),
        (None, None) => CommandExit::Signal(libc::SIGKILL),
    })
}
