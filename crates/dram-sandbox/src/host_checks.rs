//! Checks of what this kernel allows this user: the table that `dram doctor` prints.

use crate::overlay::OverlayMount;
use crate::sys::{self, CloneResult};
use crate::userns::{IdSource, is_root_with_sys_admin};
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
pub enum HostCheckStatus {
    /// It works.
    Ok,
    /// It works with limitations.
    Degraded,
    /// It does not work, and commands cannot be run.
    Missing,
}

/// One check of the host: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCheck {
    /// The feature that is checked.
    pub name: &'static str,
    /// The result.
    pub status: HostCheckStatus,
    /// The cause, or the limits of the feature, as a sentence.
    pub detail: String,
    /// How to fix it, if there is anything to fix.
    pub help: Option<String>,
}

/// The result of all checks.
#[derive(Debug, Clone)]
pub struct HostChecks {
    checks: Vec<HostCheck>,
    command_support: CommandSupport,
}

/// The ids with which commands can run on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandSupport {
    /// As root of the machine, or of the container.
    AsRoot,
    /// As root of a user namespace with this many ids.
    UserNamespace(u64),
    /// As root of a user namespace with a single id, which stands for all others.
    SingleId,
    /// Commands cannot be run.
    Unsupported,
}

/// The error of a host that cannot run commands.
#[derive(Debug, Clone, thiserror::Error)]
#[error("this machine cannot run isolated commands: {}", describe_checks(.failed_checks))]
pub struct MissingHostSupport {
    /// The failed checks.
    pub failed_checks: Vec<HostCheck>,
}

fn describe_checks(rows: &[HostCheck]) -> String {
    rows.iter().map(|row| format!("{}: {}", row.name, row.detail)).collect::<Vec<_>>().join("; ")
}

impl HostChecks {
    /// Runs all checks in processes of their own; nothing of it lasts. Takes a few milliseconds.
    pub fn probe() -> HostChecks {
        let mut checks = vec![HostCheck::check_kernel(), HostCheck::check_seccomp()];
        let mut command_support = CommandSupport::AsRoot;
        let mut are_namespaces = true;
        if !is_root_with_sys_admin() {
            let namespaces = HostCheck::check_user_namespaces();
            are_namespaces = namespaces.status == HostCheckStatus::Ok;
            let (ids, count) = HostCheck::check_subordinate_ids();
            command_support = if count == 1 { CommandSupport::SingleId } else { CommandSupport::UserNamespace(count) };
            checks.extend([namespaces, ids]);
        }
        // Without a user namespace to run in, these checks could only fail for the same reason.
        if are_namespaces {
            checks.extend([
                HostCheck::check_overlayfs(),
                HostCheck::check_procfs(),
                HostCheck::check_network_namespaces(),
            ]);
        }
        if checks.iter().any(|row| row.status == HostCheckStatus::Missing) {
            command_support = CommandSupport::Unsupported;
        }
        HostChecks { checks, command_support }
    }

    /// The ids with which commands can run.
    pub fn command_support(&self) -> &CommandSupport {
        &self.command_support
    }

    /// Checks the user namespace that this process has entered, as far as that takes no time. Returns an error if a
    /// container hides parts of `/proc`: the kernel then allows no new procfs mount.
    pub fn check_entered_namespace() -> Option<MissingHostSupport> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let is_partly_hidden =
            mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with("/proc/")));
        if is_partly_hidden { HostCheck::check_procfs().into_missing_support() } else { None }
    }

    /// All checks.
    pub fn checks(&self) -> &[HostCheck] {
        &self.checks
    }

    /// The failed checks that keep commands from running, if there are any.
    pub fn missing_support(&self) -> Option<MissingHostSupport> {
        let rows: Vec<HostCheck> =
            self.checks.iter().filter(|row| row.status == HostCheckStatus::Missing).cloned().collect();
        if rows.is_empty() { None } else { Some(MissingHostSupport { failed_checks: rows }) }
    }
}

impl HostCheck {
    /// The error of this check, if it failed.
    pub(crate) fn into_missing_support(self) -> Option<MissingHostSupport> {
        (self.status == HostCheckStatus::Missing).then(|| MissingHostSupport { failed_checks: vec![self] })
    }

    fn new(name: &'static str, status: HostCheckStatus, found: impl Into<String>, help: Option<&str>) -> HostCheck {
        HostCheck { name, status, detail: found.into(), help: help.map(str::to_owned) }
    }

    /// The newest system call that is required is `mount_setattr`, of Linux 5.12.
    fn check_kernel() -> HostCheck {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0u32), numbers.next().unwrap_or(0u32));
        let safe_lookup = openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT);
        if version < (5, 12) {
            return HostCheck::new(
                "kernel",
                HostCheckStatus::Missing,
                format!("Linux {release}"),
                Some("use Linux 5.12 or newer"),
            );
        }
        match safe_lookup {
            Ok(_) => HostCheck::new("kernel", HostCheckStatus::Ok, format!("Linux {release}"), None),
            Err(error) => HostCheck::new(
                "kernel",
                HostCheckStatus::Missing,
                format!("Linux {release}, but openat2 fails: {error}"),
                Some("if this is a container, run it with a newer system call filter"),
            ),
        }
    }

    fn check_seccomp() -> HostCheck {
        match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
            Ok(actions) if actions.contains("errno") => {
                HostCheck::new("system call filter", HostCheckStatus::Ok, "seccomp with filters", None)
            }
            _ => HostCheck::new(
                "system call filter",
                HostCheckStatus::Missing,
                "the kernel has no seccomp filters",
                Some("use a kernel with CONFIG_SECCOMP_FILTER"),
            ),
        }
    }

    /// Creates a user namespace; if that fails, looks for the setting that forbids it.
    pub(crate) fn check_user_namespaces() -> HostCheck {
        const NAME: &str = "user namespaces";
        let Some(errno) = run_in_child(enter_user_namespace_with_single_id) else {
            return HostCheck::new(NAME, HostCheckStatus::Ok, "can be made", None);
        };
        let (found, help) = match () {
            () if read_sysctl("kernel/unprivileged_userns_clone") == Some(0) => (
                "forbidden by kernel.unprivileged_userns_clone = 0".to_owned(),
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            () if read_sysctl("user/max_user_namespaces") == Some(0) => {
                ("forbidden by user.max_user_namespaces = 0".to_owned(), "sysctl -w user.max_user_namespaces=15000")
            }
            () if errno == Errno::NOSPC => (
                "there are as many as user.max_user_namespaces allows, or they are nested too deep".to_owned(),
                "raise user.max_user_namespaces",
            ),
            () if apparmor_restricts_user_namespaces() => (
                format!("useless ({errno}), as kernel.apparmor_restrict_unprivileged_userns = 1"),
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give dram an AppArmor profile with `userns`",
            ),
            () if has_seccomp_filter() => (
                format!("the system call filter of this container forbids unshare(CLONE_NEWUSER): {errno}"),
                "start the container with a filter that allows `unshare` and `mount`, such as \
                 `--security-opt seccomp=unconfined`, or build without RUN",
            ),
            () => (
                format!("the kernel refuses unshare(CLONE_NEWUSER): {errno}"),
                "run dram as root of the machine, or build without RUN",
            ),
        };
        HostCheck::new(NAME, HostCheckStatus::Missing, found, Some(help))
    }

    /// Looks for subordinate ids. Returns the check and the number of user ids.
    fn check_subordinate_ids() -> (HostCheck, u64) {
        const NAME: &str = "ids for other users";
        let uid = geteuid().as_raw();
        let source = IdSource::find(uid);
        match &source {
            Ok(source) => {
                let count = source.count();
                let from = if uid == 0 { "this root's own" } else { "with the subordinate ids of /etc/subuid" };
                (HostCheck::new(NAME, HostCheckStatus::Ok, format!("{count} user ids, {from}"), None), count)
            }
            Err(why) => {
                let first = crate::userns::free_subordinate_ids();
                let help = format!(
                    "install the package `uidmap` (or `shadow-utils`), and add the line `{uid}:{first}:65536` to \
                     /etc/subuid and to /etc/subgid"
                );
                let found = format!("only a single id: {why}");
                (HostCheck { name: NAME, status: HostCheckStatus::Degraded, detail: found, help: Some(help) }, 1)
            }
        }
    }

    /// Mounts an overlay in a mount namespace that ends with the check.
    fn check_overlayfs() -> HostCheck {
        const NAME: &str = "overlay file system";
        match run_in_child(|| enter_mount_namespace().and_then(|()| mount_test_overlay())) {
            None => HostCheck::new(NAME, HostCheckStatus::Ok, "can be mounted", None),
            Some(Errno::NODEV) => {
                HostCheck::new(NAME, HostCheckStatus::Missing, "the kernel does not have it", Some("modprobe overlay"))
            }
            Some(errno) if apparmor_restricts_user_namespaces() => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("refused ({errno}), as kernel.apparmor_restrict_unprivileged_userns = 1"),
                Some(
                    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give dram an AppArmor profile with `userns`",
                ),
            ),
            Some(errno) if has_seccomp_filter() => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("the system call filter of this container forbids to mount: {errno}"),
                Some(
                    "start the container with a filter that allows `mount`, such as `--security-opt seccomp=unconfined`",
                ),
            ),
            Some(errno) => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("cannot be mounted: {errno}"),
                Some("root needs CAP_SYS_ADMIN; others need Linux 5.11 or newer"),
            ),
        }
    }

    /// Mounts a new procfs. The kernel refuses it where parts of the existing one are hidden, as a container engine
    /// does.
    fn check_procfs() -> HostCheck {
        const NAME: &str = "proc file system";
        let attempted = run_in_child(|| {
            enter_mount_namespace()?;
            sys::unshare(UnshareFlags::NEWPID)?;
            // procfs belongs to the PID namespace of the process that mounts it, so a child mounts it.
            run_in_child(mount_test_procfs).map_or(Ok(()), Err)
        });
        match attempted {
            None => HostCheck::new(NAME, HostCheckStatus::Ok, "can be mounted", None),
            Some(errno) => HostCheck::new(
                NAME,
                HostCheckStatus::Missing,
                format!("cannot be mounted: {errno}; parts of /proc are hidden here, as in a container"),
                Some(
                    "start the container with `--security-opt systempaths=unconfined` (Kubernetes: `procMount: Unmasked`)",
                ),
            ),
        }
    }

    fn check_network_namespaces() -> HostCheck {
        const NAME: &str = "network namespaces";
        match run_in_child(|| enter_mount_namespace().and_then(|()| sys::unshare(UnshareFlags::NEWNET))) {
            None => HostCheck::new(NAME, HostCheckStatus::Ok, "can be made", None),
            Some(errno) => HostCheck::new(
                NAME,
                HostCheckStatus::Degraded,
                format!("the kernel refuses: {errno}; commands cannot be cut off from the network"),
                Some("raise user.max_net_namespaces"),
            ),
        }
    }
}

/// Enters a new mount namespace, through a user namespace if this process may not create one directly.
fn enter_mount_namespace() -> Result<(), Errno> {
    if !is_root_with_sys_admin() {
        enter_user_namespace_with_single_id()?;
    }
    sys::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

/// Enters a user namespace with a single id, and checks that it grants capabilities.
fn enter_user_namespace_with_single_id() -> Result<(), Errno> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER)?;
    let write =
        |file: &str, text: String| fs::write(file, text).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    sys::unshare(UnshareFlags::NEWUTS)
}

fn mount_test_procfs() -> Result<(), Errno> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
}

/// Returns true if this process runs under a seccomp filter.
fn has_seccomp_filter() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

fn apparmor_restricts_user_namespaces() -> bool {
    read_sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some(1)
}

/// Mounts a read-only overlay of two directories in a new tmpfs. A directory of the host will not do: the kernel
/// refuses an overlay that would uncover files below another mount.
fn mount_test_overlay() -> Result<(), Errno> {
    let place =
        ["/tmp", "/usr", "/etc"].into_iter().map(Path::new).find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    mount("tmpfs", place, "tmpfs", MountFlags::empty(), None)?;
    let (first, second) = (place.join("first"), place.join("second"));
    for directory in [&first, &second] {
        mkdir(directory, Mode::RWXU)?;
    }
    let user_marks = !crate::ids::in_initial_namespace();
    let overlay = OverlayMount {
        lowers: vec![first.as_os_str().as_encoded_bytes(), second.as_os_str().as_encoded_bytes()],
        writable: None,
        userxattr: user_marks,
        allow_devices: false,
        anchor_dir: first.as_os_str().as_encoded_bytes(),
    };
    overlay.mount().map(drop).map_err(|error| error.errno())
}

/// Runs `what` in a child process. Returns the error it ended with.
fn run_in_child(what: impl FnOnce() -> Result<(), Errno>) -> Option<Errno> {
    match sys::clone_process(0) {
        Err(error) => Some(error),
        Ok(CloneResult::Child) => {
            let code = what().err().map_or(0, Errno::raw_os_error);
            // The error numbers that matter here fit into an exit code.
            sys::exit_now(if code > 255 { 255 } else { code })
        }
        Ok(CloneResult::Parent(child)) => {
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
fn read_sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}
