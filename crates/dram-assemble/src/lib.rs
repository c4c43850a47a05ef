//! A compiled Mix or rebar3 project becomes a release on disk: a tree and a `.tar.gz`.
//!
//! This room finds the project, asks its own tools what they alone know (`mix.exs` is a program), and writes what
//! `dram-release` works out. It reads and writes files, starts threads, and starts the project's tools.

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

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// The project's directory, absolute.
    pub project: PathBuf,
    /// The release's name, where it was given.
    pub name: Option<String>,
    /// The environment or profile, where it was given.
    pub env: Option<String>,
    /// The release's version, where it was given.
    pub version: Option<String>,
    /// Directories of compiled modules to assemble from, instead of asking the project.
    pub from: Vec<PathBuf>,
    /// Where Erlang is, where it was given.
    pub otp: Option<PathBuf>,
    /// Where the release goes, absolute, where it was given.
    pub output: Option<PathBuf>,
    /// The version that a running system can become this one from, where it is to.
    pub upgrade: Option<Upgrade>,
    /// Whether an archive is written.
    pub archive: bool,
    /// Whether a release is replaced that dram did not write.
    pub overwrite: bool,
    /// Whether shared libraries travel with it, where that was given.
    pub portable: Option<bool>,
    /// When modules are loaded, where that was given.
    pub mode: Option<Mode>,
    /// The time that everything in the archive has, in seconds since 1970.
    pub seconds: i64,
    /// The project's tools.
    pub tools: Tools,
    /// The environment variables of the one who calls.
    pub environment: Environment,
}

/// A release that was written.
#[derive(Debug)]
pub struct Assembled {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its archive.
    pub archive: Option<Archive>,
    /// From which version a running system can become it.
    pub upgrade: Option<Upgraded>,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub size: u64,
    /// Its applications, in the order they start: name and version.
    pub applications: Vec<(String, String)>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Assembles the release that is asked for, and writes it.
///
/// # Errors
/// See [`AssembleError`]. What was at the destination is as it was then.
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
    // Without a project there is no place for a memory.
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

/// What the release that is asked for would expect of the system that it runs on; nothing is written.
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

/// Applies `dram.toml`, which wins over what the project's own files say.
fn apply(blueprint: &mut Blueprint, settings: Settings, request: &Request) -> Result<(), AssembleError> {
    let project = &request.project;
    // Taken apart, so that a new setting does not compile until it is applied.
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
