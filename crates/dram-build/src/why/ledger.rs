//! What a build does, noted while it does it, and compared with what the last one did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use dram_dockerfile::{Base, Op, Plan};
use dram_store::{JOURNAL_HEAD, LayerId, Places, Record, StepKey, Store};

use super::align::align;
use super::compare::{self, Inputs};
use super::journal::{BaseNote, Journal, Left, Outcome, PartNote, StageNote, StepNote};
use super::secret::{is_secret, without_secrets};
use super::{Cause, Why, files};
use crate::parts::{Key, Name, Part};
use crate::{Options, Snapshot, StepAt};

/// So much of an instruction is kept.
const LONGEST_TEXT: usize = 1000;
/// A build of more parts than this has no journal: a machine wrote such a Dockerfile.
const MOST_PARTS: usize = 500_000;
/// A value that is shorter is no secret; looked for, it would be found in everything.
const SHORTEST_SECRET: usize = 4;
/// So many stages are kept that the last build did not need.
const MOST_OTHER_STAGES: usize = 50;

/// What is built: who asks why something was done again compares with the last build of the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The Dockerfile's path, or `-`.
    pub dockerfile: String,
    /// The build context: a path, an address, or `-`.
    pub context: String,
    /// The platform that is built for.
    pub platform: String,
    /// The target; empty when none is named. Builds of several targets are one place.
    pub target: String,
    /// Build arguments. What the values of those are that sound like secrets is not written down, wherever they turn up.
    pub build_args: BTreeMap<String, String>,
}

impl Place {
    /// What the place is known under.
    pub fn key(&self) -> StepKey {
        let Place { dockerfile, context, platform, target: _, build_args: _ } = self;
        StepKey::of([dockerfile.as_bytes(), context.as_bytes(), platform.as_bytes()])
    }
}

/// How a step that was carried out ended.
pub(crate) enum End<'a> {
    /// With a result.
    Good(&'a Record),
    /// With an error.
    Bad,
    /// It was told to.
    Stopped,
}

/// Notes of one build. Shared by its threads.
pub(crate) struct Ledger<'a> {
    store: &'a Store,
    plan: &'a Plan,
    place: &'a Place,
    clock: fn() -> Duration,
    /// Read when the first step is carried out.
    before: OnceLock<Option<Before>>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    steps: BTreeMap<StepAt, Note>,
    /// What the images are that stages stand on.
    bases: BTreeMap<usize, StepKey>,
}

struct Note {
    keys: Vec<Arc<Key>>,
    outcome: Outcome,
    started: Duration,
    took: Duration,
    why: Why,
    left: Option<Left>,
}

/// The last build's journal, and what was what in it.
struct Before {
    journal: Journal,
    /// For each stage of the plan, its place in the journal, and for each of its steps the place there.
    stages: Vec<Option<(usize, Vec<Option<usize>>)>>,
}

impl<'a> Ledger<'a> {
    /// An empty one for a build of `plan`.
    pub(crate) fn new(options: &'a Options<'a>, plan: &'a Plan) -> Ledger<'a> {
        let Options { store, place, clock, .. } = options;
        let (before, notes) = (OnceLock::new(), Mutex::default());
        Ledger { store, plan, place, clock: *clock, before, notes }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stage begins on the image `base`.
    pub(crate) fn base(&self, stage: usize, base: &Snapshot) {
        self.notes().bases.insert(stage, base.identity());
    }

    /// The result of a step is `record`, remembered under the last of `keys`.
    /// `outcome` says by whom.
    pub(crate) fn remembered(&self, at: StepAt, keys: &[Arc<Key>], record: &Record, outcome: Outcome) {
        let (keys, left) = (keys.to_vec(), Some(Left::of(record)));
        let (started, took, why) = (Duration::ZERO, Duration::ZERO, Why::default());
        self.notes().steps.insert(at, Note { keys, outcome, started, took, why, left });
    }

    /// A step with `keys` is about to be carried out. Returns why. `forced` is the option that wants nothing remembered.
    pub(crate) fn started(&self, at: StepAt, keys: &[Arc<Key>], forced: Option<&str>) -> Why {
        let mut notes = self.notes();
        let why = match forced {
            Some(option) => Why::only(Cause::NoCache { option: option.to_owned() }),
            None => self.why(&notes, at, keys),
        };
        let (started, took) = ((self.clock)(), Duration::ZERO);
        let (keys, outcome, left) = (keys.to_vec(), Outcome::Stopped, None);
        notes.steps.insert(at, Note { keys, outcome, started, took, why: why.clone(), left });
        why
    }

    /// A step that was started ended.
    pub(crate) fn ended(&self, at: StepAt, end: &End<'_>) {
        let now = (self.clock)();
        if let Some(note) = self.notes().steps.get_mut(&at) {
            note.took = now.saturating_sub(note.started);
            (note.outcome, note.left) = match end {
                End::Good(record) => (Outcome::CarriedOut, Some(Left::of(record))),
                End::Bad => (Outcome::Failed, None),
                End::Stopped => (Outcome::Stopped, None),
            };
        }
    }

    fn why(&self, notes: &Notes, at: StepAt, keys: &[Arc<Key>]) -> Why {
        let Some(before) = self.before() else { return Why::only(self.first()) };
        let Some(old) = before.step(at).filter(|old| !old.keys.is_empty()) else { return Why::only(self.first()) };
        let (places, place) = (self.store.places(), self.place.key());
        let list = |name: &StepKey| files::read(&places.list(&place, name)?);
        let mut causes = compare::causes(old, &inputs(keys, &self.secrets()), &list);
        for cause in &mut causes {
            if *cause == Cause::Below {
                *cause = self.below(notes, before, at).unwrap_or(Cause::Below);
            } else if let Cause::Source { step } = cause {
                *step = self.source(notes, before, at);
            }
        }
        Why { causes }
    }

    fn first(&self) -> Cause {
        let places = self.store.places();
        match self.before() {
            Some(_) => Cause::First { pruned: false },
            None if places.journal(&self.place.key()).is_some() => Cause::Unread,
            None => Cause::First { pruned: places.forgot() },
        }
    }

    fn before(&self) -> Option<&Before> {
        let read = || Some(Before::new(Journal::read(self.store.places(), &self.place.key())?, self.plan));
        self.before.get_or_init(read).as_ref()
    }

    /// The first thing below a step that is not what it was.
    fn below(&self, notes: &Notes, before: &Before, at: StepAt) -> Option<Cause> {
        self.base_changed(notes, before, at.stage)
            .or_else(|| self.step_changed(notes, before, at.stage, at.step).map(Difference::earlier))
    }

    /// How what a stage stands on changed.
    fn base_changed(&self, notes: &Notes, before: &Before, stage: usize) -> Option<Cause> {
        let old = &before.journal.stages[before.stages[stage].as_ref()?.0];
        match (&old.base, &self.plan.stages[stage].base) {
            (BaseNote::Stage(_), Base::Stage(base)) => {
                if let Some(cause) = self.base_changed(notes, before, *base) {
                    return Some(cause);
                }
                let difference = self.step_changed(notes, before, *base, usize::MAX)?;
                Some(difference.below())
            }
            (BaseNote::Image { name, identity }, Base::Outside(after)) => {
                let differs = identity.is_some() && identity.as_ref() != notes.bases.get(&stage);
                differs.then(|| Cause::BaseImage { before: name.clone(), after: after.clone() })
            }
            (BaseNote::Scratch, Base::Scratch) => None,
            (old, new) => {
                Some(Cause::BaseImage { before: old.name(), after: self.base_note(notes, stage, new).name() })
            }
        }
    }

    /// The first step of a stage, of those before `end`, that left something else than the last time.
    fn step_changed(&self, notes: &Notes, before: &Before, stage: usize, end: usize) -> Option<Difference> {
        let (place, steps) = before.stages[stage].as_ref()?;
        let old = &before.journal.stages[*place].steps;
        let mut next = 0;
        for (step, found) in steps.iter().enumerate().take(end.saturating_add(1)) {
            // Steps that stood before this one and are gone.
            let until = found.unwrap_or(next).max(next);
            let gone = old[next..until]
                .iter()
                .enumerate()
                .find(|(at, note)| !steps.contains(&Some(next + at)) && matches!(note.left, Some(Left::Layer(_))));
            if let Some((_, gone)) = gone {
                return Some(Difference::Gone(gone.text.clone()));
            }
            next = found.map_or(next, |found| found + 1).max(next);
            if step >= end {
                break;
            }
            let at = StepAt { stage, step };
            let now = notes.steps.get(&at).map(|note| &note.left);
            let was = found.map(|found| &old[found].left);
            let differs = match (was, now) {
                (_, None | Some(None)) | (Some(None), _) => false,
                (None, Some(Some(now))) => matches!(now, Left::Layer(_)),
                (Some(Some(was)), Some(Some(now))) => was != now,
            };
            if differs {
                return Some(Difference::Step(self.label(at)));
            }
        }
        let rest = old.get(next..).filter(|_| end == usize::MAX).unwrap_or_default();
        let gone = rest.iter().find(|note| matches!(note.left, Some(Left::Layer(_))))?;
        Some(Difference::Gone(gone.text.clone()))
    }

    /// The first step of the stage that `at` copies from that left something else.
    fn source(&self, notes: &Notes, before: &Before, at: StepAt) -> Option<String> {
        let sources = self.plan.stages[at.stage].steps[at.step].op.sources();
        sources.into_iter().find_map(|from| match from {
            dram_dockerfile::From::Stage(stage) => match self.step_changed(notes, before, *stage, usize::MAX)? {
                Difference::Step(label) => Some(label),
                Difference::Gone(_) => None,
            },
            dram_dockerfile::From::Context | dram_dockerfile::From::Named(_) | dram_dockerfile::From::Scratch => None,
        })
    }

    fn label(&self, at: StepAt) -> String {
        let stage = &self.plan.stages[at.stage];
        format!("[{} {}/{}]", stage.name, at.step + 1, stage.steps.len())
    }

    /// Values that are not to be written down anywhere.
    fn secrets(&self) -> Vec<String> {
        let given = self.place.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let configs = self.plan.stages.iter().flat_map(|stage| &stage.config.config.env);
        let kept = configs.filter_map(|pair| pair.split_once('='));
        let steps = self.plan.stages.iter().flat_map(|stage| &stage.steps);
        let runs = steps.filter_map(|step| match &step.op {
            Op::Run(run) => Some(run.env.iter().chain(&run.hidden_env)),
            Op::Copy(_) | Op::Workdir(_) | Op::Meta => None,
        });
        let seen = runs.flatten().map(|(name, value)| (name.as_str(), value.as_str()));
        let secret =
            given.chain(kept).chain(seen).filter(|(name, value)| is_secret(name) && value.len() >= SHORTEST_SECRET);
        secret.map(|(_, value)| value.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn base_note(&self, notes: &Notes, stage: usize, base: &Base) -> BaseNote {
        match base {
            Base::Scratch => BaseNote::Scratch,
            Base::Outside(name) => BaseNote::Image { name: name.clone(), identity: notes.bases.get(&stage).copied() },
            Base::Stage(stage) => BaseNote::Stage(self.plan.stages[*stage].name.clone()),
        }
    }

    /// Writes down what happened, where it is not what happened the last time. What cannot be written is not told
    /// later; nothing else is lost.
    pub(crate) fn close(&self) {
        let notes = self.notes();
        if notes.steps.values().flat_map(|note| &note.keys).map(|key| key.parts.len()).sum::<usize>() > MOST_PARTS {
            return;
        }
        let (places, place) = (self.store.places(), self.place.key());
        let head = self.head(&notes);
        let all_remembered = notes.steps.values().all(|note| note.outcome == Outcome::Remembered);
        if all_remembered && places.head(&place) == Some(head) {
            places.touch(&place);
            return;
        }
        let _ = self.write(&notes, places, &place, &head);
    }

    /// Names what happened, but for the times it took: equal for two builds where everything was remembered.
    fn head(&self, notes: &Notes) -> [u8; JOURNAL_HEAD] {
        let mut maker = dram_store::KeyMaker::default();
        maker.add(self.place.target.as_bytes());
        for (stage, planned) in self.plan.stages.iter().enumerate() {
            maker.add(planned.name.as_bytes());
            for (step, one) in planned.steps.iter().enumerate() {
                maker.add(one.text.as_bytes());
                maker.add(&(one.line as u64).to_le_bytes());
                let note = notes.steps.get(&StepAt { stage, step });
                maker.add(&[note.map_or(u8::MAX, |note| note.outcome as u8)]);
                for key in note.iter().flat_map(|note| &note.keys) {
                    maker.add(key.id.as_bytes());
                }
            }
        }
        let mut head = [0; JOURNAL_HEAD];
        head.copy_from_slice(maker.finish().hex().as_bytes());
        head
    }

    fn write(
        &self,
        notes: &Notes,
        places: Places<'_>,
        place: &StepKey,
        head: &[u8; JOURNAL_HEAD],
    ) -> Result<(), dram_store::StoreError> {
        let secrets = self.secrets();
        let mut stages = Vec::new();
        for (stage, planned) in self.plan.stages.iter().enumerate() {
            let steps = 0..planned.steps.len();
            let steps = steps.map(|step| self.step_note(notes, StepAt { stage, step }, &secrets)).collect();
            let base = self.base_note(notes, stage, &planned.base);
            stages.push(StageNote { name: planned.name.clone(), is_last: true, base, steps });
        }
        stages.extend(self.before().map(Before::others).unwrap_or_default());
        for part in notes.steps.values().flat_map(|note| &note.keys).flat_map(|key| &key.parts) {
            let Some(list) = part.files.as_ref().filter(|list| list.notes.len() == list.count) else { continue };
            let name = StepKey::of([part.value.as_slice()]);
            if !places.has_list(place, &name) {
                places.put_list(place, &name, &files::write(list))?;
            }
        }
        let parts = stages.iter().flat_map(|stage| &stage.steps).flat_map(|step| &step.parts);
        let lists = parts.filter(|part| matches!(part.name, Name::Files(_))).filter_map(|part| part.digest).collect();
        places.put_journal(place, &Journal::new(self.place, stages).to_bytes(head), &lists)
    }

    fn step_note(&self, notes: &Notes, at: StepAt, secrets: &[String]) -> StepNote {
        let step = &self.plan.stages[at.stage].steps[at.step];
        let old = self.before().and_then(|before| before.step(at));
        let text = without_secrets(&step.text, LONGEST_TEXT);
        let mut made = StepNote {
            line: step.line,
            text,
            outcome: Outcome::NotReached,
            millis: None,
            why: Why::default(),
            left: None,
            keys: Vec::new(),
            parts: Vec::new(),
        };
        let Some(note) = notes.steps.get(&at) else {
            if matches!(step.op, Op::Meta) {
                made.outcome = Outcome::Meta;
                return made;
            }
            // Of a step that was not reached, what is known is what was known.
            let old = old.cloned().unwrap_or_else(|| made.clone());
            return StepNote { line: made.line, text: made.text, outcome: Outcome::NotReached, ..old };
        };
        made.outcome = note.outcome;
        made.left.clone_from(&note.left);
        let Inputs { keys, parts: _, notes: parts } = inputs(&note.keys, secrets);
        (made.keys, made.parts) = (keys, parts);
        match note.outcome {
            Outcome::Remembered | Outcome::Shared => {
                if let Some(old) = old.filter(|old| old.keys.iter().any(|key| made.keys.contains(key))) {
                    (made.keys, made.parts) = (old.keys.clone(), old.parts.clone());
                    (made.why, made.millis) = (old.why.clone(), old.millis);
                }
            }
            Outcome::CarriedOut | Outcome::Failed | Outcome::Stopped | Outcome::NotReached | Outcome::Meta => {
                made.why.clone_from(&note.why);
                made.millis = Some(u64::try_from(note.took.as_millis()).unwrap_or(u64::MAX));
            }
        }
        made
    }
}

/// What a stage's files differ by.
enum Difference {
    /// A step left something else.
    Step(String),
    /// A step is not there any more.
    Gone(String),
}

impl Difference {
    /// As it is told of a step in the same stage.
    fn earlier(self) -> Cause {
        match self {
            Difference::Step(step) => Cause::EarlierStep { step },
            Difference::Gone(text) => Cause::StepGone { text },
        }
    }

    /// As it is told of a step in a stage that stands on it.
    fn below(self) -> Cause {
        match self {
            Difference::Step(step) => Cause::StageBelow { step },
            Difference::Gone(text) => Cause::StepGone { text },
        }
    }
}

impl Left {
    fn of(record: &Record) -> Left {
        record.layer.clone().map_or(Left::Nothing, |layer: LayerId| Left::Layer(layer))
    }
}

impl BaseNote {
    fn name(&self) -> String {
        match self {
            BaseNote::Scratch => "scratch".to_owned(),
            BaseNote::Image { name, .. } | BaseNote::Stage(name) => name.clone(),
        }
    }
}

/// The inputs that `keys` are made of.
fn inputs<'k>(keys: &'k [Arc<Key>], secrets: &[String]) -> Inputs<'k> {
    let mut seen = BTreeSet::new();
    let all = keys.iter().flat_map(|key| &key.parts);
    let parts: Vec<&Part> = all.filter(|part| seen.insert(part.name.digested())).collect();
    let notes: Vec<PartNote> = parts.iter().map(|part| compare::note(part, secrets)).collect();
    Inputs { keys: keys.iter().map(|key| key.id).collect(), parts, notes }
}

impl Before {
    fn new(journal: Journal, plan: &Plan) -> Before {
        let places = stages(&journal, plan);
        let steps = |(place, planned): (Option<usize>, &dram_dockerfile::Stage)| {
            let place = place?;
            let old: Vec<&str> = journal.stages[place].steps.iter().map(|step| step.text.as_str()).collect();
            let new: Vec<String> = planned.steps.iter().map(|step| without_secrets(&step.text, LONGEST_TEXT)).collect();
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            Some((place, align(&old, &new)))
        };
        let stages = places.into_iter().zip(&plan.stages).map(steps).collect();
        Before { journal, stages }
    }

    fn step(&self, at: StepAt) -> Option<&StepNote> {
        let (place, steps) = self.stages.get(at.stage)?.as_ref()?;
        self.journal.stages.get(*place)?.steps.get((*steps.get(at.step)?)?)
    }

    /// The stages that this build did not need.
    fn others(&self) -> Vec<StageNote> {
        let used: BTreeSet<usize> = self.stages.iter().flatten().map(|(place, _)| *place).collect();
        let others = self.journal.stages.iter().enumerate().filter(|(place, _)| !used.contains(place));
        others.take(MOST_OTHER_STAGES).map(|(_, stage)| StageNote { is_last: false, ..stage.clone() }).collect()
    }
}

/// For each stage of the plan, its place in the journal: the one of its name, or else, as names change and stages without
/// one are counted, the one that has the most lines in common.
fn stages(journal: &Journal, plan: &Plan) -> Vec<Option<usize>> {
    let is_named = |stage: &dram_dockerfile::Stage| stage.name != format!("stage-{}", stage.index);
    let named = |stage: &dram_dockerfile::Stage| {
        let same = |old: &StageNote| old.name.eq_ignore_ascii_case(&stage.name);
        is_named(stage).then(|| journal.stages.iter().position(same)).flatten()
    };
    let mut found: Vec<Option<usize>> = plan.stages.iter().map(named).collect();
    let mut scores = Vec::new();
    for (at, stage) in plan.stages.iter().enumerate().filter(|(at, _)| found[*at].is_none()) {
        let lines: BTreeSet<&str> = stage.steps.iter().map(|step| step.text.as_str()).collect();
        for (place, old) in journal.stages.iter().enumerate().filter(|(place, _)| !found.contains(&Some(*place))) {
            let common = old.steps.iter().filter(|step| lines.contains(step.text.as_str())).count();
            let is_target = at == plan.target && old.is_last && !journal.stages[place + 1..].iter().any(|s| s.is_last);
            let score = 4 * common + 2 * usize::from(is_target) + usize::from(old.name == stage.name);
            scores.push((score, at, place));
        }
    }
    scores.sort_by_key(|(score, _, _)| std::cmp::Reverse(*score));
    for (score, at, place) in scores {
        if score > 0 && found[at].is_none() && !found.contains(&Some(place)) {
            found[at] = Some(place);
        }
    }
    found
}
