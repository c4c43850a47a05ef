//! Commands: `RUN` and its mounts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::InputRef;

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOp {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment: `ENV` and `ARG` in the order in which they were last set; `PATH` is always set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// The working directory: absolute and clean.
    pub cwd: String,
    /// The user, as written in `USER`: a name or id, optionally with a group; empty means root.
    #[serde(default)]
    pub user: String,
    /// The names in `env` whose value comes from an `ARG`. Used for messages only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub from_args: BTreeSet<String>,
    /// Proxies given as build arguments. They are not part of the cache key. They belong to the machine and may hold a
    /// password, so they are not serialised.
    #[serde(skip)]
    pub hidden_env: Vec<(String, String)>,
    /// The mounts, in the order of the flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<RunMount>,
    /// Script files that exist while the command runs: the bodies of heredocs that start with `#!`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<HeredocScript>,
    /// `--network`; the default network of the build when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<RunNetwork>,
    /// `--security=insecure`: the command runs with all capabilities of the builder.
    #[serde(default)]
    pub insecure: bool,
}

/// A script file that exists while a command runs: mode 0755, owned by root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeredocScript {
    /// The absolute path, below `/dev/pipes`.
    pub path: String,
    /// The contents of the file.
    pub contents: String,
}

/// The network of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RunNetwork {
    /// Only a loopback device.
    None,
    /// The network of the host, which needs an entitlement.
    Host,
}

/// A mount of one command: `RUN --mount`. Target paths are absolute and clean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RunMount {
    /// A bind mount of files of the build context, a stage or an image.
    Bind {
        /// The target path.
        target: String,
        /// The input whose files are mounted.
        from: InputRef,
        /// The path inside the input: absolute and clean, `/` for all of it.
        source: String,
        /// True when the command may write; its changes are discarded.
        writable: bool,
    },
    /// A directory that persists between builds.
    Cache(CacheMount),
    /// A secret as a file or variable; it is part of no layer.
    Secret {
        /// The id on the command line.
        id: String,
        /// The file, unless the secret is only a variable.
        file: Option<MountedFile>,
        /// The name of the variable that holds the secret.
        env: Option<String>,
        /// True when a missing secret is an error.
        required: bool,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// The id on the command line; `default` when the flag gives none.
        id: String,
        /// The socket. `SSH_AUTH_SOCK` is set to that of the first such mount.
        file: MountedFile,
        /// True when a missing agent is an error.
        required: bool,
    },
    /// An empty in-memory file system.
    Tmpfs {
        /// The target path.
        target: String,
        /// The maximum size, in bytes.
        size: Option<u64>,
    },
}

impl RunMount {
    /// Returns the input that the mount takes its files from, if any.
    pub fn input_ref(&self) -> Option<&InputRef> {
        match self {
            RunMount::Bind { from, .. } => Some(from),
            RunMount::Cache(cache) => cache.seed.as_ref().map(|(from, _)| from),
            RunMount::Secret { .. } | RunMount::Ssh { .. } | RunMount::Tmpfs { .. } => None,
        }
    }
}

/// A cache mount: `RUN --mount=type=cache`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheMount {
    /// The target path.
    pub target: String,
    /// The id; the target path when the flag gives none. The build argument `BUILDKIT_CACHE_MOUNT_NS` is its prefix.
    pub id: String,
    /// The mode of concurrent use.
    pub sharing: CacheSharing,
    /// True when the command cannot write; it reads the seed or the files of other commands.
    #[serde(default)]
    pub read_only: bool,
    /// The initial contents of a new cache: a directory of a stage or an image, absolute and clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<(InputRef, String)>,
    /// The permissions of a new cache.
    pub mode: u32,
    /// The owner of a new cache.
    pub uid: u32,
    /// The group of a new cache.
    pub gid: u32,
}

/// The mode of concurrent use of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CacheSharing {
    /// All commands use one cache concurrently.
    Shared,
    /// A command gets another cache while this one is in use.
    Private,
    /// One command at a time; others wait for the lock.
    Locked,
}

/// A mounted file or socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountedFile {
    /// The target path: absolute and clean.
    pub target: String,
    /// The permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}
