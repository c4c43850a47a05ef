//! Verdicts about images: one row for each kind of image, those that run and those that do not.

use dram_store::MergedTree;

use super::check_commands;
use super::crafted_elf::CraftedElf;
use super::crafted_image::{CraftedImage, GLIBC_LOADER, MUSL_LOADER, glibc_program, image, musl_program, with_search};
use super::library_cache::write_library_cache;

/// A row: the name of the image, the image, and the verdict; nothing for an image that runs.
type VerdictRow<'a> = (&'static str, CraftedImage, &'a str);

fn check_rows(rows: Vec<VerdictRow<'_>>) {
    for (name, image, expected) in rows {
        let found = image.verdict();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn programs_are_found_as_the_runtime_finds_them() {
    let app = || image().program("/usr/local/bin/app");
    check_rows(vec![
        ("no command", image(), ""),
        ("static program", app().entry(&["/usr/local/bin/app"]), ""),
        ("missing", image().entry(&["/nope"]), "ENTRYPOINT: `/nope` is not in the image"),
        ("missing command", image().cmd(&["/nope"]), "CMD: `/nope` is not in the image"),
        ("arguments are not looked at", app().entry(&["app"]).cmd(&["/nope"]), ""),
        ("in PATH", app().cmd(&["app", "-x"]), ""),
        ("not in PATH", app().cmd(&["ap"]), "CMD: `ap` is in no directory of `PATH`"),
        ("other PATH", app().env("PATH", "/bin").cmd(&["app"]), "CMD: `app` is in no directory of `PATH`"),
        ("PATH of the image", image().program("/opt/x/app").env("PATH", "/opt/x").cmd(&["app"]), ""),
        (
            "no PATH at all",
            {
                let mut one = app().cmd(&["app"]);
                one.config.config.env.clear();
                one
            },
            "",
        ),
        ("relative to the working directory", image().program("/srv/run").workdir("/srv").entry(&["./run"]), ""),
        (
            "relative elsewhere",
            image().program("/srv/run").entry(&["./run"]),
            "ENTRYPOINT: `/./run` is not in the image",
        ),
        ("below the working directory", image().program("/srv/bin/run").workdir("/srv").cmd(&["bin/run"]), ""),
        ("empty PATH entry", image().program("/srv/run").workdir("/srv").env("PATH", "/bin:").cmd(&["run"]), ""),
        ("symbolic link", app().link("/run", "usr/local/bin/app").entry(&["/run"]), ""),
        ("absolute symbolic link", app().link("/run", "/usr/local/bin/app").entry(&["/run"]), ""),
        ("link of a directory", image().program("/usr/bin/app").link("/bin", "usr/bin").entry(&["/bin/app"]), ""),
        ("link out of the root", app().link("/run", "../../../usr/local/bin/app").entry(&["/run"]), ""),
        ("dangling link", image().link("/run", "/nope").entry(&["/run"]), "ENTRYPOINT: `/run` is not in the image"),
        (
            "loop of links",
            image().link("/a", "b").link("/b", "a").entry(&["/a"]),
            "ENTRYPOINT: `/a` is not in the image",
        ),
        ("a directory", image().dir("/run", 0o755).entry(&["/run"]), "ENTRYPOINT: `/run` is a directory"),
        ("PATH passes over directories", app().dir("/usr/bin/app", 0o755).cmd(&["app"]), ""),
        (
            "PATH passes over files that are not executable",
            image().file("/usr/local/bin/app", 0o644, "").program("/usr/bin/app").cmd(&["app"]),
            "",
        ),
        ("below a volume", image().volume("/data").entry(&["/data/run"]), ""),
        ("made by the kernel", image().entry(&["/proc/self/exe"]), ""),
        ("empty word", image().entry(&[""]), "ENTRYPOINT: its first word is empty"),
        (
            "one word",
            app().entry(&["/usr/local/bin/app -x"]),
            "ENTRYPOINT: `/usr/local/bin/app -x` is not in the image",
        ),
        ("a variable", app().env("A", "/app").entry(&["$A/run"]), "ENTRYPOINT: `/$A/run` is not in the image"),
        (
            "not Linux",
            {
                let mut one = image().cmd(&["cmd"]);
                one.config.os = "windows".into();
                one
            },
            "",
        ),
    ]);
}

#[test]
fn permissions_are_those_of_the_user() {
    let private = |mode| image().shell().file("/run", mode, "#!/bin/sh\n").entry(&["/run"]);
    let refused = |mode: &str| format!("ENTRYPOINT: the user of the image may not execute `/run`: its mode is {mode}");
    let other = "4242:4243";
    check_rows(vec![
        ("mode 0644", private(0o644), "ENTRYPOINT: `/run` is not executable: its mode is 0644"),
        (
            "mode 0644 of a program",
            image().file("/a", 0o644, "").cmd(&["/a"]),
            "CMD: `/a` is not executable: its mode is 0644",
        ),
        ("root may execute what anybody may", private(0o700), ""),
        ("another user", private(0o700).user(other), &refused("0700")),
        ("any user", private(0o755).user(other), ""),
        (
            "a script that cannot be read",
            private(0o711).user(other),
            "ENTRYPOINT: the user of the image cannot read `/run`, whose mode is 0711",
        ),
        (
            "a program that cannot be read",
            image().program("/x").file("/y", 0o711, CraftedElf::default().bytes()).entry(&["/y"]).user(other),
            "",
        ),
        (
            "a closed directory",
            image().program("/root/run").dir("/root", 0o700).entry(&["/root/run"]).user(other),
            "ENTRYPOINT: the user of the image may not enter a directory of `/root/run`, whose mode is 0700",
        ),
        ("unknown user", private(0o755).user("nobody"), "USER: the image has no user `nobody` in its /etc/passwd"),
        ("known user", private(0o755).file("/etc/passwd", 0o644, "app:x:4242:4243::/:/bin/sh\n").user("app"), ""),
    ]);
}

#[test]
fn scripts_need_their_interpreters() {
    let script = |text: &str| image().script("/run", text).entry(&["/run"]);
    let carriage =
        "ENTRYPOINT: the lines of `/run` end with a carriage return, which becomes a part of the interpreter's name";
    check_rows(vec![
        ("shell", script("#!/bin/sh\n").shell(), ""),
        (
            "no shell",
            script("#!/bin/sh\nexec ./app\n"),
            "ENTRYPOINT: `/run` needs `/bin/sh`, which is not in the image",
        ),
        ("no bash", script("#!/bin/bash\n").shell(), "ENTRYPOINT: `/run` needs `/bin/bash`, which is not in the image"),
        ("blanks and an argument", script("#! \t/bin/sh  -e \n").shell(), ""),
        ("without a line end", script("#!/bin/sh").shell(), ""),
        ("carriage return", script("#!/bin/sh\r\necho\r\n").shell(), carriage),
        ("carriage return in the argument", script("#!/bin/sh -e\r\n").shell(), carriage),
        ("carriage return behind env", script("#!/usr/bin/env sh\r\n").shell().program("/usr/bin/env"), carriage),
        ("env", script("#!/usr/bin/env sh\n").shell().program("/usr/bin/env"), ""),
        (
            "env without its program",
            script("#!/usr/bin/env bash\n").shell().program("/usr/bin/env"),
            "ENTRYPOINT: `bash` is in no directory of `PATH`",
        ),
        ("env -S", script("#!/usr/bin/env -S A=1 sh -e\n").shell().program("/usr/bin/env"), ""),
        (
            "env -S without its program",
            script("#!/usr/bin/env -S node --x\n").program("/usr/bin/env"),
            "ENTRYPOINT: `node` is in no directory of `PATH`",
        ),
        (
            "no env",
            script("#!/usr/bin/env sh\n").shell(),
            "ENTRYPOINT: `/run` needs `/usr/bin/env`, which is not in the image",
        ),
        ("an interpreter that is a script", script("#!/one\n").script("/one", "#!/bin/sh\n").shell(), ""),
        (
            "an interpreter that is a script without its own",
            script("#!/one\n").script("/one", "#!/two\n"),
            "ENTRYPOINT: `/one` needs `/two`, which is not in the image",
        ),
        (
            "five scripts",
            script("#!/1\n")
                .script("/1", "#!/2\n")
                .script("/2", "#!/3\n")
                .script("/3", "#!/4\n")
                .script("/4", "#!/bin/sh\n")
                .shell(),
            "",
        ),
        (
            "six scripts",
            script("#!/1\n")
                .script("/1", "#!/2\n")
                .script("/2", "#!/3\n")
                .script("/3", "#!/4\n")
                .script("/4", "#!/5\n")
                .script("/5", "#!/bin/sh\n")
                .shell(),
            "ENTRYPOINT: too many scripts interpret each other, the last is `/bin/sh`",
        ),
        (
            "an interpreter that is not executable",
            script("#!/one\n").file("/one", 0o644, "x"),
            "ENTRYPOINT: `/one` is not executable: its mode is 0644",
        ),
        ("a relative interpreter", script("#!sh\n").workdir("/bin").shell(), ""),
        (
            "a relative interpreter elsewhere",
            script("#!sh\n").shell(),
            "ENTRYPOINT: `/run` needs `sh`, which is not in the image",
        ),
        ("nothing behind #!", script("#!\n"), "ENTRYPOINT: the first line of `/run` names no interpreter"),
        (
            "no first line",
            script("echo\n").shell(),
            "ENTRYPOINT: `/run` is neither a program for Linux nor a script that begins with `#!`",
        ),
        ("empty", script("").shell(), "ENTRYPOINT: `/run` is an empty file"),
        (
            "byte order mark",
            script("\u{feff}#!/bin/sh\n").shell(),
            "ENTRYPOINT: `/run` is a script with a byte order mark before `#!`, so it is not known as a script",
        ),
        (
            "a line before #!",
            script("\n#!/bin/sh\n").shell(),
            "ENTRYPOINT: `/run` is a script whose `#!` is not at its very beginning",
        ),
        ("a program for Windows", script("MZ..").shell(), "ENTRYPOINT: `/run` is a program for Windows, not for Linux"),
    ]);
}

#[test]
fn words_behind_shells_and_wrappers_are_commands() {
    let missing = "`/app` is not in the image";
    let shell = |script| image().shell().cmd(&["/bin/sh", "-c", script]);
    check_rows(vec![
        (
            "shell form without a shell",
            image().program("/app").cmd(&["/bin/sh", "-c", "/app"]),
            "CMD: `/bin/sh` is not in the image",
        ),
        ("shell form", shell("/app").program("/app"), ""),
        ("shell form without the program", shell("exec /app --x"), &format!("CMD: {missing}")),
        ("a builtin", shell("echo a"), ""),
        ("something else makes up for it", shell("/app || /other"), ""),
        ("a text without #! in a shell", shell("/app").script("/app", "echo\n"), ""),
        ("tini", image().program("/sbin/tini").program("/app").entry(&["/sbin/tini", "--"]).cmd(&["/app"]), ""),
        (
            "tini without the command",
            image().program("/sbin/tini").entry(&["/sbin/tini", "--"]).cmd(&["/app"]),
            &format!("CMD: {missing}"),
        ),
        (
            "a wrapper with an unknown option",
            image().program("/sbin/tini").entry(&["/sbin/tini", "-p", "TERM", "/app"]),
            "",
        ),
        ("health check", image().program("/a").health(&["CMD", "/a"]), ""),
        ("health check without its program", image().health(&["CMD", "/app"]), &format!("HEALTHCHECK: {missing}")),
        ("no health check", image().health(&["NONE"]), ""),
        (
            "health check in a shell that lacks the program",
            image().shell().health(&["CMD-SHELL", "curl -f http://localhost/ || exit 1"]),
            "HEALTHCHECK: `curl` is in no directory of `PATH`",
        ),
        (
            "health check without a shell",
            image().health(&["CMD-SHELL", "true"]),
            "HEALTHCHECK: `/bin/sh` is not in the image",
        ),
        (
            "a program in busybox",
            image()
                .file("/bin/busybox", 0o755, [CraftedElf::default().bytes(), b"\0wget\0".to_vec()].concat())
                .link("/bin/sh", "busybox")
                .health(&["CMD-SHELL", "wget -q http://localhost/"]),
            "",
        ),
        (
            "a program that busybox does not have",
            image()
                .file("/bin/busybox", 0o755, [CraftedElf::default().bytes(), b"\0wget\0".to_vec()].concat())
                .link("/bin/sh", "busybox")
                .health(&["CMD-SHELL", "curl -f x"]),
            "HEALTHCHECK: `curl` is in no directory of `PATH`",
        ),
    ]);
}

#[test]
fn programs_need_a_processor_and_a_loader() {
    let arm = CraftedElf { machine: 183, ..CraftedElf::default() };
    let app = |elf: &CraftedElf| image().elf("/app", elf).entry(&["/app"]);
    let other = "ENTRYPOINT: `/app` is a program for aarch64, and the image is for amd64";
    check_rows(vec![
        ("another processor", app(&arm), other),
        ("an image for that processor", app(&arm).arch("arm64"), ""),
        ("a processor that nothing is known of", app(&arm).arch("vax"), ""),
        ("32 bits", app(&CraftedElf { machine: 3, ..CraftedElf::default() }), ""),
        (
            "an object file",
            app(&CraftedElf { file_type: 1, ..CraftedElf::default() }),
            "ENTRYPOINT: `/app` is an object file, not a program",
        ),
        (
            "the beginning of a program",
            image().file("/app", 0o755, b"\x7fELF\x02\x01").entry(&["/app"]),
            "ENTRYPOINT: `/app` is only the beginning of a program",
        ),
        (
            "an interpreter for another processor",
            image().script("/run", "#!/app\n").elf("/app", &arm).entry(&["/run"]),
            other,
        ),
        ("glibc", app(&glibc_program(&[])).glibc(), ""),
        (
            "glibc program without glibc",
            app(&glibc_program(&[])).musl(),
            "ENTRYPOINT: `/app` needs the loader `/lib64/ld-linux-x86-64.so.2`, which is not in the image",
        ),
        ("musl", app(&musl_program(&[])).musl(), ""),
        (
            "musl program without musl",
            app(&musl_program(&[])).glibc(),
            "ENTRYPOINT: `/app` needs the loader `/lib/ld-musl-x86_64.so.1`, which is not in the image",
        ),
        (
            "a loader that is not executable",
            app(&musl_program(&[])).file(MUSL_LOADER, 0o644, CraftedElf::default().bytes()),
            "ENTRYPOINT: `/lib/ld-musl-x86_64.so.1` is not executable: its mode is 0644",
        ),
        ("a loader of no known kind", app(&glibc_program(&["libx.so"])).elf(GLIBC_LOADER, &CraftedElf::default()), ""),
        ("static program with a dynamic section", app(&CraftedElf { needed: vec![], ..CraftedElf::default() }), ""),
    ]);
}

#[test]
fn libraries_are_searched_as_the_loader_does() {
    let missing = "ENTRYPOINT: `/opt/app/bin/app` needs the library `libx.so.1`, which the loader does not find";
    let glibc = |elf: CraftedElf| image().glibc().elf("/opt/app/bin/app", &elf).entry(&["/opt/app/bin/app"]);
    let musl = |elf: CraftedElf| image().musl().elf("/opt/app/bin/app", &elf).entry(&["/opt/app/bin/app"]);
    let needs_x = || glibc_program(&["libx.so.1"]);
    let origin = Some("$ORIGIN/../lib");
    let chain = CraftedElf { needed: vec!["liby.so.1"], ..CraftedElf::default() };
    let arm = CraftedElf { machine: 183, ..CraftedElf::default() };
    check_rows(vec![
        ("missing", glibc(needs_x()), missing),
        ("default directory", glibc(needs_x()).library("/usr/lib/libx.so.1"), ""),
        ("multiarch directory", glibc(needs_x()).library("/usr/lib/x86_64-linux-gnu/libx.so.1"), ""),
        ("newer processors", glibc(needs_x()).library("/usr/lib/glibc-hwcaps/x86-64-v3/libx.so.1"), ""),
        ("not a directory of Debian's loader", glibc(needs_x()).library("/lib64/libx.so.1"), missing),
        (
            "local directory without ldconfig",
            glibc(needs_x()).library("/usr/local/lib/libx.so.1").file("/etc/ld.so.conf", 0o644, "/usr/local/lib\n"),
            missing,
        ),
        (
            "local directory with ldconfig",
            glibc(needs_x()).library("/usr/local/lib/libx.so.1").file(
                "/etc/ld.so.cache",
                0o644,
                write_library_cache(&[("libx.so.1", "/usr/local/lib/libx.so.1")]),
            ),
            "",
        ),
        (
            "a cache that is out of date",
            glibc(needs_x()).file(
                "/etc/ld.so.cache",
                0o644,
                write_library_cache(&[("libx.so.1", "/usr/local/lib/libx.so.1")]),
            ),
            missing,
        ),
        ("a cache that is not understood", glibc(needs_x()).file("/etc/ld.so.cache", 0o644, "?"), ""),
        ("LD_LIBRARY_PATH", glibc(needs_x()).library("/x/libx.so.1").env("LD_LIBRARY_PATH", "/y:/x"), ""),
        ("RUNPATH", glibc(with_search(needs_x(), None, Some("/x"))).library("/x/libx.so.1"), ""),
        ("RPATH", glibc(with_search(needs_x(), Some("/x"), None)).library("/x/libx.so.1"), ""),
        ("ORIGIN", glibc(with_search(needs_x(), None, origin)).library("/opt/app/lib/libx.so.1"), ""),
        (
            "ORIGIN through a link",
            image()
                .glibc()
                .elf("/opt/app/bin/app", &with_search(needs_x(), None, origin))
                .library("/opt/app/lib/libx.so.1")
                .link("/usr/bin/app", "/opt/app/bin/app")
                .entry(&["app"]),
            "",
        ),
        (
            "RPATH beside RUNPATH",
            glibc(with_search(needs_x(), Some("/x"), Some("/y"))).library("/x/libx.so.1"),
            missing,
        ),
        (
            "library of a library",
            glibc(needs_x()).elf("/usr/lib/libx.so.1", &chain),
            "ENTRYPOINT: `/usr/lib/libx.so.1` needs the library `liby.so.1`, which the loader does not find",
        ),
        (
            "RPATH is inherited",
            glibc(with_search(needs_x(), Some("/x"), None)).elf("/x/libx.so.1", &chain).library("/x/liby.so.1"),
            "",
        ),
        (
            "RUNPATH is not inherited",
            glibc(with_search(needs_x(), None, Some("/x"))).elf("/x/libx.so.1", &chain).library("/x/liby.so.1"),
            "ENTRYPOINT: `/x/libx.so.1` needs the library `liby.so.1`, which the loader does not find",
        ),
        ("a library for another processor", glibc(needs_x()).elf("/usr/lib/libx.so.1", &arm), missing),
        ("a library that is a dangling link", glibc(needs_x()).link("/usr/lib/libx.so.1", "libx.so.1.2"), missing),
        ("a library by its path", glibc(glibc_program(&["/x/y.so"])).library("/x/y.so"), ""),
        (
            "a library that cannot be read",
            glibc(needs_x()).file("/usr/lib/libx.so.1", 0o600, CraftedElf::default().bytes()).user("4242"),
            missing,
        ),
        ("musl", musl(musl_program(&["libx.so.1"])).library("/usr/local/lib/libx.so.1"), ""),
        ("musl does not search lib64", musl(musl_program(&["libx.so.1"])).library("/usr/lib64/libx.so.1"), missing),
        (
            "path file of musl",
            musl(musl_program(&["libx.so.1"])).library("/x/libx.so.1").file(
                "/etc/ld-musl-x86_64.path",
                0o644,
                "/lib\n/x\n",
            ),
            "",
        ),
        (
            "RUNPATH of musl is inherited",
            musl(with_search(musl_program(&["libx.so.1"]), None, Some("/x")))
                .elf("/x/libx.so.1", &chain)
                .library("/x/liby.so.1"),
            "",
        ),
        ("names of glibc are musl's own", musl(musl_program(&["libc.so.6", "libm.so.6", "libpthread.so.0"])), ""),
        (
            "a shell without its library",
            image().glibc().elf("/bin/sh", &needs_x()).script("/run", "#!/bin/sh\n").entry(&["/run"]),
            "ENTRYPOINT: `/bin/sh` needs the library `libx.so.1`, which the loader does not find",
        ),
    ]);
}

#[test]
fn symbol_versions_are_compared_with_the_libraries() {
    let app = |versions: &[&'static str]| {
        let requires = versions.iter().map(|version| ("libc.so.6", *version)).collect();
        image().glibc().elf("/app", &CraftedElf { requires, ..glibc_program(&[]) }).entry(&["/app"])
    };
    let x = |defines: &[&'static str]| CraftedElf { defines: defines.to_vec(), ..CraftedElf::default() };
    let needs_x = || CraftedElf { requires: vec![("libx.so.1", "X_2")], ..glibc_program(&["libx.so.1"]) };
    check_rows(vec![
        ("old versions", app(&["GLIBC_2.2.5", "GLIBC_2.36"]), ""),
        (
            "too new",
            app(&["GLIBC_2.34", "GLIBC_2.38"]),
            "ENTRYPOINT: `/app` needs `GLIBC_2.38` of `libc.so.6`, which the image's is too old for (it has `GLIBC_2.36`)",
        ),
        (
            "a library without versions",
            image().glibc().elf("/app", &needs_x()).library("/lib/libx.so.1").entry(&["/app"]),
            "",
        ),
        (
            "a library with the version",
            image().glibc().elf("/app", &needs_x()).elf("/lib/libx.so.1", &x(&["X_1", "X_2"])).entry(&["/app"]),
            "",
        ),
        (
            "an older library",
            image().glibc().elf("/app", &needs_x()).elf("/lib/libx.so.1", &x(&["X_1"])).entry(&["/app"]),
            "ENTRYPOINT: `/app` needs `X_2` of `libx.so.1`, which the image's is too old for (it has `X_1`)",
        ),
    ]);
}

#[test]
fn releases_are_known() {
    let conf = "name = app\n";
    let portable = "name = app\nloader = erts-15.2/lib/ld-linux-x86-64.so.2\nlibrary_path = erts-15.2/lib\n";
    let on_scratch = || {
        let loader = CraftedElf { more: b"\0/etc/ld.so.cache\0".to_vec(), ..CraftedElf::default() };
        image()
            .release(Some(portable), &glibc_program(&["libm.so.6"]))
            .elf("/app/erts-15.2/lib/ld-linux-x86-64.so.2", &loader)
            .library("/app/erts-15.2/lib/libc.so.6")
            .library("/app/erts-15.2/lib/libm.so.6")
            .elf("/app/lib/crypto-5.5/priv/lib/crypto.so", &glibc_nif(&["libc.so.6"]))
            .entry(&["/app/bin/app"])
            .cmd(&["foreground"])
    };
    let glibc = |conf: Option<&str>| {
        image().shell().glibc().release(conf, &glibc_program(&[])).entry(&["/app/bin/app", "start"])
    };
    let env = "/app/releases/0.1.0/env.sh";
    let crypto = || glibc_nif(&["libcrypto.so.3"]);
    check_rows(vec![
        ("portable on scratch", on_scratch(), ""),
        ("env.sh that only assigns", on_scratch().file(env, 0o644, "export A=1\nB=\"$A\"\n"), ""),
        (
            "env.sh that needs a shell",
            on_scratch().file(env, 0o644, "set -a\n. .env\n"),
            "ENTRYPOINT: the release needs `/bin/sh`, which is not in the image: `/app/releases/0.1.0/env.sh` does more than assign variables",
        ),
        ("env.sh and a shell", on_scratch().shell().file(env, 0o644, "set -a\n. .env\n"), ""),
        (
            "a hook",
            on_scratch().file(
                "/app/releases/0.1.0/start.conf",
                0o644,
                format!("{portable}hook.pre_start = releases/0.1.0/hooks/a.sh\n"),
            ),
            "ENTRYPOINT: the release needs `/bin/sh`, which is not in the image: it has the hook `releases/0.1.0/hooks/a.sh`",
        ),
        (
            "a hook of a stop",
            on_scratch().file(
                "/app/releases/0.1.0/start.conf",
                0o644,
                format!("{portable}hook.pre_stop = hooks/a.sh\n"),
            ),
            "",
        ),
        (
            "a script of Phoenix on scratch",
            on_scratch().script("/app/bin/server", "#!/bin/sh\n").entry(&["/app/bin/server"]),
            "ENTRYPOINT: `/app/bin/server` needs `/bin/sh`, which is not in the image",
        ),
        (
            "a library of a portable release is missing",
            on_scratch().elf("/app/lib/x-1/priv/x.so", &glibc_nif(&["libx.so.1"])),
            "ENTRYPOINT: `/app/lib/x-1/priv/x.so` needs the library `libx.so.1`, which the loader does not find",
        ),
        ("Mix on Debian", glibc(None), ""),
        ("dram on Debian", glibc(Some(conf)), ""),
        (
            "an emulator without its loader",
            image().shell().musl().release(None, &glibc_program(&[])).entry(&["/app/bin/app", "start"]),
            "ENTRYPOINT: `/app/erts-15.2/bin/beam.smp` needs the loader `/lib64/ld-linux-x86-64.so.2`, which is not in the image",
        ),
        (
            "crypto without OpenSSL",
            glibc(Some(conf))
                .elf("/app/lib/crypto-5.5/priv/lib/crypto.so", &crypto())
                .elf("/app/lib/crypto-5.5/priv/lib/b.so", &crypto()),
            "ENTRYPOINT: `/app/lib/crypto-5.5/priv/lib/b.so` needs the library `libcrypto.so.3`, which the loader does not find",
        ),
        ("windows are not needed", glibc(Some(conf)).elf("/app/lib/wx-2.4/priv/wxe_driver.so", &crypto()), ""),
        (
            "native code for another processor",
            glibc(Some(conf)).elf(
                "/app/lib/x-1/priv/arm.so",
                &CraftedElf { machine: 183, needed: vec!["libx.so"], ..CraftedElf::default() },
            ),
            "",
        ),
        (
            "the shell form of a release",
            image().shell().musl().release(Some(conf), &glibc_program(&[])).cmd(&[
                "/bin/sh",
                "-c",
                "/app/bin/app start",
            ]),
            "CMD: `/app/erts-15.2/bin/beam.smp` needs the loader `/lib64/ld-linux-x86-64.so.2`, which is not in the image",
        ),
        ("other files of the image", glibc(Some(conf)).elf("/opt/prebuilt/musl/x.node", &crypto()), ""),
    ]);
}

#[test]
fn commands_of_a_release_need_its_node_name() {
    let app = |conf: &str| image().shell().glibc().release(Some(conf), &glibc_program(&[])).workdir("/app");
    let unnamed = || app("name = app\n");
    let rpc = ["CMD", "/app/bin/app", "rpc", "1"];
    let fault = "HEALTHCHECK: `/app/bin/app rpc` needs a node name, and the release has none";
    let relative = "HEALTHCHECK: `bin/app rpc` needs a node name, and the release has none";
    let script = |text| unnamed().health(&["CMD-SHELL", text]);
    let version = "/app/releases/0.1.0";
    check_rows(vec![
        ("rpc", unnamed().health(&rpc), fault),
        ("a command that needs no name", unnamed().health(&["CMD", "/app/bin/app", "ping"]), ""),
        ("a command of the image", unnamed().cmd(&["bin/app", "remote"]), &fault_of("CMD", "bin/app remote")),
        (
            "an argument of the entry point",
            unnamed().entry(&["bin/app"]).cmd(&["remote"]),
            &fault_of("ENTRYPOINT", "bin/app remote"),
        ),
        ("a name in the release", app("name = app\ndistribution = sname\n").health(&rpc), ""),
        ("a name in the image", unnamed().env("RELEASE_NODE", "a").health(&rpc), ""),
        (
            "a name that the image takes",
            app("name = app\ndistribution = sname\n").env("RELEASE_DISTRIBUTION", "none").health(&rpc),
            fault,
        ),
        ("a name in vm.args", unnamed().file(&format!("{version}/vm.args"), 0o644, "-sname a\n").health(&rpc), ""),
        (
            "a name in env.sh",
            unnamed().file(&format!("{version}/env.sh"), 0o644, "export RELEASE_NODE=a\n").health(&rpc),
            "",
        ),
        ("no name in files", unnamed().file(&format!("{version}/vm.args"), 0o644, "+K true\n").health(&rpc), fault),
        ("Mix", image().shell().glibc().release(None, &glibc_program(&[])).health(&rpc), ""),
        ("a shell", script("bin/app rpc 'A.b(); c' || exit 1"), relative),
        ("behind another command", script("sleep 1; bin/app rpc 1"), relative),
        ("before grep", script("bin/app rpc 1 | grep -q ok"), relative),
        ("a failure that does not matter", script("bin/app rpc 1 || true"), ""),
        ("a name in the command", script("RELEASE_NODE=a bin/app rpc 1"), ""),
        (
            "a name by env",
            unnamed().program("/bin/env").health(&["CMD", "env", "RELEASE_NODE=a", "bin/app", "rpc", "1"]),
            "",
        ),
        (
            "a link",
            unnamed().link("/usr/bin/app", "/app/bin/app").health(&["CMD", "app", "rpc", "1"]),
            &fault_of("HEALTHCHECK", "app rpc"),
        ),
        ("another program", unnamed().program("/bin/curl").health(&["CMD", "curl", "rpc"]), ""),
    ]);
}

fn fault_of(keyword: &str, call: &str) -> String {
    format!("{keyword}: `{call}` needs a node name, and the release has none")
}

fn glibc_nif(needed: &[&'static str]) -> CraftedElf {
    CraftedElf { needed: needed.to_vec(), ..CraftedElf::default() }
}

#[test]
fn faults_say_what_to_do() {
    let help = |image: CraftedImage| {
        let tree = MergedTree::open(&[image.dir.path().to_owned()]).unwrap();
        check_commands(&tree, &image.config).unwrap().remove(0).reason.helps.join("; ")
    };
    let node = image().program("/usr/local/bin/node");
    assert_eq!(help(node.entry(&["/usr/bin/node"])), "did you mean `/usr/local/bin/node`?");
    let near = image().program("/app/server");
    assert_eq!(help(near.entry(&["/app/sevrer"])), "did you mean `server`?");
    let mode = image().file("/run", 0o644, "").entry(&["/run"]);
    assert!(help(mode).contains("--chmod=755"));
    let crlf = image().script("/run", "#!/bin/sh\r\n").entry(&["/run"]);
    assert!(help(crlf).contains(".gitattributes"));
    let local = image().glibc().elf("/app", &glibc_program(&["libx.so.1"])).library("/usr/local/lib/libx.so.1");
    assert_eq!(
        help(local.entry(&["/app"])),
        "run `ldconfig` in the last stage, or set `ENV LD_LIBRARY_PATH=/usr/local/lib`"
    );
    let crypto = image().glibc().elf("/app", &glibc_program(&["libcrypto.so.3"])).entry(&["/app"]);
    assert!(help(crypto).contains("apt-get install libssl3"));
}
