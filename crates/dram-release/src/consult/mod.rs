//! Parses terms from text, as `file:consult/1` does.

mod binary;
pub(crate) mod scan;

use std::borrow::Cow;

use crate::bigint;
use crate::term::{DEEPEST, Term};
use crate::term_order;
use scan::{ConsultParser, TermToken};

/// The maximum length of the text.
const LONGEST: usize = 80 << 20;

/// A syntax error in the text of Erlang terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct TermError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// A description of the error.
    pub what: String,
}

/// Parses the terms in `bytes`, each followed by a full stop. The text is UTF-8; it is Latin-1 if it is not valid UTF-8
/// or declares it (`%% coding: latin-1`).
///
/// # Errors
/// Returns the first syntax error.
pub fn consult(bytes: &[u8]) -> Result<Vec<Term>, TermError> {
    let text = decode_text(bytes)?;
    let mut reader = ConsultParser::new(&text)?;
    let mut terms = Vec::new();
    while reader.token != TermToken::End {
        let term = reader.term(0)?;
        if reader.token != TermToken::Dot {
            return Err(reader.error("expected `.` after the term"));
        }
        reader.advance()?;
        terms.push(term);
    }
    Ok(terms)
}

/// Parses the single term in `bytes`, with or without a full stop.
///
/// # Errors
/// Returns the first syntax error, or an error if there is a second term.
pub fn parse_one(bytes: &[u8]) -> Result<Term, TermError> {
    let text = decode_text(bytes)?;
    let mut reader = ConsultParser::new(&text)?;
    let term = reader.term(0)?;
    if reader.token == TermToken::Dot {
        reader.advance()?;
    }
    if reader.token == TermToken::End { Ok(term) } else { Err(reader.error("expected nothing after the term")) }
}

fn decode_text(bytes: &[u8]) -> Result<Cow<'_, str>, TermError> {
    if bytes.len() > LONGEST {
        return Err(TermError { line: 1, column: 1, what: format!("the text is longer than {} MiB", LONGEST >> 20) });
    }
    let head: Vec<u8> = bytes.split(|&byte| byte == b'\n').take(2).flatten().take(400).copied().collect();
    let head = head.to_ascii_lowercase();
    let says_latin = head.windows(6).any(|word| word == b"coding") && head.windows(7).any(|word| word == b"latin-1");
    match std::str::from_utf8(bytes) {
        Ok(text) if !says_latin => Ok(Cow::Borrowed(text)),
        Ok(_) | Err(_) => Ok(Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect())),
    }
}

impl ConsultParser<'_> {
    fn is_at(&self, punct: &str) -> bool {
        matches!(self.token, TermToken::Punct(found) if found == punct)
    }

    fn expect(&mut self, punct: &str, place: &str) -> Result<(), TermError> {
        if !self.is_at(punct) {
            return Err(self.error(format!("expected `{punct}` {place}")));
        }
        self.advance()
    }

    // This function is recursive and should use little stack, so everything that does not recurse is in other
    // functions.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    fn term(&mut self, depth: usize) -> Result<Term, TermError> {
        self.enter(depth)?;
        match std::mem::replace(&mut self.token, TermToken::End) {
            TermToken::Punct(punct) => self.compound(punct, depth),
            token => self.scalar(token),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), TermError> {
        if depth > DEEPEST {
            return Err(self.error(format!("terms are nested more than {DEEPEST} deep")));
        }
        self.count_terms(1)
    }

    fn scalar(&mut self, token: TermToken) -> Result<Term, TermError> {
        let term = match token {
            TermToken::Number(value) => value,
            TermToken::Atom(name) => Term::Atom(name),
            TermToken::Text(text) => {
                self.count_terms(text.chars().count())?;
                Term::string(&text)
            }
            TermToken::ReservedWord(word) => {
                return Err(self.error(format!("`{word}` is a word of the language: as an atom it is `'{word}'`")));
            }
            TermToken::Punct(found) => return Err(self.error(format!("`{found}` begins no term"))),
            TermToken::Dot => return Err(self.error("a term ends before it is whole")),
            TermToken::End => return Err(self.error("the text ends inside a term")),
        };
        self.advance()?;
        Ok(term)
    }

    fn compound(&mut self, punct: &'static str, depth: usize) -> Result<Term, TermError> {
        match punct {
            "{" => self.tuple(depth),
            "[" => self.list(depth),
            "<<" => self.binary(depth),
            "#" => self.map(depth),
            "(" => self.parenthesized(depth),
            "-" => self.signed(true, depth),
            "+" => self.signed(false, depth),
            _ => self.scalar(TermToken::Punct(punct)),
        }
    }

    fn parenthesized(&mut self, depth: usize) -> Result<Term, TermError> {
        self.advance()?;
        let term = self.term(depth + 1)?;
        self.expect(")", "after a term in brackets")?;
        Ok(term)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    fn signed(&mut self, is_negative: bool, depth: usize) -> Result<Term, TermError> {
        let place = self.token_offset;
        self.advance()?;
        let has_sign = self.is_at("-") || self.is_at("+");
        match self.term(depth + 1)? {
            number @ (Term::Int(_) | Term::Big(..) | Term::Float(_)) if !has_sign => {
                Ok(if is_negative { bigint::negate(number) } else { number })
            }
            _ => Err(self.error_at(place, "expected a number after the sign")),
        }
    }

    fn tuple(&mut self, depth: usize) -> Result<Term, TermError> {
        self.advance()?;
        let mut elements = Vec::new();
        if !self.is_at("}") {
            loop {
                elements.push(self.term(depth + 1)?);
                if !self.is_at(",") {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect("}", "or `,`")?;
        Ok(Term::Tuple(elements))
    }

    fn list(&mut self, depth: usize) -> Result<Term, TermError> {
        self.advance()?;
        let mut elements = Vec::new();
        if !self.is_at("]") {
            loop {
                elements.push(self.term(depth + 1)?);
                if self.is_at("|") {
                    self.advance()?;
                    let tail = self.term(depth + 1)?;
                    self.expect("]", "after the tail of a list")?;
                    return Ok(Term::with_tail(elements, tail));
                }
                if !self.is_at(",") {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect("]", "or `,`")?;
        Ok(Term::List(elements))
    }

    fn map(&mut self, depth: usize) -> Result<Term, TermError> {
        self.advance()?;
        if !self.is_at("{") {
            return Err(self.error("expected `{` after `#`"));
        }
        self.advance()?;
        let mut pairs: Vec<(Term, Term)> = Vec::new();
        if !self.is_at("}") {
            loop {
                let key = self.term(depth + 1)?;
                self.expect("=>", "after a key")?;
                let value = self.term(depth + 1)?;
                pairs.push((key, value));
                if !self.is_at(",") {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect("}", "or `,`")?;
        Ok(Term::Map(term_order::deduplicate_pairs(pairs)))
    }
}
