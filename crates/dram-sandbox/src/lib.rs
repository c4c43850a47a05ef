//! Isolated execution of a command: namespaces, mounts, user and group ids, a process.
//!
//! A [`Jail`] describes a command and its root file system; [`Jail::spawn`] runs it and returns a [`RunningJail`] to
//! control it. It works the same for root and, after [`enter_user_namespace`], without root.
//!
//! The caller executes a small *helper* from a sealed file in memory, so nothing is forked in a process with threads or
//! much memory, and no file of the host runs inside. The helper clones a process into new namespaces. That process makes
//! the mounts, drops its privileges and becomes the command, as process 1. Needs Linux 5.12 or newer.
//!
//! The helper's program is in `helper/`; its code is this crate without the feature `std`: everything but the caller's
//! side, without the standard library. The build script builds it, and it is embedded here.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod bind_sources;
mod dev;
mod error;
#[cfg(feature = "std")]
mod error_report;
mod exec;
mod extra_ids;
mod helper;
#[cfg(feature = "std")]
mod host_checks;
mod host_path;
mod ids;
mod init;
mod ipc;
mod jail;
mod limits;
mod mount_points;
mod mount_spec;
mod mounts;
mod outcome;
mod overlay;
mod ownership;
mod pending_mounts;
mod prelude;
#[cfg(feature = "std")]
mod running;
#[cfg(feature = "std")]
mod sealed_helper;
mod seccomp;
mod small_files;
mod sys;
mod syscalls;
mod tree_view;
#[cfg(feature = "std")]
mod userns;
mod wire;

pub use error::{KernelError, SandboxError};
pub use exec::program_interpreter;
pub use helper::{end_helper, run_jail_helper};
#[cfg(feature = "std")]
pub use host_checks::{CommandSupport, HostCheck, HostCheckStatus, HostChecks, MissingHostSupport, PROCESS_LIMIT_HELP};
pub use host_path::HostPath;
pub use jail::{ExtraIds, Jail, JailNetwork, JailRoot, TerminalSize, UserIds};
pub use limits::{ResourceLimit, RlimitKind};
pub use mount_spec::{BindMount, BindSource, JailMount, MemoryFile, ScratchDirs, TmpfsMount};
pub use outcome::{CommandExit, CommandUsage};
#[cfg(feature = "std")]
pub use running::{JailStdio, RunningJail, SignalHandle};
#[cfg(feature = "std")]
pub use userns::{ProcessPrivilege, enter_user_namespace, free_subordinate_ids};
