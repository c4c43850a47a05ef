//! Safe wrappers of `ptrace`: another process is stopped at the moment it has executed a program, and its memory changed.
#![allow(unsafe_code)] // Each hands addresses to the kernel.

use super::raw::{StartSyscall, system_call};
use crate::errno::StartErrno;

const PTRACE_PEEKDATA: usize = 2;
const PTRACE_POKEDATA: usize = 5;
const PTRACE_CONT: usize = 7;
const PTRACE_DETACH: usize = 17;
const PTRACE_GETREGSET: usize = 0x4204;
const PTRACE_SEIZE: usize = 0x4206;
/// Stop after an `execve`, and kill the process if its tracer ends.
const OPTIONS: usize = 0x10 | 0x10_0000;
/// The general registers.
const REGISTERS: usize = 1;
/// The stack pointer among them.
const STACK_POINTER: usize = if cfg!(target_arch = "x86_64") { 19 } else { 31 };
const SET_TRACER: usize = 0x5961_6d61;

/// The reason why a traced process stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TraceStop {
    /// It has executed a program, of which no instruction has run.
    Executed,
    /// It is to receive this signal; 0 for none.
    Signal(i32),
    /// It has ended.
    Ended,
}

fn trace(request: usize, process: i32, address: usize, data: usize) -> Result<(), StartErrno> {
    // SAFETY: the callers below pass an address of this process only where the kernel expects one of that size.
    let result = unsafe { system_call(StartSyscall::ptrace, [request, process as usize, address, data, 0, 0]) };
    if result < 0 { Err(StartErrno(-result as i32)) } else { Ok(()) }
}

/// Lets a process that is not an ancestor trace this one, where the system demands that.
pub(crate) fn allow_tracer(process: i32) {
    // SAFETY: no memory is involved.
    unsafe { system_call(StartSyscall::prctl, [SET_TRACER, process as usize, 0, 0, 0, 0]) };
}

/// Begins to trace a process, without stopping it.
pub(crate) fn seize(process: i32) -> Result<(), StartErrno> {
    trace(PTRACE_SEIZE, process, 0, OPTIONS)
}

/// Waits until the traced process stops.
pub(crate) fn wait_for_stop(process: i32) -> TraceStop {
    const ANY_KIND: usize = 0x4000_0000;
    const TRAP_AFTER_EXECUTE: i32 = 5 | 4 << 8;
    let mut status = 0_i32;
    loop {
        let to = (&raw mut status).expose_provenance();
        // SAFETY: the kernel writes one number where `status` is.
        match unsafe { system_call(StartSyscall::wait4, [process as usize, to, ANY_KIND, 0, 0, 0]) } {
            interrupted if interrupted == -(StartErrno::INTR.0 as isize) => {}
            failed if failed < 0 => return TraceStop::Ended,
            _ if status & 0xff != 0x7f => return TraceStop::Ended,
            _ if status >> 8 == TRAP_AFTER_EXECUTE => return TraceStop::Executed,
            _ if status >> 16 != 0 => return TraceStop::Signal(0),
            _ => return TraceStop::Signal(status >> 8 & 0xff),
        }
    }
}

/// Lets a stopped process continue, with a signal.
pub(crate) fn resume(process: i32, signal: i32) {
    let _ = trace(PTRACE_CONT, process, 0, signal as usize);
}

/// Ends the tracing of a stopped process, which continues.
pub(crate) fn detach(process: i32) -> Result<(), StartErrno> {
    trace(PTRACE_DETACH, process, 0, 0)
}

/// The stack pointer of a stopped process.
pub(crate) fn stack_pointer(process: i32) -> Result<usize, StartErrno> {
    let mut registers = [0_usize; 64];
    let vector = [registers.as_mut_ptr().expose_provenance(), size_of_val(&registers)];
    let to = (&raw const vector).expose_provenance();
    // SAFETY: the kernel writes at most as many bytes as the vector says, which is the size of the array.
    trace(PTRACE_GETREGSET, process, REGISTERS, to)?;
    // SAFETY: the kernel has written the array through its address.
    Ok(unsafe { core::ptr::read_volatile(&raw const registers[STACK_POINTER]) })
}

/// A word in the memory of a stopped process.
pub(crate) fn peek(process: i32, address: usize) -> Result<usize, StartErrno> {
    let mut word = 0_usize;
    let to = (&raw mut word).expose_provenance();
    // SAFETY: the kernel writes one word.
    trace(PTRACE_PEEKDATA, process, address, to)?;
    Ok(word)
}

/// Changes a word in the memory of a stopped process.
pub(crate) fn poke(process: i32, address: usize, word: usize) -> Result<(), StartErrno> {
    trace(PTRACE_POKEDATA, process, address, word)
}
