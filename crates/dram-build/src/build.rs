//! The scheduler of a build. One loop owns the state of all stages; a thread advances a stage until it needs another
//! stage that is not finished, then returns it to the loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, mpsc};
use std::thread;

use dram_dockerfile::{Base, From, Plan};

use crate::step::{Stages, World, step};
use crate::why::Ledger;
use crate::{BuildError, Event, Options, Outside, Snapshot, StepAt};

/// Executes `plan` and returns the snapshot of the target stage. `outside` maps each image name and named context of
/// the plan to what it was resolved to.
///
/// # Errors
/// Returns the first error of any step; the commands that are running at that moment are killed.
pub fn build(
    plan: &Plan,
    outside: &BTreeMap<String, Outside>,
    options: &Options<'_>,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Snapshot, BuildError> {
    crate::run::must_be_allowed(plan, options)?;
    let ledger = Ledger::new(options, plan);
    let world = World { options, plan, outside, ledger: &ledger, told: Mutex::default() };
    let mut lost = BTreeSet::new();
    let built = loop {
        match attempt(&world, tell) {
            // The cache record of the step that made this layer is not used any more, so the next attempt executes that
            // step. All other steps are cache hits.
            Err(BuildError::CacheLost { layer }) if !options.cancel.is_thrown() && lost.insert(layer.clone()) => {}
            done => break done,
        }
    };
    ledger.close();
    built
}

/// Executes all stages, or takes their steps from the cache.
fn attempt(world: &World<'_>, tell: &(dyn Fn(Event) + Sync)) -> Result<Snapshot, BuildError> {
    let World { options, plan, .. } = world;
    let mut board = Board::new(plan);
    let snapshot = thread::scope(|scope| {
        let (results, inbox) = mpsc::channel();
        let mut failure = None;
        let mut lost = None;
        let mut out = 0;
        loop {
            while failure.is_none()
                && lost.is_none()
                && let Some(piece) = board.next()
            {
                let (results, stages) = (results.clone(), board.done.clone());
                out += 1;
                scope.spawn(move || {
                    let piece = carry_on(world, piece, &stages, tell);
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
                    options.cancel.throw();
                    // The first error is the cause; errors that follow from the cancellation are dropped.
                    failure.get_or_insert(error);
                }
            }
        }
        match failure.or(lost) {
            Some(error) => Err(error),
            None => Ok(board.done.remove(&plan.target).expect("the target's stage is planned")),
        }
    })?;
    world.here(&snapshot, tell)?;
    Ok(snapshot)
}

/// A stage in progress: the index of its next step, and the snapshot that the steps before it produced.
struct Piece {
    stage: usize,
    step: usize,
    snapshot: Option<Snapshot>,
}

/// The finished stages, and the stages that wait for a thread.
struct Board<'a> {
    plan: &'a Plan,
    done: Stages,
    waiting: VecDeque<Piece>,
}

impl<'a> Board<'a> {
    fn new(plan: &'a Plan) -> Self {
        let waiting = (0..plan.stages.len()).map(|stage| Piece { stage, step: 0, snapshot: None }).collect();
        Board { plan, done: Stages::new(), waiting }
    }

    /// Takes a waiting stage whose next step has all the stages it needs.
    fn next(&mut self) -> Option<Piece> {
        let done = self.done.keys().copied().collect();
        let at = self.waiting.iter().position(|piece| is_ready(self.plan, piece, &done))?;
        self.waiting.remove(at)
    }

    fn put_back(&mut self, piece: Piece) {
        match piece.snapshot {
            Some(snapshot) if piece.step == self.plan.stages[piece.stage].steps.len() => {
                self.done.insert(piece.stage, snapshot);
            }
            Some(_) | None => self.waiting.push_back(piece),
        }
    }
}

fn is_ready(plan: &Plan, piece: &Piece, done: &BTreeSet<usize>) -> bool {
    let stage = &plan.stages[piece.stage];
    let base = match (&piece.snapshot, &stage.base) {
        (None, Base::Stage(base)) => done.contains(base),
        (None, Base::Scratch | Base::Outside(_)) | (Some(_), _) => true,
    };
    let ready = |from: &From| match from {
        From::Stage(from) => done.contains(from),
        From::Context | From::Named(_) | From::Scratch => true,
    };
    let step = stage.steps.get(piece.step).is_none_or(|step| step.op.sources().into_iter().all(ready));
    base && step
}

/// Executes the steps of a stage until it is finished or needs a stage that is not.
fn carry_on(
    world: &World<'_>,
    mut piece: Piece,
    stages: &Stages,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Piece, BuildError> {
    let done: BTreeSet<usize> = stages.keys().copied().collect();
    let mut snapshot = match piece.snapshot.take() {
        Some(snapshot) => snapshot,
        None => base(world, piece.stage, stages, tell)?,
    };
    while piece.step < world.plan.stages[piece.stage].steps.len() {
        piece.snapshot = Some(snapshot.clone());
        if !is_ready(world.plan, &piece, &done) {
            return Ok(piece);
        }
        let at = StepAt { stage: piece.stage, step: piece.step };
        snapshot = step(world, at, snapshot, stages, tell)?;
        piece.step += 1;
    }
    piece.snapshot = Some(snapshot);
    Ok(piece)
}

fn base(
    world: &World<'_>,
    stage: usize,
    stages: &Stages,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Snapshot, BuildError> {
    match &world.plan.stages[stage].base {
        Base::Scratch => Ok(Snapshot::default()),
        Base::Stage(base) => Ok(stages.get(base).expect("a stage waits for its base").clone()),
        Base::Outside(name) => match world.outside.get(name) {
            Some(Outside::Image(image)) => {
                let unpacking = || tell(Event::Unpacking { image: name.clone() });
                let snapshot = image.snapshot(world.options.store, &unpacking)?;
                world.ledger.base(stage, &snapshot);
                Ok(snapshot)
            }
            Some(Outside::Files(_)) | None => unreachable!("the plan stands only on images that were found"),
        },
    }
}
