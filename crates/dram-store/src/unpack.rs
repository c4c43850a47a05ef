//! A tar becomes a directory. Names in it are the sender's: each is resolved beneath the directory's handle.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};

use dram_image::TreePath;
use dram_image::tar::{Entry, EntryKind, TarError, TarReader};

use crate::dir::Meta;
use crate::merged::is_portable;
use crate::rights::is_first;
use crate::{Dir, FileKind, StoreError};

/// What `.wh.` names mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A layer: they delete what is below (OCI image specification, `layer.md`).
    Layer,
    /// Any archive: they are names like others.
    Archive,
}

/// Unpacks all of `stream` into the empty directory `root` and reads it to its end.
pub(crate) fn unpack(stream: &mut dyn Read, root: &Dir, meaning: Meaning, what: &str) -> Result<(), StoreError> {
    let fail = |source: TarError| StoreError::Tar { what: what.to_owned(), source };
    let mut reader = TarReader::new(stream);
    let mut unpacker = Unpacker { root, meaning, last: None, dirs: BTreeMap::new(), buffer: vec![0; 128 << 10] };
    while let Some(entry) = reader.next_entry().map_err(fail)? {
        unpacker.place(&entry, &mut reader, what)?;
    }
    reader.drain().map_err(fail)?;
    unpacker.finish()
}

struct Unpacker<'a> {
    root: &'a Dir,
    meaning: Meaning,
    /// The directory of the last entry: most entries share it with their neighbour.
    last: Option<(TreePath, Dir)>,
    /// Mode and time of directories, set when everything is in them.
    dirs: BTreeMap<TreePath, Meta>,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn place(&mut self, entry: &Entry, data: &mut TarReader<&mut dyn Read>, what: &str) -> Result<(), StoreError> {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.name()) else {
            return self.place_root(entry);
        };
        self.enter(&parent)?;
        let (_, dir) = self.last.as_ref().expect("entered above");
        if let (Meaning::Layer, Some(hidden)) = (self.meaning, name.strip_prefix(b".wh.")) {
            return hide(dir, hidden, &entry.path);
        }
        let name = TreePath::parse(name)?;
        let there = dir.status(&name)?;
        let both_dirs = entry.kind == EntryKind::Dir && there.as_ref().is_some_and(|s| s.kind == FileKind::Dir);
        if there.is_some() && !both_dirs && !is_link_to_itself(entry) {
            dir.remove(&name)?;
            self.dirs.retain(|path, _| path.below(&entry.path).is_none());
        }
        let meta = meta(entry);
        match &entry.kind {
            EntryKind::File { .. } => write_file(dir, &name, data, &mut self.buffer, what)?,
            EntryKind::Dir => {
                if !both_dirs {
                    dir.make_dir(&name, 0o700)?;
                }
                self.dirs.insert(entry.path.clone(), meta.clone());
            }
            EntryKind::Symlink(target) => dir.make_symlink(&name, target)?,
            EntryKind::HardLink(target) => return link(self.root, target, dir, &name, entry),
            EntryKind::Char(0, 0) => {
                let why = "a character device 0:0 is overlayfs's mark for a deleted file";
                return Err(StoreError::Entry { entry: entry.path.to_string(), why });
            }
            EntryKind::Char(major, minor) => dir.make_node(&name, FileKind::Char(*major, *minor))?,
            EntryKind::Block(major, minor) => dir.make_node(&name, FileKind::Block(*major, *minor))?,
            EntryKind::Fifo => dir.make_node(&name, FileKind::Fifo)?,
        }
        dir.set_meta(&name, &meta, matches!(entry.kind, EntryKind::Symlink(_)))?;
        set_xattrs(dir, &name, entry)
    }

    fn place_root(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if entry.kind != EntryKind::Dir {
            // Some archives start with a nameless file, which every tool passes over.
            if self.meaning == Meaning::Archive {
                return Ok(());
            }
            let why = "the root of a layer is a directory";
            return Err(StoreError::Entry { entry: entry.path.to_string(), why });
        }
        self.dirs.insert(TreePath::root(), meta(entry));
        Ok(())
    }

    /// Opens the directory `path`, making what is missing on the way; links in it lead nowhere outside.
    fn enter(&mut self, path: &TreePath) -> Result<(), StoreError> {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        let dir = match self.root.sub_in_root(path) {
            Err(error) if error.is_not_found() => {
                make_missing(self.root, path)?;
                self.root.sub_in_root(path)?
            }
            dir => dir?,
        };
        self.last = Some((path.clone(), dir));
        Ok(())
    }

    /// Sets mode and time of directories, the deepest first, wherever a directory still is.
    fn finish(self) -> Result<(), StoreError> {
        for (path, meta) in self.dirs.iter().rev() {
            let (dir, name) = match (path.parent(), path.name()) {
                (Some(parent), Some(name)) => (self.root.sub_in_root(&parent)?, TreePath::parse(name)?),
                (None, _) | (_, None) => (self.root.sub_in_root(&TreePath::root())?, TreePath::root()),
            };
            if dir.status(&name)?.is_some_and(|status| status.kind == FileKind::Dir) {
                dir.set_meta(&name, meta, false)?;
            }
        }
        Ok(())
    }
}

fn meta(entry: &Entry) -> Meta {
    Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: (entry.mtime, 0) }
}

fn is_link_to_itself(entry: &Entry) -> bool {
    matches!(&entry.kind, EntryKind::HardLink(target) if *target == entry.path)
}

/// `.wh.NAME` hides NAME, `.wh..wh..opq` all that is in the directory below; other `.wh..wh.` names are aufs's own.
fn hide(dir: &Dir, hidden: &[u8], path: &TreePath) -> Result<(), StoreError> {
    match hidden {
        b".wh..opq" => dir.set_xattr(&TreePath::root(), (opaque_name(), b"y")),
        b"" | b"." | b".." => {
            let why = "a whiteout must name what it hides";
            Err(StoreError::Entry { entry: path.to_string(), why })
        }
        aufs if aufs.starts_with(b".wh.") => Ok(()),
        name => {
            let name = TreePath::parse(name)?;
            dir.remove(&name)?;
            dir.make_node(&name, FileKind::Char(0, 0))
        }
    }
}

/// The attribute that marks an opaque directory: only the first user namespace may write `trusted.` ones.
fn opaque_name() -> &'static [u8] {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if is_first(&map) { b"trusted.overlay.opaque" } else { b"user.overlay.opaque" }
}

fn write_file(
    dir: &Dir,
    name: &TreePath,
    data: &mut TarReader<&mut dyn Read>,
    buffer: &mut [u8],
    what: &str,
) -> Result<(), StoreError> {
    let mut file = dir.create_file(name, 0o600)?;
    loop {
        let got = data.read_data(buffer).map_err(|source| StoreError::Tar { what: what.to_owned(), source })?;
        if got == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..got]).map_err(StoreError::io("write", &dir.shown().join(name.as_path())))?;
    }
}

fn link(root: &Dir, target: &TreePath, dir: &Dir, name: &TreePath, entry: &Entry) -> Result<(), StoreError> {
    let wrong = |why| StoreError::Entry { entry: entry.path.to_string(), why };
    if is_link_to_itself(entry) {
        return Ok(());
    }
    let (Some(parent), Some(last)) = (target.parent(), target.name()) else {
        return Err(wrong("it is a hard link to a directory"));
    };
    let from = root.sub_in_root(&parent).map_err(|_| wrong("it is a hard link to what does not exist"))?;
    let last = TreePath::parse(last)?;
    match from.status(&last)?.map(|status| status.kind) {
        None => Err(wrong("it is a hard link to what does not exist")),
        Some(FileKind::Dir) => Err(wrong("it is a hard link to a directory")),
        Some(_) => dir.make_link_from(&from, &last, name),
    }
}

fn set_xattrs(dir: &Dir, name: &TreePath, entry: &Entry) -> Result<(), StoreError> {
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| is_portable(key)) {
        dir.set_xattr(name, (key, value))?;
    }
    Ok(())
}

/// Makes the directories of `path` that are missing, 0755 and root's, as every engine does.
fn make_missing(root: &Dir, path: &TreePath) -> Result<(), StoreError> {
    let mut at = TreePath::root();
    for part in path.components() {
        let dir = root.sub_in_root(&at)?;
        let name = TreePath::parse(part)?;
        if dir.status(&name)?.is_none() {
            dir.make_dir(&name, 0o755)?;
            dir.set_meta(&name, &Meta { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0) }, false)?;
        }
        at = at.join(part);
    }
    Ok(())
}
