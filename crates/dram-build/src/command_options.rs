//! The options of the command line for commands, in addition to the Dockerfile.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use dram_sandbox::{Jail, ResourceLimit};

/// The options of the command line for commands.
#[derive(Debug, Clone)]
pub struct CommandOptions {
    /// Secrets for `RUN --mount=type=secret`, by id.
    pub secrets: BTreeMap<String, SecretValue>,
    /// Sockets of ssh agents for `RUN --mount=type=ssh`, by id.
    pub ssh_agents: BTreeMap<String, PathBuf>,
    /// The host name of commands; [`HOSTNAME`](crate::container::HOSTNAME) if it is `None`.
    pub hostname: Option<String>,
    /// True if `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// True if `RUN --network=host` is allowed.
    pub allow_host_network: bool,
    /// Additional lines of `/etc/hosts`: name and address.
    pub hosts: Vec<(String, String)>,
    /// Resource limits that differ from the caller's.
    pub limits: Vec<ResourceLimit>,
    /// The size limit of `/dev/shm` in bytes.
    pub shm_size: u64,
}

impl Default for CommandOptions {
    fn default() -> Self {
        CommandOptions {
            secrets: BTreeMap::new(),
            ssh_agents: BTreeMap::new(),
            hostname: None,
            allow_insecure: false,
            allow_host_network: false,
            hosts: Vec::new(),
            limits: Vec::new(),
            shm_size: Jail::SHM_SIZE,
        }
    }
}

/// The value of a secret. It is kept in memory only, and its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// The largest size of a secret in bytes, as in BuildKit.
    pub const MAX_SIZE: u64 = 500 << 10;

    /// Makes a secret of `bytes`.
    pub fn new(bytes: Vec<u8>) -> SecretValue {
        SecretValue(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
