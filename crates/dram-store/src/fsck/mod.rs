//! Verifies a whole store, and repairs damage where that is possible.
//!
//! The content of the store is untrusted: symbolic links are not followed, pipes do not block, and the names of blobs
//! and layers are compared with their content. Unrepairable data that may be valuable is moved to `lost/`.

mod check_blobs;
mod check_layers;
mod check_names;
mod check_records;
mod check_root;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dram_image::Digest;

use crate::{LayerId, PackedLayer, PackedTimes, Store, StoreError};

/// Calls its second argument for each number below the first, in parallel on all processors.
pub type ParallelFn<'a> = dyn Fn(usize, &(dyn Fn(usize) + Sync)) + 'a;
/// Packs an extracted layer with a rule for times and a compression, to restore its blob.
pub type RepackFn<'a> = dyn Fn(&Store, &LayerId, PackedTimes, &str) -> Result<PackedLayer, StoreError> + 'a;

/// Options and callbacks of a verification.
pub struct FsckOptions<'a> {
    /// Repairs damage.
    pub repair: bool,
    /// Runs work in parallel.
    pub parallel: &'a ParallelFn<'a>,
    /// Restores a blob from an extracted layer.
    pub repack: &'a RepackFn<'a>,
}

impl std::fmt::Debug for FsckOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FsckOptions").field("repair", &self.repair).finish_non_exhaustive()
    }
}

/// Damage that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsckFinding {
    /// Path below the root of the store.
    pub path: String,
    /// Description of the damage.
    pub problem: String,
    /// Loss that the repair causes.
    pub cost: String,
    /// Description of the repair that would be done, or was done.
    pub repair: String,
    /// True if it was repaired.
    pub repaired: bool,
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsckReport {
    /// Number of intact blobs.
    pub blobs: usize,
    /// Total size of these blobs in bytes.
    pub bytes: u64,
    /// Number of extracted layers.
    pub layers: usize,
    /// Number of image references.
    pub names: usize,
    /// Damage that was found.
    pub findings: Vec<FsckFinding>,
    /// Objects that could not be verified.
    pub skipped: Vec<SkippedCheck>,
}

/// An object that could not be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedCheck {
    /// Path below the root of the store.
    pub path: String,
    /// Description of what was not verified, and the reason.
    pub reason: String,
}

/// A running verification.
struct FsckRun<'a> {
    store: &'a Store,
    options: &'a FsckOptions<'a>,
    report: FsckReport,
    /// Names of the images that need each blob.
    images_by_blob: BTreeMap<Digest, BTreeSet<String>>,
    /// Directory for unknown files, once it is needed.
    lost_dir: Option<PathBuf>,
}

impl Store {
    /// Verifies the whole store. For repairs, it must be open exclusively ([`Store::open_exclusive`]).
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn fsck(&self, options: &FsckOptions<'_>) -> Result<FsckReport, StoreError> {
        let mut check = FsckRun {
            store: self,
            options,
            report: FsckReport::default(),
            images_by_blob: BTreeMap::new(),
            lost_dir: None,
        };
        check.check_root()?;
        check.check_index()?;
        check.collect_blob_users();
        check.check_blobs()?;
        check.check_names()?;
        check.check_records()?;
        Ok(check.report)
    }
}

impl FsckRun<'_> {
    /// Reports damage. `mend` is called if repairs are requested; its failure is part of the report.
    fn report_finding(
        &mut self,
        place: &Path,
        what: impl Into<String>,
        cost: impl Into<String>,
        repair: &str,
        mend: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) {
        let mut repair = repair.to_owned();
        let mut mended = false;
        if self.options.repair {
            match mend(self) {
                Ok(()) => mended = true,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    repair = format!("{repair}; this failed: {error}{cause}");
                }
            }
        }
        let place = self.display_path(place);
        let (what, cost) = (what.into(), cost.into());
        self.report.findings.push(FsckFinding { path: place, problem: what, cost, repair, repaired: mended });
    }

    /// Reports something that cannot be verified.
    fn report_skipped(&mut self, place: &Path, why: &str) {
        let place = self.display_path(place);
        self.report.skipped.push(SkippedCheck { path: place, reason: why.to_owned() });
    }

    fn display_path(&self, place: &Path) -> String {
        place.strip_prefix(self.store.root()).unwrap_or(place).display().to_string()
    }

    /// Moves an unknown file to `lost/NUMBER/PATH`.
    fn move_to_lost(&mut self, path: &Path) -> Result<(), StoreError> {
        let lost = match &self.lost_dir {
            Some(lost) => lost.clone(),
            None => {
                let free = crate::misplaced::unused_numbered_path(&self.store.join("lost"), "");
                self.lost_dir.insert(free).clone()
            }
        };
        let to = lost.join(path.strip_prefix(self.store.root()).unwrap_or(path));
        let parent = to.parent().unwrap_or(&lost);
        fs::create_dir_all(parent).map_err(StoreError::io("make the directory", parent))?;
        fs::rename(path, &to).map_err(StoreError::io("move", path))
    }

    /// Returns the images that need the blob, for messages.
    fn needed_by(&self, digest: &Digest) -> String {
        match self.images_by_blob.get(digest) {
            Some(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("the image {}", names.join(", "))
            }
            None => "nothing: no image has it".to_owned(),
        }
    }

    /// Calls `function` for each of `all` in parallel, and returns the results in order.
    fn map_parallel<T: Sync, R: Send>(&self, all: &[T], function: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let found: Mutex<BTreeMap<usize, R>> = Mutex::new(BTreeMap::new());
        (self.options.parallel)(all.len(), &|index| {
            let answer = function(&all[index]);
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(index, answer);
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }
}

#[cfg(test)]
mod tests;
