//! Messages about commands that run with restricted privileges.

use dram_dockerfile::{Diagnostic, Op, Plan, Run, Step};

use crate::ambient::Ambient;
use crate::failure::Failure;
use crate::report;

/// Help for a user with a single id.
const MORE_IDS: &str = "have root run `apt-get install uidmap` and `usermod --add-subuids 100000-165535 --add-subgids \
                        100000-165535 USER`";

/// Fails for a plan with RUN if this machine cannot run commands, before any step is executed. `name` and `text` are
/// the Dockerfile's.
pub(crate) fn refuse_commands(ambient: &Ambient, plan: &Plan, name: &str, text: &str) -> Result<(), Failure> {
    let Some((step, _)) = commands(plan).next() else { return Ok(()) };
    let Some(lack) = ambient.lack() else { return Ok(()) };
    let why: Vec<String> = lack.rows.iter().map(|row| format!("{}: {}", row.name, row.found)).collect();
    let what = format!("commands cannot be run here: {}", why.join("; "));
    let mut diagnostic = Diagnostic::error(step.span.clone(), what);
    diagnostic.helps = lack.rows.iter().filter_map(|row| row.help.clone()).collect();
    diagnostic.helps.push("`dram doctor` shows what can be done here; everything but RUN can".to_owned());
    let mut failure = Failure::text(name.to_owned(), text.to_owned(), vec![diagnostic]);
    failure.becomes_lack();
    Err(failure)
}

/// Prints a note about owners and users in a build with a single id.
pub(crate) fn note_one_id(ambient: &Ambient, plan: &Plan) {
    let Some(why) = ambient.one_id() else { return };
    if commands(plan).next().is_none() {
        return;
    }
    report::note(&format!(
        "note: this user has one id only ({why}): commands saw all files as root's; whose they made them is noted for the \
         image, but for links, devices and what they only copied"
    ));
    report::note(&format!("  help: {MORE_IDS}"));
    let users: Vec<&str> = commands(plan).map(|(_, run)| run.user.as_str()).filter(|user| !is_root(user)).collect();
    if let Some(user) = users.first() {
        report::note(&format!("note: commands for `USER {user}` ran as root of that one id"));
    }
}

/// Prints the same note for one command that should run as `user`.
pub(crate) fn note_user(ambient: &Ambient, user: &str) {
    if ambient.one_id().is_some() && !is_root(user) {
        report::note(&format!("note: the command runs as root instead of `{user}`: this user has one id only"));
        report::note(&format!("  help: {MORE_IDS}"));
    }
}

fn commands(plan: &Plan) -> impl Iterator<Item = (&Step, &Run)> {
    plan.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match &step.op {
        Op::Run(run) => Some((step, run)),
        Op::Copy(_) | Op::Workdir(_) | Op::Meta => None,
    })
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}
