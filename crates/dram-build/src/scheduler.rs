//! The scheduler of a build. One loop owns the state of all stages; a thread advances a stage until it needs another
//! stage that is not finished, then returns it to the loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, mpsc};
use std::thread;

use dram_dockerfile::Diagnostic;
use dram_plan::{InputRef, Plan, StageBase};

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
    let mut lost = BTreeSet::new();
    let built = loop {
        match execute_stages(&world, tell) {
            // The cache record of the step that made this layer is not used any more, so the next attempt executes that
            // step. All other steps are cache hits.
            Err(BuildError::CacheLost { layer }) if !options.cancel.is_cancelled() && lost.insert(layer.clone()) => {}
            done => break done,
        }
    };
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
    let mut board = StageScheduler::new(plan);
    let snapshot = thread::scope(|scope| {
        let (results, inbox) = mpsc::channel();
        let mut failure = None;
        let mut lost = None;
        let mut out = 0;
        loop {
            while failure.is_none()
                && lost.is_none()
                && let Some(piece) = board.take_ready()
            {
                let (results, stages) = (results.clone(), board.finished.clone());
                out += 1;
                scope.spawn(move || {
                    let piece = advance_stage(world, piece, &stages, tell);
                    // Sending fails only when the loop has ended, and the loop waits for all threads.
                    let _ = results.send(piece);
                });
            }
            if out == 0 {
                break;
            }
            let result = inbox.recv().expect("this loop holds a sender");
            out -= 1;
            match result {
                Ok(piece) => board.put_back(piece),
                // The other threads continue until they have to wait: the steps they execute are cached for the next
                // attempt.
                Err(error @ BuildError::CacheLost { .. }) => lost = Some(error),
                Err(error) => {
                    options.cancel.cancel();
                    // The first error is the cause; errors that follow from the cancellation are dropped.
                    failure.get_or_insert(error);
                }
            }
        }
        match failure.or(lost) {
            Some(error) => Err(error),
            None => Ok(board.finished.remove(&plan.target).expect("the target's stage is planned")),
        }
    })?;
    world.ensure_layers(&snapshot, tell)?;
    Ok(snapshot)
}

/// A stage in progress: the index of its next step, and the snapshot that the steps before it produced.
struct StageProgress {
    stage: usize,
    step: usize,
    snapshot: Option<Snapshot>,
}

/// The finished stages, and the stages that wait for a thread.
struct StageScheduler<'a> {
    plan: &'a Plan,
    finished: StageSnapshots,
    pending: VecDeque<StageProgress>,
}

impl<'a> StageScheduler<'a> {
    fn new(plan: &'a Plan) -> Self {
        let pending = (0..plan.stages.len()).map(|stage| StageProgress { stage, step: 0, snapshot: None }).collect();
        StageScheduler { plan, finished: StageSnapshots::new(), pending }
    }

    /// Takes a waiting stage whose next step has all the stages it needs.
    fn take_ready(&mut self) -> Option<StageProgress> {
        let done = self.finished.keys().copied().collect();
        let at = self.pending.iter().position(|piece| is_ready(self.plan, piece, &done))?;
        self.pending.remove(at)
    }

    fn put_back(&mut self, piece: StageProgress) {
        match piece.snapshot {
            Some(snapshot) if piece.step == self.plan.stages[piece.stage].steps.len() => {
                self.finished.insert(piece.stage, snapshot);
            }
            Some(_) | None => self.pending.push_back(piece),
        }
    }
}

fn is_ready(plan: &Plan, piece: &StageProgress, done: &BTreeSet<usize>) -> bool {
    let stage = &plan.stages[piece.stage];
    let base = match (&piece.snapshot, &stage.base) {
        (None, StageBase::Stage(base)) => done.contains(base),
        (None, StageBase::Scratch | StageBase::External(_)) | (Some(_), _) => true,
    };
    let ready = |from: &InputRef| match from {
        InputRef::Stage(from) => done.contains(from),
        InputRef::Context | InputRef::External(_) | InputRef::Scratch => true,
    };
    let step = stage.steps.get(piece.step).is_none_or(|step| step.op.input_refs().into_iter().all(ready));
    base && step
}

/// Executes the steps of a stage until it is finished or needs a stage that is not.
fn advance_stage(
    world: &SolveContext<'_>,
    mut piece: StageProgress,
    stages: &StageSnapshots,
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> Result<StageProgress, BuildError> {
    let done: BTreeSet<usize> = stages.keys().copied().collect();
    let mut snapshot = match piece.snapshot.take() {
        Some(snapshot) => snapshot,
        None => base_snapshot(world, piece.stage, stages, tell)?,
    };
    while piece.step < world.plan.stages[piece.stage].steps.len() {
        piece.snapshot = Some(snapshot.clone());
        if !is_ready(world.plan, &piece, &done) {
            return Ok(piece);
        }
        let at = StepPosition { stage: piece.stage, step: piece.step };
        snapshot = execute_step(world, at, snapshot, stages, tell)?;
        piece.step += 1;
    }
    piece.snapshot = Some(snapshot);
    Ok(piece)
}

fn base_snapshot(
    world: &SolveContext<'_>,
    stage: usize,
    stages: &StageSnapshots,
    tell: &(dyn Fn(BuildEvent) + Sync),
) -> Result<Snapshot, BuildError> {
    match &world.plan.stages[stage].base {
        StageBase::Scratch => Ok(Snapshot::default()),
        StageBase::Stage(base) => Ok(stages.get(base).expect("a stage waits for its base").clone()),
        StageBase::External(name) => match world.inputs.get(name) {
            Some(ResolvedInput::Image(image)) => {
                let unpacking = || tell(BuildEvent::Unpacking { image: name.clone() });
                let snapshot = image.snapshot(world.options.store, &unpacking)?;
                world.journal.record_base(stage, &snapshot);
                Ok(snapshot)
            }
            Some(ResolvedInput::Context(_)) | None => unreachable!("the plan stands only on images that were found"),
        },
    }
}
