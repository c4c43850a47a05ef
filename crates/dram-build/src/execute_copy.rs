//! Executes `COPY` and `ADD`: files of a tree become a layer, without a mount and without a process.

use std::collections::BTreeSet;
use std::fmt;

use dram_image::TreePath;
use dram_plan::{CopyOp, CopySourceKind, GitRef, PlanStep, StepPart, UnpackPolicy};
use dram_store::{FileKind, FileTree, MergedTree, Store, StoreError};

use crate::executor::ExecuteRequest;
use crate::fetched_source::{self, FetchedSource};
use crate::filtered_tree::FilteredTree;
use crate::layer_writer::{ArchiveRules, LayerWriteError, LayerWriter, MetadataOverride};
use crate::remote_fetcher::{FetchedFile, RemoteFetcher};
use crate::select_sources::SelectedNode;
use crate::step_location::StepLocation;
use crate::temp_dir::TempDir;
use crate::users::{self, UserError};
use crate::{BuildError, LayerProvider, Snapshot};

/// The layers that a copy is made over.
#[derive(Debug)]
pub(crate) struct CopyBase {
    /// The layers below. With `--link` there are none, so the copy stays cached if they change.
    pub(crate) below: Snapshot,
    /// With `--link`: the user and group of `--chown`, resolved in the layers below.
    pub(crate) owner: Option<(u32, u32)>,
}

impl CopyBase {
    /// Returns the layers that `copy` is made over, in a stage whose layers are `below`.
    ///
    /// # Errors
    /// Returns an error if the user or group of `--chown` does not exist.
    pub(crate) fn of(
        provider: &LayerProvider<'_>,
        step: &PlanStep,
        copy: &CopyOp,
        below: &Snapshot,
    ) -> Result<CopyBase, BuildError> {
        if !copy.link {
            return Ok(CopyBase { below: below.clone(), owner: None });
        }
        let owner = match &copy.chown {
            Some(_) => {
                let view = provider.store().layers().view(&provider.ensure(&below.layers)?)?;
                chown_owner(&view, step, copy, false)?
            }
            None => None,
        };
        Ok(CopyBase { below: Snapshot::default(), owner })
    }
}

/// A copy to execute.
pub struct CopyRequest<'a> {
    /// The operation.
    pub(crate) copy: &'a CopyOp,
    /// The owner of the copied files, if it was resolved before.
    pub(crate) owner: Option<(u32, u32)>,
    /// The tree that is copied from.
    pub(crate) from: &'a SourceTree<'a>,
    /// The nodes of that tree that are copied.
    pub(crate) selected: &'a [SelectedNode],
    /// The fetched sources: one entry for each source, `None` for a local one.
    pub(crate) fetched: &'a [Option<FetchedSource>],
    /// The fetcher for repositories.
    pub(crate) remotes: &'a dyn RemoteFetcher,
}

impl fmt::Debug for CopyRequest<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("CopyRequest").field("copy", &self.copy).finish_non_exhaustive()
    }
}

/// Copies the selected files over the input layers. Files of a build context belong to root unless the copy says
/// otherwise. Returns the layer's directory, or `None` if nothing was copied.
pub(crate) fn write_copy<'a>(
    store: &'a Store,
    request: &ExecuteRequest<'_>,
    asked: &CopyRequest<'_>,
) -> Result<Option<TempDir<'a>>, BuildError> {
    let CopyRequest { copy, owner, from, selected, fetched, remotes } = *asked;
    let view = store.layers().view(request.layers)?;
    let owner = match owner {
        Some(owner) => Some(owner),
        None => chown_owner(&view, request.step, copy, !from.owners)?,
    };
    let over = MetadataOverride { owner, mode: copy.chmod.clone() };
    let made = TempDir::new(store)?;
    let mut maker = LayerWriter::new(&view, made.path(), over, request.now)?;
    maker.copies_user_xattrs = !from.is_context;
    let taken: BTreeSet<usize> = selected.iter().map(|one| one.source).collect();
    let others = copy.sources.iter().filter(|source| !matches!(source.kind, CopySourceKind::Path)).count();
    let several = taken.len() + others > 1;
    let copied = CopyWriter { store, copy, from, maker: &mut maker, remotes, has_several_sources: several }
        .copy_sources(selected, fetched);
    copied.map_err(|error| copy_failure(error, request.step, copy))?;
    if maker.is_empty() {
        return Ok(None);
    }
    maker.finish()?;
    Ok(Some(made))
}

fn copy_failure(error: LayerWriteError, step: &PlanStep, copy: &CopyOp) -> BuildError {
    match error {
        LayerWriteError::Store(error) => BuildError::from(error),
        LayerWriteError::Remote { at, error } => {
            fetched_source::fetch_failure(error, StepLocation::of_part(step, StepPart::Source(at)))
        }
        LayerWriteError::Changed { .. } => {
            let help = "build again when nothing writes to the build context";
            BuildError::at_line(StepLocation::of(step).error(error.to_string()).help(help))
        }
        LayerWriteError::Time { .. } => {
            let help = "give the file another time with `touch`";
            BuildError::at_line(StepLocation::of(step).error(error.to_string()).help(help))
        }
        LayerWriteError::SeveralSources { .. } => {
            let help = format!("write `{}/`", copy.dest);
            BuildError::at_line(StepLocation::of_part(step, StepPart::Dest).error(error.to_string()).help(help))
        }
        LayerWriteError::NotDir { .. } | LayerWriteError::IsDir { .. } => {
            let what = format!("cannot copy to `{}`: {error}", copy.dest);
            let help = "copy to another path, or remove what is in the way with a RUN before";
            BuildError::at_line(StepLocation::of_part(step, StepPart::Dest).error(what).help(help))
        }
    }
}

/// The tree that is copied from.
pub(crate) struct SourceTree<'a> {
    /// The tree.
    pub(crate) tree: &'a dyn FileTree,
    /// True if it is a build context, whose `user.*` attributes are not copied.
    pub(crate) is_context: bool,
    /// True if owners are kept. Those of a directory of the user have no meaning in an image.
    pub(crate) owners: bool,
}

fn chown_owner(
    view: &MergedTree,
    step: &PlanStep,
    copy: &CopyOp,
    is_roots: bool,
) -> Result<Option<(u32, u32)>, BuildError> {
    let Some(text) = &copy.chown else { return Ok(is_roots.then_some((0, 0))) };
    users::resolve_owner(view, text).map(Some).map_err(|error| match error {
        UserError::Store(error) => error.into(),
        UserError::NoUser(_) | UserError::NoGroup(_) | UserError::IdTooLarge(_) | UserError::InvalidEntry { .. } => {
            let diagnostic = StepLocation::of_part(step, StepPart::Chown).error(error.to_string());
            BuildError::at_line(diagnostic.help("make the user in this stage first, or write its number"))
        }
    })
}

struct CopyWriter<'a, 'b> {
    store: &'a Store,
    copy: &'a CopyOp,
    from: &'a SourceTree<'a>,
    maker: &'a mut LayerWriter<'b>,
    remotes: &'a dyn RemoteFetcher,
    /// True if more than one source selects something; then each needs a name of its own at the destination.
    has_several_sources: bool,
}

impl CopyWriter<'_, '_> {
    /// Copies all sources in order. Each target is resolved when its source is copied, because an earlier source may
    /// have made the directory or file there.
    fn copy_sources(
        &mut self,
        selected: &[SelectedNode],
        brought: &[Option<FetchedSource>],
    ) -> Result<(), LayerWriteError> {
        let dest = TreePath::clean(self.copy.dest.as_bytes()).map_err(StoreError::from)?;
        let (dest, _) = self.maker.resolve(&dest)?;
        for (at, source) in self.copy.sources.iter().enumerate() {
            match (&source.kind, brought.get(at).and_then(Option::as_ref)) {
                (CopySourceKind::Inline(text), _) => {
                    let target = self.target_path(&dest, source.text.as_bytes())?;
                    self.maker.write_file(&target, text.as_bytes(), 0o644)?;
                }
                (_, Some(FetchedSource::File(file))) => self.copy_fetched_file(file, &dest)?,
                (CopySourceKind::Git(git), _) => self.copy_repository(at, git, &dest)?,
                (_, Some(FetchedSource::Commit(_)) | None) => {
                    for one in selected.iter().filter(|one| one.source == at) {
                        self.copy_selected(one, &dest)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn copy_selected(&mut self, one: &SelectedNode, dest: &TreePath) -> Result<(), LayerWriteError> {
        if self.copy.unpack != UnpackPolicy::No && one.node.status.kind == FileKind::File {
            let stream = self.from.tree.open(&one.node.path)?;
            if self.unpack_if_archive(stream, &one.name, dest)? {
                return Ok(());
            }
        }
        if one.node.status.kind == FileKind::Dir {
            self.maker.make_dirs(dest)?;
            let picked = one.visible.as_ref().map(|seen| FilteredTree { tree: self.from.tree, visible: seen });
            let tree = picked.as_ref().map_or(self.from.tree, |picked| picked as &dyn FileTree);
            return self.maker.copy_contents(tree, &one.node.path, dest);
        }
        let target = self.target_path(dest, &one.name)?;
        self.maker.copy_file(self.from.tree, &one.node, &target)
    }

    /// Copies a fetched file. It belongs to root unless the copy says otherwise.
    fn copy_fetched_file(&mut self, file: &FetchedFile, dest: &TreePath) -> Result<(), LayerWriteError> {
        let open = || {
            std::fs::File::open(&file.path).map_err(|source| {
                let path = file.path.clone();
                StoreError::Io { verb: "read", path, source }
            })
        };
        if self.copy.unpack == UnpackPolicy::All && self.unpack_if_archive(open()?, file.file_name.as_bytes(), dest)? {
            return Ok(());
        }
        let target = self.target_path(dest, file.file_name.as_bytes())?;
        // Without `Last-Modified`, BuildKit and buildah give the file the beginning of 1970, too.
        self.maker.write_stream(&target, &mut open()?, (0o600, (file.mtime.unwrap_or(0), 0)))
    }

    fn copy_repository(&mut self, at: usize, git: &GitRef, dest: &TreePath) -> Result<(), LayerWriteError> {
        let tree = self.remotes.fetch_repository(git, git.keep_git_dir.unwrap_or(false));
        let tree = tree.map_err(|error| LayerWriteError::Remote { at, error })?;
        self.maker.make_dirs(dest)?;
        let files = MergedTree::open(std::slice::from_ref(&tree.path))?;
        let over = self.maker.metadata.clone();
        self.maker.metadata.owner.get_or_insert((0, 0));
        let copied = self.maker.copy_contents(&files, &TreePath::root(), dest);
        self.maker.metadata = over;
        copied
    }

    /// Returns the target path of a file called `name`, after making its parent directories.
    fn target_path(&mut self, dest: &TreePath, name: &[u8]) -> Result<TreePath, LayerWriteError> {
        let target = if self.copy.dest.ends_with('/') || self.maker.is_dir(dest)? {
            dest.append(&TreePath::parse(name).map_err(StoreError::from)?)
        } else if self.has_several_sources {
            return Err(LayerWriteError::SeveralSources { path: dest.clone() });
        } else {
            dest.clone()
        };
        self.maker.make_dirs(&target.parent().unwrap_or_default())?;
        Ok(target)
    }

    /// For `ADD`: unpacks `stream` into the directory `dest` if it is an archive. Returns whether it is one.
    fn unpack_if_archive(
        &mut self,
        stream: std::fs::File,
        name: &[u8],
        dest: &TreePath,
    ) -> Result<bool, LayerWriteError> {
        let into = TempDir::new(self.store)?;
        let what = String::from_utf8_lossy(name).into_owned();
        let Some(implied_dirs) = self.store.layers().unpack_archive(stream, into.path(), &what)? else {
            return Ok(false);
        };
        let archive = MergedTree::open(&[into.path().to_owned()])?;
        let over = self.maker.metadata.clone();
        // An archive keeps its modes: `--chmod` has no effect on it, as in Docker 28 and BuildKit 0.32.
        self.maker.metadata.mode = None;
        self.maker.make_dirs(dest)?;
        // Owners in an archive are kept unless the copy has `--chown`.
        if self.copy.chown.is_none() {
            self.maker.metadata.owner = None;
        }
        self.maker.archive = Some(ArchiveRules { implied_dirs });
        let copied = self.maker.copy_contents(&archive, &TreePath::root(), dest);
        (self.maker.metadata, self.maker.archive) = (over, None);
        copied.map(|()| true)
    }
}
