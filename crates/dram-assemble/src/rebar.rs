//! Turns the answer of a rebar3 project into a blueprint: its `relx` section, as `dram_rebar.erl` reads it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;
use dram_release::relx::Goal;
use dram_release::resolve::{Mode as StartType, Style};
use dram_release::term::Term;

use crate::answer::{Fields, atom, list, path, text, tuple};
use crate::blueprint::{Blueprint, Otp, Overlay, Start, Strip, Text};
use crate::overlay::{self, Target};
use crate::{AssembleError, erts, mix};

/// The default `vm.args` of relx, without the node name and the cookie.
const VM_ARGS: &str = "+C multi_time_warp\n";
/// The directory that relx resolves script names in: that of the start script.
const BIN: &str = "bin";

/// Creates the blueprint of the release in the answer.
///
/// # Errors
/// Fails if the answer has another form, or the configuration refers to something that is missing or unsupported.
pub(crate) fn blueprint(answer: Fields<'_>) -> Result<Blueprint, AssembleError> {
    let [release] = answer.list("releases")? else {
        return Err(AssembleError::Answer("it does not have one release".to_owned()));
    };
    let release = Fields::of("release", release)?;
    let name = release.need("name", atom)?;
    let mut warnings = Vec::new();
    let otp = otp(release, mix::otp(answer)?, &mut warnings)?;
    let places = places(answer, release)?;
    let mut start = Start::default();
    hooks(release, &mut start, &mut warnings)?;
    extensions(release, &mut start)?;
    say_what_is_left(release, &mut warnings)?;
    let mut directories = vec!["include", "priv"];
    if release.is("include_src") {
        directories.extend(["src", "lib", "c_src"]);
    }
    let output = release.need("path", path)?;
    let strip = release.need("debug_info", atom)? == "strip";
    Ok(Blueprint {
        applications: Vec::new(),
        goals: goals(release)?,
        version: release.need("version", text)?,
        style: Style::Plain,
        erts: Some(erts::source(&otp)),
        erts_programs: Vec::new(),
        unchecked: Vec::new(),
        excluded: release.list("exclude_apps")?.iter().filter_map(atom).collect(),
        places,
        consolidated: None,
        directories,
        strip: strip.then(|| Strip { keep: Vec::new(), compress: false }),
        sys_config: file(release, "sys_config", "[].\n")?,
        runtime_config: None,
        has_providers: false,
        vm_args: file(release, "vm_args", VM_ARGS)?,
        remote_vm_args: None,
        env_sh: None,
        cookie: None,
        overlays: overlays(release, &output)?,
        path: Some(output),
        portable: false,
        start,
        warnings,
        otp,
        name,
    })
}

/// Returns an error in `rebar.config`.
fn wrong(message: String) -> AssembleError {
    AssembleError::Project { file: Some("rebar.config".to_owned()), line: None, message }
}

/// Returns the OTP installation that the release includes.
fn otp(release: Fields<'_>, here: Otp, warnings: &mut Vec<String>) -> Result<Otp, AssembleError> {
    let otp = match release.get("include_erts") {
        Some(Term::Atom(_)) | None => here,
        Some(source) => erts::otp_with(&path(source).unwrap_or_default(), &here)?,
    };
    if !release.is("include_erts") && release.get("include_erts").and_then(Term::as_atom).is_some() {
        warnings.push(erts::ALWAYS.to_owned());
    }
    match release.get("system_libs") {
        Some(Term::Binary(_)) => Err(wrong(
            "`system_libs` with a directory is not known: give `include_erts` the directory of that Erlang".to_owned(),
        )),
        Some(term) if term.as_atom() == Some("false") && release.is("include_erts") => {
            warnings.push("`system_libs` is false, and the release brings Erlang's libraries all the same".to_owned());
            Ok(otp)
        }
        Some(_) | None => match release.maybe("erts", text)? {
            Some(version) if version != otp.erts => {
                Err(wrong(format!("the release is for erts {version}, and erts {} is here", otp.erts)))
            }
            Some(_) | None => Ok(otp),
        },
    }
}

/// Returns the directories of the project's applications: the built ones, those in `lib_dirs`, and those that
/// `overrides` replaces.
fn places(answer: Fields<'_>, release: Fields<'_>) -> Result<BTreeMap<String, PathBuf>, AssembleError> {
    let mut places = BTreeMap::new();
    for dep in answer.list("deps")? {
        let dep = Fields::of("deps", dep)?;
        places.insert(dep.need("app", atom)?, dep.need("build", path)?);
    }
    for dir in release.list("lib_dirs")?.iter().filter_map(path) {
        let below = fs::read_dir(&dir).into_iter().flatten().flatten().map(|found| found.path());
        let mut dirs: Vec<PathBuf> = below.collect();
        dirs.sort();
        dirs.insert(0, dir);
        for dir in dirs {
            for name in applications_in(&dir) {
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

fn applications_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("ebin")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".app").map(str::to_owned)).collect()
}

/// Returns the goals of the release.
fn goals(release: Fields<'_>) -> Result<Vec<Goal>, AssembleError> {
    let read = |goal: &Term| {
        let goal = Fields::of("goals", goal)?;
        let names = |names: &Term| Some(list(names)?.iter().filter_map(atom).collect());
        Ok(Goal {
            name: goal.need("app", atom)?,
            version: goal.maybe("vsn", text)?,
            mode: goal.maybe("type", |mode| StartType::parse(mode.as_atom()?))?,
            included: goal.maybe("included", names)?,
        })
    };
    release.list("goals")?.iter().map(read).collect()
}

/// Reads a configured file, or returns `default` if none is configured.
fn file(release: Fields<'_>, key: &'static str, default: &str) -> Result<Text, AssembleError> {
    let set = release.map(key)?;
    let Some(path) = set.maybe("path", path)? else {
        return Ok(Text::new(if set.need("kind", atom)? == "none" { "" } else { default }));
    };
    // The setting decides whether it is a template, not the file name.
    let is_source = set.need("kind", atom)? == "src";
    let read = if key == "sys_config" && !is_source { Text::read_configuration } else { Text::read };
    Ok(Text { is_source, ..read(&path)? })
}

/// Reads `extended_start_script_hooks`.
fn hooks(release: Fields<'_>, start: &mut Start, warnings: &mut Vec<String>) -> Result<(), AssembleError> {
    for pair in release.list("hooks")? {
        let Some([event, of_event]) = tuple(pair) else { continue };
        let event = event.as_atom().unwrap_or_default();
        let moment = match event {
            "pre_install_upgrade" => "pre_upgrade",
            "post_install_upgrade" => "post_upgrade",
            other => other,
        };
        let is_known =
            matches!(moment, "pre_start" | "post_start" | "pre_stop" | "post_stop" | "pre_upgrade" | "post_upgrade");
        for hook in list(of_event).unwrap_or_default() {
            let own = match tuple(hook) {
                Some([kind, script]) if kind.as_atom() == Some("custom") => string(script),
                Some(_) | None => None,
            };
            match own {
                Some(script) if is_known => start.hooks.push((moment.to_owned(), below_bin(&script)?)),
                Some(script) => {
                    warnings.push(format!("the hook `{script}` of `{event}` is not run: there is no such moment"));
                }
                None => warnings.push(builtin(event, hook)),
            }
        }
    }
    Ok(())
}

/// Returns the warning for a builtin hook of relx.
fn builtin(event: &str, hook: &Term) -> String {
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
fn extensions(release: Fields<'_>, start: &mut Start) -> Result<(), AssembleError> {
    for pair in release.list("extensions")? {
        if let Some([name, script]) = tuple(pair)
            && let (Some(name), Some(script)) = (atom(name), text(script))
        {
            start.commands.push((name, below_bin(&script)?, String::new()));
        }
    }
    Ok(())
}

fn below_bin(script: &str) -> Result<TreePath, AssembleError> {
    TreePath::clean(format!("{BIN}/{script}").as_bytes())
        .map_err(|error| wrong(format!("the script `{script}` has no place in a release: {error}")))
}

/// Warns about settings that are not supported.
fn say_what_is_left(release: Fields<'_>, warnings: &mut Vec<String>) -> Result<(), AssembleError> {
    if release.is("dev_mode") || release.maybe("mode", atom)?.as_deref() == Some("dev") {
        warnings.push("`mode` is dev, which links to the project: the release has copies all the same".to_owned());
    }
    if !release.list("exclude_modules")?.is_empty() {
        warnings.push("`exclude_modules` is not known: the modules are in the release".to_owned());
    }
    if !release.list("start_scripts_for")?.is_empty() {
        warnings.push("`include_start_scripts_for` is not known: there is one start program".to_owned());
    }
    for setting in release.list("unknown")? {
        warnings.push(format!("relx does not know the setting `{setting}`"));
    }
    Ok(())
}

fn overlays(release: Fields<'_>, output: &Path) -> Result<Vec<Overlay>, AssembleError> {
    let mut overlays = Vec::new();
    for step in release.list("overlays")? {
        let parts = tuple(step).unwrap_or_default();
        let kind = parts.first().and_then(Term::as_atom).unwrap_or_default();
        let target = |at: &Term| Target::parse(&path(at).unwrap_or_default(), output);
        match (kind, &parts[1.min(parts.len())..]) {
            ("mkdir", [at]) => overlays.push(Overlay::Make(target(at)?.at)),
            ("copy" | "link", [from, at]) => {
                let (from, at) = (path(from).unwrap_or_default(), target(at)?);
                let found = overlay::wildcard(&from)?;
                if found.is_empty() {
                    return Err(wrong(format!("the overlay `{}` is nowhere", from.display())));
                }
                overlays.extend(
                    found.into_iter().map(|from| copy(from, &at, &overlays_made(&overlays))).collect::<Vec<_>>(),
                );
            }
            ("template", [from, at, made]) => {
                let executable = overlay::is_executable(&path(from).unwrap_or_default());
                overlays.push(Overlay::Text(text(made).unwrap_or_default(), target(at)?.at, executable));
            }
            ("chmod", [mode, at]) => {
                let mode = mode.as_u64().unwrap_or_default();
                overlays.push(Overlay::Executable(target(at)?.at, mode & 0o111 != 0));
            }
            _ => return Err(AssembleError::Answer(format!("there is no overlay `{step}`"))),
        }
    }
    Ok(overlays)
}

fn overlays_made(overlays: &[Overlay]) -> Vec<TreePath> {
    let made = |overlay: &Overlay| match overlay {
        Overlay::Make(at) => Some(at.clone()),
        _ => None,
    };
    overlays.iter().filter_map(made).collect()
}

/// Copies as relx does: into the target if it ends with a slash, or if it is a directory that was created and the
/// source is a file.
fn copy(from: PathBuf, to: &Target, made: &[TreePath]) -> Overlay {
    let into = to.is_directory || (made.contains(&to.at) && !from.is_dir());
    let at = match (into, from.file_name()) {
        (true, Some(name)) => to.at.join(name.as_bytes()),
        (true, None) | (false, _) => to.at.clone(),
    };
    Overlay::Copy(from, at)
}

/// Returns a text that is a string or a binary.
fn string(term: &Term) -> Option<String> {
    text(term).or_else(|| term.as_string())
}
