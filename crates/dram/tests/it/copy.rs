//! `COPY` and `ADD` options that buildah does not support: `--link`, `--parents`, `--exclude`, heredocs, and symbolic
//! modes.

use std::os::unix::fs::symlink;

use dram_image::TreePath;
use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};

use crate::support::{Context, Store, list, tool, valid_image};

/// Returns mode, owner and path of everything below `dir` in the image, sorted by path.
fn listing(store: &Store, dir: &str) -> Vec<String> {
    let script = format!("cd {dir} && find . | sort | while read -r f; do stat -c '%a %u:%g %n' \"$f\"; done");
    store.sh(&script).stdout.lines().map(str::to_owned).collect()
}

fn diff_ids(store: &Store) -> Vec<String> {
    let image = store.inspect("demo");
    list(&image["config"]["rootfs"]["diff_ids"]).iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[test]
fn copy_link_layers_are_reused_when_the_base_changes() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nRUN echo 1 > /base\nCOPY --link file /dir/file\n").file("file", "x");
    assert_eq!(store.build(&context).ok().steps(), (2, 0));
    let before = diff_ids(&store);
    context.write("Dockerfile", "FROM parity-base\nRUN echo 2 > /base\nCOPY --link file /dir/file\n");
    let done = store.build(&context).ok();
    assert_eq!(done.steps(), (1, 1), "{done}");
    let after = diff_ids(&store);
    assert_eq!(before.last(), after.last());
    assert_ne!(before[before.len() - 2], after[after.len() - 2]);
    assert_eq!(store.sh("cat /base /dir/file").stdout, "2\nx");
    valid_image(&store, "demo:latest");
}

#[test]
fn copy_link_does_not_follow_links_of_the_base() {
    let store = Store::with_base();
    let base = "FROM parity-base\nRUN mkdir /real && ln -s /real /way\n";
    store.build(&Context::new(&format!("{base}COPY file /way/\n")).file("file", "x")).ok();
    assert_eq!(store.sh("cat /real/file; test -L /way && echo link").stdout, "xlink\n");
    store.build(&Context::new(&format!("{base}COPY --link file /way/\n")).file("file", "x")).ok();
    assert_eq!(store.sh("ls /real; cat /way/file; test -L /way || echo dir").stdout, "xdir\n");
}

#[test]
fn copy_link_applies_chown_and_chmod() {
    let store = Store::with_base();
    let text = |id: u32| {
        format!(
            "FROM parity-base\nRUN echo 'linked:x:{id}:{id}::/:/bin/sh' >> /etc/passwd\n\
                 COPY --link --chown=linked --chmod=u=rw,go= file /d/\n"
        )
    };
    let context = Context::new(&text(1234)).file("file", "x");
    store.build(&context).ok();
    assert_eq!(listing(&store, "/d"), ["755 1234:1234 .", "600 1234:1234 ./file"]);
    // Another id for the user name gives another layer.
    context.write("Dockerfile", &text(4321));
    assert_eq!(store.build(&context).ok().steps(), (2, 0));
    assert_eq!(listing(&store, "/d")[1], "600 4321:4321 ./file");
    let nobody = Context::new("FROM scratch\nCOPY --link --chown=app file /d/\n").file("file", "x");
    store.build(&nobody).fails(1).says("no user `app`").says("Dockerfile:2:");
    valid_image(&store, "demo:latest");
}

fn nested_context(dockerfile: &str) -> Context {
    let files = ["a/b/c.md", "a/b/d.txt", "a/e.md", "f.md", "g/b/h.md"];
    files.iter().fold(Context::new(dockerfile), |context, file| context.file(file, file))
}

/// Builds an image with the instruction `copy` and returns the files below `/out`.
fn copied_files(store: &Store, copy: &str) -> Vec<String> {
    store.build(&nested_context(&format!("FROM parity-base\n{copy}\n"))).ok();
    store.sh("cd /out && find . -type f | sort").stdout.lines().map(|line| line[2..].to_owned()).collect()
}

#[test]
fn copy_parents_keeps_parent_directories() {
    let store = Store::with_base();
    let table: [(&str, &[&str]); 8] = [
        ("COPY --parents a/b/c.md f.md /out/", &["a/b/c.md", "f.md"]),
        ("COPY --parents ./a/b /out", &["a/b/c.md", "a/b/d.txt"]),
        ("COPY --parents */b/*.md /out/", &["a/b/c.md", "g/b/h.md"]),
        ("COPY --parents **/*.md /out/", &["a/b/c.md", "a/e.md", "f.md", "g/b/h.md"]),
        ("COPY --parents a/./b/c.md /out/", &["b/c.md"]),
        ("COPY --parents [ag]/./b /out/", &["b/c.md", "b/d.txt", "b/h.md"]),
        ("COPY --parents --exclude=**/d.txt a/./b /out/", &["b/c.md"]),
        ("COPY --parents=false a/b/c.md /out/", &["c.md"]),
    ];
    for (copy, expected) in table {
        assert_eq!(copied_files(&store, copy), expected, "{copy}");
    }
    let context = nested_context("FROM parity-base\nCOPY --parents a/x.md /out/\n");
    store.build(&context).fails(1).says("no such file in the build context: `a/x.md`");
    let modes = "FROM parity-base AS a\nRUN mkdir -p /s/t && chmod 700 /s && chown 5:6 /s /s/t && touch /s/t/u\n\
                 FROM parity-base\nCOPY --from=a --parents /s/t/u /out/\n";
    store.build(&Context::new(modes)).ok();
    assert_eq!(listing(&store, "/out"), ["755 0:0 .", "700 5:6 ./s", "755 5:6 ./s/t", "644 0:0 ./s/t/u"]);
    valid_image(&store, "demo:latest");
}

#[test]
fn excluded_files_are_not_copied_and_not_in_the_cache_key() {
    let store = Store::with_base();
    let table: [(&str, &[&str]); 6] = [
        ("COPY --exclude=**/*.md a /out", &["b/d.txt"]),
        ("COPY --exclude=b --exclude=Dockerfile a f.md /out/", &["e.md", "f.md"]),
        ("COPY --exclude=b --exclude=!b/c.md a /out", &["b/c.md", "e.md"]),
        ("ADD --exclude=*.md a /out", &["b/c.md", "b/d.txt"]),
        ("COPY --exclude=b/c.md * /out/", &["Dockerfile", "b/d.txt", "b/h.md", "e.md", "f.md"]),
        ("ARG WHAT=b\nCOPY --exclude=$WHAT a /out", &["e.md"]),
    ];
    for (copy, expected) in table {
        assert_eq!(copied_files(&store, copy), expected, "{copy}");
    }
    let stage = "FROM parity-base AS a\nCOPY . /all\nFROM parity-base\nCOPY --from=a --exclude=**/*.md /all /out\n";
    store.build(&nested_context(stage)).ok();
    assert_eq!(store.sh("cd /out && find . -type f | sort").stdout, "./Dockerfile\n./a/b/d.txt\n");
    // A change of an excluded file is a cache hit.
    let context = nested_context("FROM parity-base\nCOPY --exclude=**/*.md . /out\n");
    store.build(&context).ok();
    context.write("f.md", "changed");
    assert_eq!(store.build(&context).ok().steps(), (0, 1));
    store.build(&nested_context("FROM parity-base\nCOPY --exclude=[a- a /out\n")).fails(1).says("--exclude");
    valid_image(&store, "demo:latest");
}

#[test]
fn heredocs_become_files() {
    let store = Store::with_base();
    let context = Context::new(
        "FROM parity-base\nARG WHO=you\nCOPY --chmod=u+x,go= --chown=7 <<one <<'two' a /dir/\nhello $WHO\none\n\
         hello $WHO\ntwo\nCOPY <<-EOF /dir/three\n\t'quoted' \\$WHO\n\tEOF\nADD <<x /here\nx\n",
    )
    .file("a", "a");
    store.build(&context).ok();
    let said = store.sh("cd /dir && cat a one two three && ls -l /here | cut -c 1-10").stdout;
    assert_eq!(said, "ahello you\nhello $WHO\n'quoted' $WHO\n-rw-r--r--\n");
    assert_eq!(listing(&store, "/dir")[1..], ["700 7:7 ./a", "700 7:7 ./one", "644 0:0 ./three", "700 7:7 ./two"]);
    assert_eq!(store.build(&context).ok().steps(), (0, 3));
    context.write("Dockerfile", &std::fs::read_to_string(context.join("Dockerfile")).unwrap().replace("hello", "bye"));
    assert_eq!(store.build(&context).ok().steps(), (3, 0));
    valid_image(&store, "demo:latest");
}

#[test]
fn a_run_heredoc_is_a_script() {
    let store = Store::with_base();
    let context = Context::new(
        "FROM parity-base\nRUN <<EOF\nset -e\necho one > /out\ntest -n \"$HOME\"\nEOF\n\
         RUN cat <<A >> /out && cat <<-'B' >> /out\ntwo\nA\n\t$three\n\tB\n",
    );
    store.build(&context).ok();
    assert_eq!(store.sh("cat /out").stdout, "one\ntwo\n$three\n");
    store
        .build(&Context::new("FROM parity-base\nRUN <<EOF\nset -e\nfalse\ntrue\nEOF\n"))
        .fails(1)
        .says("Dockerfile:2:");
    valid_image(&store, "demo:latest");
}

#[test]
fn symbolic_chmod_depends_on_the_copied_mode() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY --chmod=u=rwX,go=rX all /out/new/\n").file("all/plain", "x");
    context.write("all/dir/program", "x");
    let mode = |path: &str, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(context.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("all/plain", 0o600);
    mode("all/dir/program", 0o700);
    mode("all/dir", 0o700);
    store.build(&context).ok();
    let wanted =
        ["755 0:0 .", "755 0:0 ./new", "755 0:0 ./new/dir", "755 0:0 ./new/dir/program", "644 0:0 ./new/plain"];
    assert_eq!(listing(&store, "/out"), wanted);
}

#[test]
fn an_unmatched_pattern_is_a_warning_and_no_error() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY nothing* /out/\n");
    store.build(&context).ok().says("warning: nothing in the build context matches `nothing*`").says("Dockerfile:2:");
    context.write("Dockerfile", "FROM parity-base\nCOPY nothing* file /out\n");
    context.write("file", "x");
    store.build(&context).ok().does_not_say("warning");
    assert_eq!(store.sh("cat /out").stdout, "x");
    valid_image(&store, "demo:latest");
}

#[test]
fn several_sources_need_a_directory_as_destination() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nCOPY a b /out\n").file("a", "a").file("b", "b");
    store.build(&context).fails(1).says("several files go to /out").says("= help: write `/out/`");
    context.write("Dockerfile", "FROM parity-base\nRUN mkdir /out\nCOPY a b /out\n");
    store.build(&context).ok();
    assert_eq!(store.sh("cat /out/a /out/b").stdout, "ab");
    symlink("a", context.join("l")).unwrap();
    context.write("Dockerfile", "FROM parity-base\nCOPY d e /out\n");
    context.write("d/x", "x");
    context.write("e/y", "y");
    store.build(&context).ok();
    assert_eq!(store.sh("cat /out/x /out/y").stdout, "xy");
}

/// Returns the bytes of a tar with these entries: a path and the content of a file, or no content for a directory of mode
/// 0700.
fn archive(entries: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = TarWriter::new(&mut bytes);
    for (path, content) in entries {
        let kind = content.map_or(TarEntryKind::Dir, |content| TarEntryKind::File { size: content.len() as u64 });
        let mode = if content.is_some() { 0o644 } else { 0o700 };
        let path = TreePath::parse(path.as_bytes()).unwrap();
        let entry = TarEntry { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        writer.append(&entry, &mut content.unwrap_or_default().as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

#[test]
fn directories_that_an_archive_only_implies_follow_links_and_keep_their_modes() {
    let store = Store::with_base();
    let base = "FROM parity-base\nRUN mkdir -p /usr/real /kept && chmod 1777 /kept && ln -s usr/real /way && ln -s /nowhere /broken\n";
    let context = Context::new(&format!("{base}ADD a.tar /\nADD b.tar /\n"));
    let implied =
        [("way/tool", Some("t")), ("kept/file", Some("k")), ("broken/file", Some("b")), ("new/file", Some("n"))];
    std::fs::write(context.join("a.tar"), archive(&implied)).unwrap();
    std::fs::write(context.join("b.tar"), archive(&[("way/more", Some("m"))])).unwrap();
    store.build(&context).ok();
    assert_eq!(
        store.sh("readlink /way; ls /usr/real; stat -c %a /kept /new; cat /broken/file").stdout,
        "usr/real\nmore\ntool\n1777\n755\nb"
    );
    // An entry of its own replaces the link.
    let context = Context::new(&format!("{base}ADD a.tar /\n"));
    std::fs::write(context.join("a.tar"), archive(&[("way", None), ("way/tool", Some("t"))])).unwrap();
    store.build(&context).ok();
    assert_eq!(
        store.sh("stat -c '%F %a' /way; ls /way /usr/real").stdout,
        "directory 700\n/usr/real:\n\n/way:\ntool\n"
    );
    valid_image(&store, "demo:latest");
}

#[test]
fn links_of_the_base_lead_an_archive_nowhere_outside_of_the_image() {
    let store = Store::with_base();
    let outside = crate::support::temp();
    let link = outside.path().display();
    let context =
        Context::new(&format!("FROM parity-base\nRUN ln -s ../../../..{link} /way && mkdir -p {link}\nADD a.tar /\n"));
    std::fs::write(context.join("a.tar"), archive(&[("way/file", Some("x"))])).unwrap();
    store.build(&context).ok();
    assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());
    assert_eq!(store.sh(&format!("cat {link}/file")).stdout, "x");
}

#[test]
fn chmod_applies_to_new_directories_only_when_it_is_octal_and_never_to_archives() {
    let store = Store::with_base();
    let context = Context::new(
        "FROM parity-base\nCOPY --chmod=u=rw,go=r file /a/b/file\nCOPY --chmod=750 file /c/file\nADD --chmod=600 x.tar /d/e/\n",
    );
    let context = context.file("file", "x");
    std::fs::write(context.join("x.tar"), archive(&[("f/g", Some("x"))])).unwrap();
    store.build(&context).ok();
    let modes = store.sh("stat -c '%a %n' /a /a/b /a/b/file /c /c/file /d /d/e /d/e/f /d/e/f/g").stdout;
    assert_eq!(
        modes,
        "755 /a\n755 /a/b\n644 /a/b/file\n750 /c\n750 /c/file\n755 /d\n755 /d/e\n755 /d/e/f\n644 /d/e/f/g\n"
    );
}

#[test]
fn exclude_leaves_out_files_that_a_source_names_itself() {
    let store = Store::with_base();
    let text = "FROM parity-base\nCOPY --exclude=*.txt hom* /m/\nCOPY --exclude=a a b /n/\nCOPY --exclude=a dir /o/\n";
    let context = Context::new(text).file("home.txt", "1").file("home.md", "2").file("a", "3").file("b", "4");
    std::fs::create_dir(context.join("dir")).unwrap();
    context.write("dir/a", "5");
    context.write("dir/c", "6");
    store.build(&context).ok();
    assert_eq!(store.sh("ls /m /n /o").stdout, "/m:\nhome.md\n\n/n:\nb\n\n/o:\nc\n");
}

#[test]
fn what_a_copy_leaves_out_is_told_with_its_line() {
    let context = Context::new("FROM parity-base\nCOPY --exclude=*.sock d /plain/\nCOPY d /d/\n").file("d/f", "f");
    let _listener = std::os::unix::net::UnixListener::bind(context.join("d/a.sock")).unwrap();
    let set = "import os,sys; os.setxattr(sys.argv[1], 'user.origin', b'here')";
    tool("python3").args(["-c", set]).arg(context.join("d/f")).ok();
    let store = Store::with_base();
    for steps in [(2, 0), (0, 2)] {
        let done = store.build(&context).ok();
        assert_eq!(done.steps(), steps, "{done}");
        assert_eq!(done.stderr.matches("is a socket").count(), 1, "{done}");
        done.says("`/d/a.sock` in the build context is a socket")
            .says("`/d/f` in the build context has extended")
            .says("Dockerfile:3:");
    }
    assert_eq!(store.sh("ls /d /plain").stdout, "/d:\nf\n\n/plain:\nf\n");
    valid_image(&store, "demo:latest");
}
