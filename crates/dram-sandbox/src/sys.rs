//! The `unsafe` code of this crate: system calls that have no safe wrapper.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use rustix::thread::UnshareFlags;
use std::ffi::{CStr, CString, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{mem, ptr};

/// The two sides of [`clone_process`].
pub(crate) enum CloneResult {
    /// The parent, with a pidfd of the child: unlike a pid, it is never reused.
    Parent(OwnedFd),
    /// The child.
    Child,
}

fn check_result(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks with `clone3(2)` into the namespaces of `flags`, or with `clone(2)` where a container's seccomp filter denies
/// it.
///
/// The caller must have a single thread: otherwise the child could inherit a lock that is never released.
pub(crate) fn clone_process(flags: u64) -> io::Result<CloneResult> {
    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain data for which zeroes are valid.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child works on a copy of this memory and stack, as after fork.
    let pid = check_result(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, mem::size_of_val(&args)) });
    let pid = match pid {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            let flags = args.flags | libc::SIGCHLD as u64;
            let (stack, none): (*const u8, *const u8) = (ptr::null(), ptr::null());
            // SAFETY: the same; its third argument is where the descriptor goes, on every architecture.
            check_result(unsafe { libc::syscall(libc::SYS_clone, flags, stack, &raw mut pidfd, none, none) })?
        }
        pid => pid?,
    };
    match pid {
        0 => Ok(CloneResult::Child),
        // SAFETY: the kernel has just made this descriptor for us.
        _ => Ok(CloneResult::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Moves this process into new namespaces, as `flags` says.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), rustix::io::Errno> {
    // SAFETY: unsafe is only the unsharing of the descriptor table, which nobody here asks for.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Returns the CPU time in user and kernel mode, in microseconds, and the largest resident set in kilobytes, of all
/// children of this process that have ended, and of those that they waited for.
pub(crate) fn usage_of_children() -> io::Result<(u64, u64, u64)> {
    // SAFETY: rusage is plain data for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one rusage to the given address.
    check_result(c_long::from(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) }))?;
    let micros = |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
    Ok((micros(usage.ru_utime), micros(usage.ru_stime), usage.ru_maxrss.unsigned_abs()))
}

/// Ends this process at once, without destructors and without flushing the buffers of the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Takes ownership of an inherited descriptor, after a check that it is open.
pub(crate) fn take_inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks.
    check_result(c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: the descriptor is open and, by the contract with the parent, nothing else here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Resets every signal to its default action and unblocks all, as a command expects.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours; numbers that cannot be set are refused by the kernel.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set on the stack.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Blocks `signals` and returns a descriptor from which [`read_signal`] reads them.
pub(crate) fn open_signalfd(signals: &[c_int]) -> io::Result<OwnedFd> {
    // SAFETY: the set lives on the stack for all three calls.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        let fd = check_result(c_long::from(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC)))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Reads the number of the next pending signal.
pub(crate) fn read_signal(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    let mut info = [0u8; mem::size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(fd, &mut info)?;
    let [a, b, c, d, ..] = info;
    Ok(u32::from_ne_bytes([a, b, c, d]) as c_int)
}

/// Sends any signal, also a real-time one.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let none: *const libc::siginfo_t = ptr::null();
    // SAFETY: no memory is handed over.
    check_result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// Calls `mount_setattr(2)` on an open mount: sets the attributes `set` and, if not zero, the `propagation`.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, set: u64, propagation: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: both pointers live during the call and the size is that of the structure.
    check_result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            mem::size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Sets close-on-exec for every descriptor from `first` on.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    let last = u32::MAX;
    // SAFETY: only flags change; nothing is closed now.
    check_result(unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Loads a seccomp program for this process and its children.
pub(crate) fn load_filter(program: &mut [libc::sock_filter]) -> io::Result<()> {
    set_filter(program, 0).map(drop)
}

/// Loads a seccomp program. Returns the descriptor of its notifications.
pub(crate) fn load_notifying_filter(program: &mut [libc::sock_filter]) -> io::Result<OwnedFd> {
    let fd = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn set_filter(program: &mut [libc::sock_filter], flags: libc::c_ulong) -> io::Result<c_long> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let prog = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives during the call.
    check_result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) })
}

/// A system call that waits for the answer to its notification.
pub(crate) struct SyscallNotification {
    /// The id of the notification.
    pub(crate) id: u64,
    /// The calling thread.
    pub(crate) pid: u32,
    pub(crate) number: c_long,
    pub(crate) arguments: [u64; 6],
}

/// Receives the next notification.
pub(crate) fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<SyscallNotification> {
    // SAFETY: plain data, which the kernel wants to be zeroes.
    let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills the structure, which lives during the call.
    let got = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut call) };
    check_result(c_long::from(got))?;
    Ok(SyscallNotification {
        id: call.id,
        pid: call.pid,
        number: c_long::from(call.data.nr),
        arguments: call.data.args,
    })
}

/// Returns true if the call still waits: then the calling thread's pid was not reused.
pub(crate) fn is_notification_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one number, which lives during the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) == 0 }
}

/// Answers a notification: the call returns 0, or fails with `error` if that is not 0.
pub(crate) fn answer_notification(listener: BorrowedFd<'_>, id: u64, error: c_int) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: -error, flags: 0 };
    // SAFETY: the structure lives during the call.
    let sent = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut answer) };
    check_result(c_long::from(sent)).map(drop)
}

/// Executes `program`. Returns only if that failed.
pub(crate) fn execve(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|item| item.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Brings the loopback device of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads the request, which lives during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check_result(c_long::from(result)).map(drop)
}
