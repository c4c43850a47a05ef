//! The files of a command's mounts: resolves them, digests their content, and puts them into a directory that can be
//! bind-mounted.

use std::path::{Path, PathBuf};

use dram_dockerfile::{Diagnostic, Mount, MountKind, Source, SourceKind};
use dram_image::TreePath;
use dram_store::{Dir, FileKind, LayerId, Merged, Node, Store, StoreError, Tree};

use crate::content::Content;
use crate::context::Opened;
use crate::layer::{LayerMaker, Override, PlaceError, take_over_root};
use crate::select::{self, Place, Selected};
use crate::{BuildError, Context, Snapshot};

/// The origin of a mount's files.
pub(crate) enum Origin {
    /// A stage or an image.
    Snapshot(Snapshot),
    /// The build context or a named context.
    Context(Context),
}

/// The resolved files of one mount.
pub(crate) struct Picked {
    origin: Origin,
    tree: PickedTree,
    /// The node of the source path.
    node: Node,
    /// The digest of everything that the command can see.
    pub(crate) content: Content,
}

enum PickedTree {
    Layers(Merged),
    Context(Opened),
}

impl PickedTree {
    fn get(&self) -> &dyn Tree {
        match self {
            PickedTree::Layers(tree) => tree,
            PickedTree::Context(opened) => opened.tree(),
        }
    }
}

/// Returns the source path of a mount, or `None` for a mount without files.
pub(crate) fn source_of(kind: &MountKind) -> Option<&str> {
    match kind {
        MountKind::Bind { source, .. } => Some(source),
        MountKind::Cache(cache) => cache.seed.as_ref().map(|(_, source)| source.as_str()),
        MountKind::Secret { .. } | MountKind::Ssh { .. } | MountKind::Tmpfs { .. } => None,
    }
}

/// Resolves the files that `mount` shows of `origin`, which messages call `name`.
pub(crate) fn pick(store: &Store, mount: &Mount, origin: Origin, name: &str) -> Result<Picked, BuildError> {
    let text = source_of(&mount.kind).unwrap_or("/").to_owned();
    let source = Source { text, kind: SourceKind::Path, span: mount.span.clone() };
    match &origin {
        Origin::Snapshot(snapshot) => {
            let view = snapshot.root(store)?;
            let place = Place { name: name.to_owned(), hides: &|_| false };
            let (node, content) = find(&view, &source, &place, true)?;
            Ok(Picked { origin, tree: PickedTree::Layers(view), node, content })
        }
        Origin::Context(context) => {
            let opened = context.open(store)?;
            let place = Place { name: name.to_owned(), hides: &|path| opened.hides(path) };
            let found = find(opened.tree(), &source, &place, context.keeps_owners());
            opened.save(store);
            let (node, content) = found?;
            Ok(Picked { origin, tree: PickedTree::Context(opened), node, content })
        }
    }
}

fn find(tree: &dyn Tree, source: &Source, place: &Place<'_>, owners: bool) -> Result<(Node, Content), BuildError> {
    let path = TreePath::clean(source.text.as_bytes()).map_err(|error| {
        let what = format!("`{}` cannot be a path: {error}", source.text);
        BuildError::at(Diagnostic::error(source.span.clone(), what))
    })?;
    let Some(node) = tree.find(&path, true)? else { return Err(select::missing(tree, &path, source, place)?) };
    let selected = Selected { name: Vec::new(), node: node.clone(), source: 0, seen: None };
    let content = Content::of(tree, &[selected], owners)?;
    Ok((node, content))
}

impl Snapshot {
    /// Returns the snapshot as one merged tree, which has a root even if the snapshot is empty.
    ///
    /// # Errors
    /// Returns an error if a layer is missing or cannot be fetched.
    pub(crate) fn root(&self, store: &Store) -> Result<Merged, StoreError> {
        match self.layers.is_empty() {
            true => Merged::open(&[empty(store)?]),
            false => self.view(store.layers()),
        }
    }
}

/// Makes an empty directory as the root of an empty snapshot.
pub(crate) fn empty(store: &Store) -> Result<PathBuf, StoreError> {
    let path = store.work().fresh()?;
    take_over_root(&Dir::open_layer(&path)?, &Merged::open(&[])?)?;
    Ok(path)
}

/// Files in a form that can be bind-mounted.
pub(crate) enum Shown {
    /// Layers, lowest first.
    Layers(Vec<LayerId>),
    /// A directory that was made for them.
    Copy(PathBuf),
}

impl Picked {
    /// Returns whether it is a directory.
    fn is_dir(&self) -> bool {
        self.node.status.kind == FileKind::Dir
    }

    /// Makes the files available for a bind mount; returns them with the path inside. Files of a stage or image are
    /// mounted from its layers. Files of a build context are copied: ignored files must not be visible, root owns them
    /// as after a `COPY`, and no command can change the user's own files.
    pub(crate) fn show(&self, store: &Store, mount: &Mount) -> Result<(Shown, Vec<u8>), BuildError> {
        match &self.origin {
            Origin::Snapshot(snapshot) => {
                let layers = snapshot.layers.iter().map(|layer| layer.id.clone()).collect();
                Ok((Shown::Layers(layers), self.node.path.as_bytes().to_vec()))
            }
            Origin::Context(_) => {
                let place = store.work().fresh()?;
                self.copy_to(&place, mount)?;
                Ok((Shown::Copy(place), if self.is_dir() { Vec::new() } else { b"file".to_vec() }))
            }
        }
    }

    /// Copies the files into the empty directory `place`: the content of a directory, or a file under the name `file`.
    pub(crate) fn copy_to(&self, place: &Path, mount: &Mount) -> Result<(), BuildError> {
        let (is_context, keeps_owners) = match &self.origin {
            Origin::Snapshot(_) => (false, true),
            Origin::Context(context) => (true, context.keeps_owners()),
        };
        let owner = (!keeps_owners).then_some((0, 0));
        let nothing = Merged::open(&[])?;
        let mut maker = LayerMaker::new(&nothing, place.to_owned(), Override { owner, mode: None })?;
        maker.user_xattrs = !is_context;
        let root = TreePath::root();
        let tree = self.tree.get();
        let copied = match self.is_dir() {
            true => maker.copy_contents(tree, &self.node.path, &root),
            false => maker.copy_file(tree, &self.node, &root.join(b"file")),
        };
        copied.map_err(|error| match error {
            PlaceError::Store(error) => BuildError::from(error),
            error => {
                let help = "build again when nothing writes to the build context";
                BuildError::at(Diagnostic::error(mount.span.clone(), error.to_string()).help(help))
            }
        })?;
        maker.finish()?;
        if self.is_dir() {
            let mut meta = self.node.status.meta();
            (meta.uid, meta.gid) = owner.unwrap_or((meta.uid, meta.gid));
            Dir::open_layer(place)?.set_meta(&root, &meta, false)?;
        }
        Ok(())
    }

    /// Returns an error if the initial content of a cache mount is not a directory.
    pub(crate) fn must_be_dir(&self, mount: &Mount) -> Result<(), BuildError> {
        if self.is_dir() {
            return Ok(());
        }
        let what = format!("a cache starts with a directory, and `{}` is none", self.node.path);
        Err(BuildError::at(Diagnostic::error(mount.span.clone(), what).help("name the directory it is in")))
    }
}
