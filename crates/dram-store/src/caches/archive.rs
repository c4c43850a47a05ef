//! Caches as one tar: how they get to another machine.
//!
//! `dram-caches.json` comes first and says which caches follow, and what each holds; the tree below `N/` is the Nth of
//! them. Names, kinds, modes, owners, attributes, hard links and times in whole seconds are kept. Sockets and devices
//! stay behind: they mean nothing elsewhere. The same caches give the same bytes.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_image::tar::{Entry, EntryKind, TarWriter};
use flate2::write::GzEncoder;
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use serde::{Deserialize, Serialize};

use super::{About, CacheName, Caches, LARGEST_ABOUT, TakenCache, read_about};
use crate::compress::{Compression, Unpacked, Zstd};
use crate::layers::content;
use crate::scan::{Found, scan};
use crate::unpack::{How, Meaning, unpack};
use crate::{Dir, FileKind, StoreError};

const LIST: &str = "dram-caches.json";
const VERSION: u32 = 1;
/// Nobody has so many; a list of more is a mistake.
const MOST: usize = 10_000;

/// Why caches could not be taken out or brought in.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Somebody uses a cache, and it must hold still.
    #[error("the cache `{id}` is in use")]
    InUse {
        /// Which.
        id: String,
    },
    /// There is no such cache any more.
    #[error("the cache `{id}` is gone")]
    Gone {
        /// Which.
        id: String,
    },
    /// The archive is not one of caches, or not whole.
    #[error("{what} is not an archive of caches: {why}")]
    NotCaches {
        /// The archive.
        what: String,
        /// How it was noticed.
        why: String,
    },
    /// The disk refused, or the tar is broken.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The first file of an archive.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: u32,
    caches: Vec<Listed>,
}

/// One cache in an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    #[serde(flatten)]
    name: CacheName,
    number: u64,
    /// A digest of what it holds.
    content: String,
}

/// A cache that was brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// What it is called.
    pub name: CacheName,
    /// Whether it took the place of another.
    pub replaced: bool,
}

impl Caches<'_> {
    /// Writes the caches with these keys as a tar, plain or compressed with gzip or zstd. They hold still meanwhile:
    /// whoever wants one waits.
    ///
    /// # Errors
    /// When somebody uses one, one is gone, or reading or writing fails.
    pub fn export(self, keys: &[String], how: Compression, out: &mut dyn Write) -> Result<(), ArchiveError> {
        let fail = || StoreError::io("write", Path::new("the archive"));
        match how {
            Compression::Gzip => {
                let mut out = GzEncoder::new(out, flate2::Compression::fast());
                self.write(keys, &mut out)?;
                out.finish().map_err(fail())?.flush().map_err(fail())?;
            }
            Compression::Zstd => {
                let mut out = Zstd::new(out, 0).map_err(fail())?;
                self.write(keys, &mut out)?;
                out.finish().map_err(fail())?.flush().map_err(fail())?;
            }
            Compression::None | Compression::Xz | Compression::Bzip2 => {
                self.write(keys, out)?;
                out.flush().map_err(fail())?;
            }
        }
        Ok(())
    }

    fn write(self, keys: &[String], out: &mut dyn Write) -> Result<(), ArchiveError> {
        let mut keys: Vec<&String> = keys.iter().collect();
        keys.sort();
        keys.dedup();
        let mut taken = Vec::new();
        let mut list = List { version: VERSION, caches: Vec::new() };
        for key in keys {
            let (cache, name) = self.held(key)?;
            let number = key.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            let content = content(&Dir::open_layer(&cache.data())?, &travels)?.to_hex().to_string();
            list.caches.push(Listed { name, number, content });
            taken.push(cache);
        }
        let mut writer = TarWriter::new(out);
        let text = serde_json::to_vec_pretty(&list).expect("plain data becomes JSON");
        let path = TreePath::parse(LIST.as_bytes()).map_err(StoreError::from)?;
        let kind = EntryKind::File { size: text.len() as u64 };
        let entry = Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        let fail = || StoreError::io("write", Path::new("the archive"));
        writer.append(&entry, &mut text.as_slice()).map_err(fail())?;
        for (number, cache) in taken.iter().enumerate() {
            let dir = Dir::open_layer(&cache.data())?;
            let below = TreePath::parse(number.to_string().as_bytes()).map_err(StoreError::from)?;
            scan(&dir, &mut |found| append(&mut writer, &dir, &below, found))?;
        }
        writer.finish().map_err(fail())?;
        Ok(())
    }

    /// Takes a cache alone, without waiting.
    fn held(self, key: &str) -> Result<(TakenCache, CacheName), ArchiveError> {
        let directory = self.root().join(key);
        let Some(about) = read_about(&directory) else { return Err(ArchiveError::Gone { id: key.to_owned() }) };
        match self.try_take(key, FlockOperation::NonBlockingLockExclusive)? {
            Some(taken) => Ok((taken, about.name)),
            None => Err(ArchiveError::InUse { id: about.name.id }),
        }
    }

    /// Brings the caches of a tar in, whatever it is compressed with; `what` is its name for messages. One that is here
    /// gives way. Nothing changes before all of the archive was read and found to be what it says.
    ///
    /// # Errors
    /// When the archive is broken or none of caches, somebody uses a cache that would give way, or the disk refuses.
    pub fn import(self, stream: Box<dyn Read>, what: &str) -> Result<Vec<Imported>, ArchiveError> {
        let place = self.store.work().fresh()?;
        let done = self.import_by(&place, stream, what);
        self.store.work().discard(&place);
        done
    }

    fn import_by(self, place: &Path, stream: Box<dyn Read>, what: &str) -> Result<Vec<Imported>, ArchiveError> {
        let limits = self.store.limits();
        let mut plain = Unpacked::new(stream, limits).map_err(StoreError::io("read", Path::new(what)))?;
        let dir = Dir::open_layer(place)?;
        unpack(&mut plain, &dir, How { meaning: Meaning::Archive, limits, what })?;
        let list = read_list(&dir, what)?;
        let mut ready = Vec::new();
        for (number, listed) in list.caches.iter().enumerate() {
            check(&dir, number, listed, what)?;
            ready.push(Ready { data: place.join(number.to_string()), listed, there: self.there(listed)? });
        }
        for (number, one) in ready.iter().enumerate() {
            self.put(place, number, one)?;
        }
        let imported = |one: Ready<'_>| Imported { name: one.listed.name.clone(), replaced: one.there.is_some() };
        Ok(ready.into_iter().map(imported).collect())
    }

    /// The cache that gives way, held.
    fn there(self, listed: &Listed) -> Result<Option<TakenCache>, ArchiveError> {
        match self.held(&directory(listed)) {
            Ok((taken, _)) => Ok(Some(taken)),
            Err(ArchiveError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts one cache where it belongs, in one step.
    fn put(self, place: &Path, number: usize, one: &Ready<'_>) -> Result<(), StoreError> {
        if let Some(there) = &one.there {
            let old = there.data();
            return rustix::fs::renameat_with(CWD, &one.data, CWD, &old, RenameFlags::EXCHANGE)
                .map_err(StoreError::os("replace", &old));
        }
        let made = place.join(format!("made-{number}"));
        fs::create_dir(&made).map_err(StoreError::io("make the directory", &made))?;
        fs::rename(&one.data, made.join("data")).map_err(StoreError::io("write", &made))?;
        self.write_about(&made, &About { name: one.listed.name.clone(), uses: 0 })?;
        drop(crate::lock::hold(&made.join("lock"), FlockOperation::LockShared)?);
        let to = self.root().join(directory(one.listed));
        match fs::rename(&made, &to) {
            // A build made one since it was looked for. It is the younger.
            Err(_) if to.is_dir() => Ok(()),
            renamed => renamed.map_err(StoreError::io("write", &to)),
        }
    }
}

/// A cache that was read and found whole, and the one that it replaces.
struct Ready<'a> {
    data: PathBuf,
    listed: &'a Listed,
    there: Option<TakenCache>,
}

fn directory(listed: &Listed) -> String {
    format!("{}.{}", listed.name.key(), listed.number)
}

/// Whether something can go to another machine.
fn travels(found: &Found) -> bool {
    match found.status.kind {
        FileKind::File | FileKind::Dir | FileKind::Symlink | FileKind::Fifo => true,
        FileKind::Char(..) | FileKind::Block(..) | FileKind::Socket => false,
    }
}

fn append(
    writer: &mut TarWriter<&mut dyn Write>,
    dir: &Dir,
    below: &TreePath,
    found: &Found,
) -> Result<(), StoreError> {
    if !travels(found) {
        return Ok(());
    }
    let kind = match (found.status.kind, &found.link_to) {
        (_, Some(first)) => EntryKind::HardLink(below.append(first)),
        (FileKind::File, None) => EntryKind::File { size: found.status.size },
        (FileKind::Dir, None) => EntryKind::Dir,
        (FileKind::Symlink, None) => EntryKind::Symlink(dir.read_link(&found.path)?),
        (FileKind::Fifo, None) => EntryKind::Fifo,
        (FileKind::Char(..) | FileKind::Block(..) | FileKind::Socket, None) => unreachable!("these do not travel"),
    };
    let is_symlink = matches!(kind, EntryKind::Symlink(_));
    let entry = Entry {
        path: below.append(&found.path),
        mode: if is_symlink { 0o777 } else { found.status.mode },
        uid: found.status.uid,
        gid: found.status.gid,
        mtime: found.status.mtime.0,
        xattrs: found.xattrs.clone(),
        kind,
    };
    let written = match &entry.kind {
        EntryKind::File { .. } => writer.append(&entry, &mut dir.open_file(&found.path)?),
        EntryKind::Dir
        | EntryKind::Symlink(_)
        | EntryKind::HardLink(_)
        | EntryKind::Fifo
        | EntryKind::Char(..)
        | EntryKind::Block(..) => writer.append(&entry, &mut std::io::empty()),
    };
    written.map_err(StoreError::io("pack", &dir.shown().join(found.path.as_path())))
}

fn read_list(dir: &Dir, what: &str) -> Result<List, ArchiveError> {
    let wrong = |why: String| ArchiveError::NotCaches { what: what.to_owned(), why };
    let path = TreePath::parse(LIST.as_bytes()).map_err(StoreError::from)?;
    let file = match dir.open_file(&path) {
        Err(error) if error.is_not_found() => return Err(wrong(format!("it has no `{LIST}`"))),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(LARGEST_ABOUT).read_to_end(&mut text).map_err(StoreError::io("read", Path::new(LIST)))?;
    let list: List = serde_json::from_slice(&text).map_err(|error| wrong(format!("its `{LIST}` is wrong: {error}")))?;
    if list.version != VERSION {
        return Err(wrong(format!("it is of version {}, and this program knows version {VERSION}", list.version)));
    }
    if list.caches.len() > MOST {
        return Err(wrong(format!("it lists more than {MOST} caches")));
    }
    let mut names: Vec<String> = list.caches.iter().map(directory).collect();
    names.sort();
    match names.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(wrong("it lists a cache twice".to_owned())),
        false => Ok(list),
    }
}

/// Compares what was unpacked with what the list says.
fn check(dir: &Dir, number: usize, listed: &Listed, what: &str) -> Result<(), ArchiveError> {
    let wrong = |why: String| ArchiveError::NotCaches { what: what.to_owned(), why };
    let path = TreePath::parse(number.to_string().as_bytes()).map_err(StoreError::from)?;
    if dir.status(&path)?.is_none_or(|status| status.kind != FileKind::Dir) {
        return Err(wrong(format!("it lacks the cache `{}`", listed.name.id)));
    }
    let found = content(&dir.sub(&path)?, &travels)?.to_hex().to_string();
    match found == listed.content {
        true => Ok(()),
        false => Err(wrong(format!("the cache `{}` does not hold what the list says", listed.name.id))),
    }
}
