//! Portable releases in images without libraries, shell and Erlang, and in images with another libc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::release::Project;
use crate::support::{Context, Store, tool, valid_image, wait_until};

/// Timeout for the start of a release.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a store with the image `release` built from `dockerfile`; the context contains the portable release of a
/// project and musl's libc.
fn release_image(project: &Project, name: &str, dockerfile: &str) -> Store {
    let store = if dockerfile.contains("FROM scratch") { Store::empty() } else { Store::with_base() };
    let context = Context::new(dockerfile);
    project.dram().args(["--portable", "--name", name, "--output"]).arg(context.join("release")).ok();
    let libc = ["x86_64", "aarch64"].map(|arch| (arch, format!("/lib/ld-musl-{arch}.so.1")));
    let libc = libc.iter().find(|(_, path)| Path::new(path).exists());
    let (arch, path) = libc.expect("musl is missing: run scripts/install-needs.sh test");
    fs::copy(path, context.join(&format!("ld-musl-{arch}.so.1"))).unwrap();
    store.build(&context).args(["-t", "release:latest"]).ok().does_not_say("warning");
    valid_image(&store, "release:latest");
    store
}

/// Runs the image until it prints READY, ends it with SIGTERM, and returns its output.
#[track_caller]
fn run_until_ready(store: &Store, options: &[&str]) -> String {
    let log = store.join("said");
    let _ = fs::remove_file(&log);
    let dram =
        store.dram(["run"]).args(options).arg("release").run_under("sh", &["-c", r#"exec "$0" "$@" >"$LOG" 2>&1"#]);
    let started = dram.env("LOG", &log).start();
    let said = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("the release says READY", START_TIMEOUT, || said().contains("READY"));
    started.signal("TERM");
    let done = started.end();
    assert_eq!(done.code, 0, "{done}\n{}", said());
    said()
}

const SCRATCH: &str = "FROM scratch\nCOPY release /app\nENTRYPOINT [\"/app/bin/nif\"]\nCMD [\"foreground\"]\n";

#[test]
fn a_portable_release_with_a_nif_and_a_program_runs_on_scratch() {
    let project = Project::copy("nif");
    let store = release_image(&project, "nif", SCRATCH);
    // The cube root of 8 comes from the NIF, the word from the program.
    for mode in ["embedded", "interactive"] {
        let mode = format!("RELEASE_MODE={mode}");
        let said = run_until_ready(&store, &["-e", &mode]);
        assert!(said.contains("READY 2.0 ") && said.contains("hello"), "{said}");
    }
    let said = store.dram(["run", "release", "eval", "IO.puts(Nif.cbrt(27.0))"]).ok();
    assert!(said.stdout.starts_with("3.0"), "{said}");
    let version = store.dram(["run", "release", "version"]).ok();
    assert_eq!(version.stdout, "nif 0.3.0\n", "{version}");
}

#[test]
fn a_portable_release_runs_on_a_musl_image() {
    let dockerfile = "FROM parity-base\nCOPY ld-musl-*.so.1 /lib/\nCOPY release /app\n\
                      ENTRYPOINT [\"/app/bin/nif\"]\nCMD [\"foreground\"]\n";
    let project = Project::copy("nif");
    let store = release_image(&project, "nif", dockerfile);
    let said = run_until_ready(&store, &[]);
    assert!(said.contains("READY 2.0 ") && said.contains("hello"), "{said}");
    // Programs of the image are started by the release with their own libraries, not those of the release.
    let said = store.dram(["run", "release", "eval", r#"IO.puts(:os.cmd(~c"echo shell $((6*7))"))"#]).ok();
    assert!(said.stdout.contains("shell 42"), "{said}");
}

#[test]
fn distribution_and_name_lookup_work_on_scratch() {
    let project = Project::copy("small");
    let store = release_image(&project, "small", &SCRATCH.replace("nif", "small"));
    let dir = store.join("tmp");
    fs::create_dir_all(&dir).unwrap();
    let (log, port) = (store.join("said"), crate::release::free_port().to_string());
    let volume = format!("{}:/run/small", dir.display());
    let port = format!("ERL_EPMD_PORT={port}");
    let surroundings = ["-v", &volume, "-e", "RELEASE_TMP=/run/small", "-e", &port, "-e", "RELEASE_COOKIE=secret"];
    let named = ["-e", "RELEASE_DISTRIBUTION=name", "-e", "RELEASE_NODE=small@127.0.0.1"];
    let dram = store.dram(["run"]).args(surroundings).args(named).arg("release");
    let started = dram.run_under("sh", &["-c", r#"exec "$0" "$@" >"$LOG" 2>&1"#]).env("LOG", &log).start();
    wait_until("the release says READY", START_TIMEOUT, || {
        fs::read_to_string(&log).unwrap_or_default().contains("READY")
    });
    let says = |words: &[&str]| store.dram(["run"]).args(surroundings).args(named).arg("release").args(words).end();
    let answer = says(&["rpc", "IO.puts(6 * 7)"]);
    assert!(answer.code == 0 && answer.stdout.contains("42"), "{answer}");
    // The emulator starts a helper program for name lookups.
    let answer = says(&["rpc", r#"IO.inspect(:inet.getaddr(~c"localhost", :inet))"#]);
    assert!(answer.stdout.contains("127, 0, 0, 1"), "{answer}");
    let answer = says(&["stop"]);
    assert_eq!(answer.code, 0, "{answer}");
    let done = started.end();
    assert_eq!(done.code, 0, "{done}\n{}", fs::read_to_string(&log).unwrap_or_default());
    // epmd ends with the container that started it.
    assert!(tool("pgrep").args(["-f", &port]).end().code != 0);
}

#[test]
fn requires_lists_libraries_and_a_portable_release_needs_none() {
    let project = Project::copy("nif");
    let needs = project.dram().args(["--requires", "--json"]).ok().stdout;
    let needs: serde_json::Value = serde_json::from_str(&needs).unwrap();
    let of_libm = needs["libraries"]["libm.so.6"].to_string();
    assert!(of_libm.contains("priv/nif.so") && of_libm.contains("beam.smp"), "{needs}");
    assert!(needs["versions"]["libc.so.6"].to_string().contains("GLIBC_2."), "{needs}");
    let text = project.dram().args(["--requires"]).ok().stdout;
    assert!(text.contains("libm.so.6 with GLIBC_2.") && text.contains("with --portable"), "{text}");
    // Every program with a dynamic loader is a link to the start program, except those that it starts itself.
    let release = project.beside("release");
    project.dram().args(["--portable", "--no-tar", "--output"]).arg(&release).ok();
    for (path, what) in crate::release::tree(&release) {
        let is_aside = path.contains("/.elf/") || path.ends_with("/beam.smp") || path.contains("/lib/");
        if !is_aside && path.starts_with("erts-") {
            assert!(what.starts_with("a link to ../../bin/nif"), "{path}: {what}");
        }
    }
}

#[test]
fn a_health_check_that_needs_the_missing_node_name_is_told_by_the_release_and_the_build() {
    let project = Project::copy("small");
    let store = Store::empty();
    let health = "FROM scratch\nCOPY release /app\nENTRYPOINT [\"/app/bin/small\"]\nCMD [\"foreground\"]\n\
                  HEALTHCHECK CMD [\"/app/bin/small\", \"rpc\", \"1\"]\n";
    let context = Context::new(health);
    let release = || project.dram().args(["--no-tar", "--output"]).arg(context.join("release")).ok();
    let build = || store.build(&context).args(["-t", "health:latest"]).ok();
    let (told, warning) = (
        "the node has no name, which `bin/small rpc`",
        "the HEALTHCHECK of the image always fails: `/app/bin/small rpc` needs a node name",
    );
    let said = release();
    assert!(said.stderr.contains(told), "{said}");
    let said = build();
    assert!(said.stderr.contains(warning) && said.stderr.contains("ENV RELEASE_DISTRIBUTION=sname"), "{said}");
    // A name in the image, or in the release, is one.
    fs::write(context.join("Dockerfile"), format!("{health}ENV RELEASE_NODE=small\n")).unwrap();
    let said = build();
    assert!(!said.stderr.contains(warning), "{said}");
    fs::write(context.join("Dockerfile"), health).unwrap();
    project.write("dram.toml", "[release]\ndistribution = 'none'\n");
    let said = release();
    assert!(!said.stderr.contains(told), "{said}");
    assert!(build().stderr.contains(warning), "it fails, whether it is intended or not");
    project.write("dram.toml", "[release]\n");
    project.write("rel/env.sh.eex", "export RELEASE_NODE=small\n");
    let said = release();
    assert!(!said.stderr.contains(told), "{said}");
    let said = build();
    assert!(!said.stderr.contains(warning), "{said}");
    valid_image(&store, "health:latest");
}
