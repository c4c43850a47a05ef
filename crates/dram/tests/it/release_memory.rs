//! `dram release` again: what is not done twice, what is the same wherever it is made, and what happens to what was
//! there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::release::{Project, runs, tree};
use crate::support::{Tool, names, temp, tool};

/// Stand-ins for the tools of Erlang, first on the search path: each writes that it was started, and starts the real one.
struct Watched {
    dir: TempDir,
}

impl Watched {
    fn tools() -> Watched {
        let watched = Watched { dir: temp() };
        for name in ["mix", "elixir", "erl", "escript", "rebar3"] {
            let found = tool("which").arg(name).ok().stdout;
            let real = fs::canonicalize(found.trim()).unwrap();
            let log = watched.log();
            let script = format!("#!/bin/sh\necho {name} >> {}\nexec {} \"$@\"\n", log.display(), real.display());
            // Beside their own files: Erlang and Elixir look for those where they were started.
            let path = watched.dir.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        watched
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn path(&self) -> String {
        format!("{}:{}", self.dir.path().display(), std::env::var("PATH").unwrap())
    }

    /// The tools that were started since this was asked last.
    fn started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let _ = fs::remove_file(self.log());
        text.lines().map(str::to_owned).collect()
    }

    fn dram(&self, project: &Project) -> Tool {
        project.dram().env("PATH", self.path()).arg("--no-tar")
    }
}

#[test]
fn a_second_release_of_a_mix_project_starts_no_emulator() {
    let (project, watched) = (Project::copy("runtime"), Watched::tools());
    watched.dram(&project).ok();
    assert!(watched.started().contains(&"mix".to_owned()));
    let release = project.join("_build/prod/rel/runtime");
    let before = tree(&release);
    watched.dram(&project).ok();
    assert_eq!(watched.started(), Vec::<String>::new());
    assert!(tree(&release) == before, "the second release is another one");
    // Another project's directory, or another working directory, is no reason to ask.
    watched.dram(&project).dir("/").ok();
    assert_eq!(watched.started(), Vec::<String>::new());
}

/// A path in a release, and what somebody does to what is there.
type Change<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn a_release_that_is_as_it_should_be_is_not_written_and_one_that_is_not_is_mended() {
    let project = Project::copy("small");
    let release = project.join("_build/prod/rel/small");
    let number = || fs::metadata(&release).unwrap().ino();
    project.dram().ok();
    let (before, first) = (tree(&release), number());
    project.dram().ok();
    assert_eq!(number(), first, "it was written again");
    let module = "lib/small-0.1.0/ebin/Elixir.Small.Application.beam";
    let changes: [Change<'_>; 6] = [
        (module, &|path| fs::write(path, "no module").unwrap()),
        (module, &|path| fs::remove_file(path).unwrap()),
        ("releases/0.1.0/start.boot", &|path| fs::write(path, "no script").unwrap()),
        ("releases/0.1.0/vm.args", &|path| fs::remove_file(path).unwrap()),
        ("bin/small", &|path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap()),
        ("erts-13.1.5/bin/beam.smp", &|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/bin/true", path).unwrap();
        }),
    ];
    let erts = names(&release).into_iter().find(|name| name.starts_with("erts-")).unwrap();
    for (path, change) in changes {
        let path = path.replace("erts-13.1.5", &erts);
        change(&release.join(&path));
        assert!(tree(&release) != before, "{path}: nothing was changed");
        project.dram().ok();
        assert!(tree(&release) == before, "{path} is not as it was");
    }
}

#[test]
fn what_the_configuration_reads_is_asked_again_when_it_changes() {
    let (project, watched) = (Project::copy("runtime"), Watched::tools());
    let configuration =
        || fs::read_to_string(project.join("_build/prod/rel/runtime/releases/0.7.0/sys.config")).unwrap();
    watched.dram(&project).ok();
    watched.started();
    // A variable that config.exs reads.
    watched.dram(&project).env("RUNTIME_COMPILED", "fancy").ok();
    assert!(!watched.started().is_empty());
    assert!(configuration().contains("fancy") || configuration().contains("102,97,110,99,121"), "{}", configuration());
    // One that it does not.
    watched.dram(&project).env("RUNTIME_COMPILED", "fancy").env("SOMETHING_ELSE", "1").ok();
    assert_eq!(watched.started(), Vec::<String>::new());
    // The file.
    let text = fs::read_to_string(project.join("config/config.exs")).unwrap();
    project.write("config/config.exs", text.replace("depth: 2", "depth: 4242"));
    watched.dram(&project).ok();
    assert!(watched.started().contains(&"mix".to_owned()));
    assert!(configuration().contains("4242"), "{}", configuration());
    // The version's own file, which mix.exs reads.
    project.write("VERSION", "0.8.0\n");
    watched.dram(&project).ok();
    assert!(project.join("_build/prod/rel/runtime/releases/0.8.0/start.boot").is_file());
    // What was compiled is gone.
    watched.started();
    fs::remove_dir_all(project.join("_build/prod/lib/runtime")).unwrap();
    watched.dram(&project).ok();
    assert!(watched.started().contains(&"mix".to_owned()));
}

#[test]
fn a_second_release_of_a_rebar3_project_starts_no_emulator() {
    let (project, watched) = (Project::copy("rebar"), Watched::tools());
    let release = || watched.dram(&project).args(["--name", "ferry"]);
    let about = || fs::read_to_string(project.join("_build/prod/rel/ferry/share/prod.txt")).unwrap();
    release().ok();
    assert!(watched.started().contains(&"rebar3".to_owned()));
    release().ok();
    assert_eq!(watched.started(), Vec::<String>::new());
    // rebar.config.script reads it.
    release().env("HARBOUR", "Kiel").ok();
    assert!(watched.started().contains(&"escript".to_owned()));
    assert!(about().contains("Kiel"), "{}", about());
    project.write("VERSION", "2.6.0\n");
    release().ok();
    assert!(project.join("_build/prod/rel/ferry/releases/2.6.0/start.boot").is_file());
    watched.started();
    release().ok();
    assert_eq!(watched.started(), Vec::<String>::new());
}

#[test]
fn an_answer_that_depends_on_the_clock_is_not_kept() {
    let (project, watched) = (Project::copy("small"), Watched::tools());
    let text = fs::read_to_string(project.join("config/config.exs")).unwrap();
    project.write("config/config.exs", format!("{text}\nconfig :small, built: System.os_time()\n"));
    let configuration = || fs::read(project.join("_build/prod/rel/small/releases/0.1.0/sys.config")).unwrap();
    watched.dram(&project).ok();
    let first = configuration();
    watched.dram(&project).ok();
    assert_ne!(first, configuration());
}

#[test]
fn clean_copies_in_two_directories_give_the_same_archive() {
    for name in ["small", "nif", "rebar"] {
        let made: Vec<(String, BTreeMap<String, String>)> = (0..2)
            .map(|_| {
                let project = Project::copy(name);
                // An attribute that names a file of this directory.
                project.write("lib/where.ex", "defmodule Where do\n  @external_resource __ENV__.file\nend\n");
                if name == "rebar" {
                    // Without it the compiler writes into modules where their sources are, for stack traces.
                    let text = fs::read_to_string(project.join("rebar.config")).unwrap();
                    project.write("rebar.config", text.replace("[debug_info]", "[debug_info, deterministic]"));
                }
                let which = if name == "rebar" { vec!["--name", "ferry"] } else { Vec::new() };
                let done = project.dram().args(which).arg("--json").ok();
                let said: Value = serde_json::from_str(&done.stdout).unwrap();
                let digest = said["archive"]["digest"].as_str().unwrap().to_owned();
                (digest, tree(Path::new(said["path"].as_str().unwrap())))
            })
            .collect();
        assert_eq!(made[0].1, made[1].1, "the releases of {name}");
        assert_eq!(made[0].0, made[1].0, "the archives of {name}");
    }
}

#[test]
fn compiled_directories_are_enough() {
    let project = Project::copy("small");
    project.tool("mix").arg("compile").ok();
    // Nobody evaluates the project's configuration: dram.toml names one.
    project.write("sys.config", "[{small, [{greeting, <<\"from a file\">>}, {words, []}, {table, #{}}]}].\n");
    project.write("dram.toml", "[release]\nsys-config = 'sys.config'\n");
    let release = project.beside("out/small");
    let ebin = project.join("_build/prod/lib/small/ebin");
    let from = || project.dram().arg("--output").arg(&release).arg("--from").arg(&ebin);
    // Elixir and Erlang are found where they are installed, and not started.
    from().arg("--json").ok();
    runs_from_a_file(&release);
    // Where neither is on the search path, both can be named.
    let script = "IO.write [:code.root_dir(), ?\\n, :code.lib_dir(:elixir), ?\\n, :code.lib_dir(:logger), ?\\n, :code.lib_dir(:iex)]";
    let said = tool("elixir").args(["-e", script]).ok().stdout;
    let [root, applications @ ..] = &said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    let empty = temp();
    let done = from().env("PATH", empty.path()).fails(3);
    assert!(done.stderr.contains("`erl`") && done.stderr.contains("--otp"), "{done}");
    from().args(applications).args(["--name", "small", "--otp", root]).env("PATH", empty.path()).ok();
    runs_from_a_file(&release);
}

#[track_caller]
fn runs_from_a_file(release: &Path) {
    assert!(runs(release, "small", &[]).contains("from a file"));
}

#[test]
fn json_tells_what_was_made() {
    let project = Project::copy("small");
    let said: Value = serde_json::from_str(&project.dram().arg("--json").ok().stdout).unwrap();
    assert_eq!((said["name"].as_str(), said["version"].as_str()), (Some("small"), Some("0.1.0")));
    let path = Path::new(said["path"].as_str().unwrap());
    assert_eq!(path, fs::canonicalize(project.join("_build/prod/rel/small")).unwrap());
    assert!(Path::new(said["program"].as_str().unwrap()).is_file());
    assert_eq!(said["files"].as_u64().unwrap(), tree(path).len() as u64);
    let archive = Path::new(said["archive"]["path"].as_str().unwrap());
    let sum = tool("sha256sum").arg(archive).ok().stdout;
    assert_eq!(said["archive"]["digest"].as_str().unwrap(), format!("sha256:{}", &sum[..64]));
    assert_eq!(said["archive"]["size"].as_u64().unwrap(), archive.metadata().unwrap().len());
    let unpacked = temp();
    tool("tar").arg("-xzf").arg(archive).arg("-C").arg(unpacked.path()).ok();
    assert!(tree(unpacked.path()) == tree(path), "the archive holds another release");
    fs::remove_file(archive).unwrap();
    let said: Value = serde_json::from_str(&project.dram().args(["--json", "--no-tar"]).ok().stdout).unwrap();
    assert!(said["archive"].is_null() && !archive.exists());
}

#[test]
fn what_dram_did_not_make_stays_unless_it_is_told() {
    let project = Project::copy("small");
    let text = fs::read_to_string(project.join("mix.exs")).unwrap();
    let at = text.find("version:").unwrap();
    project.write("mix.exs", format!("{}releases: [small: []], {}", &text[..at], &text[at..]));
    project.tool("mix").arg("release").ok();
    let release = project.join("_build/prod/rel/small");
    let before = tree(&release);
    let done = project.dram().fails(2);
    assert!(done.stderr.contains("dram did not make") && done.stderr.contains("--overwrite"), "{done}");
    assert!(tree(&release) == before, "the release of Mix is another one");
    project.dram().arg("--overwrite").ok();
    runs(&release, "small", &[]);
    // Logs and the like belong to nobody, and stay.
    fs::create_dir_all(release.join("tmp/log")).unwrap();
    fs::write(release.join("tmp/log/erlang.log.1"), "said").unwrap();
    project.dram().ok();
    assert_eq!(fs::read_to_string(release.join("tmp/log/erlang.log.1")).unwrap(), "said");
    // Another version beside it, as an upgrade needs.
    project.dram().args(["--version", "0.2.0"]).ok();
    assert!(release.join("releases/0.1.0/start.boot").is_file() && release.join("releases/0.2.0/start.boot").is_file());
}

#[test]
fn a_directory_that_is_no_release_is_never_replaced() {
    let project = Project::copy("small");
    let place = project.beside("precious");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("thesis.tex"), "chapter one").unwrap();
    for words in [vec![], vec!["--overwrite"]] {
        let done = project.dram().args(words).arg("--output").arg(&place).fails(2);
        assert!(done.stderr.contains("precious") && done.stderr.contains("--output"), "{done}");
        assert_eq!(names(&place), ["thesis.tex"]);
        assert_eq!(names(place.parent().unwrap()), ["precious", "small"]);
    }
    let done = project.dram().arg("--output").arg(place.join("thesis.tex")).end();
    assert!(done.code != 0 && done.stderr.contains("thesis.tex"), "{done}");
    assert_eq!(fs::read_to_string(place.join("thesis.tex")).unwrap(), "chapter one");
    fs::remove_file(place.join("thesis.tex")).unwrap();
    project.dram().args(["--no-tar", "--output"]).arg(&place).ok();
}

#[test]
fn killed_at_any_moment_it_leaves_the_old_release_or_the_new_one() {
    let project = Project::copy("small");
    let release = project.beside("out/small");
    // Evaluated at every start of dram that is not killed before: which of the two releases it is, sys.config says.
    let text = fs::read_to_string(project.join("config/config.exs")).unwrap();
    let make = |greeting: &str| {
        project.write("config/config.exs", text.replace("grüß dich", greeting));
        project.dram().arg("--output").arg(&release)
    };
    make("one").ok();
    let one = tree(&release);
    let clock = Instant::now();
    make("two").ok();
    let whole = clock.elapsed();
    let two = tree(&release);
    assert!(one != two);
    make("one").ok();
    let mut seen = (0, 0);
    for step in 0..12 {
        let started = make("two").start();
        thread::sleep(whole / 12 * step + Duration::from_millis(1));
        started.signal("KILL");
        let _ = started.end();
        let now = tree(&release);
        assert!(now == one || now == two, "killed after {step} twelfths, the release is neither");
        if now == one {
            seen.0 += 1;
        } else {
            seen.1 += 1;
        }
        make("one").ok();
        assert!(tree(&release) == one, "the next release is another one");
        assert_eq!(names(&project.beside("out")), ["small", "small-0.1.0.tar.gz"], "something is left behind");
    }
    assert!(seen.0 > 0, "never killed before the end: {seen:?}");
}

#[test]
fn two_at_once_make_one_release() {
    let project = Project::copy("small");
    let both: Vec<_> = (0..2).map(|_| project.dram().start()).collect();
    for started in both {
        let done = started.end();
        assert!(done.code == 0, "{done}");
    }
    runs(&project.join("_build/prod/rel/small"), "small", &[]);
}

#[test]
fn mistakes_in_the_projects_own_files_have_their_place_and_elixirs_words() {
    let project = Project::copy("small");
    let release = project.join("_build/prod/rel/small");
    project.dram().arg("--no-tar").ok();
    let before = tree(&release);
    let config = fs::read_to_string(project.join("config/config.exs")).unwrap();
    for (file, text, words) in [
        ("config/config.exs", format!("{config}\nconfig :small, (\n"), vec!["config.exs"]),
        ("config/config.exs", format!("{config}\nraise \"no such luck\"\n"), vec!["config.exs", "no such luck"]),
        ("config/config.exs", format!("{config}\nimport_config \"missing.exs\"\n"), vec!["missing.exs"]),
        ("config/config.exs", format!("{config}\nSystem.fetch_env!(\"NO_SUCH_THING\")\n"), vec!["NO_SUCH_THING"]),
    ] {
        project.write(file, text);
        let done = project.dram().args(["--no-tar", "--quiet"]).end();
        assert!(done.code != 0, "{done}");
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{words:?}\n{done}");
        assert!(tree(&release) == before, "the release changed");
    }
    project.write("config/config.exs", config);
    let done = project.dram().args(["--name", "nothing"]).fails(1);
    assert!(done.stderr.contains("nothing"), "{done}");
    let done = Project::of(&[]).dram().fails(2);
    assert!(done.stderr.contains("mix.exs") && done.stderr.contains("rebar.config"), "{done}");
}

#[test]
fn targets_and_build_paths_of_mix_are_where_mix_has_them() {
    let project = Project::copy("small");
    project.dram().env("MIX_TARGET", "rpi4").arg("--no-tar").ok();
    assert!(project.join("_build/rpi4_prod/rel/small/bin/small").is_file());
    let elsewhere = project.beside("elsewhere");
    project.dram().env("MIX_BUILD_ROOT", &elsewhere).args(["--no-tar", "--env", "dev"]).ok();
    assert!(elsewhere.join("dev/rel/small/bin/small").is_file());
}
