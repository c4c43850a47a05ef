//! Resolves names after `FROM` and `--from` that are no stages.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dram_build::{Context, Image, Outside};
use dram_dockerfile::remote::{self, Remote};
use dram_dockerfile::{Diagnostic, Need, Settings};
use dram_store::Store;

use super::elsewhere::Bring;
use super::{platform, source};
use crate::failure::Failure;
use crate::pulling::Images;
use crate::{ambient, cli, find};

/// The named contexts of `--build-context`.
pub(super) struct Named {
    values: BTreeMap<String, String>,
    /// Contexts that are already resolved: nothing is fetched twice.
    found: RefCell<BTreeMap<String, Outside>>,
}

impl Named {
    /// Reads the named contexts of `args`.
    pub(super) fn new(args: &cli::Build) -> Result<Named, Failure> {
        let mut values = BTreeMap::new();
        for text in &args.build_context {
            match text.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                    values.insert(name.to_owned(), value.to_owned());
                }
                Some(_) | None => return Err(Failure::usage(format!("`--build-context {text}` is not NAME=VALUE"))),
            }
        }
        Ok(Named { values, found: RefCell::default() })
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.values.keys().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn find(&self, store: &Store, bring: &Bring<'_>, value: &str) -> Result<Outside, Failure> {
        if let Some(found) = self.found.borrow().get(value) {
            return Ok(found.clone());
        }
        let found = named_context(store, bring, value)?;
        self.found.borrow_mut().insert(value.to_owned(), found.clone());
        Ok(found)
    }
}

pub(super) type Found = (BTreeMap<String, Outside>, Vec<Diagnostic>);

/// Resolves every image and named context; one that is not found gets a diagnostic at its position.
pub(super) fn outside(
    (store, images, bring): (&Store, &Images<'_>, &Bring<'_>),
    needs: &[Need],
    settings: &Settings,
    contexts: &Named,
) -> Result<Found, Failure> {
    let mut outside = BTreeMap::new();
    let mut remarks = Vec::new();
    for need in needs {
        let value = settings.context_for(&need.name).and_then(|name| contexts.get(name));
        let found = match value {
            Some(value) => Some(contexts.find(store, bring, value)?),
            None => {
                let platform = platform::of(need.platform.as_deref(), settings);
                match images.find(&need.name, &platform) {
                    Ok(image) => image.map(|image| Outside::Image(Box::new(image))),
                    Err(failure) => {
                        remarks.push(at(need, &failure));
                        continue;
                    }
                }
            }
        };
        match found {
            Some(found) => drop(outside.insert(need.key.clone(), found)),
            None => remarks.push(not_found(store, need)?),
        }
    }
    Ok((outside, remarks))
}

/// The image to which a value of `--build-context` leads, if it is one.
pub(super) fn named_image(store: &Store, value: &str) -> Result<Option<Outside>, Failure> {
    if let Some(name) = value.strip_prefix("docker-image://").filter(|name| *name != "scratch") {
        return Ok(Some(Outside::Image(Box::new(find::image(store, name)?))));
    }
    value.strip_prefix("oci-layout://").map(|layout| layout_context(store, layout)).transpose()
}

/// The image or files to which a value of `--build-context` leads.
fn named_context(store: &Store, bring: &Bring<'_>, value: &str) -> Result<Outside, Failure> {
    if let Some(image) = named_image(store, value)? {
        return Ok(image);
    }
    if value == "docker-image://scratch" {
        return Ok(Outside::Files(Context::Brought { path: store.work().fresh()?, owners: false }));
    }
    let path = Path::new(value);
    match remote::classify_context(value).map_err(|wrong| Failure::usage(wrong.message).help(wrong.help))? {
        Some(Remote::Git(git)) => bring.git(&git, false, false).map(Outside::Files),
        // BuildKit does not unpack such a file.
        Some(Remote::Url { url, .. }) => bring.url_as_file(&url).map(Outside::Files),
        None if path.is_dir() => source::named(path).map(Outside::Files),
        None if value.contains("://") => {
            let failure = Failure::usage(format!("the build context `{value}` is of no known kind"));
            Err(failure.help("name a directory, a URL, docker-image://NAME or oci-layout://DIR[:TAG][@DIGEST]"))
        }
        None => Err(Failure::usage(format!("the build context `{value}` is not a directory"))),
    }
}

fn layout_context(store: &Store, text: &str) -> Result<Outside, Failure> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest)),
        None => (text, None),
    };
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (text, None),
    };
    let loaded = dram_build::load(store, Path::new(path), &ambient::platform())?;
    let fits = |name: &str| tag.is_none_or(|tag| name == tag || name.ends_with(&format!(":{tag}")));
    let one = match digest {
        // Beside a digest a tag has no meaning, as in the name of an image.
        Some(digest) => loaded.iter().find(|one| one.manifest.digest.to_string() == digest),
        None => loaded.iter().find(|one| one.name.as_deref().is_none_or(fits)).or(match tag {
            Some("latest") | None => loaded.first(),
            Some(_) => None,
        }),
    };
    match one {
        Some(one) => Ok(Outside::Image(Box::new(Image::open(store, &one.manifest)?))),
        None => {
            let what = digest.or(tag).unwrap_or_default();
            Err(Failure::work(format!("the layout `{path}` has no image `{what}`")))
        }
    }
}

fn not_found(store: &Store, need: &Need) -> Result<Diagnostic, Failure> {
    Ok(at(need, &find::unknown(store, &need.name)?))
}

/// A diagnostic about a failure to resolve `need`, at its position.
fn at(need: &Need, failure: &Failure) -> Diagnostic {
    let mut causes = failure.causes.iter().cloned();
    let mut remark = Diagnostic::error(need.span.clone(), causes.next().unwrap_or_default());
    remark.notes.extend(causes);
    remark.helps.clone_from(&failure.helps);
    remark
}
