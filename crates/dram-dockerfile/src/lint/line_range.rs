//! The lines of a diagnostic as BuildKit reports them: those of a whole instruction.

use crate::ast::{Dockerfile, DockerfileInstruction};
use crate::diagnostic::Diagnostic;
use crate::rules;

/// A range of lines, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRange {
    /// The first line.
    pub first: usize,
    /// The last line.
    pub last: usize,
}

/// Returns the lines that BuildKit reports for `one`: those of its instruction, heredocs included; the last line of the
/// instruction for a warning about empty lines. `None` when it is not about an instruction.
pub fn lines_of(dockerfile: &Dockerfile, one: &Diagnostic) -> Option<LineRange> {
    if one.span.is_empty() && one.span.start == 0 {
        return None;
    }
    let around = instruction_at(dockerfile, one.span.start)?;
    if one.rule == Some(rules::NO_EMPTY_CONTINUATION.name) {
        return Some(LineRange { first: around.end_line, last: around.end_line });
    }
    Some(LineRange { first: around.line, last: around.last_line })
}

/// Returns the lines of the instruction at the byte offset `place`, heredocs included.
pub fn lines_at(dockerfile: &Dockerfile, place: usize) -> Option<LineRange> {
    instruction_at(dockerfile, place).map(|around| LineRange { first: around.line, last: around.last_line })
}

fn instruction_at(dockerfile: &Dockerfile, place: usize) -> Option<&DockerfileInstruction> {
    let instructions = &dockerfile.instructions;
    let before = instructions.partition_point(|instruction| instruction.span.start <= place);
    instructions.get(before.checked_sub(1)?)
}
