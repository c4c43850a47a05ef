//! Ownership of the files that a command created in a user namespace with a single id.

use std::path::Path;

use dram_image::TreePath;

use crate::id_mapping::IdMapping;
use crate::layer_scan::{ScannedEntry, scan_layer};
use crate::{Dir, FileKind, FileTree as _, Layers, MergedTree, StoreError};

/// The extended attribute that records a `chown` of a command that runs with a single id: `UID:GID`, one of which may
/// be empty. It is removed before the layer is committed.
pub const OWNER_ATTRIBUTE: &str = "user.dram.owner";

impl Layers<'_> {
    /// Records the owners of the files in `made` when the user has a single id and all files on the disk belong to it.
    /// A file that exists in `below` keeps its owner, a new one belongs to `maker`, and a `chown` of the command is
    /// applied.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn inherit_owners(self, made: &Path, below: &MergedTree, maker: (u32, u32)) -> Result<(), StoreError> {
        if self.store().id_mapping() != IdMapping::Single {
            return Ok(());
        }
        let dir = Dir::open_layer(made)?;
        // Opaque directories: their content in parent layers is hidden.
        let mut made_anew: Vec<TreePath> = Vec::new();
        scan_layer(&dir, &mut |found| {
            if found.status.kind.is_whiteout() {
                return Ok(());
            }
            if let Some(first) = &found.link_to {
                let same = dir.status(first)?.map_or(maker, |status| (status.uid, status.gid));
                return dir.record_owner(&found.path, same);
            }
            let is_new = found.opaque || made_anew.iter().any(|dir| found.path.strip_prefix(dir).is_some());
            if found.opaque {
                made_anew.push(found.path.clone());
            }
            let there = if is_new { None } else { below.node_at(&found.path)? };
            let same = there.filter(|node| node.status.kind == found.status.kind);
            let inherited = same.as_ref().map_or(maker, |node| (node.status.uid, node.status.gid));
            let recorded = found.xattrs.iter().find(|(name, _)| name == OWNER_ATTRIBUTE.as_bytes());
            let owner = match recorded {
                Some((name, value)) => {
                    dir.remove_xattr(&found.path, name)?;
                    // A program that replaces a file sets the owner that the old file seems to have, which is root.
                    let keeps = value == b"0:0" && same.is_some() && is_new_file(&dir, found)?;
                    if keeps { inherited } else { parse_owner_note(value, inherited) }
                }
                None => inherited,
            };
            dir.record_owner(&found.path, owner)
        })
    }
}

/// Returns `true` for a new file. One that was copied up from a parent layer has overlayfs's `origin` attribute.
fn is_new_file(dir: &Dir, found: &ScannedEntry) -> Result<bool, StoreError> {
    let all = dir.xattrs(&found.path)?;
    Ok(found.status.kind == FileKind::File && !all.iter().any(|(name, _)| name == b"user.overlay.origin"))
}

/// Parses the owner attribute; missing parts are taken from `otherwise`.
fn parse_owner_note(note: &[u8], otherwise: (u32, u32)) -> (u32, u32) {
    let note = std::str::from_utf8(note).unwrap_or_default();
    let (user, group) = note.split_once(':').unwrap_or_default();
    (user.parse().unwrap_or(otherwise.0), group.parse().unwrap_or(otherwise.1))
}

#[cfg(test)]
mod tests {
    #[test]
    fn missing_or_invalid_parts_of_the_owner_attribute_use_the_default() {
        for (note, want) in [
            (&b"5:6"[..], (5, 6)),
            (b"5:", (5, 2)),
            (b":6", (1, 6)),
            (b"", (1, 2)),
            (b"x:-1", (1, 2)),
            (b"\xff:6", (1, 2)),
        ] {
            assert_eq!(super::parse_owner_note(note, (1, 2)), want, "{note:?}");
        }
    }
}
