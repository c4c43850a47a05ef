//! Layer tars: a bounded reader for untrusted archives, and a writer whose output depends on nothing but its entries.
//!
//! Follows POSIX.1-2001 pax and the GNU extensions that container engines write (`L`, `K`, base-256 numbers), and the
//! OCI image specification's `layer.md` for `SCHILY.xattr.*` records. Header blocks are parsed by the `tar` crate.
//! Everything that spans blocks (long names, extended headers, sizes) is parsed here, so that each is bounded, and the
//! start of the next entry has only one interpretation.

mod tar_reader;
mod tar_writer;

pub use tar_reader::{TarError, TarReader, is_header_block};
pub use tar_writer::TarWriter;

use crate::TreePath;

/// The name and the value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// An entry of a layer tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// The path in the image.
    pub path: TreePath,
    /// The kind of file.
    pub kind: TarEntryKind,
    /// The permission bits with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// The user id of the owner.
    pub uid: u32,
    /// The group id of the owner.
    pub gid: u32,
    /// The modification time, in whole seconds since 1970.
    pub mtime: i64,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarEntryKind {
    /// A regular file, whose content follows.
    File {
        /// The size of the content in bytes.
        size: u64,
    },
    /// A directory.
    Dir,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A hard link to an earlier file.
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
