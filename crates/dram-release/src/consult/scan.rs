//! The tokens of term text, as `erl_scan` splits it.

use super::TermError;
use crate::bigint;
use crate::term::{MOST_TERMS, Term};

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(Term),
    Atom(String),
    Text(String),
    Punct(&'static str),
    /// A reserved word, which is not an atom.
    Word(&'static str),
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
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    pub(super) token: Token,
    pub(super) token_at: usize,
    /// The number of terms that may still be created.
    left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Result<Reader<'a>, TermError> {
        let mut reader = Reader { text, at: 0, token: Token::End, token_at: 0, left: MOST_TERMS };
        reader.advance()?;
        Ok(reader)
    }

    /// Counts terms before they are created, so that memory use is bounded for any input.
    pub(super) fn count(&mut self, terms: usize) -> Result<(), TermError> {
        match self.left.checked_sub(terms) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.wrong(format!("there are more than {MOST_TERMS} terms and letters"))),
        }
    }

    pub(super) fn wrong(&self, what: impl Into<String>) -> TermError {
        self.wrong_at(self.token_at, what)
    }

    pub(super) fn wrong_at(&self, at: usize, what: impl Into<String>) -> TermError {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|&letter| letter != '\n').count() + 1;
        TermError { line, column, what: what.into() }
    }

    /// Returns the text that has not been read.
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
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
        self.at += letter.len_utf8();
        Some(letter)
    }

    /// Consumes characters while `is_right` returns true.
    fn next_while(&mut self, is_right: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let read = &rest[..rest.find(|letter| !is_right(letter)).unwrap_or(rest.len())];
        self.at += read.len();
        read
    }

    /// Skips white space and comments.
    fn skip(&mut self) {
        loop {
            self.next_while(is_space);
            if self.peek() != Some('%') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    /// Advances to the next token.
    pub(super) fn advance(&mut self) -> Result<(), TermError> {
        self.skip();
        self.token_at = self.at;
        self.token = match self.peek() {
            None => Token::End,
            Some('.') => match self.peek_at(1) {
                None => self.take(1, Token::Dot),
                Some(next) if is_space(next) || next == '%' => self.take(1, Token::Dot),
                Some(_) => return Err(self.wrong("`.` inside a term")),
            },
            Some('"') => Token::Text(self.strings()?),
            Some('\'') => Token::Atom(self.quoted('\'')?),
            Some('$') => self.character()?,
            Some(letter) if letter.is_ascii_digit() => self.number()?,
            Some(letter) if starts_atom(letter) => {
                let word = self.word();
                match RESERVED.iter().find(|reserved| **reserved == word) {
                    Some(reserved) => Token::Word(reserved),
                    None => Token::Atom(word),
                }
            }
            Some(letter) => match PUNCTUATION.iter().find(|punct| self.rest().starts_with(**punct)) {
                Some(&punct) => self.take(punct.len(), Token::Punct(punct)),
                None if is_inner(letter) => {
                    let word = self.word();
                    return Err(self.wrong(format!("`{word}` is a variable, and a term has none")));
                }
                None => return Err(self.wrong(format!("`{}` begins no term", letter.escape_debug()))),
            },
        };
        Ok(())
    }

    fn take(&mut self, letters: usize, token: Token) -> Token {
        self.at += letters;
        token
    }

    fn word(&mut self) -> String {
        self.next_while(is_inner).to_owned()
    }

    /// Parses a string; adjacent strings are concatenated.
    fn strings(&mut self) -> Result<String, TermError> {
        let mut all = self.quoted('"')?;
        loop {
            let mark = self.at;
            self.skip();
            if self.peek() != Some('"') {
                self.at = mark;
                return Ok(all);
            }
            all.push_str(&self.quoted('"')?);
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, TermError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.next_while(|letter| letter != quote && letter != '\\'));
            match self.peek() {
                None => return Err(self.wrong_at(start, format!("the quote {quote} is never closed"))),
                Some('\\') => text.push(self.escape()?),
                Some(_) => {
                    self.at += 1;
                    return Ok(text);
                }
            }
        }
    }

    /// Parses an escape sequence.
    fn escape(&mut self) -> Result<char, TermError> {
        let start = self.at;
        self.at += 1;
        let wrong = |reader: &Reader<'_>| reader.wrong_at(start, "this escape means no character");
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
                    self.at += 1;
                }
                char::from_u32(value).ok_or_else(|| wrong(self))?
            }
            'x' => {
                let digits = match self.peek() {
                    Some('{') => {
                        let rest = &self.rest()[1..];
                        let end = rest.bytes().take(11).position(|byte| byte == b'}').ok_or_else(|| wrong(self))?;
                        self.at += end + 2;
                        &rest[..end]
                    }
                    Some(_) | None => {
                        let rest = self.rest();
                        let end = rest.chars().take(2).map(char::len_utf8).sum();
                        self.at += end;
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

    fn character(&mut self) -> Result<Token, TermError> {
        self.at += 1;
        let letter = match self.peek() {
            None => return Err(self.wrong("`$` at the end")),
            Some('\\') => self.escape()?,
            Some(letter) => {
                self.at += letter.len_utf8();
                letter
            }
        };
        Ok(Token::Number(Term::Int(i64::from(u32::from(letter)))))
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
            self.at += 1;
        }
        digits
    }

    fn number(&mut self) -> Result<Token, TermError> {
        let whole = self.digits(10);
        if self.peek() == Some('#') {
            let base = whole.parse().ok().filter(|base| (2..=36).contains(base));
            let base: u32 = base.ok_or_else(|| self.wrong(format!("`{whole}#` is no base: 2 to 36")))?;
            self.at += 1;
            let digits = self.digits(base);
            return match bigint::parse(&digits, base) {
                Some(value) => Ok(Token::Number(value)),
                None => Err(self.wrong("a number without digits")),
            };
        }
        let is_float = self.peek() == Some('.') && self.peek_at(1).is_some_and(|letter| letter.is_ascii_digit());
        if !is_float {
            let value = bigint::parse(&whole, 10);
            return value.map(Token::Number).ok_or_else(|| self.wrong("a number that is too long"));
        }
        self.at += 1;
        let mut text = format!("{whole}.{}", self.digits(10));
        if matches!(self.peek(), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek_at(1), Some('+' | '-')));
            if self.peek_at(1 + sign).is_some_and(|letter| letter.is_ascii_digit()) {
                text.push_str(&self.rest()[..=sign]);
                self.at += 1 + sign;
                text.push_str(&self.digits(10));
            }
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Number(Term::Float(value))),
            Ok(_) | Err(_) => Err(self.wrong(format!("`{text}` is out of a float's range"))),
        }
    }
}

fn is_space(letter: char) -> bool {
    letter <= ' ' || ('\u{80}'..='\u{a0}').contains(&letter)
}

/// Returns true if an unquoted atom can start with this character.
pub(crate) fn starts_atom(letter: char) -> bool {
    letter.is_ascii_lowercase() || ('ß'..='ÿ').contains(&letter) && letter != '÷'
}

/// Returns true if an unquoted atom can contain this character.
pub(crate) fn is_inner(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || matches!(letter, '_' | '@')
        || ('À'..='ÿ').contains(&letter) && !matches!(letter, '×' | '÷')
}
