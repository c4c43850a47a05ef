//! The system below: the only place with `unsafe`. Everything it exports is safe to call.

mod call;
mod entry;
mod heap;
pub(crate) mod raw;

pub(crate) use call::*;
pub(crate) use entry::Start;
