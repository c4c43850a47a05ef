//! Signals that ask this process to end, or to pass them on.

use std::thread;
use std::time::Duration;

use dram_build::{Cancel, TransferError};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::report;

/// How long a command may take to end when it was told to: a server that says nothing is not waited for.
const GRACE: Duration = Duration::from_secs(5);

/// Lets the first SIGINT, SIGTERM or SIGHUP throw `cancel`; the second, or [`GRACE`], ends the process at once. The
/// kernel then ends its jails, and the next command removes what it leaves.
pub(crate) fn cancel_on_signal(cancel: Cancel) -> Result<(), Failure> {
    let mut signals = listen(&[SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if cancel.is_thrown() {
                std::process::exit(128 + signal);
            }
            cancel.throw();
            thread::spawn(|| {
                thread::sleep(GRACE);
                let failure = Failure::from(TransferError::Cancelled);
                report::failure(&failure);
                std::process::exit(failure.code().into());
            });
        }
    });
    Ok(())
}

/// Every signal that a command might wait for, kept from now on until somebody passes them on.
pub(crate) struct Kept(Signals);

/// Listens before the command starts, so that none is lost and none ends this process instead.
pub(crate) fn keep() -> Result<Kept, Failure> {
    listen(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH]).map(Kept)
}

impl Kept {
    /// Calls `pass_on` with what came and with what comes.
    pub(crate) fn pass_on(mut self, mut pass_on: impl FnMut(i32) + Send + 'static) {
        thread::spawn(move || self.0.forever().for_each(&mut pass_on));
    }
}

fn listen(signals: &[i32]) -> Result<Signals, Failure> {
    Signals::new(signals).map_err(|error| Failure::work("cannot listen to signals").because(&error))
}
