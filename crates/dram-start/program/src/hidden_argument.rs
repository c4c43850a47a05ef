//! Executes a program with one argument that other users of the machine cannot see.
//!
//! The emulator takes its cookie from the command line only, and everybody can read the command line of every process.
//! So it is executed with another word in that place, and before its first instruction the pointer to this word is
//! replaced by a pointer to the value of a variable in its environment, which only its own user can read. For this a
//! second process of this program traces the one that becomes the emulator, and ends when it is done.

use alloc::format;
use alloc::vec::Vec;

use dram_start::byte_string::ByteString;
use dram_start::error::{StartError, printable};

use crate::errno::StartErrno;
use crate::sys::tracing::{self, TraceStop};
use crate::{process, sys};

const SIGKILL: i32 = 9;
const WORD: usize = size_of::<usize>();

/// The place of the argument, and the place of its value.
#[derive(Clone, Copy)]
pub(crate) struct HiddenArgument {
    /// Its index in the arguments.
    pub(crate) argument: usize,
    /// The index of the variable in the environment.
    pub(crate) variable: usize,
    /// The length of the variable's name with its `=`.
    pub(crate) name_length: usize,
}

/// Executes a program in this process. `visible` is the argument in plain sight if it cannot be hidden. Returns only if
/// that failed.
pub(crate) fn execute(
    program: &[u8],
    argv: &[ByteString],
    environment: &[ByteString],
    hidden: HiddenArgument,
    visible: &[u8],
) -> StartErrno {
    match begin_tracing(hidden, argv.len()) {
        Ok(()) => sys::execute(program, argv, environment),
        Err(errno) => {
            let note = format!(
                "other users of this machine can see the cookie on the command line of `{}`: it cannot be hidden, \
                 because this system does not let processes be traced: {errno}\n",
                printable(program)
            );
            let _ = sys::write_all(2, note.as_bytes());
            let mut argv: Vec<ByteString> = argv.to_vec();
            argv[hidden.argument] = visible.to_vec();
            sys::execute(program, &argv, environment)
        }
    }
}

/// Starts the process that traces this one and waits until it does.
fn begin_tracing(hidden: HiddenArgument, count: usize) -> Result<(), StartErrno> {
    let own = sys::own_pid();
    let (tracer_id, tell_id) = sys::pipe()?;
    let (is_allowed, allow) = sys::pipe()?;
    let (outcome, tell_outcome) = sys::pipe()?;
    let spawned = process::spawn_detached(|| {
        // With its own copy open, it would wait for ever if this process ended here.
        drop(sys::StartFd(allow.0));
        let _ = sys::write_all(tell_id.0, &sys::own_pid().to_ne_bytes());
        let mut byte = [0];
        let _ = sys::read(is_allowed.0, &mut byte);
        let code = tracing::seize(own).err().map_or(0, |errno| errno.0);
        let _ = sys::write_all(tell_outcome.0, &code.to_ne_bytes());
        if code == 0 {
            trace_until_executed(own, hidden, count);
        }
    });
    spawned.map_err(|_| StartErrno::AGAIN)?;
    // Only the other process has these ends now: if it ends too early, reading does.
    drop((tell_id, tell_outcome));
    tracing::allow_tracer(read_number(tracer_id.0)?);
    sys::write_all(allow.0, b"!")?;
    match read_number(outcome.0)? {
        0 => Ok(()),
        code => Err(StartErrno(code)),
    }
}

fn read_number(fd: i32) -> Result<i32, StartErrno> {
    let mut bytes = [0; 4];
    match sys::read(fd, &mut bytes)? {
        4 => Ok(i32::from_ne_bytes(bytes)),
        _ => Err(StartErrno::NOPROCESS),
    }
}

/// Traces a process until it has executed a program, changes the argument, and lets it go.
fn trace_until_executed(process: i32, hidden: HiddenArgument, count: usize) {
    loop {
        match tracing::wait_for_stop(process) {
            TraceStop::Executed => break,
            TraceStop::Signal(signal) => tracing::resume(process, signal),
            TraceStop::Ended => return,
        }
    }
    let changed = replace_argument(process, hidden, count).and_then(|()| tracing::detach(process));
    if let Err(errno) = changed {
        let _ = sys::kill(process, SIGKILL);
        let what = format!("cannot hide the cookie from other users: {errno}");
        process::print_error(&StartError::new(what, "set RELEASE_DISTRIBUTION=none if no node name is needed"));
    }
}

/// The stack of a new program begins with the number of arguments, a pointer to each, a null, and the same for the
/// environment.
fn replace_argument(process: i32, hidden: HiddenArgument, count: usize) -> Result<(), StartErrno> {
    let stack = tracing::stack_pointer(process)?;
    if tracing::peek(process, stack)? != count {
        return Err(StartErrno::NOEXEC);
    }
    let arguments = stack + WORD;
    let environment = arguments + WORD * (count + 1);
    let variable = tracing::peek(process, environment + WORD * hidden.variable)?;
    tracing::poke(process, arguments + WORD * hidden.argument, variable + hidden.name_length)
}
