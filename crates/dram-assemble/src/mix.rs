//! A Mix project becomes a blueprint.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::Digest;
use dram_release::etf;
use dram_release::resolve::{Mode as StartType, Style};
use dram_release::term::Term;

use crate::answer::{Fields, atom, bytes, list, path, text, tuple};
use crate::blueprint::{Blueprint, Otp, Overlay, Start, Strip};
use crate::remember::{self, Inputs, Read};
use crate::{AssembleError, Request};

/// Our scripts: the name of the file, its text.
const SCRIPTS: [(&str, &str); 4] = [
    ("ask.exs", include_str!("../ask/ask.exs")),
    ("dram_inputs.erl", include_str!("../ask/dram_inputs.erl")),
    ("mix.exs", include_str!("../ask/mix.exs")),
    ("distillery.exs", include_str!("../ask/distillery.exs")),
];

/// Where things of one project and environment are.
pub(crate) struct Places {
    /// The project's directory.
    pub(crate) project: PathBuf,
    /// The environment, such as `prod`.
    pub(crate) env: String,
    /// `_build/ENV`.
    pub(crate) build: PathBuf,
    /// What is remembered of it.
    pub(crate) memory: PathBuf,
}

/// Compiles the project where that is needed and asks it what its release is.
///
/// # Errors
/// When Mix is not there or fails, or the project says something wrong.
pub(crate) fn answer(request: &Request, places: &Places) -> Result<Term, AssembleError> {
    let key = key(request, places);
    let name = request.name.as_deref().unwrap_or("default");
    let is_compiled = is_compiled(request, places)?;
    if let Some(known) =
        is_compiled.then(|| remember::recall(&places.memory, name, &key, &request.environment)).flatten()
        && let Ok(term) = etf::decode(&known)
    {
        return Ok(term);
    }
    if !is_compiled {
        compile(request, places)?;
    }
    ask(request, places, name, key)
}

/// What the answer depends on besides what the scripts see.
fn key(request: &Request, places: &Places) -> String {
    let mut hasher = dram_image::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    SCRIPTS.iter().for_each(|(_, text)| add(text.as_bytes()));
    add(places.project.as_os_str().as_bytes());
    add(places.env.as_bytes());
    add(request.version.as_deref().unwrap_or_default().as_bytes());
    for tool in ["mix", "elixir", "erl"] {
        let found = request.tools.find(tool).and_then(|path| fs::canonicalize(path).ok()).unwrap_or_default();
        add(found.as_os_str().as_bytes());
        let changed = found.metadata().and_then(|status| status.modified()).ok();
        add(format!("{changed:?}").as_bytes());
    }
    hasher.finish().to_string()
}

fn compiled_file(places: &Places) -> PathBuf {
    places.memory.join("compiled")
}

/// Whether nothing that a compiler reads, and nothing that it wrote, changed since dram let it run.
fn is_compiled(request: &Request, places: &Places) -> Result<bool, AssembleError> {
    let Ok(known) = fs::read_to_string(compiled_file(places)) else { return Ok(false) };
    let mut lines = known.lines();
    let (Some(before), Some(after)) = (lines.next(), lines.next()) else { return Ok(false) };
    let mut roots = vec![places.project.clone()];
    roots.extend(lines.map(PathBuf::from));
    Ok(sources(request, places, &roots)? == before && outcome(places)? == after)
}

fn sources(request: &Request, places: &Places, roots: &[PathBuf]) -> Result<String, AssembleError> {
    let not_in = request.output.clone().unwrap_or_default();
    Ok(Digest::of(format!("{} {}", remember::fingerprint(roots, &not_in)?, key(request, places)).as_bytes())
        .to_string())
}

fn outcome(places: &Places) -> Result<String, AssembleError> {
    remember::fingerprint(&[places.build.join("lib")], Path::new(""))
}

fn compile(request: &Request, places: &Places) -> Result<(), AssembleError> {
    let env: [(&str, &OsStr); 1] = [("MIX_ENV", OsStr::new(&places.env))];
    let why = "it compiles the project; to assemble from compiled directories alone, use --from";
    request.tools.run("mix", why, &places.project, &[OsStr::new("compile")], &env)
}

/// Keeps that the project is compiled as its sources are now.
fn remember_compiled(request: &Request, places: &Places, roots: &[PathBuf]) -> Result<(), AssembleError> {
    let mut all = vec![places.project.clone()];
    all.extend(roots.iter().cloned());
    let mut lines = vec![sources(request, places, &all)?, outcome(places)?];
    lines.extend(roots.iter().map(|root| root.display().to_string()));
    fs::create_dir_all(&places.memory).map_err(AssembleError::io("make the directory", &places.memory))?;
    remember::put(&compiled_file(places), lines.join("\n").as_bytes())
}

fn ask(request: &Request, places: &Places, name: &str, key: String) -> Result<Term, AssembleError> {
    let scripts = places.memory.join("ask");
    fs::create_dir_all(&scripts).map_err(AssembleError::io("make the directory", &scripts))?;
    for (file, text) in SCRIPTS {
        let path = scripts.join(file);
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            remember::put(&path, text.as_bytes())?;
        }
    }
    let answer = scripts.join("answer");
    let script = scripts.join("ask.exs");
    let mut args: Vec<OsString> = vec![script.into(), "--beams".into(), scripts.join("beams").into()];
    args.extend([places.project.clone().into(), answer.clone().into()]);
    for (option, value) in [("--version", &request.version), ("--env", &request.env)] {
        args.extend(value.iter().flat_map(|value| [option.into(), value.into()]));
    }
    args.extend(request.name.iter().map(OsString::from));
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let env: [(&str, &OsStr); 1] = [("MIX_ENV", OsStr::new(&places.env))];
    let why = "it evaluates the project's configuration";
    request.tools.run("elixir", why, &places.project, &args, &env)?;
    let said = fs::read(&answer).map_err(AssembleError::io("read", &answer))?;
    let _ = fs::remove_file(&answer);
    let term = etf::decode(&said).map_err(|error| AssembleError::Answer(error.to_string()))?;
    let fields = Fields::of("answer", known(&term)?)?;
    let roots = path_dependencies(fields, places)?;
    remember_compiled(request, places, &roots)?;
    if let Some(read) = read(fields.map("inputs")?)? {
        let inputs = Inputs::now(key, &said, read, &request.environment);
        remember::remember(&places.memory, name, &said, &inputs)?;
    }
    Ok(term)
}

/// The map of an answer, or the project's error.
pub(crate) fn known(term: &Term) -> Result<&Term, AssembleError> {
    match tuple(term) {
        Some([kind, map]) if kind.as_atom() == Some("ok") => Ok(map),
        Some([kind, map]) if kind.as_atom() == Some("error") => {
            let error = Fields::of("error", map)?;
            Err(AssembleError::Project {
                file: error.maybe("file", text)?,
                line: error.maybe("line", |line| line.as_u64())?,
                message: error.need("message", text)?,
            })
        }
        _ => Err(AssembleError::Answer("it is neither `ok` nor `error`".to_owned())),
    }
}

/// What was read for an answer; `None` when the answer may be another one at any time.
fn read(inputs: Fields<'_>) -> Result<Option<Read>, AssembleError> {
    if !inputs.list("uncacheable")?.is_empty() {
        return Ok(None);
    }
    let paths =
        |key| -> Result<Vec<PathBuf>, AssembleError> { Ok(inputs.list(key)?.iter().filter_map(path).collect()) };
    let mut files = paths("files")?;
    // What was only looked for: whether it is there is a part of the answer too.
    files.extend(inputs.list("stats")?.iter().filter_map(|pair| path(tuple(pair)?.first()?)));
    let variables = match inputs.get("env") {
        Some(Term::Map(pairs)) => pairs.iter().filter_map(|(name, _)| text(name)).collect(),
        Some(_) | None => Vec::new(),
    };
    Ok(Some(Read { files, directories: paths("dirs")?, variables, whole_environment: inputs.is("whole_env") }))
}

fn path_dependencies(answer: Fields<'_>, places: &Places) -> Result<Vec<PathBuf>, AssembleError> {
    let mut roots = Vec::new();
    for dep in answer.list("deps")? {
        let dep = Fields::of("deps", dep)?;
        if let Some(source) = dep.maybe("source", path)?
            && !source.starts_with(&places.project)
        {
            roots.push(source);
        }
    }
    roots.sort();
    roots.dedup();
    Ok(roots)
}

/// The blueprint of the release that the answer describes.
///
/// # Errors
/// When the answer has another form.
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
    let erts = release.map("erts")?.maybe("source", path)?;
    let templates =
        release.get("templates").ok_or_else(|| AssembleError::Answer("`templates` is missing".to_owned()))?;
    let mut warnings = Vec::new();
    for step in release.list("steps")? {
        if let Term::Map(_) = step {
            let step = Fields::of("steps", step)?;
            warnings.push(format!(
                "the step `{}` of the release is a function, and is not called",
                step.need("text", text)?
            ));
        }
    }
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
        erts,
        erts_programs: Vec::new(),
        applications,
        unchecked: release.list("skip_mode_validation_for")?.iter().filter_map(atom).collect(),
        excluded: Vec::new(),
        places,
        consolidated: consolidated.filter(|path| path.is_dir()),
        directories: includes,
        strip: strip(release.get("strip_beams")),
        sys_config: release.need("sys_config", bytes)?.to_vec(),
        runtime_config,
        has_providers,
        vm_args: template(templates, "vm.args")?.0,
        remote_vm_args: Some(template(templates, "remote.vm.args")?.0),
        // Mix's own text has comments only.
        env_sh: Some(template(templates, "env.sh")?).filter(|(_, is_users)| *is_users).map(|(text, _)| text),
        cookie: release.maybe("cookie", text)?,
        overlays: release.list("overlays")?.iter().filter_map(path).map(Overlay::Dir).collect(),
        portable: false,
        start: Start { elixir: true, reboot: release.is("reboot") && has_providers, ..Start::default() },
        warnings,
        otp,
    })
}

fn elixir_is_at_least(version: &str, major: u32, minor: u32) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Erlang, as the answer says it.
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

/// The text of a template, and whether the project has it.
fn template(templates: &Term, name: &str) -> Result<(String, bool), AssembleError> {
    let missing = || AssembleError::Answer(format!("there is no `{name}`"));
    let Term::Map(pairs) = templates else { return Err(missing()) };
    let found = pairs.iter().find(|(key, _)| bytes(key) == Some(name.as_bytes())).ok_or_else(missing)?;
    let fields = Fields::of("template", &found.1)?;
    Ok((fields.need("text", text)?, fields.get("from").is_some()))
}
