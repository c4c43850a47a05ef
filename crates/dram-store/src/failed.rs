//! The file system of the last command that failed: kept until another command fails, so that it can be inspected.
//!
//! ```text
//! failed/             at most one
//!   lock              shared lock of each process that uses it
//!   about             description of the command, in the caller's format
//!   upper/            changes of the command: the overlayfs upper directory
//!   N/                files that were mounted for the command and exist nowhere else
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use rustix::fs::FlockOperation;

use crate::file::{self, Durable};
use crate::{Dir, Store, StoreError, lock};

/// Maximum size of a description: an environment, some mounts and layer ids. A longer one is damaged.
const LARGEST_ABOUT: u64 = 64 << 20;

/// The storage of the last failed command.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    store: &'a Store,
}

/// The saved file system of a failed command. It cannot be replaced while this lives.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    about: Vec<u8>,
    _lock: File,
}

impl Kept {
    /// Returns the description of the command.
    pub fn about(&self) -> &[u8] {
        &self.about
    }

    /// Returns the overlayfs upper directory with the changes of the command.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Returns the extra directory with this number.
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

    /// Saves `upper` and `extras`, which are directories in this process's work directory, and replaces the previous
    /// command. Returns `false`, without changes, when a process uses the previous one.
    ///
    /// # Errors
    /// When a file system operation fails.
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

    /// Returns the saved file system under a shared lock, if there is one.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn open(self) -> Result<Option<Kept>, StoreError> {
        let _turn = self.store.take_turn("what failed last")?;
        let directory = self.path();
        let Some(about) = file::read_small(&directory.join("about"), LARGEST_ABOUT)? else { return Ok(None) };
        let lock = lock::hold(&directory.join("lock"), FlockOperation::LockShared)?;
        Ok(Some(Kept { directory, about, _lock: lock }))
    }

    /// Removes the saved file system if `is_it` accepts its description. A failure only costs space.
    pub fn forget(self, is_it: &dyn Fn(&[u8]) -> bool) {
        let about = || file::read_small(&self.path().join("about"), LARGEST_ABOUT).ok().flatten();
        if self.path().exists() && about().is_some_and(|about| is_it(&about)) {
            let turn = self.store.take_turn("what failed last");
            if turn.is_ok() && about().is_some_and(|about| is_it(&about)) {
                let _ = self.clear();
            }
        }
    }

    /// Removes the saved file system. Returns `false` when a process uses it.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub(crate) fn remove(self) -> Result<bool, StoreError> {
        let _turn = self.store.take_turn("what failed last")?;
        self.clear()
    }

    /// The caller must hold the lock of [`Store::lock_subject`].
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
    fn new_failure_replaces_the_saved_one_unless_that_is_in_use() {
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
