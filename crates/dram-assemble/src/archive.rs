//! A release on disk becomes a `.tar.gz`: the same files give the same bytes, whoever made them and when.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dram_gzip::{Cache, Failed, Stream};
use dram_image::tar::{self, EntryKind, TarWriter};
use dram_image::{Digest, Hashing, TreePath};

use crate::AssembleError;
use crate::tree::{Entry, ReleaseTree};
use crate::upgrade::UpgradeError;

/// libdeflate's level: smaller than zlib's sixth, in half of its time.
const LEVEL: i32 = 6;
/// Bytes of the digest before a kept piece.
const DIGEST: usize = 32;

/// What was written.
#[derive(Debug)]
pub struct Archive {
    /// Where it lies.
    pub path: PathBuf,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// How an archive is compressed.
#[derive(Debug)]
pub(crate) enum Packing {
    /// In pieces, on all processors; those that are kept are not made again.
    Pieces(Option<Pieces>),
    /// As one piece: a running system unpacks it, and `erl_tar` reads only the first. It takes no links that say `..`
    /// either: the files that they lead to are there instead.
    Whole,
}

/// Packs the entries of `tree`, which lie below `root` on disk, into `path`. Every entry belongs to user and group 0
/// and has the time `seconds`, since 1970; the order is that of the paths.
///
/// # Errors
/// When a file cannot be read, or the archive cannot be written: what was at `path` stays then.
pub(crate) fn write(
    tree: &ReleaseTree,
    root: &Path,
    path: &Path,
    seconds: i64,
    packing: &Packing,
) -> Result<Archive, AssembleError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".dram-new");
    let half = path.with_file_name(name);
    let written = write_to(tree, root, &half, seconds, packing);
    match written {
        Ok((digest, size)) => {
            fs::rename(&half, path).map_err(AssembleError::io("write", path))?;
            Ok(Archive { path: path.to_owned(), digest, size })
        }
        Err(error) => {
            // The error that led here is the one to tell.
            let _ = fs::remove_file(&half);
            Err(error)
        }
    }
}

fn write_to(
    tree: &ReleaseTree,
    root: &Path,
    half: &Path,
    seconds: i64,
    packing: &Packing,
) -> Result<(Digest, u64), AssembleError> {
    let file = File::create(half).map_err(AssembleError::io("make the file", half))?;
    let mut out = Hashing::new(BufWriter::with_capacity(1 << 18, file));
    let is_whole = matches!(packing, Packing::Whole);
    let pack = |out: &mut Stream| pack(tree, root, out, seconds, is_whole);
    let packed = match packing {
        Packing::Whole => dram_gzip::compress_as_one(LEVEL, &mut out, pack),
        Packing::Pieces(pieces) => {
            let cache = pieces.as_ref().map(|pieces| pieces as &dyn Cache);
            dram_gzip::compress(LEVEL, cache, &mut out, pack)
        }
    };
    packed.map_err(|failed| match failed {
        Failed::Produce(error) => error,
        Failed::Write(source) => AssembleError::Io { verb: "write", path: half.to_owned(), source },
    })?;
    out.flush().map_err(AssembleError::io("write", half))?;
    let hasher = out.finish();
    let size = hasher.length();
    Ok((hasher.finish(), size))
}

fn pack(
    tree: &ReleaseTree,
    root: &Path,
    out: &mut Stream,
    seconds: i64,
    for_erlang: bool,
) -> Result<(), AssembleError> {
    let mut writer = TarWriter::new(out);
    let mut part = Vec::new();
    let mut above = TreePath::root();
    for (path, entry) in tree.iter() {
        let parent = path.parent().unwrap_or_default();
        // An application that did not change is a piece that did not change.
        let of = path.components().take(2).collect::<Vec<_>>().concat();
        if of != part {
            writer.stream().cut().map_err(AssembleError::io("pack", root))?;
            part = of;
        }
        if parent != above {
            directories(&mut writer, &above, &parent, seconds)?;
            above = parent;
        }
        let (kind, mode) = match entry {
            Entry::Dir => (EntryKind::Dir, 0o755),
            Entry::Link(said) if !(for_erlang && leads_out(said)) => (EntryKind::Symlink(said.clone()), 0o777),
            Entry::Link(_) | Entry::File { .. } => {
                let full = root.join(path.as_path());
                let mut file = File::open(&full).map_err(AssembleError::io("read", &full))?;
                let status = file.metadata().map_err(AssembleError::io("read", &full))?;
                if !status.is_file() {
                    return Err(UpgradeError::Link(path.as_path().to_owned()).into());
                }
                let size = status.len();
                let is_executable = match entry {
                    Entry::File { executable, .. } => *executable,
                    Entry::Link(_) | Entry::Dir => status.mode() & 0o100 != 0,
                };
                let mode = if is_executable { 0o755 } else { 0o644 };
                let entry = header(path, EntryKind::File { size }, mode, seconds);
                writer.append(&entry, &mut file).map_err(AssembleError::io("pack", &full))?;
                continue;
            }
        };
        let entry = header(path, kind, mode, seconds);
        writer.append(&entry, &mut io::empty()).map_err(AssembleError::io("pack", root))?;
    }
    writer.finish().map_err(AssembleError::io("pack", root)).map(drop)
}

/// Whether `erl_tar` takes a link for one that leads out of the archive: it counts from the root.
fn leads_out(said: &[u8]) -> bool {
    said.starts_with(b"/") || said.split(|&byte| byte == b'/').any(|part| part == b"..")
}

/// Writes the directories on the way to `to` that are not on the way to `from`, outermost first.
fn directories(
    writer: &mut TarWriter<&mut Stream>,
    from: &TreePath,
    to: &TreePath,
    seconds: i64,
) -> Result<(), AssembleError> {
    let mut path = TreePath::root();
    for name in to.components() {
        path = path.join(name);
        if from.below(&path).is_none() {
            let entry = header(&path, EntryKind::Dir, 0o755, seconds);
            writer.append(&entry, &mut io::empty()).map_err(AssembleError::io("pack", path.as_path()))?;
        }
    }
    Ok(())
}

fn header(path: &TreePath, kind: EntryKind, mode: u32, seconds: i64) -> tar::Entry {
    tar::Entry { path: path.clone(), kind, mode, uid: 0, gid: 0, mtime: seconds, xattrs: Vec::new() }
}

/// Compressed pieces of earlier archives, in a directory: most of a release is Erlang and Elixir, and does not change.
#[derive(Debug)]
pub(crate) struct Pieces {
    directory: PathBuf,
    used: Mutex<BTreeSet<String>>,
}

impl Pieces {
    /// The pieces in `directory`, which need not be there.
    pub(crate) fn new(directory: PathBuf) -> Pieces {
        Pieces { directory, used: Mutex::default() }
    }

    /// Removes what the last archive did not use. That something cannot be removed is no error.
    pub(crate) fn sweep(&self) {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| used.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn use_it(&self, key: &str) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
    }
}

impl Cache for Pieces {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let mut kept = fs::read(self.directory.join(key)).ok()?;
        let member = kept.split_off(kept.len().checked_sub(DIGEST)?.min(DIGEST));
        // After a power cut it may hold anything.
        let is_whole = *blake3::hash(&member).as_bytes() == *kept;
        is_whole.then(|| self.use_it(key))?;
        Some(member)
    }

    fn put(&self, key: &str, member: &[u8]) {
        let half = self.directory.join(format!("{key}.new"));
        let kept = fs::create_dir_all(&self.directory)
            .and_then(|()| fs::write(&half, [blake3::hash(member).as_bytes(), member].concat()))
            .and_then(|()| fs::rename(&half, self.directory.join(key)));
        if kept.is_ok() {
            self.use_it(key);
        }
    }
}
