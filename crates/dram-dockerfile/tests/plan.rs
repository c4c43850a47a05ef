//! Plans of whole files.

mod support;

use support::{found, messages, plan, plan_with, run, settings, target, valid_plan};

use dram_dockerfile::{ExternalInputKind, Severity, StageGraph, parse};
use dram_plan::{PlanStep, RunOp, StepOp};

/// Returns the `RUN` operations of the target stage.
fn processes(text: &str) -> Vec<RunOp> {
    let process = |step: PlanStep| match step.op {
        StepOp::Run(run) => Some(run),
        StepOp::Copy(_) | StepOp::Workdir(_) | StepOp::ConfigOnly => None,
    };
    target(text).steps.into_iter().filter_map(process).collect()
}

/// Returns the environment of the last `RUN`, without `PATH`.
fn env(text: &str) -> String {
    let last = processes(text).pop().expect("the text has a `RUN`");
    let pairs: Vec<String> = last.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert!(pairs.iter().any(|pair| pair.starts_with("PATH=/usr/local/sbin:")));
    pairs.into_iter().filter(|pair| !pair.starts_with("PATH=")).collect::<Vec<_>>().join(" ")
}

#[test]
fn two_stage_build_is_planned() {
    let text = r#"
ARG ELIXIR=1.18
FROM elixir:${ELIXIR} AS build
WORKDIR /app
ENV MIX_ENV=prod
COPY mix.exs mix.lock ./
RUN mix deps.get --only $MIX_ENV && \
    mix deps.compile
COPY lib lib
RUN ["mix", "release"]

FROM debian:bookworm-slim
WORKDIR /app
COPY --from=build --chown=nobody:nogroup /app/_build/prod/rel/demo ./
USER nobody
CMD ["/app/bin/demo", "start"]
"#;
    assert_eq!(
        plan(text),
        r#"stage build (0) on elixir:1.18
  4 WORKDIR /app
    mkdir /app
  5 ENV MIX_ENV=prod
  6 COPY mix.exs mix.lock ./
    copy context: mix.exs mix.lock -> /app/
  7 RUN mix deps.get --only $MIX_ENV && mix deps.compile
    run ["/bin/sh", "-c", "mix deps.get --only $MIX_ENV &&     mix deps.compile"] in /app
  9 COPY lib lib
    copy context: lib -> /app/lib
  10 RUN ["mix", "release"]
    run ["mix", "release"] in /app
stage stage-1 (1) on debian:bookworm-slim
  13 WORKDIR /app
    mkdir /app
  14 COPY --from=build --chown=nobody:nogroup /app/_build/prod/rel/demo ./
    copy stage 0: /app/_build/prod/rel/demo -> /app/ chown nobody:nogroup
  15 USER nobody
  16 CMD ["/app/bin/demo", "start"]
"#
    );
}

#[test]
fn only_stages_that_the_target_needs_are_planned() {
    let text = "\
FROM one AS one
FROM two AS unused
RUN nobody needs this
FROM three AS three
COPY --from=ONE a .
COPY --from=0 b .
FROM three AS four
FROM alpine
COPY --from=four / /
";
    let expected = "\
stage one (0) on one
stage three (2) on three
  5 COPY --from=ONE a .
    copy stage 0: a -> /
  6 COPY --from=0 b .
    copy stage 0: b -> /
";
    let mut settings = settings();
    settings.target = Some("Three".into());
    assert_eq!(plan_with(text, &settings), expected);
    let four = format!("{expected}stage four (3) on stage 1\n");
    settings.target = Some("four".into());
    assert_eq!(plan_with(text, &settings), four);
    settings.target = None;
    assert_eq!(
        plan_with(text, &settings),
        format!("{four}stage stage-4 (4) on alpine\n  9 COPY --from=four / /\n    copy stage 2: / -> /\n")
    );
}

#[test]
fn stages_of_other_platforms_are_planned_only_when_needed() {
    let text = "\
FROM --platform=linux/arm64 debian AS build-arm64
FROM --platform=linux/amd64 debian AS build-amd64
FROM build-$TARGETARCH
";
    assert_eq!(plan(text), "stage build-amd64 (1) on debian\nstage stage-2 (2) on stage 0\n");
}

#[test]
fn last_earlier_stage_of_a_repeated_name_is_used() {
    let text = "FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=x f .\n";
    assert_eq!(
        plan(text),
        "stage x (1) on b\nstage stage-2 (2) on stage 0\n  4 COPY --from=x f .\n    copy stage 0: f -> /\n"
    );
    // A stage with the name of its own base is based on the image.
    assert_eq!(plan("FROM node AS node\nFROM node\n"), "stage node (0) on node\nstage stage-1 (1) on stage 0\n");
}

#[test]
fn external_inputs_are_listed_once_in_file_order() {
    let text = "\
FROM debian:12 AS a
FROM --platform=linux/amd64 debian:12 AS b
COPY --from=busybox:1 /bin/busybox /
COPY --from=debian:12 /etc/passwd /
FROM unused AS c
FROM b
COPY --from=site index.html /
COPY --from=a /x /
";
    let mut settings = settings();
    settings.contexts.insert("site".into());
    let (graph, _) =
        StageGraph::new(&parse(text.as_bytes()).dockerfile, &settings, &dram_dockerfile::OnbuildTriggers::new());
    let needs: Vec<(String, bool, &str)> = graph
        .unwrap()
        .external_inputs()
        .into_iter()
        .map(|need| (need.name, need.kind == ExternalInputKind::Base, &text[need.span]))
        .collect();
    assert_eq!(
        needs,
        [
            ("debian:12".to_owned(), true, "debian:12"),
            ("busybox:1".to_owned(), false, "--from=busybox:1"),
            ("site".to_owned(), false, "--from=site"),
        ]
    );
}

#[test]
fn named_contexts_replace_stages_and_images() {
    let text = "FROM golang AS build\nRUN make\nFROM base\nCOPY --from=build /out /\nCOPY --from=files a /\n";
    let mut settings = settings();
    settings.contexts.extend(["build".to_owned(), "docker.io/library/base:latest".to_owned(), "files".to_owned()]);
    assert_eq!(
        plan_with(text, &settings),
        "\
stage build (0) on scratch
  1 FROM build
    copy named build: / -> /
stage stage-1 (1) on base
  4 COPY --from=build /out /
    copy stage 0: /out -> /
  5 COPY --from=files a /
    copy named files: a -> /
"
    );
}

#[test]
fn arg_and_env_follow_the_scopes_of_buildkit() {
    let table = [
        // A global argument is only the default of an `ARG` inside a stage.
        ("ARG A=1\nFROM x\nRUN y\n", ""),
        ("ARG A=1\nFROM x\nARG A\nRUN y\n", "A=1"),
        ("ARG A=1\nFROM x\nARG A=2\nRUN y\n", "A=2"),
        ("ARG A=1\nARG B=$A-2\nFROM x\nARG B\nRUN y\n", "B=1-2"),
        ("FROM x\nARG A\nRUN y\n", ""),
        ("FROM x\nARG A=1 B=$A C\nRUN y\n", "A=1 B=1"),
        ("FROM x\nARG A=\"a b\"\nRUN y\n", "A=a b"),
        // The name of an argument is expanded, too.
        ("FROM x\nARG A=B\nARG ${A}=1\nRUN y\n", "A=B B=1"),
        // The later of `ENV` and `ARG` wins and is last in the order.
        ("FROM x\nARG A=1\nENV A=2 B=3\nRUN y\n", "A=2 B=3"),
        ("FROM x\nENV A=2 B=3\nARG A=1\nRUN y\n", "B=3 A=1"),
        // All pairs of a line are expanded in the scope before the line.
        ("FROM x\nENV A=1\nENV A=2 B=$A\nRUN y\n", "A=2 B=1"),
        ("FROM x\nENV A the  rest \"of\" it \nRUN y\n", "A=the  rest of it"),
        // A stage passes its arguments on to stages based on it; its `ENV` wins over them.
        ("FROM x AS a\nARG A=1\nARG B=1\nENV B=2\nFROM a\nRUN y\n", "A=1 B=2"),
        ("FROM x AS a\nENV B=2\nARG B=1\nFROM a\nRUN y\n", "B=2"),
        // The predefined platform arguments must be declared.
        ("FROM x\nRUN $TARGETARCH\n", ""),
        ("FROM x\nARG TARGETARCH\nARG BUILDPLATFORM\nRUN y\n", "TARGETARCH=amd64 BUILDPLATFORM=linux/amd64"),
        ("FROM x AS last\nARG TARGETSTAGE\nRUN y\n", "TARGETSTAGE=last"),
    ];
    for (text, expected) in table {
        assert_eq!(env(text), expected, "{text}");
    }
}

#[test]
fn build_arguments_override_defaults() {
    let text = "ARG BASE=x\nFROM $BASE\nARG A=1\nARG B\nRUN y\n";
    let mut settings = settings();
    for (name, value) in [("BASE", "other:2"), ("A", "2"), ("B", ""), ("C", "3"), ("https_proxy", "http://p")] {
        settings.build_args.insert(name.into(), value.into());
    }
    let plan = valid_plan(text, &settings, &found());
    assert_eq!(
        support::summary(&plan).lines().next(),
        Some("stage stage-0 (0) on other:2"),
        "the base comes from the command line"
    );
    let StepOp::Run(run) = &plan.stages[0].steps[2].op else { panic!() };
    assert_eq!(run.env[1..], [("A".to_owned(), "2".to_owned()), ("B".to_owned(), String::new())]);
    assert_eq!(run.from_args.iter().collect::<Vec<_>>(), ["A", "B"], "PATH is the image's");
    assert_eq!(
        run.hidden_env,
        [("HTTPS_PROXY".to_owned(), "http://p".to_owned()), ("https_proxy".to_owned(), "http://p".to_owned())]
    );
    let history = plan.stages[0].config.history.last().unwrap().created_by.as_deref();
    assert_eq!(history, Some("RUN |2 A=2 B= /bin/sh -c y # buildkit"));
}

#[test]
fn run_commands_are_in_shell_or_exec_form() {
    let table: &[(&str, &[&str])] = &[
        ("RUN a  b", &["/bin/sh", "-c", "a  b"]),
        ("RUN a \\\n  # comment\n  b \\\n", &["/bin/sh", "-c", "a   b"]),
        ("run echo '$A' \"\\$B\"", &["/bin/sh", "-c", "echo '$A' \"\\$B\""]),
        ("RUN [\"a\", \"$B\"]", &["a", "$B"]),
        ("RUN ['a', 'b']", &["/bin/sh", "-c", "['a', 'b']"]),
        ("RUN [ -f x ] && y", &["/bin/sh", "-c", "[ -f x ] && y"]),
        ("SHELL [\"/bin/bash\", \"-ec\"]\nRUN a", &["/bin/bash", "-ec", "a"]),
        ("RUN -- a", &["/bin/sh", "-c", "a"]),
    ];
    for (text, expected) in table {
        let runs = processes(&format!("FROM x\n{text}\n"));
        assert_eq!(runs[0].argv, *expected, "{text}");
    }
}

#[test]
fn workdir_and_user_apply_to_later_steps() {
    let text = "FROM x\nWORKDIR /a\nWORKDIR b/\nWORKDIR ../$C\nENV C=c\nUSER u:g\nWORKDIR ${C}d\nRUN y\n";
    let run = &processes(text)[0];
    assert_eq!((run.cwd.as_str(), run.user.as_str()), ("/a/cd", "u:g"));
    assert_eq!(
        plan("FROM x\nWORKDIR /\nWORKDIR ../../..\nUSER u\nWORKDIR /a/../b/\n"),
        "stage stage-0 (0) on x\n  2 WORKDIR /\n  3 WORKDIR ../../..\n  4 USER u\n  5 WORKDIR /a/../b/\n    mkdir /b as u\n"
    );
}

#[test]
fn copy_sources_and_destinations_are_expanded() {
    let table = [
        ("COPY a b/", "context: a -> /w/b/"),
        ("COPY a .", "context: a -> /w/"),
        ("COPY . .", "context: . -> /w/"),
        ("COPY a /x", "context: a -> /x"),
        ("COPY $F ${F}s/", "context: f -> /w/fs/"),
        ("COPY [\"a b\", \"c d/\"]", "context: a b -> /w/c d/"),
        ("COPY a*.txt b? /x/", "context: a*.txt b? -> /x/"),
        ("COPY a*.txt b /x", "context: a*.txt b -> /x"),
        ("COPY a b /w", "context: a b -> /w/"),
        ("COPY --chown=$F:0 --chmod=0755 a .", "context: a -> /w/ chown f:0 chmod 755"),
        ("COPY --chown= a .", "context: a -> /w/"),
        ("COPY --link=false a .", "context: a -> /w/"),
        ("COPY -- --a .", "context: --a -> /w/"),
        ("ADD a.tar.gz /", "context: a.tar.gz -> / unpack"),
        ("COPY --from=alpine:3 /a /b", "named alpine:3: /a -> /b"),
    ];
    for (text, expected) in table {
        let plan = plan(&format!("FROM x\nWORKDIR /w\nENV F=f\n{text}\n"));
        let last = plan.lines().last().unwrap().trim();
        assert_eq!(last, format!("copy {expected}"), "{text}");
    }
    // Outside the JSON form quotes do not join words: each half has an open quote.
    assert_eq!(support::errors("FROM x\nCOPY \"a b\" /x\n").len(), 2);
}

#[test]
fn directives_byte_order_mark_and_crlf_are_accepted() {
    let text = "\u{feff}# syntax=evil/frontend\r\n# escape=`\r\nfrom x `\r\n  as y\r\nrun a `\r\n  b\r\n";
    assert_eq!(plan(text), "stage y (0) on x\n  5 RUN a b\n    run [\"/bin/sh\", \"-c\", \"a   b\"] in /\n");
    assert_eq!(plan("FROM scratch"), "stage stage-0 (0) on scratch\n");
    assert_eq!(plan("#!/usr/bin/env dram\nFROM scratch\\"), "stage stage-0 (0) on scratch\n");
}

#[test]
fn base_without_a_config_is_an_error() {
    let parsed = parse(b"FROM x\n");
    let (graph, _) = StageGraph::new(&parsed.dockerfile, &settings(), &dram_dockerfile::OnbuildTriggers::new());
    let (plan, diagnostics) = graph.unwrap().plan(&Default::default());
    assert!(plan.is_none());
    assert_eq!(diagnostics[0].message, "nothing is known about the image `x`");
}

#[test]
fn warnings_can_be_skipped_or_made_errors() {
    let text = "FROM x\nENV a b\n";
    let count = |text: &str, severity| messages(text, &settings(), severity).len();
    assert_eq!(count(text, Severity::Warning), 1);
    assert_eq!(count(&format!("# check=skip=LegacyKeyValueFormat\n{text}"), Severity::Warning), 0);
    assert_eq!(count(&format!("# check=skip=all\n{text}"), Severity::Warning), 0);
    assert_eq!(count(&format!("# check=skip=UndefinedVar;error=true\n{text}"), Severity::Error), 1);
    assert_eq!(count("FROM x\n# check=skip=all // here\nENV a b\nENV c d\n", Severity::Warning), 1);
    assert!(run(&format!("# check=error=true\n{text}"), &settings(), &found()).0.is_none());
}
