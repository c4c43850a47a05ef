//! Classifies the remote sources of `ADD` and build contexts, by BuildKit's rules.
//!
//! A Git repository is a URL (`https://host/repo.git`, `ssh://`, `git://`) or has the scp form (`user@host:path`). A
//! fragment `#ref:subdir` or a query `?ref=…&subdir=…` selects a part of it. Any other URL is that of a file.

mod query;
mod url;

use std::fmt;

use dram_plan::GitRef;

use url::{UrlParts, percent_decode};

/// A remote source: a file or a Git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteSource {
    /// A file at a URL.
    Url {
        /// The URL, as written.
        url: String,
        /// The name of the downloaded file: the last part of the path of the URL.
        file_name: String,
    },
    /// A Git repository.
    Git(GitRef),
}

/// The error for an invalid address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSourceError {
    /// The problem.
    pub message: String,
    /// A suggestion.
    pub help: String,
}

impl RemoteSourceError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> RemoteSourceError {
        RemoteSourceError { message: message.into(), help: help.into() }
    }
}

impl fmt::Display for RemoteSourceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for RemoteSourceError {}

/// Classifies the source `text` of an `ADD`; `None` when it is a path.
///
/// # Errors
/// [`RemoteSourceError`] when `text` is an invalid URL, or the address of a repository with invalid options.
pub fn classify(text: &str) -> Result<Option<RemoteSource>, RemoteSourceError> {
    if text.starts_with("./") || text.starts_with("../") {
        return Ok(None);
    }
    if let Some(scheme) = UrlScheme::parse(text) {
        // An invalid URL can be neither the address of a repository nor that of a file.
        let Some(parts) = UrlParts::parse(text) else { return invalid_url_error(text, scheme) };
        return match scheme {
            UrlScheme::Git | UrlScheme::Ssh => git_source(&parts, scheme).map(Some),
            UrlScheme::Http | UrlScheme::Https if percent_decode(parts.path).ends_with(b".git") => {
                git_source(&parts, scheme).map(Some)
            }
            UrlScheme::Http | UrlScheme::Https => {
                // BuildKit recognises file URLs only with a lower-case scheme.
                let known = text.starts_with("http://") || text.starts_with("https://");
                Ok(known.then(|| RemoteSource::Url { url: text.to_owned(), file_name: file_name(parts.path) }))
            }
        };
    }
    match url::split_scp(text) {
        Some((remote, query, fragment)) => {
            let reference = GitRef { remote: remote.to_owned(), ..GitRef::default() };
            apply_options(reference, query.unwrap_or_default(), fragment.unwrap_or_default())
                .map(|git| Some(RemoteSource::Git(git)))
        }
        None => Ok(None),
    }
}

/// Classifies a build context, for which `github.com/…` is a repository too.
///
/// # Errors
/// See [`classify`].
pub fn classify_context(text: &str) -> Result<Option<RemoteSource>, RemoteSourceError> {
    if !text.starts_with("github.com/") {
        return classify(text);
    }
    let url = format!("https://{text}");
    match UrlParts::parse(&url) {
        Some(parts) => git_source(&parts, UrlScheme::Https).map(Some),
        None => Ok(None),
    }
}

/// Returns `url` for display, with user name and password replaced.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        // The same placeholders as in BuildKit.
        Some(at) => match rest[..at].contains(':') {
            true => format!("{scheme}://xxxxx:xxxxx@{}", &rest[at + 1..]),
            false => format!("{scheme}://xxxxx@{}", &rest[at + 1..]),
        },
        None => url.to_owned(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrlScheme {
    Http,
    Https,
    Ssh,
    Git,
}

impl UrlScheme {
    fn parse(text: &str) -> Option<UrlScheme> {
        let (scheme, _) = text.split_once("://")?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => Some(UrlScheme::Http),
            "https" => Some(UrlScheme::Https),
            "ssh" => Some(UrlScheme::Ssh),
            "git" => Some(UrlScheme::Git),
            _ => None,
        }
    }
}

fn invalid_url_error(text: &str, scheme: UrlScheme) -> Result<Option<RemoteSource>, RemoteSourceError> {
    let what = match scheme {
        UrlScheme::Http | UrlScheme::Https => "URL",
        UrlScheme::Ssh | UrlScheme::Git => "address of a Git repository",
    };
    let text: String = redacted(text).escape_debug().collect();
    Err(RemoteSourceError::new(format!("`{text}` is not a valid {what}"), "write a `%` as `%25`, and a space as `%20`"))
}

fn git_source(parts: &UrlParts<'_>, scheme: UrlScheme) -> Result<RemoteSource, RemoteSourceError> {
    let host = parts.authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with('-') {
        let url = redacted(&parts.without_options());
        return Err(RemoteSourceError::new(format!("`{url}` names no host"), "write `https://HOST/REPOSITORY.git`"));
    }
    let reference = GitRef {
        remote: parts.without_options(),
        is_unencrypted: matches!(scheme, UrlScheme::Http | UrlScheme::Git),
        ..GitRef::default()
    };
    let fragment = percent_decode(parts.fragment.unwrap_or_default());
    let fragment = String::from_utf8_lossy(&fragment);
    apply_options(reference, parts.query.unwrap_or_default(), &fragment).map(RemoteSource::Git)
}

/// Applies the query and the fragment of the address to `reference`.
fn apply_options(mut reference: GitRef, query: &str, fragment: &str) -> Result<GitRef, RemoteSourceError> {
    let last = reference.remote.rsplit('/').next().unwrap_or_default();
    reference.short_name = last.strip_suffix(".git").unwrap_or(last).to_owned();
    let (name, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    reference.reference = name.to_owned();
    reference.subdir = crate::paths::absolute("/", subdir).trim_start_matches('/').to_owned();
    query::apply_query(&mut reference, query)?;
    // `git` would parse them as options.
    if reference.reference.starts_with('-') || reference.remote.starts_with('-') {
        let what = if reference.remote.starts_with('-') { &reference.remote } else { &reference.reference };
        return Err(RemoteSourceError::new(format!("`{what}` begins with a `-`"), "name a branch, a tag or a commit"));
    }
    if let Some(sum) = &reference.checksum
        && !sum.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        let message = format!("`{sum}` is not the beginning of a commit's id");
        return Err(RemoteSourceError::new(message, "write the hexadecimal id, as `git rev-parse` shows it"));
    }
    Ok(reference)
}

/// Returns the name of a file downloaded from the URL path `path`, as BuildKit chooses it.
fn file_name(path: &str) -> String {
    let path = percent_decode(path);
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
