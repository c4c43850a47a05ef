#![cfg_attr(not(test), no_std)]
//! What a release's start program decides. The program itself, in `program/`, only acts.

extern crate alloc;

pub mod bytes;
pub mod conf;
pub mod environment;
pub mod erlexec;
pub mod fault;
pub mod launch;
mod plus;
pub mod release;
