//! The appup of an application: from a file, or generated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dram_release::appup::{Appup, generate_appup, restart_appup};
use dram_release::relup_script::RelupApp;

use super::{UpgradeError, library_path, old_version, read_content};
use crate::AssembleError;
use crate::assemble::ReleaseAssembly;

/// Applications that cannot be upgraded without restarting the emulator.
const BASE_APPLICATIONS: [&str; 3] = ["kernel", "stdlib", "sasl"];

/// An appup, with its file if it was not generated.
pub(super) struct FoundAppup {
    pub(super) appup: Appup,
    pub(super) path: Option<PathBuf>,
}

/// Returns the appup from `before` to `now`: from the project's `rel/appups/APP`, from the application's `priv/appups`
/// or `ebin`, or generated from the differences.
///
/// # Errors
/// Fails if an appup file is invalid, or none can be generated.
pub(super) fn find_appup(
    assembly: &mut ReleaseAssembly,
    destination: &Path,
    project: &Path,
    before: &RelupApp,
    now: &RelupApp,
) -> Result<FoundAppup, AssembleError> {
    let fits = |appup: &Appup| appup.is_for_version(&now.version) && appup.covers_version(&before.version);
    let named = format!("{}_to_{}.appup", before.version, now.version);
    for path in appup_files(&project.join("rel").join("appups").join(&now.name))? {
        let appup = read_appup(&fs::read(&path).map_err(AssembleError::io("read", &path))?, &path)?;
        if fits(&appup) {
            return Ok(FoundAppup { appup, path: Some(path) });
        }
        if path.file_name().is_some_and(|name| name.to_str() == Some(&named)) {
            let (from, to) = (before.version.clone(), now.version.clone());
            return Err(UpgradeError::OtherVersions { path, from, to }.into());
        }
    }
    let at = library_path(now)?;
    let own = at.join(b"priv").join(b"appups");
    let inside = assembly.tree.iter().map(|(at, _)| at).filter(|at| at.parent().as_ref() == Some(&own));
    let inside = inside.filter(|at| at.name().is_some_and(|name| name.ends_with(b".appup")));
    let own = at.join(b"ebin").join(format!("{}.appup", now.name).as_bytes());
    for at in inside.chain(assembly.tree.get(&own).map(|_| &own)) {
        let Some((bytes, path)) = read_content(assembly, at)? else { continue };
        let path = path.unwrap_or_else(|| at.as_path().to_owned());
        let appup = read_appup(&bytes, &path)?;
        // As in `systools`, an appup in `ebin` may name another new version than the application's; one of the project
        // may not.
        if appup.covers_version(&before.version) && (at == &own || fits(&appup)) {
            return Ok(FoundAppup { appup, path: Some(path) });
        }
    }
    if assembly.tree.get(&own).is_some() && !BASE_APPLICATIONS.contains(&now.name.as_str()) {
        let (name, from, to) = (&now.name, &before.version, &now.version);
        let made = "it does not lead there, and another one was made";
        assembly.warnings.push(format!("`{name}` brings an appup, and changes from {from} to {to}: {made}"));
    }
    create_appup(assembly, destination, before, now).map(|appup| FoundAppup { appup, path: None })
}

fn create_appup(
    assembly: &ReleaseAssembly,
    destination: &Path,
    before: &RelupApp,
    now: &RelupApp,
) -> Result<Appup, AssembleError> {
    if BASE_APPLICATIONS.contains(&now.name.as_str()) {
        return Ok(restart_appup(&before.version, &now.version));
    }
    let missing = || {
        let (name, version) = (before.name.clone(), before.version.clone());
        UpgradeError::NoLibrary { name, version, place: destination.join("lib") }
    };
    let old = old_version::old_modules(destination, before)?.ok_or_else(missing)?;
    let new = super::new_modules(assembly, now)?;
    let made = generate_appup(&before.version, &now.version, &old, &new);
    Ok(made.map_err(|source| UpgradeError::Generate { name: now.name.clone(), source })?)
}

fn read_appup(bytes: &[u8], path: &Path) -> Result<Appup, UpgradeError> {
    Appup::read(bytes).map_err(|source| UpgradeError::Appup { path: path.to_owned(), source })
}

/// Returns the appup files in a directory, sorted by name; the directory does not have to exist.
fn appup_files(dir: &Path) -> Result<Vec<PathBuf>, AssembleError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(AssembleError::io("read", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(AssembleError::io("read", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "appup") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
