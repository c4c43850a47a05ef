//! Handles signals: some cancel the command of this process, others are forwarded to a command in a container.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use dram_build::{CancelToken, TransferError};
use dram_error::ErrorClass;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::report;

/// The time that a cancelled command has to end: a server that does not answer is not waited for any longer.
const GRACE: Duration = Duration::from_secs(5);

/// Cancels with `cancel` on the first SIGINT, SIGTERM or SIGHUP; a second signal, or the end of [`GRACE`], ends the
/// process at once. The kernel then kills its sandboxes, and the next command removes what they leave.
pub(crate) fn cancel_on_signal(cancel: CancelToken) -> Result<(), Failure> {
    let mut signals = register_signals(&[SIGINT, SIGTERM, SIGHUP])?;
    start_thread(move || {
        for signal in signals.forever() {
            if cancel.is_cancelled() {
                std::process::exit(128 + signal);
            }
            cancel.cancel();
            thread::spawn(|| {
                thread::sleep(GRACE);
                let failure = Failure::from(TransferError::Cancelled);
                report::print_failure(&failure);
                std::process::exit(failure.code().into());
            });
        }
    })
}

/// Starts a thread. A filter that refuses it is a lack of this machine, a limit is not.
fn start_thread(work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().spawn(work).map(drop);
    started.map_err(|error| {
        let is_refused = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported);
        let class = if is_refused { ErrorClass::MissingSupport } else { ErrorClass::Work };
        Failure::no_more_threads(class, &error.to_string())
    })
}

/// Every signal that a command may handle, caught and held back until it can be forwarded.
pub(crate) struct PendingSignals(Signals);

/// Catches signals before the command starts, so that none is lost and none ends this process.
pub(crate) fn catch_signals() -> Result<PendingSignals, Failure> {
    register_signals(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH]).map(PendingSignals)
}

impl PendingSignals {
    /// Calls `pass_on` for each signal that was caught, and for each that follows.
    pub(crate) fn forward(mut self, mut pass_on: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
        start_thread(move || self.0.forever().for_each(&mut pass_on))
    }
}

/// Keeps the kernel from ending this process when it writes more to a file than `ulimit -f` allows: the write fails then.
/// A handler is set, and not "ignore", so that the programs which this process starts get the default action.
pub(crate) fn survive_file_size_limit() {
    // Fails only for signals that may not be caught. Without the handler the kernel ends the process as before.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

fn register_signals(signals: &[i32]) -> Result<Signals, Failure> {
    Signals::new(signals).map_err(|error| Failure::work("cannot listen to signals").because(&error))
}
