//! Resolves the sources of a `COPY` to files of a tree.

use std::collections::BTreeSet;
use std::sync::Arc;

use dram_dockerfile::ignore::IgnoreList;
use dram_dockerfile::{Diagnostic, glob, suggest};
use dram_image::TreePath;
use dram_plan::{CopyOp, CopySourceKind, PlanStep, StepPart};
use dram_store::{FileKind, FileTree, StoreError, TreeNode};

use crate::BuildError;
use crate::content_digest::LeftOutContent;
use crate::filtered_tree::{self, CopyPatterns};
use crate::step_location::StepLocation;

/// A file or directory that a source of a copy selects.
#[derive(Debug, Clone)]
pub(crate) struct SelectedNode {
    /// The node, with links followed.
    pub(crate) node: TreeNode,
    /// Its name in the target directory, if it is a file.
    pub(crate) name: Vec<u8>,
    /// The index of the source that selects it.
    pub(crate) source: usize,
    /// For a directory: the visible paths below it, if not all are.
    pub(crate) visible: Option<Arc<BTreeSet<TreePath>>>,
}

/// Selects the files of all sources that are paths, in the order of the sources; matches of a pattern are sorted.
pub(crate) fn select_sources(
    tree: &dyn FileTree,
    (step, copy): (&PlanStep, &CopyOp),
    place: &SearchedTree<'_>,
) -> Result<Vec<SelectedNode>, BuildError> {
    let mut all = Vec::new();
    for (at, source) in copy.sources.iter().enumerate() {
        match &source.kind {
            CopySourceKind::Path => {
                let source =
                    LocatedSource { text: &source.text, location: StepLocation::of_part(step, StepPart::Source(at)) };
                let found = select_source(tree, copy, source, place)?;
                all.extend(found.into_iter().map(|one| SelectedNode { source: at, ..one }));
            }
            CopySourceKind::Inline(_) | CopySourceKind::Url | CopySourceKind::Git(_) => {}
        }
    }
    Ok(all)
}

/// Returns warnings of what the copy `step` does not take over from `place`.
pub(crate) fn left_out_warnings(
    step: &PlanStep,
    left_out: &LeftOutContent,
    place: &SearchedTree<'_>,
    is_context: bool,
) -> Vec<Diagnostic> {
    let location = StepLocation::of(step);
    let socket = left_out.socket.as_ref().map(|path| {
        let what = format!("`{path}` in {} is a socket, which an image cannot hold: it is left out", place.name);
        location.warning(what).help("name it in `.dockerignore` or in `--exclude`")
    });
    let xattrs = left_out.user_xattrs.as_ref().filter(|_| is_context).map(|path| {
        let what = format!("`{path}` in {} has extended attributes `user.*`, which are not copied", place.name);
        location.warning(what).help("set them with `setfattr` in a RUN")
    });
    socket.into_iter().chain(xattrs).collect()
}

/// Returns a warning if patterns match nothing at all. BuildKit is silent about it.
pub(crate) fn no_match_warning(
    (step, copy): (&PlanStep, &CopyOp),
    selected: &[SelectedNode],
    place: &SearchedTree<'_>,
) -> Option<Diagnostic> {
    let only_paths = copy.sources.iter().all(|source| matches!(source.kind, CopySourceKind::Path));
    let source = copy.sources.first().filter(|_| only_paths && selected.is_empty())?;
    let what = format!("nothing in {} matches `{}`, so nothing is copied", place.name, source.text);
    let hint = "name a file instead, if it must be there: one that is missing is an error";
    Some(StepLocation::of_part(step, StepPart::Source(0)).warning(what).help(hint))
}

/// Selects the files of one path.
fn select_source(
    tree: &dyn FileTree,
    copy: &CopyOp,
    source: LocatedSource<'_>,
    place: &SearchedTree<'_>,
) -> Result<Vec<SelectedNode>, BuildError> {
    let (root, below) = match (copy.parents, source.text.split_once("/./")) {
        (false, _) => (source.text, None),
        // With `--parents`, only the part of the path after the pivot `/./` is made at the destination.
        (true, Some((root, below))) => (root, Some(below)),
        (true, None) => ("/", Some(source.text)),
    };
    let path = source_path(root, source)?;
    let found = if glob::has_wildcards(root) {
        match_pattern(tree, &path, source)?
    } else {
        match tree.find(&path, true)? {
            Some(node) => vec![SelectedNode { name: target_name(&path, &node), node, source: 0, visible: None }],
            None => return Err(missing_source(tree, &path, source, place)?),
        }
    };
    if let Some(below) = below.filter(|below| !glob::has_wildcards(root) && !glob::has_wildcards(below)) {
        let path = path.append(&source_path(below, source)?);
        if tree.find(&path, false)?.is_none() {
            return Err(missing_source(tree, &path, source, place)?);
        }
    }
    let patterns = CopyPatterns { include: include_pattern(below, source)?, exclude: exclude_patterns(copy, source)? };
    let mut picked = Vec::with_capacity(found.len());
    for mut one in found {
        // The Dockerfile reference excludes files that a source names itself: `COPY --exclude=*.txt hom* /to/`.
        if !copy.parents && one.node.status.kind != FileKind::Dir && patterns.excludes(&one.name) {
            continue;
        }
        if one.node.status.kind == FileKind::Dir && !patterns.match_everything() {
            one.visible = Some(Arc::new(filtered_tree::visible_paths(tree, &one.node.path, &patterns)?));
        }
        picked.push(one);
    }
    Ok(picked)
}

fn source_path(text: &str, source: LocatedSource<'_>) -> Result<TreePath, BuildError> {
    TreePath::clean(text.as_bytes()).map_err(|error| {
        BuildError::at_line(source.location.error(format!("`{}` cannot be a path: {error}", source.text)))
    })
}

/// Returns the include pattern after the pivot of `--parents`.
fn include_pattern(below: Option<&str>, source: LocatedSource<'_>) -> Result<Option<IgnoreList>, BuildError> {
    let Some(below) = below else { return Ok(None) };
    // The pattern is cleaned as a path, so that it is matched from its root.
    let path = source_path(below, source)?;
    if path.is_root() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(path.as_bytes()).into_owned();
    // A leading `!` is part of a name here, not an exception.
    let text = text.strip_prefix('!').map_or(text.clone(), |rest| format!("[!]{rest}"));
    let list = IgnoreList::from_patterns([text.as_str()]);
    list.map(Some).map_err(|error| BuildError::at_line(source.location.locate(*error)))
}

fn exclude_patterns(copy: &CopyOp, source: LocatedSource<'_>) -> Result<Option<IgnoreList>, BuildError> {
    if copy.exclude.is_empty() {
        return Ok(None);
    }
    let list = IgnoreList::from_patterns(copy.exclude.iter().map(String::as_str));
    list.map(Some).map_err(|error| {
        let diagnostic = source.location.locate(*error);
        BuildError::at_line(diagnostic.note("in a pattern of `--exclude`"))
    })
}

/// A path that is searched in a tree, and the place that messages about it point to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocatedSource<'a> {
    pub(crate) text: &'a str,
    pub(crate) location: StepLocation<'a>,
}

/// The tree in which sources are searched, for messages.
pub(crate) struct SearchedTree<'a> {
    /// `the build context`, ``stage `builder` ``.
    pub(crate) name: String,
    /// True for a build context, false for the file system of an image or a stage.
    pub(crate) is_context: bool,
    /// Returns whether the ignore list excludes a path.
    pub(crate) is_ignored: &'a dyn Fn(&TreePath) -> bool,
}

fn target_name(path: &TreePath, node: &TreeNode) -> Vec<u8> {
    path.name().or(node.path.name()).unwrap_or_default().to_vec()
}

/// Returns the paths that match a pattern, component by component as Go's `filepath.Match` does.
fn match_pattern(
    tree: &dyn FileTree,
    pattern: &TreePath,
    source: LocatedSource<'_>,
) -> Result<Vec<SelectedNode>, BuildError> {
    let bad = || {
        let what = format!("`{}` is not a pattern", source.text);
        BuildError::at_line(source.location.error(what).help("write `[[]` for a literal bracket"))
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
            if !glob::has_wildcards(part) {
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
        // A dangling symbolic link that matches a pattern is copied as a link.
        if let Some(node) = tree.find(&path, true)?.map_or_else(|| tree.find(&path, false), |node| Ok(Some(node)))? {
            all.push(SelectedNode { name: target_name(&path, &node), node, source: 0, visible: None });
        }
    }
    Ok(all)
}

/// Returns the error for a missing source, with the ignore list or a similar name as a hint.
pub(crate) fn missing_source(
    tree: &dyn FileTree,
    path: &TreePath,
    source: LocatedSource<'_>,
    place: &SearchedTree<'_>,
) -> Result<BuildError, BuildError> {
    let mut diagnostic = source.location.error(format!("no such file in {}: `{}`", place.name, source.text));
    if (place.is_ignored)(path) {
        diagnostic = diagnostic
            .note("the file exists, but .dockerignore leaves it out of the build context")
            .help(format!("add `!{}` to .dockerignore", String::from_utf8_lossy(path.as_bytes())));
        return Ok(BuildError::at_line(diagnostic));
    }
    if climbs_out(source.text) {
        diagnostic = diagnostic.note(format!("`..` does not lead out of {}: this is `{path}` in it", place.name));
        if place.is_context {
            diagnostic = diagnostic.help(
                "copy it into the build context, or name its directory with `--build-context NAME=DIR` and use `--from=NAME`",
            );
            return Ok(BuildError::at_line(diagnostic));
        }
    }
    let (dir, rest) = deepest_existing_dir(tree, path)?;
    let wanted = String::from_utf8_lossy(rest.components().next().unwrap_or_default()).into_owned();
    let names: Vec<String> = tree.list(&dir)?.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let shown = if dir.is_root() { "its root".to_owned() } else { format!("`{dir}`") };
    if names.is_empty() {
        return Ok(BuildError::at_line(diagnostic.note(format!("{shown} is empty"))));
    }
    let near = suggest::nearest_name(&wanted, names.iter().map(String::as_str)).map(str::to_owned);
    let near = near.or_else(|| same_extension(&wanted, &names));
    if let Some(near) = near {
        let full = String::from_utf8_lossy(dir.join(near.as_bytes()).as_bytes()).into_owned();
        let slash = if source.text.starts_with('/') { "/" } else { "" };
        diagnostic = diagnostic.help(format!("did you mean `{slash}{full}`?"));
    }
    let list: Vec<_> = names.iter().take(8).map(|name| format!("`{}`", name.escape_debug())).collect();
    let more = if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
    Ok(BuildError::at_line(diagnostic.note(format!("{shown} holds {}{more}", list.join(", ")))))
}

/// Returns whether a path has more `..` than directories before them.
fn climbs_out(text: &str) -> bool {
    let mut depth = 0_i64;
    text.split('/').any(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

/// Returns the deepest existing directory above `path`, and the rest of the path below it.
fn deepest_existing_dir(tree: &dyn FileTree, path: &TreePath) -> Result<(TreePath, TreePath), StoreError> {
    let mut at = path.clone();
    while let Some(parent) = at.parent() {
        match tree.find(&parent, true)? {
            Some(node) if node.status.kind == FileKind::Dir => {
                return Ok((node.path, path.strip_prefix(&parent).unwrap_or_default()));
            }
            Some(_) | None => at = parent,
        }
    }
    Ok((TreePath::root(), path.clone()))
}

/// Returns the only name with the same extension as `wanted` (`.tar.gz`), if there is exactly one.
fn same_extension(wanted: &str, names: &[String]) -> Option<String> {
    let ending = &wanted[wanted.find('.')?..];
    let mut same = names.iter().filter(|name| name.ends_with(ending));
    match (same.next(), same.next()) {
        (Some(only), None) => Some(only.clone()),
        (_, _) => None,
    }
}

/// Returns the nodes in the directory at the real path `dir`, sorted by name.
pub(crate) fn children(tree: &dyn FileTree, dir: &TreePath) -> Result<Vec<TreeNode>, StoreError> {
    let names = tree.list(dir)?;
    let mut nodes = Vec::with_capacity(names.len());
    for name in names {
        nodes.extend(tree.node_at(&dir.join(&name))?);
    }
    Ok(nodes)
}
