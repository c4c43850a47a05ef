//! What commands get from the command line, beside what the Dockerfile says.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use dram_sandbox::{Jail, ResourceLimit};

/// What commands get from the command line.
#[derive(Debug, Clone)]
pub struct Given {
    /// Values for `RUN --mount=type=secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of agents for `RUN --mount=type=ssh`, by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// The name that commands see their machine under; [`HOSTNAME`](crate::container::HOSTNAME) when there is none.
    pub hostname: Option<String>,
    /// Whether `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// Whether `RUN --network=host` is allowed.
    pub allow_host_network: bool,
    /// More lines for `/etc/hosts`: a name, and its address.
    pub hosts: Vec<(String, String)>,
    /// Resource limits that differ from those of the caller.
    pub limits: Vec<ResourceLimit>,
    /// The size limit of `/dev/shm` in bytes.
    pub shm_size: u64,
}

impl Default for Given {
    fn default() -> Self {
        Given {
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            hostname: None,
            allow_insecure: false,
            allow_host_network: false,
            hosts: Vec::new(),
            limits: Vec::new(),
            shm_size: Jail::SHM_SIZE,
        }
    }
}

/// Something that must not be seen: it is in memory only, and shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The most that one may have, as in BuildKit.
    pub const LONGEST: u64 = 500 << 10;

    /// One that is `bytes`.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
