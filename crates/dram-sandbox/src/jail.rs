//! The description of a jail: the command, its root file system and its restrictions. Plain data, no effects.

#[cfg(feature = "std")]
use crate::error::{SandboxError, lossy_text};
use crate::host_path::HostPath;
use crate::limits::ResourceLimit;
use crate::mount_spec::JailMount;
use crate::prelude::*;
use crate::wire;
use serde::{Deserialize, Serialize};

/// A command and its environment.
///
/// Start it with [`Jail::spawn`]. Byte strings are paths or arguments as Linux has them: any bytes but NUL.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jail {
    /// The root file system.
    pub root: JailRoot,
    /// The command and its arguments; the first word is looked up in `PATH` of [`env`](Jail::env) unless it has a slash.
    #[serde(with = "wire::list")]
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, as `NAME=value`.
    #[serde(with = "wire::list")]
    pub env: Vec<Vec<u8>>,
    /// The working directory, an absolute path inside the root. It must exist.
    #[serde(with = "wire::bytes")]
    pub cwd: Vec<u8>,
    /// The user and groups of the command.
    pub user: UserIds,
    /// The host name.
    pub hostname: String,
    /// The network.
    pub network: JailNetwork,
    /// The mounts on top of the image, in this order: a later one may lie inside an earlier one, or over it.
    ///
    /// Mount points that the image lacks exist during the run only. One that an earlier mount lacks is created in that
    /// mount, and stays there if the source of that mount outlives the jail.
    pub mounts: Vec<JailMount>,
    /// If true, setuid programs and file capabilities have no effect inside.
    pub no_new_privs: bool,
    /// If set, the command gets a pseudo-terminal of this size; its other end is
    /// [`RunningJail::take_terminal`](crate::RunningJail::take_terminal).
    pub terminal: Option<TerminalSize>,
    /// The size limit of `/dev/shm` in bytes. 0 means [`Jail::SHM_SIZE`], which is what Docker gives.
    pub shm_size: u64,
    /// The resource limits that differ from those of the caller.
    pub limits: Vec<ResourceLimit>,
    /// If true, the command keeps the privileges of the caller: every capability, no seccomp filter, nothing masked or
    /// read-only in `/proc` and `/sys`, and device files that work. It can then do anything to the machine. Only root
    /// of the machine can grant that: in a user namespace such a jail is refused. `no_new_privs` has no effect then.
    pub insecure: bool,
    /// Ids of the image that the user namespace of the caller lacks. With some, the jail is in a user namespace of its
    /// own that has them, and all ids of the caller's.
    pub extra_ids: ExtraIds,
    /// The extended attribute that records the owner, as `UID:GID`, when the command changes the owner of a file of the
    /// root and there is a single id only. An id that does not change is empty. If `None`, changes of owner succeed and
    /// do nothing.
    pub owner_attribute: Option<String>,
}

/// The source of the root file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JailRoot {
    /// An overlay of read-only directories and one that takes the changes. All paths are absolute.
    Overlay {
        /// The layers, topmost first; at least one.
        lowers: Vec<HostPath>,
        /// The upper directory: the changes of the command, in overlayfs form. It gives `/` its owner and mode.
        upper: HostPath,
        /// The work directory of overlayfs, on the file system of `upper`. It must be new and empty: an overlay mounted
        /// with `volatile` cannot be mounted again on the same one.
        work: HostPath,
        /// An empty directory for the mount points that the image lacks. They never reach `upper`.
        mount_points_dir: HostPath,
    },
}

/// The numeric ids of the command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary group ids.
    pub groups: Vec<u32>,
}

/// The size of a terminal in characters. Zeroes stand for an unknown size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// The number of rows.
    pub rows: u16,
    /// The number of columns.
    pub columns: u16,
}

/// Ids inside the jail, each with the id of the caller's user namespace that has that place outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraIds {
    /// Users: the id inside, and the id outside.
    pub users: Vec<(u32, u32)>,
    /// Groups.
    pub groups: Vec<(u32, u32)>,
}

impl ExtraIds {
    /// Returns true when there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// The network of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JailNetwork {
    /// The network of the host, abstract Unix sockets included.
    Host,
    /// A network namespace of its own, with only a loopback device.
    None,
}

impl Jail {
    /// The default size of `/dev/shm`: 64 MiB.
    pub const SHM_SIZE: u64 = 64 << 20;

    /// A jail in which root runs `argv` in `/`, with an empty environment and without a network.
    pub fn new(root: JailRoot, argv: Vec<Vec<u8>>) -> Jail {
        Jail {
            root,
            argv,
            env: Vec::new(),
            cwd: b"/".to_vec(),
            user: UserIds::default(),
            hostname: "dram".to_owned(),
            network: JailNetwork::None,
            mounts: Vec::new(),
            no_new_privs: false,
            terminal: None,
            shm_size: Jail::SHM_SIZE,
            limits: Vec::new(),
            insecure: false,
            extra_ids: ExtraIds::default(),
            owner_attribute: None,
        }
    }

    /// Refuses an invalid description: a relative path, a NUL byte, no command, a bind mount without layers.
    #[cfg(feature = "std")]
    pub(crate) fn validate(&self) -> Result<(), SandboxError> {
        let JailRoot::Overlay { lowers, upper, work, mount_points_dir } = &self.root;
        let refuse = |what: String| Err(SandboxError::Description { what });
        let host = lowers
            .iter()
            .chain([upper, work, mount_points_dir])
            .chain(self.mounts.iter().flat_map(JailMount::host_paths));
        if let Some(path) = host.into_iter().map(HostPath::as_bytes).find(|path| !path.starts_with(b"/")) {
            return refuse(format!("`{}` is not an absolute path", lossy_text(path)));
        }
        let mut inside = self.mounts.iter().map(JailMount::target).chain([self.cwd.as_slice()]);
        if let Some(path) = inside.find(|path| !path.starts_with(b"/")) {
            return refuse(format!("`{}` is not an absolute path", lossy_text(path)));
        }
        if self.mounts.iter().any(JailMount::has_no_layers) {
            return refuse("a bind of layers has no layer".to_owned());
        }
        if self.argv.first().is_none_or(Vec::is_empty) {
            return refuse("the command is empty".to_owned());
        }
        let words = self.argv.iter().chain(&self.env).map(Vec::as_slice).chain([self.cwd.as_slice()]);
        match words.chain(self.mounts.iter().map(JailMount::target)).find(|word| word.contains(&0)) {
            Some(word) => refuse(format!("`{}` contains a NUL byte", lossy_text(word))),
            None => Ok(()),
        }
    }

    /// The value of a variable in the environment of the command.
    pub(crate) fn env_value(&self, name: &[u8]) -> Option<&[u8]> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }
}
