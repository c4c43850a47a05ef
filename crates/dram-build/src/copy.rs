//! Executes `COPY` and `ADD`: files of a tree become a layer, without a mount and without a process.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dram_dockerfile::{Copy, Diagnostic, GitRef, SourceKind, Step, Unpack};
use dram_image::TreePath;
use dram_store::{FileKind, Merged, Store, StoreError, Tree};

use crate::brought::{self, Brought};
use crate::layer::{LayerMaker, Override, PlaceError};
use crate::pick::Picked;
use crate::remotes::{FetchedFile, Remotes};
use crate::select::Selected;
use crate::users::{self, UserError};
use crate::{BuildError, Snapshot};

/// The layers that a copy is made over.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The layers below. With `--link` there are none, so the copy stays cached if they change.
    pub(crate) below: Snapshot,
    /// With `--link`: the user and group of `--chown`, resolved in the layers below.
    pub(crate) owner: Option<(u32, u32)>,
}

impl Ground {
    /// Returns the layers that `copy` is made over, in a stage whose layers are `below`.
    ///
    /// # Errors
    /// Returns an error if the user or group of `--chown` does not exist.
    pub(crate) fn of(store: &Store, step: &Step, copy: &Copy, below: &Snapshot) -> Result<Ground, BuildError> {
        if !copy.link {
            return Ok(Ground { below: below.clone(), owner: None });
        }
        let owner = match &copy.chown {
            Some(_) => owner(&below.view(store.layers())?, step, copy, false)?,
            None => None,
        };
        Ok(Ground { below: Snapshot::default(), owner })
    }
}

/// Copies `selected` of the tree `from` over `ground`. Files of a build context belong to root unless the copy says
/// otherwise. Returns the layer's directory, or `None` if nothing was copied.
pub(crate) fn copy(
    (store, remotes): (&Store, &dyn Remotes),
    ground: &Ground,
    step: &Step,
    copy: &Copy,
    from: &FromTree<'_>,
    (selected, fetched): (&[Selected], &[Option<Brought>]),
) -> Result<Option<PathBuf>, BuildError> {
    let view = ground.below.view(store.layers())?;
    let owner = match ground.owner {
        Some(owner) => Some(owner),
        None => owner(&view, step, copy, !from.owners)?,
    };
    let over = Override { owner, mode: copy.chmod.clone() };
    let mut maker = LayerMaker::new(&view, store.work().fresh()?, over)?;
    maker.user_xattrs = !from.is_context;
    let taken: BTreeSet<usize> = selected.iter().map(|one| one.source).collect();
    let others = copy.sources.iter().filter(|source| !matches!(source.kind, SourceKind::Path)).count();
    let several = taken.len() + others > 1;
    let copied = Copying { store, copy, from, maker: &mut maker, remotes, several }.all(selected, fetched);
    copied.map_err(|error| match error {
        PlaceError::Store(error) => BuildError::from(error),
        PlaceError::Remote { at, error } => brought::failed(error, &copy.sources[at]),
        PlaceError::Changed { .. } => {
            let help = "build again when nothing writes to the build context";
            BuildError::at(Diagnostic::error(step.span.clone(), error.to_string()).help(help))
        }
        PlaceError::Several { .. } => {
            let help = format!("write `{}/`", copy.dest);
            BuildError::at(Diagnostic::error(copy.spans.dest.clone(), error.to_string()).help(help))
        }
        PlaceError::NotDir { .. } | PlaceError::IsDir { .. } => {
            let what = format!("cannot copy to `{}`: {error}", copy.dest);
            let help = "copy to another path, or remove what is in the way with a RUN before";
            BuildError::at(Diagnostic::error(copy.spans.dest.clone(), what).help(help))
        }
    })?;
    if maker.is_empty() {
        return Ok(None);
    }
    Ok(Some(maker.finish()?))
}

/// The tree that is copied from.
pub(crate) struct FromTree<'a> {
    /// The tree.
    pub(crate) tree: &'a dyn Tree,
    /// True if it is a build context, whose `user.*` attributes are not copied.
    pub(crate) is_context: bool,
    /// True if owners are kept. Those of a directory of the user have no meaning in an image.
    pub(crate) owners: bool,
}

fn owner(view: &Merged, step: &Step, copy: &Copy, is_roots: bool) -> Result<Option<(u32, u32)>, BuildError> {
    let Some(text) = &copy.chown else { return Ok(is_roots.then_some((0, 0))) };
    users::owner(view, text).map(Some).map_err(|error| match error {
        UserError::Store(error) => error.into(),
        UserError::NoUser(_) | UserError::NoGroup(_) | UserError::Large(_) => {
            let span = copy.spans.chown.clone().unwrap_or_else(|| step.span.clone());
            let diagnostic = Diagnostic::error(span, error.to_string());
            BuildError::at(diagnostic.help("make the user in this stage first, or write its number"))
        }
    })
}

struct Copying<'a, 'b> {
    store: &'a Store,
    copy: &'a Copy,
    from: &'a FromTree<'a>,
    maker: &'a mut LayerMaker<'b>,
    remotes: &'a dyn Remotes,
    /// True if more than one source selects something; then each needs a name of its own at the destination.
    several: bool,
}

impl Copying<'_, '_> {
    /// Copies all sources in order. Each target is resolved when its source is copied, because an earlier source may
    /// have made the directory or file there.
    fn all(&mut self, selected: &[Selected], brought: &[Option<Brought>]) -> Result<(), PlaceError> {
        let dest = TreePath::clean(self.copy.dest.as_bytes()).map_err(StoreError::from)?;
        let (dest, _) = self.maker.resolve(&dest)?;
        for (at, source) in self.copy.sources.iter().enumerate() {
            match (&source.kind, brought.get(at).and_then(Option::as_ref)) {
                (SourceKind::Inline(text), _) => {
                    let target = self.target(&dest, source.text.as_bytes())?;
                    self.maker.write_file(&target, text.as_bytes(), 0o644)?;
                }
                (_, Some(Brought::File(file))) => self.file(file, &dest)?,
                (SourceKind::Git(git), _) => self.repository(at, git, &dest)?,
                (_, Some(Brought::Commit(_)) | None) => {
                    for one in selected.iter().filter(|one| one.source == at) {
                        self.one(one, &dest)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, one: &Selected, dest: &TreePath) -> Result<(), PlaceError> {
        if self.copy.unpack != Unpack::No && one.node.status.kind == FileKind::File {
            let stream = self.from.tree.open(&one.node.path)?;
            if self.unpacked(stream, &one.name, dest)? {
                return Ok(());
            }
        }
        if one.node.status.kind == FileKind::Dir {
            self.maker.make_dirs(dest)?;
            let picked = one.seen.as_ref().map(|seen| Picked { tree: self.from.tree, seen });
            let tree = picked.as_ref().map_or(self.from.tree, |picked| picked as &dyn Tree);
            return self.maker.copy_contents(tree, &one.node.path, dest);
        }
        let target = self.target(dest, &one.name)?;
        self.maker.copy_file(self.from.tree, &one.node, &target)
    }

    /// Copies a fetched file. It belongs to root unless the copy says otherwise.
    fn file(&mut self, file: &FetchedFile, dest: &TreePath) -> Result<(), PlaceError> {
        let open = || {
            std::fs::File::open(&file.path).map_err(|source| {
                let path = file.path.clone();
                StoreError::Io { verb: "read", path, source }
            })
        };
        if self.copy.unpack == Unpack::All && self.unpacked(open()?, file.file_name.as_bytes(), dest)? {
            return Ok(());
        }
        let target = self.target(dest, file.file_name.as_bytes())?;
        self.maker.write_from(&target, &mut open()?, (0o600, file.mtime.unwrap_or(0)))
    }

    fn repository(&mut self, at: usize, git: &GitRef, dest: &TreePath) -> Result<(), PlaceError> {
        let tree = self.remotes.git(git, git.keep_git_dir.unwrap_or(false));
        let tree = tree.map_err(|error| PlaceError::Remote { at, error })?;
        self.maker.make_dirs(dest)?;
        let files = Merged::open(std::slice::from_ref(&tree.path))?;
        let over = self.maker.over.clone();
        self.maker.over.owner.get_or_insert((0, 0));
        let copied = self.maker.copy_contents(&files, &TreePath::root(), dest);
        self.maker.over = over;
        copied
    }

    /// Returns the target path of a file called `name`, after making its parent directories.
    fn target(&mut self, dest: &TreePath, name: &[u8]) -> Result<TreePath, PlaceError> {
        let target = if self.copy.dest.ends_with('/') || self.maker.is_dir(dest)? {
            dest.append(&TreePath::parse(name).map_err(StoreError::from)?)
        } else if self.several {
            return Err(PlaceError::Several { path: dest.clone() });
        } else {
            dest.clone()
        };
        self.maker.make_dirs(&target.parent().unwrap_or_default())?;
        Ok(target)
    }

    /// For `ADD`: unpacks `stream` into the directory `dest` if it is an archive. Returns whether it is one.
    fn unpacked(&mut self, stream: std::fs::File, name: &[u8], dest: &TreePath) -> Result<bool, PlaceError> {
        let into = self.store.work().fresh()?;
        let what = String::from_utf8_lossy(name).into_owned();
        if !self.store.layers().unpack_archive(stream, &into, &what)? {
            self.store.work().discard(&into);
            return Ok(false);
        }
        self.maker.make_dirs(dest)?;
        let archive = Merged::open(std::slice::from_ref(&into))?;
        // Owners in an archive are kept unless the copy has `--chown`.
        let over = self.maker.over.clone();
        if self.copy.chown.is_none() {
            self.maker.over.owner = None;
        }
        self.maker.replace = true;
        let copied = self.maker.copy_contents(&archive, &TreePath::root(), dest);
        (self.maker.over, self.maker.replace) = (over, false);
        self.store.work().discard(&into);
        copied.map(|()| true)
    }
}
