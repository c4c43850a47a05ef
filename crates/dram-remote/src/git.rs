//! A Git repository: resolves a reference to a commit and checks its files out.
//!
//! The order in which references are looked up, and the comparison with the checksum, follow BuildKit.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::child_process::GitProgram;
use crate::{FetchError, NetworkSettings, redacted};

/// A Git source: the repository, and the options of a checkout.
#[derive(Clone, Default)]
pub struct GitSource {
    /// The remote URL, as `git` takes it.
    pub remote: String,
    /// A branch, a tag, a commit id, or a full name under `refs/`; empty means the default branch.
    pub reference: String,
    /// The subdirectory that is used; empty means the whole tree.
    pub subdir: String,
    /// The expected beginning of the id of the commit, or of its annotated tag.
    pub checksum: Option<String>,
    /// Fetches the submodules too.
    pub submodules: bool,
    /// Fetches the commit `checksum`, wherever the reference points.
    pub fetch_by_commit: bool,
    /// Keeps `.git`; never for a subdirectory.
    pub keep_git_dir: bool,
    /// Sets the times of the files to the time of the commit.
    pub commit_times: bool,
}

/// A resolved commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCommit {
    /// The id of the commit, or of the annotated tag that points to it.
    pub id: String,
    /// The full name of the reference; `None` for a commit that was given by its id.
    pub reference: Option<String>,
    /// The id of the commit that the annotated tag points to.
    peeled: Option<String>,
}

impl GitCommit {
    /// Returns the id of the commit itself.
    pub fn peeled(&self) -> &str {
        self.peeled.as_deref().unwrap_or(&self.id)
    }
}

/// A working tree that was checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCheckout {
    /// The directory.
    pub path: PathBuf,
    /// The id of the commit.
    pub commit: String,
}

/// A function that runs `git` in the repository of a checkout.
type GitRunner<'a> = dyn Fn(&'static str, &[&str]) -> Result<String, FetchError> + 'a;

/// A client for one Git repository.
pub struct GitClient<'a> {
    source: &'a GitSource,
    tool: GitProgram<'a>,
    dir: &'a Path,
}

impl<'a> GitClient<'a> {
    /// Prepares to fetch `what` into the empty directory `dir`, an absolute path.
    ///
    /// # Errors
    /// Fails when `git` is not installed, or its configuration cannot be written.
    pub fn new(net: &'a NetworkSettings<'a>, what: &'a GitSource, dir: &'a Path) -> Result<GitClient<'a>, FetchError> {
        Ok(GitClient { source: what, tool: GitProgram::new(net, &what.remote, dir)?, dir })
    }

    /// Resolves the reference to a commit with `git ls-remote`. A commit id needs no request.
    ///
    /// # Errors
    /// Fails when the reference does not exist, or the commit does not match the checksum.
    pub fn resolve_commit(&self) -> Result<GitCommit, FetchError> {
        let what = self.source;
        let expected = what.checksum.as_deref().unwrap_or_default();
        if is_commit_id(&what.reference) {
            let commit = GitCommit { id: what.reference.clone(), reference: None, peeled: None };
            return self.check_commit(commit, expected);
        }
        if what.fetch_by_commit {
            if !is_commit_id(expected) {
                return Err(
                    self.git_error("find the commit of", "to fetch by commit, its whole id is needed as checksum")
                );
            }
            let reference = match what.reference.as_str() {
                "" => None,
                name if name.starts_with("refs/") => Some(name.to_owned()),
                name => Some(format!("refs/heads/{name}")),
            };
            return Ok(GitCommit { id: expected.to_owned(), reference, peeled: None });
        }
        let name = if what.reference.is_empty() { self.default_branch()? } else { what.reference.clone() };
        let peeled = format!("{name}^{{}}");
        let args = ["ls-remote", "--", &what.remote, &name, &peeled];
        let listed = self.run_git("reach", &args)?;
        let commit = select_reference(&listed, &name);
        let commit = commit.ok_or_else(|| FetchError::NoReference { url: self.redacted_url(), reference: name })?;
        self.check_commit(commit, expected)
    }

    fn check_commit(&self, commit: GitCommit, expected: &str) -> Result<GitCommit, FetchError> {
        if commit.id.starts_with(expected) || commit.peeled().starts_with(expected) {
            return Ok(commit);
        }
        let found = commit.peeled().to_owned();
        Err(FetchError::CommitMismatch { url: self.redacted_url(), expected: expected.to_owned(), found })
    }

    fn default_branch(&self) -> Result<String, FetchError> {
        let listed = self.run_git("reach", &["ls-remote", "--symref", "--", &self.source.remote, "HEAD"])?;
        let mut words = listed.split_whitespace();
        let branch = words.find(|word| word.starts_with("refs/heads/") && word.len() > 11);
        let none = || FetchError::NoReference { url: self.redacted_url(), reference: "HEAD".to_owned() };
        branch.map(str::to_owned).ok_or_else(none)
    }

    /// Fetches `commit` and checks its files out.
    ///
    /// # Errors
    /// Fails when the commit cannot be fetched, or the subdirectory does not exist.
    pub fn checkout(&self, commit: &GitCommit) -> Result<GitCheckout, FetchError> {
        let keeps = self.source.keep_git_dir && self.source.subdir.trim_matches('/').is_empty();
        let tree = self.dir.join("tree");
        let git_dir = if keeps { tree.join(".git") } else { self.dir.join("git") };
        self.map_write_error(fs::create_dir(&tree))?;
        let git_dir_text = git_dir.to_string_lossy().into_owned();
        let tree_text = tree.to_string_lossy().into_owned();
        let at = ["-C", &tree_text, "--git-dir", &git_dir_text, "--work-tree", &tree_text];
        let git = |what: &'static str, args: &[&str]| self.run_git(what, &[&at[..], args].concat());
        let format = if commit.id.len() == 64 { "sha256" } else { "sha1" };
        git("prepare for", &["init", "--quiet", "--template=", &format!("--object-format={format}")])?;
        git("prepare for", &["remote", "add", "origin", &self.source.remote])?;
        self.fetch(commit, &git)?;
        git("check out", &["checkout", "--quiet", "--force", "--detach", commit.peeled()])?;
        if self.source.submodules && tree.join(".gitmodules").is_file() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            // Some servers do not support shallow fetches.
            git("fetch the submodules of", &update).or_else(|_| {
                let whole = ["submodule", "--quiet", "update", "--init", "--recursive"];
                git("fetch the submodules of", &whole)
            })?;
        }
        if keeps {
            git("tidy up", &["remote", "set-url", "origin", &self.redacted_url()])?;
            git("tidy up", &["reflog", "expire", "--all", "--expire=now"])?;
            let _ = fs::remove_file(git_dir.join("FETCH_HEAD"));
        }
        let time = match self.source.commit_times {
            true => git("read", &["log", "-1", "--format=%ct", commit.peeled()])?.trim().parse::<u64>().ok(),
            false => None,
        };
        let time = time.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        self.map_write_error(normalise_tree(&tree, keeps, true, time))?;
        if !keeps {
            let _ = fs::remove_dir_all(&git_dir);
        }
        Ok(GitCheckout { path: self.find_subdir(&tree)?, commit: commit.peeled().to_owned() })
    }

    fn fetch(&self, commit: &GitCommit, git: &GitRunner<'_>) -> Result<(), FetchError> {
        let has = || git("read", &["cat-file", "-e", &format!("{}^{{commit}}", commit.id)]).is_ok();
        let by_name = !self.source.fetch_by_commit;
        if let Some(name) = commit.reference.as_deref().filter(|_| by_name) {
            let both = format!("+{name}:{name}");
            let short = git("fetch", &["fetch", "--quiet", "-u", "--depth=1", "--no-tags", "--", "origin", &both]);
            if short.is_err() {
                git("fetch", &["fetch", "--quiet", "-u", "--no-tags", "--", "origin", &both])?;
            }
            if has() {
                return Ok(());
            }
        }
        // The reference moved meanwhile, or there is none. Not every server gives a commit that no reference points to.
        let one = git("fetch", &["fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", &commit.id]);
        if one.is_err() || !has() {
            git("fetch", &["fetch", "--quiet", "-u", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
        }
        if !has() {
            return Err(FetchError::NoReference { url: self.redacted_url(), reference: commit.id.clone() });
        }
        match &commit.reference {
            Some(name) => git("tidy up", &["update-ref", name, &commit.id]).map(drop),
            None => Ok(()),
        }
    }

    /// Returns the subdirectory. Every component must be a real directory, not a symbolic link.
    fn find_subdir(&self, tree: &Path) -> Result<PathBuf, FetchError> {
        let mut at = tree.to_owned();
        for part in self.source.subdir.split('/').filter(|part| !part.is_empty() && *part != ".") {
            at.push(part);
            if part == ".." || part == ".git" || !fs::symlink_metadata(&at).is_ok_and(|status| status.is_dir()) {
                return Err(FetchError::NoSubdir { url: self.redacted_url(), subdir: self.source.subdir.clone() });
            }
        }
        Ok(at)
    }

    fn run_git(&self, what: &'static str, args: &[&str]) -> Result<String, FetchError> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        self.tool.run(what, &args)
    }

    fn map_write_error<T>(&self, result: std::io::Result<T>) -> Result<T, FetchError> {
        result.map_err(|source| FetchError::Write { url: self.redacted_url(), source })
    }

    fn git_error(&self, what: &'static str, why: &str) -> FetchError {
        FetchError::Git { what, url: self.redacted_url(), why: why.to_owned() }
    }

    fn redacted_url(&self) -> String {
        redacted(&self.source.remote)
    }
}

/// Returns whether `text` is a full commit id, SHA-1 or SHA-256.
fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Selects the reference that `name` means from the output of `git ls-remote`: the full name, else a branch, else a
/// tag.
fn select_reference(listed: &str, name: &str) -> Option<GitCommit> {
    let whole = |prefix: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
    let find = |wanted: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(id, reference)| *reference == wanted && is_commit_id(id)).map(|(id, _)| id.to_owned())
    };
    for wanted in [whole("refs/"), whole("refs/heads/")] {
        if let Some(id) = find(&wanted) {
            let peeled = find(&format!("{wanted}^{{}}"));
            return Some(GitCommit { id, reference: Some(wanted), peeled });
        }
    }
    let tag = whole("refs/tags/");
    let id = find(&tag)?;
    let peeled = find(&format!("{tag}^{{}}"));
    Some(GitCommit { id, reference: Some(tag), peeled })
}

/// Sets modes that do not depend on this process's umask, and times. Removes the `.git` files of submodules, which name
/// directories of this machine.
fn normalise_tree(dir: &Path, keeps: bool, is_top: bool, time: Option<SystemTime>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if entry.file_name() == ".git" && keeps {
            continue;
        }
        if entry.file_name() == ".git" && !is_top && kind.is_file() {
            fs::remove_file(&path)?;
        } else if kind.is_dir() {
            normalise_tree(&path, keeps, false, time)?;
        } else if kind.is_file() {
            let runs = entry.metadata()?.permissions().mode() & 0o100 != 0;
            fs::set_permissions(&path, fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
            set_times(&path, time)?;
        }
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    set_times(dir, time)
}

fn set_times(path: &Path, time: Option<SystemTime>) -> std::io::Result<()> {
    match time {
        Some(time) => File::open(path)?.set_times(FileTimes::new().set_modified(time).set_accessed(time)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_is_preferred_to_tag_of_the_same_name() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let listed = format!(
            "{a}\trefs/heads/x\n{b}\trefs/tags/x\n{c}\trefs/tags/x^{{}}\n{b}\trefs/tags/y\n{c}\trefs/tags/y^{{}}\nno\trefs/heads/z\n"
        );
        let found = |name: &str| {
            select_reference(&listed, name)
                .map(|commit| (commit.id.clone(), commit.peeled().to_owned(), commit.reference))
        };
        let of = |id: &String, peeled: &String, name: &str| Some((id.clone(), peeled.clone(), Some(name.to_owned())));
        assert_eq!(found("x"), of(&a, &a, "refs/heads/x"));
        assert_eq!(found("heads/x"), of(&a, &a, "refs/heads/x"));
        assert_eq!(found("refs/tags/x"), of(&b, &c, "refs/tags/x"));
        assert_eq!(found("y"), of(&b, &c, "refs/tags/y"));
        assert_eq!(found("z"), None);
        assert_eq!(found("w"), None);
    }
}
