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

use crate::atomic_file::{self, Durability};
use crate::{Dir, Store, StoreError, lock};

/// Maximum size of a description: an environment, some mounts and layer ids. A longer one is damaged.
const MAX_DESCRIPTION_SIZE: u64 = 64 << 20;

/// The storage of the last failed command.
#[derive(Debug, Clone, Copy)]
pub struct FailedCommandStore<'a> {
    store: &'a Store,
}

/// The saved file system of a failed command. It cannot be replaced while this lives.
#[derive(Debug)]
pub struct SavedFailedCommand {
    directory: PathBuf,
    description: Vec<u8>,
    _lock: File,
}

impl SavedFailedCommand {
    /// Returns the description of the command.
    pub fn description(&self) -> &[u8] {
        &self.description
    }

    /// Returns the overlayfs upper directory with the changes of the command.
    pub fn upper_dir(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Returns the extra directory with this number.
    pub fn extra_dir(&self, number: usize) -> PathBuf {
        self.directory.join(number.to_string())
    }
}

impl<'a> FailedCommandStore<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        FailedCommandStore { store }
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
        let _turn = self.store.lock_subject("what failed last")?;
        if !self.remove_locked()? {
            return Ok(false);
        }
        let place = self.store.work_dir().temp_dir()?;
        let take = |from: &Path, name: &str| {
            let to = place.join(name);
            fs::rename(from, &to).map_err(StoreError::io("keep", from))
        };
        take(upper, "upper")?;
        for (number, extra) in extras.iter().enumerate() {
            take(extra, &number.to_string())?;
        }
        let work = self.store.work_dir().path();
        atomic_file::write_atomic(&place.join("about"), about, MAX_DESCRIPTION_SIZE, &work, Durability::Unsynced)?;
        drop(lock::lock_file(&place.join("lock"), FlockOperation::LockShared)?);
        let path = self.path();
        fs::rename(&place, &path).map_err(StoreError::io("keep", &path)).map(|()| true)
    }

    /// Returns the saved file system under a shared lock, if there is one.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn open(self) -> Result<Option<SavedFailedCommand>, StoreError> {
        let _turn = self.store.lock_subject("what failed last")?;
        let directory = self.path();
        let Some(about) = atomic_file::read_limited(&directory.join("about"), MAX_DESCRIPTION_SIZE)? else {
            return Ok(None);
        };
        let lock = lock::lock_file(&directory.join("lock"), FlockOperation::LockShared)?;
        Ok(Some(SavedFailedCommand { directory, description: about, _lock: lock }))
    }

    /// Removes the saved file system if `is_it` accepts its description. A failure only costs space.
    pub fn remove_if(self, is_it: &dyn Fn(&[u8]) -> bool) {
        let about = || atomic_file::read_limited(&self.path().join("about"), MAX_DESCRIPTION_SIZE).ok().flatten();
        if self.path().exists() && about().is_some_and(|about| is_it(&about)) {
            let turn = self.store.lock_subject("what failed last");
            if turn.is_ok() && about().is_some_and(|about| is_it(&about)) {
                let _ = self.remove_locked();
            }
        }
    }

    /// Removes the saved file system. Returns `false` when a process uses it.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub(crate) fn remove(self) -> Result<bool, StoreError> {
        let _turn = self.store.lock_subject("what failed last")?;
        self.remove_locked()
    }

    /// The caller must hold the lock of [`Store::lock_subject`].
    fn remove_locked(self) -> Result<bool, StoreError> {
        let path = self.path();
        if !path.exists() {
            return Ok(true);
        }
        if lock::try_lock_file(&path.join("lock"), FlockOperation::NonBlockingLockExclusive)?.is_none() {
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
        let failed = store.failed_command();
        assert!(failed.open().unwrap().is_none());
        let fail = |name: &str| {
            let (upper, extra) = (store.work_dir().temp_dir().unwrap(), store.work_dir().temp_dir().unwrap());
            fs::write(upper.join(name), "").unwrap();
            failed.keep(&upper, &[extra], name.as_bytes()).unwrap()
        };
        assert!(fail("a") && fail("b"));
        let kept = failed.open().unwrap().unwrap();
        assert_eq!(kept.description(), b"b");
        assert!(kept.upper_dir().join("b").exists() && kept.extra_dir(0).is_dir());
        assert!(!fail("c"), "somebody looks at b");
        failed.remove_if(&|about| about == b"b");
        drop(kept);
        failed.remove_if(&|about| about == b"a");
        assert_eq!(failed.open().unwrap().unwrap().description(), b"b");
        failed.remove_if(&|about| about == b"b");
        assert!(failed.open().unwrap().is_none());
    }
}
