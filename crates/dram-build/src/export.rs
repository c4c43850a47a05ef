//! Exports a snapshot as files: into a directory of the host, or as a tar of the root file system.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use dram_store::{Dir, FileKind, FileStatus, FileTree as _, MergedTree, OutputDir, StoreError, TreeNode, TreeWalk};

use crate::{LayerProvider, Snapshot};

/// The reasons why files could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The destination has a non-empty directory at the path of something else.
    #[error("{} is a directory with files in it, and the image has something else of that name", .0.display())]
    InTheWay(PathBuf),
    /// The snapshot has a device, and this user may not make devices.
    #[error("{} is a device, and this user may not make one", .0.display())]
    Device(PathBuf),
    /// A file or the archive could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or archive.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The store could not be read, or a file operation in the destination failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes the files of `snapshot` into the directory `dest`, which is made if it is missing. They belong to the caller
/// and keep their mode, attributes and time, or get `time`, in seconds since 1970. Existing files stay unless the
/// snapshot has the same name. Links in `dest` are replaced and never followed.
///
/// # Errors
/// Returns an error if a file operation fails, or if a non-empty directory would have to be replaced.
pub fn export_dir(
    provider: &LayerProvider<'_>,
    snapshot: &Snapshot,
    dest: &Path,
    time: Option<i64>,
) -> Result<(), ExportError> {
    let root = OutputDir::create(dest)?.into_dir();
    let view = provider.view(snapshot)?;
    let temporary = OutputDir::temporary_name();
    let mut writer = DirExporter { view: &view, root, temporary, last_dir: None, dirs: BTreeMap::new(), time };
    walk_tree(&view, &mut |node, first| writer.write_node(node, first))?;
    writer.finish()
}

/// Writes the files of `snapshot` as a tar to `out`, which errors call `shown`. All entries have `time`, in seconds since
/// 1970, or without one the time of their file, in whole seconds.
///
/// # Errors
/// Returns an error if the store cannot be read or `out` cannot be written.
pub fn export_tar(
    provider: &LayerProvider<'_>,
    snapshot: &Snapshot,
    time: Option<i64>,
    out: &mut dyn Write,
    shown: &Path,
) -> Result<(), ExportError> {
    let view = provider.view(snapshot)?;
    let mut tar = TarWriter::new(out);
    let fail = |source| ExportError::Write { path: shown.to_owned(), source };
    write_tar(&view, time, &mut tar).map_err(|error| match error {
        ExportError::Write { source, .. } => fail(source),
        error @ (ExportError::InTheWay(_) | ExportError::Device(_) | ExportError::Store(_)) => error,
    })?;
    tar.finish().map(drop).map_err(fail)
}

/// Writes everything in `view` except the root. All entries carry `time`, or their own times if it is `None`.
pub(crate) fn write_tar(
    view: &MergedTree,
    time: Option<i64>,
    tar: &mut TarWriter<&mut dyn Write>,
) -> Result<(), ExportError> {
    walk_tree(view, &mut |node, first| {
        let Some(entry) = tar_entry(view, node, first, time.unwrap_or(node.status.mtime.0))? else { return Ok(()) };
        let put = match entry.kind {
            TarEntryKind::File { .. } => tar.append(&entry, &mut view.open(&node.path)?),
            TarEntryKind::Dir
            | TarEntryKind::Symlink(_)
            | TarEntryKind::HardLink(_)
            | TarEntryKind::Char(..)
            | TarEntryKind::Block(..)
            | TarEntryKind::Fifo => tar.append(&entry, &mut io::empty()),
        };
        put.map_err(|source| ExportError::Write { path: entry.path.as_path().to_owned(), source })
    })
}

type VisitNode<'a> = dyn FnMut(&TreeNode, Option<&TreePath>) -> Result<(), ExportError> + 'a;

/// Calls `visit` for everything below the root, parents before children, in the byte order of names. For a further name
/// of a file with several hard links it also passes the first one.
fn walk_tree(view: &MergedTree, visit: &mut VisitNode<'_>) -> Result<(), ExportError> {
    if view.node_at(&TreePath::root())?.is_none() {
        return Ok(());
    }
    let mut walk = TreeWalk::new(TreePath::root());
    while let Some(path) = walk.next_path() {
        let Some(node) = view.node_at(&path)? else { continue };
        let is_root = path.is_root();
        let has_several_names = node.status.kind == FileKind::File && node.status.link_count > 1;
        let known = if has_several_names { walk.first_path(node.status.inode) } else { None };
        if node.status.kind == FileKind::Dir {
            let names = view.list(&path)?;
            walk.enter(path, names);
        }
        if is_root {
            continue;
        }
        visit(&node, known.as_ref())?;
    }
    Ok(())
}

/// Returns the tar entry of a node, or `None` for a socket, which a tar cannot hold.
fn tar_entry(
    view: &MergedTree,
    node: &TreeNode,
    first: Option<&TreePath>,
    time: i64,
) -> Result<Option<TarEntry>, StoreError> {
    let FileStatus { kind, mode, uid, gid, size, .. } = node.status;
    let kind = match (kind, first) {
        (_, Some(first)) => TarEntryKind::HardLink(first.clone()),
        (FileKind::File, None) => TarEntryKind::File { size },
        (FileKind::Dir, None) => TarEntryKind::Dir,
        (FileKind::Symlink, None) => TarEntryKind::Symlink(view.read_link(&node.path)?),
        (FileKind::Char(major, minor), None) => TarEntryKind::Char(major, minor),
        (FileKind::Block(major, minor), None) => TarEntryKind::Block(major, minor),
        (FileKind::Fifo, None) => TarEntryKind::Fifo,
        (FileKind::Socket, None) => return Ok(None),
    };
    let mode = if matches!(kind, TarEntryKind::Symlink(_)) { 0o777 } else { mode };
    let xattrs = if first.is_some() { Vec::new() } else { view.xattrs(node)? };
    Ok(Some(TarEntry { path: node.path.clone(), kind, mode, uid, gid, mtime: time, xattrs }))
}

struct DirExporter<'a> {
    view: &'a MergedTree,
    root: Dir,
    /// The name of a file while it is written. It is random, so that no file of the image or the destination has it.
    temporary: TreePath,
    /// The directory of the last node; the next node is mostly in the same one.
    last_dir: Option<(TreePath, Dir)>,
    /// Directories. Their mode and time are set after everything in them is written.
    dirs: BTreeMap<TreePath, FileStatus>,
    time: Option<i64>,
}

impl DirExporter<'_> {
    fn write_node(&mut self, node: &TreeNode, first: Option<&TreePath>) -> Result<(), ExportError> {
        let (Some(parent), Some(name)) = (node.path.parent(), node.path.name()) else { return Ok(()) };
        self.open_dir(&parent)?;
        let (_, dir) = self.last_dir.as_ref().expect("entered above");
        let name = TreePath::parse(name).map_err(StoreError::from)?;
        let there = dir.status(&name)?.map(|status| status.kind);
        if node.status.kind == FileKind::Dir {
            if there.is_some_and(|kind| kind != FileKind::Dir) {
                dir.remove(&name)?;
            }
            if there != Some(FileKind::Dir) {
                dir.make_dir(&name, 0o700)?;
            }
            self.dirs.insert(node.path.clone(), node.status.clone());
            return Ok(());
        }
        if there == Some(FileKind::Dir) {
            if !dir.open_subdir(&name)?.names()?.is_empty() {
                return Err(ExportError::InTheWay(dir.display_path().join(name.as_path())));
            }
            dir.remove(&name)?;
        }
        let new = &self.temporary;
        let placed = self.create_node(node, first, dir, new).and_then(|is_made| {
            if first.is_some() {
                // Renaming a hard link over another one of the same file does nothing, and both names would stay.
                dir.remove(&name)?;
            }
            if is_made { Ok(dir.rename(new, &name)?) } else { Ok(()) }
        });
        if placed.is_err() {
            let _ = dir.remove(new);
        }
        placed
    }

    /// Creates the file of `node` under the name `new`. Returns `false` for a socket, which is not exported.
    fn create_node(
        &self,
        node: &TreeNode,
        first: Option<&TreePath>,
        dir: &Dir,
        new: &TreePath,
    ) -> Result<bool, ExportError> {
        if let Some(first) = first {
            self.create_hard_link(first, dir, new)?;
            return Ok(true);
        }
        match node.status.kind {
            FileKind::File => {
                let mut to = dir.create_file(new, 0o600)?;
                let copied = io::copy(&mut self.view.open(&node.path)?, &mut to);
                copied.map_err(|source| self.write_error(&node.path, source))?;
            }
            FileKind::Symlink => dir.make_symlink(new, &self.view.read_link(&node.path)?)?,
            kind @ (FileKind::Char(..) | FileKind::Block(..) | FileKind::Fifo) => match dir.make_node(new, kind) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(ExportError::Device(node.path.as_path().to_owned()));
                }
                made => made?,
            },
            FileKind::Socket => return Ok(false),
            FileKind::Dir => unreachable!("directories are made in their place"),
        }
        for (key, value) in self.view.xattrs(node)? {
            // The file system may not support attributes, or not permit this one to this user; `cp -a` ignores that
            // too.
            let _ = dir.set_xattr(new, (&key, &value));
        }
        self.set_metadata(dir, new, &node.status)?;
        Ok(true)
    }

    fn create_hard_link(&self, first: &TreePath, dir: &Dir, new: &TreePath) -> Result<(), ExportError> {
        let (Some(parent), Some(last)) = (first.parent(), first.name()) else { return Ok(()) };
        let from = self.root.open_subdir(&parent)?;
        let last = TreePath::parse(last).map_err(StoreError::from)?;
        Ok(dir.make_link_from(&from, &last, new)?)
    }

    /// Sets mode and time. The owner is the caller.
    fn set_metadata(&self, dir: &Dir, name: &TreePath, status: &FileStatus) -> Result<(), ExportError> {
        if status.kind != FileKind::Symlink {
            dir.set_mode(name, status.mode)?;
        }
        Ok(dir.set_mtime(name, self.time.map_or(status.mtime, |time| (time, 0)))?)
    }

    fn write_error(&self, path: &TreePath, source: io::Error) -> ExportError {
        ExportError::Write { path: self.root.display_path().join(path.as_path()), source }
    }

    /// Opens the directory `path`. It is a real path: the directory was made or found before its content.
    fn open_dir(&mut self, path: &TreePath) -> Result<(), ExportError> {
        if self.last_dir.as_ref().is_none_or(|(last, _)| last != path) {
            self.last_dir = Some((path.clone(), self.root.open_subdir(path)?));
        }
        Ok(())
    }

    /// Sets mode and time of the directories, deepest first.
    fn finish(self) -> Result<(), ExportError> {
        for (path, status) in self.dirs.iter().rev() {
            let (Some(parent), Some(name)) = (path.parent(), path.name()) else { continue };
            let dir = self.root.open_subdir(&parent)?;
            self.set_metadata(&dir, &TreePath::parse(name).map_err(StoreError::from)?, status)?;
        }
        Ok(())
    }
}
