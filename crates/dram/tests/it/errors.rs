//! Error messages, compared in full, and the exit codes that the README promises.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{CommandOutput, Context, Store, registries_conf, temp};

/// Runs a build in the context's directory.
fn build(context: &Context) -> CommandOutput {
    build_with(context, &[])
}

fn build_with(context: &Context, options: &[&str]) -> CommandOutput {
    let store = Store::with_base();
    store.dram(["build"]).args(options).arg(".").dir(context.path()).end()
}

/// Asserts that the build ended with `code` and that its output ends with the error `text`.
#[track_caller]
fn assert_error(done: &CommandOutput, code: i32, text: &str) {
    assert_eq!(done.code, code, "{done}");
    let from = done.stderr.find("error: ").unwrap_or_else(|| panic!("no error\n{done}"));
    let got = done.stderr[from..].trim_end();
    assert_eq!(got, text.trim(), "\n--- got\n{got}\n---");
}

#[test]
fn a_missing_file_in_a_stage_suggests_the_nearest() {
    let dockerfile = "\
FROM parity-base AS builder
WORKDIR /root/_build/prod/rel/demo
RUN touch demo.tar.gz
FROM parity-base
COPY --from=builder /root/_build/prod/rel/demo/rtr.tar.gz .
";
    assert_error(
        &build(&Context::new(dockerfile)),
        1,
        "
error: no such file in stage `builder`: `/root/_build/prod/rel/demo/rtr.tar.gz`
 --> ./Dockerfile:5:21
  |
5 | COPY --from=builder /root/_build/prod/rel/demo/rtr.tar.gz .
  |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = note: `/root/_build/prod/rel/demo` holds `demo.tar.gz`
  = help: did you mean `/root/_build/prod/rel/demo/demo.tar.gz`?",
    );
}

#[test]
fn a_missing_file_in_the_context_suggests_the_nearest() {
    let context = Context::new("FROM parity-base\nCOPY src/mian.c /\n").file("src/main.c", "").file("src/other.h", "");
    assert_error(
        &build(&context),
        1,
        "
error: no such file in the build context: `src/mian.c`
 --> ./Dockerfile:2:6
  |
2 | COPY src/mian.c /
  |      ^^^^^^^^^^
  |
  = note: `/src` holds `main.c`, `other.h`
  = help: did you mean `src/main.c`?",
    );
}

#[test]
fn a_source_outside_of_the_context_is_told_apart_from_a_misspelt_one() {
    let context = Context::new("FROM parity-base\nCOPY ../x /\n").file("xy", "");
    assert_error(
        &build(&context),
        1,
        "
error: no such file in the build context: `../x`
 --> ./Dockerfile:2:6
  |
2 | COPY ../x /
  |      ^^^^
  |
  = note: `..` does not lead out of the build context: this is `/x` in it
  = help: copy it into the build context, or name its directory with `--build-context NAME=DIR` and use `--from=NAME`",
    );
}

#[test]
fn a_missing_file_that_is_ignored_is_reported_as_ignored() {
    let context =
        Context::new("FROM parity-base\nCOPY secret /x\n").file(".dockerignore", "secret\n").file("secret", "x");
    assert_error(
        &build(&context),
        1,
        "
error: no such file in the build context: `secret`
 --> ./Dockerfile:2:6
  |
2 | COPY secret /x
  |      ^^^^^^
  |
  = note: the file exists, but .dockerignore leaves it out of the build context
  = help: add `!secret` to .dockerignore",
    );
}

#[test]
fn a_failed_command_shows_its_exit_code_and_output() {
    let context = Context::new("FROM parity-base\nRUN echo first && \\\n    echo last >&2 && \\\n    exit 42\n");
    let text = "
error: the command failed with exit code 42
 --> ./Dockerfile:2:1
  |
2 | RUN echo first && \\
  | ^^^^^^^^^^^^^^^^^^^
  |
  = help: look at what it left with `dram shell --failed`";
    let done = build(&context);
    assert_error(&done, 1, text);
    let before = done.stderr.split("error: ").next().unwrap();
    assert!(before.contains("s | first\n") && before.contains("s | last\n"), "{done}");
    // If progress was quiet, the last lines of the command's output are shown with the error.
    let quiet = build_with(&context, &["--progress", "quiet"]);
    assert_error(&quiet, 1, text);
    assert!(quiet.stderr.starts_with("  | first\n  | last\n"), "{quiet}");
}

#[test]
fn quiet_progress_shows_the_last_lines_of_a_failed_command() {
    let context = Context::new("FROM parity-base\nRUN seq 100; exit 1\n");
    let done = build_with(&context, &["--progress", "quiet"]);
    let shown: Vec<_> = done.lines("  | ").into_iter().map(str::trim).filter(|line| line.len() < 8).collect();
    let expected: Vec<_> = (81..=100).map(|number| format!("| {number}")).collect();
    assert_eq!(shown, expected, "{done}");
}

#[test]
fn exit_code_127_means_that_the_shell_found_no_program() {
    assert_error(
        &build(&Context::new("FROM parity-base\nRUN mix release\n")),
        1,
        "
error: the command failed with exit code 127
 --> ./Dockerfile:2:1
  |
2 | RUN mix release
  | ^^^^^^^^^^^^^^^ the shell did not find a program
  |
  = help: look at what it left with `dram shell --failed`",
    );
}

#[test]
fn a_missing_program_is_reported() {
    assert_error(
        &build(&Context::new("FROM parity-base\nRUN [\"/nowhere\"]\n")),
        1,
        "
error: cannot start `/nowhere`: no such file or directory in the image
 --> ./Dockerfile:2:1
  |
2 | RUN [\"/nowhere\"]
  | ^^^^^^^^^^^^^^^^
  |
  = help: the base image has no such program: choose a base that has, or copy it in",
    );
}

#[test]
fn a_missing_interpreter_is_reported() {
    let context =
        Context::new("FROM parity-base\nCOPY --chmod=755 x /x\nRUN [\"/x\"]\n").file("x", "#!/usr/bin/python3\n");
    assert_error(
        &build(&context),
        1,
        "
error: cannot start `/x`: its interpreter `/usr/bin/python3` is not in the image
 --> ./Dockerfile:3:1
  |
3 | RUN [\"/x\"]
  | ^^^^^^^^^^
  |
  = help: install the interpreter in this stage, or copy it in",
    );
}

/// Returns a program of the host, patched to ask for another loader.
fn program_with_loader(loader: &[u8]) -> Vec<u8> {
    let mut program = fs::read("/bin/true").unwrap();
    let at = program.windows(8).position(|bytes| bytes == b"ld-linux").expect("/bin/true has a loader");
    let start = program[..at].iter().rposition(|byte| *byte == 0).unwrap() + 1;
    let end = at + program[at..].iter().position(|byte| *byte == 0).unwrap();
    program[start..end].fill(0);
    program[start..start + loader.len()].copy_from_slice(loader);
    program
}

#[test]
fn a_program_for_another_libc_is_reported() {
    for (loader, help) in [
        ("/lib/ld-musl-x.so.1", "the program was built for musl (Alpine) and this image has none"),
        ("/lib/ld-linux-x.so.2", "the program was built for glibc (Debian, Fedora …) and this image has none"),
    ] {
        let context = Context::new("FROM parity-base\nCOPY --chmod=755 x /x\nRUN [\"/x\"]\n");
        fs::write(context.join("x"), program_with_loader(loader.as_bytes())).unwrap();
        let done = build(&context);
        assert_eq!(done.code, 1);
        done.says(&format!("error: cannot start `/x`: its interpreter `{loader}` is not in the image")).says(help);
        // With a shell in between, only exit code 127 tells that a program was not found.
        context.write("Dockerfile", "FROM parity-base\nCOPY --chmod=755 x /x\nRUN /x\n");
        let done = build(&context);
        assert_eq!(done.code, 1);
        done.says("exit code 127").says(loader).says(help);
    }
}

#[test]
fn unknown_users_and_groups_are_reported() {
    let context = Context::new("FROM parity-base\nCOPY --chown=nosuch f /\n").file("f", "");
    assert_error(
        &build(&context),
        1,
        "
error: the image has no user `nosuch` in its /etc/passwd
 --> ./Dockerfile:2:6
  |
2 | COPY --chown=nosuch f /
  |      ^^^^^^^^^^^^^^
  |
  = help: make the user in this stage first, or write its number",
    );
    let done = build(&Context::new("FROM parity-base\nCOPY --chown=app:nosuch Dockerfile /\n"));
    assert_eq!(done.code, 1);
    done.says("the image has no group `nosuch` in its /etc/group");
    let done = build(&Context::new("FROM parity-base\nUSER nosuch\nRUN true\n"));
    assert_eq!(done.code, 1);
    done.says("the image has no user `nosuch` in its /etc/passwd").says("./Dockerfile:3:1");
}

#[test]
fn an_unknown_base_image_gets_a_suggestion() {
    let conf = registries_conf().display();
    assert_error(
        &build(&Context::new("FROM party-base\nRUN true\n")),
        1,
        &format!(
            "
error: the store has no image `party-base`
 --> ./Dockerfile:1:6
  |
1 | FROM party-base
  |      ^^^^^^^^^^
  |
  = note: it cannot be fetched: cannot read docker.io/library/party-base:latest: `docker.io` is blocked in {conf}
  = help: did you mean `parity-base:latest`?
  = help: `blocked = true` in {conf} is what forbids it"
        ),
    );
}

#[test]
fn an_unknown_stage_gets_a_suggestion() {
    let dockerfile = "FROM parity-base AS builder\nFROM parity-base\nCOPY --from=bulder /x /x\n";
    let done = build(&Context::new(dockerfile));
    assert_eq!(done.code, 1);
    done.says("error: the store has no image `bulder`").says("./Dockerfile:3:6").says("`builder`?");
    let done = build_with(&Context::new(dockerfile), &["--target", "buidler"]);
    assert_eq!(done.code, 2);
    done.says("error: no stage is named `buidler`").says("did you mean `builder`?");
}

#[test]
fn all_mistyped_words_are_reported_at_once() {
    let done = build(&Context::new("FROM parity-base\nCOPPY a b\nRUN --mont=x true\nCOPY --form=x a b\n"));
    assert_eq!(done.code, 2);
    let errors: Vec<_> = done.lines("error: ");
    assert_eq!(
        errors,
        [
            "error: unknown instruction `COPPY`",
            "error: `RUN` has no flag `--mont`",
            "error: `COPY` has no flag `--form`"
        ]
    );
    done.says("did you mean `COPY`?").says("mount`?").says("from`?").says(":2:1").says(":3:5").says(":4:6");
}

#[test]
fn unsupported_flags_and_urls_are_refused_by_name() {
    for (line, what, at) in [
        ("RUN --device=vendor.com/device=x true", "`RUN --device` is not supported", 5),
        ("COPY http://example.org/x /x", "`COPY` cannot copy from a URL", 6),
    ] {
        let done = build(&Context::new(&format!("FROM parity-base\n{line}\n")));
        assert_eq!(done.code, 2, "{line}\n{done}");
        assert_eq!(done.lines("error: "), [format!("error: {what}")], "{done}");
        done.says(&format!("--> ./Dockerfile:2:{at}\n")).says("= help: ");
    }
}

#[test]
fn a_program_for_another_architecture_is_reported() {
    let context = Context::new("FROM parity-base\nCOPY --chmod=755 prog script /\nRUN [\"/script\"]\n");
    let mut program = std::fs::read("/bin/true").unwrap();
    program[18..20].copy_from_slice(&9999u16.to_le_bytes());
    std::fs::write(context.join("prog"), program).unwrap();
    context.write("script", "#!/prog\n");
    let done = build(&context);
    assert_eq!(done.code, 3, "{done}");
    done.says("error: cannot start `/script`: it is for processor number 9999, and this machine is ")
        .says("./Dockerfile:3:1")
        .says("qemu-user-static");
}

#[test]
fn a_file_where_a_directory_must_go_is_reported() {
    for line in ["COPY Dockerfile /etc/passwd/", "COPY Dockerfile /etc/passwd/x", "WORKDIR /etc/passwd"] {
        let done = build(&Context::new(&format!("FROM parity-base\n{line}\n")));
        assert_eq!(done.code, 1, "{done}");
        done.says("/etc/passwd is a file, and a directory must go there").says("./Dockerfile:2:");
    }
}

#[test]
fn invalid_command_lines_are_refused() {
    let (store, context) = (Store::with_base(), Context::new("FROM parity-base\n"));
    let place = context.path().to_str().unwrap();
    for (words, code, text) in [
        (vec!["biuld"], 2, "a similar subcommand exists: 'build'"),
        (vec!["build"], 2, "<CONTEXT>"),
        (vec!["build", "--no-such", place], 2, "unexpected argument"),
        (vec!["build", "nowhere"], 2, "the build context `nowhere` does not exist"),
        (vec!["build", "-f", "nowhere", place], 2, "there is no Dockerfile at `nowhere`"),
        (vec!["build", "-t", "BAD", place], 2, "`BAD` is not an image name"),
        (vec!["build", "--build-arg", "=x", place], 2, "has no name"),
        (vec!["build", "-"], 2, "there is nothing on standard input"),
        (vec!["run", "parity-bse", "true"], 1, "did you mean `parity-base:latest`?"),
        (vec!["run", "-v", "/tmp", "parity-base", "true"], 2, "SRC:DST"),
        (vec!["run", "-v", "/no/such:/x", "parity-base", "true"], 1, "/no/such"),
        (vec!["run", "parity-base"], 2, "the image says nothing to run"),
        (vec!["tag", "nosuch", "x"], 1, "the store has no image `nosuch`"),
        (vec!["rm", "nosuch"], 1, "the store has no image `nosuch`"),
        (vec!["history", "nosuch"], 1, "the store has no image `nosuch`"),
        (vec!["inspect", "nosuch"], 1, "the store has no image `nosuch`"),
        (vec!["save", "-o", "x.tar", "nosuch"], 1, "the store has no image `nosuch`"),
        (vec!["load", "/etc/passwd"], 1, "no image archive and no OCI layout"),
        (vec!["load", "/no/such"], 1, "/no/such"),
        (vec!["import", "/etc/passwd", "x"], 1, "it is not a tar archive"),
        (vec!["import", "/etc", "x"], 1, "is a directory, not a tar"),
        (vec!["import", "/no/such", "x"], 1, "/no/such"),
    ] {
        let done = store.dram([]).args(&words).fails(code).says(text);
        assert_eq!(done.stdout, "", "{done}");
    }
    let names: Vec<_> = crate::support::names(store.path().parent().unwrap());
    assert_eq!(names, ["store"], "a failed `save` leaves nothing behind");
}

#[test]
fn a_store_of_an_unknown_version_is_refused() {
    let store = Store::with_base();
    fs::write(store.join("version"), "99\n").unwrap();
    store.dram(["images"]).fails(1).says("has version `99`").says("--store");
}

#[test]
fn a_store_that_cannot_be_created_is_reported() {
    let (store, place) = (Store::empty(), temp());
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    store.dram(["images", "--store"]).arg(file.join("below")).fails(1).says("file/below");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let done = build(&Context::new("FROM parity-base\nRUN printf 'a\\033[31mb\\007c\\n'; exit 3 # \u{1b}[2J\n"));
    assert_eq!(done.code, 1);
    assert!(!done.stderr.contains(['\u{1b}', '\u{7}']), "{done}");
}

/// The kernel ends a process that writes more than `ulimit -f` allows, without a word, unless it handles the signal.
#[test]
fn a_limit_on_the_size_of_files_is_named_and_commands_get_it() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY large /large\n").file("large", &"x".repeat(200_000));
    let limited = |words: &str| {
        let command = format!("ulimit -f 64; exec {} {words}", crate::support::dram_path().display());
        crate::support::tool("sh").args(["-c", &command]).env("DRAM_STORE", store.path()).dir(context.path())
    };
    limited("build -t demo .").fails(1).says("`ulimit -f unlimited`");
    limited("save -o out.tar parity-base").fails(1).says("`ulimit -f unlimited`");
    limited("build -o out .").fails(1).says("`ulimit -f unlimited`");
    store.dram(["fsck"]).ok();
    // The default action of the signal is the command's: it is killed by it.
    let script = "head -c 100000 /dev/zero > /tmp/zero; echo $?";
    let command = format!(
        "{} run parity-base true && ulimit -f 1000 && exec {} run parity-base sh -c 'ulimit -f 8; {script}'",
        crate::support::dram_path().display(),
        crate::support::dram_path().display(),
    );
    let done = crate::support::tool("sh").args(["-c", &command]).env("DRAM_STORE", store.path()).ok();
    assert_eq!(done.stdout, "153\n", "{done}");
}

#[test]
fn progress_bars_and_colours_of_commands_are_shown_as_lines() {
    let script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); printf \"$i%%\\r\"; done; printf 'all\\n\\033[31mred\\033[0m\\r\\n'";
    let context = Context::new(&format!("FROM parity-base\nRUN {script}; echo last; exit 3\n"));
    let done = build_with(&context, &["--progress=plain"]);
    let shown = done.stderr.lines().filter(|line| line.contains("s | ")).collect::<Vec<_>>();
    assert!(shown.len() < 20 && shown[0].ends_with("| 1%"), "{done}");
    let ends = |text: &str| shown.iter().any(|line| line.ends_with(&format!("| {text}")));
    assert!(ends("all") && ends("red") && ends("last"), "{done}");
    assert!(!shown.iter().any(|line| line.contains('\\')), "{done}");
    // With a terminal as standard error, which `script` gives it.
    let (store, place) = (Store::with_base(), context.path().display().to_string());
    let line = format!("{} build --progress=plain {place}", crate::support::dram_path().display());
    let terminal =
        crate::support::tool("script").args(["-qec", &line, "/dev/null"]).env("DRAM_STORE", store.path()).end();
    assert!(terminal.stdout.contains("\u{1b}[31mred\u{1b}[0m"), "{terminal}");
}
