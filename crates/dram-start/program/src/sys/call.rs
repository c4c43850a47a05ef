//! Safe wrappers of system calls.
#![allow(unsafe_code)] // Each hands addresses to the kernel.

use alloc::vec;
use alloc::vec::Vec;

use dram_start::byte_string::ByteString;

use super::raw::{StartSyscall, system_call};
use crate::errno::StartErrno;

/// An open file, which is closed when dropped.
#[derive(Debug)]
pub(crate) struct StartFd(pub(crate) i32);

impl Drop for StartFd {
    fn drop(&mut self) {
        // SAFETY: no memory is involved.
        unsafe { system_call(StartSyscall::close, [sign_extended(self.0), 0, 0, 0, 0, 0]) };
    }
}

impl StartFd {
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
pub(crate) const APPEND: u32 = 0o2000;
/// Opening a pipe does not wait for its other end.
pub(crate) const NONBLOCK: u32 = 0o4000;
pub(crate) const CLOEXEC: u32 = 0o2_000_000;
pub(crate) const PATH: u32 = 0o10_000_000;
/// Opening fails if the last component of the path is a symbolic link.
pub(crate) const NOFOLLOW: u32 = if cfg!(target_arch = "x86_64") { 0o400_000 } else { 0o100_000 };

const CURRENT_DIRECTORY: usize = -100_isize as usize;

fn sign_extended(value: i32) -> usize {
    value as isize as usize
}

fn check_result(value: isize) -> Result<usize, StartErrno> {
    if value < 0 { Err(StartErrno(-value as i32)) } else { Ok(value as usize) }
}

fn address_of<T>(of: &T) -> usize {
    (&raw const *of).expose_provenance()
}

fn address_of_bytes(of: &[u8]) -> usize {
    of.as_ptr().expose_provenance()
}

/// A path as the kernel takes it: ended by its first NUL.
fn c_string(bytes: &[u8]) -> ByteString {
    let mut text: ByteString = bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec();
    text.push(0);
    text
}

pub(crate) fn exit(code: u8) -> ! {
    loop {
        // SAFETY: no memory is involved.
        unsafe { system_call(StartSyscall::exit_group, [usize::from(code), 0, 0, 0, 0, 0]) };
    }
}

pub(crate) fn open(name: &[u8], flags: u32, mode: u32) -> Result<StartFd, StartErrno> {
    let name = c_string(name);
    loop {
        // SAFETY: the path ends with a NUL and lives until the call returns.
        match check_result(unsafe {
            system_call(
                StartSyscall::openat,
                [CURRENT_DIRECTORY, address_of_bytes(&name), flags as usize, mode as usize, 0, 0],
            )
        }) {
            Err(StartErrno::INTR) => {}
            other => return other.map(|fd| StartFd(fd as i32)),
        }
    }
}

pub(crate) fn read(fd: i32, into: &mut [u8]) -> Result<usize, StartErrno> {
    loop {
        let to = into.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel writes at most as much as the buffer holds.
        match check_result(unsafe { system_call(StartSyscall::read, [sign_extended(fd), to, into.len(), 0, 0, 0]) }) {
            Err(StartErrno::INTR) => {}
            other => return other,
        }
    }
}

/// Writes as much as the kernel takes.
fn write(fd: i32, bytes: &[u8]) -> Result<usize, StartErrno> {
    loop {
        // SAFETY: the kernel reads the buffer only.
        match check_result(unsafe {
            system_call(StartSyscall::write, [sign_extended(fd), address_of_bytes(bytes), bytes.len(), 0, 0, 0])
        }) {
            Err(StartErrno::INTR) => {}
            other => return other,
        }
    }
}

pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), StartErrno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(StartErrno(5)),
            Ok(count) => bytes = &bytes[count..],
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn call_on_path(which: StartSyscall, name: &[u8], b: usize, c: usize) -> Result<usize, StartErrno> {
    let name = c_string(name);
    // SAFETY: the path ends with a NUL and lives until the call returns; the other arguments are numbers.
    check_result(unsafe { system_call(which, [CURRENT_DIRECTORY, address_of_bytes(&name), b, c, 0, 0]) })
}

pub(crate) fn make_directory(name: &[u8], mode: u32) -> Result<(), StartErrno> {
    call_on_path(StartSyscall::mkdirat, name, mode as usize, 0).map(|_| ())
}

pub(crate) fn unlink(name: &[u8]) -> Result<(), StartErrno> {
    call_on_path(StartSyscall::unlinkat, name, 0, 0).map(|_| ())
}

pub(crate) fn remove_directory(name: &[u8]) -> Result<(), StartErrno> {
    const REMOVE_DIRECTORY: usize = 0x200;
    call_on_path(StartSyscall::unlinkat, name, REMOVE_DIRECTORY, 0).map(|_| ())
}

/// Returns true if access to the file is allowed: 0 it exists, 1 execute, 2 write, 4 read.
pub(crate) fn can_access(name: &[u8], how: u32) -> bool {
    call_on_path(StartSyscall::faccessat, name, how as usize, 0).is_ok()
}

pub(crate) fn rename(from: &[u8], to: &[u8]) -> Result<(), StartErrno> {
    let (from, to) = (c_string(from), c_string(to));
    // SAFETY: both paths end with a NUL and live until the call returns.
    check_result(unsafe {
        system_call(
            StartSyscall::renameat2,
            [CURRENT_DIRECTORY, address_of_bytes(&from), CURRENT_DIRECTORY, address_of_bytes(&to), 0, 0],
        )
    })
    .map(|_| ())
}

pub(crate) fn read_link(name: &[u8]) -> Result<ByteString, StartErrno> {
    let name = c_string(name);
    let mut buffer = vec![0; 4096];
    let to = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: the path ends with a NUL; the kernel writes at most as much as the buffer holds.
    let length = check_result(unsafe {
        system_call(StartSyscall::readlinkat, [CURRENT_DIRECTORY, address_of_bytes(&name), to, buffer.len(), 0, 0])
    })?;
    buffer.truncate(length);
    Ok(buffer)
}

pub(crate) fn current_directory() -> Result<ByteString, StartErrno> {
    let mut buffer = vec![0; 4096];
    let to = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most as much as the buffer holds.
    let length = check_result(unsafe { system_call(StartSyscall::getcwd, [to, buffer.len(), 0, 0, 0, 0]) })?;
    buffer.truncate(length.saturating_sub(1));
    Ok(buffer)
}

pub(crate) fn change_directory(name: &[u8]) -> Result<(), StartErrno> {
    let name = c_string(name);
    // SAFETY: the path ends with a NUL and lives until the call returns.
    check_result(unsafe { system_call(StartSyscall::chdir, [address_of_bytes(&name), 0, 0, 0, 0, 0]) }).map(|_| ())
}

pub(crate) fn change_directory_to(fd: &StartFd) -> Result<(), StartErrno> {
    call_with_numbers(StartSyscall::fchdir, [sign_extended(fd.0), 0, 0]).map(|_| ())
}

/// Calls the kernel with arguments that are numbers.
fn call_with_numbers(which: StartSyscall, a: [usize; 3]) -> Result<usize, StartErrno> {
    // SAFETY: the callers below only name calls that take no addresses.
    check_result(unsafe { system_call(which, [a[0], a[1], a[2], 0, 0, 0]) })
}

/// What the kernel tells about a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartFileStatus {
    /// Its kind and permissions.
    pub(crate) mode: u16,
    /// The user who owns it.
    pub(crate) owner: u32,
    /// The number of its names.
    pub(crate) links: u32,
}

/// The status of a file, following symbolic links.
pub(crate) fn file_status(name: &[u8]) -> Result<StartFileStatus, StartErrno> {
    status_at(CURRENT_DIRECTORY, name, 0)
}

/// The status of an open file.
pub(crate) fn open_file_status(fd: &StartFd) -> Result<StartFileStatus, StartErrno> {
    const EMPTY_PATH: usize = 0x1000;
    status_at(sign_extended(fd.0), b"", EMPTY_PATH)
}

fn status_at(directory: usize, name: &[u8], flags: usize) -> Result<StartFileStatus, StartErrno> {
    let name = c_string(name);
    let mut found = [0_u64; 32];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the path ends with a NUL; `statx` fills 256 bytes, which is the size of the buffer.
    check_result(unsafe { system_call(StartSyscall::statx, [directory, address_of_bytes(&name), flags, 0xf, to, 0]) })?;
    // The links are the 32 bits at offset 16, the owner those at 20, the mode the 16 at 28; both architectures are
    // little-endian.
    Ok(StartFileStatus { mode: (found[3] >> 32) as u16, owner: (found[2] >> 32) as u32, links: found[2] as u32 })
}

/// Makes an open file empty.
pub(crate) fn truncate(fd: &StartFd) -> Result<(), StartErrno> {
    call_with_numbers(StartSyscall::ftruncate, [sign_extended(fd.0), 0, 0]).map(|_| ())
}

pub(crate) fn own_uid() -> u32 {
    call_with_numbers(StartSyscall::geteuid, [0; 3]).unwrap_or_default() as u32
}

/// Reads entries of a directory, as the kernel packs them. Returns 0 at the end.
pub(crate) fn directory_entries(fd: &StartFd, into: &mut [u8]) -> Result<usize, StartErrno> {
    let to = into.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most as much as the buffer holds.
    check_result(unsafe { system_call(StartSyscall::getdents64, [sign_extended(fd.0), to, into.len(), 0, 0, 0]) })
}

/// Executes a program in this process. Returns only if that failed.
pub(crate) fn execute(program: &[u8], arguments: &[ByteString], environment: &[ByteString]) -> StartErrno {
    let program = c_string(program);
    let arguments: Vec<ByteString> = arguments.iter().map(|one| c_string(one)).collect();
    let environment: Vec<ByteString> = environment.iter().map(|one| c_string(one)).collect();
    let list = |of: &[ByteString]| of.iter().map(|one| address_of_bytes(one)).chain([0]).collect::<Vec<usize>>();
    let (argv, envp) = (list(&arguments), list(&environment));
    let argv = argv.as_ptr().expose_provenance();
    let envp = envp.as_ptr().expose_provenance();
    // SAFETY: all strings end with a NUL, both lists with a null, and all of them live until the call returns.
    match check_result(unsafe { system_call(StartSyscall::execve, [address_of_bytes(&program), argv, envp, 0, 0, 0]) })
    {
        Err(errno) => errno,
        Ok(_) => StartErrno(0),
    }
}

/// Forks. Returns `None` in the child, and the pid of the child in the parent.
pub(crate) fn fork() -> Result<Option<i32>, StartErrno> {
    // SAFETY: a fork without shared memory; there is one thread, so the child's memory is whole.
    let child = check_result(unsafe { system_call(StartSyscall::clone, [17, 0, 0, 0, 0, 0]) })?;
    Ok(Some(child as i32).filter(|child| *child != 0))
}

/// Waits for a child. Returns its pid and wait status; `None` if no child ended and `block` is false.
pub(crate) fn wait_for_child(child: i32, block: bool) -> Result<Option<(i32, i32)>, StartErrno> {
    let mut status = 0_i32;
    loop {
        let to = (&raw mut status).expose_provenance();
        // SAFETY: the kernel writes one number where `status` is.
        match check_result(unsafe {
            system_call(StartSyscall::wait4, [sign_extended(child), to, usize::from(!block), 0, 0, 0])
        }) {
            Err(StartErrno::INTR) => {}
            Err(other) => return Err(other),
            Ok(0) => return Ok(None),
            Ok(found) => return Ok(Some((found as i32, status))),
        }
    }
}

pub(crate) fn own_pid() -> i32 {
    call_with_numbers(StartSyscall::getpid, [0; 3]).unwrap_or_default() as i32
}

pub(crate) fn kill(process: i32, signal: i32) -> Result<(), StartErrno> {
    call_with_numbers(StartSyscall::kill, [sign_extended(process), sign_extended(signal), 0]).map(|_| ())
}

pub(crate) fn new_session() {
    let _ = call_with_numbers(StartSyscall::setsid, [0; 3]);
}

/// Locks the file without waiting.
pub(crate) fn try_lock(fd: &StartFd) -> Result<(), StartErrno> {
    call_with_numbers(StartSyscall::flock, [sign_extended(fd.0), 2 | 4, 0]).map(|_| ())
}

/// Locks the file, and waits until nobody else has it locked.
pub(crate) fn wait_for_lock(fd: &StartFd) -> Result<(), StartErrno> {
    loop {
        match call_with_numbers(StartSyscall::flock, [sign_extended(fd.0), 2, 0]) {
            Err(StartErrno::INTR) => {}
            other => return other.map(|_| ()),
        }
    }
}

/// Makes `to` a duplicate of the open file `from`, which stays open on exec.
pub(crate) fn duplicate(from: &StartFd, to: i32) -> Result<(), StartErrno> {
    call_with_numbers(StartSyscall::dup3, [sign_extended(from.0), sign_extended(to), 0]).map(|_| ())
}

/// Clears close-on-exec, so that the file stays open for the program that is executed.
pub(crate) fn clear_close_on_exec(fd: &StartFd) -> Result<(), StartErrno> {
    call_with_numbers(StartSyscall::fcntl, [sign_extended(fd.0), 2, 0]).map(|_| ())
}

pub(crate) fn is_open(fd: i32) -> bool {
    call_with_numbers(StartSyscall::fcntl, [sign_extended(fd), 1, 0]).is_ok()
}

pub(crate) fn pipe() -> Result<(StartFd, StartFd), StartErrno> {
    let mut ends = [0_i32; 2];
    let to = ends.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two numbers.
    check_result(unsafe { system_call(StartSyscall::pipe2, [to, CLOEXEC as usize, 0, 0, 0, 0]) })?;
    Ok((StartFd(ends[0]), StartFd(ends[1])))
}

pub(crate) fn is_terminal(fd: i32) -> bool {
    let mut found = [0_u8; 64];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the request asks for the terminal's settings, of less than 64 bytes.
    check_result(unsafe { system_call(StartSyscall::ioctl, [sign_extended(fd), 0x5401, to, 0, 0, 0]) }).is_ok()
}

/// The soft and the hard limit of open files.
pub(crate) fn open_files() -> Result<(u64, u64), StartErrno> {
    let mut found = [0_u64; 2];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two numbers.
    check_result(unsafe { system_call(StartSyscall::prlimit64, [0, 7, 0, to, 0, 0]) })?;
    Ok((found[0], found[1]))
}

pub(crate) fn set_open_files(soft: u64, hard: u64) -> Result<(), StartErrno> {
    let wanted = [soft, hard];
    // SAFETY: the kernel reads two numbers.
    check_result(unsafe { system_call(StartSyscall::prlimit64, [0, 7, address_of(&wanted), 0, 0, 0]) }).map(|_| ())
}

pub(crate) fn random(into: &mut [u8]) -> Result<(), StartErrno> {
    let to = into.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most as much as the buffer holds. Less than 256 bytes are never cut short.
    check_result(unsafe { system_call(StartSyscall::getrandom, [to, into.len(), 0, 0, 0, 0]) }).map(|_| ())
}

/// The monotonic clock in milliseconds.
pub(crate) fn monotonic_milliseconds() -> u64 {
    let mut found = [0_u64; 2];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two numbers.
    let _ = check_result(unsafe { system_call(StartSyscall::clock_gettime, [1, to, 0, 0, 0, 0]) });
    found[0] * 1000 + found[1] / 1_000_000
}

/// The host name of the machine.
pub(crate) fn host_name() -> ByteString {
    let mut found = [0_u8; 65 * 6];
    let to = found.as_mut_ptr().expose_provenance();
    // SAFETY: `uname` writes six fields of 65 bytes.
    if check_result(unsafe { system_call(StartSyscall::uname, [to, 0, 0, 0, 0, 0]) }).is_err() {
        return ByteString::new();
    }
    found[65..130].split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// Waits until `fd` can be read (1) or written (4). Returns false after the timeout.
pub(crate) fn wait_for_events(fd: i32, events: u16, milliseconds: u64) -> Result<bool, StartErrno> {
    // The file descriptor, the requested events, and the returned events.
    let mut request = [fd as u32, u32::from(events)];
    let limit = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let to = request.as_mut_ptr().expose_provenance();
    // SAFETY: one request of eight bytes; a time of two numbers; no signal mask.
    match check_result(unsafe {
        system_call(StartSyscall::ppoll, [to, usize::from(fd >= 0), address_of(&limit), 0, 0, 0])
    }) {
        Err(StartErrno::INTR) => Ok(false),
        other => other.map(|ready| ready > 0),
    }
}

/// Waits until one of the file descriptors can be read, has ended or is not open. Returns for each whether it is.
pub(crate) fn wait_for_input(fds: [i32; 2], milliseconds: u64) -> Result<[bool; 2], StartErrno> {
    // For each the file descriptor, the requested events, and the returned events.
    let mut requests = [[fds[0] as u32, 1], [fds[1] as u32, 1]];
    let limit = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let to = requests.as_mut_ptr().expose_provenance();
    // SAFETY: two requests of eight bytes; a time of two numbers; no signal mask.
    match check_result(unsafe { system_call(StartSyscall::ppoll, [to, 2, address_of(&limit), 0, 0, 0]) }) {
        Err(StartErrno::INTR) => Ok([false, false]),
        Err(other) => Err(other),
        Ok(_) => Ok(requests.map(|request| request[1] >> 16 != 0)),
    }
}

/// Sleeps.
pub(crate) fn sleep(milliseconds: u64) {
    let _ = wait_for_events(-1, 0, milliseconds);
}

/// Blocks exactly the signals of `mask`, where bit N - 1 is signal N. Returns what was blocked before.
pub(crate) fn block_signals(mask: u64) -> u64 {
    let mut before = 0_u64;
    let to = (&raw mut before).expose_provenance();
    // SAFETY: the kernel reads one set of eight bytes and writes another.
    let _ = check_result(unsafe { system_call(StartSyscall::rt_sigprocmask, [2, address_of(&mask), to, 8, 0, 0]) });
    before
}

/// Waits for the next signal of `mask`, at most for a time. Returns it, and true if the kernel sent it, as for a key at
/// the terminal.
pub(crate) fn next_signal(mask: u64, milliseconds: Option<u64>) -> Option<(i32, bool)> {
    let mut about = [0_i32; 32];
    let to = about.as_mut_ptr().expose_provenance();
    let limit = milliseconds.map(|time| [time / 1000, time % 1000 * 1_000_000]);
    let limit = limit.as_ref().map_or(0, address_of);
    // SAFETY: the kernel reads one set of eight bytes and a time of two numbers, or null, and writes 128 bytes.
    let found =
        check_result(unsafe { system_call(StartSyscall::rt_sigtimedwait, [address_of(&mask), to, limit, 8, 0, 0]) });
    // The third number is the origin of the signal: 0x80 is the kernel (`SI_KERNEL`).
    found.ok().map(|signal| (signal as i32, about[2] == 0x80))
}

/// Makes a non-blocking stream socket: 2 for IPv4, 10 for IPv6.
pub(crate) fn socket(family: u16) -> Result<StartFd, StartErrno> {
    call_with_numbers(StartSyscall::socket, [usize::from(family), 1 | 0o4000 | CLOEXEC as usize, 0])
        .map(|fd| StartFd(fd as i32))
}

/// Makes two connected non-blocking stream sockets, which are closed on exec.
pub(crate) fn socket_pair() -> Result<(StartFd, StartFd), StartErrno> {
    let mut ends = [0_i32; 2];
    let to = ends.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two numbers.
    check_result(unsafe { system_call(StartSyscall::socketpair, [1, 1 | 0o4000 | CLOEXEC as usize, 0, to, 0, 0]) })?;
    Ok((StartFd(ends[0]), StartFd(ends[1])))
}

/// Begins to connect to a `sockaddr`.
pub(crate) fn connect(fd: &StartFd, to: &[u8]) -> Result<(), StartErrno> {
    // SAFETY: the kernel reads the buffer only.
    check_result(unsafe {
        system_call(StartSyscall::connect, [sign_extended(fd.0), address_of_bytes(to), to.len(), 0, 0, 0])
    })
    .map(|_| ())
}

/// Sends as much as the kernel takes. If the peer has closed the connection it fails, without a signal.
pub(crate) fn send(fd: &StartFd, bytes: &[u8]) -> Result<usize, StartErrno> {
    loop {
        // SAFETY: the kernel reads the buffer only; there is no address.
        match check_result(unsafe {
            system_call(StartSyscall::sendto, [sign_extended(fd.0), address_of_bytes(bytes), bytes.len(), 0x4000, 0, 0])
        }) {
            Err(StartErrno::INTR) => {}
            other => return other,
        }
    }
}

/// The result of a connection attempt that has ended.
pub(crate) fn socket_error(fd: &StartFd) -> Result<(), StartErrno> {
    let mut error = 0_i32;
    let mut size = 4_u32;
    let (to, length) = ((&raw mut error).expose_provenance(), (&raw mut size).expose_provenance());
    // SAFETY: the kernel writes one number of four bytes, and its size.
    check_result(unsafe { system_call(StartSyscall::getsockopt, [sign_extended(fd.0), 1, 4, to, length, 0]) })?;
    if error == 0 { Ok(()) } else { Err(StartErrno(error)) }
}
