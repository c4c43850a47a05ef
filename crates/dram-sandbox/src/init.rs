//! Process 1 of the jail, until it becomes the command.

use crate::error::{SandboxError, lossy_text};
use crate::exec;
use crate::ids;
use crate::ipc::{self, HelperEvent};
use crate::jail::{Jail, JailNetwork, UserIds};
use crate::limits;
use crate::mount_points::open_in_root;
use crate::mounts::{self, MountedRoot};
use crate::prelude::*;
use crate::seccomp::SeccompIdMode;
use crate::{seccomp, sys};
use core::convert::Infallible;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{
    Signal, chdir, chroot, fchdir, getcwd, ioctl_tiocsctty, pivot_root, set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::set_no_new_privs;

/// Builds the jail around this process and executes the command. Returns only if that failed.
pub(crate) fn run_init(jail: &Jail, helper: BorrowedFd<'_>, control: BorrowedFd<'_>) -> SandboxError {
    match try_run(jail, helper, control) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_run(jail: &Jail, helper: BorrowedFd<'_>, control: BorrowedFd<'_>) -> Result<Infallible, SandboxError> {
    die_with_helper(helper)?;
    umask(Mode::empty());
    let MountedRoot { root, namespace_root, terminal } = mounts::mount_all(jail, ids::in_initial_namespace())?;
    rustix::system::sethostname(jail.hostname.as_bytes()).map_err(|e| SandboxError::process("set the host name", e))?;
    if jail.network == JailNetwork::None {
        sys::loopback_up().map_err(|e| SandboxError::process("bring the loopback device up", e))?;
    }
    pivot_to_root(&root, namespace_root.as_ref())?;
    // Fails only for a session leader, which a new process never is.
    let _ = setsid();
    if let Some(terminal) = terminal {
        ipc::send(control, &HelperEvent::Terminal, Some(terminal.outer.as_fd()))
            .map_err(|e| SandboxError::helper_connection("pass the terminal to the caller of", e))?;
        attach_terminal(&terminal.inner).map_err(|e| SandboxError::process("take over the terminal", e))?;
    }
    enter_working_directory(&jail.cwd)?;
    umask(Mode::from_raw_mode(0o022));
    limits::apply_limits(&jail.limits)?;
    drop_privileges(jail, helper)?;
    // Changes of ids and capabilities have reset it.
    die_with_helper(helper)?;
    sys::close_on_exec_from(3).map_err(|e| SandboxError::process("close inherited file descriptors before", e))?;
    sys::reset_signals();
    Err(exec::execute_command(jail))
}

/// Makes the kernel kill this process when the helper dies, also if that has happened already.
fn die_with_helper(helper: BorrowedFd<'_>) -> Result<(), SandboxError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| SandboxError::process("tie the command to its helper", e))?;
    let mut other_end = [PollFd::from_borrowed_fd(helper, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut other_end, Some(&at_once)) {
        Ok(0) => Ok(()),
        _ => sys::exit_now(1),
    }
}

/// Makes `root` the root directory, and unmounts the old one with all its mounts. `namespace_root` is the root of the mount
/// namespace if the root directory is no mount point.
fn pivot_to_root(root: &OwnedFd, namespace_root: Option<&OwnedFd>) -> Result<(), SandboxError> {
    let failed = |e: Errno| SandboxError::mount("make the new root of", "/", e);
    if let Some(above) = namespace_root {
        fchdir(above).and_then(|()| chroot(".")).map_err(failed)?;
    }
    fchdir(root).map_err(failed)?;
    // `pivot_root` stacks the old root on the new one, at the same place, where it is unmounted.
    pivot_root(".", ".").map_err(failed)?;
    unmount(".", UnmountFlags::DETACH).map_err(failed)?;
    chdir("/").map_err(failed)
}

fn attach_terminal(terminal: &OwnedFd) -> Result<(), Errno> {
    ioctl_tiocsctty(terminal)?;
    rustix::stdio::dup2_stdin(terminal)?;
    rustix::stdio::dup2_stdout(terminal)?;
    rustix::stdio::dup2_stderr(terminal)
}

/// Enters the working directory without following the magic links of `/proc`, which can lead out of the root, and
/// checks the path that the kernel reports afterwards.
fn enter_working_directory(path: &[u8]) -> Result<(), SandboxError> {
    let failed = |e: Errno| SandboxError::WorkingDirectory { path: lossy_text(path), source: e.into() };
    let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let directory = open_in_root(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
    fchdir(&directory).map_err(failed)?;
    match getcwd(Vec::new()) {
        Ok(place) if place.to_bytes().starts_with(b"/") => Ok(()),
        _ => Err(SandboxError::WorkingDirectoryEscapes { path: lossy_text(path) }),
    }
}

/// Drops privileges, unless the command is insecure. Without `no_new_privs` the filter needs a capability that the
/// change of ids drops, so the filter is loaded first; with it, the filter is loaded last. With a single id, the
/// command always runs as root.
fn drop_privileges(jail: &Jail, helper: BorrowedFd<'_>) -> Result<(), SandboxError> {
    if jail.insecure {
        return ids::switch_user_keeping_capabilities(&jail.user);
    }
    let own = ids::seccomp_id_mode();
    ids::drop_bounding_capabilities()?;
    if !jail.no_new_privs {
        load_seccomp(jail, own, helper)?;
    }
    match own {
        SeccompIdMode::ManyIds => ids::switch_user(&jail.user)?,
        SeccompIdMode::SingleId | SeccompIdMode::SingleIdRecorded => ids::switch_user(&UserIds::default())?,
    }
    if jail.no_new_privs {
        set_no_new_privs(true).map_err(|e| SandboxError::process("forbid new privileges", e))?;
        load_seccomp(jail, own, helper)?;
    }
    Ok(())
}

/// Loads the seccomp filter. If owners are recorded, the helper gets its notifications.
fn load_seccomp(jail: &Jail, own: SeccompIdMode, helper: BorrowedFd<'_>) -> Result<(), SandboxError> {
    if own == SeccompIdMode::ManyIds || jail.owner_attribute.is_none() {
        return seccomp::load_filter(own);
    }
    let Some(listener) = seccomp::load_notifying_filter()? else { return Ok(()) };
    ipc::send(helper, &HelperEvent::OwnerNotifications, Some(listener.as_fd()))
        .map_err(|e| SandboxError::helper_connection("pass the filter to", e))
}
