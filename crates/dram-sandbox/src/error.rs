//! Errors of starting and running a jail.

use crate::prelude::*;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// An error that kept a jail from starting, or its exit status from being known. One variant per attempt.
///
/// The command's own failure is not an error: see [`CommandExit`](crate::CommandExit). Paths are shown as text; bytes
/// that are not UTF-8 appear as replacement characters.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SandboxError {
    /// The description of the jail is invalid.
    #[error("the description of the jail is unusable: {what}")]
    Description {
        /// The field, and its problem.
        what: String,
    },
    /// The helper program could not be started.
    #[error("cannot start the jail helper")]
    HelperStart {
        /// The error of the system.
        source: KernelError,
    },
    /// The connection to the helper failed.
    #[error("cannot {step} the jail helper")]
    HelperConnection {
        /// The step that failed, as a verb.
        step: String,
        /// The error of the system.
        source: KernelError,
    },
    /// The helper ended without reporting the exit status of the command; most likely it was killed.
    #[error("the jail helper ended too early ({status}); the command was killed with it")]
    HelperDied {
        /// The exit status of the helper.
        status: String,
    },
    /// The kernel refused the new namespaces.
    #[error("cannot make the namespaces of the jail")]
    Namespaces {
        /// The error of the system.
        source: KernelError,
    },
    /// There are as many namespaces of a kind as `user.max_*_namespaces` allows.
    #[error("cannot make the namespaces of the jail: there are as many as a limit `user.max_*_namespaces` allows")]
    NamespaceLimit,
    /// The file system of the store cannot be the writable layer of an overlay.
    #[error("the store is on {file_system}, on which the kernel makes no overlay that can be written to: `{path}`")]
    StoreFileSystem {
        /// The directory for the writable layer.
        path: String,
        /// The file system, as words.
        file_system: String,
        /// The error of the system.
        source: KernelError,
    },
    /// There are more layers than the kernel stacks in an overlay.
    #[error("{count} layers are too many: the kernel stacks at most {limit}")]
    TooManyLayers {
        /// The number of layers, that of the mount points included.
        count: usize,
        /// The kernel's limit.
        limit: usize,
    },
    /// A mount failed.
    #[error("cannot {step} `{path}`")]
    Mount {
        /// The step that failed, as a verb.
        step: String,
        /// The path on the host, or inside the root.
        path: String,
        /// The error of the system.
        source: KernelError,
    },
    /// The kernel silently made the overlay read-only, as it does when it cannot use the work directory.
    #[error("the root became read-only: the kernel cannot use the work directory `{work}`")]
    ReadOnlyRoot {
        /// The work directory.
        work: String,
    },
    /// A mount point exists and is of the wrong type.
    #[error("`{path}` in the container is {found}, where {wanted} is needed")]
    MountPoint {
        /// The path inside the root.
        path: String,
        /// The type that was found.
        found: String,
        /// The type that the mount needs.
        wanted: String,
    },
    /// A mount point that the image lacks could not be created.
    #[error("cannot make the mount point `{path}`")]
    MountPointCreation {
        /// The path inside the root.
        path: String,
        /// The error of the system.
        source: KernelError,
    },
    /// The mount point does not exist, and lies in a read-only mount.
    #[error("cannot make the mount point `{path}`: what is mounted around it is read-only and has nothing there")]
    ReadOnlyMountPoint {
        /// The path inside the root.
        path: String,
    },
    /// A mount at this path is not allowed.
    #[error("nothing can be mounted on `{path}`: {why}")]
    ForbiddenMountPoint {
        /// The path as it was given.
        path: String,
        /// The reason, with the path it resolves to.
        why: String,
    },
    /// The source of a bind mount does not exist.
    #[error("nothing is at `{path}` in what is to be mounted")]
    SourceMissing {
        /// The path in the source tree.
        path: String,
    },
    /// The kernel refused a resource limit.
    #[error("the kernel refuses the limit `{name}` of {soft} (at most {hard})")]
    Limit {
        /// The name of the limit, as for `ulimit`.
        name: String,
        /// The soft limit, or `unlimited`.
        soft: String,
        /// The hard limit, or `unlimited`.
        hard: String,
        /// The error of the system.
        source: KernelError,
    },
    /// An insecure command was requested without root of the machine.
    #[error("an insecure command needs root of the machine, and this is a user namespace")]
    Insecure,
    /// A file in `/dev` of the host is not the expected device.
    #[error("`/dev/{name}` of the host is not character device {major}:{minor}")]
    Device {
        /// The name below `/dev`.
        name: String,
        /// The expected major number.
        major: u32,
        /// The expected minor number.
        minor: u32,
    },
    /// The working directory cannot be entered.
    #[error("cannot enter the working directory `{path}`")]
    WorkingDirectory {
        /// The path inside the root.
        path: String,
        /// The error of the system.
        source: KernelError,
    },
    /// The working directory lies outside the root.
    #[error("the working directory `{path}` lies outside the root")]
    WorkingDirectoryEscapes {
        /// The path as it was given.
        path: String,
    },
    /// A step of the set-up of the process failed: ids, capabilities, terminal, host name.
    #[error("cannot {step}")]
    Process {
        /// The step that failed, as a verb.
        step: String,
        /// The error of the system.
        source: KernelError,
    },
    /// The kernel refused the seccomp filter.
    #[error("cannot load the system call filter")]
    Filter {
        /// The error of the system.
        source: KernelError,
    },
    /// The image has no such program.
    #[error("cannot start `{program}`: no such file or directory in the image")]
    CommandNotFound {
        /// The program as it was given.
        program: String,
    },
    /// The program exists, but its interpreter does not.
    #[error("cannot start `{program}`: its interpreter `{interpreter}` is not in the image")]
    MissingInterpreter {
        /// The program that was found.
        program: String,
        /// The interpreter in its `#!` line or its ELF header.
        interpreter: String,
    },
    /// The program is for another processor, and no emulator for it is registered with the kernel.
    #[error("cannot start `{program}`: it is for {machine}, and this machine is {own} without an emulator for it")]
    ForeignProgram {
        /// The program that was found.
        program: String,
        /// The processor it is for, as Go names it.
        machine: String,
        /// The processor of this machine.
        own: String,
    },
    /// The program exists and the kernel does not execute it.
    #[error("cannot start `{program}`")]
    NotExecutable {
        /// The program that was found.
        program: String,
        /// The error of the system.
        source: KernelError,
    },
}

impl SandboxError {
    pub(crate) fn mount(step: &str, path: impl AsRef<[u8]>, source: impl Into<KernelError>) -> SandboxError {
        SandboxError::Mount { step: step.to_owned(), path: lossy_text(path.as_ref()), source: source.into() }
    }

    /// The error number of a failed mount; `EIO` for other errors.
    pub(crate) fn errno(&self) -> Errno {
        if let SandboxError::Mount { source, .. } | SandboxError::StoreFileSystem { source, .. } = self {
            return source.errno();
        }
        Errno::IO
    }

    pub(crate) fn process(step: &str, source: impl Into<KernelError>) -> SandboxError {
        SandboxError::Process { step: step.to_owned(), source: source.into() }
    }

    pub(crate) fn helper_connection(step: &str, source: impl Into<KernelError>) -> SandboxError {
        SandboxError::HelperConnection { step: step.to_owned(), source: source.into() }
    }
}

/// Bytes of a path as text for a message.
pub(crate) fn lossy_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An error of the kernel: its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KernelError(i32);

impl KernelError {
    /// The number, as the kernel's interface has it. Those that no kernel returns are `EIO`.
    pub fn errno(self) -> Errno {
        if (1..4096).contains(&self.0) { Errno::from_raw_os_error(self.0) } else { Errno::IO }
    }
}

impl core::fmt::Display for KernelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.errno().fmt(f)
    }
}

impl core::error::Error for KernelError {}

impl From<Errno> for KernelError {
    fn from(errno: Errno) -> KernelError {
        KernelError(errno.raw_os_error())
    }
}

#[cfg(feature = "std")]
impl From<std::io::Error> for KernelError {
    fn from(error: std::io::Error) -> KernelError {
        KernelError(error.raw_os_error().unwrap_or(libc::EIO))
    }
}
