//! `--cache-from` and `--cache-to`: caches that machines share.
//!
//! The options are BuildKit's; the content of a cache is not. A cache that cannot be read only costs time, so there is
//! a note about it. One that cannot be written is an error, after everything else is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_build::shared_cache::{CacheExportOptions, CacheMode, ExportedCache, SharedCache};
use dram_build::transfer::{
    ImageSink, ImageSource, LayoutImage, LayoutName, LayoutSink, LoadSource, StoreSource, find_layout_image,
};
use dram_build::{CancelToken, ImageFormat, SharedCaches, Snapshot};
use dram_image::{Descriptor, ImagePlatform, Reference};
use dram_store::Store;

use super::key_value_option::{KeyValueOption, OptionSyntax};
use super::output;
use crate::cli::{self, PullPolicy};
use crate::failure::Failure;
use crate::progress::{BuildDisplay, TransferLines};
use crate::registry_access::RegistryAccess;
use crate::{format, image_lookup};

const CACHE_FROM_SYNTAX: OptionSyntax = OptionSyntax {
    option: "--cache-from",
    example: "`--cache-from NAME`, `--cache-from type=registry,ref=NAME`, or `--cache-from type=local,src=DIR`",
};
const CACHE_TO_SYNTAX: OptionSyntax = OptionSyntax {
    option: "--cache-to",
    example: "`--cache-to type=registry,ref=NAME`, `--cache-to type=local,dest=DIR`, or `--cache-to type=inline`",
};
/// The default tag of a cache in a directory.
const DEFAULT_TAG: &str = "latest";
/// The build argument that asks for a cache in the image.
const INLINE_CACHE_ARG: &str = "BUILDKIT_INLINE_CACHE";
/// The services in which BuildKit can store caches and dram cannot.
const UNSUPPORTED_SERVICES: [&str; 3] = ["gha", "s3", "azblob"];

/// The shared caches of the command line.
pub(super) struct SharedCacheOptions {
    imports: Vec<CacheImportSpec>,
    exports: Vec<CacheExportSpec>,
    /// Notes about options without effect.
    pub(super) notes: Vec<String>,
}

/// A cache to read.
struct CacheImportSpec {
    text: String,
    endpoint: CacheEndpoint,
}

/// A cache to write.
struct CacheExportSpec {
    text: String,
    /// `None` for a cache in the image.
    endpoint: Option<CacheEndpoint>,
    form: CacheExportOptions,
    ignore_error: bool,
}

enum CacheEndpoint {
    Local { path: PathBuf, tag_or_digest: String },
    Registry { name: Reference, insecure: bool },
}

/// The resources for reading and writing shared caches.
pub(super) struct CacheTransferContext<'a, 'b> {
    pub(super) store: &'a Store,
    pub(super) registries: &'b RegistryAccess,
    pub(super) policy: PullPolicy,
    pub(super) cancel: &'b CancelToken,
    pub(super) progress: &'b BuildDisplay,
}

impl CacheEndpoint {
    fn display_name(&self) -> String {
        match self {
            CacheEndpoint::Local { path, .. } => path.display().to_string(),
            CacheEndpoint::Registry { name, .. } => name.short(),
        }
    }
}

/// Reads the shared caches of `args`; files without a time of their own are written with `time`.
pub(super) fn parse_cache_options(
    args: &cli::BuildCommandArgs,
    build_args: &BTreeMap<String, String>,
    time: i64,
) -> Result<SharedCacheOptions, Failure> {
    let mut asked = SharedCacheOptions { imports: Vec::new(), exports: Vec::new(), notes: Vec::new() };
    // This requested it before there was an option.
    if build_args
        .get(INLINE_CACHE_ARG)
        .is_some_and(|value| ["1", "t", "T", "true", "True", "TRUE"].contains(&value.as_str()))
    {
        let form = CacheExportOptions { time, ..CacheExportOptions::default() };
        asked.exports.push(CacheExportSpec {
            text: INLINE_CACHE_ARG.to_owned(),
            endpoint: None,
            form,
            ignore_error: false,
        });
    }
    for text in args.cache_from.iter().filter(|text| !text.is_empty()) {
        for text in expand_names(text) {
            let mut keys = KeyValueOption::parse(CACHE_FROM_SYNTAX, &text)?;
            let Some(kind) = take_type(&mut keys, &["local", "registry"], &mut asked.notes)? else { continue };
            asked.imports.push(parse_import(keys, &kind, text)?);
        }
    }
    for text in args.cache_to.iter().filter(|text| !text.is_empty()) {
        for text in expand_names(text) {
            let mut keys = KeyValueOption::parse(CACHE_TO_SYNTAX, &text)?;
            let Some(kind) = take_type(&mut keys, &["inline", "local", "registry"], &mut asked.notes)? else {
                continue;
            };
            asked.exports.push(parse_export(keys, &kind, text, time)?);
        }
    }
    Ok(asked)
}

/// As in buildx, a value without `=` is a list of names in registries.
fn expand_names(text: &str) -> Vec<String> {
    match text.contains('=') {
        true => vec![text.to_owned()],
        false => text.split(',').map(|name| format!("type=registry,ref={name}")).collect(),
    }
}

/// The type, if it is one of `known`. For a service of BuildKit's there is only a note: a build does not depend on it.
fn take_type(keys: &mut KeyValueOption, known: &[&str], remarks: &mut Vec<String>) -> Result<Option<String>, Failure> {
    let Some(kind) = keys.take("type") else {
        return Err(keys.usage_failure("it has no `type=`").help(format!("one of {}", known.join(", "))));
    };
    if known.contains(&kind.as_str()) {
        return Ok(Some(kind));
    }
    if UNSUPPORTED_SERVICES.contains(&kind.as_str()) {
        let what = format!("`type={kind}` is not supported, caches are in registries and directories");
        remarks.push(format!("{}; it has no effect", keys.usage_failure(&what).causes.join(": ")));
        return Ok(None);
    }
    if kind == "inline" {
        let failure = keys.usage_failure("a cache in an image is where the image is");
        return Err(failure.help("`--cache-from type=registry,ref=IMAGE`, or only `--cache-from IMAGE`"));
    }
    Err(keys.usage_failure(&format!("there is no type `{kind}`")).help(format!("one of {}", known.join(", "))))
}

fn parse_import(mut keys: KeyValueOption, kind: &str, text: String) -> Result<CacheImportSpec, Failure> {
    let place = match kind {
        "local" => {
            let Some(path) = keys.take("src") else { return Err(keys.usage_failure("it has no `src=DIR`")) };
            let which = keys.take("digest").or_else(|| keys.take("tag"));
            keys.take("tag");
            CacheEndpoint::Local {
                path: PathBuf::from(path),
                tag_or_digest: which.unwrap_or_else(|| DEFAULT_TAG.to_owned()),
            }
        }
        _ => parse_registry(&mut keys)?,
    };
    keys.reject_unknown(&["type", "src", "digest", "tag", "ref", "registry.insecure"])?;
    Ok(CacheImportSpec { text, endpoint: place })
}

fn parse_registry(keys: &mut KeyValueOption) -> Result<CacheEndpoint, Failure> {
    let insecure = keys.take_flag("registry.insecure")?.unwrap_or(false);
    match keys.take("ref") {
        Some(name) => Ok(CacheEndpoint::Registry { name: image_lookup::parse_reference(&name)?, insecure }),
        None => Err(keys.usage_failure("it has no `ref=NAME`")),
    }
}

fn parse_export(mut keys: KeyValueOption, kind: &str, text: String, time: i64) -> Result<CacheExportSpec, Failure> {
    let ignore_error = keys.take_flag("ignore-error")?.unwrap_or(false);
    let mode = match keys.take("mode").as_deref() {
        None | Some("min") => CacheMode::Min,
        Some("max") if kind != "inline" => CacheMode::Max,
        Some("max") => {
            let failure = keys.usage_failure("an image has no layers but its own");
            return Err(failure.help("leave `mode` out, or write the cache to a place of its own: `type=registry`"));
        }
        Some(other) => return Err(keys.usage_failure(&format!("there is no mode `{other}`")).help("one of min, max")),
    };
    if kind == "inline" {
        keys.reject_unknown(&["type", "mode", "ignore-error"])?;
        return Ok(CacheExportSpec {
            text,
            endpoint: None,
            form: CacheExportOptions { mode, time, ..CacheExportOptions::default() },
            ignore_error,
        });
    }
    let dialect = match keys.take_flag("oci-mediatypes")? {
        None | Some(true) => ImageFormat::Oci,
        Some(false) => ImageFormat::Docker,
    };
    if keys.take_flag("image-manifest")? == Some(false) {
        let failure = keys.usage_failure("`image-manifest=false` is not supported: a cache is an image manifest");
        return Err(failure.help("leave it out; every registry takes one"));
    }
    let compress = output::take_compression(&mut keys)?;
    // A layer has one form in a cache: the requested one, or the one from another cache.
    keys.take_flag("force-compression")?;
    let place = match kind {
        "local" => {
            let Some(path) = keys.take("dest") else { return Err(keys.usage_failure("it has no `dest=DIR`")) };
            if keys.take_flag("reset")? == Some(true) {
                let failure = keys.usage_failure("`reset=true` is not supported: what others may read is not removed");
                return Err(failure.help("write to a new directory, and put it in the place of the old one"));
            }
            CacheEndpoint::Local {
                path: PathBuf::from(path),
                tag_or_digest: keys.take("tag").unwrap_or_else(|| DEFAULT_TAG.to_owned()),
            }
        }
        _ => parse_registry(&mut keys)?,
    };
    keys.reject_unknown(&[
        "type",
        "dest",
        "tag",
        "ref",
        "mode",
        "reset",
        "compression",
        "compression-level",
        "force-compression",
        "oci-mediatypes",
        "image-manifest",
        "ignore-error",
        "registry.insecure",
    ])?;
    Ok(CacheExportSpec {
        text,
        endpoint: Some(place),
        form: CacheExportOptions { mode, compression: compress, format: dialect, time },
        ignore_error,
    })
}

impl SharedCacheOptions {
    /// Reads the documents of the caches of `--cache-from`. Returns their cache records, and notes about caches that
    /// cannot be read.
    pub(super) fn open_imports<'a>(
        &self,
        ways: &CacheTransferContext<'a, '_>,
        platform: &ImagePlatform,
    ) -> Result<(SharedCaches<'a>, Vec<String>), Failure> {
        let (mut caches, mut remarks) = (Vec::new(), Vec::new());
        for from in &self.imports {
            match open_cache(ways, &from.endpoint, platform) {
                Err(_) if ways.cancel.is_cancelled() => return Err(Failure::interrupted()),
                Ok(cache) => caches.push(cache),
                Err(failure) => {
                    let why = failure.causes.join(": ");
                    remarks.push(format!("`--cache-from {}`: {why}; it is not used", from.text));
                }
            }
        }
        Ok((SharedCaches::new(caches), remarks))
    }

    /// Returns true if images hold a cache of their own layers.
    pub(super) fn has_inline_export(&self) -> bool {
        self.exports.iter().any(|to| to.endpoint.is_none())
    }

    /// Writes the caches. Returns a note about each.
    pub(super) fn write_exports(
        &self,
        ways: &CacheTransferContext<'_, '_>,
        shared: &SharedCaches<'_>,
        snapshot: &Snapshot,
    ) -> Result<Vec<String>, Failure> {
        let mut remarks = Vec::new();
        for to in &self.exports {
            let Some(place) = &to.endpoint else { continue };
            match write_cache(ways, shared, snapshot, place, &to.form) {
                Ok(ExportedCache { steps, layers, size, .. }) => {
                    let (steps, layers) = (format::format_count(steps, "step"), format::format_count(layers, "layer"));
                    remarks.push(format!(
                        "cached in {}: {steps}, {layers} of {}",
                        place.display_name(),
                        format::format_size(size)
                    ));
                }
                Err(_) if ways.cancel.is_cancelled() => return Err(Failure::interrupted()),
                Err(failure) if to.ignore_error => {
                    remarks.push(format!("note: `--cache-to {}`: {}", to.text, failure.causes.join(": ")));
                }
                Err(mut failure) => {
                    failure.causes.insert(0, format!("the cache `{}` was not written", to.text));
                    failure.helps.push("with `ignore-error=true` this is no reason to fail".to_owned());
                    return Err(failure);
                }
            }
        }
        Ok(remarks)
    }
}

fn open_cache<'a>(
    ways: &CacheTransferContext<'a, '_>,
    place: &CacheEndpoint,
    platform: &ImagePlatform,
) -> Result<SharedCache<'a>, Failure> {
    let store = ways.store;
    let read = |source: Box<dyn ImageSource + 'a>, root: &Descriptor| {
        SharedCache::open(source, root, platform).map_err(Failure::from)
    };
    match place {
        CacheEndpoint::Local { path, tag_or_digest: which } => {
            match dram_build::transfer::open_load_source(path, store)? {
                LoadSource::Layout(layout) => {
                    let root = find_entry(&layout.list_images()?, which, path)?;
                    read(Box::new(layout), &root)
                }
                LoadSource::Docker(_) => Err(Failure::work(format!("`{}` is no OCI layout", path.display()))),
            }
        }
        CacheEndpoint::Registry { name, insecure } => {
            let far = match (ways.policy, insecure) {
                (PullPolicy::Never, _) => Err(Failure::work(format!("the store has no image `{}`", name.short()))),
                (PullPolicy::Always | PullPolicy::Missing, true) => {
                    ways.registries.insecure_source(name).map_err(Failure::from)
                }
                (PullPolicy::Always | PullPolicy::Missing, false) => {
                    ways.registries.source(name).map_err(Failure::from)
                }
            };
            // An image of this name in the store may have a cache, too.
            match (far, store.refs().get(name)?) {
                (Ok((source, root)), _) => read(Box::new(source), &root),
                (Err(_), Some(root)) => read(Box::new(StoreSource::new(store)), &root),
                (Err(failure), None) => Err(failure),
            }
        }
    }
}

/// Returns the entry of a layout that `which` names: a digest or a tag; a single entry is also called [`DEFAULT_TAG`].
fn find_entry(all: &[LayoutImage], which: &str, path: &Path) -> Result<Descriptor, Failure> {
    let found = find_layout_image(all, which).or(match all {
        [one] if which == DEFAULT_TAG => Some(one),
        _ => None,
    });
    found.map(|one| one.root.clone()).ok_or_else(|| Failure::work(format!("`{}` has no `{which}`", path.display())))
}

fn write_cache(
    ways: &CacheTransferContext<'_, '_>,
    shared: &SharedCaches<'_>,
    snapshot: &Snapshot,
    place: &CacheEndpoint,
    form: &CacheExportOptions,
) -> Result<ExportedCache, Failure> {
    let lines = TransferLines::default();
    let moved = |motion| match lines.format_progress(motion) {
        line if line.is_empty() => {}
        line => ways.progress.print_line(&line),
    };
    let packed = |event| ways.progress.show_event(event);
    let give =
        |sink: &dyn ImageSink| shared.export_cache(ways.store, snapshot, form, sink, ways.cancel, (&packed, &moved));
    Ok(match place {
        CacheEndpoint::Local { path, tag_or_digest: which } => {
            give(&LayoutSink::new(path, vec![LayoutName { text: which.clone(), full: None }])?)
        }
        CacheEndpoint::Registry { name, insecure: true } => give(&ways.registries.insecure_sink(name)?),
        CacheEndpoint::Registry { name, insecure: false } => give(&ways.registries.sink(name)?),
    }?)
}
