//! Temporary directories. A process owns one directory below `work/`; once the process is gone, even by a crash, the
//! next process removes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dram_image::TreePath;
use rustix::fs::FlockOperation;

use crate::{Dir, StoreError, atomic_file, lock, ownership};

/// The temporary directory of this process, removed when dropped. On a read-only file system the directory does not
/// exist, and writes to it fail.
#[derive(Debug)]
pub struct ProcessWorkDir {
    parent: PathBuf,
    name: String,
    next: AtomicU64,
    /// `None` when the store is on a read-only file system: the directory does not exist.
    lock: Option<File>,
}

impl ProcessWorkDir {
    /// Creates a directory below `parent` and locks it, after removing those of dead processes.
    pub(crate) fn new(parent: &Path) -> Result<ProcessWorkDir, StoreError> {
        let name = format!("p{}-{}", std::process::id(), atomic_file::random_hex());
        // The gate lock is held between creating and locking a directory, and while dead directories are removed.
        let _gate = match lock::lock_file(&parent.join("gate"), FlockOperation::LockExclusive) {
            Err(error) if error.is_read_only() => {
                return Ok(ProcessWorkDir { parent: parent.to_owned(), name, next: AtomicU64::new(0), lock: None });
            }
            gate => gate?,
        };
        let path = parent.join(&name);
        match fs::create_dir(&path).map_err(StoreError::io("make the directory", &path)) {
            Err(error) if error.is_read_only() => {
                return Ok(ProcessWorkDir { parent: parent.to_owned(), name, next: AtomicU64::new(0), lock: None });
            }
            made => made?,
        }
        sweep_dead_processes(parent, &name)?;
        let lock = lock::lock_file(&path.join("lock"), FlockOperation::LockExclusive)?;
        Ok(ProcessWorkDir { parent: parent.to_owned(), name, next: AtomicU64::new(0), lock: Some(lock) })
    }

    /// Returns true if the directory exists, that is, if the store is writable.
    pub(crate) fn is_writable(&self) -> bool {
        self.lock.is_some()
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Creates a new empty directory in it.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn temp_dir(&self) -> Result<PathBuf, StoreError> {
        let path = self.path().join(format!("d{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).map_err(StoreError::io("make the directory", &path))?;
        Ok(path)
    }

    /// Removes a directory made by [`ProcessWorkDir::temp_dir`] early.
    pub fn remove_temp_dir(&self, path: &Path) {
        if let (Ok(parent), Some(name)) = (Dir::open(&self.path()), path.file_name()) {
            use std::os::unix::ffi::OsStrExt as _;
            // Whatever cannot be removed now is removed with the whole directory, or by the next process.
            let _ = TreePath::parse(name.as_bytes()).map(|name| parent.remove(&name));
            let _ = ownership::remove_table(&ownership::ownership_table_path(path));
        }
    }
}

impl Drop for ProcessWorkDir {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = remove_child(&self.parent, self.name.as_bytes());
        }
    }
}

fn remove_child(parent: &Path, name: &[u8]) -> Result<(), StoreError> {
    Dir::open(parent)?.remove(&TreePath::parse(name)?)
}

/// Removes the directories of dead processes below `parent`, except `mine`, which is not locked yet. Fails only when
/// `parent` cannot be listed.
fn sweep_dead_processes(parent: &Path, mine: &str) -> Result<(), StoreError> {
    for name in Dir::open(parent)?.names()?.iter().filter(|name| name.starts_with(b"p") && *name != mine.as_bytes()) {
        use std::os::unix::ffi::OsStrExt as _;
        let path = parent.join(std::ffi::OsStr::from_bytes(name)).join("lock");
        // A directory without a lock file was created but not locked yet, or is half removed.
        let dead = match atomic_file::open_no_follow(&path) {
            Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if dead {
            // Its owner may still be exiting, and removes the directory as well. What cannot be removed does not keep
            // this process from its work: `fsck` names it, as does every later attempt to remove it.
            let _ = remove_child(parent, name);
        }
    }
    Ok(())
}
