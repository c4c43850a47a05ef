//! The options in the query of a repository address.

use super::url::query_pairs;
use super::{GitRef, RemoteSourceError};
use crate::option_value::parse_go_bool;
use crate::suggest::nearest_name;

const KNOWN_OPTIONS: [&str; 10] =
    ["ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules", "mtime", "fetch-by-commit"];

/// Parses `query` and applies it to `into`.
pub(super) fn apply_query(into: &mut GitRef, query: &str) -> Result<(), RemoteSourceError> {
    let mut seen: Vec<String> = Vec::new();
    let (mut tag, mut branch) = (None, None);
    for (name, value) in query_pairs(query).into_iter().flatten() {
        if seen.contains(&name) {
            return Err(RemoteSourceError::new(
                format!("the query has `{name}` twice"),
                format!("write `{name}=` once"),
            ));
        }
        match (name.as_str(), value.as_str()) {
            ("keep-git-dir", _) => into.keep_git_dir = Some(parse_switch(&name, &value)?),
            ("submodules", _) => into.submodules = Some(parse_switch(&name, &value)?),
            ("fetch-by-commit", _) => into.fetch_by_commit = parse_switch(&name, &value)?,
            (known, "") if KNOWN_OPTIONS.contains(&known) => {
                let message = format!("`{name}` in the query has no value");
                return Err(RemoteSourceError::new(message, format!("write `{name}=VALUE`, or leave it out")));
            }
            ("ref", _) => set_consistently(&mut into.reference, value.clone(), "ref")?,
            ("subdir", _) => set_consistently(&mut into.subdir, value.clone(), "subdir")?,
            ("tag", _) => tag = Some(with_prefix("refs/tags/", &value)),
            ("branch", _) => branch = Some(with_prefix("refs/heads/", &value)),
            ("checksum" | "commit", _) => {
                let mut before = into.checksum.take().unwrap_or_default();
                set_consistently(&mut before, value.clone(), "checksum")?;
                into.checksum = Some(before);
            }
            ("mtime", "commit") => into.commit_times = Some(true),
            ("mtime", "checkout") => into.commit_times = Some(false),
            ("mtime", _) => {
                let message = format!("`{value}` is not a time that files can have");
                return Err(RemoteSourceError::new(message, "write `mtime=checkout` or `mtime=commit`"));
            }
            (_, _) => return Err(unknown_option(&name)),
        }
        seen.push(name);
    }
    match (tag, branch) {
        (Some(_), Some(_)) => {
            Err(RemoteSourceError::new("the query has both `tag` and `branch`", "write the one that is meant"))
        }
        (Some(name), None) | (None, Some(name)) => set_consistently(&mut into.reference, name, "ref"),
        (None, None) => Ok(()),
    }
}

fn unknown_option(name: &str) -> RemoteSourceError {
    let help = match nearest_name(name, KNOWN_OPTIONS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", KNOWN_OPTIONS.join(", ")),
    };
    RemoteSourceError::new(format!("`{}` in the query is not known", name.escape_debug()), help)
}

/// Sets an option; two different values are an error.
fn set_consistently(place: &mut String, value: String, what: &str) -> Result<(), RemoteSourceError> {
    if !place.is_empty() && *place != value {
        let message = format!("the address says both `{place}` and `{value}` for `{what}`");
        return Err(RemoteSourceError::new(message, "say it once: after `#`, or in the query"));
    }
    *place = value;
    Ok(())
}

fn with_prefix(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Parses a switch as Go's `strconv.ParseBool`; without a value it is on.
fn parse_switch(name: &str, value: &str) -> Result<bool, RemoteSourceError> {
    let value = if value.is_empty() { "true" } else { value };
    parse_go_bool(value).ok_or_else(|| {
        let message = format!("`{name}={value}` is neither true nor false");
        RemoteSourceError::new(message, format!("write `{name}=true` or `{name}=false`"))
    })
}
