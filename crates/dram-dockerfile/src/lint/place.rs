//! Where BuildKit says that a warning is: the lines of a whole instruction.

use crate::ast::Dockerfile;
use crate::diagnostic::Diagnostic;
use crate::rules;

/// Lines of a text, from 1, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// The lines BuildKit gives for `one`: those of the instruction it is about, heredocs included; the line an
/// instruction ends on when it has empty lines. `None` when it is about no instruction.
pub fn lines_of(dockerfile: &Dockerfile, one: &Diagnostic) -> Option<Lines> {
    let instructions = &dockerfile.instructions;
    let before = instructions.partition_point(|instruction| instruction.span.start <= one.span.start);
    let around = instructions.get(before.checked_sub(1)?)?;
    if one.span.is_empty() && one.span.start == 0 {
        return None;
    }
    if one.rule == Some(rules::NO_EMPTY_CONTINUATION.name) {
        return Some(Lines { first: around.end_line, last: around.end_line });
    }
    Some(Lines { first: around.line, last: around.last_line })
}
