//! The time of the commit in a work tree of this machine.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::child_process::{self, LocalGitError};

/// The reasons why a directory has no time of a commit.
#[derive(Debug, thiserror::Error)]
pub enum WorkTreeError {
    /// The program `git` is not installed.
    #[error("`git` is not installed")]
    GitMissing,
    /// `git` failed: the directory is in no work tree, belongs to somebody else, or there is no commit.
    #[error("git: {0}")]
    Git(String),
    /// Files differ from the commit.
    #[error("files of its work tree differ from the commit, as `{0}`")]
    Changed(String),
    /// The directory is ignored, so that the commit says nothing of it.
    #[error("git ignores the directory")]
    Ignored,
    /// It was cancelled.
    #[error("interrupted")]
    Cancelled,
}

impl From<LocalGitError> for WorkTreeError {
    fn from(error: LocalGitError) -> WorkTreeError {
        match error {
            LocalGitError::Missing => WorkTreeError::GitMissing,
            LocalGitError::Failed(why) => WorkTreeError::Git(why),
            LocalGitError::Cancelled => WorkTreeError::Cancelled,
        }
    }
}

/// Returns the committer time of the commit that the work tree with the directory `dir` has checked out, in seconds since
/// 1970. `git` is looked for in `search_path`. Files that git ignores may differ, and those at and below the absolute paths
/// `outputs`.
///
/// # Errors
/// Fails when a file of the work tree is changed or not committed, and as [`WorkTreeError`] says.
pub fn work_tree_commit_time(
    search_path: &OsStr,
    dir: &Path,
    outputs: &[PathBuf],
    is_cancelled: &dyn Fn() -> bool,
) -> Result<i64, WorkTreeError> {
    let git = |args: &[&str]| {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        child_process::run_local_git(search_path, dir, &args, is_cancelled)
    };
    let mut status: Vec<OsString> = ["status", "--porcelain", "--untracked-files=normal"].map(OsString::from).into();
    if !outputs.is_empty() {
        // A directory that is not tracked is otherwise reported as a whole, with the outputs in it.
        status = ["status", "--porcelain", "--untracked-files=all", "--", ":(top)"].map(OsString::from).into();
        let top = git(&["rev-parse", "--show-toplevel"])?;
        status
            .extend(outputs.iter().filter_map(|output| exclude_output(Path::new(top.trim_end_matches('\n')), output)));
    }
    let changed = child_process::run_local_git(search_path, dir, &status, is_cancelled)?;
    if let Some(line) = changed.lines().next() {
        return Err(WorkTreeError::Changed(line.get(3..).unwrap_or(line).escape_debug().to_string()));
    }
    // It prints the path if it is ignored, and fails if it is not.
    match git(&["check-ignore", "--", "."]) {
        Ok(_) => return Err(WorkTreeError::Ignored),
        Err(LocalGitError::Failed(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let time = git(&["log", "-1", "--no-show-signature", "--format=%ct"])?;
    time.trim()
        .parse()
        .map_err(|_| WorkTreeError::Git(format!("the time `{}` is no number", time.trim().escape_debug())))
}

/// Returns the path specification that excludes `output` from the work tree at `top`; `None` if it is not in it.
fn exclude_output(top: &Path, output: &Path) -> Option<OsString> {
    let (above, name) = (output.parent()?, output.file_name()?);
    // Directories that are yet to be made are in no link.
    let real =
        above.ancestors().find_map(|dir| Some(fs::canonicalize(dir).ok()?.join(above.strip_prefix(dir).ok()?)))?;
    let mut specification = OsString::from(":(top,exclude,literal)");
    specification.push(real.join(name).strip_prefix(top).ok().filter(|path| !path.as_os_str().is_empty())?);
    Some(specification)
}
