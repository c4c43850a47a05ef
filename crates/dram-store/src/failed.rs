//! What the last command that failed left: kept until another one fails, so that somebody can look at it.
//!
//! ```text
//! failed/             one at most
//!   lock              held, shared, by whoever is inside
//!   about             what the command was, as its maker wrote it
//!   upper/            what it changed, in overlay form
//!   N/                files that it saw mounted and that are nowhere else
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use rustix::fs::FlockOperation;

use crate::file::{self, Durable};
use crate::{Dir, Store, StoreError, lock};

/// An environment, some mounts and the names of layers; more is damage.
const LARGEST_ABOUT: u64 = 64 << 20;

/// The room of the last failure.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    store: &'a Store,
}

/// What a command left. It stays as it is while this lives.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    about: Vec<u8>,
    _lock: File,
}

impl Kept {
    /// What was written about it.
    pub fn about(&self) -> &[u8] {
        &self.about
    }

    /// What the command changed, in overlay form.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// The directory that was kept as number `number`.
    pub fn extra(&self, number: usize) -> PathBuf {
        self.directory.join(number.to_string())
    }
}

impl<'a> Failed<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Failed { store }
    }

    fn path(self) -> PathBuf {
        self.store.join("failed")
    }

    /// Keeps `upper` and `extras`, directories of this process's work, in the place of what was kept before. `false`,
    /// with nothing done, when somebody is inside that.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(self, upper: &Path, extras: &[PathBuf], about: &[u8]) -> Result<bool, StoreError> {
        let _turn = self.store.take_turn("what failed last")?;
        if !self.clear()? {
            return Ok(false);
        }
        let place = self.store.work().fresh()?;
        let take = |from: &Path, name: &str| {
            let to = place.join(name);
            fs::rename(from, &to).map_err(StoreError::io("keep", from))
        };
        take(upper, "upper")?;
        for (number, extra) in extras.iter().enumerate() {
            take(extra, &number.to_string())?;
        }
        file::replace(&place.join("about"), about, &self.store.work().path(), Durable::No)?;
        drop(lock::hold(&place.join("lock"), FlockOperation::LockShared)?);
        let path = self.path();
        fs::rename(&place, &path).map_err(StoreError::io("keep", &path)).map(|()| true)
    }

    /// What is kept, held, if anything is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(self) -> Result<Option<Kept>, StoreError> {
        let _turn = self.store.take_turn("what failed last")?;
        let directory = self.path();
        let Some(about) = file::read_small(&directory.join("about"), LARGEST_ABOUT)? else { return Ok(None) };
        let lock = lock::hold(&directory.join("lock"), FlockOperation::LockShared)?;
        Ok(Some(Kept { directory, about, _lock: lock }))
    }

    /// Removes what is kept when `is_it` says so of what was written about it. A failure costs space, nothing else.
    pub fn forget(self, is_it: &dyn Fn(&[u8]) -> bool) {
        let about = || file::read_small(&self.path().join("about"), LARGEST_ABOUT).ok().flatten();
        if self.path().exists() && about().is_some_and(|about| is_it(&about)) {
            let turn = self.store.take_turn("what failed last");
            if turn.is_ok() && about().is_some_and(|about| is_it(&about)) {
                let _ = self.clear();
            }
        }
    }

    /// Removes what is kept. `false` when somebody is inside.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn remove(self) -> Result<bool, StoreError> {
        let _turn = self.store.take_turn("what failed last")?;
        self.clear()
    }

    /// The caller has the turn.
    fn clear(self) -> Result<bool, StoreError> {
        let path = self.path();
        if !path.exists() {
            return Ok(true);
        }
        if lock::try_hold(&path.join("lock"), FlockOperation::NonBlockingLockExclusive)?.is_none() {
            return Ok(false);
        }
        Dir::open(self.store.root())?.remove(&TreePath::parse(b"failed")?).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failure_takes_the_place_of_the_one_before_but_nobodys_under_their_feet() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let failed = store.failed();
        assert!(failed.open().unwrap().is_none());
        let fail = |name: &str| {
            let (upper, extra) = (store.work().fresh().unwrap(), store.work().fresh().unwrap());
            fs::write(upper.join(name), "").unwrap();
            failed.keep(&upper, &[extra], name.as_bytes()).unwrap()
        };
        assert!(fail("a") && fail("b"));
        let kept = failed.open().unwrap().unwrap();
        assert_eq!(kept.about(), b"b");
        assert!(kept.upper().join("b").exists() && kept.extra(0).is_dir());
        assert!(!fail("c"), "somebody looks at b");
        failed.forget(&|about| about == b"b");
        drop(kept);
        failed.forget(&|about| about == b"a");
        assert_eq!(failed.open().unwrap().unwrap().about(), b"b");
        failed.forget(&|about| about == b"b");
        assert!(failed.open().unwrap().is_none());
    }
}
