//! The plan of every Dockerfile of the parity cases can be written and read back.

// A failure here is a failed test.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use dram_plan::{Plan, StepOp};
use support::{run, settings};

#[test]
#[allow(clippy::disallowed_methods, reason = "the cases are files")]
fn plans_of_all_parity_cases_survive_the_round_trip() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity");
    let mut plans = 0;
    let mut kinds = [0; 4];
    for case in std::fs::read_dir(cases).unwrap() {
        let path = case.unwrap().path();
        let Ok(text) = std::fs::read_to_string(path.join("Dockerfile")) else { continue };
        let (Some(plan), _) = run(&text, &settings(), &support::found()) else { continue };
        let json = plan.to_json().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Plan::from_json(&json).unwrap(), plan, "{}", path.display());
        plans += 1;
        for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
            assert!(step.origin.line().is_some_and(|line| line > 0), "{}: {}", path.display(), step.text);
            kinds[match step.op {
                StepOp::Run(_) => 0,
                StepOp::Copy(_) => 1,
                StepOp::Workdir(_) => 2,
                StepOp::ConfigOnly => 3,
            }] += 1;
        }
    }
    assert!(plans > 100 && kinds.iter().all(|count| *count > 10), "{plans} plans, {kinds:?} steps");
}
