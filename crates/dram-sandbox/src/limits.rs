//! Resource limits of the command: `setrlimit(2)`.

use crate::error::SandboxError;
use crate::prelude::*;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// A resource limit of a process, or of all processes of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// The limited resource.
    #[serde(rename = "what")]
    pub kind: RlimitKind,
    /// The soft limit, which applies; `None` for no limit.
    pub soft: Option<u64>,
    /// The hard limit, up to which the command may raise the soft one; `None` for no limit.
    pub hard: Option<u64>,
}

/// The resources that can be limited, named as in Docker's `--ulimit` and `ulimit(1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RlimitKind {
    /// The size of a core dump, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// The data segment, in bytes.
    Data,
    /// The size of a file that is written, in bytes.
    Fsize,
    /// File locks; Linux ignores it since 2.4.25.
    Locks,
    /// Locked memory, in bytes.
    Memlock,
    /// Message queues of a user, in bytes.
    Msgqueue,
    /// 20 minus the lowest nice value.
    Nice,
    /// One more than the highest file descriptor.
    Nofile,
    /// Processes of a user.
    Nproc,
    /// Resident memory, in bytes; Linux ignores it.
    Rss,
    /// The highest real-time priority.
    Rtprio,
    /// Real-time processor time without a pause, in microseconds.
    Rttime,
    /// Queued signals of a user.
    Sigpending,
    /// The stack, in bytes.
    Stack,
}

impl RlimitKind {
    /// All of them, ordered by name.
    pub const ALL: [RlimitKind; 15] = [
        RlimitKind::Core,
        RlimitKind::Cpu,
        RlimitKind::Data,
        RlimitKind::Fsize,
        RlimitKind::Locks,
        RlimitKind::Memlock,
        RlimitKind::Msgqueue,
        RlimitKind::Nice,
        RlimitKind::Nofile,
        RlimitKind::Nproc,
        RlimitKind::Rss,
        RlimitKind::Rtprio,
        RlimitKind::Rttime,
        RlimitKind::Sigpending,
        RlimitKind::Stack,
    ];

    /// The limit of that name, if there is one.
    pub fn from_name(name: &str) -> Option<RlimitKind> {
        RlimitKind::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// Its name, as `nofile`.
    pub fn name(self) -> &'static str {
        self.name_and_resource().0
    }

    fn name_and_resource(self) -> (&'static str, Resource) {
        match self {
            RlimitKind::Core => ("core", Resource::Core),
            RlimitKind::Cpu => ("cpu", Resource::Cpu),
            RlimitKind::Data => ("data", Resource::Data),
            RlimitKind::Fsize => ("fsize", Resource::Fsize),
            RlimitKind::Locks => ("locks", Resource::Locks),
            RlimitKind::Memlock => ("memlock", Resource::Memlock),
            RlimitKind::Msgqueue => ("msgqueue", Resource::Msgqueue),
            RlimitKind::Nice => ("nice", Resource::Nice),
            RlimitKind::Nofile => ("nofile", Resource::Nofile),
            RlimitKind::Nproc => ("nproc", Resource::Nproc),
            RlimitKind::Rss => ("rss", Resource::Rss),
            RlimitKind::Rtprio => ("rtprio", Resource::Rtprio),
            RlimitKind::Rttime => ("rttime", Resource::Rttime),
            RlimitKind::Sigpending => ("sigpending", Resource::Sigpending),
            RlimitKind::Stack => ("stack", Resource::Stack),
        }
    }
}

impl ResourceLimit {
    fn apply(self) -> Result<(), SandboxError> {
        let (name, resource) = self.kind.name_and_resource();
        // The kernel writes "no limit" as a value of all ones; other values are literal.
        let limit = Rlimit { current: self.soft, maximum: self.hard };
        setrlimit(resource, limit).map_err(|error| SandboxError::Limit {
            name: name.to_owned(),
            soft: limit_text(self.soft),
            hard: limit_text(self.hard),
            source: error.into(),
        })
    }
}

fn limit_text(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

/// Sets all limits for this process. Must come before privileges are dropped: raising a limit needs them.
pub(crate) fn apply_limits(limits: &[ResourceLimit]) -> Result<(), SandboxError> {
    limits.iter().try_for_each(|limit| limit.apply())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found_by_its_name() {
        for limit in RlimitKind::ALL {
            assert_eq!(RlimitKind::from_name(limit.name()), Some(limit));
        }
        assert_eq!(RlimitKind::from_name("as"), None);
    }
}
