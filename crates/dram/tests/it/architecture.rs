//! Architecture rules: dependencies between crates, where `unsafe` is allowed, the length of files, and forbidden text.
//!
//! The effects that a crate may have (disk, processes, threads, clock) are enforced by clippy, with the `clippy.toml`
//! of each crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate and the crates that it may depend on. A new crate needs a row here and one in ARCHITECTURE.md.
const CRATES: &[(&str, &[&str])] = &[
    ("dram-image", &[]),
    ("dram-sandbox", &[]),
    ("dram-release", &[]),
    ("dram-gzip", &[]),
    ("dram-start", &[]),
    ("dram-assemble", &["dram-gzip", "dram-image", "dram-release"]),
    ("dram-store", &["dram-image"]),
    ("dram-dockerfile", &["dram-image"]),
    ("dram-remote", &["dram-image"]),
    ("dram-build", &["dram-dockerfile", "dram-gzip", "dram-image", "dram-sandbox", "dram-store"]),
    (
        "dram",
        &["dram-assemble", "dram-build", "dram-dockerfile", "dram-image", "dram-remote", "dram-sandbox", "dram-store"],
    ),
];

/// The files that may contain `unsafe`: system calls of the sandbox, and the parts of the start program that replace a
/// C library (entry point, memory, system calls), which it does without in order to be small.
const UNSAFE_FILES: [&str; 5] = [
    "crates/dram-sandbox/src/sys.rs",
    "crates/dram-start/program/src/sys/call.rs",
    "crates/dram-start/program/src/sys/entry.rs",
    "crates/dram-start/program/src/sys/heap.rs",
    "crates/dram-start/program/src/sys/raw.rs",
];

/// Maximum number of lines of a source file. A longer file has more than one subject.
const MOST_LINES: usize = 800;

#[test]
fn crates_depend_only_on_crates_below_them() {
    let known: BTreeMap<&str, BTreeSet<&str>> =
        CRATES.iter().map(|(room, below)| (*room, below.iter().copied().collect())).collect();
    let metadata = metadata();
    let packages = list(&metadata, "packages");
    let found: BTreeSet<&str> = packages.iter().map(|package| text(package, "name")).collect();
    assert_eq!(found, known.keys().copied().collect(), "the rooms of the workspace, and those of this table");
    for package in packages {
        let room = text(package, "name");
        // Dependencies of every kind: a test that needs a crate above belongs to that crate.
        let dependencies = list(package, "dependencies").iter().map(|dependency| text(dependency, "name"));
        for other in dependencies.filter(|name| known.contains_key(name)) {
            assert!(known[room].contains(other), "`{room}` may not know `{other}`: see ARCHITECTURE.md");
        }
    }
}

#[test]
fn every_crate_uses_the_workspace_lints() {
    for manifest in manifests() {
        let found = lines_of(&manifest).windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
        assert!(found, "{} has no `[lints] workspace = true`", manifest.display());
    }
}

/// Clippy reads the nearest `clippy.toml` and no other.
#[test]
fn every_crate_lists_its_banned_effects() {
    let common = lines_of(&root().join("clippy.toml"));
    for (room, _) in CRATES.iter().filter(|(room, _)| *room != "dram") {
        let path = root().join("crates").join(room).join("clippy.toml");
        let lines = lines_of(&path);
        assert!(lines.iter().any(|line| line.starts_with("disallowed-methods")), "{} bans nothing", path.display());
        for line in &common {
            assert!(lines.contains(line), "{} does not repeat `{line}`", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_only_in_the_listed_files() {
    // Split in two, so that this file does not contain the text itself.
    let allowed = concat!("allow(", "unsafe_code)");
    let found: Vec<String> =
        sources().into_iter().filter(|path| read(path).contains(allowed)).map(relative_path).collect();
    assert_eq!(found, UNSAFE_FILES);
}

#[test]
fn no_source_file_is_too_long() {
    for path in sources() {
        let lines = read(&path).lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines, {MOST_LINES} are the most", relative_path(path));
    }
}

#[test]
fn no_source_file_has_unfinished_code_markers() {
    let words = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("d", "bg!("), concat!("FIX", "ME")];
    for path in sources() {
        let text = read(&path);
        for word in words {
            assert!(!text.contains(word), "{} holds `{word}`", relative_path(path));
        }
    }
}

/// An attribute that allows a banned effect outside tests must give a reason on its own line.
#[test]
fn exceptions_from_effect_lints_give_a_reason() {
    let silenced = concat!("clippy::dis", "allowed_");
    for path in sources() {
        for line in read(&path).lines().filter(|line| line.contains(silenced)) {
            assert!(line.contains("reason = ") || line.contains("//"), "{}: `{}`", relative_path(path), line.trim());
        }
    }
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::canonicalize(&here).expect("this crate lies two directories below the workspace")
}

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root());
    let output = cargo.output().expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("`{key}` is a list"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("`{key}` is a text"))
}

fn manifests() -> Vec<PathBuf> {
    CRATES.iter().map(|(room, _)| root().join("crates").join(room).join("Cargo.toml")).collect()
}

/// Returns every Rust file below `crates/`.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join("crates")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("the directory can be read").path();
            match path.extension() {
                _ if path.is_dir() => todo.push(path),
                Some(extension) if extension == "rs" => found.push(path),
                Some(_) | None => {}
            }
        }
    }
    assert!(found.len() > CRATES.len(), "no sources below {}", root().display());
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines_of(path: &Path) -> Vec<String> {
    read(path).lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Returns the path relative to the root of the repository.
fn relative_path(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
