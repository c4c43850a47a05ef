//! Where BuildKit says that a warning is: the lines of a whole instruction.

use crate::ast::{Dockerfile, Instruction};
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
    if one.span.is_empty() && one.span.start == 0 {
        return None;
    }
    let around = around(dockerfile, one.span.start)?;
    if one.rule == Some(rules::NO_EMPTY_CONTINUATION.name) {
        return Some(Lines { first: around.end_line, last: around.end_line });
    }
    Some(Lines { first: around.line, last: around.last_line })
}

/// The lines of the instruction at `place`, a byte of the text, heredocs included.
pub fn lines_at(dockerfile: &Dockerfile, place: usize) -> Option<Lines> {
    around(dockerfile, place).map(|around| Lines { first: around.line, last: around.last_line })
}

fn around(dockerfile: &Dockerfile, place: usize) -> Option<&Instruction> {
    let instructions = &dockerfile.instructions;
    let before = instructions.partition_point(|instruction| instruction.span.start <= place);
    instructions.get(before.checked_sub(1)?)
}
