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

/// Runs as process 1: starts a child with `execute`, forwards signals to it, reaps orphans, and returns its exit code.
///
/// `started` is called with the pid of the child.
pub(crate) fn supervise_as_process_1(
    execute: impl FnOnce() -> StartError,
    started: impl FnOnce(i32),
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
    loop {
        match sys::next_signal(mask) {
            Some((SIGCHLD, _)) | None => {
                while let Ok(Some((ended, status))) = sys::wait_for_child(-1, false) {
                    if ended == child {
                        return Ok(exit_code(status));
                    }
                }
            }
            // The terminal has sent the signal to the child as well.
            Some((_, true)) => {}
            Some((signal, false)) => {
                let _ = sys::kill(child, signal);
            }
        }
    }
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
