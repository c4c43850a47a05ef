//! Rules about `apt-get`: package lists left in a layer, and prompts without an answer.

use dram_plan::{PlanStep, RunMount, RunOp};

use crate::diagnostic::{Diagnostic, DiagnosticCollector};
use crate::rules;

/// The directory of the lists that `apt-get update` fetches.
const APT_LISTS: &str = "/var/lib/apt/lists";

/// Checks the commands of one step. Leftover lists matter only when the stage is part of an image (`shown`).
pub(super) fn check(
    commands: &[Vec<String>],
    run: &RunOp,
    step: &PlanStep,
    shown: bool,
    report: &mut DiagnosticCollector,
) {
    let warn = |rule, message: &str| Diagnostic::warning(Some(rule), step.origin.span(), message);
    if shown
        && commands.iter().any(|words| runs_apt(words, &["update"]))
        && !removes_lists(commands)
        && !mounts_lists(run)
    {
        report.push(
            warn(&rules::APT_LISTS_LEFT, "the lists of `apt-get update` stay in this layer")
                .help("end the same `RUN` with `&& rm -rf /var/lib/apt/lists/*`")
                .help(format!("or keep them: `--mount=type=cache,target={APT_LISTS},sharing=locked`")),
        );
    }
    let piped = commands.iter().any(|words| words[0] == "yes");
    let set = commands.iter().flatten().any(|word| word.contains("Assume-Yes"));
    let asks = commands.iter().find(|words| {
        runs_apt(words, &["install", "upgrade", "dist-upgrade", "full-upgrade"])
            && !words.iter().any(|word| says_yes(word))
    });
    if let Some(words) = asks.filter(|_| !piped && !set) {
        let message = format!("`{}` asks a question, and nobody answers", words[0]);
        report.push(
            warn(&rules::APT_GET_WITHOUT_YES, &message)
                .help("add `-y`; with `--no-install-recommends` it brings less along"),
        );
    }
}

/// Returns true when the command is `apt-get`, `apt` or `aptitude` with one of these verbs, behind any options.
pub(super) fn runs_apt(words: &[String], verbs: &[&str]) -> bool {
    ["apt-get", "apt", "aptitude"].contains(&words[0].as_str())
        && words[1..].iter().any(|word| verbs.contains(&word.as_str()))
}

fn says_yes(word: &str) -> bool {
    let long =
        ["--yes", "--assume-yes", "--force-yes", "--simulate", "--dry-run", "--just-print", "--print-uris", "--help"];
    // `-qq` implies `-y`; `-s` only simulates.
    let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    long.contains(&word) || short.is_some_and(|rest| rest.contains(['y', 's']) || rest.matches('q').count() > 1)
}

fn removes_lists(commands: &[Vec<String>]) -> bool {
    commands.iter().any(|words| {
        let named = |word: &String| expand_braces(word).iter().any(|word| covers_lists(word));
        ["rm", "find"].contains(&words[0].as_str()) && words[1..].iter().any(named)
            || words[0] == "cd" && words[1..].iter().any(named) && commands.iter().any(|words| words[0] == "rm")
            || runs_apt(words, &["dist-clean", "distclean"])
    })
}

/// Expands the first braces of a word, as bash does: `/var/{cache,lib}/apt`.
fn expand_braces(word: &str) -> Vec<String> {
    let inner = word.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match inner {
        Some((before, (inside, after))) => inside.split(',').map(|part| format!("{before}{part}{after}")).collect(),
        None => vec![word.to_owned()],
    }
}

/// Returns true when the lists are inside a mount.
fn mounts_lists(run: &RunOp) -> bool {
    run.mounts.iter().any(|mount| {
        let target = match mount {
            RunMount::Cache(cache) => &cache.target,
            RunMount::Tmpfs { target, .. } | RunMount::Bind { target, .. } => target,
            RunMount::Secret { .. } | RunMount::Ssh { .. } => return false,
        };
        APT_LISTS
            .strip_prefix(target.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Returns true when `rm -rf word` removes the lists: `word` is their directory, a path in it, or a parent directory.
fn covers_lists(word: &str) -> bool {
    let path = word.trim_end_matches(['*', '/']);
    path.starts_with(APT_LISTS)
        || !path.is_empty() && APT_LISTS.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}
