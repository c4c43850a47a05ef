//! The origin of a step: a line of a Dockerfile, or the code that generated it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The origin of a step. It is used for messages only: equal steps of different origins have the same cache key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StepOrigin {
    /// An instruction of a Dockerfile.
    Dockerfile(DockerfileOrigin),
    /// The step was generated; there is no text to point to.
    Generated {
        /// A short description of the generator, such as `a plan file`.
        by: String,
    },
}

/// The position of an instruction in its Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerfileOrigin {
    /// The first line, counted from 1.
    pub line: usize,
    /// The byte range of the instruction in the file.
    pub span: Range<usize>,
    /// The byte ranges of parts of the instruction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(StepPart, Range<usize>)>,
}

/// A part of a step that messages can point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepPart {
    /// The source of a copy with this index.
    Source(usize),
    /// The destination of a copy.
    Dest,
    /// The flag `--chown`.
    Chown,
    /// The mount of a command with this index.
    Mount(usize),
}

impl StepOrigin {
    /// Returns the line in the Dockerfile, counted from 1; `None` for a generated step.
    pub fn line(&self) -> Option<usize> {
        match self {
            StepOrigin::Dockerfile(place) => Some(place.line),
            StepOrigin::Generated { .. } => None,
        }
    }

    /// Returns the byte range of the instruction; an empty range for a generated step.
    pub fn span(&self) -> Range<usize> {
        match self {
            StepOrigin::Dockerfile(place) => place.span.clone(),
            StepOrigin::Generated { .. } => 0..0,
        }
    }

    /// Returns the byte range of a part of the instruction, or that of the instruction when the part has none.
    pub fn part_span(&self, part: StepPart) -> Range<usize> {
        let StepOrigin::Dockerfile(place) = self else { return self.span() };
        let found = place.parts.iter().find(|(known, _)| *known == part);
        found.map_or_else(|| self.span(), |(_, span)| span.clone())
    }
}
