//! The class and the help of each [`SandboxError`], and of a host that cannot run commands.

use std::io::ErrorKind;

use dram_error::{ErrorClass, ErrorReport};

use rustix::io::Errno;

use crate::host_checks::{
    PROCESS_LIMIT_HELP, STORAGE_HELP, STORE_FILE_SYSTEM_HELP, forbidding_sysctls, process_limit_help,
};
use crate::{KernelError, MissingHostSupport, SandboxError};

const DOCTOR_HELP: &str = "`dram doctor` shows what this machine lacks";

impl ErrorReport for SandboxError {
    fn class(&self) -> ErrorClass {
        match self {
            SandboxError::NamespaceLimit
            | SandboxError::StoreFileSystem { .. }
            | SandboxError::ReadOnlyRoot { .. }
            | SandboxError::Filter { .. }
            | SandboxError::ForeignProgram { .. }
            | SandboxError::Insecure => ErrorClass::MissingSupport,
            SandboxError::Namespaces { source } if process_limit_help(source.errno()).is_some() => ErrorClass::Work,
            SandboxError::Namespaces { .. } => ErrorClass::MissingSupport,
            SandboxError::Mount { source, .. }
            | SandboxError::Limit { source, .. }
            | SandboxError::HelperStart { source }
            | SandboxError::HelperConnection { source, .. }
            | SandboxError::Process { source, .. } => class_of_refusal(source),
            SandboxError::Description { .. }
            | SandboxError::HelperDied { .. }
            | SandboxError::TooManyLayers { .. }
            | SandboxError::MountPoint { .. }
            | SandboxError::MountPointCreation { .. }
            | SandboxError::ReadOnlyMountPoint { .. }
            | SandboxError::ForbiddenMountPoint { .. }
            | SandboxError::SourceMissing { .. }
            | SandboxError::Device { .. }
            | SandboxError::WorkingDirectory { .. }
            | SandboxError::WorkingDirectoryEscapes { .. }
            | SandboxError::CommandNotFound { .. }
            | SandboxError::MissingInterpreter { .. }
            | SandboxError::NotExecutable { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        let help = match self {
            SandboxError::CommandNotFound { .. } => {
                "the base image has no such program: choose a base that has, or copy it in"
            }
            SandboxError::MissingInterpreter { interpreter, .. } => interpreter_help(interpreter),
            SandboxError::TooManyLayers { .. } => {
                "make one layer of them with `dram squash IMAGE NAME`, or write fewer steps"
            }
            SandboxError::WorkingDirectory { .. } => "make the directory, or name another one",
            SandboxError::ReadOnlyMountPoint { .. } => {
                "make it in what the outer mount shows, or let that one be written to with `rw`"
            }
            SandboxError::ForbiddenMountPoint { .. } => "mount it somewhere else",
            SandboxError::Limit { .. } => "ask for no more than `ulimit -H` shows here, or run dram as root",
            SandboxError::ForeignProgram { .. } => {
                "install an emulator that the kernel then uses by itself: on Debian `apt-get install qemu-user-static`; or \
                 build this stage on such a machine"
            }
            SandboxError::Insecure => "run dram as root of the machine, or leave `--security=insecure` out",
            SandboxError::StoreFileSystem { .. } => STORE_FILE_SYSTEM_HELP,
            SandboxError::HelperStart { source }
            | SandboxError::HelperConnection { source, .. }
            | SandboxError::Process { source, .. }
            | SandboxError::Namespaces { source }
                if process_limit_help(source.errno()).is_some() =>
            {
                PROCESS_LIMIT_HELP
            }
            SandboxError::NamespaceLimit => {
                let set = |name: String| format!("{name} is 0: `sysctl -w {name}=15000`");
                return forbidding_sysctls().into_iter().map(set).chain([DOCTOR_HELP.to_owned()]).collect();
            }
            SandboxError::Namespaces { .. } | SandboxError::ReadOnlyRoot { .. } | SandboxError::Filter { .. } => {
                DOCTOR_HELP
            }
            SandboxError::Mount { source, .. }
            | SandboxError::HelperStart { source }
            | SandboxError::HelperConnection { source, .. }
            | SandboxError::Process { source, .. }
                if class_of_refusal(source) == ErrorClass::MissingSupport =>
            {
                DOCTOR_HELP
            }
            SandboxError::HelperStart { source }
            | SandboxError::HelperConnection { source, .. }
            | SandboxError::Mount { source, .. }
                if source.errno().kind() == ErrorKind::FileTooLarge =>
            {
                "the size of a file is limited here: `ulimit -f unlimited` in the shell raises the limit"
            }
            SandboxError::Mount { source, .. } | SandboxError::MountPointCreation { source, .. }
                if source.errno().kind() == ErrorKind::StorageFull =>
            {
                STORAGE_HELP
            }
            SandboxError::Mount { .. }
            | SandboxError::Description { .. }
            | SandboxError::HelperStart { .. }
            | SandboxError::HelperConnection { .. }
            | SandboxError::HelperDied { .. }
            | SandboxError::MountPoint { .. }
            | SandboxError::MountPointCreation { .. }
            | SandboxError::SourceMissing { .. }
            | SandboxError::Device { .. }
            | SandboxError::WorkingDirectoryEscapes { .. }
            | SandboxError::Process { .. }
            | SandboxError::NotExecutable { .. } => return Vec::new(),
        };
        vec![help.to_owned()]
    }
}

/// Returns the class of a request that the kernel refused: a missing permission or system call is a lack of this machine.
/// Filters refuse a call with one number or the other.
fn class_of_refusal(source: &KernelError) -> ErrorClass {
    match source.errno() {
        Errno::PERM | Errno::ACCESS | Errno::NOSYS => ErrorClass::MissingSupport,
        _ => ErrorClass::Work,
    }
}

/// Returns the help for a missing ELF interpreter, whose path tells the C library that the program was built for.
fn interpreter_help(interpreter: &str) -> &'static str {
    if interpreter.contains("ld-musl") {
        "the program was built for musl (Alpine) and this image has none: build it in a stage of the same family, or start \
         this stage from a musl base"
    } else if interpreter.contains("ld-linux") {
        "the program was built for glibc (Debian, Fedora …) and this image has none: start this stage from a glibc base, \
         or build the program where the image comes from"
    } else {
        "install the interpreter in this stage, or copy it in"
    }
}

impl ErrorReport for MissingHostSupport {
    fn class(&self) -> ErrorClass {
        ErrorClass::MissingSupport
    }

    fn helps(&self) -> Vec<String> {
        let mut helps: Vec<String> = self.failed_checks.iter().filter_map(|check| check.help.clone()).collect();
        helps.push("`dram doctor` shows everything that was looked at".to_owned());
        helps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_error(errno: i32) -> Vec<SandboxError> {
        let source = || KernelError::from(Errno::from_raw_os_error(errno));
        let text = || "x".to_owned();
        vec![
            SandboxError::Description { what: text() },
            SandboxError::HelperStart { source: source() },
            SandboxError::HelperConnection { step: text(), source: source() },
            SandboxError::HelperDied { status: text() },
            SandboxError::Namespaces { source: source() },
            SandboxError::NamespaceLimit,
            SandboxError::StoreFileSystem { path: text(), file_system: text(), source: source() },
            SandboxError::TooManyLayers { count: 600, limit: 500 },
            SandboxError::Mount { step: text(), path: text(), source: source() },
            SandboxError::ReadOnlyRoot { work: text() },
            SandboxError::MountPoint { path: text(), found: text(), wanted: text() },
            SandboxError::MountPointCreation { path: text(), source: source() },
            SandboxError::ReadOnlyMountPoint { path: text() },
            SandboxError::ForbiddenMountPoint { path: text(), why: text() },
            SandboxError::SourceMissing { path: text() },
            SandboxError::Limit { name: text(), soft: text(), hard: text(), source: source() },
            SandboxError::Insecure,
            SandboxError::Device { name: text(), major: 1, minor: 3 },
            SandboxError::WorkingDirectory { path: text(), source: source() },
            SandboxError::WorkingDirectoryEscapes { path: text() },
            SandboxError::Process { step: text(), source: source() },
            SandboxError::Filter { source: source() },
            SandboxError::CommandNotFound { program: text() },
            SandboxError::MissingInterpreter { program: text(), interpreter: text() },
            SandboxError::ForeignProgram { program: text(), machine: text(), own: text() },
            SandboxError::NotExecutable { program: text(), source: source() },
        ]
    }

    fn lacking_and_helped(errno: i32) -> (Vec<String>, Vec<String>) {
        let name = |error: &SandboxError| {
            let text = format!("{error:?}");
            text.split([' ', '{']).next().unwrap_or_default().to_owned()
        };
        let all = every_error(errno);
        let lacking = all.iter().filter(|error| error.class() == ErrorClass::MissingSupport).map(name).collect();
        (lacking, all.iter().filter(|error| !error.helps().is_empty()).map(name).collect())
    }

    #[test]
    fn only_a_lack_of_the_machine_has_that_class_and_a_missing_permission_is_one() {
        let always =
            ["Namespaces", "NamespaceLimit", "StoreFileSystem", "ReadOnlyRoot", "Insecure", "Filter", "ForeignProgram"];
        let helped = [
            "Namespaces",
            "NamespaceLimit",
            "StoreFileSystem",
            "TooManyLayers",
            "ReadOnlyRoot",
            "ReadOnlyMountPoint",
            "ForbiddenMountPoint",
            "Limit",
            "Insecure",
            "WorkingDirectory",
            "Filter",
            "CommandNotFound",
            "MissingInterpreter",
            "ForeignProgram",
        ];
        assert_eq!(
            lacking_and_helped(libc::EIO),
            (always.map(str::to_owned).to_vec(), helped.map(str::to_owned).to_vec())
        );
        // One answer, with either number of a filter.
        for number in [libc::EPERM, libc::ENOSYS] {
            let (lacking, helps) = lacking_and_helped(number);
            let more: Vec<_> = lacking.iter().filter(|name| !always.contains(&name.as_str())).collect();
            assert_eq!(more, ["HelperStart", "HelperConnection", "Mount", "Limit", "Process"]);
            let more: Vec<_> = helps.iter().filter(|name| !helped.contains(&name.as_str())).collect();
            assert_eq!(more, ["HelperStart", "HelperConnection", "Mount", "Process"]);
        }
        let (lacking, _) = lacking_and_helped(libc::EAGAIN);
        assert!(
            !lacking.contains(&"Namespaces".to_owned()),
            "no more processes is no lack of the machine: {lacking:?}"
        );
    }

    #[test]
    fn path_of_a_missing_interpreter_decides_its_help() {
        let table =
            [("/lib/ld-musl-x86_64.so.1", "musl base"), ("/lib64/ld-linux-x86-64.so.2", "glibc"), ("/bin/x", "copy")];
        for (path, expected) in table {
            assert!(interpreter_help(path).contains(expected), "{path}");
        }
    }
}
