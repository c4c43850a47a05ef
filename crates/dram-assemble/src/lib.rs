//! Assembles a compiled Mix or rebar3 project into a release: a directory and a `.tar.gz`.
//!
//! This crate detects the project, queries it with its own tools (`mix.exs` is a program), and writes the release that
//! `dram-release` resolves. It reads and writes files, starts threads, and runs the project's tools.

mod answer;
mod archive;
mod ask;
mod assemble;
mod blueprint;
mod collect;
mod distillery;
mod error;
mod erts;
mod from;
mod libraries;
mod mix;
mod overlay;
mod rebar;
mod remember;
mod settings;
mod start_program;
mod tool;
mod tree;
mod upgrade;
mod write;
mod written;

use std::fs;
use std::path::{Path, PathBuf};

pub use archive::Archive;
pub use error::AssembleError;
pub use libraries::Requires;
pub use remember::Environment;
pub use settings::Mode;
pub use tool::Tools;
pub use upgrade::{Changed, Upgrade, UpgradeError, Upgraded};

use answer::Fields;
use archive::{Packing, Pieces};
use ask::{Builder, Places};
use assemble::Assembly;
use blueprint::{Blueprint, Text};
use settings::Settings;
use written::Written;

/// A request to assemble a release.
#[derive(Debug)]
pub struct Request {
    /// The absolute path of the project.
    pub project: PathBuf,
    /// The release name, if given.
    pub name: Option<String>,
    /// The environment or profile, if given.
    pub env: Option<String>,
    /// The release version, if given.
    pub version: Option<String>,
    /// Directories of compiled modules, to be used instead of a project.
    pub from: Vec<PathBuf>,
    /// The root directory of OTP, if given.
    pub otp: Option<PathBuf>,
    /// The absolute path of the destination, if given.
    pub output: Option<PathBuf>,
    /// The upgrade to prepare, if requested.
    pub upgrade: Option<Upgrade>,
    /// True if an archive is written.
    pub archive: bool,
    /// True if a release that dram did not write may be replaced.
    pub overwrite: bool,
    /// True if shared libraries are included; `None` if not given.
    pub portable: Option<bool>,
    /// The code loading mode, if given.
    pub mode: Option<Mode>,
    /// The modification time of all entries in the archive, in seconds since 1970.
    pub seconds: i64,
    /// The project's tools.
    pub tools: Tools,
    /// The caller's environment variables.
    pub environment: Environment,
}

/// A release that was written.
#[derive(Debug)]
pub struct Assembled {
    /// The release name.
    pub name: String,
    /// The release version.
    pub version: String,
    /// The directory of the release.
    pub path: PathBuf,
    /// The archive, if one was written.
    pub archive: Option<Archive>,
    /// The upgrade that was prepared.
    pub upgrade: Option<Upgraded>,
    /// The number of files.
    pub files: u64,
    /// The total size of the files in bytes.
    pub size: u64,
    /// The applications in start order: name and version.
    pub applications: Vec<(String, String)>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Assembles the requested release and writes it.
///
/// # Errors
/// See [`AssembleError`]. The destination is then unchanged.
pub fn release(request: &Request) -> Result<Assembled, AssembleError> {
    let places = Places::of(request)?;
    let blueprint = blueprint(request, &places)?;
    let (name, version) = (blueprint.name.clone(), blueprint.version.clone());
    let path = request
        .output
        .clone()
        .or_else(|| blueprint.path.as_ref().map(|path| places.project.join(path)))
        .unwrap_or_else(|| places.build.join("rel").join(&name));
    let mut assembly = assemble::assemble(blueprint)?;
    let turn = write::take_turn(&path)?;
    let upgrade = match &request.upgrade {
        Some(upgrade) => Some(upgrade::add(&mut assembly, upgrade, &path, &places.project)?),
        None => None,
    };
    // Without a project there is no cache directory.
    let memory = request.from.is_empty().then_some(places.memory.as_path());
    let mut written = Written::recall(memory, &path);
    write::write(&assembly.tree, &path, &version, request.overwrite, &mut written, &turn)?;
    written.keep();
    let archive = match request.archive {
        true => {
            let beside = path.with_file_name(format!("{name}-{version}.tar.gz"));
            let pieces = || memory.map(|memory| Pieces::new(memory.join("pieces")));
            let packing = if upgrade.is_some() { Packing::Whole } else { Packing::Pieces(pieces()) };
            let archive = archive::write(&assembly.tree, &path, &beside, request.seconds, &packing)?;
            if let Packing::Pieces(Some(pieces)) = &packing {
                pieces.sweep();
            }
            Some(archive)
        }
        false => None,
    };
    let (files, size) = sizes(&assembly, &path);
    let Assembly { applications, warnings, .. } = assembly;
    Ok(Assembled { name, version, path, archive, upgrade, files, size, applications, warnings })
}

/// Returns what the requested release needs from the system it runs on. Nothing is written.
///
/// # Errors
/// See [`AssembleError`].
pub fn requires(request: &Request) -> Result<Requires, AssembleError> {
    let places = Places::of(request)?;
    let assembly = assemble::assemble(Blueprint { portable: false, ..blueprint(request, &places)? })?;
    Ok(libraries::requires(&assembly.programs))
}

fn blueprint(request: &Request, places: &Places) -> Result<Blueprint, AssembleError> {
    let (mut blueprint, settings) = if !request.from.is_empty() {
        let settings = settings::read(&places.project, request.name.as_deref().unwrap_or_default())?;
        (from::blueprint(request, &settings)?, settings)
    } else {
        let builder = places.builder.ok_or_else(|| AssembleError::NoProject(places.project.clone()))?;
        let answer = ask::answer(request, places, builder)?;
        let fields = Fields::of("answer", ask::known(&answer)?)?;
        let blueprint = match builder {
            Builder::Mix if fields.get("distillery").is_some() => distillery::blueprint(fields)?,
            Builder::Mix => mix::blueprint(fields)?,
            Builder::Rebar => rebar::blueprint(fields)?,
        };
        let settings = settings::read(&places.project, &blueprint.name)?;
        (blueprint, settings)
    };
    apply(&mut blueprint, settings, request)?;
    if let Some(portable) = request.portable {
        blueprint.portable = portable;
    }
    blueprint.start.mode = request.mode.or(blueprint.start.mode);
    Ok(blueprint)
}

/// Applies `dram.toml`, which overrides the project's own configuration.
fn apply(blueprint: &mut Blueprint, settings: Settings, request: &Request) -> Result<(), AssembleError> {
    let project = &request.project;
    // Destructured without `..`, so that a new setting does not compile until it is applied.
    let Settings {
        version,
        applications: _,
        mode,
        distribution,
        portable,
        vm_args,
        sys_config,
        overlays,
        strip,
        keep_chunks,
        erts_programs,
        replace_os_vars,
        nofile,
        hooks,
        commands,
        env,
    } = settings;
    if let Some(version) = version.filter(|_| request.version.is_none()) {
        blueprint.version = version;
    }
    blueprint.start.mode = mode.or(blueprint.start.mode);
    blueprint.start.distribution = distribution.or(blueprint.start.distribution);
    blueprint.portable = portable.unwrap_or(blueprint.portable);
    if let Some(path) = vm_args {
        blueprint.vm_args = Text::read(&project.join(path))?;
    }
    if let Some(path) = sys_config {
        blueprint.sys_config = Text::read_configuration(&project.join(path))?;
    }
    let overlays = overlays.unwrap_or_default();
    blueprint.overlays.extend(overlays.into_iter().map(|dir| blueprint::Overlay::Dir(project.join(dir))));
    match (strip, &mut blueprint.strip) {
        (Some(false), strip) => *strip = None,
        (Some(true), strip @ None) => *strip = Some(blueprint::Strip { keep: Vec::new(), compress: false }),
        (Some(true), Some(_)) | (None, _) => {}
    }
    if let Some(strip) = &mut blueprint.strip {
        strip.keep.extend(keep_chunks.unwrap_or_default());
    }
    blueprint.erts_programs.extend(erts_programs.unwrap_or_default());
    blueprint.start.replace_os_vars = replace_os_vars.unwrap_or(blueprint.start.replace_os_vars);
    blueprint.start.nofile = nofile.or(blueprint.start.nofile);
    blueprint.start.env.extend(env.unwrap_or_default());
    let place = |name: &str, kind: &str| -> Result<dram_image::TreePath, AssembleError> {
        let at = format!("releases/{}/{kind}/{name}", blueprint.version);
        dram_image::TreePath::parse(at.as_bytes())
            .map_err(|_| AssembleError::Name { what: "the script", name: name.to_owned() })
    };
    for (moment, script) in hooks.unwrap_or_default() {
        let at = place(moment.name(), "hooks")?;
        blueprint.overlays.push(blueprint::Overlay::Copy(project.join(script), at.clone()));
        blueprint.start.hooks.push((moment.name().to_owned(), at));
    }
    for (name, script) in commands.unwrap_or_default() {
        let at = place(&name, "commands")?;
        blueprint.overlays.push(blueprint::Overlay::Copy(project.join(script), at.clone()));
        blueprint.start.commands.push((name, at, String::new()));
    }
    Ok(())
}

fn sizes(assembly: &Assembly, path: &Path) -> (u64, u64) {
    let mut total = (0, 0);
    for (at, _) in assembly.tree.iter() {
        if let Ok(status) = fs::symlink_metadata(path.join(at.as_path()))
            && status.is_file()
        {
            total = (total.0 + 1, total.1 + status.len());
        }
    }
    total
}
