//! Sources of copies that `.dockerignore` excludes.

use crate::diagnostic::{Diagnostic, Report, quote};
use crate::ignore::Ignore;
use crate::plan::{From, Op, Plan, SourceKind, Unpack};
use crate::rules;

/// The maximum of patterns times sources; checking stops beyond it, since only a hostile file has more.
const MOST_WORK: usize = 5_000_000;

/// Checks all paths that are copied from the build context.
pub(super) fn check(plan: &Plan, ignore: Option<(&str, &Ignore)>, report: &mut Report) {
    let Some((list, ignore)) = ignore.filter(|(_, ignore)| !ignore.is_empty()) else { return };
    let exceptions = ignore.patterns().iter().any(|pattern| pattern.exception);
    let mut work = 0_usize;
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let Op::Copy(copy) = &step.op else { continue };
        if copy.from != From::Context {
            continue;
        }
        let keyword = if copy.unpack == Unpack::No { "COPY" } else { "ADD" };
        for source in copy.sources.iter().filter(|source| source.kind == SourceKind::Path) {
            work += ignore.patterns().len();
            if work > MOST_WORK || report.is_full_of_warnings() {
                return;
            }
            let path = source.text.trim_start_matches('/').trim_end_matches('/');
            let Some((pattern, line)) = hidden(ignore, path, exceptions) else { continue };
            let message = format!("{} leaves {} out, so there is nothing to copy", quote(list), quote(&source.text));
            report.push(
                Diagnostic::warning(Some(&rules::COPY_IGNORED_FILE), source.span.clone(), message)
                    .note(format!("the pattern {} on line {line} does", quote(pattern)))
                    .help(format!("remove the pattern or the {keyword}, or bring the file back: `!{path}` below it")),
            );
        }
    }
}

/// Returns the pattern that excludes `path`, and its line.
fn hidden<'i>(ignore: &'i Ignore, path: &str, exceptions: bool) -> Option<(&'i str, usize)> {
    let root = path.split('/').all(|part| part.is_empty() || part == ".");
    let pattern = match (root, exceptions) {
        // The root itself is never excluded, but all files in it can be.
        (true, false) => ignore.patterns().iter().find(|pattern| is_everything(&pattern.text))?,
        (true, true) => return None,
        (false, false) => ignore.excluded_by(path)?,
        (false, true) => ignore.excluded_by(path).filter(|_| ignore.may_prune(path))?,
    };
    Some((&pattern.text, pattern.line))
}

fn is_everything(pattern: &str) -> bool {
    ["*", "**", "**/*"].contains(&pattern.trim_start_matches('/').trim_end_matches('/'))
}
