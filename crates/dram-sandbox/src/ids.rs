//! User, groups and capabilities of the command.

use crate::error::SandboxError;
use crate::jail::UserIds;
use crate::prelude::*;
use crate::seccomp::SeccompIdMode;
use crate::small_files::read_kernel_text;
use rustix::fd::BorrowedFd;
use rustix::fs::fchown;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// The capabilities of root inside: Docker's default set. Numbers as in `linux/capability.h`.
const DEFAULT_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Drops all other capabilities from the bounding set, so that neither this process nor its children can gain them.
pub(crate) fn drop_bounding_capabilities() -> Result<(), SandboxError> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if DEFAULT_CAPABILITIES.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // There are no further capabilities in this kernel.
            Err(Errno::INVAL) => return Ok(()),
            Err(e) => return Err(SandboxError::process("drop a capability", e)),
        }
    }
    Ok(())
}

/// Switches to the user and groups. Root gets those of [`DEFAULT_CAPABILITIES`] that this process has, as root of a
/// container may lack some; others get none.
pub(crate) fn switch_user(ids: &UserIds) -> Result<(), SandboxError> {
    let failed = |step: &'static str| move |e: Errno| SandboxError::process(step, e);
    change_ids(ids)?;
    clear_ambient_capability_set().map_err(failed("clear the ambient capabilities"))?;
    let permitted = capabilities(None).map_err(failed("read the capabilities"))?.permitted;
    let own = if ids.uid == 0 { DEFAULT_CAPABILITIES.intersection(permitted) } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed("set the capabilities"))
}

/// Switches to the user and groups and keeps every capability of this process; its children inherit them.
pub(crate) fn switch_user_keeping_capabilities(ids: &UserIds) -> Result<(), SandboxError> {
    let failed = |e: Errno| SandboxError::process("keep the capabilities", e);
    let own = capabilities(None).map_err(failed)?.permitted;
    set_keep_capabilities(true).map_err(failed)?;
    change_ids(ids)?;
    set_capabilities(None, CapabilitySets { effective: own, permitted: own, inheritable: own }).map_err(failed)?;
    for one in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(|one| own.contains(*one)) {
        configure_capability_in_ambient_set(one, true).map_err(failed)?;
    }
    Ok(())
}

fn change_ids(ids: &UserIds) -> Result<(), SandboxError> {
    set_groups(&ids.groups)?;
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    set_thread_res_gid(gid, gid, gid).map_err(|e| id_error("group", ids.gid, e))?;
    set_thread_res_uid(uid, uid, uid).map_err(|e| id_error("user", ids.uid, e))
}

/// With a single id, the kernel forbids any change of groups: an empty list is accepted then, others are refused.
fn set_groups(groups: &[u32]) -> Result<(), SandboxError> {
    let list: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    match set_thread_groups(&list) {
        Err(Errno::PERM) if groups.is_empty() => Ok(()),
        other => other.map_err(|e| SandboxError::process("set the supplementary groups", e)),
    }
}

fn id_error(what: &str, id: u32, error: Errno) -> SandboxError {
    let step = match error {
        Errno::INVAL => format!("become {what} {id}: this user namespace does not have that id"),
        _ => format!("become {what} {id}"),
    };
    SandboxError::process(&step, error)
}

/// Returns true if an id map, as in `/proc/self/uid_map`, maps `id`. Lines: first id inside, first id outside, count.
pub(crate) fn id_map_contains(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(_), Some(Ok(count))) => (first..first + count).contains(&u64::from(id)),
            _ => false,
        }
    })
}

/// Returns [`SeccompIdMode::SingleId`] if this user namespace maps one id only.
pub(crate) fn seccomp_id_mode() -> SeccompIdMode {
    let count = |file: &str| {
        let map = read_kernel_text(file);
        let of_line = |line: &str| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok();
        map.lines().filter_map(of_line).sum::<u64>()
    };
    if count("/proc/self/uid_map") == 1 || count("/proc/self/gid_map") == 1 {
        SeccompIdMode::SingleId
    } else {
        SeccompIdMode::ManyIds
    }
}

/// Changes the owner of a file. With a single id the owner stays as it is: that id stands for everybody.
pub(crate) fn change_owner(file: BorrowedFd<'_>, uid: u32, gid: Option<u32>) -> Result<(), Errno> {
    match fchown(file, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw)) {
        Err(Errno::INVAL) if seccomp_id_mode() == SeccompIdMode::SingleId => Ok(()),
        done => done,
    }
}

/// Returns true if this is the initial user namespace, in which every id maps to itself.
pub(crate) fn in_initial_namespace() -> bool {
    let map = read_kernel_text("/proc/self/uid_map");
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_capabilities_are_those_of_docker() {
        assert_eq!(DEFAULT_CAPABILITIES.bits(), 0xa804_25fb);
    }

    #[test]
    fn an_id_map_contains_exactly_the_ids_of_its_ranges() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert!(id_map_contains(map, 0) && id_map_contains(map, 1) && id_map_contains(map, 65536));
        assert!(!id_map_contains(map, 65537) && !id_map_contains("0 1000 1", 5) && !id_map_contains("", 0));
    }
}
