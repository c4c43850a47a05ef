//! The store as a whole: creating it, opening it, and access to its parts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use dram_image::Limits;
use rustix::fs::FlockOperation;

use crate::file::{self, Durable};
use crate::fresh::Fresh;
use crate::{Blobs, Caches, Failed, Layers, Memory, Places, Refs, Rights, StepKey, StepLock, StoreError, Work, lock};

/// Version of the on-disk layout that this program writes.
const VERSION: u32 = 1;

/// Directories that are created when they are missing.
pub(crate) const DIRECTORIES: [&str; 13] = [
    "work",
    "oci",
    "oci/blobs",
    "oci/blobs/sha256",
    "layers",
    "steps",
    "packs",
    "contexts",
    "downloads",
    "caches",
    "steplocks",
    "seen",
    "fresh",
];

/// Directories that are created only when something is put into them.
pub(crate) const MORE: [&str; 6] = ["failed", "places", "lost", "lent-ids", "one-id", "unprivileged"];
/// Files at the top level of the store.
pub(crate) const FILES: [&str; 5] = ["version", "lock", "refs.lock", "index.copy", "sizes"];
/// Content of the `oci-layout` file.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Location of a store, with its archive limits and its size limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Root directory.
    pub root: PathBuf,
    /// Limits for archives that are extracted into the store.
    pub limits: Limits,
    /// Maximum size in bytes, if the user set one.
    pub most: Option<u64>,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Location {
    fn from(root: &P) -> Location {
        Location { root: root.as_ref().to_owned(), limits: Limits::default(), most: None }
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

/// An open store. While it lives, its shared lock keeps garbage collection out.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    limits: Limits,
    rights: Rights,
    work: Work,
    fresh: Fresh,
    now: OnceLock<i64>,
    most: Option<u64>,
    blob_bytes: OnceLock<Arc<AtomicU64>>,
    /// Misplaced entries that were moved away so that the store could be opened.
    pub(crate) moved: Vec<crate::way::Moved>,
    _lock: File,
}

impl Store {
    /// Opens the store at `place`, creates it (mode 0700) when it is missing, and removes what dead processes left. A
    /// store on a read-only file system can be read.
    ///
    /// # Errors
    /// When the directory cannot be created or written, or is a store of another version.
    pub fn open(place: impl Into<Location>) -> Result<Store, StoreError> {
        let place = place.into();
        let shared = || Store::open_locked(&place, &|path| lock::hold(path, FlockOperation::LockShared));
        let store = shared()?;
        if !store.is_unsettled() {
            return Ok(store);
        }
        let path = store.join("lock");
        drop(store);
        // Other users of the store opened it in this boot and verified its unsynced layers, or it is read-only.
        if let Some(lock) = lock::try_hold(&path, FlockOperation::NonBlockingLockExclusive)? {
            let alone = Store::open_locked(&place, &|_| lock.try_clone().map_err(StoreError::io("lock", &path)))?;
            if alone.work.is_there() {
                alone.settle()?;
            }
        }
        let mut store = shared()?;
        store.suspect();
        Ok(store)
    }

    /// Opens the store exclusively, for garbage collection: waits until no other process uses it, and keeps others out.
    /// `waiting` is called when it has to wait.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_alone(place: impl Into<Location>, waiting: &dyn Fn()) -> Result<Store, StoreError> {
        let lock = |path: &Path| match lock::try_hold(path, FlockOperation::NonBlockingLockExclusive)? {
            Some(lock) => Ok(lock),
            None => {
                waiting();
                lock::hold(path, FlockOperation::LockExclusive)
            }
        };
        let store = Store::open_locked(&place.into(), &lock)?;
        if store.work.is_there() && store.is_unsettled() {
            store.settle()?;
        }
        Ok(store)
    }

    /// Opens the store exclusively without waiting; `None` when another process uses it.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn try_open_alone(place: impl Into<Location>) -> Result<Option<Store>, StoreError> {
        let place = place.into();
        if !place.root.join("version").exists() {
            return Ok(None);
        }
        match lock::try_hold(&place.root.join("lock"), FlockOperation::NonBlockingLockExclusive)? {
            Some(lock) => {
                Store::open_locked(&place, &|path| lock.try_clone().map_err(StoreError::io("lock", path))).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Opens the store for writing.
    ///
    /// # Errors
    /// See [`Store::open`]; a store on a read-only file system is refused.
    pub fn open_to_write(place: impl Into<Location>) -> Result<Store, StoreError> {
        let store = Store::open(place)?;
        store.must_be_writable()?;
        Ok(store)
    }

    /// Refuses a store on a read-only file system.
    ///
    /// # Errors
    /// When the store is on one.
    pub fn must_be_writable(&self) -> Result<(), StoreError> {
        if self.work.is_there() { Ok(()) } else { Err(StoreError::ReadOnly(self.root.clone())) }
    }

    fn open_locked(place: &Location, lock: &dyn Fn(&Path) -> Result<File, StoreError>) -> Result<Store, StoreError> {
        let root = place.root.as_path();
        make_dir(root, 0o700)?;
        // Mounts and helper processes resolve these paths from other working directories.
        let root = fs::canonicalize(root).map_err(StoreError::io("open", root))?;
        // A store of another version is not changed.
        check_version(&root)?;
        let rights = Rights::of_this_process();
        let shelves = rights.shelf().map_or(&[][..], |_| &["layers", "steps"]).iter();
        let all = DIRECTORIES.iter().map(|name| root.join(name)).chain(shelves.map(|name| shelf(&root, rights, name)));
        for path in all {
            make_dir(&path, 0o755).map_err(|error| match crate::way::in_the_way(&root, &path) {
                Some(path) => StoreError::NoDirectory(path),
                None => error,
            })?;
        }
        let lock = lock(&root.join("lock"))?;
        check_version(&root)?;
        let work = Work::new(&root.join("work"))?;
        write_once(&root.join("oci/oci-layout"), LAYOUT, &work)?;
        if !root.join("version").exists() {
            // A directory that existed before the store may be accessible to other users. fsck reports one whose mode
            // cannot be changed.
            let _ = fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o700));
        }
        write_once(&root.join("version"), format!("{VERSION}\n").as_bytes(), &work)?;
        let store = Store {
            root,
            limits: place.limits,
            rights,
            work,
            fresh: Fresh::new(),
            now: OnceLock::new(),
            most: place.most,
            blob_bytes: OnceLock::new(),
            moved: Vec::new(),
            _lock: lock,
        };
        store.refs().ensure()?;
        Ok(store)
    }

    /// Returns the root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the limits for archives that are extracted into the store.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the directory for temporary files of this process.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Returns the time at which this store was opened, by the clock of its file system, in seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        *self.now.get_or_init(|| {
            let made = fs::symlink_metadata(self.work.path());
            made.map_or(0, |meta| std::os::unix::fs::MetadataExt::mtime(&meta))
        })
    }

    /// Returns the size of the underlying file system in bytes; 0 when it is unknown.
    pub fn disk(&self) -> u64 {
        rustix::fs::statvfs(&self.root).map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize))
    }

    /// Returns the maximum size of the store in bytes, if the user set one.
    pub fn most(&self) -> Option<u64> {
        self.most
    }

    /// Returns the total size of the blobs, which is computed on first use.
    pub(crate) fn blob_bytes(&self) -> &OnceLock<Arc<AtomicU64>> {
        &self.blob_bytes
    }

    pub(crate) fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    pub(crate) fn fresh_mut(&mut self) -> &mut Fresh {
        &mut self.fresh
    }

    /// Returns the blobs.
    pub fn blobs(&self) -> Blobs<'_> {
        Blobs::new(self)
    }

    /// Returns the image references.
    pub fn refs(&self) -> Refs<'_> {
        Refs::new(self)
    }

    /// Returns the known locations of blobs in registries.
    pub fn seen(&self) -> crate::Seen<'_> {
        crate::Seen::new(self)
    }

    /// Returns the downloaded files.
    pub fn downloads(&self) -> crate::Downloads<'_> {
        crate::Downloads::new(self)
    }

    /// Returns the extracted layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers::new(self)
    }

    /// Returns the step cache.
    pub fn memory(&self) -> Memory<'_> {
        Memory::new(self)
    }

    /// Returns the contents of cache mounts.
    pub fn caches(&self) -> Caches<'_> {
        Caches::new(self)
    }

    /// Returns the journals of earlier builds.
    pub fn places(&self) -> Places<'_> {
        Places::new(self)
    }

    /// Returns the saved file system of the last command that failed.
    pub fn failed(&self) -> Failed<'_> {
        Failed::new(self)
    }

    /// Locks `what`, for example a layer, against other threads and processes, and waits for the lock.
    pub(crate) fn take_turn(&self, what: &str) -> Result<StepLock, StoreError> {
        self.lock_step(&StepKey::of([what.as_bytes()]), &|| ())
    }

    /// Locks the step `key` against other processes, and waits for the lock. `waiting` is called once when it has to
    /// wait.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn lock_step(&self, key: &StepKey, waiting: &dyn Fn()) -> Result<StepLock, StoreError> {
        StepLock::take(self.root.join("steplocks").join(key.hex()), waiting)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the id mapping of this process.
    pub(crate) fn rights(&self) -> Rights {
        self.rights
    }

    /// Returns the directory `name` of processes with the id mapping `rights`.
    pub(crate) fn shelf_of(&self, rights: Rights, name: &str) -> PathBuf {
        shelf(&self.root, rights, name)
    }

    /// Returns the directory `name` of processes with the id mapping of this one.
    pub(crate) fn shelf(&self, name: &str) -> PathBuf {
        shelf(&self.root, self.rights, name)
    }
}

fn shelf(root: &Path, rights: Rights, name: &str) -> PathBuf {
    match rights.shelf() {
        Some(shelf) => root.join(shelf).join(name),
        None => root.join(name),
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(StoreError::io("make the directory", path))?;
    // Sets the mode explicitly, so that it does not depend on the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(StoreError::io("change the mode of", path))
}

fn write_once(path: &Path, bytes: &[u8], work: &Work) -> Result<(), StoreError> {
    if path.exists() { Ok(()) } else { file::replace(path, bytes, &work.path(), Durable::Yes) }
}

pub(crate) fn check_version(root: &Path) -> Result<(), StoreError> {
    let path = root.join("version");
    if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        return Err(StoreError::Version { path: root.to_owned(), found: String::new(), known: VERSION });
    }
    let Some(text) = file::read_small(&path, 1024)? else { return Ok(()) };
    let found = String::from_utf8_lossy(&text).trim().to_owned();
    if found == VERSION.to_string() {
        return Ok(());
    }
    let found = found.escape_debug().to_string();
    Err(StoreError::Version { path: root.to_owned(), found, known: VERSION })
}
