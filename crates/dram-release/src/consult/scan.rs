//! The tokens of term text, as `erl_scan` splits it.

use super::TermError;
use crate::bigint;
use crate::term::{MOST_TERMS, Term};

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TermToken {
    Number(Term),
    Atom(String),
    Text(String),
    Punct(&'static str),
    /// A reserved word, which is not an atom.
    ReservedWord(&'static str),
    Dot,
    End,
}

/// Longer tokens come before their prefixes.
const PUNCTUATION: [&str; 16] = ["<<", ">>", "=>", "#", "{", "}", "[", "]", "(", ")", ",", "|", "-", "+", "/", ":"];

/// The reserved words of Erlang.
pub(crate) const RESERVED: [&str; 27] = [
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond", "div",
    "end", "fun", "if", "let", "not", "of", "or", "orelse", "receive", "rem", "try", "when", "xor",
];

/// A parser of term text with one token of lookahead.
pub(super) struct ConsultParser<'a> {
    text: &'a str,
    offset: usize,
    pub(super) token: TermToken,
    pub(super) token_offset: usize,
    /// The number of terms that may still be created.
    terms_left: usize,
}

impl<'a> ConsultParser<'a> {
    pub(super) fn new(text: &'a str) -> Result<ConsultParser<'a>, TermError> {
        let mut reader =
            ConsultParser { text, offset: 0, token: TermToken::End, token_offset: 0, terms_left: MOST_TERMS };
        reader.advance()?;
        Ok(reader)
    }

    /// Counts terms before they are created, so that memory use is bounded for any input.
    pub(super) fn count_terms(&mut self, terms: usize) -> Result<(), TermError> {
        match self.terms_left.checked_sub(terms) {
            Some(left) => {
                self.terms_left = left;
                Ok(())
            }
            None => Err(self.error(format!("there are more than {MOST_TERMS} terms and letters"))),
        }
    }

    pub(super) fn error(&self, what: impl Into<String>) -> TermError {
        self.error_at(self.token_offset, what)
    }

    pub(super) fn error_at(&self, at: usize, what: impl Into<String>) -> TermError {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|&letter| letter != '\n').count() + 1;
        TermError { line, column, what: what.into() }
    }

    /// Returns the text that has not been read.
    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.rest().chars().nth(ahead)
    }

    /// Consumes the next character.
    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.offset += letter.len_utf8();
        Some(letter)
    }

    /// Consumes characters while `is_right` returns true.
    fn next_while(&mut self, is_right: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let read = &rest[..rest.find(|letter| !is_right(letter)).unwrap_or(rest.len())];
        self.offset += read.len();
        read
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) {
        loop {
            self.next_while(is_space);
            if self.peek() != Some('%') {
                return;
            }
            self.offset += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    /// Advances to the next token.
    pub(super) fn advance(&mut self) -> Result<(), TermError> {
        self.skip_space();
        self.token_offset = self.offset;
        self.token = match self.peek() {
            None => TermToken::End,
            Some('.') => match self.peek_at(1) {
                None => self.consume(1, TermToken::Dot),
                Some(next) if is_space(next) || next == '%' => self.consume(1, TermToken::Dot),
                Some(_) => return Err(self.error("`.` inside a term")),
            },
            Some('"') => TermToken::Text(self.strings()?),
            Some('\'') => TermToken::Atom(self.quoted('\'')?),
            Some('$') => self.character()?,
            Some(letter) if letter.is_ascii_digit() => self.number()?,
            Some(letter) if is_atom_start(letter) => {
                let word = self.word();
                match RESERVED.iter().find(|reserved| **reserved == word) {
                    Some(reserved) => TermToken::ReservedWord(reserved),
                    None => TermToken::Atom(word),
                }
            }
            Some(letter) => match PUNCTUATION.iter().find(|punct| self.rest().starts_with(**punct)) {
                Some(&punct) => self.consume(punct.len(), TermToken::Punct(punct)),
                None if is_atom_char(letter) => {
                    let word = self.word();
                    return Err(self.error(format!("`{word}` is a variable, and a term has none")));
                }
                None => return Err(self.error(format!("`{}` begins no term", letter.escape_debug()))),
            },
        };
        Ok(())
    }

    fn consume(&mut self, letters: usize, token: TermToken) -> TermToken {
        self.offset += letters;
        token
    }

    fn word(&mut self) -> String {
        self.next_while(is_atom_char).to_owned()
    }

    /// Parses a string; adjacent strings are concatenated.
    fn strings(&mut self) -> Result<String, TermError> {
        let mut all = self.quoted('"')?;
        loop {
            let mark = self.offset;
            self.skip_space();
            if self.peek() != Some('"') {
                self.offset = mark;
                return Ok(all);
            }
            all.push_str(&self.quoted('"')?);
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, TermError> {
        let start = self.offset;
        self.offset += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.next_while(|letter| letter != quote && letter != '\\'));
            match self.peek() {
                None => return Err(self.error_at(start, format!("the quote {quote} is never closed"))),
                Some('\\') => text.push(self.escape()?),
                Some(_) => {
                    self.offset += 1;
                    return Ok(text);
                }
            }
        }
    }

    /// Parses an escape sequence.
    fn escape(&mut self) -> Result<char, TermError> {
        let start = self.offset;
        self.offset += 1;
        let wrong = |reader: &ConsultParser<'_>| reader.error_at(start, "this escape means no character");
        let Some(letter) = self.next() else { return Err(wrong(self)) };
        Ok(match letter {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'e' => '\u{1b}',
            's' => ' ',
            'd' => '\u{7f}',
            '0'..='7' => {
                let mut value = letter.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|letter| letter.to_digit(8)) else { break };
                    value = value * 8 + digit;
                    self.offset += 1;
                }
                char::from_u32(value).ok_or_else(|| wrong(self))?
            }
            'x' => {
                let digits = match self.peek() {
                    Some('{') => {
                        let rest = &self.rest()[1..];
                        let end = rest.bytes().take(11).position(|byte| byte == b'}').ok_or_else(|| wrong(self))?;
                        self.offset += end + 2;
                        &rest[..end]
                    }
                    Some(_) | None => {
                        let rest = self.rest();
                        let end = rest.chars().take(2).map(char::len_utf8).sum();
                        self.offset += end;
                        &rest[..end]
                    }
                };
                let value = u32::from_str_radix(digits, 16).ok();
                value.and_then(char::from_u32).ok_or_else(|| wrong(self))?
            }
            '^' => {
                let Some(letter) = self.next() else { return Err(wrong(self)) };
                char::from_u32(u32::from(letter) & 0x1f).ok_or_else(|| wrong(self))?
            }
            letter => letter,
        })
    }

    fn character(&mut self) -> Result<TermToken, TermError> {
        self.offset += 1;
        let letter = match self.peek() {
            None => return Err(self.error("`$` at the end")),
            Some('\\') => self.escape()?,
            Some(letter) => {
                self.offset += letter.len_utf8();
                letter
            }
        };
        Ok(TermToken::Number(Term::Int(i64::from(u32::from(letter)))))
    }

    fn digits(&mut self, base: u32) -> String {
        let mut digits = String::new();
        while let Some(letter) = self.peek() {
            let is_separator = letter == '_' && self.peek_at(1).is_some_and(|next| next.is_digit(base));
            if letter.is_digit(base) {
                digits.push(letter);
            } else if !is_separator || digits.is_empty() {
                break;
            }
            self.offset += 1;
        }
        digits
    }

    fn number(&mut self) -> Result<TermToken, TermError> {
        let whole = self.digits(10);
        if self.peek() == Some('#') {
            let base = whole.parse().ok().filter(|base| (2..=36).contains(base));
            let base: u32 = base.ok_or_else(|| self.error(format!("`{whole}#` is no base: 2 to 36")))?;
            self.offset += 1;
            let digits = self.digits(base);
            return match bigint::parse_integer(&digits, base) {
                Some(value) => Ok(TermToken::Number(value)),
                None => Err(self.error("a number without digits")),
            };
        }
        let is_float = self.peek() == Some('.') && self.peek_at(1).is_some_and(|letter| letter.is_ascii_digit());
        if !is_float {
            let value = bigint::parse_integer(&whole, 10);
            return value.map(TermToken::Number).ok_or_else(|| self.error("a number that is too long"));
        }
        self.offset += 1;
        let mut text = format!("{whole}.{}", self.digits(10));
        if matches!(self.peek(), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek_at(1), Some('+' | '-')));
            if self.peek_at(1 + sign).is_some_and(|letter| letter.is_ascii_digit()) {
                text.push_str(&self.rest()[..=sign]);
                self.offset += 1 + sign;
                text.push_str(&self.digits(10));
            }
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(TermToken::Number(Term::Float(value))),
            Ok(_) | Err(_) => Err(self.error(format!("`{text}` is out of a float's range"))),
        }
    }
}

fn is_space(letter: char) -> bool {
    letter <= ' ' || ('\u{80}'..='\u{a0}').contains(&letter)
}

/// Returns true if an unquoted atom can start with this character.
pub(crate) fn is_atom_start(letter: char) -> bool {
    letter.is_ascii_lowercase() || ('ß'..='ÿ').contains(&letter) && letter != '÷'
}

/// Returns true if an unquoted atom can contain this character.
pub(crate) fn is_atom_char(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || matches!(letter, '_' | '@')
        || ('À'..='ÿ').contains(&letter) && !matches!(letter, '×' | '÷')
}
