//! A local build context: a directory with ignore patterns and an index of its files' digests.
//!
//! An entry of the index is valid while size, times and inode of the file are unchanged. A file that changed within two
//! seconds before the index was written could change again with equal times; it is read again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::file::{self, Durable};
use crate::{FileKind, Merged, Node, Status, Store, StoreError, Tree};

/// Maximum size of an index; it is enough for a million files.
const LARGEST_INDEX: u64 = 256 << 20;
/// Resolution of time stamps in seconds: the coarsest of known file systems, rounded up.
const RACE_SECONDS: i64 = 2;
const MAGIC: &[u8; 8] = b"dramctx2";

/// The decision of the ignore patterns about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The path is in the context.
    Keep,
    /// The path and everything below it is ignored.
    Drop,
    /// The path is ignored, but paths below it may be in the context.
    Look,
}

/// The ignore patterns, as a function of a resolved path.
pub type IgnoreFn = Box<dyn Fn(&TreePath) -> Verdict>;

/// A local build context.
pub struct ContextDir {
    merged: Merged,
    ignore: IgnoreFn,
    index: PathBuf,
    /// Time at which this was opened, by the clock of the file system.
    opened: i64,
    before: BTreeMap<TreePath, Remembered>,
    now: RefCell<BTreeMap<TreePath, Remembered>>,
    /// Every digest that was returned.
    promised: RefCell<HashMap<TreePath, [u8; 32]>>,
    /// Cached results of [`ContextDir::has_visible_child`].
    shows: RefCell<BTreeMap<TreePath, bool>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Remembered {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    inode: u64,
    digest: [u8; 32],
    /// Has no extended attributes.
    is_plain: bool,
}

impl Remembered {
    fn holds_for(&self, status: &Status) -> bool {
        (self.size, self.mtime, self.ctime, self.inode) == (status.size, status.mtime, status.ctime, status.inode.1)
    }
}

impl ContextDir {
    /// Opens the context at `path`, with the digests that `store` has cached.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn open(store: &Store, path: &Path, ignore: IgnoreFn) -> Result<ContextDir, StoreError> {
        let merged = Merged::of_dir(path)?;
        let real = std::fs::canonicalize(path).map_err(StoreError::io("open", path))?;
        let name = blake3::hash(real.as_os_str().as_bytes()).to_hex().to_string();
        let index = store.join("contexts").join(name);
        // Time stamps are made with the clock of the file system, so this clock is read.
        let probe = file::temporary(&store.work().path());
        let made = File::create(&probe).and_then(|file| file.metadata());
        let opened = made.map(|meta| std::os::unix::fs::MetadataExt::mtime(&meta));
        let opened = opened.map_err(StoreError::io("create", &probe))?;
        let _ = std::fs::remove_file(&probe);
        let before = file::read_small(&index, LARGEST_INDEX).ok().flatten();
        let before = before.and_then(|bytes| read_index(&bytes)).unwrap_or_default();
        Ok(ContextDir {
            merged,
            ignore,
            index,
            opened,
            before,
            now: RefCell::default(),
            promised: RefCell::default(),
            shows: RefCell::default(),
        })
    }

    /// Saves the computed digests for the next build. A failure only costs that build time.
    pub fn save(&self, store: &Store) {
        let now = self.now.borrow();
        if now.is_empty() || *now == self.before {
            return;
        }
        // Files that this build did not read, for example those of another COPY, stay cached.
        let mut all = self.before.clone();
        all.extend(now.iter().map(|(path, known)| (path.clone(), known.clone())));
        let bytes = write_index(&all);
        let _ = file::replace(&self.index, &bytes, &store.work().path(), Durable::No);
    }

    /// Returns the cached digest of `node` if it is still valid.
    fn known(&self, node: &Node) -> Option<Remembered> {
        let now = self.now.borrow();
        let known = now.get(&node.path).or_else(|| self.before.get(&node.path));
        known.filter(|known| known.holds_for(&node.status)).cloned()
    }

    fn is_visible(&self, path: &TreePath, status: &Status) -> Result<bool, StoreError> {
        if path.is_root() {
            return Ok(true);
        }
        match (self.ignore)(path) {
            Verdict::Keep => Ok(true),
            Verdict::Look if status.kind == FileKind::Dir => self.shows_something(path),
            Verdict::Drop | Verdict::Look => Ok(false),
        }
    }

    /// An ignored directory is visible when something below it is not ignored.
    fn shows_something(&self, dir: &TreePath) -> Result<bool, StoreError> {
        if let Some(&known) = self.shows.borrow().get(dir) {
            return Ok(known);
        }
        let shows = !self.list(dir)?.is_empty();
        self.shows.borrow_mut().insert(dir.clone(), shows);
        Ok(shows)
    }

    /// Returns true if the ignore patterns exclude `path` or one of its parents.
    pub fn hides(&self, path: &TreePath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if !path.is_root() && (self.ignore)(&path) != Verdict::Keep {
                return true;
            }
            at = path.parent();
        }
        false
    }

    /// Returns the directory without ignore patterns, for messages.
    pub fn unfiltered(&self) -> &dyn Tree {
        &self.merged
    }
}

impl Tree for ContextDir {
    fn find(&self, path: &TreePath, follow: bool) -> Result<Option<Node>, StoreError> {
        match self.merged.find(path, follow)? {
            Some(node) if self.is_visible(&node.path, &node.status)? => Ok(Some(node)),
            Some(_) | None => Ok(None),
        }
    }

    fn at(&self, path: &TreePath) -> Result<Option<Node>, StoreError> {
        match self.merged.at(path)? {
            Some(node) if self.is_visible(&node.path, &node.status)? => Ok(Some(node)),
            Some(_) | None => Ok(None),
        }
    }

    fn list(&self, dir: &TreePath) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut names = Vec::new();
        for name in self.merged.list(dir)? {
            let path = dir.join(&name);
            let visible = match (self.ignore)(&path) {
                Verdict::Keep => true,
                Verdict::Drop => false,
                Verdict::Look => match self.merged.at(&path)? {
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
        self.merged.read_link(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, StoreError> {
        self.merged.open(path)
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>, StoreError> {
        // Setting an attribute changes the inode's change time, so the cached value is valid.
        if self.known(node).is_some_and(|known| known.is_plain) {
            return Ok(Vec::new());
        }
        self.merged.xattrs(node)
    }

    fn content(&self, node: &Node) -> Result<[u8; 32], StoreError> {
        let known = self.known(node);
        let is_plain = match &known {
            Some(known) => known.is_plain,
            None => self.merged.xattrs(node)?.is_empty(),
        };
        let digest = match known {
            Some(known) => known.digest,
            None => crate::tree::hash(self.open(&node.path)?).map_err(StoreError::io("read", node.path.as_path()))?,
        };
        self.promised.borrow_mut().insert(node.path.clone(), digest);
        let status = &node.status;
        let settled = self.opened - RACE_SECONDS;
        if status.mtime.0 < settled && status.ctime.0 < settled {
            let (size, mtime, ctime, inode) = (status.size, status.mtime, status.ctime, status.inode.1);
            let known = Remembered { size, mtime, ctime, inode, digest, is_plain };
            self.now.borrow_mut().insert(node.path.clone(), known);
        }
        Ok(digest)
    }

    fn promised(&self, node: &Node) -> Option<[u8; 32]> {
        self.promised.borrow().get(&node.path).copied()
    }
}

impl std::fmt::Debug for ContextDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContextDir").field("merged", &self.merged).finish_non_exhaustive()
    }
}

/// Fixed-width little-endian fields after each path; a digest of everything before it ends the file.
fn write_index(all: &BTreeMap<TreePath, Remembered>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
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

/// Returns true if the index of a context is intact.
pub(crate) fn is_whole(path: &Path) -> bool {
    file::read_small(path, LARGEST_INDEX).ok().flatten().and_then(|bytes| read_index(&bytes)).is_some()
}

fn read_index(bytes: &[u8]) -> Option<BTreeMap<TreePath, Remembered>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let mut all = BTreeMap::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take(&mut rest)?);
        let (path, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        let mut time = || Some((i64::from_le_bytes(take(&mut rest)?), u32::from_le_bytes(take(&mut rest)?)));
        let (mtime, ctime) = (time()?, time()?);
        let size = u64::from_le_bytes(take(&mut rest)?);
        let inode = u64::from_le_bytes(take(&mut rest)?);
        let [plain] = take(&mut rest)?;
        let (is_plain, digest) = (plain == 1, take(&mut rest)?);
        all.insert(TreePath::parse(path).ok()?, Remembered { size, mtime, ctime, inode, digest, is_plain });
    }
    Some(all)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_at_checked(N)?;
    *rest = after;
    field.try_into().ok()
}
