//! `dram release` with broken or hostile compiled applications: it reports the error with its place and leaves nothing
//! at the destination.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::release::{Project, tree};
use crate::support::{CommandOutput, TestCommand, dram_path, names, temp, tool};

/// Compiled applications, and a destination for a release of them.
struct CompiledApps {
    dir: TempDir,
}

impl CompiledApps {
    fn empty() -> CompiledApps {
        let lib = CompiledApps { dir: temp() };
        fs::create_dir(lib.dir.path().join("out")).unwrap();
        lib
    }

    /// Creates a valid application `root` with one module.
    fn valid() -> CompiledApps {
        let lib = CompiledApps::empty();
        lib.write_app("root", specification("root", "{modules, [root]}, {applications, [kernel, stdlib]}"));
        lib.compile_module("root", "root");
        lib
    }

    fn write_app(&self, name: &str, text: impl AsRef<[u8]>) {
        let ebin = self.ebin(name);
        fs::create_dir_all(&ebin).unwrap();
        fs::write(ebin.join(format!("{name}.app")), text).unwrap();
    }

    fn compile_module(&self, app: &str, module: &str) {
        let source = self.dir.path().join(format!("{module}.erl"));
        fs::write(&source, format!("-module({module}).\n-export([f/0]).\nf() -> \"some literal\".\n")).unwrap();
        tool("erlc").arg("-o").arg(self.ebin(app)).arg(source).ok();
    }

    fn ebin(&self, app: &str) -> PathBuf {
        self.dir.path().join("lib").join(app).join("ebin")
    }

    fn beam(&self, app: &str, module: &str) -> PathBuf {
        self.ebin(app).join(format!("{module}.beam"))
    }

    fn release(&self) -> PathBuf {
        self.dir.path().join("out/root")
    }

    /// Returns the command `dram release --from` with all applications.
    fn dram(&self) -> TestCommand {
        let apps = names(&self.dir.path().join("lib"));
        let dram = TestCommand::new(dram_path()).args(["release", "--name", "root", "--version", "1", "--output"]);
        let dram = dram.arg(self.release()).dir(self.dir.path()).arg("--from");
        dram.args(apps.iter().map(|app| self.ebin(app)))
    }

    /// Asserts that the release is refused with these words, leaves nothing behind and does not change its input.
    #[track_caller]
    fn assert_refused(&self, words: &[&str]) {
        let before = tree(&self.dir.path().join("lib"));
        let clock = Instant::now();
        let done = self.dram().fails(1);
        assert!(clock.elapsed().as_secs() < 60, "{done}");
        for word in words {
            assert!(done.stderr.contains(word), "`{word}` is not said\n{done}");
        }
        assert_eq!(names(&self.dir.path().join("out")), Vec::<String>::new(), "{done}");
        assert!(tree(&self.dir.path().join("lib")) == before, "the input changed");
    }

    #[track_caller]
    fn assert_accepted(&self) -> CommandOutput {
        let done = self.dram().ok();
        assert_eq!(names(&self.dir.path().join("out")), ["root", "root-1.tar.gz"]);
        done
    }
}

fn specification(name: &str, rest: &str) -> String {
    let missing = |key: &str, text: &'static str| if rest.contains(key) { "" } else { text };
    let registered = missing("{registered", "{registered, []}, ");
    let applications = missing("{applications", "{applications, [kernel, stdlib]}, ");
    format!("{{application, {name}, [{{description, \"\"}}, {{vsn, \"1.0\"}}, {registered}{applications}{rest}]}}.\n")
}

#[test]
fn a_valid_application_is_released() {
    let lib = CompiledApps::valid();
    lib.assert_accepted();
    assert!(lib.release().join("lib/root-1.0/ebin/root.beam").is_file());
}

#[test]
fn invalid_app_files_are_refused_by_name() {
    let lib = CompiledApps::valid();
    let good = specification("root", "{modules, [root]}, {applications, [kernel, stdlib]}");
    let with = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        ("cut short", good.as_bytes()[..40].to_vec(), vec!["root.app"]),
        ("empty", Vec::new(), vec!["root.app"]),
        ("nested 100,000 deep", "[".repeat(100_000).into_bytes(), vec!["root.app", "deep"]),
        ("another term", b"{something, else}.\n".to_vec(), vec!["root.app"]),
        ("another name", with("application, root", "application, toor"), vec!["root.app", "toor"]),
        ("a version that is a path", with("\"1.0\"", "\"../../../x\""), vec!["../../../x"]),
        ("a version that is absolute", with("\"1.0\"", "\"/etc\""), vec!["/etc"]),
        ("an empty version", with("\"1.0\"", "\"\""), vec!["root", "vsn"]),
        ("no version", with("{vsn, \"1.0\"}, ", ""), vec!["root.app", "vsn"]),
        ("a version that is a number", with("\"1.0\"", "1"), vec!["root.app", "vsn"]),
        ("no module file", with("[root]", "[root, nowhere]"), vec!["`nowhere`", "root"]),
        ("a start module that is nowhere", with("{modules", "{mod, {nope, []}}, {modules"), vec!["`nope`"]),
        ("itself", with("stdlib]", "stdlib, root]"), vec!["root.app", "names itself"]),
        ("one that is nowhere", with("stdlib]", "stdlib, absent]"), vec!["`absent`", "`root`"]),
    ];
    for (what, text, words) in cases {
        lib.write_app("root", &text);
        eprintln!("case: {what}");
        lib.assert_refused(&words);
    }
}

#[test]
fn odd_but_valid_app_files_are_accepted() {
    let lib = CompiledApps::valid();
    let good = specification("root", "{modules, [root]}, {applications, [kernel, stdlib]}");
    for (what, text) in [
        (
            "64 MiB of comments",
            format!("{}{good}", "% a comment that says nothing at all\n".repeat(1_800_000)).into_bytes(),
        ),
        ("a byte of Latin-1", good.replace("\"\"", "\"caf\u{e9}\"").chars().map(|letter| letter as u8).collect()),
        ("a module twice", good.replace("[root]", "[root, root]").into_bytes()),
    ] {
        eprintln!("case: {what}");
        lib.write_app("root", &text);
        let done = lib.dram().end();
        assert!(done.code == 0 || (done.code == 1 && done.stderr.contains("root")), "{done}");
        let _ = fs::remove_dir_all(lib.dir.path().join("out"));
        fs::create_dir(lib.dir.path().join("out")).unwrap();
    }
    lib.write_app("root", &good);
    lib.write_app("größe", specification("'größe'", "{modules, []}, {applications, [kernel, stdlib, root]}"));
    lib.assert_accepted();
}

#[test]
fn conflicting_applications_are_refused_by_name() {
    let needs = |name: &str, what: &str| {
        specification(name, &format!("{{modules, []}}, {{applications, [kernel, stdlib{what}]}}"))
    };
    let includes = |name: &str, of: &str| {
        specification(
            name,
            &format!("{{modules, []}}, {{applications, [kernel, stdlib]}}, {{included_applications, [{of}]}}"),
        )
    };
    let circle = CompiledApps::empty();
    for (name, next) in [("root", ", a"), ("a", ", b"), ("b", ", root")] {
        circle.write_app(name, needs(name, next));
    }
    circle.assert_refused(&["root -> a -> b -> root"]);
    let twice = CompiledApps::empty();
    twice.write_app("root", needs("root", ", a, b"));
    twice.write_app("a", includes("a", "c"));
    twice.write_app("b", includes("b", "c"));
    twice.write_app("c", needs("c", ""));
    twice.assert_refused(&["`c`", "`a`", "`b`"]);
    let both = CompiledApps::empty();
    both.write_app(
        "root",
        specification("root", "{modules, []}, {applications, [kernel, stdlib, a]}, {included_applications, [a]}"),
    );
    both.write_app("a", needs("a", ""));
    both.assert_refused(&["`a`"]);
    let name = CompiledApps::empty();
    name.write_app(
        "root",
        specification("root", "{modules, []}, {registered, [clash]}, {applications, [kernel, stdlib, a]}"),
    );
    name.write_app("a", specification("a", "{modules, []}, {registered, [clash]}, {applications, [kernel, stdlib]}"));
    name.assert_refused(&["`clash`", "`root`", "`a`"]);
}

#[test]
fn a_chain_of_three_thousand_applications_is_released() {
    let lib = CompiledApps::empty();
    for number in 0..3000 {
        let name = if number == 0 { "root".to_owned() } else { format!("app{number}") };
        let next = if number == 2999 { String::new() } else { format!(", app{}", number + 1) };
        lib.write_app(
            &name,
            specification(&name, &format!("{{modules, []}}, {{applications, [kernel, stdlib{next}]}}")),
        );
    }
    let clock = Instant::now();
    lib.assert_accepted();
    assert!(clock.elapsed().as_secs() < 60, "{:?}", clock.elapsed());
}

#[test]
fn invalid_modules_are_refused_by_file() {
    let lib = CompiledApps::valid();
    let path = lib.beam("root", "root");
    let good = fs::read(&path).unwrap();
    let at = |name: &[u8; 4]| good.windows(4).position(|window| window == name).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let named = |from: &str, to: &str| {
        with(good.windows(4).position(|window| window == from.as_bytes()).unwrap(), to.as_bytes())
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("cut in half", good[..good.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("text", b"-module(root).".to_vec()),
        ("a length of 4 GiB", with(4, &[0xff; 4])),
        ("a chunk that reaches beyond the end", with(at(b"Code") + 4, &[0x7f, 0xff, 0xff, 0xff])),
        ("no code", with(at(b"Code"), b"Kode")),
        ("no atoms", with(at(b"AtU8"), b"XtU8")),
        ("another module", named("root", "toor")),
    ];
    for (what, bytes) in cases {
        eprintln!("case: {what}");
        fs::write(&path, bytes).unwrap();
        lib.assert_refused(&["root.beam", "help:"]);
    }
}

#[test]
fn an_invalid_sys_config_is_refused_by_file_and_line() {
    let lib = CompiledApps::valid();
    fs::write(lib.dir.path().join("dram.toml"), "[release]\nsys-config = 'my.config'\n").unwrap();
    for (text, words) in [
        ("[{root, [{a, 1}\n", vec!["my.config"]),
        ("[{root,\n [{a 1}]}].\n", vec!["my.config", "2"]),
        ("{root, []}.\n", vec!["my.config", "one list"]),
        ("", vec!["my.config"]),
    ] {
        fs::write(lib.dir.path().join("my.config"), text).unwrap();
        lib.assert_refused(&words);
    }
    fs::remove_file(lib.dir.path().join("my.config")).unwrap();
    lib.assert_refused(&["my.config"]);
    fs::write(lib.dir.path().join("dram.toml"), "[release]\nsys-confg = 'my.config'\n").unwrap();
    let done = lib.dram().fails(2);
    assert!(done.stderr.contains("sys-confg") && done.stderr.contains("dram.toml"), "{done}");
}

#[test]
fn links_in_priv_that_lead_outside_are_replaced_by_files() {
    let lib = CompiledApps::valid();
    let private = lib.dir.path().join("lib/root/priv");
    fs::create_dir_all(private.join("sub")).unwrap();
    let secret = lib.dir.path().join("outside.txt");
    fs::write(&secret, "from outside").unwrap();
    fs::write(private.join("file"), "inside").unwrap();
    symlink("file", private.join("inside")).unwrap();
    symlink(&secret, private.join("absolute")).unwrap();
    symlink("../../../outside.txt", private.join("climbs")).unwrap();
    symlink("nowhere", private.join("dangling")).unwrap();
    symlink("loop", private.join("loop")).unwrap();
    symlink("../..", private.join("sub/above")).unwrap();
    symlink(".", private.join("itself")).unwrap();
    let done = lib.assert_accepted();
    let at = lib.release().join("lib/root-1.0/priv");
    let links = |name: &str| fs::read_link(at.join(name)).ok();
    assert_eq!(links("inside").as_deref(), Some(Path::new("file")));
    // Files that the links lead to are copied, because the links would be dangling on another machine.
    for name in ["absolute", "climbs"] {
        assert_eq!((links(name), fs::read_to_string(at.join(name)).unwrap().as_str()), (None, "from outside"));
    }
    for name in ["dangling", "loop"] {
        assert!(done.stderr.contains(&format!("priv/{name}")), "{name}\n{done}");
    }
    assert!(tree(&at).len() < 20);
}

#[test]
fn special_files_in_priv_are_refused_and_odd_names_are_kept() {
    let lib = CompiledApps::valid();
    let private = lib.dir.path().join("lib/root/priv");
    fs::create_dir_all(&private).unwrap();
    let odd: [&[u8]; 7] =
        [b"new\nline", b"-rf", b"sp ace", b"quo\"te'", b"back\\slash", b"\xff\xfe not UTF-8", b"\x1b[31mred"];
    for name in odd {
        fs::write(private.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(private.join("n".repeat(255)), "long").unwrap();
    let done = lib.assert_accepted();
    assert!(!done.stderr.contains('\u{1b}') && !done.stdout.contains('\u{1b}'), "{done}");
    for name in odd {
        let path = lib.release().join("lib/root-1.0/priv").join(OsStr::from_bytes(name));
        assert_eq!(fs::read(path).unwrap(), name);
    }
    // The archive contains the same files.
    let unpacked = temp();
    tool("tar").arg("-xzf").arg(lib.dir.path().join("out/root-1.tar.gz")).arg("-C").arg(unpacked.path()).ok();
    assert!(tree(unpacked.path()) == tree(&lib.release()));
    // A second release reads these names from the list of files that dram wrote.
    lib.dram().ok();
    fs::remove_dir_all(lib.dir.path().join("out")).unwrap();
    fs::create_dir(lib.dir.path().join("out")).unwrap();
    tool("mkfifo").arg(private.join("pipe")).ok();
    lib.assert_refused(&["priv/pipe"]);
}

#[test]
fn libraries_for_another_architecture_are_reported() {
    let lib = CompiledApps::valid();
    let private = lib.dir.path().join("lib/root/priv");
    fs::create_dir_all(&private).unwrap();
    // An ELF header with the machine number of another architecture: AArch64, or x86-64 on AArch64.
    let mut bytes = fs::read("/proc/self/exe").unwrap();
    bytes.truncate(1 << 20);
    let other: u16 = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    bytes[18..20].copy_from_slice(&other.to_le_bytes());
    fs::write(private.join("nif.so"), &bytes).unwrap();
    let done = lib.assert_accepted();
    assert!(done.stderr.contains("priv/nif.so") && done.stderr.contains("cannot be loaded"), "{done}");
    for bytes in [&b"\x7fELF"[..], &bytes[..60], &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0xff]] {
        fs::write(private.join("nif.so"), bytes).unwrap();
        let done = lib.dram().end();
        assert!(done.code == 0 || (done.code == 1 && done.stderr.contains("nif.so")), "{done}");
    }
}

#[test]
fn names_and_versions_that_escape_the_release_are_refused() {
    let lib = CompiledApps::valid();
    for (words, word) in [
        (vec!["--version", "../../x"], "../../x"),
        (vec!["--version", ""], "version"),
        (vec!["--name", "../up"], "../up"),
        (vec!["--name", "a/b"], "a/b"),
    ] {
        let dram = TestCommand::new(dram_path()).arg("release").args(&words).dir(lib.dir.path()).arg("--output");
        let done = dram.arg(lib.release()).arg("--from").arg(lib.ebin("root")).end();
        assert!(done.code == 1 || done.code == 2, "{done}");
        assert!(done.stderr.contains(word), "{done}");
        assert_eq!(names(&lib.dir.path().join("out")), Vec::<String>::new());
    }
    let project = Project::copy("small");
    let done = project.dram().args(["--env", "../../up"]).fails(2);
    assert!(done.stderr.contains("../../up"), "{done}");
}

#[test]
fn directories_with_no_or_two_applications_are_refused() {
    let lib = CompiledApps::valid();
    fs::remove_file(lib.ebin("root").join("root.app")).unwrap();
    lib.assert_refused(&["lib/root/ebin"]);
    lib.write_app("root", specification("root", "{modules, []}"));
    fs::write(lib.ebin("root").join("second.app"), specification("second", "{modules, []}")).unwrap();
    lib.assert_refused(&["root, second"]);
}
