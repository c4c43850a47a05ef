//! Assembles a compiled Mix or rebar3 project into a release: a directory and a `.tar.gz`.
//!
//! This crate detects the project, queries it with its own tools (`mix.exs` is a program), and writes the release that
//! `dram-release` resolves. It reads and writes files, starts threads, and runs the project's tools.

mod answer;
mod answer_cache;
mod archive;
mod assemble;
mod blueprint;
mod collect;
mod distillery;
mod ebin_dirs;
mod error;
mod error_report;
mod erts;
mod libraries;
mod mix;
mod overlay;
mod project_query;
mod rebar;
mod release_steps;
mod release_times;
mod settings;
mod shell_needs;
mod start_program;
#[cfg(test)]
mod test_project;
mod tool;
mod tree;
mod upgrade;
mod write;
mod write_cache;

use std::fs;
use std::path::{Path, PathBuf};

pub use answer_cache::CallerEnvironment;
pub use archive::ReleaseArchive;
pub use error::AssembleError;
pub use libraries::SystemRequirements;
pub use release_times::ReleaseTimes;
pub use settings::CodeLoadingMode;
pub use tool::ProjectTools;
pub use upgrade::{ApplicationChange, PreparedUpgrade, UpgradeError, UpgradeRequest};

use answer::AnswerMap;
use archive::{ArchivePacking, GzipMemberCache};
use assemble::ReleaseAssembly;
use blueprint::{ConfigText, ReleaseBlueprint};
use dram_release::term::Term;
use dram_start::environment::EnvironmentVariables;
use dram_start::named_release::NamingFiles;
use project_query::{BuildTool, ProjectPaths};
use release_steps::{StepReport, StepSession};
use release_times::OwnFiles;
use settings::DramTomlSettings;
use write_cache::WriteCache;

/// A request to assemble a release.
#[derive(Debug, Clone)]
pub struct AssembleRequest {
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
    pub upgrade: Option<UpgradeRequest>,
    /// True if an archive is written.
    pub archive: bool,
    /// True if a release that dram did not write may be replaced.
    pub overwrite: bool,
    /// True if shared libraries are included; `None` if not given.
    pub portable: Option<bool>,
    /// The code loading mode, if given.
    pub mode: Option<CodeLoadingMode>,
    /// The project's tools.
    pub tools: ProjectTools,
    /// The caller's environment variables.
    pub environment: CallerEnvironment,
}

/// A release that was written.
#[derive(Debug)]
pub struct AssembledRelease {
    /// The release name.
    pub name: String,
    /// The release version.
    pub version: String,
    /// The directory of the release.
    pub path: PathBuf,
    /// The archive, if one was written.
    pub archive: Option<ReleaseArchive>,
    /// The upgrade that was prepared.
    pub upgrade: Option<PreparedUpgrade>,
    /// The number of files.
    pub files: u64,
    /// The total size of the files in bytes.
    pub size: u64,
    /// The applications in start order: name and version.
    pub applications: Vec<(String, String)>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Assembles the requested release and writes it. `times` returns the rule for its times; it is given the paths that are
/// written, which are no sources of the project.
///
/// # Errors
/// See [`AssembleError`]. The destination is then unchanged.
pub fn assemble_release(
    request: &AssembleRequest,
    times: &dyn Fn(&[PathBuf]) -> ReleaseTimes,
) -> Result<AssembledRelease, AssembleError> {
    let places = ProjectPaths::for_request(request)?;
    let answer = query(request, &places)?;
    let blueprint = create_blueprint(request, &places, answer.as_ref())?;
    let (blueprint, steps) = match &answer {
        Some(answer) if release_steps::has_functions(answer_fields(answer)?)? => {
            let (session, answer) = StepSession::start(request, &places, &blueprint.version)?;
            (create_blueprint(request, &places, Some(&answer))?, Some(session))
        }
        Some(_) | None => (blueprint, None),
    };
    let (name, version) = (blueprint.name.clone(), blueprint.version.clone());
    let path = request
        .output
        .clone()
        .or_else(|| blueprint.configured_output.as_ref().map(|path| places.project.join(path)))
        .unwrap_or_else(|| places.build.join("rel").join(&name));
    let mut assembly = assemble::assemble(blueprint)?;
    let archive_name = format!("{name}-{version}.tar.gz");
    let outputs =
        [places.project.join("_build"), places.build.clone(), path.clone(), path.with_file_name(&archive_name)];
    let (times, own) = (times(&outputs), OwnFiles::of_project(&places));
    let turn = write::lock_destination(&path)?;
    let upgrade = match &request.upgrade {
        Some(upgrade) => Some(upgrade::prepare_upgrade(&mut assembly, upgrade, &path, &places.project)?),
        None => None,
    };
    // Without a project there is no cache directory.
    let memory = request.from.is_empty().then_some(places.cache_dir.as_path());
    let mut written = WriteCache::load(memory, &path);
    write::write_release(&assembly.tree, &path, &version, request.overwrite, &mut written, &turn)?;
    times.apply(&assembly.tree, &path, &own, Some(&mut written))?;
    written.save();
    let packer = ArchivePacker {
        is_wanted: request.archive,
        name: archive_name,
        times,
        own,
        is_upgrade: upgrade.is_some(),
        memory,
    };
    let (path, archive) = match steps {
        Some(session) => finish_steps(session, &mut assembly, path, &packer)?,
        None => {
            let archive = packer.pack(&assembly, &path)?;
            (path, archive)
        }
    };
    let (files, size) = count_files(&assembly, &path);
    let ReleaseAssembly { applications, warnings, .. } = assembly;
    Ok(AssembledRelease { name, version, path, archive, upgrade, files, size, applications, warnings })
}

/// The packing of the archive of a release.
struct ArchivePacker<'a> {
    is_wanted: bool,
    name: String,
    times: ReleaseTimes,
    own: OwnFiles,
    is_upgrade: bool,
    /// The cache directory, if there is one.
    memory: Option<&'a Path>,
}

impl ArchivePacker<'_> {
    /// Writes the archive of the release at `path`, if it is wanted.
    fn pack(&self, assembly: &ReleaseAssembly, path: &Path) -> Result<Option<ReleaseArchive>, AssembleError> {
        if !self.is_wanted {
            return Ok(None);
        }
        let beside = path.with_file_name(&self.name);
        let pieces = || self.memory.map(|memory| GzipMemberCache::new(memory.join("pieces")));
        let packing =
            if self.is_upgrade { ArchivePacking::SingleMember } else { ArchivePacking::MultiMember(pieces()) };
        let archive = archive::write_archive(&assembly.tree, path, &beside, self.times, &packing)?;
        if let ArchivePacking::MultiMember(Some(pieces)) = &packing {
            pieces.remove_unused();
        }
        Ok(Some(archive))
    }
}

/// Has the steps called that come after the release was written to `path`. Returns where they left it, and the archive,
/// which is written where `:tar` stands among the steps, or after them.
fn finish_steps(
    mut session: StepSession,
    assembly: &mut ReleaseAssembly,
    path: PathBuf,
    packer: &ArchivePacker<'_>,
) -> Result<(PathBuf, Option<ReleaseArchive>), AssembleError> {
    let (mut path, mut archive) = (path, None);
    loop {
        match session.proceed()? {
            StepReport::Archive(result) => {
                release_steps::take_changes(assembly, &result)?;
                packer.times.apply(&assembly.tree, &result.path, &packer.own, None)?;
                archive = packer.pack(assembly, &result.path)?;
            }
            StepReport::Done(result) => {
                release_steps::take_changes(assembly, &result)?;
                packer.times.apply(&assembly.tree, &result.path, &packer.own, None)?;
                if archive.is_none() {
                    archive = packer.pack(assembly, &result.path)?;
                }
                path.clone_from(&result.path);
                return Ok((path, archive));
            }
        }
    }
}

/// Returns what the requested release needs from the system it runs on. Nothing is written, and no step is called.
///
/// # Errors
/// See [`AssembleError`].
pub fn system_requirements(request: &AssembleRequest) -> Result<SystemRequirements, AssembleError> {
    let places = ProjectPaths::for_request(request)?;
    let answer = query(request, &places)?;
    let blueprint = create_blueprint(request, &places, answer.as_ref())?;
    let assembly = assemble::assemble(ReleaseBlueprint { portable: false, ..blueprint })?;
    Ok(libraries::system_requirements(&assembly.programs))
}

/// Queries the project; `None` if there is none, because the release is made of directories.
fn query(request: &AssembleRequest, places: &ProjectPaths) -> Result<Option<Term>, AssembleError> {
    if !request.from.is_empty() {
        return Ok(None);
    }
    let builder = places.build_tool.ok_or_else(|| AssembleError::NoProject(places.project.clone()))?;
    project_query::query_project(request, places, builder).map(Some)
}

fn answer_fields(answer: &Term) -> Result<AnswerMap<'_>, AssembleError> {
    AnswerMap::from_term("answer", project_query::answer_map(answer)?)
}

fn create_blueprint(
    request: &AssembleRequest,
    places: &ProjectPaths,
    answer: Option<&Term>,
) -> Result<ReleaseBlueprint, AssembleError> {
    let mut is_mix_release = false;
    let (mut blueprint, settings) = match answer {
        None => {
            let settings = settings::read_settings(&places.project, request.name.as_deref().unwrap_or_default())?;
            (ebin_dirs::blueprint(request, &settings)?, settings)
        }
        Some(answer) => {
            let fields = answer_fields(answer)?;
            let blueprint = match places.build_tool {
                Some(BuildTool::Rebar) => rebar::blueprint(fields)?,
                Some(BuildTool::Mix) | None if fields.get("distillery").is_some() => distillery::blueprint(fields)?,
                Some(BuildTool::Mix) | None => {
                    is_mix_release = true;
                    mix::blueprint(fields)?
                }
            };
            let settings = settings::read_settings(&places.project, &blueprint.name)?;
            (blueprint, settings)
        }
    };
    apply_settings(&mut blueprint, settings, request)?;
    // Mix would give the node a name; Distillery's and relx's own files do, or their warnings say so.
    if is_mix_release {
        blueprint.warnings.extend(missing_name_warning(&blueprint));
    }
    if let Some(portable) = request.portable {
        blueprint.portable = portable;
    }
    blueprint.start.mode = request.mode.or(blueprint.start.mode);
    Ok(blueprint)
}

/// Applies `dram.toml`, which overrides the project's own configuration.
fn apply_settings(
    blueprint: &mut ReleaseBlueprint,
    settings: DramTomlSettings,
    request: &AssembleRequest,
) -> Result<(), AssembleError> {
    let project = &request.project;
    // Destructured without `..`, so that a new setting does not compile until it is applied.
    let DramTomlSettings {
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
        working_directory,
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
        blueprint.vm_args = ConfigText::read(&project.join(path))?;
    }
    if let Some(path) = sys_config {
        blueprint.sys_config = ConfigText::read_configuration(&project.join(path))?;
    }
    let overlays = overlays.unwrap_or_default();
    blueprint.overlays.extend(overlays.into_iter().map(|dir| blueprint::OverlayStep::Dir(project.join(dir))));
    match (strip, &mut blueprint.strip) {
        (Some(false), strip) => *strip = None,
        (Some(true), strip @ None) => *strip = Some(blueprint::StripOptions { keep: Vec::new(), compress: false }),
        (Some(true), Some(_)) | (None, _) => {}
    }
    if let Some(strip) = &mut blueprint.strip {
        strip.keep.extend(keep_chunks.unwrap_or_default());
    }
    blueprint.erts_programs.extend(erts_programs.unwrap_or_default());
    blueprint.start.replace_os_vars = replace_os_vars.unwrap_or(blueprint.start.replace_os_vars);
    blueprint.start.working_directory = working_directory.unwrap_or(blueprint.start.working_directory);
    blueprint.start.nofile = nofile.or(blueprint.start.nofile);
    blueprint.start.env.extend(env.unwrap_or_default());
    let place = |name: &str, kind: &str| -> Result<dram_image::TreePath, AssembleError> {
        let at = format!("releases/{}/{kind}/{name}", blueprint.version);
        dram_image::TreePath::parse(at.as_bytes())
            .map_err(|_| AssembleError::Name { what: "the script", name: name.to_owned() })
    };
    for (hook, script) in hooks.unwrap_or_default() {
        let at = place(hook.to_start().as_str(), "hooks")?;
        blueprint.overlays.push(blueprint::OverlayStep::Copy(project.join(script), at.clone()));
        blueprint.start.hooks.push((hook.to_start(), at));
    }
    for (name, script) in commands.unwrap_or_default() {
        let at = place(&name, "commands")?;
        blueprint.overlays.push(blueprint::OverlayStep::Copy(project.join(script), at.clone()));
        blueprint.start.commands.push((name, at, String::new()));
    }
    Ok(())
}

/// Returns a warning if the node has no name and nothing says that this is intended.
fn missing_name_warning(blueprint: &ReleaseBlueprint) -> Option<String> {
    let conf = blueprint.start.to_conf(&blueprint.name, blueprint.otp.release, blueprint.has_providers, None);
    let is_intended = conf.distribution.is_some();
    let env_sh = blueprint.env_sh.as_deref().map(str::as_bytes);
    let files = NamingFiles { conf, vm_args: &blueprint.vm_args.bytes, env_sh };
    (!is_intended && !files.may_name_node(&EnvironmentVariables::default())).then(|| {
        format!(
            "the node has no name, which `bin/{0} rpc`, `remote` and `restart` need, unless RELEASE_NODE is set where it \
             starts: `distribution = \"sname\"` in `dram.toml` gives it the name `{0}`, as Mix does; `\"none\"` ends this \
             warning",
            blueprint.name
        )
    })
}

fn count_files(assembly: &ReleaseAssembly, path: &Path) -> (u64, u64) {
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

#[cfg(test)]
mod tests;
