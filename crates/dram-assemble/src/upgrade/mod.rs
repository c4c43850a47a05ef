//! A release that a running system of an older version can become: appups, and a relup.
//!
//! The old version is what lies at the destination. What is written for it are files of the new version, which travel
//! in its archive.

mod appups;
mod old;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::appup::{AppupError, GenerateError};
use dram_release::rc::Application;
use dram_release::relup::{self, RelupError, Version};

use crate::AssembleError;
use crate::assemble::{self, Assembly};
use crate::tree::{Content, Entry};

/// The first OTP release that finds what `RELEASES` names wherever it was started.
const ABSOLUTE: u32 = 25;

/// What a running system of an older version is to become.
#[derive(Debug, Clone, Default)]
pub struct Upgrade {
    /// The older version; otherwise the newest one at the destination.
    pub from: Option<String>,
}

/// A version that can be taken by a running system.
#[derive(Debug, Clone)]
pub struct Upgraded {
    /// The older version.
    pub from: String,
    /// The applications that change.
    pub changes: Vec<Changed>,
}

/// How an application changes.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The application.
    pub name: String,
    /// Its old version.
    pub from: String,
    /// Its new version.
    pub to: String,
    /// The appup that somebody wrote, if it was not made here.
    pub appup: Option<PathBuf>,
}

/// Why a running system cannot become the new version.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// There is nothing to change from.
    #[error("there is no older version in `{}`", .0.display())]
    NoOldVersion(PathBuf),
    /// The version asked for is not there.
    #[error("there is no version `{version}` in `{}`", place.display())]
    NoSuchVersion {
        /// The version.
        version: String,
        /// Where it should be.
        place: PathBuf,
        /// What there is.
        known: Vec<String>,
    },
    /// The version asked for is the new one.
    #[error("version `{0}` cannot be an upgrade of itself")]
    SameVersion(String),
    /// The description of the old version is none.
    #[error("`{}` does not describe a release", path.display())]
    Rel {
        /// The `.rel` file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// An application of the old version is not there.
    #[error("`{name}` {version} of the old version is not in `{}`", place.display())]
    NoLibrary {
        /// The application.
        name: String,
        /// Its version.
        version: String,
        /// Where it should be.
        place: PathBuf,
    },
    /// An application changed, and its version did not.
    #[error("`{name}` changed, and its version `{version}` did not: `{module}` is another module than before")]
    SameApplication {
        /// The application.
        name: String,
        /// Its version.
        version: String,
        /// The first module that changed.
        module: String,
    },
    /// An appup that somebody wrote is none.
    #[error("`{}` is no appup", path.display())]
    Appup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AppupError,
    },
    /// An appup was written for this change, and does not lead there.
    #[error("`{}` does not lead from `{from}` to `{to}` and back", path.display())]
    OtherVersions {
        /// The file.
        path: PathBuf,
        /// The old version.
        from: String,
        /// The new one.
        to: String,
    },
    /// A link that no running system unpacks.
    #[error("`{}` is a link out of its directory to something that is no file", .0.display())]
    Link(PathBuf),
    /// There is no appup, and none can be made.
    #[error("there is no appup for `{name}`, and none can be made")]
    Generate {
        /// The application.
        name: String,
        /// What is in the way.
        source: GenerateError,
    },
    /// The appups do not make a relup.
    #[error("the running system cannot be changed from `{from}`")]
    Relup {
        /// The old version.
        from: String,
        /// What is wrong.
        source: RelupError,
    },
}

impl From<UpgradeError> for AssembleError {
    fn from(error: UpgradeError) -> AssembleError {
        AssembleError::Upgrade(Box::new(error))
    }
}

/// Adds to `assembly` what a system needs that runs an older version from `destination`.
///
/// # Errors
/// See [`UpgradeError`].
pub(crate) fn add(
    assembly: &mut Assembly,
    upgrade: &Upgrade,
    destination: &Path,
    project: &Path,
) -> Result<Upgraded, AssembleError> {
    let (name, version) = (assembly.release.name().to_owned(), assembly.release.version().to_owned());
    let from = old::choose(destination, &name, &version, upgrade.from.as_deref())?;
    if assembly.release.otp() < ABSOLUTE {
        let why = "looks for applications below its working directory: start it in the directory of the release";
        assembly.warnings.push(format!("OTP {} {why}", assembly.release.otp()));
    }
    let new = new_version(assembly);
    let old = old::read(destination, &name, &from, &new, assembly.release.otp())?;
    let order: Vec<String> =
        assembly.release.started(&assembly.catalog).iter().map(|member| member.name().to_owned()).collect();
    let (mut changes, mut appups) = (Vec::new(), BTreeMap::new());
    for now in &new.applications {
        let Some(before) = old.applications.iter().find(|app| app.name == now.name) else { continue };
        if now.version == before.version {
            old::same(assembly, destination, now)?;
            continue;
        }
        let found = appups::find(assembly, destination, project, before, now)?;
        let at = library(now)?.join(b"ebin").join(format!("{}.appup", now.name).as_bytes());
        assembly.tree.put_text(at, found.appup.text());
        let (name, from, to) = (now.name.clone(), before.version.clone(), now.version.clone());
        appups.insert(name.clone(), found.appup);
        changes.push(Changed { name, from, to, appup: found.path });
    }
    let relup = relup::relup(&new, &order, &old, &appups)
        .map_err(|source| UpgradeError::Relup { from: from.clone(), source })?;
    let at = assemble::path("releases")?.join(version.as_bytes());
    assembly.tree.put_text(at.join(b"relup"), relup::text(&relup));
    let manifest = at.join(crate::write::MANIFEST.as_bytes());
    assembly.tree.take(&manifest);
    assemble::put_manifest(&mut assembly.tree, manifest);
    Ok(Upgraded { from, changes })
}

fn new_version(assembly: &Assembly) -> Version {
    let release = &assembly.release;
    let application = |member: &dram_release::resolve::Member| Application {
        name: member.name().to_owned(),
        version: member.version().to_owned(),
        mode: member.mode(),
        modules: assembly.catalog.get(member.name()).map(|found| found.app.modules.clone()).unwrap_or_default(),
    };
    Version {
        version: release.version().to_owned(),
        erts: release.erts().to_owned(),
        applications: release.apps().iter().map(application).collect(),
    }
}

/// Where an application lies in a release.
fn library(app: &Application) -> Result<TreePath, AssembleError> {
    assemble::path(&format!("lib/{}-{}", app.name, app.version))
}

/// Bytes, and the file that they are from.
type Bytes = (Vec<u8>, Option<PathBuf>);

/// The bytes of a file of the new version; nothing where it has no such file.
fn content(assembly: &Assembly, at: &TreePath) -> Result<Option<Bytes>, AssembleError> {
    let Some(Entry::File { content, .. }) = assembly.tree.get(at) else { return Ok(None) };
    match content {
        Content::Bytes(bytes) => Ok(Some((bytes.clone(), None))),
        Content::Own(bytes) => Ok(Some((bytes.to_vec(), None))),
        Content::Disk(path) | Content::Beam(path, _) => {
            let bytes = std::fs::read(path).map_err(AssembleError::io("read", path))?;
            Ok(Some((bytes, Some(path.clone()))))
        }
    }
}

/// The modules that the new version has of an application, by name, with their bytes.
fn modules(assembly: &Assembly, app: &Application) -> Result<dram_release::appup::Modules, AssembleError> {
    let ebin = library(app)?.join(b"ebin");
    let mut modules = BTreeMap::new();
    for (at, _) in assembly.tree.iter().filter(|(at, _)| at.parent().as_ref() == Some(&ebin)) {
        let name = at.name().and_then(|name| std::str::from_utf8(name).ok()?.strip_suffix(".beam"));
        if let (Some(name), Some((bytes, _))) = (name, content(assembly, at)?) {
            modules.insert(name.to_owned(), bytes);
        }
    }
    Ok(modules)
}
