//! Each lint rule fires for its bad example and not for its good one, and `docs/checks.md` matches the rules.

#![allow(clippy::disallowed_methods, reason = "the page is a file of the project")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use dram_dockerfile::lint::{LineRange, lines_of};
use dram_dockerfile::rules::{self, LintRule, RuleActivation, RuleOrigin};
use dram_dockerfile::{Diagnostic, Severity, parse};
use dram_image::ImageConfig;
use support::{examine, settings};

/// Runs all checks on all stages of a text, with base images of the target platform.
fn thorough(text: &str, ignore: Option<&str>) -> Vec<Diagnostic> {
    let mut settings = settings();
    settings.all_stages = true;
    let image = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    let bases = ["debian:13", "debian:12", "debian", "node:24", "x", "y", "debian:13 for linux/arm64", "tools"];
    let found: BTreeMap<String, ImageConfig> = bases.iter().map(|base| ((*base).to_owned(), image.clone())).collect();
    examine(text, &settings, &found, ignore, true).1
}

/// Returns the names of the rules that fire, and `error` for an error.
fn fired(text: &str, ignore: Option<&str>) -> Vec<&'static str> {
    let mut names: Vec<&str> = thorough(text, ignore).iter().map(|one| one.rule.unwrap_or("error")).collect();
    names.sort_unstable();
    names
}

/// Returns rule and line of each diagnostic, as BuildKit reports them.
fn places(text: &str, ignore: Option<&str>) -> Vec<String> {
    let dockerfile = parse(text.as_bytes()).dockerfile;
    let place = |one: &Diagnostic| {
        let LineRange { first, .. } = lines_of(&dockerfile, one).expect("it is about an instruction");
        format!("{} {first}", one.rule.unwrap_or("error"))
    };
    let mut all: Vec<String> = thorough(text, ignore).iter().map(place).collect();
    all.sort();
    all
}

#[test]
fn bad_examples_break_only_their_rule_and_good_examples_break_none() {
    for rule in rules::ALL {
        let LintRule { name, bad, good, ignore, .. } = rule;
        // Without a default the example has no valid base, which is also an error.
        let expected = if *name == "InvalidDefaultArgInFrom" { vec![*name, "error"] } else { vec![*name] };
        assert_eq!(fired(bad, *ignore), expected, "{name}: {:#?}", thorough(bad, *ignore));
        assert_eq!(fired(good, *ignore), Vec::<&str>::new(), "{name}: {:#?}", thorough(good, *ignore));
    }
}

#[test]
fn every_rule_except_experimental_ones_can_be_skipped() {
    for rule in
        rules::ALL.iter().filter(|rule| rule.activation != RuleActivation::Experimental && rule.name != "UnknownRule")
    {
        let text = format!("# check=skip={}\n{}", rule.name, rule.bad);
        assert!(!fired(&text, rule.ignore).contains(&rule.name), "{}", rule.name);
        let text = format!("# check=skip=all\n{}", rule.bad);
        assert!(!fired(&text, rule.ignore).contains(&rule.name), "{}", rule.name);
    }
}

#[test]
fn rules_are_complete_and_have_unique_names() {
    let mut names: Vec<&str> = rules::ALL.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rules::ALL.len());
    let of_buildkit = rules::ALL.iter().filter(|rule| rule.origin == RuleOrigin::BuildKit).count();
    assert_eq!(of_buildkit, 22);
    for rule in rules::ALL {
        assert!(!rule.about.is_empty() && !rule.about.ends_with('.'), "{}", rule.name);
        assert!(rule.why.ends_with('.'), "{}", rule.name);
        assert_eq!(rules::find(rule.name), Some(*rule));
    }
}

#[test]
fn lines_of_warnings_match_buildkit() {
    let table: &[(&str, &[&str])] = &[
        ("FROM scratch\nCOPY a \\\n\n\n  b\nCOPY a b\n", &["NoEmptyContinuation 5"]),
        ("FROM scratch\nRUN a \\\n\n  <<E\nb\nE\n", &["NoEmptyContinuation 4"]),
        (
            "FROM scratch\nCMD [\"a\"]\nHEALTHCHECK NONE\nCOPY <<E /a\nCMD\nE\nCMD [\"b\"]\nHEALTHCHECK CMD [\"c\"]\n",
            &["MultipleInstructionsDisallowed 2", "MultipleInstructionsDisallowed 3"],
        ),
        ("FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n", &[]),
        ("FROM scratch\nENV a=1 \\\n  password=2\n", &["SecretsUsedInArgOrEnv 2"]),
        ("ARG password\nFROM scratch\n", &[]),
        ("arg A=1\nFROM scratch\nCOPY a b\n", &[]),
        ("FROM scratch\nEXPOSE 80/TcP 90/UDP\n", &["ExposeProtoCasing 2", "ExposeProtoCasing 2"]),
        ("FROM scratch\nEXPOSE [::1]:80:80 5000:5000\n", &["ExposeInvalidFormat 2", "ExposeInvalidFormat 2"]),
        ("FROM scratch\nSHELL [\"/bin/a\"]\nCMD b\n", &[]),
        ("FROM --platform=linux/arm64 scratch\n", &["FromPlatformFlagConstDisallowed 1"]),
        ("FROM --platform=linux/${TARGETPLATFORM} scratch\n", &[]),
        ("ARG A=\nFROM x:1${A}\n", &[]),
    ];
    for (text, expected) in table {
        assert_eq!(places(text, None), *expected, "{text}");
    }
}

#[test]
fn ignored_copy_sources_are_reported_with_their_pattern() {
    let table: &[(&str, &str, &[&str])] = &[
        ("a", "COPY a b /x/\nADD ./a /y\n", &["CopyIgnoredFile 2", "CopyIgnoredFile 3"]),
        ("a", "COPY /a/b /x\n", &["CopyIgnoredFile 2"]),
        ("a", "COPY --from=x a /x\n", &[]),
        ("a", "COPY <<a /x\n1\na\n", &[]),
        ("a", "ADD https://example.com/a /x\n", &[]),
        (".*", "COPY . .\n", &[]),
        ("*", "COPY . .\n", &["CopyIgnoredFile 2"]),
        ("**\n!a", "COPY ./a .\n", &[]),
        ("**\n!a", "COPY . .\n", &[]),
        ("dir\n!dir/a", "COPY dir /x\n", &[]),
        ("dir\n!other/a", "COPY dir /x\n", &["CopyIgnoredFile 2"]),
        ("a", "ARG N=a\nCOPY $N /x\n", &["CopyIgnoredFile 3"]),
    ];
    for (list, copies, expected) in table {
        assert_eq!(places(&format!("FROM scratch\n{copies}"), Some(list)), *expected, "{list:?} {copies:?}");
    }
    let found = thorough("FROM scratch\nCOPY notes/a /\n", Some("# c\nsrc\nnotes*\n"));
    assert_eq!(found[0].notes, ["the pattern `notes*` on line 3 does"]);
}

#[test]
fn check_directives_skip_rules_of_the_file_or_an_instruction() {
    let table: &[(&str, &[&str])] = &[
        ("#check=skip=FromAsCasing\nFROM x:1 as b\ncopy a b\n", &["ConsistentInstructionCasing 3"]),
        (
            "# check=skip=FromAsCasing, ConsistentInstructionCasing\nFROM x:1 as b\ncopy a b\n",
            &["ConsistentInstructionCasing 3"],
        ),
        ("# check = skip=all;error=true\nFROM x as b\n", &[]),
        ("# check=skip=fromascasing\nFROM x:1 as b\n", &["FromAsCasing 2"]),
        ("FROM x:1\n# check=skip=SecretsUsedInArgOrEnv // why\nENV key=1\nENV key=2\n", &["SecretsUsedInArgOrEnv 4"]),
        ("FROM x:1\n# check=skip=all // why\n# and more\nENV key=1\n", &[]),
        ("FROM x:1\n# check=skip=all\n#\nENV key=1\n", &["SecretsUsedInArgOrEnv 4"]),
        ("FROM x:1\n# check=nothing\nENV key=1\n", &["SecretsUsedInArgOrEnv 3"]),
        (
            "# check=experimental=all\n# b is it\nARG a=1\n# c\nFROM x:1 AS s\n#\nARG b\n# b d\nARG b c\n",
            &["InvalidDefinitionDescription 3", "InvalidDefinitionDescription 5"],
        ),
        (
            "# check=skip=all;experimental=InvalidDefinitionDescription\n# b\nARG a=1\nFROM x\n",
            &["InvalidDefinitionDescription 3"],
        ),
        ("# b is it\nARG a=1\nFROM x:1\n", &[]),
    ];
    for (text, expected) in table {
        let found: Vec<String> = places_of_instructions(text);
        assert_eq!(found, *expected, "{text}");
    }
    assert_eq!(fired("# check=skip\nFROM x:1\n", None), ["error"]);
    assert_eq!(fired("# check=skip=all;wrong=1\nFROM x:1\n", None), ["error"]);
}

/// Returns rule and line of each diagnostic, except for unknown rules in the directive itself.
fn places_of_instructions(text: &str) -> Vec<String> {
    places_but(text, "UnknownRule")
}

fn places_but(text: &str, rule: &str) -> Vec<String> {
    let dockerfile = parse(text.as_bytes()).dockerfile;
    let mut all: Vec<String> = thorough(text, None)
        .iter()
        .filter(|one| one.rule != Some(rule))
        .map(|one| {
            format!("{} {}", one.rule.unwrap_or("error"), lines_of(&dockerfile, one).map_or(0, |lines| lines.first))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn check_build_argument_overrides_the_directive() {
    let text = "#check=skip=all\nFROM x:1 as b\ncopy a b\n";
    let said = |argument: &str| {
        let mut settings = settings();
        settings.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".into(), argument.into());
        let (plan, all) = examine(text, &settings, &BTreeMap::new(), None, false);
        let severities: Vec<Severity> = all.iter().map(|one| one.severity).collect();
        (plan.is_some(), all.iter().map(|one| one.rule.unwrap_or("error")).collect::<Vec<_>>(), severities)
    };
    assert_eq!(said("skip=all"), (true, vec![], vec![]));
    assert_eq!(
        said("skip=ConsistentInstructionCasing;error=true"),
        (false, vec!["FromAsCasing"], vec![Severity::Error]),
        "an error, so there is nothing to build"
    );
    assert_eq!(said("nonsense=1").1[0], "error");
}

#[test]
fn rules_of_stages_apply_only_to_needed_stages() {
    let text = "FROM scratch AS a\nCOPY $foo .\nENV a b\nFROM scratch AS B\nCOPY $bar .\n";
    let (_, all) = examine(text, &settings(), &BTreeMap::new(), None, false);
    let names: Vec<_> = all.iter().map(|one| one.rule.unwrap_or("error")).collect();
    assert_eq!(names, ["StageNameCasing", "UndefinedVar"]);
    assert_eq!(
        places_but(text, "UnusedStage"),
        ["LegacyKeyValueFormat 3", "StageNameCasing 4", "UndefinedVar 2", "UndefinedVar 5"]
    );
}

#[test]
fn undefined_variables_are_not_reported_on_an_unknown_image() {
    let text = "FROM somewhere AS a\nCOPY $GIVEN/x /x\nFROM a\nCOPY $GIVEN/x /x\nFROM scratch\nCOPY $NEVER/x /x\n";
    let all = AllStagesBuild::warnings(text);
    assert_eq!(all, ["UndefinedVar 6"]);
}

/// A build of all stages without any known image.
struct AllStagesBuild;

impl AllStagesBuild {
    fn warnings(text: &str) -> Vec<String> {
        let mut settings = settings();
        settings.all_stages = true;
        let dockerfile = parse(text.as_bytes()).dockerfile;
        let (_, all) = examine(text, &settings, &BTreeMap::new(), None, false);
        let place = |one: &Diagnostic| lines_of(&dockerfile, one).map_or(0, |lines| lines.first);
        all.iter().map(|one| format!("{} {}", one.rule.unwrap_or("error"), place(one))).collect()
    }
}

#[test]
fn advice_rules_fire_only_on_matching_steps() {
    let table: &[(&str, &[&str])] = &[
        ("RUN apt-get update && apt-get install -yq a && rm -rf /var/lib/apt/lists/*", &["CacheMountHelps"]),
        ("RUN apt-get update && rm -rf /var/lib/apt", &[]),
        ("RUN apt-get update && rm -rf /var/lib/aptitude", &["AptListsLeft"]),
        ("RUN --mount=type=tmpfs,target=/var/lib/apt/lists apt-get update", &[]),
        ("RUN <<E\nset -e\napt-get update\nE", &["AptListsLeft"]),
        ("RUN <<E\n#!/bin/bash\napt-get update\nE", &["AptListsLeft"]),
        ("RUN [\"apt-get\", \"update\"]", &["AptListsLeft"]),
        ("RUN yes | apt-get --no-install-recommends install a", &["CacheMountHelps"]),
        ("RUN apt install a", &["AptGetWithoutYes", "CacheMountHelps"]),
        ("RUN echo \"apt-get update\"", &[]),
        ("RUN mix do deps.get, deps.compile", &["CacheMountHelps"]),
        ("RUN --mount=type=cache,target=/root/.hex mix deps.get", &[]),
        ("RUN --mount=type=cache,target=/root mix deps.get && npm ci", &[]),
        ("RUN --mount=type=cache,id=npm,target=/cache npm ci", &[]),
        ("RUN rebar3 as prod release && npm ci", &["CacheMountHelps", "CacheMountHelps"]),
        ("RUN mix compile && npm run build && go version && cargo --version", &[]),
        ("RUN pip install --no-cache-dir a", &[]),
        ("RUN python3 -m pip install a", &["CacheMountHelps"]),
        ("RUN yarn --frozen-lockfile", &["CacheMountHelps"]),
        ("USER 1000\nRUN npm ci", &[]),
    ];
    for (steps, expected) in table {
        assert_eq!(fired(&format!("FROM x:1\n{steps}\n"), None), *expected, "{steps}");
    }
    let copied = "FROM x:1 AS a\nRUN apt-get update\nFROM scratch\nCOPY --from=a /b /b\n";
    assert_eq!(fired(copied, None), Vec::<&str>::new(), "nobody gets the lists");
}

#[test]
fn cache_mount_advice_names_the_target() {
    let table = [
        ("RUN mix deps.get", "--mount=type=cache,target=/root/.hex"),
        ("ENV HEX_HOME=/hex\nRUN mix deps.get", "--mount=type=cache,target=/hex"),
        ("USER app\nRUN npm ci", "--mount=type=cache,target=/home/app/.npm"),
        ("ENV CARGO_HOME=/usr/local/cargo\nRUN cargo build", "--mount=type=cache,target=/usr/local/cargo/registry"),
        (
            "ENV GOPATH=/go\nRUN go build ./...",
            "--mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build",
        ),
        ("RUN pip3 install a", "--mount=type=cache,target=/root/.cache/pip"),
        ("RUN rebar3 compile", "--mount=type=cache,target=/root/.cache/rebar3"),
        ("RUN pnpm i", "--mount=type=cache,target=/root/.local/share/pnpm/store"),
        ("RUN yarn", "--mount=type=cache,target=/usr/local/share/.cache/yarn"),
        ("RUN uv sync", "--mount=type=cache,target=/root/.cache/uv"),
        (
            "RUN apt-get install -y a",
            "--mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked",
        ),
    ];
    for (steps, mount) in table {
        let found = thorough(&format!("FROM x:1\n{steps}\n"), None);
        assert_eq!(found[0].helps, [format!("keep it in a cache mount: `RUN {mount} …`")], "{steps}");
    }
}

/// Generates `docs/checks.md` from the rules.
fn page() -> String {
    let mut out = String::from(
        "# Checks\n\n<!-- Made of crates/dram-dockerfile/src/rules: change it there, then run the test `the_page_says_what_the_rules_say`\n     with WRITE_PAGES=1. -->\n\n",
    );
    out.push_str(include_str!("checks_head.md"));
    for (owner, title) in [(RuleOrigin::BuildKit, "BuildKit's rules"), (RuleOrigin::Dram, "Rules of dram")] {
        writeln!(out, "\n| {title} | |\n|---|---|").unwrap();
        for rule in rules::ALL.iter().filter(|rule| rule.origin == owner) {
            let when = match rule.activation {
                RuleActivation::Always => "",
                RuleActivation::CheckOnly => " (with `--check`)",
                RuleActivation::Experimental => " (experimental)",
            };
            let link = rule.docs_link();
            let place = link.split('#').next_back().unwrap();
            writeln!(out, "| [{}](#{place}) | {}{when} |", rule.name, rule.about).unwrap();
        }
    }
    for rule in rules::ALL {
        let LintRule { name, about, why, bad, good, ignore, .. } = rule;
        let mut sentence = about.to_string();
        if let Some(first) = sentence.get(..1).map(str::to_uppercase) {
            sentence.replace_range(..1, &first);
        }
        writeln!(out, "\n## {name}\n\n{sentence}.\n\n{why}").unwrap();
        if let Some(ignore) = ignore {
            writeln!(out, "\nWith this `.dockerignore`:\n\n```\n{ignore}```").unwrap();
        }
        writeln!(out, "\nBad:\n\n```dockerfile\n{bad}```\n\nGood:\n\n```dockerfile\n{good}```").unwrap();
    }
    out
}

#[test]
fn the_page_says_what_the_rules_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/checks.md");
    if std::env::var_os("WRITE_PAGES").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "run this test with WRITE_PAGES=1, and look at what changed in docs/checks.md");
}

#[test]
fn real_ways_to_write_a_file_are_no_false_alarms() {
    let apt = "RUN apt-get update\n";
    let table: &[(&str, &[&str])] = &[
        // Stages that are reached for some value of a variable.
        ("FROM x:1 AS build-linux\nFROM x:1 AS build-windows\nFROM build-${TARGETOS}\n", &[]),
        (
            "FROM x:1 AS b-amd64\nFROM x:1 AS b-armv7\nFROM x:1 AS B\nFROM b-${TARGETARCH}${TARGETVARIANT}\n",
            &["StageNameCasing", "UnusedStage"],
        ),
        ("ARG KIND=one\nFROM x:1 AS one\nFROM x:1 AS two\nFROM $KIND\n", &[]),
        (
            "ARG KIND=one\nFROM x:1 AS run-one\nFROM x:1 AS run-two\nFROM run-${KIND:-one} AS run\nFROM scratch\nCOPY --from=run /a /\n",
            &[],
        ),
        ("ARG BASE=x:1\nFROM x:1 AS one\nFROM ${BASE}\n", &["UnusedStage"]),
        ("FROM x:1 AS one\nFROM x:1 AS two\nFROM x:1\nRUN --mount=from=two,target=/t true\nCOPY --from=0 /a /\n", &[]),
        ("FROM x:1 AS one\nFROM x:1\n", &["UnusedStage"]),
        // Tests of a shell.
        ("FROM x:1\nRUN [ \"$(x)\" != \"0\" ]\n", &[]),
        ("FROM x:1\nRUN [[ \"$(x)\" == \"a, b\" ]]\n", &[]),
        ("FROM x:1\nRUN [ -f x ] && echo \"a\", \"b\"\n", &[]),
        ("FROM x:1\nRUN [ \"make\" \"install\" ]\n", &["AlmostJSON"]),
        ("FROM x:1\nRUN [ 'make', 'install' ]\n", &["AlmostJSON"]),
        // Values that are no secrets, and names that only contain a word.
        ("FROM x:1\nENV KMS_ALIAS=alias/key TOKENIZERS=a MONKEY=b KEYBOARD_LAYOUT=c AUTHOR=d TOKEN_FILE=/run/x\n", &[]),
        ("FROM x:1\nENV A=https://key.example/token B=sk_test C=AKIA D=alias/aws/ssm E=pypi-server\n", &[]),
        // Lists of apt in stages that no image is made of.
        (&format!("FROM x:1 AS a\n{apt}FROM a AS b\nRUN make\nFROM scratch\nCOPY --from=b /a /\n"), &[]),
        (
            &format!("FROM x:1 AS a\n{apt}FROM a AS b\nFROM b AS c\nFROM scratch\nRUN --mount=from=c,target=/c true\n"),
            &[],
        ),
        (
            &format!(
                "FROM x:1 AS a-linux\nFROM x:1 AS a-windows\n{apt}FROM a-$TARGETOS AS b\nFROM scratch\nCOPY --from=b /a /\n"
            ),
            &[],
        ),
        (&format!("FROM x:1 AS a\n{apt}FROM a AS b\nCOPY --from=a /x /y\n"), &["AptListsLeft"]),
        (&format!("FROM x:1 AS a\n{apt}FROM a\nRUN rm -rf /var/lib/apt/lists/*\n"), &["AptListsLeft"]),
        ("FROM x:1\nRUN apt-get update && rm -rf /var/{cache,lib}/apt/*\n", &[]),
        ("FROM x:1\nRUN apt-get update && cd /var/lib/apt/lists && rm -rf *\n", &[]),
        ("FROM x:1\nRUN --mount=type=cache,target=/var/lib/apt/lists/ apt-get update\n", &[]),
        ("FROM x:1\nRUN --mount=type=cache,target=/var/lib/apt apt-get update\n", &[]),
    ];
    for (text, expected) in table {
        assert_eq!(fired(text, None), *expected, "{text}{:#?}", thorough(text, None));
    }
}
