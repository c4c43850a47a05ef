//! Evaluates an `env.sh` that only assigns variables, without a shell.
//!
//! Supported are lines of `NAME=VALUE` and `export NAME=VALUE`, with the quotes of a POSIX shell and with `$NAME`,
//! `${NAME}` and `${NAME:-default}`. Any other script needs a shell.

use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat};
use crate::environment::EnvironmentVariables;

/// The environment after `script`; `None` if that needs a shell.
#[must_use]
pub fn evaluate_assignments(script: &[u8], env: &EnvironmentVariables) -> Option<EnvironmentVariables> {
    let mut env = env.clone();
    for line in script.split(|b| *b == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = line.strip_prefix(b"export ").unwrap_or(line).trim_ascii_start();
        let length = line.iter().take_while(|b| is_name_byte(**b)).count();
        let (name, rest) = line.split_at(length);
        if name.first().is_none_or(u8::is_ascii_digit) {
            return None;
        }
        let value = parse_value(rest.strip_prefix(b"=")?, &env)?;
        env.set(name, &value);
    }
    Some(env)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Parses the word at the start of `text`. Only a comment may follow it.
fn parse_value(mut text: &[u8], env: &EnvironmentVariables) -> Option<ByteString> {
    let mut found = Vec::new();
    let mut is_quoted = false;
    while let Some((&first, rest)) = text.split_first() {
        match first {
            b'"' => {
                is_quoted = !is_quoted;
                text = rest;
            }
            b'\'' if !is_quoted => {
                let end = rest.iter().position(|b| *b == b'\'')?;
                found.extend_from_slice(&rest[..end]);
                text = &rest[end + 1..];
            }
            b'$' => {
                let (value, after) = expand_variable(rest, env)?;
                found.extend_from_slice(&value);
                text = after;
            }
            b' ' | b'\t' if !is_quoted => {
                let rest = rest.trim_ascii_start();
                return (rest.is_empty() || rest.starts_with(b"#")).then_some(found);
            }
            // Inside quotes all other characters are literal; outside, only these are.
            b'\\' | b'`' | b'!' => return None,
            _ if is_quoted || is_name_byte(first) || b"./:@%+,=-".contains(&first) || !first.is_ascii() => {
                found.push(first);
                text = rest;
            }
            _ => return None,
        }
    }
    (!is_quoted).then_some(found)
}

/// Expands the variable behind a `$`. Returns its value and the rest of the text.
fn expand_variable<'a>(text: &'a [u8], env: &EnvironmentVariables) -> Option<(ByteString, &'a [u8])> {
    let Some(inside) = text.strip_prefix(b"{") else {
        let length = text.iter().take_while(|b| is_name_byte(**b)).count();
        let (name, rest) = text.split_at(length);
        if name.first().is_none_or(u8::is_ascii_digit) {
            return None;
        }
        return Some((env.get_bytes(name).unwrap_or_default().to_vec(), rest));
    };
    let end = inside.iter().position(|b| *b == b'}')?;
    let (inside, rest) = (&inside[..end], &inside[end + 1..]);
    let length = inside.iter().take_while(|b| is_name_byte(**b)).count();
    let (name, usual) = inside.split_at(length);
    if name.first().is_none_or(u8::is_ascii_digit) {
        return None;
    }
    let value = env.get_bytes(name).unwrap_or_default();
    match usual {
        [] => Some((value.to_vec(), rest)),
        [b':', b'-', usual @ ..] if !usual.iter().any(|b| b"$`\\\"'".contains(b)) => {
            Some((if value.is_empty() { usual } else { value }.to_vec(), rest))
        }
        _ => None,
    }
}

/// A variable that a shell sets after it has sourced the files, when it executes the start program again.
pub const ENV_SH_READ: &str = "RELEASE_ENV_SH_READ";

/// The variables that `bin/NAME` of Mix exports after `env.sh`, so that the file may assign them without `export`.
const EXPORTED_VARIABLES: &str = "RELEASE_COOKIE RELEASE_NODE RELEASE_MODE RELEASE_DISTRIBUTION RELEASE_TMP \
                                  RELEASE_VM_ARGS RELEASE_REMOTE_VM_ARGS RELEASE_SYS_CONFIG RELEASE_BOOT_SCRIPT \
                                  RELEASE_BOOT_SCRIPT_CLEAN ELIXIR_ERL_OPTIONS";

/// The script of a shell that sources `files` and then executes `RELEASE_PROGRAM` with its own arguments. A file may
/// change every option of the shell: what comes after it does not depend on them.
#[must_use]
pub fn sourcing_script(functions: &str, files: &[ByteString]) -> ByteString {
    let mut script = functions.as_bytes().to_vec();
    for file in files {
        script.extend(concat(&[b"set -ea\n. ", &quote_word(file), b"\n"]));
    }
    let marker = ENV_SH_READ.as_bytes();
    script.extend(concat(&[b"export ", EXPORTED_VARIABLES.as_bytes(), b"\nexport ", marker, b"=true\n"]));
    script.extend_from_slice(b"exec \"$RELEASE_PROGRAM\" \"$@\"\n");
    script
}

/// Quotes a text as one word of a shell.
#[must_use]
pub fn quote_word(text: &[u8]) -> ByteString {
    let parts: Vec<&[u8]> = text.split(|b| *b == b'\'').collect();
    concat(&[b"'", &parts.join(b"'\\''".as_slice()), b"'"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(script: &str, name: &str) -> Option<Vec<u8>> {
        let env = EnvironmentVariables::from_strings(&[b"HOME=/root".to_vec(), b"NONE=".to_vec()]);
        Some(evaluate_assignments(script.as_bytes(), &env)?.get(name)?.to_vec())
    }

    #[test]
    fn assignments_have_the_values_a_shell_gives_them() {
        for (script, value) in [
            ("A=1", "1"),
            ("#!/bin/sh\n\n  # x\nexport A=1 # one", "1"),
            ("export A='$HOME \"x\"'", "$HOME \"x\""),
            ("A=\"a b:$HOME\"/c", "a b:/root/c"),
            ("A=${HOME}x", "/rootx"),
            ("A=\"${NONE:-none}\"", "none"),
            ("A=${HOME:-none}", "/root"),
            ("B=2\nexport A=$B$B", "22"),
            ("A=", ""),
            ("A=$UNSET.", "."),
            ("A=1\nA=2", "2"),
            ("A=\"x=1;y#2\"", "x=1;y#2"),
        ] {
            assert_eq!(after(script, "A").as_deref(), Some(value.as_bytes()), "{script}");
        }
    }

    #[test]
    fn other_shell_syntax_is_left_to_a_shell() {
        for script in [
            "A=$(hostname)",
            "A=`id`",
            "A=1 B=2",
            "A=1; B=2",
            "if true; then A=1; fi",
            ". ./other",
            "A=${B%x}",
            "A=~/x",
            "A=\"open",
            "A='open",
            "A=a\\ b",
            "A=$1",
            "A=*",
            "export A",
            "set -e",
            "A=${B:-$C}",
            "A+=1",
            "A=x&",
        ] {
            assert_eq!(after(script, "A"), None, "{script}");
        }
    }
}
