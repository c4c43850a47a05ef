//! Upgrades: appups and a relup for a running system of an older version.
//!
//! The older version is the release at the destination. The files written for the upgrade belong to the new version,
//! and are in its archive.

mod appups;
mod old_version;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::appup::{AppupError, AppupGenerateError};
use dram_release::relup::{self, RelupError, RelupRelease};
use dram_release::relup_script::RelupApp;

use crate::AssembleError;
use crate::assemble::{self, ReleaseAssembly};
use crate::tree::{ReleaseEntry, ReleaseFileContent};

/// The first OTP release that resolves the paths in `RELEASES` independently of its working directory.
const ABSOLUTE_RELEASES_SINCE: u32 = 25;

/// A request to prepare an upgrade.
#[derive(Debug, Clone, Default)]
pub struct UpgradeRequest {
    /// The older version; by default the newest one at the destination.
    pub from: Option<String>,
}

/// An upgrade that was prepared.
#[derive(Debug, Clone)]
pub struct PreparedUpgrade {
    /// The older version.
    pub from: String,
    /// The applications that change.
    pub changes: Vec<ApplicationChange>,
}

/// A change of an application.
#[derive(Debug, Clone)]
pub struct ApplicationChange {
    /// The application.
    pub name: String,
    /// The old version.
    pub from: String,
    /// The new version.
    pub to: String,
    /// The appup file, if the appup was not generated.
    pub appup: Option<PathBuf>,
}

/// The reason why the upgrade is not possible.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The destination has no older version.
    #[error("there is no older version in `{}`", .0.display())]
    NoOldVersion(PathBuf),
    /// The requested version does not exist.
    #[error("there is no version `{version}` in `{}`", place.display())]
    NoSuchVersion {
        /// The version.
        version: String,
        /// The destination.
        place: PathBuf,
        /// The existing versions.
        known: Vec<String>,
    },
    /// The requested version is the new version.
    #[error("version `{0}` cannot be an upgrade of itself")]
    SameVersion(String),
    /// The `.rel` file of the old version is invalid.
    #[error("`{}` does not describe a release", path.display())]
    Rel {
        /// The `.rel` file.
        path: PathBuf,
        /// The underlying error.
        source: io::Error,
    },
    /// An application of the old version is missing.
    #[error("`{name}` {version} of the old version is not in `{}`", place.display())]
    NoLibrary {
        /// The application.
        name: String,
        /// Its version.
        version: String,
        /// The directory in which it was expected.
        place: PathBuf,
    },
    /// An application changed without a new version.
    #[error("`{name}` changed, and its version `{version}` did not: `{module}` is another module than before")]
    SameApplication {
        /// The application.
        name: String,
        /// Its version.
        version: String,
        /// The first module that differs.
        module: String,
    },
    /// An appup file is invalid.
    #[error("`{}` is no appup", path.display())]
    Appup {
        /// The file.
        path: PathBuf,
        /// The underlying error.
        source: AppupError,
    },
    /// An appup file named for this change does not contain it.
    #[error("`{}` does not lead from `{from}` to `{to}` and back", path.display())]
    OtherVersions {
        /// The file.
        path: PathBuf,
        /// The old version.
        from: String,
        /// The new version.
        to: String,
    },
    /// A link that `release_handler` cannot unpack.
    #[error("`{}` is a link out of its directory to something that is no file", .0.display())]
    Link(PathBuf),
    /// There is no appup file, and none can be generated.
    #[error("there is no appup for `{name}`, and none can be made")]
    Generate {
        /// The application.
        name: String,
        /// The underlying error.
        source: AppupGenerateError,
    },
    /// The appups cannot be combined to a relup.
    #[error("the running system cannot be changed from `{from}`")]
    Relup {
        /// The old version.
        from: String,
        /// The underlying error.
        source: RelupError,
    },
}

impl From<UpgradeError> for AssembleError {
    fn from(error: UpgradeError) -> AssembleError {
        AssembleError::Upgrade(Box::new(error))
    }
}

/// Adds to `assembly` the files that upgrade a system which runs an older version from `destination`.
///
/// # Errors
/// See [`UpgradeError`].
pub(crate) fn prepare_upgrade(
    assembly: &mut ReleaseAssembly,
    upgrade: &UpgradeRequest,
    destination: &Path,
    project: &Path,
) -> Result<PreparedUpgrade, AssembleError> {
    let (name, version) = (assembly.release.name().to_owned(), assembly.release.version().to_owned());
    let from = old_version::choose_version(destination, &name, &version, upgrade.from.as_deref())?;
    if assembly.release.otp() < ABSOLUTE_RELEASES_SINCE {
        let why = "looks for applications below its working directory: start it in the directory of the release";
        assembly.warnings.push(format!("OTP {} {why}", assembly.release.otp()));
    }
    let new = new_release(assembly);
    let old = old_version::read_old_version(destination, &name, &from, &new, assembly.release.otp())?;
    let order: Vec<String> =
        assembly.release.start_order(&assembly.catalog).iter().map(|member| member.name().to_owned()).collect();
    let (mut changes, mut appups) = (Vec::new(), BTreeMap::new());
    for now in &new.applications {
        let Some(before) = old.applications.iter().find(|app| app.name == now.name) else { continue };
        if now.version == before.version {
            old_version::check_unchanged(assembly, destination, now)?;
            continue;
        }
        let found = appups::find_appup(assembly, destination, project, before, now)?;
        let at = library_path(now)?.join(b"ebin").join(format!("{}.appup", now.name).as_bytes());
        assembly.tree.put_text(at, found.appup.text());
        let (name, from, to) = (now.name.clone(), before.version.clone(), now.version.clone());
        appups.insert(name.clone(), found.appup);
        changes.push(ApplicationChange { name, from, to, appup: found.path });
    }
    let relup = relup::make_relup(&new, &order, &old, &appups)
        .map_err(|source| UpgradeError::Relup { from: from.clone(), source })?;
    let at = assemble::release_path("releases")?.join(version.as_bytes());
    assembly.tree.put_text(at.join(b"relup"), relup::relup_text(&relup));
    let manifest = at.join(crate::write::MANIFEST.as_bytes());
    assembly.tree.remove(&manifest);
    assemble::put_manifest(&mut assembly.tree, manifest);
    Ok(PreparedUpgrade { from, changes })
}

fn new_release(assembly: &ReleaseAssembly) -> RelupRelease {
    let release = &assembly.release;
    let application = |member: &dram_release::resolve::ReleaseApp| RelupApp {
        name: member.name().to_owned(),
        version: member.version().to_owned(),
        mode: member.mode(),
        modules: assembly.catalog.get(member.name()).map(|found| found.app.modules.clone()).unwrap_or_default(),
    };
    RelupRelease {
        version: release.version().to_owned(),
        erts: release.erts().to_owned(),
        applications: release.apps().iter().map(application).collect(),
    }
}

/// Returns the path of an application in a release.
fn library_path(app: &RelupApp) -> Result<TreePath, AssembleError> {
    assemble::release_path(&format!("lib/{}-{}", app.name, app.version))
}

/// File content, with the file it was read from.
type SourcedBytes = (Vec<u8>, Option<PathBuf>);

/// Returns the content of a file of the new version; `None` if there is no such file.
fn read_content(assembly: &ReleaseAssembly, at: &TreePath) -> Result<Option<SourcedBytes>, AssembleError> {
    let Some(ReleaseEntry::File { content, .. }) = assembly.tree.get(at) else { return Ok(None) };
    match content {
        ReleaseFileContent::Bytes(bytes) => Ok(Some((bytes.clone(), None))),
        ReleaseFileContent::Embedded(bytes) => Ok(Some((bytes.to_vec(), None))),
        ReleaseFileContent::Disk(path) | ReleaseFileContent::Beam(path, _) => {
            let bytes = std::fs::read(path).map_err(AssembleError::io("read", path))?;
            Ok(Some((bytes, Some(path.clone()))))
        }
    }
}

/// Returns the modules of an application in the new version, with their bytes by name.
fn new_modules(assembly: &ReleaseAssembly, app: &RelupApp) -> Result<dram_release::appup::BeamFiles, AssembleError> {
    let ebin = library_path(app)?.join(b"ebin");
    let mut modules = BTreeMap::new();
    for (at, _) in assembly.tree.iter().filter(|(at, _)| at.parent().as_ref() == Some(&ebin)) {
        let name = at.name().and_then(|name| std::str::from_utf8(name).ok()?.strip_suffix(".beam"));
        if let (Some(name), Some((bytes, _))) = (name, read_content(assembly, at)?) {
            modules.insert(name.to_owned(), bytes);
        }
    }
    Ok(modules)
}
