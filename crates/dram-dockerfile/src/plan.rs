//! Makes the build plan: the steps to execute, and the final config of each stage.

mod copy;
mod expose;
mod history;
mod mounts;
mod stage_planner;
mod stage_state;

use std::collections::BTreeMap;

use dram_image::ImageConfig;
use dram_plan::Plan;

use crate::diagnostic::{Diagnostic, DiagnosticCollector};
use crate::graph::StageGraph;

pub use mounts::{MOUNT_KEYS, MOUNT_TYPES};

/// Plans the stages of `graph` in order. Returns no plan when there are errors.
pub(crate) fn plan_stages(
    graph: &StageGraph,
    found: &BTreeMap<String, ImageConfig>,
) -> (Option<Plan>, Vec<Diagnostic>) {
    let mut report = DiagnosticCollector::default();
    let mut budget = PlanBudget::new();
    let mut done: Vec<stage_state::StageState> = Vec::new();
    for node in &graph.stages {
        let state = stage_state::StageState::begin(graph, node, found, &done, &mut budget, &mut report);
        let mut worker = stage_planner::StagePlanner { graph, state, budget: &mut budget, report: &mut report };
        for (instruction, origins) in &node.steps {
            worker.apply(instruction, origins);
        }
        done.push(worker.state);
        if budget.is_spent() {
            break;
        }
    }
    let plan = (!report.has_errors()).then(|| Plan {
        target: done.len().saturating_sub(1),
        stages: done.into_iter().zip(&graph.stages).map(|(state, node)| state.finish(node)).collect(),
    });
    (plan, report.into_diagnostics())
}

/// The memory budget for all values of a plan: a growing environment is copied into every later step.
#[derive(Debug)]
pub(crate) struct PlanBudget {
    remaining: Option<usize>,
}

impl PlanBudget {
    const BYTES: usize = 256 << 20;

    fn new() -> PlanBudget {
        PlanBudget { remaining: Some(Self::BYTES) }
    }

    /// Subtracts `bytes` from the budget; returns false when it is exhausted.
    pub(crate) fn spend(&mut self, bytes: usize) -> bool {
        self.remaining = self.remaining.and_then(|left| left.checked_sub(bytes));
        self.remaining.is_some()
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.remaining.is_none()
    }
}
