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
pub mod files;
mod order;
mod order_of_terms;
pub mod print;
pub mod rc;
pub mod relup;
pub mod relx;
pub mod resolve;
pub mod term;
