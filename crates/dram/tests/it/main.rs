//! End-to-end tests: the `dram` command as its users run it, beside other tools that do the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests find tools on the search path, and are told where the demo's bases are"
)]

mod add_remote;
mod architecture;
mod build;
mod cache_mounts;
mod check;
mod contexts;
mod copy;
mod coverage;
mod crafted;
mod demo;
mod engines;
mod errors;
mod hostile;
mod hostile_images;
mod hostile_layers;
mod http_server;
mod images;
mod mounts;
mod outputs;
mod parity;
mod portable;
mod readme;
mod registry;
mod release;
mod release_hostile;
mod release_rebuild;
mod robustness;
mod robustness_bench;
mod rootless;
mod run;
mod shared_cache;
mod shell;
mod single_id;
mod store_damage;
mod store_space;
mod support;
mod transfer;
mod tree_listing;
mod upgrade;
mod why;
