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

use crate::answer::{AnswerMap, path, text, tuple};
use crate::answer_cache::{self, AnswerInputNames, AnswerInputs};
use crate::{AssembleError, AssembleRequest, ProjectTools};

/// The query scripts: file name and text.
const QUERY_SCRIPTS: [(&str, &str); 7] = [
    ("ask.exs", include_str!("../ask/ask.exs")),
    ("mix.exs", include_str!("../ask/mix.exs")),
    ("steps.exs", include_str!("../ask/steps.exs")),
    ("distillery.exs", include_str!("../ask/distillery.exs")),
    ("ask.escript", include_str!("../ask/ask.escript")),
    ("dram_rebar.erl", include_str!("../ask/dram_rebar.erl")),
    ("dram_inputs.erl", include_str!("../ask/dram_inputs.erl")),
];
/// The variables that configure paths and flags of Mix, rebar3 and Erlang.
const KEY_VARIABLES: [&str; 15] = [
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
pub(crate) enum BuildTool {
    /// Mix.
    Mix,
    /// rebar3.
    Rebar,
}

impl BuildTool {
    /// Detects the build tool of the project in `dir`.
    pub(crate) fn detect(dir: &Path) -> Option<BuildTool> {
        let is_there = |name: &str| dir.join(name).is_file();
        if is_there("mix.exs") {
            Some(BuildTool::Mix)
        } else if is_there("rebar.config") || is_there("rebar.config.script") {
            Some(BuildTool::Rebar)
        } else {
            None
        }
    }

    /// Returns the programs that the build tool consists of.
    fn programs(self) -> [&'static str; 3] {
        match self {
            BuildTool::Mix => ["mix", "elixir", "erl"],
            BuildTool::Rebar => ["rebar3", "escript", "erl"],
        }
    }

    /// Returns the environment variable that selects the environment or profile.
    fn variable(self) -> &'static str {
        match self {
            BuildTool::Mix => "MIX_ENV",
            BuildTool::Rebar => "REBAR_PROFILE",
        }
    }
}

/// The paths of a project in one environment.
#[derive(Debug)]
pub(crate) struct ProjectPaths {
    /// The project's directory.
    pub(crate) project: PathBuf,
    /// The project's build tool, if it has one.
    pub(crate) build_tool: Option<BuildTool>,
    /// The environment, such as `prod`; several rebar3 profiles are separated by commas.
    pub(crate) env: String,
    /// `_build/ENV`.
    pub(crate) build: PathBuf,
    /// The cache directory.
    pub(crate) cache_dir: PathBuf,
}

impl ProjectPaths {
    /// Determines the paths for a request.
    ///
    /// # Errors
    /// Fails if the project does not exist, or the name of the environment is invalid.
    pub(crate) fn for_request(request: &AssembleRequest) -> Result<ProjectPaths, AssembleError> {
        let project =
            fs::canonicalize(&request.project).map_err(AssembleError::io("find the project", &request.project))?;
        let builder = BuildTool::detect(&project);
        let variable = |name: &str| {
            let value = request.environment.get(name.as_bytes()).filter(|value| !value.is_empty())?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let from_environment = || variable(builder.unwrap_or(BuildTool::Mix).variable());
        let env = request.env.clone().or_else(from_environment).unwrap_or_else(|| "prod".to_owned());
        crate::assemble::check_path_component("the environment", &env)?;
        let below = |root: Option<String>, name: String| project.join(root.as_deref().unwrap_or("_build")).join(name);
        let build = match builder {
            Some(BuildTool::Rebar) => below(variable("REBAR_BASE_DIR"), env.replace(',', "+")),
            Some(BuildTool::Mix) | None => match (variable("MIX_BUILD_PATH"), variable("MIX_TARGET")) {
                (Some(path), _) => project.join(path),
                (None, Some(target)) if target != "host" => {
                    below(variable("MIX_BUILD_ROOT"), format!("{target}_{env}"))
                }
                (None, _) => below(variable("MIX_BUILD_ROOT"), env.clone()),
            },
        };
        let memory = build.join("dram");
        Ok(ProjectPaths { project, build_tool: builder, env, build, cache_dir: memory })
    }
}

/// Compiles the project if necessary, and queries it for its release.
///
/// # Errors
/// Fails if a tool is missing or fails, or the project reports an error.
pub(crate) fn query_project(
    request: &AssembleRequest,
    places: &ProjectPaths,
    builder: BuildTool,
) -> Result<Term, AssembleError> {
    let asking = ProjectQuery { request, paths: places, build_tool: builder, key: cache_key(request, places, builder) };
    if let Some(term) = asking.cached_answer()? {
        return Ok(term);
    }
    // Another process may run the same query: then this one waits for it, and uses its answer.
    let _lock = lock_cache_dir(&places.cache_dir)?;
    if let Some(term) = asking.cached_answer()? {
        return Ok(term);
    }
    if !asking.is_compiled()?
        && let Err(error) = asking.compile()
    {
        // If the configuration is invalid, the query scripts report the position, and the compilers do not.
        return Err(asking
            .run_query_script()
            .and_then(|said| answer_map(&decode_answer(&said)?).map(drop))
            .err()
            .unwrap_or(error));
    }
    asking.run_query()
}

/// Creates the cache directory and locks it until the returned file is closed.
///
/// # Errors
/// Fails if the directory cannot be created or locked.
pub(crate) fn lock_cache_dir(dir: &Path) -> Result<File, AssembleError> {
    fs::create_dir_all(dir).map_err(AssembleError::io("make the directory", dir))?;
    let lock = File::open(dir).map_err(AssembleError::io("open", dir))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| AssembleError::io("lock", dir)(error.into()))?;
    Ok(lock)
}

/// Returns the cache key: everything the answer depends on that the scripts do not trace.
fn cache_key(request: &AssembleRequest, places: &ProjectPaths, builder: BuildTool) -> String {
    let mut hasher = dram_image::DigestHasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    QUERY_SCRIPTS.iter().for_each(|(_, text)| add(text.as_bytes()));
    add(places.project.as_os_str().as_bytes());
    add(places.env.as_bytes());
    add(request.version.as_deref().unwrap_or_default().as_bytes());
    for tool in builder.programs() {
        let found = request.tools.find(tool).and_then(|path| fs::canonicalize(path).ok()).unwrap_or_default();
        add(found.as_os_str().as_bytes());
        let changed = found.metadata().and_then(|status| status.modified()).ok();
        add(format!("{changed:?}").as_bytes());
    }
    for name in KEY_VARIABLES {
        add(&request
            .environment
            .get(name.as_bytes())
            .map(|value| [b"=", value.as_slice()].concat())
            .unwrap_or_default());
    }
    hasher.finish().to_string()
}

/// The record of a compilation, stored in a file.
struct CompileRecord {
    /// The fingerprint of the inputs.
    input_fingerprint: String,
    /// The fingerprint of the outputs.
    output_fingerprint: String,
    /// The output directory.
    lib: PathBuf,
    /// The default destination of the release, which is excluded from the inputs.
    output: PathBuf,
    /// Further input directories.
    roots: Vec<PathBuf>,
}

impl CompileRecord {
    fn read(path: &Path) -> Option<CompileRecord> {
        let known = fs::read_to_string(path).ok()?;
        let mut lines = known.lines();
        Some(CompileRecord {
            input_fingerprint: lines.next()?.to_owned(),
            output_fingerprint: lines.next()?.to_owned(),
            lib: PathBuf::from(lines.next()?),
            output: PathBuf::from(lines.next()?),
            roots: lines.map(PathBuf::from).collect(),
        })
    }

    fn to_text(&self) -> String {
        let CompileRecord { input_fingerprint: before, output_fingerprint: after, lib, output, roots } = self;
        let mut lines = vec![before.clone(), after.clone(), lib.display().to_string(), output.display().to_string()];
        lines.extend(roots.iter().map(|root| root.display().to_string()));
        lines.join("\n")
    }
}

/// A query of a project.
struct ProjectQuery<'a> {
    request: &'a AssembleRequest,
    paths: &'a ProjectPaths,
    build_tool: BuildTool,
    key: String,
}

impl ProjectQuery<'_> {
    fn cache_name(&self) -> &str {
        self.request.name.as_deref().unwrap_or("default")
    }

    fn record_path(&self) -> PathBuf {
        self.paths.cache_dir.join("compiled")
    }

    /// Returns the cached answer, if it is still valid.
    fn cached_answer(&self) -> Result<Option<Term>, AssembleError> {
        if !self.is_compiled()? {
            return Ok(None);
        }
        let known =
            answer_cache::load_answer(&self.paths.cache_dir, self.cache_name(), &self.key, &self.request.environment);
        Ok(known.and_then(|known| etf::decode(&known).ok()))
    }

    /// Returns true if no input or output of the compiler changed since dram last ran it.
    fn is_compiled(&self) -> Result<bool, AssembleError> {
        let Some(known) = CompileRecord::read(&self.record_path()) else { return Ok(false) };
        Ok(self.input_fingerprint(&known.roots, &known.output)? == known.input_fingerprint
            && output_fingerprint(&known.lib)? == known.output_fingerprint)
    }

    fn input_fingerprint(&self, roots: &[PathBuf], output: &Path) -> Result<String, AssembleError> {
        let mut all = vec![self.paths.project.clone()];
        all.extend(roots.iter().cloned());
        let not_in = self.request.output.as_deref().unwrap_or(output);
        let read = answer_cache::fingerprint(&all, not_in)?;
        Ok(Digest::of(format!("{read} {}", self.key).as_bytes()).to_string())
    }

    fn compile(&self) -> Result<(), AssembleError> {
        let why = "it compiles the project; to assemble from compiled directories alone, use --from";
        let ProjectPaths { project, env, .. } = self.paths;
        let tools = &self.request.tools;
        let profile = OsStr::new(env);
        match self.build_tool {
            BuildTool::Mix => {
                let variables: [(&str, &OsStr); 1] = [("MIX_ENV", profile)];
                tools.run("mix", why, project, &[OsStr::new("compile")], &variables)
            }
            BuildTool::Rebar => {
                // The profile is given as an argument; the variable would add another one.
                let variables: [(&str, &OsStr); 1] = [("REBAR_PROFILE", OsStr::new(""))];
                let words = [OsStr::new("as"), profile, OsStr::new("compile")];
                tools.run("rebar3", why, project, &words, &variables)
            }
        }
    }

    /// Records that the project is compiled with its current sources.
    fn record_compilation(&self, answer: AnswerMap<'_>) -> Result<(), AssembleError> {
        let roots = path_dependencies(answer, self.paths)?;
        let lib = answer.map("project")?.required("lib", path)?;
        let output = configured_output(answer)?.unwrap_or_default();
        let (before, after) = (self.input_fingerprint(&roots, &output)?, output_fingerprint(&lib)?);
        let memory = &self.paths.cache_dir;
        fs::create_dir_all(memory).map_err(AssembleError::io("make the directory", memory))?;
        let compiled = CompileRecord { input_fingerprint: before, output_fingerprint: after, lib, output, roots };
        answer_cache::replace_file(&self.record_path(), compiled.to_text().as_bytes())
    }

    /// Runs the query script and returns its answer, an encoded term.
    fn run_query_script(&self) -> Result<Vec<u8>, AssembleError> {
        let script = QueryScript::new(self.request, self.paths, self.build_tool)?;
        script.run(&self.request.tools, &[])?;
        script.take_answer()
    }

    fn run_query(&self) -> Result<Term, AssembleError> {
        let ProjectQuery { request, paths: places, key, .. } = self;
        let said = self.run_query_script()?;
        let term = decode_answer(&said)?;
        let fields = AnswerMap::from_term("answer", answer_map(&term)?)?;
        self.record_compilation(fields)?;
        if let Some(read) = read_inputs(fields.map("inputs")?)? {
            let inputs = AnswerInputs::capture(key.clone(), &said, read, &request.environment);
            answer_cache::store_answer(&places.cache_dir, self.cache_name(), &said, &inputs)?;
        }
        Ok(term)
    }
}

/// The query script of a build tool, ready to be run.
#[derive(Debug)]
pub(crate) struct QueryScript {
    /// The directory of the scripts.
    pub(crate) dir: PathBuf,
    tool: &'static str,
    args: Vec<OsString>,
    /// The last argument, if the release has a name.
    release: Option<OsString>,
    env: String,
    project: PathBuf,
}

impl QueryScript {
    /// Writes the scripts to the cache directory.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub(crate) fn new(
        request: &AssembleRequest,
        places: &ProjectPaths,
        builder: BuildTool,
    ) -> Result<QueryScript, AssembleError> {
        let dir = places.cache_dir.join("ask");
        write_scripts(&dir)?;
        let (tool, script, option) = match builder {
            BuildTool::Mix => ("elixir", "ask.exs", "--env"),
            BuildTool::Rebar => ("escript", "ask.escript", "--profile"),
        };
        let mut args: Vec<OsString> = vec![dir.join(script).into(), "--beams".into(), dir.join("beams").into()];
        args.extend([places.project.clone().into(), dir.join("answer").into()]);
        args.extend(request.version.iter().flat_map(|version| ["--version".into(), version.into()]));
        // A Distillery environment is not a Mix environment: unless it is requested, `rel/config.exs` selects it.
        let env = match builder {
            BuildTool::Mix => request.env.as_ref(),
            BuildTool::Rebar => Some(&places.env),
        };
        args.extend(env.iter().flat_map(|env| [option.into(), OsString::from(env)]));
        let release = request.name.as_ref().map(OsString::from);
        Ok(QueryScript { dir, tool, args, release, env: places.env.clone(), project: places.project.clone() })
    }

    /// Runs the script with further options, and returns when it has ended.
    ///
    /// # Errors
    /// Fails if the tool is missing or fails.
    pub(crate) fn run(&self, tools: &ProjectTools, options: &[OsString]) -> Result<(), AssembleError> {
        let args: Vec<&OsStr> = self.args.iter().chain(options).chain(&self.release).map(OsString::as_os_str).collect();
        let variables: [(&str, &OsStr); 1] = [("MIX_ENV", OsStr::new(&self.env))];
        tools.run(self.tool, "it evaluates the project's configuration", &self.project, &args, &variables)
    }

    /// Reads and removes the answer, an encoded term.
    ///
    /// # Errors
    /// Fails if there is none.
    pub(crate) fn take_answer(&self) -> Result<Vec<u8>, AssembleError> {
        let answer = self.dir.join("answer");
        let said = fs::read(&answer).map_err(AssembleError::io("read", &answer))?;
        let _ = fs::remove_file(&answer);
        Ok(said)
    }
}

/// Decodes an answer.
pub(crate) fn decode_answer(said: &[u8]) -> Result<Term, AssembleError> {
    etf::decode(said).map_err(|error| AssembleError::Answer(error.to_string()))
}

fn write_scripts(dir: &Path) -> Result<(), AssembleError> {
    fs::create_dir_all(dir).map_err(AssembleError::io("make the directory", dir))?;
    for (file, text) in QUERY_SCRIPTS {
        let path = dir.join(file);
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            answer_cache::replace_file(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

fn output_fingerprint(lib: &Path) -> Result<String, AssembleError> {
    answer_cache::fingerprint(&[lib.to_owned()], Path::new(""))
}

/// Returns the map of an answer, or the project's error.
///
/// # Errors
/// Fails if the project reported an error.
pub(crate) fn answer_map(term: &Term) -> Result<&Term, AssembleError> {
    match tuple(term) {
        Some([kind, map]) if kind.as_atom() == Some("ok") => Ok(map),
        Some([kind, map]) if kind.as_atom() == Some("error") => {
            let error = AnswerMap::from_term("error", map)?;
            let message = error.required("message", text)?.trim_end().to_owned();
            let message = match error.get("kind").and_then(Term::as_atom) {
                Some("choose_release" | "unknown_release") => format!("{message} (name one with --name)"),
                _ => message,
            };
            let (file, line) = (error.optional("file", text)?, error.optional("line", Term::as_u64)?);
            Err(AssembleError::Project { file, line, message })
        }
        _ => Err(AssembleError::Answer("it is neither `ok` nor `error`".to_owned())),
    }
}

/// Returns the inputs that were read for an answer; `None` if the answer must not be cached.
fn read_inputs(inputs: AnswerMap<'_>) -> Result<Option<AnswerInputNames>, AssembleError> {
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
    Ok(Some(AnswerInputNames {
        files,
        directories: paths("dirs")?,
        variables,
        whole_environment: inputs.is_true("whole_env"),
    }))
}

fn path_dependencies(answer: AnswerMap<'_>, places: &ProjectPaths) -> Result<Vec<PathBuf>, AssembleError> {
    let mut roots = Vec::new();
    for dep in answer.list("deps")? {
        let dep = AnswerMap::from_term("deps", dep)?;
        if let Some(source) = dep.optional("source", path)?
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
fn configured_output(answer: AnswerMap<'_>) -> Result<Option<PathBuf>, AssembleError> {
    if answer.get("distillery").is_some() {
        return answer.map("distillery")?.optional("output_dir", path);
    }
    match answer.list("releases")? {
        [release] => AnswerMap::from_term("release", release)?.optional("path", path),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
