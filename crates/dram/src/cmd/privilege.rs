//! Messages about commands that run with restricted privileges.

use dram_plan::{Plan, PlanStep, RunOp, StepOp};

use crate::ambient::AmbientContext;
use crate::report;

/// Help for a user with a single id.
fn more_ids_help() -> String {
    let first = dram_sandbox::free_subordinate_ids();
    let range = format!("{first}-{}", first.saturating_add(65_535));
    format!("have root run `apt-get install uidmap` and `usermod --add-subuids {range} --add-subgids {range} USER`")
}

/// Prints a note about owners and users in a build with a single id.
pub(crate) fn note_single_id(ambient: &AmbientContext, plan: &Plan) {
    let Some(why) = ambient.single_id_reason() else { return };
    if run_steps(plan).next().is_none() {
        return;
    }
    report::print_note(&format!(
        "note: this user has only a single id ({why}): commands saw all files as root's; whose they made them is noted for the \
         image, but for links, devices and what they only copied"
    ));
    report::print_note(&format!("  help: {}", more_ids_help()));
    let users: Vec<&str> = run_steps(plan).map(|(_, run)| run.user.as_str()).filter(|user| !is_root(user)).collect();
    if let Some(user) = users.first() {
        report::print_note(&format!("note: commands for `USER {user}` ran as root of that single id"));
    }
}

/// Prints the same note for one command that should run as `user`.
pub(crate) fn note_user(ambient: &AmbientContext, user: &str) {
    if ambient.single_id_reason().is_some() && !is_root(user) {
        report::print_note(&format!(
            "note: the command runs as root instead of `{user}`: this user has only a single id"
        ));
        report::print_note(&format!("  help: {}", more_ids_help()));
    }
}

fn run_steps(plan: &Plan) -> impl Iterator<Item = (&PlanStep, &RunOp)> {
    plan.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match &step.op {
        StepOp::Run(run) => Some((step, run)),
        StepOp::Copy(_) | StepOp::Workdir(_) | StepOp::ConfigOnly => None,
    })
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}
