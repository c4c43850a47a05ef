use dram_release::consult::parse_one;

use super::*;
use crate::answer_cache::CallerEnvironment;
use crate::test_project::TestProject;
use crate::tool::ProjectTools;

fn request(project: &TestProject, variables: &[(&str, &str)]) -> AssembleRequest {
    let bytes = |text: &&str| text.as_bytes().to_vec();
    AssembleRequest {
        project: project.path("project"),
        name: None,
        env: None,
        version: None,
        from: Vec::new(),
        otp: None,
        output: None,
        upgrade: None,
        archive: false,
        overwrite: false,
        portable: None,
        mode: None,
        tools: ProjectTools { path: "/nowhere".into(), quiet: true },
        environment: variables.iter().map(|(name, value)| (bytes(name), bytes(value))).collect::<CallerEnvironment>(),
    }
}

fn term(text: &str) -> Term {
    parse_one(text.as_bytes()).unwrap()
}

#[test]
fn the_build_tool_is_that_of_the_first_known_file() {
    let project = TestProject::new();
    let dir = project.path("project");
    assert_eq!(BuildTool::detect(&dir), None);
    project.write("project/rebar.config.script", "");
    assert_eq!(BuildTool::detect(&dir), Some(BuildTool::Rebar));
    project.write("project/mix.exs", "");
    assert_eq!(BuildTool::detect(&dir), Some(BuildTool::Mix));
}

#[test]
fn the_build_directory_follows_the_variables_of_the_build_tool() {
    let project = TestProject::new();
    let build = |file: &str, variables: &[(&str, &str)], env: Option<&str>| {
        fs::remove_dir_all(project.path("project")).unwrap();
        project.write(&format!("project/{file}"), "");
        let request = AssembleRequest { env: env.map(str::to_owned), ..request(&project, variables) };
        let places = ProjectPaths::for_request(&request).unwrap();
        assert_eq!(places.cache_dir, places.build.join("dram"));
        places.build.strip_prefix(&places.project).unwrap().display().to_string()
    };
    for (variables, env, expected) in [
        (&[][..], None, "_build/prod"),
        (&[("MIX_ENV", "staging")], None, "_build/staging"),
        (&[("MIX_ENV", "")], None, "_build/prod"),
        (&[("MIX_ENV", "staging")], Some("dev"), "_build/dev"),
        (&[("MIX_TARGET", "rpi")], None, "_build/rpi_prod"),
        (&[("MIX_TARGET", "host")], None, "_build/prod"),
        (&[("MIX_BUILD_ROOT", "out")], None, "out/prod"),
        (&[("MIX_BUILD_PATH", "exact"), ("MIX_TARGET", "rpi")], None, "exact"),
        (&[("REBAR_BASE_DIR", "no")], None, "_build/prod"),
    ] {
        assert_eq!(build("mix.exs", variables, env), expected, "{variables:?}");
    }
    for (variables, env, expected) in [
        (&[][..], None, "_build/prod"),
        (&[("REBAR_PROFILE", "test,prod")], None, "_build/test+prod"),
        (&[("REBAR_BASE_DIR", "out"), ("MIX_ENV", "dev")], None, "out/prod"),
    ] {
        assert_eq!(build("rebar.config", variables, env), expected, "{variables:?}");
    }
}

#[test]
fn an_environment_that_is_no_path_component_is_refused() {
    let project = TestProject::new();
    for env in ["../x", "", "a/b"] {
        let request = AssembleRequest { env: Some(env.to_owned()), ..request(&project, &[]) };
        let error = ProjectPaths::for_request(&request).unwrap_err().to_string();
        assert!(error.starts_with("the environment `"), "{env}: {error}");
    }
}

#[test]
fn a_key_depends_on_everything_that_the_scripts_do_not_trace() {
    let project = TestProject::new();
    project.write("project/mix.exs", "");
    let key =
        |request: &AssembleRequest| cache_key(request, &ProjectPaths::for_request(request).unwrap(), BuildTool::Mix);
    let base = || request(&project, &[]);
    assert_eq!(key(&base()), key(&base()));
    project.write("tools/mix", "#!/bin/sh\n");
    project.set_mode("tools/mix", 0o755);
    let tools = ProjectTools { path: project.path("tools").into(), quiet: true };
    let others = [
        AssembleRequest { env: Some("dev".to_owned()), ..base() },
        AssembleRequest { version: Some("2".to_owned()), ..base() },
        AssembleRequest { tools, ..base() },
        request(&project, &[("ERL_FLAGS", "+K true")]),
        request(&project, &[("ERL_FLAGS", "")]),
        request(&project, &[("MIX_TARGET", "rpi")]),
    ];
    let mut keys: Vec<_> = others.iter().map(key).collect();
    keys.push(key(&base()));
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), others.len() + 1);
    assert_eq!(key(&request(&project, &[("HOME", "/other")])), key(&base()), "the scripts trace this one");
}

#[test]
fn an_error_of_the_project_has_its_place_and_a_hint_to_name_a_release() {
    let error = |text: &str| answer_map(&term(text)).map(drop).unwrap_err();
    let AssembleError::Project { file, line, message } =
        error("{error,#{kind => config,message => <<\"broken\\n\">>,file => <<\"mix.exs\">>,line => 7}}")
    else {
        panic!("another error")
    };
    assert_eq!((file.as_deref(), line, message.as_str()), (Some("mix.exs"), Some(7), "broken"));
    for kind in ["choose_release", "unknown_release"] {
        let told = error(&format!("{{error,#{{kind => {kind},message => <<\"which\">>,file => nil}}}}")).to_string();
        assert_eq!(told, "which (name one with --name)");
    }
}

#[test]
fn answers_of_another_form_are_errors() {
    for (text, words) in [
        ("ok", "it is neither `ok` nor `error`"),
        ("{ok}", "it is neither `ok` nor `error`"),
        ("{done,#{}}", "it is neither `ok` nor `error`"),
        ("{error,[]}", "`error` is no map"),
        ("{error,#{message => \"list\"}}", "`message` of `error` is not what it should be"),
        ("{error,#{message => <<\"m\">>,line => one}}", "`line` of `error` is not what it should be"),
    ] {
        let error = answer_map(&term(text)).map(drop).unwrap_err().to_string();
        assert!(error.ends_with(words), "{text}: {error}");
    }
    for damaged in [&b""[..], b"\x83", b"text", b"\x83\x6c\xff\xff\xff\xff"] {
        assert!(matches!(decode_answer(damaged), Err(AssembleError::Answer(_))), "{damaged:?}");
    }
}

fn inputs(text: &str) -> Option<AnswerInputNames> {
    read_inputs(AnswerMap::from_term("inputs", &term(text)).unwrap()).unwrap()
}

#[test]
fn an_answer_that_read_the_clock_or_chance_is_not_cached() {
    assert!(inputs("#{volatile => [clock]}").is_none() && inputs("#{volatile => [crypto,random]}").is_none());
    assert!(inputs("#{uncacheable => [port]}").is_none());
    assert!(inputs("#{volatile => [crypto]}").is_some(), "most projects use it for digests only");
}

#[test]
fn inputs_are_files_that_were_read_or_looked_up_directories_and_variables() {
    let found = inputs(
        "#{files => [<<\"/a\">>],stats => [{<<\"/b\">>,x}],dirs => [<<\"/c\">>],env => #{<<\"PORT\">> => nil},\
           whole_env => true}",
    )
    .unwrap();
    assert_eq!(found.files, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!((found.directories, found.variables), (vec![PathBuf::from("/c")], vec!["PORT".to_owned()]));
    assert!(found.whole_environment);
}

#[test]
fn sources_outside_of_the_project_are_inputs_of_its_compiler() {
    let project = TestProject::new();
    let places = ProjectPaths::for_request(&request(&project, &[])).unwrap();
    let inside = places.project.join("apps/a").display().to_string();
    let text = format!(
        "#{{deps => [#{{source => <<\"/outside/b\">>}},#{{source => <<\"{inside}\">>}},#{{source => nil}},\
           #{{source => <<\"/outside/a\">>}},#{{source => <<\"/outside/b\">>}}]}}"
    );
    let answer = term(&text);
    let roots = path_dependencies(AnswerMap::from_term("answer", &answer).unwrap(), &places).unwrap();
    assert_eq!(roots, [PathBuf::from("/outside/a"), PathBuf::from("/outside/b")]);
}

#[test]
fn the_configured_destination_is_that_of_the_only_release() {
    let output = |text: &str| configured_output(AnswerMap::from_term("answer", &term(text)).unwrap()).unwrap();
    assert_eq!(output("#{releases => [#{path => <<\"/r\">>}]}"), Some(PathBuf::from("/r")));
    assert_eq!(output("#{distillery => #{output_dir => <<\"/d\">>},releases => []}"), Some(PathBuf::from("/d")));
    assert_eq!((output("#{releases => []}"), output("#{}")), (None, None));
}

#[test]
fn the_record_of_a_compilation_is_read_as_it_was_written_and_a_damaged_one_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("compiled");
    assert!(CompileRecord::read(&path).is_none());
    let record = CompileRecord {
        input_fingerprint: "in".to_owned(),
        output_fingerprint: "out".to_owned(),
        lib: "/lib".into(),
        output: "/rel".into(),
        roots: vec!["/a".into(), "/b".into()],
    };
    fs::write(&path, record.to_text()).unwrap();
    let found = CompileRecord::read(&path).unwrap();
    assert_eq!((found.input_fingerprint.as_str(), found.output_fingerprint.as_str()), ("in", "out"));
    assert_eq!((found.lib, found.output, found.roots), (record.lib, record.output, record.roots));
    fs::write(&path, "in\nout\n/lib\n").unwrap();
    assert!(CompileRecord::read(&path).is_none());
}

#[test]
fn a_project_whose_tool_is_missing_is_told_which_one_and_why() {
    let project = TestProject::new();
    project.write("project/mix.exs", "");
    let request = request(&project, &[]);
    let places = ProjectPaths::for_request(&request).unwrap();
    let error = query_project(&request, &places, BuildTool::Mix).unwrap_err();
    assert!(matches!(error, AssembleError::NoTool { tool: "elixir" | "mix", .. }), "{error}");
}
