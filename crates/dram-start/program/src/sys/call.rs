//! Safe wrappers of system calls.
#![allow(unsafe_code)] // Each hands addresses to the kernel.

use alloc::vec;
use alloc::vec::Vec;

use dram_start::bytes::Bytes;

use super::raw::{Call, call};
use crate::errno::Errno;

/// An open file, which is closed when dropped.
#[derive(Debug)]
pub(crate) struct Fd(pub(crate) i32);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: no memory is involved.
        unsafe { call(Call::close, [number(self.0), 0, 0, 0, 0, 0]) };
    }
}

impl Fd {
    /// Leaves the file open for the program that is executed next.
    pub(crate) fn leave_open(self) {
        core::mem::forget(self);
    }
}

pub(crate) const RDONLY: u32 = 0;
pub(crate) const WRONLY: u32 = 1;
pub(crate) const RDWR: u32 = 2;
pub(crate) const CREAT: u32 = 0o100;
pub(crate) const EXCL: u32 = 0o200;
pub(crate) const TRUNC: u32 = 0o1000;
pub(crate) const APPEND: u32 = 0o2000;
pub(crate) const CLOEXEC: u32 = 0o2_000_000;
pub(crate) const PATH: u32 = 0o10_000_000;
/// Opening fails if the last component of the path is a symbolic link.
pub(crate) const NOFOLLOW: u32 = if cfg!(target_arch = "x86_64") { 0o400_000 } else { 0o100_000 };

const HERE: usize = -100_isize as usize;

fn number(value: i32) -> usize {
    value as isize as usize
}

fn result(value: isize) -> Result<usize, Errno> {
    if value < 0 { Err(Errno(-value as i32)) } else { Ok(value as usize) }
}

fn address<T>(of: &T) -> usize {
    (&raw const *of).expose_provenance()
}

fn start(of: &[u8]) -> usize {
    of.as_ptr().expose_provenance()
}

/// A path as the kernel takes it: ended by its first NUL.
fn path(bytes: &[u8]) -> Bytes {
    let mut text: Bytes = bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec();
    text.push(0);
    text
}

pub(crate) fn exit(code: u8) -> ! {
    loop {
        // SAFETY: no memory is involved.
        unsafe { call(Call::exit_group, [usize::from(code), 0, 0, 0, 0, 0]) };
    }
}

pub(crate) fn open(name: &[u8], flags: u32, mode: u32) -> Result<Fd, Errno> {
    let name = path(name);
    loop {
        // SAFETY: the path ends with a NUL and lives until the call returns.
        match result(unsafe { call(Call::openat, [HERE, start(&name), flags as usize, mode as usize, 0, 0]) }) {
            Err(Errno::INTR) => {}
            other => return other.map(|fd| Fd(fd as i32)),
        }
    }
}

pub(crate) fn read(fd: i32, into: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let to = into.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel writes at most as much as the buffer holds.
        match result(unsafe { call(Call::read, [number(fd), to, into.len(), 0, 0, 0]) }) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Writes as much as the kernel takes.
fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel reads the buffer only.
        match result(unsafe { call(Call::write, [number(fd), start(bytes), bytes.len(), 0, 0, 0]) }) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(Errno(5)),
            Ok(count) => bytes = &bytes[count..],
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn on_path(which: Call, name: &[u8], b: usize, c: usize) -> Result<usize, Errno> {
    let name = path(name);
    // SAFETY: the path ends with a NUL and lives until the call returns; the other arguments are numbers.
    result(unsafe { call(which, [HERE, start(&name), b, c, 0, 0]) })
}

pub(crate) fn make_directory(name: &[u8], mode: u32) -> Result<(), Errno> {
    on_path(Call::mkdirat, name, mode as usize, 0).map(|_| ())
}

pub(crate) fn unlink(name: &[u8]) -> Result<(), Errno> {
    on_path(Call::unlinkat, name, 0, 0).map(|_| ())
}

/// Returns true if access to the file is allowed: 0 it exists, 1 execute, 2 write, 4 read.
pub(crate) fn may(name: &[u8], how: u32) -> bool {
    on_path(Call::faccessat, name, how as usize, 0).is_ok()
}

pub(crate) fn rename(from: &[u8], to: &[u8]) -> Result<(), Errno> {
    let (from, to) = (path(from), path(to));
    // SAFETY: both paths end with a NUL and live until the call returns.
    result(unsafe { call(Call::renameat2, [HERE, start(&from), HERE, start(&to), 0, 0]) }).map(|_| ())
}

pub(crate) fn read_link(name: &[u8]) -> Result<Bytes, Errno> {
    let name = path(name);
    let mut buffer = vec![0; 4096];
    let to = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: the path ends with a NUL; the kernel writes at most as much as the buffer holds.
    let length = result(unsafe { call(Call::readlinkat, [HERE, start(&name), to, buffer.len(), 0, 0]) })?;
    buffer.truncate(length);
    Ok(buffer)
}

pub(crate) fn current_directory() -> Result<Bytes, Errno> {
    let mut buffer = vec![0; 4096];
    let to = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most as much as the buffer holds.
    let length = result(unsafe { call(Call::getcwd, [to, buffer.len(), 0, 0, 0, 0]) })?;
    buffer.truncate(length.saturating_sub(1));
    Ok(buffer)
}

pub(crate) fn change_directory(name: &[u8]) -> Result<(), Errno> {
    let name = path(name);
    // SAFETY: the path ends with a NUL and lives until the call returns.
    result(unsafe { call(Call::chdir, [start(&name), 0, 0, 0, 0, 0]) }).map(|_| ())
}

pub(crate) fn change_directory_to(fd: &Fd) -> Result<(), Errno> {
    plain(Call::fchdir, [number(fd.0), 0, 0]).map(|_| ())
}

/// Calls the kernel with arguments that are numbers.
fn plain(which: Call, a: [usize; 3]) -> Result<usize, Errno> {
    // SAFETY: the callers below only name calls that take no addresses.
    result(unsafe { call(which, [a[0], a[1], a[2], 0, 0, 0]) })
}

/// The mode of a file, following symbolic links, and its owner.
pub(crate) fn mode_and_owner(name: &[u8]) -> Result<(u16, u32), Errno> {
    let name = path(name);
    let mut found = [0_u64; 32];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the path ends with a NUL; `statx` fills 256 bytes, which is the size of the buffer.
    result(unsafe { call(Call::statx, [HERE, start(&name), 0, 0xb, to, 0]) })?;
    // The owner is the 32 bits at offset 20, the mode the 16 at 28; both architectures are little-endian.
    Ok(((found[3] >> 32) as u16, (found[2] >> 32) as u32))
}

pub(crate) fn own_user() -> u32 {
    plain(Call::geteuid, [0; 3]).unwrap_or_default() as u32
}

/// Reads entries of a directory, as the kernel packs them. Returns 0 at the end.
pub(crate) fn directory_entries(fd: &Fd, into: &mut [u8]) -> Result<usize, Errno> {
    let to = into.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most as much as the buffer holds.
    result(unsafe { call(Call::getdents64, [number(fd.0), to, into.len(), 0, 0, 0]) })
}

/// Executes a program in this process. Returns only if that failed.
pub(crate) fn execute(program: &[u8], arguments: &[Bytes], environment: &[Bytes]) -> Errno {
    let program = path(program);
    let arguments: Vec<Bytes> = arguments.iter().map(|one| path(one)).collect();
    let environment: Vec<Bytes> = environment.iter().map(|one| path(one)).collect();
    let list = |of: &[Bytes]| of.iter().map(|one| start(one)).chain([0]).collect::<Vec<usize>>();
    let (argv, envp) = (list(&arguments), list(&environment));
    let argv = argv.as_ptr().expose_provenance();
    let envp = envp.as_ptr().expose_provenance();
    // SAFETY: all strings end with a NUL, both lists with a null, and all of them live until the call returns.
    match result(unsafe { call(Call::execve, [start(&program), argv, envp, 0, 0, 0]) }) {
        Err(errno) => errno,
        Ok(_) => Errno(0),
    }
}

/// Forks. Returns `None` in the child, and the pid of the child in the parent.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: a fork without shared memory; there is one thread, so the child's memory is whole.
    let child = result(unsafe { call(Call::clone, [17, 0, 0, 0, 0, 0]) })?;
    Ok(Some(child as i32).filter(|child| *child != 0))
}

/// Waits for a child. Returns its pid and wait status; `None` if no child ended and `block` is false.
pub(crate) fn wait(child: i32, block: bool) -> Result<Option<(i32, i32)>, Errno> {
    let mut status = 0_i32;
    loop {
        let to = (&raw mut status).expose_provenance();
        // SAFETY: the kernel writes one number where `status` is.
        match result(unsafe { call(Call::wait4, [number(child), to, usize::from(!block), 0, 0, 0]) }) {
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
            Ok(0) => return Ok(None),
            Ok(found) => return Ok(Some((found as i32, status))),
        }
    }
}

pub(crate) fn own_process() -> i32 {
    plain(Call::getpid, [0; 3]).unwrap_or_default() as i32
}

pub(crate) fn kill(process: i32, signal: i32) -> Result<(), Errno> {
    plain(Call::kill, [number(process), number(signal), 0]).map(|_| ())
}

pub(crate) fn new_session() {
    let _ = plain(Call::setsid, [0; 3]);
}

/// Locks the file without waiting.
pub(crate) fn lock(fd: &Fd) -> Result<(), Errno> {
    plain(Call::flock, [number(fd.0), 2 | 4, 0]).map(|_| ())
}

/// Makes `to` a duplicate of the open file `from`, which stays open on exec.
pub(crate) fn duplicate(from: &Fd, to: i32) -> Result<(), Errno> {
    plain(Call::dup3, [number(from.0), number(to), 0]).map(|_| ())
}

/// Clears close-on-exec, so that the file stays open for the program that is executed.
pub(crate) fn keep_open(fd: &Fd) -> Result<(), Errno> {
    plain(Call::fcntl, [number(fd.0), 2, 0]).map(|_| ())
}

pub(crate) fn is_open(fd: i32) -> bool {
    plain(Call::fcntl, [number(fd), 1, 0]).is_ok()
}

pub(crate) fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [0_i32; 2];
    let to = ends.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two numbers.
    result(unsafe { call(Call::pipe2, [to, CLOEXEC as usize, 0, 0, 0, 0]) })?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

pub(crate) fn is_terminal(fd: i32) -> bool {
    let mut found = [0_u8; 64];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the request asks for the terminal's settings, of less than 64 bytes.
    result(unsafe { call(Call::ioctl, [number(fd), 0x5401, to, 0, 0, 0]) }).is_ok()
}

/// The soft and the hard limit of open files.
pub(crate) fn open_files() -> Result<(u64, u64), Errno> {
    let mut found = [0_u64; 2];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two numbers.
    result(unsafe { call(Call::prlimit64, [0, 7, 0, to, 0, 0]) })?;
    Ok((found[0], found[1]))
}

pub(crate) fn set_open_files(soft: u64, hard: u64) -> Result<(), Errno> {
    let wanted = [soft, hard];
    // SAFETY: the kernel reads two numbers.
    result(unsafe { call(Call::prlimit64, [0, 7, address(&wanted), 0, 0, 0]) }).map(|_| ())
}

pub(crate) fn random(into: &mut [u8]) -> Result<(), Errno> {
    let to = into.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most as much as the buffer holds. Less than 256 bytes are never cut short.
    result(unsafe { call(Call::getrandom, [to, into.len(), 0, 0, 0, 0]) }).map(|_| ())
}

/// The monotonic clock in milliseconds.
pub(crate) fn clock() -> u64 {
    let mut found = [0_u64; 2];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two numbers.
    let _ = result(unsafe { call(Call::clock_gettime, [1, to, 0, 0, 0, 0]) });
    found[0] * 1000 + found[1] / 1_000_000
}

/// The host name of the machine.
pub(crate) fn host_name() -> Bytes {
    let mut found = [0_u8; 65 * 6];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: `uname` writes six fields of 65 bytes.
    if result(unsafe { call(Call::uname, [to, 0, 0, 0, 0, 0]) }).is_err() {
        return Bytes::new();
    }
    found[65..130].split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// Waits until `fd` can be read (1) or written (4). Returns false after the timeout.
pub(crate) fn wait_for(fd: i32, events: u16, milliseconds: u64) -> Result<bool, Errno> {
    // The file descriptor, the requested events, and the returned events.
    let mut request = [fd as u32, u32::from(events)];
    let limit = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let to = request.as_mut_ptr().expose_provenance();
    // SAFETY: one request of eight bytes; a time of two numbers; no signal mask.
    match result(unsafe { call(Call::ppoll, [to, usize::from(fd >= 0), address(&limit), 0, 0, 0]) }) {
        Err(Errno::INTR) => Ok(false),
        other => other.map(|ready| ready > 0),
    }
}

/// Sleeps.
pub(crate) fn pause(milliseconds: u64) {
    let _ = wait_for(-1, 0, milliseconds);
}

/// Blocks exactly the signals of `mask`, where bit N - 1 is signal N. Returns what was blocked before.
pub(crate) fn block_signals(mask: u64) -> u64 {
    let mut before = 0_u64;
    let to = (&raw mut before).expose_provenance();
    // SAFETY: the kernel reads one set of eight bytes and writes another.
    let _ = result(unsafe { call(Call::rt_sigprocmask, [2, address(&mask), to, 8, 0, 0]) });
    before
}

/// Waits for the next signal of `mask`. Returns it, and true if the kernel sent it, as for a key at the terminal.
pub(crate) fn next_signal(mask: u64) -> Option<(i32, bool)> {
    let mut about = [0_i32; 32];
    let to = about.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel reads one set of eight bytes and writes 128.
    let found = result(unsafe { call(Call::rt_sigtimedwait, [address(&mask), to, 0, 8, 0, 0]) });
    // The third number is the origin of the signal: 0x80 is the kernel (`SI_KERNEL`).
    found.ok().map(|signal| (signal as i32, about[2] == 0x80))
}

/// Makes a non-blocking stream socket: 2 for IPv4, 10 for IPv6.
pub(crate) fn socket(family: u16) -> Result<Fd, Errno> {
    plain(Call::socket, [usize::from(family), 1 | 0o4000 | CLOEXEC as usize, 0]).map(|fd| Fd(fd as i32))
}

/// Begins to connect to a `sockaddr`.
pub(crate) fn connect(fd: &Fd, to: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads the buffer only.
    result(unsafe { call(Call::connect, [number(fd.0), start(to), to.len(), 0, 0, 0]) }).map(|_| ())
}

/// Sends as much as the kernel takes. If the peer has closed the connection it fails, without a signal.
pub(crate) fn send(fd: &Fd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the kernel reads the buffer only; there is no address.
        match result(unsafe { call(Call::sendto, [number(fd.0), start(bytes), bytes.len(), 0x4000, 0, 0]) }) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The result of a connection attempt that has ended.
pub(crate) fn socket_error(fd: &Fd) -> Result<(), Errno> {
    let mut error = 0_i32;
    let mut size = 4_u32;
    let (to, length) = ((&raw mut error).expose_provenance(), (&raw mut size).expose_provenance());
    // SAFETY: the kernel writes one number of four bytes, and its size.
    result(unsafe { call(Call::getsockopt, [number(fd.0), 1, 4, to, length, 0]) })?;
    if error == 0 { Ok(()) } else { Err(Errno(error)) }
}
