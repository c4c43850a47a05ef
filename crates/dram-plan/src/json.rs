//! The serialised form of a plan: JSON with a version, read within bounds.

use serde::{Deserialize, Serialize};

use crate::{Plan, PlanError, PlanStage};

/// The version of the format.
pub const PLAN_VERSION: u32 = 1;

/// The maximum size of a serialised plan, in bytes.
pub const MAX_PLAN_SIZE: usize = 32 << 20;

/// The reasons why a plan cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PlanFormatError {
    /// The serialised plan is longer than [`MAX_PLAN_SIZE`].
    #[error("the plan has {size} bytes, and {MAX_PLAN_SIZE} are the most")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// The text is not JSON, or not that of a plan.
    #[error("the text is not a plan")]
    Json(#[source] serde_json::Error),
    /// The plan has a version that this program does not know.
    #[error("the plan has version {found}, and this program reads version {PLAN_VERSION}")]
    Version {
        /// The version of the plan.
        found: u64,
    },
    /// The plan contradicts itself, or has a value that no step can have.
    #[error(transparent)]
    Invalid(#[from] PlanError),
}

/// The fields of the serialised form.
#[derive(Serialize)]
struct PlanDocumentRef<'a> {
    version: u32,
    stages: &'a [PlanStage],
    target: usize,
}

/// As [`PlanDocumentRef`], for reading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanDocument {
    #[serde(rename = "version")]
    _version: u32,
    stages: Vec<PlanStage>,
    target: usize,
}

/// Reads the version of a plan whose other fields may be unknown.
#[derive(Deserialize)]
struct PlanDocumentVersion {
    version: u64,
}

impl Plan {
    /// Writes the plan as JSON. Everything that is written can be read back.
    ///
    /// # Errors
    /// Returns an error if the plan is not valid or too large.
    pub fn to_json(&self) -> Result<Vec<u8>, PlanFormatError> {
        self.validate()?;
        let document = PlanDocumentRef { version: PLAN_VERSION, stages: &self.stages, target: self.target };
        let json = serde_json::to_vec(&document).map_err(PlanFormatError::Json)?;
        check_size(&json)?;
        Ok(json)
    }

    /// Reads a plan from JSON and checks it.
    ///
    /// # Errors
    /// Returns an error if the text is too large, not a plan, or a plan that is not valid.
    pub fn from_json(text: &[u8]) -> Result<Plan, PlanFormatError> {
        check_size(text)?;
        let PlanDocumentVersion { version } = serde_json::from_slice(text).map_err(PlanFormatError::Json)?;
        if version != u64::from(PLAN_VERSION) {
            return Err(PlanFormatError::Version { found: version });
        }
        let document: PlanDocument = serde_json::from_slice(text).map_err(PlanFormatError::Json)?;
        let plan = Plan { stages: document.stages, target: document.target };
        plan.validate()?;
        Ok(plan)
    }
}

fn check_size(text: &[u8]) -> Result<(), PlanFormatError> {
    if text.len() > MAX_PLAN_SIZE { Err(PlanFormatError::TooLarge { size: text.len() }) } else { Ok(()) }
}
