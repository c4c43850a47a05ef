//! Wildcards in the sources of `COPY` and `ADD`, one path component at a time.
//!
//! The language is that of Go's `filepath.Match`: `*` and `?` stop at a slash, `[a-z]` and `[^a-z]` are one letter,
//! a backslash takes the next letter literally, and a malformed pattern is an error even where it would not be reached.

use thiserror::Error;

/// A malformed pattern: an open `[`, an empty or half range, or a backslash at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the wildcard is malformed")]
pub struct BadPattern;

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Letter(char),
    /// `?`: one letter that is not a slash.
    One,
    /// `*`: any letters that are not slashes.
    Star,
    Class(Class),
}

/// `[…]`: one letter out of ranges, or out of none of them.
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

/// Whether `pattern` has anything but literal letters (an escaped letter counts as literal).
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

/// Whether the whole of `name` matches `pattern`, as Go's `filepath.Match` on Unix.
///
/// # Errors
/// [`BadPattern`] when the pattern is malformed.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let tokens = tokens(pattern)?;
    let name: Vec<char> = name.chars().collect();
    Ok(run(&tokens, &name))
}

/// The pieces of `pattern`.
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

/// Reads a class from behind its `[`; gives the place behind its `]` too.
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
    // A class that ends with the pattern has lost its bracket.
    if *at < letters.len() { Ok(letter) } else { Err(BadPattern) }
}

/// Matches with one point to come back to: an earlier star never needs to grow once a later one was reached.
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
    fn magic() {
        assert!(has_magic("a*"));
        assert!(has_magic("a\\\\?"));
        assert!(!has_magic("a\\*"));
        assert!(!has_magic("plain/path"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = "*a".repeat(2000);
        let name = "a".repeat(1999) + &"b".repeat(20_000);
        assert_eq!(matches(&pattern, &name), Ok(false));
    }
}
