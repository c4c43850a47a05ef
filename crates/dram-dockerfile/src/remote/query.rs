//! The options in the query of a repository address.

use super::url::pairs;
use super::{GitRef, WrongRemote};
use crate::nearest::nearest;

const KNOWN: [&str; 10] =
    ["ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules", "mtime", "fetch-by-commit"];

/// Parses `query` and applies it to `into`.
pub(super) fn load(into: &mut GitRef, query: &str) -> Result<(), WrongRemote> {
    let mut seen: Vec<String> = Vec::new();
    let (mut tag, mut branch) = (None, None);
    for (name, value) in pairs(query).into_iter().flatten() {
        if seen.contains(&name) {
            return Err(WrongRemote::new(format!("the query has `{name}` twice"), format!("write `{name}=` once")));
        }
        match (name.as_str(), value.as_str()) {
            ("keep-git-dir", _) => into.keep_git_dir = Some(flag(&name, &value)?),
            ("submodules", _) => into.submodules = Some(flag(&name, &value)?),
            ("fetch-by-commit", _) => into.fetch_by_commit = flag(&name, &value)?,
            (known, "") if KNOWN.contains(&known) => {
                let message = format!("`{name}` in the query has no value");
                return Err(WrongRemote::new(message, format!("write `{name}=VALUE`, or leave it out")));
            }
            ("ref", _) => same(&mut into.reference, value.clone(), "ref")?,
            ("subdir", _) => same(&mut into.subdir, value.clone(), "subdir")?,
            ("tag", _) => tag = Some(below("refs/tags/", &value)),
            ("branch", _) => branch = Some(below("refs/heads/", &value)),
            ("checksum" | "commit", _) => {
                let mut before = into.checksum.take().unwrap_or_default();
                same(&mut before, value.clone(), "checksum")?;
                into.checksum = Some(before);
            }
            ("mtime", "commit") => into.commit_times = Some(true),
            ("mtime", "checkout") => into.commit_times = Some(false),
            ("mtime", _) => {
                let message = format!("`{value}` is not a time that files can have");
                return Err(WrongRemote::new(message, "write `mtime=checkout` or `mtime=commit`"));
            }
            (_, _) => return Err(unknown(&name)),
        }
        seen.push(name);
    }
    match (tag, branch) {
        (Some(_), Some(_)) => {
            Err(WrongRemote::new("the query has both `tag` and `branch`", "write the one that is meant"))
        }
        (Some(name), None) | (None, Some(name)) => same(&mut into.reference, name, "ref"),
        (None, None) => Ok(()),
    }
}

fn unknown(name: &str) -> WrongRemote {
    let help = match nearest(name, KNOWN) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", KNOWN.join(", ")),
    };
    WrongRemote::new(format!("`{}` in the query is not known", name.escape_debug()), help)
}

/// Sets an option; two different values are an error.
fn same(place: &mut String, value: String, what: &str) -> Result<(), WrongRemote> {
    if !place.is_empty() && *place != value {
        let message = format!("the address says both `{place}` and `{value}` for `{what}`");
        return Err(WrongRemote::new(message, "say it once: after `#`, or in the query"));
    }
    *place = value;
    Ok(())
}

fn below(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Parses a switch as Go's `strconv.ParseBool`; without a value it is on.
fn flag(name: &str, value: &str) -> Result<bool, WrongRemote> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            let message = format!("`{name}={value}` is neither true nor false");
            Err(WrongRemote::new(message, format!("write `{name}=true` or `{name}=false`")))
        }
    }
}
