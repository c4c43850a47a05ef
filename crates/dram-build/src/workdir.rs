//! Executes `WORKDIR`: makes the directory if it is missing, owned by the user of the stage.

use std::path::PathBuf;

use dram_dockerfile::{Diagnostic, Step, Workdir};
use dram_image::TreePath;
use dram_store::Store;

use crate::layer::{LayerMaker, Override, PlaceError};
use crate::users;
use crate::{BuildError, Snapshot};

/// Makes the directory. Returns the layer's directory, or `None` if the working directory exists already.
pub(crate) fn workdir(
    store: &Store,
    below: &Snapshot,
    step: &Step,
    workdir: &Workdir,
) -> Result<Option<PathBuf>, BuildError> {
    let fail = |what: String| BuildError::at(Diagnostic::error(step.span.clone(), what));
    let view = below.view(store.layers())?;
    let path = TreePath::clean(workdir.path.as_bytes()).map_err(|error| fail(error.to_string()))?;
    let (path, there) = view.resolve(&path)?;
    if there.is_some_and(|node| node.status.kind == dram_store::FileKind::Dir) {
        return Ok(None);
    }
    let user = users::user(&view, &workdir.user).map_err(|error| fail(error.to_string()))?;
    let over = Override { owner: Some((user.ids.uid, user.ids.gid)), mode: None };
    let mut maker = LayerMaker::new(&view, store.work().fresh()?, over)?;
    match maker.make_dirs(&path) {
        Ok(()) => Ok(Some(maker.finish()?)),
        Err(PlaceError::Store(error)) => Err(error.into()),
        Err(
            error @ (PlaceError::NotDir { .. }
            | PlaceError::IsDir { .. }
            | PlaceError::Several { .. }
            | PlaceError::Remote { .. }
            | PlaceError::Changed { .. }),
        ) => Err(fail(format!("cannot make the working directory `{}`: {error}", workdir.path))),
    }
}
