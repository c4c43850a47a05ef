//! Finds the reason why a shell did not find a program that exists: its loader is missing.

use dram_image::TreePath;
use dram_plan::RunOp;
use dram_store::{FileKind, FileTree as _, MergedTree, StoreError};

fn exists(view: &MergedTree, path: &str) -> Result<bool, StoreError> {
    match TreePath::parse(path.as_bytes()) {
        Ok(path) => Ok(view.find(&path, true)?.is_some()),
        Err(_) => Ok(false),
    }
}

/// Returns the program that a shell did not find although it exists, and its missing loader.
///
/// A shell prints "not found" for both cases. Every word of the script that contains a slash is checked.
pub(super) fn missing_loader(view: &MergedTree, run: &RunOp) -> Option<(String, String)> {
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
