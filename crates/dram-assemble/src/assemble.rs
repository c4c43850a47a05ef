//! Turns a blueprint into a release tree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dram_image::TreePath;
use dram_release::app::AppSpec;
use dram_release::beam::StripRule;
use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::{AppCatalog, AppOrigin, CatalogEntry};
use dram_release::consult::parse_one;
use dram_release::release_files;
use dram_release::relx::{self, RelxSpec};
use dram_release::resolve::{ReleaseRules, ReleaseSpec, ResolvedRelease, resolve, resolve_listed};

use crate::AssembleError;
use crate::blueprint::{OverlayStep, ReleaseBlueprint};
use crate::collect::{CollectOptions, collect_dir, collect_file};
use crate::erts;
use crate::libraries::{self, ElfProgram};
use crate::shell_needs::shell_warning;
use crate::start_program::START_PROGRAM;
use crate::tree::{EXECUTABLE_MODE, FILE_MODE, ReleaseEntry, ReleaseFileContent, ReleaseTree};
use crate::write::MANIFEST;

/// The maximum size of an `.app` file.
const LARGEST_APP: u64 = 16 << 20;

/// A release that is ready to be written.
#[derive(Debug)]
pub(crate) struct ReleaseAssembly {
    /// The release tree.
    pub(crate) tree: ReleaseTree,
    /// The path of the list of files.
    pub(crate) manifest: TreePath,
    /// The resolved release.
    pub(crate) release: ResolvedRelease,
    /// The specifications of its applications.
    pub(crate) catalog: AppCatalog,
    /// The applications in start order: name and version.
    pub(crate) applications: Vec<(String, String)>,
    /// The programs and libraries of the release, without those that a portable release adds.
    pub(crate) programs: Vec<ElfProgram>,
    /// Warnings for the user.
    pub(crate) warnings: Vec<String>,
}

/// Resolves the release and collects all its files.
///
/// # Errors
/// Fails if an application is missing or invalid, the applications do not form a release, or a file cannot be read.
pub(crate) fn assemble(blueprint: ReleaseBlueprint) -> Result<ReleaseAssembly, AssembleError> {
    let mut blueprint = blueprint;
    check_names(&blueprint)?;
    let found = find_applications(&blueprint)?;
    let release = match (&blueprint.listed, blueprint.goals.as_slice()) {
        (Some(listed), _) => {
            let start = listed.scripts.iter().find(|(name, _)| name == "start").map_or(&[][..], |(_, apps)| apps);
            resolve_listed(&release_spec(&blueprint), start, &found.catalog)
        }
        (None, []) => resolve(&release_spec(&blueprint), &found.catalog),
        // Only a rebar3 project has goals.
        (None, [..]) => relx::resolve(&relx_spec(&blueprint), &found.catalog),
    };
    let release = release.map_err(AssembleError::Resolve)?;
    let mut tree = ReleaseTree::default();
    let mut warnings = std::mem::take(&mut blueprint.warnings);
    let rule = blueprint.strip.as_ref().map(|strip| {
        Arc::new(StripRule::for_rules(&blueprint.rules, &strip.keep, strip.compress).drop_external_resources(true))
    });
    let taking = CollectOptions { strip: rule, ..CollectOptions::BUILT };
    collect_applications(&mut tree, &blueprint, &release, &found, &taking, &mut warnings)?;
    let applications = release.apps().iter().map(|app| (app.name().to_owned(), app.version().to_owned())).collect();
    let of_version = release_path("releases")?.join(blueprint.version.as_bytes());
    if let Some(consolidated) = &blueprint.consolidated {
        let dangling = collect_dir(&mut tree, consolidated, &of_version.join(b"consolidated"), &taking)?;
        warn_about_dangling(&mut warnings, &dangling);
    }
    put_release_files(&mut tree, &mut blueprint, &release, &found.catalog, &of_version)?;
    let erts_at = release_path(&format!("erts-{}", blueprint.otp.erts))?;
    erts::collect_programs(&mut tree, &erts::erts_dir(&blueprint.otp), &erts_at, &blueprint.erts_programs)?;
    apply_overlays(&mut tree, &blueprint.overlays, &mut warnings)?;
    let programs = libraries::elf_programs(&tree)?;
    warnings.extend(foreign_program_warnings(&programs));
    let program = start_program_path(&tree, &blueprint, &mut warnings)?;
    let loader = match blueprint.portable {
        true => Some(erts::make_portable(&mut tree, &programs, &erts_at, &program)?),
        false => None,
    };
    let loader = loader.as_ref().map(|(loader, libraries)| (loader.as_str(), libraries.as_str()));
    let conf = blueprint.start.to_conf(&blueprint.name, blueprint.otp.release, blueprint.has_providers, loader);
    if blueprint.portable {
        warnings.extend(shell_warning(&tree, &of_version, &conf)?);
    }
    tree.put_text(of_version.join(b"start.conf"), conf.to_text());
    tree.put(
        program,
        ReleaseEntry::File { content: ReleaseFileContent::Embedded(START_PROGRAM), mode: EXECUTABLE_MODE },
    );
    let manifest = of_version.join(MANIFEST.as_bytes());
    put_manifest(&mut tree, manifest.clone());
    Ok(ReleaseAssembly { tree, manifest, release, catalog: found.catalog, applications, programs, warnings })
}

/// Checks the names that become paths.
fn check_names(blueprint: &ReleaseBlueprint) -> Result<(), AssembleError> {
    check_path_component("the release", &blueprint.name)?;
    check_path_component("the version", &blueprint.version)?;
    if blueprint.version.contains(char::is_whitespace) {
        let message =
            format!("the version `{}` has a space in it, and `start_erl.data` cannot hold one", blueprint.version);
        return Err(AssembleError::Project { file: None, line: None, message });
    }
    blueprint.erts_programs.iter().try_for_each(|name| check_path_component("the program", name))
}

/// Adds the directories of all applications of the release; `built` are the options for their modules.
fn collect_applications(
    tree: &mut ReleaseTree,
    blueprint: &ReleaseBlueprint,
    release: &ResolvedRelease,
    found: &FoundApplications,
    built: &CollectOptions,
    warnings: &mut Vec<String>,
) -> Result<(), AssembleError> {
    let mut all: Vec<(&str, &str)> = release.apps().iter().map(|app| (app.name(), app.version())).collect();
    for name in blueprint.listed.iter().flat_map(|listed| &listed.names) {
        match found.catalog.get(name) {
            Some(entry) if !all.iter().any(|(known, _)| known == name) => all.push((name, &entry.app.vsn)),
            Some(_) | None => {}
        }
    }
    for (name, version) in all {
        let place = &found.directories[name];
        let at = release_path(&format!("lib/{name}-{version}"))?;
        for part in ["ebin"].iter().chain(&blueprint.app_subdirs) {
            let from = place.join(part);
            if from.is_dir() {
                let options = match *part {
                    "ebin" => built,
                    _ if blueprint.app_dirs.contains_key(name) => &CollectOptions::OWN,
                    _ => &CollectOptions::BUILT,
                };
                let dangling = collect_dir(tree, &from, &at.join(part.as_bytes()), options)?;
                warn_about_dangling(warnings, &dangling);
            }
        }
        if blueprint.app_dirs.contains_key(name) {
            warnings.extend(appup_warning(&place.join("ebin").join(format!("{name}.appup"))));
        }
    }
    Ok(())
}

/// Returns a warning if there is a file at `path` and it is not one Erlang term, as an appup is.
fn appup_warning(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    let why = if size > LARGEST_APP {
        format!("it has {size} bytes, and {LARGEST_APP} are the most")
    } else {
        parse_one(&fs::read(path).ok()?).err()?.to_string()
    };
    Some(format!("`{}` is no appup, and an upgrade to this version fails: {why}", path.display()))
}

fn release_spec(blueprint: &ReleaseBlueprint) -> ReleaseSpec {
    ReleaseSpec {
        name: blueprint.name.clone(),
        version: blueprint.version.clone(),
        erts: blueprint.otp.erts.clone(),
        otp: blueprint.otp.release,
        rules: blueprint.rules.clone(),
        applications: blueprint.applications.clone(),
        skip_mode_validation: blueprint.skip_mode_validation.clone(),
        excluded: blueprint.excluded.clone(),
    }
}

fn relx_spec(blueprint: &ReleaseBlueprint) -> RelxSpec {
    RelxSpec {
        name: blueprint.name.clone(),
        version: blueprint.version.clone(),
        erts: blueprint.otp.erts.clone(),
        otp: blueprint.otp.release,
        goals: blueprint.goals.clone(),
        excluded: blueprint.excluded.clone(),
    }
}

struct FoundApplications {
    catalog: AppCatalog,
    /// The directory of each application.
    directories: BTreeMap<String, PathBuf>,
}

/// Reads the specifications of all applications that may be in the release: the requested ones and their dependencies.
/// Missing ones are skipped; the rules of the release decide whether that is an error.
fn find_applications(blueprint: &ReleaseBlueprint) -> Result<FoundApplications, AssembleError> {
    let in_otp = otp_applications(&blueprint.otp.root.join("lib"))?;
    let mut catalog = AppCatalog::default();
    let mut places = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut waiting: VecDeque<String> = blueprint.applications.iter().map(|(name, _)| name.clone()).collect();
    waiting.extend(blueprint.goals.iter().map(|goal| goal.name.clone()));
    waiting.extend(blueprint.listed.iter().flat_map(|listed| listed.names.clone()));
    waiting.extend(blueprint.rules.base_applications().iter().map(|name| (*name).to_owned()));
    while let Some(name) = waiting.pop_front() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let (dir, is_otp) = match (blueprint.app_dirs.get(&name), in_otp.get(&name)) {
            (Some(dir), _) => (dir.clone(), false),
            (None, Some(dir)) => (dir.clone(), true),
            (None, None) => continue,
        };
        let app = read_app(&dir, &name, blueprint.otp.release)?;
        waiting.extend(app.applications.iter().chain(&app.included_applications).map(ToString::to_string));
        let beams = compiled_modules(&dir.join("ebin"))?;
        let origin = if is_otp { AppOrigin::Otp } else { AppOrigin::Project };
        catalog.add(CatalogEntry { app, origin, location: dir.display().to_string(), beams: Some(beams) });
        places.insert(name, dir);
    }
    Ok(FoundApplications { catalog, directories: places })
}

/// Returns the directory of each OTP application in its newest version, which is the last directory by name, as in
/// `mix release`.
fn otp_applications(lib: &Path) -> Result<BTreeMap<String, PathBuf>, AssembleError> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(lib).map_err(AssembleError::io("read", lib))? {
        let path = entry.map_err(AssembleError::io("read", lib))?.path();
        let Some((name, _)) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('-'))
        else {
            continue;
        };
        match found.get(name) {
            Some(known) if *known >= path => {}
            Some(_) | None => drop(found.insert(name.to_owned(), path)),
        }
    }
    Ok(found)
}

/// Reads the specification of the application `name` in `dir`.
pub(crate) fn read_app(dir: &Path, name: &str, otp: u32) -> Result<AppSpec, AssembleError> {
    let path = dir.join("ebin").join(format!("{name}.app"));
    let size = fs::metadata(&path).map_err(AssembleError::io("read", &path))?.len();
    if size > LARGEST_APP {
        let source = io::Error::other(format!("it has {size} bytes, and {LARGEST_APP} are the most"));
        return Err(AssembleError::Io { verb: "read", path, source });
    }
    let bytes = fs::read(&path).map_err(AssembleError::io("read", &path))?;
    AppSpec::read(&bytes, name, otp).map_err(|source| AssembleError::App { path, source })
}

/// Returns the modules that have a `.beam` file in `ebin`.
fn compiled_modules(ebin: &Path) -> Result<BTreeSet<String>, AssembleError> {
    let entries = fs::read_dir(ebin).map_err(AssembleError::io("read", ebin))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.strip_suffix(".beam").map(str::to_owned)).collect())
}

/// Adds the files below `releases`.
fn put_release_files(
    tree: &mut ReleaseTree,
    blueprint: &mut ReleaseBlueprint,
    release: &ResolvedRelease,
    catalog: &AppCatalog,
    at: &TreePath,
) -> Result<(), AssembleError> {
    let consolidated = blueprint
        .consolidated
        .is_some()
        .then(|| format!("$RELEASE_LIB/../releases/{}/consolidated", blueprint.version));
    let options = match blueprint.rules {
        ReleaseRules::Mix { .. } => BootOptions::mix(consolidated, blueprint.has_providers),
        ReleaseRules::Otp => BootOptions::default(),
    };
    let mut scripts = vec![("start".to_owned(), release.clone())];
    match &blueprint.listed {
        None => scripts.push(("start_clean".to_owned(), release.start_clean())),
        Some(listed) => {
            let spec = release_spec(blueprint);
            for (name, apps) in listed.scripts.iter().filter(|(name, _)| name != "start") {
                check_path_component("the boot script", name)?;
                let release = resolve_listed(&spec, apps, catalog).map_err(AssembleError::Resolve)?;
                scripts.push((name.clone(), release));
            }
        }
    }
    for (name, release) in scripts {
        let script = BootScript::new(&release, catalog, &options);
        tree.put(
            at.join(format!("{name}.boot").as_bytes()),
            ReleaseEntry::File { content: ReleaseFileContent::Bytes(script.to_boot()), mode: FILE_MODE },
        );
        tree.put_text(at.join(format!("{name}.script").as_bytes()), script.to_script());
    }
    tree.put_text(at.join(format!("{}.rel", blueprint.name).as_bytes()), release_files::rel_text(release));
    for (stem, text) in [("sys.config", &mut blueprint.sys_config), ("vm.args", &mut blueprint.vm_args)] {
        tree.put_text(at.join(text.file_name(stem).as_bytes()), std::mem::take(&mut text.bytes));
    }
    if let Some(text) = blueprint.remote_vm_args.take() {
        tree.put_text(at.join(b"remote.vm.args"), text);
    }
    if let Some(text) = blueprint.env_sh.take() {
        tree.put_text(at.join(b"env.sh"), text);
    }
    if let Some(path) = blueprint.runtime_config.take() {
        collect_file(tree, &CollectOptions::OWN, path, at.join(b"runtime.exs"))?;
    }
    let releases = release_path("releases")?;
    tree.put_text(releases.join(b"start_erl.data"), release_files::start_erl_text(release));
    tree.put_text(releases.join(b"RELEASES"), release_files::releases_text(release));
    if let Some(cookie) = blueprint.cookie.take() {
        tree.put_text(releases.join(b"COOKIE"), cookie);
    }
    Ok(())
}

fn apply_overlays(
    tree: &mut ReleaseTree,
    overlays: &[OverlayStep],
    warnings: &mut Vec<String>,
) -> Result<(), AssembleError> {
    let taking = CollectOptions::OWN;
    for overlay in overlays {
        match overlay {
            OverlayStep::Dir(from) => {
                let dangling = collect_dir(tree, from, &TreePath::root(), &taking)?;
                warn_about_dangling(warnings, &dangling);
            }
            OverlayStep::MakeDir(at) => tree.put(at.clone(), ReleaseEntry::Dir),
            OverlayStep::Copy(from, at) if from.is_dir() => {
                let dangling = collect_dir(tree, from, at, &taking)?;
                warn_about_dangling(warnings, &dangling);
            }
            OverlayStep::Copy(from, at) => collect_file(tree, &taking, from.clone(), at.clone())?,
            OverlayStep::Link(said, at) => tree.put(at.clone(), ReleaseEntry::Link(said.clone())),
            OverlayStep::Text(text, at, mode) => {
                let content = ReleaseFileContent::Bytes(text.clone().into_bytes());
                tree.put(at.clone(), ReleaseEntry::File { content, mode: *mode });
            }
            OverlayStep::SetMode(at, mode) => match tree.remove(at) {
                Some(ReleaseEntry::File { content, .. }) => {
                    tree.put(at.clone(), ReleaseEntry::File { content, mode: *mode });
                }
                Some(other) => tree.put(at.clone(), other),
                None => warnings.push(format!("`{at}` cannot get another mode: it is not in the release")),
            },
        }
    }
    Ok(())
}

fn warn_about_dangling(warnings: &mut Vec<String>, links: &[PathBuf]) {
    warnings.extend(links.iter().map(|link| format!("`{}` is a link to nothing", link.display())));
}

/// Returns the path of the start program: `bin/NAME`, or `bin/NAME-VERSION`, as relx calls it too, if an overlay has a
/// `bin/NAME` of its own.
fn start_program_path(
    tree: &ReleaseTree,
    blueprint: &ReleaseBlueprint,
    warnings: &mut Vec<String>,
) -> Result<TreePath, AssembleError> {
    let (name, bin) = (&blueprint.name, release_path("bin")?);
    let program = bin.join(name.as_bytes());
    if tree.get(&program).is_none() {
        return Ok(program);
    }
    let versioned = format!("{name}-{}", blueprint.version);
    warnings.push(format!("`bin/{name}` is the project's own: dram's start program is `bin/{versioned}`"));
    Ok(bin.join(versioned.as_bytes()))
}

/// Returns warnings for programs that are built for another processor than the emulator.
fn foreign_program_warnings(programs: &[ElfProgram]) -> Vec<String> {
    let emulator = programs.iter().find(|program| program.path.name() == Some(b"beam.smp"));
    let Some(emulator) = emulator.map(|program| program.needs.machine) else { return Vec::new() };
    let name = dram_image::elf::machine_name;
    let others = programs.iter().filter(|program| program.needs.machine != emulator);
    let warning = |program: &ElfProgram| {
        let (theirs, ours) = (name(program.needs.machine), name(emulator));
        format!("`{}` is for {theirs}, and the emulator is for {ours}: it cannot be loaded", program.path)
    };
    others.map(warning).collect()
}

/// Adds the list of all files in `tree`, which is read when this version is written again.
pub(crate) fn put_manifest(tree: &mut ReleaseTree, at: TreePath) {
    let mut list = Vec::new();
    for (path, entry) in tree.iter() {
        if !matches!(entry, ReleaseEntry::Dir) {
            list.extend_from_slice(path.as_bytes());
            list.push(0);
        }
    }
    list.extend_from_slice(at.as_bytes());
    list.push(0);
    tree.put(at, ReleaseEntry::File { content: ReleaseFileContent::Bytes(list), mode: FILE_MODE });
}

/// Creates a path from names that were checked.
pub(crate) fn release_path(text: &str) -> Result<TreePath, AssembleError> {
    TreePath::parse(text.as_bytes()).map_err(|error| AssembleError::Answer(error.to_string()))
}

/// Checks that a name is a single path component.
pub(crate) fn check_path_component(what: &'static str, name: &str) -> Result<(), AssembleError> {
    let is_one = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0', '\n']);
    if is_one { Ok(()) } else { Err(AssembleError::Name { what, name: name.escape_debug().to_string() }) }
}

#[cfg(test)]
mod tests;
