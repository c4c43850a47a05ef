//! Sources of copies that `.dockerignore` excludes.

use dram_plan::{CopySourceKind, InputRef, Plan, StepOp, StepPart, UnpackPolicy};

use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::ignore::IgnoreList;
use crate::rules;

/// The maximum of patterns times sources; checking stops beyond it, since only a hostile file has more.
const MAX_CHECK_WORK: usize = 5_000_000;

/// Checks all paths that are copied from the build context.
pub(super) fn check(plan: &Plan, ignore: Option<(&str, &IgnoreList)>, report: &mut DiagnosticCollector) {
    let Some((list, ignore)) = ignore.filter(|(_, ignore)| !ignore.is_empty()) else { return };
    let exceptions = ignore.patterns().iter().any(|pattern| pattern.exception);
    let mut work = 0_usize;
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let StepOp::Copy(copy) = &step.op else { continue };
        if copy.from != InputRef::Context {
            continue;
        }
        let keyword = if copy.unpack == UnpackPolicy::No { "COPY" } else { "ADD" };
        for (at, source) in copy.sources.iter().enumerate().filter(|(_, source)| source.kind == CopySourceKind::Path) {
            work += ignore.patterns().len();
            if work > MAX_CHECK_WORK || report.is_full_of_warnings() {
                return;
            }
            let path = source.text.trim_start_matches('/').trim_end_matches('/');
            let Some((pattern, line)) = excluding_pattern(ignore, path, exceptions) else { continue };
            let message = format!("{} leaves {} out, so there is nothing to copy", quote(list), quote(&source.text));
            let span = step.origin.part_span(StepPart::Source(at));
            report.push(
                Diagnostic::warning(Some(&rules::COPY_IGNORED_FILE), span, message)
                    .note(format!("the pattern {} on line {line} does", quote(pattern)))
                    .help(format!("remove the pattern or the {keyword}, or bring the file back: `!{path}` below it")),
            );
        }
    }
}

/// Returns the pattern that excludes `path`, and its line.
fn excluding_pattern<'i>(ignore: &'i IgnoreList, path: &str, exceptions: bool) -> Option<(&'i str, usize)> {
    let root = path.split('/').all(|part| part.is_empty() || part == ".");
    let pattern = match (root, exceptions) {
        // The root itself is never excluded, but all files in it can be.
        (true, false) => ignore.patterns().iter().find(|pattern| matches_everything(&pattern.text))?,
        (true, true) => return None,
        (false, false) => ignore.excluded_by(path)?,
        (false, true) => ignore.excluded_by(path).filter(|_| ignore.may_prune(path))?,
    };
    Some((&pattern.text, pattern.line))
}

fn matches_everything(pattern: &str) -> bool {
    ["*", "**", "**/*"].contains(&pattern.trim_start_matches('/').trim_end_matches('/'))
}
