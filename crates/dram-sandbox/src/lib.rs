//! Isolated execution of a command: namespaces, mounts, user and group ids, a process.
//!
//! A [`Jail`] describes a command and its root file system; [`Jail::spawn`] runs it and returns a [`RunningJail`] to
//! control it. It works the same for root and, after [`enter_user_namespace`], without root.
//!
//! The caller executes its own program again as a small *helper*, so nothing is forked in a process with threads or
//! much memory. The helper clones a process into new namespaces. That process makes the mounts, drops its privileges
//! and becomes the command, as process 1. Needs Linux 5.12 or newer.

mod abilities;
mod command;
mod dev;
mod error;
mod helper;
mod ids;
mod jail;
mod limits;
mod mounts;
mod overlay;
mod owners;
mod running;
mod seccomp;
mod shown;
mod sources;
mod start;
mod stubs;
mod sys;
mod syscalls;
mod talk;
mod userns;
mod view;
mod wanted;
mod wire;

pub use abilities::{Abilities, Ability, Commands, Lack, State};
pub use command::interpreter;
pub use error::SandboxError;
pub use helper::become_helper_if_asked;
pub use jail::{Ids, Jail, Network, Root};
pub use limits::{Limit, ResourceLimit};
pub use running::{Exit, Handle, Running, Stdio3};
pub use shown::{Bind, Mount, Scratch, ShownFile, Source, Tmpfs};
pub use userns::{Privilege, enter_user_namespace};
