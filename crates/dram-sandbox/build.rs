//! Builds the helper of jails, for the target that dram itself is built for.
#![allow(clippy::disallowed_methods, reason = "a build script is told by its environment where to write")]
#![allow(clippy::print_stdout, reason = "a build script speaks to cargo on its standard output")]

use std::env;
use std::path::PathBuf;

#[path = "../dram-start/program/recipe.rs"]
mod recipe;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The helper is this crate too, without its standard features: it embeds nothing.
    if env::var_os("CARGO_FEATURE_STD").is_none() {
        return;
    }
    let variable = |name: &str| env::var_os(name).expect("cargo tells build scripts");
    let room = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    for part in ["src", "Cargo.toml", "helper/build.rs", "helper/src", "helper/Cargo.toml", "helper/Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", room.join(part).display());
    }
    for part in ["recipe.rs", "src/sys"] {
        println!("cargo::rerun-if-changed={}", room.join("../dram-start/program").join(part).display());
    }
    let target = variable("TARGET");
    let work = PathBuf::from(variable("OUT_DIR")).join("helper");
    match recipe::build(&room.join("helper"), "dram-jail", &target.to_string_lossy(), &work) {
        Ok(path) => println!("cargo::rustc-env=JAIL_HELPER={}", path.display()),
        Err(why) => panic!("{why}"),
    }
}
