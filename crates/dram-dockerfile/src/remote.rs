//! What on the network a source of `ADD` or a build context names: BuildKit's rules.
//!
//! A repository is named by a URL (`https://host/repo.git`, `ssh://`, `git://`) or as ssh does (`user@host:path`). A
//! fragment `#ref:subdir` or a query `?ref=…&subdir=…` says what of it. Any other URL is a file's.

mod query;
mod url;

use std::fmt;

use url::{Parts, decode};

/// Something on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file.
    Url {
        /// Its address, as written.
        url: String,
        /// What it is called where it arrives: the last part of the address's path.
        file_name: String,
    },
    /// A repository.
    Git(GitRef),
}

/// What of a Git repository is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GitRef {
    /// Where the repository is, without query and fragment: for the program `git`.
    pub remote: String,
    /// The repository's name: the last part of the address without `.git`.
    pub short_name: String,
    /// A branch, tag or commit, or what begins with `refs/`; empty means the default branch.
    pub reference: String,
    /// The directory in it that is taken; empty means all of it.
    pub subdir: String,
    /// What the id of the commit begins with, or that of its tag.
    pub checksum: Option<String>,
    /// Whether `.git` stays, where the address says so.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched, where the address says so; else they are.
    pub submodules: Option<bool>,
    /// Whether files have the time of their commit, where the address says so. Counts for build contexts alone.
    pub commit_times: Option<bool>,
    /// The commit is `checksum`, whatever the repository says the reference is.
    pub fetch_by_commit: bool,
    /// Nobody between here and there is kept from changing what arrives: `http://` and `git://`.
    pub is_unencrypted: bool,
}

/// Why the address of a repository cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongRemote {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl WrongRemote {
    fn new(message: impl Into<String>, help: impl Into<String>) -> WrongRemote {
        WrongRemote { message: message.into(), help: help.into() }
    }
}

impl fmt::Display for WrongRemote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for WrongRemote {}

/// What on the network the source `text` of an `ADD` names; `None` when it is a path.
///
/// # Errors
/// When `text` is the address of a repository and says something about it that cannot be.
pub fn classify(text: &str) -> Result<Option<Remote>, WrongRemote> {
    if text.starts_with("./") || text.starts_with("../") {
        return Ok(None);
    }
    if let Some(scheme) = Scheme::of(text) {
        // What is no URL cannot be a repository's address, and is none that a file could come from.
        let Some(parts) = Parts::parse(text) else { return unreadable(text, scheme) };
        return match scheme {
            Scheme::Git | Scheme::Ssh => git(&parts, scheme).map(Some),
            Scheme::Http | Scheme::Https if decode(parts.path).ends_with(b".git") => git(&parts, scheme).map(Some),
            Scheme::Http | Scheme::Https => {
                // BuildKit knows files by a scheme in small letters only.
                let known = text.starts_with("http://") || text.starts_with("https://");
                Ok(known.then(|| Remote::Url { url: text.to_owned(), file_name: file_name(parts.path) }))
            }
        };
    }
    match url::scp(text) {
        Some((remote, query, fragment)) => {
            let reference = GitRef { remote: remote.to_owned(), ..GitRef::default() };
            whole(reference, query.unwrap_or_default(), fragment.unwrap_or_default()).map(|git| Some(Remote::Git(git)))
        }
        None => Ok(None),
    }
}

/// The same for a build context, where `github.com/…` is a repository too.
///
/// # Errors
/// See [`classify`].
pub fn classify_context(text: &str) -> Result<Option<Remote>, WrongRemote> {
    if !text.starts_with("github.com/") {
        return classify(text);
    }
    let url = format!("https://{text}");
    match Parts::parse(&url) {
        Some(parts) => git(&parts, Scheme::Https).map(Some),
        None => Ok(None),
    }
}

/// `url` for people: without a password, and without a user's name where there is one.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        // As BuildKit shows it.
        Some(at) => match rest[..at].contains(':') {
            true => format!("{scheme}://xxxxx:xxxxx@{}", &rest[at + 1..]),
            false => format!("{scheme}://xxxxx@{}", &rest[at + 1..]),
        },
        None => url.to_owned(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Ssh,
    Git,
}

impl Scheme {
    fn of(text: &str) -> Option<Scheme> {
        let (scheme, _) = text.split_once("://")?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            "ssh" => Some(Scheme::Ssh),
            "git" => Some(Scheme::Git),
            _ => None,
        }
    }
}

fn unreadable(text: &str, scheme: Scheme) -> Result<Option<Remote>, WrongRemote> {
    let what = match scheme {
        Scheme::Http | Scheme::Https => "URL",
        Scheme::Ssh | Scheme::Git => "address of a Git repository",
    };
    let text: String = redacted(text).escape_debug().collect();
    Err(WrongRemote::new(format!("`{text}` is not a valid {what}"), "write a `%` as `%25`, and a space as `%20`"))
}

fn git(parts: &Parts<'_>, scheme: Scheme) -> Result<Remote, WrongRemote> {
    let host = parts.authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with('-') {
        let url = redacted(&parts.without_options());
        return Err(WrongRemote::new(format!("`{url}` names no host"), "write `https://HOST/REPOSITORY.git`"));
    }
    let reference = GitRef {
        remote: parts.without_options(),
        is_unencrypted: matches!(scheme, Scheme::Http | Scheme::Git),
        ..GitRef::default()
    };
    let fragment = decode(parts.fragment.unwrap_or_default());
    let fragment = String::from_utf8_lossy(&fragment);
    whole(reference, parts.query.unwrap_or_default(), &fragment).map(Remote::Git)
}

/// `reference` with what the query and the fragment of its address say.
fn whole(mut reference: GitRef, query: &str, fragment: &str) -> Result<GitRef, WrongRemote> {
    let last = reference.remote.rsplit('/').next().unwrap_or_default();
    reference.short_name = last.strip_suffix(".git").unwrap_or(last).to_owned();
    let (name, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    reference.reference = name.to_owned();
    reference.subdir = crate::paths::absolute("/", subdir).trim_start_matches('/').to_owned();
    query::load(&mut reference, query)?;
    // `git` would take them for options.
    if reference.reference.starts_with('-') || reference.remote.starts_with('-') {
        let what = if reference.remote.starts_with('-') { &reference.remote } else { &reference.reference };
        return Err(WrongRemote::new(format!("`{what}` begins with a `-`"), "name a branch, a tag or a commit"));
    }
    if let Some(sum) = &reference.checksum
        && !sum.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        let message = format!("`{sum}` is not the beginning of a commit's id");
        return Err(WrongRemote::new(message, "write the hexadecimal id, as `git rev-parse` shows it"));
    }
    Ok(reference)
}

/// What a file is called that lies at `path`, as BuildKit does.
fn file_name(path: &str) -> String {
    let path = decode(path);
    let path = String::from_utf8_lossy(&path);
    let base = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if base.is_empty() || base == "." {
        return "__unnamed__".to_owned();
    }
    let name = base.trim();
    if name.is_empty() || name == ".." || name.chars().any(char::is_control) {
        return "download".to_owned();
    }
    name.to_owned()
}

#[cfg(test)]
mod tests;
