//! Checks of what this kernel allows this user: the table that `dram doctor` prints.

use crate::overlay::Overlay;
use crate::sys::{self, Cloned};
use crate::userns::{Source, is_mighty_root};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdir, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create, fsmount, fsopen,
    mount, mount_change,
};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, getegid, geteuid, waitid};
use rustix::thread::UnshareFlags;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Ok,
    /// It works with limitations.
    Degraded,
    /// It does not work, and commands cannot be run.
    Missing,
}

/// One check of the host: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// The feature that is checked.
    pub name: &'static str,
    /// The result.
    pub state: State,
    /// The cause, or the limits of the feature, as a sentence.
    pub found: String,
    /// How to fix it, if there is anything to fix.
    pub help: Option<String>,
}

/// The result of all checks.
#[derive(Debug, Clone)]
pub struct Abilities {
    rows: Vec<Ability>,
    commands: Commands,
}

/// The ids with which commands can run on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commands {
    /// As root of the machine, or of the container.
    AsRoot,
    /// As root of a user namespace with this many ids.
    WithIds(u64),
    /// As root of a user namespace with a single id, which stands for all others.
    WithOneId,
    /// Commands cannot be run.
    Not,
}

/// The error of a host that cannot run commands.
#[derive(Debug, Clone, thiserror::Error)]
#[error("this machine cannot run isolated commands: {}", sentence(.rows))]
pub struct Lack {
    /// The failed checks.
    pub rows: Vec<Ability>,
}

fn sentence(rows: &[Ability]) -> String {
    rows.iter().map(|row| format!("{}: {}", row.name, row.found)).collect::<Vec<_>>().join("; ")
}

impl Abilities {
    /// Runs all checks in processes of their own; nothing of it lasts. Takes a few milliseconds.
    pub fn probe() -> Abilities {
        let mut rows = vec![Ability::kernel(), Ability::filter()];
        let mut commands = Commands::AsRoot;
        let mut are_namespaces = true;
        if !is_mighty_root() {
            let namespaces = Ability::user_namespaces();
            are_namespaces = namespaces.state == State::Ok;
            let (ids, count) = Ability::ids();
            commands = if count == 1 { Commands::WithOneId } else { Commands::WithIds(count) };
            rows.extend([namespaces, ids]);
        }
        // Without a user namespace to run in, these checks could only fail for the same reason.
        if are_namespaces {
            rows.extend([Ability::overlay(), Ability::proc(), Ability::network_namespaces()]);
        }
        if rows.iter().any(|row| row.state == State::Missing) {
            commands = Commands::Not;
        }
        Abilities { rows, commands }
    }

    /// The ids with which commands can run.
    pub fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Checks the user namespace that this process has entered, as far as that takes no time. Returns an error if a
    /// container hides parts of `/proc`: the kernel then allows no new procfs mount.
    pub fn lack_inside() -> Option<Lack> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let is_partly_hidden =
            mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with("/proc/")));
        if is_partly_hidden { Ability::proc().missing() } else { None }
    }

    /// All checks.
    pub fn rows(&self) -> &[Ability] {
        &self.rows
    }

    /// The failed checks that keep commands from running, if there are any.
    pub fn lack(&self) -> Option<Lack> {
        let rows: Vec<Ability> = self.rows.iter().filter(|row| row.state == State::Missing).cloned().collect();
        if rows.is_empty() { None } else { Some(Lack { rows }) }
    }
}

impl Ability {
    /// The error of this check, if it failed.
    pub(crate) fn missing(self) -> Option<Lack> {
        (self.state == State::Missing).then(|| Lack { rows: vec![self] })
    }

    fn new(name: &'static str, state: State, found: impl Into<String>, help: Option<&str>) -> Ability {
        Ability { name, state, found: found.into(), help: help.map(str::to_owned) }
    }

    /// The newest system call that is required is `mount_setattr`, of Linux 5.12.
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

    /// Creates a user namespace; if that fails, looks for the setting that forbids it.
    pub(crate) fn user_namespaces() -> Ability {
        const NAME: &str = "user namespaces";
        let Some(errno) = attempt(own_user_namespace) else {
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
            () if errno == Errno::NOSPC => (
                "there are as many as user.max_user_namespaces allows, or they are nested too deep".to_owned(),
                "raise user.max_user_namespaces",
            ),
            () if restricts_unprivileged() => (
                format!("useless ({errno}), as kernel.apparmor_restrict_unprivileged_userns = 1"),
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give dram an AppArmor profile with `userns`",
            ),
            () if is_filtered() => (
                format!("the system call filter of this container forbids unshare(CLONE_NEWUSER): {errno}"),
                "start the container with a filter that allows `unshare` and `mount`, such as \
                 `--security-opt seccomp=unconfined`, or build without RUN",
            ),
            () => (
                format!("the kernel refuses unshare(CLONE_NEWUSER): {errno}"),
                "run dram as root of the machine, or build without RUN",
            ),
        };
        Ability::new(NAME, State::Missing, found, Some(help))
    }

    /// Looks for subordinate ids. Returns the check and the number of user ids.
    fn ids() -> (Ability, u64) {
        const NAME: &str = "ids for other users";
        let uid = geteuid().as_raw();
        let source = Source::find(uid);
        match &source {
            Ok(source) => {
                let count = source.count();
                let from = if uid == 0 { "this root's own" } else { "with those lent in /etc/subuid" };
                (Ability::new(NAME, State::Ok, format!("{count} user ids, {from}"), None), count)
            }
            Err(why) => {
                let help = format!(
                    "install the package `uidmap` (or `shadow-utils`), and add the line `{uid}:100000:65536` to \
                     /etc/subuid and to /etc/subgid (another range if that one is taken)"
                );
                let found = format!("one id does for all: {why}");
                (Ability { name: NAME, state: State::Degraded, found, help: Some(help) }, 1)
            }
        }
    }

    /// Mounts an overlay in a mount namespace that ends with the check.
    fn overlay() -> Ability {
        const NAME: &str = "overlay file system";
        match attempt(|| own_mounts().and_then(|()| try_overlay())) {
            None => Ability::new(NAME, State::Ok, "can be mounted", None),
            Some(Errno::NODEV) => {
                Ability::new(NAME, State::Missing, "the kernel does not have it", Some("modprobe overlay"))
            }
            Some(errno) if restricts_unprivileged() => Ability::new(
                NAME,
                State::Missing,
                format!("refused ({errno}), as kernel.apparmor_restrict_unprivileged_userns = 1"),
                Some(
                    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give dram an AppArmor profile with `userns`",
                ),
            ),
            Some(errno) if is_filtered() => Ability::new(
                NAME,
                State::Missing,
                format!("the system call filter of this container forbids to mount: {errno}"),
                Some(
                    "start the container with a filter that allows `mount`, such as `--security-opt seccomp=unconfined`",
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

    /// Mounts a new procfs. The kernel refuses it where parts of the existing one are hidden, as a container engine
    /// does.
    fn proc() -> Ability {
        const NAME: &str = "proc file system";
        let attempted = attempt(|| {
            own_mounts()?;
            sys::unshare(UnshareFlags::NEWPID)?;
            // procfs belongs to the PID namespace of the process that mounts it, so a child mounts it.
            attempt(try_proc).map_or(Ok(()), Err)
        });
        match attempted {
            None => Ability::new(NAME, State::Ok, "can be mounted", None),
            Some(errno) => Ability::new(
                NAME,
                State::Missing,
                format!("cannot be mounted: {errno}; parts of /proc are hidden here, as in a container"),
                Some(
                    "start the container with `--security-opt systempaths=unconfined` (Kubernetes: `procMount: Unmasked`)",
                ),
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

/// Enters a new mount namespace, through a user namespace if this process may not create one directly.
fn own_mounts() -> Result<(), Errno> {
    if !is_mighty_root() {
        own_user_namespace()?;
    }
    sys::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

/// Enters a user namespace with a single id, and checks that it grants capabilities.
fn own_user_namespace() -> Result<(), Errno> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER)?;
    let write =
        |file: &str, text: String| fs::write(file, text).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    sys::unshare(UnshareFlags::NEWUTS)
}

fn try_proc() -> Result<(), Errno> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
}

/// Returns true if this process runs under a seccomp filter.
fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

fn restricts_unprivileged() -> bool {
    setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1)
}

/// Mounts a read-only overlay of two directories in a new tmpfs. A directory of the host will not do: the kernel
/// refuses an overlay that would uncover files below another mount.
fn try_overlay() -> Result<(), Errno> {
    let place =
        ["/tmp", "/usr", "/etc"].into_iter().map(Path::new).find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    mount("tmpfs", place, "tmpfs", MountFlags::empty(), None)?;
    let (first, second) = (place.join("first"), place.join("second"));
    for directory in [&first, &second] {
        mkdir(directory, Mode::RWXU)?;
    }
    let user_marks = !crate::ids::in_initial_namespace();
    let overlay =
        Overlay { lowers: vec![&first, &second], writable: None, user_marks, devices: false, foothold: &first };
    overlay.mount().map(drop).map_err(|error| error.errno())
}

/// Runs `what` in a child process. Returns the error it ended with.
fn attempt(what: impl FnOnce() -> Result<(), Errno>) -> Option<Errno> {
    match sys::clone_process(0) {
        Err(error) => Some(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        Ok(Cloned::Child) => {
            let code = what().err().map_or(0, Errno::raw_os_error);
            // The error numbers that matter here fit into an exit code.
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

/// Reads a number below `/proc/sys`, if the kernel has it.
fn setting(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}
