//! What this process may set on a disk: owners, devices, marks of the overlay.

use std::sync::OnceLock;

use rustix::thread::{CapabilitySet, capabilities};

/// How much of a layer's owners, modes, devices and attributes the disk can hold when this process writes it. What it
/// cannot hold is written down beside the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rights {
    /// Everything: this is root.
    All,
    /// Everything but devices and the ids beyond those of this user namespace.
    Lent,
    /// This is root of a user namespace with one id: every file on the disk is root's.
    OneId,
    /// Nothing: owners are only written down, and so are modes that would keep this process from its own files.
    Nothing,
}

/// All that is set on files takes these; the marks of the first user namespace take one more.
const FOR_FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);
const FOR_ROOT: CapabilitySet = FOR_FILES.union(CapabilitySet::MKNOD).union(CapabilitySet::SYS_ADMIN);

impl Rights {
    /// Those of this process, found out once: a process that enters a user namespace does so before it opens a store.
    pub fn of_this_process() -> Rights {
        static FOUND: OnceLock<Rights> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
            let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
            Rights::of(&read("uid_map"), &read("gid_map"), effective)
        })
    }

    fn of(users: &str, groups: &str, has: CapabilitySet) -> Rights {
        let needed = if is_first(users) { FOR_ROOT } else { FOR_FILES };
        match (has.contains(needed), count(users).min(count(groups))) {
            (false, _) | (true, 0) => Rights::Nothing,
            (true, 1) => Rights::OneId,
            (true, _) if is_first(users) => Rights::All,
            (true, _) => Rights::Lent,
        }
    }

    /// Where in a store the layers and remembered steps of such a process lie. A layer with its owners on the disk and
    /// one with its owners beside it are not the same directory, ids are others in another user namespace, and a command
    /// makes something else with one id.
    pub(crate) fn shelf(self) -> Option<&'static str> {
        match self {
            Rights::All => None,
            Rights::Lent => Some("lent-ids"),
            Rights::OneId => Some("one-id"),
            Rights::Nothing => Some("unprivileged"),
        }
    }

    /// Those whose shelves this process can tidy up, its own first.
    pub(crate) fn reach(self) -> &'static [Rights] {
        match self {
            Rights::All => &[Rights::All, Rights::Lent, Rights::OneId, Rights::Nothing],
            Rights::Lent => &[Rights::Lent, Rights::OneId, Rights::Nothing],
            Rights::OneId => &[Rights::OneId, Rights::Nothing],
            Rights::Nothing => &[Rights::Nothing],
        }
    }

    /// Whether every file is root's unless it is written down otherwise, whatever the disk says.
    pub(crate) fn all_is_roots(self) -> bool {
        match self {
            Rights::All | Rights::Lent => false,
            Rights::OneId | Rights::Nothing => true,
        }
    }
}

/// Whether a map is that of the first user namespace, in which every id is itself.
pub(crate) fn is_first(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// How many ids a map has. Its lines: first id inside, first id outside, count.
fn count(map: &str) -> u64 {
    let of_line = |line: &str| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok();
    map.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_from_ids_and_capabilities() {
        let (first, lent, one) = ("0 0 4294967295\n", "0 1000 1\n1 100000 65536\n", "0 1000 1\n");
        let docker = FOR_ROOT - CapabilitySet::SYS_ADMIN;
        for (users, groups, has, want) in [
            (first, first, CapabilitySet::all(), Rights::All),
            (first, first, docker, Rights::Nothing),
            (first, first, CapabilitySet::empty(), Rights::Nothing),
            (lent, lent, CapabilitySet::all(), Rights::Lent),
            (lent, lent, docker, Rights::Lent),
            (lent, one, CapabilitySet::all(), Rights::OneId),
            (one, one, CapabilitySet::all(), Rights::OneId),
            (one, "", CapabilitySet::all(), Rights::Nothing),
            (lent, lent, CapabilitySet::empty(), Rights::Nothing),
        ] {
            assert_eq!(Rights::of(users, groups, has), want, "{users}{groups}{has:?}");
        }
    }
}
