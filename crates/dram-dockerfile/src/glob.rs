//! Wildcards in the sources of `COPY` and `ADD`, one path component at a time.
//!
//! The language is that of Go's `filepath.Match`: `*` and `?` stop at a slash, `[a-z]` and `[^a-z]` match one
//! character, a backslash escapes the next one, and a malformed pattern is an error even if matching does not reach it.

use thiserror::Error;

/// The error for a malformed pattern: an open `[`, an empty or incomplete range, or a backslash at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the wildcard is malformed")]
pub struct GlobError;

/// One token of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GlobToken {
    Letter(char),
    /// `?`: one character that is not a slash.
    AnyChar,
    /// `*`: any number of characters that are not slashes.
    Star,
    Class(GlobClass),
}

/// `[…]`: one character inside the ranges, or outside all of them when negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GlobClass {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl GlobClass {
    pub(crate) fn contains(&self, letter: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter)) != self.negated
    }
}

/// Returns true when `pattern` has an unescaped wildcard.
pub fn has_wildcards(pattern: &str) -> bool {
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
pub fn matches(pattern: &str, name: &str) -> Result<bool, GlobError> {
    let tokens = tokenize(pattern)?;
    let name: Vec<char> = name.chars().collect();
    Ok(match_tokens(&tokens, &name))
}

/// Splits `pattern` into tokens.
pub(crate) fn tokenize(pattern: &str) -> Result<Vec<GlobToken>, GlobError> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::with_capacity(letters.len());
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        at += 1;
        tokens.push(match letter {
            '*' => GlobToken::Star,
            '?' => GlobToken::AnyChar,
            '\\' => {
                at += 1;
                GlobToken::Letter(*letters.get(at - 1).ok_or(GlobError)?)
            }
            '[' => {
                let (class, after) = parse_class(&letters, at)?;
                at = after;
                GlobToken::Class(class)
            }
            other => GlobToken::Letter(*other),
        });
    }
    Ok(tokens)
}

/// Reads a class from behind its `[`; also returns the index behind its `]`.
pub(crate) fn parse_class(letters: &[char], mut at: usize) -> Result<(GlobClass, usize), GlobError> {
    let negated = letters.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        if letters.get(at) == Some(&']') && !ranges.is_empty() {
            return Ok((GlobClass { negated, ranges }, at + 1));
        }
        let low = parse_class_char(letters, &mut at)?;
        let high = if letters.get(at) == Some(&'-') {
            at += 1;
            parse_class_char(letters, &mut at)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn parse_class_char(letters: &[char], at: &mut usize) -> Result<char, GlobError> {
    let mut letter = *letters.get(*at).ok_or(GlobError)?;
    if letter == '-' || letter == ']' {
        return Err(GlobError);
    }
    if letter == '\\' {
        *at += 1;
        letter = *letters.get(*at).ok_or(GlobError)?;
    }
    *at += 1;
    // A class that reaches the end of the pattern has no closing bracket.
    if *at < letters.len() { Ok(letter) } else { Err(GlobError) }
}

/// Matches with a single backtracking point: an earlier star never needs to grow once a later one was reached.
fn match_tokens(tokens: &[GlobToken], name: &[char]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (tokens.get(token), name.get(at)) {
            (Some(GlobToken::Star), _) => {
                token += 1;
                star = Some((token, at));
                continue;
            }
            (None, None) => return true,
            (Some(one), Some(letter)) if one.matches(*letter) => {
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

impl GlobToken {
    fn matches(&self, letter: char) -> bool {
        match self {
            GlobToken::Letter(own) => *own == letter,
            GlobToken::AnyChar => letter != '/',
            GlobToken::Star => false,
            GlobToken::Class(class) => class.contains(letter),
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
            assert_eq!(matches(pattern, "q"), Err(GlobError), "{pattern}");
        }
    }

    #[test]
    fn escaped_wildcards_are_literal() {
        assert!(has_wildcards("a*"));
        assert!(has_wildcards("a\\\\?"));
        assert!(!has_wildcards("a\\*"));
        assert!(!has_wildcards("plain/path"));
    }

    #[test]
    fn many_stars_do_not_backtrack_exponentially() {
        let pattern = "*a".repeat(2000);
        let name = "a".repeat(1999) + &"b".repeat(20_000);
        assert_eq!(matches(&pattern, &name), Ok(false));
    }
}
