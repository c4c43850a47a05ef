//! Errors of dependency resolution: all of them are reported at once, and each names its subject.

use std::collections::BTreeSet;

use dram_release::app::AppSpec;
use dram_release::catalog::{AppCatalog, AppOrigin, CatalogEntry};
use dram_release::resolve::{ReleaseRules, ReleaseSpec, ResolveError, StartType, resolve};

use crate::fixtures;

/// Applications: each with its name and the keys that differ from the defaults.
type AppFixtures<'a> = &'a [(&'a str, &'a str)];

fn catalog(apps: AppFixtures<'_>) -> AppCatalog {
    let mut catalog = AppCatalog::default();
    let base = [("kernel", ""), ("stdlib", ""), ("elixir", ""), ("sasl", ""), ("iex", "")];
    for (name, keys) in base.iter().chain(apps) {
        let comma = if keys.is_empty() { "" } else { "," };
        let usual = "{vsn,\"1\"},{description,\"\"},{modules,[]},{registered,[]},{applications,[]}";
        let text = format!("{{application,{name},[{keys}{comma}{usual}]}}.");
        let app = AppSpec::read(text.as_bytes(), name, fixtures::OTP).unwrap();
        let beams = Some(BTreeSet::from(["there".to_owned()]));
        catalog.add(CatalogEntry { app, origin: AppOrigin::Project, location: format!("/lib/{name}"), beams });
    }
    catalog
}

fn spec(style: ReleaseRules, asked: &str) -> ReleaseSpec {
    let read = |word: &str| match word.split_once('=') {
        Some((name, mode)) => (name.to_owned(), Some(StartType::parse(mode).unwrap())),
        None => (word.to_owned(), None),
    };
    let mut spec = fixtures::spec("demo", style, &[]);
    spec.applications = asked.split_whitespace().map(read).collect();
    spec
}

fn errors(apps: AppFixtures<'_>, asked: &str) -> Vec<ResolveError> {
    resolve(&spec(ReleaseRules::mix("1.17.0"), asked), &catalog(apps)).unwrap_err()
}

#[test]
fn every_resolve_error_names_its_subject() {
    let a = "{applications,[b]}";
    let cases: &[(AppFixtures<'_>, &str, &str)] = &[
        (&[], "gone", "there is no application `gone`"),
        (&[("a", a)], "a", "there is no application `b`, which `a` needs"),
        (&[("a", "")], "a a=load", "`a` was asked for twice"),
        (&[("a", "")], "a kernel=load", "`kernel` starts as load: it has to be permanent in every release"),
        (
            &[("a", a), ("b", "{applications,[c]}"), ("c", a)],
            "a",
            "applications need each other in a circle: b -> c -> b",
        ),
        (
            &[("a", a), ("b", "{included_applications,[c]}"), ("c", "{included_applications,[b]}")],
            "a",
            "`b` is both an application of its own and one that another includes",
        ),
        (
            &[("a", "{included_applications,[c]}"), ("b", "{included_applications,[c]}"), ("c", "")],
            "a b",
            "`c` is included by `a` and by `b`",
        ),
        (
            &[("a", "{registered,[x]}"), ("b", "{registered,[x]}")],
            "a b",
            "the name `x` is registered by `a` and by `b`",
        ),
        (&[("a", "{registered,[x,x]}")], "a", "the name `x` is registered twice by `a`"),
        (
            &[("a", "{modules,[there]}"), ("b", "{modules,[there]}")],
            "a b",
            "the module `there` is listed by `a` and by `b`",
        ),
        (&[("a", "{modules,[mod_a]}")], "a", "`a` lists the module `mod_a`, and `/lib/a` has no `mod_a.beam`"),
        (&[("a", "{mod,{x,[]}}")], "a", "`a` is started by the module `x`, which no application of the release has"),
        (
            &[("a", a), ("b", "")],
            "a b=load",
            "`a` starts as permanent, and needs `b`, which is set to load and does not start",
        ),
    ];
    for (apps, asked, expected) in cases {
        let errors = errors(apps, asked);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [*expected], "{asked}");
        assert!(errors.iter().all(|error| error.help().contains('`') || error.help().len() > 10));
    }
}

#[test]
fn all_resolve_errors_are_reported_at_once() {
    let apps = [("a", "{applications,[b,c,d]}"), ("d", "{applications,[e]}")];
    let texts: Vec<String> = errors(&apps, "a gone").iter().map(ToString::to_string).collect();
    let expected = [
        "there is no application `b`, which `a` needs",
        "there is no application `c`, which `a` needs",
        "there is no application `e`, which `d` needs",
        "there is no application `gone`",
    ];
    assert_eq!(texts, expected);
    let apps = [("a", "{registered,[x]},{modules,[m]},{mod,{n,[]}}"), ("b", "{registered,[x]},{modules,[m]}")];
    assert_eq!(errors(&apps, "a b").len(), 5);
}

#[test]
fn a_missing_optional_application_is_refused_only_before_elixir_1_15() {
    let apps = [
        ("a", "{applications,[b]},{optional_applications,[b]}"),
        ("c", "{applications,[d]}"),
        ("d", "{applications,[e]},{optional_applications,[e]}"),
    ];
    let catalog = catalog(&apps);
    let result = |version: &str, asked: &str| resolve(&spec(ReleaseRules::mix(version), asked), &catalog);
    let refused = result("1.14.5", "a").unwrap_err();
    assert_eq!(refused, [ResolveError::MissingOptional { app: "a".to_owned(), child: "b".to_owned() }]);
    assert!(result("1.15.0", "a").is_ok());
    // `d` is visited as temporary first, and then as permanent.
    let again = [("x", "{applications,[d]}"), ("y", "{applications,[d]}")];
    let catalog = self::catalog(&[&apps[..], &again[..]].concat());
    let result = |version: &str| resolve(&spec(ReleaseRules::mix(version), "x=temporary y"), &catalog);
    assert!(result("1.15.0").is_err());
    assert!(result("1.15.1").is_ok());
}

#[test]
fn start_types_of_start_clean_depend_on_the_elixir_version() {
    let catalog = catalog(&[("a", "")]);
    let modes = |version: &str| {
        let release = resolve(&spec(ReleaseRules::mix(version), "a sasl=load"), &catalog).unwrap().start_clean();
        release.apps().iter().map(|app| format!("{}={}", app.name(), app.mode())).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(modes("1.15.7"), "kernel=permanent stdlib=permanent elixir=none a=none sasl=none iex=none");
    assert_eq!(modes("1.16.0"), "kernel=permanent stdlib=permanent elixir=load a=load sasl=load iex=none");
}

#[test]
fn an_excluded_application_is_not_a_dependency() {
    let catalog = catalog(&[("a", "{applications,[kernel,b,c]}"), ("b", ""), ("c", "")]);
    let mut spec = spec(ReleaseRules::Otp, "kernel stdlib a");
    spec.excluded = vec!["b".to_owned()];
    let release = resolve(&spec, &catalog).unwrap();
    let names: Vec<&str> = release.start_order(&catalog).iter().map(|app| app.name()).collect();
    assert_eq!(names, ["kernel", "stdlib", "c", "a"]);
    let script = dram_release::boot::BootScript::new(&release, &catalog, &Default::default()).to_script();
    assert!(script.contains("{applications,[kernel,c]}"), "{script}");
}
