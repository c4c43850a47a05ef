//! The end of a build warns of exactly those images whose commands do not start: each image is built and run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Context, Store, temp, tool, valid_image};

/// Compiles `code` to `out`.
fn compile(out: &Path, code: &str, options: &[&str]) {
    let source = out.with_extension("c");
    fs::write(&source, code).unwrap();
    tool("gcc").arg(&source).arg("-o").arg(out).args(options).dir(out.parent().unwrap()).ok();
}

/// Returns a directory with programs that all end with 0, their libraries, and loaders of this machine.
fn programs() -> tempfile::TempDir {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    let arch = std::env::consts::ARCH;
    let main = "int main(void) { return 0; }";
    let uses_x = "int x(void); int main(void) { return x(); }";
    compile(&at("static"), main, &["-static"]);
    compile(&at("dynamic"), main, &[]);
    fs::write(at("old.map"), "X_1 { global: x; };").unwrap();
    fs::write(at("new.map"), "X_1 { }; X_2 { global: x; } X_1;").unwrap();
    for version in ["old", "new"] {
        fs::create_dir(at(version)).unwrap();
        let script = format!("-Wl,--version-script={version}.map");
        let library = at("libx.so");
        compile(&library, "int x(void) { return 0; }", &["-shared", "-fPIC", "-Wl,-soname,libx.so", &script]);
        fs::rename(library, at(version).join("libx.so")).unwrap();
    }
    compile(&at("uses-x"), uses_x, &["-Lnew", "-l:libx.so"]);
    compile(&at("uses-x-origin"), uses_x, &["-Lnew", "-l:libx.so", "-Wl,-rpath,$ORIGIN/lib"]);
    let musl = format!("/lib/ld-musl-{arch}.so.1");
    let linker = format!("-Wl,--dynamic-linker={musl}");
    let start = "void _exit(int); void _start(void) { _exit(0); }";
    fs::copy(&musl, at("ld-musl")).unwrap();
    fs::copy(&musl, at("libc.so")).unwrap();
    let options = ["-nostdlib", "-nostartfiles", "-fno-stack-protector", "-L.", "-l:libc.so", &linker];
    compile(&at("musl"), start, &options);
    // The processor is the half word at 18.
    let mut foreign = fs::read(at("static")).unwrap();
    foreign[18..20].copy_from_slice(&(if arch == "x86_64" { 183_u16 } else { 62 }).to_le_bytes());
    fs::write(at("foreign"), foreign).unwrap();
    for (name, link) in
        [("loader", format!("/lib64/ld-linux-{}.so.2", arch.replace('_', "-"))), ("libc.so.6", String::new())]
    {
        let find = format!(
            "ldd dynamic | grep -o '/[^ ]*{}[^ ]*' | head -1",
            if link.is_empty() { "libc.so.6" } else { "ld-linux" }
        );
        let path = tool("sh").args(["-c", &find]).dir(dir.path()).ok().stdout;
        fs::copy(path.trim(), at(name)).unwrap();
    }
    fs::set_permissions(at("libc.so.6"), fs::Permissions::from_mode(0o644)).unwrap();
    for name in ["static", "dynamic", "uses-x", "uses-x-origin", "musl", "foreign", "loader", "ld-musl"] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

#[test]
fn a_build_warns_of_exactly_the_images_whose_command_does_not_start() {
    let programs = programs();
    let arch = std::env::consts::ARCH;
    let interpreter = tool("sh")
        .args(["-c", "grep -ao '/lib[^ ]*/ld-linux[-a-z0-9_.]*' dynamic | head -1"])
        .dir(programs.path())
        .ok();
    let glibc = format!("COPY loader {}\nCOPY libc.so.6 /lib/{arch}-linux-gnu/\n", interpreter.stdout.trim());
    let musl = format!("COPY ld-musl /lib/ld-musl-{arch}.so.1\n");
    let scratch = |rest: &str| format!("FROM scratch\n{rest}\n");
    let base = |rest: &str| format!("FROM parity-base:1\n{rest}\n");
    let on_glibc = |rest: &str| format!("FROM scratch\n{glibc}{rest}\n");
    let on_musl = |rest: &str| format!("FROM scratch\n{musl}{rest}\n");
    let script = |text: &str| base(&format!("COPY --chmod=755 <<'E' /go\n{text}\nE\nENTRYPOINT [\"/go\"]"));
    // The Dockerfile, and whether the image runs.
    let rows = [
        (scratch("COPY static /\nENTRYPOINT [\"/static\"]"), true),
        (scratch("COPY static /\nCMD [\"/static\"]"), true),
        (scratch("COPY static /usr/bin/\nCMD [\"static\"]"), true),
        (scratch("COPY static /a/\nWORKDIR /a\nCMD [\"./static\"]"), true),
        (scratch("COPY static /\nCMD /static"), false),
        (scratch("COPY static /\nENTRYPOINT [\"/nope\"]"), false),
        (scratch("COPY static /\nCMD [\"/static -x\"]"), false),
        (scratch("COPY --chmod=644 static /\nCMD [\"/static\"]"), false),
        (scratch("COPY foreign /\nENTRYPOINT [\"/foreign\"]"), false),
        (scratch("COPY dynamic /\nENTRYPOINT [\"/dynamic\"]"), false),
        (on_glibc("COPY dynamic /\nENTRYPOINT [\"/dynamic\"]"), true),
        (on_musl("COPY dynamic /\nENTRYPOINT [\"/dynamic\"]"), false),
        (on_musl("COPY musl /\nENTRYPOINT [\"/musl\"]"), true),
        (on_glibc("COPY musl /\nENTRYPOINT [\"/musl\"]"), false),
        (on_glibc("COPY uses-x /\nENTRYPOINT [\"/uses-x\"]"), false),
        (on_glibc("COPY uses-x /\nCOPY new/libx.so /usr/lib/\nENTRYPOINT [\"/uses-x\"]"), true),
        (on_glibc("COPY uses-x /\nCOPY new/libx.so /usr/local/lib/\nENTRYPOINT [\"/uses-x\"]"), false),
        (on_glibc("COPY uses-x /\nCOPY new/libx.so /x/\nENV LD_LIBRARY_PATH=/x\nENTRYPOINT [\"/uses-x\"]"), true),
        (on_glibc("COPY uses-x /\nCOPY old/libx.so /usr/lib/\nENTRYPOINT [\"/uses-x\"]"), false),
        (on_glibc("COPY uses-x-origin /\nCOPY new/libx.so /lib/\nENTRYPOINT [\"/uses-x-origin\"]"), true),
        (on_glibc("COPY uses-x-origin /a/\nCOPY new/libx.so /a/lib/\nENTRYPOINT [\"/a/uses-x-origin\"]"), true),
        (base("CMD true"), true),
        (base("CMD [\"true\"]"), true),
        (base("CMD nope"), false),
        (base("CMD [\"nope\"]"), false),
        (base("CMD [\"/bin\"]"), false),
        (script("#!/bin/sh\ntrue"), true),
        (script("#! /bin/sh -e\ntrue"), true),
        (script("#!/bin/bash\ntrue"), false),
        (script("#!/bin/sh\r\ntrue\r"), false),
        (script("true"), false),
        (script("#!\ntrue"), false),
        (script("#!/usr/bin/env nope\ntrue"), false),
        (script("#!/bin/sh\ntrue").replace("755", "644"), false),
        (script("#!/bin/sh\ntrue").replace("755", "700").replace("ENTRY", "USER 4242\nENTRY"), false),
        (script("#!/bin/sh\ntrue").replace("ENTRY", "USER 4242\nENTRY"), true),
        (script("#!/bin/sh\ntrue").replace("ENTRY", "USER nobody-here\nENTRY"), false),
        (script("#!/bin/sh\ntrue").replace("ENTRY", "RUN ln -s /go /link\nENTRY").replace("[\"/go", "[\"/link"), true),
    ];
    let store = Store::with_base();
    store.dram(["tag", "parity-base", "parity-base:1"]).ok();
    let context = Context::new("");
    tool("cp").args(["-a", "."]).arg(context.path()).dir(programs.path()).ok();
    for (dockerfile, runs) in &rows {
        context.write("Dockerfile", dockerfile);
        let built = store.build(&context).ok();
        let warns = built.stderr.contains(" of the image ");
        let ran = store.dram(["run", "demo"]).end();
        assert_eq!(ran.code == 0, *runs, "it runs as expected:\n{dockerfile}\n{ran}");
        assert_eq!(warns, !runs, "the build tells the truth:\n{dockerfile}\n{built}\n{ran}");
    }
    valid_image(&store, "demo:latest");
}

#[test]
fn a_command_that_does_not_start_is_shown_with_its_line() {
    let context = Context::new("FROM scratch AS a\nENTRYPOINT [\"/app/sevrer\"]\nFROM a\nCOPY server /app/\n");
    let store = Store::empty();
    let done = store.build(&context.file("server", "")).ok();
    let expected = "\
2 | ENTRYPOINT [\"/app/sevrer\"]
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `server`?
";
    let done = done.says("warning: the ENTRYPOINT of the image does not start: `/app/sevrer` is not in the image\n");
    done.says("Dockerfile:2:1\n").says(expected);
    valid_image(&store, "demo:latest");
}
