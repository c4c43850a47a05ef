//! Overlays of rebar3 and Distillery: sources and targets.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dram_image::TreePath;

use crate::AssembleError;
use crate::tree::{FILE_MODE, restricted_mode};

/// The target of an overlay.
#[derive(Debug, Clone)]
pub(crate) struct OverlayTarget {
    /// The path in the release.
    pub(crate) at: TreePath,
    /// True if it was written with a slash at the end.
    pub(crate) is_directory: bool,
}

impl OverlayTarget {
    /// Parses the target `text` of a release whose configured destination is `output`.
    ///
    /// # Errors
    /// Fails if the target is outside of the release.
    pub(crate) fn parse(text: &Path, output: &Path) -> Result<OverlayTarget, AssembleError> {
        let outside = || AssembleError::Project {
            file: None,
            line: None,
            message: format!("an overlay goes to `{}`, which is not in the release", text.display()),
        };
        let below = match (text.strip_prefix(output), text.is_absolute()) {
            (Ok(below), _) => below,
            (Err(_), true) => return Err(outside()),
            (Err(_), false) => text,
        };
        let at = TreePath::parse(below.as_os_str().as_bytes()).map_err(|_| outside())?;
        Ok(OverlayTarget { at, is_directory: text.as_os_str().as_bytes().ends_with(b"/") })
    }
}

/// Returns the permission bits of the file that is made from the template `path`.
pub(crate) fn template_mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(FILE_MODE, |status| restricted_mode(status.permissions().mode()))
}

/// Returns the files that match `pattern`, sorted. `*` and `?` work as in Erlang's `filelib:wildcard`; without them it
/// is the file itself, if it exists.
///
/// # Errors
/// Fails if the pattern contains other wildcards.
pub(crate) fn wildcard(pattern: &Path) -> Result<Vec<PathBuf>, AssembleError> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let word = part.as_os_str().as_bytes();
        if word == b"**" || word.iter().any(|byte| b"[]{}".contains(byte)) && !pattern.exists() {
            let message = format!("the pattern `{}` has more than `*` and `?`", pattern.display());
            return Err(AssembleError::Project { file: None, line: None, message });
        }
        found = match word.iter().any(|byte| b"*?".contains(byte)) {
            false => found.into_iter().map(|dir| dir.join(part)).collect(),
            true => found.into_iter().flat_map(|dir| matching_entries(&dir, word)).collect(),
        };
    }
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    found.sort();
    Ok(found)
}

fn matching_entries(dir: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_meant =
        |name: &[u8]| matches_pattern(pattern, name) && (!name.starts_with(b".") || pattern.starts_with(b"."));
    entries.filter(|entry| is_meant(entry.file_name().as_bytes())).map(|entry| entry.path()).collect()
}

/// Returns true if `name` matches `pattern`. On a mismatch, only the last `*` is extended.
fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of_name, mut again) = (0, 0, None);
    while of_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                again = Some((at + 1, of_name));
                at += 1;
            }
            Some(sign) if *sign == b'?' || *sign == name[of_name] => {
                at += 1;
                of_name += 1;
            }
            Some(_) | None => match again {
                Some((after, taken)) => {
                    again = Some((after, taken + 1));
                    at = after;
                    of_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|sign| *sign == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_names() {
        for (pattern, name, is_so) in [
            ("*", "a", true),
            ("*.sh", "a.sh", true),
            ("*.sh", "a.txt", false),
            ("a?c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a**", "a", true),
        ] {
            assert_eq!(matches_pattern(pattern.as_bytes(), name.as_bytes()), is_so, "{pattern} {name}");
        }
    }

    #[test]
    fn overlay_targets_outside_the_release_are_refused() {
        let output = Path::new("/project/_build/prod/rel/demo");
        let at = |text: &str| OverlayTarget::parse(Path::new(text), output).map(|target| target.at.to_string()).ok();
        assert_eq!(at("./bin/x").as_deref(), at("bin/x").as_deref());
        assert_eq!(at("/project/_build/prod/rel/demo/bin/x"), at("bin/x"));
        assert_eq!((at("../x"), at("/etc/x")), (None, None));
        assert!(OverlayTarget::parse(Path::new("share/"), output).unwrap().is_directory);
    }
}
