//! The command as a person uses it, beside other tools that do the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod build;
mod errors;
mod parity;
mod support;
mod tree;
