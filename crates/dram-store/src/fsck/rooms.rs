//! Verifies everything but blobs, references and layers: cache records and other records. All of it can be computed
//! again.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::{Digest, Hasher, TreePath};
use serde::de::DeserializeOwned;

use super::Check;
use crate::{Dir, LayerId, Packed, Record, Rights, StepKey, Store, StoreError, file};

/// State of a file of the store.
enum Is {
    /// The content is valid.
    Good,
    /// The name is known, and the content is damaged.
    Damaged(String),
    /// The name is unknown.
    Unknown,
}

impl Check<'_> {
    /// Verifies all other directories of the store.
    pub(super) fn rooms(&mut self) -> Result<(), StoreError> {
        for &rights in self.store.rights().reach() {
            self.layers(rights)?;
            self.steps(rights)?;
        }
        self.files("packs", "a look into a layer, or packing it again", &pack)?;
        self.files("contexts", "reading a context again", &context)?;
        self.files("seen", "nothing", &|_, path, name| match Digest::from_hex(name) {
            Ok(_) => text(path, |_| true),
            Err(_) => Is::Unknown,
        })?;
        self.files("downloads", "fetching it again", &download)?;
        self.files("steplocks", "nothing", &|_, _, name| {
            if name.parse::<StepKey>().is_ok() { Is::Good } else { Is::Unknown }
        })?;
        self.directories("caches", &is_cache)?;
        self.directories("places", &|name, path| {
            name.parse::<StepKey>().is_ok() && path.is_dir() || name == "forgot" && path.is_file()
        })?;
        self.inside("places", &|name| name == "journal" || name.parse::<StepKey>().is_ok())?;
        self.inside("fresh", &|name| crate::fresh::marked(name.as_bytes()).is_some())?;
        self.directories("fresh", &|name, path| {
            name.len() == 36 && path.is_dir() || name == "unknown" && path.is_dir()
        })?;
        self.directories("work", &|name, path| name == "gate" || name.starts_with('p') && path.is_dir())
    }

    fn steps(&mut self, rights: Rights) -> Result<(), StoreError> {
        let at = self.store.shelf_of(rights, "steps");
        if !at.is_dir() {
            return Ok(());
        }
        for (name, shelf) in children(&at)? {
            let is_shelf = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_dir = fs::symlink_metadata(&shelf).is_ok_and(|meta| meta.is_dir());
            if !is_shelf || !is_dir {
                self.unknown(&shelf);
                continue;
            }
            for (name, path) in children(&shelf)? {
                let is = match name.parse::<StepKey>() {
                    Ok(_) => parsed::<Record>(&path),
                    Err(_) => Is::Unknown,
                };
                self.judge(&path, is, "carrying out a step again");
            }
        }
        Ok(())
    }

    fn files(&mut self, place: &str, cost: &str, look: &dyn Fn(&Store, &Path, &str) -> Is) -> Result<(), StoreError> {
        for (name, path) in children(&self.store.join(place))? {
            let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
            let is = if is_file { look(self.store, &path, &name) } else { Is::Unknown };
            self.judge(&path, is, cost);
        }
        Ok(())
    }

    fn judge(&mut self, path: &Path, is: Is, cost: &str) {
        match is {
            Is::Good => {}
            Is::Unknown => self.unknown(path),
            Is::Damaged(why) => self.find(path, why, cost, "it is removed, and made again when it is wanted", |_| {
                fs::remove_file(path).map_err(StoreError::io("remove", path))
            }),
        }
    }

    /// Verifies the entries of a directory's subdirectories.
    fn inside(&mut self, place: &str, is_known: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
        let at = self.store.join(place);
        let all = if at.is_dir() { children(&at)? } else { Vec::new() };
        for (_, room) in all {
            // Subdirectories of the wrong type, or with an invalid name, are moved as a whole by `check_entries`.
            let is_dir = fs::symlink_metadata(&room).is_ok_and(|meta| meta.is_dir());
            let is_known_room = room.file_name().is_some_and(|name| {
                name.to_str().is_some_and(|name| name.parse::<StepKey>().is_ok() || name.len() == 36)
            });
            if is_dir && is_known_room {
                for (name, path) in children(&room)? {
                    let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
                    if !is_file || !is_known(&name) {
                        self.unknown(&path);
                    }
                }
            }
        }
        Ok(())
    }

    fn directories(&mut self, place: &str, is_known: &dyn Fn(&str, &Path) -> bool) -> Result<(), StoreError> {
        let at = self.store.join(place);
        let all = if at.is_dir() { children(&at)? } else { Vec::new() };
        for (name, path) in all {
            let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
            if is_link || !is_known(&name, &path) {
                self.unknown(&path);
            }
        }
        Ok(())
    }
}

/// Returns names and paths of a directory's entries.
pub(super) fn children(at: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let path = |name: &Vec<u8>| at.join(std::ffi::OsStr::from_bytes(name));
    let names = Dir::open(at)?.names()?;
    Ok(names.iter().map(|name| (String::from_utf8_lossy(name).into_owned(), path(name))).collect())
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Is {
    let bytes = file::read_small(path, 64 << 20).ok().flatten();
    match bytes.is_some_and(|bytes| serde_json::from_slice::<T>(&bytes).is_ok()) {
        true => Is::Good,
        false => Is::Damaged("the record cannot be read".to_owned()),
    }
}

fn text(path: &Path, is_good: impl Fn(&str) -> bool) -> Is {
    let bytes = file::read_small(path, 1 << 20).ok().flatten().unwrap_or_default();
    match std::str::from_utf8(&bytes).is_ok_and(is_good) {
        true => Is::Good,
        false => Is::Damaged("the record cannot be read".to_owned()),
    }
}

fn pack(_: &Store, path: &Path, name: &str) -> Is {
    let Some((subject, kind)) = name.split_once('.') else { return Is::Unknown };
    let is_blob = Digest::from_hex(subject).is_ok();
    match (subject.parse::<LayerId>().is_ok(), kind) {
        (true, "elf") => parsed::<crate::Programs>(path),
        (true, "size") => text(path, |text| text.parse::<u64>().is_ok()),
        (true, "origin") => text(path, |text| text.parse::<LayerId>().is_ok()),
        (true, kind) if kind.ends_with(".over") => text(path, |text| text.parse::<LayerId>().is_ok()),
        (true, "used") => Is::Good,
        (true, "leans") => match crate::over::recall(path) {
            Ok(_) => Is::Good,
            Err(_) => Is::Damaged("the record cannot be read".to_owned()),
        },
        (true, kind) if kind.split('.').next().is_some_and(|stamp| stamp.parse::<i64>().is_ok()) => {
            parsed::<Packed>(path)
        }
        (false, "diff") if is_blob => text(path, |text| Digest::from_hex(text).is_ok()),
        (_, _) => Is::Unknown,
    }
}

fn context(_: &Store, path: &Path, name: &str) -> Is {
    if Digest::from_hex(name).is_err() {
        return Is::Unknown;
    }
    match crate::context::is_whole(path) {
        true => Is::Good,
        false => Is::Damaged("the record cannot be read".to_owned()),
    }
}

fn download(_: &Store, path: &Path, name: &str) -> Is {
    if let Some(key) = name.strip_suffix(".note") {
        return if key.parse::<StepKey>().is_ok() { parsed::<crate::Download>(path) } else { Is::Unknown };
    }
    let Ok(digest) = Digest::from_hex(name) else { return Is::Unknown };
    let hash = || {
        let mut hasher = Hasher::new();
        let mut file = file::open_quietly(path)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok::<_, std::io::Error>(hasher.finish()),
                got => hasher.update(&buffer[..got]),
            }
        }
    };
    match hash().is_ok_and(|found| found == digest) {
        true => Is::Good,
        false => Is::Damaged("the file does not hold what its name says".to_owned()),
    }
}

fn is_cache(name: &str, path: &Path) -> bool {
    let known = name.split_once('.').is_some_and(|(key, number)| {
        key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) && number.parse::<u32>().is_ok()
    });
    let is = |name: &str, is_dir: bool| {
        fs::symlink_metadata(path.join(name)).is_ok_and(|meta| if is_dir { meta.is_dir() } else { meta.is_file() })
    };
    // A cache mount that is being created may lack them.
    let gone = |name: &str| fs::symlink_metadata(path.join(name)).is_err();
    let holds = [("lock", false), ("about", false), ("data", true)];
    let holds = holds.into_iter().all(|(name, is_dir)| gone(name) || is(name, is_dir));
    known && path.is_dir() && holds && TreePath::parse(name.as_bytes()).is_ok()
}
