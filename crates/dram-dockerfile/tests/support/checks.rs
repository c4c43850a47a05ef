//! Invariants that hold for every input; used by the fuzz targets and by the replay of their seeds.

// Each user needs only a part of this file.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use dram_dockerfile::expand::{ExpandOptions, MAX_VALUE_SIZE, expand};
use dram_dockerfile::ignore::IgnoreList;
use dram_dockerfile::lint::{LintInput, check, lines_of};
use dram_dockerfile::outline::outline;
use dram_dockerfile::{BuildSettings, OnbuildTriggers, Severity, StageGraph, parse};
use dram_image::ImageConfig;
use dram_plan::{ChmodMode, Plan};

/// Any text is parsed, resolved and planned without a panic, and all diagnostics have spans inside the text.
pub fn dockerfile(text: &[u8]) {
    let parsed = parse(text);
    for one in &parsed.diagnostics {
        assert!(one.span.start <= one.span.end && one.span.end <= text.len() + 1, "{one:?}");
    }
    let settings = BuildSettings { os: "linux".into(), architecture: "amd64".into(), ..BuildSettings::default() };
    let (graph, more) = StageGraph::new(&parsed.dockerfile, &settings, &OnbuildTriggers::new());
    let Some(graph) = graph else {
        let all = parsed.diagnostics.iter().chain(&more);
        assert!(all.clone().any(|one| one.severity == Severity::Error), "no graph, and nobody says why");
        return;
    };
    let mut config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    // Every base has the text itself as its trigger.
    config.config.on_build = vec![String::from_utf8_lossy(text).into_owned()];
    let found: std::collections::BTreeMap<_, _> =
        graph.external_inputs().into_iter().map(|need| (need.key, config.clone())).collect();
    let (plan, more) = graph.plan(&found);
    assert!(plan.is_some() || more.iter().any(|one| one.severity == Severity::Error), "no plan, and nobody says why");
    for thorough in [false, true] {
        let ignore = IgnoreList::parse(text).ok();
        let subject = LintInput {
            dockerfile: &parsed.dockerfile,
            settings: &settings,
            graph: Some(&graph),
            plan: plan.as_ref(),
            base_configs: &found,
            ignore: ignore.as_ref().map(|ignore| (".dockerignore", ignore)),
            thorough,
        };
        for one in check(&subject, parsed.diagnostics.clone()) {
            assert!(one.span.start <= one.span.end && one.span.end <= text.len() + 1, "{one:?}");
            let _ = lines_of(&parsed.dockerfile, &one);
        }
    }
    if let Some(plan) = &plan {
        let json = plan.to_json().unwrap_or_else(|error| panic!("{error}: {plan:?}"));
        assert_eq!(&Plan::from_json(&json).unwrap(), plan);
        let _ = outline(&parsed.dockerfile, &graph, plan, &found);
    }
    let triggers: OnbuildTriggers = found.into_iter().map(|(key, config)| (key, config.config.on_build)).collect();
    let _ = StageGraph::new(&parsed.dockerfile, &settings, &triggers);
}

/// Any word expands to a bounded value, or is refused. The first line of the input is the value of `x`; `y` is empty
/// and `z` is not set.
pub fn expansion(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (value, word) = text.split_once('\n').unwrap_or(("value", &text));
    let lookup = |name: &str| match name {
        "x" => Some(value),
        "y" => Some(""),
        _ => None,
    };
    for escape in ['\\', '`'] {
        let plain = ExpandOptions::new(escape);
        for options in [
            plain,
            ExpandOptions { split: true, ..plain },
            ExpandOptions { plain_quotes: true, ..plain },
            ExpandOptions { raw_quotes: true, raw_escapes: true, keep_unset: true, split: true, ..plain },
        ] {
            if let Ok(expanded) = expand(word, options, &lookup) {
                assert!(expanded.text.len() <= MAX_VALUE_SIZE);
                assert!(expanded.matched.is_disjoint(&expanded.unmatched));
            }
        }
    }
    if let Some(mode) = ChmodMode::parse(word) {
        assert!(mode.apply(0o7777, true) <= 0o7777 && mode.apply(0, false) <= 0o7777);
    }
}

/// Any ignore list is parsed and matched with the path on the first line of the input; pruned paths are excluded too.
pub fn ignore(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (path, list) = input.split_at(end);
    let (Ok(path), Ok(list)) = (std::str::from_utf8(path), IgnoreList::parse(list)) else { return };
    let excluded = list.excludes(path);
    if list.may_prune(path) {
        assert!(excluded || list.is_empty() || path.is_empty());
    }
}
