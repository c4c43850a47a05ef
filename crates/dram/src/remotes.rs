//! Fetches files and Git repositories for builds.

use std::fs::File;
use std::time::Duration;

use dram_build::{Cancel, FetchedFile, FetchedTree, RemoteError, Remotes};
use dram_dockerfile::{GitRef, remote};
use dram_image::Digest;
use dram_remote::{Answer, Net, Repository, Validators};
use dram_store::{Download, Store, StoreError};

use crate::ambient;
use crate::failure::chain;

/// The most bytes of one download: a server that sends more does not end.
const LARGEST: u64 = 64 << 30;

/// The network access of builds. Fetched files stay in the store.
#[derive(Debug)]
pub(crate) struct Network<'a> {
    store: &'a Store,
    cancel: Cancel,
}

impl<'a> Network<'a> {
    /// Network access until `cancel` is thrown.
    pub(crate) fn new(store: &'a Store, cancel: Cancel) -> Network<'a> {
        Network { store, cancel }
    }

    fn net<T>(&self, with: impl FnOnce(&Net<'_>) -> Result<T, RemoteError>) -> Result<T, RemoteError> {
        let stop = || self.cancel.is_thrown();
        with(&Net {
            proxies: ambient::proxies(),
            trust: ambient::trust(),
            connect: ambient::patience(Duration::from_secs(30)),
            stall: ambient::patience(Duration::from_secs(60)),
            pause: ambient::patience(Duration::from_secs(1)),
            path: ambient::search_path(),
            env: ambient::git_environment(),
            stop: &stop,
        })
    }

    /// Fetches the file at `url`, called `file_name`. The copy in the store is used if its digest is `expected`, or if
    /// the server says that it is current. Fails if the digest is not `expected`.
    pub(crate) fn file(
        &self,
        url: &str,
        file_name: String,
        expected: Option<&Digest>,
    ) -> Result<FetchedFile, RemoteError> {
        let downloads = self.store.downloads();
        let address = remote::redacted(url);
        let known = downloads.known(&address);
        if let Some(sha256) = expected
            && let Some((path, size)) = downloads.file(sha256)
        {
            let mtime = known.filter(|known| known.sha256 == *sha256).and_then(|known| known.mtime);
            return Ok(FetchedFile { path, sha256: *sha256, size, mtime, file_name });
        }
        let here = known.and_then(|known| downloads.file(&known.sha256).map(|(path, _)| (path, known)));
        let validators = here.as_ref().map_or_else(Validators::default, |(_, known)| Validators {
            etag: known.etag.clone(),
            last_modified: known.last_modified.clone(),
        });
        let fresh = self.store.work().fresh().map_err(|error| stored(&error))?.join("file");
        let mut file = File::create_new(&fresh).map_err(|error| RemoteError {
            causes: vec![format!("cannot make `{}`", fresh.display()), error.to_string()],
            help: None,
        })?;
        let answer = self.net(|net| {
            dram_remote::fetch(net, url, &validators, &mut file, LARGEST).map_err(|error| fetched(&error))
        })?;
        let (path, known) = match (answer, here) {
            (Answer::New(new), _) => {
                let known = Download {
                    sha256: new.sha256,
                    size: new.size,
                    mtime: new.mtime,
                    etag: new.validators.etag,
                    last_modified: new.validators.last_modified,
                };
                (downloads.keep(&fresh, &address, &known).map_err(|error| stored(&error))?, known)
            }
            (Answer::Unchanged, Some(here)) => here,
            (Answer::Unchanged, None) => unreachable!("nobody was told of anything known"),
        };
        match expected {
            Some(sha256) if known.sha256 != *sha256 => Err(RemoteError {
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
    pub(crate) fn tree(&self, git: &GitRef, keep_git_dir: bool, times: bool) -> Result<FetchedTree, RemoteError> {
        let what = Repository { keep_git_dir, commit_times: times, ..repository(git) };
        let dir = self.store.work().fresh().map_err(|error| stored(&error))?;
        self.net(|net| {
            let git = dram_remote::Git::new(net, &what, &dir).map_err(|error| fetched(&error))?;
            let commit = git.commit().map_err(|error| fetched(&error))?;
            let checkout = git.checkout(&commit).map_err(|error| fetched(&error))?;
            Ok(FetchedTree { path: checkout.path, commit: checkout.commit })
        })
    }
}

impl Remotes for Network<'_> {
    fn url(&self, url: &str, expected: Option<&Digest>) -> Result<FetchedFile, RemoteError> {
        match remote::classify(url) {
            Ok(Some(remote::Remote::Url { url, file_name })) => self.file(&url, file_name, expected),
            Ok(Some(remote::Remote::Git(_)) | None) | Err(_) => Err(RemoteError {
                causes: vec![format!("`{}` is not an address of a file", remote::redacted(url))],
                help: None,
            }),
        }
    }

    fn commit(&self, git: &GitRef) -> Result<String, RemoteError> {
        let what = repository(git);
        let dir = self.store.work().fresh().map_err(|error| stored(&error))?;
        self.net(|net| {
            let git = dram_remote::Git::new(net, &what, &dir).map_err(|error| fetched(&error))?;
            git.commit().map(|commit| commit.peeled().to_owned()).map_err(|error| fetched(&error))
        })
    }

    fn git(&self, git: &GitRef, keep_git_dir: bool) -> Result<FetchedTree, RemoteError> {
        self.tree(git, keep_git_dir, false)
    }
}

fn fetched(error: &dram_remote::RemoteError) -> RemoteError {
    let help = error.help().map(str::to_owned);
    RemoteError { causes: vec![error.to_string()], help }
}

fn stored(error: &StoreError) -> RemoteError {
    RemoteError { causes: chain(error), help: None }
}

fn repository(git: &GitRef) -> Repository {
    Repository {
        remote: git.remote.clone(),
        reference: git.reference.clone(),
        subdir: git.subdir.clone(),
        checksum: git.checksum.clone(),
        submodules: git.submodules != Some(false),
        fetch_by_commit: git.fetch_by_commit,
        ..Repository::default()
    }
}
