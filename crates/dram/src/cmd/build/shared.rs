//! `--cache-from` and `--cache-to`: caches that machines share.
//!
//! The options are BuildKit's; the content of a cache is not. A cache that cannot be read only costs time, so there is
//! a note about it. One that cannot be written is an error, after everything else is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_build::shared::{Cache, Form, Given, Mode};
use dram_build::transfer::{LayoutSink, Listed, Name, Opened, Sink, Source, StoreSource};
use dram_build::{Cancel, Dialect, Shared, Snapshot};
use dram_image::{Descriptor, Platform, Reference};
use dram_store::Store;

use super::keys::{Keys, Taker};
use super::output;
use crate::cli::{self, Pull};
use crate::failure::{Failure, chain};
use crate::progress::{Lines, Progress};
use crate::registry::Registries;
use crate::{find, format};

const FROM: Taker = Taker {
    option: "--cache-from",
    example: "`--cache-from NAME`, `--cache-from type=registry,ref=NAME`, or `--cache-from type=local,src=DIR`",
};
const TO: Taker = Taker {
    option: "--cache-to",
    example: "`--cache-to type=registry,ref=NAME`, `--cache-to type=local,dest=DIR`, or `--cache-to type=inline`",
};
/// The default tag of a cache in a directory.
const TAG: &str = "latest";
/// The build argument that asks for a cache in the image.
const INLINE: &str = "BUILDKIT_INLINE_CACHE";
/// The services in which BuildKit can store caches and dram cannot.
const SERVICES: [&str; 3] = ["gha", "s3", "azblob"];

/// The shared caches of the command line.
pub(super) struct Asked {
    from: Vec<From>,
    to: Vec<To>,
    /// Notes about options without effect.
    pub(super) remarks: Vec<String>,
}

/// A cache to read.
struct From {
    text: String,
    place: Place,
}

/// A cache to write.
struct To {
    text: String,
    /// `None` for a cache in the image.
    place: Option<Place>,
    form: Form,
    ignore_error: bool,
}

enum Place {
    Local { path: PathBuf, which: String },
    Registry { name: Reference, insecure: bool },
}

/// The resources for reading and writing shared caches.
pub(super) struct Ways<'a, 'b> {
    pub(super) store: &'a Store,
    pub(super) registries: &'b Registries,
    pub(super) policy: Pull,
    pub(super) cancel: &'b Cancel,
    pub(super) progress: &'b Progress,
}

impl Place {
    fn shown(&self) -> String {
        match self {
            Place::Local { path, .. } => path.display().to_string(),
            Place::Registry { name, .. } => name.short(),
        }
    }
}

/// Reads the shared caches of `args`; files without a time of their own are written with `time`.
pub(super) fn asked(args: &cli::Build, build_args: &BTreeMap<String, String>, time: i64) -> Result<Asked, Failure> {
    let mut asked = Asked { from: Vec::new(), to: Vec::new(), remarks: Vec::new() };
    // This requested it before there was an option.
    if build_args.get(INLINE).is_some_and(|value| ["1", "t", "T", "true", "True", "TRUE"].contains(&value.as_str())) {
        let form = Form { time, ..Form::default() };
        asked.to.push(To { text: INLINE.to_owned(), place: None, form, ignore_error: false });
    }
    for text in args.cache_from.iter().filter(|text| !text.is_empty()) {
        for text in names(text) {
            let mut keys = Keys::read(FROM, &text)?;
            let Some(kind) = kind(&mut keys, &["local", "registry"], &mut asked.remarks)? else { continue };
            asked.from.push(from(keys, &kind, text)?);
        }
    }
    for text in args.cache_to.iter().filter(|text| !text.is_empty()) {
        for text in names(text) {
            let mut keys = Keys::read(TO, &text)?;
            let Some(kind) = kind(&mut keys, &["inline", "local", "registry"], &mut asked.remarks)? else { continue };
            asked.to.push(to(keys, &kind, text, time)?);
        }
    }
    Ok(asked)
}

/// As in buildx, a value without `=` is a list of names in registries.
fn names(text: &str) -> Vec<String> {
    match text.contains('=') {
        true => vec![text.to_owned()],
        false => text.split(',').map(|name| format!("type=registry,ref={name}")).collect(),
    }
}

/// The type, if it is one of `known`. For a service of BuildKit's there is only a note: a build does not depend on it.
fn kind(keys: &mut Keys, known: &[&str], remarks: &mut Vec<String>) -> Result<Option<String>, Failure> {
    let Some(kind) = keys.take("type") else {
        return Err(keys.wrong("it has no `type=`").help(format!("one of {}", known.join(", "))));
    };
    if known.contains(&kind.as_str()) {
        return Ok(Some(kind));
    }
    if SERVICES.contains(&kind.as_str()) {
        let what = format!("`type={kind}` is not supported, caches are in registries and directories");
        remarks.push(format!("{}; it has no effect", keys.wrong(&what).causes.join(": ")));
        return Ok(None);
    }
    if kind == "inline" {
        let failure = keys.wrong("a cache in an image is where the image is");
        return Err(failure.help("`--cache-from type=registry,ref=IMAGE`, or only `--cache-from IMAGE`"));
    }
    Err(keys.wrong(&format!("there is no type `{kind}`")).help(format!("one of {}", known.join(", "))))
}

fn from(mut keys: Keys, kind: &str, text: String) -> Result<From, Failure> {
    let place = match kind {
        "local" => {
            let Some(path) = keys.take("src") else { return Err(keys.wrong("it has no `src=DIR`")) };
            let which = keys.take("digest").or_else(|| keys.take("tag"));
            keys.take("tag");
            Place::Local { path: PathBuf::from(path), which: which.unwrap_or_else(|| TAG.to_owned()) }
        }
        _ => registry(&mut keys)?,
    };
    keys.end_of(&["type", "src", "digest", "tag", "ref", "registry.insecure"])?;
    Ok(From { text, place })
}

fn registry(keys: &mut Keys) -> Result<Place, Failure> {
    let insecure = keys.flag("registry.insecure")?.unwrap_or(false);
    match keys.take("ref") {
        Some(name) => Ok(Place::Registry { name: find::reference(&name)?, insecure }),
        None => Err(keys.wrong("it has no `ref=NAME`")),
    }
}

fn to(mut keys: Keys, kind: &str, text: String, time: i64) -> Result<To, Failure> {
    let ignore_error = keys.flag("ignore-error")?.unwrap_or(false);
    let mode = match keys.take("mode").as_deref() {
        None | Some("min") => Mode::Min,
        Some("max") if kind != "inline" => Mode::Max,
        Some("max") => {
            let failure = keys.wrong("an image has no layers but its own");
            return Err(failure.help("leave `mode` out, or write the cache to a place of its own: `type=registry`"));
        }
        Some(other) => return Err(keys.wrong(&format!("there is no mode `{other}`")).help("one of min, max")),
    };
    if kind == "inline" {
        keys.end_of(&["type", "mode", "ignore-error"])?;
        return Ok(To { text, place: None, form: Form { mode, time, ..Form::default() }, ignore_error });
    }
    let dialect = match keys.flag("oci-mediatypes")? {
        None | Some(true) => Dialect::Oci,
        Some(false) => Dialect::Docker,
    };
    if keys.flag("image-manifest")? == Some(false) {
        let failure = keys.wrong("`image-manifest=false` is not supported: a cache is an image manifest");
        return Err(failure.help("leave it out; every registry takes one"));
    }
    let compress = output::compress(&mut keys)?;
    // A layer has one form in a cache: the requested one, or the one from another cache.
    keys.flag("force-compression")?;
    let place = match kind {
        "local" => {
            let Some(path) = keys.take("dest") else { return Err(keys.wrong("it has no `dest=DIR`")) };
            if keys.flag("reset")? == Some(true) {
                let failure = keys.wrong("`reset=true` is not supported: what others may read is not removed");
                return Err(failure.help("write to a new directory, and put it in the place of the old one"));
            }
            Place::Local { path: PathBuf::from(path), which: keys.take("tag").unwrap_or_else(|| TAG.to_owned()) }
        }
        _ => registry(&mut keys)?,
    };
    keys.end_of(&[
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
    Ok(To { text, place: Some(place), form: Form { mode, compress, dialect, time }, ignore_error })
}

impl Asked {
    /// Reads the documents of the caches of `--cache-from`. Returns their cache records, and notes about caches that
    /// cannot be read.
    pub(super) fn open<'a>(
        &self,
        ways: &Ways<'a, '_>,
        platform: &Platform,
    ) -> Result<(Shared<'a>, Vec<String>), Failure> {
        let (mut caches, mut remarks) = (Vec::new(), Vec::new());
        for from in &self.from {
            match open(ways, &from.place, platform) {
                Err(_) if ways.cancel.is_thrown() => return Err(Failure::interrupted()),
                Ok(cache) => caches.push(cache),
                Err(failure) => {
                    let why = failure.causes.join(": ");
                    remarks.push(format!("`--cache-from {}`: {why}; nothing is taken from it", from.text));
                }
            }
        }
        Ok((Shared::new(caches), remarks))
    }

    /// Returns true if images hold a cache of their own layers.
    pub(super) fn inline(&self) -> bool {
        self.to.iter().any(|to| to.place.is_none())
    }

    /// Writes the caches. Returns a note about each.
    pub(super) fn write(
        &self,
        ways: &Ways<'_, '_>,
        shared: &Shared<'_>,
        snapshot: &Snapshot,
    ) -> Result<Vec<String>, Failure> {
        let mut remarks = Vec::new();
        for to in &self.to {
            let Some(place) = &to.place else { continue };
            match write(ways, shared, snapshot, place, &to.form) {
                Ok(Given { steps, layers, size, .. }) => {
                    let (steps, layers) = (format::count(steps, "step"), format::count(layers, "layer"));
                    remarks.push(format!("cached in {}: {steps}, {layers} of {}", place.shown(), format::size(size)));
                }
                Err(_) if ways.cancel.is_thrown() => return Err(Failure::interrupted()),
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

fn open<'a>(ways: &Ways<'a, '_>, place: &Place, platform: &Platform) -> Result<Cache<'a>, Failure> {
    let store = ways.store;
    let read = |source: Box<dyn Source + 'a>, root: &Descriptor| {
        Cache::open(source, root, platform).map_err(|error| {
            let mut failure = Failure::work("");
            failure.causes = chain(&error);
            failure
        })
    };
    match place {
        Place::Local { path, which } => match dram_build::transfer::open(path, store)? {
            Opened::Layout(layout) => {
                let root = entry(&layout.list()?, which, path)?;
                read(Box::new(layout), &root)
            }
            Opened::Docker(_) => Err(Failure::work(format!("`{}` is no OCI layout", path.display()))),
        },
        Place::Registry { name, insecure } => {
            let far = match (ways.policy, insecure) {
                (Pull::Never, _) => Err(Failure::work(format!("the store has no image `{}`", name.short()))),
                (Pull::Always | Pull::Missing, true) => ways.registries.insecure_source(name).map_err(Failure::from),
                (Pull::Always | Pull::Missing, false) => ways.registries.source(name).map_err(Failure::from),
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
fn entry(all: &[Listed], which: &str, path: &Path) -> Result<Descriptor, Failure> {
    let named = |name: &str| name == which || name.ends_with(&format!(":{which}"));
    let is_it = |one: &&Listed| one.root.digest.to_string() == which || one.name.as_deref().is_some_and(named);
    let found = all.iter().find(is_it).or(match all {
        [one] if which == TAG => Some(one),
        _ => None,
    });
    found.map(|one| one.root.clone()).ok_or_else(|| Failure::work(format!("`{}` has no `{which}`", path.display())))
}

fn write(
    ways: &Ways<'_, '_>,
    shared: &Shared<'_>,
    snapshot: &Snapshot,
    place: &Place,
    form: &Form,
) -> Result<Given, Failure> {
    let lines = Lines::default();
    let moved = |motion| match lines.line(motion) {
        line if line.is_empty() => {}
        line => ways.progress.line(&line),
    };
    let packed = |event| ways.progress.tell(event);
    let give = |sink: &dyn Sink| shared.give(ways.store, snapshot, form, sink, ways.cancel, (&packed, &moved));
    Ok(match place {
        Place::Local { path, which } => give(&LayoutSink::new(path, vec![Name { text: which.clone(), whole: None }])?),
        Place::Registry { name, insecure: true } => give(&ways.registries.insecure_sink(name)?),
        Place::Registry { name, insecure: false } => give(&ways.registries.sink(name)?),
    }?)
}
