//! Architecture rules: dependencies between crates, where `unsafe` is allowed, names that are used
//! once, the length of files, and forbidden text.
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
    ("dram-error", &[]),
    ("dram-image", &[]),
    ("dram-sandbox", &["dram-error"]),
    ("dram-release", &[]),
    ("dram-gzip", &[]),
    ("dram-start", &[]),
    ("dram-assemble", &["dram-error", "dram-gzip", "dram-image", "dram-release", "dram-start"]),
    ("dram-store", &["dram-error", "dram-image"]),
    ("dram-plan", &["dram-image"]),
    ("dram-dockerfile", &["dram-image", "dram-plan"]),
    ("dram-remote", &["dram-error", "dram-image"]),
    (
        "dram-build",
        &[
            "dram-dockerfile",
            "dram-error",
            "dram-gzip",
            "dram-image",
            "dram-plan",
            "dram-sandbox",
            "dram-start",
            "dram-store",
        ],
    ),
    (
        "dram",
        &[
            "dram-assemble",
            "dram-build",
            "dram-dockerfile",
            "dram-error",
            "dram-image",
            "dram-plan",
            "dram-remote",
            "dram-sandbox",
            "dram-store",
        ],
    ),
];

/// The files that may contain `unsafe`: system calls of the sandbox, and the parts of the start program and of the helper of
/// jails that replace a C library (entry point, memory, system calls), which they do without in order to be small.
const UNSAFE_FILES: [&str; 9] = [
    "crates/dram-sandbox/helper/src/sys/entry.rs",
    "crates/dram-sandbox/helper/src/sys/raw.rs",
    "crates/dram-sandbox/src/sys.rs",
    "crates/dram-start/program/src/sys/call.rs",
    "crates/dram-start/program/src/sys/entry.rs",
    "crates/dram-start/program/src/sys/heap.rs",
    "crates/dram-start/program/src/sys/memory_functions.rs",
    "crates/dram-start/program/src/sys/raw.rs",
    "crates/dram-start/program/src/sys/tracing.rs",
];

/// Types that share their name with another, each with its reason.
const SHARED_TYPE_NAMES: [(&str, &str); 1] = [(
    "Store",
    "the harness of these tests: a store seen through the command line, where the library's cannot be named",
)];

/// File names that say what a file is for Rust, not what it contains.
const STRUCTURAL_FILES: [&str; 5] = ["build.rs", "lib.rs", "main.rs", "mod.rs", "tests.rs"];

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
    for (room, _) in CRATES {
        let path = root().join("crates").join(room).join("clippy.toml");
        let lines = lines_of(&path);
        assert!(lines.iter().any(|line| line.starts_with("disallowed-methods")), "{} bans nothing", path.display());
        for line in &common {
            assert!(lines.contains(line), "{} does not repeat `{line}`", path.display());
        }
    }
}

/// A build takes nothing from the network but what Cargo.lock names, and the helper of jails is built in it.
#[test]
fn the_helper_of_jails_is_built_with_the_versions_of_the_workspace() {
    let versions = |path: &str| -> BTreeSet<(String, String)> {
        let lines = lines_of(&root().join(path));
        let pairs = lines.windows(2).filter(|pair| pair[0].starts_with("name = ") && pair[1].starts_with("version = "));
        pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    let (all, helper) = (versions("Cargo.lock"), versions("crates/dram-sandbox/helper/Cargo.lock"));
    assert!(helper.len() > 5, "{helper:?}");
    let others: Vec<_> = helper.difference(&all).filter(|(name, _)| name != "name = \"dram-jail-helper\"").collect();
    assert!(others.is_empty(), "copy Cargo.lock to crates/dram-sandbox/helper and build: {others:?}");
}

/// A reader who meets a type finds one definition of it. Associated types and aliases in functions do not count.
#[test]
fn every_type_name_is_defined_once() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources() {
        for (number, line) in read(&path).lines().enumerate() {
            if let Some(name) = defined_type(line) {
                defined.entry(name.to_owned()).or_default().push(format!("{}:{}", relative_path(&path), number + 1));
            }
        }
    }
    assert!(defined.len() > 500, "only {} types found", defined.len());
    for (name, _) in SHARED_TYPE_NAMES {
        let places = defined.remove(name).unwrap_or_default();
        assert!(places.len() > 1, "`{name}` needs no exception: it is defined at {places:?}");
    }
    defined.retain(|_, places| places.len() > 1);
    assert!(defined.is_empty(), "a type's name is used once in the workspace, rename all but one of {defined:#?}");
}

#[test]
fn a_type_definition_is_recognised() {
    let cases = [
        ("pub struct Store {", Some("Store")),
        ("    pub(crate) enum StepOp<'a> {", Some("StepOp")),
        ("unsafe trait Zeroed {}", Some("Zeroed")),
        ("struct Digest([u8; 32]);", Some("Digest")),
        ("pub type Callback = fn();", Some("Callback")),
        ("    type Error = DigestError;", None),
        ("/// struct Store", None),
        ("let structure = 1;", None),
    ];
    for (line, name) in cases {
        assert_eq!(defined_type(line), name, "{line}");
    }
}

/// Returns the name of the type that a line defines. An indented `type` is an associated type, or local to a function.
fn defined_type(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(public) = rest.strip_prefix("pub") {
        rest = public.strip_prefix('(').and_then(|scope| scope.split_once(')')).map_or(public, |(_, rest)| rest);
    }
    rest = rest.trim_start().strip_prefix("unsafe ").unwrap_or(rest.trim_start());
    let (keyword, name) = rest.split_once(' ')?;
    let defines = match keyword {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !line.starts_with(' '),
        _ => false,
    };
    let end = name.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(name.len());
    (defines && name.starts_with(|letter: char| letter.is_ascii_uppercase())).then_some(&name[..end])
}

/// A test may have the name of the source file that it tests.
#[test]
fn every_file_name_is_used_once_in_a_crate() {
    let mut found: BTreeMap<(PathBuf, String), Vec<String>> = BTreeMap::new();
    for path in sources() {
        let name = path.file_name().expect("a source file has a name").to_string_lossy().into_owned();
        let room = path.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "src"));
        if let Some(room) = room.filter(|_| !STRUCTURAL_FILES.contains(&name.as_str())) {
            found.entry((room.to_owned(), name)).or_default().push(relative_path(&path));
        }
    }
    assert!(found.len() > 200, "only {} files found", found.len());
    let double: Vec<_> = found.into_values().filter(|paths| paths.len() > 1).collect();
    assert!(double.is_empty(), "a file's name is used once in a crate, rename all but one of {double:#?}");
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

/// The texts of a build context are read through `TextDir`, in which links do not lead outside. A file of the command that
/// opens paths itself opens none of a context.
#[test]
fn texts_of_a_build_context_are_read_at_one_place() {
    // The secrets and agents that the user names, and files that were fetched into the store.
    const OTHERS: &[&str] = &["run_inputs.rs", "remote_context.rs"];
    let calls = ["File::open(", "fs::read", "fs::metadata(", "fs::symlink_metadata(", "read_link("];
    let dir = root().join("crates/dram/src/cmd/build");
    let mut doors = Vec::new();
    for path in sources().into_iter().filter(|path| path.starts_with(&dir)) {
        let name = path.strip_prefix(&dir).expect("it is there").display().to_string();
        if !OTHERS.contains(&name.as_str()) && calls.iter().any(|call| read(&path).contains(call)) {
            doors.push(name);
        }
    }
    assert_eq!(doors, ["text_files.rs"]);
}

/// A rule about files: the text of calls that only its doors make.
struct FileDoors {
    /// The crates whose code is searched.
    rooms: &'static [&'static str],
    /// The texts of the calls.
    calls: &'static [&'static str],
    /// The help for a call somewhere else.
    help: &'static str,
    /// The files that make such a call, sorted, each with its reason.
    doors: &'static [(&'static str, &'static str)],
}

/// The rooms that hold files of a store, and make outputs.
const FILE_ROOMS: &[&str] = &["dram-store", "dram-build", "dram"];

const RENAMES: FileDoors = FileDoors {
    rooms: FILE_ROOMS,
    calls: &["fs::rename", "renameat"],
    help: "a small file of the store gets its name in `atomic_file::write_atomic`, a file of an output in `OutputDir`, a file \
           that the user names in `write_atomically`",
    doors: &[
        ("crates/dram-store/src/atomic_file.rs", "the door of small files of the store"),
        ("crates/dram-store/src/blobs.rs", "a blob that was hashed while it was written gets its digest as its name"),
        ("crates/dram-store/src/caches/cache_archive.rs", "the data of a cache is exchanged for that of an archive"),
        ("crates/dram-store/src/caches/mod.rs", "the directory of a cache"),
        ("crates/dram-store/src/dir.rs", "the call that `OutputDir` makes, without links"),
        ("crates/dram-store/src/download_cache.rs", "a downloaded file gets its digest as its name"),
        ("crates/dram-store/src/failed_command.rs", "the directories of a failed command"),
        ("crates/dram-store/src/fsck/check_blobs.rs", "a damaged blob is put aside, and back"),
        ("crates/dram-store/src/fsck/mod.rs", "what is damaged is put aside"),
        ("crates/dram-store/src/layers.rs", "the directory of a layer gets its id as its name"),
        ("crates/dram-store/src/migration.rs", "directories of a store of an earlier version"),
        ("crates/dram-store/src/misplaced.rs", "what is at a wrong place in the store is put aside"),
        ("crates/dram-store/src/unsynced.rs", "a layer that a power cut may have damaged is put aside"),
        ("crates/dram/src/cmd/atomic_write.rs", "the door of files that the user names"),
    ],
};

const NEW_FILES: FileDoors = FileDoors {
    rooms: FILE_ROOMS,
    calls: &[
        "fs::write(",
        "fs::copy(",
        "fs::hard_link(",
        "File::create",
        "OpenOptions",
        ".create(true)",
        ".create_new(true)",
        "OFlags::CREATE",
        "OFlags::TMPFILE",
    ],
    help: "a small file of the store is written by `atomic_file::write_atomic`, a blob by `Blobs`, a file of an output by \
           `OutputDir`, a file of a layer by `Dir::create_file`, a file that the user names by `write_atomically`",
    doors: &[
        ("crates/dram-store/src/atomic_file.rs", "the door of small files of the store"),
        ("crates/dram-store/src/blobs.rs", "the door of blobs"),
        ("crates/dram-store/src/build_history.rs", "an empty marker file"),
        ("crates/dram-store/src/context_dir.rs", "an empty file that shows the time of the file system"),
        ("crates/dram-store/src/dir.rs", "the door of files of layers and of outputs, which follows no links"),
        ("crates/dram-store/src/layers.rs", "an empty file whose time is that of the last use"),
        ("crates/dram-store/src/lock.rs", "the files that are locked"),
        ("crates/dram-store/src/ownership.rs", "a table that is appended to while a layer is made"),
        ("crates/dram-store/src/unsynced.rs", "an empty marker file"),
        ("crates/dram-build/src/transfer/layout_files.rs", "an unpacked archive in the work directory of the process"),
        ("crates/dram/src/cmd/atomic_write.rs", "the door of files that the user names"),
        ("crates/dram/src/cmd/build/remote_context.rs", "a fetched file in the work directory of the process"),
        ("crates/dram/src/network_fetcher.rs", "a download in the work directory of the process"),
    ],
};

const TAR_READERS: FileDoors = FileDoors {
    rooms: &["dram-assemble", "dram-store", "dram-build", "dram-remote", "dram"],
    calls: &["TarReader::", "tar::Archive", "tar::Header", "use tar::"],
    help: "a layer is unpacked by `Layers::unpack`, any other archive by `Layers::unpack_archive`: their entries and limits are \
           checked there",
    doors: &[
        ("crates/dram-store/src/layers.rs", "a layer is read to its end, and nothing is written"),
        ("crates/dram-store/src/unpack.rs", "the door: writes the entries of a layer or of an archive"),
        (
            "crates/dram-build/src/import_tar.rs",
            "a root file system becomes a layer byte for byte, and is unpacked as one",
        ),
        (
            "crates/dram-build/src/transfer/layout_files.rs",
            "finds the files of a layout in an archive, and unpacks nothing",
        ),
    ],
};

#[test]
fn files_get_their_final_names_at_the_listed_places() {
    check_doors(&RENAMES);
}

#[test]
fn files_are_created_at_the_listed_places() {
    check_doors(&NEW_FILES);
}

#[test]
fn archives_are_read_at_the_listed_places() {
    check_doors(&TAR_READERS);
}

#[test]
fn a_call_outside_of_the_doors_is_found() {
    let is_found = |text: &str| FileDoors::makes_call(&NEW_FILES, text);
    assert!(is_found("fn f() {\n    fs::write(path, text)\n}\n"));
    assert!(!is_found("// fs::write(path, text)\nfn f() {}\n"));
    assert!(!is_found("fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fs::write(path, text)\n}\n"));
    assert!(is_found("#[cfg(test)]\nmod tests;\nfn f() {\n    File::create(path)\n}\n"));
}

impl FileDoors {
    /// Returns whether the code `text`, without comments and tests, makes such a call.
    fn makes_call(&self, text: &str) -> bool {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.any(|line| self.calls.iter().any(|call| line.contains(call)))
    }
}

/// Fails if a file of the rooms makes a call of `rule` and is no door, or the other way round.
fn check_doors(rule: &FileDoors) {
    // Files that are compiled for tests only, besides those that are called after them.
    const TEST_FILES: [&str; 4] = ["crafted_elf.rs", "crafted_image.rs", "help_page.rs", "testing.rs"];
    let mut doors: BTreeSet<&str> = rule.doors.iter().map(|(path, _)| *path).collect();
    assert_eq!(doors.len(), rule.doors.len(), "a door is listed once");
    for path in sources() {
        let shown = relative_path(&path);
        let is_of_rooms = rule.rooms.iter().any(|room| shown.starts_with(&format!("crates/{room}/src/")));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_test = name.ends_with("tests.rs") || TEST_FILES.contains(&name.as_ref());
        if is_of_rooms && !is_test && rule.makes_call(&read(&path)) {
            assert!(doors.remove(shown.as_str()), "{shown} calls one of {:?}: {}", rule.calls, rule.help);
        }
    }
    assert!(doors.is_empty(), "{doors:?} make none of the calls {:?}: strike them out", rule.calls);
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
