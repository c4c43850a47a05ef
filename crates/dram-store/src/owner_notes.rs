//! Notes: extended attributes that say on the disk what is in an ownership table. Unlike the table, they stay with a file when
//! a command changes it, moves it, makes a hard link of it or copies it with its attributes.

use std::path::Path;

use dram_image::TreePath;

use crate::ownership::{OwnershipRecord, read_records};
use crate::{Dir, FileKind, IdMapping, StoreError};

/// The extended attribute that records the owner, where there is a single id: `UID:GID`, one of which may be empty. A
/// `chown` of a command writes it too.
pub const OWNER_ATTRIBUTE: &str = "user.dram.owner";

/// The extended attribute of an empty file that represents a device: `c` or `b`, then `MAJOR:MINOR`.
pub(crate) const DEVICE_ATTRIBUTE: &str = "user.dram.device";

/// Writes the notes of the layer directory `layer`, unless it has them. They are written in the order of the table, so
/// nothing is to be done when the last one is there.
///
/// # Errors
/// On an I/O error.
pub(crate) fn write_notes(layer: &Path, id_mapping: IdMapping) -> Result<(), StoreError> {
    let records = read_records(layer)?;
    let notes = records.iter().flat_map(|(path, record)| notes_of(path, record, id_mapping));
    let mut notes: Vec<(TreePath, &str, String)> = notes.collect::<Result<_, _>>()?;
    if notes.is_empty() {
        return Ok(());
    }
    let dir = Dir::open_layer(layer)?;
    let mut found = Vec::new();
    for (path, name, value) in notes.drain(..) {
        // Symbolic links and special files take no such attributes.
        let kind = dir.status(&path)?.map(|status| status.kind);
        let is_noted = name == DEVICE_ATTRIBUTE || matches!(kind, Some(FileKind::File | FileKind::Dir));
        if is_noted && kind.is_some() {
            found.push((path, name, value));
        }
    }
    let has = |(path, name, value): &(TreePath, &str, String)| {
        let all = dir.xattrs(path)?;
        Ok::<_, StoreError>(all.iter().any(|(there, note)| there == name.as_bytes() && note == value.as_bytes()))
    };
    if found.last().map(has).transpose()?.unwrap_or(true) {
        return Ok(());
    }
    found.iter().try_for_each(|(path, name, value)| dir.set_xattr(path, (name.as_bytes(), value.as_bytes())))
}

fn notes_of<'a>(
    path: &[u8],
    record: &OwnershipRecord,
    id_mapping: IdMapping,
) -> Vec<Result<(TreePath, &'a str, String), StoreError>> {
    let mut notes = Vec::new();
    if let (IdMapping::Single, Some((uid, gid))) = (id_mapping, record.owner) {
        notes.push((OWNER_ATTRIBUTE, format!("{uid}:{gid}")));
    }
    match record.device {
        Some(FileKind::Char(major, minor)) => notes.push((DEVICE_ATTRIBUTE, format!("c{major}:{minor}"))),
        Some(FileKind::Block(major, minor)) => notes.push((DEVICE_ATTRIBUTE, format!("b{major}:{minor}"))),
        Some(FileKind::File | FileKind::Dir | FileKind::Symlink | FileKind::Fifo | FileKind::Socket) | None => {}
    }
    let own = |(name, value)| Ok((TreePath::clean(path)?, name, value));
    notes.into_iter().map(own).collect()
}

/// Parses a note about the owner; missing parts are taken from `otherwise`.
pub(crate) fn parse_owner_note(note: &[u8], otherwise: (u32, u32)) -> (u32, u32) {
    let note = std::str::from_utf8(note).unwrap_or_default();
    let (user, group) = note.split_once(':').unwrap_or_default();
    (user.parse().unwrap_or(otherwise.0), group.parse().unwrap_or(otherwise.1))
}

/// Parses a note about a device.
pub(crate) fn parse_device_note(note: &[u8]) -> Option<FileKind> {
    let (kind, numbers) = std::str::from_utf8(note).ok()?.split_at_checked(1)?;
    let (major, minor) = numbers.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    match kind {
        "c" => Some(FileKind::Char(major, minor)),
        "b" => Some(FileKind::Block(major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_or_invalid_parts_of_the_owner_note_use_the_default() {
        for (note, want) in [
            (&b"5:6"[..], (5, 6)),
            (b"5:", (5, 2)),
            (b":6", (1, 6)),
            (b"", (1, 2)),
            (b"x:-1", (1, 2)),
            (b"\xff:6", (1, 2)),
        ] {
            assert_eq!(parse_owner_note(note, (1, 2)), want, "{note:?}");
        }
    }

    #[test]
    fn a_device_note_is_the_kind_and_two_numbers() {
        assert_eq!(parse_device_note(b"c1:3"), Some(FileKind::Char(1, 3)));
        assert_eq!(parse_device_note(b"b7:255"), Some(FileKind::Block(7, 255)));
        for damaged in [&b""[..], b"c", b"c1", b"x1:3", b"c1:-3", b"\xff1:3"] {
            assert_eq!(parse_device_note(damaged), None, "{damaged:?}");
        }
    }
}
