//! The network: files by their URL, Git repositories, and registries.
//!
//! Whatever a server says is bounded in time and length. A name or password in an address is shown to the server and
//! to nobody else.

mod address;
mod date;
pub mod engine;
mod error;
mod fetch;
mod forward;
mod git;
mod net;
pub mod registry;
mod tool;

pub use address::redacted;
pub use error::RemoteError;
pub use fetch::{Answer, Fetched, Validators, fetch};
pub use git::{Checkout, Commit, Git, Repository};
pub use net::{Net, Proxies, Trust};
pub use tool::{PodmanError, podman_load};
