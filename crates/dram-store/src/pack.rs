//! Packs a layer directory into a tar, the inverse of unpacking. The same content always gives the same bytes.

use std::io::{self, Read, Write};
use std::path::Path;

use dram_image::TreePath;
use dram_image::tar::{Entry, EntryKind, TarWriter};

use crate::scan::{Found, scan};
use crate::{Dir, FileKind, StoreError};

/// The modification time of every entry of a packed layer, in seconds since 1970. Times on the disk depend on when a
/// build ran; a packed layer must be reproducible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(pub i64);

/// Writes the layer directory at `path` as a tar.
///
/// # Errors
/// When reading or writing fails, or a file changes while it is being read.
pub(crate) fn pack(path: &Path, stamp: Stamp, out: &mut dyn Write) -> Result<(), StoreError> {
    let dir = Dir::open_layer(path)?;
    let mut writer = TarWriter::new(out);
    scan(&dir, &mut |found| append(&mut writer, &dir, found, stamp))?;
    writer.finish().map(drop).map_err(StoreError::io("pack", path))
}

fn append(writer: &mut TarWriter<&mut dyn Write>, dir: &Dir, found: &Found, stamp: Stamp) -> Result<(), StoreError> {
    let plain_root = found.path.is_root() && (found.status.mode, found.status.uid, found.status.gid) == (0o755, 0, 0);
    if plain_root || found.status.kind == FileKind::Socket {
        return Ok(());
    }
    let kind = match (found.status.kind, &found.link_to) {
        (_, Some(first)) => EntryKind::HardLink(first.clone()),
        (FileKind::File, None) => EntryKind::File { size: found.status.size },
        (FileKind::Dir, None) => EntryKind::Dir,
        (FileKind::Symlink, None) => EntryKind::Symlink(dir.read_link(&found.path)?),
        (FileKind::Char(0, 0), None) => return put(writer, &whiteout(found, stamp), &mut io::empty()),
        (FileKind::Char(major, minor), None) => EntryKind::Char(major, minor),
        (FileKind::Block(major, minor), None) => EntryKind::Block(major, minor),
        (FileKind::Fifo, None) => EntryKind::Fifo,
        (FileKind::Socket, None) => unreachable!("left out above"),
    };
    let is_file = matches!(kind, EntryKind::File { .. });
    let entry = entry(found.path.clone(), kind, found, stamp);
    match is_file {
        true => put(writer, &entry, &mut dir.open_file(&found.path)?)?,
        false => put(writer, &entry, &mut io::empty())?,
    }
    if found.opaque {
        put(writer, &entry_of_mark(found.path.join(b".wh..wh..opq"), stamp), &mut io::empty())?;
    }
    Ok(())
}

fn put(writer: &mut TarWriter<&mut dyn Write>, entry: &Entry, data: &mut dyn Read) -> Result<(), StoreError> {
    writer.append(entry, data).map_err(StoreError::io("pack", entry.path.as_path()))
}

fn entry(path: TreePath, kind: EntryKind, found: &Found, stamp: Stamp) -> Entry {
    Entry {
        path,
        mode: if matches!(kind, EntryKind::Symlink(_)) { 0o777 } else { found.status.mode },
        kind,
        uid: found.status.uid,
        gid: found.status.gid,
        mtime: stamp.0,
        xattrs: found.xattrs.clone(),
    }
}

/// The tar entry of the whiteout `.wh.NAME`.
fn whiteout(found: &Found, stamp: Stamp) -> Entry {
    let parent = found.path.parent().unwrap_or_default();
    let name = [b".wh.", found.path.name().unwrap_or_default()].concat();
    entry_of_mark(parent.join(&name), stamp)
}

fn entry_of_mark(path: TreePath, stamp: Stamp) -> Entry {
    let kind = EntryKind::File { size: 0 };
    Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: stamp.0, xattrs: Vec::new() }
}
