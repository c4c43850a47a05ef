//! Places for half-done things. A process owns one directory below `work/`; when the process is gone, however it
//! went, the next one sweeps it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dram_image::TreePath;
use rustix::fs::FlockOperation;

use crate::{Dir, StoreError, beside, file, lock};

/// A directory of this process alone, removed when dropped. In a store that cannot be written there is none, and
/// whoever wants to write is told so by the system.
#[derive(Debug)]
pub struct Work {
    parent: PathBuf,
    name: String,
    next: AtomicU64,
    /// Without one there is no directory: the store is on a read-only file system.
    lock: Option<File>,
}

impl Work {
    /// Makes a directory below `parent` and locks it, after removing those whose owners are gone.
    pub(crate) fn new(parent: &Path) -> Result<Work, StoreError> {
        let name = format!("p{}-{}", std::process::id(), file::random_hex());
        // The gate is closed while a directory is made but not yet locked, and while others are swept.
        let _gate = match lock::hold(&parent.join("gate"), FlockOperation::LockExclusive) {
            Err(error) if error.is_read_only() => {
                return Ok(Work { parent: parent.to_owned(), name, next: AtomicU64::new(0), lock: None });
            }
            gate => gate?,
        };
        let path = parent.join(&name);
        match fs::create_dir(&path).map_err(StoreError::io("make the directory", &path)) {
            Err(error) if error.is_read_only() => {
                return Ok(Work { parent: parent.to_owned(), name, next: AtomicU64::new(0), lock: None });
            }
            made => made?,
        }
        sweep(parent, &name)?;
        let lock = lock::hold(&path.join("lock"), FlockOperation::LockExclusive)?;
        Ok(Work { parent: parent.to_owned(), name, next: AtomicU64::new(0), lock: Some(lock) })
    }

    /// Whether there is a directory at all.
    pub(crate) fn is_there(&self) -> bool {
        self.lock.is_some()
    }

    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// A new empty directory in it.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn fresh(&self) -> Result<PathBuf, StoreError> {
        let path = self.path().join(format!("d{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).map_err(StoreError::io("make the directory", &path))?;
        Ok(path)
    }

    /// Removes a directory made by [`Work::fresh`] before its time.
    pub fn discard(&self, path: &Path) {
        if let (Ok(parent), Some(name)) = (Dir::open(&self.path()), path.file_name()) {
            use std::os::unix::ffi::OsStrExt as _;
            // What cannot be removed now goes with the whole, or with the next sweep.
            let _ = TreePath::parse(name.as_bytes()).map(|name| parent.remove(&name));
            let _ = beside::remove(&beside::table_of(path));
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = remove(&self.parent, self.name.as_bytes());
        }
    }
}

fn remove(parent: &Path, name: &[u8]) -> Result<(), StoreError> {
    Dir::open(parent)?.remove(&TreePath::parse(name)?)
}

/// Removes the directories below `parent` that no living process holds, but for `mine`, which is not locked yet.
fn sweep(parent: &Path, mine: &str) -> Result<(), StoreError> {
    for name in Dir::open(parent)?.names()?.iter().filter(|name| name.starts_with(b"p") && *name != mine.as_bytes()) {
        use std::os::unix::ffi::OsStrExt as _;
        let path = parent.join(std::ffi::OsStr::from_bytes(name)).join("lock");
        // Without its lock file a directory was left between being made and being locked, or half swept.
        let dead = match file::open_quietly(&path) {
            Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if dead {
            match remove(parent, name) {
                // Its owner is not dead but at its end, and removes it as well.
                Err(error) if error.is_not_found() => {}
                done => done?,
            }
        }
    }
    Ok(())
}
