//! Limits on memory, time and stack for untrusted input.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use dram_release::app::AppSpec;
use dram_release::beam::{Beam, StripRule, decompress, strip};
use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::{AppCatalog, AppOrigin, CatalogEntry};
use dram_release::consult::consult;
use dram_release::etf::{AtomEncoding, decode, encode};
use dram_release::print::{pretty, write};
use dram_release::resolve::{ReleaseRules, resolve};
use dram_release::term::DEEPEST;

use crate::fixtures;

/// The memory limit of a process that reads one of the inputs below, in KiB.
const MOST_KIB: usize = 512 << 10;
/// The environment variable that tells the test process which input to read.
const INPUT: &str = "DRAM_RELEASE_TEST_INPUT";

/// The names of the inputs, and whether each is accepted.
const INPUTS: &[(&str, bool)] = &[
    ("comments", true),
    ("latin comments", true),
    ("numbers", false),
    ("letters", false),
    ("tuples", false),
    ("atoms", false),
    ("digits", false),
    ("sized segments", false),
    ("sized text", false),
    ("map", false),
    ("nested maps", false),
    ("brackets", false),
    ("strings side by side", false),
    ("etf list", false),
    ("etf numbers", false),
    ("etf bomb", false),
    ("beam bomb", false),
    ("beam of atoms", false),
    ("beam of exports", false),
];

/// Reads the input with this name; returns whether it was accepted.
fn read_input(name: &str) -> bool {
    let many = |text: &str| text.repeat((64 << 20) / text.len());
    let listed = |text: &str| consult(format!("[{}a].", many(text)).as_bytes()).is_ok();
    match name {
        "comments" => consult((many("% nothing here\n") + "a.").as_bytes()).is_ok(),
        "latin comments" => consult(&[many("% nothing here\n").as_bytes(), b"% \xe9\na."].concat()).is_ok(),
        "numbers" => listed("1,"),
        "letters" => consult(format!("\"{}\".", many("a")).as_bytes()).is_ok(),
        "tuples" => listed("{},"),
        "atoms" => listed("a,"),
        "digits" => listed(&("9".repeat(4090) + ",")) & false,
        "sized segments" => consult(format!("<<{}1>>.", many("1:8388608,")).as_bytes()).is_ok(),
        "sized text" => consult(format!("<<\"{}\":8388608>>.", "a".repeat(1 << 20)).as_bytes()).is_ok(),
        "map" => {
            let mut text = "#{".to_owned();
            for key in 0..3_000_000 {
                write!(text, "{key}=>[],").unwrap();
            }
            consult((text + "a=>b}.").as_bytes()).is_ok()
        }
        "nested maps" => {
            let mut key = "1".to_owned();
            for _ in 0..18 {
                key = format!("#{{{key}=>1,[{key}]=>2}}");
            }
            let _ = consult((key + ".").as_bytes());
            false
        }
        "brackets" => consult(many("[").as_bytes()).is_ok(),
        "strings side by side" => consult((many("\"\"") + ".").as_bytes()).is_err() & false,
        "etf list" => decode(&[&[131, 108, 3, 255, 255, 255], many("j").as_bytes()].concat()).is_ok(),
        "etf numbers" => {
            let number = [&[111, 0, 0, 16, 0, 0][..], &[255; 4096]].concat();
            let term = decode(&[&[131, 108, 0, 0, 2, 0], number.repeat(512).as_slice(), &[106]].concat()).unwrap();
            (pretty(&term).len() + write(&term).len()) == 0
        }
        "etf bomb" => {
            let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut packed, &vec![b'j'; 60 << 20]).unwrap();
            let said = (60_u32 << 20).to_be_bytes();
            decode(&[&[131, 80], &said[..], &packed.finish().unwrap()].concat()).is_ok()
        }
        "beam bomb" => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut packed, &vec![0; 256 << 20]).unwrap();
            decompress(&packed.finish().unwrap()).is_ok()
        }
        "beam of atoms" => {
            let atoms = [&[0, 0, 0, 1, 1, b'a'][..], &vec![0; 64 << 20]].concat();
            let module = beam_file(&[(b"AtU8", &atoms), (b"Code", b""), (b"ExpT", &[0; 4]), (b"ImpT", &[0; 4])]);
            Beam::read(&module).unwrap().exports().is_err()
        }
        "beam of exports" => {
            let atoms = [&[0, 0, 0, 1, 255][..], &[b'a'; 255]].concat();
            let row = |number: u32| [1, number % 255, 0].map(u32::to_be_bytes).concat();
            let rows = (0..5_000_000).flat_map(row).collect::<Vec<u8>>();
            let module = beam_file(&[(b"AtU8", &atoms), (b"Code", b""), (b"ExpT", &[&[0; 4][..], &rows].concat())]);
            Beam::read(&module).unwrap().exports().is_ok()
        }
        other => panic!("there is no input `{other}`"),
    }
}

fn beam_file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"BEAM".to_vec();
    for (name, bytes) in chunks {
        body.extend(*name);
        body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        body.extend(*bytes);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    [b"FOR1", &u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

/// Runs in a process of its own, so that its memory can be limited. Without [`INPUT`], when all tests run, it does
/// nothing.
#[test]
fn one_input_is_read() {
    let Ok(name) = std::env::var(INPUT) else { return };
    let is_accepted = INPUTS.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!(read_input(&name), is_accepted, "{name}");
}

#[test]
fn no_input_takes_more_than_512_mib_and_a_minute() {
    let program = std::env::current_exe().unwrap();
    for (name, _) in INPUTS {
        let start = Instant::now();
        // The limit also covers the input itself and the test harness.
        let script =
            format!("ulimit -v {}; exec timeout 60 \"$0\" --exact limits::one_input_is_read", MOST_KIB + (200 << 10));
        let output = Command::new("sh").args(["-c", &script]).arg(&program).env(INPUT, name).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert!(said.contains("1 passed"), "{name}: {said}");
        eprintln!("{name}: {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(60), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn terms_of_maximum_depth_fit_a_stack_of_two_mebibytes() {
    let kinds: &[(&str, &str)] = &[
        ("[", "]"),
        ("{a,", "}"),
        ("#{a=>", "}"),
        ("[a|{", "}]"),
        ("#{[", "]=>1}"),
        ("(", ")"),
        ("<<", ">>/binary"),
        ("- ", ""),
    ];
    let work = move || {
        for (open, close) in kinds {
            let each = 1 + open.matches(['{', '[', '(']).count().saturating_sub(1);
            let levels = (DEEPEST - 2) / each;
            let text = format!("{}1{}.", open.repeat(levels), close.repeat(levels)).replace(">>/binary.", ">>.");
            if *open == "- " {
                assert!(consult(text.as_bytes()).is_err());
                continue;
            }
            let term = consult(text.as_bytes()).unwrap_or_else(|error| panic!("{open}: {error}")).remove(0);
            for form in [AtomEncoding::Latin1, AtomEncoding::Utf8] {
                assert_eq!(decode(&encode(&term, form)).unwrap(), term);
            }
            let mut other = term.clone();
            other.sort_maps();
            assert_eq!(other, term);
            assert!(!pretty(&term).is_empty() && !write(&term).is_empty() && !format!("{term:?}").is_empty());
            let text = format!("{}1{}.", open.repeat(100_000), close.repeat(100_000));
            assert!(consult(text.as_bytes()).unwrap_err().what.contains("nested"), "{open}");
        }
        let tuple = [131].into_iter().chain([104, 1].repeat(100_000)).chain([106]).collect::<Vec<u8>>();
        assert!(decode(&tuple).is_err());
        let list = [131].into_iter().chain([108, 0, 0, 0, 1, 106].repeat(100_000)).chain([106]).collect::<Vec<u8>>();
        assert!(decode(&list).is_err());
        // Attributes are skipped without being decoded.
        let deep =
            [131, 108, 0, 0, 0, 1].into_iter().chain([104, 1].repeat(100_000)).chain([106, 106]).collect::<Vec<u8>>();
        let module = beam_file(&[(b"AtU8", b"\0\0\0\x01\x01a"), (b"Code", b""), (b"Attr", &deep)]);
        let rule = StripRule::for_rules(&ReleaseRules::Otp, &[], false).drop_external_resources(true);
        assert_eq!(strip(&module, Some(b"a"), &rule).unwrap(), module);
        assert!(Beam::read(&module).unwrap().attributes().is_err());
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

/// Returns the catalog with kernel, stdlib and these applications, each with its list under the key `list`.
fn catalog_with(mut catalog: AppCatalog, list: &str, apps: impl Iterator<Item = (String, Vec<String>)>) -> AppCatalog {
    let base = ["kernel", "stdlib"].map(|name| (name.to_owned(), Vec::new()));
    for (name, uses) in base.into_iter().chain(apps) {
        let text = format!(
            "{{application,{name},[{{description,\"\"}},{{vsn,\"1\"}},{{modules,[{name}_m]}},{{registered,[]}},{{{list},[{}]}},{{applications,[]}}]}}.",
            uses.join(",")
        );
        let app = AppSpec::read(text.as_bytes(), &name, fixtures::OTP).unwrap();
        catalog.add(CatalogEntry { app, origin: AppOrigin::Otp, location: "here".to_owned(), beams: None });
    }
    catalog
}

/// Returns the dependencies of the application with this number.
type DependencyFn<'a> = &'a dyn Fn(usize) -> Vec<String>;

#[test]
fn chains_and_fans_of_3000_applications_start_in_a_second() {
    const MANY: usize = 3000;
    const INCLUDED: &str = "each includes the next";
    let app = |number: usize| format!("app{number}");
    let forth = |number: usize| if number + 1 < MANY { vec![app(number + 1)] } else { vec![] };
    let back = |number: usize| if number > 0 { vec![app(number - 1)] } else { vec![] };
    let fan = |number: usize| if number == 0 { (1..MANY).rev().map(app).collect() } else { vec![] };
    let dense = |number: usize| (number + 1..MANY).take(40).map(app).collect();
    let worlds: [(&str, DependencyFn<'_>); 5] =
        [("forth", &forth), ("back", &back), ("fan", &fan), ("dense", &dense), (INCLUDED, &forth)];
    // Tests are compiled without optimization.
    let patience = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
    for (kind, uses) in worlds {
        let (catalog, list) =
            (AppCatalog::default(), if kind == INCLUDED { "included_applications" } else { "applications" });
        let catalog = catalog_with(catalog, list, (0..MANY).map(|number| (app(number), uses(number))));
        let asked = [app(0), app(MANY - 1)];
        let all: Vec<String> = (0..MANY).map(app).collect();
        for asked in [&asked[..], &all[..]] {
            let asked: Vec<_> = asked.iter().map(|name| (name.as_str(), None)).collect();
            let start = Instant::now();
            let release = resolve(&fixtures::spec("long", ReleaseRules::Otp, &asked), &catalog).unwrap();
            let script = BootScript::new(&release, &catalog, &BootOptions::default());
            assert!(!script.to_boot().is_empty());
            let took = start.elapsed();
            eprintln!("{kind} {} {took:?}", asked.len());
            assert!(took < patience, "{kind}: {took:?}");
        }
    }
}

#[test]
fn two_hundred_thousand_missing_applications_are_reported_in_time() {
    let missing: Vec<String> = (0..200_000).map(|number| format!("m{number}")).collect();
    let catalog = catalog_with(AppCatalog::default(), "applications", [("a".to_owned(), missing)].into_iter());
    let start = Instant::now();
    let errors = resolve(&fixtures::spec("bad", ReleaseRules::Otp, &[("a", None)]), &catalog).unwrap_err();
    assert!(errors[0].to_string().contains("`m0`"), "{}", errors[0]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
