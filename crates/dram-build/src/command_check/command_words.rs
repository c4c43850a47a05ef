//! Finds the programs in the words of a command: those that a wrapper executes, and the first command of a shell script.

/// Programs that execute the command in their arguments, and the options that they may have before it. With any other
/// option nothing is known.
const WRAPPERS: &[(&str, &[&str])] = &[
    ("tini", &["--", "-g", "-s", "-w", "-v", "-vv", "-vvv"]),
    ("tini-static", &["--", "-g", "-s", "-w", "-v", "-vv", "-vvv"]),
    ("dumb-init", &["--", "-c", "--single-child", "-v", "--verbose"]),
    ("catatonit", &["--", "-g", "-P"]),
    ("env", &["--"]),
];

const SHELLS: &[&str] = &["sh", "bash", "ash", "dash", "ksh", "zsh"];

/// Words at the start of a script that are no programs: reserved words and builtins of POSIX shells and bash.
const NO_PROGRAMS: &[&str] = &[
    ".",
    ":",
    "[",
    "[[",
    "{",
    "}",
    "!",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "compgen",
    "complete",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "false",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "print",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "whence",
    "while",
];

/// Returns the last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Returns the index of the word that the wrapper `words[0]` executes; `None` if it is no known wrapper.
pub(super) fn wrapped_command(words: &[String]) -> Option<usize> {
    let name = base_name(words.first()?);
    let (_, options) = WRAPPERS.iter().find(|(wrapper, _)| *wrapper == name)?;
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let assigns = name == "env" && is_assignment(word);
        if options.contains(&word.as_str()) || assigns {
            at += 1;
        } else {
            return (!word.starts_with('-')).then_some(at);
        }
    }
    None
}

/// Returns the index of the script, if `words` is a shell with `-c`.
pub(super) fn shell_script(words: &[String]) -> Option<usize> {
    if !SHELLS.contains(&base_name(words.first()?)) {
        return None;
    }
    let option = words.get(1)?;
    let letters = option.strip_prefix('-')?;
    (!letters.is_empty() && letters.bytes().all(|letter| letter.is_ascii_alphabetic()) && letters.ends_with('c'))
        .then_some(2)
        .filter(|at| words.len() > *at)
}

/// Returns the program without which `script` fails: the first command, if it is a plain word and nothing else in the
/// script can make up for it.
pub(super) fn needed_program(script: &str) -> Option<&str> {
    let script = script.trim();
    let (main, _) = match script.split_once("||") {
        Some((main, otherwise)) if ends_with_failure(otherwise.trim()) => (main, otherwise),
        Some(_) => return None,
        None => (script, ""),
    };
    if main.contains([';', '|', '\n', '`', '(', ')', '<', '>', '\\']) || main.replace("&&", "").contains('&') {
        return None;
    }
    let mut words = main.split_ascii_whitespace().skip_while(|word| is_assignment(word));
    let mut first = words.next()?;
    if first == "exec" {
        first = words.next()?;
    }
    let is_plain = first.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/+-".contains(&byte));
    let changes_path = main.split_ascii_whitespace().any(|word| word.starts_with("PATH="));
    (is_plain && !first.starts_with('-') && !changes_path && !NO_PROGRAMS.contains(&first)).then_some(first)
}

/// Returns the words of those commands of `script` that make the whole script fail if they fail. The result is empty for a
/// script with branches, loops, functions or substitutions.
pub(super) fn deciding_commands(script: &str) -> Vec<Vec<String>> {
    let Some(tokens) = shell_tokens(script) else { return Vec::new() };
    // A script ends as its last list does. One that runs in the background never fails.
    let mut lists: Vec<&[ShellToken]> =
        tokens.split(|token| matches!(token, ShellToken::Operator(";" | "\n"))).collect();
    lists.retain(|list| !list.is_empty());
    let Some(last) = lists.last() else { return Vec::new() };
    if last.contains(&ShellToken::Operator("&")) {
        return Vec::new();
    }
    let mut commands = Vec::new();
    let mut is_fallback = false;
    for pipeline in last.split_inclusive(|token| matches!(token, ShellToken::Operator("&&" | "||"))) {
        let end = pipeline.last();
        let pipeline = pipeline.strip_suffix(&[ShellToken::Operator("&&")]).unwrap_or(pipeline);
        let pipeline = pipeline.strip_suffix(&[ShellToken::Operator("||")]).unwrap_or(pipeline);
        let found = pipeline_commands(pipeline);
        if !is_fallback {
            commands.extend(found);
        } else if !found.iter().any(|words| ends_with_failure(&words.join(" "))) {
            return Vec::new();
        }
        is_fallback = end == Some(&ShellToken::Operator("||"));
    }
    commands
}

/// Returns the commands of a pipeline that decide: the last one, and one whose output `grep` looks at, because a command
/// that fails prints nothing there.
fn pipeline_commands(pipeline: &[ShellToken]) -> Vec<Vec<String>> {
    let words = |part: &[ShellToken]| -> Vec<String> {
        let words = part.iter().filter_map(|token| match token {
            ShellToken::Word(word) => Some(word.clone()),
            ShellToken::Operator(_) => None,
        });
        let mut words: Vec<String> = words.skip_while(|word| is_assignment(word)).collect();
        if words.first().is_some_and(|word| word == "exec") {
            words.remove(0);
        }
        words
    };
    let parts: Vec<Vec<String>> = pipeline.split(|token| *token == ShellToken::Operator("|")).map(words).collect();
    let has_redirection = parts.iter().flatten().any(|word| word.contains(['<', '>']));
    match parts.as_slice() {
        [first, second] if second[..].first().is_some_and(|word| word == "grep") && !has_redirection => {
            vec![first.clone(), second.clone()]
        }
        [.., last] => vec![last.clone()],
        [] => Vec::new(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ShellToken {
    Word(String),
    Operator(&'static str),
}

/// Splits a script into words and operators. `None` if it has anything but simple commands.
fn shell_tokens(script: &str) -> Option<Vec<ShellToken>> {
    const OPERATORS: &[&str] = &["&&", "||", "|", "&", ";", "\n"];
    const STRUCTURES: &[&str] = &["if", "while", "until", "for", "case", "select", "function", "{", "!", "trap"];
    let mut tokens = Vec::new();
    let mut rest = script.replace("\\\n", " ");
    let mut word: Option<String> = None;
    while let Some(letter) = rest.chars().next() {
        let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
        let mut length = letter.len_utf8();
        // `2>&1` is a word here.
        let is_redirection = letter == '&' && word.as_ref().is_some_and(|word| word.ends_with(['>', '<']));
        match (operator, letter) {
            (_, '`' | '(' | ')') => return None,
            (None, '#') if word.is_none() => length = rest.find('\n').unwrap_or(rest.len()),
            (None, '\'' | '"') => {
                let end = rest[1..].find(letter)?;
                let text = &rest[1..=end];
                if letter == '"' && text.contains(['\\', '`', '$']) {
                    return None;
                }
                word.get_or_insert_default().push_str(text);
                length = end + 2;
            }
            (None, '\\') => return None,
            (Some(operator), _) if !is_redirection => {
                tokens.extend(word.take().map(ShellToken::Word));
                tokens.push(ShellToken::Operator(operator));
                length = operator.len();
            }
            (None, ' ' | '\t' | '\r') => tokens.extend(word.take().map(ShellToken::Word)),
            (None | Some(_), _) => word.get_or_insert_default().push(letter),
        }
        rest.drain(..length);
    }
    tokens.extend(word.map(ShellToken::Word));
    let is_structure =
        |token: &ShellToken| matches!(token, ShellToken::Word(word) if STRUCTURES.contains(&word.as_str()));
    (!tokens.iter().any(is_structure)).then_some(tokens)
}

/// Returns true for `exit 1` and the like, behind `||`.
fn ends_with_failure(text: &str) -> bool {
    let code = text.strip_prefix("exit").map(str::trim);
    text == "false" || code.is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit()) && code != "0")
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, value)| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !value.contains(['"', '\''])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn program_of_a_script_is_known_only_where_nothing_makes_up_for_it() {
        let table: &[(&str, Option<&str>)] = &[
            ("/app/run --port 80", Some("/app/run")),
            ("exec /app/run", Some("/app/run")),
            ("A=1 B=2 curl -f http://localhost/ || exit 1", Some("curl")),
            ("curl -f x || exit", Some("curl")),
            ("curl x && wget y", Some("curl")),
            ("curl x || wget y", None),
            ("curl x || exit 0", None),
            ("curl x || true", None),
            ("curl x; true", None),
            ("curl x | grep y", None),
            ("curl x & wait", None),
            ("cd /app && ./run", None),
            ("if curl; then true; fi", None),
            ("$CMD x", None),
            ("\"/a b\"", None),
            ("PATH=/x run", None),
            ("A='b c' run", None),
            ("", None),
        ];
        for (script, expected) in table {
            assert_eq!(needed_program(script), *expected, "{script}");
        }
    }

    #[test]
    fn commands_whose_failure_is_that_of_the_script_are_found() {
        let table: &[(&str, &[&str])] = &[
            ("bin/x rpc 'A.b(); c || d' || exit 1", &["bin/x|rpc|A.b(); c || d"]),
            ("sleep 1; \"bin/x\" rpc 1", &["bin/x|rpc|1"]),
            ("sleep 1 && A=1 exec bin/x rpc 1 2>&1", &["sleep|1", "bin/x|rpc|1|2>&1"]),
            ("bin/x rpc 1 | grep -q ok", &["bin/x|rpc|1", "grep|-q|ok"]),
            ("bin/x rpc 1 2>&1 | grep -q ok", &["grep|-q|ok"]),
            ("bin/x rpc 1 | wc -l", &["wc|-l"]),
            ("bin/x rpc 1 # a comment", &["bin/x|rpc|1"]),
            ("bin/x \\\n  rpc 1\n", &["bin/x|rpc|1"]),
            ("bin/x rpc 1 || true", &[]),
            ("bin/x rpc 1 || exit 0", &[]),
            ("bin/x rpc 1 || bin/x rpc 2 || exit 1", &[]),
            ("bin/x rpc 1; true", &["true"]),
            ("bin/x rpc 1 &", &[]),
            ("if bin/x rpc 1; then true; fi", &[]),
            ("! bin/x rpc 1", &[]),
            ("[ $(bin/x rpc 1) = ok ]", &[]),
            ("bin/x rpc \"$A\"", &[]),
            ("'open", &[]),
            ("", &[]),
        ];
        for (script, expected) in table {
            let found: Vec<String> = deciding_commands(script).iter().map(|words| words.join("|")).collect();
            assert_eq!(found, *expected, "{script}");
        }
    }

    #[test]
    fn wrappers_and_shells_are_seen_through() {
        let table = [
            ("/sbin/tini -- /a", Some(2)),
            ("tini -g /a", Some(2)),
            ("tini -p SIGTERM -- /a", None),
            ("env A=1 /a", Some(2)),
            ("env -i /a", None),
            ("tini --", None),
            ("/a /b", None),
        ];
        for (text, expected) in table {
            assert_eq!(wrapped_command(&words(text)), expected, "{text}");
        }
        let table = [("/bin/sh -c a", Some(2)), ("bash -ec a", Some(2)), ("sh a", None), ("sh -c", None)];
        for (text, expected) in table {
            assert_eq!(shell_script(&words(text)), expected, "{text}");
        }
    }
}
