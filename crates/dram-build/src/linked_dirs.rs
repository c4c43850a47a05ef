//! Finds the directories that a copy with `--link` changes: its layer is made without the layers below, and hides what they
//! have at the same paths.

use dram_dockerfile::Diagnostic;
use dram_image::TreePath;
use dram_plan::{CopyOp, PlanStep, StepPart};
use dram_store::{FileKind, FileStatus, FileTree, StoreError};

use crate::step_location::StepLocation;

/// Returns a warning if the directories that lead to the destination of `copy` hide others of `below`: a directory with
/// another owner or mode, or a link. `layer` is the layer of the copy.
///
/// # Errors
/// Returns an error if a layer cannot be read.
pub(crate) fn hidden_dirs_warning(
    (step, copy): (&PlanStep, &CopyOp),
    layer: &dyn FileTree,
    below: &dyn FileTree,
) -> Result<Option<Diagnostic>, StoreError> {
    let dest = TreePath::clean(copy.dest.as_bytes())?;
    let mut changes = Vec::new();
    let mut at = TreePath::root();
    for part in dest.components() {
        at = at.join(part);
        let (Some(made), Some(there)) = (layer.find(&at, false)?, below.find(&at, false)?) else { break };
        if made.status.kind != FileKind::Dir {
            break;
        }
        match there.status.kind {
            FileKind::Dir if access_text(&made.status) == access_text(&there.status) => {}
            FileKind::Dir => changes.push(format!(
                "`{at}` gets {} instead of {}",
                access_text(&made.status),
                access_text(&there.status)
            )),
            FileKind::File
            | FileKind::Symlink
            | FileKind::Char(..)
            | FileKind::Block(..)
            | FileKind::Fifo
            | FileKind::Socket => {
                changes.push(format!("a directory `{at}` replaces what was there"));
                break;
            }
        }
    }
    if changes.is_empty() {
        return Ok(None);
    }
    let what = format!("`--link` copies without looking at the layers below: {}", changes.join(", "));
    let help = "leave out `--link`, and the directories that exist stay as they are";
    Ok(Some(StepLocation::of_part(step, StepPart::Dest).warning(what).help(help)))
}

/// Returns mode and owner, for messages.
fn access_text(status: &FileStatus) -> String {
    format!("mode {:04o} and owner {}:{}", status.mode & 0o7777, status.uid, status.gid)
}
