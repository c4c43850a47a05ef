//! Isolated execution of a command: namespaces, mounts, user and group ids, a process.
//!
//! A [`Jail`] describes a command and its root file system; [`Jail::spawn`] runs it and returns a [`RunningJail`] to
//! control it. It works the same for root and, after [`enter_user_namespace`], without root.
//!
//! The caller executes its own program again as a small *helper*, so nothing is forked in a process with threads or
//! much memory. The helper clones a process into new namespaces. That process makes the mounts, drops its privileges
//! and becomes the command, as process 1. Needs Linux 5.12 or newer.

mod bind_sources;
mod dev;
mod error;
mod error_report;
mod exec;
mod helper;
mod host_checks;
mod ids;
mod init;
mod ipc;
mod jail;
mod limits;
mod mount_points;
mod mount_spec;
mod mounts;
mod overlay;
mod ownership;
mod pending_mounts;
mod running;
mod sealed_helper;
mod seccomp;
mod sys;
mod syscalls;
mod tree_view;
mod userns;
mod wire;

pub use error::SandboxError;
pub use exec::program_interpreter;
pub use helper::become_helper_if_asked;
pub use host_checks::{CommandSupport, HostCheck, HostCheckStatus, HostChecks, MissingHostSupport};
pub use jail::{Jail, JailNetwork, JailRoot, UserIds};
pub use limits::{ResourceLimit, RlimitKind};
pub use mount_spec::{BindMount, BindSource, JailMount, MemoryFile, ScratchDirs, TmpfsMount};
pub use running::{CommandExit, CommandUsage, JailStdio, RunningJail, SignalHandle};
pub use userns::{ProcessPrivilege, enter_user_namespace};
