//! The words of a text of terms, as `erl_scan` finds them.

use super::TermError;
use crate::bigint;
use crate::term::Term;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(Term),
    Atom(String),
    Text(String),
    Punct(&'static str),
    /// A word of the language, which is no atom.
    Word(&'static str),
    Dot,
    End,
}

/// Longer ones first.
const PUNCTUATION: [&str; 16] = ["<<", ">>", "=>", "#", "{", "}", "[", "]", "(", ")", ",", "|", "-", "+", "/", ":"];

/// The words of the language.
pub(crate) const RESERVED: [&str; 27] = [
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond", "div",
    "end", "fun", "if", "let", "not", "of", "or", "orelse", "receive", "rem", "try", "when", "xor",
];

/// A text, and the token of it that is looked at.
pub(super) struct Reader {
    text: Vec<char>,
    at: usize,
    pub(super) token: Token,
    pub(super) token_at: usize,
}

impl Reader {
    pub(super) fn new(text: Vec<char>) -> Result<Reader, TermError> {
        let mut reader = Reader { text, at: 0, token: Token::End, token_at: 0 };
        reader.advance()?;
        Ok(reader)
    }

    pub(super) fn wrong(&self, what: impl Into<String>) -> TermError {
        self.wrong_at(self.token_at, what)
    }

    pub(super) fn wrong_at(&self, at: usize, what: impl Into<String>) -> TermError {
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

    /// Goes on behind white space and comments.
    fn skip(&mut self) {
        loop {
            match self.peek() {
                Some('%') => {
                    while self.peek().is_some_and(|letter| letter != '\n') {
                        self.at += 1;
                    }
                }
                Some(letter) if is_space(letter) => self.at += 1,
                Some(_) | None => break,
            }
        }
    }

    /// Goes on to the next token.
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
            Some(letter) => match PUNCTUATION.iter().find(|punct| self.looks_at(punct)) {
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

    fn looks_at(&self, punct: &str) -> bool {
        punct.chars().enumerate().all(|(ahead, letter)| self.peek_at(ahead) == Some(letter))
    }

    fn take(&mut self, letters: usize, token: Token) -> Token {
        self.at += letters;
        token
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(is_inner) {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    /// Adjacent strings are one.
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
            match self.peek() {
                None => return Err(self.wrong_at(start, format!("the quote {quote} is never closed"))),
                Some(letter) if letter == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some(letter) => {
                    self.at += 1;
                    text.push(letter);
                }
            }
        }
    }

    /// What a backslash and what follows mean.
    fn escape(&mut self) -> Result<char, TermError> {
        let start = self.at;
        self.at += 1;
        let wrong = |reader: &Reader| reader.wrong_at(start, "this escape means no character");
        let Some(letter) = self.peek() else { return Err(wrong(self)) };
        self.at += 1;
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
            letter => letter,
        })
    }

    fn character(&mut self) -> Result<Token, TermError> {
        self.at += 1;
        let letter = match self.peek() {
            None => return Err(self.wrong("`$` at the end")),
            Some('\\') => self.escape()?,
            Some(letter) => {
                self.at += 1;
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
}

fn is_space(letter: char) -> bool {
    letter <= ' ' || ('\u{80}'..='\u{a0}').contains(&letter)
}

/// Whether a letter may begin an atom without quotes.
pub(crate) fn starts_atom(letter: char) -> bool {
    letter.is_ascii_lowercase() || ('ß'..='ÿ').contains(&letter) && letter != '÷'
}

/// Whether a letter may go on in an atom without quotes.
pub(crate) fn is_inner(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || matches!(letter, '_' | '@')
        || ('À'..='ÿ').contains(&letter) && !matches!(letter, '×' | '÷')
}
