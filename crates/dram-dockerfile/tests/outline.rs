//! Targets and outlines of a Dockerfile.

mod support;

use std::collections::BTreeMap;

use dram_dockerfile::outline::{Outline, outline, targets};
use dram_dockerfile::{BuildSettings, OnbuildTriggers, StageGraph, parse};
use dram_image::ImageConfig;
use support::settings;

const TEXT: &str = "\
# VERSION is the version of Debian
ARG VERSION=13
ARG BASE=debian:${VERSION}
ARG UNUSED=1
ARG ALSO=2

# base has what all need
# and more
FROM ${BASE} AS Base
# MODE is fast or small
ARG MODE=${GIVEN}-fast OTHER
ARG ALSO
ENV LATER=${MODE}
ARG DERIVED=${LATER}!

FROM --platform=$TARGETPLATFORM base
ARG TARGETARCH
RUN --mount=type=secret,id=token --mount=type=ssh make
RUN --mount=type=secret,id=token,required --mount=type=cache,target=/c,id=k <<E
make
E
RUN --mount=type=cache,target=/d,id=k make

# unneeded is only for tests
FROM scratch AS unneeded
ARG NEVER=1

FROM base AS last
";

fn outline_of(text: &str, settings: &BuildSettings) -> Outline {
    let parsed = parse(text.as_bytes());
    let (graph, problems) = StageGraph::new(&parsed.dockerfile, settings, &OnbuildTriggers::new());
    let graph = graph.unwrap_or_else(|| panic!("{problems:#?}"));
    let mut image = ImageConfig::default();
    image.config.env = vec!["GIVEN=very".to_owned()];
    let found: BTreeMap<_, _> = graph.external_inputs().into_iter().map(|need| (need.key, image.clone())).collect();
    let (plan, problems) = graph.plan(&found);
    outline(&parsed.dockerfile, &graph, &plan.unwrap_or_else(|| panic!("{problems:#?}")), &found)
}

/// Formats each argument as `line name=value description`.
fn args(outline: &Outline) -> Vec<String> {
    let mut all = Vec::new();
    for arg in &outline.args {
        let value = arg.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
        let about = arg.description.as_ref().map(|about| format!(" {about}")).unwrap_or_default();
        all.push(format!("{} {}{value}{about}", arg.lines.first, arg.name));
    }
    all
}

#[test]
fn used_arguments_are_listed_once_with_their_values() {
    let found = outline_of(TEXT, &settings());
    assert_eq!((found.name.as_deref(), found.description.as_deref()), (Some("last"), None));
    assert_eq!(
        args(&found),
        [
            "2 VERSION=13 is the version of Debian",
            "3 BASE=debian:13",
            "5 ALSO=2",
            "11 MODE=very-fast is fast or small",
            "11 OTHER",
            "14 DERIVED=very-fast!",
        ]
    );
    let mut given = settings();
    given.build_args = [("MODE", "small"), ("BASE", "other:1")].map(|(name, value)| (name.into(), value.into())).into();
    assert_eq!(
        args(&outline_of(TEXT, &given)),
        ["3 BASE=other:1", "5 ALSO=2", "11 MODE=small is fast or small", "11 OTHER", "14 DERIVED=small!"]
    );
}

#[test]
fn last_declaration_of_an_argument_is_listed_and_that_of_the_target_first() {
    let row = |text: &str, expected: &[&str]| assert_eq!(args(&outline_of(text, &settings())), expected, "{text}");
    row("FROM scratch\nARG IN=1\nARG IN=${IN}2\n", &["3 IN=12"]);
    row("FROM scratch\nARG IN=1 IN=${IN}2\nARG IN=${IN}3\n", &["3 IN=123"]);
    row("ARG IN=1\nARG IN=${IN}2\nFROM scratch\nARG IN\n", &["2 IN=12"]);
    row("ARG IN=1\nARG IN=${IN}2\nFROM base:${IN}\n", &["2 IN=12"]);
    row("ARG IN=1\nFROM scratch\nARG IN=${IN}2\nARG IN\n", &["3 IN=2"]);
    // The last one has no value of its own, as in BuildKit.
    row("FROM scratch\nARG IN=1\nARG IN\n", &["3 IN"]);
    row("FROM scratch AS a\nARG IN=1\nFROM a\nARG IN=${IN}2\n", &["4 IN=12"]);
    row("FROM scratch AS a\nARG IN=1\nFROM a\nCOPY . /\n", &["2 IN=1"]);
    row("ARG IN=0\nFROM scratch AS a\nARG IN=1\nFROM scratch\nARG IN\nCOPY --from=a f /\n", &["1 IN=0"]);
    row("FROM scratch AS a\nARG IN=1\nFROM scratch AS b\nARG IN=2\nFROM b\nCOPY --from=a f /\n", &["4 IN=2"]);
    let mut given = settings();
    given.build_args = [("IN".to_owned(), "9".to_owned())].into();
    assert_eq!(args(&outline_of("FROM scratch\nARG IN=1\nARG IN=${IN}2\n", &given)), ["3 IN=9"]);
}

#[test]
fn secrets_ssh_agents_and_caches_of_the_target_are_listed_once() {
    assert_eq!((outline_of(TEXT, &settings()).secrets.len(), outline_of(TEXT, &settings()).caches.len()), (0, 0));
    // The stage without a name is the target when it is the last.
    let end = TEXT.find("# unneeded").unwrap_or(TEXT.len());
    let found = outline_of(&TEXT[..end], &settings());
    assert_eq!(found.name, None);
    let secrets: Vec<_> = found.secrets.iter().map(|one| (one.id.as_str(), one.required, one.lines.first)).collect();
    assert_eq!(secrets, [("token", true, 18)]);
    let ssh: Vec<_> = found.ssh.iter().map(|one| (one.id.as_str(), one.required)).collect();
    assert_eq!(ssh, [("default", false)]);
    let caches: Vec<_> = found
        .caches
        .iter()
        .map(|one| (one.id.as_str(), one.target.as_str(), one.lines.first, one.lines.last))
        .collect();
    assert_eq!(caches, [("k", "/c", 19, 21)]);
}

#[test]
fn targets_lists_all_stages_with_their_descriptions() {
    let all = targets(&parse(TEXT.as_bytes()).dockerfile);
    let rows: Vec<_> = all
        .iter()
        .map(|one| (one.name.as_deref(), one.description.as_deref(), one.base.as_str(), one.default, one.lines.first))
        .collect();
    assert_eq!(
        rows,
        [
            (Some("base"), Some("has what all need"), "${BASE}", false, 9),
            (None, None, "base", false, 16),
            (Some("unneeded"), Some("is only for tests"), "scratch", false, 25),
            (Some("last"), None, "base", true, 28),
        ]
    );
    assert_eq!(all[1].platform.as_deref(), Some("$TARGETPLATFORM"));
}

#[test]
fn comments_separated_by_an_empty_comment_are_no_descriptions() {
    let all = targets(&parse(b"# a does it\n#\nFROM scratch AS a\n# bother\nFROM a AS b\n").dockerfile);
    assert!(all.iter().all(|one| one.description.is_none()));
}
