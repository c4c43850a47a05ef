//! The description of a jail: what the process inside may see and do. Plain data, no effects.

use crate::error::{SandboxError, text};
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
    /// Files and directories of the host that it sees.
    pub binds: Vec<Bind>,
    /// Files shown inside over whatever the image has there, such as `/etc/resolv.conf`. What the command writes into
    /// them is thrown away.
    pub files: Vec<ShownFile>,
    /// Whether setuid programs and file capabilities lose their power inside.
    pub no_new_privs: bool,
    /// Whether the command gets a terminal of its own; its other end is [`Running::take_terminal`](crate::Running::take_terminal).
    pub terminal: bool,
    /// The size limit of `/dev/shm` in bytes; [`Jail::SHM_SIZE`] is what Docker gives.
    pub shm_size: u64,
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

/// A file or directory of the host inside the jail, with everything mounted below it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// An absolute path on the host. Symbolic links in it are followed on the host.
    #[serde(with = "wire::path")]
    pub source: PathBuf,
    /// An absolute path inside the root. Symbolic links in it are followed inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// Whether the command is kept from writing to it.
    pub read_only: bool,
}

/// A file with given contents inside the jail, mode 0644, owned by root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownFile {
    /// An absolute path inside the root.
    #[serde(with = "wire::bytes")]
    pub target: Vec<u8>,
    /// What it says.
    #[serde(with = "wire::bytes")]
    pub contents: Vec<u8>,
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
            binds: Vec::new(),
            files: Vec::new(),
            no_new_privs: false,
            terminal: false,
            shm_size: Jail::SHM_SIZE,
        }
    }

    /// Refuses what no kernel could carry out.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let Root::Overlay { lowers, upper, work, stubs } = &self.root;
        let refuse = |what: String| Err(SandboxError::Description { what });
        let host = lowers.iter().chain([upper, work, stubs]).chain(self.binds.iter().map(|bind| &bind.source));
        if let Some(path) = host.into_iter().find(|path| !path.is_absolute()) {
            return refuse(format!("`{}` is not an absolute path", path.display()));
        }
        let inside = self.binds.iter().map(|bind| &bind.target).chain(self.files.iter().map(|file| &file.target));
        if let Some(path) = inside.chain([&self.cwd]).find(|path| !path.starts_with(b"/")) {
            return refuse(format!("`{}` is not an absolute path", text(path)));
        }
        if self.argv.first().is_none_or(Vec::is_empty) {
            return refuse("the command is empty".to_owned());
        }
        let words = self.argv.iter().chain(&self.env).chain([&self.cwd]);
        match words.into_iter().find(|word| word.contains(&0)) {
            Some(word) => refuse(format!("`{}` contains a NUL byte", text(word))),
            None => Ok(()),
        }
    }

    /// The value of a variable in the environment of the command.
    pub(crate) fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }
}

/// Bytes as JSON strings, one character per byte: compact, and exact for bytes that are not UTF-8.
mod wire {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    fn to_text(bytes: &[u8]) -> String {
        bytes.iter().copied().map(char::from).collect()
    }

    fn to_bytes<E: Error>(text: &str) -> Result<Vec<u8>, E> {
        let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| E::custom("a character beyond one byte"));
        text.chars().map(byte).collect()
    }

    pub(super) mod bytes {
        use super::{Deserialize, Deserializer, Serialize, Serializer, to_bytes, to_text};
        pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
            to_text(bytes).serialize(to)
        }
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
            to_bytes(&String::deserialize(from)?)
        }
    }

    pub(super) mod list {
        use super::{Deserialize, Deserializer, Serializer, to_bytes, to_text};
        pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(list.iter().map(|item| to_text(item)))
        }
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
            Vec::<String>::deserialize(from)?.iter().map(|item| to_bytes(item)).collect()
        }
    }

    pub(super) mod path {
        use super::{Deserialize, Deserializer, Serialize, Serializer, to_bytes, to_text};
        use std::ffi::OsString;
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        use std::path::{Path, PathBuf};
        pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
            to_text(path.as_os_str().as_bytes()).serialize(to)
        }
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
            Ok(PathBuf::from(OsString::from_vec(to_bytes(&String::deserialize(from)?)?)))
        }
    }

    pub(super) mod paths {
        use super::{Deserialize, Deserializer, Serializer, to_bytes, to_text};
        use std::ffi::OsString;
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        use std::path::PathBuf;
        pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(paths.iter().map(|path| to_text(path.as_os_str().as_bytes())))
        }
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
            let bytes = Vec::<String>::deserialize(from)?;
            bytes.iter().map(|path| Ok(PathBuf::from(OsString::from_vec(to_bytes(path)?)))).collect()
        }
    }
}
