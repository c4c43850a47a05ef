//! Boot scripts of releases of the installed OTP.

use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::AppOrigin;
use dram_release::release_files;
use dram_release::resolve::{ReleaseRules, StartType, resolve};
use dram_release::term::Term;

use crate::fixtures;
use crate::peer::{self, bytes, path};

/// Applications of OTP, with `=` and the start type if it is not the default.
const RELEASES: &[(&str, &str)] = &[
    ("least", ""),
    ("sasl", "sasl"),
    ("web", "sasl crypto ssl inets mnesia=temporary"),
    ("tools", "runtime_tools ssl=transient xmerl compiler=load sasl"),
    ("odd", "mnesia sasl ssh=none snmp reltool=load tools"),
    ("big", "observer wx et debugger dialyzer common_test sasl ftp tftp edoc erl_interface asn1 eunit parsetools"),
];

fn applications(text: &'static str) -> Vec<(&'static str, Option<StartType>)> {
    let read = |word: &'static str| match word.split_once('=') {
        Some((name, mode)) => (name, Some(StartType::parse(mode).unwrap())),
        None => (word, None),
    };
    ["kernel", "stdlib"].into_iter().chain(text.split_whitespace()).map(read).collect()
}

#[test]
fn boot_scripts_of_otp_releases_are_identical_to_those_of_systools() {
    let (catalog, dirs) = fixtures::catalog(&peer::files(&["lib/*/ebin/*.app"]), AppOrigin::Otp);
    let dir = peer::scratch();
    let mut questions = Vec::new();
    let mut mine = Vec::new();
    for (name, text) in RELEASES {
        let release = resolve(&fixtures::spec(name, ReleaseRules::Otp, &applications(text)), &catalog).unwrap();
        for (kind, release) in [("start", release.clone()), ("clean", release.start_clean())] {
            for dot_erlang in [false, true] {
                let file = dir.path().join(format!("{name}-{kind}-{dot_erlang}"));
                std::fs::write(file.with_extension("rel"), release_files::rel_text(&release)).unwrap();
                let ebins = release.apps().iter().map(|app| path(&dirs[app.name()])).collect();
                let options = if dot_erlang { vec![] } else { vec![Term::atom("no_dot_erlang")] };
                questions.push(Term::tuple([path(&file), Term::List(ebins), Term::List(options)]));
                let options = BootOptions { dot_erlang, ..BootOptions::default() };
                mine.push((file, BootScript::new(&release, &catalog, &options)));
            }
        }
    }
    let answer = peer::erlang("make_script", &Term::List(questions));
    for ((file, mine), theirs) in mine.iter().zip(answer.as_list().unwrap()) {
        let Some([boot, script]) = theirs.as_tuple() else { panic!("{}: {theirs}", file.display()) };
        assert!(mine.to_script().as_bytes() == bytes(script), "{}.script", file.display());
        assert!(mine.to_boot() == bytes(boot), "{}.boot", file.display());
    }
}

#[test]
fn the_releases_file_is_identical_to_that_of_release_handler() {
    let (catalog, _) = fixtures::catalog(&peer::files(&["lib/*/ebin/*.app"]), AppOrigin::Otp);
    let dir = peer::scratch();
    for (name, text) in RELEASES {
        let release = resolve(&fixtures::spec(name, ReleaseRules::Otp, &applications(text)), &catalog).unwrap();
        let rel = dir.path().join(format!("{name}.rel"));
        std::fs::write(&rel, release_files::rel_text(&release)).unwrap();
        let question = Term::tuple([peer::binary("/srv/app"), path(dir.path()), path(&rel)]);
        let theirs = peer::erlang("create_releases", &question);
        assert_eq!(
            release_files::releases_text_at(&release, "/srv/app"),
            String::from_utf8_lossy(bytes(&theirs)),
            "{name}"
        );
    }
}
