//! Comparison of appups and relups with those of `systools`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dram_release::app::AppSpec;
use dram_release::appup::Appup;
use dram_release::relup::{RelupError, RelupRelease, make_relup, relup_text};
use dram_release::relup_script::{RelupApp, RelupScriptError};
use dram_release::resolve::StartType;
use dram_release::term::Term;

use crate::fixtures::OTP;
use crate::peer::{erlang, files, path, scratch};
use crate::term_rng::TermRng;

/// One version of a release: the ERTS version, and the applications with version, start type and modules.
struct RelupSide {
    erts: &'static str,
    apps: Vec<(&'static str, &'static str, StartType, Vec<String>)>,
}

/// Two versions of a release, and the appups of the applications that change.
struct RelupCase {
    old: RelupSide,
    new: RelupSide,
    appups: Vec<(&'static str, String)>,
}

const PERMANENT: StartType = StartType::Permanent;

fn app(
    name: &'static str,
    version: &'static str,
    mode: StartType,
    modules: &str,
) -> (&'static str, &'static str, StartType, Vec<String>) {
    (name, version, mode, modules.split_whitespace().map(str::to_owned).collect())
}

/// Returns a case in which the application `one` changes by these instructions, up and down.
fn one_app_case(up: &str, down: &str) -> RelupCase {
    let modules = "m1 m2 m3 m4 m5";
    RelupCase {
        old: RelupSide {
            erts: "13.0",
            apps: vec![app("one", "1", PERMANENT, modules), app("two", "1", PERMANENT, "t1")],
        },
        new: RelupSide {
            erts: "13.0",
            apps: vec![app("one", "2", PERMANENT, modules), app("two", "1", PERMANENT, "t1")],
        },
        appups: vec![("one", format!("{{\"2\",[{{\"1\",[{up}]}}],[{{\"1\",[{down}]}}]}}."))],
    }
}

fn symmetric_case(script: &str) -> RelupCase {
    one_app_case(script, script)
}

/// Returns the OTP applications that every release in these tests has.
fn base_apps() -> Vec<(String, String, Vec<String>)> {
    let patterns = ["lib/kernel-*/ebin/kernel.app", "lib/stdlib-*/ebin/stdlib.app", "lib/sasl-*/ebin/sasl.app"];
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let app = AppSpec::read(&fs::read(path).unwrap(), &name, OTP).unwrap();
        (name, app.vsn, app.modules)
    };
    let mut apps: Vec<_> = files(&patterns).into_iter().map(read).collect();
    apps.sort_by_key(|(name, ..)| ["kernel", "stdlib", "sasl"].iter().position(|one| one == name));
    apps
}

impl RelupSide {
    fn version(&self, version: &str, base: &[(String, String, Vec<String>)]) -> RelupRelease {
        let base = base.iter().map(|(name, version, modules)| RelupApp {
            name: name.clone(),
            version: version.clone(),
            mode: PERMANENT,
            modules: modules.clone(),
        });
        let own = self.apps.iter().map(|(name, version, mode, modules)| RelupApp {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            mode: *mode,
            modules: modules.clone(),
        });
        RelupRelease {
            version: version.to_owned(),
            erts: self.erts.to_owned(),
            applications: base.chain(own).collect(),
        }
    }
}

/// Writes one version of a release as files that `systools` reads.
fn write(version: &RelupRelease, dir: &Path, appups: &[(&'static str, String)]) {
    let mut rel = Vec::new();
    for RelupApp { name, version, mode, modules } in &version.applications {
        rel.push(Term::tuple([Term::atom(name), Term::string(version), Term::atom(mode.name())]));
        if ["kernel", "stdlib", "sasl"].contains(&name.as_str()) {
            continue;
        }
        let ebin = dir.join("lib").join(format!("{name}-{version}")).join("ebin");
        fs::create_dir_all(&ebin).unwrap();
        let modules = Term::atoms(modules);
        let keys = "{description,\"\"},{registered,[]},{applications,[kernel,stdlib]}";
        let app = format!("{{application,{name},[{{vsn,\"{version}\"}},{{modules,{modules}}},{keys}]}}.\n");
        fs::write(ebin.join(format!("{name}.app")), app).unwrap();
        if let Some((_, text)) = appups.iter().find(|(known, _)| known == name) {
            fs::write(ebin.join(format!("{name}.appup")), text).unwrap();
        }
    }
    let rel = Term::List(rel);
    let (version, erts) = (&version.version, &version.erts);
    let rel = format!("{{release,{{\"rel\",\"{version}\"}},{{erts,\"{erts}\"}},{rel}}}.\n");
    fs::write(dir.join("rel.rel"), rel).unwrap();
}

/// Creates the relup of a case with dram: its text, or the error atom of `systools`.
fn dram_relup(case: &RelupCase, new: &RelupRelease, old: &RelupRelease) -> Result<String, &'static str> {
    let read = |(name, text): &(&str, String)| match Appup::read(text.as_bytes()) {
        Ok(appup) => Ok(((*name).to_owned(), appup)),
        Err(error) => match error {
            dram_release::appup::AppupError::Script { source, .. } => Err(systools_error(&source)),
            other @ (dram_release::appup::AppupError::Syntax(_)
            | dram_release::appup::AppupError::Form
            | dram_release::appup::AppupError::Version(_)
            | dram_release::appup::AppupError::Pattern { .. }) => panic!("{other}"),
        },
    };
    let appups = case.appups.iter().map(read).collect::<Result<BTreeMap<_, _>, _>>()?;
    let order: Vec<_> = new.applications.iter().map(|app| app.name.clone()).collect();
    match make_relup(new, &order, old, &appups) {
        Ok(term) => Ok(relup_text(&term)),
        Err(RelupError::Script { source, .. }) => Err(systools_error(&source)),
        Err(RelupError::NoAppup { .. }) => Err("no_relup"),
        Err(RelupError::NoSasl(_)) => Err("missing_sasl"),
    }
}

fn systools_error(error: &RelupScriptError) -> &'static str {
    match error {
        RelupScriptError::Instruction { .. } => "instruction",
        RelupScriptError::BeforePointOfNoReturn(_) => "bad_op_before_point_of_no_return",
        RelupScriptError::SeveralPointsOfNoReturn => "too_many_point_of_no_return",
        RelupScriptError::NoObjectCode(_) => "no_object_code",
        RelupScriptError::NotResumed(_) => "suspended_not_resumed",
        RelupScriptError::NotSuspended(_) => "resumed_not_suspended",
        RelupScriptError::NotStopped(_) => "start_not_stop",
        RelupScriptError::NotStarted(_) => "stop_not_start",
        RelupScriptError::NoApplication(_) => "no_such_application",
        RelupScriptError::RemovedApplicationPresent(_) => "removed_application_present",
        RelupScriptError::TwoVersions(_) => "conflicting_versions",
        RelupScriptError::NoModule(_) => "no_such_module",
        RelupScriptError::NoInstruction(_) => "undef_module",
        RelupScriptError::DuplicateInstruction(_) => "muldef_module",
    }
}

/// Creates the relup of each case with dram and with `systools`, and compares them byte by byte.
fn compare(cases: &[(String, RelupCase)]) {
    let (dir, base) = (scratch(), base_apps());
    let (mut questions, mut made) = (Vec::new(), Vec::new());
    for (at, (_, case)) in cases.iter().enumerate() {
        let here = dir.path().join(at.to_string());
        let (old, new) = (case.old.version("1.0", &base), case.new.version("2.0", &base));
        for (name, version) in [("old", &old), ("new", &new)] {
            fs::create_dir_all(here.join(name)).unwrap();
            write(version, &here.join(name), &case.appups);
        }
        let paths = ["new", "old"].map(|name| path(&here.join(name).join("lib/*/ebin")));
        questions.push(Term::tuple([
            path(&here.join("new/rel")),
            path(&here.join("old/rel")),
            Term::List(paths.into()),
            path(&here),
        ]));
        made.push(dram_relup(case, &new, &old));
    }
    let answers = erlang("make_relup", &Term::List(questions));
    for (((name, _), ours), theirs) in cases.iter().zip(made).zip(answers.as_list().unwrap()) {
        match (ours, theirs) {
            (Ok(ours), Term::Binary(theirs)) => assert_eq!(ours, String::from_utf8_lossy(theirs), "{name}"),
            (Err(ours), Term::Atom(theirs)) => assert_eq!(ours, theirs, "{name}"),
            (ours, theirs) => panic!("{name}: here {ours:?}, and there {theirs}"),
        }
    }
}

/// Scripts, each used for both upgrade and downgrade.
const SCRIPTS: &[&str] = &[
    "",
    "{load_module,m1}",
    "{load_module,m1},{load_module,m2},{load_module,m3}",
    "{load_module,m1,[m2]},{load_module,m2}",
    "{load_module,m1,soft_purge,brutal_purge,[]}",
    "{load_module,m1,brutal_purge,soft_purge,[]},{load_module,m2,soft_purge,soft_purge,[m1]}",
    "{add_module,m1},{delete_module,m5}",
    "{add_module,m1,[m2]},{add_module,m2},{delete_module,m5,[m1]}",
    "{update,m1}",
    "{update,m1,supervisor}",
    "{update,m1,soft},{update,m2,[m1]}",
    "{update,m1,{advanced,[]}}",
    "{update,m1,{advanced,{extra,[1,2.5,\"x\",<<\"b\">>]}},[m2,m3]},{load_module,m2,[m3]},{load_module,m3}",
    "{update,m1,soft,[m2]},{update,m2,{advanced,x}}",
    "{update,m1,{advanced,x},soft_purge,soft_purge,[m2]},{update,m2,supervisor}",
    "{update,m1,5000,{advanced,x},soft_purge,brutal_purge,[]}",
    "{update,m1,infinity,soft,brutal_purge,brutal_purge,[]}",
    "{update,m1,static,default,{advanced,x},brutal_purge,brutal_purge,[m2]},{update,m2,{advanced,y}}",
    "{update,m1,dynamic,17,{advanced,x},brutal_purge,brutal_purge,[]}",
    // Dependencies, including cycles.
    "{load_module,m1,[m2]},{load_module,m2,[m1]}",
    "{load_module,m3,[m2]},{apply,{a,b,[]}},{load_module,m2,[m1]},{load_module,m5},{load_module,m1}",
    "{update,m1,{advanced,[]},[m2]},{update,m2,{advanced,[]},[m3]},{update,m3,{advanced,[]},[m1]},{load_module,m4,[m1]}",
    "{load_module,m1,[m1]}",
    // Low-level instructions.
    "{apply,{m,f,[a,\"b\",{c}]}},{load_module,m1},{apply,{io,format,[\"done\"]}}",
    "{apply,{m,f,[]}},point_of_no_return,{load_module,m1}",
    "{load_object_code,{one,\"2\",[m1]}},point_of_no_return,{load,{m1,brutal_purge,soft_purge}}",
    "{load,{m1,brutal_purge,soft_purge}},{load_object_code,{one,\"2\",[m1,m2]}},{load_module,m3},{load_module,m2}",
    "{suspend,[m1,{m2,100}]},{code_change,[{m1,x}]},{code_change,up,[{m2,y}]},{resume,[m2,m1]}",
    "{stop,[m1]},{remove,{m1,soft_purge,brutal_purge}},{purge,[m1]},{start,[m1]}",
    "{sync_nodes,id,[a@b,c@d]},{sync_nodes,{x,1},{m,f,[]}}",
    "[{load_module,m1,brutal_purge,brutal_purge,[]},{apply,{a,b,[]}}],{load_module,m2}",
    // Applications.
    "{restart_application,one}",
    "{restart_application,two},{load_module,m1}",
    "{add_application,two},{remove_application,gone}",
    "{remove_application,two}",
    "{restart_application,nobody}",
    "{restart_application,one},{load_module,m1}",
    // Emulator restarts.
    "restart_new_emulator",
    "{load_module,m1},restart_emulator,{load_module,m2}",
    "restart_new_emulator,{load_module,m1},restart_emulator",
    "{load_module,m1},restart_new_emulator,restart_new_emulator",
    // Invalid scripts.
    "{load_module,nobody}",
    "{load_module,m1,[nobody]}",
    "{load_module,m1,[m2]}",
    "{load_module,m1},{load_module,m1}",
    "{load_module,m1},{update,m1}",
    "{load,{m1,brutal_purge,brutal_purge}}",
    "{suspend,[m1]}",
    "{resume,[m1]}",
    "{stop,[m1]}",
    "{start,[m1]}",
    "{load_module,m1},point_of_no_return",
    "point_of_no_return,point_of_no_return",
    "{load_object_code,{one,\"2\",[m1]}},{load_object_code,{one,\"3\",[m2]}}",
    "nothing",
    "{load_module,\"m1\"}",
    "{load_module,m1,never,brutal_purge,[]}",
    "{update,m1,{advanced},[]}",
    "{update,m1,0,soft,brutal_purge,brutal_purge,[]}",
    "{update,m1,odd,default,soft,brutal_purge,brutal_purge,[]}",
    "{add_application,two,sometimes}",
    "{apply,{m,f}}",
    "{code_change,sideways,[]}",
    "{code_change,[m1]}",
    "{load_object_code,{one,two,[m1]}}",
    "{sync_nodes,id,[\"node\"]}",
    "[{load_module,m1}]",
    "mnesia_backup",
];

#[test]
fn relups_are_identical_to_those_of_systools() {
    let mut cases: Vec<_> = SCRIPTS.iter().map(|script| ((*script).to_owned(), symmetric_case(script))).collect();
    let case = one_app_case("{add_module,m1},{load_module,m2,[m1]}", "{load_module,m2},{delete_module,m1}");
    cases.push(("ways that differ".to_owned(), case));
    let one = |appup: &str| {
        let mut case = symmetric_case("");
        case.appups[0].1 = appup.to_owned();
        case
    };
    for appup in [
        "{\"2\",[{<<\"1\">>,[{load_module,m1}]},{\"1\",[]}],[{<<\".*\">>,[]}]}.",
        "{\"2\",[{<<\"[2-9]\">>,[]},{\"1\",[{load_module,m1}]}],[{<<\"^(0|1)(\\\\.[0-9]+)*$\">>,[]}]}.",
        "{\"2\",[{\"0\",[]}],[{\"1\",[]}]}.",
        "{\"2\",[{\"1\",[]}],[]}.",
        "{\"9\",[{\"1\",[]}],[{\"1\",[]}]}.",
    ] {
        cases.push((appup.to_owned(), one(appup)));
    }
    compare(&cases);
}

#[test]
fn added_changed_and_removed_applications_give_the_relup_of_systools() {
    let appup = |script: &str| format!("{{\"2\",[{{\"1\",[{script}]}}],[{{\"1\",[{script}]}}]}}.");
    let modes = [StartType::None, StartType::Load, StartType::Temporary, StartType::Transient, StartType::Permanent];
    let mut cases = Vec::new();
    for mode in modes {
        let old =
            RelupSide { erts: "13.0", apps: vec![app("kept", "1", PERMANENT, "k1"), app("gone", "1", mode, "g1 g2")] };
        let apps = vec![
            app("new", "1", mode, "n1 n2"),
            app("kept", "2", PERMANENT, "k1 k2"),
            app("other", "3", PERMANENT, ""),
        ];
        let new = RelupSide { erts: "13.0", apps };
        let appups = vec![("kept", appup("{load_module,k1}"))];
        cases.push((format!("{mode}"), RelupCase { old, new, appups }));
    }
    let two = |version, mode| vec![app("one", version, mode, "m1 m2"), app("two", version, mode, "t1 t2")];
    for (name, erts) in [("the same run-time system", "13.0"), ("another run-time system", "14.0")] {
        let appups =
            vec![("one", appup("{load_module,m1,[t1]},{restart_application,two}")), ("two", appup("{apply,{a,b,[]}}"))];
        let old = RelupSide { erts: "13.0", apps: two("1", StartType::Transient) };
        cases.push((
            name.to_owned(),
            RelupCase { old, new: RelupSide { erts, apps: two("2", StartType::Load) }, appups },
        ));
        let appups = vec![
            ("one", appup("{update,m1,{advanced,[]},[t1]},{load_module,m2}")),
            ("two", appup("{load_module,t1},{update,t2,supervisor}")),
        ];
        let old = RelupSide { erts: "13.0", apps: two("1", PERMANENT) };
        cases.push((
            format!("{name}, across"),
            RelupCase { old, new: RelupSide { erts, apps: two("2", PERMANENT) }, appups },
        ));
    }
    let old = RelupSide { erts: "13.0", apps: two("1", PERMANENT) };
    let new = RelupSide { erts: "13.0", apps: two("2", PERMANENT) };
    let appups = vec![("one", appup("{load_object_code,{two,\"1\",[t1]}}")), ("two", appup("{load_module,t2}"))];
    cases.push(("two versions of a library".to_owned(), RelupCase { old, new, appups }));
    compare(&cases);
}

/// If dependencies allow only one order, cycles included, it is that of `systools`. If they allow several, `systools`
/// takes the order of a hash table, which differs from run to run.
#[test]
fn unambiguous_dependencies_give_the_order_of_systools() {
    let mut chance = TermRng::new(7);
    let cases: Vec<_> = (0..60).map(|at| (format!("chance {at}"), random_case(&mut chance))).collect();
    compare(&cases);
}

fn random_case(chance: &mut TermRng) -> RelupCase {
    let names: Vec<String> = (0..2 + chance.below(12)).map(|at| format!("m{}_{at}", chance.below(1000))).collect();
    // Independent chains, each with further dependencies forwards, and some backwards.
    let mut instructions = Vec::new();
    let mut start = 0;
    while start < names.len() {
        let chain = &names[start..(start + 1 + chance.below(6)).min(names.len())];
        start += chain.len();
        for (at, name) in chain.iter().enumerate() {
            let mut on: Vec<_> = chain.get(at + 1).cloned().into_iter().collect();
            for other in &chain[at + 1..] {
                if chance.below(3) == 0 && !on.contains(other) {
                    on.push(other.clone());
                }
            }
            if chance.below(5) == 0 {
                on.push(chain[chance.below(at + 1)].clone());
            }
            let on = Term::atoms(&on);
            instructions.push(match chance.below(4) {
                0 => format!("{{update,{name},{{advanced,[]}},{on}}}"),
                1 => format!("{{update,{name},static,default,{{advanced,x}},soft_purge,soft_purge,{on}}}"),
                2 => format!("{{update,{name},soft,{on}}}"),
                _ => format!("{{load_module,{name},{on}}}"),
            });
        }
    }
    for at in (1..instructions.len()).rev() {
        instructions.swap(at, chance.below(at + 1));
    }
    let mut case = symmetric_case(&instructions.join(","));
    case.old.apps[0].3 = names.clone();
    case.new.apps[0].3 = names;
    case
}

#[test]
fn a_release_without_sasl_has_no_relup() {
    let version = |apps: &[&str]| {
        let app = |name: &&str| RelupApp {
            name: (*name).to_owned(),
            version: "1".to_owned(),
            mode: PERMANENT,
            modules: Vec::new(),
        };
        RelupRelease { version: "1".to_owned(), erts: "1".to_owned(), applications: apps.iter().map(app).collect() }
    };
    let refused = make_relup(&version(&["sasl"]), &[], &version(&["kernel"]), &BTreeMap::new());
    assert_eq!(refused, Err(RelupError::NoSasl("1".to_owned())));
}

/// Every appup in OTP can be read, and is printed so that it reads back as the same term.
#[test]
fn all_appups_of_otp_round_trip() {
    let all = files(&["lib/*/ebin/*.appup"]);
    assert!(all.len() > 10);
    for path in &all {
        let appup = Appup::read(&fs::read(path).unwrap());
        let appup = appup.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let again = Appup::read(appup.text().as_bytes()).unwrap();
        assert_eq!(again.term(), appup.term());
    }
}
