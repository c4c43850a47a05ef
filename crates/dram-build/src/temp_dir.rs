//! Temporary directories that are removed when they are not needed any more, also after an error.

use std::path::{Path, PathBuf};

use dram_store::{Store, StoreError};

/// A temporary directory in the work directory of this process. It is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct TempDir<'a> {
    store: &'a Store,
    /// Empty after [`TempDir::keep`].
    path: PathBuf,
}

impl<'a> TempDir<'a> {
    /// Makes an empty directory.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub(crate) fn new(store: &'a Store) -> Result<TempDir<'a>, StoreError> {
        Ok(TempDir { store, path: store.work_dir().temp_dir()? })
    }

    /// Takes over the directory at `path`, which [`ProcessWorkDir::temp_dir`](dram_store::ProcessWorkDir::temp_dir)
    /// made.
    pub(crate) fn adopt(store: &'a Store, path: PathBuf) -> TempDir<'a> {
        TempDir { store, path }
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the directory, which is not removed any more.
    pub(crate) fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for TempDir<'_> {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            self.store.work_dir().remove_temp_dir(&self.path);
        }
    }
}
