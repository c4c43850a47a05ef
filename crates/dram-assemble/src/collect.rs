//! Collects directories into a release tree.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use dram_image::TreePath;
use dram_release::beam::StripRule;

use crate::AssembleError;
use crate::tree::{ReleaseEntry, ReleaseFileContent, ReleaseTree, restricted_mode, usual_mode};

/// The maximum directory depth; deeper ones are loops made by bind mounts.
const DEEPEST: usize = 128;

/// The options for collecting a directory.
#[derive(Debug, Clone)]
pub(crate) struct CollectOptions {
    /// The rule to strip `.beam` files; `None` if they are not stripped.
    pub(crate) strip: Option<Arc<StripRule>>,
    /// True if files keep it that the group or others may not read them.
    pub(crate) keep_private: bool,
}

impl CollectOptions {
    /// The options for files that a compiler or an installer wrote: their modes depend on its umask only.
    pub(crate) const BUILT: CollectOptions = CollectOptions { strip: None, keep_private: false };
    /// The options for files that belong to the project.
    pub(crate) const OWN: CollectOptions = CollectOptions { strip: None, keep_private: true };
}

/// Adds the content of the directory `from` at `to`.
///
/// Links that stay inside the directory are kept. Other links are followed, because they would be broken on another
/// machine. Links that are broken already are kept and returned.
///
/// # Errors
/// Fails if an entry cannot be read, or is neither a file nor a directory nor a link.
pub(crate) fn collect_dir(
    tree: &mut ReleaseTree,
    from: &Path,
    to: &TreePath,
    taking: &CollectOptions,
) -> Result<Vec<PathBuf>, AssembleError> {
    let root = fs::canonicalize(from).map_err(AssembleError::io("read", from))?;
    let mut dangling = Vec::new();
    collect_entries(tree, &CollectRoot { root: &root, options: taking }, &root, to, 0, &mut dangling)?;
    Ok(dangling)
}

struct CollectRoot<'a> {
    root: &'a Path,
    options: &'a CollectOptions,
}

fn collect_entries(
    tree: &mut ReleaseTree,
    place: &CollectRoot<'_>,
    from: &Path,
    to: &TreePath,
    depth: usize,
    dangling: &mut Vec<PathBuf>,
) -> Result<(), AssembleError> {
    if depth > DEEPEST {
        let source = std::io::Error::other(format!("it lies {DEEPEST} directories deep: is there a loop?"));
        return Err(AssembleError::Io { verb: "read", path: from.to_owned(), source });
    }
    let mut is_empty = true;
    for found in fs::read_dir(from).map_err(AssembleError::io("read", from))? {
        let found = found.map_err(AssembleError::io("read", from))?;
        is_empty = false;
        let name = found.file_name();
        let (path, at) = (found.path(), to.join(name.as_bytes()));
        let kind = found.file_type().map_err(AssembleError::io("read", &path))?;
        if kind.is_dir() {
            collect_entries(tree, place, &path, &at, depth + 1, dangling)?;
        } else if kind.is_symlink() {
            collect_link(tree, place, &path, at, depth, dangling)?;
        } else {
            collect_file(tree, place.options, path, at)?;
        }
    }
    if is_empty {
        tree.put(to.clone(), ReleaseEntry::Dir);
    }
    Ok(())
}

fn collect_link(
    tree: &mut ReleaseTree,
    place: &CollectRoot<'_>,
    path: &Path,
    at: TreePath,
    depth: usize,
    dangling: &mut Vec<PathBuf>,
) -> Result<(), AssembleError> {
    let said = fs::read_link(path).map_err(AssembleError::io("read", path))?;
    let led = fs::canonicalize(path);
    // The code server loads a module by the name of the link, so that name decides how the file is checked.
    if place.options.strip.is_some() && is_beam(path) && led.as_ref().is_ok_and(|led| led.is_file()) {
        return collect_file(tree, place.options, path.to_owned(), at);
    }
    let stays = said.is_relative() && stays_below(place.root, path, &said);
    match led {
        Ok(led) if !(stays && led.starts_with(place.root)) => {
            // A directory that contains this link would be copied into itself without end.
            if led.is_dir() && !path.starts_with(&led) {
                let outside = CollectRoot { root: &led, options: place.options };
                collect_entries(tree, &outside, &led, &at, depth + 1, dangling)
            } else if led.is_dir() {
                dangling.push(path.to_owned());
                tree.put(at, ReleaseEntry::Link(said.as_os_str().as_bytes().to_vec()));
                Ok(())
            } else {
                collect_file(tree, place.options, led, at)
            }
        }
        led => {
            if led.is_err() {
                dangling.push(path.to_owned());
            }
            tree.put(at, ReleaseEntry::Link(said.as_os_str().as_bytes().to_vec()));
            Ok(())
        }
    }
}

fn is_beam(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("beam"))
}

/// Returns true if the relative link `said` in the file `path` does not leave `root`, judged by its text.
fn stays_below(root: &Path, path: &Path, said: &Path) -> bool {
    let Some(mut depth) = path.parent().and_then(|dir| dir.strip_prefix(root).ok()).map(|dir| dir.components().count())
    else {
        return false;
    };
    for part in said.components() {
        match part {
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Adds the file `path` at `at`; modules are stripped according to `taking`.
pub(crate) fn collect_file(
    tree: &mut ReleaseTree,
    taking: &CollectOptions,
    path: PathBuf,
    at: TreePath,
) -> Result<(), AssembleError> {
    let status = fs::metadata(&path).map_err(AssembleError::io("read", &path))?;
    if !status.is_file() {
        let source = std::io::Error::other("it is neither a file nor a directory nor a link");
        return Err(AssembleError::Io { verb: "take", path, source });
    }
    let mode = status.permissions().mode();
    let mode = if taking.keep_private { restricted_mode(mode) } else { usual_mode(mode) };
    let content = match &taking.strip {
        Some(rule) if is_beam(&path) => ReleaseFileContent::Beam(path, Arc::clone(rule)),
        Some(_) | None => ReleaseFileContent::Disk(path),
    };
    tree.put(at, ReleaseEntry::File { content, mode });
    Ok(())
}

#[cfg(test)]
mod tests;
