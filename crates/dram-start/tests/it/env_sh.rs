//! Tests of the script that sources `env.sh` and hooks, with the shell of this machine.

use std::fs;
use std::process::{Command, Output};

use dram_start::env_script::sourcing_script;

use crate::test_release::lossy_text;

/// Sources files with these contents, and then prints the environment and the arguments.
fn source(contents: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let path = dir.path().join(format!("it's {number}"));
            fs::write(&path, text).unwrap();
            path.into_os_string().into_encoded_bytes()
        })
        .collect();
    let script = String::from_utf8(sourcing_script("helper() { HELPED=yes; }\n", &files)).unwrap();
    let program = dir.path().join("program");
    fs::write(&program, "#!/bin/sh\nenv\necho \"arguments: $*\"\n").unwrap();
    let mut command = Command::new("/bin/sh");
    command.env_clear().env("PATH", "/usr/bin:/bin").env("RELEASE_PROGRAM", "/bin/sh");
    command.args(["-c", &script, "sh"]).arg(program).args(["a", "b c"]).output().unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", lossy_text(&output.stderr));
    lossy_text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn env_sh_that_switches_shell_options_off_is_read_once_and_exports_what_mix_exports() {
    let output =
        source(&["set -a\nA=1\nset +a\nB=2\nRELEASE_NODE=demo@host\nset +e\nfalse\nset -u\nset -f\n", "C=3\n"]);
    let lines = lines(&output);
    for line in ["RELEASE_ENV_SH_READ=true", "A=1", "RELEASE_NODE=demo@host", "C=3", "arguments: a b c"] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    assert!(!lines.contains(&"B=2".to_owned()), "it was switched off");
}

#[test]
fn a_file_that_fails_ends_the_start() {
    let output = source(&["set +e\n", "false\nA=1\n"]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", lossy_text(&output.stdout));
}

#[test]
fn assignments_are_exported_and_functions_can_be_called() {
    let lines = lines(&source(&["A=\"$(echo 1)\"\nhelper\n"]));
    assert!(lines.contains(&"A=1".to_owned()) && lines.contains(&"HELPED=yes".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("RELEASE_NODE=")), "an unset variable stays unset: {lines:?}");
}
