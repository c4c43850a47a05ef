//! The release tree: the entries of a release by path, before they are written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dram_image::TreePath;
use dram_release::beam::StripRule;

/// The entries of a release by path. Parent directories of an entry are implied.
#[derive(Debug, Default)]
pub(crate) struct ReleaseTree {
    entries: BTreeMap<TreePath, ReleaseEntry>,
}

/// An entry of a release.
#[derive(Debug)]
pub(crate) enum ReleaseEntry {
    /// A directory, which may be empty.
    Dir,
    /// A file.
    File {
        /// The content.
        content: ReleaseFileContent,
        /// The permission bits.
        mode: u32,
    },
    /// A symbolic link with its target.
    Link(Vec<u8>),
}

/// The source of a file's content.
#[derive(Debug)]
pub(crate) enum ReleaseFileContent {
    /// Bytes that dram generated.
    Bytes(Vec<u8>),
    /// Bytes embedded in dram.
    Embedded(&'static [u8]),
    /// A file on disk, unchanged.
    Disk(PathBuf),
    /// A `.beam` file on disk, stripped by a rule.
    Beam(PathBuf, Arc<StripRule>),
}

/// The permission bits of a file of a release.
pub(crate) const FILE_MODE: u32 = 0o644;
/// The permission bits of an executable file of a release.
pub(crate) const EXECUTABLE_MODE: u32 = 0o755;

/// Returns the permission bits of a file, without those that depend on the umask of who wrote it.
pub(crate) fn usual_mode(mode: u32) -> u32 {
    if mode & 0o111 != 0 { EXECUTABLE_MODE } else { FILE_MODE }
}

/// Returns the permission bits of a file of the project: the usual ones, without those that the project keeps from the
/// group and from others.
pub(crate) fn restricted_mode(mode: u32) -> u32 {
    usual_mode(mode) & (mode | 0o700)
}

/// Returns a path relative to the release's root, as `start.conf` expects it.
pub(crate) fn below_root(path: &TreePath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

impl ReleaseTree {
    /// Puts `entry` at `path`, and replaces what was there.
    pub(crate) fn put(&mut self, path: TreePath, entry: ReleaseEntry) {
        self.entries.insert(path, entry);
    }

    /// Puts a text file at `path`.
    pub(crate) fn put_text(&mut self, path: TreePath, text: impl Into<Vec<u8>>) {
        self.put(path, ReleaseEntry::File { content: ReleaseFileContent::Bytes(text.into()), mode: FILE_MODE });
    }

    /// Returns the entry at `path`.
    pub(crate) fn get(&self, path: &TreePath) -> Option<&ReleaseEntry> {
        self.entries.get(path)
    }

    /// Removes the entry at `path`.
    pub(crate) fn remove(&mut self, path: &TreePath) -> Option<ReleaseEntry> {
        self.entries.remove(path)
    }

    /// Returns all entries, sorted by path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TreePath, &ReleaseEntry)> {
        self.entries.iter()
    }
}
