//! Terms as text and in the external term format.

use dram_release::consult::consult;
use dram_release::etf::{AtomEncoding, decode, encode};
use dram_release::print::{pretty, write};
use dram_release::term::Term;

use crate::peer::{self, binary, bytes};
use crate::term_rng::TermRng;

#[test]
fn random_terms_are_printed_and_encoded_as_erlang_does() {
    let mut chance = TermRng::new(17);
    let terms: Vec<Term> = (0..3000).map(|number| chance.term(1 + number % 6)).collect();
    let question = terms.iter().map(|term| Term::Binary(encode(term, AtomEncoding::Utf8))).collect();
    let answer = peer::erlang("print", &Term::List(question));
    let answers = answer.as_list().unwrap();
    assert_eq!(answers.len(), terms.len());
    let mut wrong = Vec::new();
    for answer in answers {
        let [encoded, tp, tw] = answer.as_tuple().unwrap() else { panic!("{answer}") };
        // Erlang sorted the keys of maps.
        let term = decode(bytes(encoded)).unwrap();
        assert_eq!(encode(&term, AtomEncoding::Latin1), bytes(encoded), "{term}");
        for (kind, mine, theirs) in [("tp", pretty(&term), tp), ("tw", write(&term), tw)] {
            let theirs = String::from_utf8_lossy(bytes(theirs));
            if mine != theirs {
                wrong.push(format!("{kind}\nmine\n{mine}\nErlang's\n{theirs}\n"));
            }
        }
    }
    wrong.sort_by_key(String::len);
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(6)].join("\n"));
}

#[test]
fn map_keys_are_sorted_as_by_erlang() {
    let mut chance = TermRng::new(5);
    let terms: Vec<Term> = (0..1500).map(|_| chance.term(4)).collect();
    let question = terms.iter().map(|term| Term::Binary(encode(term, AtomEncoding::Utf8))).collect();
    let answer = peer::erlang("print", &Term::List(question));
    for (term, answer) in terms.iter().zip(answer.as_list().unwrap()) {
        let mut term = term.clone();
        term.sort_maps();
        let theirs = bytes(&answer.as_tuple().unwrap()[0]);
        assert_eq!(encode(&term, AtomEncoding::Latin1), theirs, "{term}\n{}", decode(theirs).unwrap());
    }
}

#[test]
fn every_specification_of_otp_and_elixir_reads_as_erlang_reads_it() {
    let mut files = peer::files(&["lib/*/ebin/*.app", "lib/*/ebin/*.appup", "releases/*/*.rel", "bin/*.script"]);
    files.extend(peer::files(&["../elixir/lib/*/ebin/*.app"]));
    assert!(files.len() > 60, "{files:?}");
    let answer = peer::erlang("consult", &Term::List(files.iter().map(|file| peer::path(file)).collect()));
    for (file, theirs) in files.iter().zip(answer.as_list().unwrap()) {
        let mine = consult(&std::fs::read(file).unwrap()).map(Term::List);
        let mine = mine.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(encode(&mine, AtomEncoding::Latin1) == bytes(theirs), "{}", file.display());
    }
}

/// Texts that cover the grammar, including invalid ones.
const TEXTS: &[&str] = include!("texts.in");

#[test]
fn every_corner_of_the_grammar_reads_as_erlang_reads_it() {
    let dir = peer::scratch();
    let mut texts: Vec<Vec<u8>> = TEXTS.iter().map(|text| text.as_bytes().to_vec()).collect();
    texts.push(b"%% -*- coding: latin-1 -*-\n{\"caf\xe9\"}.".to_vec());
    texts.push("%% coding: latin-1\n{\"café\"}.".as_bytes().to_vec());
    texts.push("\n%% Encoding: Latin-1\n{\"café\"}.".as_bytes().to_vec());
    texts.push("\n\n%% coding: latin-1\n{\"café\"}.".as_bytes().to_vec());
    texts.push("%% coding: utf-8\n{\"café\"}.".as_bytes().to_vec());
    let paths: Vec<_> = (0..texts.len()).map(|number| dir.path().join(format!("{number}.term"))).collect();
    for (path, text) in paths.iter().zip(&texts) {
        std::fs::write(path, text).unwrap();
    }
    let answer = peer::erlang("consult", &Term::List(paths.iter().map(|path| peer::path(path)).collect()));
    let mut wrong = Vec::new();
    for (text, theirs) in texts.iter().zip(answer.as_list().unwrap()) {
        let mine = consult(text).map(Term::List);
        let text = String::from_utf8_lossy(text);
        match (mine, theirs) {
            (Ok(mine), Term::Binary(theirs)) if encode(&mine, AtomEncoding::Latin1) == *theirs => {}
            (Err(_), Term::Tuple(_)) => {}
            (Ok(mine), Term::Binary(theirs)) => wrong.push(format!("{text}\n  {mine}\n  {}", decode(theirs).unwrap())),
            (Ok(mine), theirs) => wrong.push(format!("{text}\n  {mine}\n  {}", pretty(theirs))),
            // dram does not support functions in terms.
            (Err(_), Term::Binary(theirs)) if text.starts_with("fun ") && theirs.contains(&113) => {}
            (Err(error), theirs) => wrong.push(format!("{text}\n  {error}\n  {:?}", decode(bytes(theirs)))),
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn printed_terms_read_back() {
    let mut chance = TermRng::new(99);
    for number in 0..3000 {
        let mut term = chance.term(number % 6);
        // The order of map keys is normalized for the comparison.
        term.sort_maps();
        for text in [pretty(&term), write(&term)] {
            let read = consult(format!("{text}.").as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(encode(&read[0], AtomEncoding::Utf8), encode(&term, AtomEncoding::Utf8), "{text}");
        }
    }
}

#[test]
fn truncated_binaries_are_errors_and_corrupt_ones_do_not_panic() {
    let mut chance = TermRng::new(3);
    for _ in 0..300 {
        let good = encode(&chance.term(4), AtomEncoding::Latin1);
        for end in 0..good.len() {
            assert!(decode(&good[..end]).is_err(), "{:?}", binary(&good[..end]));
        }
        let mut bad = good.clone();
        for _ in 0..20 {
            let at = chance.below(bad.len());
            bad[at] = chance.below(256) as u8;
            let _ = decode(&bad);
        }
    }
}
