//! Dependencies of an unpacked layer on its parent layers.
//!
//! Many tools write `a/b/file` without entries for `a` and `a/b`. In an overlay such an implied directory covers the
//! parent layer's directory, so it inherits owner, mode, times and extended attributes from it; otherwise a file in
//! `tmp/` would leave `/tmp` writable for root only. containerd and BuildKit do the same. As in all engines that use
//! overlays, an implied directory replaces a symbolic link of a parent layer.
//!
//! Some tools write whiteouts for files that never existed. In a directory that no parent layer has, the kernel lists
//! such a whiteout as a name that can be neither read nor removed, so it is dropped.
//!
//! Inherited entries and dropped whiteouts are part of a layer's id: on top of another image it may be another layer.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use dram_image::TreePath;
use dram_image::tar::Xattr;

use crate::atomic_file::{self, Durability};
use crate::dir::FileMetadata;
use crate::merged::{is_opaque, is_portable};
use crate::unpack::ParentDeps;
use crate::{Dir, FileKind, FileTree as _, LayerId, Layers, MergedTree, Store, StoreError};

/// The size of a record with as many paths as a layer may have entries.
const MAX_PARENT_DEPS_BYTES: u64 = 256 << 20;

/// A path of a layer that its parent layers change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InheritedEntry {
    /// An implied directory with the metadata and attributes of the parent layers' directory.
    Dir(TreePath, FileMetadata, Vec<Xattr>),
    /// A whiteout that is dropped because no parent layer has the path.
    DroppedWhiteout(TreePath),
}

/// The dependencies of `leans` that still hold after the whole layer is unpacked. Removes whiteouts inside opaque
/// directories, as they have no effect.
pub(crate) fn retain_effective(dir: &Dir, deps: &ParentDeps) -> Result<ParentDeps, StoreError> {
    let mut standing = ParentDeps::default();
    for path in &deps.implied_dirs {
        if dir.open_subdir(path).is_ok() && !is_hidden_by_opaque(dir, Some(path.clone()))? {
            standing.implied_dirs.insert(path.clone());
        }
    }
    // Paths of one directory follow each other.
    let mut last_parent: Option<(TreePath, bool)> = None;
    for path in &deps.whiteouts {
        if !dir.status(path)?.is_some_and(|status| status.kind.is_whiteout()) {
            continue;
        }
        let parent = path.parent().unwrap_or_else(TreePath::root);
        let is_hidden = match last_parent.take().filter(|(last, _)| *last == parent) {
            Some((_, is_hidden)) => is_hidden,
            None => is_hidden_by_opaque(dir, Some(parent.clone()))?,
        };
        last_parent = Some((parent, is_hidden));
        match is_hidden {
            true => dir.remove(path)?,
            false => drop(standing.whiteouts.insert(path.clone())),
        }
    }
    Ok(standing)
}

/// Returns `true` when the directory `at` or one of its ancestors is opaque.
fn is_hidden_by_opaque(dir: &Dir, mut at: Option<TreePath>) -> Result<bool, StoreError> {
    while let Some(path) = at {
        if is_opaque(&dir.xattrs(&path)?) {
            return Ok(true);
        }
        at = path.parent();
    }
    Ok(false)
}

/// Resolves the dependencies `leans` against the parent layers `below`, lowest first.
pub(crate) fn resolve_inherited(
    deps: &ParentDeps,
    below: &[LayerId],
    layers: Layers<'_>,
) -> Result<Vec<InheritedEntry>, StoreError> {
    let ParentDeps { implied_dirs: implied, whiteouts } = deps;
    if implied.is_empty() && whiteouts.is_empty() {
        return Ok(Vec::new());
    }
    let view = layers.view(below)?;
    let mut all = Vec::new();
    for path in implied {
        let node = match view.find(path, true) {
            Err(StoreError::SymlinkLoop { .. }) => None,
            node => node?.filter(|node| node.status.kind == FileKind::Dir && !below.is_empty()),
        };
        if let Some(node) = node {
            all.push(InheritedEntry::Dir(path.clone(), node.status.metadata(), view.xattrs(&node)?));
        }
    }
    for path in whiteouts {
        if below.is_empty() || is_absent(&view, path)? {
            all.push(InheritedEntry::DroppedWhiteout(path.clone()));
        }
    }
    Ok(all)
}

/// Guesses from the unpacked layer `dir` the entries that it inherited for its dependencies `leans`. A directory with
/// the default metadata of implied directories is ambiguous: with `all` it counts as inherited, too.
pub(crate) fn guess_inherited(dir: &Dir, deps: &ParentDeps, all: bool) -> Result<Vec<InheritedEntry>, StoreError> {
    let mut inherited = Vec::new();
    for path in &deps.implied_dirs {
        let Some(status) = dir.status(path)?.filter(|status| status.kind == FileKind::Dir) else { continue };
        let mut xattrs = dir.xattrs(path)?;
        xattrs.retain(|(name, _)| is_portable(name));
        let meta = status.metadata();
        let is_plain = (meta.mode, meta.uid, meta.gid) == (0o755, 0, 0) && xattrs.is_empty();
        // Without a parent directory its time is that of unpacking, which has nanoseconds; times in a tar have none.
        if all || !is_plain || meta.mtime.1 == 0 {
            inherited.push(InheritedEntry::Dir(path.clone(), meta, xattrs));
        }
    }
    for path in &deps.whiteouts {
        if dir.status(path)?.is_none() {
            inherited.push(InheritedEntry::DroppedWhiteout(path.clone()));
        }
    }
    Ok(inherited)
}

fn is_absent(view: &MergedTree, path: &TreePath) -> Result<bool, StoreError> {
    Ok(view.node_at(path)?.is_none())
}

/// Applies the inherited entries to the layer `dir`, deepest first, as changing a directory does not change the times
/// of its subdirectories.
pub(crate) fn apply_inherited(dir: &Dir, inherited: &[InheritedEntry]) -> Result<(), StoreError> {
    let mut touched: BTreeSet<TreePath> = BTreeSet::new();
    for one in inherited {
        if let InheritedEntry::DroppedWhiteout(path) = one {
            touched.extend(path.parent());
        }
    }
    let times =
        touched.into_iter().map(|path| Ok((dir.status(&path)?, path))).collect::<Result<Vec<_>, StoreError>>()?;
    for one in inherited.iter().rev() {
        match one {
            InheritedEntry::DroppedWhiteout(path) => dir.remove(path)?,
            InheritedEntry::Dir(path, meta, xattrs) => {
                for (name, value) in xattrs {
                    dir.set_xattr(path, (name, value))?;
                }
                dir.set_metadata(path, meta, false)?;
            }
        }
    }
    // Dropping a whiteout must not change its directory's time.
    let took = |path: &TreePath| inherited.iter().any(|one| matches!(one, InheritedEntry::Dir(dir, ..) if dir == path));
    for (status, path) in times {
        if let Some(status) = status.filter(|_| !took(&path)) {
            dir.set_mtime(&path, status.mtime)?;
        }
    }
    Ok(())
}

/// The digest of inherited entries, for the layer's id.
pub(crate) fn inherited_digest(inherited: &[InheritedEntry]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for one in inherited {
        match one {
            InheritedEntry::DroppedWhiteout(path) => {
                add(b"nothing");
                add(path.as_bytes());
            }
            InheritedEntry::Dir(path, meta, xattrs) => {
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

/// Writes the record of a layer's dependencies: `d` and a directory, or `w` and a whiteout, each terminated by NUL.
pub(crate) fn write_parent_deps(record: &Path, deps: &ParentDeps, store: &Store) -> Result<(), StoreError> {
    if *deps == ParentDeps::default() {
        return Ok(());
    }
    let dirs = deps.implied_dirs.iter().map(|path| (b"d", path));
    let all = dirs.chain(deps.whiteouts.iter().map(|path| (b"w", path)));
    let bytes: Vec<u8> = all.flat_map(|(kind, path)| [kind, path.as_bytes(), b"\0"].concat()).collect();
    atomic_file::write_atomic(record, &bytes, MAX_PARENT_DEPS_BYTES, &store.work_dir().path(), Durability::Synced)
}

/// Reads the record of a layer's dependencies; without a record there are none.
pub(crate) fn read_parent_deps(record: &Path) -> Result<ParentDeps, StoreError> {
    let bytes = atomic_file::read_limited(record, MAX_PARENT_DEPS_BYTES)?.unwrap_or_default();
    let mut deps = ParentDeps::default();
    for line in bytes.split(|&byte| byte == 0).filter(|line| !line.is_empty()) {
        let (kind, path) = line.split_at(1);
        let path = TreePath::parse(path).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::InvalidData, error);
            StoreError::Io { verb: "read", path: record.to_owned(), source }
        })?;
        match kind {
            b"w" => deps.whiteouts.insert(path),
            _ => deps.implied_dirs.insert(path),
        };
    }
    Ok(deps)
}
