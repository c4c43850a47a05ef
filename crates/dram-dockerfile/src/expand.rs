//! Expands variables and removes quotes in one word: `$x`, `${x}`, `${x:-y}` and similar forms.
//!
//! Follows the lexer of BuildKit's Dockerfile frontend (`shell/lex.go`), which follows POSIX `sh` with fewer forms.
//! The nesting of `${a:-${b:-…}}` is kept on an explicit stack, not the call stack, and the size of the result is
//! bounded.

mod substitution;
mod substitution_pattern;
mod word_splitter;

use std::collections::BTreeSet;

use thiserror::Error;

use substitution::{Substitution, SubstitutionForm};
use word_splitter::WordSplitter;

/// The maximum size of an expanded word, in bytes.
pub const MAX_VALUE_SIZE: usize = 1 << 20;

/// The maximum number of bytes written during the expansion of one word, discarded values included.
const MAX_EXPAND_WORK: usize = 16 << 20;

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
    UnsupportedModifier(String),
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
    InvalidPattern(String),
    /// The value is larger than [`MAX_VALUE_SIZE`], or the expansion takes too much work.
    #[error("the value grows beyond {} MiB", MAX_VALUE_SIZE >> 20)]
    TooLong,
}

/// An expanded word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpandedWord {
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
pub struct ExpandOptions {
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

impl ExpandOptions {
    /// Returns the options for most instructions: quotes and escapes are removed, unset variables are empty.
    pub fn new(escape: char) -> ExpandOptions {
        ExpandOptions {
            escape,
            raw_quotes: false,
            plain_quotes: false,
            raw_escapes: false,
            keep_unset: false,
            split: false,
        }
    }
}

/// Expands `word`, with `value` to look up variables.
///
/// # Errors
/// [`ExpandError`] for invalid syntax, and for values larger than [`MAX_VALUE_SIZE`].
pub fn expand<'v>(
    word: &str,
    options: ExpandOptions,
    value: &dyn Fn(&str) -> Option<&'v str>,
) -> Result<ExpandedWord, ExpandError> {
    let mut machine = WordExpander {
        rest: word,
        options,
        value,
        frames: vec![ExpandFrame::text(None, options.raw_escapes)],
        words: WordSplitter::default(),
        lookups: ExpandedWord::default(),
        work: 0,
    };
    while !machine.step()? {}
    machine.finish()
}

/// A level of nesting: a word, text in double quotes, or a `${}` whose inner word is being read.
enum ExpandFrame {
    Text { stop: Option<char>, raw: bool, out: String },
    Quoted { raw: bool, out: String },
    Dollar(Substitution),
}

impl ExpandFrame {
    fn text(stop: Option<char>, raw: bool) -> ExpandFrame {
        ExpandFrame::Text { stop, raw, out: String::new() }
    }
}

struct WordExpander<'w, 'v, 'f> {
    rest: &'w str,
    options: ExpandOptions,
    value: &'f dyn Fn(&str) -> Option<&'v str>,
    frames: Vec<ExpandFrame>,
    words: WordSplitter,
    lookups: ExpandedWord,
    work: usize,
}

impl<'v> WordExpander<'_, 'v, '_> {
    /// Reads one piece; returns true when the outermost word has ended.
    fn step(&mut self) -> Result<bool, ExpandError> {
        match self.frames.last() {
            Some(ExpandFrame::Text { stop, raw, .. }) => self.step_text(*stop, *raw),
            Some(ExpandFrame::Quoted { raw, .. }) => self.step_quoted(*raw).map(|()| false),
            Some(ExpandFrame::Dollar(_)) | None => Ok(true),
        }
    }

    fn finish(mut self) -> Result<ExpandedWord, ExpandError> {
        let mut expanded = std::mem::take(&mut self.lookups);
        if let Some(ExpandFrame::Text { out, .. }) = self.frames.pop() {
            expanded.text = out;
        }
        expanded.words = self.words.finish();
        if expanded.text.len() > MAX_VALUE_SIZE { Err(ExpandError::TooLong) } else { Ok(expanded) }
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
            '$' => self.read_dollar()?,
            '\'' if !self.options.plain_quotes => self.read_single_quoted()?,
            '"' if !self.options.plain_quotes => {
                self.next();
                let out = if self.options.raw_quotes { "\"".to_owned() } else { String::new() };
                self.frames.push(ExpandFrame::Quoted { raw, out });
            }
            '<' => self.read_angle_bracket()?,
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
                if self.is_splitting() {
                    self.words.push_unquoted(other);
                }
                self.write(other.encode_utf8(&mut [0; 4]))?;
            }
        }
        Ok(false)
    }

    /// Reads `<<` with the blanks behind it, so that `<< EOF` is one word, the start of a heredoc. `<<-` is read the
    /// same way, unlike in BuildKit, which parses the body below `<<- EOF` as instructions.
    fn read_angle_bracket(&mut self) -> Result<(), ExpandError> {
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
        self.append_piece(&text, true)
    }

    fn read_single_quoted(&mut self) -> Result<(), ExpandError> {
        let after = &self.rest[1..];
        let Some(end) = after.find('\'') else { return Err(ExpandError::OpenQuote("single")) };
        let text = if self.options.raw_quotes { &self.rest[..end + 2] } else { &after[..end] };
        self.rest = &after[end + 1..];
        self.append_piece(text, true)
    }

    fn step_quoted(&mut self, raw: bool) -> Result<(), ExpandError> {
        let Some(letter) = self.peek() else { return Err(ExpandError::OpenQuote("double")) };
        if letter == '$' {
            return self.read_dollar();
        }
        self.next();
        if letter == '"' {
            if self.options.raw_quotes {
                self.write("\"")?;
            }
            let Some(ExpandFrame::Quoted { out, .. }) = self.frames.pop() else { return Ok(()) };
            return self.append_piece(&out, true);
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

    fn read_dollar(&mut self) -> Result<(), ExpandError> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.read_name();
            if name.is_empty() {
                return self.append_piece("$", false);
            }
            return match self.lookup(&name) {
                None if self.options.keep_unset => self.append_piece(&format!("${name}"), false),
                found => self.append_piece(found.unwrap_or_default(), false),
            };
        }
        self.next();
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.read_name();
        match self.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => match self.lookup(&name) {
                None if self.options.keep_unset => self.append_piece(&format!("${{{name}}}"), false),
                found => self.append_piece(found.unwrap_or_default(), false),
            },
            Some(':') => {
                let modifier = self.next().ok_or(ExpandError::MissingBrace)?;
                self.open_modifier(name, modifier, true)
            }
            Some(modifier) => self.open_modifier(name, modifier, false),
        }
    }

    /// Pushes the frames for the word behind a modifier.
    fn open_modifier(&mut self, name: String, modifier: char, empty_is_unset: bool) -> Result<(), ExpandError> {
        let mut sign = String::from(if empty_is_unset { ":" } else { "" });
        sign.push(modifier);
        let form = match modifier {
            '-' => SubstitutionForm::Default,
            '+' => SubstitutionForm::Alternative,
            '?' => SubstitutionForm::Required,
            '#' if !empty_is_unset => SubstitutionForm::TrimStart,
            '%' if !empty_is_unset => SubstitutionForm::TrimEnd,
            '/' if !empty_is_unset => {
                let all = self.peek() == Some('/');
                if all {
                    self.next();
                    sign.push('/');
                }
                SubstitutionForm::ReplacePattern { all }
            }
            _ => return Err(ExpandError::UnsupportedModifier(sign)),
        };
        let inner = match form {
            SubstitutionForm::Default | SubstitutionForm::Alternative | SubstitutionForm::Required => {
                ExpandFrame::text(Some('}'), false)
            }
            SubstitutionForm::TrimStart | SubstitutionForm::TrimEnd => ExpandFrame::text(Some('}'), true),
            SubstitutionForm::ReplacePattern { .. } | SubstitutionForm::Replace { .. } => {
                ExpandFrame::text(Some('/'), true)
            }
        };
        self.spend(name.len() + 64)?;
        self.frames.push(ExpandFrame::Dollar(Substitution { name, form, sign, empty_is_unset }));
        self.frames.push(inner);
        Ok(())
    }

    /// Ends the word in a `${}`: evaluates the substitution and appends the result to the enclosing text.
    fn end_of_inner_word(&mut self) -> Result<(), ExpandError> {
        let (Some(ExpandFrame::Text { out: word, .. }), Some(ExpandFrame::Dollar(dollar))) =
            (self.frames.pop(), self.frames.pop())
        else {
            return Ok(());
        };
        if let SubstitutionForm::ReplacePattern { all } = dollar.form {
            let form = SubstitutionForm::Replace { all, pattern: word };
            self.frames.push(ExpandFrame::Dollar(Substitution { form, ..dollar }));
            self.frames.push(ExpandFrame::text(Some('}'), true));
            return Ok(());
        }
        let value = self.lookup(&dollar.name);
        if value.is_none() && self.options.keep_unset {
            let text = dollar.as_written(&word);
            return self.append_piece(&text, false);
        }
        let text = dollar.evaluate(value, word)?;
        self.append_piece(&text, false)
    }

    fn read_name(&mut self) -> String {
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
        let seen = if value.is_some() { &mut self.lookups.matched } else { &mut self.lookups.unmatched };
        if !seen.contains(name) {
            seen.insert(name.to_owned());
        }
        value
    }

    /// Returns true when written text is also split into words, which is so only at the outermost level.
    fn is_splitting(&self) -> bool {
        self.options.split && self.frames.len() == 1
    }

    fn put_literal(&mut self, letter: char) -> Result<(), ExpandError> {
        if self.is_splitting() {
            self.words.push_quoted(letter.encode_utf8(&mut [0; 4]));
        }
        self.write(letter.encode_utf8(&mut [0; 4]))
    }

    /// Appends a finished piece to the innermost text; quoted text is not split into words.
    fn append_piece(&mut self, text: &str, quoted: bool) -> Result<(), ExpandError> {
        self.write(text)?;
        if self.is_splitting() {
            if quoted {
                self.words.push_quoted(text);
            } else {
                text.chars().for_each(|letter| self.words.push_unquoted(letter));
            }
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), ExpandError> {
        self.spend(text.len())?;
        let (Some(ExpandFrame::Text { out, .. }) | Some(ExpandFrame::Quoted { out, .. })) = self.frames.last_mut()
        else {
            return Ok(());
        };
        out.push_str(text);
        if out.len() > MAX_VALUE_SIZE { Err(ExpandError::TooLong) } else { Ok(()) }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), ExpandError> {
        self.work += bytes;
        if self.work > MAX_EXPAND_WORK { Err(ExpandError::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
