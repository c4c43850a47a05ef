//! Functions among the `steps:` of a Mix release: what they are given and what they change is compared with `mix release`.

use std::fs;
use std::path::Path;

use crate::release::{Project, assert_differences_are_known, run_until_ready, tree};

#[test]
fn steps_get_the_struct_that_mix_gives_and_what_they_change_counts() {
    let project = Project::copy("steps");
    project.write("dram.toml", "[release]\ndistribution = \"none\"\n");
    let (release, log) = (project.join("_build/prod/rel/steps"), project.join("steps.log"));
    project.tool("mix").arg("release").ok();
    let (of_mix, given_by_mix) = (tree(&release), fs::read_to_string(&log).unwrap());
    fs::remove_dir_all(&release).unwrap();
    fs::remove_file(&log).unwrap();
    let done = project.dram().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), given_by_mix);
    assert!(!done.stderr.contains("warning"), "{done}");
    let of_dram = tree(&release);
    assert_differences_are_known(&of_mix, &of_dram, "steps", "0.1.0");
    for path in ["bin/extra", "releases/0.1.0/bare.boot", "releases/0.1.0/start.boot", "releases/COOKIE", "rest/other"]
    {
        assert!(of_mix.contains_key(path) && of_mix.get(path) == of_dram.get(path), "{path}");
    }
    let names: Vec<_> = of_dram.keys().filter(|name| name.starts_with("lib/runtime_tools-")).collect();
    assert!(!names.is_empty() && names.iter().all(|name| of_mix.contains_key(*name)), "{names:?}");
    assert!(fs::read_to_string(release.join("releases/0.1.0/env.sh")).unwrap().ends_with("export FROM_STEP=1\n"));
    assert!(!release.join("releases/0.1.0/start.script").exists(), "a step removed it");
    run_until_ready(&release, "steps", &[]);
}

#[test]
fn the_archive_has_what_the_steps_before_tar_made() {
    let project = Project::copy("steps");
    let done = project.dram().arg("--json").ok();
    let said: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let archive = said["archive"]["path"].as_str().unwrap();
    let listed = crate::support::tool("tar").args(["-tzf", archive]).ok().stdout;
    let has = |name: &str| listed.lines().any(|line| line == name);
    for name in ["bin/extra", "bin/steps", "share/listed", "share/own", "releases/0.1.0/env.sh"] {
        assert!(has(name), "{name}: {listed}");
    }
    // Mix packs a file that a step writes beside `bin`, `lib` and `releases` only if the step adds it to `overlays`.
    assert!(!has("rest/other") && !has("releases/0.1.0/start.script"), "{listed}");
}

#[test]
fn steps_are_called_each_time_and_what_an_earlier_call_left_is_not_kept() {
    let project = Project::copy("steps");
    let (log, extra) = (project.join("steps.log"), project.join("_build/prod/rel/steps/bin/extra"));
    project.dram().arg("--no-tar").ok();
    let once = fs::read_to_string(&log).unwrap();
    project.dram().arg("--no-tar").ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), once.repeat(2));
    let text = fs::read_to_string(project.join("_build/prod/rel/steps/releases/0.1.0/env.sh")).unwrap();
    assert_eq!(text.matches("FROM_STEP").count(), 1, "it was added to the file of the first call: {text}");
    let text = fs::read_to_string(project.join("mix.exs")).unwrap();
    project.write("mix.exs", text.replace("bin/extra", "bin/another"));
    project.dram().arg("--no-tar").ok();
    assert!(!extra.exists() && extra.with_file_name("another").exists());
    // No release is made to see what it requires.
    fs::remove_file(&log).unwrap();
    project.dram().arg("--requires").ok();
    assert!(!log.exists());
}

#[test]
fn the_destination_and_the_version_of_the_command_line_are_those_that_steps_see() {
    let project = Project::copy("steps");
    let output = project.beside("elsewhere");
    project.dram().args(["--no-tar", "--version", "9.9.9", "--output"]).arg(&output).ok();
    let given = fs::read_to_string(project.join("steps.log")).unwrap();
    let shown = |what: &str| format!("\"{}{what}\"", output.display());
    assert!(given.contains(&shown("")) && given.contains(&shown("/releases/9.9.9")), "{given}");
    assert!(output.join("bin/extra").is_file() && output.join("releases/9.9.9/bare.boot").is_file());
}

/// Writes a release with this step into the project's `mix.exs`.
fn with_step(project: &Project, steps: &str) {
    let text = fs::read_to_string(project.join("mix.exs")).unwrap();
    let from = text.find("steps: [&").unwrap();
    let to = from + text[from..].find("]\n").unwrap();
    project.write("mix.exs", format!("{}steps: [{steps}{}", &text[..from], &text[to..]));
}

#[test]
fn errors_of_steps_are_shown_as_mix_shows_them() {
    let project = Project::copy("steps");
    for (steps, shown) in [
        (
            "&raise(inspect({&1.name, \"no luck\"})), :assemble",
            vec!["** (RuntimeError) {:steps, \"no luck\"}", "mix.exs:12: "],
        ),
        (":assemble, &Map.fetch!(&1, :absent)", vec!["** (KeyError) key :absent not found"]),
        (":assemble, fn _ -> Mix.raise(\"plainly\\nrefused\") end", vec!["** (Mix) plainly", "refused"]),
        (":assemble, &throw({:ball, &1.name})", vec!["** (throw) {:ball, :steps}"]),
        (
            ":assemble, &__MODULE__.wrong/1",
            vec!["** (Mix) Expected step &Steps.MixProject.wrong/1 to return a Mix.Release, got: :steps"],
        ),
    ] {
        with_step(&project, steps);
        let text = fs::read_to_string(project.join("mix.exs")).unwrap();
        project
            .write("mix.exs", text.replacen("  def note(", "  def wrong(release), do: release.name\n\n  def note(", 1));
        let mix = project.tool("mix").args(["release", "--overwrite"]).fails(1);
        let dram = project.dram().args(["--no-tar", "--overwrite"]).fails(1);
        for line in shown {
            let has = |text: &str| {
                text.lines().any(|found| {
                    let found = found.trim_start_matches(['|', ' ']);
                    found.strip_prefix("error: ").unwrap_or(found).starts_with(line)
                })
            };
            assert!(has(&mix.stderr), "{line}: {mix}");
            assert!(has(&dram.stderr), "{line}: {dram}");
        }
        project.write("mix.exs", fs::read(crate::support::repo("tests/release/steps/mix.exs")).unwrap());
    }
}

#[test]
fn a_step_that_ends_erlang_is_told() {
    let project = Project::copy("steps");
    with_step(&project, ":assemble, fn _ -> System.halt(7) end");
    let done = project.dram().arg("--no-tar").fails(1);
    assert!(done.stderr.contains("exit status: 7"), "{done}");
    project.write("mix.exs", fs::read(crate::support::repo("tests/release/steps/mix.exs")).unwrap());
    with_step(&project, "fn _ -> System.halt(0) end, :assemble");
    let done = project.dram().args(["--no-tar", "--quiet"]).fails(1);
    assert!(done.stderr.contains("a step ended Erlang"), "{done}");
    assert!(!Path::new(&project.join("_build/prod/dram/ask/orders")).exists());
}
