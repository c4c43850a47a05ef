//! The network: files by URL, Git repositories, registries and Docker engines.
//!
//! Every response is bounded in time and length. Credentials in a URL are sent to its server and appear in no message.

mod child_process;
mod dns_query;
mod docker_context;
pub mod engine;
mod engine_tls;
mod fetch;
mod fetch_error;
mod git;
mod host_lookup;
mod http_date;
mod http_proxy;
mod network;
pub mod registry;
mod retry;
mod transport_failure;
mod url;
mod work_tree;

pub use child_process::{PodmanError, podman_load};
pub use docker_context::{EngineSelection, SelectedEngine};
pub use engine_tls::EngineTls;
pub use fetch::{FetchOutcome, FetchedUrl, HttpValidators, fetch};
pub use fetch_error::FetchError;
pub use git::{GitCheckout, GitClient, GitCommit, GitSource};
pub use network::{NetworkSettings, ProxySettings, TrustStore};
pub use transport_failure::{CertificateFault, TransportFailure};
pub use url::redacted;
pub use work_tree::{WorkTreeError, work_tree_commit_time};
