//! The files of a command's mounts: resolves them, digests their content, and puts them into a directory that can be
//! bind-mounted.

use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_plan::RunMount;
use dram_store::{Dir, FileKind, FileTree, LayerId, MergedTree, SavedDigests, Store, TreeNode};

use crate::build_context::OpenContext;
use crate::content_digest::ContentDigest;
use crate::layer_provider::RootedTree;
use crate::layer_writer::{LayerWriteError, LayerWriter, MetadataOverride};
use crate::select_sources::{self, LocatedSource, SearchedTree, SelectedNode};
use crate::step_location::StepLocation;
use crate::temp_dir::TempDir;
use crate::{BuildContext, BuildError, LayerProvider, Snapshot};

/// The origin of a mount's files.
pub(crate) enum MountOrigin {
    /// A stage or an image.
    Snapshot(Snapshot),
    /// The build context or a named context.
    Context(BuildContext),
}

/// The resolved files of one mount.
pub(crate) struct MountFiles<'a> {
    tree: MountTree<'a>,
    /// The node of the source path.
    node: TreeNode,
    /// The digest of everything that the command can see.
    pub(crate) content: ContentDigest,
}

enum MountTree<'a> {
    /// Layers of a stage or an image, lowest first.
    Layers {
        ids: Vec<LayerId>,
        tree: RootedTree<'a>,
    },
    Context {
        opened: OpenContext,
        keeps_owners: bool,
    },
}

impl MountTree<'_> {
    fn get(&self) -> &dyn FileTree {
        match self {
            MountTree::Layers { tree, .. } => &tree.tree,
            MountTree::Context { opened, .. } => opened.tree(),
        }
    }
}

/// Returns the source path of a mount, or `None` for a mount without files.
pub(crate) fn mount_source_path(mount: &RunMount) -> Option<&str> {
    match mount {
        RunMount::Bind { source, .. } => Some(source),
        RunMount::Cache(cache) => cache.seed.as_ref().map(|(_, source)| source.as_str()),
        RunMount::Secret { .. } | RunMount::Ssh { .. } | RunMount::Tmpfs { .. } => None,
    }
}

/// Resolves the files that `mount` shows of `origin`, which messages call `name`. `saved` says whether digests of a build
/// context's files are taken from earlier builds.
pub(crate) fn resolve_mount_files<'a>(
    (provider, saved): (&LayerProvider<'a>, SavedDigests),
    (mount, location): (&RunMount, StepLocation<'_>),
    origin: &MountOrigin,
    name: &str,
) -> Result<MountFiles<'a>, BuildError> {
    let store = provider.store();
    let source = LocatedSource { text: mount_source_path(mount).unwrap_or("/"), location };
    match origin {
        MountOrigin::Snapshot(snapshot) => {
            let ids = provider.ensure(&snapshot.layers)?;
            let tree = RootedTree::open(store, &ids)?;
            let place = SearchedTree { name: name.to_owned(), is_context: false, is_ignored: &|_| false };
            let (node, content) = find_source(&tree.tree, source, &place, true)?;
            Ok(MountFiles { tree: MountTree::Layers { ids, tree }, node, content })
        }
        MountOrigin::Context(context) => {
            let opened = context.open(store, saved)?;
            let keeps_owners = context.keeps_owners();
            let place =
                SearchedTree { name: name.to_owned(), is_context: true, is_ignored: &|path| opened.is_ignored(path) };
            let found = find_source(opened.tree(), source, &place, keeps_owners);
            opened.save(store);
            let (node, content) = found?;
            Ok(MountFiles { tree: MountTree::Context { opened, keeps_owners }, node, content })
        }
    }
}

fn find_source(
    tree: &dyn FileTree,
    source: LocatedSource<'_>,
    place: &SearchedTree<'_>,
    owners: bool,
) -> Result<(TreeNode, ContentDigest), BuildError> {
    let path = TreePath::clean(source.text.as_bytes()).map_err(|error| {
        let what = format!("`{}` cannot be a path: {error}", source.text);
        BuildError::at_line(source.location.error(what))
    })?;
    let Some(node) = tree.find(&path, true)? else {
        return Err(select_sources::missing_source(tree, &path, source, place)?);
    };
    let selected = SelectedNode { name: Vec::new(), node: node.clone(), source: 0, visible: None };
    let content = ContentDigest::of(tree, &[selected], owners)?;
    Ok((node, content))
}

/// Files in a form that can be bind-mounted.
pub(crate) enum BindableFiles {
    /// Layers, lowest first.
    Layers(Vec<LayerId>),
    /// A directory that was made for them.
    Copy(PathBuf),
}

impl MountFiles<'_> {
    /// Returns whether it is a directory.
    fn is_dir(&self) -> bool {
        self.node.status.kind == FileKind::Dir
    }

    /// Makes the files available for a bind mount; returns them with the path inside. Files of a stage or image are
    /// mounted from its layers. Files of a build context are copied: ignored files must not be visible, root owns them
    /// as after a `COPY`, and no command can change the user's own files.
    pub(crate) fn bindable_files(
        &self,
        store: &Store,
        location: StepLocation<'_>,
    ) -> Result<(BindableFiles, Vec<u8>), BuildError> {
        match &self.tree {
            MountTree::Layers { ids, .. } => {
                Ok((BindableFiles::Layers(ids.clone()), self.node.path.as_bytes().to_vec()))
            }
            MountTree::Context { .. } => {
                let place = TempDir::new(store)?;
                self.copy_to(place.path(), location)?;
                Ok((BindableFiles::Copy(place.keep()), if self.is_dir() { Vec::new() } else { b"file".to_vec() }))
            }
        }
    }

    /// Copies the files into the empty directory `place`: the content of a directory, or a file under the name `file`.
    pub(crate) fn copy_to(&self, place: &Path, location: StepLocation<'_>) -> Result<(), BuildError> {
        let (is_context, keeps_owners) = match &self.tree {
            MountTree::Layers { .. } => (false, true),
            MountTree::Context { keeps_owners, .. } => (true, *keeps_owners),
        };
        let owner = (!keeps_owners).then_some((0, 0));
        let nothing = MergedTree::open(&[])?;
        let mut maker = LayerWriter::new(&nothing, place, MetadataOverride { owner, mode: None }, (0, 0))?;
        maker.copies_user_xattrs = !is_context;
        let root = TreePath::root();
        let tree = self.tree.get();
        let copied = match self.is_dir() {
            true => maker.copy_contents(tree, &self.node.path, &root),
            false => maker.copy_file(tree, &self.node, &root.join(b"file")),
        };
        copied.map_err(|error| match error {
            LayerWriteError::Store(error) => BuildError::from(error),
            LayerWriteError::Time { .. } => {
                BuildError::at_line(location.error(error.to_string()).help("give the file another time with `touch`"))
            }
            error @ (LayerWriteError::NotDir { .. }
            | LayerWriteError::Changed { .. }
            | LayerWriteError::IsDir { .. }
            | LayerWriteError::Remote { .. }
            | LayerWriteError::SeveralSources { .. }) => {
                let help = "build again when nothing writes to the build context";
                BuildError::at_line(location.error(error.to_string()).help(help))
            }
        })?;
        maker.finish()?;
        if self.is_dir() {
            let mut meta = self.node.status.metadata();
            (meta.uid, meta.gid) = owner.unwrap_or((meta.uid, meta.gid));
            Dir::open_layer(place)?.set_metadata(&root, &meta, false)?;
        }
        Ok(())
    }

    /// Returns an error if the initial content of a cache mount is not a directory.
    pub(crate) fn must_be_dir(&self, location: StepLocation<'_>) -> Result<(), BuildError> {
        if self.is_dir() {
            return Ok(());
        }
        let what = format!("a cache starts with a directory, and `{}` is none", self.node.path);
        Err(BuildError::at_line(location.error(what).help("name the directory it is in")))
    }
}
