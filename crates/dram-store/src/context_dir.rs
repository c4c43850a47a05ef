//! A local build context: a directory with ignore patterns and an index of its files' digests.
//!
//! An entry of the index is valid while size, times and inode of the file are unchanged. Two kinds of files can change
//! with equal times, so no entry is made of them, and they are read again:
//!
//! - A file that changed just before it was read: the clock of the file system is coarse.
//! - A file that a program has mapped into its memory. The kernel sets the times when the program first writes to a page,
//!   and again only after the page was written to the disk. On file systems in memory it never does.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::atomic_file::{self, Durability};
use crate::{FileKind, FileStatus, FileTree, MergedTree, Store, StoreError, TreeNode};

/// Maximum size of an index; it is enough for a million files.
const MAX_INDEX_SIZE: u64 = 256 << 20;
/// Resolution of time stamps in seconds: the coarsest of known file systems, rounded up.
const TIMESTAMP_RESOLUTION: i64 = 2;
/// The seconds after which the kernel has written a changed page to the disk, when `/proc` does not tell: twice the
/// defaults of Linux.
const DEFAULT_WRITE_BACK_TIME: i64 = 70;
const INDEX_MAGIC: &[u8; 8] = b"dramctx3";
/// The index that earlier versions wrote in a store of the same format. It is intact, and replaced by the next build.
const EARLIER_INDEX_MAGIC: &[u8; 8] = b"dramctx2";

/// The use of the digests that earlier builds saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedDigests {
    /// They are used for files that look unchanged.
    Use,
    /// They are not used: every file is read.
    Ignore,
}

/// The decision of the ignore patterns about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoreVerdict {
    /// The path is in the context.
    Include,
    /// The path and everything below it is ignored.
    Exclude,
    /// The path is ignored, but paths below it may be in the context.
    Descend,
}

/// The ignore patterns, as a function of a resolved path.
pub type IgnoreFn = Box<dyn Fn(&TreePath) -> IgnoreVerdict>;

/// A local build context.
pub struct ContextDir {
    merged: MergedTree,
    ignore: IgnoreFn,
    index_path: PathBuf,
    /// Files that changed before this time, by the clock of the file system, cannot change again with equal times. `None`
    /// if that is true of no file.
    settled_before: Option<i64>,
    use_saved: bool,
    saved_digests: BTreeMap<TreePath, CachedFileDigest>,
    new_digests: RefCell<BTreeMap<TreePath, CachedFileDigest>>,
    /// Every digest that was returned.
    promised: RefCell<HashMap<TreePath, [u8; 32]>>,
    /// Cached results of [`ContextDir::has_visible_child`].
    visible_dirs: RefCell<BTreeMap<TreePath, bool>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CachedFileDigest {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    inode: u64,
    digest: [u8; 32],
    /// Has no extended attributes.
    is_plain: bool,
}

impl CachedFileDigest {
    fn is_current(&self, status: &FileStatus) -> bool {
        (self.size, self.mtime, self.ctime, self.inode) == (status.size, status.mtime, status.ctime, status.inode.1)
    }
}

impl ContextDir {
    /// Opens the context at `path`, with the digests that `store` has cached if `saved` says so.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn open(store: &Store, path: &Path, ignore: IgnoreFn, saved: SavedDigests) -> Result<ContextDir, StoreError> {
        let merged = MergedTree::of_directory(path)?;
        let real = std::fs::canonicalize(path).map_err(StoreError::io("open", path)).map_err(StoreError::of_input)?;
        let name = blake3::hash(real.as_os_str().as_bytes()).to_hex().to_string();
        let index = store.join("contexts").join(name);
        // Time stamps are made with the clock of the file system, so this clock is read.
        let probe = atomic_file::temp_path(&store.work_dir().path());
        let made = File::create(&probe).and_then(|file| file.metadata());
        let opened = made.map(|meta| std::os::unix::fs::MetadataExt::mtime(&meta));
        let opened = opened.map_err(StoreError::io("create", &probe))?;
        let _ = std::fs::remove_file(&probe);
        let before = atomic_file::read_limited(&index, MAX_INDEX_SIZE).ok().flatten();
        let before = before.and_then(|bytes| read_index(&bytes)).unwrap_or_default();
        let write_back = write_back_time(&read_kernel_setting);
        Ok(ContextDir {
            merged,
            ignore,
            index_path: index,
            settled_before: write_back.map(|seconds| opened - TIMESTAMP_RESOLUTION - seconds),
            use_saved: saved == SavedDigests::Use,
            saved_digests: before,
            new_digests: RefCell::default(),
            promised: RefCell::default(),
            visible_dirs: RefCell::default(),
        })
    }

    /// Saves the computed digests for the next build. A failure only costs that build time.
    pub fn save(&self, store: &Store) {
        let (now, promised) = (self.new_digests.borrow(), self.promised.borrow());
        let outdated = |path: &TreePath| promised.contains_key(path) && !now.contains_key(path);
        if now.iter().all(|(path, known)| self.saved_digests.get(path) == Some(known))
            && !self.saved_digests.keys().any(outdated)
        {
            return;
        }
        // Files that this build did not read, for example those of another COPY, stay cached.
        let mut all = self.saved_digests.clone();
        all.retain(|path, _| !outdated(path));
        all.extend(now.iter().map(|(path, known)| (path.clone(), known.clone())));
        let bytes = write_index(&all);
        let work = store.work_dir().path();
        let _ = atomic_file::write_atomic(&self.index_path, &bytes, MAX_INDEX_SIZE, &work, Durability::Unsynced);
    }

    /// Returns the cached digest of `node` if it is still valid.
    fn cached_digest(&self, node: &TreeNode) -> Option<CachedFileDigest> {
        let now = self.new_digests.borrow();
        let saved = || self.saved_digests.get(&node.path).filter(|_| self.use_saved);
        let known = now.get(&node.path).or_else(saved);
        known.filter(|known| known.is_current(&node.status)).cloned()
    }

    fn is_visible(&self, path: &TreePath, status: &FileStatus) -> Result<bool, StoreError> {
        if path.is_root() {
            return Ok(true);
        }
        match (self.ignore)(path) {
            IgnoreVerdict::Include => Ok(true),
            IgnoreVerdict::Descend if status.kind == FileKind::Dir => self.has_visible_child(path),
            IgnoreVerdict::Exclude | IgnoreVerdict::Descend => Ok(false),
        }
    }

    /// An ignored directory is visible when something below it is not ignored.
    fn has_visible_child(&self, dir: &TreePath) -> Result<bool, StoreError> {
        if let Some(&known) = self.visible_dirs.borrow().get(dir) {
            return Ok(known);
        }
        let shows = !self.list(dir)?.is_empty();
        self.visible_dirs.borrow_mut().insert(dir.clone(), shows);
        Ok(shows)
    }

    /// Returns true if the ignore patterns exclude `path` or one of its parents.
    pub fn is_ignored(&self, path: &TreePath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if !path.is_root() && (self.ignore)(&path) != IgnoreVerdict::Include {
                return true;
            }
            at = path.parent();
        }
        false
    }

    /// Returns the directory without ignore patterns, for messages.
    pub fn unfiltered(&self) -> &dyn FileTree {
        &self.merged
    }
}

impl FileTree for ContextDir {
    fn find(&self, path: &TreePath, follow: bool) -> Result<Option<TreeNode>, StoreError> {
        match self.merged.find(path, follow).map_err(StoreError::of_input)? {
            Some(node) if self.is_visible(&node.path, &node.status)? => Ok(Some(node)),
            Some(_) | None => Ok(None),
        }
    }

    fn node_at(&self, path: &TreePath) -> Result<Option<TreeNode>, StoreError> {
        match self.merged.node_at(path).map_err(StoreError::of_input)? {
            Some(node) if self.is_visible(&node.path, &node.status)? => Ok(Some(node)),
            Some(_) | None => Ok(None),
        }
    }

    fn list(&self, dir: &TreePath) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut names = Vec::new();
        for name in self.merged.list(dir).map_err(StoreError::of_input)? {
            let path = dir.join(&name);
            let visible = match (self.ignore)(&path) {
                IgnoreVerdict::Include => true,
                IgnoreVerdict::Exclude => false,
                IgnoreVerdict::Descend => match self.merged.node_at(&path)? {
                    Some(node) => self.is_visible(&path, &node.status)?,
                    None => false,
                },
            };
            if visible {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, StoreError> {
        self.merged.read_link(path).map_err(StoreError::of_input)
    }

    fn open(&self, path: &TreePath) -> Result<File, StoreError> {
        self.merged.open(path).map_err(StoreError::of_input)
    }

    fn xattrs(&self, node: &TreeNode) -> Result<Vec<Xattr>, StoreError> {
        // Setting an attribute changes the inode's change time, so the cached value is valid.
        if self.cached_digest(node).is_some_and(|known| known.is_plain) {
            return Ok(Vec::new());
        }
        self.merged.xattrs(node).map_err(StoreError::of_input)
    }

    fn content_digest(&self, node: &TreeNode) -> Result<[u8; 32], StoreError> {
        let known = self.cached_digest(node);
        let is_plain = match &known {
            Some(known) => known.is_plain,
            None => self.merged.xattrs(node)?.is_empty(),
        };
        let (digest, in_memory) = match known {
            Some(known) => (known.digest, false),
            None => {
                let file = self.open(&node.path)?;
                let in_memory = is_in_memory(&file);
                (crate::tree::hash_file(file).map_err(StoreError::io("read", node.path.as_path()))?, in_memory)
            }
        };
        self.promised.borrow_mut().insert(node.path.clone(), digest);
        let status = &node.status;
        let is_settled = |before| status.mtime.0 < before && status.ctime.0 < before;
        if !in_memory && self.settled_before.is_some_and(is_settled) {
            let (size, mtime, ctime, inode) = (status.size, status.mtime, status.ctime, status.inode.1);
            let known = CachedFileDigest { size, mtime, ctime, inode, digest, is_plain };
            self.new_digests.borrow_mut().insert(node.path.clone(), known);
        }
        Ok(digest)
    }

    fn recorded_content_digest(&self, node: &TreeNode) -> Option<[u8; 32]> {
        self.promised.borrow().get(&node.path).copied()
    }
}

impl std::fmt::Debug for ContextDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContextDir").field("merged", &self.merged).finish_non_exhaustive()
    }
}

/// Returns whether a file lies only in memory, where the kernel does not notice writes to mapped pages.
fn is_in_memory(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    const HUGETLBFS: u64 = 0x9584_58f6;
    // The type of the field differs by CPU, and has a sign on some.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
    let kind = rustix::fs::fstatfs(file).map(|status| status.f_type as u64 & 0xffff_ffff);
    kind.is_ok_and(|kind| [TMPFS, RAMFS, HUGETLBFS].contains(&kind))
}

/// Returns the seconds after which the kernel has written a changed page to the disk, with a reserve; `None` if it does
/// so at no certain time. `setting` returns a file of `/proc/sys/vm`, in hundredths of a second.
fn write_back_time(setting: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
    let (Some(expire), Some(interval)) = (setting("dirty_expire_centisecs"), setting("dirty_writeback_centisecs"))
    else {
        return Some(DEFAULT_WRITE_BACK_TIME);
    };
    // With an interval of zero nothing is written by age.
    (interval > 0).then(|| expire.max(0).saturating_add(interval).saturating_mul(2) / 100 + 1)
}

fn read_kernel_setting(name: &str) -> Option<i64> {
    std::fs::read_to_string(format!("/proc/sys/vm/{name}")).ok()?.trim().parse().ok()
}

/// Fixed-width little-endian fields after each path; a digest of everything before it ends the file.
fn write_index(all: &BTreeMap<TreePath, CachedFileDigest>) -> Vec<u8> {
    let mut out = INDEX_MAGIC.to_vec();
    for (path, known) in all {
        let path = path.as_bytes();
        out.extend_from_slice(&u32::try_from(path.len()).expect("a path is short").to_le_bytes());
        out.extend_from_slice(path);
        for (seconds, nanos) in [known.mtime, known.ctime] {
            out.extend_from_slice(&seconds.to_le_bytes());
            out.extend_from_slice(&nanos.to_le_bytes());
        }
        out.extend_from_slice(&known.size.to_le_bytes());
        out.extend_from_slice(&known.inode.to_le_bytes());
        out.push(u8::from(known.is_plain));
        out.extend_from_slice(&known.digest);
    }
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

/// Returns true if the index of a context is intact, also one of an earlier version.
pub(crate) fn is_intact_index(path: &Path) -> bool {
    let Some(bytes) = atomic_file::read_limited(path, MAX_INDEX_SIZE).ok().flatten() else { return false };
    read_index(&bytes).is_some() || index_body(&bytes).is_some_and(|body| body.starts_with(EARLIER_INDEX_MAGIC))
}

/// Returns the bytes before the checksum, if it is right.
fn index_body(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    (blake3::hash(body).as_bytes() == sum).then_some(body)
}

fn read_index(bytes: &[u8]) -> Option<BTreeMap<TreePath, CachedFileDigest>> {
    let mut rest = index_body(bytes)?.strip_prefix(INDEX_MAGIC)?;
    let mut all = BTreeMap::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take_bytes(&mut rest)?);
        let (path, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        let mut time =
            || Some((i64::from_le_bytes(take_bytes(&mut rest)?), u32::from_le_bytes(take_bytes(&mut rest)?)));
        let (mtime, ctime) = (time()?, time()?);
        let size = u64::from_le_bytes(take_bytes(&mut rest)?);
        let inode = u64::from_le_bytes(take_bytes(&mut rest)?);
        let [plain] = take_bytes(&mut rest)?;
        let (is_plain, digest) = (plain == 1, take_bytes(&mut rest)?);
        all.insert(TreePath::parse(path).ok()?, CachedFileDigest { size, mtime, ctime, inode, digest, is_plain });
    }
    Some(all)
}

fn take_bytes<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_at_checked(N)?;
    *rest = after;
    field.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_on_the_disk_after_twice_the_time_that_the_kernel_is_set_to() {
        let with = |expire: Option<i64>, interval: Option<i64>| {
            write_back_time(&|name: &str| if name == "dirty_expire_centisecs" { expire } else { interval })
        };
        assert_eq!(with(Some(3000), Some(500)), Some(71));
        assert_eq!(with(Some(60_000), Some(60_000)), Some(2401));
        assert_eq!(with(Some(3000), Some(0)), None);
        assert_eq!(with(None, Some(500)), Some(DEFAULT_WRITE_BACK_TIME));
        assert!(read_kernel_setting("dirty_expire_centisecs").is_some());
    }

    /// A program maps a file, changes it, waits, and changes it again while the page is still dirty: the times stay.
    #[test]
    fn digest_of_a_file_is_saved_only_when_its_mapped_pages_are_on_the_disk() {
        let (_outer, store, root) = context_with_one_file();
        let changed = std::fs::metadata(root.join("f")).unwrap();
        let changed = std::os::unix::fs::MetadataExt::mtime(&changed);
        let wait = write_back_time(&|name: &str| Some(if name == "dirty_expire_centisecs" { 3000 } else { 500 }));
        let in_memory = is_in_memory(&File::open(root.join("f")).unwrap());
        for (seconds, settled) in [(3, false), (60, false), (73, false), (74, true)] {
            let mut context = open(&store, &root, SavedDigests::Use);
            context.settled_before = wait.map(|wait| changed + seconds - TIMESTAMP_RESOLUTION - wait);
            digest(&context);
            assert_eq!(!context.new_digests.borrow().is_empty(), settled && !in_memory, "{seconds} s");
        }
        let mut context = open(&store, &root, SavedDigests::Use);
        context.settled_before = None;
        digest(&context);
        assert!(context.new_digests.borrow().is_empty());
    }

    #[test]
    fn a_file_in_memory_is_recognised() {
        assert!(is_in_memory(&File::from(rustix::fs::memfd_create("f", rustix::fs::MemfdFlags::CLOEXEC).unwrap())));
        assert!(!is_in_memory(&File::open("/proc/self/status").unwrap()));
    }

    #[test]
    fn saved_digests_are_not_used_when_they_are_to_be_ignored() {
        let (_outer, store, root) = context_with_one_file();
        let first = open(&store, &root, SavedDigests::Use);
        let real = digest(&first);
        // The index says of the file, as it is, that it had another content when it was read.
        let status = first.find(&file(), false).unwrap().unwrap().status;
        let (size, mtime, ctime, inode) = (status.size, status.mtime, status.ctime, status.inode.1);
        let stale = CachedFileDigest { size, mtime, ctime, inode, digest: [7; 32], is_plain: true };
        first.new_digests.borrow_mut().insert(file(), stale);
        first.save(&store);
        assert_eq!(digest(&open(&store, &root, SavedDigests::Use)), [7; 32]);
        let reading = open(&store, &root, SavedDigests::Ignore);
        assert_eq!(digest(&reading), real);
        reading.save(&store);
        assert_eq!(digest(&open(&store, &root, SavedDigests::Use)), real, "the wrong entry is gone");
    }

    fn context_with_one_file() -> (tempfile::TempDir, Store, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let store = Store::open(&outer.path().join("store")).unwrap();
        let root = outer.path().join("context");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("f"), "1").unwrap();
        (outer, store, root)
    }

    fn open(store: &Store, root: &Path, saved: SavedDigests) -> ContextDir {
        ContextDir::open(store, root, Box::new(|_| IgnoreVerdict::Include), saved).unwrap()
    }

    fn file() -> TreePath {
        TreePath::parse(b"f").unwrap()
    }

    fn digest(context: &ContextDir) -> [u8; 32] {
        let node = context.find(&file(), false).unwrap().unwrap();
        context.content_digest(&node).unwrap()
    }
}
