//! Writes a release on disk as a `.tar.gz`; the same files give the same bytes.

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

/// The compression level of libdeflate: the result is smaller than that of zlib's level 6, in half the time.
const LEVEL: i32 = 6;
/// The length of the digest before a cached gzip member.
const DIGEST: usize = 32;

/// An archive that was written.
#[derive(Debug)]
pub struct Archive {
    /// The path of the archive.
    pub path: PathBuf,
    /// The SHA-256 digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The way in which an archive is compressed.
#[derive(Debug)]
pub(crate) enum Packing {
    /// As several gzip members, compressed in parallel; members in the cache are not compressed again.
    Pieces(Option<Pieces>),
    /// As a single gzip member, for archives that a running system unpacks: `erl_tar` reads only the first member. It
    /// also refuses links that contain `..`, so they are replaced by the files that they lead to.
    Whole,
}

/// Packs the entries of `tree`, which are below `root` on disk, into `path`. All entries belong to user and group 0 and
/// have the modification time `seconds`, in seconds since 1970; they are sorted by path.
///
/// # Errors
/// Fails if a file cannot be read or the archive cannot be written. The file at `path` is then unchanged.
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
            // The first error is reported, not that of the removal.
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
        // The members are cut per application, so that an unchanged application gives an unchanged member.
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

/// Returns true if `erl_tar` refuses the link because it leads out of the archive. It resolves links from the root.
fn leads_out(said: &[u8]) -> bool {
    said.starts_with(b"/") || said.split(|&byte| byte == b'/').any(|part| part == b"..")
}

/// Appends the parent directories of `to` that are not parent directories of `from`, outermost first.
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

/// A cache of compressed gzip members in a directory. Most of a release is OTP and Elixir, and does not change.
#[derive(Debug)]
pub(crate) struct Pieces {
    directory: PathBuf,
    used: Mutex<BTreeSet<String>>,
}

impl Pieces {
    /// Creates a cache in `directory`, which does not have to exist.
    pub(crate) fn new(directory: PathBuf) -> Pieces {
        Pieces { directory, used: Mutex::default() }
    }

    /// Removes the members that the last archive did not use. Errors are ignored.
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
        // The member is not fsynced, so after a power failure the file may contain anything.
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
