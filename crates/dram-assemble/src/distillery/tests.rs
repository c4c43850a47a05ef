use super::*;
use crate::test_project::{TestProject, tree_path};

/// A project with the files that the recorded answer names.
fn still() -> TestProject {
    let project = TestProject::new();
    for name in ["commands/greet.sh", "hooks/pre_start/10_env.sh", "notes.txt", "templates/unit.service.eex"] {
        project.write(&format!("project/rel/{name}"), name);
    }
    project
}

fn create(project: &TestProject, changes: &[(&str, &str)]) -> Result<ReleaseBlueprint, AssembleError> {
    blueprint(AnswerMap::from_term("answer", &project.answer("distillery", changes)).unwrap())
}

fn error(changes: &[(&str, &str)]) -> String {
    create(&still(), changes).unwrap_err().to_string()
}

#[test]
fn a_distillery_release_has_applications_scripts_and_configuration() {
    let project = still();
    let found = create(&project, &[]).unwrap();
    assert_eq!((found.name.as_str(), found.version.as_str()), ("still", "0.4.2"));
    let asked: Vec<_> = found.applications.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    assert_eq!(asked, [("runtime_tools", None), ("crypto", Some(StartType::Load)), ("still", None)]);
    assert_eq!(found.excluded, ["distillery"]);
    assert_eq!(found.app_dirs["still"], project.path("project/_build/prod/lib/still"));
    assert_eq!(found.app_dirs["logger"], project.path("elixir/lib/logger"));
    assert!(!found.app_dirs.contains_key("ex_unit"), "this Elixir has none");
    assert_eq!(found.start.hooks, [(StartHookPoint::PreStart, tree_path("releases/0.4.2/hooks/pre_start.d"))]);
    let command = ("greet".to_owned(), tree_path("releases/0.4.2/commands/greet.sh"), String::new());
    assert_eq!(found.start.commands, [command]);
    assert_eq!(found.cookie.as_deref(), Some("prod_cookie"));
    assert_eq!(found.vm_args.bytes, b"-name still@127.0.0.1\n-setcookie prod_cookie\n+K true\n");
    assert!(found.has_providers && found.start.elixir && found.strip.is_some());
    assert_eq!(found.start.working_directory, WorkingDirectory::Release);
    assert_eq!(found.warnings, ["the plugin `Still.Plugin` is not run: what it does to the release does not happen"]);
}

#[test]
fn overlays_keep_their_order_and_come_before_scripts() {
    let found = create(&still(), &[]).unwrap().overlays;
    let kinds: Vec<_> = found
        .iter()
        .map(|step| match step {
            OverlayStep::Dir(_) => "dir".to_owned(),
            OverlayStep::MakeDir(at) => format!("mkdir {}", at.as_path().display()),
            OverlayStep::Copy(_, at) => format!("copy {}", at.as_path().display()),
            OverlayStep::Link(to, at) => format!("link {} {}", to.escape_ascii(), at.as_path().display()),
            OverlayStep::Text(_, at, mode) => format!("text {} {mode:o}", at.as_path().display()),
            OverlayStep::SetMode(at, mode) => format!("chmod {} {mode:o}", at.as_path().display()),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "mkdir var/still",
            "copy share/notes-0.4.2.txt",
            "link rel/notes.txt share/linked.txt",
            "text etc/still.service 644",
            "copy releases/0.4.2/hooks/pre_start.d",
            "copy releases/0.4.2/commands/greet.sh",
        ]
    );
}

#[test]
fn without_vm_args_the_node_has_distillerys_name_and_a_warning_says_so() {
    let project = still();
    let answer = project.answer("distillery", &[("vm_args =>\n", "vm_args_of_another =>\n")]);
    let found = blueprint(AnswerMap::from_term("answer", &answer).unwrap()).unwrap();
    assert_eq!(found.start.node.as_deref(), Some("still@127.0.0.1"));
    assert!(found.warnings.last().unwrap().starts_with("the node has no name"), "{:?}", found.warnings);
}

#[test]
fn the_last_start_type_of_an_application_counts() {
    let twice = [("[runtime_tools,{crypto,load},still]", "[{crypto,load},still,{crypto,none},{still,temporary}]")];
    let asked = create(&still(), &twice).unwrap().applications;
    let modes: Vec<_> = asked.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    let (none, temporary) = (Some(StartType::None), Some(StartType::Temporary));
    assert_eq!(modes, [("runtime_tools", None), ("crypto", none), ("still", temporary)]);
}

#[test]
fn distillery_is_included_if_it_is_asked_for() {
    let asked = [("[runtime_tools,{crypto,load},still]", "[still,distillery]")];
    assert_eq!(create(&still(), &asked).unwrap().excluded, [""; 0]);
}

#[test]
fn applications_of_another_form_are_errors_in_rel_config_exs() {
    for wrong in ["{crypto,eager}", "{<<\"crypto\">>,load}", "{crypto,load,1}", "<<\"crypto\">>"] {
        let error = create(&still(), &[("{crypto,load}", wrong)]).unwrap_err();
        let AssembleError::Project { file, message, .. } = error else { panic!("{error}") };
        assert_eq!(file.as_deref(), Some("rel/config.exs"));
        assert!(message.contains("is no application with a start type"), "{message}");
    }
}

#[test]
fn start_options_become_defaults_of_variables() {
    let changes = [
        ("erl_opts => <<>>", "erl_opts => <<\" +K true \">>"),
        ("run_erl_env => <<>>", "run_erl_env => <<\"RUN_ERL_LOG_MAXSIZE=5 A='b' junk\">>"),
    ];
    let env = create(&still(), &changes).unwrap().start.env;
    let pairs: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(pairs, ["A=b", "ERL_OPTS=+K true", "RUN_ERL_LOG_MAXSIZE=5"]);
}

#[test]
fn scripts_and_overlays_that_are_missing_are_errors_in_rel_config_exs() {
    for (missing, word) in [
        ("rel/commands/greet.sh", "greet"),
        ("rel/hooks/pre_start\"", "pre_start_hooks"),
        ("rel/notes.txt\">>,<<\"share/notes", "copy"),
    ] {
        let renamed = missing.replacen("rel/", "no/", 1);
        let told = error(&[(missing, &renamed)]);
        assert!(told.starts_with(&format!("`{word}` is set to `")) && told.ends_with("which is not there"), "{told}");
    }
}

#[test]
fn a_single_hook_script_is_named_after_its_moment() {
    let hook =
        [("{pre_start_hooks,<<\"/project/rel/hooks/pre_start\">>}", "{post_stop_hook,<<\"/project/rel/notes.txt\">>}")];
    let hooks = create(&still(), &hook).unwrap().start.hooks;
    assert_eq!(hooks, [(StartHookPoint::PostStop, tree_path("releases/0.4.2/hooks/post_stop"))]);
}

#[test]
fn names_that_would_leave_the_version_directory_are_refused() {
    assert!(error(&[("{greet,", "{'../greet',")]).starts_with("the script `../greet.sh` cannot be"));
    let told = error(&[("version => <<\"0.4.2\">>,\n        vm_args", "version => <<\"..\">>,\n        vm_args")]);
    assert!(told.starts_with("the version `..` cannot be the name of a directory"), "{told}");
}

#[test]
fn settings_that_have_no_effect_are_warned_about() {
    for (change, words) in [
        (("dev_mode => false", "dev_mode => true"), "`dev_mode` links to the project"),
        (("{enabled,false}", "{enabled,true}"), "`executable` is not known"),
        (("appup_transforms => []", "appup_transforms => [x]"), "`appup_transforms` are not run"),
        (("code_paths => nil", "code_paths => [<<\"lib\">>]"), "`code_paths` is not known"),
        (("include_erts => true", "include_erts => false"), "`include_erts` is false"),
    ] {
        let warnings = create(&still(), &[change]).unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{change:?}: {warnings:?}");
    }
    assert_eq!(create(&still(), &[("include_src => false", "include_src => true")]).unwrap().app_subdirs.len(), 5);
    assert!(create(&still(), &[("strip_debug_info => true", "strip_debug_info => false")]).unwrap().strip.is_none());
}

#[test]
fn a_provider_that_cannot_run_is_warned_about_with_its_reason() {
    let changes = [("#{at =>", "#{not_at =>"), ("why => nil", "why => <<\"it is compiled\">>")];
    let found = create(&still(), &changes).unwrap();
    assert!(!found.has_providers);
    let start = "the config provider `Distillery.Releases.Config.Providers.Elixir` is not run (it is compiled): ";
    assert!(found.warnings.iter().any(|warning| warning.starts_with(start)), "{:?}", found.warnings);
}

#[test]
fn overrides_replace_the_directory_of_an_application() {
    let found = create(&still(), &[("overrides => []", "overrides => [{still,<<\"/project/mine\">>}]")]).unwrap();
    assert!(found.app_dirs["still"].ends_with("project/mine"), "{:?}", found.app_dirs);
}

#[test]
fn overlays_of_unknown_kinds_and_outside_targets_are_refused() {
    let told = error(&[("{mkdir,", "{move,")]);
    assert!(told.contains("there is no overlay `{move,"), "{told}");
    let told = error(&[("{mkdir,<<\"var/still\">>}", "{mkdir,<<\"/etc/still\">>}")]);
    assert_eq!(told, "an overlay goes to `/etc/still`, which is not in the release");
}
