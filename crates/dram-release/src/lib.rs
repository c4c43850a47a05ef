//! What an OTP release is, as values: Erlang terms, `.app` and `.beam` files, the applications that belong to a
//! release, the order they start in, and the boot script that says so.
//!
//! Nothing here touches the disk, the network, the clock or the environment: bytes come in, values and bytes go out.

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
