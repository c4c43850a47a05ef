//! What the sources of a `COPY` mean: which files of a tree.

use dram_dockerfile::{Diagnostic, Source, glob, nearest};
use dram_image::TreePath;
use dram_store::{FileKind, Node, StoreError, Tree};

use crate::BuildError;

/// One thing to copy.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    /// What is there, links followed.
    pub(crate) node: Node,
    /// The name it has in the target directory, when it is a file.
    pub(crate) name: Vec<u8>,
}

/// What the sources select, in the order they are written, matches of a pattern sorted.
pub(crate) fn select(tree: &dyn Tree, sources: &[Source], place: &Place<'_>) -> Result<Vec<Selected>, BuildError> {
    let mut all = Vec::new();
    for source in sources {
        let path = TreePath::clean(source.text.as_bytes()).map_err(|error| {
            BuildError::at(Diagnostic::error(
                source.span.clone(),
                format!("`{}` cannot be a path: {error}", source.text),
            ))
        })?;
        if glob::has_magic(&source.text) {
            all.extend(matches(tree, &path, source)?);
            continue;
        }
        match tree.find(&path, true)? {
            Some(node) => all.push(Selected { name: name_of(&path, &node), node }),
            None => return Err(missing(tree, &path, source, place)?),
        }
    }
    if all.is_empty()
        && let Some(source) = sources.first()
    {
        let what = format!("nothing in {} matches `{}`", place.name, source.text);
        let hint = "name a file that exists beside the pattern if the pattern may match nothing";
        return Err(BuildError::at(Diagnostic::error(source.span.clone(), what).help(hint)));
    }
    Ok(all)
}

/// Where sources are looked for, for messages.
pub(crate) struct Place<'a> {
    /// `the build context`, ``stage `builder` ``.
    pub(crate) name: String,
    /// Whether the ignore list hides a path.
    pub(crate) hides: &'a dyn Fn(&TreePath) -> bool,
}

fn name_of(path: &TreePath, node: &Node) -> Vec<u8> {
    path.name().or(node.path.name()).unwrap_or_default().to_vec()
}

/// The paths that a pattern matches, component by component as Go's `filepath.Match` does.
fn matches(tree: &dyn Tree, pattern: &TreePath, source: &Source) -> Result<Vec<Selected>, BuildError> {
    let bad = || {
        let what = format!("`{}` is not a pattern", source.text);
        BuildError::at(Diagnostic::error(source.span.clone(), what).help("write `[[]` for a literal bracket"))
    };
    let mut found = vec![TreePath::root()];
    for part in pattern.components() {
        let part = std::str::from_utf8(part).map_err(|_| bad())?;
        let mut next = Vec::new();
        for dir in found {
            let Some(node) = tree.find(&dir, true)? else { continue };
            if node.status.kind != FileKind::Dir {
                continue;
            }
            if !glob::has_magic(part) {
                next.push(dir.join(part.as_bytes()));
                continue;
            }
            for name in tree.list(&node.path)? {
                let is_match = match std::str::from_utf8(&name) {
                    Ok(name) => glob::matches(part, name).map_err(|_| bad())?,
                    Err(_) => part == "*",
                };
                if is_match {
                    next.push(dir.join(&name));
                }
            }
        }
        found = next;
    }
    let mut all = Vec::new();
    for path in found {
        // A dangling link that a pattern matches is copied as the link it is.
        if let Some(node) = tree.find(&path, true)?.map_or_else(|| tree.find(&path, false), |node| Ok(Some(node)))? {
            all.push(Selected { name: name_of(&path, &node), node });
        }
    }
    Ok(all)
}

/// The error for a source that is not there: what hides it, or what is near.
pub(crate) fn missing(
    tree: &dyn Tree,
    path: &TreePath,
    source: &Source,
    place: &Place<'_>,
) -> Result<BuildError, BuildError> {
    let mut diagnostic =
        Diagnostic::error(source.span.clone(), format!("no such file in {}: `{}`", place.name, source.text));
    if (place.hides)(path) {
        diagnostic = diagnostic
            .note("the file exists, but .dockerignore leaves it out of the build context")
            .help(format!("add `!{}` to .dockerignore", String::from_utf8_lossy(path.as_bytes())));
        return Ok(BuildError::at(diagnostic));
    }
    let (dir, rest) = deepest(tree, path)?;
    let wanted = String::from_utf8_lossy(rest.components().next().unwrap_or_default()).into_owned();
    let names: Vec<String> = tree.list(&dir)?.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let shown = if dir.is_root() { "its root".to_owned() } else { format!("`{dir}`") };
    if names.is_empty() {
        return Ok(BuildError::at(diagnostic.note(format!("{shown} is empty"))));
    }
    let near = nearest::nearest(&wanted, names.iter().map(String::as_str)).map(str::to_owned);
    let near = near.or_else(|| of_same_kind(&wanted, &names));
    if let Some(near) = near {
        let full = String::from_utf8_lossy(dir.join(near.as_bytes()).as_bytes()).into_owned();
        let slash = if source.text.starts_with('/') { "/" } else { "" };
        diagnostic = diagnostic.help(format!("did you mean `{slash}{full}`?"));
    }
    let list: Vec<_> = names.iter().take(8).map(|name| format!("`{}`", name.escape_debug())).collect();
    let more = if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
    Ok(BuildError::at(diagnostic.note(format!("{shown} holds {}{more}", list.join(", ")))))
}

/// The deepest directory on the way to `path` that exists, and what is left of the path below it.
fn deepest(tree: &dyn Tree, path: &TreePath) -> Result<(TreePath, TreePath), StoreError> {
    let mut at = path.clone();
    while let Some(parent) = at.parent() {
        match tree.find(&parent, true)? {
            Some(node) if node.status.kind == FileKind::Dir => {
                return Ok((node.path, path.below(&parent).unwrap_or_default()));
            }
            Some(_) | None => at = parent,
        }
    }
    Ok((TreePath::root(), path.clone()))
}

/// The one name with the same ending as `wanted` (`.tar.gz`), when there is one only.
fn of_same_kind(wanted: &str, names: &[String]) -> Option<String> {
    let ending = &wanted[wanted.find('.')?..];
    let mut same = names.iter().filter(|name| name.ends_with(ending));
    match (same.next(), same.next()) {
        (Some(only), None) => Some(only.clone()),
        (_, _) => None,
    }
}

/// What is in the directory at the real path `dir`, sorted.
pub(crate) fn children(tree: &dyn Tree, dir: &TreePath) -> Result<Vec<Node>, StoreError> {
    let names = tree.list(dir)?;
    let mut nodes = Vec::with_capacity(names.len());
    for name in names {
        nodes.extend(tree.at(&dir.join(&name))?);
    }
    Ok(nodes)
}
