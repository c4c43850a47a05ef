//! Build contexts: the files that `COPY` reads if it reads no stage and no image.

use std::path::PathBuf;
use std::sync::Arc;

use dram_dockerfile::ignore::IgnoreList;
use dram_image::TreePath;
use dram_store::{ContextDir, FileTree, IgnoreFn, IgnoreVerdict, MergedTree, SavedDigests, Store, StoreError};

/// A build context.
#[derive(Debug, Clone)]
pub enum BuildContext {
    /// A directory of the user, and its ignore list.
    Dir {
        /// The directory.
        path: PathBuf,
        /// The ignore list, if there is one.
        ignore: Option<Arc<IgnoreList>>,
    },
    /// Files that were fetched into a temporary directory, which is removed after the build. Their digests are not
    /// cached, and nothing in them is ignored.
    Fetched {
        /// The directory, in the form of an unpacked layer.
        path: PathBuf,
        /// True if the owners of the files are kept, as in an archive; otherwise the files belong to root.
        owners: bool,
    },
}

impl BuildContext {
    /// Returns whether the files keep their owners.
    pub(crate) fn keeps_owners(&self) -> bool {
        matches!(self, BuildContext::Fetched { owners: true, .. })
    }

    /// Opens the context for reading. `saved` says whether digests of files are taken from earlier builds.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be opened.
    pub(crate) fn open(&self, store: &Store, saved: SavedDigests) -> Result<OpenContext, StoreError> {
        Ok(match self {
            BuildContext::Dir { path, ignore } => {
                OpenContext::Dir(Box::new(ContextDir::open(store, path, ignore_fn(ignore.clone()), saved)?))
            }
            BuildContext::Fetched { path, owners: _ } => {
                OpenContext::Fetched(MergedTree::open(std::slice::from_ref(path))?)
            }
        })
    }
}

/// An open build context.
pub(crate) enum OpenContext {
    Dir(Box<ContextDir>),
    Fetched(MergedTree),
}

impl OpenContext {
    /// Returns the tree of its files, without those that are ignored.
    pub(crate) fn tree(&self) -> &dyn FileTree {
        match self {
            OpenContext::Dir(dir) => dir.as_ref(),
            OpenContext::Fetched(tree) => tree,
        }
    }

    /// Returns whether `path` exists and is ignored.
    pub(crate) fn is_ignored(&self, path: &TreePath) -> bool {
        match self {
            OpenContext::Dir(dir) => {
                matches!(dir.unfiltered().find(path, true), Ok(Some(node)) if dir.is_ignored(&node.path))
            }
            OpenContext::Fetched(_) => false,
        }
    }

    /// Saves the file digests that were computed, for the next build.
    pub(crate) fn save(&self, store: &Store) {
        match self {
            OpenContext::Dir(dir) => dir.save(store),
            OpenContext::Fetched(_) => {}
        }
    }
}

/// Converts the ignore list into the form that the store takes.
fn ignore_fn(ignore: Option<Arc<IgnoreList>>) -> IgnoreFn {
    match ignore {
        None => Box::new(|_: &TreePath| IgnoreVerdict::Include),
        Some(ignore) => Box::new(move |path: &TreePath| {
            let path = String::from_utf8_lossy(path.as_bytes());
            match ignore.excludes(&path) {
                false => IgnoreVerdict::Include,
                true if ignore.may_prune(&path) => IgnoreVerdict::Exclude,
                true => IgnoreVerdict::Descend,
            }
        }),
    }
}
