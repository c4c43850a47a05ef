//! Runs Erlang and Elixir as reference implementations.

use std::path::{Path, PathBuf};
use std::process::Command;

use dram_release::etf::{AtomEncoding, decode, encode};
use dram_release::term::Term;

/// Creates a temporary directory that is removed when the test ends.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name)
}

/// Returns Erlang's answer to the question `name`.
pub(crate) fn erlang(name: &str, question: &Term) -> Term {
    run_peer(Command::new("escript").arg(script_path("peer.escript")), name, question)
}

/// Returns Elixir's answer to the question `name`.
pub(crate) fn elixir(name: &str, question: &Term) -> Term {
    run_peer(Command::new("elixir").arg(script_path("peer.exs")), name, question)
}

fn run_peer(command: &mut Command, name: &str, question: &Term) -> Term {
    let dir = scratch();
    let (to, from) = (dir.path().join("question"), dir.path().join("answer"));
    std::fs::write(&to, encode(question, AtomEncoding::Utf8)).unwrap();
    let output = command.arg(name).args([&to, &from]).output().expect("the peer is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    decode(&std::fs::read(&from).unwrap()).unwrap()
}

/// Creates a binary with this text.
pub(crate) fn binary(text: impl AsRef<[u8]>) -> Term {
    Term::Binary(text.as_ref().to_vec())
}

/// Creates a binary with this path.
pub(crate) fn path(path: &Path) -> Term {
    binary(path.to_str().unwrap())
}

/// Returns the bytes of a binary.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
pub(crate) fn bytes(term: &Term) -> &[u8] {
    match term {
        Term::Binary(bytes) => bytes,
        other => panic!("{other} is no binary"),
    }
}

/// Returns the paths of files below OTP's root directory that match the patterns.
pub(crate) fn files(patterns: &[&str]) -> Vec<PathBuf> {
    let root = PathBuf::from(std::str::from_utf8(bytes(&erlang("root", &Term::List(Vec::new())))).unwrap());
    let patterns = Term::List(patterns.iter().map(binary).collect());
    let found = erlang("files", &patterns);
    let found = found.as_list().unwrap().iter().map(|file| root.join(std::str::from_utf8(bytes(file)).unwrap()));
    let mut found: Vec<_> = found.collect();
    found.sort();
    found
}
