//! Queries a project for its releases, with scripts in the project's own language.
//!
//! Compilation and the answer are both cached (see [`crate::answer_cache`]); if nothing changed, Erlang is not started.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dram_image::Digest;
use dram_release::etf;
use dram_release::term::Term;
use rustix::fs::FlockOperation;

use crate::answer::{Fields, path, text, tuple};
use crate::remember::{self, Inputs, Read};
use crate::{AssembleError, Request};

/// The query scripts: file name and text.
const SCRIPTS: [(&str, &str); 6] = [
    ("ask.exs", include_str!("../ask/ask.exs")),
    ("mix.exs", include_str!("../ask/mix.exs")),
    ("distillery.exs", include_str!("../ask/distillery.exs")),
    ("ask.escript", include_str!("../ask/ask.escript")),
    ("dram_rebar.erl", include_str!("../ask/dram_rebar.erl")),
    ("dram_inputs.erl", include_str!("../ask/dram_inputs.erl")),
];
/// The variables that configure paths and flags of Mix, rebar3 and Erlang.
const VARIABLES: [&str; 15] = [
    "MIX_TARGET",
    "MIX_EXS",
    "MIX_BUILD_PATH",
    "MIX_BUILD_ROOT",
    "MIX_DEPS_PATH",
    "MIX_HOME",
    "ELIXIR_ERL_OPTIONS",
    "ERL_LIBS",
    "ERL_FLAGS",
    "ERL_AFLAGS",
    "ERL_ZFLAGS",
    "ERL_COMPILER_OPTIONS",
    "REBAR_BASE_DIR",
    "REBAR_CONFIG",
    "REBAR_CACHE_DIR",
];

/// The build tool of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builder {
    /// Mix.
    Mix,
    /// rebar3.
    Rebar,
}

impl Builder {
    /// Detects the build tool of the project in `dir`.
    pub(crate) fn of(dir: &Path) -> Option<Builder> {
        let is_there = |name: &str| dir.join(name).is_file();
        if is_there("mix.exs") {
            Some(Builder::Mix)
        } else if is_there("rebar.config") || is_there("rebar.config.script") {
            Some(Builder::Rebar)
        } else {
            None
        }
    }

    /// Returns the programs that the build tool consists of.
    fn tools(self) -> [&'static str; 3] {
        match self {
            Builder::Mix => ["mix", "elixir", "erl"],
            Builder::Rebar => ["rebar3", "escript", "erl"],
        }
    }

    /// Returns the environment variable that selects the environment or profile.
    fn variable(self) -> &'static str {
        match self {
            Builder::Mix => "MIX_ENV",
            Builder::Rebar => "REBAR_PROFILE",
        }
    }
}

/// The paths of a project in one environment.
#[derive(Debug)]
pub(crate) struct Places {
    /// The project's directory.
    pub(crate) project: PathBuf,
    /// The project's build tool, if it has one.
    pub(crate) builder: Option<Builder>,
    /// The environment, such as `prod`; several rebar3 profiles are separated by commas.
    pub(crate) env: String,
    /// `_build/ENV`.
    pub(crate) build: PathBuf,
    /// The cache directory.
    pub(crate) memory: PathBuf,
}

impl Places {
    /// Determines the paths for a request.
    ///
    /// # Errors
    /// Fails if the project does not exist, or the name of the environment is invalid.
    pub(crate) fn of(request: &Request) -> Result<Places, AssembleError> {
        let project =
            fs::canonicalize(&request.project).map_err(AssembleError::io("find the project", &request.project))?;
        let builder = Builder::of(&project);
        let variable = |name: &str| {
            let value = request.environment.get(name.as_bytes()).filter(|value| !value.is_empty())?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let from_environment = || variable(builder.unwrap_or(Builder::Mix).variable());
        let env = request.env.clone().or_else(from_environment).unwrap_or_else(|| "prod".to_owned());
        crate::assemble::one_name("the environment", &env)?;
        let below = |root: Option<String>, name: String| project.join(root.as_deref().unwrap_or("_build")).join(name);
        let build = match builder {
            Some(Builder::Rebar) => below(variable("REBAR_BASE_DIR"), env.replace(',', "+")),
            Some(Builder::Mix) | None => match (variable("MIX_BUILD_PATH"), variable("MIX_TARGET")) {
                (Some(path), _) => project.join(path),
                (None, Some(target)) if target != "host" => {
                    below(variable("MIX_BUILD_ROOT"), format!("{target}_{env}"))
                }
                (None, _) => below(variable("MIX_BUILD_ROOT"), env.clone()),
            },
        };
        let memory = build.join("dram");
        Ok(Places { project, builder, env, build, memory })
    }
}

/// Compiles the project if necessary, and queries it for its release.
///
/// # Errors
/// Fails if a tool is missing or fails, or the project reports an error.
pub(crate) fn answer(request: &Request, places: &Places, builder: Builder) -> Result<Term, AssembleError> {
    let asking = Asking { request, places, builder, key: key(request, places, builder) };
    if let Some(term) = asking.recall()? {
        return Ok(term);
    }
    let memory = &places.memory;
    fs::create_dir_all(memory).map_err(AssembleError::io("make the directory", memory))?;
    // Another process may run the same query: then this one waits for it, and uses its answer.
    let lock = File::open(memory).map_err(AssembleError::io("open", memory))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| AssembleError::io("lock", memory)(error.into()))?;
    if let Some(term) = asking.recall()? {
        return Ok(term);
    }
    if !asking.is_compiled()?
        && let Err(error) = asking.compile()
    {
        // If the configuration is invalid, the query scripts report the position, and the compilers do not.
        return Err(asking.put_question().and_then(|said| known(&decode(&said)?).map(drop)).err().unwrap_or(error));
    }
    asking.ask()
}

/// Returns the cache key: everything the answer depends on that the scripts do not trace.
fn key(request: &Request, places: &Places, builder: Builder) -> String {
    let mut hasher = dram_image::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    SCRIPTS.iter().for_each(|(_, text)| add(text.as_bytes()));
    add(places.project.as_os_str().as_bytes());
    add(places.env.as_bytes());
    add(request.version.as_deref().unwrap_or_default().as_bytes());
    for tool in builder.tools() {
        let found = request.tools.find(tool).and_then(|path| fs::canonicalize(path).ok()).unwrap_or_default();
        add(found.as_os_str().as_bytes());
        let changed = found.metadata().and_then(|status| status.modified()).ok();
        add(format!("{changed:?}").as_bytes());
    }
    for name in VARIABLES {
        add(&request
            .environment
            .get(name.as_bytes())
            .map(|value| [b"=", value.as_slice()].concat())
            .unwrap_or_default());
    }
    hasher.finish().to_string()
}

/// The record of a compilation, stored in a file.
struct Compiled {
    /// The fingerprint of the inputs.
    before: String,
    /// The fingerprint of the outputs.
    after: String,
    /// The output directory.
    lib: PathBuf,
    /// The default destination of the release, which is excluded from the inputs.
    output: PathBuf,
    /// Further input directories.
    roots: Vec<PathBuf>,
}

impl Compiled {
    fn read(path: &Path) -> Option<Compiled> {
        let known = fs::read_to_string(path).ok()?;
        let mut lines = known.lines();
        Some(Compiled {
            before: lines.next()?.to_owned(),
            after: lines.next()?.to_owned(),
            lib: PathBuf::from(lines.next()?),
            output: PathBuf::from(lines.next()?),
            roots: lines.map(PathBuf::from).collect(),
        })
    }

    fn text(&self) -> String {
        let Compiled { before, after, lib, output, roots } = self;
        let mut lines = vec![before.clone(), after.clone(), lib.display().to_string(), output.display().to_string()];
        lines.extend(roots.iter().map(|root| root.display().to_string()));
        lines.join("\n")
    }
}

/// A query of a project.
struct Asking<'a> {
    request: &'a Request,
    places: &'a Places,
    builder: Builder,
    key: String,
}

impl Asking<'_> {
    fn name(&self) -> &str {
        self.request.name.as_deref().unwrap_or("default")
    }

    fn compiled_file(&self) -> PathBuf {
        self.places.memory.join("compiled")
    }

    /// Returns the cached answer, if it is still valid.
    fn recall(&self) -> Result<Option<Term>, AssembleError> {
        if !self.is_compiled()? {
            return Ok(None);
        }
        let known = remember::recall(&self.places.memory, self.name(), &self.key, &self.request.environment);
        Ok(known.and_then(|known| etf::decode(&known).ok()))
    }

    /// Returns true if no input or output of the compiler changed since dram last ran it.
    fn is_compiled(&self) -> Result<bool, AssembleError> {
        let Some(known) = Compiled::read(&self.compiled_file()) else { return Ok(false) };
        Ok(self.sources(&known.roots, &known.output)? == known.before && outcome(&known.lib)? == known.after)
    }

    fn sources(&self, roots: &[PathBuf], output: &Path) -> Result<String, AssembleError> {
        let mut all = vec![self.places.project.clone()];
        all.extend(roots.iter().cloned());
        let not_in = self.request.output.as_deref().unwrap_or(output);
        let read = remember::fingerprint(&all, not_in)?;
        Ok(Digest::of(format!("{read} {}", self.key).as_bytes()).to_string())
    }

    fn compile(&self) -> Result<(), AssembleError> {
        let why = "it compiles the project; to assemble from compiled directories alone, use --from";
        let Places { project, env, .. } = self.places;
        let tools = &self.request.tools;
        let profile = OsStr::new(env);
        match self.builder {
            Builder::Mix => {
                let variables: [(&str, &OsStr); 1] = [("MIX_ENV", profile)];
                tools.run("mix", why, project, &[OsStr::new("compile")], &variables)
            }
            Builder::Rebar => {
                // The profile is given as an argument; the variable would add another one.
                let variables: [(&str, &OsStr); 1] = [("REBAR_PROFILE", OsStr::new(""))];
                let words = [OsStr::new("as"), profile, OsStr::new("compile")];
                tools.run("rebar3", why, project, &words, &variables)
            }
        }
    }

    /// Records that the project is compiled with its current sources.
    fn remember_compiled(&self, answer: Fields<'_>) -> Result<(), AssembleError> {
        let roots = path_dependencies(answer, self.places)?;
        let lib = answer.map("project")?.need("lib", path)?;
        let output = own_output(answer)?.unwrap_or_default();
        let (before, after) = (self.sources(&roots, &output)?, outcome(&lib)?);
        let memory = &self.places.memory;
        fs::create_dir_all(memory).map_err(AssembleError::io("make the directory", memory))?;
        let compiled = Compiled { before, after, lib, output, roots };
        remember::put(&self.compiled_file(), compiled.text().as_bytes())
    }

    /// Runs the query script and returns its answer, an encoded term.
    fn put_question(&self) -> Result<Vec<u8>, AssembleError> {
        let Asking { request, places, builder, .. } = self;
        let scripts = places.memory.join("ask");
        put_scripts(&scripts)?;
        let answer = scripts.join("answer");
        let (tool, script, option) = match builder {
            Builder::Mix => ("elixir", "ask.exs", "--env"),
            Builder::Rebar => ("escript", "ask.escript", "--profile"),
        };
        let mut args: Vec<OsString> = vec![scripts.join(script).into(), "--beams".into(), scripts.join("beams").into()];
        args.extend([places.project.clone().into(), answer.clone().into()]);
        args.extend(request.version.iter().flat_map(|version| ["--version".into(), version.into()]));
        // A Distillery environment is not a Mix environment: unless it is requested, `rel/config.exs` selects it.
        let env = match builder {
            Builder::Mix => request.env.as_ref(),
            Builder::Rebar => Some(&places.env),
        };
        args.extend(env.iter().flat_map(|env| [option.into(), OsString::from(env)]));
        args.extend(request.name.iter().map(OsString::from));
        let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
        let variables: [(&str, &OsStr); 1] = [("MIX_ENV", OsStr::new(&places.env))];
        request.tools.run(tool, "it evaluates the project's configuration", &places.project, &args, &variables)?;
        let said = fs::read(&answer).map_err(AssembleError::io("read", &answer))?;
        let _ = fs::remove_file(&answer);
        Ok(said)
    }

    fn ask(&self) -> Result<Term, AssembleError> {
        let Asking { request, places, key, .. } = self;
        let said = self.put_question()?;
        let term = decode(&said)?;
        let fields = Fields::of("answer", known(&term)?)?;
        self.remember_compiled(fields)?;
        if let Some(read) = read(fields.map("inputs")?)? {
            let inputs = Inputs::now(key.clone(), &said, read, &request.environment);
            remember::remember(&places.memory, self.name(), &said, &inputs)?;
        }
        Ok(term)
    }
}

fn decode(said: &[u8]) -> Result<Term, AssembleError> {
    etf::decode(said).map_err(|error| AssembleError::Answer(error.to_string()))
}

fn put_scripts(dir: &Path) -> Result<(), AssembleError> {
    fs::create_dir_all(dir).map_err(AssembleError::io("make the directory", dir))?;
    for (file, text) in SCRIPTS {
        let path = dir.join(file);
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            remember::put(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

fn outcome(lib: &Path) -> Result<String, AssembleError> {
    remember::fingerprint(&[lib.to_owned()], Path::new(""))
}

/// Returns the map of an answer, or the project's error.
///
/// # Errors
/// Fails if the project reported an error.
pub(crate) fn known(term: &Term) -> Result<&Term, AssembleError> {
    match tuple(term) {
        Some([kind, map]) if kind.as_atom() == Some("ok") => Ok(map),
        Some([kind, map]) if kind.as_atom() == Some("error") => {
            let error = Fields::of("error", map)?;
            let message = error.need("message", text)?.trim_end().to_owned();
            let message = match error.get("kind").and_then(Term::as_atom) {
                Some("choose_release" | "unknown_release") => format!("{message} (name one with --name)"),
                _ => message,
            };
            let (file, line) = (error.maybe("file", text)?, error.maybe("line", Term::as_u64)?);
            Err(AssembleError::Project { file, line, message })
        }
        _ => Err(AssembleError::Answer("it is neither `ok` nor `error`".to_owned())),
    }
}

/// Returns the inputs that were read for an answer; `None` if the answer must not be cached.
fn read(inputs: Fields<'_>) -> Result<Option<Read>, AssembleError> {
    // `crypto` is not a reason: most projects use it for digests only.
    let changes = |what: &Term| matches!(what.as_atom(), Some("clock" | "random"));
    if !inputs.list("uncacheable")?.is_empty() || inputs.list("volatile")?.iter().any(changes) {
        return Ok(None);
    }
    let paths =
        |key| -> Result<Vec<PathBuf>, AssembleError> { Ok(inputs.list(key)?.iter().filter_map(path).collect()) };
    let mut files = paths("files")?;
    // The existence of a file that was only looked up is an input as well.
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

/// Returns the destination that the project configures for its release.
fn own_output(answer: Fields<'_>) -> Result<Option<PathBuf>, AssembleError> {
    if answer.get("distillery").is_some() {
        return answer.map("distillery")?.maybe("output_dir", path);
    }
    match answer.list("releases")? {
        [release] => Fields::of("release", release)?.maybe("path", path),
        _ => Ok(None),
    }
}
