//! The JSON form of `RUN`, `CMD`, `COPY` and others: an array of strings, nothing else.

use std::ops::Range;

use serde::de::IgnoredAny;

/// What a text in place of arguments is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Not JSON: plain text.
    Text,
    /// JSON, but not an array of strings.
    NotStrings,
    /// The strings, each with the place of its literal.
    Strings(Vec<(String, Range<usize>)>),
}

/// Reads `text` as an array of strings. A text that is not valid JSON is plain text, however near it comes.
pub(crate) fn read(text: &str) -> Form {
    let trimmed = text.trim_start();
    if !trimmed.starts_with('[') {
        return Form::Text;
    }
    match serde_json::from_str::<Vec<String>>(trimmed) {
        Ok(strings) => {
            let places = literals(trimmed, text.len() - trimmed.len());
            Form::Strings(strings.into_iter().zip(places).collect())
        }
        Err(_) if serde_json::from_str::<IgnoredAny>(trimmed).is_ok() => Form::NotStrings,
        Err(_) => Form::Text,
    }
}

/// The places of the string literals in an array that is known to hold nothing else.
fn literals(text: &str, offset: usize) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (letter, start) {
            ('\\', Some(_)) => drop(letters.next()),
            ('"', Some(begun)) => {
                places.push(offset + begun..offset + at + 1);
                start = None;
            }
            ('"', None) => start = Some(at),
            _ => {}
        }
    }
    places
}

/// Whether plain text was probably meant to be an array of strings.
pub(crate) fn looks_meant(text: &str) -> bool {
    let Some(inside) = text.trim().strip_prefix('[') else { return false };
    let quoted = inside.trim_start().starts_with(['"', '\'', '“', '‘']);
    // A shell's own test, `[ "$a" = b ]`, has no commas and rarely ends the line.
    quoted && (inside.contains(',') || inside.ends_with(']') && !inside.contains(" = "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let strings = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let table = [
            ("[\"a\", \"b\"]", strings(&["a", "b"])),
            (" \t[ \"a\\\"\\u0041\" ] ", strings(&["a\"A"])),
            ("[]", strings(&[])),
            ("['a']", None),
            ("[\"a\"", None),
            ("[\"a\"] b", None),
            ("a", None),
        ];
        for (text, expected) in table {
            let found = match read(text) {
                Form::Strings(list) => Some(list.into_iter().map(|(text, _)| text).collect()),
                Form::Text => None,
                Form::NotStrings => panic!("{text}"),
            };
            assert_eq!(found, expected, "{text}");
        }
        for text in ["[1]", "[\"a\", [\"b\"]]", "[null]", "[{}]"] {
            assert_eq!(read(text), Form::NotStrings, "{text}");
        }
        assert_eq!(read("[1, oops"), Form::Text);
    }

    #[test]
    fn places() {
        let text = " [\"a\\\"b\",  \"c\"]";
        let Form::Strings(list) = read(text) else { panic!() };
        assert_eq!(&text[list[0].1.clone()], "\"a\\\"b\"");
        assert_eq!(&text[list[1].1.clone()], "\"c\"");
    }

    #[test]
    fn near_misses() {
        assert!(looks_meant("['a', 'b']"));
        assert!(looks_meant("[\"a\", \"b\""));
        assert!(!looks_meant("[ -f x ] && y"));
        assert!(!looks_meant("[ \"$a\" = b ]"));
        assert!(!looks_meant("a, b"));
    }

    #[test]
    fn deep_nesting_is_no_recursion() {
        assert_eq!(read(&"[".repeat(1_000_000)), Form::Text);
    }
}
