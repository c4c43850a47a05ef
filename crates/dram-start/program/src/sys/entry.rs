//! The entry point and the arguments on the stack.
#![allow(unsafe_code)] // There is no C library that would have these.

use alloc::vec::Vec;
use core::arch::global_asm;

use dram_start::byte_string::ByteString;

/// The arguments that the kernel passes to a program.
pub(crate) struct StartArguments {
    pub(crate) arguments: Vec<ByteString>,
    pub(crate) environment: Vec<ByteString>,
    /// The path by which the program was executed, as the caller wrote it.
    pub(crate) path: ByteString,
}

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
    enter = sym enter,
);

/// The key of the auxiliary vector for the executed path (`AT_EXECFN`).
const EXECFN: usize = 31;

extern "C" fn enter(stack: *const usize) -> ! {
    // SAFETY: the kernel put the number of arguments here, then the arguments, a null, the environment, a null, and
    // the auxiliary vector, which ends with a zero key; all strings end with a NUL and live as long as the process.
    let start = unsafe {
        let count = *stack;
        let arguments = stack.add(1);
        let mut at = arguments.add(count + 1);
        let mut environment = Vec::new();
        while *at != 0 {
            environment.push(text(*at));
            at = at.add(1);
        }
        at = at.add(1);
        let mut path = ByteString::new();
        while *at != 0 {
            if *at == EXECFN {
                path = text(*at.add(1));
            }
            at = at.add(2);
        }
        StartArguments { arguments: (0..count).map(|index| text(*arguments.add(index))).collect(), environment, path }
    };
    super::exit(crate::main(&start))
}

/// # Safety
/// `address` is that of a string that ends with a NUL.
unsafe fn text(address: usize) -> ByteString {
    // SAFETY: the caller's promise.
    unsafe { core::ffi::CStr::from_ptr(core::ptr::with_exposed_provenance(address)) }.to_bytes().to_vec()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    use core::fmt::Write;
    struct PanicOutput;
    impl Write for PanicOutput {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            super::write_all(2, text.as_bytes()).map_err(|_| core::fmt::Error)
        }
    }
    let _ = writeln!(PanicOutput, "error: a bug in the start program: {info}");
    super::exit(70)
}
