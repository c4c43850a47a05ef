//! Locks between processes: `flock(2)` on files of the store, released by the kernel when a process ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::StoreError;

/// Opens `path`, creates it when it is missing, and acquires the lock.
pub(crate) fn lock_file(path: &Path, operation: FlockOperation) -> Result<File, StoreError> {
    let file = open_lock_file(path)?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Err(Errno::INTR) => {}
            done => return done.map(|()| file).map_err(StoreError::errno("lock", path)),
        }
    }
}

/// Acquires the lock without waiting; `None` when another process holds it.
pub(crate) fn try_lock_file(path: &Path, operation: FlockOperation) -> Result<Option<File>, StoreError> {
    match lock_file(path, operation) {
        Ok(file) => Ok(Some(file)),
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_lock_file(path: &Path) -> Result<File, StoreError> {
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
    match opened {
        // A store on a read-only file system can still be read under a shared lock.
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(StoreError::io("open", path))
        }
        opened => opened.map_err(StoreError::io("open", path)),
    }
}

/// Lock held while one step is executed; its file is removed afterwards.
#[derive(Debug)]
pub struct StepLock {
    path: PathBuf,
    _file: File,
}

impl StepLock {
    /// Acquires the lock at `path`. `waiting` is called once when another process holds it.
    pub(crate) fn acquire(path: PathBuf, waiting: &dyn Fn()) -> Result<StepLock, StoreError> {
        let mut is_notified = false;
        loop {
            let file = match try_lock_file(&path, FlockOperation::NonBlockingLockExclusive)? {
                Some(file) => file,
                None => {
                    if !is_notified {
                        waiting();
                        is_notified = true;
                    }
                    lock_file(&path, FlockOperation::LockExclusive)?
                }
            };
            // The previous holder may have removed the file: a lock on an unlinked file excludes nobody.
            if is_same_file(&path, &file) {
                return Ok(StepLock { path, _file: file });
            }
        }
    }
}

/// Returns true if `path` still names the open file.
pub(crate) fn is_same_file(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

impl Drop for StepLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
