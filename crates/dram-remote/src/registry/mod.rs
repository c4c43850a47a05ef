//! Registries: images by their names, and blobs by their digests.
//!
//! Follows the OCI distribution specification 1.1, the token authentication of the distribution project, and the files
//! that Docker and the containers tools keep settings and credentials in. Nothing that a registry says is trusted:
//! documents are compared with digests here, and blobs by whoever reads them. What fails by bad luck is tried again.

mod challenge;
mod connect;
mod credentials;
mod download;
mod endpoint;
mod error;
mod hosts;
mod kin;
mod list;
mod manifest;
mod text;
mod token;
mod upload;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dram_image::{Descriptor, Digest, Reference};
use ureq::http::Method;

use self::download::BlobReader;
use self::endpoint::{Ask, Endpoint, Payload, Who};
use self::upload::{Open, Upload};
use crate::net::{Net, Proxies, Trust};

pub use self::challenge::try_challenge;
pub use self::credentials::{Credentials, Secret, try_credentials};
pub use self::error::RegistryError;
pub use self::hosts::Hosts;
pub use self::list::try_link;

/// How registries are reached. Copies are cheap.
#[derive(Clone)]
pub struct Settings {
    /// Proxies.
    pub proxies: Proxies,
    /// Whom servers have to be vouched by.
    pub trust: Trust,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a server may say nothing.
    pub stall: Duration,
    /// How long to wait before the second attempt; twice as long before the third.
    pub pause: Duration,
    /// Whether to stop.
    pub stop: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The time since any moment; it never goes back.
    pub clock: fn() -> Duration,
    /// Is told what a person may want to know, by several threads: a mirror that fails.
    pub tell: Arc<dyn Fn(&str) + Send + Sync>,
    /// Mirrors, and who needs no TLS.
    pub hosts: Arc<Hosts>,
    /// Names and passwords.
    pub credentials: Credentials,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Settings {
    fn net(&self) -> Net<'_> {
        Net {
            proxies: self.proxies.clone(),
            trust: self.trust.clone(),
            connect: self.connect,
            stall: self.stall,
            pause: self.pause,
            path: self.credentials.path.clone(),
            env: Vec::new(),
            stop: &*self.stop,
        }
    }
}

/// A manifest or an index, as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The pointer to it.
    pub descriptor: Descriptor,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

/// The repository of an image, in its registry or in a mirror of it. Several threads may use it at once.
#[derive(Debug)]
pub struct Registry {
    /// The first one is asked first.
    endpoints: Vec<Endpoint>,
    /// Uploads that were begun: a mount that was none.
    begun: Mutex<BTreeMap<Digest, String>>,
    /// Blobs that a mirror gave wrongly.
    doubted: Mutex<BTreeSet<Digest>>,
}

impl Registry {
    /// To take from.
    ///
    /// # Errors
    /// When the settings forbid it.
    pub fn to_pull(settings: &Settings, name: &Reference) -> Result<Registry, RegistryError> {
        let places = settings.hosts.to_pull(name, &format!("read {}", name.full()))?;
        let who = || Who::Known(settings.credentials.clone());
        let endpoints = places.into_iter().map(|place| Endpoint::new(settings, place, who())).collect();
        Ok(Registry { endpoints, begun: Mutex::default(), doubted: Mutex::default() })
    }

    /// To bring to.
    ///
    /// # Errors
    /// When the settings forbid it.
    pub fn to_push(settings: &Settings, name: &Reference) -> Result<Registry, RegistryError> {
        let place = settings.hosts.to_push(name, &format!("write {}", name.full()))?;
        let endpoint = Endpoint::new(settings, place, Who::Known(settings.credentials.clone()));
        Ok(Registry { endpoints: vec![endpoint], begun: Mutex::default(), doubted: Mutex::default() })
    }

    /// The registry itself, not a mirror.
    fn own(&self) -> &Endpoint {
        self.endpoints.last().expect("every name has a registry")
    }

    /// Asks one after the other; what the last one says is what counts when nobody has it.
    fn first<'r, T>(&'r self, ask: impl Fn(&'r Endpoint) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        let (own, mirrors) = self.endpoints.split_last().expect("every name has a registry");
        for mirror in mirrors {
            match ask(mirror) {
                Err(error) if !error.is_stop() => mirror.give_up(&error),
                done => return done,
            }
        }
        ask(own)
    }

    /// What `name` stands for: by its digest, if it has one, else by its tag.
    ///
    /// # Errors
    /// When it is not there, or not what it should be.
    pub fn resolve(&self, name: &Reference) -> Result<Manifest, RegistryError> {
        let digest = name.digest();
        let reference = digest.map_or_else(|| name.tag().to_owned(), |digest| digest.to_string());
        self.first(|endpoint| manifest::get(endpoint, &reference, digest))
    }

    /// The manifest or index that `descriptor` points to.
    ///
    /// # Errors
    /// When it is not there, or not what it should be.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, RegistryError> {
        let digest = descriptor.digest;
        self.first(|endpoint| manifest::get(endpoint, &digest.to_string(), Some(digest)))
    }

    /// A reader of a blob. What it gives is *not* compared with the digest. Interruptions are mended on the way.
    ///
    /// # Errors
    /// When it is not there.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<impl Read + Send + use<'_>, RegistryError> {
        let is_doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner).contains(&descriptor.digest);
        let mirrors = if is_doubted { self.endpoints.len() - 1 } else { 0 };
        BlobReader::new(&self.endpoints[mirrors..], descriptor)
    }

    /// Is told that what came was not the blob. Returns whether mirrors were asked: from now on only the registry is.
    pub fn doubt(&self, descriptor: &Descriptor) -> bool {
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = self.endpoints.len() > 1 && doubted.insert(descriptor.digest);
        if is_new {
            let text = format!("a mirror gave another blob than {}, the registry is asked", descriptor.digest);
            (self.own().settings.tell)(&text);
        }
        is_new
    }

    /// Whether the registry says that it has a blob of this length.
    ///
    /// # Errors
    /// When it does not say.
    pub fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        has_blob(self.own(), descriptor)
    }

    /// Whether the registry says that it has the manifest or index.
    ///
    /// # Errors
    /// When it does not say.
    pub fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool, RegistryError> {
        let repository = &self.own().place.repository;
        let what = format!("look for the manifest {} in {}/{repository}", descriptor.digest, self.own().host());
        // Who is not asked for this kind says that it is not there.
        let path = format!("/v2/{repository}/manifests/{}", descriptor.digest);
        Ok(exists(self.own(), &what, &path, &descriptor.media_type)?.is_some())
    }

    /// Has the registry take the blob over from another of its repositories. Returns whether it did.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn mount(&self, descriptor: &Descriptor, from: &str) -> Result<bool, RegistryError> {
        let endpoint = self.own();
        let repository = &endpoint.place.repository;
        let what = format!("take the blob {} over into {}/{repository}", descriptor.digest, endpoint.host());
        let digest = token::encoded(&descriptor.digest.to_string());
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={}", token::encoded(from));
        let scope = format!("{} {}", push_scope(repository), pull_scope(from));
        let ask =
            Ask { what: &what, method: Method::POST, path: &path, headers: &[], payload: Payload::None, scope: &scope };
        let reply = endpoint.send(&ask)?;
        if reply.status == 202 {
            let place = upload::place_of(endpoint, &what, &reply)?;
            self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor.digest, place);
        }
        Ok(reply.status == 201)
    }

    /// Gives the registry a blob; `open` opens its bytes from the beginning, more than once where that is needed.
    ///
    /// # Errors
    /// When it cannot be read, or is not taken.
    pub fn upload(&self, descriptor: &Descriptor, open: &Open<'_>) -> Result<(), RegistryError> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&descriptor.digest);
        Upload::new(self.own(), descriptor).run(begun, open)
    }

    /// Gives the registry a manifest or an index, under `tag` or, without one, under its digest alone.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn put_manifest(&self, tag: Option<&str>, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
        let reference = tag.map_or_else(|| descriptor.digest.to_string(), str::to_owned);
        manifest::put(self.own(), &reference, descriptor, bytes)
    }

    /// What refers to a manifest: by the interface for that, or by the tag that stands in for it (distribution
    /// specification 1.1, "Listing Referrers").
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        self.first(|endpoint| list::referrers(endpoint, digest))
    }

    /// Tells `each` the tags of the repository, until it says that it has enough. A list that goes on at another host is
    /// not followed.
    ///
    /// # Errors
    /// When they cannot be found out.
    pub fn tags(&self, each: &mut dyn FnMut(&str) -> bool) -> Result<(), RegistryError> {
        list::tags(self.own(), each)
    }
}

/// Whether the registry at `host` knows somebody by `secret`.
///
/// # Errors
/// When it does not, or cannot be reached.
pub fn check(settings: &Settings, host: &str, secret: Secret) -> Result<(), RegistryError> {
    let what = format!("log in to {host}");
    // No repository is called so; the settings of the host are what is wanted.
    let wrong = |_| RegistryError::Wrong { what: what.clone(), why: format!("`{}` is no registry", text::clean(host)) };
    let name: Reference = format!("{host}/none").parse().map_err(wrong)?;
    let place = settings.hosts.to_push(&name, &what)?;
    let endpoint = Endpoint::new(settings, place, Who::Given(secret));
    let ask = Ask { what: &what, method: Method::GET, path: "/v2/", headers: &[], payload: Payload::None, scope: "" };
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

fn has_blob(endpoint: &Endpoint, blob: &Descriptor) -> Result<bool, RegistryError> {
    let repository = &endpoint.place.repository;
    let what = format!("look for the blob {} in {}/{repository}", blob.digest, endpoint.host());
    let size = exists(endpoint, &what, &format!("/v2/{repository}/blobs/{}", blob.digest), "*/*")?;
    // Of another length it is another blob, or a part of one.
    Ok(size.is_some_and(|size| size.is_none_or(|size| size == blob.size)))
}

/// Whether something of this kind is there, and how long it is, if the registry says so.
fn exists(endpoint: &Endpoint, what: &str, path: &str, kind: &str) -> Result<Option<Option<u64>>, RegistryError> {
    let accept = [("accept", kind.to_owned())];
    // Who asks this wants to bring it.
    let scope = push_scope(&endpoint.place.repository);
    let ask = Ask { what, method: Method::HEAD, path, headers: &accept, payload: Payload::None, scope: &scope };
    let reply = endpoint.send(&ask)?;
    match reply.status {
        200 => Ok(Some(text::header(&reply.headers, "content-length").and_then(|text| text.parse().ok()))),
        404 => Ok(None),
        _ => Err(endpoint.refusal(what, reply)),
    }
}
