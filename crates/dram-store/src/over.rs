//! What of a layer depends on those below it.
//!
//! Many tools write `a/b/file` without entries for `a` and `a/b`. Such a directory covers the one below it in an overlay,
//! so it has to have owner, mode, times and attributes of that one, or a file in `tmp/` would make `/tmp` root's alone.
//! containerd does the same, and BuildKit with it. That a directory stands in the place of a symbolic link below is as in
//! all engines that stack.
//!
//! Some tools delete what never was. In a directory that nothing is below, the kernel shows such a mark as a name that
//! cannot be looked at nor removed.
//!
//! What was taken, and which marks were dropped, is a part of a layer's name: over another image it may be another layer.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::dir::Meta;
use crate::file::{self, Durable};
use crate::merged::{is_opaque, is_portable};
use crate::unpack::Leans;
use crate::{Dir, FileKind, LayerId, Layers, Merged, Store, StoreError, Tree as _};

/// A record of a layer with as many paths as a layer may have entries.
const LARGEST: u64 = 256 << 20;

/// What the layers below make of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A directory is as the one below it.
    Dir(TreePath, Meta, Vec<Xattr>),
    /// A mark deletes nothing.
    Nothing(TreePath),
}

/// What of `leans` is still so when the whole layer is there. Marks where nothing of what is below can be seen are
/// removed.
pub(crate) fn standing(dir: &Dir, leans: &Leans) -> Result<Leans, StoreError> {
    let mut standing = Leans::default();
    for path in &leans.implied {
        if dir.sub(path).is_ok() && !is_covered(dir, Some(path.clone()))? {
            standing.implied.insert(path.clone());
        }
    }
    for path in &leans.whiteouts {
        if !dir.status(path)?.is_some_and(|status| status.kind.is_whiteout()) {
            continue;
        }
        match is_covered(dir, path.parent())? {
            true => dir.remove(path)?,
            false => drop(standing.whiteouts.insert(path.clone())),
        }
    }
    Ok(standing)
}

/// Whether the directory `at`, or one above it, hides what is below.
fn is_covered(dir: &Dir, mut at: Option<TreePath>) -> Result<bool, StoreError> {
    while let Some(path) = at {
        if is_opaque(&dir.xattrs(&path)?) {
            return Ok(true);
        }
        at = path.parent();
    }
    Ok(false)
}

/// What the layers `below`, given lowest first, make of a layer that `leans` on them.
pub(crate) fn taken(leans: &Leans, below: &[LayerId], layers: Layers<'_>) -> Result<Vec<Taken>, StoreError> {
    let Leans { implied, whiteouts } = leans;
    if implied.is_empty() && whiteouts.is_empty() {
        return Ok(Vec::new());
    }
    let view = layers.view(below)?;
    let mut all = Vec::new();
    for path in implied {
        let node = match view.find(path, true) {
            Err(StoreError::Loop { .. }) => None,
            node => node?.filter(|node| node.status.kind == FileKind::Dir && !below.is_empty()),
        };
        if let Some(node) = node {
            all.push(Taken::Dir(path.clone(), node.status.meta(), view.xattrs(&node)?));
        }
    }
    for path in whiteouts {
        if below.is_empty() || is_nothing(&view, path)? {
            all.push(Taken::Nothing(path.clone()));
        }
    }
    Ok(all)
}

/// What the layer `dir`, which leaned on `leans` when it was unpacked, seems to have taken. That a directory has what one
/// without an entry gets need not mean that there is none below, so that this is one guess of many where it is.
pub(crate) fn seemingly_taken(dir: &Dir, leans: &Leans, all: bool) -> Result<Vec<Taken>, StoreError> {
    let mut taken = Vec::new();
    for path in &leans.implied {
        let Some(status) = dir.status(path)?.filter(|status| status.kind == FileKind::Dir) else { continue };
        let mut xattrs = dir.xattrs(path)?;
        xattrs.retain(|(name, _)| is_portable(name));
        let meta = status.meta();
        let is_plain = (meta.mode, meta.uid, meta.gid) == (0o755, 0, 0) && xattrs.is_empty();
        // The time of one that nothing is below is that of its unpacking, and no tar's whole second.
        if all || !is_plain || meta.mtime.1 == 0 {
            taken.push(Taken::Dir(path.clone(), meta, xattrs));
        }
    }
    for path in &leans.whiteouts {
        if dir.status(path)?.is_none() {
            taken.push(Taken::Nothing(path.clone()));
        }
    }
    Ok(taken)
}

fn is_nothing(view: &Merged, path: &TreePath) -> Result<bool, StoreError> {
    Ok(view.at(path)?.is_none())
}

/// Makes the layer `dir` what those below make of it; the deepest first, as changing one changes no time of those below
/// it.
pub(crate) fn give(dir: &Dir, taken: &[Taken]) -> Result<(), StoreError> {
    let mut touched: BTreeSet<TreePath> = BTreeSet::new();
    for one in taken {
        if let Taken::Nothing(path) = one {
            touched.extend(path.parent());
        }
    }
    let times =
        touched.into_iter().map(|path| Ok((dir.status(&path)?, path))).collect::<Result<Vec<_>, StoreError>>()?;
    for one in taken.iter().rev() {
        match one {
            Taken::Nothing(path) => dir.remove(path)?,
            Taken::Dir(path, meta, xattrs) => {
                for (name, value) in xattrs {
                    dir.set_xattr(path, (name, value))?;
                }
                dir.set_meta(path, meta, false)?;
            }
        }
    }
    // A directory that lost a mark is not newer for it.
    let took = |path: &TreePath| taken.iter().any(|one| matches!(one, Taken::Dir(dir, ..) if dir == path));
    for (status, path) in times {
        if let Some(status) = status.filter(|_| !took(&path)) {
            dir.set_mtime(&path, status.mtime)?;
        }
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
    for one in taken {
        match one {
            Taken::Nothing(path) => {
                add(b"nothing");
                add(path.as_bytes());
            }
            Taken::Dir(path, meta, xattrs) => {
                add(b"dir");
                add(path.as_bytes());
                add(format!("{:o} {} {} {:?} {}", meta.mode, meta.uid, meta.gid, meta.mtime, xattrs.len()).as_bytes());
                for (name, value) in xattrs {
                    add(name);
                    add(value);
                }
            }
        }
    }
    hasher.finalize()
}

/// Writes down what a layer leans on: `d` and a directory, or `w` and a whiteout, each with a NUL after it.
pub(crate) fn remember(record: &Path, leans: &Leans, store: &Store) -> Result<(), StoreError> {
    if *leans == Leans::default() {
        return Ok(());
    }
    let dirs = leans.implied.iter().map(|path| (b"d", path));
    let all = dirs.chain(leans.whiteouts.iter().map(|path| (b"w", path)));
    let bytes: Vec<u8> = all.flat_map(|(kind, path)| [kind, path.as_bytes(), b"\0"].concat()).collect();
    file::replace(record, &bytes, &store.work().path(), Durable::Yes)
}

/// Reads that again; a layer without a record leans on nothing.
pub(crate) fn recall(record: &Path) -> Result<Leans, StoreError> {
    let bytes = file::read_small(record, LARGEST)?.unwrap_or_default();
    let mut leans = Leans::default();
    for line in bytes.split(|&byte| byte == 0).filter(|line| !line.is_empty()) {
        let (kind, path) = line.split_at(1);
        let path = TreePath::parse(path).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::InvalidData, error);
            StoreError::Io { verb: "read", path: record.to_owned(), source }
        })?;
        match kind {
            b"w" => leans.whiteouts.insert(path),
            _ => leans.implied.insert(path),
        };
    }
    Ok(leans)
}
