//! Owners of what a command left that had one id for everything.

use std::path::Path;

use dram_image::TreePath;

use crate::rights::Rights;
use crate::scan::scan;
use crate::{Dir, Layers, Merged, StoreError, Tree as _};

impl Layers<'_> {
    /// Writes down whose the files in `made` are, where the disk cannot tell because its user has one id only: what was
    /// there `below` keeps its owner, and what is new is `maker`'s, as if nobody had changed owners.
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
            let is_new = found.opaque || made_anew.iter().any(|dir| found.path.below(dir).is_some());
            if found.opaque {
                made_anew.push(found.path.clone());
            }
            let there = if is_new { None } else { below.at(&found.path)? };
            let same = there.filter(|node| node.status.kind == found.status.kind);
            dir.write_owner_down(&found.path, same.map_or(maker, |node| (node.status.uid, node.status.gid)))
        })
    }
}
