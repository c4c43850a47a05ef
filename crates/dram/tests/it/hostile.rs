//! Hostile Dockerfiles and build contexts: each is refused with an error or does what it says, within limits of time
//! and memory, and does not touch the host.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::rootless::stores_of_all_users;
use crate::support::{CommandOutput, Context, Store, dram_path, temp, tool, valid_image};

/// Time limit for a small build, generous because other tests run in parallel.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Limit of the address space for one build.
const MEMORY_LIMIT: &str = "--as=2147483648";

/// Builds within the time limit and, as root, the memory limit.
fn build(store: &Store, context: &Context) -> CommandOutput {
    let begun = Instant::now();
    let build = store.build(context);
    let done = if store.is_rootless() { build } else { build.run_under("prlimit", &[MEMORY_LIMIT]) }.end();
    assert!(begun.elapsed() < TIME_LIMIT, "{done}");
    assert!((0..=3).contains(&done.code), "{done}");
    done
}

/// Asserts that the Dockerfile is refused with these words.
fn assert_refused(store: &Store, text: &str, words: &str) {
    let done = build(store, &Context::new(text));
    assert_ne!(done.code, 0, "{text:.200}\n{done}");
    done.says(words);
}

#[test]
fn invalid_dockerfiles_are_refused() {
    let store = Store::with_base();
    let doubled: String = (1..40).map(|n| format!("ARG A{n}=$A{}$A{}\n", n - 1, n - 1)).collect();
    for (text, words) in [
        ("# only\n# comments\n", "has no instructions"),
        ("FROM parity-base\nRUN a\0b\n", "NUL byte"),
        ("FROM parity-base\nRUN <<EOF\nabc\n", "never closed"),
        ("RUN x\nFROM parity-base\n", "before the first `FROM`"),
        ("FROM later\nFROM parity-base AS later\n", "is defined later"),
        ("FROM parity-base AS a\nCOPY --from=a / /x\n", "cannot copy from itself"),
        ("FROM parity-base\nCOPY --from=99 / /x\n", "does not exist"),
        (&format!("FROM parity-base\nARG A0=0123456789\n{doubled}"), "grows beyond"),
        ("FROM parity-base\nENV A=${x\n", "is not closed"),
        ("FROM --platform=a/b/c/d parity-base\n", "is not a platform"),
        ("FROM parity-base\nSHELL sh -c\n", "takes a JSON array"),
        ("FROM parity-base\nONBUILD FROM x\n", "cannot trigger `FROM`"),
        ("FROM parity-base\nONBUILD ONBUILD RUN x\n", "cannot trigger `ONBUILD`"),
        ("FROM parity-base\nUSER 4294967296\n", "too large for an id"),
        ("FROM parity-base\nRUN --mount=target=/a,bind-propagation=shared x\n", "a mount has no `bind-propagation`"),
        ("FROM parity-base\nRUN --mount=type=cache,target=/ x\n", "nothing can be mounted on `/`"),
        ("FROM parity-base\nRUN --device=/dev/sda x\n", "is not supported"),
        ("FROM parity-base\nRUN --security=insecure true\n", "security.insecure"),
        ("FROM parity-base\nRUN --network=host true\n", "network.host"),
        ("FROM parity-base\nCOPY ../../etc/hostname /x\n", "no such file"),
        ("FROM parity-base\nCOPY nothing /x\n", "no such file"),
    ] {
        assert_refused(&store, text, words);
    }
}

#[test]
fn large_and_odd_but_valid_dockerfiles_are_built() {
    let store = Store::with_base();
    let nested = format!("FROM parity-base\nENV A={}x{}\n", "${a:-".repeat(10_000), "}".repeat(10_000));
    let many = format!("FROM parity-base\n{}", "LABEL a=b\n".repeat(100_000));
    for text in [
        &nested,
        &many,
        "\u{feff}FROM parity-base\r\nRUN true\r\n",
        "FROM parity-base\nRUN true \\",
        "# syntax=example.com/attacker/frontend:1\nFROM parity-base\n",
        "FROM parity-base\nENTRYPOINT [\"sh\", \"-c\"\n",
        "FROM parity-base\nWORKDIR ../../..\nVOLUME /../..\nLABEL containerd.io/gc.root=x dram=y\n",
        "FROM parity-base\nRUN --mount=source=../../..,target=/c test ! -e /c/root\n",
        "FROM parity-base\nRUN --mount=type=cache,id=../../../x,target=/c touch /c/here\n",
    ] {
        let done = build(&store, &Context::new(text));
        assert_eq!(done.code, 0, "{text:.200}\n{done}");
    }
    valid_image(&store, "demo:latest");
}

/// The command of a `RUN` executes the program that process 1 runs, by `/proc/self/exe`: it is not dram, and it does nothing.
#[test]
fn a_command_cannot_reach_the_program_on_the_host() {
    for store in stores_of_all_users() {
        assert_the_program_is_out_of_reach(&store);
    }
}

fn assert_the_program_is_out_of_reach(store: &Store) {
    use std::os::unix::fs::MetadataExt as _;
    let program = dram_path();
    let before = fs::metadata(program).unwrap();
    let context = Context::new("FROM parity-base\nCOPY --chmod=755 git /bin/git\n");
    context.write("git", "#!/bin/sh\nchown 5:5 /proc/1/exe; chmod 4777 /proc/1/exe\n");
    for words in [
        r#"["/proc/self/exe", "--version"]"#,
        r#"["/proc/self/exe", "build", "--store", "/tmp/s", "https://registry.invalid/x.git"]"#,
        r#"["/proc/self/exe", "0"]"#,
        r#"["/proc/1/exe"]"#,
    ] {
        context.write(
            "Dockerfile",
            &format!("FROM parity-base\nCOPY --chmod=755 git /bin/git\nENV PATH=/bin\nRUN {words}\n"),
        );
        let done = build(store, &context);
        assert_ne!(done.code, 0, "{words}\n{done}");
        assert!(!done.stderr.contains("dram 0.") && !done.stdout.contains("dram 0."), "{words} is dram\n{done}");
    }
    // Nor by a shell of the image that is the program itself, or in a container.
    context.write("Dockerfile", "FROM parity-base\nSHELL [\"/proc/self/exe\"]\nRUN --version\n");
    assert_ne!(build(store, &context).code, 0);
    let done = store.dram(["run", "--network=none", "parity-base", "/proc/self/exe", "--version"]).fails(2);
    assert!(!done.stdout.contains("dram"), "{done}");
    let after = fs::metadata(program).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
}

#[test]
fn mount_targets_through_hostile_links_do_not_reach_the_host() {
    let store = Store::with_base();
    let canary = temp();
    let trap = format!(
        "FROM parity-base\nRUN mkdir -p /run && rm -rf /run/secrets && ln -s {} /run/secrets\n",
        canary.path().display()
    );
    for run in [
        "--mount=type=tmpfs,target=/run/secrets/x",
        "--mount=type=cache,target=/run/secrets/y",
        "--mount=type=bind,target=/run/secrets/z",
    ] {
        build(&store, &Context::new(&format!("{trap}RUN {run} touch /run/secrets/w || true\n")));
    }
    assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 0, "the machine was written to");
    for target in ["/proc", "/proc/self/fd", "/dev/null/x", "/dev"] {
        build(&store, &Context::new(&format!("FROM parity-base\nRUN --mount=type=tmpfs,target={target} true\n")));
    }
    // The command replaces the mount's target by a link before the mount is removed.
    let swap =
        "FROM parity-base\nRUN --mount=type=cache,target=/a/b/c rm -rf /a 2>/dev/null; ln -sfn /etc /a/b2; true\n";
    assert_eq!(build(&store, &Context::new(&format!("{swap}RUN test -f /etc/passwd\n"))).code, 0);
}

#[test]
fn links_in_a_context_are_not_followed_outside() {
    let store = Store::with_base();
    let secret = temp();
    fs::write(secret.path().join("secret"), "the host's own").unwrap();
    let context = Context::new("FROM scratch\nCOPY . /all/\n").file("own", "the context's own");
    symlink(secret.path().join("secret"), context.join("link")).unwrap();
    symlink(secret.path(), context.join("dir")).unwrap();
    assert_eq!(build(&store, &context).code, 0);
    let out = temp();
    store.dram(["save", "-o"]).arg(out.path().join("x.tar")).arg("demo").ok();
    let archive = out.path().join("x.tar");
    assert!(layers_contain(&archive, b"the context's own"), "the layers are not looked into");
    assert!(!layers_contain(&archive, b"the host's own"));
    for source in ["link", "dir/secret", "dir"] {
        context.write("Dockerfile", &format!("FROM scratch\nCOPY {source} /x\n"));
        let done = build(&store, &context);
        assert_ne!(done.code, 0, "{done}");
    }
    // Bind mounts show the same tree as COPY.
    context.write("Dockerfile", "FROM parity-base\nRUN --mount=target=/c cat /c/link /c/dir/secret\n");
    assert_ne!(build(&store, &context).code, 0);
}

/// Returns true if a blob of the archive contains the bytes; layers are decompressed.
fn layers_contain(archive: &Path, needle: &[u8]) -> bool {
    let place = temp();
    let script = "tar -xf \"$1\" && find blobs -type f -exec gzip -dcf {} + > all";
    tool("sh").args(["-ec", script, "sh"]).arg(archive).dir(place.path()).ok();
    let bytes = fs::read(place.path().join("all")).unwrap();
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn odd_ignore_files_are_read_or_refused() {
    let store = Store::with_base();
    let context = Context::new("FROM scratch\nCOPY . /all/\n").file("a b", "").file("keep/x.md", "").file("drop/y", "");
    context.write(".dockerignore", "\u{feff}# all\r\n\r\n/drop/\r\n!nothing\r\n**/*.log\r\n[x-z].tmp\r\n");
    assert_eq!(build(&store, &context).code, 0);
    let bad = Context::new("FROM scratch\nCOPY . /\n").file(".dockerignore", "fine\n[a-\n");
    let done = build(&store, &bad);
    assert_ne!(done.code, 0);
    done.says(".dockerignore:2");
    let many = Context::new("FROM scratch\nCOPY a /\n").file("a", "");
    many.write(".dockerignore", &(0..100_000).map(|n| format!("dir{n}/**/x{n}\n")).collect::<String>());
    assert_eq!(build(&store, &many).code, 0);
    let long = Context::new("FROM scratch\nCOPY a /\n").file("a", "");
    long.write(".dockerignore", &"x".repeat(100 << 20));
    assert_ne!(build(&store, &long).code, 0);
    let linked = Context::new("FROM scratch\nCOPY a /\n").file("a", "");
    symlink("/etc/hostname", linked.join(".dockerignore")).unwrap();
    build(&store, &linked);
    let dir = Context::new("FROM scratch\nCOPY a /\n").file("a", "").file(".dockerignore/x", "");
    build(&store, &dir);
}

#[test]
fn odd_file_names_are_copied() {
    let store = Store::with_base();
    let context = Context::new(
        "FROM parity-base\nCOPY all /all/\nRUN find /all -type f -print0 | tr -dc '\\0' | wc -c > /count\n",
    );
    fs::create_dir(context.join("all")).unwrap();
    let long = "l".repeat(255);
    let names: [&[u8]; 9] = [
        b"new\nline",
        b"\xff\xfe",
        long.as_bytes(),
        b"-dash",
        b" space ",
        b"quo\"te'",
        b"back\\slash",
        b"[glob]*?",
        b"\x1b[31m",
    ];
    for name in names {
        fs::write(context.join("all").join(OsStr::from_bytes(name)), name).unwrap();
    }
    let done = build(&store, &context);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(store.sh("cat /count").stdout.trim(), names.len().to_string());
    valid_image(&store, "demo:latest");
    context.write("Dockerfile", "FROM scratch\nCOPY [\"all/-dash\", \"/one\"]\nCOPY all/-dash /two\n");
    let done = build(&store, &context);
    assert_eq!(done.code, 0, "{done}");
}

#[test]
fn a_sparse_file_takes_little_space_in_the_store() {
    let store = Store::with_base();
    let context = Context::new("FROM scratch\nCOPY hole /\n");
    fs::File::create(context.join("hole")).unwrap().set_len(64 << 20).unwrap();
    let done = build(&store, &context);
    assert_eq!(done.code, 0, "{done}");
    let kib = tool("du").arg("-sk").arg(store.path()).ok().stdout;
    let kib: u64 = kib.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 16 << 10, "the store takes {kib} KiB");
    valid_image(&store, "demo:latest");
}

#[test]
fn copy_destinations_through_hostile_links_do_not_reach_the_host() {
    let store = Store::with_base();
    let canary = temp();
    fs::set_permissions(canary.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for (link, target) in [
        ("/trap", canary.path().display().to_string()),
        ("/trap", "../../../../..".to_owned()),
        ("/trap", "/proc/self/cwd".to_owned()),
    ] {
        let text =
            format!("FROM parity-base\nRUN ln -s {target} {link}\nCOPY file {link}/file\nADD file {link}/added\n");
        build(&store, &Context::new(&text).file("file", "x"));
    }
    assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 0, "the machine was written to");
    // The same with sources in a stage whose directories are links.
    let stage = "FROM parity-base AS a\nRUN mkdir /real && echo in > /real/f && ln -s /real /way && ln -s / /up\n\
                 FROM parity-base\nCOPY --from=a /way/f /one\nCOPY --from=a /up/up/up/real/f /two\nRUN cat /one /two\n";
    assert_eq!(build(&store, &Context::new(stage)).code, 0);
}

#[test]
fn a_step_cannot_change_the_builder_or_the_kernel() {
    for store in stores_of_all_users() {
        assert_builder_and_kernel_stay(&store);
    }
}

fn assert_builder_and_kernel_stay(store: &Store) {
    let before = fs::read(crate::support::dram_path()).unwrap();
    for attempt in [
        "echo x > /proc/self/exe",
        "echo x > /proc/1/exe",
        "cp /bin/sh /proc/1/exe",
        "echo h > /proc/sysrq-trigger",
        "echo x > /sys/kernel/uevent_helper",
        "head -c 1 /proc/kcore",
        "rm -f /dev/null; ln -s /proc/kcore /dev/null; head -c 1 /proc/kcore",
        "mount -t proc proc /mnt",
    ] {
        let done = build(store, &Context::new(&format!("FROM parity-base\nRUN {attempt} 2>&1 && echo done-it\n")));
        assert_ne!(done.code, 0, "{attempt}\n{done}");
    }
    assert_eq!(before, fs::read(crate::support::dram_path()).unwrap());
    let alone =
        "FROM parity-base\nRUN --network=none tail -n +3 /proc/net/dev | grep -v lo: > /others; test ! -s /others\n";
    assert_eq!(build(store, &Context::new(alone)).code, 0);
}

#[test]
fn the_host_environment_is_not_visible_to_steps() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nRUN env > /env\n");
    store.build(&context).env("DRAM_TEST_CANARY", "from-the-host").env("HTTP_PROXY", "http://user:word@h").ok();
    let env = store.sh("cat /env").stdout;
    assert!(!env.contains("from-the-host") && !env.contains("user:word"), "{env}");
}

#[test]
fn passwords_in_urls_of_a_dockerfile_are_not_printed() {
    let store = Store::with_base();
    for line in [
        "FROM http://user:pa55@host.invalid/x",
        "COPY --from=http://user:pa55@host.invalid/x / /",
        "ADD https://user:pa55@-host.invalid/x.git /",
        "ADD http://user:pa55@127.0.0.1:1/x /",
    ] {
        let done = build(&store, &Context::new(&format!("FROM parity-base\n{line}\n")));
        assert_ne!(done.code, 0, "{line}\n{done}");
        assert!(!done.stderr.contains("pa55") && !done.stderr.contains("user:"), "{line}\n{done}");
        done.says("xxx");
    }
}
