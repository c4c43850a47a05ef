//! The files that `COPY` takes when they are no stage's and no image's.

use std::path::PathBuf;
use std::sync::Arc;

use dram_dockerfile::ignore::Ignore;
use dram_image::TreePath;
use dram_store::{ContextDir, IgnoreFn, Merged, Store, StoreError, Tree, Verdict};

/// The files that `COPY` takes.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory of the user's, and what is ignored in it.
    Dir {
        /// The directory.
        path: PathBuf,
        /// The ignore list, if there is one.
        ignore: Option<Arc<Ignore>>,
    },
    /// What was brought from elsewhere into a directory that is gone after the build: nothing is remembered of it, and
    /// nothing in it is ignored.
    Brought {
        /// The directory, unpacked as a layer is.
        path: PathBuf,
        /// Whether owners are what they say, as in an archive; else the files are root's.
        owners: bool,
    },
}

impl Context {
    /// Whether the files keep their owners.
    pub(crate) fn keeps_owners(&self) -> bool {
        matches!(self, Context::Brought { owners: true, .. })
    }

    /// The files, to look at.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub(crate) fn open(&self, store: &Store) -> Result<Opened, StoreError> {
        Ok(match self {
            Context::Dir { path, ignore } => {
                Opened::Dir(Box::new(ContextDir::open(store, path, verdicts(ignore.clone()))?))
            }
            Context::Brought { path, owners: _ } => Opened::Brought(Merged::open(std::slice::from_ref(path))?),
        })
    }
}

/// A context that can be looked at.
pub(crate) enum Opened {
    Dir(Box<ContextDir>),
    Brought(Merged),
}

impl Opened {
    /// Its files, without those that are ignored.
    pub(crate) fn tree(&self) -> &dyn Tree {
        match self {
            Opened::Dir(dir) => dir.as_ref(),
            Opened::Brought(tree) => tree,
        }
    }

    /// Whether there is something at `path` that is ignored.
    pub(crate) fn hides(&self, path: &TreePath) -> bool {
        match self {
            Opened::Dir(dir) => {
                matches!(dir.unfiltered().find(path, true), Ok(Some(node)) if dir.hides(&node.path))
            }
            Opened::Brought(_) => false,
        }
    }

    /// Keeps what was learnt for the next build.
    pub(crate) fn save(&self, store: &Store) {
        match self {
            Opened::Dir(dir) => dir.save(store),
            Opened::Brought(_) => {}
        }
    }
}

/// The ignore list as the store asks for it.
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
