//! Calls a function for many values on several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Calls `work` for each of `all` on up to `at_once` threads. After the first error no further call is started.
///
/// # Errors
/// Returns the first error of `work`.
pub(crate) fn for_each_parallel<T: Sync, E: Send>(
    all: &[T],
    at_once: usize,
    work: &(dyn Fn(&T) -> Result<(), E> + Sync),
) -> Result<(), E> {
    let threads = at_once.min(all.len());
    if threads <= 1 {
        return all.iter().try_for_each(work);
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (failures, first) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (next, failed, failures) = (&next, &failed, failures.clone());
            scope.spawn(move || {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = work(one) {
                        failed.store(true, Ordering::Relaxed);
                        // The receiver lives until all of these threads have ended.
                        let _ = failures.send(error);
                    }
                }
            });
        }
    });
    drop(failures);
    first.try_iter().next().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn every_value_is_visited_once_and_several_at_the_same_time() {
        let seen: Vec<AtomicUsize> = (0..40).map(|_| AtomicUsize::new(0)).collect();
        let all: Vec<usize> = (0..40).collect();
        // Each of the first four calls waits for the three others, so fewer threads would never end.
        let four = Barrier::new(4);
        let done: Result<(), ()> = for_each_parallel(&all, 4, &|at| {
            if *at < 4 {
                four.wait();
            }
            seen[*at].fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        assert_eq!(done, Ok(()));
        assert!(seen.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    }

    #[test]
    fn no_call_is_started_after_an_error() {
        for at_once in [1, 3] {
            let calls = AtomicUsize::new(0);
            let all: Vec<usize> = (0..1000).collect();
            let done = for_each_parallel(&all, at_once, &|at| {
                calls.fetch_add(1, Ordering::SeqCst);
                if *at == 0 {
                    return Err("first");
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
                Ok(())
            });
            assert_eq!(done, Err("first"));
            assert!(calls.load(Ordering::SeqCst) < 100, "{at_once} threads");
        }
    }
}
