//! Error numbers of the kernel, with messages.

use core::fmt;

/// The error of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartErrno(pub(crate) i32);

impl StartErrno {
    pub(crate) const NOENT: Self = Self(2);
    pub(crate) const NOPROCESS: Self = Self(3);
    pub(crate) const INTR: Self = Self(4);
    pub(crate) const NOEXEC: Self = Self(8);
    pub(crate) const AGAIN: Self = Self(11);
    pub(crate) const EXIST: Self = Self(17);
    pub(crate) const INPROGRESS: Self = Self(115);
    pub(crate) const TOOBIG: Self = Self(27);
    pub(crate) const LOOP: Self = Self(40);
}

impl fmt::Display for StartErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "not permitted",
            2 => "no such file or directory",
            3 => "no such process",
            5 => "input or output failed",
            8 => "not a program this machine can run",
            11 => "busy",
            12 => "no memory",
            13 => "permission denied",
            17 => "it exists",
            20 => "not a directory",
            21 => "it is a directory",
            24 => "too many open files",
            26 => "the file is busy",
            27 => "the file is too large",
            28 => "no space left",
            30 => "the file system is read-only",
            32 => "nobody reads",
            36 => "the name is too long",
            40 => "symbolic links go around in a circle",
            101 | 113 => "the host cannot be reached",
            104 => "the connection was reset",
            110 => "it took too long",
            111 => "nobody listens there",
            other => return write!(f, "error {other} of the system"),
        })
    }
}
