//! The seccomp filter: the semantics of Docker's default profile as a small BPF program.
//!
//! The program checks the architecture, then does a binary search over ranges of system call numbers; each range ends
//! in one action. Calls that are not allowed fail with `EPERM`; unknown calls and foreign architectures with `ENOSYS`.
//! In a user namespace with a single id, calls about other ids do nothing and return 0.
//!
//! Known limit: programs for the 32-bit variant of the architecture (i386, arm) and for x32 do not run, as each of
//! their system calls fails with `ENOSYS`. Format: `linux/filter.h`, `seccomp(2)`.

use crate::error::SandboxError;
use crate::prelude::*;
use crate::{sys, syscalls};
use libc::sock_filter;
use rustix::fd::OwnedFd;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

// Offsets in `struct seccomp_data`. Both architectures are little-endian, so the low half of an argument comes first.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_FIRST_ARGUMENT: u32 = 16;
const SIZE_OF_ARGUMENT: u32 = 8;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const KEEP_BITS: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// The helper is notified and decides the return value of the call.
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// The call returns 0 without being executed.
const FAKE_SUCCESS: u32 = libc::SECCOMP_RET_ERRNO;
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Every flag of `clone` that creates a namespace, except `CLONE_NEWTIME`: its bit belongs to the exit signal there.
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Allowed personalities: Linux, uname26, no address randomisation, both, and the query of the current one.
const ALLOWED_PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Denied address families: `AF_ALG` reaches into the kernel, `AF_VSOCK` leaves the network namespace.
const DENIED_FAMILIES: [u32; 2] = [38, 40];

/// Calls that change owners. With a single id there is no other owner.
const CHOWN_CALLS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
];

/// Calls that change ids.
const SETID_CALLS: &[libc::c_long] = &[
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
];

/// Calls that make devices among other things, and the number of the argument with the file type.
const MKNOD_CALLS: &[(libc::c_long, u32)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
    (libc::SYS_mknodat, 2),
];

/// The number of ids of the user namespace, and how the filter treats changes of ids and owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeccompIdMode {
    /// The user namespace maps the ids of an image: calls are executed.
    ManyIds,
    /// There is a single id. Calls that change ids and owners or make devices return 0 and do nothing: package managers
    /// make them and stop when they fail, though the result would work as well without.
    SingleId,
    /// There is a single id. As before, but the helper is notified of changes of owners and records them.
    SingleIdRecorded,
}

/// The action for a range of system call numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SeccompAction {
    Allow,
    Deny,
    NoSuchCall,
    Clone,
    Personality,
    Socket,
    Notify,
    FakeSuccess,
    /// Decided by the file type in the argument of this number.
    FakeDevice(u32),
}

/// Loads the filter. Needs either `no_new_privs` or `CAP_SYS_ADMIN`.
pub(crate) fn load_filter(ids: SeccompIdMode) -> Result<(), SandboxError> {
    sys::load_filter(&mut filter_program(ids)).map_err(|error| SandboxError::Filter { source: error.into() })
}

/// Loads the filter for a command with a single id. Returns the descriptor at which changes of owners are notified;
/// `None` if another listener exists already, and changes of owners do nothing then.
pub(crate) fn load_notifying_filter() -> Result<Option<OwnedFd>, SandboxError> {
    match sys::load_notifying_filter(&mut filter_program(SeccompIdMode::SingleIdRecorded)) {
        Ok(listener) => Ok(Some(listener)),
        Err(_) => load_filter(SeccompIdMode::SingleId).map(|()| None),
    }
}

fn filter_program(ids: SeccompIdMode) -> Vec<sock_filter> {
    let mut all = vec![
        statement(LOAD, OFFSET_ARCHITECTURE),
        jump(IF_EQUAL, ARCHITECTURE, 1, 0),
        statement(RETURN, NO_SUCH_CALL),
        statement(LOAD, OFFSET_NUMBER),
    ];
    all.extend(compile_search(&action_ranges(ids)));
    all
}

/// The action for a number: first the calls with rules for arguments, then the table.
fn action_for(number: u32, allowed: &[u32], ids: SeccompIdMode) -> SeccompAction {
    let is = |call: libc::c_long| i64::from(number) == call;
    let node = MKNOD_CALLS.iter().find(|node| is(node.0));
    if ids != SeccompIdMode::ManyIds && CHOWN_CALLS.iter().any(|call| is(*call)) {
        if ids == SeccompIdMode::SingleId { SeccompAction::FakeSuccess } else { SeccompAction::Notify }
    } else if ids != SeccompIdMode::ManyIds && SETID_CALLS.iter().any(|call| is(*call)) {
        SeccompAction::FakeSuccess
    } else if let (SeccompIdMode::SingleId | SeccompIdMode::SingleIdRecorded, Some((_, argument))) = (ids, node) {
        SeccompAction::FakeDevice(*argument)
    } else if is(libc::SYS_clone) {
        SeccompAction::Clone
    } else if is(libc::SYS_clone3) {
        // Its flags lie behind a pointer, which a filter cannot read; the C library falls back to `clone`.
        SeccompAction::NoSuchCall
    } else if is(libc::SYS_personality) {
        SeccompAction::Personality
    } else if is(libc::SYS_socket) {
        SeccompAction::Socket
    } else if allowed.binary_search(&number).is_ok() {
        SeccompAction::Allow
    } else {
        SeccompAction::Deny
    }
}

/// The whole number space as ascending starts of ranges. The last range has no end, so x32 numbers fall into it.
fn action_ranges(ids: SeccompIdMode) -> Vec<(u32, SeccompAction)> {
    let allowed = syscalls::allowed_syscalls();
    let mut ranges: Vec<(u32, SeccompAction)> = Vec::new();
    for number in 0..=syscalls::NEWEST_SYSCALL {
        let verdict = action_for(number, &allowed, ids);
        if ranges.last().is_none_or(|last| last.1 != verdict) {
            ranges.push((number, verdict));
        }
    }
    ranges.push((syscalls::NEWEST_SYSCALL + 1, SeccompAction::NoSuchCall));
    ranges
}

/// The binary search, as code in which every path ends with a return.
fn compile_search(ranges: &[(u32, SeccompAction)]) -> Vec<sock_filter> {
    let (low, high) = match ranges {
        [] => return vec![statement(RETURN, DENY)],
        [(_, verdict)] => return compile_action(*verdict),
        many => many.split_at(many.len() / 2),
    };
    let (below, above) = (compile_search(low), compile_search(high));
    let boundary = high.first().map_or(0, |range| range.0);
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![jump(IF_AT_LEAST, boundary, distance, 0)],
        Err(_) => vec![jump(IF_AT_LEAST, boundary, 0, 1), statement(JUMP, below.len() as u32)],
    };
    code.extend(below);
    code.extend(above);
    code
}

fn compile_action(verdict: SeccompAction) -> Vec<sock_filter> {
    match verdict {
        SeccompAction::Allow => vec![statement(RETURN, ALLOW)],
        SeccompAction::Deny => vec![statement(RETURN, DENY)],
        SeccompAction::NoSuchCall => vec![statement(RETURN, NO_SUCH_CALL)],
        SeccompAction::Clone => vec![
            statement(LOAD, OFFSET_FIRST_ARGUMENT),
            jump(IF_ANY_BIT, NAMESPACE_FLAGS, 0, 1),
            statement(RETURN, DENY),
            statement(RETURN, ALLOW),
        ],
        SeccompAction::Notify => vec![statement(RETURN, NOTIFY)],
        SeccompAction::FakeSuccess => vec![statement(RETURN, FAKE_SUCCESS)],
        SeccompAction::FakeDevice(argument) => vec![
            statement(LOAD, OFFSET_FIRST_ARGUMENT + argument * SIZE_OF_ARGUMENT),
            statement(KEEP_BITS, libc::S_IFMT),
            jump(IF_EQUAL, libc::S_IFCHR, 1, 0),
            jump(IF_EQUAL, libc::S_IFBLK, 0, 1),
            statement(RETURN, FAKE_SUCCESS),
            statement(RETURN, ALLOW),
        ],
        SeccompAction::Personality => compile_first_argument_match(&ALLOWED_PERSONALITIES, ALLOW, DENY),
        SeccompAction::Socket => compile_first_argument_match(&DENIED_FAMILIES, DENY, ALLOW),
    }
}

/// Returns `within` if the low half of the first argument is in `values`, otherwise `without`. The kernel reads these
/// arguments as 32-bit values and ignores the high half.
fn compile_first_argument_match(values: &[u32], within: u32, without: u32) -> Vec<sock_filter> {
    let mut code = vec![statement(LOAD, OFFSET_FIRST_ARGUMENT)];
    for value in values {
        code.push(jump(IF_EQUAL, *value, 0, 1));
        code.push(statement(RETURN, within));
    }
    code.push(statement(RETURN, without));
    code
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the program as the kernel does.
    fn answer(arch: u32, number: u32, argument: u32) -> u32 {
        answer_with(SeccompIdMode::ManyIds, arch, number, argument)
    }

    fn answer_with(ids: SeccompIdMode, arch: u32, number: u32, argument: u32) -> u32 {
        let (code, mut at, mut value) = (filter_program(ids), 0usize, 0u32);
        loop {
            let step = code[at];
            at += 1;
            let holds = match step.code {
                LOAD if step.k == OFFSET_ARCHITECTURE => (value = arch, false).1,
                LOAD if step.k == OFFSET_NUMBER => (value = number, false).1,
                LOAD => (value = argument, false).1,
                RETURN => return step.k,
                KEEP_BITS => (value &= step.k, false).1,
                JUMP => (at += step.k as usize, false).1,
                IF_EQUAL => value == step.k,
                IF_AT_LEAST => value >= step.k,
                IF_ANY_BIT => value & step.k != 0,
                other => panic!("instruction {other}"),
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
    }

    #[test]
    fn every_number_gets_the_action_of_its_row() {
        let allowed = syscalls::allowed_syscalls();
        for number in 0..=syscalls::NEWEST_SYSCALL {
            let expected = match action_for(number, &allowed, SeccompIdMode::ManyIds) {
                SeccompAction::Allow | SeccompAction::Clone | SeccompAction::Personality | SeccompAction::Socket => {
                    ALLOW
                }
                SeccompAction::Deny => DENY,
                SeccompAction::NoSuchCall => NO_SUCH_CALL,
                SeccompAction::Notify | SeccompAction::FakeSuccess | SeccompAction::FakeDevice(_) => {
                    panic!("there are many ids")
                }
            };
            assert_eq!(answer(ARCHITECTURE, number, 0), expected, "number {number}");
        }
    }

    #[test]
    fn arguments_decide_clone_personality_and_socket() {
        let ask = |call: libc::c_long, argument| answer(ARCHITECTURE, call as u32, argument);
        assert_eq!(ask(libc::SYS_clone, libc::SIGCHLD as u32), ALLOW);
        assert_eq!(ask(libc::SYS_clone, libc::CLONE_NEWUSER as u32), DENY);
        assert_eq!(ask(libc::SYS_personality, 0x2_0000), ALLOW);
        assert_eq!(ask(libc::SYS_personality, 0x4_0000), DENY);
        assert_eq!(ask(libc::SYS_socket, libc::AF_INET as u32), ALLOW);
        assert_eq!(ask(libc::SYS_socket, libc::AF_VSOCK as u32), DENY);
        assert_eq!(ask(libc::SYS_mount, 0), DENY);
        assert_eq!(ask(libc::SYS_unshare, 0), DENY);
        assert_eq!(ask(libc::SYS_keyctl, 0), DENY);
        assert_eq!(ask(libc::SYS_chroot, 0), ALLOW);
    }

    #[test]
    fn with_a_single_id_changes_of_ids_and_devices_return_zero() {
        let ask =
            |call: libc::c_long, argument| answer_with(SeccompIdMode::SingleId, ARCHITECTURE, call as u32, argument);
        for call in SETID_CALLS.iter().chain(CHOWN_CALLS) {
            assert_eq!(ask(*call, 7), FAKE_SUCCESS, "{call}");
        }
        for call in CHOWN_CALLS {
            assert_eq!(answer_with(SeccompIdMode::SingleIdRecorded, ARCHITECTURE, *call as u32, 7), NOTIFY, "{call}");
        }
        for (call, _) in MKNOD_CALLS {
            assert_eq!(ask(*call, libc::S_IFCHR | 0o666), FAKE_SUCCESS, "{call}");
            assert_eq!(ask(*call, libc::S_IFBLK | 0o600), FAKE_SUCCESS, "{call}");
            assert_eq!(ask(*call, libc::S_IFIFO | 0o600), ALLOW, "{call}");
            assert_eq!(ask(*call, 0o644), ALLOW, "{call}");
        }
        assert_eq!(ask(libc::SYS_mount, 0), DENY);
        assert_eq!(ask(libc::SYS_fchmod, 0), ALLOW);
        assert_eq!(ask(libc::SYS_clone, libc::CLONE_NEWUSER as u32), DENY);
    }

    #[test]
    fn foreign_and_unknown_calls_return_enosys() {
        assert_eq!(answer(0x4000_0003, 1, 0), NO_SUCH_CALL);
        assert_eq!(answer(ARCHITECTURE, 0x4000_0001, 0), NO_SUCH_CALL);
        assert_eq!(answer(ARCHITECTURE, syscalls::NEWEST_SYSCALL + 1, 0), NO_SUCH_CALL);
    }
}
