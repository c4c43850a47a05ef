//! Build contexts: the files that `COPY` reads if it reads no stage and no image.

use std::path::PathBuf;
use std::sync::Arc;

use dram_dockerfile::ignore::Ignore;
use dram_image::TreePath;
use dram_store::{ContextDir, IgnoreFn, Merged, Store, StoreError, Tree, Verdict};

/// A build context.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory of the user, and its ignore list.
    Dir {
        /// The directory.
        path: PathBuf,
        /// The ignore list, if there is one.
        ignore: Option<Arc<Ignore>>,
    },
    /// Files that were fetched into a temporary directory, which is removed after the build. Their digests are not
    /// cached, and nothing in them is ignored.
    Brought {
        /// The directory, in the form of an unpacked layer.
        path: PathBuf,
        /// True if the owners of the files are kept, as in an archive; otherwise the files belong to root.
        owners: bool,
    },
}

impl Context {
    /// Returns whether the files keep their owners.
    pub(crate) fn keeps_owners(&self) -> bool {
        matches!(self, Context::Brought { owners: true, .. })
    }

    /// Opens the context for reading.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be opened.
    pub(crate) fn open(&self, store: &Store) -> Result<Opened, StoreError> {
        Ok(match self {
            Context::Dir { path, ignore } => {
                Opened::Dir(Box::new(ContextDir::open(store, path, verdicts(ignore.clone()))?))
            }
            Context::Brought { path, owners: _ } => Opened::Brought(Merged::open(std::slice::from_ref(path))?),
        })
    }
}

/// An open build context.
pub(crate) enum Opened {
    Dir(Box<ContextDir>),
    Brought(Merged),
}

impl Opened {
    /// Returns the tree of its files, without those that are ignored.
    pub(crate) fn tree(&self) -> &dyn Tree {
        match self {
            Opened::Dir(dir) => dir.as_ref(),
            Opened::Brought(tree) => tree,
        }
    }

    /// Returns whether `path` exists and is ignored.
    pub(crate) fn hides(&self, path: &TreePath) -> bool {
        match self {
            Opened::Dir(dir) => {
                matches!(dir.unfiltered().find(path, true), Ok(Some(node)) if dir.hides(&node.path))
            }
            Opened::Brought(_) => false,
        }
    }

    /// Saves the file digests that were computed, for the next build.
    pub(crate) fn save(&self, store: &Store) {
        match self {
            Opened::Dir(dir) => dir.save(store),
            Opened::Brought(_) => {}
        }
    }
}

/// Converts the ignore list into the form that the store takes.
fn verdicts(ignore: Option<Arc<Ignore>>) -> IgnoreFn {
    match ignore {
        None => Box::new(|_: &TreePath| Verdict::Keep),
        Some(ignore) => Box::new(move |path: &TreePath| {
            let path = String::from_utf8_lossy(path.as_bytes());
            match ignore.excludes(&path) {
                false => Verdict::Keep,
                true if ignore.may_prune(&path) => Verdict::Drop,
                true => Verdict::Look,
            }
        }),
    }
}
