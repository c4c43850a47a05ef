//! A release as a value: what lies where, before anything is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dram_image::TreePath;
use dram_release::beam::StripRule;

/// What a release holds, by path. Directories above an entry exist without being named.
#[derive(Debug, Default)]
pub(crate) struct ReleaseTree {
    entries: BTreeMap<TreePath, Entry>,
}

/// One thing in a release.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A directory that may be empty.
    Dir,
    /// A file.
    File {
        /// What is in it.
        content: Content,
        /// Whether it can be executed.
        executable: bool,
    },
    /// A symbolic link and what it says.
    Link(Vec<u8>),
}

/// Where a file's bytes come from.
#[derive(Debug)]
pub(crate) enum Content {
    /// They were made here.
    Bytes(Vec<u8>),
    /// They are a part of this program.
    Own(&'static [u8]),
    /// A file on disk, as it is.
    Disk(PathBuf),
    /// A `.beam` on disk, stripped by a rule.
    Beam(PathBuf, Arc<StripRule>),
}

impl ReleaseTree {
    /// Puts `entry` at `path`, in place of what was there.
    pub(crate) fn put(&mut self, path: TreePath, entry: Entry) {
        self.entries.insert(path, entry);
    }

    /// Puts a file of text at `path`.
    pub(crate) fn put_text(&mut self, path: TreePath, text: impl Into<Vec<u8>>) {
        self.put(path, Entry::File { content: Content::Bytes(text.into()), executable: false });
    }

    /// What is at `path`.
    pub(crate) fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Takes away what is at `path`.
    pub(crate) fn take(&mut self, path: &TreePath) -> Option<Entry> {
        self.entries.remove(path)
    }

    /// Everything, in the order of paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.entries.iter()
    }
}
