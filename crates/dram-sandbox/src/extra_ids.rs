//! A user namespace for one jail, with ids of the image that the namespace of the caller lacks.

use crate::error::SandboxError;
use crate::ipc;
use crate::jail::ExtraIds;
use crate::prelude::*;
use crate::small_files::{read_kernel_text, write_all};
use crate::sys::{self, CloneResult};
use core::fmt::Write as _;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read};
use rustix::process::{WaitId, WaitIdOptions, getpid, waitid};
use rustix::thread::UnshareFlags;

/// Moves this process into a new user namespace with all ids of the current one, and the ids `extra`.
///
/// # Errors
/// Fails when the kernel refuses the namespace or its maps.
pub(crate) fn enter_namespace_with(extra: &ExtraIds) -> Result<(), SandboxError> {
    let failed = |e: Errno| SandboxError::process("make a user namespace that has the owners of the image", e);
    let maps = [("uid_map", &extra.users), ("gid_map", &extra.groups)]
        .map(|(name, extra)| (name, map_with_extra(&read_kernel_text(&format!("/proc/self/{name}")), extra)));
    let (ours, theirs) = ipc::socket_pair().map_err(failed)?;
    let pid = getpid().as_raw_nonzero().get();
    // Such maps can only be written from outside.
    let writer = match sys::clone_process(0).map_err(failed)? {
        CloneResult::Child => {
            drop(ours);
            write_maps_when_asked(theirs.as_fd(), pid, &maps)
        }
        CloneResult::Parent(writer) => writer,
    };
    drop(theirs);
    let mut answer = [0];
    let done = sys::unshare(UnshareFlags::NEWUSER)
        .and_then(|()| write_all(ours.as_fd(), b"+"))
        .and_then(|()| read(&ours, &mut answer));
    drop(ours);
    // The writer has ended; this only reaps it.
    let _ = waitid(WaitId::PidFd(writer.as_fd()), WaitIdOptions::EXITED);
    match (done.map_err(failed)?, answer) {
        (1, [0]) => Ok(()),
        (1, [errno]) => Err(failed(Errno::from_raw_os_error(errno.into()))),
        _ => Err(failed(Errno::PIPE)),
    }
}

/// Runs in the process that stays outside: waits until the other one is in its namespace, writes the maps, reports an
/// error number or 0, and ends.
fn write_maps_when_asked(other: BorrowedFd<'_>, pid: i32, maps: &[(&str, String)]) -> ! {
    let mut byte = [0];
    if read(other, &mut byte) == Ok(1) {
        let written = maps.iter().try_for_each(|(name, map)| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = openat(CWD, format!("/proc/{pid}/{name}"), flags, Mode::empty())?;
            write_all(file.as_fd(), map.as_bytes())
        });
        let errno = written.err().map_or(0, |errno| u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX));
        let _ = write_all(other, &[errno]);
    }
    sys::exit_now(0)
}

/// The map of a child namespace of one with the map `own`: every id maps to itself, but for the ids `extra` (id inside,
/// id outside).
fn map_with_extra(own: &str, extra: &[(u32, u32)]) -> String {
    let mut taken: Vec<u32> = extra.iter().flat_map(|(inside, outside)| [*inside, *outside]).collect();
    taken.sort_unstable();
    taken.dedup();
    let mut map = String::new();
    for line in own.lines() {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (Some(Ok(mut first)), Some(_), Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next()) else {
            continue;
        };
        let end = first.saturating_add(count);
        for id in &taken {
            if !(first..end).contains(id) {
                continue;
            }
            if *id > first {
                let _ = writeln!(map, "{first} {first} {}", id - first);
            }
            first = id + 1;
        }
        if first < end {
            let _ = writeln!(map, "{first} {first} {}", end - first);
        }
    }
    for (inside, outside) in extra {
        let _ = writeln!(map, "{inside} {outside} 1");
    }
    map
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_map_with_extra_ids_maps_each_id_once() {
        let own = "0 1000 1\n1 100000 65536\n";
        assert_eq!(super::map_with_extra(own, &[]), "0 0 1\n1 1 65536\n");
        let extra = [(1_000_660_000, 65_519), (65_519, 65_518), (9, 65_536)];
        let want = "0 0 1\n1 1 8\n10 10 65508\n65520 65520 16\n1000660000 65519 1\n65519 65518 1\n9 65536 1\n";
        assert_eq!(super::map_with_extra(own, &extra), want);
    }
}
