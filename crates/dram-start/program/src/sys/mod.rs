//! The system interface: the only module with `unsafe`. All its exports are safe to call.

mod call;
mod entry;
mod heap;
mod memory_functions;
pub(crate) mod raw;
pub(crate) mod tracing;

pub(crate) use call::*;
pub(crate) use entry::StartArguments;
