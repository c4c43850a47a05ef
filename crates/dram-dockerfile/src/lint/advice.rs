//! Advice about `RUN` steps.

use super::{apt, caches, shell};
use crate::diagnostic::Report;
use crate::plan::{Base, Op, Plan};

/// Checks every `RUN` step of the plan.
pub(super) fn check(plan: &Plan, report: &mut Report) {
    let shown = shown(plan);
    for (stage, shown) in plan.stages.iter().zip(shown) {
        for step in &stage.steps {
            let Op::Run(run) = &step.op else { continue };
            if report.is_full_of_warnings() {
                return;
            }
            let commands = shell::commands(run);
            apt::check(&commands, run, step, shown, report);
            caches::check(&commands, run, step, report);
        }
    }
}

/// Returns true for each stage whose layers are part of an image: the target, stages that no other one copies from, and
/// their bases. From the others only single files are copied, so that leftover files do no harm.
fn shown(plan: &Plan) -> Vec<bool> {
    let mut shown: Vec<bool> = vec![true; plan.stages.len()];
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        for from in step.op.sources() {
            if let crate::plan::From::Stage(at) = from {
                shown[*at] = false;
            }
        }
    }
    shown[plan.target] = true;
    for at in (0..plan.stages.len()).rev() {
        if let Base::Stage(base) = plan.stages[at].base {
            shown[base] |= shown[at];
        }
    }
    shown
}
