//! Releases of random applications: `systools`, Mix and relx create the same release as dram, or all of them refuse.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::AppOrigin;
use dram_release::release_files;
use dram_release::relx::{self, RelxGoal, RelxSpec};
use dram_release::resolve::{ReleaseRules, ResolveError, StartType, resolve, resolve_exact};
use dram_release::term::Term;

use crate::fixtures;
use crate::peer::{self, bytes, path};
use crate::term_rng::TermRng;

/// The probabilities of defects: each happens once in so many times.
struct DefectOdds {
    missing: usize,
    backward: usize,
    included: usize,
    registered: usize,
    module: usize,
}

const FEW_DEFECTS: DefectOdds =
    DefectOdds { missing: 1000, backward: 1000, included: 9, registered: 1000, module: 1000 };
const MANY_DEFECTS: DefectOdds = DefectOdds { missing: 60, backward: 30, included: 5, registered: 40, module: 60 };

/// Writes random application specifications below `dir/lib` and returns their paths.
fn applications(chance: &mut TermRng, dir: &Path, odds: &DefectOdds, prefix: &str) -> Vec<PathBuf> {
    let count = 2 + chance.below(9);
    let mut specifications = Vec::new();
    let mut taken = Vec::new();
    for number in 0..count {
        let name = format!("{prefix}{number}");
        let (mut uses, mut includes, mut optional) = (vec!["kernel".to_owned(), "stdlib".to_owned()], vec![], vec![]);
        for other in 0..count {
            let is_back = other <= number;
            if other == number || is_back && !chance.one_in(odds.backward) || !is_back && !chance.one_in(3) {
                continue;
            }
            let other = format!("{prefix}{other}");
            if !is_back && chance.one_in(odds.included) && !taken.contains(&other) {
                taken.push(other.clone());
                includes.push(other);
            } else if !taken.contains(&other) || chance.one_in(6) {
                if chance.one_in(5) {
                    optional.push(other.clone());
                }
                uses.push(other);
            }
        }
        if chance.one_in(odds.missing) {
            uses.push("absent".to_owned());
        }
        if chance.one_in(6) {
            uses.push("absent_too".to_owned());
            optional.push("absent_too".to_owned());
        }
        let at = chance.below(uses.len());
        uses.rotate_left(at);
        let registered = if chance.one_in(odds.registered) { "the_one".to_owned() } else { format!("{name}_sup") };
        let module = if chance.one_in(odds.module) { "the_module".to_owned() } else { format!("{name}_sup") };
        specifications.push((name, format!(
            "{{application,{prefix}{number},[{{description,\"d\"}},{{vsn,\"1.{number}\"}},{{modules,[{prefix}{number},{module}]}},
             {{registered,[{registered}]}},{{applications,[{}]}},{{optional_applications,[{}]}},{{included_applications,[{}]}},
             {{env,[{{key,#{{b => \"x\",a => 1}}}}]}}]}}.",
            uses.join(","), optional.join(","), includes.join(","),
        ), module, number));
    }
    let mut paths = Vec::new();
    for (name, text, module, number) in specifications {
        let ebin = dir.join(format!("lib/{name}-1.{number}/ebin"));
        std::fs::create_dir_all(&ebin).unwrap();
        for module in [&name, &module] {
            std::fs::write(ebin.join(format!("{module}.beam")), b"").unwrap();
        }
        paths.push(ebin.join(format!("{name}.app")));
        std::fs::write(paths.last().unwrap(), text).unwrap();
    }
    paths
}

fn names(apps: &[PathBuf]) -> Vec<String> {
    apps.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn random_start_type(chance: &mut TermRng) -> Option<StartType> {
    let modes = [StartType::Permanent, StartType::Transient, StartType::Temporary, StartType::Load, StartType::None];
    chance.one_in(3).then(|| chance.choose(&modes))
}

/// Counts the results, so that a test which compares nothing fails.
#[derive(Default)]
struct ComparisonTally {
    same: usize,
    refused: usize,
    wrong: String,
    wrong_count: usize,
}

impl ComparisonTally {
    fn wrong(&mut self, dir: &Path, what: impl std::fmt::Display) {
        self.wrong_count += 1;
        if self.wrong_count < 4 {
            let mut apps: Vec<_> =
                std::fs::read_dir(dir.join("lib")).unwrap().map(|entry| entry.unwrap().path()).collect();
            apps.sort();
            for app in apps {
                let name = app.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned();
                let text = std::fs::read_to_string(app.join(format!("ebin/{name}.app"))).unwrap();
                writeln!(self.wrong, "{}", text.split("{registered").collect::<Vec<_>>().join("\n {registered"))
                    .unwrap();
            }
            writeln!(self.wrong, "{what}\n").unwrap();
        }
    }

    fn check(&self, same: usize, refused: usize) {
        assert!(
            self.wrong.is_empty(),
            "{} wrong, {} same, {} refused\n{}",
            self.wrong_count,
            self.same,
            self.refused,
            self.wrong
        );
        assert!(self.same >= same && self.refused >= refused, "{} same, {} refused", self.same, self.refused);
    }
}

#[test]
fn random_releases_have_the_boot_scripts_of_systools() {
    let mut chance = TermRng::new(41);
    let otp = peer::files(&["lib/{kernel,stdlib,sasl}-*/ebin/*.app"]);
    let (mut questions, mut mine, mut worlds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..600 {
        let dir = peer::scratch();
        let mut apps =
            applications(&mut chance, dir.path(), if round % 2 == 0 { &FEW_DEFECTS } else { &MANY_DEFECTS }, "app");
        let mut asked: Vec<_> = names(&apps).into_iter().map(|name| (name, random_start_type(&mut chance))).collect();
        for _ in 0..asked.len() {
            let (one, other) = (chance.below(asked.len()), chance.below(asked.len()));
            asked.swap(one, other);
        }
        if chance.one_in(12) {
            asked.pop();
        }
        for name in ["kernel", "stdlib"] {
            let mode = if chance.one_in(50) { Some(StartType::Load) } else { None };
            let at = chance.below(asked.len() + 1);
            asked.insert(if chance.one_in(4) { at } else { 0 }, (name.to_owned(), mode));
        }
        apps.extend(otp.clone());
        let (catalog, ebins) = fixtures::catalog(&apps, AppOrigin::Otp);
        let mut spec = fixtures::spec("demo", ReleaseRules::Otp, &[]);
        spec.applications = asked;
        let listed: Vec<String> = spec
            .applications
            .iter()
            .map(|(name, mode)| {
                let vsn = &catalog.get(name).unwrap().app.vsn;
                format!("{{{name},\"{vsn}\",{}}}", mode.unwrap_or(StartType::Permanent))
            })
            .collect();
        let rel = format!("{{release,{{\"demo\",\"1.0\"}},{{erts,\"13.1.5\"}},[{}]}}.", listed.join(","));
        let file = dir.path().join("start");
        std::fs::write(file.with_extension("rel"), rel).unwrap();
        let ebins = ebins.values().map(|ebin| path(ebin)).collect();
        questions.push(Term::tuple([path(&file), Term::List(ebins), Term::List(vec![Term::atom("no_dot_erlang")])]));
        mine.push(
            resolve_exact(&spec, &catalog).map(|release| BootScript::new(&release, &catalog, &BootOptions::default())),
        );
        worlds.push(dir);
    }
    let answer = peer::erlang("make_script", &Term::List(questions));
    let mut tally = ComparisonTally::default();
    for ((mine, theirs), dir) in mine.iter().zip(answer.as_list().unwrap()).zip(&worlds) {
        let rel = std::fs::read_to_string(dir.path().join("start.rel")).unwrap();
        match (mine, theirs) {
            (Ok(mine), Term::Tuple(theirs))
                if mine.to_boot() == bytes(&theirs[0]) && mine.to_script().as_bytes() == bytes(&theirs[1]) =>
            {
                tally.same += 1;
            }
            (Err(_), Term::Atom(_)) => tally.refused += 1,
            (Ok(mine), Term::Tuple(theirs)) => {
                let theirs = String::from_utf8_lossy(bytes(&theirs[1])).into_owned();
                let text = mine.to_script();
                let differs = text.lines().zip(theirs.lines()).find(|(mine, theirs)| mine != theirs);
                tally.wrong(dir.path(), format!("{rel}\n{differs:?}"));
            }
            (Ok(_), theirs) => tally.wrong(dir.path(), format!("{rel}\nsystools refuses: {theirs}")),
            (Err(errors), _) => tally.wrong(dir.path(), format!("{rel}\nonly we refuse: {errors:?}")),
        }
    }
    tally.check(200, 100);
}

#[test]
fn random_releases_are_identical_to_those_of_mix() {
    let mut chance = TermRng::new(7);
    let otp = peer::files(&["lib/{kernel,stdlib,sasl,compiler,crypto}-*/ebin/*.app"]);
    let elixir = peer::files(&["../elixir/lib/{elixir,iex,logger}/ebin/*.app"]);
    let (mut questions, mut mine, mut worlds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..120 {
        let dir = peer::scratch();
        let prefix = format!("r{round}_");
        let apps =
            applications(&mut chance, dir.path(), if round % 2 == 0 { &FEW_DEFECTS } else { &MANY_DEFECTS }, &prefix);
        let mut asked: Vec<(String, Option<StartType>)> = Vec::new();
        for name in names(&apps) {
            if asked.is_empty() || chance.one_in(3) {
                asked.push((name, Some(random_start_type(&mut chance).unwrap_or(StartType::Permanent))));
            }
        }
        if chance.one_in(5) {
            let name = chance.choose(&["sasl", "iex", "logger", "crypto", "kernel", "elixir"]).to_owned();
            asked.push((name, Some(random_start_type(&mut chance).unwrap_or(StartType::Permanent))));
        }
        let unchecked = if chance.one_in(3) { vec![asked[0].0.clone()] } else { vec![] };
        let pairs = asked.iter().map(|(name, mode)| Term::tuple([Term::atom(name), Term::atom(mode.unwrap().name())]));
        questions.push(Term::tuple([
            path(dir.path()),
            Term::List(pairs.collect()),
            Term::List(vec![]),
            Term::atoms(&unchecked),
        ]));
        let (mut catalog, _) = fixtures::catalog(&apps, AppOrigin::Project);
        for (apps, origin) in [(&otp, AppOrigin::Otp), (&elixir, AppOrigin::Project)] {
            let (more, _) = fixtures::catalog(apps, origin);
            for name in names(apps) {
                catalog.add(more.get(&name).unwrap().clone());
            }
        }
        let mut spec = fixtures::spec("demo", ReleaseRules::mix("1.14.0"), &[]);
        spec.applications = asked;
        spec.skip_mode_validation = unchecked;
        let scripts = resolve(&spec, &catalog).map(|release| {
            let options = BootOptions::mix(None, false);
            [release.clone(), release.start_clean()].map(|release| {
                let script = BootScript::new(&release, &catalog, &options);
                (release_files::rel_text(&release), script.to_boot(), script.to_script())
            })
        });
        mine.push(scripts);
        worlds.push((dir, spec));
    }
    let answer = peer::elixir("resolve", &Term::List(questions));
    let mut tally = ComparisonTally::default();
    for ((mine, theirs), (dir, spec)) in mine.iter().zip(answer.as_list().unwrap()).zip(&worlds) {
        let asked = format!("{:?} unchecked {:?}", spec.applications, spec.skip_mode_validation);
        match (mine, theirs) {
            (Ok(mine), Term::List(theirs)) => {
                let mine: Vec<Vec<u8>> = mine
                    .iter()
                    .flat_map(|(rel, boot, script)| {
                        [rel.clone().into_bytes(), boot.clone(), script.clone().into_bytes()]
                    })
                    .collect();
                let differs = mine.iter().zip(theirs).find(|(mine, theirs)| *mine != bytes(theirs));
                match differs {
                    None => tally.same += 1,
                    Some((mine, theirs)) => tally.wrong(
                        dir.path(),
                        format!(
                            "{asked}\n{}\n{}",
                            String::from_utf8_lossy(mine),
                            String::from_utf8_lossy(bytes(theirs))
                        ),
                    ),
                }
            }
            (Err(_), Term::Atom(_)) => tally.refused += 1,
            (Ok(_), theirs) => tally.wrong(dir.path(), format!("{asked}\nMix refuses: {theirs}")),
            (Err(errors), _) => tally.wrong(dir.path(), format!("{asked}\nonly we refuse: {errors:?}")),
        }
    }
    tally.check(30, 30);
}

#[test]
fn random_releases_are_identical_to_those_of_relx() {
    let mut chance = TermRng::new(23);
    let otp = peer::files(&["lib/{kernel,stdlib,sasl}-*/ebin/*.app"]);
    let (mut questions, mut mine, mut worlds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..300 {
        let dir = peer::scratch();
        let mut apps =
            applications(&mut chance, dir.path(), if round % 2 == 0 { &FEW_DEFECTS } else { &MANY_DEFECTS }, "app");
        let names = names(&apps);
        let mut goals: Vec<Term> = Vec::new();
        for (number, name) in names.iter().enumerate() {
            if !goals.is_empty() && !chance.one_in(3) {
                continue;
            }
            let name = Term::atom(name);
            let version = Term::string(&format!("1.{}", if chance.one_in(20) { 99 } else { number }));
            goals.push(match chance.below(5) {
                0 => Term::tuple([name, Term::atom(random_start_type(&mut chance).unwrap_or(StartType::Load).name())]),
                1 => Term::tuple([name, version]),
                2 => Term::tuple([
                    name,
                    version,
                    Term::atom(random_start_type(&mut chance).unwrap_or(StartType::Load).name()),
                ]),
                3 if chance.one_in(2) => Term::tuple([name, Term::List(vec![])]),
                _ => name,
            });
        }
        let excluded = if chance.one_in(4) { vec![chance.choose(&names)] } else { vec![] };
        questions.push(Term::tuple([
            Term::List(vec![path(&dir.path().join("lib"))]),
            Term::atom("demo"),
            Term::List(goals.clone()),
            Term::atoms(&excluded),
        ]));
        apps.extend(otp.clone());
        let (catalog, ebins) = fixtures::catalog(&apps, AppOrigin::Otp);
        let spec = RelxSpec {
            name: "demo".to_owned(),
            version: "1.0".to_owned(),
            erts: "13.1.5".to_owned(),
            otp: fixtures::OTP,
            goals: goals.iter().map(|goal| RelxGoal::parse(goal).unwrap()).collect(),
            excluded,
        };
        let made = relx::resolve(&spec, &catalog).map(|release| {
            let options = BootOptions { dot_erlang: true, ..BootOptions::default() };
            (release_files::rel_text(&release), BootScript::new(&release, &catalog, &options).to_boot())
        });
        mine.push(made);
        worlds.push((dir, spec, ebins));
    }
    let rel = |term: &Term| format!("%% coding: utf-8\n{}.\n", dram_release::print::pretty(term));
    let answer = peer::erlang("relx", &Term::List(questions));
    let answers = answer.as_list().unwrap();
    // The output of relx goes to systools. If applications are excluded, relx first rewrites the application
    // specifications.
    let mut questions = Vec::new();
    for (theirs, (dir, _, ebins)) in answers.iter().zip(&worlds) {
        let file = dir.path().join("start");
        std::fs::write(file.with_extension("rel"), rel(theirs)).unwrap();
        let ebins = ebins.values().map(|ebin| path(ebin)).collect();
        questions.push(Term::tuple([path(&file), Term::List(ebins), Term::List(vec![])]));
    }
    let boots = peer::erlang("make_script", &Term::List(questions));
    let mut tally = ComparisonTally::default();
    for (((mine, theirs), boot), (dir, spec, _)) in mine.iter().zip(answers).zip(boots.as_list().unwrap()).zip(&worlds)
    {
        let asked = format!("{:?} without {:?}", spec.goals, spec.excluded);
        let is_whole = spec.excluded.is_empty();
        match (mine, theirs, boot) {
            (Ok((text, _)), Term::Tuple(_), _) if *text == rel(theirs) && !is_whole => tally.same += 1,
            (Ok((text, mine)), Term::Tuple(_), Term::Tuple(boot))
                if *text == rel(theirs) && mine == bytes(&boot[0]) =>
            {
                tally.same += 1;
            }
            (Err(_), Term::Atom(_), _) => tally.refused += 1,
            (Err(_), Term::Tuple(_), Term::Atom(_)) => tally.refused += 1,
            // relx ignores the requested version if another application has already resolved the application.
            (Err(errors), _, _) if errors.iter().any(|error| matches!(error, ResolveError::WrongVersion { .. })) => {}
            (Err(_), Term::Tuple(_), _) if !is_whole => {}
            (Ok((text, _)), theirs, boot) => {
                let boot = if let Term::Atom(why) = boot { why } else { "" };
                tally.wrong(dir.path(), format!("{asked}\n{text}\n{}{boot}", rel(theirs)));
            }
            (Err(errors), _, _) => tally.wrong(dir.path(), format!("{asked}\nonly we refuse: {errors:?}")),
        }
    }
    tally.check(120, 30);
}
