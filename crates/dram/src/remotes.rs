//! What builds take from the network.

use dram_build::{FetchedFile, FetchedTree, RemoteError, Remotes};
use dram_dockerfile::GitRef;
use dram_image::Digest;

/// The network as builds see it.
#[derive(Debug)]
pub(crate) struct Net;

impl Remotes for Net {
    fn url(&self, _url: &str, _expected: Option<&Digest>) -> Result<FetchedFile, RemoteError> {
        let causes = vec!["`ADD` from a URL is not supported yet".to_owned()];
        Err(RemoteError { causes, help: Some("put the file into the build context".to_owned()) })
    }

    fn git(&self, _git: &GitRef, _keep_git_dir: bool) -> Result<FetchedTree, RemoteError> {
        let causes = vec!["`ADD` from a Git repository is not supported yet".to_owned()];
        Err(RemoteError { causes, help: Some("put the files into the build context".to_owned()) })
    }
}
