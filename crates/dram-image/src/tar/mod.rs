//! Layer tars: a bounded reader for foreign ones, a writer whose bytes depend on nothing but its entries.
//!
//! Follows POSIX.1-2001 pax and the GNU extensions that engines write (`L`, `K`, base-256 numbers), and the OCI image
//! specification's `layer.md` for `SCHILY.xattr.*` records. Header blocks are taken apart by the `tar` crate; what
//! spans blocks (long names, extended headers, sizes) is read here, so that each of them is bounded and no two of
//! them can disagree about where the next entry starts.

mod read;
mod write;

pub use read::{TarError, TarReader, is_header};
pub use write::TarWriter;

use crate::TreePath;

/// Name and value of one extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One entry of a layer tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, whole seconds since 1970.
    pub mtime: i64,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of `size` bytes, which follow.
    File {
        /// Bytes that follow the header.
        size: u64,
    },
    /// A directory.
    Dir,
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
    /// Another name of an earlier file.
    HardLink(TreePath),
    /// A character device, by major and minor number.
    Char(u32, u32),
    /// A block device, by major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

#[cfg(test)]
mod tests;
