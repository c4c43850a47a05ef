//! The order in which a file tree is walked, and the first name of each file with several.

use std::collections::HashMap;
use std::rc::Rc;

use dram_image::TreePath;

/// Walks a file tree: parents before children, names in the order in which they are given. The caller reads the tree. The
/// walk keeps names, and no paths: the paths of a hundred thousand files may have 400 MB.
#[derive(Debug)]
pub struct TreeWalk {
    /// The path that the walk starts with, before it is returned.
    start: Option<TreePath>,
    /// A stack instead of recursion, because the depth of a tree is untrusted.
    open_dirs: Vec<OpenDir>,
    /// The path that was returned last.
    current: WalkedName,
    /// The first name of each file with several.
    first_names: HashMap<(u64, u64), WalkedName>,
}

/// A path of the walk: a name in a directory, or the start.
#[derive(Debug, Clone)]
enum WalkedName {
    Start(TreePath),
    Below(Rc<WalkedName>, Vec<u8>),
}

impl WalkedName {
    fn path(&self) -> TreePath {
        let mut names: Vec<&Vec<u8>> = Vec::new();
        let mut at = self;
        loop {
            match at {
                WalkedName::Start(start) => {
                    return names.iter().rev().fold(start.clone(), |path, name| path.join(name));
                }
                WalkedName::Below(parent, name) => {
                    names.push(name);
                    at = parent;
                }
            }
        }
    }
}

/// A directory that is being walked.
#[derive(Debug)]
struct OpenDir {
    dir: Rc<WalkedName>,
    path: TreePath,
    /// The names that were not returned yet.
    names: std::vec::IntoIter<Vec<u8>>,
}

impl TreeWalk {
    /// Returns a walk that begins with `start`.
    pub fn new(start: TreePath) -> TreeWalk {
        let current = WalkedName::Start(start.clone());
        TreeWalk { start: Some(start), open_dirs: Vec::new(), current, first_names: HashMap::new() }
    }

    /// Returns the next path.
    pub fn next_path(&mut self) -> Option<TreePath> {
        if let Some(start) = self.start.take() {
            return Some(start);
        }
        loop {
            let open = self.open_dirs.last_mut()?;
            if let Some(name) = open.names.next() {
                let path = open.path.join(&name);
                self.current = WalkedName::Below(open.dir.clone(), name);
                return Some(path);
            }
            self.open_dirs.pop();
        }
    }

    /// Walks `names` next: `path`, the path that was returned last, is a directory with these names.
    pub fn enter(&mut self, path: TreePath, names: Vec<Vec<u8>>) {
        self.open_dirs.push(OpenDir { dir: Rc::new(self.current.clone()), path, names: names.into_iter() });
    }

    /// Returns the first path of the file `inode`, if the path that was returned last is a further one.
    pub fn first_path(&mut self, inode: (u64, u64)) -> Option<TreePath> {
        if let Some(first) = self.first_names.get(&inode) {
            return Some(first.path());
        }
        self.first_names.insert(inode, self.current.clone());
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn parents_come_before_children_and_files_have_their_first_path() {
        let mut walk = TreeWalk::new(TreePath::root());
        let mut seen = Vec::new();
        while let Some(path) = walk.next_path() {
            let text = String::from_utf8(path.as_bytes().to_vec()).unwrap();
            let first = match text.as_str() {
                "" => {
                    walk.enter(path, texts(&["a", "b", "c"]));
                    None
                }
                "b" => {
                    walk.enter(path, texts(&["x", "y"]));
                    None
                }
                "b/y" => {
                    walk.enter(path, Vec::new());
                    None
                }
                "b/x" | "c" => walk.first_path((1, 2)),
                _ => walk.first_path((1, 3)),
            };
            seen.push((text, first.map(|path| path.to_string())));
        }
        let wanted = [("", None), ("a", None), ("b", None), ("b/x", None), ("b/y", None), ("c", Some("/b/x"))];
        assert_eq!(seen, wanted.map(|(path, first)| (path.to_owned(), first.map(str::to_owned))));
    }

    #[test]
    fn walk_keeps_names_and_no_paths() {
        let start = TreePath::parse("d/".repeat(1000).trim_end_matches('/').as_bytes()).unwrap();
        let mut walk = TreeWalk::new(start.clone());
        assert_eq!(walk.next_path(), Some(start.clone()));
        walk.enter(start.clone(), (0..500).map(|number| format!("f{number:03}").into_bytes()).collect());
        for number in 0..400 {
            assert_eq!(walk.next_path(), Some(start.join(format!("f{number:03}").as_bytes())));
            assert_eq!(walk.first_path((0, number)), None);
        }
        let unread: usize = walk.open_dirs.iter().flat_map(|open| open.names.as_slice()).map(Vec::len).sum();
        let kept = walk.first_names.values().map(|name| match name {
            WalkedName::Start(start) => start.as_bytes().len(),
            WalkedName::Below(_, name) => name.len(),
        });
        assert_eq!((unread, kept.sum()), (100 * 4, 400 * 4));
        assert_eq!(walk.first_path((0, 7)), Some(start.join(b"f007")));
    }
}
