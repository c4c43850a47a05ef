//! The network: files by URL, Git repositories, registries and Docker engines.
//!
//! Every response is bounded in time and length. Credentials in a URL are sent to its server and appear in no message.

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
