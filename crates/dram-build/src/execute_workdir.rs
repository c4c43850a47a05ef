//! Executes `WORKDIR`: makes the directory if it is missing, owned by the user of the stage.

use dram_image::TreePath;
use dram_plan::WorkdirOp;
use dram_store::Store;

use crate::BuildError;
use crate::executor::ExecuteRequest;
use crate::layer_writer::{LayerWriteError, LayerWriter, MetadataOverride};
use crate::step_location::StepLocation;
use crate::temp_dir::TempDir;
use crate::users;

/// Makes the directory. Returns the layer's directory, or `None` if the working directory exists already.
pub(crate) fn make_workdir<'a>(
    store: &'a Store,
    request: &ExecuteRequest<'_>,
    workdir: &WorkdirOp,
) -> Result<Option<TempDir<'a>>, BuildError> {
    let fail = |what: String| BuildError::at_line(StepLocation::of(request.step).error(what));
    let view = store.layers().view(request.layers)?;
    let path = TreePath::clean(workdir.path.as_bytes()).map_err(|error| fail(error.to_string()))?;
    let (path, there) = view.resolve(&path)?;
    if there.is_some_and(|node| node.status.kind == dram_store::FileKind::Dir) {
        return Ok(None);
    }
    let user = users::resolve_user(&view, &workdir.user).map_err(|error| fail(error.to_string()))?;
    let over = MetadataOverride { owner: Some((user.ids.uid, user.ids.gid)), mode: None };
    let made = TempDir::new(store)?;
    let mut writer = LayerWriter::new(&view, made.path(), over, request.now)?;
    match writer.make_dirs(&path) {
        Ok(()) => {
            writer.finish()?;
            Ok(Some(made))
        }
        Err(LayerWriteError::Store(error)) => Err(error.into()),
        Err(
            error @ (LayerWriteError::NotDir { .. }
            | LayerWriteError::IsDir { .. }
            | LayerWriteError::SeveralSources { .. }
            | LayerWriteError::Remote { .. }
            | LayerWriteError::Time { .. }
            | LayerWriteError::Changed { .. }),
        ) => Err(fail(format!("cannot make the working directory `{}`: {error}", workdir.path))),
    }
}
