//! Replaces `${NAME}` and `${NAME:-default}` in configuration files.

use alloc::format;

use crate::byte_string::{ByteString, find_bytes};
use crate::environment::EnvironmentVariables;
use crate::error::{StartError, printable};

/// Returns true if the text may contain a variable.
#[must_use]
pub fn has_variables(text: &[u8]) -> bool {
    find_bytes(text, b"${").is_some()
}

/// Replaces all variables in the text of the file `path`, except in comments.
///
/// # Errors
/// Fails if a variable is not set and has no default; the error contains the file, line and variable.
pub fn replace_variables(
    path: &[u8],
    text: &[u8],
    comment: u8,
    env: &EnvironmentVariables,
) -> Result<ByteString, StartError> {
    let mut found = ByteString::new();
    for (index, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        if line.trim_ascii_start().first() == Some(&comment) {
            found.extend_from_slice(line);
        } else {
            replace_variables_in_line(path, index + 1, line, env, &mut found)?;
        }
    }
    Ok(found)
}

fn replace_variables_in_line(
    path: &[u8],
    number: usize,
    mut rest: &[u8],
    env: &EnvironmentVariables,
    to: &mut ByteString,
) -> Result<(), StartError> {
    while let Some(at) = find_bytes(rest, b"${") {
        let after = &rest[at + 2..];
        let inside = after.split(|b| *b == b'}').next().unwrap_or_default();
        let (name, usual) = match find_bytes(inside, b":-") {
            Some(split) => (&inside[..split], Some(&inside[split + 2..])),
            None => (inside, None),
        };
        let is_name = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if inside.len() == after.len() || !is_name {
            // This is not a variable: the two characters are literal.
            to.extend_from_slice(&rest[..at + 2]);
            rest = after;
            continue;
        }
        to.extend_from_slice(&rest[..at]);
        match (env.get_bytes(name), usual) {
            // As in a shell, `:-` also stands in for an empty value.
            (Some([]) | None, Some(usual)) => to.extend_from_slice(usual),
            (Some(value), _) => to.extend_from_slice(value),
            (None, None) => {
                let what = format!("cannot replace `${{{}}}` in `{}` line {number}", printable(name), printable(path));
                let help = format!("set the variable {0}, or write `${{{0}:-default}}`", printable(name));
                return Err(StartError::new(what, help));
            }
        }
        rest = &after[inside.len() + 1..];
    }
    to.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn env() -> EnvironmentVariables {
        EnvironmentVariables::from_strings(&[b"HOST=db".to_vec(), b"EMPTY=".to_vec()])
    }

    fn replaced(text: &str) -> Result<Vec<u8>, StartError> {
        replace_variables(b"sys.config", text.as_bytes(), b'%', &env())
    }

    #[test]
    fn variables_and_defaults_are_replaced_except_in_comments() {
        assert_eq!(replaced("{a,\"${HOST}:${PORT:-5432}\"}").unwrap(), b"{a,\"db:5432\"}");
        assert_eq!(replaced("[${EMPTY}|${EMPTY:-x}]").unwrap(), b"[|x]");
        assert_eq!(replaced("$HOME ${not a name} ${").unwrap(), b"$HOME ${not a name} ${");
        assert_eq!(replaced("% ${NOPE}\n${HOST}").unwrap(), b"% ${NOPE}\ndb");
    }

    #[test]
    fn an_unset_variable_is_an_error_with_file_and_line() {
        let fault = replaced("a\n${NOPE}").unwrap_err();
        assert_eq!(fault.message, "cannot replace `${NOPE}` in `sys.config` line 2");
        assert!(fault.help.contains("set the variable NOPE"));
    }
}
