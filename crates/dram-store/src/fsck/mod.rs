//! Verifies a whole store, and repairs damage where that is possible.
//!
//! The content of the store is untrusted: symbolic links are not followed, pipes do not block, and the names of blobs
//! and layers are compared with their content. Unrepairable data that may be valuable is moved to `lost/`.

mod blobs;
mod frame;
mod layers;
mod names;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dram_image::Digest;

use crate::{LayerId, Packed, Stamp, Store, StoreError};

/// Calls its second argument for each number below the first, in parallel on all processors.
pub type Parallel<'a> = dyn Fn(usize, &(dyn Fn(usize) + Sync)) + 'a;
/// Packs an extracted layer with a stamp and a compression, to restore its blob.
pub type Repack<'a> = dyn Fn(&Store, &LayerId, Stamp, &str) -> Result<Packed, StoreError> + 'a;

/// Options and callbacks of a verification.
pub struct Checking<'a> {
    /// Repairs damage.
    pub repair: bool,
    /// Runs work in parallel.
    pub parallel: &'a Parallel<'a>,
    /// Restores a blob from an extracted layer.
    pub repack: &'a Repack<'a>,
}

impl std::fmt::Debug for Checking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checking").field("repair", &self.repair).finish_non_exhaustive()
    }
}

/// Damage that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path below the root of the store.
    pub place: String,
    /// Description of the damage.
    pub what: String,
    /// Loss that the repair causes.
    pub cost: String,
    /// Description of the repair that would be done, or was done.
    pub repair: String,
    /// True if it was repaired.
    pub mended: bool,
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Number of intact blobs.
    pub blobs: usize,
    /// Total size of these blobs in bytes.
    pub bytes: u64,
    /// Number of extracted layers.
    pub layers: usize,
    /// Number of image references.
    pub names: usize,
    /// Damage that was found.
    pub findings: Vec<Finding>,
    /// Objects that could not be verified.
    pub skipped: Vec<Skipped>,
}

/// An object that could not be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Path below the root of the store.
    pub place: String,
    /// Description of what was not verified, and the reason.
    pub why: String,
}

/// A running verification.
struct Check<'a> {
    store: &'a Store,
    how: &'a Checking<'a>,
    checked: Checked,
    /// Names of the images that need each blob.
    users: BTreeMap<Digest, BTreeSet<String>>,
    /// Directory for unknown files, once it is needed.
    lost: Option<PathBuf>,
}

impl Store {
    /// Verifies the whole store. For repairs, it must be open exclusively ([`Store::open_exclusive`]).
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn check(&self, how: &Checking<'_>) -> Result<Checked, StoreError> {
        let mut check = Check { store: self, how, checked: Checked::default(), users: BTreeMap::new(), lost: None };
        check.frame()?;
        check.index()?;
        check.gather_users();
        check.blobs()?;
        check.names()?;
        check.rooms()?;
        Ok(check.checked)
    }
}

impl Check<'_> {
    /// Reports damage. `mend` is called if repairs are requested; its failure is part of the report.
    fn find(
        &mut self,
        place: &Path,
        what: impl Into<String>,
        cost: impl Into<String>,
        repair: &str,
        mend: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) {
        let mut repair = repair.to_owned();
        let mut mended = false;
        if self.how.repair {
            match mend(self) {
                Ok(()) => mended = true,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    repair = format!("{repair}; this failed: {error}{cause}");
                }
            }
        }
        let place = self.shown(place);
        let (what, cost) = (what.into(), cost.into());
        self.checked.findings.push(Finding { place, what, cost, repair, mended });
    }

    /// Reports something that cannot be verified.
    fn skip(&mut self, place: &Path, why: &str) {
        let place = self.shown(place);
        self.checked.skipped.push(Skipped { place, why: why.to_owned() });
    }

    fn shown(&self, place: &Path) -> String {
        place.strip_prefix(self.store.root()).unwrap_or(place).display().to_string()
    }

    /// Moves an unknown file to `lost/NUMBER/PATH`.
    fn lose(&mut self, path: &Path) -> Result<(), StoreError> {
        let lost = match &self.lost {
            Some(lost) => lost.clone(),
            None => {
                let free = crate::way::free(&self.store.join("lost"), "");
                self.lost.insert(free).clone()
            }
        };
        let to = lost.join(path.strip_prefix(self.store.root()).unwrap_or(path));
        let parent = to.parent().unwrap_or(&lost);
        fs::create_dir_all(parent).map_err(StoreError::io("make the directory", parent))?;
        fs::rename(path, &to).map_err(StoreError::io("move", path))
    }

    /// Returns the images that need the blob, for messages.
    fn needed_by(&self, digest: &Digest) -> String {
        match self.users.get(digest) {
            Some(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("the image {}", names.join(", "))
            }
            None => "nothing: no image has it".to_owned(),
        }
    }

    /// Calls `look` for each of `all` in parallel, and returns the results in order.
    fn each<T: Sync, R: Send>(&self, all: &[T], look: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let found: Mutex<BTreeMap<usize, R>> = Mutex::new(BTreeMap::new());
        (self.how.parallel)(all.len(), &|at| {
            let answer = look(&all[at]);
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(at, answer);
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }
}

#[cfg(test)]
mod tests;
