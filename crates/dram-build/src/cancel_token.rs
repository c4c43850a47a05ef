//! Cancels a build from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dram_sandbox::SignalHandle;

/// A cancellation token: it kills all commands of a build, once. Clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    state: Arc<CancelState>,
}

#[derive(Debug, Default)]
struct CancelState {
    cancelled: AtomicBool,
    running: Mutex<Vec<SignalHandle>>,
}

impl CancelToken {
    /// Kills the running commands and prevents new ones from starting.
    pub fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::SeqCst);
        for handle in self.state.running.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handle.kill();
        }
    }

    /// Returns whether the token was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state.cancelled.load(Ordering::SeqCst)
    }

    /// Registers a running command; a command that is registered after the cancellation is killed at once.
    pub(crate) fn register(&self, handle: &SignalHandle) {
        self.state.running.lock().unwrap_or_else(PoisonError::into_inner).push(handle.clone());
        if self.is_cancelled() {
            handle.kill();
        }
    }
}
