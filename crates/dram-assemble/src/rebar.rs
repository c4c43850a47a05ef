//! Turns the answer of a rebar3 project into a blueprint: its `relx` section, as `dram_rebar.erl` reads it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::relx::RelxGoal;
use dram_release::resolve::{ReleaseRules, StartType};
use dram_release::term::Term;
use dram_start::start_conf::StartHookPoint;

use crate::answer::{AnswerMap, atom, list, path, text, tuple};
use crate::blueprint::{
    ConfigText, OtpInstallation, OverlayStep, ReleaseBlueprint, StartProgramSettings, StripOptions,
};
use crate::ebin_dirs::application_names;
use crate::overlay::{self, OverlayTarget};
use crate::settings::WorkingDirectory;
use crate::{AssembleError, erts, mix};

/// The default `vm.args` of relx, without the node name and the cookie.
const VM_ARGS: &str = "+C multi_time_warp\n";
/// The directory that relx resolves script names in: that of the start script.
const BIN: &str = "bin";

/// Creates the blueprint of the release in the answer.
///
/// # Errors
/// Fails if the answer has another form, or the configuration refers to something that is missing or unsupported.
pub(crate) fn blueprint(answer: AnswerMap<'_>) -> Result<ReleaseBlueprint, AssembleError> {
    let [release] = answer.list("releases")? else {
        return Err(AssembleError::Answer("it does not have one release".to_owned()));
    };
    let release = AnswerMap::from_term("release", release)?;
    let name = release.required("name", atom)?;
    let mut warnings = Vec::new();
    let otp = included_otp(release, mix::otp_installation(answer)?, &mut warnings)?;
    let places = application_dirs(answer, release)?;
    let mut start =
        StartProgramSettings { working_directory: WorkingDirectory::Release, ..StartProgramSettings::default() };
    hooks(release, &mut start, &mut warnings)?;
    extensions(release, &mut start)?;
    warn_about_unsupported(release, &mut warnings)?;
    let mut directories = vec!["include", "priv"];
    if release.is_true("include_src") {
        directories.extend(["src", "lib", "c_src"]);
    }
    let output = release.required("path", path)?;
    let strip = release.required("debug_info", atom)? == "strip";
    Ok(ReleaseBlueprint {
        applications: Vec::new(),
        listed: None,
        goals: goals(release)?,
        version: release.required("version", text)?,
        rules: ReleaseRules::Otp,
        erts_programs: Vec::new(),
        skip_mode_validation: Vec::new(),
        excluded: release.list("exclude_apps")?.iter().filter_map(atom).collect(),
        app_dirs: places,
        consolidated: None,
        app_subdirs: directories,
        strip: strip.then(|| StripOptions { keep: Vec::new(), compress: false }),
        sys_config: config_file(release, "sys_config", "[].\n")?,
        runtime_config: None,
        has_providers: false,
        vm_args: config_file(release, "vm_args", VM_ARGS)?,
        remote_vm_args: None,
        env_sh: None,
        cookie: None,
        overlays: overlays(release, &output)?,
        configured_output: Some(output),
        portable: false,
        start,
        warnings,
        otp,
        name,
    })
}

/// Returns an error in `rebar.config`.
fn config_error(message: String) -> AssembleError {
    AssembleError::Project { file: Some("rebar.config".to_owned()), line: None, message }
}

/// Returns the OTP installation that the release includes.
fn included_otp(
    release: AnswerMap<'_>,
    here: OtpInstallation,
    warnings: &mut Vec<String>,
) -> Result<OtpInstallation, AssembleError> {
    let otp = match release.get("include_erts") {
        Some(Term::Atom(_)) | None => here,
        Some(source) => erts::otp_from_path(&path(source).unwrap_or_default(), &here)?,
    };
    if !release.is_true("include_erts") && release.get("include_erts").and_then(Term::as_atom).is_some() {
        warnings.push(erts::ERTS_ALWAYS_INCLUDED.to_owned());
    }
    match release.get("system_libs") {
        Some(Term::Binary(_)) => Err(config_error(
            "`system_libs` with a directory is not known: give `include_erts` the directory of that Erlang".to_owned(),
        )),
        Some(term) if term.as_atom() == Some("false") && release.is_true("include_erts") => {
            warnings.push("`system_libs` is false, and the release brings Erlang's libraries all the same".to_owned());
            Ok(otp)
        }
        Some(_) | None => match release.optional("erts", text)? {
            Some(version) if version != otp.erts => {
                Err(config_error(format!("the release is for erts {version}, and erts {} is here", otp.erts)))
            }
            Some(_) | None => Ok(otp),
        },
    }
}

/// Returns the directories of the project's applications: the built ones, those in `lib_dirs`, and those that
/// `overrides` replaces.
fn application_dirs(answer: AnswerMap<'_>, release: AnswerMap<'_>) -> Result<BTreeMap<String, PathBuf>, AssembleError> {
    let mut places = BTreeMap::new();
    for dep in answer.list("deps")? {
        let dep = AnswerMap::from_term("deps", dep)?;
        places.insert(dep.required("app", atom)?, dep.required("build", path)?);
    }
    for dir in release.list("lib_dirs")?.iter().filter_map(path) {
        let below = fs::read_dir(&dir).into_iter().flatten().flatten().map(|found| found.path());
        let mut dirs: Vec<PathBuf> = below.collect();
        dirs.sort();
        dirs.insert(0, dir);
        for dir in dirs {
            // A directory without an `ebin` holds no application.
            for name in application_names(&dir.join("ebin")).unwrap_or_default() {
                places.entry(name).or_insert_with(|| dir.clone());
            }
        }
    }
    for pair in release.list("overrides")? {
        if let Some([app, dir]) = tuple(pair)
            && let (Some(app), Some(dir)) = (atom(app), path(dir))
        {
            places.insert(app, dir);
        }
    }
    Ok(places)
}

/// Returns the goals of the release.
fn goals(release: AnswerMap<'_>) -> Result<Vec<RelxGoal>, AssembleError> {
    let read = |goal: &Term| {
        let goal = AnswerMap::from_term("goals", goal)?;
        let names = |names: &Term| Some(list(names)?.iter().filter_map(atom).collect());
        Ok(RelxGoal {
            name: goal.required("app", atom)?,
            version: goal.optional("vsn", text)?,
            mode: goal.optional("type", |mode| StartType::parse(mode.as_atom()?))?,
            included: goal.optional("included", names)?,
        })
    };
    release.list("goals")?.iter().map(read).collect()
}

/// Reads a configured file, or returns `default` if none is configured.
fn config_file(release: AnswerMap<'_>, key: &'static str, default: &str) -> Result<ConfigText, AssembleError> {
    let set = release.map(key)?;
    let Some(path) = set.optional("path", path)? else {
        return Ok(ConfigText::new(if set.required("kind", atom)? == "none" { "" } else { default }));
    };
    // The setting decides whether it is a template, not the file name.
    let is_source = set.required("kind", atom)? == "src";
    let read = if key == "sys_config" && !is_source { ConfigText::read_configuration } else { ConfigText::read };
    Ok(ConfigText { is_template: is_source, ..read(&path)? })
}

/// Reads `extended_start_script_hooks`.
fn hooks(
    release: AnswerMap<'_>,
    start: &mut StartProgramSettings,
    warnings: &mut Vec<String>,
) -> Result<(), AssembleError> {
    for pair in release.list("hooks")? {
        let Some([event, of_event]) = tuple(pair) else { continue };
        let event = event.as_atom().unwrap_or_default();
        let moment = match event {
            "pre_install_upgrade" => "pre_upgrade",
            "post_install_upgrade" => "post_upgrade",
            other => other,
        };
        // relx has no hooks for the configuration.
        let point = StartHookPoint::parse(moment).filter(|_| !moment.ends_with("_configure"));
        for hook in list(of_event).unwrap_or_default() {
            let own = match tuple(hook) {
                Some([kind, script]) if kind.as_atom() == Some("custom") => string_or_binary(script),
                Some(_) | None => None,
            };
            match (own, point) {
                (Some(script), Some(point)) => start.hooks.push((point, script_path(&script)?)),
                (Some(script), None) => {
                    warnings.push(format!("the hook `{script}` of `{event}` is not run: there is no such moment"));
                }
                (None, _) => warnings.push(builtin_hook_warning(event, hook)),
            }
        }
    }
    Ok(())
}

/// Returns the warning for a builtin hook of relx.
fn builtin_hook_warning(event: &str, hook: &Term) -> String {
    let name = tuple(hook).and_then(<[Term]>::first).unwrap_or(hook).as_atom().unwrap_or_default().to_owned();
    let why = match name.as_str() {
        "pid" => "`bin/NAME pid` prints the number",
        "wait_for_vm_start" => "`bin/NAME ping` says when the node answers",
        "wait_for_process" => "`bin/NAME rpc 'whereis(NAME)'` asks for it",
        _ => "it is relx's own",
    };
    format!("the hook `{name}` of `{event}` is not run: {why}")
}

/// Reads `extended_start_script_extensions`.
fn extensions(release: AnswerMap<'_>, start: &mut StartProgramSettings) -> Result<(), AssembleError> {
    for pair in release.list("extensions")? {
        if let Some([name, script]) = tuple(pair)
            && let (Some(name), Some(script)) = (atom(name), text(script))
        {
            start.commands.push((name, script_path(&script)?, String::new()));
        }
    }
    Ok(())
}

fn script_path(script: &str) -> Result<TreePath, AssembleError> {
    TreePath::clean(format!("{BIN}/{script}").as_bytes())
        .map_err(|error| config_error(format!("the script `{script}` has no place in a release: {error}")))
}

/// Warns about settings that are not supported.
fn warn_about_unsupported(release: AnswerMap<'_>, warnings: &mut Vec<String>) -> Result<(), AssembleError> {
    if release.is_true("dev_mode") || release.optional("mode", atom)?.as_deref() == Some("dev") {
        warnings.push("`mode` is dev, which links to the project: the release has copies all the same".to_owned());
    }
    if !release.list("exclude_modules")?.is_empty() {
        warnings.push("`exclude_modules` is not known: the modules are in the release".to_owned());
    }
    if !release.list("start_scripts_for")?.is_empty() {
        warnings.push("`include_start_scripts_for` is not known: there is one start program".to_owned());
    }
    for setting in release.list("unknown")? {
        // A value such as a path would be shown as a list of numbers.
        let name = tuple(setting).and_then(<[Term]>::first).unwrap_or(setting);
        warnings.push(format!("the setting `{name}` of relx is not known and has no effect"));
    }
    Ok(())
}

fn overlays(release: AnswerMap<'_>, output: &Path) -> Result<Vec<OverlayStep>, AssembleError> {
    let mut overlays = Vec::new();
    for step in release.list("overlays")? {
        let parts = tuple(step).unwrap_or_default();
        let kind = parts.first().and_then(Term::as_atom).unwrap_or_default();
        let target = |at: &Term| OverlayTarget::parse(&path(at).unwrap_or_default(), output);
        match (kind, &parts[1.min(parts.len())..]) {
            ("mkdir", [at]) => overlays.push(OverlayStep::MakeDir(target(at)?.at)),
            ("copy" | "link", [from, at]) => {
                let (from, at) = (path(from).unwrap_or_default(), target(at)?);
                let found = overlay::wildcard(&from)?;
                if found.is_empty() {
                    return Err(config_error(format!("the overlay `{}` is nowhere", from.display())));
                }
                overlays.extend(
                    found.into_iter().map(|from| copy_step(from, &at, &created_dirs(&overlays))).collect::<Vec<_>>(),
                );
            }
            ("template", [from, at, made]) => {
                let mode = overlay::template_mode(&path(from).unwrap_or_default());
                overlays.push(OverlayStep::Text(text(made).unwrap_or_default(), target(at)?.at, mode));
            }
            ("chmod", [mode, at]) => {
                let bits = mode.as_u64().and_then(|mode| u32::try_from(mode).ok()).filter(|bits| *bits <= 0o7777);
                let bits =
                    bits.ok_or_else(|| config_error(format!("the overlay `{step}` has no mode such as 8#600")))?;
                overlays.push(OverlayStep::SetMode(target(at)?.at, bits & 0o777));
            }
            _ => return Err(AssembleError::Answer(format!("there is no overlay `{step}`"))),
        }
    }
    Ok(overlays)
}

fn created_dirs(overlays: &[OverlayStep]) -> Vec<TreePath> {
    let made = |overlay: &OverlayStep| match overlay {
        OverlayStep::MakeDir(at) => Some(at.clone()),
        OverlayStep::Dir(_)
        | OverlayStep::Copy(..)
        | OverlayStep::Link(..)
        | OverlayStep::Text(..)
        | OverlayStep::SetMode(..) => None,
    };
    overlays.iter().filter_map(made).collect()
}

/// Copies as relx does: into the target if it ends with a slash, or if it is a directory that was created and the
/// source is a file.
fn copy_step(from: PathBuf, to: &OverlayTarget, made: &[TreePath]) -> OverlayStep {
    let into = to.is_directory || (made.contains(&to.at) && !from.is_dir());
    let at = match (into, from.file_name()) {
        (true, Some(name)) => to.at.join(name.as_bytes()),
        (true, None) | (false, _) => to.at.clone(),
    };
    OverlayStep::Copy(from, at)
}

/// Returns a text that is a string or a binary.
fn string_or_binary(term: &Term) -> Option<String> {
    text(term).or_else(|| term.as_string())
}

#[cfg(test)]
mod tests;
