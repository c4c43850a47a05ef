//! The entry point: it takes the number of the inherited connection from the stack.
#![allow(unsafe_code)] // There is no C library that would do this.

use core::arch::global_asm;
use core::ffi::CStr;
use core::ptr::with_exposed_provenance;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {enter}",
    "ud2",
    enter = sym enter,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "and sp, x0, #-16",
    "bl {enter}",
    "brk #1",
    enter = sym enter,
);

extern "C" fn enter(stack: *const usize) -> ! {
    // SAFETY: the kernel put the number of arguments here, and then the addresses of the arguments, strings that end with
    // a NUL and live as long as the process.
    let word = unsafe {
        match *stack {
            0 | 1 => c"",
            _ => CStr::from_ptr(with_exposed_provenance(*stack.add(2))),
        }
    };
    let number = word.to_str().ok().and_then(|word| word.parse().ok()).unwrap_or(-1);
    dram_sandbox::end_helper(dram_sandbox::run_jail_helper(number))
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    use core::fmt::Write;
    struct HelperPanicOutput;
    impl Write for HelperPanicOutput {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            // SAFETY: nothing here closes the stream; if it is closed, writing fails.
            let stream = unsafe { rustix::stdio::stderr() };
            rustix::io::write(stream, text.as_bytes()).map(drop).map_err(|_| core::fmt::Error)
        }
    }
    let _ = writeln!(HelperPanicOutput, "error: a bug in the jail helper: {info}");
    dram_sandbox::end_helper(70)
}
