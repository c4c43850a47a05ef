//! What can go wrong between a described jail and a running command.

use serde::{Deserialize, Serialize};
use std::io;

/// Why a jail did not start, or why its end is not known. One variant per attempt.
///
/// The command's own failure is not an error: see [`Exit`](crate::Exit). Paths are shown as text; bytes that are not
/// UTF-8 appear as replacement characters.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SandboxError {
    /// The description of the jail cannot be carried out as it stands.
    #[error("the description of the jail is unusable: {what}")]
    Description {
        /// Which field, and what is wrong with it.
        what: String,
    },
    /// The helper program could not be started.
    #[error("cannot start the jail helper `{path}`")]
    HelperStart {
        /// The program that was to be executed.
        path: String,
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// The connection to the helper failed.
    #[error("cannot {step} the jail helper")]
    HelperTalk {
        /// What was attempted.
        step: String,
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// The helper ended without saying how the command ended; it was most likely killed.
    #[error("the jail helper ended too early ({status}); the command was killed with it")]
    HelperDied {
        /// How the helper process ended.
        status: String,
    },
    /// The kernel refused the new namespaces.
    #[error("cannot make the namespaces of the jail")]
    Namespaces {
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// More layers than the kernel stacks.
    #[error("{count} layers are too many: the kernel stacks at most {limit}")]
    TooManyLayers {
        /// Layers asked for, mount-point stubs included.
        count: usize,
        /// The kernel's limit.
        limit: usize,
    },
    /// A mount could not be made.
    #[error("cannot {step} `{path}`")]
    Mount {
        /// What was attempted.
        step: String,
        /// The path on the host, or inside the root, that it was attempted on.
        path: String,
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// The kernel silently made the overlay read-only, as it does when it cannot use the work directory.
    #[error("the root became read-only: the kernel cannot use the work directory `{work}`")]
    ReadOnlyRoot {
        /// The work directory.
        work: String,
    },
    /// Something of the wrong kind stands where a mount must go.
    #[error("`{path}` in the container is {found}, where {wanted} is needed")]
    MountPoint {
        /// The path inside the root.
        path: String,
        /// What is there.
        found: String,
        /// What the mount needs.
        wanted: String,
    },
    /// A mount point that the image lacks could not be made ready.
    #[error("cannot make the mount point `{path}`")]
    Stub {
        /// The path inside the root.
        path: String,
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// The mount point lies in something mounted read-only that lacks it.
    #[error("cannot make the mount point `{path}`: what is mounted around it is read-only and has nothing there")]
    ReadOnlyMountPoint {
        /// The path inside the root.
        path: String,
    },
    /// Nothing may be mounted there.
    #[error("nothing can be mounted on `{path}`: {why}")]
    ForbiddenMountPoint {
        /// The path as it was asked for.
        path: String,
        /// What it leads to.
        why: String,
    },
    /// What a bind is to show is not in the tree it comes from.
    #[error("nothing is at `{path}` in what is to be mounted")]
    SourceMissing {
        /// The path in that tree.
        path: String,
    },
    /// A resource limit was refused.
    #[error("the kernel refuses the limit `{name}` of {soft} (at most {hard})")]
    Limit {
        /// Its name, as for `ulimit`.
        name: String,
        /// The limit that should hold, or `unlimited`.
        soft: String,
        /// How far it could be raised, or `unlimited`.
        hard: String,
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// The command should keep powers that this process does not have.
    #[error("an insecure command needs root of the machine, and this is a user namespace")]
    Insecure,
    /// A device of the host is not the device it should be.
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
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// The working directory turned out not to lie below the root.
    #[error("the working directory `{path}` lies outside the root")]
    WorkingDirectoryEscapes {
        /// The path as it was asked for.
        path: String,
    },
    /// The process could not get ready: ids, capabilities, terminal, host name.
    #[error("cannot {step}")]
    Process {
        /// What was attempted.
        step: String,
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// The system call filter was refused.
    #[error("cannot load the system call filter")]
    Filter {
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
    /// No such program in the image.
    #[error("cannot start `{program}`: no such file or directory in the image")]
    CommandNotFound {
        /// The program as it was asked for.
        program: String,
    },
    /// The program is in the image, but the interpreter it names is not.
    #[error("cannot start `{program}`: its interpreter `{interpreter}` is not in the image")]
    MissingInterpreter {
        /// The program that was found.
        program: String,
        /// What its `#!` line or its ELF header names.
        interpreter: String,
    },
    /// The program is for another processor, and the kernel knows no emulator for it.
    #[error("cannot start `{program}`: it is for {machine}, and this machine is {own} without an emulator for it")]
    ForeignProgram {
        /// The program that was found.
        program: String,
        /// The processor it is for, under its Go name.
        machine: String,
        /// That of this machine.
        own: String,
    },
    /// The program is in the image and the kernel does not start it.
    #[error("cannot start `{program}`")]
    NotExecutable {
        /// The program that was found.
        program: String,
        /// What the system said.
        #[serde(with = "wire_errno")]
        source: io::Error,
    },
}

impl SandboxError {
    pub(crate) fn mount(step: &str, path: impl AsRef<[u8]>, source: impl Into<io::Error>) -> SandboxError {
        SandboxError::Mount { step: step.to_owned(), path: text(path.as_ref()), source: source.into() }
    }

    /// The error number of a failed mount; `EIO` for other errors.
    pub(crate) fn errno(&self) -> rustix::io::Errno {
        match self {
            SandboxError::Mount { source, .. } => rustix::io::Errno::from_io_error(source),
            _ => None,
        }
        .unwrap_or(rustix::io::Errno::IO)
    }

    pub(crate) fn process(step: &str, source: impl Into<io::Error>) -> SandboxError {
        SandboxError::Process { step: step.to_owned(), source: source.into() }
    }

    pub(crate) fn talk(step: &str, source: impl Into<io::Error>) -> SandboxError {
        SandboxError::HelperTalk { step: step.to_owned(), source: source.into() }
    }
}

/// Bytes of a path as text for a message.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An [`io::Error`] crosses the process boundary as its error number.
mod wire_errno {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::io;

    pub(super) fn serialize<S: Serializer>(error: &io::Error, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i32(error.raw_os_error().unwrap_or(libc::EIO))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<io::Error, D::Error> {
        i32::deserialize(from).map(io::Error::from_raw_os_error)
    }
}
