//! Cancels a build from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dram_sandbox::Handle;

/// A cancellation token: it kills all commands of a build, once. Clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    thrown: AtomicBool,
    running: Mutex<Vec<Handle>>,
}

impl Cancel {
    /// Kills the running commands and prevents new ones from starting.
    pub fn throw(&self) {
        self.state.thrown.store(true, Ordering::SeqCst);
        for handle in self.state.running.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handle.kill();
        }
    }

    /// Returns whether the token was cancelled.
    pub fn is_thrown(&self) -> bool {
        self.state.thrown.load(Ordering::SeqCst)
    }

    /// Registers a running command; a command that is registered after the cancellation is killed at once.
    pub(crate) fn watch(&self, handle: &Handle) {
        self.state.running.lock().unwrap_or_else(PoisonError::into_inner).push(handle.clone());
        if self.is_thrown() {
            handle.kill();
        }
    }
}
