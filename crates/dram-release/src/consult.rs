//! Reading terms from text, as `file:consult/1` does.

use crate::bigint;
use crate::term::{DEEPEST, Term};

/// A text that is no list of terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct TermError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(Term),
    Atom(String),
    Text(String),
    Punct(&'static str),
    Dot,
    End,
}

/// Longer ones first.
const PUNCTUATION: [&str; 14] = ["<<", ">>", "=>", "#{", "{", "}", "[", "]", ",", "|", "-", "+", "/", ":"];

/// The terms of `bytes`, each ended by a full stop. The text is UTF-8, or Latin-1 where it is not valid UTF-8 or
/// says so (`%% coding: latin-1`).
///
/// # Errors
/// The first place that is no term.
pub fn consult(bytes: &[u8]) -> Result<Vec<Term>, TermError> {
    let mut reader = Reader { text: decode(bytes), at: 0, token: Token::End, token_at: 0 };
    reader.advance()?;
    let mut terms = Vec::new();
    while reader.token != Token::End {
        let term = reader.term(0)?;
        if reader.token != Token::Dot {
            return Err(reader.wrong("expected `.` after the term"));
        }
        reader.advance()?;
        terms.push(term);
    }
    Ok(terms)
}

fn decode(bytes: &[u8]) -> Vec<char> {
    let head: Vec<u8> = bytes.split(|&byte| byte == b'\n').take(2).flatten().take(400).copied().collect();
    let head = head.to_ascii_lowercase();
    let says_latin = head.windows(6).any(|word| word == b"coding") && head.windows(7).any(|word| word == b"latin-1");
    match std::str::from_utf8(bytes) {
        Ok(text) if !says_latin => text.chars().collect(),
        Ok(_) | Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
    token: Token,
    token_at: usize,
}

impl Reader {
    fn wrong(&self, what: impl Into<String>) -> TermError {
        self.wrong_at(self.token_at, what)
    }

    fn wrong_at(&self, at: usize, what: impl Into<String>) -> TermError {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.iter().filter(|&&letter| letter == '\n').count() + 1;
        let column = before.iter().rev().take_while(|&&letter| letter != '\n').count() + 1;
        TermError { line, column, what: what.into() }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn advance(&mut self) -> Result<(), TermError> {
        loop {
            match self.peek() {
                Some('%') => {
                    while self.peek().is_some_and(|letter| letter != '\n') {
                        self.at += 1;
                    }
                }
                Some(letter) if letter <= ' ' || ('\u{80}'..='\u{a0}').contains(&letter) => self.at += 1,
                Some(_) | None => break,
            }
        }
        self.token_at = self.at;
        self.token = match self.peek() {
            None => Token::End,
            Some('.') => match self.peek_at(1) {
                None => self.take(1, Token::Dot),
                Some(next) if next <= ' ' || next == '%' => self.take(1, Token::Dot),
                Some(_) => return Err(self.wrong("`.` inside a term")),
            },
            Some('"') => Token::Text(self.strings()?),
            Some('\'') => Token::Atom(self.quoted('\'')?),
            Some('$') => self.character()?,
            Some(letter) if letter.is_ascii_digit() => self.number()?,
            Some(letter) if starts_atom(letter) => Token::Atom(self.word()),
            Some(letter) => match PUNCTUATION.iter().find(|punct| self.looks_at(punct)) {
                Some(&punct) => self.take(punct.len(), Token::Punct(punct)),
                None if letter == '_' || letter.is_uppercase() => {
                    let word = self.word();
                    return Err(self.wrong(format!("`{word}` is a variable, and a term has none")));
                }
                None => return Err(self.wrong(format!("`{}` begins no term", letter.escape_debug()))),
            },
        };
        Ok(())
    }

    fn looks_at(&self, punct: &str) -> bool {
        punct.chars().enumerate().all(|(ahead, letter)| self.peek_at(ahead) == Some(letter))
    }

    fn take(&mut self, letters: usize, token: Token) -> Token {
        self.at += letters;
        token
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == '@') {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    /// Adjacent strings are one.
    fn strings(&mut self) -> Result<String, TermError> {
        let mut all = self.quoted('"')?;
        loop {
            let mark = self.at;
            while self.peek().is_some_and(|letter| letter <= ' ') {
                self.at += 1;
            }
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
            match self.peek() {
                None => return Err(self.wrong_at(start, format!("the quote {quote} is never closed"))),
                Some(letter) if letter == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => text.extend(self.escape()?),
                Some(letter) => {
                    self.at += 1;
                    text.push(letter);
                }
            }
        }
    }

    /// What a backslash and what follows mean; nothing for one before the end of a line.
    fn escape(&mut self) -> Result<Option<char>, TermError> {
        let start = self.at;
        self.at += 1;
        let wrong = |reader: &Reader| reader.wrong_at(start, "this escape means no character");
        let Some(letter) = self.peek() else { return Err(wrong(self)) };
        self.at += 1;
        Ok(Some(match letter {
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
                let digits: String = match self.peek() {
                    Some('{') => {
                        let end = self.text[self.at..].iter().take(12).position(|&letter| letter == '}');
                        let end = self.at + end.ok_or_else(|| wrong(self))?;
                        let digits = self.text[self.at + 1..end].iter().collect();
                        self.at = end + 1;
                        digits
                    }
                    Some(_) | None => {
                        let end = (self.at + 2).min(self.text.len());
                        let digits = self.text[self.at..end].iter().collect();
                        self.at = end;
                        digits
                    }
                };
                let value = u32::from_str_radix(&digits, 16).ok();
                value.and_then(char::from_u32).ok_or_else(|| wrong(self))?
            }
            '^' => {
                let Some(letter) = self.peek() else { return Err(wrong(self)) };
                self.at += 1;
                char::from_u32(u32::from(letter) & 0x1f).ok_or_else(|| wrong(self))?
            }
            '\n' => return Ok(None),
            letter => letter,
        }))
    }

    fn character(&mut self) -> Result<Token, TermError> {
        self.at += 1;
        let letter = match self.peek() {
            None => return Err(self.wrong("`$` at the end")),
            Some('\\') => self.escape()?,
            Some(letter) => {
                self.at += 1;
                Some(letter)
            }
        };
        let value = letter.map_or(10, |letter| i64::from(u32::from(letter)));
        Ok(Token::Number(Term::Int(value)))
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
                text.extend(&self.text[self.at..=self.at + sign]);
                self.at += 1 + sign;
                text.push_str(&self.digits(10));
            }
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Number(Term::Float(value))),
            Ok(_) | Err(_) => Err(self.wrong(format!("`{text}` is out of a float's range"))),
        }
    }

    fn is(&self, punct: &str) -> bool {
        matches!(self.token, Token::Punct(found) if found == punct)
    }

    fn expect(&mut self, punct: &str, place: &str) -> Result<(), TermError> {
        if !self.is(punct) {
            return Err(self.wrong(format!("expected `{punct}` {place}")));
        }
        self.advance()
    }

    fn term(&mut self, depth: usize) -> Result<Term, TermError> {
        if depth > DEEPEST {
            return Err(self.wrong(format!("terms are nested more than {DEEPEST} deep")));
        }
        let token = std::mem::replace(&mut self.token, Token::End);
        match token {
            Token::Number(value) => self.advance().map(|()| value),
            Token::Atom(name) => self.advance().map(|()| Term::Atom(name)),
            Token::Text(text) => self.advance().map(|()| Term::string(&text)),
            Token::Punct("{") => {
                self.advance()?;
                Ok(Term::Tuple(self.elements("}", depth)?))
            }
            Token::Punct("[") => self.list(depth),
            Token::Punct("<<") => self.binary(),
            Token::Punct("#{") => self.map(depth),
            Token::Punct(sign @ ("-" | "+")) => {
                self.advance()?;
                match std::mem::replace(&mut self.token, Token::End) {
                    Token::Number(value) => {
                        self.advance()?;
                        Ok(if sign == "-" { bigint::negate(value) } else { value })
                    }
                    _ => Err(self.wrong("expected a number after the sign")),
                }
            }
            Token::Punct(found) => Err(self.wrong(format!("`{found}` begins no term"))),
            Token::Dot => Err(self.wrong("a term ends before it is whole")),
            Token::End => Err(self.wrong("the text ends inside a term")),
        }
    }

    /// Terms with commas between, up to `end`, whose opening has been read.
    fn elements(&mut self, end: &str, depth: usize) -> Result<Vec<Term>, TermError> {
        let mut elements = Vec::new();
        if !self.is(end) {
            loop {
                elements.push(self.term(depth + 1)?);
                if !self.is(",") {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect(end, "or `,`")?;
        Ok(elements)
    }

    fn list(&mut self, depth: usize) -> Result<Term, TermError> {
        self.advance()?;
        let mut elements = Vec::new();
        if !self.is("]") {
            loop {
                elements.push(self.term(depth + 1)?);
                if self.is("|") {
                    self.advance()?;
                    let tail = self.term(depth + 1)?;
                    self.expect("]", "after the tail of a list")?;
                    return Ok(match tail {
                        Term::List(rest) => {
                            elements.extend(rest);
                            Term::List(elements)
                        }
                        tail => Term::Improper(elements, Box::new(tail)),
                    });
                }
                if !self.is(",") {
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
        let mut pairs: Vec<(Term, Term)> = Vec::new();
        if !self.is("}") {
            loop {
                let key = self.term(depth + 1)?;
                self.expect("=>", "after a key")?;
                let value = self.term(depth + 1)?;
                match pairs.iter_mut().find(|(known, _)| *known == key) {
                    Some(pair) => pair.1 = value,
                    None => pairs.push((key, value)),
                }
                if !self.is(",") {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect("}", "or `,`")?;
        Ok(Term::Map(pairs))
    }

    /// Segments: a string, or an integer of a byte; `/utf8` is the one type there is.
    fn binary(&mut self) -> Result<Term, TermError> {
        self.advance()?;
        let mut bytes = Vec::new();
        while !self.is(">>") {
            let (text, place) = match std::mem::replace(&mut self.token, Token::End) {
                Token::Text(text) => (text, self.token_at),
                Token::Number(Term::Int(value)) => {
                    let value = u32::try_from(value).ok().and_then(char::from_u32);
                    (value.ok_or_else(|| self.wrong("no byte"))?.to_string(), self.token_at)
                }
                _ => return Err(self.wrong("expected a string or a byte in a binary")),
            };
            self.advance()?;
            let mut as_utf8 = false;
            if self.is("/") {
                self.advance()?;
                as_utf8 = self.token == Token::Atom("utf8".to_owned());
                if !as_utf8 {
                    return Err(self.wrong("`utf8` is the one type that a segment may have here"));
                }
                self.advance()?;
            }
            if as_utf8 {
                bytes.extend(text.as_bytes());
            } else {
                for letter in text.chars() {
                    let byte = u8::try_from(u32::from(letter));
                    bytes.push(byte.map_err(|_| self.wrong_at(place, "a character that is no byte: add `/utf8`"))?);
                }
            }
            if !self.is(",") {
                break;
            }
            self.advance()?;
        }
        self.expect(">>", "or `,`")?;
        Ok(Term::Binary(bytes))
    }
}

fn starts_atom(letter: char) -> bool {
    letter.is_lowercase() || ('\u{df}'..='\u{ff}').contains(&letter) && letter != '\u{f7}'
}
