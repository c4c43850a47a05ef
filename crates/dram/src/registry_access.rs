//! Registries as sources and sinks of transfers.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dram_build::transfer::{
    ImageSink, ImageSource, IncomingBlob, RegistryRepository, TransferError, attachment_tag, attachment_tags,
    with_attachment_tag,
};
use dram_build::{CancelToken, RemoteError, RemoteErrorKind};
use dram_image::{Descriptor, Reference};
use dram_remote::registry::{
    CredentialStore, FetchedManifest, Registry, RegistryError, RegistryHosts, RegistrySettings,
};

use crate::{ambient, report};

/// The access to registries. Clones share the settings.
#[derive(Debug, Clone)]
pub(crate) struct RegistryAccess {
    cancel: CancelToken,
    settings: Arc<OnceLock<RegistrySettings>>,
}

impl RegistryAccess {
    /// Access as the environment and the configuration files say, until `cancel` is thrown.
    pub(crate) fn new(cancel: CancelToken) -> RegistryAccess {
        RegistryAccess { cancel, settings: Arc::default() }
    }

    /// The settings from the environment and the configuration files, read on the first call.
    pub(crate) fn settings(&self) -> Result<&RegistrySettings, TransferError> {
        if self.settings.get().is_none() {
            let files = ambient::registry_config_paths();
            let hosts = RegistryHosts::read(&files.registries, files.certificates).map_err(transfer_error)?;
            let cancel = self.cancel.clone();
            let settings = RegistrySettings {
                proxies: ambient::proxies(),
                trust: ambient::trusted_certificates(),
                connect_timeout: ambient::network_timeout(Duration::from_secs(10)),
                stall_timeout: ambient::network_timeout(Duration::from_secs(15)),
                retry_delay: ambient::network_timeout(Duration::from_secs(1)),
                is_cancelled: Arc::new(move || cancel.is_cancelled()),
                clock: ambient::clock,
                report: Arc::new(|text: &str| report::print_note(text)),
                hosts: Arc::new(hosts),
                credentials: CredentialStore {
                    files: files.credentials,
                    write_path: files.new_credentials,
                    search_path: ambient::search_path(),
                },
            };
            let _ = self.settings.set(settings);
        }
        Ok(self.settings.get().expect("set above"))
    }

    /// The repository of `name` as a source, and the descriptor for which `name` stands there.
    pub(crate) fn source(&self, name: &Reference) -> Result<(RegistryImage, Descriptor), TransferError> {
        RegistryAccess::source_with(self.settings()?, name)
    }

    /// The same over plain HTTP or with an untrusted certificate, if the registry has nothing better.
    pub(crate) fn insecure_source(&self, name: &Reference) -> Result<(RegistryImage, Descriptor), TransferError> {
        let settings = self.settings()?.clone();
        let hosts = Arc::new(RegistryHosts::clone(&settings.hosts).with_all_insecure());
        RegistryAccess::source_with(&RegistrySettings { hosts, ..settings }, name)
    }

    fn source_with(
        settings: &RegistrySettings,
        name: &Reference,
    ) -> Result<(RegistryImage, Descriptor), TransferError> {
        let registry = Registry::for_pull(settings, name).map_err(transfer_error)?;
        let root = registry.resolve(name).map_err(transfer_error)?;
        let descriptor = root.descriptor.clone();
        Ok((RegistryImage { registry, name: name.clone(), root: Some(root), by_digest: false }, descriptor))
    }

    /// The repository of `name` as a sink; the copied image gets the tag, unless `name` has a digest.
    pub(crate) fn sink(&self, name: &Reference) -> Result<RegistryImage, TransferError> {
        self.sink_with(self.settings()?, name)
    }

    /// The same over plain HTTP or with an untrusted certificate, if the registry has nothing better.
    pub(crate) fn insecure_sink(&self, name: &Reference) -> Result<RegistryImage, TransferError> {
        let settings = self.settings()?.clone();
        let hosts = Arc::new(RegistryHosts::clone(&settings.hosts).with_all_insecure());
        self.sink_with(&RegistrySettings { hosts, ..settings }, name)
    }

    fn sink_with(&self, settings: &RegistrySettings, name: &Reference) -> Result<RegistryImage, TransferError> {
        let registry = Registry::for_push(settings, name).map_err(transfer_error)?;
        Ok(RegistryImage { registry, name: name.clone(), root: None, by_digest: name.digest().is_some() })
    }
}

/// An image name in a registry, as a source and as a sink.
#[derive(Debug)]
pub(crate) struct RegistryImage {
    registry: Registry,
    name: Reference,
    /// The manifest or index for which the name stands.
    root: Option<FetchedManifest>,
    /// True if the copied image gets no tag.
    by_digest: bool,
}

impl RegistryImage {
    /// The same sink, but the copied image gets no tag.
    pub(crate) fn by_digest(self) -> RegistryImage {
        RegistryImage { by_digest: true, ..self }
    }

    fn repository_address(&self) -> RegistryRepository {
        RegistryRepository { host: self.name.host().to_owned(), name: self.name.repository().to_owned() }
    }
}

impl ImageSource for RegistryImage {
    fn display_name(&self) -> String {
        self.name.to_string()
    }

    fn read_document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        match self.root.as_ref().filter(|root| root.descriptor.digest == document.digest) {
            Some(root) => Ok(root.bytes.clone()),
            None => Ok(self.registry.fetch_manifest(document).map_err(transfer_error)?.bytes),
        }
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        Ok(Box::new(self.registry.open_blob(blob).map_err(transfer_error)?))
    }

    fn report_corrupt(&self, blob: &Descriptor) -> bool {
        self.registry.report_corrupt(blob)
    }

    fn referrers(&self, document: &Descriptor) -> Result<Vec<Descriptor>, TransferError> {
        let mut all = self.registry.referrers(&document.digest).map_err(transfer_error)?;
        for tag in attachment_tags(&document.digest) {
            let found = self.registry.find_tag(&tag).map_err(transfer_error)?;
            all.extend(found.map(|manifest| with_attachment_tag(manifest.descriptor, &tag)));
        }
        Ok(all)
    }

    fn known_repositories(&self, _: &Descriptor) -> Vec<RegistryRepository> {
        vec![self.repository_address()]
    }
}

impl ImageSink for RegistryImage {
    fn display_name(&self) -> String {
        self.name.to_string()
    }

    fn parallel_blobs(&self) -> usize {
        4
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        self.registry.has_blob(blob).map_err(transfer_error)
    }

    fn has_image(&self, document: &Descriptor) -> Result<bool, TransferError> {
        self.registry.has_manifest(document).map_err(transfer_error)
    }

    fn mount_blob(&self, blob: &Descriptor, from: &RegistryRepository) -> Result<bool, TransferError> {
        let here = self.repository_address();
        if from.host != here.host || from.name == here.name {
            return Ok(false);
        }
        match self.registry.mount_blob(blob, &from.name) {
            // A blob that cannot be mounted is uploaded.
            Err(error) if error.refusal().is_some() => Ok(false),
            done => done.map_err(transfer_error),
        }
    }

    fn put_blob(&self, blob: &Descriptor, incoming: &IncomingBlob<'_>) -> Result<(), TransferError> {
        let open = || {
            let reader = incoming.open().map_err(|error| io::Error::other(error.to_string()))?;
            Ok(Box::new(reader) as Box<dyn Read + '_>)
        };
        self.registry.upload_blob(blob, &open).map_err(transfer_error)
    }

    fn put_document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.registry.put_manifest(None, document, bytes).map_err(transfer_error)
    }

    fn put_image(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let tag = Some(self.name.tag()).filter(|_| !self.by_digest);
        self.registry.put_manifest(tag, root, bytes).map_err(transfer_error)
    }

    fn put_referrer(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.registry.put_manifest(attachment_tag(document), document, bytes).map_err(transfer_error)
    }

    fn repository(&self) -> Option<RegistryRepository> {
        Some(self.repository_address())
    }
}

/// Converts the error of a registry to that of a transfer.
#[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
pub(crate) fn transfer_error(error: RegistryError) -> TransferError {
    if matches!(error, RegistryError::Cancelled { .. }) {
        return TransferError::Cancelled;
    }
    let kind = error.refusal().map_or(RemoteErrorKind::Failed, RemoteErrorKind::Refused);
    TransferError::Remote(RemoteError::new(kind, &error))
}
