//! Recorded lists of files, and the differences between two of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content_digest::{FileList, FileNote, MAX_FILES};

/// The largest number of changes that is returned.
const MAX_CHANGES: usize = 50;
const MAGIC: &[u8; 8] = b"dramlst1";

/// A change of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path in the tree that it is copied from.
    pub path: String,
    /// The kind of the change.
    #[serde(flatten)]
    pub kind: FileChangeKind,
}

/// The kind of a file's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum FileChangeKind {
    /// Its bytes, its link target or its kind changed.
    Changed,
    /// It is new.
    Added,
    /// It was removed.
    Removed,
    /// Its permissions changed.
    Mode {
        /// The old permissions.
        before: u32,
        /// The new permissions.
        after: u32,
    },
    /// Its user or group changed.
    Owner {
        /// The old user and group.
        before: (u32, u32),
        /// The new user and group.
        after: (u32, u32),
    },
    /// Its extended attributes changed.
    Attributes,
}

impl std::fmt::Display for FileChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = &self.path;
        match self.kind {
            FileChangeKind::Changed => write!(f, "changed {path}"),
            FileChangeKind::Added => write!(f, "added {path}"),
            FileChangeKind::Removed => write!(f, "removed {path}"),
            FileChangeKind::Mode { before, after } => write!(f, "mode of {path} {before:o} → {after:o}"),
            FileChangeKind::Owner { before, after } => {
                write!(f, "owner of {path} {}:{} → {}:{}", before.0, before.1, after.0, after.1)
            }
            FileChangeKind::Attributes => write!(f, "attributes of {path}"),
        }
    }
}

/// Returns the differences, and the number of changes that are left out. Changed files come first, then added and
/// removed ones, then all others; files of one kind are in the order of their paths.
pub(crate) fn file_changes(before: &FileList, after: &FileList) -> (Vec<FileChange>, usize) {
    let map = |files: &FileList| -> BTreeMap<Vec<u8>, FileNote> {
        files.notes.iter().map(|note| (note.path.clone(), note.clone())).collect()
    };
    let (before, after) = (map(before), map(after));
    let change = |path: &[u8], became| FileChange { path: display_path(path), kind: became };
    let mut all = Vec::new();
    for (path, note) in &after {
        match before.get(path) {
            None => all.push(change(path, FileChangeKind::Added)),
            Some(old) => all.extend(change_kind(old, note).map(|became| change(path, became))),
        }
    }
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    all.extend(gone.map(|path| change(path, FileChangeKind::Removed)));
    all.sort_by_key(|change| change_rank(change.kind));
    let more = all.len().saturating_sub(MAX_CHANGES);
    all.truncate(MAX_CHANGES);
    (all, more)
}

fn display_path(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}

fn change_kind(old: &FileNote, new: &FileNote) -> Option<FileChangeKind> {
    const PERMISSIONS: u32 = 0o7777;
    if (old.content, old.mode & !PERMISSIONS) != (new.content, new.mode & !PERMISSIONS) {
        Some(FileChangeKind::Changed)
    } else if old.mode != new.mode {
        Some(FileChangeKind::Mode { before: old.mode & PERMISSIONS, after: new.mode & PERMISSIONS })
    } else if old.owner != new.owner {
        Some(FileChangeKind::Owner { before: old.owner, after: new.owner })
    } else {
        (old.xattrs != new.xattrs).then_some(FileChangeKind::Attributes)
    }
}

fn change_rank(became: FileChangeKind) -> u8 {
    match became {
        FileChangeKind::Changed => 0,
        FileChangeKind::Added => 1,
        FileChangeKind::Removed => 2,
        FileChangeKind::Mode { .. } => 3,
        FileChangeKind::Owner { .. } => 4,
        FileChangeKind::Attributes => 5,
    }
}

/// Encodes the list: little-endian fields of fixed width before each path.
pub(crate) fn encode(files: &FileList) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for note in &files.notes {
        let FileNote { path, mode, owner, content: bytes, xattrs: attributes } = note;
        let length = u32::try_from(path.len()).expect("a path is short");
        for field in [length, *mode, owner.0, owner.1] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(bytes);
        out.extend_from_slice(attributes);
        out.extend_from_slice(path);
    }
    out
}

/// Decodes a list that [`encode`] wrote; `None` if it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<FileList> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut notes = Vec::new();
    while !rest.is_empty() && notes.len() < MAX_FILES {
        let mut number = || take_field(&mut rest).map(u32::from_le_bytes);
        let (length, mode, owner) = (number()?, number()?, (number()?, number()?));
        let (bytes, attributes) = (take_field(&mut rest)?, take_field(&mut rest)?);
        let (path, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        notes.push(FileNote { path: path.to_vec(), mode, owner, content: bytes, xattrs: attributes });
    }
    let count = notes.len();
    rest.is_empty().then_some(FileList { notes, count })
}

fn take_field<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, u32, u8)]) -> FileList {
        let note = |(path, mode, byte): &(&str, u32, u8)| {
            let path = path.as_bytes().to_vec();
            FileNote { path, mode: *mode, owner: (0, 0), content: [*byte; 8], xattrs: [0; 8] }
        };
        FileList { notes: all.iter().map(note).collect(), count: all.len() }
    }

    #[test]
    fn changed_files_come_before_added_and_removed_ones() {
        let before = files(&[("", 0o40755, 0), ("a", 0o100_644, 1), ("b", 0o100_644, 2), ("c", 0o100_644, 3)]);
        let after = files(&[("", 0o40700, 0), ("a", 0o100_644, 1), ("c", 0o100_644, 4), ("d", 0o100_644, 5)]);
        let (all, more) = file_changes(&before, &after);
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["changed c", "added d", "removed b", "mode of . 755 → 700"]);
        assert_eq!(more, 0);
        assert_eq!(file_changes(&before, &before), (Vec::new(), 0));
    }

    #[test]
    fn file_list_round_trips_and_a_damaged_one_is_refused() {
        let list = files(&[("", 0o40755, 0), ("a/b", 0o100_644, 1)]);
        let bytes = encode(&list);
        assert_eq!(decode(&bytes), Some(list));
        for length in 9..bytes.len() {
            assert!(decode(&bytes[..length]).is_none_or(|files| files.count < 2), "{length}");
        }
        assert_eq!(decode(b"dramlst1\xff\xff\xff\xff"), None);
        assert_eq!(decode(b"else"), None);
    }
}
