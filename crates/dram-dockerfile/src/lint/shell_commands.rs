//! Extracts the simple commands of a `RUN` and their words.
//!
//! This is an approximation of a shell: it knows quotes and operators, but not expansions. Anything else is read as
//! words, so a rule may miss a command.

use dram_plan::RunOp;

/// Returns the simple commands of a step as lists of words, without leading assignments and without `sudo`, `env` and
/// similar prefixes.
pub(super) fn commands(run: &RunOp) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    if let Some(text) = shell_script(run) {
        all.extend(split_commands(text));
    } else {
        all.push(run.argv.clone());
    }
    for script in &run.scripts {
        if script.contents.lines().next().is_some_and(|first| first.contains("sh")) {
            all.extend(split_commands(&script.contents));
        }
    }
    all.into_iter().filter_map(strip_prefixes).collect()
}

/// Returns the script of a shell: the word behind `-c`, `-ec` and similar options.
fn shell_script(run: &RunOp) -> Option<&str> {
    let [.., option, text] = run.argv.as_slice() else { return None };
    (option.starts_with('-') && !option.starts_with("--") && option.ends_with('c')).then_some(text)
}

/// Splits text at shell operators into commands, and these into words.
fn split_commands(text: &str) -> Vec<Vec<String>> {
    let mut reader = ShellTokenizer::default();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (reader.quote, letter) {
            (Some(quote), letter) if letter == quote => reader.quote = None,
            (None, '\'' | '"') => {
                reader.quote = Some(letter);
                reader.started = true;
            }
            (None | Some('"'), '\\') => match letters.next() {
                Some('\n') | None => {}
                Some(escaped) => reader.push_char(escaped),
            },
            (Some(_), letter) => reader.push_char(letter),
            (None, '#') if !reader.started => while letters.next_if(|letter| *letter != '\n').is_some() {},
            (None, ';' | '&' | '|' | '\n' | '(' | ')' | '`') => reader.end_command(),
            (None, ' ' | '\t' | '\r') => reader.end_word(),
            (None, letter) => reader.push_char(letter),
        }
    }
    reader.end_command();
    reader.commands
}

#[derive(Default)]
struct ShellTokenizer {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: String,
    /// True when a word has begun, possibly an empty quoted one.
    started: bool,
    quote: Option<char>,
}

impl ShellTokenizer {
    fn push_char(&mut self, letter: char) {
        self.word.push(letter);
        self.started = true;
    }

    fn end_word(&mut self) {
        if std::mem::take(&mut self.started) {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

/// Strips keywords, assignments and programs that only start another one; `None` when nothing is left.
fn strip_prefixes(mut words: Vec<String>) -> Option<Vec<String>> {
    const BEFORE: &[&str] = &[
        "sudo", "env", "exec", "time", "command", "nice", "if", "then", "else", "elif", "do", "while", "until", "!",
        "{",
    ];
    let mut behind = false;
    let start = words.iter().position(|word| {
        let assigns = word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        });
        let starts = BEFORE.contains(&word.as_str());
        let option = behind && word.starts_with('-');
        behind |= starts;
        !(assigns || starts || option)
    })?;
    words.drain(..start);
    // The name of the program, without its directory.
    let name = words[0].rsplit('/').next().unwrap_or_default().to_owned();
    words[0] = name;
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_commands_are_extracted_from_shell_text() {
        let table: &[(&str, &[&str])] = &[
            ("apt-get update && apt-get install -y a", &["apt-get update", "apt-get install -y a"]),
            ("set -e; if A=1 sudo -E /usr/bin/apt-get update; then b; fi", &["set -e", "apt-get update", "b", "fi"]),
            ("echo 'a && b' \"c; d\" | tee $(mktemp x)", &["echo a && b c; d", "tee $", "mktemp x"]),
            ("a \\\n  b\n# c d\ne#f", &["a b", "e#f"]),
            ("env A=1 B=2 npm ci", &["npm ci"]),
            ("A=1", &[]),
            ("''", &[""]),
            ("'open", &["open"]),
        ];
        for (text, expected) in table {
            let found: Vec<String> =
                split_commands(text).into_iter().filter_map(strip_prefixes).map(|words| words.join(" ")).collect();
            assert_eq!(found, *expected, "{text}");
        }
    }
}
