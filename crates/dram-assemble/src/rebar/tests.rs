use super::*;
use crate::test_project::{TestProject, tree_path};

/// A project with the files that the recorded answer names.
fn ferry() -> TestProject {
    let project = TestProject::new();
    project.write("project/config/sys.config.src", "[{ferry,[{harbour,\"${HARBOUR}\"}]}].\n");
    project.write("project/config/vm.args.src", "-name ${NODE}\n");
    for name in ["scripts/pre_start.sh", "scripts/timetable", "templates/about.txt", "templates/prod.txt"] {
        project.write(&format!("project/{name}"), name);
    }
    project
}

fn create(project: &TestProject, changes: &[(&str, &str)]) -> Result<ReleaseBlueprint, AssembleError> {
    blueprint(AnswerMap::from_term("answer", &project.answer("rebar", changes)).unwrap())
}

fn error(changes: &[(&str, &str)]) -> String {
    create(&ferry(), changes).unwrap_err().to_string()
}

#[test]
fn a_relx_release_has_goals_files_scripts_and_overlays() {
    let project = ferry();
    let found = create(&project, &[]).unwrap();
    assert_eq!((found.name.as_str(), found.version.as_str(), found.rules), ("ferry", "2.5.0", ReleaseRules::Otp));
    let goals: Vec<_> = found.goals.iter().map(|goal| (goal.name.as_str(), goal.mode)).collect();
    let (load, none) = (Some(StartType::Load), Some(StartType::None));
    assert_eq!(goals, [("ferry", None), ("dock", load), ("sasl", None), ("runtime_tools", none)]);
    assert_eq!(found.excluded, ["wx"]);
    assert_eq!(found.app_dirs["dock"], project.path("project/_build/prod/lib/dock"));
    assert!(found.sys_config.is_template && found.vm_args.is_template);
    assert_eq!(found.vm_args.bytes, b"-name ${NODE}\n");
    assert_eq!(found.start.hooks, [(StartHookPoint::PreStart, tree_path("bin/hooks/pre_start.sh"))]);
    let extension = ("timetable".to_owned(), tree_path("bin/extensions/timetable"), String::new());
    assert_eq!(found.start.commands, [extension]);
    assert!(!found.start.elixir);
    assert_eq!(found.start.working_directory, WorkingDirectory::Release);
    assert_eq!(found.app_subdirs, ["include", "priv"]);
    assert!(found.strip.is_some());
}

#[test]
fn hooks_of_relx_itself_are_warned_about_with_what_to_do_instead() {
    let found = create(&ferry(), &[]).unwrap();
    assert_eq!(
        found.warnings,
        [
            "the hook `pid` of `post_start` is not run: `bin/NAME pid` prints the number",
            "the hook `wait_for_process` of `post_start` is not run: `bin/NAME rpc 'whereis(NAME)'` asks for it",
            "the hook `builtin_status` of `status` is not run: it is relx's own",
        ]
    );
}

#[test]
fn hooks_of_an_upgrade_have_the_names_of_the_start_program() {
    let hooks = "{pre_install_upgrade,[{custom,<<\"a\">>}]},{post_install_upgrade,[{custom,\"b\"}]},\
                 {status,[{custom,\"c\"},wait_for_vm_start]}";
    let found = create(&ferry(), &[("{status,[builtin_status]}", hooks)]).unwrap();
    let names: Vec<_> = found.start.hooks.iter().map(|(hook, _)| hook.as_str()).collect();
    assert_eq!(names, ["pre_start", "pre_upgrade", "post_upgrade"]);
    assert!(found.warnings.contains(&"the hook `c` of `status` is not run: there is no such moment".to_owned()));
}

#[test]
fn script_names_are_resolved_from_bin_and_stay_in_the_release() {
    for (name, at) in [("../scripts/x", "scripts/x"), ("../../../etc/passwd", "etc/passwd"), ("./a//b", "bin/a/b")] {
        let hook = [("{custom,\"hooks/pre_start.sh\"}", format!("{{custom,\"{name}\"}}"))];
        let found = create(&ferry(), &[(hook[0].0, hook[0].1.as_str())]).unwrap();
        assert_eq!(found.start.hooks[0].1, tree_path(at));
    }
    let told = error(&[("{custom,\"hooks/pre_start.sh\"}", "{custom,<<\"a\\0b\">>}")]);
    assert!(told.contains("has no place in a release"), "{told}");
}

#[test]
fn a_configuration_is_a_default_nothing_a_file_or_a_template() {
    let project = ferry();
    project.write("project/config/sys.config", "[{ferry,[]}].\n");
    let source = "kind => src,path => <<\"/project/config/sys.config.src\">>";
    let text = |kind: &str| {
        let found = create(&project, &[(source, kind)]).unwrap().sys_config;
        (String::from_utf8(found.bytes).unwrap(), found.is_template)
    };
    assert_eq!(text("kind => default,path => nil"), ("[].\n".to_owned(), false));
    assert_eq!(text("kind => none,path => nil"), (String::new(), false));
    let plain = "kind => file,path => <<\"/project/config/sys.config\">>";
    assert_eq!(text(plain), ("[{ferry,[]}].\n".to_owned(), false));
}

#[test]
fn a_configuration_that_is_no_list_or_no_term_is_refused() {
    let project = ferry();
    let source = "kind => src,path => <<\"/project/config/sys.config.src\">>";
    let plain = "kind => file,path => <<\"/project/config/sys.config\">>";
    for (text, words) in [("{a}.", "a configuration is one list"), ("[{a,", "is no list of Erlang terms")] {
        project.write("project/config/sys.config", text);
        let told = create(&project, &[(source, plain)]).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
    let missing = "kind => file,path => <<\"/project/config/missing\">>";
    assert!(matches!(create(&project, &[(source, missing)]), Err(AssembleError::Io { verb: "read", .. })));
}

#[test]
fn settings_for_releases_without_erlang_are_warned_about_or_refused() {
    let project = ferry();
    let warned = |changes: &[(&str, &str)]| create(&project, changes).unwrap().warnings[0].clone();
    assert_eq!(warned(&[("include_erts => true", "include_erts => false")]), erts::ERTS_ALWAYS_INCLUDED);
    let libs = warned(&[("system_libs => true", "system_libs => false")]);
    assert_eq!(libs, "`system_libs` is false, and the release brings Erlang's libraries all the same");
    let told = error(&[("system_libs => true", "system_libs => <<\"/opt/otp\">>")]);
    assert!(told.contains("give `include_erts` the directory"), "{told}");
    let told = error(&[("erts => nil", "erts => <<\"12.0\">>")]);
    assert_eq!(told, "the release is for erts 12.0, and erts 13.1.5 is here");
    create(&project, &[("erts => nil", "erts => <<\"13.1.5\">>")]).expect("it is the one that is here");
}

#[test]
fn built_applications_come_before_lib_dirs_and_overrides_before_both() {
    let project = ferry();
    project.write_app("project/libs/extra", "extra", "1", "{applications,[]}");
    project.write_app("project/libs/dock", "dock", "1", "{applications,[]}");
    let dirs = ("lib_dirs => []", "lib_dirs => [<<\"/project/libs\">>,<<\"/nowhere\">>]");
    let found = create(&project, &[dirs]).unwrap().app_dirs;
    assert_eq!(found["extra"], project.path("project/libs/extra"));
    assert_eq!(found["dock"], project.path("project/_build/prod/lib/dock"));
    let overrides = ("overrides => []", "overrides => [{dock,<<\"/project/mine\">>}]");
    assert_eq!(create(&project, &[dirs, overrides]).unwrap().app_dirs["dock"], project.path("project/mine"));
}

/// Returns the overlays of a project, as text, where the answer has `steps`.
fn overlays_of(project: &TestProject, steps: &str) -> Result<Vec<String>, AssembleError> {
    let change = [("{mkdir,<<\"log/ferry\">>}", steps)];
    let root = format!("{}/", project.path("project").display());
    let shown = |step: &OverlayStep| format!("{step:?}").replace(&root, "");
    Ok(create(project, &change)?.overlays.iter().map(shown).collect())
}

#[test]
fn a_copy_goes_into_a_directory_that_ends_with_a_slash_or_was_made() {
    let project = ferry();
    let copy = |to: &str| format!("{{mkdir,<<\"made\">>}},{{copy,<<\"/project/scripts/timetable\">>,<<\"{to}\">>}}");
    for (to, at) in [("share/", "share/timetable"), ("made", "made/timetable"), ("share/name", "share/name")] {
        let found = create(&project, &[("{mkdir,<<\"log/ferry\">>}", &copy(to))]).unwrap().overlays;
        assert!(matches!(&found[1], OverlayStep::Copy(_, path) if *path == tree_path(at)), "{to}: {found:?}");
    }
}

#[test]
fn a_pattern_copies_every_file_that_matches_and_no_file_is_an_error() {
    let project = ferry();
    let steps = overlays_of(&project, "{link,<<\"/project/scripts/*\">>,<<\"share/\">>}").unwrap();
    assert!(steps[0].contains("scripts/pre_start.sh") && steps[1].contains("scripts/timetable"), "{steps:?}");
    let told = overlays_of(&project, "{copy,<<\"/project/*.md\">>,<<\"share/\">>}").unwrap_err().to_string();
    assert!(told.starts_with("the overlay `") && told.ends_with("*.md` is nowhere"), "{told}");
}

#[test]
fn chmod_sets_the_mode_that_is_written_and_refuses_what_is_none() {
    let project = ferry();
    let found = create(&project, &[("{mkdir,<<\"log/ferry\">>}", "{chmod,8#600,<<\"share/key\">>}")]).unwrap();
    let at = tree_path("share/key");
    assert!(matches!(&found.overlays[0], OverlayStep::SetMode(path, 0o600) if *path == at), "{:?}", found.overlays);
    for mode in ["-1", "8#10000", "rw"] {
        let step = format!("{{chmod,{mode},<<\"share/key\">>}}");
        let told = overlays_of(&project, &step).unwrap_err().to_string();
        assert!(told.contains("has no mode such as 8#600"), "{mode}: {told}");
    }
}

#[test]
fn a_file_from_a_template_has_the_mode_of_the_template() {
    let project = ferry();
    for (mode, expected) in [(0o644, 0o644), (0o775, 0o755), (0o600, 0o600)] {
        project.set_mode("project/templates/prod.txt", mode);
        let found = create(&project, &[]).unwrap().overlays;
        assert!(matches!(found.last(), Some(OverlayStep::Text(_, _, mode)) if *mode == expected), "{found:?}");
    }
}

#[test]
fn overlays_of_unknown_kinds_and_outside_targets_are_refused() {
    let project = ferry();
    let told = overlays_of(&project, "{move,<<\"a\">>,<<\"b\">>}").unwrap_err().to_string();
    assert!(told.contains("there is no overlay `{move,"), "{told}");
    for target in ["../x", "/etc/x", "a/../../x"] {
        let told = overlays_of(&project, &format!("{{mkdir,<<\"{target}\">>}}")).unwrap_err().to_string();
        assert_eq!(told, format!("an overlay goes to `{target}`, which is not in the release"));
    }
}

#[test]
fn settings_that_have_no_effect_are_warned_about() {
    let project = ferry();
    for (change, words) in [
        (("mode => prod", "mode => dev"), "`mode` is dev"),
        (("dev_mode => false", "dev_mode => true"), "`mode` is dev"),
        (("exclude_modules => []", "exclude_modules => [{ferry,[ferry]}]"), "`exclude_modules` is not known"),
        (("start_scripts_for => nil", "start_scripts_for => [powershell]"), "there is one start program"),
        (("unknown => []", "unknown => [colour]"), "the setting `colour` of relx is not known"),
        (
            ("unknown => []", "unknown => [{tar_hooks,[{post,\"a.sh\"}]}]"),
            "the setting `tar_hooks` of relx is not known",
        ),
    ] {
        let warnings = create(&project, &[change]).unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{change:?}: {warnings:?}");
    }
    assert_eq!(create(&project, &[("include_src => false", "include_src => true")]).unwrap().app_subdirs.len(), 5);
    assert!(create(&project, &[("debug_info => strip", "debug_info => keep")]).unwrap().strip.is_none());
}

#[test]
fn answers_of_another_form_are_errors_that_name_the_key() {
    for (change, words) in [
        (("releases =>", "none =>"), "it does not have one release"),
        (("version => <<\"2.5.0\">>", "version => \"2.5.0\""), "`version` of `release` is not what it should be"),
        (("debug_info => strip", "debug_info => nil"), "`debug_info` of `release` is not what it should be"),
        (("app => dock,build", "app => <<\"dock\">>,build"), "`app` of `deps` is not what it should be"),
        (("type => load", "type => loaded"), "`type` of `goals` is not what it should be"),
    ] {
        let told = error(&[change]);
        assert_eq!(told, format!("the description of the project cannot be read: {words}"), "{change:?}");
    }
}
