//! The content of copied files: one digest of all of them, and a note about each file, to name the files that changed.

use std::collections::HashMap;
use std::sync::Arc;

use dram_image::TreePath;
use dram_store::{FileKind, FileTree, StepKey, StepKeyBuilder, StoreError, TreeNode};

use crate::filtered_tree::FilteredTree;
use crate::select_sources::{SelectedNode, children};

/// Notes are kept of at most this many files.
pub(crate) const MAX_FILES: usize = 100_000;

/// The content of files that a step takes from another tree.
#[derive(Debug, Clone)]
pub(crate) struct ContentDigest {
    /// The digest of everything that a copy takes over: names, kinds, modes, bytes, extended attributes, and owners if
    /// they are kept. It does not cover times.
    pub(crate) digest: StepKey,
    /// Notes about the files.
    pub(crate) files: Arc<FileList>,
    /// The content that the copy does not take over.
    pub(crate) left_out: LeftOutContent,
}

/// The first paths of what a copy cannot take over.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeftOutContent {
    /// A socket, which a tar cannot hold.
    pub(crate) socket: Option<TreePath>,
    /// A file with extended attributes whose names begin with `user.`.
    pub(crate) user_xattrs: Option<TreePath>,
}

/// Notes about files, in the order in which they were visited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileList {
    /// The notes; empty if there are too many files.
    pub(crate) notes: Vec<FileNote>,
    /// The number of files.
    pub(crate) count: usize,
}

/// The data of a file that is needed to say how it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileNote {
    /// The path in the tree that the file is taken from.
    pub(crate) path: Vec<u8>,
    /// Kind and permissions, as in `st_mode`.
    pub(crate) mode: u32,
    /// User and group; zeros if owners are not kept.
    pub(crate) owner: (u32, u32),
    /// A digest of the bytes, or of the target of a symbolic link.
    pub(crate) content: [u8; 8],
    /// A digest of the extended attributes; zeros if there are none.
    pub(crate) xattrs: [u8; 8],
}

impl ContentDigest {
    /// Digests the content of `selected`. `owners` says whether owners are kept and therefore covered.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(crate) fn of(
        tree: &dyn FileTree,
        selected: &[SelectedNode],
        owners: bool,
    ) -> Result<ContentDigest, StoreError> {
        let mut walk = ContentWalk {
            tree,
            owners,
            key: StepKeyBuilder::default(),
            files: FileList::default(),
            links: HashMap::new(),
            left_out: LeftOutContent::default(),
        };
        for (at, one) in selected.iter().enumerate() {
            let base = one.node.path.clone();
            let picked = one.visible.as_ref().map(|seen| FilteredTree { tree, visible: seen });
            let tree = picked.as_ref().map_or(tree, |picked| picked as &dyn FileTree);
            let mut todo = vec![one.node.clone()];
            while let Some(node) = todo.pop() {
                let below = node.path.strip_prefix(&base).unwrap_or_default();
                walk.visit(at, &node, &below, &one.name)?;
                if node.status.kind == FileKind::Dir {
                    todo.extend(children(tree, &node.path)?.into_iter().rev());
                }
            }
        }
        Ok(ContentDigest { digest: walk.key.finish(), files: Arc::new(walk.files), left_out: walk.left_out })
    }
}

struct ContentWalk<'a> {
    tree: &'a dyn FileTree,
    owners: bool,
    key: StepKeyBuilder,
    files: FileList,
    /// The first name of each file with several hard links.
    links: HashMap<(u64, u64), (usize, TreePath)>,
    left_out: LeftOutContent,
}

impl ContentWalk<'_> {
    /// Adds the node at `below` in the selected node number `at`, whose name is `name`.
    fn visit(&mut self, at: usize, node: &TreeNode, below: &TreePath, name: &[u8]) -> Result<(), StoreError> {
        let status = &node.status;
        if status.kind == FileKind::Socket {
            self.left_out.socket.get_or_insert_with(|| node.path.clone());
        }
        let mode = file_type_bits(status.kind) | status.mode;
        let owner = if self.owners { (status.uid, status.gid) } else { (0, 0) };
        self.key.add(&(at as u64).to_le_bytes());
        self.key.add(if below.is_root() { name } else { below.as_bytes() });
        self.key.add(&mode.to_le_bytes());
        self.key.add(&owner.0.to_le_bytes());
        self.key.add(&owner.1.to_le_bytes());
        let attributes = self.add_xattrs(node)?;
        let bytes = self.add_bytes(at, node, below)?;
        self.files.count += 1;
        if self.files.count <= MAX_FILES {
            self.files.notes.push(FileNote {
                path: node.path.as_bytes().to_vec(),
                mode,
                owner,
                content: bytes,
                xattrs: attributes,
            });
        } else {
            self.files.notes = Vec::new();
        }
        Ok(())
    }

    fn add_xattrs(&mut self, node: &TreeNode) -> Result<[u8; 8], StoreError> {
        let all = self.tree.xattrs(node)?;
        if all.iter().any(|(name, _)| name.starts_with(b"user.")) {
            self.left_out.user_xattrs.get_or_insert_with(|| node.path.clone());
        }
        if all.is_empty() {
            self.key.add(&[]);
            return Ok([0; 8]);
        }
        let digest = StepKey::of(all.iter().flat_map(|(name, value)| [name.as_slice(), value]));
        self.key.add(digest.as_bytes());
        Ok(short_digest(digest.as_bytes()))
    }

    fn add_bytes(&mut self, at: usize, node: &TreeNode, below: &TreePath) -> Result<[u8; 8], StoreError> {
        match node.status.kind {
            FileKind::File => {
                let mut bytes = self.tree.content_digest(node)?;
                if node.status.link_count > 1 {
                    let first = self.links.entry(node.status.inode).or_insert_with(|| (at, below.clone()));
                    let link = format!("{} {}", first.0, first.1);
                    bytes = StepKey::of([&bytes[..], link.as_bytes()]).to_bytes();
                }
                self.key.add(&bytes);
                Ok(short_digest(&bytes))
            }
            FileKind::Symlink => {
                let target = self.tree.read_link(&node.path)?;
                self.key.add(&target);
                Ok(short_digest(StepKey::of([target.as_slice()]).as_bytes()))
            }
            FileKind::Dir | FileKind::Fifo | FileKind::Socket => Ok([0; 8]),
            FileKind::Char(major, minor) | FileKind::Block(major, minor) => {
                let device = StepKey::of([&major.to_le_bytes()[..], &minor.to_le_bytes()]);
                self.key.add(device.as_bytes());
                Ok(short_digest(device.as_bytes()))
            }
        }
    }
}

/// The first bytes of a digest, enough to distinguish two versions of one file.
fn short_digest(digest: &[u8]) -> [u8; 8] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// The file type bits of `st_mode`.
fn file_type_bits(kind: FileKind) -> u32 {
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
