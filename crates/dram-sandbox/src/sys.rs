//! The `unsafe` code of this crate: system calls that have no safe wrapper. The helper has no C library, so each is made
//! directly.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use crate::prelude::*;
use alloc::ffi::CString;
use core::ffi::{CStr, c_char, c_int, c_long};
use core::{mem, ptr};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// The size of the kernel's signal set, in bytes.
const SIGNAL_SET_SIZE: usize = 8;

/// The two sides of [`clone_process`].
pub(crate) enum CloneResult {
    /// The parent, with a pidfd of the child: unlike a pid, it is never reused.
    Parent(OwnedFd),
    /// The child.
    Child,
}

/// Makes a system call.
///
/// # Safety
/// The requirements are those of the system call: every address must point to memory of the expected size and access.
unsafe fn system_call(number: c_long, a: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the caller's promise; the kernel changes no other registers than these.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1],
            in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("svc 0", in("x8") number as isize, inlateout("x0") a[0] => result, in("x1") a[1],
            in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    if (-4095..0).contains(&result) { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result as usize) }
}

/// A descriptor or another signed number, as an argument of a system call.
fn signed(number: c_int) -> usize {
    number as isize as usize
}

/// The address of a value, as an argument of a system call.
fn address<T>(of: *const T) -> usize {
    of.expose_provenance()
}

/// Takes ownership of a descriptor that the kernel has just made.
fn new_fd(number: usize) -> OwnedFd {
    // SAFETY: by the contract of this function, nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(number as RawFd) }
}

/// The standard streams of this process. A closed one is an error at its first use (`EBADF`).
pub(crate) fn standard_streams() -> [BorrowedFd<'static>; 3] {
    // SAFETY: nothing in the helper owns and closes these three.
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

/// Forks with `clone3(2)` into the namespaces of `flags`, or with `clone(2)` where a container's seccomp filter denies
/// it: most filters with `ENOSYS`, some with `EPERM`.
///
/// The caller must have a single thread: otherwise the child could inherit a lock that is never released.
pub(crate) fn clone_process(flags: u64) -> Result<CloneResult, Errno> {
    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain data for which zeroes are valid.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = address(&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child works on a copy of this memory and stack, as after fork.
    let pid = unsafe { system_call(libc::SYS_clone3, [address(&raw mut args), mem::size_of_val(&args), 0, 0, 0, 0]) };
    let pid = match pid {
        Err(Errno::NOSYS | Errno::PERM) => {
            let flags = args.flags as usize | libc::SIGCHLD as usize;
            // SAFETY: the same; its third argument is where the descriptor goes, on every architecture.
            unsafe { system_call(libc::SYS_clone, [flags, 0, address(&raw mut pidfd), 0, 0, 0]) }?
        }
        pid => pid?,
    };
    match pid {
        0 => Ok(CloneResult::Child),
        _ => Ok(CloneResult::Parent(new_fd(signed(pidfd)))),
    }
}

/// Moves this process into new namespaces, as `flags` says.
pub(crate) fn unshare(flags: rustix::thread::UnshareFlags) -> Result<(), Errno> {
    // SAFETY: unsafe is only the unsharing of the descriptor table, which nobody here asks for.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Returns the CPU time in user and kernel mode, in microseconds, and the largest resident set in kilobytes, of all
/// children of this process that have ended, and of those that they waited for.
pub(crate) fn usage_of_children() -> Result<(u64, u64, u64), Errno> {
    // SAFETY: rusage is plain data for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one rusage to the given address.
    unsafe { system_call(libc::SYS_getrusage, [signed(libc::RUSAGE_CHILDREN), address(&raw mut usage), 0, 0, 0, 0]) }?;
    let micros = |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
    Ok((micros(usage.ru_utime), micros(usage.ru_stime), usage.ru_maxrss.unsigned_abs()))
}

/// Ends this process at once, without destructors and without flushing the buffers of the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    loop {
        // SAFETY: no memory is involved.
        let _ = unsafe { system_call(libc::SYS_exit_group, [signed(code), 0, 0, 0, 0, 0]) };
    }
}

/// Takes ownership of an inherited descriptor, after a check that it is open.
pub(crate) fn take_inherited_fd(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD only looks.
    unsafe { system_call(libc::SYS_fcntl, [signed(number), signed(libc::F_GETFD), 0, 0, 0, 0]) }?;
    // By the contract with the parent, nothing else here owns it.
    Ok(new_fd(signed(number)))
}

/// Ignores a signal, from now on and in children.
pub(crate) fn ignore_signal(signal: c_int) {
    set_signal_action(signed(signal), libc::SIG_IGN as u64);
}

/// Sets the action of a signal: `SIG_DFL` or `SIG_IGN`. Signals that cannot be set are refused by the kernel.
fn set_signal_action(signal: usize, action: u64) {
    // The kernel's `struct sigaction`: the action, no flags, no restorer, an empty mask.
    let action = [action, 0, 0, 0];
    let arguments = [signal, address(&raw const action), 0, SIGNAL_SET_SIZE, 0, 0];
    // SAFETY: neither action runs code of ours; the structure lives during the call.
    let _ = unsafe { system_call(libc::SYS_rt_sigaction, arguments) };
}

/// Resets every signal to its default action and unblocks all, as a command expects.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        set_signal_action(signal, libc::SIG_DFL as u64);
    }
    set_signal_mask(libc::SIG_SETMASK, 0);
}

fn set_signal_mask(how: c_int, set: u64) {
    // SAFETY: the kernel reads eight bytes, which live during the call. It refuses only other sizes and unknown `how`.
    let _ = unsafe {
        system_call(libc::SYS_rt_sigprocmask, [signed(how), address(&raw const set), 0, SIGNAL_SET_SIZE, 0, 0])
    };
}

/// Blocks `signals` and returns a descriptor from which [`read_signal`] reads them.
pub(crate) fn open_signalfd(signals: &[c_int]) -> Result<OwnedFd, Errno> {
    let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
    set_signal_mask(libc::SIG_BLOCK, set);
    let arguments = [usize::MAX, address(&raw const set), SIGNAL_SET_SIZE, signed(libc::SFD_CLOEXEC), 0, 0];
    // SAFETY: the set lives on the stack during the call.
    unsafe { system_call(libc::SYS_signalfd4, arguments) }.map(new_fd)
}

/// Reads the number of the next pending signal.
pub(crate) fn read_signal(fd: BorrowedFd<'_>) -> Result<c_int, Errno> {
    let mut info = [0u8; mem::size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(fd, &mut info)?;
    let [a, b, c, d, ..] = info;
    Ok(u32::from_ne_bytes([a, b, c, d]) as c_int)
}

/// Sends any signal, also a real-time one.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> Result<(), Errno> {
    let arguments = [signed(pidfd.as_raw_fd()), signed(signal), 0, 0, 0, 0];
    // SAFETY: no memory is handed over.
    unsafe { system_call(libc::SYS_pidfd_send_signal, arguments) }.map(drop)
}

/// Calls `mount_setattr(2)` on an open mount: sets the attributes `set` and, if not zero, the `propagation`.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, set: u64, propagation: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    change_mount(mount, recursive, &attributes)
}

/// Calls `mount_setattr(2)` on an open mount: clears the attributes `clear`.
pub(crate) fn clear_mount_attributes(mount: BorrowedFd<'_>, clear: u64) -> Result<(), Errno> {
    change_mount(mount, false, &libc::mount_attr { attr_set: 0, attr_clr: clear, propagation: 0, userns_fd: 0 })
}

fn change_mount(mount: BorrowedFd<'_>, recursive: bool, attributes: &libc::mount_attr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let path = address(c"".as_ptr());
    let size = mem::size_of_val(attributes);
    let arguments = [signed(mount.as_raw_fd()), path, signed(flags), address(&raw const *attributes), size, 0];
    // SAFETY: both pointers live during the call and the size is that of the structure.
    unsafe { system_call(libc::SYS_mount_setattr, arguments) }.map(drop)
}

/// Sets close-on-exec for every descriptor from `first` on.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    let arguments = [first as usize, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: only flags change; nothing is closed now.
    unsafe { system_call(libc::SYS_close_range, arguments) }.map(drop)
}

/// Loads a seccomp program for this process and its children.
pub(crate) fn load_filter(program: &mut [libc::sock_filter]) -> Result<(), Errno> {
    set_filter(program, 0).map(drop)
}

/// Loads a seccomp program. Returns the descriptor of its notifications.
pub(crate) fn load_notifying_filter(program: &mut [libc::sock_filter]) -> Result<OwnedFd, Errno> {
    set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).map(new_fd)
}

fn set_filter(program: &mut [libc::sock_filter], flags: libc::c_ulong) -> Result<usize, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let prog = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let arguments = [libc::SECCOMP_SET_MODE_FILTER as usize, flags as usize, address(&raw const prog), 0, 0, 0];
    // SAFETY: the kernel copies the program, which lives during the call.
    unsafe { system_call(libc::SYS_seccomp, arguments) }
}

fn control<T>(fd: BorrowedFd<'_>, request: u64, value: *const T) -> Result<(), Errno> {
    let arguments = [signed(fd.as_raw_fd()), request as usize, address(value), 0, 0, 0];
    // SAFETY: each caller below passes the structure of its request, which lives during the call.
    unsafe { system_call(libc::SYS_ioctl, arguments) }.map(drop)
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
pub(crate) fn receive_notification(listener: BorrowedFd<'_>) -> Result<SyscallNotification, Errno> {
    // SAFETY: plain data, which the kernel wants to be zeroes.
    let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
    control(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call)?;
    Ok(SyscallNotification {
        id: call.id,
        pid: call.pid,
        number: c_long::from(call.data.nr),
        arguments: call.data.args,
    })
}

/// Returns true if the call still waits: then the calling thread's pid was not reused.
pub(crate) fn is_notification_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    control(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id).is_ok()
}

/// Answers a notification: the call returns 0, or fails with `error` if that is not 0.
pub(crate) fn answer_notification(listener: BorrowedFd<'_>, id: u64, error: c_int) -> Result<(), Errno> {
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: -error, flags: 0 };
    control(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
}

/// Executes `program`. Returns only if that failed.
pub(crate) fn execve(program: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|item| item.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    let arguments = [address(program.as_ptr()), address(argv.as_ptr()), address(env.as_ptr()), 0, 0, 0];
    // SAFETY: both arrays end with a null pointer and outlive the call, as do the strings.
    unsafe { system_call(libc::SYS_execve, arguments) }.err().unwrap_or(Errno::IO)
}

/// Brings the loopback device of this network namespace up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    control(rustix::fd::AsFd::as_fd(&socket), libc::SIOCSIFFLAGS, &raw const request)
}
