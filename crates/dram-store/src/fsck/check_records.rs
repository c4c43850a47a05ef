//! Verifies everything but blobs, references and layers: cache records and other records. All of it can be computed
//! again.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::{Digest, DigestHasher, TreePath};
use serde::de::DeserializeOwned;

use super::FsckRun;
use crate::{CacheRecord, Dir, IdMapping, LayerId, PackedLayer, StepKey, Store, StoreError, atomic_file};

/// State of a file of the store.
enum RecordState {
    /// The content is valid.
    Valid,
    /// The name is known, and the content is damaged.
    Damaged(String),
    /// The name is unknown.
    Unknown,
}

impl FsckRun<'_> {
    /// Verifies all other directories of the store.
    pub(super) fn check_records(&mut self) -> Result<(), StoreError> {
        for &id_mapping in self.store.id_mapping().manageable() {
            self.check_layers(id_mapping)?;
            self.check_steps(id_mapping)?;
        }
        self.check_files("packs", "a look into a layer, or packing it again", &check_pack_record)?;
        self.check_files("contexts", "reading a context again", &check_context_index)?;
        self.check_files("blob-locations", "nothing", &|_, path, name| match Digest::from_hex(name) {
            Ok(_) => check_text(path, |_| true),
            Err(_) => RecordState::Unknown,
        })?;
        self.check_files("downloads", "fetching it again", &check_download)?;
        self.check_files("steplocks", "nothing", &|_, _, name| {
            if name.parse::<StepKey>().is_ok() { RecordState::Valid } else { RecordState::Unknown }
        })?;
        self.check_entries("caches", &is_cache_dir)?;
        self.check_entries("history", &|name, path| {
            name.parse::<StepKey>().is_ok() && path.is_dir() || matches!(name, "forgot" | "pruned") && path.is_file()
        })?;
        self.check_files_in_subdirs("history", &|name| name == "journal" || name.parse::<StepKey>().is_ok())?;
        self.check_files_in_subdirs("unsynced", &|name| crate::unsynced::parse_marker(name.as_bytes()).is_some())?;
        self.check_entries("unsynced", &|name, path| {
            name.len() == 36 && path.is_dir() || name == "unknown" && path.is_dir()
        })?;
        self.check_entries("work", &|name, path| name == "gate" || name.starts_with('p') && path.is_dir())
    }

    fn check_steps(&mut self, id_mapping: IdMapping) -> Result<(), StoreError> {
        let at = self.store.subdir_of(id_mapping, "steps");
        if !at.is_dir() {
            return Ok(());
        }
        for (name, subdir) in list_children(&at)? {
            let has_key_prefix = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_dir = fs::symlink_metadata(&subdir).is_ok_and(|meta| meta.is_dir());
            if !has_key_prefix || !is_dir {
                self.report_unknown(&subdir);
                continue;
            }
            for (name, path) in list_children(&subdir)? {
                let is = match name.parse::<StepKey>() {
                    Ok(_) => check_json::<CacheRecord>(&path),
                    Err(_) => RecordState::Unknown,
                };
                self.report_state(&path, is, "executing a step again");
            }
        }
        Ok(())
    }

    fn check_files(
        &mut self,
        place: &str,
        cost: &str,
        check: &dyn Fn(&Store, &Path, &str) -> RecordState,
    ) -> Result<(), StoreError> {
        for (name, path) in list_children(&self.store.join(place))? {
            let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
            let is = if is_file { check(self.store, &path, &name) } else { RecordState::Unknown };
            self.report_state(&path, is, cost);
        }
        Ok(())
    }

    fn report_state(&mut self, path: &Path, is: RecordState, cost: &str) {
        match is {
            RecordState::Valid => {}
            RecordState::Unknown => self.report_unknown(path),
            RecordState::Damaged(why) => {
                self.report_finding(path, why, cost, "it is removed, and made again when it is wanted", |_| {
                    fs::remove_file(path).map_err(StoreError::io("remove", path))
                });
            }
        }
    }

    /// Verifies the entries of a directory's subdirectories.
    fn check_files_in_subdirs(&mut self, place: &str, is_known: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
        let at = self.store.join(place);
        let all = if at.is_dir() { list_children(&at)? } else { Vec::new() };
        for (_, subdir) in all {
            // Subdirectories of the wrong type, or with an invalid name, are moved as a whole by `check_entries`.
            let is_dir = fs::symlink_metadata(&subdir).is_ok_and(|meta| meta.is_dir());
            let is_known_subdir = subdir.file_name().is_some_and(|name| {
                name.to_str().is_some_and(|name| name.parse::<StepKey>().is_ok() || name.len() == 36)
            });
            if is_dir && is_known_subdir {
                for (name, path) in list_children(&subdir)? {
                    let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
                    if !is_file || !is_known(&name) {
                        self.report_unknown(&path);
                    }
                }
            }
        }
        Ok(())
    }

    fn check_entries(&mut self, place: &str, is_known: &dyn Fn(&str, &Path) -> bool) -> Result<(), StoreError> {
        let at = self.store.join(place);
        let all = if at.is_dir() { list_children(&at)? } else { Vec::new() };
        for (name, path) in all {
            let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
            if is_link || !is_known(&name, &path) {
                self.report_unknown(&path);
            }
        }
        Ok(())
    }
}

/// Returns names and paths of a directory's entries.
pub(super) fn list_children(at: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let path = |name: &Vec<u8>| at.join(std::ffi::OsStr::from_bytes(name));
    let names = Dir::open(at)?.names()?;
    Ok(names.iter().map(|name| (String::from_utf8_lossy(name).into_owned(), path(name))).collect())
}

fn check_json<T: DeserializeOwned>(path: &Path) -> RecordState {
    let bytes = atomic_file::read_limited(path, 64 << 20).ok().flatten();
    match bytes.is_some_and(|bytes| serde_json::from_slice::<T>(&bytes).is_ok()) {
        true => RecordState::Valid,
        false => RecordState::Damaged("the record cannot be read".to_owned()),
    }
}

fn check_text(path: &Path, is_good: impl Fn(&str) -> bool) -> RecordState {
    let bytes = atomic_file::read_limited(path, 1 << 20).ok().flatten().unwrap_or_default();
    match std::str::from_utf8(&bytes).is_ok_and(is_good) {
        true => RecordState::Valid,
        false => RecordState::Damaged("the record cannot be read".to_owned()),
    }
}

fn check_pack_record(_: &Store, path: &Path, name: &str) -> RecordState {
    let Some((subject, kind)) = name.split_once('.') else { return RecordState::Unknown };
    let is_blob = Digest::from_hex(subject).is_ok();
    match (subject.parse::<LayerId>().is_ok(), kind) {
        // Earlier versions wrote it; nothing reads it, and the next cleanup removes it.
        (true, "elf") => RecordState::Valid,
        (true, "size") => check_text(path, |text| text.parse::<u64>().is_ok()),
        (true, "made") => check_text(path, |text| text.parse::<i64>().is_ok()),
        (true, "origin") => check_text(path, |text| text.parse::<LayerId>().is_ok()),
        (true, kind) if kind.ends_with(".over") => check_text(path, |text| text.parse::<LayerId>().is_ok()),
        (true, "used") => RecordState::Valid,
        (true, "leans") => match crate::parent_deps::read_parent_deps(path) {
            Ok(_) => RecordState::Valid,
            Err(_) => RecordState::Damaged("the record cannot be read".to_owned()),
        },
        (true, kind) if kind.split('.').next().is_some_and(|times| times.parse::<crate::PackedTimes>().is_ok()) => {
            check_json::<PackedLayer>(path)
        }
        (false, "diff") if is_blob => check_text(path, |text| Digest::from_hex(text).is_ok()),
        (_, _) => RecordState::Unknown,
    }
}

fn check_context_index(_: &Store, path: &Path, name: &str) -> RecordState {
    if Digest::from_hex(name).is_err() {
        return RecordState::Unknown;
    }
    match crate::context_dir::is_intact_index(path) {
        true => RecordState::Valid,
        false => RecordState::Damaged("the record cannot be read".to_owned()),
    }
}

fn check_download(_: &Store, path: &Path, name: &str) -> RecordState {
    if let Some(key) = name.strip_suffix(".note") {
        return if key.parse::<StepKey>().is_ok() {
            check_json::<crate::DownloadRecord>(path)
        } else {
            RecordState::Unknown
        };
    }
    let Ok(digest) = Digest::from_hex(name) else { return RecordState::Unknown };
    let hash = || {
        let mut hasher = DigestHasher::new();
        let mut file = atomic_file::open_no_follow(path)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok::<_, std::io::Error>(hasher.finish()),
                got => hasher.update(&buffer[..got]),
            }
        }
    };
    match hash().is_ok_and(|found| found == digest) {
        true => RecordState::Valid,
        false => RecordState::Damaged("the content of the file does not match its digest".to_owned()),
    }
}

fn is_cache_dir(name: &str, path: &Path) -> bool {
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
