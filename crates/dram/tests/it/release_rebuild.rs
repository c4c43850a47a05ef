//! Repeated `dram release`: cached configuration, reproducibility, and the treatment of existing files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::release::{Project, run_until_ready, tree};
use crate::support::{TestCommand, names, temp, tool};

/// Wrappers of the Erlang tools, first on the search path: each logs its start and executes the real tool.
struct WatchedTools {
    dir: TempDir,
}

impl WatchedTools {
    fn new() -> WatchedTools {
        let watched = WatchedTools { dir: temp() };
        for name in ["mix", "elixir", "erl", "escript", "rebar3"] {
            let found = tool("which").arg(name).ok().stdout;
            let real = fs::canonicalize(found.trim()).unwrap();
            let log = watched.log();
            let script = format!("#!/bin/sh\necho {name} >> {}\nexec {} \"$@\"\n", log.display(), real.display());
            // The wrapper executes the real path, because Erlang and Elixir look for their files beside it.
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

    /// Returns the tools that were started since the last call.
    fn take_started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let _ = fs::remove_file(self.log());
        text.lines().map(str::to_owned).collect()
    }

    fn dram(&self, project: &Project) -> TestCommand {
        project.dram().env("PATH", self.path()).arg("--no-tar")
    }
}

#[test]
fn a_second_release_of_a_mix_project_starts_no_emulator() {
    let (project, watched) = (Project::copy("runtime"), WatchedTools::new());
    let release = || watched.dram(&project).args(["--name", "fixed"]);
    release().ok();
    assert!(watched.take_started().contains(&"mix".to_owned()));
    let made = project.join("_build/prod/rel/fixed");
    let before = tree(&made);
    release().ok();
    assert_eq!(watched.take_started(), Vec::<String>::new());
    assert!(tree(&made) == before, "the second release is another one");
    // Another working directory does not invalidate the cached configuration.
    release().dir("/").ok();
    assert_eq!(watched.take_started(), Vec::<String>::new());
}

/// A path in a release, and a change to the file at it.
type ReleaseChange<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn an_intact_release_is_not_rewritten_and_a_damaged_one_is_repaired() {
    let project = Project::copy("small");
    let release = project.join("_build/prod/rel/small");
    let number = || fs::metadata(&release).unwrap().ino();
    project.dram().ok();
    let (before, first) = (tree(&release), number());
    project.dram().ok();
    assert_eq!(number(), first, "it was written again");
    let module = "lib/small-0.1.0/ebin/Elixir.Small.Application.beam";
    let changes: [ReleaseChange<'_>; 6] = [
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
fn mix_is_started_again_when_an_input_of_the_configuration_changes() {
    let (project, watched) = (Project::copy("runtime"), WatchedTools::new());
    let release = || watched.dram(&project).args(["--name", "fixed"]);
    let configuration = || fs::read_to_string(project.join("_build/prod/rel/fixed/releases/0.7.0/sys.config")).unwrap();
    release().ok();
    watched.take_started();
    // A variable that config.exs reads is an input.
    release().env("RUNTIME_COMPILED", "fancy").ok();
    assert!(!watched.take_started().is_empty());
    assert!(configuration().contains("fancy") || configuration().contains("102,97,110,99,121"), "{}", configuration());
    // A variable that it does not read is no input.
    release().env("RUNTIME_COMPILED", "fancy").env("SOMETHING_ELSE", "1").ok();
    assert_eq!(watched.take_started(), Vec::<String>::new());
    // The configuration file is an input.
    let text = fs::read_to_string(project.join("config/config.exs")).unwrap();
    project.write("config/config.exs", text.replace("depth: 2", "depth: 4242"));
    release().ok();
    assert!(watched.take_started().contains(&"mix".to_owned()));
    assert!(configuration().contains("4242"), "{}", configuration());
    // The version file, which mix.exs reads, is an input.
    project.write("VERSION", "0.8.0\n");
    release().ok();
    assert!(project.join("_build/prod/rel/fixed/releases/0.8.0/start.boot").is_file());
    // Removed build results are made again.
    watched.take_started();
    fs::remove_dir_all(project.join("_build/prod/lib/runtime")).unwrap();
    release().ok();
    assert!(watched.take_started().contains(&"mix".to_owned()));
}

#[test]
fn a_second_release_of_a_rebar3_project_starts_no_emulator() {
    let (project, watched) = (Project::copy("rebar"), WatchedTools::new());
    let release = || watched.dram(&project).args(["--name", "ferry"]);
    let about = || fs::read_to_string(project.join("_build/prod/rel/ferry/share/prod.txt")).unwrap();
    release().ok();
    assert!(watched.take_started().contains(&"rebar3".to_owned()));
    release().ok();
    assert_eq!(watched.take_started(), Vec::<String>::new());
    // rebar.config.script reads this variable.
    release().env("HARBOUR", "Kiel").ok();
    assert!(watched.take_started().contains(&"escript".to_owned()));
    assert!(about().contains("Kiel"), "{}", about());
    project.write("VERSION", "2.6.0\n");
    release().ok();
    assert!(project.join("_build/prod/rel/ferry/releases/2.6.0/start.boot").is_file());
    watched.take_started();
    release().ok();
    assert_eq!(watched.take_started(), Vec::<String>::new());
}

#[test]
fn a_configuration_that_depends_on_the_clock_is_not_cached() {
    let (project, watched) = (Project::copy("small"), WatchedTools::new());
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
                // A module attribute contains the path of this directory.
                project.write("lib/where.ex", "defmodule Where do\n  @external_resource __ENV__.file\nend\n");
                if name == "rebar" {
                    // Without `deterministic`, the compiler writes the paths of sources into modules, for stack traces.
                    let text = fs::read_to_string(project.join("rebar.config")).unwrap();
                    project.write("rebar.config", text.replace("[debug_info]", "[debug_info, deterministic]"));
                }
                let which = if name == "rebar" { vec!["--name", "ferry"] } else { Vec::new() };
                let done = project.dram().args(which).arg("--json").env("SOURCE_DATE_EPOCH", "7").ok();
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
fn a_release_has_the_time_of_the_variable_or_of_the_commit_and_otherwise_the_projects_files_keep_theirs() {
    use std::os::unix::fs::MetadataExt as _;
    let project = Project::copy("small");
    project.write("priv/static/app.css", "body {}\n");
    project.write(".gitignore", "/deps/\n");
    let script = "touch -d @1234567890 priv/static/app.css";
    project.tool("sh").args(["-c", script]).ok();
    // The output and the archive are in the work tree, and not ignored.
    let made = |epoch: &str| {
        let done =
            project.dram().arg("-o").arg(project.join("out/small")).arg("--json").env("SOURCE_DATE_EPOCH", epoch).ok();
        let said: Value = serde_json::from_str(&done.stdout).unwrap();
        let root = project.join("out/small");
        let lib = fs::read_dir(root.join("lib")).unwrap().flatten();
        let own =
            lib.map(|dir| dir.path()).find(|dir| dir.file_name().unwrap().as_encoded_bytes().starts_with(b"small-"));
        let times = [own.unwrap().join("priv/static/app.css"), root.join("bin/small"), root.join("lib"), root]
            .map(|path| fs::symlink_metadata(path).unwrap().mtime());
        let archive = said["archive"]["path"].as_str().unwrap().to_owned();
        let listed = project.tool("tar").args(["--utc", "--full-time", "-tvf", &archive]).ok().stdout;
        let css = listed.lines().find(|line| line.ends_with("app.css")).unwrap().to_owned();
        (done.stderr, times, css)
    };
    let (said, times, css) = made("");
    assert!(said.contains("files keep theirs, all others have 1980-01-02 (no commit: git: "), "{said}");
    assert_eq!(times, [1_234_567_890, 315_619_200, 315_619_200, 315_619_200]);
    assert!(css.contains("2009-02-13 23:31:30"), "{css}");
    let (said, times, css) = made("1600000000");
    assert!(said.contains("times: all 1600000000, of SOURCE_DATE_EPOCH"), "{said}");
    assert_eq!(times, [1_600_000_000; 4]);
    assert!(css.contains("2020-09-13 12:26:40"), "{css}");
    let script = "git init -q; git add mix.exs lib priv config .gitignore; git add -A -- . ':!_build' ':!out'; \
        GIT_COMMITTER_DATE='1500000000 +0000' git -c user.name=t -c user.email=t@example.com commit -qm all";
    project.tool("sh").args(["-c", script]).ok();
    for _ in 0..2 {
        let (said, times, _) = made("");
        assert!(said.contains("times: all 1500000000, of the commit"), "{said}");
        assert_eq!(times, [1_500_000_000; 4]);
    }
    project.write("new", "");
    assert!(made("").0.contains("differ from the commit, as `new`"));
}

#[test]
fn a_release_is_made_from_compiled_directories() {
    let project = Project::copy("small");
    project.tool("mix").arg("compile").ok();
    // The project's configuration is not evaluated: dram.toml names a sys.config.
    project.write("sys.config", "[{small, [{greeting, <<\"from a file\">>}, {words, []}, {table, #{}}]}].\n");
    project.write("dram.toml", "[release]\nsys-config = 'sys.config'\n");
    let release = project.beside("out/small");
    let ebin = project.join("_build/prod/lib/small/ebin");
    let from = || project.dram().arg("--output").arg(&release).arg("--from").arg(&ebin);
    // The installations of Elixir and Erlang are found without starting them.
    from().arg("--json").ok();
    assert_greets_from_a_file(&release);
    // If neither is on the search path, both can be given as options.
    let script = "IO.write [:code.root_dir(), ?\\n, :code.lib_dir(:elixir), ?\\n, :code.lib_dir(:logger), ?\\n, :code.lib_dir(:iex)]";
    let said = tool("elixir").args(["-e", script]).ok().stdout;
    let [root, applications @ ..] = &said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    let empty = temp();
    let done = from().env("PATH", empty.path()).fails(3);
    assert!(done.stderr.contains("`erl`") && done.stderr.contains("--otp"), "{done}");
    from().args(applications).args(["--name", "small", "--otp", root]).env("PATH", empty.path()).ok();
    assert_greets_from_a_file(&release);
}

#[track_caller]
fn assert_greets_from_a_file(release: &Path) {
    assert!(run_until_ready(release, "small", &[]).contains("from a file"));
}

#[test]
fn json_output_describes_the_release() {
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
fn a_foreign_release_is_kept_unless_overwrite_is_given() {
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
    run_until_ready(&release, "small", &[]);
    // Files that are no part of a release, such as logs, are kept.
    fs::create_dir_all(release.join("tmp/log")).unwrap();
    fs::write(release.join("tmp/log/erlang.log.1"), "said").unwrap();
    project.dram().ok();
    assert_eq!(fs::read_to_string(release.join("tmp/log/erlang.log.1")).unwrap(), "said");
    // Another version is added beside it, as an upgrade needs.
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
fn a_killed_dram_release_leaves_the_old_release_or_the_new_one() {
    let project = Project::copy("small");
    let release = project.beside("out/small");
    // The configuration is evaluated in every run; sys.config shows which of the two releases it is.
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
fn concurrent_releases_of_one_project_make_one_release() {
    let project = Project::copy("small");
    let both: Vec<_> = (0..2).map(|_| project.dram().start()).collect();
    for started in both {
        let done = started.end();
        assert!(done.code == 0, "{done}");
    }
    run_until_ready(&project.join("_build/prod/rel/small"), "small", &[]);
}

#[test]
fn errors_in_project_files_show_their_file_and_elixirs_message() {
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
    let done = Project::with_files(&[]).dram().fails(2);
    assert!(done.stderr.contains("mix.exs") && done.stderr.contains("rebar.config"), "{done}");
}

#[test]
fn mix_target_and_mix_build_root_are_respected() {
    let project = Project::copy("small");
    project.dram().env("MIX_TARGET", "rpi4").arg("--no-tar").ok();
    assert!(project.join("_build/rpi4_prod/rel/small/bin/small").is_file());
    let elsewhere = project.beside("elsewhere");
    project.dram().env("MIX_BUILD_ROOT", &elsewhere).args(["--no-tar", "--env", "dev"]).ok();
    assert!(elsewhere.join("dev/rel/small/bin/small").is_file());
}
