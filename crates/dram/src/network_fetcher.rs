//! Fetches files and Git repositories for builds.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use dram_build::{CancelToken, FetchedFile, FetchedTree, RemoteError, RemoteErrorKind, RemoteFetcher};
use dram_dockerfile::remote;
use dram_image::Digest;
use dram_plan::GitRef;
use dram_remote::{FetchOutcome, GitSource, HttpValidators, NetworkSettings};
use dram_store::{DownloadRecord, Store, StoreError};

use crate::ambient;

/// The most bytes of one download: a server that sends more does not end.
const MAX_DOWNLOAD_SIZE: u64 = 64 << 30;

/// The network access of builds. Fetched files stay in the store.
#[derive(Debug)]
pub(crate) struct NetworkFetcher<'a> {
    store: &'a Store,
    ssh_agent: Option<PathBuf>,
    cancel: CancelToken,
}

impl<'a> NetworkFetcher<'a> {
    /// Network access until `cancel` is thrown. Repositories are read by ssh only with the keys of `ssh_agent`.
    pub(crate) fn new(store: &'a Store, ssh_agent: Option<PathBuf>, cancel: CancelToken) -> NetworkFetcher<'a> {
        NetworkFetcher { store, ssh_agent, cancel }
    }

    fn with_net<T>(&self, with: impl FnOnce(&NetworkSettings<'_>) -> Result<T, RemoteError>) -> Result<T, RemoteError> {
        let stop = || self.cancel.is_cancelled();
        with(&NetworkSettings {
            proxies: ambient::proxies(),
            trust: ambient::trusted_certificates(),
            connect_timeout: ambient::network_timeout(Duration::from_secs(30)),
            stall_timeout: ambient::network_timeout(Duration::from_secs(60)),
            retry_delay: ambient::network_timeout(Duration::from_secs(1)),
            search_path: ambient::search_path(),
            git_env: ambient::git_environment(),
            ssh_agent: self.ssh_agent.clone(),
            is_cancelled: &stop,
        })
    }

    /// Fetches the file at `url`, called `file_name`. The copy in the store that came from there is used if its digest is
    /// `expected`, or if the server says that it is current. Fails if the digest is not `expected`.
    pub(crate) fn fetch_file(
        &self,
        url: &str,
        file_name: String,
        expected: Option<&Digest>,
    ) -> Result<FetchedFile, RemoteError> {
        let downloads = self.store.downloads();
        let address = remote::redacted(url);
        let known = downloads.record(&address);
        // A file from another address says nothing about what this address holds.
        if let Some(known) = known.as_ref().filter(|known| Some(&known.sha256) == expected)
            && let Some((path, size)) = downloads.verified_file(&known.sha256)
        {
            return Ok(FetchedFile { path, sha256: known.sha256, size, mtime: known.mtime, file_name });
        }
        let here = known.and_then(|known| downloads.verified_file(&known.sha256).map(|(path, _)| (path, known)));
        let validators = here.as_ref().map_or_else(HttpValidators::default, |(_, known)| HttpValidators {
            etag: known.etag.clone(),
            last_modified: known.last_modified.clone(),
        });
        let fresh = self.store.work_dir().temp_dir().map_err(|error| store_error(&error))?.join("file");
        let mut file = File::create_new(&fresh).map_err(|error| RemoteError {
            kind: RemoteErrorKind::Failed,
            causes: vec![format!("cannot make `{}`", fresh.display()), error.to_string()],
            help: None,
        })?;
        let answer = self.with_net(|net| {
            dram_remote::fetch(net, url, &validators, &mut file, MAX_DOWNLOAD_SIZE).map_err(|error| fetch_error(&error))
        })?;
        let (path, known) = match (answer, here) {
            (FetchOutcome::Fetched(new), _) => {
                let known = DownloadRecord {
                    sha256: new.sha256,
                    size: new.size,
                    mtime: new.mtime,
                    etag: new.validators.etag,
                    last_modified: new.validators.last_modified,
                };
                (downloads.insert(&fresh, &address, &known).map_err(|error| store_error(&error))?, known)
            }
            (FetchOutcome::Unchanged, Some(here)) => here,
            (FetchOutcome::Unchanged, None) => unreachable!("nobody was told of anything known"),
        };
        match expected {
            Some(sha256) if known.sha256 != *sha256 => Err(RemoteError {
                kind: RemoteErrorKind::Failed,
                causes: vec![format!("`{address}` holds {}, and not {sha256}", known.sha256)],
                help: Some("write the checksum of what is meant, or find out who changed it".to_owned()),
            }),
            Some(_) | None => {
                let (size, mtime) = (known.size, known.mtime);
                Ok(FetchedFile { path, sha256: known.sha256, size, mtime, file_name })
            }
        }
    }

    /// Checks out the Git tree that `git` names; with `times`, its files have the time of the commit.
    pub(crate) fn checkout_tree(
        &self,
        git: &GitRef,
        keep_git_dir: bool,
        times: bool,
    ) -> Result<FetchedTree, RemoteError> {
        let what = GitSource { keep_git_dir, commit_times: times, ..git_repository(git) };
        let dir = self.store.work_dir().temp_dir().map_err(|error| store_error(&error))?;
        self.with_net(|net| {
            let git = dram_remote::GitClient::new(net, &what, &dir).map_err(|error| fetch_error(&error))?;
            let commit = git.resolve_commit().map_err(|error| fetch_error(&error))?;
            let checkout = git.checkout(&commit).map_err(|error| fetch_error(&error))?;
            Ok(FetchedTree { path: checkout.path, commit: checkout.commit })
        })
    }
}

impl RemoteFetcher for NetworkFetcher<'_> {
    fn fetch_file(&self, url: &str, expected: Option<&Digest>) -> Result<FetchedFile, RemoteError> {
        match remote::classify(url) {
            Ok(Some(remote::RemoteSource::Url { url, file_name })) => self.fetch_file(&url, file_name, expected),
            Ok(Some(remote::RemoteSource::Git(_)) | None) | Err(_) => Err(RemoteError {
                kind: RemoteErrorKind::Failed,
                causes: vec![format!("`{}` is not an address of a file", remote::redacted(url))],
                help: None,
            }),
        }
    }

    fn resolve_commit(&self, git: &GitRef) -> Result<String, RemoteError> {
        let what = git_repository(git);
        let dir = self.store.work_dir().temp_dir().map_err(|error| store_error(&error))?;
        self.with_net(|net| {
            let git = dram_remote::GitClient::new(net, &what, &dir).map_err(|error| fetch_error(&error))?;
            git.resolve_commit().map(|commit| commit.peeled().to_owned()).map_err(|error| fetch_error(&error))
        })
    }

    fn fetch_repository(&self, git: &GitRef, keep_git_dir: bool) -> Result<FetchedTree, RemoteError> {
        self.checkout_tree(git, keep_git_dir, false)
    }
}

fn fetch_error(error: &dram_remote::FetchError) -> RemoteError {
    RemoteError::new(RemoteErrorKind::Failed, error)
}

fn store_error(error: &StoreError) -> RemoteError {
    RemoteError::new(RemoteErrorKind::Failed, error)
}

fn git_repository(git: &GitRef) -> GitSource {
    GitSource {
        remote: git.remote.clone(),
        reference: git.reference.clone(),
        subdir: git.subdir.clone(),
        checksum: git.checksum.clone(),
        submodules: git.submodules != Some(false),
        fetch_by_commit: git.fetch_by_commit,
        ..GitSource::default()
    }
}
