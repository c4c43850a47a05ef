//! What a `RUN` runs, as far as it can be seen: simple commands and their words.
//!
//! This reads a shell's text the way a person skims it: quotes and operators are known, expansions are not. What it
//! does not understand it takes for words, so a rule that looks for a certain command finds it or does not.

use crate::plan::Run;

/// The simple commands of a step, each with its words. Variables set before a command, and `sudo`, `env` and the like,
/// are left out.
pub(super) fn commands(run: &Run) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    if let Some(text) = text(run) {
        all.extend(split(text));
    } else {
        all.push(run.argv.clone());
    }
    for script in &run.scripts {
        if script.contents.lines().next().is_some_and(|first| first.contains("sh")) {
            all.extend(split(&script.contents));
        }
    }
    all.into_iter().filter_map(bare).collect()
}

/// What a shell is given to run, when a shell is run: the word behind `-c`, `-ec` and the like.
fn text(run: &Run) -> Option<&str> {
    let [.., option, text] = run.argv.as_slice() else { return None };
    (option.starts_with('-') && !option.starts_with("--") && option.ends_with('c')).then_some(text)
}

/// Splits at the operators of a shell, and each command into words.
fn split(text: &str) -> Vec<Vec<String>> {
    let mut reader = Reader::default();
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
                Some(escaped) => reader.put(escaped),
            },
            (Some(_), letter) => reader.put(letter),
            (None, '#') if !reader.started => while letters.next_if(|letter| *letter != '\n').is_some() {},
            (None, ';' | '&' | '|' | '\n' | '(' | ')' | '`') => reader.end_command(),
            (None, ' ' | '\t' | '\r') => reader.end_word(),
            (None, letter) => reader.put(letter),
        }
    }
    reader.end_command();
    reader.commands
}

#[derive(Default)]
struct Reader {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: String,
    /// A word has begun, maybe with nothing but quotes.
    started: bool,
    quote: Option<char>,
}

impl Reader {
    fn put(&mut self, letter: char) {
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

/// The command itself: without keywords, variables and programs that only start another one.
fn bare(mut words: Vec<String>) -> Option<Vec<String>> {
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
    // The program's name, wherever it is.
    let name = words[0].rsplit('/').next().unwrap_or_default().to_owned();
    words[0] = name;
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found() {
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
            let found: Vec<String> = split(text).into_iter().filter_map(bare).map(|words| words.join(" ")).collect();
            assert_eq!(found, *expected, "{text}");
        }
    }
}
