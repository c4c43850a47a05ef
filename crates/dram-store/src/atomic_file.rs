//! Small files that are replaced by an atomic rename.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::StoreError;

/// Durability of a write after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Synced to the disk before the rename.
    Synced,
    /// Not synced: a loss costs only time.
    Unsynced,
}

/// Writes `bytes` to `path` through a temporary file in `work` and an atomic rename. `max_bytes` is the limit with which
/// the file is read: what could not be read is not written.
///
/// # Errors
/// Fails if there are more bytes, or if a file system operation fails.
pub(crate) fn write_atomic(
    path: &Path,
    bytes: &[u8],
    max_bytes: u64,
    work: &Path,
    durable: Durability,
) -> Result<(), StoreError> {
    if bytes.len() as u64 > max_bytes {
        let why = format!("it would be longer than the {max_bytes} bytes that are read");
        return Err(StoreError::io("write", path)(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    let temporary = temp_path(work);
    let written = write_new_file(&temporary, bytes, durable).map_err(StoreError::io("write", &temporary));
    let placed = written.and_then(|()| fs::rename(&temporary, path).map_err(StoreError::io("write", path)));
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed?;
    if durable == Durability::Synced { sync_parent(path) } else { Ok(()) }
}

fn write_new_file(path: &Path, bytes: &[u8], durable: Durability) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    if durable == Durability::Synced { file.sync_all() } else { Ok(()) }
}

/// Syncs the parent directory of `path`, which makes a rename durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(StoreError::io("write", parent))
}

/// Returns an unused path in `work`.
pub(crate) fn temp_path(work: &Path) -> PathBuf {
    work.join(format!("new-{}", random_hex()))
}

/// Returns 16 random hexadecimal digits, for names of temporary files only.
pub(crate) fn random_hex() -> String {
    let mut bytes = [0; 8];
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    debug_assert!(matches!(got, Ok(8)));
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

/// Minimum time in seconds between two records of a use.
const USE_TIME_RESOLUTION: i64 = 3600;

/// Records the use of the file at `path` at `now`, in seconds since 1970: sets its times, at most once an hour.
pub(crate) fn record_use(path: &Path, now: i64) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
    let status = fs::symlink_metadata(path)?;
    if (now - std::os::unix::fs::MetadataExt::mtime(&status)).abs() < USE_TIME_RESOLUTION {
        return Ok(());
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Opens `path` for reading without following a final symbolic link, and without blocking on a pipe.
pub(crate) fn open_no_follow(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Returns the content of a file of at most `max_bytes` bytes; `None` when it does not exist.
pub(crate) fn read_limited(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let fail = || StoreError::io("read", path);
    let file = match open_no_follow(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(fail())?,
    };
    if !file.metadata().map_err(fail())?.is_file() {
        return Err(fail()(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(fail())?;
    if bytes.len() as u64 > max_bytes {
        return Err(fail()(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {max_bytes} bytes"))));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        write_atomic(&path, &[b'a'; 8], 8, dir.path(), Durability::Unsynced).unwrap();
        assert_eq!(read_limited(&path, 8).unwrap().unwrap(), [b'a'; 8]);
        let error = write_atomic(&path, &[b'b'; 9], 8, dir.path(), Durability::Unsynced).unwrap_err();
        assert!(crate::error_chain(&error).contains("longer than the 8 bytes that are read"), "{error}");
        assert_eq!(read_limited(&path, 8).unwrap().unwrap(), [b'a'; 8]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
