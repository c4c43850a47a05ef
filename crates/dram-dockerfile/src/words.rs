//! Splits the text of an instruction into keyword, flags and words.
//!
//! Follows BuildKit's `parser/split_command.go` and `parser/line_parsers.go`. All ranges are relative to the given
//! text.

use std::ops::Range;

/// Returns true for the characters that separate unquoted words.
fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// Returns the range of the first word of `text`, and the offset of the text behind it.
pub(crate) fn keyword_range(text: &str) -> (Range<usize>, usize) {
    let start = text.len() - text.trim_start().len();
    let end = text[start..].find(is_blank).map_or(text.len(), |length| start + length);
    (start..end, end)
}

/// A flag: its text without quotes, and its range.
pub(crate) type RawFlag = (String, Range<usize>);

/// Reads `--flags` from offset `from`; also returns the offset of the arguments. A bare `--` ends the flags.
pub(crate) fn split_flags(text: &str, from: usize, escape: char) -> (Vec<RawFlag>, usize) {
    let mut flags = Vec::new();
    let mut at = from;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, at);
        }
        let (flag, length) = unquote_flag(&text[at..], escape);
        let span = at..at + length;
        at += length;
        if flag == "--" {
            return (flags, at);
        }
        flags.push((flag, span));
    }
}

fn unquote_flag(text: &str, escape: char) -> (String, usize) {
    let mut flag = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        if letter == escape {
            flag.extend(letters.next().map(|(_, escaped)| escaped));
        } else if quote == Some(letter) {
            quote = None;
        } else if quote.is_none() && (letter == '"' || letter == '\'') {
            quote = Some(letter);
        } else if quote.is_none() && letter.is_whitespace() {
            return (flag, at);
        } else {
            flag.push(letter);
        }
    }
    (flag, text.len())
}

/// Splits at blanks outside quotes; quotes and escapes stay in the words.
pub(crate) fn split_quoted(text: &str, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        if letter == escape && quote != Some('\'') {
            letters.next();
        } else if quote == Some(letter) {
            quote = None;
        } else if quote.is_none() && (letter == '"' || letter == '\'') {
            quote = Some(letter);
        }
    }
    // An escape as the very last character is not part of a word.
    let escaped_end = text.ends_with(escape) && !ends_escaped(text, escape) && quote != Some('\'');
    let end = if escaped_end { text.len() - escape.len_utf8() } else { text.len() };
    words.extend(start.map(|start| start..end).filter(|word| !word.is_empty()));
    words
}

/// Returns true when the last escape character of `text` is itself escaped.
fn ends_escaped(text: &str, escape: char) -> bool {
    text.chars().rev().take_while(|letter| *letter == escape).count() % 2 == 0
}

/// Splits at blanks, inside quotes too.
pub(crate) fn split_blanks(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices() {
        if is_blank(letter) {
            words.extend(start.take().map(|start| start..at));
        } else {
            start.get_or_insert(at);
        }
    }
    words.extend(start.map(|start| start..text.len()));
    words
}

/// Splits the legacy form `ENV name value`: the first word, and the text behind the blanks after it.
pub(crate) fn name_and_rest(text: &str) -> Option<(Range<usize>, Range<usize>)> {
    let end = text.find(is_blank)?;
    let rest = end + (text[end..].len() - text[end..].trim_start_matches(is_blank).len());
    Some((0..end, rest..text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_at_the_first_argument() {
        let table: &[(&str, &[&str], &str)] = &[
            ("a --b", &[], "a --b"),
            ("--from=x a", &["--from=x"], "a"),
            ("--a='x y' --b=\"z\" c", &["--a=x y", "--b=z"], "c"),
            ("--a=\\ b c", &["--a= b"], "c"),
            ("--a -- --b", &["--a"], " --b"),
            ("--a", &["--a"], ""),
            ("--a=é b", &["--a=é"], "b"),
            ("--", &[], ""),
        ];
        for (text, expected, rest) in table {
            let (flags, at) = split_flags(text, 0, '\\');
            let flags: Vec<&str> = flags.iter().map(|(flag, _)| flag.as_str()).collect();
            assert_eq!((&flags[..], &text[at..]), (*expected, *rest), "{text}");
        }
    }

    #[test]
    fn quotes_stay_in_split_words() {
        let table: &[(&str, &[&str])] = &[
            ("a b", &["a", "b"]),
            ("a='b c' d", &["a='b c'", "d"]),
            ("a=\"b \\\" c\" d", &["a=\"b \\\" c\"", "d"]),
            ("a\\ b c", &["a\\ b", "c"]),
            ("'a\\' b", &["'a\\'", "b"]),
            ("a \\", &["a"]),
            ("a\\\\", &["a\\\\"]),
            ("\"open a", &["\"open a"]),
            ("  ", &[]),
        ];
        for (text, expected) in table {
            let words: Vec<&str> = split_quoted(text, '\\').into_iter().map(|word| &text[word]).collect();
            assert_eq!(&words, expected, "{text}");
        }
    }

    #[test]
    fn legacy_pair_is_name_and_rest_of_line() {
        let text = "NAME  a  value";
        let (name, rest) = name_and_rest(text).unwrap();
        assert_eq!((&text[name], &text[rest]), ("NAME", "a  value"));
        assert_eq!(name_and_rest("NAME"), None);
    }
}
