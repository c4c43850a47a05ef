//! Comparison with a release created by `mix release`, file by file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use dram_release::beam::{StripRule, strip};
use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::AppOrigin;
use dram_release::config::{ConfigProviders, merge};
use dram_release::consult::consult;
use dram_release::release_files;
use dram_release::resolve::{ReleaseRules, StartType, resolve};
use dram_release::term::Term;

use crate::fixtures;
use crate::peer::{self, bytes, path};

const CONFIG: &str = r#"import Config
config :demo, a: %{"x" => "y", :b => [1, 2], 3 => 1.5}, c: "café", d: :"strange atom"
config :demo, A.B, k: ~c"café", z: %{}, bits: <<5::3>>, big: 1_000_000_000_000_000_000_000
config :logger, level: :info
"#;

fn run(command: &mut Command) {
    let output = command.env("MIX_ENV", "prod").output().expect("mix is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Returns the modules in a directory.
fn modules(dir: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".beam")).collect()
}

#[test]
fn a_release_is_identical_to_that_of_mix() {
    let dir = peer::scratch();
    let project = dir.path().join("demo");
    run(Command::new("mix").args(["new", "--sup"]).arg(&project));
    let settings = std::fs::read_to_string(project.join("mix.exs")).unwrap();
    let settings = settings.replace("app: :demo,", "app: :demo, description: \"Größe, 日本 \\\" \\n\",");
    std::fs::write(project.join("mix.exs"), settings).unwrap();
    std::fs::create_dir(project.join("config")).unwrap();
    std::fs::write(project.join("config/config.exs"), CONFIG).unwrap();
    std::fs::write(project.join("config/runtime.exs"), "import Config\n").unwrap();
    run(Command::new("mix").args(["release", "--quiet"]).current_dir(&project));
    let theirs = project.join("_build/prod/rel/demo");

    let mut apps = peer::files(&["lib/{kernel,stdlib,sasl,compiler,crypto}-*/ebin/*.app"]);
    let (mut catalog, mut ebins) = fixtures::catalog(&apps, AppOrigin::Otp);
    apps = peer::files(&["../elixir/lib/{elixir,iex,logger}/ebin/*.app"]);
    apps.push(project.join("_build/prod/lib/demo/ebin/demo.app"));
    let (more, more_ebins) = fixtures::catalog(&apps, AppOrigin::Project);
    more.names().for_each(|name| catalog.add(more.get(name).unwrap().clone()));
    ebins.extend(more_ebins);
    let mut spec = fixtures::spec("demo", ReleaseRules::mix("1.14.0"), &[("demo", Some(StartType::Permanent))]);
    spec.version = "0.1.0".to_owned();
    let release = resolve(&spec, &catalog).unwrap();

    let is_same = |name: &str, mine: &[u8]| {
        let theirs = std::fs::read(theirs.join(name)).unwrap();
        let text = String::from_utf8_lossy;
        assert!(mine == theirs, "{name}\n{}\n{}", text(mine), text(&theirs));
    };
    let options = BootOptions::mix(Some("$RELEASE_LIB/../releases/0.1.0/consolidated".to_owned()), true);
    for (name, release) in [("start", release.clone()), ("start_clean", release.start_clean())] {
        let script = BootScript::new(&release, &catalog, &options);
        is_same(&format!("releases/0.1.0/{name}.boot"), &script.to_boot());
        is_same(&format!("releases/0.1.0/{name}.script"), script.to_script().as_bytes());
    }
    is_same("releases/0.1.0/demo.rel", release_files::rel_text(&release).as_bytes());
    is_same("releases/start_erl.data", release_files::start_erl_text(&release).as_bytes());
    let config = consult(
        "[{demo,[{a,#{<<\"x\">> => <<\"y\">>, b => [1,2], 3 => 1.5}},{c,<<\"café\"/utf8>>},{d,'strange atom'},
         {'Elixir.A.B',[{k,\"café\"},{z,#{}},{bits,<<5:3>>},{big,1000000000000000000000}]}]},{logger,[{level,info}]}]."
            .as_bytes(),
    );
    let config = ConfigProviders::runtime_exs("0.1.0", "prod", "host").add_to_config(&config.unwrap()[0]);
    is_same("releases/0.1.0/sys.config", release_files::sys_config_text(&config, false).as_bytes());

    let rule = StripRule::for_rules(&ReleaseRules::mix("1.14.0"), &[], false);
    let mut count = 0;
    let mut all_same = |from: &Path, to: &str| {
        assert_eq!(modules(from), modules(&theirs.join(to)), "{to}");
        for name in modules(from) {
            let module = name.strip_suffix(".beam").unwrap().as_bytes();
            let stripped = strip(&std::fs::read(from.join(&name)).unwrap(), Some(module), &rule).unwrap();
            assert!(stripped == std::fs::read(theirs.join(to).join(&name)).unwrap(), "{to}/{name}");
            count += 1;
        }
    };
    for app in release.apps() {
        all_same(&ebins[app.name()], &format!("lib/{}-{}/ebin", app.name(), app.version()));
    }
    all_same(&project.join("_build/prod/lib/demo/consolidated"), "releases/0.1.0/consolidated");
    let dirs: Vec<PathBuf> =
        std::fs::read_dir(theirs.join("lib")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(dirs.len(), release.apps().len());
    assert!(count > 400, "{count}");
}

#[test]
fn sys_config_is_identical_to_that_of_mix() {
    let dir = peer::scratch();
    let configs = [
        "[].",
        "[{demo,[{a,1}]},{elixir,[{x,1},{config_provider_init,old}]}].",
        "[{kernel,[{start_distribution,false},{logger,[]}]},{elixir,[]}].",
        "[{kernel,[{start_distribution,[{a,1}]}]},{demo,[{a,[{b,[{c,1}]}]}]}].",
    ];
    let mut questions = Vec::new();
    let mut mine = Vec::new();
    for text in configs {
        let config = consult(text.as_bytes()).unwrap().remove(0);
        for flags in 0..8 {
            let (reboot, prune, early) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            let truth = |name: &str, value: bool| {
                Term::tuple([Term::atom(name), Term::atom(if value { "true" } else { "false" })])
            };
            let options = Term::List(vec![
                truth("reboot_system_after_config", reboot),
                truth("prune_runtime_sys_config_after_boot", prune),
                truth("start_distribution_during_config", early),
            ]);
            let providers = ConfigProviders {
                reboot,
                prune,
                early_distribution: early,
                ..ConfigProviders::runtime_exs("0.1.0", "prod", "host")
            };
            let reader = consult(
                b"{'Elixir.Config.Reader',[{path,{system,<<\"RELEASE_ROOT\">>,<<\"/releases/0.1.0/runtime.exs\">>}},
                  {env,prod},{target,host},{imports,disabled}]}.",
            );
            for is_changed in [true, false] {
                let modules = if is_changed { reader.clone().unwrap() } else { Vec::new() };
                let place = path(dir.path());
                questions.push(Term::tuple([config.clone(), Term::List(modules), options.clone(), place]));
                mine.push(match is_changed {
                    true => release_files::sys_config_text(&providers.add_to_config(&config), reboot),
                    false => release_files::sys_config_text(&config, false),
                });
            }
        }
    }
    let theirs = peer::elixir("sys_config", &Term::List(questions));
    for (mine, theirs) in mine.iter().zip(theirs.as_list().unwrap()) {
        assert_eq!(*mine, String::from_utf8_lossy(bytes(theirs)));
    }
}

#[test]
fn random_configurations_are_merged_as_elixir_merges_them() {
    let mut chance = crate::term_rng::TermRng::new(77);
    fn settings(chance: &mut crate::term_rng::TermRng, depth: usize) -> Term {
        let count = chance.below(4);
        let setting = |chance: &mut crate::term_rng::TermRng| {
            let name = Term::atom(chance.choose(&["a", "b", "c"]));
            let is_deep = depth == 2 || depth > 0 && chance.one_in(2);
            let value = if is_deep { settings(chance, depth - 1) } else { Term::Int(chance.below(9) as i64) };
            Term::tuple([name, value])
        };
        let mut list: Vec<Term> = (0..count).map(|_| setting(chance)).collect();
        if depth < 2 && chance.one_in(6) {
            list.push(Term::atom("alone"));
        }
        Term::List(list)
    }
    let pairs: Vec<_> = (0..500).map(|_| (settings(&mut chance, 2), settings(&mut chance, 2))).collect();
    let pairs: Vec<_> =
        pairs.into_iter().filter(|(one, other)| [one, other].iter().all(|term| is_config(term))).collect();
    assert!(pairs.len() > 100);
    let questions = pairs.iter().map(|(one, other)| Term::tuple([one.clone(), other.clone()])).collect();
    let theirs = peer::elixir("merge", &Term::List(questions));
    for ((one, other), theirs) in pairs.iter().zip(theirs.as_list().unwrap()) {
        assert_eq!(merge(one, other).to_string(), theirs.to_string(), "{one} {other}");
    }
}

/// Returns true if the settings of every application are a list of tuples.
fn is_config(term: &Term) -> bool {
    let pairs = |term: &Term| term.as_list().is_some_and(|list| list.iter().all(|pair| pair.as_tuple().is_some()));
    pairs(term) && term.as_list().unwrap().iter().all(|pair| pairs(&pair.as_tuple().unwrap()[1]))
}
