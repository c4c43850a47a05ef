//! Files about the result for other programs: `--iidfile`, `--metadata-file`.

use std::fs;
use std::path::Path;

use dram_build::request::OutputImage;
use dram_image::Descriptor;
use serde_json::{Map, Value, json};

use crate::cli;
use crate::cmd::atomic_write::write_atomically;
use crate::failure::Failure;

/// Removes the file of an earlier build: a failed build must not look like that one.
pub(super) fn remove_old_iidfile(args: &cli::BuildCommandArgs) {
    if let Some(path) = &args.iidfile {
        let _ = fs::remove_file(path);
    }
}

/// Writes the files of `args` about `made`, the last image among the outputs.
pub(super) fn write_result_files(
    args: &cli::BuildCommandArgs,
    made: Option<&OutputImage>,
    platform: &str,
) -> Result<(), Failure> {
    if let Some(path) = &args.iidfile {
        let Some(made) = made else {
            let failure = Failure::usage("`--iidfile` wants an image's id, and no output is an image");
            return Err(failure.help("leave it out, or add `--output type=image`"));
        };
        write_text(path, &made.image_id().to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        let document = made.map(|made| metadata_json(made, platform)).unwrap_or_default();
        let document = serde_json::to_string_pretty(&document).expect("plain data becomes JSON");
        write_text(path, &document)?;
    }
    Ok(())
}

fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    write_atomically(path, &mut |out| {
        let fail = |error| Failure::work(format!("cannot write `{}`", path.display())).because(&error);
        out.write_all(text.as_bytes()).map_err(fail)
    })
}

/// The keys of buildx's metadata file that have a meaning here.
fn metadata_json(made: &OutputImage, platform: &str) -> Map<String, Value> {
    let mut all = Map::new();
    let mut add = |key: &str, value: Value| drop(all.insert(key.to_owned(), value));
    add("containerimage.config.digest", json!(made.image_id().to_string()));
    add("containerimage.descriptor", descriptor_json(&made.built.manifest, platform));
    add("containerimage.digest", json!(made.root_digest().to_string()));
    if !made.names.is_empty() {
        let names: Vec<String> = made.names.iter().map(dram_image::Reference::full_name).collect();
        add("image.name", json!(names.join(",")));
    }
    all
}

fn descriptor_json(manifest: &Descriptor, platform: &str) -> Value {
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
