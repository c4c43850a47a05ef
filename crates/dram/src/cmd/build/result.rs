//! Files about the result for other programs: `--iidfile`, `--metadata-file`.

use std::fs;
use std::path::Path;

use dram_image::Descriptor;
use serde_json::{Map, Value, json};

use super::output::Made;
use crate::cli;
use crate::cmd::whole::write_whole;
use crate::failure::Failure;

/// Removes the file of an earlier build: a failed build must not look like that one.
pub(super) fn forget(args: &cli::Build) {
    if let Some(path) = &args.iidfile {
        let _ = fs::remove_file(path);
    }
}

/// Writes the files of `args` about `made`, the last image among the outputs.
pub(super) fn tell(args: &cli::Build, made: Option<&Made>, platform: &str) -> Result<(), Failure> {
    if let Some(path) = &args.iidfile {
        let Some(made) = made else {
            let failure = Failure::usage("`--iidfile` wants an image's id, and no output is an image");
            return Err(failure.help("leave it out, or add `--output type=image`"));
        };
        text(path, &made.sealed.config.digest.to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        let document = made.map(|made| metadata(made, platform)).unwrap_or_default();
        let document = serde_json::to_string_pretty(&document).expect("plain data becomes JSON");
        text(path, &document)?;
    }
    Ok(())
}

fn text(path: &Path, text: &str) -> Result<(), Failure> {
    write_whole(path, &mut |out| {
        let fail = |error| Failure::work(format!("cannot write `{}`", path.display())).because(&error);
        out.write_all(text.as_bytes()).map_err(fail)
    })
}

/// The keys of buildx's metadata file that have a meaning here.
fn metadata(made: &Made, platform: &str) -> Map<String, Value> {
    let mut all = Map::new();
    let mut add = |key: &str, value: Value| drop(all.insert(key.to_owned(), value));
    add("containerimage.config.digest", json!(made.sealed.config.digest.to_string()));
    add("containerimage.descriptor", descriptor(&made.sealed.manifest, platform));
    add("containerimage.digest", json!(made.sealed.manifest.digest.to_string()));
    if !made.names.is_empty() {
        let names: Vec<String> = made.names.iter().map(dram_image::Reference::full).collect();
        add("image.name", json!(names.join(",")));
    }
    all
}

fn descriptor(manifest: &Descriptor, platform: &str) -> Value {
    let mut descriptor = serde_json::to_value(manifest).expect("plain data becomes JSON");
    let mut parts = platform.split('/');
    let mut named = Map::new();
    for key in ["os", "architecture", "variant"] {
        if let Some(part) = parts.next() {
            named.insert(key.to_owned(), json!(part));
        }
    }
    if let Some(fields) = descriptor.as_object_mut() {
        fields.insert("platform".to_owned(), Value::Object(named));
    }
    descriptor
}
