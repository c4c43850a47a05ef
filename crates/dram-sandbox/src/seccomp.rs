//! The system call filter: the semantics of Docker's default profile as a small BPF program.
//!
//! Layout: the architecture is checked, then a binary search over ranges of numbers ends in one leaf per range. What is
//! not allowed fails with `EPERM`; what is unknown, or of a foreign architecture, with `ENOSYS`.
//!
//! Known limit: programs for the 32-bit sibling of the architecture (i386, arm) and for x32 do not run, as every system
//! call of theirs is answered with `ENOSYS`. Format: `linux/filter.h`, `seccomp(2)`.

use crate::error::SandboxError;
use crate::{sys, syscalls};
use libc::sock_filter;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

// Offsets in `struct seccomp_data`; both architectures are little-endian, so the low half of an argument comes first.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_FIRST_ARGUMENT: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Every flag of `clone` that makes a namespace, `CLONE_NEWTIME` excepted: its bit belongs to the exit signal there.
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Linux, uname26, no address randomisation, both, and "only ask".
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Families that leave the network namespace or reach into the kernel: `AF_ALG` and `AF_VSOCK`.
const DENIED_FAMILIES: [u32; 2] = [38, 40];

/// What happens to a range of system call numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
    Unknown,
    Clone,
    Personality,
    Socket,
}

/// Loads the filter. Needs either `no_new_privs` or `CAP_SYS_ADMIN`.
pub(crate) fn load() -> Result<(), SandboxError> {
    sys::load_filter(&mut program()).map_err(|source| SandboxError::Filter { source })
}

fn program() -> Vec<sock_filter> {
    let mut all = vec![
        plain(LOAD, OFFSET_ARCHITECTURE),
        branch(IF_EQUAL, ARCHITECTURE, 1, 0),
        plain(RETURN, UNKNOWN),
        plain(LOAD, OFFSET_NUMBER),
    ];
    all.extend(search(&ranges()));
    all
}

/// The verdict of a number, first by its arguments' rules, then by the rows.
fn verdict(number: u32, allowed: &[u32]) -> Verdict {
    let is = |call: libc::c_long| i64::from(number) == call;
    if is(libc::SYS_clone) {
        Verdict::Clone
    } else if is(libc::SYS_clone3) {
        // Its flags lie behind a pointer, where a filter cannot look; the C library falls back to clone.
        Verdict::Unknown
    } else if is(libc::SYS_personality) {
        Verdict::Personality
    } else if is(libc::SYS_socket) {
        Verdict::Socket
    } else if allowed.binary_search(&number).is_ok() {
        Verdict::Allow
    } else {
        Verdict::Deny
    }
}

/// The whole number space as ascending starts of ranges; the last range has no end, so x32 numbers fall into it.
fn ranges() -> Vec<(u32, Verdict)> {
    let allowed = syscalls::allowed();
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=syscalls::NEWEST {
        let verdict = verdict(number, &allowed);
        if ranges.last().is_none_or(|last| last.1 != verdict) {
            ranges.push((number, verdict));
        }
    }
    ranges.push((syscalls::NEWEST + 1, Verdict::Unknown));
    ranges
}

/// The binary search, as code in which every path ends with a return.
fn search(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    let (low, high) = match ranges {
        [] => return vec![plain(RETURN, DENY)],
        [(_, verdict)] => return leaf(*verdict),
        many => many.split_at(many.len() / 2),
    };
    let (below, above) = (search(low), search(high));
    let boundary = high.first().map_or(0, |range| range.0);
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![branch(IF_AT_LEAST, boundary, distance, 0)],
        Err(_) => vec![branch(IF_AT_LEAST, boundary, 0, 1), plain(JUMP, below.len() as u32)],
    };
    code.extend(below);
    code.extend(above);
    code
}

fn leaf(verdict: Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Allow => vec![plain(RETURN, ALLOW)],
        Verdict::Deny => vec![plain(RETURN, DENY)],
        Verdict::Unknown => vec![plain(RETURN, UNKNOWN)],
        Verdict::Clone => vec![
            plain(LOAD, OFFSET_FIRST_ARGUMENT),
            branch(IF_ANY_BIT, NAMESPACE_FLAGS, 0, 1),
            plain(RETURN, DENY),
            plain(RETURN, ALLOW),
        ],
        Verdict::Personality => by_first_argument(&PERSONALITIES, ALLOW, DENY),
        Verdict::Socket => by_first_argument(&DENIED_FAMILIES, DENY, ALLOW),
    }
}

/// One answer if the low half of the first argument is in `values`, another if not. The kernel reads these arguments as
/// 32-bit values, so the high half means nothing.
fn by_first_argument(values: &[u32], within: u32, without: u32) -> Vec<sock_filter> {
    let mut code = vec![plain(LOAD, OFFSET_FIRST_ARGUMENT)];
    for value in values {
        code.push(branch(IF_EQUAL, *value, 0, 1));
        code.push(plain(RETURN, within));
    }
    code.push(plain(RETURN, without));
    code
}

fn plain(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn answer(arch: u32, number: u32, argument: u32) -> u32 {
        let (code, mut at, mut value) = (program(), 0usize, 0u32);
        loop {
            let step = code[at];
            at += 1;
            let holds = match step.code {
                LOAD if step.k == OFFSET_ARCHITECTURE => (value = arch, false).1,
                LOAD if step.k == OFFSET_NUMBER => (value = number, false).1,
                LOAD => (value = argument, false).1,
                RETURN => return step.k,
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
    fn every_number_gets_the_verdict_of_its_row() {
        let allowed = syscalls::allowed();
        for number in 0..=syscalls::NEWEST {
            let expected = match verdict(number, &allowed) {
                Verdict::Allow | Verdict::Clone | Verdict::Personality | Verdict::Socket => ALLOW,
                Verdict::Deny => DENY,
                Verdict::Unknown => UNKNOWN,
            };
            assert_eq!(answer(ARCHITECTURE, number, 0), expected, "number {number}");
        }
    }

    #[test]
    fn arguments_decide_where_the_profile_says_so() {
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
    fn foreign_and_future_calls_do_not_exist() {
        assert_eq!(answer(0x4000_0003, 1, 0), UNKNOWN);
        assert_eq!(answer(ARCHITECTURE, 0x4000_0001, 0), UNKNOWN);
        assert_eq!(answer(ARCHITECTURE, syscalls::NEWEST + 1, 0), UNKNOWN);
    }
}
