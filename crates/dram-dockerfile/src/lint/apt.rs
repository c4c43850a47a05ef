//! `apt-get`: lists that stay, and questions that nobody answers.

use crate::diagnostic::{Diagnostic, Report};
use crate::plan::{MountKind, Run, Step};
use crate::rules;

/// Where the lists of `apt-get update` are.
const LISTS: &str = "/var/lib/apt/lists";

/// Looks at one step's commands. What the step leaves matters where the stage is `shown`.
pub(super) fn check(commands: &[Vec<String>], run: &Run, step: &Step, shown: bool, report: &mut Report) {
    let warn = |rule, message: &str| Diagnostic::warning(Some(rule), step.span.clone(), message);
    if shown && commands.iter().any(|words| does(words, &["update"])) && !removes(commands) && !mounts(run) {
        report.push(
            warn(&rules::APT_LISTS_LEFT, "the lists of `apt-get update` stay in this layer")
                .help("end the same `RUN` with `&& rm -rf /var/lib/apt/lists/*`")
                .help(format!("or keep them: `--mount=type=cache,target={LISTS},sharing=locked`")),
        );
    }
    let piped = commands.iter().any(|words| words[0] == "yes");
    let set = commands.iter().flatten().any(|word| word.contains("Assume-Yes"));
    let asks = commands.iter().find(|words| {
        does(words, &["install", "upgrade", "dist-upgrade", "full-upgrade"]) && !words.iter().any(|word| says_yes(word))
    });
    if let Some(words) = asks.filter(|_| !piped && !set) {
        let message = format!("`{}` asks a question, and nobody answers", words[0]);
        report.push(
            warn(&rules::APT_GET_WITHOUT_YES, &message)
                .help("add `-y`; with `--no-install-recommends` it brings less along"),
        );
    }
}

/// Whether the words are `apt-get` or `apt` with one of these verbs, behind any options.
pub(super) fn does(words: &[String], verbs: &[&str]) -> bool {
    ["apt-get", "apt", "aptitude"].contains(&words[0].as_str())
        && words[1..].iter().any(|word| verbs.contains(&word.as_str()))
}

fn says_yes(word: &str) -> bool {
    let long =
        ["--yes", "--assume-yes", "--force-yes", "--simulate", "--dry-run", "--just-print", "--print-uris", "--help"];
    // Two `q` mean yes too; `-s` changes nothing.
    let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    long.contains(&word) || short.is_some_and(|rest| rest.contains(['y', 's']) || rest.matches('q').count() > 1)
}

fn removes(commands: &[Vec<String>]) -> bool {
    commands.iter().any(|words| {
        let named = |word: &String| covers(word);
        ["rm", "find"].contains(&words[0].as_str()) && words[1..].iter().any(named)
            || does(words, &["dist-clean", "distclean"])
    })
}

/// Whether the lists are in something that is mounted.
fn mounts(run: &Run) -> bool {
    run.mounts.iter().any(|mount| {
        let target = match &mount.kind {
            MountKind::Cache(cache) => &cache.target,
            MountKind::Tmpfs { target, .. } | MountKind::Bind { target, .. } => target,
            MountKind::Secret { .. } | MountKind::Ssh { .. } => return false,
        };
        LISTS.strip_prefix(target.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether `rm -rf word` removes the lists: it is their directory, something in it, or a directory above.
fn covers(word: &str) -> bool {
    let path = word.trim_end_matches(['*', '/']);
    path.starts_with(LISTS) || !path.is_empty() && LISTS.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}
