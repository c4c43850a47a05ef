//! Packs a layer directory into a tar, the inverse of unpacking. The same content, times and rule for times always give
//! the same bytes.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use dram_image::TreePath;
use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};

use crate::layer_scan::{ScannedEntry, scan_layer};
use crate::{Dir, FileKind, FileStatus, StoreError};

/// The rule for the modification times of a packed layer. A tar holds whole seconds; as in BuildKit and Docker, a time on
/// the disk is rounded down.
///
/// As text, which is a part of the name of a record of a packed layer, it is `files` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackedTimes {
    /// Each entry has the time that its file has on the disk.
    OfFiles,
    /// All entries have this time, in seconds since 1970, whatever the times on the disk are.
    Fixed(i64),
}

impl PackedTimes {
    /// The rule for `time`: that time for all entries, or without one the times of the files.
    pub fn new(time: Option<i64>) -> PackedTimes {
        time.map_or(PackedTimes::OfFiles, PackedTimes::Fixed)
    }

    /// The time that all entries have, if there is one.
    pub fn fixed(self) -> Option<i64> {
        match self {
            PackedTimes::OfFiles => None,
            PackedTimes::Fixed(time) => Some(time),
        }
    }

    /// The time of the entry of a file with the status `status`.
    fn entry_time(self, status: &FileStatus) -> i64 {
        // The system's seconds are rounded down already, also before 1970.
        self.fixed().unwrap_or(status.mtime.0)
    }
}

impl fmt::Display for PackedTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackedTimes::OfFiles => f.write_str("files"),
            PackedTimes::Fixed(time) => time.fmt(f),
        }
    }
}

impl FromStr for PackedTimes {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "files" { Ok(PackedTimes::OfFiles) } else { text.parse().map(PackedTimes::Fixed) }
    }
}

/// Writes the layer directory at `path` as a tar.
///
/// # Errors
/// When reading or writing fails, or a file changes while it is being read.
pub(crate) fn pack(path: &Path, times: PackedTimes, out: &mut dyn Write) -> Result<(), StoreError> {
    let dir = Dir::open_layer(path)?;
    let mut writer = TarWriter::new(out);
    scan_layer(&dir, &mut |found| append_entry(&mut writer, &dir, found, times))?;
    writer.finish().map(drop).map_err(StoreError::io("pack", path))
}

fn append_entry(
    writer: &mut TarWriter<&mut dyn Write>,
    dir: &Dir,
    found: &ScannedEntry,
    times: PackedTimes,
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
        (FileKind::Char(0, 0), None) => return write_entry(writer, &whiteout_entry(found, times), &mut io::empty()),
        (FileKind::Char(major, minor), None) => TarEntryKind::Char(major, minor),
        (FileKind::Block(major, minor), None) => TarEntryKind::Block(major, minor),
        (FileKind::Fifo, None) => TarEntryKind::Fifo,
        (FileKind::Socket, None) => unreachable!("left out above"),
    };
    let is_file = matches!(kind, TarEntryKind::File { .. });
    let entry = tar_entry(found.path.clone(), kind, found, times);
    match is_file {
        true => write_entry(writer, &entry, &mut dir.open_file(&found.path)?)?,
        false => write_entry(writer, &entry, &mut io::empty())?,
    }
    if found.opaque {
        let marker = marker_entry(found.path.join(b".wh..wh..opq"), times.entry_time(&found.status));
        write_entry(writer, &marker, &mut io::empty())?;
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

fn tar_entry(path: TreePath, kind: TarEntryKind, found: &ScannedEntry, times: PackedTimes) -> TarEntry {
    TarEntry {
        path,
        mode: if matches!(kind, TarEntryKind::Symlink(_)) { 0o777 } else { found.status.mode },
        kind,
        uid: found.status.uid,
        gid: found.status.gid,
        mtime: times.entry_time(&found.status),
        xattrs: found.xattrs.clone(),
    }
}

/// The tar entry of the whiteout `.wh.NAME`.
fn whiteout_entry(found: &ScannedEntry, times: PackedTimes) -> TarEntry {
    let parent = found.path.parent().unwrap_or_default();
    let name = [b".wh.", found.path.name().unwrap_or_default()].concat();
    marker_entry(parent.join(&name), times.entry_time(&found.status))
}

fn marker_entry(path: TreePath, mtime: i64) -> TarEntry {
    let kind = TarEntryKind::File { size: 0 };
    TarEntry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
}
