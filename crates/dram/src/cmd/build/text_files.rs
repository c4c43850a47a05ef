//! The texts of a build: the Dockerfile and the ignore lists.
//!
//! In a build context of a stranger, one of them may be a symbolic link to a file of this machine, and parts of a text
//! are shown in messages. So a text is read only through a [`TextDir`], in which links cannot lead outside.

use std::io::Read;
use std::path::{Path, PathBuf};

use dram_build::BuildContext;
use dram_image::TreePath;
use dram_store::{FileKind, FileTree as _, MergedTree};

use crate::failure::Failure;
use crate::format::format_size;

/// The most bytes of a Dockerfile or ignore list: a longer file is a mistake in its name.
const MAX_TEXT_LENGTH: u64 = 16 << 20;

/// A directory of texts. As in BuildKit, symbolic links are resolved as if it were the root of a file system.
pub(super) struct TextDir {
    tree: MergedTree,
    path: PathBuf,
    /// The directory in messages.
    shown: String,
}

/// The content at the path of a text.
pub(super) enum TextFile {
    /// A file, with its content.
    Found(Vec<u8>),
    /// Nothing.
    Missing,
    /// A symbolic link with this target, which does not exist in the directory.
    LeadsOutside(String),
}

impl TextDir {
    /// Opens the directory `path` of the user. A symbolic link at `path` itself is followed: the user named it.
    pub(super) fn open(path: &Path) -> Result<TextDir, Failure> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let shown = format!("`{}`", path.display());
        Ok(TextDir { tree: MergedTree::of_directory(path)?, path: path.to_owned(), shown })
    }

    /// Opens a build context.
    pub(super) fn of_context(context: &BuildContext) -> Result<TextDir, Failure> {
        match context {
            BuildContext::Dir { path, .. } => TextDir::open(path),
            BuildContext::Fetched { path, .. } => {
                let tree = MergedTree::open(std::slice::from_ref(path))?;
                Ok(TextDir { tree, path: PathBuf::new(), shown: "the build context".to_owned() })
            }
        }
    }

    /// The path in messages of the text `name`.
    pub(super) fn display_path(&self, name: &TreePath) -> PathBuf {
        self.path.join(name.as_path())
    }

    /// Reads the text `name`.
    pub(super) fn read(&self, name: &TreePath) -> Result<TextFile, Failure> {
        let place = self.display_path(name);
        let fail =
            |error: &dyn std::error::Error| Failure::usage(format!("cannot read `{}`", place.display())).because(error);
        match self.tree.find(name, true).map_err(|error| fail(&error))? {
            Some(node) if node.status.kind != FileKind::File => {
                Err(Failure::usage(format!("`{}` is not a regular file", place.display())))
            }
            Some(node) => {
                let mut file = self.tree.open(&node.path).map_err(|error| fail(&error))?;
                read_limited(&mut file, &place).map(TextFile::Found)
            }
            None => match self.tree.find(name, false).map_err(|error| fail(&error))? {
                Some(link) => {
                    let target = self.tree.read_link(&link.path).map_err(|error| fail(&error))?;
                    Ok(TextFile::LeadsOutside(String::from_utf8_lossy(&target).into_owned()))
                }
                None => Ok(TextFile::Missing),
            },
        }
    }

    /// Reads the text `name`, or returns `None` when there is none. A link that leads outside is a failure.
    pub(super) fn read_if_present(&self, name: &TreePath) -> Result<Option<Vec<u8>>, Failure> {
        match self.read(name)? {
            TextFile::Found(bytes) => Ok(Some(bytes)),
            TextFile::Missing => Ok(None),
            TextFile::LeadsOutside(target) => {
                let place = self.display_path(name);
                let what = format!(
                    "`{}` is a symbolic link to `{target}`, and there is no such file in {}",
                    place.display(),
                    self.shown
                );
                Err(Failure::usage(what).help(self.link_help()))
            }
        }
    }

    /// The help for a link that leads outside.
    pub(super) fn link_help(&self) -> String {
        format!("links are followed only within {}: put the file itself there", self.shown)
    }
}

/// Reads a text from `from`, which messages call `path`.
pub(super) fn read_limited(from: &mut dyn Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let got = from.take(MAX_TEXT_LENGTH + 1).read_to_end(&mut bytes);
    got.map_err(|error| Failure::usage(format!("cannot read `{}`", path.display())).because(&error))?;
    if bytes.len() as u64 > MAX_TEXT_LENGTH {
        let what = format!("`{}` is longer than {}", path.display(), format_size(MAX_TEXT_LENGTH));
        return Err(Failure::usage(what).help("is it the right file?"));
    }
    Ok(bytes)
}

/// The directory in which the Dockerfile `file` is looked up, and its path there: the build context `context` if the file
/// lies in it, or else the directory that the user names.
pub(super) fn locate_text(file: &Path, context: Option<&Path>) -> Result<(PathBuf, TreePath), Failure> {
    let wrong = |error: &dyn std::error::Error| {
        Failure::usage(format!("`{}` cannot be the path of a Dockerfile", file.display())).because(error)
    };
    let lexical = |path: &Path| {
        let whole = std::path::absolute(path).map_err(|error| wrong(&error))?;
        TreePath::clean(whole.as_os_str().as_encoded_bytes()).map_err(|error| wrong(&error))
    };
    let real = |path: &Path| {
        let real = std::fs::canonicalize(path).ok()?;
        TreePath::clean(real.as_os_str().as_encoded_bytes()).ok()
    };
    let path = lexical(file)?;
    let (Some(name), Some(parent)) = (path.name(), path.parent()) else {
        return Err(Failure::usage(format!("`{}` is not a regular file", file.display())));
    };
    if let Some(context) = context {
        if let Some(below) = path.strip_prefix(&lexical(context)?) {
            return Ok((context.to_owned(), below));
        }
        let dir = Path::new("/").join(parent.as_path());
        if let (Some(root), Some(dir)) = (real(context), real(&dir))
            && let Some(below) = dir.strip_prefix(&root)
        {
            return Ok((context.to_owned(), below.join(name)));
        }
    }
    let dir = file.parent().map_or_else(PathBuf::new, Path::to_owned);
    Ok((dir, TreePath::clean(name).map_err(|error| wrong(&error))?))
}
