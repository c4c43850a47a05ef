//! What keeps a store from being opened: a file where one of its directories should be, or the other way round.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::store::{DIRECTORIES, MORE, check_version};
use crate::{Location, Store, StoreError, lock};

/// Files without which a store is not opened.
const LOCKS: [&str; 3] = ["lock", "refs.lock", "work/gate"];

/// Something that stood in the place of something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Where, below the store.
    pub(crate) place: &'static str,
    /// Whether a directory belongs there, and no file.
    pub(crate) is_dir: bool,
}

impl Store {
    /// The same as [`Store::open_alone`], to mend it: what is in the place of its directories and locks, and is none, is
    /// moved to `lost/` first.
    ///
    /// # Errors
    /// See [`Store::open_alone`].
    pub fn open_to_mend(place: impl Into<Location>, waiting: &dyn Fn()) -> Result<Store, StoreError> {
        let place = place.into();
        let root = &place.root;
        check_version(root)?;
        // What is no store yet has nothing to mend, and is somebody's.
        let blocked = if root.join("version").is_file() { blocked(root) } else { Vec::new() };
        if blocked.is_empty() {
            return Store::open_alone(place, waiting);
        }
        // Where the lock itself is none, nobody holds it.
        let way = root.join("lock");
        if blocked.iter().any(|moved| moved.place == "lock") {
            move_away(root, "lock")?;
        }
        let alone = match lock::try_hold(&way, FlockOperation::NonBlockingLockExclusive)? {
            Some(lock) => lock,
            None => {
                waiting();
                lock::hold(&way, FlockOperation::LockExclusive)?
            }
        };
        for moved in blocked.iter().filter(|moved| moved.place != "lock") {
            move_away(root, moved.place)?;
        }
        drop(alone);
        let mut store = Store::open_alone(place, waiting)?;
        store.moved = blocked;
        Ok(store)
    }
}

/// Everything that has to be of another kind, `lost` first: the others go there.
fn blocked(root: &Path) -> Vec<Moved> {
    let dirs = ["lost"].into_iter().chain(DIRECTORIES).chain(MORE.into_iter().filter(|name| *name != "lost"));
    let shelves = ["lent-ids/layers", "lent-ids/steps", "one-id/layers", "one-id/steps"];
    let dirs = dirs.chain(shelves).chain(["unprivileged/layers", "unprivileged/steps"]);
    let all = dirs.map(|place| Moved { place, is_dir: true });
    let all = all.chain(LOCKS.map(|place| Moved { place, is_dir: false }));
    all.filter(|moved| is_of_another_kind(&root.join(moved.place), moved.is_dir)).collect()
}

fn is_of_another_kind(path: &Path, is_dir: bool) -> bool {
    // A link to a directory can be used, and is found later.
    let is_there = fs::symlink_metadata(path).is_ok();
    is_there && if is_dir { !path.is_dir() } else { !path.is_file() }
}

/// Moves it to `lost/NUMBER/`; what is in the place of `lost` itself, beside it.
fn move_away(root: &Path, place: &str) -> Result<(), StoreError> {
    let from = root.join(place);
    let to = match place {
        "lost" => free(root, "lost-"),
        place => {
            let lost = root.join("lost");
            let to = free(&lost, "").join(place);
            let parent = to.parent().unwrap_or(&lost);
            fs::create_dir_all(parent).map_err(StoreError::io("make the directory", parent))?;
            to
        }
    };
    fs::rename(&from, to).map_err(StoreError::io("move", &from))
}

/// The first path in `dir` that begins so, ends with a number, and that nothing has.
pub(crate) fn free(dir: &Path, begin: &str) -> PathBuf {
    let mut all = (1_u32..).map(|number| dir.join(format!("{begin}{number}")));
    all.find(|path| fs::symlink_metadata(path).is_err()).expect("there are more numbers than names")
}

/// What of the way to `path`, below the store, is no directory.
pub(crate) fn in_the_way(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut ways: Vec<&Path> = path.ancestors().take_while(|way| *way != root).collect();
    ways.reverse();
    ways.into_iter().find(|way| is_of_another_kind(way, true)).map(Path::to_owned)
}
