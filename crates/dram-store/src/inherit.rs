//! Owners of what a command left that had one id for everything.

use std::path::Path;

use dram_image::TreePath;

use crate::rights::Rights;
use crate::scan::{Found, scan};
use crate::{Dir, FileKind, Layers, Merged, StoreError, Tree as _};

/// The extended attribute that notes, while a command runs with one id, to whom it gave a file: `UID:GID`, of which one
/// may be empty. It reaches no layer.
pub const OWNER_ATTRIBUTE: &str = "user.dram.owner";

impl Layers<'_> {
    /// Writes down whose the files in `made` are, where the disk cannot tell because its user has one id only: what was
    /// there `below` keeps its owner, what is new is `maker`'s, and what the command gave away is whose it was given to.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn inherit_owners(self, made: &Path, below: &Merged, maker: (u32, u32)) -> Result<(), StoreError> {
        if self.store().rights() != Rights::OneId {
            return Ok(());
        }
        let dir = Dir::open_layer(made)?;
        // Nothing of what was below such a directory is left.
        let mut made_anew: Vec<TreePath> = Vec::new();
        scan(&dir, &mut |found| {
            if found.status.kind.is_whiteout() {
                return Ok(());
            }
            if let Some(first) = &found.link_to {
                let same = dir.status(first)?.map_or(maker, |status| (status.uid, status.gid));
                return dir.write_owner_down(&found.path, same);
            }
            let is_new = found.opaque || made_anew.iter().any(|dir| found.path.below(dir).is_some());
            if found.opaque {
                made_anew.push(found.path.clone());
            }
            let there = if is_new { None } else { below.at(&found.path)? };
            let same = there.filter(|node| node.status.kind == found.status.kind);
            let inherited = same.as_ref().map_or(maker, |node| (node.status.uid, node.status.gid));
            let noted = found.xattrs.iter().find(|(name, _)| name == OWNER_ATTRIBUTE.as_bytes());
            let owner = match noted {
                Some((name, value)) => {
                    dir.remove_xattr(&found.path, name)?;
                    // Who replaces a file by a new one gives it the owner that the old one seems to have: root.
                    let keeps = value == b"0:0" && same.is_some() && is_new_file(&dir, found)?;
                    if keeps { inherited } else { given(value, inherited) }
                }
                None => inherited,
            };
            dir.write_owner_down(&found.path, owner)
        })
    }
}

/// Whether a file was made anew and is no changed one from below: the kernel notes where such a one came from.
fn is_new_file(dir: &Dir, found: &Found) -> Result<bool, StoreError> {
    let all = dir.xattrs(&found.path)?;
    Ok(found.status.kind == FileKind::File && !all.iter().any(|(name, _)| name == b"user.overlay.origin"))
}

/// The owner that a note tells, and what it leaves open from `otherwise`.
fn given(note: &[u8], otherwise: (u32, u32)) -> (u32, u32) {
    let note = std::str::from_utf8(note).unwrap_or_default();
    let (user, group) = note.split_once(':').unwrap_or_default();
    (user.parse().unwrap_or(otherwise.0), group.parse().unwrap_or(otherwise.1))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_note_may_tell_half_or_nothing() {
        for (note, want) in [
            (&b"5:6"[..], (5, 6)),
            (b"5:", (5, 2)),
            (b":6", (1, 6)),
            (b"", (1, 2)),
            (b"x:-1", (1, 2)),
            (b"\xff:6", (1, 2)),
        ] {
            assert_eq!(super::given(note, (1, 2)), want, "{note:?}");
        }
    }
}
