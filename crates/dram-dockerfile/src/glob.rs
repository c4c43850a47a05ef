//! Wildcards in the sources of `COPY` and `ADD`, one path component at a time.
//!
//! The language is that of Go's `filepath.Match`: `*` and `?` stop at a slash, `[a-z]` and `[^a-z]` match one
//! character, a backslash escapes the next one, and a malformed pattern is an error even if matching does not reach it.

use thiserror::Error;

/// The error for a malformed pattern: an open `[`, an empty or incomplete range, or a backslash at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the wildcard is malformed")]
pub struct BadPattern;

/// One token of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Letter(char),
    /// `?`: one character that is not a slash.
    One,
    /// `*`: any number of characters that are not slashes.
    Star,
    Class(Class),
}

/// `[…]`: one character inside the ranges, or outside all of them when negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    pub(crate) fn has(&self, letter: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter)) != self.negated
    }
}

/// Returns true when `pattern` has an unescaped wildcard.
pub fn has_magic(pattern: &str) -> bool {
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' | '?' | '[' => return true,
            '\\' => drop(letters.next()),
            _ => {}
        }
    }
    false
}

/// Returns true when the whole of `name` matches `pattern`, as Go's `filepath.Match` on Unix.
///
/// # Errors
/// [`GlobError`] when the pattern is malformed.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let tokens = tokens(pattern)?;
    let name: Vec<char> = name.chars().collect();
    Ok(run(&tokens, &name))
}

/// Splits `pattern` into tokens.
pub(crate) fn tokens(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::with_capacity(letters.len());
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        at += 1;
        tokens.push(match letter {
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => {
                at += 1;
                Token::Letter(*letters.get(at - 1).ok_or(BadPattern)?)
            }
            '[' => {
                let (class, after) = class(&letters, at)?;
                at = after;
                Token::Class(class)
            }
            other => Token::Letter(*other),
        });
    }
    Ok(tokens)
}

/// Reads a class from behind its `[`; also returns the index behind its `]`.
pub(crate) fn class(letters: &[char], mut at: usize) -> Result<(Class, usize), BadPattern> {
    let negated = letters.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        if letters.get(at) == Some(&']') && !ranges.is_empty() {
            return Ok((Class { negated, ranges }, at + 1));
        }
        let low = class_letter(letters, &mut at)?;
        let high = if letters.get(at) == Some(&'-') {
            at += 1;
            class_letter(letters, &mut at)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_letter(letters: &[char], at: &mut usize) -> Result<char, BadPattern> {
    let mut letter = *letters.get(*at).ok_or(BadPattern)?;
    if letter == '-' || letter == ']' {
        return Err(BadPattern);
    }
    if letter == '\\' {
        *at += 1;
        letter = *letters.get(*at).ok_or(BadPattern)?;
    }
    *at += 1;
    // A class that reaches the end of the pattern has no closing bracket.
    if *at < letters.len() { Ok(letter) } else { Err(BadPattern) }
}

/// Matches with a single backtracking point: an earlier star never needs to grow once a later one was reached.
fn run(tokens: &[Token], name: &[char]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (tokens.get(token), name.get(at)) {
            (Some(Token::Star), _) => {
                token += 1;
                star = Some((token, at));
                continue;
            }
            (None, None) => return true,
            (Some(one), Some(letter)) if one.takes(*letter) => {
                token += 1;
                at += 1;
                continue;
            }
            (Some(_) | None, _) => {}
        }
        match star {
            Some((after, from)) if from < name.len() && name[from] != '/' => {
                star = Some((after, from + 1));
                (token, at) = (after, from + 1);
            }
            Some(_) | None => return false,
        }
    }
}

impl Token {
    fn takes(&self, letter: char) -> bool {
        match self {
            Token::Letter(own) => *own == letter,
            Token::One => letter != '/',
            Token::Star => false,
            Token::Class(class) => class.has(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_like_go() {
        let table = [
            ("mix.exs", "mix.exs", true),
            ("*.exs", "mix.exs", true),
            ("*.exs", "lib/mix.exs", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "é", true),
            ("?", "/", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("x]", "x]", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn malformed_patterns_are_errors_wherever_they_break() {
        for pattern in ["[", "[]", "[]a]", "[^]", "[a-]", "[-a]", "[a", "a\\", "zzz[", "[a-b-c]"] {
            assert_eq!(matches(pattern, "q"), Err(BadPattern), "{pattern}");
        }
    }

    #[test]
    fn escaped_wildcards_are_literal() {
        assert!(has_magic("a*"));
        assert!(has_magic("a\\\\?"));
        assert!(!has_magic("a\\*"));
        assert!(!has_magic("plain/path"));
    }

    #[test]
    fn many_stars_do_not_backtrack_exponentially() {
        let pattern = "*a".repeat(2000);
        let name = "a".repeat(1999) + &"b".repeat(20_000);
        assert_eq!(matches(&pattern, &name), Ok(false));
    }
}
