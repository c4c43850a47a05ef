//! Export and import of caches as one tar, to move them to another machine.
//!
//! The first file is `dram-caches.json`, the index of the caches with a digest of the content of each; the tree below
//! `N/` is the Nth of them, counted from 0. Names, kinds, modes, owners, extended attributes, hard links and times in
//! whole seconds are kept. Sockets and devices are omitted, as they are useless on another machine. The same caches
//! always give the same bytes.

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
/// The limit on the number of caches; a longer list is invalid.
const MOST: usize = 10_000;

/// Errors of the export and import of caches.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A cache is in use; it must not change meanwhile.
    #[error("the cache `{id}` is in use")]
    InUse {
        /// The cache's id.
        id: String,
    },
    /// The cache no longer exists.
    #[error("the cache `{id}` is gone")]
    Gone {
        /// The cache's id.
        id: String,
    },
    /// The archive is not an archive of caches, or is incomplete or damaged.
    #[error("{what} is not an archive of caches: {why}")]
    NotCaches {
        /// The archive's name.
        what: String,
        /// The reason.
        why: String,
    },
    /// An I/O error, or a damaged tar.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The index of an archive, its first file.
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
    /// A digest of its content.
    content: String,
}

/// An imported cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its identity.
    pub name: CacheName,
    /// `true` when it replaced a cache of the store.
    pub replaced: bool,
}

impl Caches<'_> {
    /// Writes the caches with these keys as a tar, uncompressed or compressed with gzip or zstd. They stay locked
    /// meanwhile, so that builds wait for them.
    ///
    /// # Errors
    /// When one is in use or missing, or reading or writing fails.
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

    /// Locks a cache exclusively, without waiting.
    fn held(self, key: &str) -> Result<(TakenCache, CacheName), ArchiveError> {
        let directory = self.root().join(key);
        let Some(about) = read_about(&directory) else { return Err(ArchiveError::Gone { id: key.to_owned() }) };
        match self.try_take(key, FlockOperation::NonBlockingLockExclusive)? {
            Some(taken) => Ok((taken, about.name)),
            None => Err(ArchiveError::InUse { id: about.name.id }),
        }
    }

    /// Imports the caches of a tar in any supported compression; `what` is its name for messages. An existing cache is
    /// replaced. Nothing changes before the whole archive is read and verified.
    ///
    /// # Errors
    /// When the archive is damaged or not one of caches, a cache to replace is in use, or on an I/O error.
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

    /// Locks the existing cache that the entry replaces, if there is one.
    fn there(self, listed: &Listed) -> Result<Option<TakenCache>, ArchiveError> {
        match self.held(&directory(listed)) {
            Ok((taken, _)) => Ok(Some(taken)),
            Err(ArchiveError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves one cache into place with an atomic rename or exchange.
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
            // A build created the cache meanwhile, which is newer and is kept.
            Err(_) if to.is_dir() => Ok(()),
            renamed => renamed.map_err(StoreError::io("write", &to)),
        }
    }
}

/// A verified cache that is ready to be moved into place, and the one that it replaces.
struct Ready<'a> {
    data: PathBuf,
    listed: &'a Listed,
    there: Option<TakenCache>,
}

fn directory(listed: &Listed) -> String {
    format!("{}.{}", listed.name.key(), listed.number)
}

/// Returns `true` for files that an archive includes.
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

/// Compares an unpacked cache with its digest in the index.
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
