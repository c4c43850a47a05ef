//! Layers that say nothing of a directory that they have files in.
//!
//! Many tools write `a/b/file` without entries for `a` and `a/b`. Such a directory covers the one below it in an overlay,
//! so it has to have owner, mode, times and attributes of that one, or a file in `tmp/` would make `/tmp` root's alone.
//! containerd does the same, and BuildKit with it. What a layer took is a part of its name: over another image it may be
//! another layer. That a directory stands in the place of a symbolic link below is as in all engines that stack.

use std::io;
use std::path::Path;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::dir::Meta;
use crate::file::{self, Durable};
use crate::merged::is_opaque;
use crate::unpack::Implied;
use crate::{Dir, FileKind, LayerId, Layers, Store, StoreError, Tree as _};

/// A record of a layer with as many such directories as a layer may have entries.
const LARGEST: u64 = 256 << 20;

/// What a directory took from the one below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    path: TreePath,
    meta: Meta,
    xattrs: Vec<Xattr>,
}

/// Those of `implied` that are directories still, and hide nothing of what is below.
pub(crate) fn standing(dir: &Dir, implied: Implied) -> Result<Implied, StoreError> {
    let mut standing = Implied::new();
    // Parents come first.
    for path in implied {
        let hides = |path: &TreePath| Ok::<_, StoreError>(is_opaque(&dir.xattrs(path)?));
        let is_dir = dir.sub(&path).is_ok();
        if is_dir && !covered(&path, &hides)? {
            standing.insert(path);
        }
    }
    Ok(standing)
}

/// Whether a directory above `path`, or itself, hides what is below.
fn covered(path: &TreePath, hides: &dyn Fn(&TreePath) -> Result<bool, StoreError>) -> Result<bool, StoreError> {
    let mut at = Some(path.clone());
    while let Some(dir) = at {
        if hides(&dir)? {
            return Ok(true);
        }
        at = dir.parent();
    }
    Ok(false)
}

/// What the directories `implied` take from the layers `below`, given lowest first.
pub(crate) fn taken(implied: &Implied, below: &[LayerId], layers: Layers<'_>) -> Result<Vec<Taken>, StoreError> {
    if implied.is_empty() || below.is_empty() {
        return Ok(Vec::new());
    }
    let view = layers.view(below)?;
    let mut all = Vec::new();
    for path in implied {
        let node = match view.find(path, true) {
            Err(StoreError::Loop { .. }) => None,
            node => node?.filter(|node| node.status.kind == FileKind::Dir),
        };
        if let Some(node) = node {
            all.push(Taken { path: path.clone(), meta: node.status.meta(), xattrs: view.xattrs(&node)? });
        }
    }
    Ok(all)
}

/// Gives the directories of the layer `dir` what they take; the deepest first, as changing one changes no time of those
/// below it.
pub(crate) fn give(dir: &Dir, taken: &[Taken]) -> Result<(), StoreError> {
    for Taken { path, meta, xattrs } in taken.iter().rev() {
        for (name, value) in xattrs {
            dir.set_xattr(path, (name, value))?;
        }
        dir.set_meta(path, meta, false)?;
    }
    Ok(())
}

/// Names what was taken.
pub(crate) fn digest(taken: &[Taken]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for Taken { path, meta, xattrs } in taken {
        add(path.as_bytes());
        add(format!("{:o} {} {} {:?} {}", meta.mode, meta.uid, meta.gid, meta.mtime, xattrs.len()).as_bytes());
        for (name, value) in xattrs {
            add(name);
            add(value);
        }
    }
    hasher.finalize()
}

/// Writes down which directories a layer does not describe: paths with a NUL after each.
pub(crate) fn remember(record: &Path, implied: &Implied, store: &Store) -> Result<(), StoreError> {
    if implied.is_empty() {
        return Ok(());
    }
    let bytes: Vec<u8> = implied.iter().flat_map(|path| [path.as_bytes(), b"\0"].concat()).collect();
    file::replace(record, &bytes, &store.work().path(), Durable::Yes)
}

/// Reads that again; a layer without a record describes all.
pub(crate) fn recall(record: &Path) -> Result<Implied, StoreError> {
    let bytes = file::read_small(record, LARGEST)?.unwrap_or_default();
    let paths = bytes.split(|&byte| byte == 0).filter(|path| !path.is_empty()).map(TreePath::parse);
    paths.collect::<Result<_, _>>().map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error);
        StoreError::Io { verb: "read", path: record.to_owned(), source }
    })
}
