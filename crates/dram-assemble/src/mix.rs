//! Turns the answer of a Mix project into a blueprint.

use std::collections::BTreeMap;

use dram_release::resolve::{Mode as StartType, Style};
use dram_release::term::Term;

use crate::answer::{Fields, atom, bytes, list, path, text, tuple};
use crate::blueprint::{Blueprint, Otp, Overlay, Start, Strip, Text};
use crate::{AssembleError, erts};

/// Creates the blueprint of the release in the answer.
///
/// # Errors
/// Fails if the answer has another form.
pub(crate) fn blueprint(answer: Fields<'_>) -> Result<Blueprint, AssembleError> {
    let [release] = answer.list("releases")? else {
        return Err(AssembleError::Answer("it does not have one release".to_owned()));
    };
    let release = Fields::of("release", release)?;
    let (elixir, otp) = (answer.map("elixir")?, otp(answer)?);
    let elixir_version = elixir.need("version", text)?;
    let mut places = BTreeMap::new();
    for app in release.list("resolved")? {
        let app = Fields::of("resolved", app)?;
        if !app.is("otp") {
            places.insert(app.need("app", atom)?, app.need("path", path)?);
        }
    }
    let runtime = release.map("runtime_config")?;
    let runtime_config = if runtime.is("exists") { runtime.maybe("path", path)? } else { None };
    let has_providers = runtime_config.is_some() || !release.list("providers")?.is_empty();
    let consolidated = answer.map("project")?.map("consolidated")?;
    let consolidated = if consolidated.is("wanted") { consolidated.maybe("path", path)? } else { None };
    let mut warnings = unsupported(release)?;
    let otp = match release.get("include_erts") {
        Some(Term::Atom(_)) | None => otp,
        Some(source) => erts::otp_with(&path(source).unwrap_or_default(), &otp)?,
    };
    if release.get("include_erts").and_then(Term::as_atom) == Some("false") {
        warnings.push(erts::ALWAYS.to_owned());
    }
    let templates =
        release.get("templates").ok_or_else(|| AssembleError::Answer("`templates` is missing".to_owned()))?;
    let mut applications = asked(release.list("applications")?)?;
    if let Some(own) = answer.map("project")?.maybe("app", atom)?
        && !applications.iter().any(|(name, _)| *name == own)
    {
        applications.push((own, None));
    }
    let includes = if elixir_is_at_least(&elixir_version, 1, 16) { vec!["priv", "include"] } else { vec!["priv"] };
    Ok(Blueprint {
        name: release.need("name", atom)?,
        version: release.need("version", text)?,
        style: Style::mix(&elixir_version),
        path: release.maybe("path", path)?,
        erts: Some(erts::source(&otp)),
        erts_programs: Vec::new(),
        applications,
        goals: Vec::new(),
        unchecked: release.list("skip_mode_validation_for")?.iter().filter_map(atom).collect(),
        excluded: Vec::new(),
        places,
        consolidated: consolidated.filter(|path| path.is_dir()),
        directories: includes,
        strip: strip(release.get("strip_beams")),
        sys_config: Text::new(release.need("sys_config", bytes)?.to_vec()),
        runtime_config,
        has_providers,
        vm_args: Text::new(template(templates, "vm.args")?.0),
        remote_vm_args: Some(template(templates, "remote.vm.args")?.0),
        // Mix's default has comments only.
        env_sh: Some(template(templates, "env.sh")?).filter(|(_, is_users)| *is_users).map(|(text, _)| text),
        cookie: release.maybe("cookie", text)?,
        overlays: release.list("overlays")?.iter().filter_map(path).map(Overlay::Dir).collect(),
        portable: false,
        start: Start { elixir: true, reboot: release.is("reboot") && has_providers, ..Start::default() },
        warnings,
        otp,
    })
}

/// Returns warnings for settings that are not supported.
fn unsupported(release: Fields<'_>) -> Result<Vec<String>, AssembleError> {
    let mut warnings = Vec::new();
    for step in release.list("steps")? {
        if let Term::Map(_) = step {
            let step = Fields::of("steps", step)?;
            let called = match (step.maybe("module", atom)?, step.maybe("name", atom)?) {
                (Some(module), Some(name)) => {
                    let module = module.strip_prefix("Elixir.").unwrap_or(&module).to_owned();
                    format!("{module}.{}/1", own_name(&name))
                }
                _ => step.need("text", text)?,
            };
            warnings.push(format!(
                "the step `{called}` is not called: what it changes, say in `dram.toml` or with `overlays:`"
            ));
        }
    }
    // By default Mix creates them for Windows too, so the warning is only for projects that request Windows explicitly.
    let has_windows = release.list("executables")?.iter().any(|system| system.as_atom() == Some("windows"));
    if has_windows && release.is("executables_set") {
        warnings.push("`include_executables_for` has `:windows`: the release is for Linux only".to_owned());
    }
    Ok(warnings)
}

/// Returns the function name of `-after_it/1-fun-0-`, the name of a function that was captured in its own module.
fn own_name(name: &str) -> &str {
    name.strip_prefix('-').and_then(|name| name.split('/').next()).unwrap_or(name)
}

fn elixir_is_at_least(version: &str, major: u32, minor: u32) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Returns the OTP installation in the answer.
pub(crate) fn otp(answer: Fields<'_>) -> Result<Otp, AssembleError> {
    let otp = answer.map("otp")?;
    let release = otp.need("release", text)?;
    let release = release.parse().map_err(|_| AssembleError::Answer(format!("OTP has the number `{release}`")))?;
    Ok(Otp { root: otp.need("root", path)?, release, erts: otp.need("erts", text)? })
}

fn asked(applications: &[Term]) -> Result<Vec<(String, Option<StartType>)>, AssembleError> {
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

fn strip(option: Option<&Term>) -> Option<Strip> {
    match option {
        Some(Term::List(options)) => {
            let find = |key: &str| options.iter().filter_map(tuple).find(|pair| pair[0].as_atom() == Some(key));
            let keep = find("keep").and_then(|pair| list(pair.get(1)?)).unwrap_or_default();
            let compress = find("compress").is_some_and(|pair| pair.get(1).and_then(Term::as_atom) == Some("true"));
            Some(Strip { keep: keep.iter().filter_map(text).collect(), compress })
        }
        Some(term) if term.as_atom() == Some("false") => None,
        Some(_) | None => Some(Strip { keep: Vec::new(), compress: false }),
    }
}

/// Returns the text of a template, and true if the template is the project's own.
fn template(templates: &Term, name: &str) -> Result<(String, bool), AssembleError> {
    let missing = || AssembleError::Answer(format!("there is no `{name}`"));
    let Term::Map(pairs) = templates else { return Err(missing()) };
    let found = pairs.iter().find(|(key, _)| bytes(key) == Some(name.as_bytes())).ok_or_else(missing)?;
    let fields = Fields::of("template", &found.1)?;
    Ok((fields.need("text", text)?, fields.get("from").is_some()))
}
