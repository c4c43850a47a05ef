//! The place in a plan that a message is about.

use dram_dockerfile::Diagnostic;
use dram_plan::{PlanStep, StepOrigin, StepPart};

/// A step, or a part of it, as the place of an error or a warning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLocation<'a> {
    step: &'a PlanStep,
    part: Option<StepPart>,
}

impl<'a> StepLocation<'a> {
    /// Returns the location of a whole step.
    pub(crate) fn of(step: &'a PlanStep) -> StepLocation<'a> {
        StepLocation { step, part: None }
    }

    /// Returns the location of a part of a step.
    pub(crate) fn of_part(step: &'a PlanStep, part: StepPart) -> StepLocation<'a> {
        StepLocation { step, part: Some(part) }
    }

    /// Makes an error at this location.
    pub(crate) fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.locate(Diagnostic::error(0..0, message))
    }

    /// Makes a warning at this location.
    pub(crate) fn warning(&self, message: impl Into<String>) -> Diagnostic {
        self.locate(Diagnostic::warning(None, 0..0, message))
    }

    /// Moves a diagnostic to this location. A generated step has no line to show, so a note names the step.
    pub(crate) fn locate(&self, diagnostic: Diagnostic) -> Diagnostic {
        let origin = &self.step.origin;
        let span = self.part.map_or_else(|| origin.span(), |part| origin.part_span(part));
        let diagnostic = Diagnostic { span, ..diagnostic };
        match origin {
            StepOrigin::Dockerfile(_) => diagnostic,
            StepOrigin::Generated { by } => {
                diagnostic.note(format!("in the step `{}`, made by {by}", self.step.text.escape_debug()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dram_plan::{DockerfileOrigin, StepOp};

    use super::*;

    fn step(origin: StepOrigin) -> PlanStep {
        PlanStep { text: "COPY a /".to_owned(), origin, op: StepOp::ConfigOnly }
    }

    #[test]
    fn error_of_a_generated_step_names_the_step() {
        let step = step(StepOrigin::Generated { by: "a test".to_owned() });
        let error = StepLocation::of_part(&step, StepPart::Source(0)).error("no such file");
        assert!(error.span.is_empty());
        assert_eq!(error.notes, ["in the step `COPY a /`, made by a test"]);
    }

    #[test]
    fn error_of_a_part_without_a_span_is_at_the_instruction() {
        let parts = vec![(StepPart::Source(1), 7..8)];
        let step = step(StepOrigin::Dockerfile(DockerfileOrigin { line: 2, span: 5..13, parts }));
        let span = |part| StepLocation::of_part(&step, part).warning("").span;
        assert_eq!((span(StepPart::Source(1)), span(StepPart::Dest)), (7..8, 5..13));
        assert!(StepLocation::of(&step).error("").notes.is_empty());
    }
}
