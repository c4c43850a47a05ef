//! Remembered steps: small documents under the key that names all inputs of a step.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use dram_image::TreePath;

use serde::{Deserialize, Serialize};

use crate::file::{self, Durable};
use crate::{Dir, LayerId, Rights, Store, StoreError};

/// A record is a few hundred bytes; more is damage.
const LARGEST_RECORD: u64 = 1 << 20;

/// The digest of everything that can change a step's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepKey([u8; 32]);

impl StepKey {
    /// The key of `inputs`, each told apart from its neighbours by its length.
    pub fn of<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> StepKey {
        let mut maker = KeyMaker::default();
        for input in inputs {
            maker.add(input);
        }
        maker.finish()
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The bytes themselves.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The bytes, to be an input of another key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for StepKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| "not a key: 64 hexadecimal digits")?;
        Ok(StepKey(hash.into()))
    }
}

impl TryFrom<String> for StepKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StepKey> for String {
    fn from(key: StepKey) -> String {
        key.hex()
    }
}

/// A key whose inputs come one after the other.
#[derive(Debug, Default)]
pub struct KeyMaker(blake3::Hasher);

impl KeyMaker {
    /// Adds an input.
    pub fn add(&mut self, input: &[u8]) {
        self.0.update(&(input.len() as u64).to_le_bytes());
        self.0.update(input);
    }

    /// The key of all inputs, as [`StepKey::of`] makes it.
    pub fn finish(&self) -> StepKey {
        StepKey(self.0.finalize().into())
    }
}

/// What a step left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its layer; `None` when it changed nothing that a layer could hold.
    pub layer: Option<LayerId>,
    /// The key that is made of what the step's files hold, where the record lies under one that is made of where they
    /// come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_content: Option<StepKey>,
}

/// The room of remembered steps.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    store: &'a Store,
}

impl<'a> Memory<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Memory { store }
    }

    fn path(self, key: &StepKey) -> PathBuf {
        let hex = key.hex();
        self.store.shelf("steps").join(&hex[..2]).join(hex)
    }

    /// What was remembered under `key`. A record that cannot be read counts as none: it costs a step, nothing else.
    /// So does one whose layer is gone.
    pub fn recall(self, key: &StepKey) -> Option<Record> {
        let bytes = file::read_small(&self.path(key), LARGEST_RECORD).ok()??;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let whole = record.layer.as_ref().is_none_or(|layer| self.store.layers().has(layer));
        // It counts as used; that it cannot be noted costs an earlier end at most.
        let _ = file::used(&self.path(key), self.store.now());
        whole.then_some(record)
    }

    /// Remembers `record` under `key`.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn remember(self, key: &StepKey, record: &Record) -> Result<(), StoreError> {
        let path = self.path(key);
        let parent = path.parent().expect("the path has three parts");
        if !parent.is_dir() {
            fs::create_dir_all(parent).map_err(StoreError::io("make the directory", parent))?;
        }
        let bytes = serde_json::to_vec(record).expect("plain data becomes JSON");
        file::replace(&path, &bytes, &self.store.work().path(), Durable::No)
    }

    /// All records of processes with `rights`. What does not look like one is left alone.
    pub(crate) fn all(self, rights: Rights) -> Result<Vec<Remembered>, StoreError> {
        let steps = self.store.shelf_of(rights, "steps");
        let mut all = Vec::new();
        if !steps.is_dir() {
            return Ok(all);
        }
        let root = Dir::open(&steps)?;
        for shelf in root.names()? {
            let shelf = TreePath::parse(&shelf)?;
            let Ok(dir) = root.sub(&shelf) else { continue };
            for name in dir.names()? {
                let is_key = std::str::from_utf8(&name).is_ok_and(|name| name.parse::<StepKey>().is_ok());
                let path = shelf.join(&name);
                let Some(status) = root.status(&path)?.filter(|_| is_key) else { continue };
                let bytes = file::read_small(&steps.join(path.as_path()), LARGEST_RECORD).ok().flatten();
                let record = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                all.push(Remembered { path, used: status.mtime.0, record });
            }
        }
        Ok(all)
    }

    /// Forgets the record of processes with `rights` at `path`.
    pub(crate) fn forget(self, rights: Rights, path: &TreePath) -> Result<(), StoreError> {
        Dir::open(&self.store.shelf_of(rights, "steps"))?.remove(path)
    }
}

/// A record as it lies on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    /// Where, below the directory of records.
    pub(crate) path: TreePath,
    /// When it was last used, in seconds since 1970; an hour may be missing.
    pub(crate) used: i64,
    /// What it says; nothing when it cannot be read.
    pub(crate) record: Option<Record>,
}
