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
    /// The waiting stages that may be ready.
    pending: VecDeque<StageProgress>,
    /// The waiting stages that are not ready, by the first stage that each needs: none is looked at again before that
    /// stage is finished.
    blocked: BTreeMap<usize, Vec<StageProgress>>,
    /// For stages on a thread that must go back: the point, for when the thread returns them.
    rewinds: BTreeMap<usize, RewindPoint>,
}

impl<'a> StageBoard<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let pending = (0..plan.stages.len()).map(|stage| StageProgress { stage, step: 0, snapshot: None }).collect();
        let (finished, blocked) = (StageSnapshots::new(), BTreeMap::new());
        StageBoard { plan, finished, pending, blocked, rewinds: BTreeMap::new() }
    }

    /// Returns the snapshots of the finished stages that `stage` is based on or copies from.
    pub(crate) fn finished_inputs(&self, stage: usize) -> StageSnapshots {
        let planned = &self.plan.stages[stage];
        let base = planned.base_stage();
        let inputs = planned.steps.iter().flat_map(|step| step.op.input_refs()).filter_map(InputRef::stage);
        let inputs = base.into_iter().chain(inputs);
        inputs.filter_map(|input| Some((input, self.finished.get(&input)?.clone()))).collect()
    }

    /// Takes the snapshot of the finished stage `stage`.
    pub(crate) fn take_finished(&mut self, stage: usize) -> Option<Snapshot> {
        self.finished.remove(&stage)
    }

    /// Takes a waiting stage whose next step has all the stages it needs.
    pub(crate) fn take_ready(&mut self) -> Option<StageProgress> {
        while let Some(piece) = self.pending.pop_front() {
            match missing_stage(self.plan, &piece, &self.finished) {
                None => return Some(piece),
                Some(needed) => self.blocked.entry(needed).or_default().push(piece),
            }
        }
        None
    }

    /// Records the result of a stage. The stages that waited for it may be ready.
    fn finish(&mut self, stage: usize, snapshot: Snapshot) {
        self.finished.insert(stage, snapshot);
        self.pending.extend(self.blocked.remove(&stage).unwrap_or_default());
    }

    /// Returns the waiting stages.
    fn waiting(&self) -> impl Iterator<Item = &StageProgress> {
        self.pending.iter().chain(self.blocked.values().flatten())
    }

    /// Takes the stage `stage` out of those that wait.
    fn take_waiting(&mut self, stage: usize) -> Option<StageProgress> {
        if let Some(at) = self.pending.iter().position(|piece| piece.stage == stage) {
            return self.pending.remove(at);
        }
        self.blocked.values_mut().find_map(|pieces| {
            let at = pieces.iter().position(|piece| piece.stage == stage)?;
            Some(pieces.remove(at))
        })
    }

    /// Takes back a stage that a thread has advanced. If that ended because a layer is lost, the stage whose step made
    /// the layer goes back to this step, and the stages that used that stage go back to the first step that did.
    ///
    /// # Errors
    /// Returns the error of the stage, unless it is a lost layer and a stage can go back.
    pub(crate) fn put_back(&mut self, piece: StageProgress, done: Result<(), BuildError>) -> Result<(), BuildError> {
        let marked = self.rewinds.remove(&piece.stage);
        let piece = match marked {
            Some(point) => self.rewound(piece, point),
            None => piece,
        };
        match piece.snapshot {
            Some(snapshot) if piece.step == self.plan.stages[piece.stage].steps.len() => {
                self.finish(piece.stage, snapshot);
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
        let pending = self.waiting().filter_map(|piece| Some((piece.stage, piece.step, piece.snapshot.as_ref()?)));
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
                Some(snapshot) if piece.step == step => self.finish(stage, snapshot),
                Some(_) | None => self.pending.push_back(piece),
            }
        } else if let Some(piece) = self.take_waiting(stage) {
            let piece = self.rewound(piece, point);
            self.pending.push_back(piece);
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

/// Returns the first stage that `piece` needs for its next step and that is not in `done`: its base, or a stage that the
/// step uses.
pub(crate) fn missing_stage(plan: &Plan, piece: &StageProgress, done: &StageSnapshots) -> Option<usize> {
    let stage = &plan.stages[piece.stage];
    let base = stage.base_stage().filter(|_| piece.snapshot.is_none());
    let inputs = stage.steps.get(piece.step).into_iter().flat_map(|step| step.op.input_refs());
    base.into_iter().chain(inputs.filter_map(InputRef::stage)).find(|needed| !done.contains_key(needed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::plan;

    fn id(letter: char) -> LayerId {
        format!("c-{}", format!("{:02x}", u32::from(letter)).repeat(32)).parse().unwrap()
    }

    /// Returns a snapshot with a layer for each letter; a dot stands for a step without a layer.
    fn snapshot(steps: &str) -> Snapshot {
        let layer = |letter| (letter != '.').then(|| Layer::Local(id(letter)));
        steps.chars().fold(Snapshot::default(), |snapshot, letter| snapshot.with_step(layer(letter), None))
    }

    fn lost(letter: char) -> Result<(), BuildError> {
        Err(BuildError::CacheLost { layer: id(letter) })
    }

    /// Takes the stages that are ready, in order.
    fn ready(board: &mut StageBoard<'_>) -> Vec<StageProgress> {
        std::iter::from_fn(|| board.take_ready()).collect()
    }

    fn at(stage: usize, step: usize, steps: &str) -> StageProgress {
        StageProgress { stage, step, snapshot: Some(snapshot(steps)) }
    }

    fn parse(text: &str) -> Plan {
        plan(text, &BTreeMap::new())
    }

    #[test]
    fn stage_is_ready_when_its_base_and_the_stages_of_its_next_step_are_finished() {
        let plan = parse("FROM scratch AS a\nRUN x\nFROM a AS b\nRUN y\nFROM scratch\nRUN z\nCOPY --from=b / /\n");
        let mut board = StageBoard::new(&plan);
        let numbers = |all: &[StageProgress]| all.iter().map(|piece| piece.stage).collect::<Vec<_>>();
        assert_eq!(numbers(&ready(&mut board)), [0, 2]);
        board.put_back(at(2, 1, "z"), Ok(())).unwrap();
        assert_eq!(numbers(&ready(&mut board)), Vec::<usize>::new());
        board.put_back(at(0, 1, "x"), Ok(())).unwrap();
        assert_eq!(numbers(&ready(&mut board)), [1]);
        board.put_back(at(1, 1, "xy"), Ok(())).unwrap();
        assert_eq!(ready(&mut board), [at(2, 1, "z")]);
        board.put_back(at(2, 2, "zb"), Ok(())).unwrap();
        assert_eq!(board.take_finished(2), Some(snapshot("zb")));
    }

    /// Stage 2 is based on 0, stage 3 copies from 0 and 1 after a step of its own, and stage 1 is on its own.
    const FOUR: &str = "FROM scratch AS a\nRUN a\nENV X=1\nRUN b\nFROM scratch AS b\nRUN c\nFROM a AS c\nRUN d\n\
                        FROM scratch\nRUN e\nCOPY --from=b / /\nCOPY --from=a / /\nCOPY --from=c / /\n";

    /// All stages but the last are finished.
    fn board_of_four(plan: &Plan) -> StageBoard<'_> {
        let mut board = StageBoard::new(plan);
        ready(&mut board);
        board.put_back(at(0, 3, "ab"), Ok(())).unwrap();
        board.put_back(at(1, 1, "c"), Ok(())).unwrap();
        ready(&mut board);
        board.put_back(at(2, 1, "abd"), Ok(())).unwrap();
        board
    }

    #[test]
    fn lost_layer_sends_its_stage_and_those_that_used_it_back_and_no_other() {
        let plan = parse(FOUR);
        let mut board = board_of_four(&plan);
        // The last stage has copied from the stages b and a when the layer of the step `b` is needed.
        board.put_back(at(3, 3, "ecx"), lost('b')).unwrap();
        assert_eq!(board.finished.keys().collect::<Vec<_>>(), [&1]);
        // The stage a repeats its third step, over the layer of its first. The others wait for it.
        assert_eq!(ready(&mut board), [at(0, 2, "a")]);
        board.put_back(at(0, 3, "aB"), Ok(())).unwrap();
        let again = ready(&mut board);
        assert_eq!(again, [StageProgress { stage: 2, step: 0, snapshot: None }, at(3, 2, "ec")]);
    }

    #[test]
    fn stage_that_has_not_used_a_rewound_stage_stays_where_it_is() {
        let plan = parse(FOUR);
        let mut board = board_of_four(&plan);
        board.put_back(at(3, 2, "ec"), lost('a')).unwrap();
        assert_eq!(ready(&mut board), [at(0, 0, "")]);
        board.put_back(at(0, 3, "ab"), Ok(())).unwrap();
        assert!(ready(&mut board).contains(&at(3, 2, "ec")));
    }

    #[test]
    fn stage_that_a_thread_advances_goes_back_when_it_is_returned() {
        let plan = parse(FOUR);
        let mut board = board_of_four(&plan);
        // The last stage is on a thread while another stage finds that a layer is lost.
        board.put_back(at(3, 2, "ec"), Ok(())).unwrap();
        assert_eq!(ready(&mut board).len(), 1);
        let taken = board.finished.remove(&2).unwrap();
        board.put_back(StageProgress { stage: 2, step: 0, snapshot: Some(taken.without_steps(1)) }, lost('b')).unwrap();
        // It has finished by now, with files of the old stages in it.
        board.put_back(at(3, 4, "ecxy"), Ok(())).unwrap();
        assert_eq!(board.take_finished(3), None);
        assert_eq!(ready(&mut board), [at(0, 2, "a")]);
        board.put_back(at(0, 3, "ab"), Ok(())).unwrap();
        assert!(ready(&mut board).contains(&at(3, 2, "ec")));
        assert!(board.rewinds.is_empty());
    }

    #[test]
    fn stage_that_fails_for_a_layer_that_was_made_again_goes_on() {
        let plan = parse(FOUR);
        let mut board = board_of_four(&plan);
        board.put_back(at(3, 2, "ec"), Ok(())).unwrap();
        ready(&mut board);
        let snapshot = board.finished.remove(&2).unwrap().without_steps(1);
        board.put_back(StageProgress { stage: 2, step: 0, snapshot: Some(snapshot) }, lost('b')).unwrap();
        ready(&mut board);
        board.put_back(at(0, 3, "aB"), Ok(())).unwrap();
        // No stage has the layer any more, but the last one still reads the old snapshot.
        board.put_back(at(3, 2, "ec"), lost('b')).unwrap();
        assert!(ready(&mut board).contains(&at(3, 2, "ec")));
    }

    #[test]
    fn lost_layer_that_no_stage_made_is_an_error() {
        let plan = parse(FOUR);
        let mut board = board_of_four(&plan);
        assert!(matches!(board.put_back(at(3, 2, "ec"), lost('z')), Err(BuildError::CacheLost { .. })));
        assert_eq!(board.finished.len(), 3);
    }

    #[test]
    fn other_errors_do_not_send_a_stage_back() {
        let plan = parse(FOUR);
        let mut board = board_of_four(&plan);
        assert!(matches!(board.put_back(at(3, 2, "ec"), Err(BuildError::Cancelled)), Err(BuildError::Cancelled)));
        assert_eq!(board.finished.len(), 3);
    }

    #[test]
    fn layer_that_two_stages_made_sends_both_back() {
        let plan = parse(
            "FROM scratch AS a\nRUN a\nFROM scratch AS b\nRUN a\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n",
        );
        let mut board = StageBoard::new(&plan);
        ready(&mut board);
        board.put_back(at(0, 1, "a"), Ok(())).unwrap();
        board.put_back(at(1, 1, "a"), Ok(())).unwrap();
        board.put_back(at(2, 0, ""), lost('a')).unwrap();
        assert_eq!(ready(&mut board), [at(0, 0, ""), at(1, 0, "")]);
    }

    #[test]
    fn in_a_long_chain_each_stage_is_looked_at_once_and_given_only_what_it_uses() {
        let stages = (1..2_000).map(|number| format!("FROM s{} AS s{number}\n", number - 1));
        let plan = parse(&format!("FROM scratch AS s0\n{}", stages.collect::<String>()));
        let mut board = StageBoard::new(&plan);
        for stage in 0..2_000 {
            let piece = board.take_ready().unwrap();
            assert_eq!((piece.stage, board.take_ready()), (stage, None));
            assert_eq!(board.finished_inputs(stage).len(), usize::from(stage > 0));
            assert!(board.pending.is_empty());
            board.put_back(at(stage, 0, ""), Ok(())).unwrap();
        }
        assert!(board.blocked.is_empty());
    }
}
