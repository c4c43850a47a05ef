//! Turns the answer of a Mix project into a blueprint.

use std::collections::BTreeMap;

use dram_release::resolve::{ReleaseRules, StartType};
use dram_release::term::Term;

use crate::answer::{AnswerMap, atom, bytes, list, path, text, tuple};
use crate::blueprint::{
    ConfigText, ListedApplications, OtpInstallation, OverlayStep, ReleaseBlueprint, StartProgramSettings, StripOptions,
};
use crate::{AssembleError, erts, release_steps};

/// Creates the blueprint of the release in the answer.
///
/// # Errors
/// Fails if the answer has another form.
pub(crate) fn blueprint(answer: AnswerMap<'_>) -> Result<ReleaseBlueprint, AssembleError> {
    let [release] = answer.list("releases")? else {
        return Err(AssembleError::Answer("it does not have one release".to_owned()));
    };
    let release = AnswerMap::from_term("release", release)?;
    let (elixir, otp) = (answer.map("elixir")?, otp_installation(answer)?);
    let elixir_version = elixir.required("version", text)?;
    let mut places = BTreeMap::new();
    for app in release.list("resolved")? {
        let app = AnswerMap::from_term("resolved", app)?;
        if !app.is_true("otp") {
            places.insert(app.required("app", atom)?, app.required("path", path)?);
        }
    }
    let runtime = release.map("runtime_config")?;
    let runtime_config = if runtime.is_true("exists") { runtime.optional("path", path)? } else { None };
    let has_providers = runtime_config.is_some() || !release.list("providers")?.is_empty();
    let consolidated = answer.map("project")?.map("consolidated")?;
    let consolidated = if consolidated.is_true("wanted") { consolidated.optional("path", path)? } else { None };
    let mut warnings = unsupported_settings(release)?;
    let otp = match release.get("include_erts") {
        Some(Term::Atom(_)) | None => otp,
        Some(source) => erts::otp_from_path(&path(source).unwrap_or_default(), &otp)?,
    };
    if release.get("include_erts").and_then(Term::as_atom) == Some("false") {
        warnings.push(erts::ERTS_ALWAYS_INCLUDED.to_owned());
    }
    let has_steps = release_steps::has_functions(answer)?;
    let templates =
        release.get("templates").ok_or_else(|| AssembleError::Answer("`templates` is missing".to_owned()))?;
    let mut applications = requested_applications(release.list("applications")?)?;
    if let Some(own) = answer.map("project")?.optional("app", atom)?
        && !applications.iter().any(|(name, _)| *name == own)
    {
        applications.push((own, None));
    }
    let rules = ReleaseRules::mix(&elixir_version);
    let has_includes = matches!(rules, ReleaseRules::Mix { elixir } if elixir >= (1, 16, 0));
    let includes = if has_includes { vec!["priv", "include"] } else { vec!["priv"] };
    Ok(ReleaseBlueprint {
        name: release.required("name", atom)?,
        version: release.required("version", text)?,
        rules,
        configured_output: release.optional("path", path)?,
        erts_programs: Vec::new(),
        applications,
        listed: listed_applications(release)?,
        goals: Vec::new(),
        skip_mode_validation: release.list("skip_mode_validation_for")?.iter().filter_map(atom).collect(),
        excluded: Vec::new(),
        app_dirs: places,
        consolidated: consolidated.filter(|path| path.is_dir()),
        app_subdirs: includes,
        strip: strip_options(release.get("strip_beams")),
        sys_config: ConfigText::new(release.required("sys_config", bytes)?.to_vec()),
        runtime_config,
        has_providers,
        vm_args: ConfigText::new(template(templates, "vm.args")?.0),
        remote_vm_args: Some(template(templates, "remote.vm.args")?.0),
        // Mix's default has comments only; a step may add to it.
        env_sh: Some(template(templates, "env.sh")?)
            .filter(|(_, is_users)| *is_users || has_steps)
            .map(|(text, _)| text),
        cookie: release.optional("cookie", text)?,
        overlays: release.list("overlays")?.iter().filter_map(path).map(OverlayStep::Dir).collect(),
        portable: false,
        start: StartProgramSettings {
            elixir: true,
            reboot: release.is_true("reboot") && has_providers,
            ..StartProgramSettings::default()
        },
        warnings,
        otp,
    })
}

/// Returns warnings for settings that are not supported.
fn unsupported_settings(release: AnswerMap<'_>) -> Result<Vec<String>, AssembleError> {
    let mut warnings = Vec::new();
    // By default Mix creates them for Windows too, so the warning is only for projects that request Windows explicitly.
    let has_windows = release.list("executables")?.iter().any(|system| system.as_atom() == Some("windows"));
    if has_windows && release.is_true("executables_set") {
        warnings.push("`include_executables_for` has `:windows`: the release is for Linux only".to_owned());
    }
    Ok(warnings)
}

/// Returns the applications and boot scripts of the release, if a step changed them.
fn listed_applications(release: AnswerMap<'_>) -> Result<Option<ListedApplications>, AssembleError> {
    if !release.is_true("changed_applications") {
        return Ok(None);
    }
    let mut names = Vec::new();
    for app in release.list("resolved")? {
        names.push(AnswerMap::from_term("resolved", app)?.required("app", atom)?);
    }
    let member = |pair: &Term| match tuple(pair)? {
        [app, mode] => Some((atom(app)?, StartType::parse(mode.as_atom()?)?)),
        _ => None,
    };
    let script = |pair: &Term| match tuple(pair)? {
        [name, apps] => Some((atom(name)?, list(apps)?.iter().map(member).collect::<Option<Vec<_>>>()?)),
        _ => None,
    };
    let scripts = release.list("boot_scripts")?.iter().map(script).collect::<Option<Vec<_>>>();
    let wrong = || {
        let message = "a step left boot scripts that are no lists of applications with start types".to_owned();
        AssembleError::Project { file: Some("mix.exs".to_owned()), line: None, message }
    };
    Ok(Some(ListedApplications { names, scripts: scripts.ok_or_else(wrong)? }))
}

/// Returns the OTP installation in the answer.
pub(crate) fn otp_installation(answer: AnswerMap<'_>) -> Result<OtpInstallation, AssembleError> {
    let otp = answer.map("otp")?;
    let release = otp.required("release", text)?;
    let release = release.parse().map_err(|_| AssembleError::Answer(format!("OTP has the number `{release}`")))?;
    Ok(OtpInstallation { root: otp.required("root", path)?, release, erts: otp.required("erts", text)? })
}

fn requested_applications(applications: &[Term]) -> Result<Vec<(String, Option<StartType>)>, AssembleError> {
    let read = |pair: &Term| match tuple(pair)? {
        [app, mode] => Some((atom(app)?, Some(StartType::parse(mode.as_atom()?)?))),
        _ => None,
    };
    let wrong = |pair: &Term| {
        let message =
            format!("`{pair}` is no application with a start type: permanent, transient, temporary, load, none");
        AssembleError::Project { file: Some("mix.exs".to_owned()), line: None, message }
    };
    applications.iter().map(|pair| read(pair).ok_or_else(|| wrong(pair))).collect()
}

fn strip_options(option: Option<&Term>) -> Option<StripOptions> {
    match option {
        Some(Term::List(options)) => {
            let find = |key: &str| options.iter().filter_map(tuple).find(|pair| pair[0].as_atom() == Some(key));
            let keep = find("keep").and_then(|pair| list(pair.get(1)?)).unwrap_or_default();
            let compress = find("compress").is_some_and(|pair| pair.get(1).and_then(Term::as_atom) == Some("true"));
            Some(StripOptions { keep: keep.iter().filter_map(text).collect(), compress })
        }
        Some(term) if term.as_atom() == Some("false") => None,
        Some(_) | None => Some(StripOptions { keep: Vec::new(), compress: false }),
    }
}

/// Returns the text of a template, and true if the template is the project's own.
fn template(templates: &Term, name: &str) -> Result<(String, bool), AssembleError> {
    let missing = || AssembleError::Answer(format!("there is no `{name}`"));
    let Term::Map(pairs) = templates else { return Err(missing()) };
    let found = pairs.iter().find(|(key, _)| bytes(key) == Some(name.as_bytes())).ok_or_else(missing)?;
    let fields = AnswerMap::from_term("template", &found.1)?;
    Ok((fields.required("text", text)?, fields.get("from").is_some()))
}

#[cfg(test)]
mod tests;
