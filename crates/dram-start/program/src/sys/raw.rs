//! The system call instruction, and the numbers of the system calls.
#![allow(unsafe_code)] // There is no C library between this program and the kernel.

use core::arch::asm;

macro_rules! numbers {
    ($($name:ident $x86:literal $arm:literal)*) => {
        #[allow(non_camel_case_types)] // The kernel's own names.
        #[derive(Clone, Copy)]
        pub(crate) enum StartSyscall { $($name = if cfg!(target_arch = "x86_64") { $x86 } else { $arm }),* }
    };
}

numbers! {
    read 0 63
    write 1 64
    close 3 57
    ppoll 271 73
    mmap 9 222
    munmap 11 215
    rt_sigprocmask 14 135
    rt_sigtimedwait 128 137
    ioctl 16 29
    getpid 39 172
    geteuid 107 175
    ptrace 101 117
    prctl 157 167
    socket 41 198
    connect 42 203
    socketpair 53 199
    sendto 44 206
    getsockopt 55 209
    clone 56 220
    execve 59 221
    wait4 61 260
    kill 62 129
    uname 63 160
    fcntl 72 25
    flock 73 32
    ftruncate 77 46
    getcwd 79 17
    chdir 80 49
    fchdir 81 50
    setsid 112 157
    getdents64 217 61
    clock_gettime 228 113
    exit_group 231 94
    openat 257 56
    mkdirat 258 34
    unlinkat 263 35
    renameat2 316 276
    readlinkat 267 78
    faccessat 269 48
    dup3 292 24
    pipe2 293 59
    prlimit64 302 261
    getrandom 318 278
    statx 332 291
}

/// # Safety
/// The requirements are those of the system call: every address must point to memory of the expected size and access.
pub(crate) unsafe fn system_call(number: StartSyscall, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the caller's promise; the kernel changes no other registers than these.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number as isize, inlateout("x0") a[0] => result, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}

/// Maps new memory; null if there is none.
pub(super) fn map_pages(size: usize) -> *mut u8 {
    // Readable and writable, private and anonymous.
    let arguments = [0, size, 3, 0x22, usize::MAX, 0];
    // SAFETY: a new mapping touches nothing that exists.
    let address = unsafe { system_call(StartSyscall::mmap, arguments) };
    if (-4095..0).contains(&address) {
        core::ptr::null_mut()
    } else {
        core::ptr::with_exposed_provenance_mut(address as usize)
    }
}

/// Unmaps memory of [`pages`].
pub(super) fn unmap_pages(block: *mut u8, size: usize) {
    // SAFETY: the allocator's caller no longer uses the block, which was mapped with this size.
    unsafe { system_call(StartSyscall::munmap, [block.expose_provenance(), size, 0, 0, 0, 0]) };
}
