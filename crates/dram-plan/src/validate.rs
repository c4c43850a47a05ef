//! Checks a plan: references point backwards, paths are absolute and clean, values can be executed.

use crate::{
    CacheMount, CopyOp, CopySource, CopySourceKind, GitRef, HeredocScript, InputRef, MountedFile, Plan, PlanStage,
    PlanStep, RunMount, RunOp, StageBase, StepOp, StepOrigin, WorkdirOp,
};
use dram_image::Digest;

/// The maximum number of stages, and of steps in all stages together.
pub const MAX_PLAN_STEPS: usize = 200_000;

/// The error for a plan that cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct PlanError {
    /// The place in the plan, such as ``stage `builder`, step 2 (`RUN make`)``.
    pub place: String,
    /// The problem.
    pub problem: String,
}

/// The problem of one value; the place is added by the callers.
type CheckResult = Result<(), String>;

impl Plan {
    /// Checks that the plan can be executed.
    ///
    /// # Errors
    /// Returns the first problem and its place.
    pub fn validate(&self) -> Result<(), PlanError> {
        let wrong = |problem: String| PlanError { place: "the plan".to_owned(), problem };
        if self.target >= self.stages.len() {
            let count = self.stages.len();
            return Err(wrong(format!("the target is stage {}, and the number of stages is {count}", self.target)));
        }
        let steps = self.stages.iter().map(|stage| stage.steps.len()).fold(self.stages.len(), usize::saturating_add);
        if steps > MAX_PLAN_STEPS {
            return Err(wrong(format!("there are more than {MAX_PLAN_STEPS} stages and steps")));
        }
        for (at, stage) in self.stages.iter().enumerate() {
            let place = || format!("stage {at} (`{}`)", shorten(&stage.name));
            check_stage(stage, at).map_err(|problem| PlanError { place: place(), problem })?;
            for (number, step) in stage.steps.iter().enumerate() {
                check_step(step, at).map_err(|problem| {
                    let place = format!("{}, step {} (`{}`)", place(), number + 1, shorten(&step.text));
                    PlanError { place, problem }
                })?;
            }
        }
        Ok(())
    }
}

fn check_stage(stage: &PlanStage, at: usize) -> CheckResult {
    match &stage.base {
        StageBase::Scratch => {}
        StageBase::External(key) => check_text("the name of the base image", key)?,
        StageBase::Stage(base) => check_earlier_stage(*base, at)?,
    }
    if !stage.config.rootfs.diff_ids.is_empty() {
        return Err("the config of a plan has no diff IDs: they are known after the build".to_owned());
    }
    Ok(())
}

fn check_step(step: &PlanStep, stage: usize) -> CheckResult {
    match &step.origin {
        StepOrigin::Dockerfile(place) => {
            let parts = place.parts.iter().map(|(_, span)| span);
            if std::iter::once(&place.span).chain(parts).any(|span| span.start > span.end) {
                return Err("a byte range ends before it starts".to_owned());
            }
        }
        StepOrigin::Generated { .. } => {}
    }
    match &step.op {
        StepOp::Run(run) => check_run(run)?,
        StepOp::Copy(copy) => check_copy(copy)?,
        StepOp::Workdir(WorkdirOp { path, user }) => {
            check_path("the directory", path)?;
            check_no_nul("the user", user)?;
        }
        StepOp::ConfigOnly => {}
    }
    for input in step.op.input_refs() {
        match input {
            InputRef::Stage(from) => check_earlier_stage(*from, stage)?,
            InputRef::External(key) => check_text("the name of an image", key)?,
            InputRef::Context | InputRef::Scratch => {}
        }
    }
    Ok(())
}

fn check_run(run: &RunOp) -> CheckResult {
    let RunOp { argv, env, cwd, user, from_args: _, hidden_env, mounts, scripts, network: _, insecure: _ } = run;
    if argv.is_empty() {
        return Err("the command is empty".to_owned());
    }
    argv.iter().try_for_each(|word| check_no_nul("a word of the command", word))?;
    for (name, value) in env.iter().chain(hidden_env) {
        if name.is_empty() || name.contains('=') {
            return Err(format!("`{}` is not the name of a variable", shorten(name)));
        }
        check_no_nul("the name of a variable", name)?;
        check_no_nul("the value of a variable", value)?;
    }
    check_path("the working directory", cwd)?;
    check_no_nul("the user", user)?;
    for HeredocScript { path, contents: _ } in scripts {
        check_path("the path of a script", path)?;
        if !path.starts_with("/dev/pipes/") {
            return Err(format!("the path `{}` of a script is not below `/dev/pipes`", shorten(path)));
        }
    }
    mounts.iter().try_for_each(check_mount)
}

fn check_mount(mount: &RunMount) -> CheckResult {
    match mount {
        RunMount::Bind { target, from: _, source, writable: _ } => {
            check_target(target)?;
            check_path("the source of a mount", source)
        }
        RunMount::Cache(CacheMount { target, id, sharing: _, read_only: _, seed, mode, uid: _, gid: _ }) => {
            check_target(target)?;
            check_no_nul("the id of a cache", id)?;
            check_mode(*mode)?;
            seed.as_ref().map_or(Ok(()), |(_, path)| check_path("the initial directory of a cache", path))
        }
        RunMount::Secret { id, file, env, required: _ } => {
            check_text("the id of a secret", id)?;
            env.as_ref().map_or(Ok(()), |name| check_text("the variable of a secret", name))?;
            file.as_ref().map_or(Ok(()), check_file)
        }
        RunMount::Ssh { id, file, required: _ } => {
            check_text("the id of an ssh agent", id)?;
            check_file(file)
        }
        RunMount::Tmpfs { target, size: _ } => check_target(target),
    }
}

fn check_file(file: &MountedFile) -> CheckResult {
    check_target(&file.target)?;
    check_mode(file.mode)
}

fn check_mode(mode: u32) -> CheckResult {
    if mode > 0o7777 { Err(format!("{mode:o} is not a mode")) } else { Ok(()) }
}

fn check_target(path: &str) -> CheckResult {
    check_path("the target of a mount", path)?;
    if path == "/" { Err("a mount cannot replace the root".to_owned()) } else { Ok(()) }
}

fn check_copy(copy: &CopyOp) -> CheckResult {
    let CopyOp { sources, dest, chown, exclude, checksum, .. } = copy;
    if sources.is_empty() {
        return Err("a copy needs a source".to_owned());
    }
    check_path("the destination", dest.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(dest))?;
    chown.as_ref().map_or(Ok(()), |owner| check_text("the owner", owner))?;
    exclude.iter().try_for_each(|pattern| check_no_nul("a pattern", pattern))?;
    for CopySource { text, kind } in sources {
        check_no_nul("a source", text)?;
        match kind {
            CopySourceKind::Path => {}
            CopySourceKind::Inline(_) => check_file_name(text)?,
            CopySourceKind::Url => {
                if !(text.starts_with("https://") || text.starts_with("http://")) {
                    return Err(format!("`{}` is not the URL of a file", shorten(text)));
                }
                if let Some(checksum) = checksum.as_deref().filter(|text| text.parse::<Digest>().is_err()) {
                    return Err(format!("`{}` is not the checksum of a file", shorten(checksum)));
                }
            }
            CopySourceKind::Git(git) => check_git_ref(git)?,
        }
    }
    Ok(())
}

fn check_file_name(name: &str) -> CheckResult {
    let wrong = name.is_empty() || name == "." || name == ".." || name.contains('/');
    if wrong { Err(format!("`{}` is not the name of a file", shorten(name))) } else { Ok(()) }
}

/// Accepts the forms of addresses that a Dockerfile can have. `git` would take others as options or run a program.
fn check_git_ref(git: &GitRef) -> CheckResult {
    let GitRef { remote, reference, subdir, checksum, .. } = git;
    let is_url = ["https://", "http://", "ssh://", "git://"].iter().any(|scheme| remote.starts_with(scheme));
    let is_scp = remote.split_once(':').is_some_and(|(host, path)| {
        host.contains('@') && !host.contains('/') && !path.is_empty() && !path.starts_with(':')
    });
    let is_option = |text: &str| text.starts_with('-');
    if !(is_url || is_scp) || is_option(remote) || remote.chars().any(char::is_control) {
        return Err(format!("`{}` is not the address of a repository", shorten(remote)));
    }
    if is_option(reference) || reference.chars().any(char::is_control) {
        return Err(format!("`{}` is not a branch, tag or commit", shorten(reference)));
    }
    check_no_nul("a directory of a repository", subdir)?;
    let hex = |id: &String| !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match checksum.as_ref().filter(|id| !hex(id)) {
        Some(id) => Err(format!("`{}` is not the id of a commit", shorten(id))),
        None => Ok(()),
    }
}

fn check_earlier_stage(reference: usize, at: usize) -> CheckResult {
    if reference < at { Ok(()) } else { Err(format!("it needs stage {reference}, which is not an earlier one")) }
}

fn check_path(what: &str, path: &str) -> CheckResult {
    check_no_nul(what, path)?;
    let mut parts = path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'));
    let is_clean = path == "/" || parts.all(|part| !matches!(part, "" | "." | ".."));
    if path.starts_with('/') && is_clean {
        return Ok(());
    }
    Err(format!("{what}, `{}`, is not absolute and clean; write it as in `/usr/local`", shorten(path)))
}

fn check_text(what: &str, text: &str) -> CheckResult {
    check_no_nul(what, text)?;
    if text.is_empty() { Err(format!("{what} is empty")) } else { Ok(()) }
}

fn check_no_nul(what: &str, text: &str) -> CheckResult {
    if text.contains('\0') { Err(format!("{what} has a NUL character")) } else { Ok(()) }
}

/// Shortens a value for a message and escapes its control characters.
fn shorten(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
