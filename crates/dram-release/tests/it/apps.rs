//! Unusual and invalid application specifications: `systools` and `App::read` accept the same ones.

use dram_release::app::AppSpec;
use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::{AppCatalog, AppOrigin, CatalogEntry};
use dram_release::resolve::{ReleaseRules, resolve_exact};
use dram_release::term::Term;

use crate::fixtures;
use crate::peer::{self, bytes, path};

/// Keys that are inserted before the required keys.
const KEYS: &[&str] = &[
    "",
    "{vsn,\"2.0-rc.1+b\"}",
    "{vsn,<<\"1\">>}",
    "{vsn,1}",
    "{vsn,one}",
    "{vsn,[49,$.,50]}",
    "{vsn,[a]}",
    "{vsn,\"1\",x}",
    "vsn",
    "{vsn,\"3\"},{vsn,\"4\"}",
    "{description,\"caf\u{e9} \u{65e5}\"}",
    "{description,<<\"x\">>}",
    "{description,[]}",
    "{description,[[\"x\"],\"y\"]}",
    "{id,\"x\"}",
    "{id,x}",
    "{id,[]}",
    "{modules,[a,b]}",
    "{modules,[{a,1}]}",
    "{modules,[\"a\"]}",
    "{modules,a}",
    "{modules,[a|b]}",
    "{modules,[a,a]}",
    "{modules,[c,b,a,kernel_x,lists_x]}",
    "{registered,[a,b]}",
    "{registered,[a,a]}",
    "{registered,[kernel_sup]}",
    "{registered,[\"a\"]}",
    "{registered,undefined}",
    "{applications,[kernel]}",
    "{applications,[]}",
    "{applications,[stdlib,kernel]}",
    "{applications,[kernel,kernel,stdlib]}",
    "{applications,[absent]}",
    "{applications,\"kernel\"}",
    "{applications,[absent]},{optional_applications,[absent]}",
    "{applications,[kernel,absent,stdlib]},{optional_applications,[absent]}",
    "{optional_applications,[absent]}",
    "{optional_applications,a}",
    "{included_applications,[absent]}",
    "{included_applications,a}",
    "{included_applications,[]}",
    "{mod,{a,[]}},{modules,[a]}",
    "{mod,{a,#{x => y}}},{modules,[a]}",
    "{mod,[]}",
    "{mod,a}",
    "{mod,{\"a\",[]}}",
    "{mod,{a,b,c}}",
    "{mod,undefined}",
    "{start_phases,undefined}",
    "{start_phases,[]}",
    "{start_phases,[{init,[]}]}",
    "{start_phases,[init]}",
    "{start_phases,[{init,1,2}]}",
    "{start_phases,init}",
    "{env,[]}",
    "{env,[{a,b},{\"c\",d}]}",
    "{env,[{a,b},{c,\"text\"},{d,<<1>>},{e,1.5},{f,#{1 => 2}},{g,[a|b]}]}",
    "{env,[{a,b,c}]}",
    "{env,[a]}",
    "{env,a}",
    "{env,#{}}",
    "{maxT,infinity}",
    "{maxT,1}",
    "{maxT,0}",
    "{maxT,-1}",
    "{maxT,1.5}",
    "{maxT,x}",
    "{maxT,100000000000000000000}",
    "{maxP,infinity}",
    "{maxP,5}",
    "{maxP,0}",
    "{maxP,[]}",
    "{runtime_dependencies,[\"erts-9.0\"]}",
    "{runtime_dependencies,nonsense}",
    "{unknown,\"x\"}",
    "alone",
    "\"alone\"",
    "{a}",
    "{}",
    "{vsn,\"\"}",
];

const TEXTS: &[&str] = &[
    "{application,demo,[]}.",
    "{application,demo,[{description,\"\"},{modules,[]},{registered,[]},{applications,[]}]}.",
    "{application,demo,[{vsn,\"1\"},{modules,[]},{registered,[]},{applications,[]}]}.",
    "{application,demo,[{vsn,\"1\"},{description,\"\"},{registered,[]},{applications,[]}]}.",
    "{application,demo,[{vsn,\"1\"},{description,\"\"},{modules,[]},{applications,[]}]}.",
    "{application,demo,[{vsn,\"1\"},{description,\"\"},{modules,[]},{registered,[]}]}.",
    "{application,other,[{vsn,\"1\"},{description,\"\"},{modules,[]},{registered,[]},{applications,[]}]}.",
    "{application,\"demo\",[{vsn,\"1\"},{description,\"\"},{modules,[]},{registered,[]},{applications,[]}]}.",
    "{app,demo,[{vsn,\"1\"},{description,\"\"},{modules,[]},{registered,[]},{applications,[]}]}.",
    "{application,demo}.",
    "[].",
    "",
    "{application,demo,[",
    "{application,demo,[{vsn,\"1\"},{description,\"\"},{modules,[]},{registered,[]},{applications,[]}|x]}.",
];

#[test]
fn app_files_are_accepted_and_refused_as_by_systools() {
    let otp = peer::files(&["lib/{kernel,stdlib}-*/ebin/*.app"]);
    let (base, ebins) = fixtures::catalog(&otp, AppOrigin::Otp);
    let usual = "{vsn,\"1\"},{description,\"\"},{modules,[]},{registered,[]},{applications,[kernel,stdlib]}";
    let mut texts: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
    for keys in KEYS {
        let comma = if keys.is_empty() { "" } else { "," };
        texts.push(format!("{{application,demo,[{keys}{comma}{usual}]}}."));
    }
    let dir = peer::scratch();
    let (mut questions, mut mine) = (Vec::new(), Vec::new());
    for (number, text) in texts.iter().enumerate() {
        let dir = dir.path().join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("demo.app"), text).unwrap();
        let made = AppSpec::read(text.as_bytes(), "demo", fixtures::OTP).map_err(|error| error.to_string());
        let vsn = made.as_ref().map_or("1".to_owned(), |app| app.vsn.clone());
        let made = made.and_then(|app| {
            let mut catalog: AppCatalog = base.clone();
            catalog.add(CatalogEntry { app, origin: AppOrigin::Otp, location: String::new(), beams: None });
            let applications = [("kernel", None), ("stdlib", None), ("demo", None)];
            let release = resolve_exact(&fixtures::spec("demo", ReleaseRules::Otp, &applications), &catalog);
            let release = release.map_err(|errors| format!("{errors:?}"))?;
            Ok(BootScript::new(&release, &catalog, &BootOptions { dot_erlang: true, ..BootOptions::default() }))
        });
        let version = |name: &str| &base.get(name).unwrap().app.vsn;
        let rel = format!(
            "{{release,{{\"demo\",\"1.0\"}},{{erts,\"13.1.5\"}},[{{kernel,\"{}\"}},{{stdlib,\"{}\"}},{{demo,\"{vsn}\"}}]}}.",
            version("kernel"),
            version("stdlib"),
        );
        std::fs::write(dir.join("start.rel"), rel).unwrap();
        let paths = ebins.values().chain([&dir]).map(|dir| path(dir)).collect();
        questions.push(Term::tuple([path(&dir.join("start")), Term::List(paths), Term::List(vec![])]));
        mine.push(made);
    }
    let theirs = peer::erlang("make_script", &Term::List(questions));
    let mut wrong = Vec::new();
    for ((mine, theirs), text) in mine.iter().zip(theirs.as_list().unwrap()).zip(&texts) {
        match (mine, theirs) {
            (Ok(mine), Term::Tuple(theirs)) if mine.to_boot() == bytes(&theirs[0]) => {}
            (Err(_), Term::Atom(_)) => {}
            // An empty version cannot name a directory, so dram refuses it.
            (Err(error), Term::Tuple(_)) if error.contains("directory") => {}
            (Ok(mine), Term::Tuple(theirs)) => {
                wrong.push(format!("{text}\n{}\n{}", mine.to_script(), String::from_utf8_lossy(bytes(&theirs[1]))));
            }
            (Ok(_), theirs) => wrong.push(format!("{text}\nsystools refuses: {theirs}")),
            (Err(error), _) => wrong.push(format!("{text}\nonly we refuse: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
