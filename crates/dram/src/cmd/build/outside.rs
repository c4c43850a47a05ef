//! What the names after `FROM` and `--from` lead to, when they are no stages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_build::{Image, Outside};
use dram_dockerfile::{Diagnostic, Need, NeedKind, Settings};
use dram_store::Store;

use crate::failure::Failure;
use crate::{ambient, cli, find};

/// What `--build-context` gives names to.
pub(super) fn named(args: &cli::Build) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in &args.build_context {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                all.insert(name.to_owned(), value.to_owned());
            }
            Some(_) | None => return Err(Failure::usage(format!("`--build-context {text}` is not NAME=VALUE"))),
        }
    }
    Ok(all)
}

pub(super) type Found = (BTreeMap<String, Outside>, Vec<Diagnostic>);

/// Finds every image and named context; what is not found is remarked upon at its place.
pub(super) fn outside(
    store: &Store,
    needs: &[Need],
    settings: &Settings,
    contexts: &BTreeMap<String, String>,
) -> Result<Found, Failure> {
    let mut outside = BTreeMap::new();
    let mut remarks = Vec::new();
    for need in needs {
        let value = settings.context_for(&need.name).and_then(|name| contexts.get(name));
        let found = match value {
            Some(value) => named_context(store, value)?,
            None => find::descriptor(store, &need.name)?
                .map(|descriptor| Image::open(store, &descriptor).map(|image| Outside::Image(Box::new(image))))
                .transpose()?,
        };
        match found {
            Some(Outside::Dir(_)) if need.kind == NeedKind::Base => {
                let what = format!("the build context `{}` is a directory, and a stage stands on an image", need.name);
                let help = "start the stage with `FROM scratch` and `COPY --from` the context";
                remarks.push(Diagnostic::error(need.span.clone(), what).help(help));
            }
            Some(found) => drop(outside.insert(need.key.clone(), found)),
            None => remarks.push(not_found(store, need)?),
        }
    }
    Ok((outside, remarks))
}

/// What the value of `--build-context` leads to.
pub(super) fn named_context(store: &Store, value: &str) -> Result<Option<Outside>, Failure> {
    if let Some(name) = value.strip_prefix("docker-image://") {
        return Ok(Some(Outside::Image(Box::new(find::image(store, name)?))));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        return layout_context(store, layout).map(Some);
    }
    if value.contains("://") {
        let failure = Failure::usage(format!("the build context `{value}` is of a kind that is not supported yet"));
        return Err(failure.help("name a directory, docker-image://NAME or oci-layout://DIR[:TAG]"));
    }
    match Path::new(value).is_dir() {
        true => Ok(Some(Outside::Dir(PathBuf::from(value)))),
        false => Err(Failure::usage(format!("the build context `{value}` is not a directory"))),
    }
}

fn layout_context(store: &Store, text: &str) -> Result<Outside, Failure> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (text, None),
    };
    let loaded = dram_build::load(store, Path::new(path), &ambient::platform())?;
    let fits = |name: &str| tag.is_none_or(|tag| name == tag || name.ends_with(&format!(":{tag}")));
    let one = loaded.iter().find(|one| one.name.as_deref().is_none_or(fits)).or(match tag {
        Some("latest") | None => loaded.first(),
        Some(_) => None,
    });
    match one {
        Some(one) => Ok(Outside::Image(Box::new(Image::open(store, &one.manifest)?))),
        None => Err(Failure::work(format!("the layout `{path}` has no image `{}`", tag.unwrap_or_default()))),
    }
}

fn not_found(store: &Store, need: &Need) -> Result<Diagnostic, Failure> {
    let unknown = find::unknown(store, &need.name)?;
    let mut remark = Diagnostic::error(need.span.clone(), unknown.causes.join(": "));
    remark.helps = unknown.helps;
    Ok(remark)
}
