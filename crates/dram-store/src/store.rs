//! The store as a whole: creating it, opening it, and access to its parts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use dram_image::ArchiveLimits;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::atomic_file::{self, Durability};
use crate::unsynced::UnsyncedLayers;
use crate::{
    Blobs, BuildHistory, CacheMounts, FailedCommandStore, IdMapping, ImageRefs, Layers, ProcessWorkDir, StepCache,
    StepKey, StepLock, StoreError, lock, migration,
};

/// Version of the on-disk layout that this program writes.
pub(crate) const VERSION: u32 = 2;
/// The largest file `version` or `oci-layout`, in bytes.
pub(crate) const MAX_VERSION_BYTES: u64 = 1024;
/// Version of older stores, which are migrated when they are opened.
const OLD_VERSION: &str = "1";

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
    "blob-locations",
    "unsynced",
];

/// Directories that are created only when something is put into them.
pub(crate) const OPTIONAL_DIRECTORIES: [&str; 6] =
    ["failed", "history", "lost", "subordinate", "single", "unprivileged"];
/// Files at the top level of the store.
pub(crate) const TOP_LEVEL_FILES: [&str; 5] = ["version", "lock", "refs.lock", "index.copy", "sizes"];
/// Content of the `oci-layout` file.
pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Location of a store, with its archive limits and its size limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLocation {
    /// Root directory.
    pub root: PathBuf,
    /// Limits for archives that are extracted into the store.
    pub limits: ArchiveLimits,
    /// Maximum size in bytes, if the user set one.
    pub max_bytes: Option<u64>,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for StoreLocation {
    fn from(root: &P) -> StoreLocation {
        StoreLocation { root: root.as_ref().to_owned(), limits: ArchiveLimits::default(), max_bytes: None }
    }
}

impl From<&StoreLocation> for StoreLocation {
    fn from(location: &StoreLocation) -> StoreLocation {
        location.clone()
    }
}

/// An open store. While it lives, its shared lock keeps garbage collection out.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    limits: ArchiveLimits,
    id_mapping: IdMapping,
    work: ProcessWorkDir,
    unsynced: UnsyncedLayers,
    opened_at: OnceLock<i64>,
    max_bytes: Option<u64>,
    blob_bytes: OnceLock<Arc<AtomicU64>>,
    /// Misplaced entries that were moved away so that the store could be opened.
    pub(crate) misplaced: Vec<crate::misplaced::MisplacedPath>,
    _lock: File,
}

impl Store {
    /// Opens the store at `place`, creates it (mode 0700) when it is missing, and removes what dead processes left. A
    /// store of an older version is migrated first. A store on a read-only file system can be read.
    ///
    /// # Errors
    /// When the directory cannot be created or written, or is a store of another version.
    pub fn open(place: impl Into<StoreLocation>) -> Result<Store, StoreError> {
        let place = place.into();
        Store::migrate(&place, &|| ())?;
        let shared = || Store::open_locked(&place, &|path| lock::lock_file(path, FlockOperation::LockShared));
        let store = shared()?;
        if !store.has_markers_of_other_boots() {
            return Ok(store);
        }
        let path = store.join("lock");
        drop(store);
        // Other users of the store opened it in this boot and verified its unsynced layers, or it is read-only.
        if let Some(lock) = lock::try_lock_file(&path, FlockOperation::NonBlockingLockExclusive)? {
            let alone = Store::open_locked(&place, &|_| lock.try_clone().map_err(StoreError::io("lock", &path)))?;
            if alone.work.is_writable() {
                alone.verify_unsynced()?;
            }
        }
        let mut store = shared()?;
        store.load_suspects();
        Ok(store)
    }

    /// Opens the store exclusively, for garbage collection: waits until no other process uses it, and keeps others out.
    /// `waiting` is called when it has to wait.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_exclusive(place: impl Into<StoreLocation>, waiting: &dyn Fn()) -> Result<Store, StoreError> {
        let place = place.into();
        Store::migrate(&place, waiting)?;
        let lock = |path: &Path| match lock::try_lock_file(path, FlockOperation::NonBlockingLockExclusive)? {
            Some(lock) => Ok(lock),
            None => {
                waiting();
                lock::lock_file(path, FlockOperation::LockExclusive)
            }
        };
        let store = Store::open_locked(&place, &lock)?;
        if store.work.is_writable() && store.has_markers_of_other_boots() {
            store.verify_unsynced()?;
        }
        Ok(store)
    }

    /// Opens the store exclusively without waiting; `None` when another process uses it.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn try_open_exclusive(place: impl Into<StoreLocation>) -> Result<Option<Store>, StoreError> {
        let place = place.into();
        if !place.root.join("version").exists() {
            return Ok(None);
        }
        if !migration::try_migrate(&place.root)? {
            return Ok(None);
        }
        match lock::try_lock_file(&place.root.join("lock"), FlockOperation::NonBlockingLockExclusive)? {
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
    pub fn open_writable(place: impl Into<StoreLocation>) -> Result<Store, StoreError> {
        let store = Store::open(place)?;
        store.require_writable()?;
        Ok(store)
    }

    /// Refuses a store on a read-only file system.
    ///
    /// # Errors
    /// When the store is on one.
    pub fn require_writable(&self) -> Result<(), StoreError> {
        if self.work.is_writable() { Ok(()) } else { Err(StoreError::ReadOnly(self.root.clone())) }
    }

    fn open_locked(
        place: &StoreLocation,
        lock: &dyn Fn(&Path) -> Result<File, StoreError>,
    ) -> Result<Store, StoreError> {
        let root = place.root.as_path();
        create_dir(root, 0o700)?;
        // Mounts and helper processes resolve these paths from other working directories.
        let root = fs::canonicalize(root).map_err(StoreError::io("open", root))?;
        // A store of another version is not changed.
        check_version(&root)?;
        let id_mapping = IdMapping::of_current_process();
        let subdirs = id_mapping.privilege_subdir().map_or(&[][..], |_| &["layers", "steps"]).iter();
        let all: Vec<PathBuf> = DIRECTORIES
            .iter()
            .map(|name| root.join(name))
            .chain(subdirs.map(|name| subdir_path(&root, id_mapping, name)))
            .collect();
        for path in &all {
            create_dir(path, 0o755).map_err(|error| match crate::misplaced::blocking_ancestor(&root, path) {
                Some(path) => StoreError::NotADirectory(path),
                None => error,
            })?;
        }
        let lock = lock(&root.join("lock"))?;
        check_version(&root)?;
        for path in std::iter::once(&root).chain(&all) {
            remove_access_lists(path)?;
        }
        let work = ProcessWorkDir::new(&root.join("work"))?;
        write_if_missing(&root.join("oci/oci-layout"), OCI_LAYOUT, &work)?;
        if !root.join("version").exists() {
            // A directory that existed before the store may be accessible to other users. fsck reports one whose mode
            // cannot be changed.
            let _ = fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o700));
        }
        write_if_missing(&root.join("version"), format!("{VERSION}\n").as_bytes(), &work)?;
        let store = Store {
            root,
            limits: place.limits,
            id_mapping,
            work,
            unsynced: UnsyncedLayers::new(),
            opened_at: OnceLock::new(),
            max_bytes: place.max_bytes,
            blob_bytes: OnceLock::new(),
            misplaced: Vec::new(),
            _lock: lock,
        };
        store.refs().create_if_missing()?;
        Ok(store)
    }

    /// Returns the number of users in a user namespace with subordinate ids; `None` for root and with a single id.
    pub fn subordinate_id_count(&self) -> Option<u64> {
        (self.id_mapping == IdMapping::Subordinate).then(|| crate::foreign_ids::namespace_ids()[0].count())
    }

    /// Returns the root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the limits for archives that are extracted into the store.
    pub fn limits(&self) -> &ArchiveLimits {
        &self.limits
    }

    /// Returns the directory for temporary files of this process.
    pub fn work_dir(&self) -> &ProcessWorkDir {
        &self.work
    }

    /// Returns the time at which this store was opened, by the clock of its file system, in seconds since 1970.
    pub(crate) fn opened_at(&self) -> i64 {
        *self.opened_at.get_or_init(|| {
            let made = fs::symlink_metadata(self.work.path());
            made.map_or(0, |meta| std::os::unix::fs::MetadataExt::mtime(&meta))
        })
    }

    /// Returns the size of the underlying file system in bytes; 0 when it is unknown.
    pub fn disk_size(&self) -> u64 {
        rustix::fs::statvfs(&self.root).map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize))
    }

    /// Returns the maximum size of the store in bytes, if the user set one.
    pub fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    /// Returns the total size of the blobs, which is computed on first use.
    pub(crate) fn blob_bytes(&self) -> &OnceLock<Arc<AtomicU64>> {
        &self.blob_bytes
    }

    pub(crate) fn unsynced(&self) -> &UnsyncedLayers {
        &self.unsynced
    }

    pub(crate) fn unsynced_mut(&mut self) -> &mut UnsyncedLayers {
        &mut self.unsynced
    }

    /// Returns the blobs.
    pub fn blobs(&self) -> Blobs<'_> {
        Blobs::new(self)
    }

    /// Returns the image references.
    pub fn refs(&self) -> ImageRefs<'_> {
        ImageRefs::new(self)
    }

    /// Returns the known locations of blobs in registries.
    pub fn blob_locations(&self) -> crate::BlobLocations<'_> {
        crate::BlobLocations::new(self)
    }

    /// Returns the downloaded files.
    pub fn downloads(&self) -> crate::DownloadCache<'_> {
        crate::DownloadCache::new(self)
    }

    /// Returns the extracted layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers::new(self)
    }

    /// Returns the step cache.
    pub fn step_cache(&self) -> StepCache<'_> {
        StepCache::new(self)
    }

    /// Returns the contents of cache mounts.
    pub fn caches(&self) -> CacheMounts<'_> {
        CacheMounts::new(self)
    }

    /// Returns the journals of earlier builds.
    pub fn build_history(&self) -> BuildHistory<'_> {
        BuildHistory::new(self)
    }

    /// Returns the saved file system of the last command that failed.
    pub fn failed_command(&self) -> FailedCommandStore<'_> {
        FailedCommandStore::new(self)
    }

    /// Locks `what`, for example a layer, against other threads and processes, and waits for the lock.
    pub(crate) fn lock_subject(&self, what: &str) -> Result<StepLock, StoreError> {
        self.lock_step(&StepKey::of([what.as_bytes()]), &|| ())
    }

    /// Locks the step `key` against other processes, and waits for the lock. `waiting` is called once when it has to
    /// wait.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn lock_step(&self, key: &StepKey, waiting: &dyn Fn()) -> Result<StepLock, StoreError> {
        StepLock::acquire(self.root.join("steplocks").join(key.hex()), waiting)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the id mapping of this process.
    pub(crate) fn id_mapping(&self) -> IdMapping {
        self.id_mapping
    }

    /// Returns the directory `name` of processes with the id mapping `rights`.
    pub(crate) fn subdir_of(&self, id_mapping: IdMapping, name: &str) -> PathBuf {
        subdir_path(&self.root, id_mapping, name)
    }

    /// Returns the directory `name` of processes with the id mapping of this one.
    pub(crate) fn subdir(&self, name: &str) -> PathBuf {
        subdir_path(&self.root, self.id_mapping, name)
    }
}

fn subdir_path(root: &Path, id_mapping: IdMapping, name: &str) -> PathBuf {
    match id_mapping.privilege_subdir() {
        Some(subdir) => root.join(subdir).join(name),
        None => root.join(name),
    }
}

pub(crate) fn create_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
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

/// Removes the access control lists (`acl(5)`) that a directory of the store inherited when it was made: they would change the
/// modes of all files that are made in it, and so the content of layers. Its mode stays.
fn remove_access_lists(dir: &Path) -> Result<(), StoreError> {
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        // A container may refuse the removal of attributes, also where there is none.
        if rustix::fs::lgetxattr(dir, name, &mut [0; 0]).is_err() {
            continue;
        }
        match rustix::fs::lremovexattr(dir, name) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::ROFS | Errno::NOENT) => {}
            Err(errno) => return Err(StoreError::errno("remove the access control list of", dir)(errno)),
        }
    }
    Ok(())
}

fn write_if_missing(path: &Path, bytes: &[u8], work: &ProcessWorkDir) -> Result<(), StoreError> {
    if path.exists() {
        return Ok(());
    }
    atomic_file::write_atomic(path, bytes, MAX_VERSION_BYTES, &work.path(), Durability::Synced)
}

/// Version of the layout of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreVersion {
    /// There is no store yet.
    New,
    /// An older version, which is migrated.
    Old,
    /// The version of this program.
    Current,
}

/// Returns the version of the store at `root`.
///
/// # Errors
/// When it is unknown or cannot be read.
pub(crate) fn read_version(root: &Path) -> Result<StoreVersion, StoreError> {
    let path = root.join("version");
    if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        return Err(StoreError::UnknownVersion { path: root.to_owned(), found: String::new(), known: VERSION });
    }
    let Some(text) = atomic_file::read_limited(&path, MAX_VERSION_BYTES)? else {
        // A store of version 1 that has lost its version is known by a directory that only version 1 has.
        let is_old = root.join("oci/oci-layout").is_file() && root.join("seen").is_dir();
        return Ok(if is_old { StoreVersion::Old } else { StoreVersion::New });
    };
    let found = String::from_utf8_lossy(&text).trim().to_owned();
    if found == VERSION.to_string() {
        return Ok(StoreVersion::Current);
    }
    if found == OLD_VERSION {
        return Ok(StoreVersion::Old);
    }
    let found = found.escape_debug().to_string();
    Err(StoreError::UnknownVersion { path: root.to_owned(), found, known: VERSION })
}

/// Refuses a store whose version is not that of this program.
pub(crate) fn check_version(root: &Path) -> Result<(), StoreError> {
    match read_version(root)? {
        StoreVersion::New | StoreVersion::Current => Ok(()),
        StoreVersion::Old => {
            let found = OLD_VERSION.to_owned();
            Err(StoreError::UnknownVersion { path: root.to_owned(), found, known: VERSION })
        }
    }
}
