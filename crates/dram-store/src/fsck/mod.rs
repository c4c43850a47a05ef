//! Looking through a whole store for damage, and mending what can be mended.
//!
//! Nothing that is found is believed: links are not followed, pipes are not waited for, and what a blob or a layer is
//! called is compared with what it holds. What cannot be mended and may be of worth to somebody is moved to `lost/`.

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

/// Calls its second argument for each number below the first, on as many threads as there are processors.
pub type Parallel<'a> = dyn Fn(usize, &(dyn Fn(usize) + Sync)) + 'a;
/// Packs an unpacked layer with a stamp, in the compression of that name, into the blob that it was.
pub type Repack<'a> = dyn Fn(&Store, &LayerId, Stamp, &str) -> Result<Packed, StoreError> + 'a;

/// What a check may do, and with what.
pub struct Checking<'a> {
    /// Mend what is found.
    pub repair: bool,
    /// How to do much at once.
    pub parallel: &'a Parallel<'a>,
    /// How to make a blob again.
    pub repack: &'a Repack<'a>,
}

impl std::fmt::Debug for Checking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checking").field("repair", &self.repair).finish_non_exhaustive()
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where, below the store.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What it costs.
    pub cost: String,
    /// What mending it does, or did.
    pub repair: String,
    /// Whether it was mended.
    pub mended: bool,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Blobs whose content was read.
    pub blobs: usize,
    /// Bytes that they have.
    pub bytes: u64,
    /// Unpacked layers.
    pub layers: usize,
    /// Names of images.
    pub names: usize,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be looked into.
    pub skipped: Vec<Skipped>,
}

/// Something that may be right or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where, below the store.
    pub place: String,
    /// What was not done with it, and why.
    pub why: String,
}

/// A check on its way.
struct Check<'a> {
    store: &'a Store,
    how: &'a Checking<'a>,
    checked: Checked,
    /// Names that need a blob.
    users: BTreeMap<Digest, BTreeSet<String>>,
    /// Where things go that nobody knows.
    lost: Option<PathBuf>,
}

impl Store {
    /// Looks through all of the store. To mend, it must be open alone ([`Store::open_alone`]).
    ///
    /// # Errors
    /// When the disk refuses.
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
    /// Notes what is wrong. `mend` is called when it is to be mended; that it fails is a part of what is told.
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

    /// Notes what cannot be looked into.
    fn skip(&mut self, place: &Path, why: &str) {
        let place = self.shown(place);
        self.checked.skipped.push(Skipped { place, why: why.to_owned() });
    }

    fn shown(&self, place: &Path) -> String {
        place.strip_prefix(self.store.root()).unwrap_or(place).display().to_string()
    }

    /// Moves something that nobody knows out of the way, to `lost/NUMBER/PLACE`.
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

    /// Which images need the blob, for people.
    fn needed_by(&self, digest: &Digest) -> String {
        match self.users.get(digest) {
            Some(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("the image {}", names.join(", "))
            }
            None => "nothing: no image has it".to_owned(),
        }
    }

    /// Calls `look` for each of `all`, several at once, and collects the answers in their order.
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
