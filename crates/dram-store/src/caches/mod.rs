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

mod archive;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dram_image::TreePath;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::file::{self, Durable};
use crate::{Dir, Meta, Store, StoreError, lock};

pub use archive::{ArchiveError, Imported};

/// The metadata of a cache is short; a larger file is damaged.
const LARGEST_ABOUT: u64 = 1 << 20;
/// The pause between attempts to lock a cache. BuildKit waits for a tenth of a second.
const PAUSE: Duration = Duration::from_millis(50);

/// The identity of a cache. As in BuildKit, it is more than the id: a cache with other initial files or another owner
/// is another cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheName {
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

impl CacheName {
    /// The key of this identity on the disk: 32 hexadecimal digits.
    pub fn key(&self) -> String {
        let CacheName { id, seed, mode, uid, gid } = self;
        let numbers = format!("{mode:o} {uid} {gid}");
        let seeded = if seed.is_some() { "seed" } else { "" };
        let fields = [id, seeded, seed.as_deref().unwrap_or_default(), &numbers];
        crate::StepKey::of(fields.iter().map(|field| field.as_bytes())).hex()[..32].to_owned()
    }
}

/// The sharing mode of a cache mount (`sharing=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheUse {
    /// Several users at the same time.
    Shared,
    /// One user; another cache is created while this one is in use.
    Private,
    /// One user; others wait until it is released.
    Locked,
}

impl CacheUse {
    fn lock(self) -> FlockOperation {
        match self {
            CacheUse::Shared => FlockOperation::NonBlockingLockShared,
            CacheUse::Private | CacheUse::Locked => FlockOperation::NonBlockingLockExclusive,
        }
    }
}

/// A cache on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its identity.
    pub name: CacheName,
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
struct About {
    name: CacheName,
    uses: u64,
}

/// A guard of a cache in use; the lock is released when it is dropped.
#[derive(Debug)]
pub struct TakenCache {
    directory: PathBuf,
    lock: File,
}

impl TakenCache {
    /// The directory that commands see.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

impl Drop for TakenCache {
    fn drop(&mut self) {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        // Otherwise the time of last use would be when the last use began.
        let _ = rustix::fs::futimens(&self.lock, &rustix::fs::Timestamps { last_access: now, last_modification: now });
    }
}

/// The cache mounts of a store.
#[derive(Debug, Clone, Copy)]
pub struct Caches<'a> {
    store: &'a Store,
}

impl<'a> Caches<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Caches { store }
    }

    fn root(self) -> PathBuf {
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
    pub fn take<E: From<StoreError>>(
        self,
        name: &CacheName,
        how: CacheUse,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Option<TakenCache>, E> {
        let key = name.key();
        loop {
            let numbers = self.numbers(&key)?;
            for number in &numbers {
                if let Some(taken) = self.try_take(&format!("{key}.{number}"), how.lock())? {
                    self.count(&taken)?;
                    return Ok(Some(taken));
                }
            }
            if numbers.is_empty() || how == CacheUse::Private {
                let free = (0..).find(|number| !numbers.contains(number)).expect("there are more numbers than caches");
                match self.make(name, free, how, fill)? {
                    Some(taken) => return Ok(Some(taken)),
                    // Another process was faster.
                    None => continue,
                }
            }
            if !wait() {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The numbers of the caches with this key, in order.
    fn numbers(self, key: &str) -> Result<Vec<u64>, StoreError> {
        let mut numbers: Vec<u64> = Vec::new();
        for directory in self.directories()? {
            let number: Option<u64> = directory.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn directories(self) -> Result<Vec<String>, StoreError> {
        let names = Dir::open(&self.root())?.names()?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    /// Locks one cache without waiting; `None` when it is in use or no longer exists.
    fn try_take(self, directory: &str, how: FlockOperation) -> Result<Option<TakenCache>, StoreError> {
        let directory = self.root().join(directory);
        let path = directory.join("lock");
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StoreError::io("open", &path))?,
        };
        loop {
            match rustix::fs::flock(&file, how) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                locked => break locked.map_err(StoreError::os("lock", &path))?,
            }
        }
        // The cache may have been removed and created again before it was locked.
        Ok(lock::is_same(&path, &file).then_some(TakenCache { directory, lock: file }))
    }

    /// Creates a cache and locks it. `None` when another process created one with that number first.
    fn make<E: From<StoreError>>(
        self,
        name: &CacheName,
        number: u64,
        how: CacheUse,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
    ) -> Result<Option<TakenCache>, E> {
        let made = self.store.work().fresh()?;
        let done = self.make_in(&made, name, how, fill);
        let lock = match done {
            Ok(lock) => lock,
            Err(error) => {
                self.store.work().discard(&made);
                return Err(error);
            }
        };
        let directory = self.root().join(format!("{}.{number}", name.key()));
        match fs::rename(&made, &directory) {
            Err(_) if directory.is_dir() => {
                self.store.work().discard(&made);
                Ok(None)
            }
            Err(error) => Err(StoreError::io("make the directory", &directory)(error).into()),
            Ok(()) => Ok(Some(TakenCache { directory, lock })),
        }
    }

    fn make_in<E: From<StoreError>>(
        self,
        made: &Path,
        name: &CacheName,
        how: CacheUse,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
    ) -> Result<File, E> {
        let data = TreePath::parse(b"data").map_err(StoreError::from)?;
        Dir::open(made)?.make_dir(&data, 0o700)?;
        let meta = Meta { mode: name.mode & 0o7777, uid: name.uid, gid: name.gid, mtime: (0, 0) };
        Dir::open_layer(&made.join("data"))?.set_meta(&TreePath::root(), &meta, false)?;
        fill(&made.join("data"))?;
        self.write_about(made, &About { name: name.clone(), uses: 1 })?;
        Ok(lock::hold(&made.join("lock"), how.lock())?)
    }

    /// Increments the number of uses. Two concurrent uses may count as one.
    fn count(self, taken: &TakenCache) -> Result<(), StoreError> {
        let Some(mut about) = read_about(&taken.directory) else { return Ok(()) };
        about.uses = about.uses.saturating_add(1);
        self.write_about(&taken.directory, &about)
    }

    fn write_about(self, directory: &Path, about: &About) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(about).expect("plain data becomes JSON");
        file::replace(&directory.join("about"), &bytes, &self.store.work().path(), Durable::No)
    }

    /// All caches with their sizes, sorted by id, then by key.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn all(self) -> Result<Vec<Cache>, StoreError> {
        let mut all = self.known()?;
        for cache in &mut all {
            cache.size = size(&self.root().join(&cache.key).join("data"));
        }
        Ok(all)
    }

    /// All caches with a size of 0, as computing sizes reads all directories.
    pub(crate) fn known(self) -> Result<Vec<Cache>, StoreError> {
        let mut all = Vec::new();
        for key in self.directories()? {
            let directory = self.root().join(&key);
            let Some(About { name, uses }) = read_about(&directory) else { continue };
            let time = |file: &str| fs::metadata(directory.join(file)).map_or(0, |meta| meta.mtime());
            let last_used = time("about").max(time("lock"));
            all.push(Cache { name, key, uses, last_used, size: 0 });
        }
        all.sort_by(|a, b| (&a.name.id, &a.key).cmp(&(&b.name.id, &b.key)));
        Ok(all)
    }

    /// Removes the cache with this key. Returns `false` when it is in use or does not exist.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn remove(self, key: &str) -> Result<bool, StoreError> {
        let Some(taken) = self.try_take(key, FlockOperation::NonBlockingLockExclusive)? else { return Ok(false) };
        let place = self.store.work().fresh()?;
        let gone = place.join("cache");
        fs::rename(&taken.directory, &gone).map_err(StoreError::io("remove", &taken.directory))?;
        drop(taken);
        self.store.work().discard(&place);
        Ok(true)
    }
}

fn read_about(directory: &Path) -> Option<About> {
    let bytes = file::read_small(&directory.join("about"), LARGEST_ABOUT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// The total size of the files below `data`, each hard link counted once. Errors end the count early: a command may
/// change files meanwhile, and may have created paths that are too long to open.
fn size(data: &Path) -> u64 {
    let mut bytes = 0;
    let _ = Dir::open(data).and_then(|dir| {
        crate::scan::scan(&dir, &mut |found| {
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

    fn name(id: &str) -> CacheName {
        let owner = fs::metadata("/proc/self").unwrap();
        CacheName { id: id.to_owned(), seed: None, mode: 0o750, uid: owner.uid(), gid: owner.gid() }
    }

    fn take(store: &Store, id: &str, how: CacheUse) -> Option<TakenCache> {
        let mut fill = |_: &Path| Ok::<(), StoreError>(());
        store.caches().take(&name(id), how, &mut fill, &mut || false).unwrap()
    }

    #[test]
    fn shared_uses_one_cache_locked_waits_and_private_creates_another() {
        let (_dir, store) = store();
        let first = take(&store, "a", CacheUse::Shared).unwrap();
        let second = take(&store, "a", CacheUse::Shared).unwrap();
        assert_eq!(first.data(), second.data());
        assert!(take(&store, "a", CacheUse::Locked).is_none());
        let own = take(&store, "a", CacheUse::Private).unwrap();
        assert_ne!(own.data(), first.data());
        // The private cache is still held, so this is another one.
        assert_ne!(take(&store, "a", CacheUse::Private).unwrap().data(), own.data());
        assert_ne!(take(&store, "b", CacheUse::Shared).unwrap().data(), first.data());
        drop((first, second));
        let locked = take(&store, "a", CacheUse::Locked).unwrap();
        drop(own);
        // The private cache is free and is used instead of waiting for the locked one.
        assert_ne!(take(&store, "a", CacheUse::Shared).unwrap().data(), locked.data());
    }

    #[test]
    fn new_cache_is_filled_once_and_not_created_when_filling_fails() {
        let (_dir, store) = store();
        let mut fill = |path: &Path| fs::write(path.join("seed"), "1").map_err(StoreError::io("write", path));
        for _ in 0..2 {
            let taken = store.caches().take(&name("a"), CacheUse::Shared, &mut fill, &mut || false).unwrap().unwrap();
            let seed = taken.data().join("seed");
            assert_eq!(fs::read_to_string(&seed).unwrap(), "1");
            fs::write(seed, "1").unwrap();
            assert_eq!(fs::metadata(taken.data()).unwrap().permissions().mode() & 0o7777, 0o750);
        }
        let all = store.caches().all().unwrap();
        assert_eq!((all.len(), all[0].uses, all[0].size), (1, 2, 1));
        let mut refuse = |path: &Path| Err(StoreError::ReadOnly(path.to_owned()));
        assert!(store.caches().take(&name("b"), CacheUse::Shared, &mut refuse, &mut || false).is_err());
        assert_eq!(store.caches().all().unwrap().len(), 1);
    }

    #[test]
    fn cache_in_use_is_not_removed() {
        let (_dir, store) = store();
        let taken = take(&store, "a", CacheUse::Shared).unwrap();
        let key = store.caches().all().unwrap()[0].key.clone();
        assert!(!store.caches().remove(&key).unwrap());
        drop(taken);
        assert!(store.caches().remove(&key).unwrap());
        assert!(!store.caches().remove(&key).unwrap());
        assert!(store.caches().all().unwrap().is_empty());
    }

    fn export(store: &Store) -> Vec<u8> {
        let keys: Vec<_> = store.caches().all().unwrap().into_iter().map(|cache| cache.key).collect();
        let mut tar = Vec::new();
        store.caches().export(&keys, crate::Compression::None, &mut tar).unwrap();
        tar
    }

    fn import(store: &Store, tar: &[u8]) -> Result<Vec<Imported>, ArchiveError> {
        store.caches().import(Box::new(std::io::Cursor::new(tar.to_vec())), "a.tar")
    }

    #[test]
    fn exported_caches_are_imported_unchanged() {
        let (_dir, store) = store();
        let data = take(&store, "a", CacheUse::Shared).unwrap().data();
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
        assert_eq!(import(&other, &tar).unwrap(), [Imported { name: name("a"), replaced: false }]);
        assert_eq!(export(&other), tar, "nothing is lost");
        let data = take(&other, "a", CacheUse::Shared).unwrap().data();
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
        let data = take(&store, "a", CacheUse::Shared).unwrap().data();
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
        assert!(matches!(import(&store, &changed), Err(ArchiveError::NotCaches { .. })));
        let used = take(&store, "a", CacheUse::Shared).unwrap();
        assert!(matches!(import(&store, &tar), Err(ArchiveError::InUse { .. })));
        drop(used);
        assert_eq!(export(&store), before);
    }

    #[test]
    fn import_does_not_follow_symlinks_out_of_the_store() {
        use dram_image::tar::{Entry, EntryKind, TarWriter};
        let (dir, store) = store();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let mut tar = TarWriter::new(Vec::new());
        let mut put = |path: &str, kind: EntryKind, data: &[u8]| {
            let path = TreePath::parse(path.as_bytes()).unwrap();
            let owner = name("a");
            let (uid, gid) = (owner.uid, owner.gid);
            let entry = Entry { path, kind, mode: 0o755, uid, gid, mtime: 0, xattrs: Vec::new() };
            tar.append(&entry, &mut &*data).unwrap();
        };
        let list = outside.join("list");
        fs::write(&list, "{}").unwrap();
        let absolute = outside.to_str().unwrap().as_bytes().to_vec();
        put("dram-caches.json", EntryKind::Symlink(list.to_str().unwrap().as_bytes().to_vec()), b"");
        put("0", EntryKind::Symlink(absolute), b"");
        put("0/file", EntryKind::File { size: 1 }, b"x");
        assert!(import(&store, &tar.finish().unwrap()).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(store.caches().all().unwrap().is_empty());
    }
}
