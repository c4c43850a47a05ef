//! A filtered view of a tree, for `COPY --exclude` and `COPY --parents`.
//!
//! Follows BuildKit's copier (`fsutil/copy`): a file is visible if an include pattern matches it, or there are none,
//! and no exclude pattern matches it. A directory is also visible if something in it is.

use std::collections::BTreeSet;
use std::fs::File;

use dram_dockerfile::ignore::IgnoreList;
use dram_image::TreePath;
use dram_image::tar::Xattr;
use dram_store::{FileKind, FileTree, StoreError, TreeNode};

use crate::select_sources::children;

/// The patterns that decide which paths below a directory are visible.
#[derive(Debug, Clone, Default)]
pub(crate) struct CopyPatterns {
    /// If set, only paths that one of these matches are visible, and those below them.
    pub(crate) include: Option<IgnoreList>,
    /// Paths that one of these matches are not visible.
    pub(crate) exclude: Option<IgnoreList>,
}

impl CopyPatterns {
    /// Returns whether everything is visible.
    pub(crate) fn match_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Returns whether an exclude pattern matches the file `name` of a source.
    pub(crate) fn excludes(&self, name: &[u8]) -> bool {
        self.exclude.as_ref().is_some_and(|exclude| exclude.excludes(&String::from_utf8_lossy(name)))
    }

    fn matches(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.excludes(path))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.excludes(path))
    }

    /// Returns whether nothing below the directory `path` can be visible.
    fn prunes(&self, path: &str) -> bool {
        self.exclude.as_ref().is_some_and(|exclude| exclude.may_prune(path))
            || self.include.as_ref().is_some_and(|include| !include.excludes(path) && !include.may_match_beneath(path))
    }
}

/// Returns the real paths that are visible below the directory `base`, without `base` itself.
///
/// # Errors
/// Returns an error if a directory cannot be read.
pub(crate) fn visible_paths(
    tree: &dyn FileTree,
    base: &TreePath,
    patterns: &CopyPatterns,
) -> Result<BTreeSet<TreePath>, StoreError> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![base.clone()];
    while let Some(dir) = todo.pop() {
        for node in children(tree, &dir)? {
            let below = node.path.strip_prefix(base).unwrap_or_default();
            let name = String::from_utf8_lossy(below.as_bytes());
            if patterns.matches(&name) {
                let mut path = node.path.clone();
                // The directories above a visible file are visible too.
                while path != *base && seen.insert(path.clone()) {
                    path = path.parent().unwrap_or_default();
                }
            }
            if node.status.kind == FileKind::Dir && !patterns.prunes(&name) {
                todo.push(node.path);
            }
        }
    }
    Ok(seen)
}

/// A tree that lists only some of its real paths.
pub(crate) struct FilteredTree<'a> {
    /// The whole tree.
    pub(crate) tree: &'a dyn FileTree,
    /// The visible paths.
    pub(crate) visible: &'a BTreeSet<TreePath>,
}

impl FileTree for FilteredTree<'_> {
    fn find(&self, path: &TreePath, follow: bool) -> Result<Option<TreeNode>, StoreError> {
        self.tree.find(path, follow)
    }

    fn node_at(&self, path: &TreePath) -> Result<Option<TreeNode>, StoreError> {
        self.tree.node_at(path)
    }

    fn list(&self, dir: &TreePath) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut names = self.tree.list(dir)?;
        names.retain(|name| self.visible.contains(&dir.join(name)));
        Ok(names)
    }

    fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, StoreError> {
        self.tree.read_link(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, StoreError> {
        self.tree.open(path)
    }

    fn xattrs(&self, node: &TreeNode) -> Result<Vec<Xattr>, StoreError> {
        self.tree.xattrs(node)
    }

    fn content_digest(&self, node: &TreeNode) -> Result<[u8; 32], StoreError> {
        self.tree.content_digest(node)
    }

    fn recorded_content_digest(&self, node: &TreeNode) -> Option<[u8; 32]> {
        self.tree.recorded_content_digest(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dram_store::MergedTree;

    #[test]
    fn include_and_exclude_patterns_decide_which_paths_are_visible() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a/b/c.md", "a/b/d.txt", "a/e.md", "f.md", "keep/x"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let tree = MergedTree::open(&[dir.path().to_owned()]).unwrap();
        let list = |patterns: &[&str]| {
            (!patterns.is_empty()).then(|| IgnoreList::from_patterns(patterns.iter().copied()).unwrap())
        };
        let table: [(&[&str], &[&str], &[&str]); 6] = [
            (&[], &["**/*.md"], &["a", "a/b", "a/b/d.txt", "keep", "keep/x"]),
            (&[], &["a", "!a/e.md"], &["a", "a/e.md", "f.md", "keep", "keep/x"]),
            (&["a/b"], &[], &["a", "a/b", "a/b/c.md", "a/b/d.txt"]),
            (&["*/b/*.md"], &[], &["a", "a/b", "a/b/c.md"]),
            (&["**/*.md"], &["a/b"], &["a", "a/e.md", "f.md"]),
            (&["nothing/*"], &[], &[]),
        ];
        for (include, exclude, expected) in table {
            let patterns = CopyPatterns { include: list(include), exclude: list(exclude) };
            let seen = visible_paths(&tree, &TreePath::root(), &patterns).unwrap();
            let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
            let expected: Vec<String> =
                expected.iter().map(|path| TreePath::parse(path.as_bytes()).unwrap().to_string()).collect();
            assert_eq!(seen, expected, "{include:?} {exclude:?}");
        }
    }
}
