//! Paths within an image.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A normalised relative path beneath the root of an image. It may hold any bytes but NUL, and no `..` component.
///
/// The empty path is the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<u8>);

/// The error for bytes that are not a path beneath the root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreePathError {
    /// The path has a `..` component.
    #[error("`{0}` climbs out with `..`")]
    ParentComponent(String),
    /// The path holds a NUL byte.
    #[error("`{0}` holds a NUL byte")]
    Nul(String),
    /// The path is longer than Linux allows.
    #[error("a path of {0} bytes is longer than the 4095 that Linux takes")]
    PathTooLong(usize),
    /// A component is longer than Linux allows.
    #[error("a name of {0} bytes is longer than the 255 that Linux takes")]
    NameTooLong(usize),
}

impl TreePath {
    /// Returns the root.
    pub fn root() -> Self {
        TreePath::default()
    }

    /// Parses `bytes`: leading `/`, repeated `/` and `.` components are dropped.
    ///
    /// # Errors
    /// Fails when a component is `..`, a byte is NUL, or the path is longer than 4095 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, TreePathError> {
        let lossy = || String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        if bytes.len() > 4095 {
            return Err(TreePathError::PathTooLong(bytes.len()));
        }
        if bytes.contains(&0) {
            return Err(TreePathError::Nul(lossy()));
        }
        let mut path = Vec::with_capacity(bytes.len());
        for part in bytes.split(|&b| b == b'/').filter(|part| !part.is_empty() && part != b".") {
            if part == b".." {
                return Err(TreePathError::ParentComponent(lossy()));
            }
            push_component(&mut path, part);
        }
        Ok(TreePath(path))
    }

    /// Parses `bytes` like [`TreePath::parse`], with `..` removing the component before it, at most up to the root, as
    /// for a process whose root is the image (symbolic links are not resolved).
    ///
    /// # Errors
    /// Fails when a byte is NUL or the path is longer than 4095 bytes.
    pub fn clean(bytes: &[u8]) -> Result<Self, TreePathError> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in bytes.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        TreePath::parse(&parts.join(&b'/'))
    }

    /// Returns the bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path as a relative [`Path`].
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that no component is longer than a file name can be.
    ///
    /// # Errors
    /// Fails when a component is longer than 255 bytes.
    pub fn check_names(&self) -> Result<(), TreePathError> {
        match self.components().map(<[u8]>::len).find(|&length| length > 255) {
            Some(length) => Err(TreePathError::NameTooLong(length)),
            None => Ok(()),
        }
    }

    /// Returns the components, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// Returns the last component, or `None` at the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// Returns the path without its last component, or `None` at the root.
    pub fn parent(&self) -> Option<TreePath> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(TreePath(self.0[..cut].to_vec()))
    }

    /// Returns this path with one more component.
    ///
    /// `name` must be one component: not empty, no `/`, not `.` or `..`. Names read from a directory are valid.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> TreePath {
        debug_assert!(!name.is_empty() && !name.contains(&b'/') && name != b".." && name != b".");
        let mut path = self.0.clone();
        push_component(&mut path, name);
        TreePath(path)
    }

    /// Returns this path with the components of `below` appended.
    #[must_use]
    pub fn append(&self, below: &TreePath) -> TreePath {
        let mut path = self.0.clone();
        below.components().for_each(|part| push_component(&mut path, part));
        TreePath(path)
    }

    /// Returns this path relative to `ancestor`, or `None` when it is not beneath it.
    pub fn strip_prefix(&self, ancestor: &TreePath) -> Option<TreePath> {
        if ancestor.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(ancestor.0.as_slice())?;
        match rest.first() {
            None => Some(TreePath::root()),
            Some(b'/') => Some(TreePath(rest[1..].to_vec())),
            Some(_) => None,
        }
    }
}

fn push_component(path: &mut Vec<u8>, part: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(part);
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_dot_dot_is_refused() {
        for (text, want) in [("/a//b/./c/", "a/b/c"), ("", ""), ("/", ""), ("./x", "x")] {
            assert_eq!(TreePath::parse(text.as_bytes()).unwrap().as_bytes(), want.as_bytes());
        }
        assert!(matches!(TreePath::parse(b"a/../b"), Err(TreePathError::ParentComponent(_))));
        assert!(matches!(TreePath::parse(b"a\0"), Err(TreePathError::Nul(_))));
        assert_eq!(TreePath::clean(b"../../a/x/../b").unwrap().as_bytes(), b"a/b");
    }

    #[test]
    fn parent_join_and_relative_path_work_by_component() {
        let path = TreePath::parse(b"a/b").unwrap();
        assert_eq!(path.parent().unwrap().as_bytes(), b"a");
        assert_eq!(path.parent().unwrap().parent(), Some(TreePath::root()));
        assert_eq!(path.join(b"c").strip_prefix(&path).unwrap().as_bytes(), b"c");
        assert_eq!(TreePath::parse(b"ab").unwrap().strip_prefix(&TreePath::parse(b"a").unwrap()), None);
    }
}
