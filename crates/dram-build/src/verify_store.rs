//! Verifies a store on all processors, and packs damaged layers again.

use std::convert::Infallible;
use std::thread;

use dram_store::{FsckOptions, FsckReport, LayerId, PackedLayer, PackedTimes, Store, StoreError};

use crate::compress_layer::{LayerCompression, compress_layer};
use crate::parallel::for_each_parallel;

/// Verifies all of `store`; with `repair`, repairs what can be repaired. See [`Store::fsck`].
///
/// # Errors
/// Returns an error if a file operation fails.
pub fn verify_store(store: &Store, repair: bool) -> Result<FsckReport, StoreError> {
    store.fsck(&FsckOptions { repair, parallel: &run_parallel, repack: &repack_layer })
}

fn run_parallel(count: usize, job: &(dyn Fn(usize) + Sync)) {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let numbers: Vec<usize> = (0..count).collect();
    let done: Result<(), Infallible> = for_each_parallel(&numbers, threads, &|number| {
        job(*number);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

fn repack_layer(store: &Store, id: &LayerId, times: PackedTimes, kind: &str) -> Result<PackedLayer, StoreError> {
    let how = LayerCompression::from_short_name(kind).unwrap_or_default();
    compress_layer(store, how, |out| store.layers().pack(id, times, out))
}
