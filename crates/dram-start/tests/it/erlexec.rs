//! Compares the arguments and variables of the real `erlexec` with those of this crate.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dram_start::byte_string::{ByteString, split_words};
use dram_start::environment::EnvironmentVariables;
use dram_start::erlexec::{EmulatorPaths, expand_arguments, search_path, translate_arguments};
use dram_start::error::StartError;

/// The arguments and some variables with which an emulator was started.
#[derive(Debug, PartialEq, Eq)]
struct EmulatorStart {
    arguments: Vec<String>,
    variables: Vec<String>,
}

const COMPARED_VARIABLES: [&str; 5] = ["FOO=", "BAR=", "PATH=", "ERL_CRASH_DUMP=", "EMPTY="];

/// The installed Erlang: the number of its OTP release, and the path of its `erlexec`.
fn installed_otp() -> (String, PathBuf) {
    let script = "io:format(\"~s ~s\", [erlang:system_info(otp_release), code:root_dir() ++ \"/erts-\" ++ \
                  erlang:system_info(version) ++ \"/bin/erlexec\"]), halt().";
    let output = Command::new("erl").args(["-noshell", "-eval", script]).output().expect("erl is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let (otp, path) = text.split_once(' ').expect("two words were printed");
    (otp.to_owned(), PathBuf::from(path))
}

struct ErlexecCase {
    line: &'static str,
    files: &'static [(&'static str, &'static str)],
    env: &'static [(&'static str, &'static str)],
}

const CASES: &[ErlexecCase] = &[
    ErlexecCase { line: "", files: &[], env: &[] },
    ErlexecCase { line: "-boot start -mode embedded", files: &[], env: &[] },
    ErlexecCase { line: "-a b -extra -args_file no +S 1", files: &[], env: &[] },
    ErlexecCase { line: "+S 4 -boot x +sbwt none +K true", files: &[], env: &[] },
    ErlexecCase {
        line: "-args_file a",
        files: &[("a", "# a comment\n-name_ x #rest\n+P 5000000\n\n+Q 65536")],
        env: &[],
    },
    ErlexecCase {
        line: "-args_file a tail",
        files: &[("a", "-kernel \"dist listen\" 'a \"b\" c' x\\ y \\\"z\\#\n")],
        env: &[],
    },
    ErlexecCase { line: "-args_file a", files: &[("a", "pre\"mid dle\"post 'un closed")], env: &[] },
    ErlexecCase { line: "-args_file a -z", files: &[("a", "-one\n-args_file b\n-two"), ("b", "+A 3 -b\n")], env: &[] },
    ErlexecCase {
        line: "-args_file a",
        files: &[("a", "-one -args_file b -extra p q"), ("b", "-x -extra r")],
        env: &[],
    },
    ErlexecCase { line: "-args_file a -after", files: &[("a", "\n\n# nothing\n")], env: &[] },
    ErlexecCase { line: "-env FOO bar -env BAR a=b -x", files: &[], env: &[] },
    ErlexecCase {
        line: "-args_file a",
        files: &[("a", "-env FOO 'two words'\n-env ERL_CRASH_DUMP /dev/null\n")],
        env: &[],
    },
    ErlexecCase {
        line: "-z",
        files: &[],
        env: &[("ERL_AFLAGS", "-first 'in quotes' +S 2"), ("ERL_ZFLAGS", "-last # kept")],
    },
    ErlexecCase { line: "-z -extra e", files: &[], env: &[("ERL_FLAGS", "-mid -extra f"), ("ERL_ZFLAGS", "-last")] },
    ErlexecCase { line: "", files: &[], env: &[("ERL_FLAGS", "+P 9000")] },
    ErlexecCase { line: "-z", files: &[("a", "-from file")], env: &[("ERL_AFLAGS", "-args_file a")] },
    ErlexecCase { line: "-noinput -start_epmd false -sname_ x", files: &[], env: &[("ERL_EPMD_PORT", "4999")] },
    ErlexecCase { line: "-start_epmd false -sname one -name two", files: &[], env: &[("HOME", "/home/x")] },
    ErlexecCase { line: "+Bd +c +c true +W w +Bi +B i -x", files: &[], env: &[] },
    ErlexecCase {
        line: "+MBas aobf +Mea min +MHe false +hms 5 +hmqd off_heap +zdbbl 9 +pc unicode +fnu +stbt db",
        files: &[],
        env: &[],
    },
    ErlexecCase {
        line: "+SP 50:50 +SDcpu 2 +SDPcpu 50 +SDio 3 +IOt 2 +JMsingle true +L +V +rg 4 +swtdio low",
        files: &[],
        env: &[],
    },
    ErlexecCase { line: "-smp auto -smp enable -emu_type opt -version -emu_args_ -compile_ x", files: &[], env: &[] },
    ErlexecCase { line: "-x", files: &[], env: &[("PATH", "/usr/bin:/bin"), ("EMPTY", "")] },
    ErlexecCase { line: "-heart -nohup -hidden -- +S 3 -- more", files: &[], env: &[] },
];

#[test]
fn arguments_and_variables_are_those_of_erlexec() {
    let (otp, erlexec) = installed_otp();
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let bin = root.join("erts/bin");
        fs::create_dir_all(&bin).unwrap();
        let emulator = bin.join("beam.smp");
        fs::write(&emulator, "#!/bin/sh\nprintf '%s\\0' \"$#\" \"$@\"\n/usr/bin/env -0\n").unwrap();
        fs::set_permissions(&emulator, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, content) in case.files {
            fs::write(root.join(name), content).unwrap();
        }
        let theirs = run_real_erlexec(&erlexec, root, &bin, case);
        let ours = run_own_translation(&otp, root, &bin, case);
        assert_eq!(ours, theirs, "`{}`", case.line);
    }
}

fn line(case: &ErlexecCase) -> Vec<ByteString> {
    split_words(case.line.as_bytes())
}

fn run_real_erlexec(erlexec: &Path, root: &Path, bin: &Path, case: &ErlexecCase) -> EmulatorStart {
    let mut command = Command::new(erlexec);
    command.env_clear().envs(case.env.iter().copied()).current_dir(root);
    command.env("ROOTDIR", root).env("BINDIR", bin).env("EMU", "beam").env("PROGNAME", "erl");
    command.args(case.line.split_whitespace());
    let output = command.output().unwrap();
    assert!(output.status.success(), "`{}`: {}", case.line, String::from_utf8_lossy(&output.stderr));
    let mut parts = output.stdout.split(|b| *b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    let count = parts.next().and_then(|count| count.parse().ok()).expect("the number of arguments");
    let arguments = parts.by_ref().take(count).collect();
    let mut variables: Vec<String> =
        parts.filter(|one| COMPARED_VARIABLES.iter().any(|name| one.starts_with(name))).collect();
    variables.sort();
    EmulatorStart { arguments, variables }
}

fn run_own_translation(otp: &str, root: &Path, bin: &Path, case: &ErlexecCase) -> EmulatorStart {
    let strings: Vec<ByteString> =
        case.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect();
    let mut env = EnvironmentVariables::from_strings(&strings);
    let place = EmulatorPaths {
        root: root.as_os_str().as_bytes().to_vec(),
        bin: bin.as_os_str().as_bytes().to_vec(),
        progname: b"erl".to_vec(),
    };
    let mut read = |path: &[u8]| {
        let path = root.join(String::from_utf8_lossy(path).as_ref());
        fs::read(path).map_err(|error| StartError::new(error.to_string(), ""))
    };
    let all = expand_arguments(&line(case), &env, Some(otp), &mut read).unwrap();
    let emulator = translate_arguments(&all, &place, &env).unwrap();
    assert_eq!(emulator.file, b"beam.smp");
    let path = search_path(env.get("PATH"), &place);
    env.set(b"PATH", &path);
    for (name, value) in &emulator.env {
        env.set(name, value);
    }
    let text = |bytes: &ByteString| String::from_utf8_lossy(bytes).into_owned();
    let mut variables: Vec<String> = env
        .to_strings()
        .iter()
        .map(text)
        .filter(|one| COMPARED_VARIABLES.iter().any(|name| one.starts_with(name)))
        .collect();
    variables.sort();
    EmulatorStart { arguments: emulator.arguments.iter().map(text).collect(), variables }
}

#[test]
fn invalid_flags_and_cyclic_args_files_are_refused() {
    let place = EmulatorPaths { root: b"/r".to_vec(), bin: b"/r/b".to_vec(), progname: b"erl".to_vec() };
    let env = EnvironmentVariables::default();
    for line in ["-env A", "+A", "+sbt", "+sbt -x", "-name", "-start_epmd maybe", "+Bx", "-smp disable", "+IOx 1"] {
        assert!(translate_arguments(&split_words(line.as_bytes()), &place, &env).is_err(), "`{line}`");
    }
    let mut around = |_: &[u8]| Ok(b"-args_file a".to_vec());
    assert!(expand_arguments(&split_words(b"-args_file a"), &env, None, &mut around).is_err());
}
