use dram_release::resolve::StartType;

use super::*;
use crate::test_project::TestProject;

fn create(project: &TestProject, name: &str, changes: &[(&str, &str)]) -> Result<ReleaseBlueprint, AssembleError> {
    blueprint(AnswerMap::from_term("answer", &project.answer(name, changes)).unwrap())
}

fn error(name: &str, changes: &[(&str, &str)]) -> String {
    create(&TestProject::new(), name, changes).unwrap_err().to_string()
}

#[test]
fn a_project_without_releases_gives_a_release_of_its_application() {
    let project = TestProject::new();
    let found = create(&project, "small", &[]).unwrap();
    assert_eq!((found.name.as_str(), found.version.as_str()), ("small", "0.1.0"));
    assert_eq!(found.rules, ReleaseRules::Mix { elixir: (1, 14, 0) });
    assert_eq!((found.otp.release, found.otp.erts.as_str()), (25, "13.1.5"));
    assert_eq!(found.applications, [("small".to_owned(), None)]);
    assert_eq!(found.app_dirs.keys().collect::<Vec<_>>(), ["elixir", "iex", "logger", "small"], "and none of OTP's");
    assert_eq!(found.configured_output, Some(project.path("project/_build/prod/rel/small")));
    assert_eq!(found.app_subdirs, ["priv"]);
    assert!(found.sys_config.bytes.starts_with(b"%% coding: utf-8\n"), "{:?}", found.sys_config);
    assert_eq!((found.cookie, found.env_sh, found.runtime_config), (None, None, None));
    assert!(found.start.elixir && !found.start.reboot && !found.has_providers);
    assert_eq!(found.start.working_directory, crate::settings::WorkingDirectory::Caller);
    assert_eq!(found.warnings, [""; 0]);
}

#[test]
fn a_configured_release_has_its_cookie_scripts_overlays_and_providers() {
    let project = TestProject::new();
    let found = create(&project, "runtime", &[]).unwrap();
    assert_eq!(found.cookie.as_deref(), Some("not-a-secret"));
    assert_eq!(found.env_sh.as_deref(), Some("#!/bin/sh\nexport FROM_ENV_SH=\"runtime:0.7.0\"\n"));
    assert_eq!(found.vm_args.bytes, b"+Q 8192\n-env NAME_OF_RELEASE runtime-0.7.0\n\n");
    assert_eq!(found.runtime_config, Some(project.path("project/config/runtime.exs")));
    assert!(found.has_providers);
    assert_eq!(found.skip_mode_validation, ["none_such"]);
    let [OverlayStep::Dir(first), OverlayStep::Dir(second)] = found.overlays.as_slice() else {
        panic!("{:?}", found.overlays)
    };
    assert_eq!((first, second), (&project.path("project/rel/overlays"), &project.path("project/more")));
}

#[test]
fn functions_among_the_steps_are_found_and_keep_the_default_env_sh() {
    let project = TestProject::new();
    let has = |name: &str| {
        let answer = project.answer(name, &[]);
        release_steps::has_functions(AnswerMap::from_term("answer", &answer).unwrap()).unwrap()
    };
    assert!(has("runtime") && !has("small") && !has("rebar"));
    assert_eq!(create(&project, "runtime", &[]).unwrap().warnings, [""; 0]);
    let with_step = [("steps => [assemble]", "steps => [assemble,#{arity => 1}]")];
    let text = create(&project, "small", &with_step).unwrap().env_sh.unwrap();
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
}

#[test]
fn applications_and_scripts_that_a_step_changed_are_taken_as_they_are() {
    let project = TestProject::new();
    assert!(create(&project, "jobs", &[]).unwrap().listed.is_none());
    let changed = "changed_applications => true,boot_scripts => [{start,[{kernel,permanent},{sasl,load}]},{bare,[]}],";
    let listed = create(&project, "jobs", &[("compile_env =>", &format!("{changed}compile_env =>"))]);
    let listed = listed.unwrap().listed.unwrap();
    assert!(listed.names.contains(&"shop_jobs".to_owned()), "{listed:?}");
    let start = vec![("kernel".to_owned(), StartType::Permanent), ("sasl".to_owned(), StartType::Load)];
    assert_eq!(listed.scripts, [("start".to_owned(), start), ("bare".to_owned(), Vec::new())]);
    let wrong = "changed_applications => true,boot_scripts => [{start,[{kernel,always}]}],compile_env =>";
    let message = error("jobs", &[("compile_env =>", wrong)]);
    assert!(message.contains("start types"), "{message}");
}

#[test]
fn an_umbrella_release_keeps_start_types_and_warns_that_erlang_is_included() {
    let found = create(&TestProject::new(), "jobs", &[]).unwrap();
    let named = |name: &str, mode| (name.to_owned(), Some(mode));
    assert_eq!(found.applications, [named("shop_jobs", StartType::Permanent), named("runtime_tools", StartType::Load)]);
    assert_eq!(found.warnings, [erts::ERTS_ALWAYS_INCLUDED]);
}

#[test]
fn windows_is_warned_about_only_if_the_project_asks_for_it() {
    let asked = [("executables_set => false", "executables_set => true")];
    let found = create(&TestProject::new(), "small", &asked).unwrap();
    assert_eq!(found.warnings, ["`include_executables_for` has `:windows`: the release is for Linux only"]);
}

#[test]
fn a_reboot_needs_something_that_changes_the_configuration() {
    let project = TestProject::new();
    let reboots = ("reboot => false", "reboot => true");
    assert!(!create(&project, "small", &[reboots]).unwrap().start.reboot);
    assert!(create(&project, "runtime", &[reboots]).unwrap().start.reboot);
}

#[test]
fn headers_are_included_since_elixir_1_16() {
    let project = TestProject::new();
    for (version, subdirs) in
        [("1.15.8", vec!["priv"]), ("1.16.0-rc.1", vec!["priv", "include"]), ("2.0.0", vec!["priv", "include"])]
    {
        let found =
            create(&project, "small", &[("version => <<\"1.14.0\">>", &format!("version => <<\"{version}\">>"))]);
        assert_eq!(found.unwrap().app_subdirs, subdirs, "{version}");
    }
}

#[test]
fn consolidated_protocols_are_included_if_wanted_and_there() {
    let project = TestProject::new();
    assert_eq!(create(&project, "small", &[]).unwrap().consolidated, None, "they are not there");
    let dir = project.path("project/_build/prod/lib/small/consolidated");
    std::fs::create_dir_all(&dir).unwrap();
    assert_eq!(create(&project, "small", &[]).unwrap().consolidated, Some(dir));
    let unwanted = [("wanted => true", "wanted => false")];
    assert_eq!(create(&project, "small", &unwanted).unwrap().consolidated, None);
}

#[test]
fn strip_beams_decides_what_is_stripped() {
    let project = TestProject::new();
    let strip = |value: &str| {
        let changed = format!("strip_beams => {value}");
        let found = create(&project, "small", &[("strip_beams => true", &changed)]).unwrap();
        found.strip.map(|strip| (strip.keep.join(","), strip.compress))
    };
    assert_eq!(strip("true"), Some((String::new(), false)));
    assert_eq!(strip("false"), None);
    assert_eq!(strip("[{keep,[<<\"Docs\">>,<<\"Dbgi\">>]}]"), Some(("Docs,Dbgi".to_owned(), false)));
    assert_eq!(strip("[{compress,true}]"), Some((String::new(), true)));
    assert_eq!(strip("[{keep},{compress}]"), Some((String::new(), false)), "damaged options are the defaults");
}

#[test]
fn the_erts_of_a_directory_is_used_with_its_otp_release() {
    let project = TestProject::new();
    project.write("other/erts-15.2/bin/beam.smp", "");
    project.write("other/lib/x", "");
    project.write("other/releases/start_erl.data", "15.2 27");
    let path = format!("include_erts => <<\"{}\">>", project.path("other").display());
    let found = create(&project, "small", &[("include_erts => true", &path)]).unwrap();
    assert_eq!((found.otp.release, found.otp.erts.as_str()), (27, "15.2"));
    let nowhere = [("include_erts => true", "include_erts => <<\"/nowhere\">>")];
    assert!(matches!(create(&project, "small", &nowhere), Err(AssembleError::NoErts(_))));
}

#[test]
fn answers_of_another_form_are_errors_that_name_the_key() {
    for (change, words) in [
        (("releases =>", "none =>"), "it does not have one release"),
        (("[#{applications => []", "[x,#{applications => []"), "it does not have one release"),
        (("#{erts => <<\"13.1.5\">>,lib", "#{erts => 13,lib"), "`erts` of `otp` is not what it should be"),
        (("release => <<\"25\">>", "release => <<\"x\">>"), "OTP has the number `x`"),
        (("elixir =>\n", "elixer =>\n"), "`elixir` is missing"),
        (("name => small", "name => \"small\""), "`name` of `release` is not what it should be"),
        (("templates =>", "template =>"), "`templates` is missing"),
        (("<<\"vm.args\">> =>", "<<\"vm\">> =>"), "there is no `vm.args`"),
        (("runtime_config => #{", "runtime => #{"), "`runtime_config` is missing"),
        (("steps => [assemble]", "steps => assemble"), "`steps` of `release` is not what it should be"),
    ] {
        let told = error("small", &[change]);
        assert_eq!(told, format!("the description of the project cannot be read: {words}"), "{change:?}");
    }
}

#[test]
fn an_unknown_start_type_is_an_error_in_mix_exs() {
    let project = TestProject::new();
    let change = [("{runtime_tools,load}", "{runtime_tools,loaded}")];
    let AssembleError::Project { file, message, .. } = create(&project, "jobs", &change).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(file.as_deref(), Some("mix.exs"));
    let modes = "permanent, transient, temporary, load, none";
    assert_eq!(message, format!("`{{runtime_tools,loaded}}` is no application with a start type: {modes}"));
}
