//! Registries as sources and sinks of transfers.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dram_build::transfer::{Incoming, Repository, Sink, Source, TransferError};
use dram_build::{Cancel, RemoteError};
use dram_image::{Descriptor, Reference};
use dram_remote::registry::{Credentials, Hosts, Manifest, Registry, RegistryError, Settings};

use crate::{ambient, report};

/// The access to registries. Clones share the settings.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    cancel: Cancel,
    settings: Arc<OnceLock<Settings>>,
}

impl Registries {
    /// Access as the environment and the configuration files say, until `cancel` is thrown.
    pub(crate) fn new(cancel: Cancel) -> Registries {
        Registries { cancel, settings: Arc::default() }
    }

    /// The settings from the environment and the configuration files, read on the first call.
    pub(crate) fn settings(&self) -> Result<&Settings, TransferError> {
        if self.settings.get().is_none() {
            let files = ambient::containers_files();
            let hosts = Hosts::read(&files.registries, files.certificates).map_err(far)?;
            let cancel = self.cancel.clone();
            let settings = Settings {
                proxies: ambient::proxies(),
                trust: ambient::trust(),
                connect: ambient::patience(Duration::from_secs(10)),
                stall: ambient::patience(Duration::from_secs(15)),
                pause: ambient::patience(Duration::from_secs(1)),
                stop: Arc::new(move || cancel.is_thrown()),
                clock: ambient::clock,
                tell: Arc::new(|text: &str| report::note(text)),
                hosts: Arc::new(hosts),
                credentials: Credentials {
                    files: files.credentials,
                    write: files.new_credentials,
                    path: ambient::search_path(),
                },
            };
            let _ = self.settings.set(settings);
        }
        Ok(self.settings.get().expect("set above"))
    }

    /// The repository of `name` as a source, and the descriptor for which `name` stands there.
    pub(crate) fn source(&self, name: &Reference) -> Result<(Remote, Descriptor), TransferError> {
        Registries::source_with(self.settings()?, name)
    }

    /// The same over plain HTTP or with an untrusted certificate, if the registry has nothing better.
    pub(crate) fn insecure_source(&self, name: &Reference) -> Result<(Remote, Descriptor), TransferError> {
        let settings = self.settings()?.clone();
        let hosts = Arc::new(Hosts::clone(&settings.hosts).with_all_insecure());
        Registries::source_with(&Settings { hosts, ..settings }, name)
    }

    fn source_with(settings: &Settings, name: &Reference) -> Result<(Remote, Descriptor), TransferError> {
        let registry = Registry::to_pull(settings, name).map_err(far)?;
        let root = registry.resolve(name).map_err(far)?;
        let descriptor = root.descriptor.clone();
        Ok((Remote { registry, name: name.clone(), root: Some(root), by_digest: false }, descriptor))
    }

    /// The repository of `name` as a sink; the copied image gets the tag, unless `name` has a digest.
    pub(crate) fn sink(&self, name: &Reference) -> Result<Remote, TransferError> {
        self.sink_with(self.settings()?, name)
    }

    /// The same over plain HTTP or with an untrusted certificate, if the registry has nothing better.
    pub(crate) fn insecure_sink(&self, name: &Reference) -> Result<Remote, TransferError> {
        let settings = self.settings()?.clone();
        let hosts = Arc::new(Hosts::clone(&settings.hosts).with_all_insecure());
        self.sink_with(&Settings { hosts, ..settings }, name)
    }

    fn sink_with(&self, settings: &Settings, name: &Reference) -> Result<Remote, TransferError> {
        let registry = Registry::to_push(settings, name).map_err(far)?;
        Ok(Remote { registry, name: name.clone(), root: None, by_digest: name.digest().is_some() })
    }
}

/// An image name in a registry, as a source and as a sink.
#[derive(Debug)]
pub(crate) struct Remote {
    registry: Registry,
    name: Reference,
    /// The manifest or index for which the name stands.
    root: Option<Manifest>,
    /// True if the copied image gets no tag.
    by_digest: bool,
}

impl Remote {
    /// The same sink, but the copied image gets no tag.
    pub(crate) fn by_digest(self) -> Remote {
        Remote { by_digest: true, ..self }
    }

    fn place(&self) -> Repository {
        Repository { host: self.name.host().to_owned(), name: self.name.repository().to_owned() }
    }
}

impl Source for Remote {
    fn shown(&self) -> String {
        self.name.to_string()
    }

    fn document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        match self.root.as_ref().filter(|root| root.descriptor.digest == document.digest) {
            Some(root) => Ok(root.bytes.clone()),
            None => Ok(self.registry.manifest(document).map_err(far)?.bytes),
        }
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        Ok(Box::new(self.registry.blob(blob).map_err(far)?))
    }

    fn doubt(&self, blob: &Descriptor) -> bool {
        self.registry.doubt(blob)
    }

    fn referrers(&self, document: &Descriptor) -> Result<Vec<Descriptor>, TransferError> {
        self.registry.referrers(&document.digest).map_err(far)
    }

    fn seen(&self, _: &Descriptor) -> Vec<Repository> {
        vec![self.place()]
    }
}

impl Sink for Remote {
    fn shown(&self) -> String {
        self.name.to_string()
    }

    fn at_once(&self) -> usize {
        4
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        self.registry.has_blob(blob).map_err(far)
    }

    fn has_all(&self, document: &Descriptor) -> Result<bool, TransferError> {
        self.registry.has_manifest(document).map_err(far)
    }

    fn mount(&self, blob: &Descriptor, from: &Repository) -> Result<bool, TransferError> {
        let here = self.place();
        if from.host != here.host || from.name == here.name {
            return Ok(false);
        }
        match self.registry.mount(blob, &from.name) {
            // A blob that cannot be mounted is uploaded.
            Err(error) if error.is_refusal() => Ok(false),
            done => done.map_err(far),
        }
    }

    fn blob(&self, blob: &Descriptor, incoming: &Incoming<'_>) -> Result<(), TransferError> {
        let open = || {
            let reader = incoming.open().map_err(|error| io::Error::other(error.to_string()))?;
            Ok(Box::new(reader) as Box<dyn Read + '_>)
        };
        self.registry.upload(blob, &open).map_err(far)
    }

    fn document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.registry.put_manifest(None, document, bytes).map_err(far)
    }

    fn finish(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let tag = Some(self.name.tag()).filter(|_| !self.by_digest);
        self.registry.put_manifest(tag, root, bytes).map_err(far)
    }

    fn repository(&self) -> Option<Repository> {
        Some(self.place())
    }
}

/// Converts the error of a registry to that of a transfer.
pub(crate) fn far(error: RegistryError) -> TransferError {
    match error {
        RegistryError::Stopped { .. } => TransferError::Cancelled,
        error => TransferError::Far {
            refused: error.is_refusal(),
            lacks_blob: error.lacks_a_blob(),
            error: RemoteError { causes: crate::failure::chain(&error), help: error.help() },
        },
    }
}
