//! The state of all stages of a build, without threads: which stage can be advanced, and how far stages go back when a
//! layer of a shared cache is lost.

use std::collections::{BTreeMap, VecDeque};

use dram_plan::{InputRef, Plan, PlanStep, StageBase, StepOp};
use dram_store::LayerId;

use crate::step_runner::StageSnapshots;
use crate::{BuildError, Layer, Snapshot};

/// A stage in progress: the index of its next step, and the snapshot that the steps before it produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageProgress {
    pub(crate) stage: usize,
    pub(crate) step: usize,
    /// `None` before the base of the stage is known.
    pub(crate) snapshot: Option<Snapshot>,
}

/// The point that a stage goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RewindPoint {
    /// Its base changes.
    Base,
    /// The step with this index is repeated.
    Step(usize),
}

/// The finished stages, the stages that wait for a thread, and those that a thread advances.
#[derive(Debug)]
pub(crate) struct StageBoard<'a> {
    plan: &'a Plan,
    finished: StageSnapshots,
    pending: VecDeque<StageProgress>,
    /// For stages on a thread that must go back: the point, for when the thread returns them.
    rewinds: BTreeMap<usize, RewindPoint>,
}

impl<'a> StageBoard<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let pending = (0..plan.stages.len()).map(|stage| StageProgress { stage, step: 0, snapshot: None }).collect();
        StageBoard { plan, finished: StageSnapshots::new(), pending, rewinds: BTreeMap::new() }
    }

    /// Returns the snapshots of the finished stages.
    pub(crate) fn finished(&self) -> &StageSnapshots {
        &self.finished
    }

    /// Takes the snapshot of the finished stage `stage`.
    pub(crate) fn take_finished(&mut self, stage: usize) -> Option<Snapshot> {
        self.finished.remove(&stage)
    }

    /// Takes a waiting stage whose next step has all the stages it needs.
    pub(crate) fn take_ready(&mut self) -> Option<StageProgress> {
        let at = self.pending.iter().position(|piece| is_ready(self.plan, piece, &self.finished))?;
        self.pending.remove(at)
    }

    /// Takes back a stage that a thread has advanced. If that ended because a layer is lost, the stage whose step made
    /// the layer goes back to this step, and the stages that used that stage go back to the first step that did.
    ///
    /// # Errors
    /// Returns the error of the stage, unless it is a lost layer and a stage can go back.
    pub(crate) fn put_back(&mut self, piece: StageProgress, done: Result<(), BuildError>) -> Result<(), BuildError> {
        let marked = self.rewinds.remove(&piece.stage);
        let piece = marked.map_or_else(|| piece.clone(), |point| self.rewound(piece.clone(), point));
        match piece.snapshot {
            Some(snapshot) if piece.step == self.plan.stages[piece.stage].steps.len() => {
                self.finished.insert(piece.stage, snapshot);
            }
            Some(_) | None => self.pending.push_back(piece),
        }
        match done {
            Err(BuildError::CacheLost { layer }) => match self.rewind_lost(&layer) || marked.is_some() {
                true => Ok(()),
                false => Err(BuildError::CacheLost { layer }),
            },
            done => done,
        }
    }

    /// Rewinds the stages whose own steps made `layer`, and all that used these stages. Returns whether there is one.
    fn rewind_lost(&mut self, layer: &LayerId) -> bool {
        let finished = self.finished.iter().map(|(stage, snapshot)| (*stage, usize::MAX, snapshot));
        let pending = self.pending.iter().filter_map(|piece| Some((piece.stage, piece.step, piece.snapshot.as_ref()?)));
        let made = finished.chain(pending).filter_map(|(stage, step, snapshot)| {
            Some((stage, RewindPoint::Step(self.step_that_made(stage, step, snapshot, layer)?)))
        });
        let mut points: BTreeMap<usize, RewindPoint> = made.collect();
        loop {
            let before = points.clone();
            for stage in 0..self.plan.stages.len() {
                if let Some(point) = self.first_use(stage, &before) {
                    let known = points.entry(stage).or_insert(point);
                    *known = point.min(*known);
                }
            }
            if points == before {
                break;
            }
        }
        for (stage, point) in &points {
            self.rewind(*stage, *point);
        }
        !points.is_empty()
    }

    /// Returns the index of the step of `stage` that made `layer`, if the stage has passed it.
    fn step_that_made(&self, stage: usize, step: usize, snapshot: &Snapshot, layer: &LayerId) -> Option<usize> {
        let steps = &self.plan.stages[stage].steps;
        let passed = steps[..step.min(steps.len())].iter().enumerate().filter(|(_, step)| can_make_layer(step));
        let passed: Vec<usize> = passed.map(|(at, _)| at).collect();
        let layers = snapshot.layers_of_steps(passed.len());
        let found = layers.iter().position(|made| made.and_then(Layer::step_id) == Some(layer))?;
        Some(passed[found])
    }

    /// Returns the point where `stage` first uses one of the stages in `rewound`.
    fn first_use(&self, stage: usize, rewound: &BTreeMap<usize, RewindPoint>) -> Option<RewindPoint> {
        let planned = &self.plan.stages[stage];
        match &planned.base {
            StageBase::Stage(base) if rewound.contains_key(base) => return Some(RewindPoint::Base),
            StageBase::Stage(_) | StageBase::Scratch | StageBase::External(_) => {}
        }
        let uses = |from: &&InputRef| match from {
            InputRef::Stage(stage) => rewound.contains_key(stage),
            InputRef::Context | InputRef::External(_) | InputRef::Scratch => false,
        };
        let step = planned.steps.iter().position(|step| step.op.input_refs().iter().any(uses))?;
        Some(RewindPoint::Step(step))
    }

    fn rewind(&mut self, stage: usize, point: RewindPoint) {
        if let Some(snapshot) = self.finished.remove(&stage) {
            let step = self.plan.stages[stage].steps.len();
            let piece = self.rewound(StageProgress { stage, step, snapshot: Some(snapshot) }, point);
            match piece.snapshot {
                Some(snapshot) if piece.step == step => drop(self.finished.insert(stage, snapshot)),
                Some(_) | None => self.pending.push_back(piece),
            }
        } else if let Some(at) = self.pending.iter().position(|piece| piece.stage == stage) {
            self.pending[at] = self.rewound(self.pending[at].clone(), point);
        } else {
            let known = self.rewinds.entry(stage).or_insert(point);
            *known = point.min(*known);
        }
    }

    /// Returns the stage at `point`, if it has passed that point.
    fn rewound(&self, piece: StageProgress, point: RewindPoint) -> StageProgress {
        let StageProgress { stage, step, snapshot } = piece;
        match point {
            RewindPoint::Base => StageProgress { stage, step: 0, snapshot: None },
            RewindPoint::Step(to) if to < step => {
                let undone = &self.plan.stages[stage].steps[to..step];
                let count = undone.iter().filter(|step| can_make_layer(step)).count();
                StageProgress { stage, step: to, snapshot: snapshot.map(|snapshot| snapshot.without_steps(count)) }
            }
            RewindPoint::Step(_) => StageProgress { stage, step, snapshot },
        }
    }
}

fn can_make_layer(step: &PlanStep) -> bool {
    match step.op {
        StepOp::Run(_) | StepOp::Copy(_) | StepOp::Workdir(_) => true,
        StepOp::ConfigOnly => false,
    }
}

/// Returns whether all stages that the next step of `piece` needs are among the stages in `done`.
pub(crate) fn is_ready(plan: &Plan, piece: &StageProgress, done: &StageSnapshots) -> bool {
    let stage = &plan.stages[piece.stage];
    let base = match (&piece.snapshot, &stage.base) {
        (None, StageBase::Stage(base)) => done.contains_key(base),
        (None, StageBase::Scratch | StageBase::External(_)) | (Some(_), _) => true,
    };
    let ready = |from: &InputRef| match from {
        InputRef::Stage(from) => done.contains_key(from),
        InputRef::Context | InputRef::External(_) | InputRef::Scratch => true,
    };
    let step = stage.steps.get(piece.step).is_none_or(|step| step.op.input_refs().into_iter().all(ready));
    base && step
}
