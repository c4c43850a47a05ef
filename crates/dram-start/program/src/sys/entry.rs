//! The entry point, the arguments on the stack, and the functions that the compiler calls by name.
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
    // Referenced by the compiler's libraries and never called: a panic ends the program.
    ".globl rust_eh_personality",
    ".globl _Unwind_Resume",
    "rust_eh_personality:",
    "_Unwind_Resume:",
    "ud2",
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".globl memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    "cmp r8, rdx",
    "jae 2f",
    "lea rsi, [rsi + rdx - 1]",
    "lea rdi, [rdi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "2:",
    "rep movsb",
    "ret",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".globl bcmp",
    ".globl memcmp",
    "bcmp:",
    "memcmp:",
    "xor ecx, ecx",
    "3:",
    "cmp rcx, rdx",
    "je 4f",
    "movzx eax, byte ptr [rdi + rcx]",
    "movzx r8d, byte ptr [rsi + rcx]",
    "inc rcx",
    "sub eax, r8d",
    "je 3b",
    "ret",
    "4:",
    "xor eax, eax",
    "ret",
    ".globl strlen",
    "strlen:",
    "xor eax, eax",
    "5:",
    "cmp byte ptr [rdi + rax], 0",
    "je 6f",
    "inc rax",
    "jmp 5b",
    "6:",
    "ret",
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
    // Referenced by the compiler's libraries and never called: a panic ends the program.
    ".globl rust_eh_personality",
    ".globl _Unwind_Resume",
    "rust_eh_personality:",
    "_Unwind_Resume:",
    "brk #1",
    ".globl memcpy",
    "memcpy:",
    "mov x3, x0",
    "2:",
    "cbz x2, 3f",
    "ldrb w4, [x1], #1",
    "strb w4, [x3], #1",
    "sub x2, x2, #1",
    "b 2b",
    "3:",
    "ret",
    ".globl memmove",
    "memmove:",
    "sub x3, x0, x1",
    "cmp x3, x2",
    "b.hs memcpy",
    "4:",
    "cbz x2, 5f",
    "sub x2, x2, #1",
    "ldrb w4, [x1, x2]",
    "strb w4, [x0, x2]",
    "b 4b",
    "5:",
    "ret",
    ".globl memset",
    "memset:",
    "mov x3, x0",
    "6:",
    "cbz x2, 7f",
    "strb w1, [x3], #1",
    "sub x2, x2, #1",
    "b 6b",
    "7:",
    "ret",
    ".globl bcmp",
    ".globl memcmp",
    "bcmp:",
    "memcmp:",
    "cbz x2, 8f",
    "ldrb w3, [x0], #1",
    "ldrb w4, [x1], #1",
    "sub x2, x2, #1",
    "subs w3, w3, w4",
    "b.eq memcmp",
    "mov w0, w3",
    "ret",
    "8:",
    "mov w0, #0",
    "ret",
    ".globl strlen",
    "strlen:",
    "mov x1, x0",
    "9:",
    "ldrb w2, [x0], #1",
    "cbnz w2, 9b",
    "sub x0, x0, x1",
    "sub x0, x0, #1",
    "ret",
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
