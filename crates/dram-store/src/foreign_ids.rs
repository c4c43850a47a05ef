//! Foreign ids: owners in an image that this user namespace does not have.
//!
//! On the disk each of them is represented by a stand-in, an id of the namespace that is kept for this. The file
//! `subordinate/foreign-ids` says which: a line `u ID STAND-IN` for a user, `g ID STAND-IN` for a group. A command runs
//! in a user namespace of its own in which the stand-in has the foreign id. So it sees the owners of the image, and a
//! file that it changes, moves or copies with its owner keeps that owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dram_image::TreePath;
use rustix::fs::FlockOperation;

use crate::atomic_file::{self, Durability};
use crate::owner_notes::write_notes;
use crate::{Dir, FileKind, IdMapping, Layers, StoreError, lock, ownership};

/// The most stand-ins of users, and of groups. The kernel takes 340 lines in a map of ids.
const MAX_STAND_INS: u32 = 300;
/// The end of the stand-ins in a namespace of the usual 65,537 ids: 65534 is `nobody`, and images use no ids below it.
const USUAL_END: u32 = 65_520;
/// The size of a full record.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// The ids of this user namespace: users or groups.
#[derive(Debug)]
pub(crate) struct NamespaceIds {
    /// First id and number of ids.
    mapped: Vec<(u32, u32)>,
    stand_ins: Range<u32>,
}

impl NamespaceIds {
    /// Reads a map as in `/proc/self/uid_map`: first id inside, first id outside, number of ids.
    fn parse(map: &str) -> NamespaceIds {
        let mapped: Vec<(u32, u32)> = map
            .lines()
            .filter_map(|line| {
                let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
                Some((numbers.next()?.ok()?, numbers.nth(1)?.ok()?))
            })
            .collect();
        let largest = mapped.iter().copied().max_by_key(|(_, count)| *count).unwrap_or_default();
        let (start, end) = (largest.0, largest.0.saturating_add(largest.1));
        let end = if (USUAL_END..USUAL_END + MAX_STAND_INS).contains(&end) { USUAL_END } else { end };
        let count = MAX_STAND_INS.min((end - start.min(end)) / 4);
        NamespaceIds { mapped, stand_ins: end - count..end }
    }

    /// Returns the number of ids.
    pub(crate) fn count(&self) -> u64 {
        self.mapped.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Returns true for an id that cannot be set on the disk: the namespace does not have it, or it is a stand-in.
    pub(crate) fn is_foreign(&self, id: u32) -> bool {
        let is_mapped = self.mapped.iter().any(|&(first, count)| id >= first && id - first < count);
        !is_mapped || self.stand_ins.contains(&id)
    }
}

/// Returns the users and groups of this user namespace.
pub(crate) fn namespace_ids() -> &'static [NamespaceIds; 2] {
    static FOUND: OnceLock<[NamespaceIds; 2]> = OnceLock::new();
    FOUND.get_or_init(|| {
        ["uid_map", "gid_map"]
            .map(|name| NamespaceIds::parse(&std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default()))
    })
}

/// Returns true when an owner cannot be set on the disk in the user namespace `ids`.
pub(crate) fn is_foreign_owner(ids: &[NamespaceIds; 2], (uid, gid): (u32, u32)) -> bool {
    ids[0].is_foreign(uid) || ids[1].is_foreign(gid)
}

/// The stand-ins of foreign ids, by the foreign id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignIds {
    /// Stand-ins of users.
    pub users: BTreeMap<u32, u32>,
    /// Stand-ins of groups.
    pub groups: BTreeMap<u32, u32>,
}

impl ForeignIds {
    /// Returns true when there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Returns the owner on the disk of a file that belongs to `owner`.
    fn on_disk(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (self.users.get(&uid).copied().unwrap_or(uid), self.groups.get(&gid).copied().unwrap_or(gid))
    }

    /// Returns the owner of a file that has `owner` on the disk.
    pub(crate) fn in_image(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let find = |all: &BTreeMap<u32, u32>, id: u32| {
            all.iter().find(|(_, stand_in)| **stand_in == id).map_or(id, |(foreign, _)| *foreign)
        };
        (find(&self.users, uid), find(&self.groups, gid))
    }

    fn parse(text: &str) -> ForeignIds {
        let mut all = ForeignIds::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [kind, foreign, stand_in] = words[..] else { continue };
            let (Ok(foreign), Ok(stand_in)) = (foreign.parse(), stand_in.parse()) else { continue };
            match kind {
                "u" => drop(all.users.insert(foreign, stand_in)),
                "g" => drop(all.groups.insert(foreign, stand_in)),
                _ => {}
            }
        }
        all
    }

    fn format(&self) -> String {
        let mut text = String::new();
        for (kind, all) in [("u", &self.users), ("g", &self.groups)] {
            for (foreign, stand_in) in all {
                let _ = writeln!(text, "{kind} {foreign} {stand_in}");
            }
        }
        text
    }

    /// Gives a stand-in to each of `owners` that needs one and has none. Returns true when there were some.
    fn add(&mut self, ids: &[NamespaceIds; 2], owners: &Owners) -> Result<bool, StoreError> {
        let users = add_stand_ins(&mut self.users, &ids[0], &owners.users)?;
        Ok(add_stand_ins(&mut self.groups, &ids[1], &owners.groups)? || users)
    }
}

fn add_stand_ins(
    known: &mut BTreeMap<u32, u32>,
    ids: &NamespaceIds,
    wanted: &BTreeSet<u32>,
) -> Result<bool, StoreError> {
    let missing: Vec<u32> =
        wanted.iter().copied().filter(|id| ids.is_foreign(*id) && !known.contains_key(id)).collect();
    let used: BTreeSet<u32> = known.values().copied().collect();
    let mut free = ids.stand_ins.clone().rev().filter(|id| !used.contains(id));
    for id in &missing {
        let stand_in = free.next().ok_or(StoreError::TooManyForeignIds { id: *id, limit: ids.stand_ins.len() })?;
        known.insert(*id, stand_in);
    }
    Ok(!missing.is_empty())
}

/// Users and groups.
#[derive(Debug, Default)]
struct Owners {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

impl Layers<'_> {
    /// Prepares the layer directories `layers` for a command: puts the owners and devices of their ownership tables on the
    /// disk, as stand-ins and notes that stay with a file when the command changes, moves or copies it. Returns the
    /// stand-ins, of the user `uid` and the groups `gids` of the command too; none when nothing is foreign.
    ///
    /// # Errors
    /// On an I/O error, and when there are more foreign ids than stand-ins.
    pub fn prepare_for_command(self, layers: &[PathBuf], uid: u32, gids: &[u32]) -> Result<ForeignIds, StoreError> {
        let id_mapping = self.store().id_mapping();
        if matches!(id_mapping, IdMapping::Subordinate | IdMapping::Single) {
            layers.iter().try_for_each(|layer| write_notes(layer, id_mapping))?;
        }
        if id_mapping != IdMapping::Subordinate {
            return Ok(ForeignIds::default());
        }
        let ids = namespace_ids();
        let mut wanted = Owners { users: [uid].into(), groups: gids.iter().copied().collect() };
        wanted.users.retain(|id| ids[0].is_foreign(*id));
        wanted.groups.retain(|id| ids[1].is_foreign(*id));
        let mut tables = Vec::new();
        for layer in layers {
            let rows = foreign_rows(layer, ids)?;
            wanted.users.extend(rows.iter().map(|(_, owner)| owner.0));
            wanted.groups.extend(rows.iter().map(|(_, owner)| owner.1));
            tables.push((layer, rows));
        }
        if wanted.users.is_empty() && wanted.groups.is_empty() {
            return Ok(ForeignIds::default());
        }
        let known = self.assign_stand_ins(&wanted)?;
        for (layer, rows) in tables.iter().filter(|(_, rows)| !rows.is_empty()) {
            set_stand_ins(layer, rows, &known)?;
        }
        Ok(known)
    }

    /// As [`Layers::prepare_for_command`], for a layer that is not in place yet.
    pub(crate) fn prepare_new_layer(self, made: &Path) -> Result<(), StoreError> {
        match self.prepare_for_command(&[made.to_owned()], 0, &[]) {
            // The layer can be used for everything but commands, which are refused.
            Err(StoreError::TooManyForeignIds { .. }) => Ok(()),
            done => done.map(drop),
        }
    }

    /// Returns the stand-ins of this store, with new ones for `wanted`.
    fn assign_stand_ins(self, wanted: &Owners) -> Result<ForeignIds, StoreError> {
        let store = self.store();
        let record = store.subdir("foreign-ids");
        let read = || {
            let bytes = atomic_file::read_limited(&record, MAX_RECORD_BYTES)?.unwrap_or_default();
            Ok::<_, StoreError>(ForeignIds::parse(&String::from_utf8_lossy(&bytes)))
        };
        let mut known = read()?;
        if !known.add(namespace_ids(), wanted)? {
            return Ok(known);
        }
        let _turn = lock::lock_file(&store.subdir("foreign-ids.lock"), FlockOperation::LockExclusive)?;
        let mut known = read()?;
        if known.add(namespace_ids(), wanted)? {
            let (text, work) = (known.format(), store.work_dir().path());
            atomic_file::write_atomic(&record, text.as_bytes(), MAX_RECORD_BYTES, &work, Durability::Synced)?;
        }
        Ok(known)
    }
}

/// An entry of a layer with its owner: user and group.
type OwnedPath = (TreePath, (u32, u32));

/// The entries of the layer directory `layer` with a foreign owner, and that owner.
fn foreign_rows(layer: &Path, ids: &[NamespaceIds; 2]) -> Result<Vec<OwnedPath>, StoreError> {
    let mut rows = Vec::new();
    for (path, record) in ownership::read_records(layer)? {
        let Some(owner) = record.owner else { continue };
        if is_foreign_owner(ids, owner) {
            rows.push((TreePath::clean(&path)?, owner));
        }
    }
    Ok(rows)
}

/// Sets the stand-ins in a layer on the disk. They are set in the order of the rows, so nothing is to be done when the last
/// one is set.
fn set_stand_ins(layer: &Path, rows: &[(TreePath, (u32, u32))], known: &ForeignIds) -> Result<(), StoreError> {
    let dir = Dir::open_layer(layer)?;
    let Some((last, owner)) = rows.last() else { return Ok(()) };
    if dir.owner_on_disk(last)? == Some(known.on_disk(*owner)) {
        return Ok(());
    }
    for (path, owner) in rows {
        let Some(status) = dir.status(path)? else { continue };
        let wanted = known.on_disk(*owner);
        if dir.owner_on_disk(path)? == Some(wanted) {
            continue;
        }
        // The kernel removes these when the owner changes.
        let capability = dir.xattrs(path)?.into_iter().find(|(name, _)| name == b"security.capability");
        dir.set_owner_on_disk(path, wanted)?;
        if status.kind != FileKind::Symlink {
            dir.set_mode(path, status.mode)?;
        }
        if let Some((name, value)) = capability {
            dir.set_xattr(path, (&name, &value))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_ids_that_images_do_not_use() {
        for (map, want, own, foreign) in [
            (
                "0 1000 1\n1 100000 65536\n",
                65_220..65_520,
                &[0, 1, 65_219, 65_520, 65_534, 65_536][..],
                &[65_300, 65_537][..],
            ),
            ("0 1000 1\n1 100000 1000\n", 751..1001, &[0, 750], &[751, 1000, 1001, 65_534]),
            ("0 1000 1\n1 100000 9999999\n", 9_999_700..10_000_000, &[65_300], &[9_999_999, 10_000_000]),
            ("0 0 4294967294\n", 4_294_966_994..4_294_967_294, &[65_300], &[u32::MAX - 1, u32::MAX]),
            ("0 1000 1\n", 1..1, &[0], &[1]),
            ("", 0..0, &[], &[0]),
        ] {
            let ids = NamespaceIds::parse(map);
            assert_eq!(ids.stand_ins, want, "{map}");
            assert!(own.iter().all(|id| !ids.is_foreign(*id)), "{map}");
            assert!(foreign.iter().all(|id| ids.is_foreign(*id)), "{map}");
        }
    }

    #[test]
    fn each_foreign_id_keeps_its_stand_in_until_there_are_no_more() {
        let ids = ["0 1000 1\n1 100000 16\n", "0 1000 1\n1 100000 65536\n"].map(NamespaceIds::parse);
        let owners = |users: &[u32], groups: &[u32]| Owners {
            users: users.iter().copied().collect(),
            groups: groups.iter().copied().collect(),
        };
        let mut all = ForeignIds::default();
        assert!(!all.add(&ids, &owners(&[0, 5], &[0, 50])).unwrap());
        assert!(all.add(&ids, &owners(&[1_000_660_000, 3], &[65_300])).unwrap());
        assert_eq!(all.format(), "u 1000660000 16\ng 65300 65519\n");
        assert!(all.add(&ids, &owners(&[99, 1_000_660_000], &[])).unwrap());
        assert_eq!(all.users, [(99, 15), (1_000_660_000, 16)].into());
        assert_eq!(ForeignIds::parse(&all.format()), all);
        assert_eq!(all.on_disk((99, 65_300)), (15, 65_519));
        assert_eq!(all.in_image((15, 65_519)), (99, 65_300));
        assert_eq!(all.in_image((3, 4)), (3, 4));
        assert!(matches!(
            all.add(&ids, &owners(&[100, 101, 102, 103], &[])),
            Err(StoreError::TooManyForeignIds { limit: 4, .. })
        ));
    }

    #[test]
    fn damaged_lines_of_the_record_are_left_out() {
        let all = ForeignIds::parse("u 1 2\nx 3 4\nu 5\ng -1 6\n\u{e9}\ng 7 8");
        assert_eq!(all.format(), "u 1 2\ng 7 8\n");
    }
}
