//! A file system as something to look into: a build context, a stage, an image.

use std::fs::File;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::{Status, StoreError};

/// A tree that can be looked into. Paths handed out by [`Tree::find`] and made from [`Tree::list`] are real: no
/// component of them is a symbolic link, except the last.
pub trait Tree {
    /// What `path` leads to, as a process in this root would see it: links in the middle are followed, a last one
    /// only with `follow`, none leads outside. `None` when there is nothing.
    ///
    /// # Errors
    /// When the disk refuses, or the links are a loop.
    fn find(&self, path: &TreePath, follow: bool) -> Result<Option<Node>, StoreError>;

    /// What is at the real path `path`, which came from a listing: nothing on the way is looked at again.
    ///
    /// # Errors
    /// When the disk refuses.
    fn at(&self, path: &TreePath) -> Result<Option<Node>, StoreError>;

    /// The names in the directory at the real path `dir`, sorted by their bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    fn list(&self, dir: &TreePath) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The text of the symbolic link at a real path.
    ///
    /// # Errors
    /// When the disk refuses.
    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, StoreError>;

    /// Opens the regular file at a real path.
    ///
    /// # Errors
    /// When the disk refuses, or it is no regular file.
    fn open(&self, path: &TreePath) -> Result<File, StoreError>;

    /// The extended attributes of `node`, those of the overlay left out.
    ///
    /// # Errors
    /// When the disk refuses.
    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>, StoreError>;

    /// The digest of the bytes of the regular file `node`.
    ///
    /// # Errors
    /// When the disk refuses.
    fn content(&self, node: &Node) -> Result<[u8; 32], StoreError> {
        hash(self.open(&node.path)?).map_err(StoreError::io("read", node.path.as_path()))
    }

    /// The digest that [`Tree::content`] gave for `node`, in a tree that may change while it is looked at.
    fn promised(&self, _node: &Node) -> Option<[u8; 32]> {
        None
    }
}

/// Something in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its real path.
    pub path: TreePath,
    /// What it is.
    pub status: Status,
}

/// The digest of a file's bytes.
pub(crate) fn hash(file: File) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().into())
}
