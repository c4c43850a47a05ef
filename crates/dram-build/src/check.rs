//! Verifies a store on all processors, and packs damaged layers again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dram_store::{Checked, Checking, LayerId, Packed, Stamp, Store, StoreError};

use crate::packing::{Compress, compress};

/// Verifies all of `store`; with `repair`, repairs what can be repaired. See [`Store::check`].
///
/// # Errors
/// Returns an error if a file operation fails.
pub fn check(store: &Store, repair: bool) -> Result<Checked, StoreError> {
    store.check(&Checking { repair, parallel: &parallel, repack: &repack })
}

fn parallel(count: usize, job: &(dyn Fn(usize) + Sync)) {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8).min(count);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            job(at);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

fn repack(store: &Store, id: &LayerId, stamp: Stamp, kind: &str) -> Result<Packed, StoreError> {
    let how = Compress::of_kind(kind).unwrap_or_default();
    compress(store, how, |out| store.layers().pack(id, stamp, out))
}
