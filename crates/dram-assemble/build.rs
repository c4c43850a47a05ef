//! Builds the start program of every release, for the target that dram itself is built for.
#![allow(clippy::disallowed_methods, reason = "a build script is told by its environment where to write")]
#![allow(clippy::print_stdout, reason = "a build script speaks to cargo on its standard output")]

use std::env;
use std::path::PathBuf;

#[path = "../dram-start/program/recipe.rs"]
mod recipe;

fn main() {
    let variable = |name: &str| env::var_os(name).expect("cargo tells build scripts");
    let room = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../dram-start");
    let program = room.join("program");
    for part in ["build.rs", "recipe.rs", "src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", program.join(part).display());
    }
    for part in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", room.join(part).display());
    }
    let target = variable("TARGET");
    let work = PathBuf::from(variable("OUT_DIR")).join("start-program");
    match recipe::build(&program, "dram-start", &target.to_string_lossy(), &work) {
        Ok(path) => println!("cargo::rustc-env=START_PROGRAM={}", path.display()),
        Err(why) => panic!("{why}"),
    }
}
