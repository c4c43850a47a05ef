//! What is built, so that a later build knows its last time.

use std::collections::BTreeMap;
use std::path::Path;

use dram_build::Place;

use crate::ambient;
use crate::cli;

/// The place that `args` name: real paths, so that it does not matter from where it is built.
pub(super) fn place(args: &cli::Build, build_args: &BTreeMap<String, String>) -> Place {
    let file = args.file.clone().unwrap_or_else(|| args.context.join("Dockerfile"));
    Place {
        dockerfile: real(&file),
        context: real(&args.context),
        platform: format!("linux/{}", ambient::architecture()),
        target: args.target.clone().unwrap_or_default(),
        build_args: build_args.clone(),
    }
}

fn real(path: &Path) -> String {
    let real = std::fs::canonicalize(path);
    real.as_deref().unwrap_or(path).display().to_string()
}
