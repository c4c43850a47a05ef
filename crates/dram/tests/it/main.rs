//! The command as a person uses it, beside other tools that do the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod build;
mod caches;
mod calls;
mod copy;
mod coverage;
mod demo;
mod errors;
mod foreign;
mod hostile;
mod hostile_images;
mod hostile_layers;
mod house;
mod images;
mod mounts;
mod outputs;
mod parity;
mod portable;
mod readme;
mod registry;
mod release;
mod release_hostile;
mod release_memory;
mod remote;
mod robust;
mod rootless;
mod run;
mod server;
mod shaken;
mod shell;
mod single_id;
mod support;
mod transfer;
mod tree;
mod upgrade;
mod why;
