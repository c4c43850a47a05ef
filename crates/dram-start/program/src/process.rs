//! Child processes: programs that are waited for, the emulator as the child of process 1, and background processes.

use alloc::format;
use alloc::vec;

use dram_start::byte_string::ByteString;
use dram_start::error::{StartError, printable};

use crate::errno::StartErrno;
use crate::sys::{self, StartFd};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;

/// The signals that process 1 forwards.
const FORWARDED_SIGNALS: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM];

fn fork_error(errno: StartErrno) -> StartError {
    StartError::new(format!("cannot make a process: {errno}"), "raise the limit of processes or memory")
}

/// Converts a wait status to the exit code of a shell.
fn exit_code(status: i32) -> u8 {
    match status & 0x7f {
        0 => (status >> 8) as u8,
        signal => 128 + signal as u8,
    }
}

/// Runs a program and waits for it. Returns its exit code.
pub(crate) fn run_and_wait(program: &[u8], argv: &[ByteString], environment: &[ByteString]) -> Result<u8, StartError> {
    match sys::fork().map_err(fork_error)? {
        None => {
            let errno = sys::execute(program, argv, environment);
            print_error(&StartError::new(format!("cannot start `{}`: {errno}", printable(program)), ""));
            sys::exit(127)
        }
        Some(child) => match sys::wait_for_child(child, true) {
            Ok(Some((_, status))) => Ok(exit_code(status)),
            Ok(None) | Err(_) => Ok(1),
        },
    }
}

/// Prints an error.
pub(crate) fn print_error(fault: &StartError) {
    let _ = sys::write_all(2, format!("{fault}\n").as_bytes());
}

/// The hooks that process 1 runs when it is asked to stop, as `docker stop` does.
pub(crate) struct StopHooks<'a> {
    /// Called before the system is asked to stop.
    pub(crate) before: &'a dyn Fn() -> Result<(), StartError>,
    /// Called after it has ended.
    pub(crate) after: &'a dyn Fn() -> Result<(), StartError>,
    /// False if both do nothing.
    pub(crate) exist: bool,
    /// The time that each of them may take.
    pub(crate) milliseconds: u64,
}

impl StopHooks<'_> {
    /// Nothing is done.
    pub(crate) const NONE: StopHooks<'static> =
        StopHooks { before: &|| Ok(()), after: &|| Ok(()), exist: false, milliseconds: 0 };
}

/// The progress of a stop of process 1.
enum StopProgress {
    /// Nobody has asked for it.
    Running,
    /// A process runs the hooks that come before it, until this time.
    Hooks { process: i32, until: u64 },
    /// The system is asked to stop.
    Asked,
}

/// Runs as process 1: starts a child with `execute`, forwards signals to it, reaps orphans, and returns its exit code.
/// At a SIGTERM the hooks are run first; a second one does not wait for them.
///
/// `started` is called with the pid of the child.
pub(crate) fn supervise_as_process_1(
    execute: impl FnOnce() -> StartError,
    started: impl FnOnce(i32),
    hooks: &StopHooks<'_>,
) -> Result<u8, StartError> {
    let mask = FORWARDED_SIGNALS.iter().chain(&[SIGCHLD]).fold(0_u64, |mask, signal| mask | 1 << (signal - 1));
    // Blocked signals stay pending. Process 1 receives no unblocked ones, as it has no handlers.
    let before = sys::block_signals(mask);
    let Some(child) = sys::fork().map_err(fork_error)? else {
        sys::block_signals(before);
        print_error(&execute());
        sys::exit(1)
    };
    started(child);
    let mut stop = StopProgress::Running;
    loop {
        let left = match stop {
            StopProgress::Hooks { until, .. } => Some(until.saturating_sub(sys::monotonic_milliseconds())),
            StopProgress::Running | StopProgress::Asked => None,
        };
        match sys::next_signal(mask, left) {
            Some((SIGCHLD, _)) | None => {
                while let Ok(Some((ended, status))) = sys::wait_for_child(-1, false) {
                    if ended == child {
                        return Ok(end_of_system(&stop, hooks, before, exit_code(status)));
                    }
                    if matches!(stop, StopProgress::Hooks { process, .. } if process == ended) {
                        stop = ask_to_stop(child);
                    }
                }
                if let StopProgress::Hooks { process, until } = stop
                    && sys::monotonic_milliseconds() >= until
                {
                    let what =
                        format!("the hooks before the stop took longer than {} seconds", hooks.milliseconds / 1000);
                    print_error(&StartError::new(what, "the system is stopped without waiting for them"));
                    kill_session(process);
                    stop = ask_to_stop(child);
                }
            }
            // The terminal has sent the signal to the child as well.
            Some((_, true)) => {}
            Some((SIGTERM, false)) => {
                stop = match stop {
                    StopProgress::Running if hooks.exist => {
                        begin_hooks(hooks.before, hooks.milliseconds, before).unwrap_or_else(|| ask_to_stop(child))
                    }
                    StopProgress::Hooks { process, .. } => {
                        kill_session(process);
                        ask_to_stop(child)
                    }
                    StopProgress::Running | StopProgress::Asked => ask_to_stop(child),
                };
            }
            Some((signal, false)) => {
                let _ = sys::kill(child, signal);
            }
        }
    }
}

fn ask_to_stop(child: i32) -> StopProgress {
    let _ = sys::kill(child, SIGTERM);
    StopProgress::Asked
}

/// Runs `work` in a process with a session of its own, so that all its children can be killed together.
fn begin_hooks(work: &dyn Fn() -> Result<(), StartError>, milliseconds: u64, signals: u64) -> Option<StopProgress> {
    let process = match sys::fork() {
        Ok(None) => {
            sys::new_session();
            sys::block_signals(signals);
            let done = work();
            done.as_ref().err().into_iter().for_each(print_error);
            sys::exit(u8::from(done.is_err()))
        }
        Ok(Some(process)) => process,
        Err(errno) => {
            print_error(&fork_error(errno));
            return None;
        }
    };
    Some(StopProgress::Hooks { process, until: sys::monotonic_milliseconds() + milliseconds })
}

/// Kills a process and its session.
fn kill_session(process: i32) {
    let _ = sys::kill(-process, SIGKILL);
    let _ = sys::kill(process, SIGKILL);
}

/// Runs the hooks after the end of the system, if it was asked to stop. Returns the exit code of the system.
fn end_of_system(stop: &StopProgress, hooks: &StopHooks<'_>, signals: u64, code: u8) -> u8 {
    match stop {
        StopProgress::Running => return code,
        StopProgress::Hooks { process, .. } => kill_session(*process),
        StopProgress::Asked => {}
    }
    if hooks.exist
        && let Some(StopProgress::Hooks { process, until }) = begin_hooks(hooks.after, hooks.milliseconds, signals)
    {
        while sys::monotonic_milliseconds() < until {
            match sys::wait_for_child(process, false) {
                Ok(None) => sys::sleep(10),
                Ok(Some(_)) | Err(_) => return code,
            }
        }
        kill_session(process);
    }
    code
}

/// Runs `work` in a process that does not belong to this one: its parent is process 1.
pub(crate) fn spawn_detached(work: impl FnOnce()) -> Result<(), StartError> {
    match sys::fork().map_err(fork_error)? {
        None => {
            if let Ok(None) = sys::fork() {
                work();
            }
            sys::exit(0)
        }
        Some(child) => {
            let _ = sys::wait_for_child(child, true);
            Ok(())
        }
    }
}

/// Closes all files that a background process has inherited except the standard streams: somebody may wait for their
/// end.
pub(crate) fn close_inherited_files() {
    const MOST_FILES: i32 = 1024;
    (3..MOST_FILES).for_each(|fd| drop(StartFd(fd)));
}

/// Runs `work` in the background, with its output in `log`. `work` returns only if it failed; its error is printed
/// here.
pub(crate) fn run_in_background(log: &StartFd, work: impl FnOnce() -> StartError) -> Result<u8, StartError> {
    let wrong =
        |errno| StartError::new(format!("cannot start in the background: {errno}"), "start it in the foreground");
    let (from, to) = sys::pipe().map_err(wrong)?;
    let null = sys::open(b"/dev/null", sys::RDWR | sys::CLOEXEC, 0).map_err(wrong)?;
    match sys::fork().map_err(fork_error)? {
        None => {
            drop(from);
            sys::new_session();
            if let Ok(None) = sys::fork() {
                let ready = sys::duplicate(&null, 0).and_then(|()| sys::duplicate(log, 1));
                let fault = match ready.and_then(|()| sys::duplicate(log, 2)) {
                    Ok(()) => work(),
                    Err(errno) => wrong(errno),
                };
                let _ = sys::write_all(to.0, format!("{fault}\n").as_bytes());
            }
            sys::exit(1)
        }
        Some(child) => {
            drop(to);
            let _ = sys::wait_for_child(child, true);
            let mut buffer = vec![0; 4096];
            let mut failed = false;
            // The other end is closed when the emulator is executed.
            loop {
                let count = sys::read(from.0, &mut buffer).map_err(wrong)?;
                if count == 0 {
                    return Ok(u8::from(failed));
                }
                failed = true;
                let _ = sys::write_all(2, &buffer[..count]);
            }
        }
    }
}
