//! What an image's programs need and the image has not: found before anybody starts it.
//!
//! The usual way to a broken image is to build in one distribution and to copy into another: the program is there, and
//! its loader, or a library, is not.

use std::collections::{BTreeMap, BTreeSet};

use dram_dockerfile::Run;
use dram_image::TreePath;
use dram_store::{FileKind, Merged, Store, StoreError, Tree as _};

use crate::Snapshot;

/// Something that programs need and the image has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The loader's path, or the library's name.
    pub what: String,
    /// Whether it is the loader: without it the program does not even start.
    pub is_loader: bool,
    /// The programs that need it, sorted.
    pub programs: Vec<String>,
}

/// What the programs that a build itself put into `snapshot` need and the image has not. Programs of the base image
/// are taken as they are.
///
/// A library counts as there when a file of its name is anywhere in the image: where loaders look depends on too much.
///
/// # Errors
/// When a layer cannot be read.
pub fn lacks(store: &Store, snapshot: &Snapshot) -> Result<Vec<Lack>, StoreError> {
    // What nobody has looked into is not fetched for this.
    if !snapshot.is_here(store) {
        return Ok(Vec::new());
    }
    let mut libraries = BTreeSet::new();
    let mut programs = Vec::new();
    for layer in &snapshot.layers {
        let found = store.layers().programs(&layer.id)?;
        libraries.extend(found.libraries);
        if layer.origin.is_none() {
            programs.extend(found.programs);
        }
    }
    let view = snapshot.view(store.layers())?;
    let mut lacks: BTreeMap<(bool, String), BTreeSet<String>> = BTreeMap::new();
    for program in programs {
        let missing: Vec<_> = program.libraries.iter().filter(|name| !libraries.contains(*name)).collect();
        let loader = match &program.interpreter {
            Some(loader) if !exists(&view, loader)? => Some(loader),
            Some(_) | None => None,
        };
        // A later layer may have removed it.
        if (missing.is_empty() && loader.is_none()) || !exists(&view, &program.path)? {
            continue;
        }
        // Without its loader, what else it lacks is no news.
        let keys = match loader {
            Some(loader) => vec![(true, loader.clone())],
            None => missing.into_iter().map(|name| (false, name.clone())).collect(),
        };
        for key in keys {
            lacks.entry(key).or_default().insert(format!("/{}", program.path));
        }
    }
    let lack = |((is_loader, what), programs): (_, BTreeSet<String>)| Lack {
        what,
        is_loader,
        programs: programs.into_iter().collect(),
    };
    Ok(lacks.into_iter().rev().map(lack).collect())
}

fn exists(view: &Merged, path: &str) -> Result<bool, StoreError> {
    match TreePath::parse(path.as_bytes()) {
        Ok(path) => Ok(view.find(&path, true)?.is_some()),
        Err(_) => Ok(false),
    }
}

/// Why a shell did not find a program that is there: the program it names, and that one's missing loader.
///
/// A shell says "not found" for both. Every word of the script with a slash is looked at.
pub(crate) fn missing_loader(view: &Merged, run: &Run) -> Option<(String, String)> {
    let script = run.argv.last()?;
    let words = script.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '"' | '\''));
    words.filter(|word| word.contains('/')).take(64).find_map(|word| {
        let full = if word.starts_with('/') { word.to_owned() } else { format!("{}/{word}", run.cwd) };
        let node = view.find(&TreePath::clean(full.as_bytes()).ok()?, true).ok()??;
        if node.status.kind != FileKind::File {
            return None;
        }
        let mut start = Vec::new();
        let file = view.open(&node.path).ok()?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, 4096), &mut start).ok()?;
        let loader = String::from_utf8_lossy(&dram_sandbox::interpreter(&start)?).into_owned();
        (!exists(view, &loader).ok()?).then(|| (word.to_owned(), loader))
    })
}
