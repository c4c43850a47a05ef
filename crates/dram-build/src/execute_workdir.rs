//! Executes `WORKDIR`: makes the directory if it is missing, owned by the user of the stage.

use std::path::PathBuf;

use dram_image::TreePath;
use dram_plan::{PlanStep, WorkdirOp};
use dram_store::Store;

use crate::layer_writer::{LayerWriteError, LayerWriter, MetadataOverride};
use crate::step_location::StepLocation;
use crate::users;
use crate::{BuildError, Snapshot};

/// Makes the directory. Returns the layer's directory, or `None` if the working directory exists already.
pub(crate) fn make_workdir(
    store: &Store,
    below: &Snapshot,
    step: &PlanStep,
    workdir: &WorkdirOp,
) -> Result<Option<PathBuf>, BuildError> {
    let fail = |what: String| BuildError::at_line(StepLocation::of(step).error(what));
    let view = below.view(store.layers())?;
    let path = TreePath::clean(workdir.path.as_bytes()).map_err(|error| fail(error.to_string()))?;
    let (path, there) = view.resolve(&path)?;
    if there.is_some_and(|node| node.status.kind == dram_store::FileKind::Dir) {
        return Ok(None);
    }
    let user = users::resolve_user(&view, &workdir.user).map_err(|error| fail(error.to_string()))?;
    let over = MetadataOverride { owner: Some((user.ids.uid, user.ids.gid)), mode: None };
    let mut maker = LayerWriter::new(&view, store.work_dir().temp_dir()?, over)?;
    match maker.make_dirs(&path) {
        Ok(()) => Ok(Some(maker.finish()?)),
        Err(LayerWriteError::Store(error)) => Err(error.into()),
        Err(
            error @ (LayerWriteError::NotDir { .. }
            | LayerWriteError::IsDir { .. }
            | LayerWriteError::SeveralSources { .. }
            | LayerWriteError::Remote { .. }
            | LayerWriteError::Changed { .. }),
        ) => Err(fail(format!("cannot make the working directory `{}`: {error}", workdir.path))),
    }
}
