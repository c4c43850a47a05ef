//! A registry client: manifests by tag or digest, and blobs by digest.
//!
//! Follows the OCI distribution specification 1.1, the token authentication of the distribution project, and the files
//! in which Docker and the containers tools keep settings and credentials. No response is trusted: manifests are
//! verified against their digests here, and blobs by the reader's caller. Transient failures are retried.

mod address_scope;
mod challenge;
mod connect;
mod credentials;
mod download;
mod endpoint;
mod hosts;
mod manifest;
mod paging;
mod registry_error;
mod response_text;
mod token;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dram_image::{Descriptor, Digest, Reference};
use ureq::http::Method;

use self::download::BlobReader;
use self::endpoint::{RegistryAuth, RegistryEndpoint, RegistryRequest, RequestPayload};
use self::upload::{BlobUpload, OpenBlob};
use crate::network::{NetworkSettings, ProxySettings, TrustStore};

pub use self::challenge::try_challenge;
pub use self::credentials::{CredentialStore, RegistrySecret, try_credentials};
pub use self::hosts::RegistryHosts;
pub use self::paging::try_link;
pub use self::registry_error::RegistryError;

/// The settings of registry access. Clones are cheap.
#[derive(Clone)]
pub struct RegistrySettings {
    /// The proxies.
    pub proxies: ProxySettings,
    /// The trusted certificates.
    pub trust: TrustStore,
    /// The timeout for making a connection.
    pub connect_timeout: Duration,
    /// The stall timeout: the longest time without any byte from the server.
    pub stall_timeout: Duration,
    /// The delay before the first retry; it doubles with each one.
    pub retry_delay: Duration,
    /// Returns whether the operation is cancelled.
    pub is_cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
    /// A monotonic clock with any origin.
    pub clock: fn() -> Duration,
    /// Reports a warning to the user, such as a mirror that fails; called from several threads.
    pub report: Arc<dyn Fn(&str) + Send + Sync>,
    /// Mirrors and insecure registries.
    pub hosts: Arc<RegistryHosts>,
    /// The credentials.
    pub credentials: CredentialStore,
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySettings").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl RegistrySettings {
    fn network(&self) -> NetworkSettings<'_> {
        NetworkSettings {
            proxies: self.proxies.clone(),
            trust: self.trust.clone(),
            connect_timeout: self.connect_timeout,
            stall_timeout: self.stall_timeout,
            retry_delay: self.retry_delay,
            search_path: self.credentials.search_path.clone(),
            git_env: Vec::new(),
            ssh_agent: None,
            is_cancelled: &*self.is_cancelled,
        }
    }
}

/// A manifest or an index as the registry sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

/// The repository of an image, at its registry and at mirrors of it. It can be shared between threads.
#[derive(Debug)]
pub struct Registry {
    /// The endpoints in order of precedence: mirrors first, the registry last.
    endpoints: Vec<RegistryEndpoint>,
    /// Uploads that were started when a cross-repository mount was refused, by digest.
    pending_uploads: Mutex<BTreeMap<Digest, String>>,
    /// Blobs that a mirror sent with wrong content.
    corrupt_blobs: Mutex<BTreeSet<Digest>>,
}

impl Registry {
    /// Returns a client that pulls `name`, with its mirrors.
    ///
    /// # Errors
    /// Fails when the settings block the registry.
    pub fn for_pull(settings: &RegistrySettings, name: &Reference) -> Result<Registry, RegistryError> {
        let places = settings.hosts.pull_locations(name, &format!("read {}", name.full_name()))?;
        let who = || RegistryAuth::Stored(settings.credentials.clone());
        let endpoints = places.into_iter().map(|place| RegistryEndpoint::new(settings, place, who())).collect();
        Ok(Registry { endpoints, pending_uploads: Mutex::default(), corrupt_blobs: Mutex::default() })
    }

    /// Returns a client that pushes `name`, without mirrors.
    ///
    /// # Errors
    /// Fails when the settings block the registry.
    pub fn for_push(settings: &RegistrySettings, name: &Reference) -> Result<Registry, RegistryError> {
        let place = settings.hosts.push_location(name, &format!("write {}", name.full_name()))?;
        let endpoint = RegistryEndpoint::new(settings, place, RegistryAuth::Stored(settings.credentials.clone()));
        Ok(Registry { endpoints: vec![endpoint], pending_uploads: Mutex::default(), corrupt_blobs: Mutex::default() })
    }

    /// Returns the endpoint of the registry itself, not of a mirror.
    fn primary(&self) -> &RegistryEndpoint {
        self.endpoints.last().expect("every name has a registry")
    }

    /// Tries the endpoints in order. When all fail, the error of the last one is returned.
    fn try_endpoints<'r, T>(
        &'r self,
        ask: impl Fn(&'r RegistryEndpoint) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let (own, mirrors) = self.endpoints.split_last().expect("every name has a registry");
        for mirror in mirrors {
            match ask(mirror) {
                Err(error) if !error.is_cancelled() => mirror.report_mirror_failure(&error),
                done => return done,
            }
        }
        ask(own)
    }

    /// Requests the manifest or index that `name` refers to: by its digest, if it has one, else by its tag.
    ///
    /// # Errors
    /// Fails when it does not exist, or is not valid.
    pub fn resolve(&self, name: &Reference) -> Result<FetchedManifest, RegistryError> {
        let digest = name.digest();
        let reference = digest.map_or_else(|| name.tag().to_owned(), |digest| digest.to_string());
        self.try_endpoints(|endpoint| manifest::get(endpoint, &reference, digest))
    }

    /// Requests the manifest or index that has the tag `tag`; `None` if there is none.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached or refuses, or the manifest is not valid.
    pub fn find_tag(&self, tag: &str) -> Result<Option<FetchedManifest>, RegistryError> {
        match self.try_endpoints(|endpoint| manifest::get(endpoint, tag, None)) {
            Err(error) if error.is_not_found() => Ok(None),
            found => found.map(Some),
        }
    }

    /// Requests the manifest or index of `descriptor`.
    ///
    /// # Errors
    /// Fails when it does not exist, or does not match the digest.
    pub fn fetch_manifest(&self, descriptor: &Descriptor) -> Result<FetchedManifest, RegistryError> {
        let digest = descriptor.digest;
        self.try_endpoints(|endpoint| manifest::get(endpoint, &digest.to_string(), Some(digest)))
    }

    /// Opens a blob. The bytes are *not* verified against the digest. Interrupted downloads are resumed.
    ///
    /// # Errors
    /// Fails when no endpoint has it.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<impl Read + Send + use<'_>, RegistryError> {
        let is_doubted = self.corrupt_blobs.lock().unwrap_or_else(PoisonError::into_inner).contains(&descriptor.digest);
        let mirrors = if is_doubted { self.endpoints.len() - 1 } else { 0 };
        BlobReader::new(&self.endpoints[mirrors..], descriptor)
    }

    /// Reports that the content of a blob was corrupt. Returns whether it may have come from a mirror: from now on only
    /// the registry is asked for it.
    pub fn report_corrupt(&self, descriptor: &Descriptor) -> bool {
        let mut doubted = self.corrupt_blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = self.endpoints.len() > 1 && doubted.insert(descriptor.digest);
        if is_new {
            let text = format!("a mirror gave another blob than {}, the registry is asked", descriptor.digest);
            (self.primary().settings.report)(&text);
        }
        is_new
    }

    /// Returns whether the registry has a blob of this digest and size.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached or answers with an error.
    pub fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        has_blob(self.primary(), descriptor)
    }

    /// Returns whether the registry has the manifest or index.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached or answers with an error.
    pub fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        let repository = &self.primary().place.repository;
        let what = format!("look for the manifest {} in {}/{repository}", descriptor.digest, self.primary().host());
        // Registries answer 404 when `Accept` does not name the media type of the manifest.
        let path = format!("/v2/{repository}/manifests/{}", descriptor.digest);
        Ok(head_size(self.primary(), &what, &path, &descriptor.media_type)?.is_some())
    }

    /// Mounts the blob from another repository of the same registry. Returns whether the registry did so.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached.
    pub fn mount_blob(&self, descriptor: &Descriptor, from: &str) -> Result<bool, RegistryError> {
        let endpoint = self.primary();
        let repository = &endpoint.place.repository;
        let what = format!("mount the blob {} into {}/{repository}", descriptor.digest, endpoint.host());
        let digest = token::percent_encode(&descriptor.digest.to_string());
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={}", token::percent_encode(from));
        let scope = format!("{} {}", push_scope(repository), pull_scope(from));
        let ask = RegistryRequest {
            what: &what,
            method: Method::POST,
            path: &path,
            headers: &[],
            payload: RequestPayload::None,
            scope: &scope,
        };
        let reply = endpoint.send(&ask)?;
        if reply.status == 202 {
            let place = upload::upload_location(endpoint, &what, &reply)?;
            self.pending_uploads.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor.digest, place);
        }
        Ok(reply.status == 201)
    }

    /// Uploads a blob. `open` opens its bytes from the beginning, more than once where a retry needs it.
    ///
    /// # Errors
    /// Fails when the blob cannot be read, or the registry refuses it.
    pub fn upload_blob(&self, descriptor: &Descriptor, open: &OpenBlob<'_>) -> Result<(), RegistryError> {
        let begun = self.pending_uploads.lock().unwrap_or_else(PoisonError::into_inner).remove(&descriptor.digest);
        BlobUpload::new(self.primary(), descriptor).run(begun, open)
    }

    /// Puts a manifest or an index under `tag` or, without one, under its digest alone.
    ///
    /// # Errors
    /// Fails when the registry refuses it.
    pub fn put_manifest(&self, tag: Option<&str>, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
        let reference = tag.map_or_else(|| descriptor.digest.to_string(), str::to_owned);
        manifest::put(self.primary(), &reference, descriptor, bytes)
    }

    /// Returns the referrers of a manifest, from the referrers API or the referrers tag (distribution specification
    /// 1.1, "Listing Referrers").
    ///
    /// # Errors
    /// Fails when the registry cannot be reached, or the list is not valid.
    pub fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        self.try_endpoints(|endpoint| paging::list_referrers(endpoint, digest))
    }

    /// Calls `each` with every tag of the repository, until it returns false. A list that continues at another host is
    /// refused.
    ///
    /// # Errors
    /// Fails when the registry cannot be reached, or the list is not valid.
    pub fn tags(&self, each: &mut dyn FnMut(&str) -> bool) -> Result<(), RegistryError> {
        paging::list_tags(self.primary(), each)
    }
}

/// Checks that the registry at `host` accepts `secret`.
///
/// # Errors
/// Fails when the registry refuses it, or cannot be reached.
pub fn check_login(settings: &RegistrySettings, host: &str, secret: RegistrySecret) -> Result<(), RegistryError> {
    let what = format!("log in to {host}");
    // The repository does not matter; the name gives access to the settings of the host.
    let wrong = |_| RegistryError::InvalidResponse {
        what: what.clone(),
        why: format!("`{}` is no registry", response_text::sanitise(host)),
    };
    let name: Reference = format!("{host}/none").parse().map_err(wrong)?;
    let place = settings.hosts.push_location(&name, &what)?;
    let endpoint = RegistryEndpoint::new(settings, place, RegistryAuth::Explicit(secret));
    let ask = RegistryRequest {
        what: &what,
        method: Method::GET,
        path: "/v2/",
        headers: &[],
        payload: RequestPayload::None,
        scope: "",
    };
    let reply = endpoint.send(&ask)?;
    match reply.status {
        200 => Ok(()),
        _ => Err(endpoint.refusal(&what, reply)),
    }
}

fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

fn push_scope(repository: &str) -> String {
    format!("repository:{repository}:pull,push")
}

fn has_blob(endpoint: &RegistryEndpoint, blob: &Descriptor) -> Result<bool, RegistryError> {
    let repository = &endpoint.place.repository;
    let what = format!("look for the blob {} in {}/{repository}", blob.digest, endpoint.host());
    let size = head_size(endpoint, &what, &format!("/v2/{repository}/blobs/{}", blob.digest), "*/*")?;
    // A blob of another size is another blob, or a part of one.
    Ok(size.is_some_and(|size| size.is_none_or(|size| size == blob.size)))
}

/// Sends a `HEAD` request. Returns whether the object exists and, if the registry gives it, its size.
fn head_size(
    endpoint: &RegistryEndpoint,
    what: &str,
    path: &str,
    kind: &str,
) -> Result<Option<Option<u64>>, RegistryError> {
    let accept = [("accept", kind.to_owned())];
    // The check comes before a push, so the token for the push is requested at once.
    let scope = push_scope(&endpoint.place.repository);
    let ask = RegistryRequest {
        what,
        method: Method::HEAD,
        path,
        headers: &accept,
        payload: RequestPayload::None,
        scope: &scope,
    };
    let reply = endpoint.send(&ask)?;
    match reply.status {
        200 => Ok(Some(response_text::header(&reply.headers, "content-length").and_then(|text| text.parse().ok()))),
        404 => Ok(None),
        _ => Err(endpoint.refusal(what, reply)),
    }
}
