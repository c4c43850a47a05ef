//! The description of a jail: what the process inside may see and do. Plain data, no effects.

use crate::error::{SandboxError, text};
use crate::limits::ResourceLimit;
use crate::shown::Mount;
use crate::wire;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A command and the world it runs in.
///
/// Start it with [`Jail::spawn`]. Byte strings are paths or words as Linux has them: any bytes but NUL.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jail {
    /// The root file system.
    pub root: Root,
    /// The command and its arguments; the first word is looked up in `PATH` of [`env`](Jail::env) unless it has a slash.
    #[serde(with = "wire::list")]
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, as `NAME=value`.
    #[serde(with = "wire::list")]
    pub env: Vec<Vec<u8>>,
    /// The working directory, an absolute path inside the root. It must exist.
    #[serde(with = "wire::bytes")]
    pub cwd: Vec<u8>,
    /// Who the command is.
    pub user: Ids,
    /// The host name it sees.
    pub hostname: String,
    /// The network it sees.
    pub network: Network,
    /// What it sees over the image, mounted in this order: a later one may lie inside an earlier one, or over it.
    ///
    /// Mount points that the image lacks are there for the run only. One that an earlier mount lacks is made in it, and
    /// stays there if what is mounted outlives the jail.
    pub mounts: Vec<Mount>,
    /// Whether setuid programs and file capabilities lose their power inside.
    pub no_new_privs: bool,
    /// Whether the command gets a terminal of its own; its other end is
    /// [`Running::take_terminal`](crate::Running::take_terminal).
    pub terminal: bool,
    /// The size limit of `/dev/shm` in bytes. 0 means [`Jail::SHM_SIZE`], which is what Docker gives.
    pub shm_size: u64,
    /// The resource limits that differ from those of the caller.
    pub limits: Vec<ResourceLimit>,
    /// Whether the command keeps the powers of the caller: every capability, no system call filter, nothing hidden or
    /// read-only in `/proc` and `/sys`, and devices that work. It can then do anything to the machine. Only root of the
    /// machine can grant that: in a user namespace such a jail is refused. `no_new_privs` means nothing then.
    pub insecure: bool,
    /// Where there is one id only: the extended attribute that notes, as `UID:GID`, to whom the command gives a file of
    /// the root. One that stays as it is, is empty. Without a name, giving a file away does nothing.
    pub owner_attribute: Option<String>,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Root {
    /// An overlay: read-only directories, and one that takes the changes. All paths are absolute.
    Overlay {
        /// The layers, topmost first; at least one.
        #[serde(with = "wire::paths")]
        lowers: Vec<PathBuf>,
        /// What the command changes appears here, in overlayfs form. It gives `/` its owner and mode.
        #[serde(with = "wire::path")]
        upper: PathBuf,
        /// An empty directory on the file system of `upper`, for the kernel. It must be fresh: an overlay made with
        /// `volatile` cannot be mounted again on the same one.
        #[serde(with = "wire::path")]
        work: PathBuf,
        /// An empty directory, in which mount points that the image lacks are made. They never reach `upper`.
        #[serde(with = "wire::path")]
        stubs: PathBuf,
    },
}

/// Numeric ids of the command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// What the command sees of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The network of the host, abstract Unix sockets included.
    Host,
    /// Only a loopback device of its own.
    None,
}

impl Jail {
    /// The default size of `/dev/shm`: 64 MiB.
    pub const SHM_SIZE: u64 = 64 << 20;

    /// A jail in which root runs `argv` in `/`, with an empty environment and without a network.
    pub fn new(root: Root, argv: Vec<Vec<u8>>) -> Jail {
        Jail {
            root,
            argv,
            env: Vec::new(),
            cwd: b"/".to_vec(),
            user: Ids::default(),
            hostname: "dram".to_owned(),
            network: Network::None,
            mounts: Vec::new(),
            no_new_privs: false,
            terminal: false,
            shm_size: Jail::SHM_SIZE,
            limits: Vec::new(),
            insecure: false,
            owner_attribute: None,
        }
    }

    /// Refuses what no kernel could carry out.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let Root::Overlay { lowers, upper, work, stubs } = &self.root;
        let refuse = |what: String| Err(SandboxError::Description { what });
        let host = lowers.iter().chain([upper, work, stubs]).chain(self.mounts.iter().flat_map(Mount::host_paths));
        if let Some(path) = host.into_iter().find(|path| !path.is_absolute()) {
            return refuse(format!("`{}` is not an absolute path", path.display()));
        }
        let mut inside = self.mounts.iter().map(Mount::target).chain([self.cwd.as_slice()]);
        if let Some(path) = inside.find(|path| !path.starts_with(b"/")) {
            return refuse(format!("`{}` is not an absolute path", text(path)));
        }
        if self.mounts.iter().any(Mount::has_no_layers) {
            return refuse("a bind of layers has no layer".to_owned());
        }
        if self.argv.first().is_none_or(Vec::is_empty) {
            return refuse("the command is empty".to_owned());
        }
        let words = self.argv.iter().chain(&self.env).map(Vec::as_slice).chain([self.cwd.as_slice()]);
        match words.chain(self.mounts.iter().map(Mount::target)).find(|word| word.contains(&0)) {
            Some(word) => refuse(format!("`{}` contains a NUL byte", text(word))),
            None => Ok(()),
        }
    }

    /// The value of a variable in the environment of the command.
    pub(crate) fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }
}
