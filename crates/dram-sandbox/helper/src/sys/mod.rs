//! What a program without a C library needs. Memory and the functions of the compiler are those of the start program.

mod entry;
#[path = "../../../../dram-start/program/src/sys/heap.rs"]
mod heap;
#[path = "../../../../dram-start/program/src/sys/memory_functions.rs"]
mod memory_functions;
mod raw;
