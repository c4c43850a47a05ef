//! What a copy takes over: one digest of all of it, and a note about each file, to name those that changed.

use std::collections::HashMap;
use std::sync::Arc;

use dram_image::TreePath;
use dram_store::{FileKind, KeyMaker, Node, StepKey, StoreError, Tree};

use crate::pick::Picked;
use crate::select::{Selected, children};

/// Of more files than this no notes are kept.
pub(crate) const MOST_FILES: usize = 100_000;

/// What files are taken from elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// The digest of everything that a copy takes over: names, kinds, modes, bytes, attributes, and owners where they
    /// count. Times are not among it.
    pub(crate) digest: StepKey,
    /// Notes about the files.
    pub(crate) files: Arc<Files>,
}

/// A note about each of some files, in the order in which they were met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// The notes; none when there are too many.
    pub(crate) notes: Vec<FileNote>,
    /// How many files there are.
    pub(crate) count: usize,
}

/// What must be known of a file to say how it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileNote {
    /// Where it lies in the tree that it is taken from.
    pub(crate) path: Vec<u8>,
    /// What it is, as `stat` has it: kind and permissions.
    pub(crate) mode: u32,
    /// User and group, where they count.
    pub(crate) owner: (u32, u32),
    /// A digest of the bytes, or where a symbolic link leads.
    pub(crate) bytes: [u8; 8],
    /// A digest of the attributes; zeros when there are none.
    pub(crate) attributes: [u8; 8],
}

impl Content {
    /// The content of `selected`. `owners` says whether owners count.
    ///
    /// # Errors
    /// When something cannot be read.
    pub(crate) fn of(tree: &dyn Tree, selected: &[Selected], owners: bool) -> Result<Content, StoreError> {
        let mut walk = Walk { tree, owners, key: KeyMaker::default(), files: Files::default(), links: HashMap::new() };
        for (at, one) in selected.iter().enumerate() {
            let base = one.node.path.clone();
            let picked = one.seen.as_ref().map(|seen| Picked { tree, seen });
            let tree = picked.as_ref().map_or(tree, |picked| picked as &dyn Tree);
            let mut todo = vec![one.node.clone()];
            while let Some(node) = todo.pop() {
                let below = node.path.below(&base).unwrap_or_default();
                walk.visit(at, &node, &below, &one.name)?;
                if node.status.kind == FileKind::Dir {
                    todo.extend(children(tree, &node.path)?.into_iter().rev());
                }
            }
        }
        Ok(Content { digest: walk.key.finish(), files: Arc::new(walk.files) })
    }
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    owners: bool,
    key: KeyMaker,
    files: Files,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), (usize, TreePath)>,
}

impl Walk<'_> {
    /// Adds what is at `below` of the selected thing number `at`, which is called `name`.
    fn visit(&mut self, at: usize, node: &Node, below: &TreePath, name: &[u8]) -> Result<(), StoreError> {
        let status = &node.status;
        let mode = kind_bits(status.kind) | status.mode;
        let owner = if self.owners { (status.uid, status.gid) } else { (0, 0) };
        self.key.add(&(at as u64).to_le_bytes());
        self.key.add(if below.is_root() { name } else { below.as_bytes() });
        self.key.add(&mode.to_le_bytes());
        self.key.add(&owner.0.to_le_bytes());
        self.key.add(&owner.1.to_le_bytes());
        let attributes = self.attributes(node)?;
        let bytes = self.bytes(at, node, below)?;
        self.files.count += 1;
        if self.files.count <= MOST_FILES {
            self.files.notes.push(FileNote { path: node.path.as_bytes().to_vec(), mode, owner, bytes, attributes });
        } else {
            self.files.notes = Vec::new();
        }
        Ok(())
    }

    fn attributes(&mut self, node: &Node) -> Result<[u8; 8], StoreError> {
        let all = self.tree.xattrs(node)?;
        if all.is_empty() {
            self.key.add(&[]);
            return Ok([0; 8]);
        }
        let digest = StepKey::of(all.iter().flat_map(|(name, value)| [name.as_slice(), value]));
        self.key.add(digest.as_bytes());
        Ok(short(digest.as_bytes()))
    }

    fn bytes(&mut self, at: usize, node: &Node, below: &TreePath) -> Result<[u8; 8], StoreError> {
        match node.status.kind {
            FileKind::File => {
                let mut bytes = self.tree.content(node)?;
                if node.status.links > 1 {
                    let first = self.links.entry(node.status.inode).or_insert_with(|| (at, below.clone()));
                    let link = format!("{} {}", first.0, first.1);
                    bytes = StepKey::of([&bytes[..], link.as_bytes()]).to_bytes();
                }
                self.key.add(&bytes);
                Ok(short(&bytes))
            }
            FileKind::Symlink => {
                let target = self.tree.read_link(&node.path)?;
                self.key.add(&target);
                Ok(short(StepKey::of([target.as_slice()]).as_bytes()))
            }
            FileKind::Dir | FileKind::Fifo | FileKind::Socket => Ok([0; 8]),
            FileKind::Char(major, minor) | FileKind::Block(major, minor) => {
                let device = StepKey::of([&major.to_le_bytes()[..], &minor.to_le_bytes()]);
                self.key.add(device.as_bytes());
                Ok(short(device.as_bytes()))
            }
        }
    }
}

/// The first bytes of a digest: enough to tell two versions of one file apart.
fn short(digest: &[u8]) -> [u8; 8] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// The bits that `stat` has for the kind.
fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Fifo => 0o010_000,
        FileKind::Char(..) => 0o020_000,
        FileKind::Dir => 0o040_000,
        FileKind::Block(..) => 0o060_000,
        FileKind::File => 0o100_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Socket => 0o140_000,
    }
}
