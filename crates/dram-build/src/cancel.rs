//! Stopping a build from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dram_sandbox::Handle;

/// A switch that ends all commands of a build, thrown once. Clones are the same switch.
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
    /// Kills what runs and keeps more from starting.
    pub fn throw(&self) {
        self.state.thrown.store(true, Ordering::SeqCst);
        for handle in self.state.running.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handle.kill();
        }
    }

    /// Whether the switch was thrown.
    pub fn is_thrown(&self) -> bool {
        self.state.thrown.load(Ordering::SeqCst)
    }

    /// Puts a running command on the list; one that comes after the switch is killed at once.
    pub(crate) fn watch(&self, handle: &Handle) {
        self.state.running.lock().unwrap_or_else(PoisonError::into_inner).push(handle.clone());
        if self.is_thrown() {
            handle.kill();
        }
    }
}
