//! Compares `docs/coverage.md` and `SECURITY.md` with the code: every instruction, flag, rule and option has a row, and all
//! rows name existing tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dram_dockerfile::plan::{MOUNT_KEYS, MOUNT_TYPES};
use dram_dockerfile::{Keyword, flag_names, rules};

use crate::support::{Store, repo};

/// Returns the rows of the page: each subject with the tests that it names.
fn rows() -> BTreeMap<String, Vec<String>> {
    let page = fs::read_to_string(repo("docs/coverage.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (Some(what), Some(tests)) = (cells.first(), cells.last()) else { panic!("{line}") };
        assert!(cells.len() >= 2, "a row names a thing and its tests: {line}");
        let quoted = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(|name| name.replace("\\|", "|")).collect()
        };
        for what in quoted(what) {
            let old = rows.insert(what.clone(), quoted(tests));
            assert!(old.is_none(), "two rows are about `{what}`");
        }
    }
    rows
}

/// Returns every test function of the workspace as `file::name`, and the directories of test cases.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![repo("crates"), repo("tests")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.starts_with(repo("tests")) {
                    found.insert(path.strip_prefix(repo(".")).unwrap().display().to_string());
                }
                todo.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.extend(test_functions(&path));
            }
        }
    }
    found
}

fn test_functions(path: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let stem = path.file_stem().unwrap().to_string_lossy();
    // A `tests.rs` or `mod.rs` is named after its directory.
    let room = match stem.as_ref() {
        "tests" | "mod" => path.parent().and_then(Path::file_name).unwrap().to_string_lossy(),
        _ => stem,
    };
    let mut marked = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("fn ").filter(|_| marked) {
            found.push(format!("{room}::{}", name.split('(').next().unwrap_or_default()));
        }
        marked = line == "#[test]" || (marked && line.starts_with('#'));
    }
    found
}

/// Returns every subject that needs a row.
fn required_rows() -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    for keyword in Keyword::ALL {
        wanted.insert(keyword.name().to_owned());
        wanted.extend(flag_names(*keyword).map(|flag| format!("{} --{flag}", keyword.name())));
    }
    wanted.extend(MOUNT_TYPES.iter().map(|kind| format!("RUN --mount=type={kind}")));
    // Other spellings of one key share its row.
    wanted.extend(MOUNT_KEYS.iter().filter(|key| **key != "type").map(|key| format!("--mount=…,{key}")));
    wanted.extend(rules::ALL.iter().map(|rule| rule.name.to_owned()));
    wanted.extend(["# syntax=", "# escape=", "# check="].map(str::to_owned));
    wanted
        .extend([":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", "/", "//"].map(|form| format!("${{x{form}}}")));
    wanted.extend(options("build").into_iter().map(|option| format!("build {option}")));
    wanted
}

/// Returns the long options that `dram COMMAND --help` lists.
fn options(command: &str) -> Vec<String> {
    let help = Store::empty().dram([command, "--help"]).ok().stdout;
    let words = help.lines().map(str::trim).filter(|line| line.starts_with('-')).flat_map(str::split_whitespace);
    let long = words.filter_map(|word| word.strip_prefix("--"));
    let name = |word: &str| word.split(['=', '[', ',']).next().unwrap_or_default().to_owned();
    let all: BTreeSet<String> = long.map(name).filter(|name| !name.is_empty() && name != "help").collect();
    all.into_iter().map(|name| format!("--{name}")).collect()
}

#[test]
fn every_instruction_option_and_rule_has_a_row() {
    let (rows, wanted) = (rows(), required_rows());
    let missing: Vec<&String> = wanted.iter().filter(|what| !rows.contains_key(*what)).collect();
    assert!(missing.is_empty(), "docs/coverage.md has no rows about {missing:#?}");
}

#[test]
fn every_named_test_exists() {
    let tests = tests();
    for (what, named) in rows() {
        assert!(!named.is_empty(), "the row about `{what}` names no test");
        for name in named {
            assert!(tests.contains(&name), "the row about `{what}` names `{name}`, and there is no such test");
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let page = fs::read_to_string(repo("SECURITY.md")).unwrap();
    let tests = tests();
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    let named: Vec<&str> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|name| name.contains("::")).collect();
    assert!(named.len() > 30, "the tables of SECURITY.md name tests: {named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:?}");
}
