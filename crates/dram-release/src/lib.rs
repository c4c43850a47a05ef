//! OTP releases as values: Erlang terms, `.app` and `.beam` files, dependency resolution, start order, boot scripts,
//! appups and relups.
//!
//! This crate is pure: it does not use the disk, the network, the clock or the environment.

pub mod app;
pub mod appup;
pub mod beam;
mod bigint;
pub mod boot;
pub mod catalog;
pub mod config;
pub mod consult;
pub mod etf;
pub mod print;
pub mod release_files;
pub mod relup;
pub mod relup_script;
pub mod relx;
pub mod resolve;
mod start_order;
pub mod term;
mod term_order;
