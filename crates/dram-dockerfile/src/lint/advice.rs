//! What could be better about the steps that run commands.

use super::{apt, caches, shell};
use crate::diagnostic::Report;
use crate::plan::{Base, Op, Plan};

/// Looks at every command of the plan.
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

/// Which stages become images: the last, those that nothing uses, and those they start from. Of the others only single
/// files are copied, so what they leave behind does no harm.
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
