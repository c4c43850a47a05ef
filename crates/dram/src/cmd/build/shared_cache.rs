//! `--cache-from` and `--cache-to`: caches that machines share.
//!
//! The options are BuildKit's; the content of a cache is not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dram_build::ImageFormat;
use dram_build::request::{CacheEndpoint, CacheExportRequest, CacheImportRequest};
use dram_build::shared_cache::{CacheExportOptions, CacheMode};
use dram_dockerfile::option_value::parse_go_bool;

use super::key_value_option::{KeyValueOption, OptionSyntax};
use super::output_option::take_compression;
use crate::cli;
use crate::failure::Failure;
use crate::image_lookup;

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
    /// Caches to read.
    pub(super) imports: Vec<CacheImportRequest>,
    /// Caches to write.
    pub(super) exports: Vec<CacheExportRequest>,
    /// Notes about options without effect.
    pub(super) notes: Vec<String>,
}

/// Reads the shared caches of `args`; with `time`, that is the time of all files in caches that are written.
pub(super) fn parse_cache_options(
    args: &cli::BuildCommandArgs,
    build_args: &BTreeMap<String, String>,
    time: Option<i64>,
) -> Result<SharedCacheOptions, Failure> {
    let mut asked = SharedCacheOptions { imports: Vec::new(), exports: Vec::new(), notes: Vec::new() };
    // This requested it before there was an option.
    if build_args.get(INLINE_CACHE_ARG).is_some_and(|value| parse_go_bool(value) == Some(true)) {
        let form = CacheExportOptions { time, ..CacheExportOptions::default() };
        asked.exports.push(CacheExportRequest {
            text: INLINE_CACHE_ARG.to_owned(),
            endpoint: None,
            options: form,
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

fn parse_import(mut keys: KeyValueOption, kind: &str, text: String) -> Result<CacheImportRequest, Failure> {
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
    Ok(CacheImportRequest { text, endpoint: place })
}

fn parse_registry(keys: &mut KeyValueOption) -> Result<CacheEndpoint, Failure> {
    let insecure = keys.take_flag("registry.insecure")?.unwrap_or(false);
    match keys.take("ref") {
        Some(name) => Ok(CacheEndpoint::Registry { name: image_lookup::parse_reference(&name)?, insecure }),
        None => Err(keys.usage_failure("it has no `ref=NAME`")),
    }
}

fn parse_export(
    mut keys: KeyValueOption,
    kind: &str,
    text: String,
    time: Option<i64>,
) -> Result<CacheExportRequest, Failure> {
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
        return Ok(CacheExportRequest {
            text,
            endpoint: None,
            options: CacheExportOptions { mode, time, ..CacheExportOptions::default() },
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
    let compress = take_compression(&mut keys)?;
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
    Ok(CacheExportRequest {
        text,
        endpoint: Some(place),
        options: CacheExportOptions { mode, compression: compress, format: dialect, time },
        ignore_error,
    })
}
