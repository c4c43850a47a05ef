//! The cache of compilation records and query answers.
//!
//! It is stored in `_build/ENV/dram`, and is removed together with the build. An entry that cannot be read or is
//! outdated is a cache miss, never an error.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dram_image::Digest;
use serde::{Deserialize, Serialize};

use crate::AssembleError;

/// The format version; other versions are not read.
const FORMAT_VERSION: u32 = 1;
/// Directories of a project that are no inputs of its compiler.
const SKIPPED_DIRS: [&str; 5] = ["_build", ".git", ".hg", "node_modules", ".elixir_ls"];
/// The maximum size of a file that is digested.
const MAX_DIGESTED_SIZE: u64 = 256 << 20;

/// The caller's environment variables.
pub type CallerEnvironment = BTreeMap<Vec<u8>, Vec<u8>>;

/// The inputs of a cached answer.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerInputs {
    form: u32,
    /// The cache key of the query.
    key: String,
    /// The digest of the answer, which detects truncated files.
    answer: String,
    files: BTreeMap<PathBuf, InputFileState>,
    directories: BTreeMap<PathBuf, String>,
    environment: BTreeMap<String, Option<String>>,
    whole_environment: Option<String>,
}

/// The state of a file that was an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InputFileState {
    /// The size, the modification time in nanoseconds and the inode number; all zero if the file did not exist.
    status: (u64, i128, u64),
    /// The digest of the content; empty if the file did not exist.
    digest: String,
}

/// The names of the inputs that were read for an answer.
#[derive(Debug, Default)]
pub(crate) struct AnswerInputNames {
    /// Files that were read or looked up.
    pub(crate) files: Vec<PathBuf>,
    /// Directories that were listed.
    pub(crate) directories: Vec<PathBuf>,
    /// Environment variables.
    pub(crate) variables: Vec<String>,
    /// True if the whole environment was read.
    pub(crate) whole_environment: bool,
}

impl AnswerInputs {
    /// Captures the current state of the inputs.
    pub(crate) fn capture(
        key: String,
        answer: &[u8],
        read: AnswerInputNames,
        environment: &CallerEnvironment,
    ) -> AnswerInputs {
        AnswerInputs {
            form: FORMAT_VERSION,
            key,
            answer: Digest::of(answer).to_string(),
            files: read.files.into_iter().map(|path| (path.clone(), input_file_state(&path))).collect(),
            directories: read.directories.into_iter().map(|path| (path.clone(), listing_digest(&path))).collect(),
            environment: read
                .variables
                .into_iter()
                .map(|name| (name.clone(), variable_digest(environment, &name)))
                .collect(),
            whole_environment: read.whole_environment.then(|| environment_digest(environment)),
        }
    }

    fn are_unchanged(&self, key: &str, answer: &[u8], environment: &CallerEnvironment) -> bool {
        let AnswerInputs {
            form,
            key: old_key,
            answer: old_answer,
            files,
            directories,
            environment: old,
            whole_environment,
        } = self;
        *form == FORMAT_VERSION
            && old_key == key
            && *old_answer == Digest::of(answer).to_string()
            && old.iter().all(|(name, value)| variable_digest(environment, name) == *value)
            && whole_environment.as_ref().is_none_or(|digest| *digest == environment_digest(environment))
            && directories.iter().all(|(path, names)| listing_digest(path) == *names)
            && files
                .iter()
                .all(|(path, was)| file_status(path) == was.status || input_file_state(path).digest == was.digest)
    }
}

/// Returns the answer in `dir` under `name`, if none of its inputs changed.
pub(crate) fn load_answer(dir: &Path, name: &str, key: &str, environment: &CallerEnvironment) -> Option<Vec<u8>> {
    let inputs: AnswerInputs = serde_json::from_slice(&fs::read(dir.join(format!("{name}.inputs"))).ok()?).ok()?;
    let answer = fs::read(dir.join(format!("{name}.answer"))).ok()?;
    inputs.are_unchanged(key, &answer, environment).then_some(answer)
}

/// Stores `answer` with its inputs.
///
/// # Errors
/// Fails if the files cannot be written.
pub(crate) fn store_answer(dir: &Path, name: &str, answer: &[u8], inputs: &AnswerInputs) -> Result<(), AssembleError> {
    fs::create_dir_all(dir).map_err(AssembleError::io("make the directory", dir))?;
    let inputs = serde_json::to_vec(inputs).expect("paths and texts are JSON");
    replace_file(&dir.join(format!("{name}.answer")), answer)?;
    replace_file(&dir.join(format!("{name}.inputs")), &inputs)
}

/// Replaces the file `path` with `bytes`, by an atomic rename.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), AssembleError> {
    let half = path.with_extension("new");
    fs::write(&half, bytes).map_err(AssembleError::io("write", &half))?;
    fs::rename(&half, path).map_err(AssembleError::io("write", path))
}

fn file_status(path: &Path) -> (u64, i128, u64) {
    match fs::metadata(path) {
        Ok(found) => {
            let nanoseconds = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
            (found.size(), nanoseconds, found.ino())
        }
        Err(_) => (0, 0, 0),
    }
}

fn input_file_state(path: &Path) -> InputFileState {
    let status = file_status(path);
    let digest = match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= MAX_DIGESTED_SIZE => {
            fs::read(path).map(|bytes| Digest::of(&bytes).to_string()).unwrap_or_default()
        }
        Ok(found) if found.is_dir() => "a directory".to_owned(),
        Ok(_) | Err(_) => String::new(),
    };
    InputFileState { status, digest }
}

fn listing_digest(path: &Path) -> String {
    let Ok(entries) = fs::read_dir(path) else { return String::new() };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().into_vec()).collect();
    names.sort();
    Digest::of(&names.join(&0)).to_string()
}

fn variable_digest(environment: &CallerEnvironment, name: &str) -> Option<String> {
    environment.get(name.as_bytes()).map(|value| Digest::of(value).to_string())
}

fn environment_digest(environment: &CallerEnvironment) -> String {
    let mut text = Vec::new();
    for (name, value) in environment {
        // The shell sets this variable for every command.
        if name != b"_" {
            text.extend([name.as_slice(), b"=", value, b"\0"].concat());
        }
    }
    Digest::of(&text).to_string()
}

/// Returns a fingerprint of all files below the directories `roots`: names, sizes, modification times, inode numbers
/// and modes. Contents are not read. Directories that the compiler does not read, and `not_in`, are skipped.
///
/// # Errors
/// Fails if a directory cannot be read.
pub(crate) fn fingerprint(roots: &[PathBuf], not_in: &Path) -> Result<String, AssembleError> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut waiting: Vec<PathBuf> = roots.to_vec();
    while let Some(dir) = waiting.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lines.push([dir.as_os_str().as_bytes(), b" is not there"].concat());
                continue;
            }
            Err(error) => return Err(AssembleError::io("read", &dir)(error)),
        };
        for found in entries {
            let found = found.map_err(AssembleError::io("read", &dir))?;
            let (name, path) = (found.file_name(), found.path());
            if SKIPPED_DIRS.iter().any(|skipped| name == *skipped) || path == not_in || is_release_output(&path, not_in)
            {
                continue;
            }
            // The file was just removed; the next fingerprint will differ.
            let Ok(status) = found.metadata() else { continue };
            if status.is_dir() {
                waiting.push(path);
                continue;
            }
            let mut line = path.into_os_string().into_vec();
            let numbers = [
                status.size(),
                status.mtime().cast_unsigned(),
                status.mtime_nsec().cast_unsigned(),
                status.ino(),
                status.mode().into(),
            ];
            line.push(0);
            numbers.iter().for_each(|number| line.extend(number.to_le_bytes()));
            lines.push(line);
        }
    }
    lines.sort();
    let mut hasher = dram_image::DigestHasher::new();
    for line in lines {
        hasher.update(&(line.len() as u64).to_le_bytes());
        hasher.update(&line);
    }
    Ok(hasher.finish().to_string())
}

/// Returns true if `path` is a file that writing a release to `output` leaves next to it: an archive, or an unfinished
/// file.
fn is_release_output(path: &Path, output: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    path.parent() == output.parent() && (name.ends_with(b".tar.gz") || name.ends_with(b".dram-new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_answer_is_valid_until_an_input_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, listed) = (dir.path().join("config.exs"), dir.path().join("config"));
        fs::write(&file, "1").unwrap();
        fs::create_dir(&listed).unwrap();
        let environment = CallerEnvironment::from([(b"PORT".to_vec(), b"4000".to_vec())]);
        let read = || AnswerInputNames {
            files: vec![file.clone(), dir.path().join("missing.exs")],
            directories: vec![listed.clone()],
            variables: vec!["PORT".to_owned(), "UNSET".to_owned()],
            whole_environment: false,
        };
        let keep = || {
            let inputs = AnswerInputs::capture("key".to_owned(), b"answer", read(), &environment);
            store_answer(dir.path(), "demo", b"answer", &inputs).unwrap();
        };
        let recalled = |environment: &CallerEnvironment| load_answer(dir.path(), "demo", "key", environment).is_some();
        keep();
        assert!(recalled(&environment));
        assert!(load_answer(dir.path(), "demo", "another", &environment).is_none());
        assert!(!recalled(&CallerEnvironment::new()), "a variable is gone");
        let mut more = environment.clone();
        more.insert(b"UNSET".to_vec(), Vec::new());
        assert!(!recalled(&more), "a variable that was not there is there");
        fs::write(&file, "1").unwrap();
        assert!(recalled(&environment), "the same bytes, written anew");
        fs::write(&file, "2").unwrap();
        assert!(!recalled(&environment), "a file changed");
        keep();
        fs::write(listed.join("more.exs"), "").unwrap();
        assert!(!recalled(&environment), "a directory has more in it");
        keep();
        fs::write(dir.path().join("missing.exs"), "").unwrap();
        assert!(!recalled(&environment), "a file that was missed is there");
        keep();
        fs::write(dir.path().join("demo.answer"), "answ").unwrap();
        assert!(!recalled(&environment), "the answer is cut short");
    }

    #[test]
    fn the_whole_environment_counts_if_it_was_read_except_for_what_the_shell_sets() {
        let dir = tempfile::tempdir().unwrap();
        let variables = |pairs: &[(&str, &str)]| -> CallerEnvironment {
            pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
        };
        let names = AnswerInputNames { whole_environment: true, ..AnswerInputNames::default() };
        let inputs = AnswerInputs::capture("key".to_owned(), b"answer", names, &variables(&[("A", "1"), ("_", "x")]));
        store_answer(dir.path(), "demo", b"answer", &inputs).unwrap();
        let hit = |pairs: &[(&str, &str)]| load_answer(dir.path(), "demo", "key", &variables(pairs)).is_some();
        assert!(hit(&[("A", "1"), ("_", "y")]));
        assert!(!hit(&[("A", "2")]) && !hit(&[("A", "1"), ("B", "")]) && !hit(&[]));
    }

    #[test]
    fn inputs_of_another_format_or_damaged_ones_are_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let environment = CallerEnvironment::new();
        let inputs = AnswerInputs::capture("key".to_owned(), b"answer", AnswerInputNames::default(), &environment);
        for other in [AnswerInputs { form: FORMAT_VERSION + 1, ..inputs.clone() }, AnswerInputs::default()] {
            store_answer(dir.path(), "demo", b"answer", &other).unwrap();
            assert_eq!(load_answer(dir.path(), "demo", "key", &environment), None);
        }
        store_answer(dir.path(), "demo", b"answer", &inputs).unwrap();
        assert_eq!(load_answer(dir.path(), "demo", "key", &environment).as_deref(), Some(&b"answer"[..]));
        fs::write(dir.path().join("demo.inputs"), "{").unwrap();
        assert_eq!(load_answer(dir.path(), "demo", "key", &environment), None);
    }

    #[test]
    fn a_fingerprint_changes_with_sources_and_not_with_results() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib/a.ex", "1");
        let output = dir.path().join("out/demo");
        let print = || fingerprint(&[dir.path().to_owned()], &output).unwrap();
        write("out/kept", "");
        let mut last = print();
        for name in
            ["_build/x", ".git/x", "node_modules/x", "out/demo/bin/x", "out/demo-1.tar.gz", "out/.demo.dram-new"]
        {
            write(name, "");
            assert_eq!(print(), last, "{name}");
        }
        for (name, text) in [("lib/a.ex", "22"), ("lib/b.ex", ""), ("priv/x", ""), ("other.tar.gz", "")] {
            write(name, text);
            assert_ne!(print(), last, "{name}");
            last = print();
        }
        fs::remove_file(dir.path().join("lib/b.ex")).unwrap();
        assert_ne!(print(), last);
        assert!(fingerprint(&[dir.path().join("gone")], &output).is_ok(), "a path dependency may be gone");
    }
}
