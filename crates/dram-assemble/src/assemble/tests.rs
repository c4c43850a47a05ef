use super::*;
use crate::answer::AnswerMap;
use crate::test_project::{TestProject, mode_of, paths, text_of, tree_path};

/// A compiled project whose application is `small`.
fn small() -> TestProject {
    let project = TestProject::new();
    project.write_app(
        "project/_build/prod/lib/small",
        "small",
        "0.1.0",
        "{applications,[kernel,stdlib,elixir,logger]}",
    );
    project
}

fn blueprint(project: &TestProject) -> ReleaseBlueprint {
    let answer = project.answer("small", &[]);
    crate::mix::blueprint(AnswerMap::from_term("answer", &answer).unwrap()).unwrap()
}

/// A module with a chunk that the emulator needs, and a chunk for debuggers.
fn module(name: &str) -> Vec<u8> {
    let atoms = [&1_i32.to_be_bytes()[..], &[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    let mut body = b"BEAM".to_vec();
    for (chunk, bytes) in [(b"AtU8", atoms), (b"Code", vec![0; 4]), (b"Dbgi", b"secret".to_vec())] {
        body.extend(chunk);
        body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        body.extend(&bytes);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    [&b"FOR1"[..], &u32::try_from(body.len()).unwrap().to_be_bytes(), &body].concat()
}

#[test]
fn a_release_has_exactly_these_files() {
    let project = small();
    let found = assemble(blueprint(&project)).unwrap();
    assert_eq!(
        paths(&found.tree),
        [
            "bin/small",
            "erts-13.1.5/bin/beam.smp",
            "erts-13.1.5/bin/epmd",
            "erts-13.1.5/bin/erl_child_setup",
            "erts-13.1.5/bin/heart",
            "erts-13.1.5/bin/inet_gethost",
            "lib/compiler-8.2.3/ebin/compiler.app",
            "lib/elixir-1.14.0/ebin/elixir.app",
            "lib/iex-1.14.0/ebin/iex.app",
            "lib/kernel-8.5.3/ebin/kernel.app",
            "lib/logger-1.14.0/ebin/logger.app",
            "lib/sasl-4.2/ebin/sasl.app",
            "lib/small-0.1.0/ebin/small.app",
            "lib/stdlib-4.2/ebin/stdlib.app",
            "releases/0.1.0/files.list",
            "releases/0.1.0/remote.vm.args",
            "releases/0.1.0/small.rel",
            "releases/0.1.0/start.boot",
            "releases/0.1.0/start.conf",
            "releases/0.1.0/start.script",
            "releases/0.1.0/start_clean.boot",
            "releases/0.1.0/start_clean.script",
            "releases/0.1.0/sys.config",
            "releases/0.1.0/vm.args",
            "releases/RELEASES",
            "releases/start_erl.data",
        ]
    );
    assert_eq!(text_of(&found.tree, "releases/start_erl.data").as_deref(), Some("13.1.5 0.1.0"));
    assert!(
        text_of(&found.tree, "releases/0.1.0/start.conf")
            .unwrap()
            .starts_with("name = small\nelixir = true\notp = 25\n")
    );
    let list = text_of(&found.tree, "releases/0.1.0/files.list").unwrap();
    assert_eq!(list.split_terminator('\0').count(), paths(&found.tree).len(), "the list has itself too");
    assert_eq!((mode_of(&found.tree, "bin/small"), found.warnings), (Some(0o755), Vec::new()));
}

#[test]
fn applications_are_listed_in_start_order_with_their_versions() {
    let project = small();
    let found = assemble(blueprint(&project)).unwrap().applications;
    let at = |name: &str| found.iter().position(|(found, _)| found == name).unwrap();
    assert!(at("kernel") < at("stdlib") && at("stdlib") < at("elixir") && at("elixir") < at("small"), "{found:?}");
    assert_eq!(found[at("small")].1, "0.1.0");
}

#[test]
fn a_missing_application_is_named_with_the_one_that_needs_it() {
    let project = small();
    project.write_app("project/_build/prod/lib/small", "small", "0.1.0", "{applications,[kernel,stdlib,elixir,gone]}");
    let error = assemble(blueprint(&project)).unwrap_err().to_string();
    assert!(error.contains("there is no application `gone`") && error.contains("`small`"), "{error}");
}

#[test]
fn an_invalid_specification_is_an_error_with_its_path() {
    let project = small();
    project.write("project/_build/prod/lib/small/ebin/small.app", "{application, other, []}.");
    let error = assemble(blueprint(&project)).unwrap_err();
    assert!(matches!(&error, AssembleError::App { path, .. } if path.ends_with("ebin/small.app")), "{error}");
}

#[test]
fn an_appup_that_is_no_term_is_reported() {
    let project = small();
    let appup = "project/_build/prod/lib/small/ebin/small.appup";
    let warned = |text: &str| {
        project.write(appup, text);
        let warnings = assemble(blueprint(&project)).unwrap().warnings;
        warnings.iter().any(|warning| warning.contains("ebin/small.appup` is no appup"))
    };
    assert!(!warned("{\"2\", [], []}."));
    for text in ["", "{\"2\", [", "not a term at all", "{\"2\", [], []}. {\"3\", [], []}."] {
        assert!(warned(text), "{text:?}");
    }
}

#[test]
fn names_that_are_no_path_component_are_refused() {
    let project = small();
    for name in ["", ".", "..", "a/b", "a\nb", "a\0b"] {
        let error = assemble(ReleaseBlueprint { name: name.to_owned(), ..blueprint(&project) }).unwrap_err();
        assert!(error.to_string().starts_with("the release `"), "{name:?}: {error}");
        let error = assemble(ReleaseBlueprint { version: name.to_owned(), ..blueprint(&project) }).unwrap_err();
        assert!(error.to_string().starts_with("the version `"), "{name:?}: {error}");
        let erts_programs = vec![name.to_owned()];
        let error = assemble(ReleaseBlueprint { erts_programs, ..blueprint(&project) }).unwrap_err();
        assert!(error.to_string().starts_with("the program `"), "{name:?}: {error}");
    }
}

#[test]
fn modules_are_stripped_only_if_the_release_strips() {
    let project = small();
    project.write("project/_build/prod/lib/small/ebin/m.beam", module("m"));
    let at = tree_path("lib/small-0.1.0/ebin/m.beam");
    let content = |strip| {
        let found = assemble(ReleaseBlueprint { strip, ..blueprint(&project) }).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("demo");
        let lock = crate::write::lock_destination(&to).unwrap();
        let mut cache = crate::write_cache::WriteCache::load(None, &to);
        crate::write::write_release(&found.tree, &to, "0.1.0", false, &mut cache, &lock).unwrap();
        fs::read(to.join(at.as_path())).unwrap()
    };
    let has_debug = |bytes: &[u8]| bytes.windows(6).any(|part| part == b"secret");
    assert!(has_debug(&content(None)));
    let strip = |keep: &[&str]| {
        let keep = keep.iter().map(|name| (*name).to_owned()).collect();
        Some(crate::blueprint::StripOptions { keep, compress: false })
    };
    assert!(!has_debug(&content(strip(&[]))));
    assert!(has_debug(&content(strip(&["Dbgi"]))));
}

#[test]
fn later_overlays_replace_earlier_ones_and_files_of_the_release() {
    let project = small();
    project.write("project/one/shared", "one");
    project.write("project/two/shared", "two");
    project.write("project/two/releases/0.1.0/vm.args", "+K true\n");
    let overlays = ["one", "two"].map(|dir| OverlayStep::Dir(project.path("project").join(dir))).into();
    let found = assemble(ReleaseBlueprint { overlays, ..blueprint(&project) }).unwrap();
    assert_eq!(text_of(&found.tree, "shared").as_deref(), Some("two"));
    assert_eq!(text_of(&found.tree, "releases/0.1.0/vm.args").as_deref(), Some("+K true\n"));
}

#[test]
fn each_kind_of_overlay_has_its_effect() {
    let project = small();
    project.write("project/file", "text");
    project.write("project/dir/inner", "text");
    let overlays = vec![
        OverlayStep::MakeDir(tree_path("log")),
        OverlayStep::Copy(project.path("project/file"), tree_path("share/file")),
        OverlayStep::Copy(project.path("project/dir"), tree_path("share/dir")),
        OverlayStep::Link(b"../share".to_vec(), tree_path("etc/link")),
        OverlayStep::Text("made".to_owned(), tree_path("etc/made"), 0o750),
        OverlayStep::SetMode(tree_path("share/file"), 0o600),
        OverlayStep::SetMode(tree_path("etc/link"), 0o600),
        OverlayStep::SetMode(tree_path("etc/none"), 0o600),
    ];
    let found = assemble(ReleaseBlueprint { overlays, ..blueprint(&project) }).unwrap();
    assert!(matches!(found.tree.get(&tree_path("log")), Some(ReleaseEntry::Dir)));
    assert_eq!(mode_of(&found.tree, "share/file"), Some(0o600));
    assert_eq!(text_of(&found.tree, "share/dir/inner").as_deref(), Some("text"));
    assert!(matches!(found.tree.get(&tree_path("etc/link")), Some(ReleaseEntry::Link(to)) if to == b"../share"));
    assert_eq!(
        (text_of(&found.tree, "etc/made").as_deref(), mode_of(&found.tree, "etc/made")),
        (Some("made"), Some(0o750))
    );
    let none = tree_path("etc/none");
    assert_eq!(found.warnings, [format!("`{none}` cannot get another mode: it is not in the release")]);
}

#[test]
fn a_missing_overlay_is_an_error_with_its_path() {
    let project = small();
    for overlay in [
        OverlayStep::Dir(project.path("project/gone")),
        OverlayStep::Copy(project.path("project/gone"), tree_path("share")),
    ] {
        let error = assemble(ReleaseBlueprint { overlays: vec![overlay], ..blueprint(&project) }).unwrap_err();
        assert!(error.to_string().contains("project/gone"), "{error}");
    }
}

#[test]
fn links_to_nothing_are_warned_about_wherever_they_come_from() {
    let project = small();
    for dir in ["overlay", "copied", "consolidated", "_build/prod/lib/small/priv"] {
        project.link("nowhere", &format!("project/{dir}/dangling"));
    }
    let overlays = vec![
        OverlayStep::Dir(project.path("project/overlay")),
        OverlayStep::Copy(project.path("project/copied"), tree_path("share")),
    ];
    let consolidated = Some(project.path("project/consolidated"));
    let found = assemble(ReleaseBlueprint { overlays, consolidated, ..blueprint(&project) }).unwrap();
    for dir in ["overlay", "copied", "consolidated", "small/priv"] {
        let told = format!("{dir}/dangling` is a link to nothing");
        assert!(found.warnings.iter().any(|warning| warning.ends_with(&told)), "{dir}: {:?}", found.warnings);
    }
    assert_eq!(found.warnings.len(), 4);
}

#[test]
fn private_files_of_the_project_stay_private() {
    let project = small();
    for name in ["overlay/key", "_build/prod/lib/small/priv/key", "_build/prod/lib/small/ebin/small.app"] {
        project
            .write(&format!("project/{name}"), fs::read(project.path(&format!("project/{name}"))).unwrap_or_default());
        project.set_mode(&format!("project/{name}"), 0o600);
    }
    project.write("project/overlay/shared", "");
    project.set_mode("project/overlay/shared", 0o664);
    let overlays = vec![OverlayStep::Dir(project.path("project/overlay"))];
    let tree = assemble(ReleaseBlueprint { overlays, ..blueprint(&project) }).unwrap().tree;
    assert_eq!(mode_of(&tree, "key"), Some(0o600));
    assert_eq!(mode_of(&tree, "lib/small-0.1.0/priv/key"), Some(0o600));
    assert_eq!(mode_of(&tree, "shared"), Some(0o644), "that the group may write is an accident of the umask");
    assert_eq!(mode_of(&tree, "lib/small-0.1.0/ebin/small.app"), Some(0o644), "a compiler wrote it");
}

#[test]
fn a_start_script_of_the_project_is_kept_and_the_start_program_lies_beside_it() {
    let project = small();
    project.write("project/overlay/bin/small", "#!/bin/sh\nexec \"$0-0.1.0\" \"$@\"\n");
    let overlays = vec![OverlayStep::Dir(project.path("project/overlay"))];
    let found = assemble(ReleaseBlueprint { overlays, ..blueprint(&project) }).unwrap();
    assert!(text_of(&found.tree, "bin/small").unwrap().starts_with("#!/bin/sh"));
    assert_eq!(mode_of(&found.tree, "bin/small-0.1.0"), Some(0o755));
    let told = "`bin/small` is the project's own: dram's start program is `bin/small-0.1.0`";
    assert_eq!(found.warnings, [told]);
}

#[test]
fn optional_files_are_written_where_the_start_program_reads_them() {
    let project = small();
    project.write("project/runtime.exs", "import Config\n");
    let found = assemble(ReleaseBlueprint {
        cookie: Some("cookie".to_owned()),
        env_sh: Some("A=1\n".to_owned()),
        runtime_config: Some(project.path("project/runtime.exs")),
        sys_config: crate::blueprint::ConfigText { bytes: b"[].".to_vec(), is_template: true },
        ..blueprint(&project)
    });
    let tree = found.unwrap().tree;
    let text = |path: &str| text_of(&tree, path);
    assert_eq!(text("releases/COOKIE").as_deref(), Some("cookie"));
    assert_eq!(text("releases/0.1.0/env.sh").as_deref(), Some("A=1\n"));
    assert_eq!(text("releases/0.1.0/runtime.exs").as_deref(), Some("import Config\n"));
    assert_eq!(
        (text("releases/0.1.0/sys.config.src").as_deref(), text("releases/0.1.0/sys.config")),
        (Some("[]."), None)
    );
}

#[test]
fn the_last_directory_of_an_otp_application_counts() {
    let project = small();
    project.write_app("otp/lib/sasl-4.3", "sasl", "4.3", "{applications,[kernel,stdlib]}");
    let tree = assemble(blueprint(&project)).unwrap().tree;
    assert!(tree.get(&tree_path("lib/sasl-4.3/ebin/sasl.app")).is_some());
}

#[test]
fn a_missing_program_of_the_emulator_is_an_error_if_it_is_required_or_asked_for() {
    let project = small();
    let erts_programs = vec!["dialyzer".to_owned()];
    let error = assemble(ReleaseBlueprint { erts_programs, ..blueprint(&project) }).unwrap_err();
    assert!(error.to_string().contains("bin/dialyzer"), "{error}");
    fs::remove_file(project.path("otp/erts-13.1.5/bin/epmd")).unwrap();
    assemble(blueprint(&project)).expect("distribution is not required");
    fs::remove_file(project.path("otp/erts-13.1.5/bin/beam.smp")).unwrap();
    let error = assemble(blueprint(&project)).unwrap_err();
    assert!(error.to_string().contains("bin/beam.smp"), "{error}");
}

#[test]
fn programs_for_another_processor_are_warned_about() {
    let program = |path: &str, machine| ElfProgram {
        path: tree_path(path),
        source: PathBuf::new(),
        needs: dram_image::elf::ElfRequirements { machine, ..Default::default() },
    };
    let programs = [program("erts/bin/beam.smp", 62), program("lib/nif.so", 183), program("lib/own.so", 62)];
    let warnings = foreign_program_warnings(&programs);
    let nif = tree_path("lib/nif.so");
    assert_eq!(warnings, [format!("`{nif}` is for aarch64, and the emulator is for x86_64: it cannot be loaded")]);
    assert_eq!(foreign_program_warnings(&programs[1..]), [""; 0], "without an emulator nothing is known");
}

#[test]
fn a_version_with_a_space_is_refused() {
    let project = small();
    let version = "1.0 beta".to_owned();
    let error = assemble(ReleaseBlueprint { version, ..blueprint(&project) }).unwrap_err();
    assert_eq!(error.to_string(), "the version `1.0 beta` has a space in it, and `start_erl.data` cannot hold one");
}
