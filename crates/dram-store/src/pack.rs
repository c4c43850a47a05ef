//! Packs a layer directory into a tar, the inverse of unpacking. The same content always gives the same bytes.

use std::io::{self, Read, Write};
use std::path::Path;

use dram_image::TreePath;
use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};

use crate::layer_scan::{ScannedEntry, scan_layer};
use crate::{Dir, FileKind, StoreError};

/// The modification time of every entry of a packed layer, in seconds since 1970. Times on the disk depend on when a
/// build ran; a packed layer must be reproducible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerTimestamp(pub i64);

/// Writes the layer directory at `path` as a tar.
///
/// # Errors
/// When reading or writing fails, or a file changes while it is being read.
pub(crate) fn pack(path: &Path, stamp: LayerTimestamp, out: &mut dyn Write) -> Result<(), StoreError> {
    let dir = Dir::open_layer(path)?;
    let mut writer = TarWriter::new(out);
    scan_layer(&dir, &mut |found| append_entry(&mut writer, &dir, found, stamp))?;
    writer.finish().map(drop).map_err(StoreError::io("pack", path))
}

fn append_entry(
    writer: &mut TarWriter<&mut dyn Write>,
    dir: &Dir,
    found: &ScannedEntry,
    stamp: LayerTimestamp,
) -> Result<(), StoreError> {
    let plain_root = found.path.is_root() && (found.status.mode, found.status.uid, found.status.gid) == (0o755, 0, 0);
    if plain_root || found.status.kind == FileKind::Socket {
        return Ok(());
    }
    let kind = match (found.status.kind, &found.link_to) {
        (_, Some(first)) => TarEntryKind::HardLink(first.clone()),
        (FileKind::File, None) => TarEntryKind::File { size: found.status.size },
        (FileKind::Dir, None) => TarEntryKind::Dir,
        (FileKind::Symlink, None) => TarEntryKind::Symlink(dir.read_link(&found.path)?),
        (FileKind::Char(0, 0), None) => return write_entry(writer, &whiteout_entry(found, stamp), &mut io::empty()),
        (FileKind::Char(major, minor), None) => TarEntryKind::Char(major, minor),
        (FileKind::Block(major, minor), None) => TarEntryKind::Block(major, minor),
        (FileKind::Fifo, None) => TarEntryKind::Fifo,
        (FileKind::Socket, None) => unreachable!("left out above"),
    };
    let is_file = matches!(kind, TarEntryKind::File { .. });
    let entry = tar_entry(found.path.clone(), kind, found, stamp);
    match is_file {
        true => write_entry(writer, &entry, &mut dir.open_file(&found.path)?)?,
        false => write_entry(writer, &entry, &mut io::empty())?,
    }
    if found.opaque {
        write_entry(writer, &marker_entry(found.path.join(b".wh..wh..opq"), stamp), &mut io::empty())?;
    }
    Ok(())
}

fn write_entry(
    writer: &mut TarWriter<&mut dyn Write>,
    entry: &TarEntry,
    data: &mut dyn Read,
) -> Result<(), StoreError> {
    writer.append(entry, data).map_err(StoreError::io("pack", entry.path.as_path()))
}

fn tar_entry(path: TreePath, kind: TarEntryKind, found: &ScannedEntry, stamp: LayerTimestamp) -> TarEntry {
    TarEntry {
        path,
        mode: if matches!(kind, TarEntryKind::Symlink(_)) { 0o777 } else { found.status.mode },
        kind,
        uid: found.status.uid,
        gid: found.status.gid,
        mtime: stamp.0,
        xattrs: found.xattrs.clone(),
    }
}

/// The tar entry of the whiteout `.wh.NAME`.
fn whiteout_entry(found: &ScannedEntry, stamp: LayerTimestamp) -> TarEntry {
    let parent = found.path.parent().unwrap_or_default();
    let name = [b".wh.", found.path.name().unwrap_or_default()].concat();
    marker_entry(parent.join(&name), stamp)
}

fn marker_entry(path: TreePath, stamp: LayerTimestamp) -> TarEntry {
    let kind = TarEntryKind::File { size: 0 };
    TarEntry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: stamp.0, xattrs: Vec::new() }
}
