//! Invariants that hold for every input. The fuzz target and the replay of its seeds share them.

// Each user needs only a part of this file.
#![allow(dead_code, unreachable_pub)]

use dram_plan::{Plan, StepOp};

/// Any text is refused or read as a plan that is written and read back unchanged.
pub fn plan(text: &[u8]) {
    let Ok(plan) = Plan::from_json(text) else { return };
    assert!(plan.target < plan.stages.len());
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        assert!(step.origin.span().start <= step.origin.span().end);
        if let StepOp::Copy(copy) = &step.op {
            assert!(!copy.sources.is_empty() && copy.dest.starts_with('/'));
        }
    }
    // Numbers grow when they are written: a plan at the limit may be too large afterwards.
    if let Ok(json) = plan.to_json() {
        assert_eq!(Plan::from_json(&json).ok().as_ref(), Some(&plan));
    }
}
