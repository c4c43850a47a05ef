//! Parses `--output` and related options into a list of [`BuildOutput`]s.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use dram_build::request::{BuildOutput, FileOrStdout, ImageDestination, PushOptions};
use dram_build::{ArchiveFormat, ImageFormat, ImageOptions, LayerCompression};
use dram_dockerfile::suggest::nearest_name;
use dram_image::Reference;

use super::annotations::{self, AnnotationTarget, ImageAnnotations};
use super::key_value_option::{KeyValueOption, OptionSyntax};
use crate::ambient;
use crate::cli;
use crate::failure::Failure;
use crate::image_lookup;

const OUTPUT_TYPES: [&str; 7] = ["image", "docker", "oci", "tar", "local", "registry", "cacheonly"];

const OUTPUT_SYNTAX: OptionSyntax =
    OptionSyntax { option: "--output", example: "`--output type=oci,dest=image.tar`, `--output DIR`, or `--output -`" };

/// The options that apply to all outputs.
pub(super) struct OutputDefaults {
    /// The time that was given, in seconds since 1970.
    pub(super) time: Option<i64>,
    /// The names of `--tag`.
    pub(super) tags: Vec<Reference>,
    /// The annotations of `--annotation`.
    pub(super) annotations: ImageAnnotations,
}

/// The outputs of `args`; without any, an image in the store.
pub(super) fn parse_outputs(args: &cli::BuildCommandArgs, asked: &OutputDefaults) -> Result<Vec<BuildOutput>, Failure> {
    let mut outputs = args.output.iter().map(|text| parse_output(text, asked)).collect::<Result<Vec<_>, _>>()?;
    let in_store =
        |output: &BuildOutput| matches!(output, BuildOutput::Image { destination: ImageDestination::Store, .. });
    if outputs.is_empty() || args.legacy.load && !outputs.iter().any(in_store) {
        outputs
            .push(parse_output(if args.push && outputs.is_empty() { "type=registry" } else { "type=image" }, asked)?);
    }
    if args.push {
        apply_push(&mut outputs, asked)?;
    }
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Failure::usage("two outputs go to standard output").help("give one of them a `dest=FILE`"));
    }
    Ok(outputs)
}

/// Applies `--push`: images are pushed, and without an image one is added.
fn apply_push(outputs: &mut Vec<BuildOutput>, asked: &OutputDefaults) -> Result<(), Failure> {
    let mut is_pushed = false;
    for output in outputs.iter_mut() {
        if let BuildOutput::Image {
            destination: ImageDestination::Store | ImageDestination::StoreUnnamed,
            push,
            names,
            ..
        } = output
        {
            require_name(names)
                .map_err(|()| Failure::usage("`--push`: the image has no name").help(NAME_IMAGE_HELP))?;
            push.get_or_insert_default();
            is_pushed = true;
        }
    }
    if !is_pushed {
        outputs.push(parse_output("type=registry", asked)?);
    }
    Ok(())
}

/// Help for an image that is to be pushed and has no name.
const NAME_IMAGE_HELP: &str = "say where it goes: `--tag HOST/NAME:TAG`";

fn require_name(names: &[Reference]) -> Result<(), ()> {
    if names.is_empty() { Err(()) } else { Ok(()) }
}

fn parse_output(text: &str, asked: &OutputDefaults) -> Result<BuildOutput, Failure> {
    // As in buildx, a single word is a directory, or `-` for a tar on standard output.
    if text == "-" {
        return parse_output("type=tar,dest=-", asked);
    }
    if !text.contains(',') && !text.starts_with("type=") {
        return match text {
            "" => {
                Err(Failure::usage("`--output` names nothing").help("`--output DIR`, or `--output type=oci,dest=FILE`"))
            }
            _ => Ok(BuildOutput::Local { dest: PathBuf::from(text), time: asked.time }),
        };
    }
    let mut keys = KeyValueOption::parse(OUTPUT_SYNTAX, text)?;
    let Some(kind) = keys.take("type") else {
        return Err(keys.usage_failure("it has no `type=`").help(format!("one of {}", OUTPUT_TYPES.join(", "))));
    };
    let time = match keys.take("source-date-epoch") {
        Some(text) => Some(ambient::parse_document_time("`source-date-epoch`", &text)?),
        None => asked.time,
    };
    let output = match kind.as_str() {
        "local" => {
            take_file_keys(&mut keys)?;
            match keys.take("dest") {
                Some(dest) => BuildOutput::Local { dest: PathBuf::from(dest), time },
                None => return Err(keys.usage_failure("it has no `dest=DIR`")),
            }
        }
        "tar" => {
            take_file_keys(&mut keys)?;
            BuildOutput::Tar { dest: take_dest(&mut keys)?, time }
        }
        "cacheonly" => BuildOutput::Nothing,
        "image" | "oci" | "docker" | "registry" => parse_image_output(&mut keys, &kind, time, asked)?,
        other => {
            let failure = keys.usage_failure(&format!("there is no type `{other}`"));
            return Err(match nearest_name(other, OUTPUT_TYPES) {
                Some(near) => failure.help(format!("did you mean `type={near}`?")),
                None => failure.help(format!("one of {}", OUTPUT_TYPES.join(", "))),
            });
        }
    };
    keys.reject_unread(&kind)?;
    Ok(output)
}

fn take_file_keys(keys: &mut KeyValueOption) -> Result<(), Failure> {
    keys.take("attestation-prefix");
    // A build is for one platform, so there is nothing to split.
    if keys.take_flag("platform-split")? == Some(true) {
        return Err(keys.usage_failure("`platform-split` needs several platforms").help("name a directory in `dest`"));
    }
    match keys.take("mode").as_deref() {
        None | Some("copy") => Ok(()),
        Some("delete") => {
            let failure =
                keys.usage_failure("`mode=delete` is not supported: dram removes no files of the destination");
            Err(failure.help("remove the directory before the build"))
        }
        Some(other) => Err(keys.usage_failure(&format!("there is no mode `{other}`"))),
    }
}

/// The file of `dest`, or standard output, which must not be a terminal.
fn take_dest(keys: &mut KeyValueOption) -> Result<FileOrStdout, Failure> {
    match keys.take("dest").as_deref() {
        None | Some("-") if io::stdout().is_terminal() => {
            Err(keys.usage_failure("it would write an archive to the terminal").help("give it a `dest=FILE`"))
        }
        None | Some("-") => Ok(FileOrStdout::Stdout),
        Some(path) if PathBuf::from(path).is_dir() => Err(keys
            .usage_failure(&format!("`{path}` is a directory"))
            .help("name a file; `tar=false` writes an OCI layout")),
        Some(path) => Ok(FileOrStdout::File(PathBuf::from(path))),
    }
}

fn parse_image_output(
    keys: &mut KeyValueOption,
    kind: &str,
    time: Option<i64>,
    asked: &OutputDefaults,
) -> Result<BuildOutput, Failure> {
    take_engine_keys(keys, time)?;
    let stays = keys.take_flag("store")?.unwrap_or(true);
    let names = take_names(keys, asked)?;
    let push = take_push_options(keys, kind, &names)?;
    let how = Box::new(take_image_options(keys, time, asked)?);
    let tar = keys.take_flag("tar")?;
    let to = match (kind, tar) {
        ("image", None) if stays => ImageDestination::Store,
        ("image" | "registry", None) => ImageDestination::StoreUnnamed,
        ("image" | "registry", Some(_)) => {
            return Err(keys.usage_failure(&format!("`tar` has no meaning for `type={kind}`")));
        }
        (_, Some(false)) => match keys.take("dest").map(PathBuf::from) {
            Some(dest) => ImageDestination::Layout(dest),
            None => return Err(keys.usage_failure("it has no `dest=DIR`")),
        },
        // Without a destination it goes to the store, as in Docker to the images that `docker images` lists.
        ("docker", None) if !keys.has_value("dest") => ImageDestination::Store,
        ("docker", None | Some(true)) => ImageDestination::Archive(take_dest(keys)?, ArchiveFormat::Docker),
        (_, None | Some(true)) => ImageDestination::Archive(take_dest(keys)?, ArchiveFormat::Oci),
    };
    Ok(BuildOutput::Image { options: how, names, destination: to, push })
}

/// The options of pushing the image, if it is pushed.
fn take_push_options(
    keys: &mut KeyValueOption,
    kind: &str,
    names: &[Reference],
) -> Result<Option<PushOptions>, Failure> {
    let (push, by_digest) = (keys.take_flag("push")?, keys.take_flag("push-by-digest")?.unwrap_or(false));
    let insecure = keys.take_flag("registry.insecure")?.unwrap_or(false);
    match (kind, push) {
        ("registry", _) | ("image", Some(true)) => {
            require_name(names)
                .map_err(|()| keys.usage_failure("the image has no name to be pushed to").help(NAME_IMAGE_HELP))?;
            Ok(Some(PushOptions { by_digest, insecure }))
        }
        (_, Some(true)) => Err(keys
            .usage_failure(&format!("`push` has no meaning for `type={kind}`"))
            .help("`--output type=registry` beside it pushes as well")),
        (_, Some(false) | None) => Ok(None),
    }
}

/// Reads keys that only affect a Docker engine, and `rewrite-timestamp`, which follows from `time`.
fn take_engine_keys(keys: &mut KeyValueOption, time: Option<i64>) -> Result<(), Failure> {
    for key in ["unpack", "name-canonical", "danging-name-empty-only", "attestation-inline", "oci-artifact"] {
        keys.take_flag(key)?;
    }
    if keys.take("dangling-name-prefix").is_some() {
        let failure = keys.usage_failure("`dangling-name-prefix` is not supported: images here have names, or digests");
        return Err(failure.help("give it a name with `--tag`"));
    }
    if keys.take_flag("prefer-nondist-layers")? == Some(true) {
        return Err(keys.usage_failure("`prefer-nondist-layers` is not supported: layers are kept with the image"));
    }
    if keys.take("context").is_some() {
        return Err(keys.usage_failure("`context` names a Docker engine, and there is none").help("leave it out"));
    }
    match (keys.take_flag("rewrite-timestamp")?, time) {
        (Some(false), Some(_)) => {
            let failure = keys.usage_failure(
                "`rewrite-timestamp=false` is not supported with SOURCE_DATE_EPOCH: it is the time of all files",
            );
            Err(failure.help("leave both out, and files keep their times"))
        }
        (Some(true), None) => {
            let failure = keys.usage_failure("`rewrite-timestamp` needs a time");
            Err(failure.help("`--source-date-epoch=EPOCH`, or SOURCE_DATE_EPOCH in the environment"))
        }
        (Some(true), Some(_)) | (Some(false) | None, _) => Ok(()),
    }
}

fn take_names(keys: &mut KeyValueOption, asked: &OutputDefaults) -> Result<Vec<Reference>, Failure> {
    match keys.take("name").as_deref() {
        None | Some("*") => Ok(asked.tags.clone()),
        Some(names) => names.split(',').filter(|name| !name.is_empty()).map(image_lookup::parse_reference).collect(),
    }
}

fn take_image_options(
    keys: &mut KeyValueOption,
    time: Option<i64>,
    asked: &OutputDefaults,
) -> Result<ImageOptions, Failure> {
    let dialect = match keys.take_flag("oci-mediatypes")? {
        None | Some(true) => ImageFormat::Oci,
        Some(false) => ImageFormat::Docker,
    };
    let compress = take_compression(keys)?;
    let force = keys.take_flag("force-compression")?.unwrap_or(false);
    let mut all = asked.annotations.clone();
    for (key, value) in keys.take_prefixed("annotation") {
        let (side, name) = annotations::parse_output_key(&key).map_err(|why| keys.usage_failure(&why))?;
        all.set(side, name, &value);
    }
    let descriptor = all.take(AnnotationTarget::Descriptor);
    if dialect == ImageFormat::Docker && !descriptor.is_empty() {
        return Err(keys.usage_failure("an annotation of the manifest's descriptor needs `oci-mediatypes=true`"));
    }
    Ok(ImageOptions {
        time,
        format: dialect,
        compression: compress,
        recompress_base: force,
        annotations: all.take(AnnotationTarget::Manifest),
        descriptor_annotations: descriptor,
    })
}

/// Reads the keys for the compression of layers.
pub(super) fn take_compression(keys: &mut KeyValueOption) -> Result<LayerCompression, Failure> {
    let level = keys.take_number("compression-level")?;
    let within = |keys: &KeyValueOption, most: i64| match level {
        None => Ok(None),
        Some(level) if (0..=most).contains(&level) => Ok(i32::try_from(level).ok()),
        Some(level) => Err(keys.usage_failure(&format!("`compression-level={level}` is not between 0 and {most}"))),
    };
    match keys.take("compression").as_deref() {
        None | Some("gzip") => Ok(within(keys, 9)?.map_or_else(LayerCompression::default, LayerCompression::Gzip)),
        Some("zstd") => Ok(LayerCompression::Zstd(within(keys, 22)?.unwrap_or(3))),
        Some("uncompressed") => Ok(LayerCompression::Plain),
        Some(other @ ("estargz" | "nydus")) => {
            let failure = keys.usage_failure(&format!("`compression={other}` is not supported"));
            Err(failure.help("`compression=zstd` is small and fast to unpack; every engine of today reads it"))
        }
        Some(other) => {
            let failure = keys.usage_failure(&format!("there is no compression `{other}`"));
            Err(failure.help("one of gzip, zstd, uncompressed"))
        }
    }
}
