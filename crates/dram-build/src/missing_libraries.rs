//! Finds loaders and libraries that programs of an image need and the image does not have, before anybody runs it.
//!
//! The usual cause is a program that was built in one distribution and copied into another, without its loader or a
//! library.

use std::collections::{BTreeMap, BTreeSet};

use dram_image::TreePath;
use dram_plan::RunOp;
use dram_store::{FileKind, FileTree as _, MergedTree, StoreError};

use crate::{Layer, LayerProvider, Snapshot};

/// A loader or library that programs need and the image does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLibrary {
    /// The path of the loader, or the name of the library.
    pub name: String,
    /// True if it is the loader, without which the program does not even start.
    pub is_loader: bool,
    /// The paths of the programs that need it, sorted.
    pub programs: Vec<String>,
}

/// Returns the loaders and libraries that are missing for programs in the layers that the build itself made. Programs
/// of the base image are not checked.
///
/// A library counts as present if any file of the image has its name, because the search paths of loaders depend on too
/// much.
///
/// # Errors
/// Returns an error if a layer cannot be read.
pub fn missing_libraries(provider: &LayerProvider<'_>, snapshot: &Snapshot) -> Result<Vec<MissingLibrary>, StoreError> {
    // Lazy layers are not pulled for this check.
    if !provider.is_local(&snapshot.layers) {
        return Ok(Vec::new());
    }
    let layers = provider.store().layers();
    let mut programs = Vec::new();
    for id in snapshot.layers.iter().filter_map(Layer::stored_id) {
        programs.extend(layers.programs(id)?.programs);
    }
    if programs.is_empty() {
        return Ok(Vec::new());
    }
    let ids = provider.ensure_outside_build(&snapshot.layers)?;
    let mut libraries = BTreeSet::new();
    for id in &ids {
        libraries.extend(layers.programs(id)?.libraries);
    }
    let view = layers.view(&ids)?;
    let mut lacks: BTreeMap<(bool, String), BTreeSet<String>> = BTreeMap::new();
    for program in programs {
        let missing: Vec<_> = program.libraries.iter().filter(|name| !libraries.contains(*name)).collect();
        let loader = match &program.interpreter {
            Some(loader) if !exists(&view, loader)? => Some(loader),
            Some(_) | None => None,
        };
        // A later layer may have removed the program.
        if (missing.is_empty() && loader.is_none()) || !exists(&view, &program.path)? {
            continue;
        }
        // Without its loader, the other missing libraries of a program do not matter.
        let keys = match loader {
            Some(loader) => vec![(true, loader.clone())],
            None => missing.into_iter().map(|name| (false, name.clone())).collect(),
        };
        for key in keys {
            lacks.entry(key).or_default().insert(format!("/{}", program.path));
        }
    }
    let lack = |((is_loader, what), programs): (_, BTreeSet<String>)| MissingLibrary {
        name: what,
        is_loader,
        programs: programs.into_iter().collect(),
    };
    Ok(lacks.into_iter().rev().map(lack).collect())
}

fn exists(view: &MergedTree, path: &str) -> Result<bool, StoreError> {
    match TreePath::parse(path.as_bytes()) {
        Ok(path) => Ok(view.find(&path, true)?.is_some()),
        Err(_) => Ok(false),
    }
}

/// Finds the reason why a shell did not find a program that exists: returns the program and its missing loader.
///
/// A shell prints "not found" for both cases. Every word of the script that contains a slash is checked.
pub(crate) fn missing_loader(view: &MergedTree, run: &RunOp) -> Option<(String, String)> {
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
        let loader = String::from_utf8_lossy(&dram_sandbox::program_interpreter(&start)?).into_owned();
        (!exists(view, &loader).ok()?).then(|| (word.to_owned(), loader))
    })
}
