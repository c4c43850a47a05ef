//! The privileges of this process on the file system: ownership, device nodes and overlayfs attributes.

use std::sync::OnceLock;

use rustix::thread::{CapabilitySet, capabilities};

/// The ownership, modes, devices and attributes of a layer that this process can set on the disk. The rest goes to the
/// ownership table of the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdMapping {
    /// Everything: the process is root of the initial user namespace.
    Root,
    /// Subordinate ids: everything but device nodes and ids outside of this user namespace.
    Subordinate,
    /// A user namespace with a single id: every file on the disk belongs to root.
    Single,
    /// No privileges: ownership goes to the ownership table, and so do modes that would keep this process from its own
    /// files.
    Unprivileged,
}

/// Capabilities needed to set file metadata; overlayfs attributes of the initial user namespace need more.
const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);
const ROOT_CAPABILITIES: CapabilitySet = FILE_CAPABILITIES.union(CapabilitySet::MKNOD).union(CapabilitySet::SYS_ADMIN);

impl IdMapping {
    /// Returns the id mapping of this process, computed once: a process enters its user namespace before it opens a
    /// store.
    pub fn of_current_process() -> IdMapping {
        static FOUND: OnceLock<IdMapping> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
            let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
            IdMapping::from_maps(&read("uid_map"), &read("gid_map"), effective)
        })
    }

    fn from_maps(users: &str, groups: &str, has: CapabilitySet) -> IdMapping {
        let needed = if is_initial_namespace_map(users) { ROOT_CAPABILITIES } else { FILE_CAPABILITIES };
        match (has.contains(needed), count_ids(users).min(count_ids(groups))) {
            (false, _) | (true, 0) => IdMapping::Unprivileged,
            (true, 1) => IdMapping::Single,
            (true, _) if is_initial_namespace_map(users) => IdMapping::Root,
            (true, _) => IdMapping::Subordinate,
        }
    }

    /// Returns the subdirectory for layers and cache records of such a process. They are kept apart because a layer
    /// with ownership on the disk differs from one with an ownership table, ids differ between user namespaces, and
    /// commands give other results with a single id.
    pub(crate) fn privilege_subdir(self) -> Option<&'static str> {
        match self {
            IdMapping::Root => None,
            IdMapping::Subordinate => Some("subordinate"),
            IdMapping::Single => Some("single"),
            IdMapping::Unprivileged => Some("unprivileged"),
        }
    }

    /// Returns the id mappings whose subdirectories this process can clean up, its own first.
    pub(crate) fn manageable(self) -> &'static [IdMapping] {
        match self {
            IdMapping::Root => &[IdMapping::Root, IdMapping::Subordinate, IdMapping::Single, IdMapping::Unprivileged],
            IdMapping::Subordinate => &[IdMapping::Subordinate, IdMapping::Single, IdMapping::Unprivileged],
            IdMapping::Single => &[IdMapping::Single, IdMapping::Unprivileged],
            IdMapping::Unprivileged => &[IdMapping::Unprivileged],
        }
    }

    /// Returns true if every file belongs to root unless the ownership table says otherwise, regardless of the disk.
    pub(crate) fn owner_defaults_to_root(self) -> bool {
        match self {
            IdMapping::Root | IdMapping::Subordinate => false,
            IdMapping::Single | IdMapping::Unprivileged => true,
        }
    }
}

/// Returns true if the map is that of the initial user namespace, in which every id is mapped to itself.
pub(crate) fn is_initial_namespace_map(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns the number of ids of a map. Its lines: first id inside, first id outside, count.
fn count_ids(map: &str) -> u64 {
    let of_line = |line: &str| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok();
    map.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_mapping_follows_from_id_maps_and_capabilities() {
        let (first, lent, one) = ("0 0 4294967295\n", "0 1000 1\n1 100000 65536\n", "0 1000 1\n");
        let docker = ROOT_CAPABILITIES - CapabilitySet::SYS_ADMIN;
        for (users, groups, has, want) in [
            (first, first, CapabilitySet::all(), IdMapping::Root),
            (first, first, docker, IdMapping::Unprivileged),
            (first, first, CapabilitySet::empty(), IdMapping::Unprivileged),
            (lent, lent, CapabilitySet::all(), IdMapping::Subordinate),
            (lent, lent, docker, IdMapping::Subordinate),
            (lent, one, CapabilitySet::all(), IdMapping::Single),
            (one, one, CapabilitySet::all(), IdMapping::Single),
            (one, "", CapabilitySet::all(), IdMapping::Unprivileged),
            (lent, lent, CapabilitySet::empty(), IdMapping::Unprivileged),
        ] {
            assert_eq!(IdMapping::from_maps(users, groups, has), want, "{users}{groups}{has:?}");
        }
    }
}
