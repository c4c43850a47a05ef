//! Signals that ask this process to end, or to pass them on.

use std::thread;

use dram_build::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// Lets the first SIGINT, SIGTERM or SIGHUP throw `cancel`; the second ends the process at once, and the kernel then
/// ends its jails.
pub(crate) fn cancel_on_signal(cancel: Cancel) -> Result<(), Failure> {
    let mut signals = listen(&[SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if cancel.is_thrown() {
                std::process::exit(128 + signal);
            }
            cancel.throw();
        }
    });
    Ok(())
}

/// Calls `pass_on` with every signal that a command might wait for.
pub(crate) fn pass_on(mut pass_on: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let mut signals = listen(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH])?;
    thread::spawn(move || signals.forever().for_each(&mut pass_on));
    Ok(())
}

fn listen(signals: &[i32]) -> Result<Signals, Failure> {
    Signals::new(signals).map_err(|error| Failure::work("cannot listen to signals").because(&error))
}
