//! Migration of a store from format version 1 to version 2 (`docs/store-format.md`).
//!
//! Version 2 has other names for five directories, and names may lead to an index. The lock of the store is held
//! exclusively. Each step is an atomic rename, or does nothing if it was done before, and `version` is written last:
//! after a kill at any moment, the next process does the rest.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use rustix::fs::FlockOperation;

use crate::atomic_file::{self, Durability};
use crate::store::{MAX_VERSION_BYTES, StoreVersion, VERSION, create_dir, read_version};
use crate::{Dir, LayerId, ProcessWorkDir, Store, StoreError, StoreLocation, lock};

/// One step of the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MigrationStep {
    /// Renames the markers of unsynced layers that end with the old name of a directory.
    RenameMarkers { old: &'static str, new: &'static str },
    /// Renames a directory at the top level.
    RenameDir { old: &'static str, new: &'static str },
    /// Syncs the root directory.
    SyncRoot,
    /// Writes the new version.
    WriteVersion,
}

/// All steps. Markers are renamed while they are still in their old directory.
const STEPS: [MigrationStep; 9] = [
    MigrationStep::RenameMarkers { old: "lent-ids", new: "subordinate" },
    MigrationStep::RenameMarkers { old: "one-id", new: "single" },
    MigrationStep::RenameDir { old: OLD_MARKER_DIR, new: "unsynced" },
    MigrationStep::RenameDir { old: "seen", new: "blob-locations" },
    MigrationStep::RenameDir { old: "places", new: "history" },
    MigrationStep::RenameDir { old: "lent-ids", new: "subordinate" },
    MigrationStep::RenameDir { old: "one-id", new: "single" },
    MigrationStep::SyncRoot,
    MigrationStep::WriteVersion,
];
/// Directory of the markers in version 1.
const OLD_MARKER_DIR: &str = "fresh";

impl Store {
    /// Migrates the store at `place` if it has an older version. That takes the lock of the store exclusively;
    /// `waiting` is called if other processes use the store. [`Store::open`] does the same without a message.
    ///
    /// # Errors
    /// When the store is read-only or has an unknown version, or a file system operation fails.
    pub fn migrate(place: impl Into<StoreLocation>, waiting: &dyn Fn()) -> Result<(), StoreError> {
        migrate_if_old(&place.into().root, &|path| match lock::try_lock_file(
            path,
            FlockOperation::NonBlockingLockExclusive,
        )? {
            Some(lock) => Ok(Some(lock)),
            None => {
                waiting();
                lock::lock_file(path, FlockOperation::LockExclusive).map(Some)
            }
        })
        .map(drop)
    }
}

/// Migrates the store if nobody uses it. Returns false if it is of an older version and in use.
pub(crate) fn try_migrate(root: &Path) -> Result<bool, StoreError> {
    migrate_if_old(root, &|path| lock::try_lock_file(path, FlockOperation::NonBlockingLockExclusive))
}

/// Migrates the store if it has an older version. Returns false if `lock` returned no lock.
fn migrate_if_old(root: &Path, lock: &dyn Fn(&Path) -> Result<Option<File>, StoreError>) -> Result<bool, StoreError> {
    if read_version(root)? != StoreVersion::Old {
        return Ok(true);
    }
    create_dir(&root.join("work"), 0o755)?;
    let work = ProcessWorkDir::new(&root.join("work"))?;
    if !work.is_writable() {
        return Err(StoreError::OldAndReadOnly { path: root.to_owned(), known: VERSION });
    }
    let Some(_lock) = lock(&root.join("lock"))? else { return Ok(false) };
    // Another process may have migrated it in the meantime.
    if read_version(root)? == StoreVersion::Old {
        STEPS.iter().try_for_each(|step| step.apply(root, &work))?;
    }
    Ok(true)
}

impl MigrationStep {
    fn apply(self, root: &Path, work: &ProcessWorkDir) -> Result<(), StoreError> {
        match self {
            MigrationStep::RenameMarkers { old, new } => rename_markers(&root.join(OLD_MARKER_DIR), old, new),
            MigrationStep::RenameDir { old, new } => rename_dir(&root.join(old), &root.join(new)),
            MigrationStep::SyncRoot => sync_dir(root),
            MigrationStep::WriteVersion => {
                let text = format!("{VERSION}\n");
                let (path, work) = (root.join("version"), work.path());
                atomic_file::write_atomic(&path, text.as_bytes(), MAX_VERSION_BYTES, &work, Durability::Synced)
            }
        }
    }
}

/// Renames the markers `ID@OLD` to `ID@NEW`.
fn rename_markers(dir: &Path, old: &str, new: &str) -> Result<(), StoreError> {
    for boot in child_dirs(dir)? {
        for name in Dir::open(&boot)?.names()? {
            let Some(id) = std::str::from_utf8(&name).ok().and_then(|name| name.strip_suffix(old)?.strip_suffix('@'))
            else {
                continue;
            };
            let (from, to) = (child(&boot, &name), boot.join(format!("{id}@{new}")));
            fs::rename(&from, &to).map_err(StoreError::io("move", &from))?;
        }
        sync_dir(&boot)?;
    }
    Ok(())
}

fn child_dirs(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !is_dir(dir) {
        return Ok(Vec::new());
    }
    let names = Dir::open(dir)?.names()?;
    Ok(names.iter().map(|name| child(dir, name)).filter(|path| is_dir(path)).collect())
}

fn child(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(std::ffi::OsStr::from_bytes(name))
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Renames the directory `from`. If `to` exists too, because a program of version 1 used the store after an interrupted
/// migration, the contents of both are merged.
fn rename_dir(from: &Path, to: &Path) -> Result<(), StoreError> {
    // Something else in its place is reported by `dram fsck`.
    if !is_dir(from) {
        return Ok(());
    }
    match fs::rename(from, to) {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            merge_dirs(from, to)
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(StoreError::NotADirectory(to.to_owned())),
        done => done.map_err(StoreError::io("move", from)),
    }
}

/// Moves the entries of `from` into `to`, and removes `from`. Of two entries with one name, directories are merged, and
/// otherwise the one in `to` stays: both are the same layer, or records of equal worth.
fn merge_dirs(from: &Path, to: &Path) -> Result<(), StoreError> {
    let source = Dir::open(from)?;
    for name in source.names()? {
        let (old, new) = (child(from, &name), child(to, &name));
        let is_layer = std::str::from_utf8(&name).is_ok_and(|name| name.parse::<LayerId>().is_ok());
        if fs::symlink_metadata(&new).is_err() {
            fs::rename(&old, &new).map_err(StoreError::io("move", &old))?;
        } else if is_dir(&old) && is_dir(&new) && !is_layer {
            merge_dirs(&old, &new)?;
        } else {
            source.remove(&TreePath::parse(&name)?)?;
        }
    }
    sync_dir(to)?;
    fs::remove_dir(from).map_err(StoreError::io("remove", from))
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests;
