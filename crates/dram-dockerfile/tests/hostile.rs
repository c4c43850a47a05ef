//! Hostile inputs are handled in bounded time and memory.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dram_dockerfile::{Severity, StageGraph, parse};
use support::{errors, run, settings};

/// Plans a text and checks the time, with a limit for an unoptimised build on a slow machine; returns the errors.
fn plan_in_bounded_time(what: &str, text: &str) -> Vec<String> {
    let start = Instant::now();
    let (plan, diagnostics) = run(text, &settings(), &BTreeMap::new());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{what} took {took:?}");
    let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error);
    let messages: Vec<String> = errors.map(|one| one.message.clone()).collect();
    assert_eq!(plan.is_some(), messages.is_empty(), "{what}");
    assert!(diagnostics.len() <= 3010, "{what} said {} things", diagnostics.len());
    assert!(diagnostics.iter().all(|one| one.message.len() < 2000), "{what} was quoted at length");
    messages
}

#[test]
fn doubling_arguments_reach_the_value_limit() {
    let mut inside = String::from("FROM x\nARG A0=xxxxxxxxxx\n");
    let mut before = String::from("ARG A0=xxxxxxxxxx\n");
    for at in 1..=40 {
        let line = format!("ARG A{at}=$A{}$A{}\n", at - 1, at - 1);
        inside.push_str(&line);
        before.push_str(&line);
    }
    assert!(plan_in_bounded_time("doubling inside", &inside).iter().any(|one| one == "the value grows beyond 1 MiB"));
    assert!(
        plan_in_bounded_time("doubling before", &format!("{before}FROM x\n")).iter().any(|one| one.contains("1 MiB"))
    );
}

#[test]
fn many_large_values_exhaust_the_plan_budget() {
    let mut text = String::from("FROM x\nARG A=xxxxxxxxxxxxxxxx\n");
    for _ in 0..15 {
        text.push_str("ARG A=$A$A\n");
    }
    let large = text.clone();
    for at in 0..5000 {
        text.push_str(&format!("ENV B{at}=$A\n"));
    }
    assert_eq!(plan_in_bounded_time("large values", &text).len(), 1);
    let steps = format!("{large}{}", "RUN x\n".repeat(20_000));
    assert_eq!(plan_in_bounded_time("large environments", &steps).len(), 1);
    let stages: String = (0..3000).map(|at| format!("FROM s{at} AS s{}\nENV B=$A\n", at + 1)).collect();
    assert_eq!(
        plan_in_bounded_time("large stages", &format!("{}{stages}", large.replace("FROM x", "FROM x AS s0"))).len(),
        1
    );
    let globals: String = (0..200).map(|at| format!("ARG B{at}=$A\n")).collect();
    let globals = format!("{}{globals}FROM x\n", large.replace("FROM x\n", ""));
    assert_eq!(plan_in_bounded_time("large globals", &globals).len(), 1);
}

#[test]
fn deep_nesting_is_handled_in_bounded_time() {
    let deep = format!("FROM x\nENV A={}z{}\n", "${a:-".repeat(10_000), "}".repeat(10_000));
    assert!(plan_in_bounded_time("nested defaults", &deep).is_empty());
    assert_eq!(plan_in_bounded_time("open defaults", &format!("FROM x\nENV A={}\n", "${a:-".repeat(10_000))).len(), 1);
    assert_eq!(plan_in_bounded_time("nested triggers", &format!("FROM x\n{}\n", "ONBUILD ".repeat(100_000))).len(), 1);
    assert!(plan_in_bounded_time("nested JSON", &format!("FROM x\nRUN {}\n", "[".repeat(1_000_000))).is_empty());
    assert_eq!(
        plan_in_bounded_time("nested JSON", &format!("FROM x\nRUN {}1{}\n", "[".repeat(100), "]".repeat(100))).len(),
        1
    );
}

#[test]
fn many_instructions_are_handled_in_bounded_time() {
    let many = |line: &str, count: usize| format!("FROM x\n{}", line.repeat(count));
    assert!(plan_in_bounded_time("runs", &many("RUN x\n", 100_000)).is_empty());
    assert!(plan_in_bounded_time("labels", &many("LABEL a=b\n", 100_000)).is_empty());
    assert!(plan_in_bounded_time("copies", &many("COPY a b/\n", 100_000)).is_empty());
    assert_eq!(plan_in_bounded_time("unknown words", &many("A\n", 100_000)).len(), 1000);
    assert_eq!(plan_in_bounded_time("too many", &many("RUN x\n", 300_000)).len(), 1);
    assert_eq!(plan_in_bounded_time("ports", &many("EXPOSE 0-65535\n", 1000)).len(), 1);
    let variables: String = (0..50_000).map(|at| format!("ENV A{at}=1\n")).collect();
    assert!(plan_in_bounded_time("variables", &format!("FROM x\n{variables}")).is_empty());
    let undefined: String = (0..20_000).map(|at| format!("WORKDIR /$UNKNOWN_{at}\n")).collect();
    assert!(plan_in_bounded_time("unknown variables", &format!("FROM x\n{variables}{undefined}")).is_empty());
    let stages: String = (0..50_000).map(|at| format!("FROM x{at} AS s{at}\nCOPY --from=s0 a /\n")).collect();
    assert!(plan_in_bounded_time("stages", &format!("FROM x AS s0\n{stages}")).is_empty());
    let chain: String = (0..2000).map(|at| format!("FROM s{at} AS s{}\nRUN x\n", at + 1)).collect();
    plan_in_bounded_time("chain", &format!("FROM x AS s0\n{chain}"));
}

#[test]
fn long_lines_are_handled_in_bounded_time() {
    let long = "x".repeat(4 << 20);
    assert!(plan_in_bounded_time("a long run", &format!("FROM x\nRUN {long}\n")).is_empty());
    assert_eq!(plan_in_bounded_time("a long word", &format!("FROM x\nWORKDIR {long}\n")).len(), 1);
    assert_eq!(plan_in_bounded_time("a long keyword", &format!("FROM x\n{long}\n")).len(), 1);
    assert_eq!(plan_in_bounded_time("a long base", &format!("FROM {long}\n")).len(), 1);
    assert_eq!(plan_in_bounded_time("a long flag", &format!("FROM x\nCOPY --{long} a b\n")).len(), 1);
    plan_in_bounded_time("many words", &format!("FROM x\nCOPY {} /b/\n", "a ".repeat(1 << 20)));
    plan_in_bounded_time("many pairs", &format!("FROM x\nENV {}\n", "a=b ".repeat(1 << 18)));
    plan_in_bounded_time("many continuations", &format!("FROM x\nRUN {}\n", "a \\\n".repeat(1 << 20)));
    plan_in_bounded_time("many heredocs", &format!("FROM x\nRUN {}\n", "<<A ".repeat(1 << 18)));
    let names: Vec<String> = (0..100_000).map(|name| format!("<<a{name}")).collect();
    let bodies: Vec<String> = (0..100_000).map(|name| format!("a{name}")).collect();
    plan_in_bounded_time(
        "many heredocs that are closed",
        &format!("FROM x\nCOPY {} /x/\n{}\n", names.join(" "), bodies.join("\n")),
    );
    let bodies = format!("{}{}\nA\n", "A\n".repeat(999), "x".repeat(1 << 20));
    let same = format!("FROM x\nCOPY {} /x/\n{bodies}", "<<A ".repeat(1000));
    assert_eq!(plan_in_bounded_time("one heredoc many times", &same).len(), 1);
    plan_in_bounded_time("many mounts", &format!("FROM x\nRUN {} y\n", "--mount=target=/a ".repeat(1 << 17)));
    plan_in_bounded_time("many fields", &format!("FROM x\nRUN --mount={} y\n", "target=/a,".repeat(1 << 17)));
    let pattern = format!("FROM x\nARG A={}\nENV B=${{A//{}z/y}}\n", "x".repeat(500_000), "?*".repeat(1000));
    assert_eq!(plan_in_bounded_time("a mean pattern", &pattern).len(), 1);
    assert_eq!(parse(&vec![b'\n'; (16 << 20) + 1]).diagnostics.len(), 1);
}

/// Runs all lint checks on a text and checks the time; returns the number of diagnostics.
fn check_in_bounded_time(what: &str, text: &str, ignore: &str) -> usize {
    let start = Instant::now();
    let mut settings = settings();
    settings.all_stages = true;
    let (_, all) = support::examine(text, &settings, &BTreeMap::new(), Some(ignore), true);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "checking {what} took {took:?}");
    assert!(all.len() < 6000, "{what} was told {} things", all.len());
    all.len()
}

#[test]
fn lint_checks_are_bounded_in_time_and_number() {
    let many = |line: &str, count: usize| format!("FROM x\n{}", line.repeat(count));
    assert!(
        check_in_bounded_time("fetching", &many("RUN apt-get update && npm ci && apt-get install x\n", 20_000), "a")
            > 100
    );
    assert!(
        check_in_bounded_time("secrets", &many("ENV key=ghp_0123456789012345678901234567890123\n", 20_000), "a") > 100
    );
    let commented = many("# check=skip=A,B,C\n# x\nENV a b\n", 20_000);
    assert!(check_in_bounded_time("comments", &commented, "a") > 100);
    let stages: String = (0..20_000).map(|at| format!("FROM x AS S{at}\nENV a b\n")).collect();
    assert!(check_in_bounded_time("unused stages", &stages, "a") > 100);
    let list: String = (0..20_000).map(|at| format!("dir{at}/*x?y\n")).collect();
    check_in_bounded_time("copies", &many("COPY dir1/axby other b/\n", 20_000), &format!("{list}!z\n"));
    let quotes = format!("FROM x\nRUN {}\n", "'\"`$( ;&|".repeat(400_000));
    check_in_bounded_time("a long command", &quotes, "a");
    check_in_bounded_time("many comments", &format!("{}FROM x\n", "# check=skip=all\n#x\n".repeat(400_000)), "a");
}

#[test]
fn paths_cannot_leave_the_root_of_the_image() {
    let text = "FROM x\nWORKDIR ../../..\nVOLUME /../..\nCOPY ../../etc/passwd ../../../x\nRUN y\n";
    let plan = support::plan(text);
    assert!(plan.contains("copy context: ../../etc/passwd -> /x\n"), "{plan}");
    assert!(plan.contains("in /\n"), "{plan}");
    let plan = support::plan("FROM x\nCOPY <<../../evil /x/\nbad\n../../evil\n");
    assert!(plan.contains("copy context: evil -> /x/\n"), "{plan}");
    assert_eq!(errors("FROM x\nCOPY <<.. /x/\nbad\n..\n"), ["2: `..` cannot be the name of a file"]);
    let plan = support::plan("FROM x\nWORKDIR /w\nRUN --mount=target=../../../a <<../../x\n#!/bin/sh\n../../x\n");
    assert!(plan.contains("bind / of context at /a"), "{plan}");
    assert!(plan.contains("script /x"), "{plan}");
}

/// Marsaglia's xorshift generator with a fixed seed, so that failures are reproducible.
struct XorshiftRng(u64);

impl XorshiftRng {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }
}

const SAMPLE: &str = r#"# syntax=docker/dockerfile:1
# escape=\
ARG V=1.18 W
FROM --platform=$BUILDPLATFORM elixir:${V:-1} AS build
SHELL ["/bin/bash", "-ec"]
ENV A=b C="d e" F='$A'
ENV old form of "it"
RUN --mount=type=cache mix deps.get && \
    # comment
    mix compile
RUN <<EOF
abc
EOF
COPY --from=0 --chown=${A%%x*}:0 --chmod=0755 a [bc]* "/d e/"
ADD ["a b", "/c/"]
FROM debian AS run
COPY --from=build /app/${V//./_} /app
LABEL x.y="z" n=1
EXPOSE 80-82/udp $A
HEALTHCHECK --interval=1m30s CMD ["curl", "x"]
VOLUME /a /b
STOPSIGNAL SIGTERM
USER nobody:${W:+w}
WORKDIR ./x/../y
ONBUILD RUN x
ENTRYPOINT ["a"]
CMD b c
"#;

#[test]
fn mutations_never_panic() {
    let mut random = XorshiftRng(0x9e37_79b9_7f4a_7c15);
    let scraps: &[&[u8]] = &[
        b"$",
        b"{",
        b"}",
        b"\\",
        b"\n",
        b"\"",
        b"'",
        b"[",
        b"]",
        b"<<",
        b"--",
        b"=",
        b" ",
        b"\t",
        b"#",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xc3",
        "é".as_bytes(),
        b"FROM ",
        b"${",
        b":-",
        b"//",
        b"*",
        b"`",
    ];
    for round in 0..20_000 {
        let mut text = SAMPLE.as_bytes().to_vec();
        for _ in 0..=random.next(6) {
            let at = random.next(text.len().max(1)).min(text.len() - 1);
            match random.next(4) {
                0 if text.len() > 1 => drop(text.remove(at)),
                1 => text.splice(at..at, scraps[random.next(scraps.len())].iter().copied()).for_each(drop),
                2 => text.truncate(at.max(1)),
                _ => {
                    let end = (at + random.next(30)).min(text.len());
                    let copy = text[at..end].to_vec();
                    let to = random.next(text.len());
                    text.splice(to..to, copy).for_each(drop);
                }
            }
        }
        let parsed = parse(&text);
        let (graph, more) = StageGraph::new(&parsed.dockerfile, &settings(), &dram_dockerfile::OnbuildTriggers::new());
        let mut all = [parsed.diagnostics, more].concat();
        if let Some(graph) = graph {
            let found = graph.external_inputs().into_iter().map(|need| (need.key, Default::default())).collect();
            all.extend(graph.plan(&found).1);
        }
        for one in all {
            assert!(one.span.start <= one.span.end && one.span.end <= text.len(), "round {round}: {one:?}");
        }
    }
}

#[test]
fn every_prefix_of_the_sample_is_parsed() {
    for end in 0..SAMPLE.len() {
        let text = &SAMPLE[..end];
        let parsed = parse(text.as_bytes());
        for one in parsed.dockerfile.instructions {
            assert!(text.get(one.span.clone()).is_some(), "{end}: {one:?}");
        }
    }
}
