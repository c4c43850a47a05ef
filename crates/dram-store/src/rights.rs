//! The privileges of this process on the file system: ownership, device nodes and overlayfs attributes.

use std::sync::OnceLock;

use rustix::thread::{CapabilitySet, capabilities};

/// The ownership, modes, devices and attributes of a layer that this process can set on the disk. The rest goes to the
/// ownership table of the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rights {
    /// Everything: the process is root of the initial user namespace.
    All,
    /// Subordinate ids: everything but device nodes and ids outside of this user namespace.
    Lent,
    /// A user namespace with a single id: every file on the disk belongs to root.
    OneId,
    /// No privileges: ownership goes to the ownership table, and so do modes that would keep this process from its own
    /// files.
    Nothing,
}

/// Capabilities needed to set file metadata; overlayfs attributes of the initial user namespace need more.
const FOR_FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);
const FOR_ROOT: CapabilitySet = FOR_FILES.union(CapabilitySet::MKNOD).union(CapabilitySet::SYS_ADMIN);

impl Rights {
    /// Returns the id mapping of this process, computed once: a process enters its user namespace before it opens a
    /// store.
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

    /// Returns the subdirectory for layers and cache records of such a process. They are kept apart because a layer
    /// with ownership on the disk differs from one with an ownership table, ids differ between user namespaces, and
    /// commands give other results with a single id.
    pub(crate) fn shelf(self) -> Option<&'static str> {
        match self {
            Rights::All => None,
            Rights::Lent => Some("lent-ids"),
            Rights::OneId => Some("one-id"),
            Rights::Nothing => Some("unprivileged"),
        }
    }

    /// Returns the id mappings whose subdirectories this process can clean up, its own first.
    pub(crate) fn reach(self) -> &'static [Rights] {
        match self {
            Rights::All => &[Rights::All, Rights::Lent, Rights::OneId, Rights::Nothing],
            Rights::Lent => &[Rights::Lent, Rights::OneId, Rights::Nothing],
            Rights::OneId => &[Rights::OneId, Rights::Nothing],
            Rights::Nothing => &[Rights::Nothing],
        }
    }

    /// Returns true if every file belongs to root unless the ownership table says otherwise, regardless of the disk.
    pub(crate) fn all_is_roots(self) -> bool {
        match self {
            Rights::All | Rights::Lent => false,
            Rights::OneId | Rights::Nothing => true,
        }
    }
}

/// Returns true if the map is that of the initial user namespace, in which every id is mapped to itself.
pub(crate) fn is_first(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns the number of ids of a map. Its lines: first id inside, first id outside, count.
fn count(map: &str) -> u64 {
    let of_line = |line: &str| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok();
    map.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_mapping_follows_from_id_maps_and_capabilities() {
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
