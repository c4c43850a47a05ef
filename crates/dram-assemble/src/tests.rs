use super::*;
use crate::blueprint::{OverlayStep, StripOptions};
use crate::test_project::{TestProject, tree_path};

fn request(project: &TestProject) -> AssembleRequest {
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
        environment: CallerEnvironment::new(),
    }
}

fn same(_: &[PathBuf]) -> ReleaseTimes {
    ReleaseTimes::Same(0)
}

/// Applies this `dram.toml` to the recorded release `small`, which is stripped and has no settings.
fn apply(project: &TestProject, toml: &str) -> Result<ReleaseBlueprint, AssembleError> {
    project.write("project/dram.toml", toml);
    let answer = project.answer("small", &[]);
    let mut blueprint = mix::blueprint(AnswerMap::from_term("answer", &answer)?)?;
    let settings = settings::read_settings(&project.path("project"), "small")?;
    apply_settings(&mut blueprint, settings, &request(project)).map(|()| blueprint)
}

#[test]
fn every_setting_replaces_or_extends_that_of_the_project() {
    let project = TestProject::new();
    project.write("project/my.args.src", "+K ${K}\n");
    project.write("project/my.config", "[{small,[]}].\n");
    let found = apply(
        &project,
        "[release]\nversion = '9.9'\nmode = 'interactive'\ndistribution = 'name'\nportable = true\n\
         vm-args = 'my.args.src'\nsys-config = 'my.config'\noverlays = ['over']\nkeep-chunks = ['Dbgi']\n\
         erts-programs = ['dialyzer']\nreplace-os-vars = true\nworking-directory = 'release'\nnofile = 4096\n[release.env]\nA = '1'\n\
         [release.hooks]\npre-start = 'hook.sh'\n[release.commands]\nseed = 'seed.sh'\n",
    )
    .unwrap();
    assert_eq!((found.version.as_str(), found.portable), ("9.9", true));
    assert_eq!((found.vm_args.bytes.as_slice(), found.vm_args.is_template), (&b"+K ${K}\n"[..], true));
    assert_eq!((found.sys_config.bytes.as_slice(), found.sys_config.is_template), (&b"[{small,[]}].\n"[..], false));
    assert_eq!(found.strip.unwrap().keep, ["Dbgi"]);
    assert_eq!(found.erts_programs, ["dialyzer"]);
    let hook = tree_path("releases/9.9/hooks/pre_start");
    assert_eq!(found.start.hooks, [(dram_start::start_conf::StartHookPoint::PreStart, hook.clone())]);
    let over = project.path("project/over");
    assert!(matches!(&found.overlays[0], OverlayStep::Dir(dir) if *dir == over), "{:?}", found.overlays);
    assert!(matches!(&found.overlays[1], OverlayStep::Copy(_, at) if *at == hook), "{:?}", found.overlays);
    assert_eq!(found.overlays.len(), 3);
    assert_eq!(
        String::from_utf8(found.start.to_conf("small", 25, true, Some(("erts/ld.so", "erts/lib"))).to_text()).unwrap(),
        "name = small\nelixir = true\notp = 25\nmode = interactive\ndistribution = name\nruntime_config = true\n\
         reboot = false\nreplace_os_vars = true\nloader = erts/ld.so\nlibrary_path = erts/lib\nworking_directory = release\n\
         nofile = 4096\nenv.A = 1\nhook.pre_start = releases/9.9/hooks/pre_start\n\
         command.seed = releases/9.9/commands/seed\n"
    );
}

#[test]
fn the_version_of_the_command_line_wins_over_dram_toml() {
    let project = TestProject::new();
    project.write("project/dram.toml", "[release]\nversion = '9.9'\n");
    let answer = project.answer("small", &[]);
    let mut blueprint = mix::blueprint(AnswerMap::from_term("answer", &answer).unwrap()).unwrap();
    let settings = settings::read_settings(&project.path("project"), "small").unwrap();
    let request = AssembleRequest { version: Some("0.1.0".to_owned()), ..request(&project) };
    apply_settings(&mut blueprint, settings, &request).unwrap();
    assert_eq!(blueprint.version, "0.1.0");
}

#[test]
fn strip_can_be_switched_off_and_on() {
    let project = TestProject::new();
    assert!(apply(&project, "[release]\nstrip = false\n").unwrap().strip.is_none());
    let kept = "[release]\nstrip = false\nkeep-chunks = ['Dbgi']\n";
    assert!(apply(&project, kept).unwrap().strip.is_none(), "chunks alone do not strip");
    let answer = project.answer("small", &[("strip_beams => true", "strip_beams => false")]);
    let mut blueprint = mix::blueprint(AnswerMap::from_term("answer", &answer).unwrap()).unwrap();
    let settings = DramTomlSettings { strip: Some(true), ..DramTomlSettings::default() };
    apply_settings(&mut blueprint, settings, &request(&project)).unwrap();
    assert!(matches!(blueprint.strip, Some(StripOptions { compress: false, .. })));
}

#[test]
fn files_that_dram_toml_names_must_be_there_and_be_valid() {
    let project = TestProject::new();
    for (key, file) in [("vm-args", "gone.args"), ("sys-config", "gone.config")] {
        let error = apply(&project, &format!("[release]\n{key} = '{file}'\n")).unwrap_err();
        assert!(matches!(&error, AssembleError::Io { path, .. } if path.ends_with(file)), "{error}");
    }
    project.write("project/bad.config", "[{small,");
    let error = apply(&project, "[release]\nsys-config = 'bad.config'\n").unwrap_err();
    assert!(matches!(error, AssembleError::Terms { .. }), "{error}");
    project.write("project/bad.config.src", "[{small,${X}");
    apply(&project, "[release]\nsys-config = 'bad.config.src'\n").expect("a template is no term yet");
}

#[test]
fn a_directory_without_a_project_is_told_and_names_it() {
    let project = TestProject::new();
    let error = assemble_release(&request(&project), &same).unwrap_err();
    assert!(matches!(&error, AssembleError::NoProject(path) if path.ends_with("project")), "{error}");
    let request = AssembleRequest { project: project.path("gone"), ..request(&project) };
    assert!(matches!(assemble_release(&request, &same), Err(AssembleError::Io { verb: "find the project", .. })));
}

#[test]
fn compiled_directories_become_a_release_without_any_tool() {
    let project = TestProject::new();
    project.write_app("build/demo", "demo", "2.0", "{applications,[kernel,stdlib]}");
    let request = AssembleRequest {
        from: vec![project.path("build/demo")],
        otp: Some(project.path("otp")),
        output: Some(project.path("out/demo")),
        archive: true,
        ..request(&project)
    };
    let found = assemble_release(&request, &same).unwrap();
    assert_eq!((found.name.as_str(), found.version.as_str()), ("demo", "2.0"));
    assert_eq!(
        found.applications.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["kernel", "stdlib", "demo"]
    );
    assert!(project.path("out/demo/bin/demo").is_file() && project.path("out/demo-2.0.tar.gz").is_file());
    let first = found.archive.unwrap().digest;
    assert_eq!(assemble_release(&request, &same).unwrap().archive.unwrap().digest, first);
}

#[test]
fn an_upgrade_of_nothing_or_of_itself_is_refused() {
    let project = TestProject::new();
    project.write_app("build/demo", "demo", "2.0", "{applications,[kernel,stdlib,sasl]}");
    let request = |from: Option<&str>, upgrade: bool| AssembleRequest {
        from: vec![project.path("build/demo")],
        otp: Some(project.path("otp")),
        output: Some(project.path("out/demo")),
        upgrade: upgrade.then(|| UpgradeRequest { from: from.map(str::to_owned) }),
        ..request(&project)
    };
    let error = |from| assemble_release(&request(from, true), &same).unwrap_err().to_string();
    assert!(error(None).starts_with("there is no older version in"), "{}", error(None));
    assert!(!project.path("out/demo").exists(), "nothing is written");
    assemble_release(&request(None, false), &same).unwrap();
    assert_eq!(error(Some("2.0")), "version `2.0` cannot be an upgrade of itself");
    assert!(error(Some("1.9")).starts_with("there is no version `1.9` in"), "{}", error(Some("1.9")));
}

#[test]
fn an_upgrade_has_a_relup_and_an_appup_for_each_change() {
    let project = TestProject::new();
    let assemble = |vsn: &str, upgrade: Option<UpgradeRequest>| {
        project.write_app("build/demo", "demo", vsn, "{applications,[kernel,stdlib,sasl]}");
        assemble_release(
            &AssembleRequest {
                from: vec![project.path("build/demo")],
                otp: Some(project.path("otp")),
                output: Some(project.path("out/demo")),
                upgrade,
                ..request(&project)
            },
            &same,
        )
        .unwrap()
    };
    assemble("1.9", None);
    assemble("1.10", None);
    let found = assemble("2.0", Some(UpgradeRequest::default())).upgrade.unwrap();
    assert_eq!(found.from, "1.10", "the newest, by number");
    let changes: Vec<_> = found.changes.iter().map(|change| (change.name.as_str(), change.appup.is_some())).collect();
    assert_eq!(changes, [("demo", false)]);
    for file in ["releases/2.0/relup", "lib/demo-2.0/ebin/demo.appup", "lib/demo-1.9/ebin/demo.app"] {
        assert!(project.path("out/demo").join(file).is_file(), "{file}");
    }
    project.write("project/rel/appups/demo/mine.appup", "{\"2.1\",[{\"2.0\",[]}],[{\"2.0\",[]}]}.\n");
    let found = assemble("2.1", Some(UpgradeRequest { from: Some("2.0".to_owned()) })).upgrade.unwrap();
    assert_eq!(found.changes[0].appup, Some(project.path("project/rel/appups/demo/mine.appup")));
}
