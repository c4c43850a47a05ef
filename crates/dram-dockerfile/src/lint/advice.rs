//! Advice about `RUN` steps.

use dram_plan::{InputRef, Plan, StageBase, StepOp};

use super::{apt, cache_mounts, shell_commands};
use crate::diagnostic::DiagnosticCollector;

/// Checks every `RUN` step of the plan.
pub(super) fn check(plan: &Plan, report: &mut DiagnosticCollector) {
    let shown = image_stages(plan);
    for (stage, shown) in plan.stages.iter().zip(shown) {
        for step in &stage.steps {
            let StepOp::Run(run) = &step.op else { continue };
            if report.is_full_of_warnings() {
                return;
            }
            let commands = shell_commands::commands(run);
            apt::check(&commands, run, step, shown, report);
            cache_mounts::check(&commands, run, step, report);
        }
    }
}

/// Returns true for each stage whose layers are part of an image: the target, stages that no other one copies from, and
/// their bases. From the others only single files are copied, so that leftover files do no harm.
fn image_stages(plan: &Plan) -> Vec<bool> {
    let mut shown: Vec<bool> = vec![true; plan.stages.len()];
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        for from in step.op.input_refs() {
            if let InputRef::Stage(at) = from {
                shown[*at] = false;
            }
        }
    }
    shown[plan.target] = true;
    for at in (0..plan.stages.len()).rev() {
        if let StageBase::Stage(base) = plan.stages[at].base {
            shown[base] |= shown[at];
        }
    }
    shown
}
