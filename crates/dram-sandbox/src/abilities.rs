//! What this kernel and this user allow: the table behind `dram doctor`.

use crate::overlay::Overlay;
use crate::sys::{self, Cloned};
use crate::userns::Lent;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, getegid, geteuid, waitid};
use rustix::thread::UnshareFlags;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

/// How well something can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Something works less well.
    Degraded,
    /// Commands cannot be run.
    Missing,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// What is looked at.
    pub name: &'static str,
    /// How well it can be done.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it, if there is something to do.
    pub help: Option<String>,
}

/// What can be done here.
#[derive(Debug, Clone)]
pub struct Abilities {
    rows: Vec<Ability>,
}

/// What keeps commands from being run here.
#[derive(Debug, Clone, thiserror::Error)]
#[error("this machine cannot run isolated commands: {}", sentence(.rows))]
pub struct Lack {
    /// The rows that say so.
    pub rows: Vec<Ability>,
}

fn sentence(rows: &[Ability]) -> String {
    rows.iter().map(|row| format!("{}: {}", row.name, row.found)).collect::<Vec<_>>().join("; ")
}

impl Abilities {
    /// Looks and tries; nothing of it lasts. Takes a few milliseconds.
    pub fn probe() -> Abilities {
        let root = geteuid().is_root();
        let mut rows = vec![Ability::kernel(), Ability::filter()];
        if !root {
            rows.extend([Ability::user_namespaces(), Ability::lent_ids()]);
        }
        rows.extend([Ability::overlay(), Ability::network_namespaces()]);
        Abilities { rows }
    }

    /// The table.
    pub fn rows(&self) -> &[Ability] {
        &self.rows
    }

    /// The rows that keep commands from being run, if there are any.
    pub fn lack(&self) -> Option<Lack> {
        let rows: Vec<Ability> = self.rows.iter().filter(|row| row.state == State::Missing).cloned().collect();
        if rows.is_empty() { None } else { Some(Lack { rows }) }
    }
}

impl Ability {
    fn new(name: &'static str, state: State, found: impl Into<String>, help: Option<&str>) -> Ability {
        Ability { name, state, found: found.into(), help: help.map(str::to_owned) }
    }

    /// The youngest call that everything depends on is `mount_setattr` of Linux 5.12.
    fn kernel() -> Ability {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0u32), numbers.next().unwrap_or(0u32));
        let safe_lookup = openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT);
        if version < (5, 12) {
            return Ability::new("kernel", State::Missing, format!("Linux {release}"), Some("use Linux 5.12 or newer"));
        }
        match safe_lookup {
            Ok(_) => Ability::new("kernel", State::Ok, format!("Linux {release}"), None),
            Err(error) => Ability::new(
                "kernel",
                State::Missing,
                format!("Linux {release}, but openat2 fails: {error}"),
                Some("if this is a container, run it with a newer system call filter"),
            ),
        }
    }

    fn filter() -> Ability {
        match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
            Ok(actions) if actions.contains("errno") => {
                Ability::new("system call filter", State::Ok, "seccomp with filters", None)
            }
            _ => Ability::new(
                "system call filter",
                State::Missing,
                "the kernel has no seccomp filters",
                Some("use a kernel with CONFIG_SECCOMP_FILTER"),
            ),
        }
    }

    /// Tries one; if that fails, looks for the switch that forbids it.
    pub(crate) fn user_namespaces() -> Ability {
        const NAME: &str = "user namespaces";
        let Some(errno) = attempt(|| sys::unshare(UnshareFlags::NEWUSER)) else {
            return Ability::new(NAME, State::Ok, "can be made", None);
        };
        let (found, help) = match () {
            () if setting("kernel/unprivileged_userns_clone") == Some(0) => (
                "forbidden by kernel.unprivileged_userns_clone = 0".to_owned(),
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            () if setting("user/max_user_namespaces") == Some(0) => {
                ("forbidden by user.max_user_namespaces = 0".to_owned(), "sysctl -w user.max_user_namespaces=15000")
            }
            () => (
                format!("the kernel refuses: {errno}"),
                "in a container, allow user namespaces in its system call filter (or run dram as root)",
            ),
        };
        Ability::new(NAME, State::Missing, found, Some(help))
    }

    fn lent_ids() -> Ability {
        const NAME: &str = "ids for other users";
        let uid = geteuid().as_raw();
        match Lent::find(uid) {
            Ok(lent) => Ability::new(NAME, State::Ok, format!("{} user ids from /etc/subuid", lent.users.count), None),
            Err(why) => Ability {
                name: NAME,
                // One id alone could be mapped, and every image with two owners would come out wrong.
                state: State::Missing,
                found: why.to_string(),
                help: Some(format!(
                    "install the package `uidmap` (or `shadow-utils`), and add the line `{uid}:100000:65536` to \
                     /etc/subuid and to /etc/subgid (another range if that one is taken)"
                )),
            },
        }
    }

    /// Tries one, in namespaces that end with the attempt.
    fn overlay() -> Ability {
        const NAME: &str = "overlay file system";
        match attempt(|| own_mounts().and_then(|()| try_overlay())) {
            None => Ability::new(NAME, State::Ok, "can be mounted", None),
            Some(Errno::NODEV) => {
                Ability::new(NAME, State::Missing, "the kernel does not have it", Some("modprobe overlay"))
            }
            Some(errno) if setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1) => Ability::new(
                NAME,
                State::Missing,
                format!("refused ({errno}), as kernel.apparmor_restrict_unprivileged_userns = 1"),
                Some(
                    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give dram an AppArmor profile with `userns`",
                ),
            ),
            Some(errno) => Ability::new(
                NAME,
                State::Missing,
                format!("cannot be mounted: {errno}"),
                Some("root needs CAP_SYS_ADMIN; others need Linux 5.11 or newer"),
            ),
        }
    }

    fn network_namespaces() -> Ability {
        const NAME: &str = "network namespaces";
        match attempt(|| own_mounts().and_then(|()| sys::unshare(UnshareFlags::NEWNET))) {
            None => Ability::new(NAME, State::Ok, "can be made", None),
            Some(errno) => Ability::new(
                NAME,
                State::Degraded,
                format!("the kernel refuses: {errno}; commands cannot be cut off from the network"),
                Some("raise user.max_net_namespaces"),
            ),
        }
    }
}

/// Mounts of its own for this process, by way of a user namespace for who is not root.
fn own_mounts() -> Result<(), Errno> {
    let cut_off = || mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC);
    if geteuid().is_root() {
        sys::unshare(UnshareFlags::NEWNS)?;
        return cut_off();
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    let write =
        |file: &str, text: String| fs::write(file, text).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    cut_off()
}

/// A read-only overlay of two directories that every machine has.
fn try_overlay() -> Result<(), Errno> {
    let (first, second) = (Path::new("/usr"), Path::new("/etc"));
    let user_marks = !crate::ids::in_initial_namespace();
    let overlay = Overlay { lowers: vec![first, second], writable: None, user_marks, devices: false, foothold: first };
    overlay.mount().map(drop).map_err(|error| error.errno())
}

/// Runs `what` in a process of its own. Returns the error it ended with.
fn attempt(what: impl FnOnce() -> Result<(), Errno>) -> Option<Errno> {
    match sys::clone_process(0) {
        Err(error) => Some(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        Ok(Cloned::Child) => {
            let code = what().err().map_or(0, Errno::raw_os_error);
            // Error numbers that matter here fit into an exit code.
            sys::exit_now(if code > 255 { 255 } else { code })
        }
        Ok(Cloned::Parent(child)) => {
            let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
            match status.ok().flatten().as_ref().and_then(WaitIdStatus::exit_status) {
                Some(0) => None,
                Some(code) => Some(Errno::from_raw_os_error(code)),
                None => Some(Errno::IO),
            }
        }
    }
}

/// A number below `/proc/sys`, if the kernel has it.
fn setting(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}
