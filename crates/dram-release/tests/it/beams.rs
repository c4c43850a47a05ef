//! Modules of the installed OTP and Elixir: stripping and reading.

use std::path::PathBuf;

use dram_release::beam::{Beam, StripRule, decompress, strip};
use dram_release::etf::{AtomEncoding, encode};
use dram_release::resolve::ReleaseRules;
use dram_release::term::Term;

use crate::peer::{self, binary, bytes};

fn modules() -> Vec<PathBuf> {
    let patterns = ["lib/{kernel,stdlib,sasl,crypto,mnesia,compiler}-*/ebin/*.beam"];
    let mut files = peer::files(&patterns);
    files.extend(peer::files(&["../elixir/lib/{elixir,logger,mix,eex,iex}/ebin/*.beam"]));
    assert!(files.len() > 500, "{}", files.len());
    files
}

#[test]
fn stripped_modules_are_identical_to_those_of_mix() {
    let files = modules();
    let plain = StripRule::for_rules(&ReleaseRules::mix("1.14.0"), &[], false);
    let keep = ["Dbgi", "Docs", "None"].map(str::to_owned);
    let kept = StripRule::for_rules(&ReleaseRules::mix("1.14.0"), &keep, false);
    let option = Term::tuple([Term::atom("keep"), Term::List(keep.iter().map(binary).collect())]);
    let mut questions = Vec::new();
    let mut mine = Vec::new();
    for file in &files {
        let module = std::fs::read(file).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        for (rule, options) in [(&plain, vec![]), (&kept, vec![option.clone()])] {
            questions.push(Term::tuple([peer::path(file), Term::List(options)]));
            mine.push((file, strip(&module, Some(name.as_bytes()), rule).unwrap()));
        }
    }
    let theirs = peer::elixir("strip", &Term::List(questions));
    for ((file, mine), theirs) in mine.iter().zip(theirs.as_list().unwrap()) {
        assert!(mine == bytes(theirs), "{}", file.display());
    }
}

#[test]
fn stripped_modules_are_identical_to_those_of_beam_lib() {
    let files = modules();
    let dir = peer::scratch();
    let keep = Term::List(vec![binary("Attr")]);
    let question = [peer::path(dir.path()), Term::List(files.iter().map(|file| peer::path(file)).collect()), keep];
    let theirs = peer::erlang("strip", &Term::tuple(question));
    let newer = StripRule::for_rules(&ReleaseRules::mix("1.17.2"), &[], false);
    let packed = StripRule::beam_lib(&["Attr".to_owned()]);
    for (file, theirs) in files.iter().zip(theirs.as_list().unwrap()) {
        let module = std::fs::read(file).unwrap();
        for rule in [&newer, &packed] {
            let stripped = strip(&module, None, rule).unwrap();
            assert!(decompress(&stripped).unwrap() == bytes(theirs), "{}", file.display());
        }
        assert!(strip(&module, None, &packed).unwrap().starts_with(&[0x1f, 0x8b]));
    }
}

#[test]
fn exports_imports_and_attributes_equal_those_of_beam_lib() {
    let files = modules();
    let theirs = peer::erlang("beams", &Term::List(files.iter().map(|file| peer::path(file)).collect()));
    let atom = |name: &String| Term::atom(name);
    for (file, theirs) in files.iter().zip(theirs.as_list().unwrap()) {
        let packed = std::fs::read(file).unwrap();
        let plain = decompress(&packed).unwrap();
        let beam = Beam::read(&plain).unwrap();
        let number = |number: u32| Term::Int(i64::from(number));
        let exports = beam.exports().unwrap();
        let exports = exports.iter().map(|export| Term::tuple([atom(&export.name), number(export.arity)])).collect();
        let imports = beam.imports().unwrap();
        let import = |import: &dram_release::beam::ImportedFunction| {
            Term::tuple([atom(&import.module), atom(&import.name), number(import.arity)])
        };
        let mine = Term::tuple([
            Term::atom(String::from_utf8_lossy(beam.module().unwrap())),
            Term::List(exports),
            Term::List(imports.iter().map(import).collect()),
            Term::List(beam.vsn().unwrap()),
            Term::List(beam.behaviours().unwrap().iter().map(atom).collect()),
            Term::Binary(beam.md5().unwrap().to_vec()),
        ]);
        assert!(
            encode(&mine, AtomEncoding::Utf8) == encode(theirs, AtomEncoding::Utf8),
            "{}\n{mine}\n{theirs}",
            file.display()
        );
    }
}

#[test]
fn truncated_modules_are_errors_and_corrupt_ones_do_not_panic() {
    let file = peer::files(&["lib/stdlib-*/ebin/queue.beam"]).remove(0);
    let module = std::fs::read(file).unwrap();
    let rules = [
        StripRule::beam_lib(&["Attr".to_owned()]),
        StripRule::for_rules(&ReleaseRules::Otp, &[], false).drop_external_resources(true),
    ];
    for end in 0..module.len().min(4000) {
        assert!(strip(&module[..end], None, &rules[1]).is_err(), "{end}");
    }
    let mut chance = crate::term_rng::TermRng::new(8);
    for _ in 0..2000 {
        let mut bad = module.clone();
        let at = chance.below(400);
        bad[at] = chance.below(256) as u8;
        for rule in &rules {
            let _ = strip(&bad, Some(b"queue"), rule);
        }
        if let Ok(beam) = Beam::read(&bad) {
            let _ = (beam.exports(), beam.imports(), beam.attributes(), beam.md5());
        }
    }
}
