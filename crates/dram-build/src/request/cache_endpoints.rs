//! The shared caches of a request: opens those that are read, and writes those that are exported.

use std::path::{Path, PathBuf};

use dram_error::ErrorReport as _;
use dram_image::{Descriptor, ImagePlatform, Reference};

use super::{BuildFailure, BuildNote, BuildServices, InputError, PushOptions, RequestEvent};
use crate::shared_cache::{CacheExportOptions, ExportedCache, SharedCache};
use crate::transfer::{
    self, ImageSink, ImageSource, LayoutImage, LayoutName, LayoutSink, LoadSource, StoreSource, TransferProgress,
    find_layout_image,
};
use crate::{BuildEvent, SharedCaches, Snapshot};

/// The tag that a single entry of a layout is also found under.
const DEFAULT_TAG: &str = "latest";

/// A shared cache to read.
#[derive(Debug, Clone)]
pub struct CacheImportRequest {
    /// The cache as it was requested, for messages.
    pub text: String,
    /// The place of the cache.
    pub endpoint: CacheEndpoint,
}

/// A shared cache to write.
#[derive(Debug, Clone)]
pub struct CacheExportRequest {
    /// The cache as it was requested, for messages.
    pub text: String,
    /// The place of the cache; `None` for a cache in the image.
    pub endpoint: Option<CacheEndpoint>,
    /// Its options.
    pub options: CacheExportOptions,
    /// True if a cache that cannot be written is no error.
    pub ignore_error: bool,
}

/// The place of a shared cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheEndpoint {
    /// An OCI layout.
    Local {
        /// The directory.
        path: PathBuf,
        /// The tag, or the digest, of the entry.
        tag_or_digest: String,
    },
    /// A repository of a registry.
    Registry {
        /// The name.
        name: Reference,
        /// True to accept plain HTTP or an untrusted certificate.
        insecure: bool,
    },
}

impl CacheEndpoint {
    fn display_name(&self) -> String {
        match self {
            CacheEndpoint::Local { path, .. } => path.display().to_string(),
            CacheEndpoint::Registry { name, .. } => name.short(),
        }
    }
}

type EventListener<'a> = dyn Fn(RequestEvent<'_>) + Sync + 'a;

/// Reads the documents of the caches. There is a note about a cache that cannot be read.
pub(super) fn open_caches<'a>(
    imports: &[CacheImportRequest],
    services: &BuildServices<'a>,
    platform: &ImagePlatform,
    events: &EventListener<'_>,
) -> Result<SharedCaches<'a>, BuildFailure> {
    let mut caches = Vec::new();
    for import in imports {
        match open_cache(&import.endpoint, services, platform) {
            Err(_) if services.cancel.is_cancelled() => return Err(BuildFailure::Cancelled),
            Ok(cache) => caches.push(cache),
            Err(failure) => {
                let note = BuildNote::CacheNotImported { cache: import.text.clone(), causes: failure.causes() };
                events(RequestEvent::Note(note));
            }
        }
    }
    Ok(SharedCaches::new(caches))
}

fn open_cache<'a>(
    endpoint: &CacheEndpoint,
    services: &BuildServices<'a>,
    platform: &ImagePlatform,
) -> Result<SharedCache<'a>, BuildFailure> {
    let store = services.store;
    let open = |source: Box<dyn ImageSource + 'a>, root: &Descriptor| {
        SharedCache::open(source, root, platform).map_err(|error| {
            let (class, causes, helps) = (error.class(), error.causes(), error.helps());
            BuildFailure::Input(InputError { class, causes, helps, text: None })
        })
    };
    match endpoint {
        CacheEndpoint::Local { path, tag_or_digest } => match transfer::open_load_source(path, store)? {
            LoadSource::Layout(layout) => {
                let root = find_entry(&layout.list_images()?, tag_or_digest, path)?;
                open(Box::new(layout), &root)
            }
            LoadSource::Docker(_) => Err(InputError::work(format!("`{}` is no OCI layout", path.display())).into()),
        },
        CacheEndpoint::Registry { name, insecure } => {
            // An image of this name in the store may have a cache, too.
            match (services.registries.open_source(name, *insecure), store.refs().get(name)?) {
                (Ok((source, root)), _) => open(source, &root),
                (Err(_), Some(root)) => open(Box::new(StoreSource::new(store)), &root),
                (Err(failure), None) => Err(failure),
            }
        }
    }
}

/// Returns the entry of a layout that `which` names: a digest or a tag; a single entry is also called [`DEFAULT_TAG`].
fn find_entry(all: &[LayoutImage], which: &str, path: &Path) -> Result<Descriptor, InputError> {
    let found = find_layout_image(all, which).or(match all {
        [one] if which == DEFAULT_TAG => Some(one),
        _ => None,
    });
    found.map(|one| one.root.clone()).ok_or_else(|| InputError::work(format!("`{}` has no `{which}`", path.display())))
}

/// Writes the caches. There is a note about each.
pub(super) fn export_caches(
    exports: &[CacheExportRequest],
    services: &BuildServices<'_>,
    (caches, snapshot): (&SharedCaches<'_>, &Snapshot),
    events: &EventListener<'_>,
) -> Result<(), BuildFailure> {
    for export in exports {
        let Some(endpoint) = &export.endpoint else { continue };
        events(RequestEvent::TransferStarted);
        let note = match export_cache(endpoint, &export.options, services, (caches, snapshot), events) {
            Ok(exported) => BuildNote::CacheExported { cache: endpoint.display_name(), exported },
            Err(_) if services.cancel.is_cancelled() => return Err(BuildFailure::Cancelled),
            Err(failure) if export.ignore_error => {
                BuildNote::CacheNotExported { cache: export.text.clone(), causes: failure.causes() }
            }
            Err(failure) => {
                return Err(BuildFailure::CacheExport { cache: export.text.clone(), source: Box::new(failure) });
            }
        };
        events(RequestEvent::Note(note));
    }
    Ok(())
}

fn export_cache(
    endpoint: &CacheEndpoint,
    options: &CacheExportOptions,
    services: &BuildServices<'_>,
    (caches, snapshot): (&SharedCaches<'_>, &Snapshot),
    events: &EventListener<'_>,
) -> Result<ExportedCache, BuildFailure> {
    let moved = |progress: TransferProgress| events(RequestEvent::Transfer(progress));
    let packed = |event: BuildEvent| events(RequestEvent::Step(event));
    let sink: Box<dyn ImageSink> = match endpoint {
        CacheEndpoint::Local { path, tag_or_digest } => {
            let name = LayoutName { text: tag_or_digest.clone(), full: None };
            Box::new(LayoutSink::new(path, vec![name])?)
        }
        CacheEndpoint::Registry { name, insecure } => {
            services.registries.open_sink(name, PushOptions { by_digest: false, insecure: *insecure })?
        }
    };
    let cancel = &services.cancel;
    Ok(caches.export_cache(services.store, snapshot, options, &*sink, cancel, (&packed, &moved))?)
}
