//! Resource limits of the command: `setrlimit(2)`.

use crate::error::SandboxError;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// A resource limit of a process, or of all processes of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// The limited resource.
    pub what: Limit,
    /// The soft limit, which applies; `None` for no limit.
    pub soft: Option<u64>,
    /// The hard limit, up to which the command may raise the soft one; `None` for no limit.
    pub hard: Option<u64>,
}

/// The resources that can be limited, named as in Docker's `--ulimit` and `ulimit(1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
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

impl Limit {
    /// All of them, ordered by name.
    pub const ALL: [Limit; 15] = [
        Limit::Core,
        Limit::Cpu,
        Limit::Data,
        Limit::Fsize,
        Limit::Locks,
        Limit::Memlock,
        Limit::Msgqueue,
        Limit::Nice,
        Limit::Nofile,
        Limit::Nproc,
        Limit::Rss,
        Limit::Rtprio,
        Limit::Rttime,
        Limit::Sigpending,
        Limit::Stack,
    ];

    /// The limit of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Limit> {
        Limit::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// Its name, as `nofile`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> (&'static str, Resource) {
        match self {
            Limit::Core => ("core", Resource::Core),
            Limit::Cpu => ("cpu", Resource::Cpu),
            Limit::Data => ("data", Resource::Data),
            Limit::Fsize => ("fsize", Resource::Fsize),
            Limit::Locks => ("locks", Resource::Locks),
            Limit::Memlock => ("memlock", Resource::Memlock),
            Limit::Msgqueue => ("msgqueue", Resource::Msgqueue),
            Limit::Nice => ("nice", Resource::Nice),
            Limit::Nofile => ("nofile", Resource::Nofile),
            Limit::Nproc => ("nproc", Resource::Nproc),
            Limit::Rss => ("rss", Resource::Rss),
            Limit::Rtprio => ("rtprio", Resource::Rtprio),
            Limit::Rttime => ("rttime", Resource::Rttime),
            Limit::Sigpending => ("sigpending", Resource::Sigpending),
            Limit::Stack => ("stack", Resource::Stack),
        }
    }
}

impl ResourceLimit {
    fn set(self) -> Result<(), SandboxError> {
        let (name, resource) = self.what.row();
        // The kernel writes "no limit" as a value of all ones; other values are literal.
        let limit = Rlimit { current: self.soft, maximum: self.hard };
        setrlimit(resource, limit).map_err(|error| SandboxError::Limit {
            name: name.to_owned(),
            soft: shown(self.soft),
            hard: shown(self.hard),
            source: error.into(),
        })
    }
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

/// Sets all limits for this process. Must come before privileges are dropped: raising a limit needs them.
pub(crate) fn set(limits: &[ResourceLimit]) -> Result<(), SandboxError> {
    limits.iter().try_for_each(|limit| limit.set())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found_by_its_name() {
        for limit in Limit::ALL {
            assert_eq!(Limit::from_name(limit.name()), Some(limit));
        }
        assert_eq!(Limit::from_name("as"), None);
    }
}
