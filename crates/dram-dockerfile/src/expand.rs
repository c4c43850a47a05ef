//! Expands variables and removes quotes in one word: `$x`, `${x}`, `${x:-y}` and similar forms.
//!
//! Follows the lexer of BuildKit's Dockerfile frontend (`shell/lex.go`), which follows POSIX `sh` with fewer forms.
//! The nesting of `${a:-${b:-…}}` is kept on an explicit stack, not the call stack, and the size of the result is
//! bounded.

mod dollar;
mod pattern;
mod split;

use std::collections::BTreeSet;

use thiserror::Error;

use dollar::{Dollar, Form};
use split::Words;

/// The maximum size of an expanded word, in bytes.
pub const LONGEST_VALUE: usize = 1 << 20;

/// The maximum number of bytes written during the expansion of one word, discarded values included.
const MOST_WORK: usize = 16 << 20;

/// The error for a word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpandError {
    /// `${x` without the closing brace.
    #[error("`${{` is not closed by `}}`")]
    MissingBrace,
    /// `${x/a` without the second slash.
    #[error("`${{name/pattern/replacement}}` lacks its second `/`")]
    MissingSlash,
    /// `${}`, `${:…`, `${{…`.
    #[error("bad substitution: `${{` must be followed by a name")]
    BadSubstitution,
    /// A modifier of `${}` that is not supported.
    #[error("`{0}` is not supported in `${{}}`")]
    Modifier(String),
    /// A quote is not closed.
    #[error("a {0} quote is not closed")]
    OpenQuote(&'static str),
    /// `${x?message}` with `x` unset, or `${x:?message}` with `x` unset or empty.
    #[error("`{name}` {message}")]
    Required {
        /// The name of the variable.
        name: String,
        /// The message from the text, or a default.
        message: String,
    },
    /// The pattern of `#`, `%` or `/` is malformed.
    #[error("invalid pattern `{0}` in `${{}}`")]
    Pattern(String),
    /// The value is larger than [`MAX_VALUE_SIZE`], or the expansion takes too much work.
    #[error("the value grows beyond {} MiB", LONGEST_VALUE >> 20)]
    TooLong,
}

/// An expanded word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The word with variables replaced and quotes removed.
    pub text: String,
    /// The result split at unquoted blanks; empty unless [`ExpandOptions::split`] is set.
    pub words: Vec<String>,
    /// The variables that were looked up and are set.
    pub matched: BTreeSet<String>,
    /// The variables that were looked up and are not set.
    pub unmatched: BTreeSet<String>,
}

/// The options of [`expand`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The escape character: a backslash, or a backtick under `# escape=`.
    pub escape: char,
    /// Keeps quotes in the result.
    pub raw_quotes: bool,
    /// Treats quotes as ordinary characters.
    pub plain_quotes: bool,
    /// Keeps escapes in the result.
    pub raw_escapes: bool,
    /// Leaves unset variables as written.
    pub keep_unset: bool,
    /// Also splits the result into words.
    pub split: bool,
}

impl Options {
    /// Returns the options for most instructions: quotes and escapes are removed, unset variables are empty.
    pub fn new(escape: char) -> Options {
        Options { escape, raw_quotes: false, plain_quotes: false, raw_escapes: false, keep_unset: false, split: false }
    }
}

/// Expands `word`, with `value` to look up variables.
///
/// # Errors
/// [`ExpandError`] for invalid syntax, and for values larger than [`MAX_VALUE_SIZE`].
pub fn expand<'v>(
    word: &str,
    options: Options,
    value: &dyn Fn(&str) -> Option<&'v str>,
) -> Result<Expanded, ExpandError> {
    let mut machine = Machine {
        rest: word,
        options,
        value,
        frames: vec![Frame::text(None, options.raw_escapes)],
        words: Words::default(),
        seen: Expanded::default(),
        work: 0,
    };
    while !machine.step()? {}
    machine.finish()
}

/// A level of nesting: a word, text in double quotes, or a `${}` whose inner word is being read.
enum Frame {
    Text { stop: Option<char>, raw: bool, out: String },
    Quoted { raw: bool, out: String },
    Dollar(Dollar),
}

impl Frame {
    fn text(stop: Option<char>, raw: bool) -> Frame {
        Frame::Text { stop, raw, out: String::new() }
    }
}

struct Machine<'w, 'v, 'f> {
    rest: &'w str,
    options: Options,
    value: &'f dyn Fn(&str) -> Option<&'v str>,
    frames: Vec<Frame>,
    words: Words,
    seen: Expanded,
    work: usize,
}

impl<'v> Machine<'_, 'v, '_> {
    /// Reads one piece; returns true when the outermost word has ended.
    fn step(&mut self) -> Result<bool, ExpandError> {
        match self.frames.last() {
            Some(Frame::Text { stop, raw, .. }) => self.step_text(*stop, *raw),
            Some(Frame::Quoted { raw, .. }) => self.step_quoted(*raw).map(|()| false),
            Some(Frame::Dollar(_)) | None => Ok(true),
        }
    }

    fn finish(mut self) -> Result<Expanded, ExpandError> {
        let mut expanded = std::mem::take(&mut self.seen);
        if let Some(Frame::Text { out, .. }) = self.frames.pop() {
            expanded.text = out;
        }
        expanded.words = self.words.finish();
        if expanded.text.len() > LONGEST_VALUE { Err(ExpandError::TooLong) } else { Ok(expanded) }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next();
        self.rest = letters.as_str();
        letter
    }

    fn step_text(&mut self, stop: Option<char>, raw: bool) -> Result<bool, ExpandError> {
        let Some(letter) = self.peek() else {
            return match stop {
                None => Ok(true),
                Some('/') => Err(ExpandError::MissingSlash),
                Some(_) => Err(ExpandError::MissingBrace),
            };
        };
        if stop == Some(letter) {
            self.next();
            return self.end_of_inner_word().map(|()| false);
        }
        match letter {
            '$' => self.dollar()?,
            '\'' if !self.options.plain_quotes => self.single_quoted()?,
            '"' if !self.options.plain_quotes => {
                self.next();
                let out = if self.options.raw_quotes { "\"".to_owned() } else { String::new() };
                self.frames.push(Frame::Quoted { raw, out });
            }
            '<' => self.angle()?,
            other if other == self.options.escape => {
                self.next();
                if raw {
                    self.put_literal(other)?;
                }
                if let Some(escaped) = self.next() {
                    self.put_literal(escaped)?;
                }
            }
            other => {
                self.next();
                if self.splits() {
                    self.words.letter(other);
                }
                self.write(other.encode_utf8(&mut [0; 4]))?;
            }
        }
        Ok(false)
    }

    /// Reads `<<` with the blanks behind it, so that `<< EOF` is one word, the start of a heredoc. `<<-` is read the
    /// same way, unlike in BuildKit, which parses the body below `<<- EOF` as instructions.
    fn angle(&mut self) -> Result<(), ExpandError> {
        self.next();
        let mut text = String::from("<");
        if self.peek() == Some('<') {
            self.next();
            text.push('<');
            let dash = self.rest.strip_prefix('-').filter(|rest| rest.starts_with(['\t', ' ']));
            if dash.is_some() {
                self.next();
                text.push('-');
            }
            while let Some(blank @ ('\t' | '\r' | ' ')) = self.peek() {
                self.next();
                text.push(blank);
            }
        }
        self.deliver(&text, true)
    }

    fn single_quoted(&mut self) -> Result<(), ExpandError> {
        let after = &self.rest[1..];
        let Some(end) = after.find('\'') else { return Err(ExpandError::OpenQuote("single")) };
        let text = if self.options.raw_quotes { &self.rest[..end + 2] } else { &after[..end] };
        self.rest = &after[end + 1..];
        self.deliver(text, true)
    }

    fn step_quoted(&mut self, raw: bool) -> Result<(), ExpandError> {
        let Some(letter) = self.peek() else { return Err(ExpandError::OpenQuote("double")) };
        if letter == '$' {
            return self.dollar();
        }
        self.next();
        if letter == '"' {
            if self.options.raw_quotes {
                self.write("\"")?;
            }
            let Some(Frame::Quoted { out, .. }) = self.frames.pop() else { return Ok(()) };
            return self.deliver(&out, true);
        }
        if letter != self.options.escape {
            return self.write(letter.encode_utf8(&mut [0; 4]));
        }
        if raw {
            self.write(letter.encode_utf8(&mut [0; 4]))?;
        }
        let kept = match self.peek() {
            None => return Ok(()),
            Some(special) if special == '"' || special == '$' || special == self.options.escape => {
                self.next();
                special
            }
            Some(_) => letter,
        };
        self.write(kept.encode_utf8(&mut [0; 4]))
    }

    fn dollar(&mut self) -> Result<(), ExpandError> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return self.deliver("$", false);
            }
            return match self.lookup(&name) {
                None if self.options.keep_unset => self.deliver(&format!("${name}"), false),
                found => self.deliver(found.unwrap_or_default(), false),
            };
        }
        self.next();
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => match self.lookup(&name) {
                None if self.options.keep_unset => self.deliver(&format!("${{{name}}}"), false),
                found => self.deliver(found.unwrap_or_default(), false),
            },
            Some(':') => {
                let modifier = self.next().ok_or(ExpandError::MissingBrace)?;
                self.modifier(name, modifier, true)
            }
            Some(modifier) => self.modifier(name, modifier, false),
        }
    }

    /// Pushes the frames for the word behind a modifier.
    fn modifier(&mut self, name: String, modifier: char, empty_is_unset: bool) -> Result<(), ExpandError> {
        let mut sign = String::from(if empty_is_unset { ":" } else { "" });
        sign.push(modifier);
        let form = match modifier {
            '-' => Form::Default,
            '+' => Form::Alternative,
            '?' => Form::Required,
            '#' if !empty_is_unset => Form::TrimStart,
            '%' if !empty_is_unset => Form::TrimEnd,
            '/' if !empty_is_unset => {
                let all = self.peek() == Some('/');
                if all {
                    self.next();
                    sign.push('/');
                }
                Form::ReplacePattern { all }
            }
            _ => return Err(ExpandError::Modifier(sign)),
        };
        let inner = match form {
            Form::Default | Form::Alternative | Form::Required => Frame::text(Some('}'), false),
            Form::TrimStart | Form::TrimEnd => Frame::text(Some('}'), true),
            Form::ReplacePattern { .. } | Form::Replace { .. } => Frame::text(Some('/'), true),
        };
        self.spend(name.len() + 64)?;
        self.frames.push(Frame::Dollar(Dollar { name, form, sign, empty_is_unset }));
        self.frames.push(inner);
        Ok(())
    }

    /// Ends the word in a `${}`: evaluates the substitution and appends the result to the enclosing text.
    fn end_of_inner_word(&mut self) -> Result<(), ExpandError> {
        let (Some(Frame::Text { out: word, .. }), Some(Frame::Dollar(dollar))) = (self.frames.pop(), self.frames.pop())
        else {
            return Ok(());
        };
        if let Form::ReplacePattern { all } = dollar.form {
            let form = Form::Replace { all, pattern: word };
            self.frames.push(Frame::Dollar(Dollar { form, ..dollar }));
            self.frames.push(Frame::text(Some('}'), true));
            return Ok(());
        }
        let value = self.lookup(&dollar.name);
        if value.is_none() && self.options.keep_unset {
            let text = dollar.as_written(&word);
            return self.deliver(&text, false);
        }
        let text = dollar.result(value, word)?;
        self.deliver(&text, false)
    }

    fn name(&mut self) -> String {
        let rest = self.rest;
        let first = self.peek();
        let end = match first {
            Some(digit) if digit.is_numeric() => rest.find(|letter: char| !letter.is_numeric()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            Some(_) | None => rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_'),
        };
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        self.rest = rest;
        name.to_owned()
    }

    fn lookup(&mut self, name: &str) -> Option<&'v str> {
        let value = (self.value)(name);
        let seen = if value.is_some() { &mut self.seen.matched } else { &mut self.seen.unmatched };
        if !seen.contains(name) {
            seen.insert(name.to_owned());
        }
        value
    }

    /// Returns true when written text is also split into words, which is so only at the outermost level.
    fn splits(&self) -> bool {
        self.options.split && self.frames.len() == 1
    }

    fn put_literal(&mut self, letter: char) -> Result<(), ExpandError> {
        if self.splits() {
            self.words.literal(letter.encode_utf8(&mut [0; 4]));
        }
        self.write(letter.encode_utf8(&mut [0; 4]))
    }

    /// Appends a finished piece to the innermost text; quoted text is not split into words.
    fn deliver(&mut self, text: &str, quoted: bool) -> Result<(), ExpandError> {
        self.write(text)?;
        if self.splits() {
            if quoted {
                self.words.literal(text);
            } else {
                text.chars().for_each(|letter| self.words.letter(letter));
            }
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), ExpandError> {
        self.spend(text.len())?;
        let (Some(Frame::Text { out, .. }) | Some(Frame::Quoted { out, .. })) = self.frames.last_mut() else {
            return Ok(());
        };
        out.push_str(text);
        if out.len() > LONGEST_VALUE { Err(ExpandError::TooLong) } else { Ok(()) }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), ExpandError> {
        self.work += bytes;
        if self.work > MOST_WORK { Err(ExpandError::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
