//! Parses `--output` and related options into a list of [`BuildOutput`]s.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use dram_build::{Archive, Compress, Dialect, Sealing};
use dram_dockerfile::nearest::nearest;
use dram_image::Reference;

use super::{Dest, Goal, Output, Push};
use crate::cli;
use crate::cmd::build::annotations::{self, Annotations, Side};
use crate::cmd::build::keys::{Keys, Taker};
use crate::failure::Failure;
use crate::find;

const TYPES: [&str; 7] = ["image", "docker", "oci", "tar", "local", "registry", "cacheonly"];

const TAKER: Taker =
    Taker { option: "--output", example: "`--output type=oci,dest=image.tar`, `--output DIR`, or `--output -`" };

/// The options that apply to all outputs.
pub(in crate::cmd::build) struct Asked {
    /// The time that was given, in seconds since 1970.
    pub(in crate::cmd::build) time: Option<i64>,
    /// The names of `--tag`.
    pub(in crate::cmd::build) tags: Vec<Reference>,
    /// The annotations of `--annotation`.
    pub(in crate::cmd::build) annotations: Annotations,
}

/// The outputs of `args`; without any, an image in the store.
pub(in crate::cmd::build) fn outputs(args: &cli::Build, asked: &Asked) -> Result<Vec<Output>, Failure> {
    let mut outputs = args.output.iter().map(|text| output(text, asked)).collect::<Result<Vec<_>, _>>()?;
    let in_store = |output: &Output| matches!(output, Output::Image { to: Goal::Store, .. });
    if outputs.is_empty() || args.legacy.load && !outputs.iter().any(in_store) {
        outputs.push(output(if args.push && outputs.is_empty() { "type=registry" } else { "type=image" }, asked)?);
    }
    if args.push {
        pushed(&mut outputs, asked)?;
    }
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Failure::usage("two outputs go to standard output").help("give one of them a `dest=FILE`"));
    }
    Ok(outputs)
}

/// Applies `--push`: images are pushed, and without an image one is added.
fn pushed(outputs: &mut Vec<Output>, asked: &Asked) -> Result<(), Failure> {
    let mut is_pushed = false;
    for output in outputs.iter_mut() {
        if let Output::Image { to: Goal::Store | Goal::Nameless, push, names, .. } = output {
            named(names).map_err(|()| Failure::usage("`--push`: the image has no name").help(NAME_IT))?;
            push.get_or_insert_default();
            is_pushed = true;
        }
    }
    if !is_pushed {
        outputs.push(output("type=registry", asked)?);
    }
    Ok(())
}

/// Help for an image that is to be pushed and has no name.
const NAME_IT: &str = "say where it goes: `--tag HOST/NAME:TAG`";

fn named(names: &[Reference]) -> Result<(), ()> {
    if names.is_empty() { Err(()) } else { Ok(()) }
}

fn output(text: &str, asked: &Asked) -> Result<Output, Failure> {
    // As in buildx, a single word is a directory, or `-` for a tar on standard output.
    if text == "-" {
        return output("type=tar,dest=-", asked);
    }
    if !text.contains(',') && !text.starts_with("type=") {
        return match text {
            "" => {
                Err(Failure::usage("`--output` names nothing").help("`--output DIR`, or `--output type=oci,dest=FILE`"))
            }
            _ => Ok(Output::Local { dest: PathBuf::from(text), time: asked.time }),
        };
    }
    let mut keys = Keys::read(TAKER, text)?;
    let Some(kind) = keys.take("type") else {
        return Err(keys.wrong("it has no `type=`").help(format!("one of {}", TYPES.join(", "))));
    };
    let time = keys.number("source-date-epoch")?.or(asked.time);
    let output = match kind.as_str() {
        "local" => {
            files_keys(&mut keys)?;
            match keys.take("dest") {
                Some(dest) => Output::Local { dest: PathBuf::from(dest), time },
                None => return Err(keys.wrong("it has no `dest=DIR`")),
            }
        }
        "tar" => {
            files_keys(&mut keys)?;
            Output::Tar { dest: file(&mut keys)?, time: time.unwrap_or(0) }
        }
        "cacheonly" => Output::Nothing,
        "image" | "oci" | "docker" | "registry" => image(&mut keys, &kind, time, asked)?,
        other => {
            let failure = keys.wrong(&format!("there is no type `{other}`"));
            return Err(match nearest(other, TYPES) {
                Some(near) => failure.help(format!("did you mean `type={near}`?")),
                None => failure.help(format!("one of {}", TYPES.join(", "))),
            });
        }
    };
    keys.end(&kind)?;
    Ok(output)
}

fn files_keys(keys: &mut Keys) -> Result<(), Failure> {
    keys.take("attestation-prefix");
    // A build is for one platform, so there is nothing to split.
    if keys.flag("platform-split")? == Some(true) {
        return Err(keys.wrong("`platform-split` needs several platforms").help("name a directory in `dest`"));
    }
    match keys.take("mode").as_deref() {
        None | Some("copy") => Ok(()),
        Some("delete") => {
            let failure = keys.wrong("`mode=delete` is not supported: dram removes no files of the destination");
            Err(failure.help("remove the directory before the build"))
        }
        Some(other) => Err(keys.wrong(&format!("there is no mode `{other}`"))),
    }
}

/// The file of `dest`, or standard output, which must not be a terminal.
fn file(keys: &mut Keys) -> Result<Dest, Failure> {
    match keys.take("dest").as_deref() {
        None | Some("-") if io::stdout().is_terminal() => {
            Err(keys.wrong("it would write an archive to the terminal").help("give it a `dest=FILE`"))
        }
        None | Some("-") => Ok(Dest::Stdout),
        Some(path) if PathBuf::from(path).is_dir() => {
            Err(keys.wrong(&format!("`{path}` is a directory")).help("name a file; `tar=false` writes an OCI layout"))
        }
        Some(path) => Ok(Dest::File(PathBuf::from(path))),
    }
}

fn image(keys: &mut Keys, kind: &str, time: Option<i64>, asked: &Asked) -> Result<Output, Failure> {
    no_effect(keys)?;
    let stays = keys.flag("store")?.unwrap_or(true);
    let names = names(keys, asked)?;
    let push = push(keys, kind, &names)?;
    let how = Box::new(sealing(keys, time.unwrap_or(0), asked)?);
    let tar = keys.flag("tar")?;
    let to = match (kind, tar) {
        ("image", None) if stays => Goal::Store,
        ("image" | "registry", None) => Goal::Nameless,
        ("image" | "registry", Some(_)) => return Err(keys.wrong(&format!("`tar` has no meaning for `type={kind}`"))),
        (_, Some(false)) => match keys.take("dest").map(PathBuf::from) {
            Some(dest) => Goal::Layout(dest),
            None => return Err(keys.wrong("it has no `dest=DIR`")),
        },
        // Without a destination it goes to the store, as in Docker to the images that `docker images` lists.
        ("docker", None) if !keys.has("dest") => Goal::Store,
        ("docker", None | Some(true)) => Goal::Archive(file(keys)?, Archive::Docker),
        (_, None | Some(true)) => Goal::Archive(file(keys)?, Archive::Oci),
    };
    Ok(Output::Image { how, names, to, push })
}

/// The options of pushing the image, if it is pushed.
fn push(keys: &mut Keys, kind: &str, names: &[Reference]) -> Result<Option<Push>, Failure> {
    let (push, by_digest) = (keys.flag("push")?, keys.flag("push-by-digest")?.unwrap_or(false));
    let insecure = keys.flag("registry.insecure")?.unwrap_or(false);
    match (kind, push) {
        ("registry", _) | ("image", Some(true)) => {
            named(names).map_err(|()| keys.wrong("the image has no name to be pushed to").help(NAME_IT))?;
            Ok(Some(Push { by_digest, insecure }))
        }
        (_, Some(true)) => Err(keys
            .wrong(&format!("`push` has no meaning for `type={kind}`"))
            .help("`--output type=registry` beside it pushes as well")),
        (_, Some(false) | None) => Ok(None),
    }
}

/// Reads keys that only affect a Docker engine.
fn no_effect(keys: &mut Keys) -> Result<(), Failure> {
    for key in ["unpack", "name-canonical", "danging-name-empty-only", "attestation-inline", "oci-artifact"] {
        keys.flag(key)?;
    }
    if keys.take("dangling-name-prefix").is_some() {
        let failure = keys.wrong("`dangling-name-prefix` is not supported: images here have names, or digests");
        return Err(failure.help("give it a name with `--tag`"));
    }
    if keys.flag("prefer-nondist-layers")? == Some(true) {
        return Err(keys.wrong("`prefer-nondist-layers` is not supported: layers are kept with the image"));
    }
    if keys.take("context").is_some() {
        return Err(keys.wrong("`context` names a Docker engine, and there is none").help("leave it out"));
    }
    if keys.flag("rewrite-timestamp")? == Some(false) {
        let failure = keys.wrong("`rewrite-timestamp=false` is not supported: what dram packs has one time");
        return Err(failure.help("leave it out, and choose the time with SOURCE_DATE_EPOCH"));
    }
    Ok(())
}

fn names(keys: &mut Keys, asked: &Asked) -> Result<Vec<Reference>, Failure> {
    match keys.take("name").as_deref() {
        None | Some("*") => Ok(asked.tags.clone()),
        Some(names) => names.split(',').filter(|name| !name.is_empty()).map(find::reference).collect(),
    }
}

fn sealing(keys: &mut Keys, time: i64, asked: &Asked) -> Result<Sealing, Failure> {
    let dialect = match keys.flag("oci-mediatypes")? {
        None | Some(true) => Dialect::Oci,
        Some(false) => Dialect::Docker,
    };
    let compress = compress(keys)?;
    let force = keys.flag("force-compression")?.unwrap_or(false);
    let mut all = asked.annotations.clone();
    for (key, value) in keys.starting("annotation") {
        let (side, name) = annotations::key(&key).map_err(|why| keys.wrong(&why))?;
        all.set(side, name, &value);
    }
    let descriptor = all.take(Side::Descriptor);
    if dialect == Dialect::Docker && !descriptor.is_empty() {
        return Err(keys.wrong("an annotation of the manifest's descriptor needs `oci-mediatypes=true`"));
    }
    Ok(Sealing {
        time,
        dialect,
        compress,
        force,
        annotations: all.take(Side::Manifest),
        descriptor_annotations: descriptor,
    })
}

/// Reads the keys for the compression of layers.
pub(in crate::cmd::build) fn compress(keys: &mut Keys) -> Result<Compress, Failure> {
    let level = keys.number("compression-level")?;
    let within = |keys: &Keys, most: i64| match level {
        None => Ok(None),
        Some(level) if (0..=most).contains(&level) => Ok(i32::try_from(level).ok()),
        Some(level) => Err(keys.wrong(&format!("`compression-level={level}` is not between 0 and {most}"))),
    };
    match keys.take("compression").as_deref() {
        None | Some("gzip") => Ok(within(keys, 9)?.map_or_else(Compress::default, Compress::Gzip)),
        Some("zstd") => Ok(Compress::Zstd(within(keys, 22)?.unwrap_or(3))),
        Some("uncompressed") => Ok(Compress::Plain),
        Some(other @ ("estargz" | "nydus")) => {
            let failure = keys.wrong(&format!("`compression={other}` is not supported"));
            Err(failure.help("`compression=zstd` is small and fast to unpack; every engine of today reads it"))
        }
        Some(other) => {
            let failure = keys.wrong(&format!("there is no compression `{other}`"));
            Err(failure.help("one of gzip, zstd, uncompressed"))
        }
    }
}
