#![cfg_attr(not(test), no_std)]
//! What a release's start program decides. The program itself, in `program/`, only acts.

extern crate alloc;

pub mod bytes;
pub mod command;
pub mod conf;
pub mod environment;
pub mod erlexec;
pub mod fault;
pub mod launch;
pub mod limits;
pub mod node;
mod plus;
pub mod release;
pub mod shim;
pub mod state;
pub mod term;
pub mod variables;
