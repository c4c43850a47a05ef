//! Directories that persist between builds, for `RUN --mount=type=cache`.
//!
//! ```text
//! caches/KEY.N/       one cache; N is 0 unless another one with the same key was in use with `sharing=private`
//!   lock              the lock of its users: shared or exclusive
//!   about             its identity and number of uses; the modification time is that of the last use
//!   data/             the directory that commands see
//! ```
//!
//! A cache is created in `work/` and moved into place with an atomic rename, and removed the same way. The content of
//! `data` is untrusted, as commands of foreign images write it: it is accessed only through [`Dir`], and no symbolic
//! link in it is followed.

mod cache_archive;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dram_image::TreePath;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, Durability};
use crate::{Dir, FileMetadata, Store, StoreError, lock};

pub use cache_archive::{CacheArchiveError, ImportedCacheMount};

/// The metadata of a cache is short; a larger file is damaged.
const MAX_CACHE_METADATA_BYTES: u64 = 1 << 20;
/// The pause between attempts to lock a cache. BuildKit waits for a tenth of a second.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The identity of a cache. As in BuildKit, it is more than the id: a cache with other initial files or another owner
/// is another cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheMountIdentity {
    /// The id in the Dockerfile.
    pub id: String,
    /// A digest of the initial content of a new cache; `None` when it starts empty.
    pub seed: Option<String>,
    /// Permission bits of a new cache.
    pub mode: u32,
    /// Owner of a new cache.
    pub uid: u32,
    /// Group of a new cache.
    pub gid: u32,
}

impl CacheMountIdentity {
    /// The key of this identity on the disk: 32 hexadecimal digits.
    pub fn key(&self) -> String {
        let CacheMountIdentity { id, seed, mode, uid, gid } = self;
        let numbers = format!("{mode:o} {uid} {gid}");
        let seeded = if seed.is_some() { "seed" } else { "" };
        let fields = [id, seeded, seed.as_deref().unwrap_or_default(), &numbers];
        crate::StepKey::of(fields.iter().map(|field| field.as_bytes())).hex()[..32].to_owned()
    }
}

/// The sharing mode of a cache mount (`sharing=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheMountSharing {
    /// Several users at the same time.
    Shared,
    /// One user; another cache is created while this one is in use.
    Private,
    /// One user; others wait until it is released.
    Locked,
}

impl CacheMountSharing {
    fn lock_operation(self) -> FlockOperation {
        match self {
            CacheMountSharing::Shared => FlockOperation::NonBlockingLockShared,
            CacheMountSharing::Private | CacheMountSharing::Locked => FlockOperation::NonBlockingLockExclusive,
        }
    }
}

/// A cache on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountInfo {
    /// Its identity.
    pub name: CacheMountIdentity,
    /// The name of its directory: the key, a dot and the number.
    pub key: String,
    /// The number of uses.
    pub uses: u64,
    /// The time of the last use, in seconds since 1970, by the file system's clock.
    pub last_used: i64,
    /// The total size of its files in bytes.
    pub size: u64,
}

/// The metadata file of a cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CacheMountMetadata {
    name: CacheMountIdentity,
    uses: u64,
}

/// A guard of a cache in use; the lock is released when it is dropped.
#[derive(Debug)]
pub struct CacheMountGuard {
    directory: PathBuf,
    lock: File,
}

impl CacheMountGuard {
    /// The directory that commands see.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }
}

impl Drop for CacheMountGuard {
    fn drop(&mut self) {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        // Otherwise the time of last use would be when the last use began.
        let _ = rustix::fs::futimens(&self.lock, &rustix::fs::Timestamps { last_access: now, last_modification: now });
    }
}

/// The cache mounts of a store.
#[derive(Debug, Clone, Copy)]
pub struct CacheMounts<'a> {
    store: &'a Store,
}

impl<'a> CacheMounts<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        CacheMounts { store }
    }

    fn caches_dir(self) -> PathBuf {
        self.store.join("caches")
    }

    /// Acquires the cache `name`. A missing one is created, and `fill` writes its initial content to the directory that
    /// it is given. While the cache is locked by others, `wait` is called repeatedly; when it returns `false`, waiting
    /// ends and the result is `None`.
    ///
    /// A caller that acquires several must do so in the order of their keys, or it may deadlock.
    ///
    /// # Errors
    /// On an I/O error, or when `fill` fails.
    pub fn acquire<E: From<StoreError>>(
        self,
        name: &CacheMountIdentity,
        sharing: CacheMountSharing,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Option<CacheMountGuard>, E> {
        let key = name.key();
        loop {
            let numbers = self.numbers_of_key(&key)?;
            for number in &numbers {
                if let Some(guard) = self.try_acquire(&format!("{key}.{number}"), sharing.lock_operation())? {
                    self.record_use(&guard)?;
                    return Ok(Some(guard));
                }
            }
            if numbers.is_empty() || sharing == CacheMountSharing::Private {
                let free = (0..).find(|number| !numbers.contains(number)).expect("there are more numbers than caches");
                match self.create(name, free, sharing, fill)? {
                    Some(guard) => return Ok(Some(guard)),
                    // Another process was faster.
                    None => continue,
                }
            }
            if !wait() {
                return Ok(None);
            }
            std::thread::sleep(LOCK_POLL_INTERVAL);
        }
    }

    /// The numbers of the caches with this key, in order.
    fn numbers_of_key(self, key: &str) -> Result<Vec<u64>, StoreError> {
        let mut numbers: Vec<u64> = Vec::new();
        for directory in self.list_dir_names()? {
            let number: Option<u64> = directory.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn list_dir_names(self) -> Result<Vec<String>, StoreError> {
        let names = Dir::open(&self.caches_dir())?.names()?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    /// Locks one cache without waiting; `None` when it is in use or no longer exists.
    fn try_acquire(self, directory: &str, operation: FlockOperation) -> Result<Option<CacheMountGuard>, StoreError> {
        let directory = self.caches_dir().join(directory);
        let path = directory.join("lock");
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StoreError::io("open", &path))?,
        };
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                locked => break locked.map_err(StoreError::errno("lock", &path))?,
            }
        }
        // The cache may have been removed and created again before it was locked.
        Ok(lock::is_same_file(&path, &file).then_some(CacheMountGuard { directory, lock: file }))
    }

    /// Creates a cache and locks it. `None` when another process created one with that number first.
    fn create<E: From<StoreError>>(
        self,
        name: &CacheMountIdentity,
        number: u64,
        how: CacheMountSharing,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
    ) -> Result<Option<CacheMountGuard>, E> {
        let made = self.store.work_dir().temp_dir()?;
        let done = self.create_in(&made, name, how, fill);
        let lock = match done {
            Ok(lock) => lock,
            Err(error) => {
                self.store.work_dir().remove_temp_dir(&made);
                return Err(error);
            }
        };
        let directory = self.caches_dir().join(format!("{}.{number}", name.key()));
        match fs::rename(&made, &directory) {
            Err(_) if directory.is_dir() => {
                self.store.work_dir().remove_temp_dir(&made);
                Ok(None)
            }
            Err(error) => Err(StoreError::io("make the directory", &directory)(error).into()),
            Ok(()) => Ok(Some(CacheMountGuard { directory, lock })),
        }
    }

    fn create_in<E: From<StoreError>>(
        self,
        made: &Path,
        name: &CacheMountIdentity,
        how: CacheMountSharing,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
    ) -> Result<File, E> {
        let data = TreePath::parse(b"data").map_err(StoreError::from)?;
        Dir::open(made)?.make_dir(&data, 0o700)?;
        let meta = FileMetadata { mode: name.mode & 0o7777, uid: name.uid, gid: name.gid, mtime: (0, 0) };
        Dir::open_layer(&made.join("data"))?.set_metadata(&TreePath::root(), &meta, false)?;
        fill(&made.join("data"))?;
        self.write_metadata(made, &CacheMountMetadata { name: name.clone(), uses: 1 })?;
        Ok(lock::lock_file(&made.join("lock"), how.lock_operation())?)
    }

    /// Increments the number of uses. Two concurrent uses may count as one.
    fn record_use(self, guard: &CacheMountGuard) -> Result<(), StoreError> {
        let Some(mut about) = read_metadata(&guard.directory) else { return Ok(()) };
        about.uses = about.uses.saturating_add(1);
        self.write_metadata(&guard.directory, &about)
    }

    fn write_metadata(self, directory: &Path, about: &CacheMountMetadata) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(about).expect("plain data becomes JSON");
        let (path, work) = (directory.join("about"), self.store.work_dir().path());
        atomic_file::write_atomic(&path, &bytes, MAX_CACHE_METADATA_BYTES, &work, Durability::Unsynced)
    }

    /// All caches with their sizes, sorted by id, then by key.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn list(self) -> Result<Vec<CacheMountInfo>, StoreError> {
        let mut all = self.list_without_sizes()?;
        for cache in &mut all {
            cache.size = total_file_size(&self.caches_dir().join(&cache.key).join("data"));
        }
        Ok(all)
    }

    /// All caches with a size of 0, as computing sizes reads all directories.
    pub(crate) fn list_without_sizes(self) -> Result<Vec<CacheMountInfo>, StoreError> {
        let mut all = Vec::new();
        for key in self.list_dir_names()? {
            let directory = self.caches_dir().join(&key);
            let Some(CacheMountMetadata { name, uses }) = read_metadata(&directory) else { continue };
            let time = |file: &str| fs::metadata(directory.join(file)).map_or(0, |meta| meta.mtime());
            let last_used = time("about").max(time("lock"));
            all.push(CacheMountInfo { name, key, uses, last_used, size: 0 });
        }
        all.sort_by(|a, b| (&a.name.id, &a.key).cmp(&(&b.name.id, &b.key)));
        Ok(all)
    }

    /// Removes the cache with this key. Returns `false` when it is in use or does not exist.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn remove(self, key: &str) -> Result<bool, StoreError> {
        let Some(guard) = self.try_acquire(key, FlockOperation::NonBlockingLockExclusive)? else { return Ok(false) };
        let place = self.store.work_dir().temp_dir()?;
        let gone = place.join("cache");
        fs::rename(&guard.directory, &gone).map_err(StoreError::io("remove", &guard.directory))?;
        drop(guard);
        self.store.work_dir().remove_temp_dir(&place);
        Ok(true)
    }
}

fn read_metadata(directory: &Path) -> Option<CacheMountMetadata> {
    let bytes = atomic_file::read_limited(&directory.join("about"), MAX_CACHE_METADATA_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// The total size of the files below `data`, each hard link counted once. Errors end the count early: a command may
/// change files meanwhile, and may have created paths that are too long to open.
fn total_file_size(data: &Path) -> u64 {
    let mut bytes = 0;
    let _ = Dir::open(data).and_then(|dir| {
        crate::layer_scan::scan_layer(&dir, &mut |found| {
            let counts = found.status.kind == crate::FileKind::File && found.link_to.is_none();
            bytes += if counts { found.status.size } else { 0 };
            Ok(())
        })
    });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        (dir, store)
    }

    fn name(id: &str) -> CacheMountIdentity {
        let owner = fs::metadata("/proc/self").unwrap();
        CacheMountIdentity { id: id.to_owned(), seed: None, mode: 0o750, uid: owner.uid(), gid: owner.gid() }
    }

    fn take(store: &Store, id: &str, sharing: CacheMountSharing) -> Option<CacheMountGuard> {
        let mut fill = |_: &Path| Ok::<(), StoreError>(());
        store.caches().acquire(&name(id), sharing, &mut fill, &mut || false).unwrap()
    }

    #[test]
    fn shared_uses_one_cache_locked_waits_and_private_creates_another() {
        let (_dir, store) = store();
        let first = take(&store, "a", CacheMountSharing::Shared).unwrap();
        let second = take(&store, "a", CacheMountSharing::Shared).unwrap();
        assert_eq!(first.data_dir(), second.data_dir());
        assert!(take(&store, "a", CacheMountSharing::Locked).is_none());
        let own = take(&store, "a", CacheMountSharing::Private).unwrap();
        assert_ne!(own.data_dir(), first.data_dir());
        // The private cache is still held, so this is another one.
        assert_ne!(take(&store, "a", CacheMountSharing::Private).unwrap().data_dir(), own.data_dir());
        assert_ne!(take(&store, "b", CacheMountSharing::Shared).unwrap().data_dir(), first.data_dir());
        drop((first, second));
        let locked = take(&store, "a", CacheMountSharing::Locked).unwrap();
        drop(own);
        // The private cache is free and is used instead of waiting for the locked one.
        assert_ne!(take(&store, "a", CacheMountSharing::Shared).unwrap().data_dir(), locked.data_dir());
    }

    #[test]
    fn new_cache_is_filled_once_and_not_created_when_filling_fails() {
        let (_dir, store) = store();
        let mut fill = |path: &Path| fs::write(path.join("seed"), "1").map_err(StoreError::io("write", path));
        for _ in 0..2 {
            let guard = store
                .caches()
                .acquire(&name("a"), CacheMountSharing::Shared, &mut fill, &mut || false)
                .unwrap()
                .unwrap();
            let seed = guard.data_dir().join("seed");
            assert_eq!(fs::read_to_string(&seed).unwrap(), "1");
            fs::write(seed, "1").unwrap();
            assert_eq!(fs::metadata(guard.data_dir()).unwrap().permissions().mode() & 0o7777, 0o750);
        }
        let all = store.caches().list().unwrap();
        assert_eq!((all.len(), all[0].uses, all[0].size), (1, 2, 1));
        let mut refuse = |path: &Path| Err(StoreError::ReadOnly(path.to_owned()));
        assert!(store.caches().acquire(&name("b"), CacheMountSharing::Shared, &mut refuse, &mut || false).is_err());
        assert_eq!(store.caches().list().unwrap().len(), 1);
    }

    #[test]
    fn cache_in_use_is_not_removed() {
        let (_dir, store) = store();
        let guard = take(&store, "a", CacheMountSharing::Shared).unwrap();
        let key = store.caches().list().unwrap()[0].key.clone();
        assert!(!store.caches().remove(&key).unwrap());
        drop(guard);
        assert!(store.caches().remove(&key).unwrap());
        assert!(!store.caches().remove(&key).unwrap());
        assert!(store.caches().list().unwrap().is_empty());
    }

    fn export(store: &Store) -> Vec<u8> {
        let keys: Vec<_> = store.caches().list().unwrap().into_iter().map(|cache| cache.key).collect();
        let mut tar = Vec::new();
        store.caches().export(&keys, crate::CompressionFormat::None, &mut tar).unwrap();
        for unsupported in [crate::CompressionFormat::Xz, crate::CompressionFormat::Bzip2] {
            let mut nothing = Vec::new();
            let refused = store.caches().export(&keys, unsupported, &mut nothing).unwrap_err();
            assert!(matches!(refused, CacheArchiveError::UnsupportedCompression(_)) && nothing.is_empty(), "{refused}");
        }
        tar
    }

    fn import(store: &Store, tar: &[u8]) -> Result<Vec<ImportedCacheMount>, CacheArchiveError> {
        store.caches().import(Box::new(std::io::Cursor::new(tar.to_vec())), "a.tar")
    }

    #[test]
    fn exported_caches_are_imported_unchanged() {
        let (_dir, store) = store();
        let data = take(&store, "a", CacheMountSharing::Shared).unwrap().data_dir();
        fs::write(data.join("file"), "text").unwrap();
        fs::hard_link(data.join("file"), data.join("twin")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        fs::create_dir(data.join("dir")).unwrap();
        let socket = rustix::fs::mknodat(
            rustix::fs::CWD,
            data.join("socket"),
            rustix::fs::FileType::Socket,
            rustix::fs::Mode::RUSR,
            0,
        );
        socket.unwrap();
        let tar = export(&store);
        assert_eq!(tar, export(&store));
        let (_other, other) = self::store();
        assert_eq!(import(&other, &tar).unwrap(), [ImportedCacheMount { name: name("a"), replaced: false }]);
        assert_eq!(export(&other), tar, "nothing is lost");
        let data = take(&other, "a", CacheMountSharing::Shared).unwrap().data_dir();
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(data.join("file")).unwrap().nlink(), 2);
        assert!(!data.join("socket").exists());
        fs::write(data.join("more"), "").unwrap();
        assert!(import(&other, &tar).unwrap()[0].replaced);
        assert_eq!(export(&other), tar);
    }

    #[test]
    fn failed_import_changes_nothing() {
        let (_dir, store) = store();
        let data = take(&store, "a", CacheMountSharing::Shared).unwrap().data_dir();
        fs::write(data.join("file"), "text").unwrap();
        let tar = export(&store);
        fs::write(data.join("file"), "newer").unwrap();
        let before = export(&store);
        for end in [0, 100, 512, 1024, tar.len() / 2, tar.len() - 1534] {
            assert!(import(&store, &tar[..end]).is_err(), "cut at {end}");
        }
        let at = tar.windows(4).rposition(|bytes| bytes == b"text").unwrap();
        let mut changed = tar.clone();
        changed[at] = b'T';
        assert!(matches!(import(&store, &changed), Err(CacheArchiveError::NotCaches { .. })));
        let used = take(&store, "a", CacheMountSharing::Shared).unwrap();
        assert!(matches!(import(&store, &tar), Err(CacheArchiveError::InUse { .. })));
        drop(used);
        assert_eq!(export(&store), before);
    }

    #[test]
    fn import_does_not_follow_symlinks_out_of_the_store() {
        use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
        let (dir, store) = store();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let mut tar = TarWriter::new(Vec::new());
        let mut put = |path: &str, kind: TarEntryKind, data: &[u8]| {
            let path = TreePath::parse(path.as_bytes()).unwrap();
            let owner = name("a");
            let (uid, gid) = (owner.uid, owner.gid);
            let entry = TarEntry { path, kind, mode: 0o755, uid, gid, mtime: 0, xattrs: Vec::new() };
            tar.append(&entry, &mut &*data).unwrap();
        };
        let list = outside.join("list");
        fs::write(&list, "{}").unwrap();
        let absolute = outside.to_str().unwrap().as_bytes().to_vec();
        put("dram-caches.json", TarEntryKind::Symlink(list.to_str().unwrap().as_bytes().to_vec()), b"");
        put("0", TarEntryKind::Symlink(absolute), b"");
        put("0/file", TarEntryKind::File { size: 1 }, b"x");
        assert!(import(&store, &tar.finish().unwrap()).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(store.caches().list().unwrap().is_empty());
    }
}
