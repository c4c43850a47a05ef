//! Misplaced paths that keep a store from being opened: a file in place of one of its directories, or the reverse.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::store::{DIRECTORIES, OPTIONAL_DIRECTORIES, read_version};
use crate::{Store, StoreError, StoreLocation, lock};

/// Lock files that are needed to open a store.
const LOCK_FILES: [&str; 3] = ["lock", "refs.lock", "work/gate"];

/// A path of the store that had the wrong kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MisplacedPath {
    /// The path, relative to the store.
    pub(crate) store_path: &'static str,
    /// `true` when the path must be a directory, `false` for a file.
    pub(crate) must_be_dir: bool,
}

impl Store {
    /// Opens the store for repair, as [`Store::open_exclusive`] does, but first moves paths that have the wrong kind for a
    /// directory or lock to `lost/`.
    ///
    /// # Errors
    /// Those of [`Store::open_exclusive`].
    pub fn open_for_repair(place: impl Into<StoreLocation>, waiting: &dyn Fn()) -> Result<Store, StoreError> {
        let place = place.into();
        let root = &place.root;
        read_version(root)?;
        // A directory that is not yet a store needs no repair, and its files belong to the user.
        let blocked = if root.join("version").is_file() { find_misplaced(root) } else { Vec::new() };
        if blocked.is_empty() {
            return Store::open_exclusive(place, waiting);
        }
        // A lock that is not a file cannot be held by a process.
        let way = root.join("lock");
        if blocked.iter().any(|moved| moved.store_path == "lock") {
            move_to_lost(root, "lock")?;
        }
        let alone = match lock::try_lock_file(&way, FlockOperation::NonBlockingLockExclusive)? {
            Some(lock) => lock,
            None => {
                waiting();
                lock::lock_file(&way, FlockOperation::LockExclusive)?
            }
        };
        for moved in blocked.iter().filter(|moved| moved.store_path != "lock") {
            move_to_lost(root, moved.store_path)?;
        }
        drop(alone);
        let mut store = Store::open_exclusive(place, waiting)?;
        store.misplaced = blocked;
        Ok(store)
    }
}

/// All paths that have the wrong kind. `lost` comes first, as the others are moved into it.
fn find_misplaced(root: &Path) -> Vec<MisplacedPath> {
    let dirs =
        ["lost"].into_iter().chain(DIRECTORIES).chain(OPTIONAL_DIRECTORIES.into_iter().filter(|name| *name != "lost"));
    let shelves = ["subordinate/layers", "subordinate/steps", "single/layers", "single/steps"];
    let dirs = dirs.chain(shelves).chain(["unprivileged/layers", "unprivileged/steps"]);
    let all = dirs.map(|place| MisplacedPath { store_path: place, must_be_dir: true });
    let all = all.chain(LOCK_FILES.map(|place| MisplacedPath { store_path: place, must_be_dir: false }));
    all.filter(|moved| has_wrong_kind(&root.join(moved.store_path), moved.must_be_dir)).collect()
}

fn has_wrong_kind(path: &Path, is_dir: bool) -> bool {
    // A symbolic link to a directory works, and is reported later.
    let is_there = fs::symlink_metadata(path).is_ok();
    is_there && if is_dir { !path.is_dir() } else { !path.is_file() }
}

/// Moves a path to `lost/NUMBER/`, or `lost` itself to `lost-NUMBER`.
fn move_to_lost(root: &Path, place: &str) -> Result<(), StoreError> {
    let from = root.join(place);
    let to = match place {
        "lost" => unused_numbered_path(root, "lost-"),
        place => {
            let lost = root.join("lost");
            let to = unused_numbered_path(&lost, "").join(place);
            let parent = to.parent().unwrap_or(&lost);
            fs::create_dir_all(parent).map_err(StoreError::io("make the directory", parent))?;
            to
        }
    };
    fs::rename(&from, to).map_err(StoreError::io("move", &from))
}

/// The first path `begin` plus a number in `dir` that does not exist.
pub(crate) fn unused_numbered_path(dir: &Path, begin: &str) -> PathBuf {
    let mut all = (1_u32..).map(|number| dir.join(format!("{begin}{number}")));
    all.find(|path| fs::symlink_metadata(path).is_err()).expect("there are more numbers than names")
}

/// The first ancestor of `path` below the store, or `path` itself, that exists and is not a directory.
pub(crate) fn blocking_ancestor(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut ways: Vec<&Path> = path.ancestors().take_while(|way| *way != root).collect();
    ways.reverse();
    ways.into_iter().find(|way| has_wrong_kind(way, true)).map(Path::to_owned)
}
