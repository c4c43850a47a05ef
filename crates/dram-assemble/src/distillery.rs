//! Turns Distillery's `rel/config.exs` into a blueprint, without running Distillery.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::resolve::{ReleaseRules, StartType};
use dram_release::term::Term;
use dram_start::start_conf::StartHookPoint;

use crate::answer::{AnswerMap, atom, bytes, path, text, tuple};
use crate::blueprint::{
    ConfigText, OtpInstallation, OverlayStep, ReleaseBlueprint, StartProgramSettings, StripOptions,
};
use crate::ebin_dirs::elixir_applications;
use crate::overlay::{self, OverlayTarget};
use crate::settings::WorkingDirectory;
use crate::{AssembleError, erts, mix};

/// The application that Distillery adds to every release besides those of Mix. Distillery also adds itself and `mix`,
/// which a release does not need.
const BASE_APPLICATION: &str = "runtime_tools";

/// Creates the blueprint of the release in the answer.
///
/// # Errors
/// Fails if the answer has another form, or the release is configured in an invalid way.
pub(crate) fn blueprint(answer: AnswerMap<'_>) -> Result<ReleaseBlueprint, AssembleError> {
    let release = answer.map("distillery")?;
    let settings = release.map("settings")?;
    let elixir = answer.map("elixir")?;
    let version = release.required("version", text)?;
    let mut warnings = Vec::new();
    let otp = included_otp(settings, mix::otp_installation(answer)?, &mut warnings)?;
    let has_providers = has_supported_provider(release, &mut warnings)?;
    warn_about_unsupported(release, settings, &mut warnings)?;
    let output = release.required("output_dir", path)?;
    let mut overlays = overlays(release, &output)?;
    let mut start = StartProgramSettings {
        elixir: true,
        working_directory: WorkingDirectory::Release,
        ..StartProgramSettings::default()
    };
    add_scripts(release, &version, &mut start, &mut overlays)?;
    apply_start_options(settings, &mut start)?;
    let name = release.required("name", atom)?;
    let vm_args = match release.optional("vm_args", |_| Some(()))? {
        Some(()) => release.map("vm_args")?.required("text", text)?,
        None => {
            // Distillery's default, for users who enable distribution.
            start.node = Some(format!("{name}@127.0.0.1"));
            warnings.push(format!(
                "the node has no name: Distillery's own `vm.args` calls it {name}@127.0.0.1; for that write \
                 `distribution = \"name\"` in `dram.toml`"
            ));
            String::new()
        }
    };
    let asked = requested_applications(release)?;
    let excluded = match asked.iter().any(|(name, _)| name == "distillery") {
        true => Vec::new(),
        false => vec!["distillery".to_owned()],
    };
    let mut directories = vec!["priv", "include"];
    if settings.is_true("include_src") {
        directories.extend(["lib", "src", "c_src"]);
    }
    let consolidated = answer.map("project")?.map("consolidated")?;
    let consolidated = if consolidated.is_true("wanted") { consolidated.optional("path", path)? } else { None };
    let places = application_dirs(answer, elixir, settings)?;
    Ok(ReleaseBlueprint {
        rules: ReleaseRules::mix(&elixir.required("version", text)?),
        configured_output: Some(output),
        erts_programs: Vec::new(),
        applications: asked,
        listed: None,
        goals: Vec::new(),
        skip_mode_validation: Vec::new(),
        excluded,
        app_dirs: places,
        consolidated: consolidated.filter(|path| path.is_dir()),
        app_subdirs: directories,
        strip: settings.is_true("strip_debug_info").then(|| StripOptions { keep: Vec::new(), compress: false }),
        sys_config: ConfigText::new(release.map("sys_config")?.required("text", bytes)?.to_vec()),
        runtime_config: None,
        has_providers,
        vm_args: ConfigText::new(vm_args),
        remote_vm_args: None,
        env_sh: None,
        cookie: release.optional("cookie", text)?,
        overlays,
        portable: false,
        start,
        warnings,
        otp,
        name,
        version,
    })
}

/// Returns the OTP installation that the release includes.
fn included_otp(
    settings: AnswerMap<'_>,
    here: OtpInstallation,
    warnings: &mut Vec<String>,
) -> Result<OtpInstallation, AssembleError> {
    match settings.get("include_erts") {
        Some(term @ Term::Binary(_)) => erts::otp_from_path(&path(term).unwrap_or_default(), &here),
        Some(term) if term.as_atom() == Some("false") => {
            warnings.push(erts::ERTS_ALWAYS_INCLUDED.to_owned());
            Ok(here)
        }
        Some(_) | None => Ok(here),
    }
}

/// Returns the requested applications.
fn requested_applications(release: AnswerMap<'_>) -> Result<Vec<(String, Option<StartType>)>, AssembleError> {
    let mut asked: Vec<(String, Option<StartType>)> = Vec::new();
    for app in release.list("applications")? {
        let wrong = || AssembleError::Project {
            file: Some("rel/config.exs".to_owned()),
            line: None,
            message: format!(
                "`{app}` is no application with a start type: permanent, transient, temporary, load, none"
            ),
        };
        let (name, mode) = match (atom(app), tuple(app)) {
            (Some(name), _) => (name, None),
            (None, Some([name, mode])) => {
                let mode = mode.as_atom().and_then(StartType::parse).ok_or_else(wrong)?;
                (atom(name).ok_or_else(wrong)?, Some(mode))
            }
            (None, _) => return Err(wrong()),
        };
        // If an application is listed twice, the last start type counts.
        match asked.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = mode,
            None => asked.push((name, mode)),
        }
    }
    if !asked.iter().any(|(name, _)| name == BASE_APPLICATION) {
        asked.insert(0, (BASE_APPLICATION.to_owned(), None));
    }
    Ok(asked)
}

fn application_dirs(
    answer: AnswerMap<'_>,
    elixir: AnswerMap<'_>,
    settings: AnswerMap<'_>,
) -> Result<BTreeMap<String, PathBuf>, AssembleError> {
    let lib = elixir.required("lib", path)?;
    let mut places: BTreeMap<String, PathBuf> = elixir_applications(&lib).collect();
    for dep in answer.list("deps")? {
        let dep = AnswerMap::from_term("deps", dep)?;
        places.insert(dep.required("app", atom)?, dep.required("build", path)?);
    }
    for pair in settings.list("overrides")? {
        if let Some([app, dir]) = tuple(pair)
            && let (Some(app), Some(dir)) = (atom(app), path(dir))
        {
            places.insert(app, dir);
        }
    }
    Ok(places)
}

/// Returns true if a supported config provider exists, and warns about all others.
fn has_supported_provider(release: AnswerMap<'_>, warnings: &mut Vec<String>) -> Result<bool, AssembleError> {
    let mut runs = false;
    for provider in release.list("providers")? {
        let provider = AnswerMap::from_term("providers", provider)?;
        let module = provider.required("module", text)?;
        if provider.get("at").is_some() {
            runs = true;
            continue;
        }
        let why = provider.optional("why", text)?.map(|why| format!(" ({why})")).unwrap_or_default();
        warnings.push(format!(
            "the config provider `{module}` is not run{why}: let the project have `config/runtime.exs` and `releases:` \
             in mix.exs, or set the variables with `replace_os_vars`"
        ));
    }
    Ok(runs)
}

/// Warns about settings that are not supported.
fn warn_about_unsupported(
    release: AnswerMap<'_>,
    settings: AnswerMap<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), AssembleError> {
    let mut said: Vec<String> = Vec::new();
    for plugin in release.list("plugins")? {
        let name = tuple(plugin).and_then(<[Term]>::first).and_then(atom).unwrap_or_else(|| plugin.to_string());
        let name = name.strip_prefix("Elixir.").unwrap_or(&name).to_owned();
        let line = format!("the plugin `{name}` is not run: what it does to the release does not happen");
        if !said.contains(&line) {
            said.push(line);
        }
    }
    warnings.append(&mut said);
    if settings.is_true("dev_mode") {
        warnings.push("`dev_mode` links to the project: the release has copies all the same".to_owned());
    }
    let executable = settings.list("executable")?.iter().filter_map(tuple);
    let is_on =
        |pair: &[Term]| pair[0].as_atom() == Some("enabled") && pair.get(1).and_then(Term::as_atom) == Some("true");
    if executable.clone().any(is_on) {
        warnings.push("`executable` is not known: the release is a directory and an archive".to_owned());
    }
    if !settings.list("appup_transforms")?.is_empty() {
        warnings.push("`appup_transforms` are not run".to_owned());
    }
    if !settings.list("code_paths")?.is_empty() {
        warnings.push("`code_paths` is not known: name the applications' directories in `overrides`".to_owned());
    }
    Ok(())
}

/// Adds hooks and commands at the paths that Distillery uses.
fn add_scripts(
    release: AnswerMap<'_>,
    version: &str,
    start: &mut StartProgramSettings,
    overlays: &mut Vec<OverlayStep>,
) -> Result<(), AssembleError> {
    let place = |kind: &str, name: &str| {
        crate::assemble::check_path_component("the script", name)?;
        crate::assemble::check_path_component("the version", version)?;
        TreePath::parse(format!("releases/{version}/{kind}/{name}").as_bytes())
            .map_err(|error| AssembleError::Answer(error.to_string()))
    };
    for hook in release.list("hooks")? {
        let Some([key, from]) = tuple(hook) else { continue };
        let (Some(key), Some(from)) = (atom(key), path(from)) else { continue };
        // `pre_start_hooks` is a directory, `pre_start_hook` a single script.
        let (moment, at) = match key.strip_suffix("_hooks") {
            Some(moment) => (moment, format!("{moment}.d")),
            None => {
                let moment = key.strip_suffix("_hook").unwrap_or(&key);
                (moment, moment.to_owned())
            }
        };
        if !from.exists() {
            return Err(missing_file(&key, &from));
        }
        let at = place("hooks", &at)?;
        overlays.push(OverlayStep::Copy(from, at.clone()));
        let point = StartHookPoint::parse(moment);
        start.hooks.push((point.ok_or_else(|| AssembleError::Answer(format!("there is no hook `{key}`")))?, at));
    }
    for command in release.list("commands")? {
        let Some([name, from]) = tuple(command) else { continue };
        let (Some(name), Some(from)) = (atom(name), path(from)) else { continue };
        if !from.is_file() {
            return Err(missing_file(&name, &from));
        }
        let at = place("commands", &format!("{name}.sh"))?;
        overlays.push(OverlayStep::Copy(from, at.clone()));
        start.commands.push((name, at, String::new()));
    }
    Ok(())
}

fn missing_file(what: &str, from: &Path) -> AssembleError {
    let message = format!("`{what}` is set to `{}`, which is not there", from.display());
    AssembleError::Project { file: Some("rel/config.exs".to_owned()), line: None, message }
}

/// Applies `erl_opts` and `run_erl_env` as defaults for environment variables.
fn apply_start_options(settings: AnswerMap<'_>, start: &mut StartProgramSettings) -> Result<(), AssembleError> {
    let options = settings.optional("erl_opts", text)?.unwrap_or_default();
    if !options.trim().is_empty() {
        start.env.insert("ERL_OPTS".to_owned(), options.trim().to_owned());
    }
    let variables = settings.optional("run_erl_env", text)?.unwrap_or_default();
    for (name, value) in variables.split_whitespace().filter_map(|word| word.split_once('=')) {
        start.env.insert(name.to_owned(), value.trim_matches(['"', '\'']).to_owned());
    }
    Ok(())
}

fn overlays(release: AnswerMap<'_>, output: &Path) -> Result<Vec<OverlayStep>, AssembleError> {
    let mut overlays = Vec::new();
    for step in release.list("overlays")? {
        let parts = tuple(step).unwrap_or_default();
        let kind = parts.first().and_then(Term::as_atom).unwrap_or_default();
        let target = |at: &Term| OverlayTarget::parse(&path(at).unwrap_or_default(), output).map(|target| target.at);
        overlays.push(match (kind, &parts[1.min(parts.len())..]) {
            ("mkdir", [at]) => OverlayStep::MakeDir(target(at)?),
            ("copy", [from, at]) => {
                let from = path(from).unwrap_or_default();
                if !from.exists() {
                    return Err(missing_file("copy", &from));
                }
                OverlayStep::Copy(from, target(at)?)
            }
            ("link", [said, at]) => OverlayStep::Link(bytes(said).unwrap_or_default().to_vec(), target(at)?),
            ("template", [from, at, made]) => {
                let mode = overlay::template_mode(&path(from).unwrap_or_default());
                OverlayStep::Text(text(made).unwrap_or_default(), target(at)?, mode)
            }
            _ => return Err(AssembleError::Answer(format!("there is no overlay `{step}`"))),
        });
    }
    Ok(overlays)
}

#[cfg(test)]
mod tests;
