//! The scheduler of a build. One loop owns the state of all stages; a thread advances a stage until it needs another
//! stage that is not finished, then returns it to the loop.

use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};
use std::thread;

use dram_dockerfile::Diagnostic;
use dram_plan::{Plan, StageBase};

use crate::stage_board::{StageBoard, StageProgress, missing_stage};
use crate::step_runner::{SolveContext, StageSnapshots, execute_step};
use crate::why::BuildRecorder;
use crate::{BuildError, BuildEvent, BuildOptions, ResolvedInput, Snapshot, StepPosition};

/// Executes `plan` and returns the snapshot of the target stage. `outside` maps each image name and named context of
/// the plan to what it was resolved to.
///
/// # Errors
/// Returns the first error of any step; the commands that are running at that moment are killed.
pub fn build(
    plan: &Plan,
    outside: &BTreeMap<String, ResolvedInput>,
    options: &BuildOptions<'_>,
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> Result<Snapshot, BuildError> {
    check_inputs(plan, outside)?;
    crate::run::check_privileges(plan, options)?;
    let ledger = BuildRecorder::new(options, plan);
    let world = SolveContext { options, plan, inputs: outside, journal: &ledger, reported: Mutex::default() };
    let built = execute_stages(&world, tell);
    ledger.close();
    built
}

/// Refuses a plan with an external input that was not resolved, or a base that is not an image.
fn check_inputs(plan: &Plan, inputs: &BTreeMap<String, ResolvedInput>) -> Result<(), BuildError> {
    let refused = |message: String| Err(BuildError::at_line(Diagnostic::error(0..0, message)));
    if let Some(key) = plan.external_inputs().into_iter().find(|key| !inputs.contains_key(*key)) {
        return refused(format!("the plan needs `{key}`, which was not resolved"));
    }
    for stage in &plan.stages {
        let StageBase::External(key) = &stage.base else { continue };
        if let Some(ResolvedInput::Context(_)) = inputs.get(key) {
            return refused(format!("the stage `{}` is based on `{key}`, which is not an image", stage.name));
        }
    }
    Ok(())
}

/// Executes all stages, or takes their steps from the cache.
fn execute_stages(world: &SolveContext<'_>, tell: &(dyn Fn(BuildEvent) + Sync)) -> Result<Snapshot, BuildError> {
    let SolveContext { options, plan, .. } = world;
    let mut board = StageBoard::new(plan);
    thread::scope(|scope| {
        let (results, inbox) = mpsc::channel();
        let mut failure = None;
        let mut out = 0;
        loop {
            while failure.is_none()
                && let Some(piece) = board.take_ready()
            {
                let (results, stages) = (results.clone(), board.finished_inputs(piece.stage));
                out += 1;
                scope.spawn(move || {
                    let (piece, done) = advance_stage(world, piece, &stages, tell);
                    // Sending fails only when the loop has ended, and the loop waits for all threads.
                    let _ = results.send((piece, done));
                });
            }
            if out == 0 {
                break;
            }
            let (piece, done) = inbox.recv().expect("this loop holds a sender");
            out -= 1;
            if let Err(error) = board.put_back(piece, done) {
                options.cancel.cancel();
                // The first error is the cause; errors that follow from the cancellation are dropped.
                failure.get_or_insert(error);
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(board.take_finished(plan.target).expect("the target's stage is planned")),
        }
    })
}

/// Executes the steps of a stage until it is finished or needs a stage that is not. After an error the stage stands
/// before the step that failed.
fn advance_stage(
    world: &SolveContext<'_>,
    mut piece: StageProgress,
    stages: &StageSnapshots,
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> (StageProgress, Result<(), BuildError>) {
    let done = advance_steps(world, &mut piece, stages, tell);
    (piece, done)
}

fn advance_steps(
    world: &SolveContext<'_>,
    piece: &mut StageProgress,
    stages: &StageSnapshots,
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> Result<(), BuildError> {
    let plan: &Plan = world.plan;
    if piece.snapshot.is_none() {
        piece.snapshot = Some(base_snapshot(world, piece.stage, stages)?);
    }
    while piece.step < plan.stages[piece.stage].steps.len() {
        if missing_stage(plan, piece, stages).is_some() {
            return Ok(());
        }
        let at = StepPosition { stage: piece.stage, step: piece.step };
        let below = piece.snapshot.clone().expect("set above");
        piece.snapshot = Some(execute_step(world, at, below, stages, tell)?);
        piece.step += 1;
    }
    // The layers of the result are all needed; those of base images may stay where they are.
    if let Some(snapshot) = piece.snapshot.as_ref().filter(|_| piece.stage == plan.target) {
        world.options.layers.ensure_stored(&snapshot.layers)?;
    }
    Ok(())
}

fn base_snapshot(world: &SolveContext<'_>, stage: usize, stages: &StageSnapshots) -> Result<Snapshot, BuildError> {
    match &world.plan.stages[stage].base {
        StageBase::Scratch => Ok(Snapshot::default()),
        StageBase::Stage(base) => Ok(stages.get(base).expect("a stage waits for its base").clone()),
        StageBase::External(name) => match world.inputs.get(name) {
            Some(ResolvedInput::Image(image)) => {
                let snapshot = image.snapshot();
                world.options.layers.record_use(&snapshot.layers)?;
                world.journal.record_base(stage, &snapshot);
                Ok(snapshot)
            }
            Some(ResolvedInput::Context(_)) | None => unreachable!("the plan stands only on images that were found"),
        },
    }
}
