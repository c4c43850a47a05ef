//! The lines of a diagnostic as BuildKit reports them: those of a whole instruction.

use crate::ast::{Dockerfile, Instruction};
use crate::diagnostic::Diagnostic;
use crate::rules;

/// A range of lines, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// The first line.
    pub first: usize,
    /// The last line.
    pub last: usize,
}

/// Returns the lines that BuildKit reports for `one`: those of its instruction, heredocs included; the last line of the
/// instruction for a warning about empty lines. `None` when it is not about an instruction.
pub fn lines_of(dockerfile: &Dockerfile, one: &Diagnostic) -> Option<Lines> {
    if one.span.is_empty() && one.span.start == 0 {
        return None;
    }
    let around = around(dockerfile, one.span.start)?;
    if one.rule == Some(rules::NO_EMPTY_CONTINUATION.name) {
        return Some(Lines { first: around.end_line, last: around.end_line });
    }
    Some(Lines { first: around.line, last: around.last_line })
}

/// Returns the lines of the instruction at the byte offset `place`, heredocs included.
pub fn lines_at(dockerfile: &Dockerfile, place: usize) -> Option<Lines> {
    around(dockerfile, place).map(|around| Lines { first: around.line, last: around.last_line })
}

fn around(dockerfile: &Dockerfile, place: usize) -> Option<&Instruction> {
    let instructions = &dockerfile.instructions;
    let before = instructions.partition_point(|instruction| instruction.span.start <= place);
    instructions.get(before.checked_sub(1)?)
}
