//! Advice about `RUN` steps.

use dram_plan::{Plan, StepOp};

use super::stage_uses::StageUse;
use super::{apt, cache_mounts, shell_commands};
use crate::diagnostic::DiagnosticCollector;

/// Checks every `RUN` step of the plan.
pub(super) fn check(plan: &Plan, uses: &[StageUse], report: &mut DiagnosticCollector) {
    let shown = image_stages(plan, uses);
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

/// Returns true for each stage whose layers are part of an image: the target, stages that no other one uses, and their
/// bases. From the others only single files are copied, so that leftover files do no harm.
fn image_stages(plan: &Plan, uses: &[StageUse]) -> Vec<bool> {
    let mut shown: Vec<bool> = vec![true; plan.stages.len()];
    uses.iter().for_each(|one| shown[one.used] = false);
    shown[plan.target] = true;
    // Bases come before the stages that are made of them, and uses are in the order of the users.
    for one in uses.iter().rev().filter(|one| one.is_base) {
        shown[one.used] |= shown[one.user];
    }
    shown
}
