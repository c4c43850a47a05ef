//! Read access to a file tree: a build context, a stage or an image.

use std::fs::File;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::{FileStatus, StoreError};

/// A readable file tree. Paths returned by [`FileTree::find`] or built from [`FileTree::list`] are real: none of their
/// components is a symbolic link, except perhaps the last.
pub trait FileTree {
    /// Resolves `path` as a process with this root would: symbolic links are followed, a last one only with `follow`,
    /// and none leads outside. `None` when nothing exists there.
    ///
    /// # Errors
    /// On an I/O error, or when the symbolic links form a loop.
    fn find(&self, path: &TreePath, follow: bool) -> Result<Option<TreeNode>, StoreError>;

    /// The node at the real path `path`, which comes from a listing: its parents are not resolved again.
    ///
    /// # Errors
    /// On an I/O error.
    fn node_at(&self, path: &TreePath) -> Result<Option<TreeNode>, StoreError>;

    /// The names in the directory at the real path `dir`, sorted by their bytes.
    ///
    /// # Errors
    /// On an I/O error.
    fn list(&self, dir: &TreePath) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The target of the symbolic link at a real path.
    ///
    /// # Errors
    /// On an I/O error.
    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, StoreError>;

    /// Opens the regular file at a real path.
    ///
    /// # Errors
    /// On an I/O error, or when it is not a regular file.
    fn open(&self, path: &TreePath) -> Result<File, StoreError>;

    /// The extended attributes of `node`, without those of overlayfs.
    ///
    /// # Errors
    /// On an I/O error.
    fn xattrs(&self, node: &TreeNode) -> Result<Vec<Xattr>, StoreError>;

    /// The digest of the content of the regular file `node`.
    ///
    /// # Errors
    /// On an I/O error.
    fn content_digest(&self, node: &TreeNode) -> Result<[u8; 32], StoreError> {
        hash_file(self.open(&node.path)?).map_err(StoreError::io("read", node.path.as_path()))
    }

    /// The digest that [`FileTree::content_digest`] returned for `node` earlier, in a tree that may change meanwhile.
    fn recorded_content_digest(&self, _node: &TreeNode) -> Option<[u8; 32]> {
        None
    }
}

/// A file, directory or other entry of a file tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNode {
    /// Its real path.
    pub path: TreePath,
    /// Its status.
    pub status: FileStatus,
}

/// The digest of a file's content.
pub(crate) fn hash_file(file: File) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().into())
}
