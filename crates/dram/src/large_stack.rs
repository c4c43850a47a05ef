//! Work on a stack of a known size, where the limit of the stack (`ulimit -s`) is small.

use std::panic::resume_unwind;
use std::thread;

use rustix::process::{Resource, getrlimit};

/// The size of the stack that the work is tested with: that of Linux without limits.
const SIZE: usize = 8 << 20;

/// Calls `work` and returns its result: on a thread with a large stack if this process may have only a small one. If no
/// thread can be started, on the stack that there is.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if getrlimit(Resource::Stack).current.is_none_or(|limit| limit >= SIZE as u64) {
        return work();
    }
    let mut work = Some(work);
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(SIZE).spawn_scoped(scope, || work.take().map(|work| work()));
        thread.ok().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    match (done.flatten(), work) {
        (Some(done), _) => done,
        (None, Some(work)) => work(),
        (None, None) => unreachable!("a thread that took the work has done it"),
    }
}
