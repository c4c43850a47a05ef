//! Hostile layers: each is refused with an error or becomes what its tar says, within limits of time and memory, and
//! nothing on the host is touched.

use std::fs;

use crate::crafted::{
    CraftedLayout, HostileHarness, RawEntry, device_node, digest, dir, file, gnu_long, hard_link, pax, piped_through,
    symlink, tar,
};
use crate::rootless;
use crate::support::{CommandOutput, Context, base_tar, tool, valid_image};

/// Returns an image with these entries as one layer over the base image.
fn layer(parts: impl IntoIterator<Item = RawEntry>) -> CraftedLayout {
    CraftedLayout::over_base([tar(parts)])
}

/// Returns an image with two layers over the base image.
fn layers(first: impl IntoIterator<Item = RawEntry>, second: impl IntoIterator<Item = RawEntry>) -> CraftedLayout {
    CraftedLayout::over_base([tar(first), tar(second)])
}

#[test]
fn names_that_escape_the_root_or_are_invalid_are_refused() {
    let harness = HostileHarness::new();
    let up = format!("..{}/new", "/..".repeat(20));
    let up_to = |name: &str| format!("{up}/..{}/{name}", harness.target());
    for (what, layout, words) in [
        ("../ in a name", layer([file("../new", "x")]), "climbs out"),
        ("../ in the middle", layer([dir("a"), file("a/../../new", "x")]), "climbs out"),
        ("../ to the target", layer([gnu_long(b'L', up_to("new")), file("x", "x")]), "climbs out"),
        ("a hard link out", layer([hard_link("own", "../../etc/passwd")]), "climbs out"),
        ("a/x/../d", layer([file("a/x/../d", "x")]), "climbs out"),
        ("a whiteout of `..`", layer([file(".wh...", "")]), "a whiteout must name what it hides"),
        ("a whiteout of `.`", layer([file(".wh..", "")]), "a whiteout must name what it hides"),
        ("a whiteout of nothing", layer([file("tmp/.wh.", "")]), "a whiteout must name what it hides"),
        ("NUL in a pax path", layer([pax(b'x', &[("path", b"a\0b")]), file("x", "x")]), "NUL byte"),
        ("NUL in a pax link", layer([pax(b'x', &[("linkpath", b"a\0b")]), symlink("x", "y")]), "NUL byte"),
        ("6000 bytes", layer([gnu_long(b'L', "a/".repeat(3000)), file("x", "x")]), "6000 bytes"),
        ("a name of 256 bytes", layer([gnu_long(b'L', "n".repeat(256)), file("x", "x")]), "256 bytes"),
        ("a global path", layer([pax(b'g', &[("path", b"etc/passwd")]), file("x", "x")]), "global header"),
    ] {
        harness.assert_refused(what, &layout, words);
    }
}

#[test]
fn odd_but_valid_names_are_unpacked() {
    let harness = HostileHarness::new();
    let long_name = "n".repeat(255);
    for (what, layout, script, wanted) in [
        (
            "an absolute path",
            layer([file(harness.target_file(), "inside")]),
            format!("cat {}", harness.target_file()),
            "inside",
        ),
        (
            "forms of a name",
            layer([file("./a", "1"), file("b//c", "2"), file("d/./e", "3"), dir("./"), file("/f", "4")]),
            "cat /a /b/c /d/e /f".to_owned(),
            "1234",
        ),
        ("255 bytes", layer([gnu_long(b'L', &long_name), file("x", "long")]), format!("cat /{long_name}"), "long"),
        (
            "a NUL ends a long name",
            layer([gnu_long(b'L', "a\0/../../../b"), file("x", "cut")]),
            "cat /a".to_owned(),
            "cut",
        ),
        (
            "a pax header between a long name and its entry",
            layer([gnu_long(b'L', "long"), pax(b'x', &[("mtime", b"5")]), file("x", "both")]),
            "cat /long; stat -c %Y /long".to_owned(),
            "both5",
        ),
        (
            "odd bytes",
            layer([dir("o"), file("o/\u{1b}[31m\"'\n", "1"), file(b"o/\xff\xfe".as_slice(), "2")]),
            "cat /o/*; ls /o | wc -c".to_owned(),
            "1212",
        ),
    ] {
        harness.assert_prints(what, &layout, &script, wanted);
    }
}

#[test]
fn links_are_resolved_inside_the_layer() {
    let harness = HostileHarness::new();
    let (target, target_file) = (harness.target(), harness.target_file());
    let up = format!("../../../../../../../../../..{target}");
    let root = "/".to_owned();
    for (what, layout, script, wanted) in [
        (
            "a symbolic link and a write through it",
            layer([dir(&target), symlink("x", &target), file("x/new", "in")]),
            format!("cat {target}/new"),
            "in",
        ),
        (
            "through an upper layer: the directory stands in the link's place",
            layers([symlink("x", &target)], [file("x/new", "in")]),
            "cat /x/new; test -L /x || echo ' dir'".to_owned(),
            "in dir",
        ),
        (
            "a chain of relative links",
            layer([
                dir(&target),
                symlink("a", ".."),
                symlink("b", "a/.."),
                symlink("c", format!("b/{up}")),
                file("c/new", "in"),
            ]),
            format!("cat {target}/new"),
            "in",
        ),
        (
            "a hard link through a linked parent",
            layer([symlink("x", "etc"), file("etc/own", "own"), hard_link("h", "x/own")]),
            "cat /h".to_owned(),
            "own",
        ),
        (
            "a hard link to a symbolic link, then a file of the link's name",
            layer([symlink("l", &target_file), hard_link("h", "l"), file("h", "new"), file("l", "too")]),
            "cat /h /l".to_owned(),
            "newtoo",
        ),
        (
            "a whiteout through a linked directory",
            layers([symlink("x", &target)], [file("x/.wh.file", "")]),
            "cat /x/file 2>/dev/null || echo gone".to_owned(),
            "gone",
        ),
        (
            "the same in one layer",
            layer([dir(&target), symlink("x", &target), file("x/.wh.file", "")]),
            format!("cat {target}/file 2>/dev/null || echo gone"),
            "gone",
        ),
        (
            "an opaque mark through a linked directory",
            layer([dir(&target), symlink("x", &target), file("x/.wh..wh..opq", "")]),
            format!("ls -A {target}"),
            "",
        ),
        (
            "a link, then a directory of its name",
            layer([symlink("x", &target), dir("x").mode(0o777), file("x/f", "f")]),
            "cat /x/f; stat -c %a /x".to_owned(),
            "f777",
        ),
        (
            "a directory with files, then a link of its name",
            layer([dir("x").mode(0o777), file("x/f", "f"), symlink("x", &target)]),
            "readlink /x".to_owned(),
            &target,
        ),
        (
            "the root as a link's target",
            layer([symlink("up", &root), file("up/new", "in")]),
            "cat /new".to_owned(),
            "in",
        ),
        (
            "a symbolic link with data",
            layer([symlink("x", "y").data("data that is no entry"), file("z", "z")]),
            "readlink /x; cat /z".to_owned(),
            "y\nz",
        ),
    ] {
        harness.assert_prints(what, &layout, &script, wanted);
    }
    for (what, layout, words) in [
        ("the root as a link", layer([symlink(".", &target), file("new", "x")]), "the root of a layer is a directory"),
        (
            "a write through a link to nothing",
            layer([symlink("x", &target), file("x/new", "x")]),
            "/x/new: what should be a directory",
        ),
        (
            "a loop, and a file through it",
            layer([symlink("a", "b"), symlink("b", "a"), file("a/f", "x")]),
            "/a/f: what should be a directory",
        ),
        ("a hard link to nothing", layer([hard_link("h", "missing")]), "hard link to what does not exist"),
        ("a hard link below nothing", layer([hard_link("h", "no/where")]), "hard link to what does not exist"),
        ("a hard link to a directory", layer([dir("d"), hard_link("h", "d")]), "hard link to a directory"),
        ("a hard link to the root", layer([hard_link("h", "/")]), "hard link to a directory"),
        ("a link to nothing at all", layer([symlink("x", "")]), "a link has no target"),
    ] {
        harness.assert_refused(what, &layout, words);
    }
}

#[test]
fn inconsistent_headers_are_refused() {
    let harness = HostileHarness::new();
    let cut = tar([file("a", &"x".repeat(5000))]);
    let long_data = [tar([file("a", "x")]), vec![b'x'; 700]].concat();
    let mut wrong_sum = tar([file("a", "x")]);
    wrong_sum[148] ^= 1;
    for (what, layout, words) in [
        (
            "8 GiB of pax",
            layer([pax(b'x', &[]).field(124, b"77777777777\0"), file("x", "x")]),
            "an extended header in it has more than 1048576 bytes",
        ),
        (
            "a name of 8 GiB",
            layer([gnu_long(b'L', "a").field(124, b"77777777777\0"), file("x", "x")]),
            "an extended header in it has more than 1048576 bytes",
        ),
        ("a negative size in base 256", layer([file("x", "x").field(124, &[0xff; 12])]), "its size is no number"),
        (
            "a size of 2^70",
            layer([file("x", "x").field(124, &[0x80, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0])]),
            "its size is no number",
        ),
        (
            "a size of 2^63",
            layer([file("x", "x").field(124, &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])]),
            "its size is no number",
        ),
        ("a negative pax size", layer([pax(b'x', &[("size", b"-1")]), file("x", "x")]), "pax `size`"),
        ("a checksum that is wrong", CraftedLayout::over_base([wrong_sum]), "not a tar"),
        ("cut in a file", CraftedLayout::over_base([cut[..3000].to_vec()]), "ends in the middle of /a"),
        ("cut in a header", CraftedLayout::over_base([cut[..300].to_vec()]), "ends in the middle"),
        ("no tar", CraftedLayout::over_base([b"no tar".repeat(1000)]), "not a tar"),
        (
            "a wrong sum behind an entry",
            CraftedLayout::over_base([[&tar([file("a", "x")])[..1024], &[7; 512]].concat()]),
            "checksum",
        ),
        ("uid -1", layer([pax(b'x', &[("uid", b"-1")]), file("x", "x")]), "pax `uid`"),
        ("uid 2^40", layer([pax(b'x', &[("uid", b"1099511627776")]), file("x", "x")]), "larger than Linux"),
        ("uid 2^32-1", layer([pax(b'x', &[("uid", b"4294967295")]), file("x", "x")]), "larger than Linux"),
        ("gid 2^40 in base 256", layer([file("x", "x").field(116, &[0x80, 0, 1, 0, 0, 0, 0, 0])]), "larger than Linux"),
        (
            "a sparse file of pax 1.0: 1 GiB, and one byte of it",
            layer([
                pax(
                    b'x',
                    &[
                        ("GNU.sparse.major", b"1"),
                        ("GNU.sparse.minor", b"0"),
                        ("GNU.sparse.name", b"hole"),
                        ("GNU.sparse.realsize", b"1073741824"),
                    ],
                ),
                file("GNUSparseFile.0/hole", &format!("1\n1073741823\n1\n{:\0<498}x", "")),
            ]),
            "sparse",
        ),
        ("an old sparse file", layer([RawEntry::new(b'S', "hole").data("x")]), "sparse"),
        ("a kind that is none", layer([RawEntry::new(b'Z', "x")]), "no file system"),
    ] {
        harness.assert_refused(what, &layout, words);
    }
    // Data behind the end of the archive is ignored and never read as an entry.
    let second = [tar([file("one", "1")]), tar([file("two", "2")])].concat();
    let both = "cat /one; ls /two 2>/dev/null | wc -l";
    harness.assert_prints("garbage after the end", &CraftedLayout::over_base([long_data]), "cat /a", "x");
    harness.assert_prints("a second archive after the end", &CraftedLayout::over_base([second]), both, "10");
}

#[test]
fn conflicting_headers_and_repeated_names_have_one_meaning() {
    let harness = HostileHarness::new();
    // The size in the pax header counts; the data is not parsed as an entry, though it looks like one.
    let nested = tar([file("nested", "must not be")]);
    let size = nested.len().to_string();
    let smuggled = [
        pax(b'x', &[("size", size.as_bytes())]).blocks(),
        file("outer", "").blocks(),
        nested.clone(),
        tar([file("after", "after")]),
    ];
    let script = "wc -c < /outer; cat /after; ls /nested 2>/dev/null | wc -l";
    let wanted = format!("{size}\nafter0");
    harness.assert_prints(
        "a size of pax over one of 0",
        &CraftedLayout::over_base([smuggled.concat()]),
        script,
        &wanted,
    );
    let nested_in_dir = [dir("d").size(nested.len()).blocks(), nested, tar([file("after", "after")])];
    let script = "ls -A /d | wc -l; cat /after; ls /nested 2>/dev/null | wc -l";
    harness.assert_prints(
        "a directory with data",
        &CraftedLayout::over_base([nested_in_dir.concat()]),
        script,
        "0\nafter0",
    );
    let again = layer([file("a", "1"), dir("a"), file("a/b", "2"), file("a", "3")]);
    harness.assert_prints("a file, a directory, a file", &again, "cat /a", "3");
    let through_file = layer([file("a", "1"), file("a/b", "2")]);
    let done = harness.run(&through_file, "cat /a/b");
    assert!(done.code != 0 && done.stderr.contains("/a/b: what should be a directory"), "{done}");
}

#[test]
fn special_files_modes_ids_and_whiteouts_are_unpacked_as_the_tar_says() {
    let harness = HostileHarness::new();
    for (what, layout, script, wanted) in [
        ("a pipe", layer([RawEntry::new(b'6', "pipe")]), "test -p /pipe && echo yes", "yes"),
        ("setuid", layer([file("su", "x").mode(0o4755)]), "stat -c %a /su", "4755"),
        ("sticky and all", layer([dir("all").mode(0o7777)]), "stat -c %a /all", "7777"),
        ("a device", layer([device_node(b'3', "null", 1, 3)]), "test -c /null && stat -c %t:%T /null", "1:3"),
        ("a disk", layer([device_node(b'4', "disk", 7, 200)]), "test -b /disk && stat -c %t:%T /disk", "7:c8"),
        ("uid 2^31", layer([pax(b'x', &[("uid", b"2147483648")]), file("x", "x")]), "stat -c %u /x", "2147483648"),
        (
            "times",
            layer([
                pax(b'x', &[("mtime", b"-5.5")]),
                file("a", ""),
                pax(b'x', &[("mtime", b"100000000000")]),
                file("b", ""),
                pax(b'x', &[("mtime", b"7.123456789")]),
                file("c", ""),
            ]),
            "stat -c %Y /a /c; stat -c %Y /b >/dev/null && echo some",
            "-6\n7\nsome",
        ),
        ("a remark for all", layer([pax(b'g', &[("comment", b"0123")]), file("x", "x")]), "cat /x", "x"),
        (
            "a whiteout, then a directory of that name: nothing of below is in it",
            layer([file("usr/share/.wh.base", ""), dir("usr/share/base"), file("usr/share/base/new", "n")]),
            "ls /usr/share/base",
            "new",
        ),
        (
            "the same with a directory that no entry makes",
            layer([file("usr/share/.wh.base", ""), file("usr/share/base/new", "n")]),
            "ls /usr/share/base",
            "new",
        ),
        (
            "a whiteout after a directory of that name hides what is below only",
            layer([dir("usr/share/base"), file("usr/share/base/new", "n"), file("usr/share/.wh.base", "")]),
            "ls /usr/share/base",
            "new",
        ),
        (
            "a whiteout after a file of that name",
            layer([file("usr/share/base", "n"), file("usr/share/.wh.base", "")]),
            "cat /usr/share/base",
            "n",
        ),
        (
            "opaque",
            layer([file("usr/share/base/new", "n"), file("usr/share/base/.wh..wh..opq", "")]),
            "ls /usr/share/base",
            "new",
        ),
        ("aufs's own marks", layer([file(".wh..wh.plnk", ""), dir(".wh..wh.orph")]), "ls -A / | grep -c wh", "0"),
    ] {
        let done = harness.run(&layout, script);
        assert_eq!(done.stdout.trim_end(), wanted, "{what}\n{done}");
    }
    let over_passwd = layer([device_node(b'3', "etc/passwd", 0, 0)]);
    harness.assert_refused("a mark of overlayfs", &over_passwd, "overlayfs's mark");
}

#[test]
fn overlayfs_attributes_of_a_layer_have_no_effect() {
    let harness = HostileHarness::new();
    let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let opaque: &[u8] = b"y";
    let all: [(&str, &[u8]); 9] = [
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.user.kept", b"yes"),
        ("SCHILY.xattr.trusted.overlay.opaque", opaque),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", opaque),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.other", b"x"),
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0\0"),
        ("SCHILY.xattr.user.dram.owner", b"5:5"),
    ];
    let parts = [pax(b'x', &all[..2]), file("cap", "x"), pax(b'x', &all[1..]), dir("usr/share/base")];
    let layout = layer(parts);
    harness.assert_prints("overlay's attributes", &layout, "ls /usr/share/base", "deep\none\ntwo\ntwo-again");
    harness.load(&layout);
    let dirs = fs::read_dir(harness.store.join("layers")).unwrap().map(|entry| entry.unwrap().path());
    let unpacked = dirs.into_iter().find(|dir| dir.join("cap").exists()).unwrap();
    let script = "import os, sys; print(*sorted(os.listxattr(sys.argv[1])))";
    let attributes = |path: &str| tool("python3").args(["-c", script]).arg(unpacked.join(path)).ok().stdout;
    assert_eq!(attributes("cap"), "security.capability user.kept\n");
    assert_eq!(attributes("usr/share/base"), "user.kept\n");
}

#[test]
fn truncated_or_corrupt_compressed_layers_are_refused() {
    let harness = HostileHarness::new();
    let plain = tar([file("a", &"x".repeat(100_000)), file("b", "b")]);
    let packed = piped_through("gzip", &["-nc"], &plain);
    let (half, rest) = plain.split_at(50_000);
    let members = [piped_through("gzip", &["-nc"], half), piped_through("gzip", &["-nc"], rest)].concat();
    let mut wrong_sum = packed.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 0xff;
    let id = digest(&plain);
    let over = |blob: Vec<u8>| CraftedLayout::over_base([]).blob(blob, &id);
    for (what, blob) in
        [("gzip", packed.clone()), ("members", members), ("zstd", piped_through("zstd", &["-qc"], &plain))]
    {
        harness.assert_prints(what, &over(blob), "wc -c < /a; cat /b", "100000\nb");
    }
    for (what, blob) in [
        ("a wrong CRC", wrong_sum),
        ("no trailer", packed[..packed.len() - 8].to_vec()),
        ("half", packed[..packed.len() / 2].to_vec()),
    ] {
        harness.assert_refused(what, &over(blob), "cannot read the archive");
    }
    harness.assert_refused(
        "another diff_id",
        &CraftedLayout::over_base([]).blob(plain, &digest(b"other")),
        "configuration says",
    );
}

#[test]
fn images_with_hostile_links_do_not_reach_the_host() {
    let harness = HostileHarness::new();
    let (target, target_file) = (harness.target(), harness.target_file());
    let whole = |parts: Vec<RawEntry>| layer(parts);
    for (what, layout, script, wanted) in [
        (
            "/dev is a link out",
            whole(vec![file(".wh.dev", ""), symlink("dev", &target)]),
            "echo x > /dev/new; true",
            None,
        ),
        (
            "/proc and /sys are links",
            whole(vec![file(".wh.proc", ""), symlink("proc", "/etc"), file(".wh.sys", ""), symlink("sys", &target)]),
            "true",
            None,
        ),
        ("/etc/passwd is a pipe", whole(vec![RawEntry::new(b'6', "etc/passwd")]), "echo ran", None),
        ("/etc/passwd is a link out", whole(vec![symlink("etc/passwd", &target_file)]), "echo ran", Some("ran")),
        ("/etc is a link out", whole(vec![file(".wh.etc", ""), symlink("etc", &target)]), "echo ran", None),
        (
            "/etc/hosts is a link out",
            whole(vec![symlink("etc/hosts", &target_file)]),
            "echo ran > /etc/hosts; echo ran",
            Some("ran"),
        ),
        ("/etc/passwd of one line of 64 MiB", whole(vec![file("etc/passwd", &"x".repeat(64 << 20))]), "echo ran", None),
    ] {
        let done = harness.run(&layout, script);
        if let Some(wanted) = wanted {
            assert_eq!(done.stdout.trim_end(), wanted, "{what}\n{done}");
        }
    }
    let dir_link = layer([symlink("way", &target)]).config({
        let target = target.clone();
        move |config| config["config"]["WorkingDir"] = format!("/way/../way/{target}/new").into()
    });
    harness.run(&dir_link, "pwd; touch here");
    let volume =
        layer([]).config(|config| config["config"]["Volumes"] = serde_json::json!({"/../../../etc": {}, "../x": {}}));
    harness.assert_prints("volumes that climb", &volume, "cat /etc/base.conf", "setting=1");
    for user in ["4294967296", "2147483648", "-1", "0:4294967296"] {
        let layout = layer([]).config(move |config| config["config"]["User"] = user.into());
        harness.assert_refused(user, &layout, user.rsplit(':').next().unwrap());
    }
}

#[test]
fn a_build_on_hostile_layers_does_not_reach_the_host() {
    let harness = HostileHarness::new();
    let layout = layer([symlink("way", harness.target()), RawEntry::new(b'6', "pipe"), symlink("loop", "loop")]);
    assert_eq!(harness.load(&layout).code, 0);
    for step in [
        "COPY f /way/new",
        "ADD f /way/",
        "WORKDIR /way/new",
        "COPY --from=hostile /pipe /copy",
        "COPY --from=hostile /way/file /copy",
        "COPY f /loop/f",
        "RUN --mount=type=bind,from=hostile,source=/way,target=/m cat /m/file",
        "RUN --mount=type=cache,target=/way/cache touch /way/cache/x",
    ] {
        let context = Context::new(&format!("FROM hostile\n{step}\n")).file("f", "f");
        let done = harness.dram(["build", "--progress", "plain", "-t", "demo"], context.path());
        drop(done);
    }
}

/// Returns an image of `count` layers, each with a file of its own and one that all share; every tenth layer removes
/// the file of the layer before.
fn many_layers(count: usize) -> CraftedLayout {
    CraftedLayout::over_base((1..count).map(|n| {
        let gone = (n % 10 == 0).then(|| file(format!("all/.wh.f{}", n - 1), ""));
        tar([dir("all"), file(format!("all/f{n}"), "x"), file("last", &n.to_string())].into_iter().chain(gone))
    }))
}

#[test]
fn an_image_of_500_layers_runs_and_can_be_a_base() {
    let harness = HostileHarness::new();
    harness.assert_prints("500 layers", &many_layers(500), "cat /last; ls /all | wc -l", "499450");
    harness.load(&many_layers(500));
    let context = Context::new("FROM hostile\nRUN echo one > /one\nRUN cat /one /last > /two && rm /all/f498\n");
    harness.store.build(&context).ok();
    assert_eq!(harness.store.sh("cat /two; ls /all | wc -l; ulimit -n").stdout.lines().take(2).last(), Some("499449"));
    let limits = |dram: crate::support::TestCommand| dram.run_under("prlimit", &["--nofile=100:8192"]).ok().stdout;
    let seen = limits(harness.store.dram(["run", "demo", "sh", "-c", "ulimit -Sn; ulimit -Hn"]));
    assert_eq!(seen, "100\n8192\n", "a command has the limits of who calls");
}

#[test]
fn too_many_layers_are_refused_to_run_and_can_be_squashed() {
    let harness = HostileHarness::new();
    harness.assert_prints("600 layers", &many_layers(600), "cat /last; ls /all | wc -l", "599540");
    assert_eq!(harness.load(&many_layers(1010)).code, 0);
    let run = |name| harness.store.dram(["run", name, "sh", "-c", "cat /last; ls /all | wc -l; stat -c %Y /last"]);
    run("hostile").fails(1).says("1010 layers are too many").says("dram squash");
    let build = harness.store.build(&Context::new("FROM hostile\nRUN true\n")).fails(1);
    build.says("layers are too many").says("dram squash");
    let squashed = harness.dram(["squash", "hostile"], "one".as_ref());
    assert!(squashed.code == 0 && squashed.stdout.starts_with("one@sha256:"), "{squashed}");
    assert_eq!(run("one").ok().stdout, "1009909\n1\n");
    let (before, after) = (harness.store.inspect("hostile"), harness.store.inspect("one"));
    assert_eq!(before["config"]["config"], after["config"]["config"]);
    assert_eq!(after["manifest"]["layers"].as_array().unwrap().len(), 1);
    valid_image(&harness.store, "one:latest");
    harness.store.dram(["squash", "one", "two"]).ok();
    assert_eq!(harness.store.inspect("two")["config"]["rootfs"], after["config"]["rootfs"], "the same bytes");
}

#[test]
fn implicit_directories_inherit_mode_and_owner_of_lower_layers() {
    let harness = HostileHarness::new();
    let over = |parts: Vec<RawEntry>| layers(lower_layer(), parts);
    let stat = "stat -c '%a %u' /t /t/deep; ls /t /t/deep";
    harness.assert_prints(
        "two of them",
        &over(vec![file("t/deep/new", "n")]),
        stat,
        "1777 7\n700 0\n/t:\ndeep\n\n/t/deep:\nnew",
    );
    harness.assert_prints(
        "one that an entry makes after all",
        &over(vec![file("t/new", "n"), dir("t").mode(0o750)]),
        "stat -c '%a %u' /t",
        "750 0",
    );
    harness.assert_prints(
        "one that is hidden",
        &over(vec![file(".wh.t", ""), file("t/new", "n")]),
        "stat -c '%a %u' /t; ls /t",
        "755 0\nnew",
    );
    harness.assert_prints(
        "in the place of a link",
        &over(vec![file("lib/new", "n")]),
        "stat -c %a /lib; ls /lib /usr/lib",
        "711\n/lib:\nnew\n\n/usr/lib:\nold",
    );
    // The same layer over another image is unpacked separately, so the directories of that image keep their modes.
    let upper = tar([file("t/new", "n")]);
    let one = CraftedLayout::over_base([tar([dir("t").mode(0o1777)]), upper.clone()]);
    let other = CraftedLayout::over_base([tar([dir("t").mode(0o700)]), upper.clone()]);
    let none = CraftedLayout::over_base([upper]);
    for (layout, wanted) in [(&one, "1777"), (&other, "700"), (&none, "755"), (&one, "1777")] {
        harness.assert_prints("another base", layout, "stat -c %a /t; test -f /t/new", wanted);
    }
    harness.store.dram(["prune", "--all"]).ok();
    harness.assert_prints("after a prune", &other, "stat -c %a /t", "700");
}

/// Returns the entries of a lower layer with unusual modes and owners.
fn lower_layer() -> [RawEntry; 5] {
    [
        dir("t").mode(0o1777).field(108, b"0000007\0"),
        dir("t/deep").mode(0o700),
        dir("usr/lib").mode(0o711),
        symlink("lib", "usr/lib"),
        file("usr/lib/old", "o"),
    ]
}

#[test]
fn layers_over_a_limit_are_refused_with_the_option_to_raise_it() {
    let harness = HostileHarness::new();
    let many = layer((0..200).map(|n| file(format!("f{n}"), "")));
    let deep = layer([gnu_long(b'L', format!("{}f", "d/".repeat(300))), file("f", "")]);
    let long_attribute = layer([pax(b'x', &[("SCHILY.xattr.user.a", &[7; 3000])]), file("x", "x")]);
    let zeros = piped_through("gzip", &["-nc"], &tar([file("zeros", &"\0".repeat(3 << 20))]));
    let id = digest(&tar([file("zeros", &"\0".repeat(3 << 20))]));
    let zeros = CraftedLayout::over_base([]).blob(zeros, &id);
    for (layout, limit, words, raised) in [
        (&deep, "", "more than 256 directories deep", "depth=2560"),
        (&many, "entries=100", "more than 100 entries", "entries=1000"),
        (&long_attribute, "header=2k", "more than 2048 bytes", "header=20480"),
        (&zeros, "size=3000000", "unpacks to more than 3000000 bytes", "size=30000000"),
    ] {
        layout.write();
        let load = |limit: &str| {
            let load = harness.store.dram(["load"]).arg(layout.join("")).env("DRAM_LIMITS", limit);
            load.run_under("prlimit", &["--as=2147483648"])
        };
        load(limit).fails(1).says(words).says(&format!("--limit {raised}"));
        let ran = harness.store.dram(["images", "--json"]).ok().stdout;
        assert_eq!(ran.trim(), "[]");
        load(raised).ok();
        harness.store.dram(["run", "--limit", raised, "hostile", "true"]).ok();
        let told =
            |checked: &CommandOutput| checked.stdout.contains(words) && checked.stdout.contains("is not verified: ");
        let checked = harness.store.dram(["fsck"]).env("DRAM_LIMITS", limit).ok();
        assert!(told(&checked), "{checked}");
        let checked = harness.store.dram(["fsck", "--limit", raised]).ok();
        assert!(!told(&checked), "{checked}");
        harness.store.dram(["rm", "hostile"]).ok();
    }
    for text in ["entries", "entries=x", "names=1"] {
        harness.store.dram(["images", "--limit", text]).fails(2).says("cannot limit").says("entries, depth");
    }
    harness.store.dram(["prune", "--all"]).ok();
}

/// Returns a zstd frame of `head` followed by `blocks` times 128 KiB of zeros, each block encoded in four bytes.
fn zstd_bomb(head: &[u8], blocks: usize) -> Vec<u8> {
    let block = |kind: usize, size: usize| (size << 3 | kind << 1).to_le_bytes()[..3].to_vec();
    let magic_and_window = [0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    let zeros = [block(1, 128 << 10), vec![0]].concat();
    [&magic_and_window[..], &block(0, head.len()), head, &zeros.repeat(blocks), &[1, 0, 0]].concat()
}

#[test]
fn decompression_bombs_are_refused() {
    let harness = HostileHarness::new();
    let header = file("zeros", "").field(124, &[0x80, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0]).blocks();
    // 64 GiB in 2 MiB.
    let bomb = zstd_bomb(&header, 1 << 19);
    assert!(bomb.len() < 3 << 20);
    let layout = CraftedLayout::over_base([]).blob(bomb.clone(), &digest(b"of whatever it is"));
    harness.assert_refused("a layer", &layout, "more than 200 times its length");
    let wide = layer([pax(b'x', &[("SCHILY.xattr.user.a", &[7; 60_000])]), file("wide", "x")]);
    let done = harness.run(&wide, "true");
    assert!(done.code == 0 || done.stderr.contains("/wide: the disk does not hold"), "{done}");
    fs::write(layout.join("bomb.tar.zst"), bomb).unwrap();
    let import = harness.store.dram(["import", "--limit", "expansion=100"]).arg(layout.join("bomb.tar.zst")).arg("x");
    import.fails(1).says("more than 100 times its length").says("--limit expansion=1000");
    let context = Context::new("FROM scratch\nADD bomb.tar.zst /\n");
    fs::copy(layout.join("bomb.tar.zst"), context.join("bomb.tar.zst")).unwrap();
    let done = harness.dram(["build", "--progress", "plain"], context.path()).says("more than 200 times its length");
    assert_eq!(done.code, 1, "{done}");
}

#[test]
fn zeros_are_unpacked_as_holes() {
    let harness = HostileHarness::new();
    let plain = tar([file("zeros", &("\0".repeat(48 << 20) + "end")), file("all", &"\0".repeat(16 << 20))]);
    let layout = CraftedLayout::over_base([]).blob(piped_through("gzip", &["-nc"], &plain), &digest(&plain));
    let script = "wc -c < /zeros; tail -c 4 /zeros | od -An -c; wc -c < /all";
    harness.assert_prints("zeros", &layout, script, "50331651\n  \\0   e   n   d\n16777216");
    let kib = tool("du").arg("-sk").arg(harness.store.join("layers")).ok().stdout;
    let kib: u64 = kib.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 16 << 10, "the layers take {kib} KiB");
}

#[test]
fn hostile_layers_have_the_same_meaning_without_root() {
    let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for user in [rootless::user_with_subids(), rootless::user_without_subids()] {
        let harness = HostileHarness::for_user(&user);
        let marks: [(&str, &[u8]); 4] = [
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.whiteout", b""),
            ("SCHILY.xattr.user.dram.owner", b"5:5"),
        ];
        let marked = layer([pax(b'x', &marks), dir("usr/share/base"), pax(b'x', &marks[1..]), file("f", "f")]);
        harness.assert_prints(
            "overlay's attributes",
            &marked,
            "ls /usr/share/base; cat /f",
            "deep\none\ntwo\ntwo-again\nf",
        );
        harness.assert_refused(
            "a mark of overlayfs",
            &layer([device_node(b'3', "etc/passwd", 0, 0)]),
            "overlayfs's mark",
        );
        harness.assert_prints(
            "whiteouts and opaque directories",
            &layer([file("usr/share/.wh.base", ""), file("usr/share/base/new", "n"), file("etc/.wh.base.conf", "")]),
            "ls /usr/share/base; test -e /etc/base.conf || echo gone",
            "new\ngone",
        );
        harness.assert_prints(
            "directories that no entry makes",
            &layers(lower_layer(), [file("t/deep/new", "n")]),
            "stat -c %a /t /t/deep",
            "1777\n700",
        );
        harness.assert_prints(
            "links",
            &layer([dir("in"), symlink("x", "in"), file("x/f", "f"), symlink("y", harness.target()), file("g", "g")]),
            "cat /in/f; ls /y 2>/dev/null | wc -l",
            "f0",
        );
        // A device node is recorded but does not work in a container; a capability stays a capability.
        let special = layer([
            device_node(b'3', "null", 1, 3),
            device_node(b'4', "disk", 7, 200),
            pax(b'x', &[("SCHILY.xattr.security.capability", capability)]),
            file("cap", "x"),
            pax(b'x', &[("uid", b"3000000000")]),
            file("far", "x"),
        ]);
        harness.assert_prints("special files", &special, "echo x > /null; cat /cap /far", "xx");
        harness.assert_prints("many layers", &many_layers(520), "cat /last; ls /all | wc -l", "519468");
    }
}

#[test]
fn added_archives_and_context_archives_have_the_same_limits() {
    let harness = HostileHarness::new();
    harness.store.dram(["import"]).arg(base_tar()).arg("base").ok();
    let target = harness.target();
    let out = || vec![symlink("x", &target), file("x/new", "x")];
    let climbs = || vec![file("../new", "x")];
    let deep = || vec![gnu_long(b'L', format!("{}f", "d/".repeat(300))), file("f", "")];
    let long_header = || vec![pax(b'x', &[]).field(124, b"77777777777\0"), file("x", "x")];
    let sparse = || vec![RawEntry::new(b'S', "hole").data("x")];
    // Such a name is no deletion here, but would be one in every image that holds it.
    let whiteout = || vec![file(".wh.etc", "1"), file("etc", "2")];
    let opaque = || vec![dir("d"), file("d/.wh..wh..opq", "2")];
    for (what, parts, words) in [
        ("a write through a link out", &out as &dyn Fn() -> Vec<RawEntry>, "/x/new"),
        ("../", &climbs, "climbs out"),
        ("300 directories", &deep, "more than 256 directories deep"),
        ("8 GiB of pax", &long_header, "an extended header in it has more than"),
        ("a sparse file", &sparse, "sparse"),
        ("a whiteout's name", &whiteout, "an image cannot hold `/all/.wh.etc`"),
        ("an opaque directory's name", &opaque, "an image cannot hold `/all/d/.wh..wh..opq`"),
    ] {
        let context = Context::new("FROM base\nADD all.tar /all/\n");
        fs::write(context.join("all.tar"), tar(parts())).unwrap();
        let done = harness.dram(["build", "--progress", "plain"], context.path());
        assert!(done.code == 1 && done.stderr.contains(words), "ADD of {what}\n{done}");
        let whole = tar(parts().into_iter().chain([file("Dockerfile", "FROM base\nCOPY . /all/\n")]));
        let done = harness.store.dram(["build", "--progress", "plain", "-"]).stdin(whole).end();
        assert!(done.code == 1 && done.stderr.contains(words), "a context with {what}\n{done}");
        harness.images();
    }
    // Harmless entries are extracted as the archive says.
    let parts = [dir("d"), symlink("x", &target), device_node(b'3', "null", 1, 3)];
    let context = Context::new("FROM base\nADD all.tar /all/\n");
    fs::write(context.join("all.tar"), tar(parts)).unwrap();
    let done = harness.dram(["build", "-t", "demo", "--progress", "plain"], context.path());
    assert_eq!(done.code, 0, "{done}");
    let seen = harness.store.sh("ls -A /all; ls /all/x 2>&1 | wc -l; test -c /all/null");
    assert_eq!(seen.stdout, "d\nnull\nx\n1\n", "{seen}");
}

#[test]
fn wide_directories_are_unpacked_in_linear_time() {
    let harness = HostileHarness::new();
    // Thousands of directories that one entry replaces, and as many that are created again; each must cost constant
    // time.
    let dirs = || (0..4000).map(|n| dir(format!("d/{n}")));
    let parts = [dir("d")].into_iter().chain(dirs()).chain([file("d", "x")]).chain([dir("d")]).chain(dirs());
    let replaced = (0..4000).map(|n| file(format!("d/{n}"), ""));
    let begun = std::time::Instant::now();
    harness.assert_prints("many directories", &layer(parts.chain(replaced)), "ls /d | wc -l", "4000");
    harness.store.dram(["prune", "--all"]).ok();
    // Linear time takes seconds even on a busy machine; quadratic time takes many minutes.
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
}

#[test]
fn whiteouts_of_missing_files_have_no_effect() {
    let harness = HostileHarness::new();
    let parts = [dir("new"), file("new/.wh.x", ""), file("new/f", ""), dir("new/d"), file("new/d/.wh.y", "")];
    let script = "ls -A /new /new/d; rm -r /new && mkdir /new && touch /new/x && ls /new";
    harness.assert_prints("in one layer", &layer(parts), script, "/new:\nd\nf\n\n/new/d:\nx");
}
