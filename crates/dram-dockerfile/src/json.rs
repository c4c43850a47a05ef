//! The JSON form of `RUN`, `CMD`, `COPY` and other instructions: an array of strings and nothing else.

use std::ops::Range;

use serde::de::IgnoredAny;

/// The result of reading the arguments of an instruction as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonForm {
    /// Not JSON: plain text.
    Text,
    /// Valid JSON, but not an array of strings.
    NotStrings,
    /// The strings, each with the byte range of its literal.
    Strings(Vec<(String, Range<usize>)>),
}

/// Reads `text` as an array of strings. Text that is not valid JSON is plain text, even when it is nearly JSON.
pub(crate) fn read_strings(text: &str) -> JsonForm {
    let trimmed = text.trim_start();
    if !trimmed.starts_with('[') {
        return JsonForm::Text;
    }
    match serde_json::from_str::<Vec<String>>(trimmed) {
        Ok(strings) => {
            let places = literal_ranges(trimmed, text.len() - trimmed.len());
            JsonForm::Strings(strings.into_iter().zip(places).collect())
        }
        Err(_) if serde_json::from_str::<IgnoredAny>(trimmed).is_ok() => JsonForm::NotStrings,
        Err(_) => JsonForm::Text,
    }
}

/// Returns the byte ranges of the string literals in an array that is known to hold nothing else.
fn literal_ranges(text: &str, offset: usize) -> Vec<Range<usize>> {
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

/// Returns true when plain text was probably meant to be an array of strings.
pub(crate) fn looks_like_json_array(text: &str) -> bool {
    let Some(inside) = text.trim().strip_prefix('[') else { return false };
    let quoted = inside.trim_start().starts_with(['"', '\'', '“', '‘']);
    // The test command of a shell, `[ "$a" = b ]`, has no commas and rarely ends the line.
    quoted && (inside.contains(',') || inside.ends_with(']') && !inside.contains(" = "))
}

/// Returns true when `text` begins with the test command of a shell: `[ "$a" != b ]`, `[[ … ]]`, whatever follows.
///
/// The brackets are words of their own, and the words between them are one, or have an operator.
pub(crate) fn is_shell_test(text: &str) -> bool {
    let text = text.trim();
    if text.starts_with("[[") {
        return true;
    }
    let mut words = quoted_words(text).into_iter();
    if words.next().as_deref() != Some("[") {
        return false;
    }
    let mut inside: Vec<String> = Vec::new();
    for word in words {
        if word.trim_end_matches(';') == "]" {
            let is_operator = |word: &String| {
                let letters = word.strip_prefix('-').unwrap_or_default();
                ["=", "==", "!=", "!", "<", ">", "=~"].contains(&word.as_str())
                    || !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
            };
            let has_comma = inside.iter().any(|word| word == "," || word.ends_with("\",") || word.ends_with("',"));
            return !has_comma && (inside.len() == 1 || inside.iter().any(is_operator));
        }
        inside.push(word);
    }
    false
}

/// Splits a text at the blanks outside of quotes. The quotes stay.
fn quoted_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in text.chars() {
        match quote {
            Some(open) if open == letter => quote = None,
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            None if letter.is_whitespace() => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            Some(_) | None => {}
        }
        word.push(letter);
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arrays_of_strings_are_in_json_form() {
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
            let found = match read_strings(text) {
                JsonForm::Strings(list) => Some(list.into_iter().map(|(text, _)| text).collect()),
                JsonForm::Text => None,
                JsonForm::NotStrings => panic!("{text}"),
            };
            assert_eq!(found, expected, "{text}");
        }
        for text in ["[1]", "[\"a\", [\"b\"]]", "[null]", "[{}]"] {
            assert_eq!(read_strings(text), JsonForm::NotStrings, "{text}");
        }
        assert_eq!(read_strings("[1, oops"), JsonForm::Text);
    }

    #[test]
    fn spans_cover_the_string_literals() {
        let text = " [\"a\\\"b\",  \"c\"]";
        let JsonForm::Strings(list) = read_strings(text) else { panic!() };
        assert_eq!(&text[list[0].1.clone()], "\"a\\\"b\"");
        assert_eq!(&text[list[1].1.clone()], "\"c\"");
    }

    #[test]
    fn mistyped_json_arrays_are_recognised() {
        assert!(looks_like_json_array("['a', 'b']"));
        assert!(looks_like_json_array("[\"a\", \"b\""));
        assert!(!looks_like_json_array("[ -f x ] && y"));
        assert!(!looks_like_json_array("[ \"$a\" = b ]"));
        assert!(!looks_like_json_array("a, b"));
    }

    #[test]
    fn tests_of_a_shell_are_not_arrays() {
        let tests = [
            "[ \"$(x)\" != \"0\" ]",
            "[ \"$(x a b)\" ]",
            "[ \"$(x)\" -gt 3 ] && y",
            "[ -f x ] && y",
            "[ ! -d \"a, b\" ] || z \"1\", \"2\"",
            "[ \"$A\" = \"a,b\" ]; y",
            "[ '1' != \"$B\" -a \"$C\" = x ];",
            "[[ \"$A\" =~ ^a, ]] && y",
            "[[ \"$A\" == b* ]]",
            "[ \"a\" ] && b, c",
        ];
        for text in tests {
            assert!(is_shell_test(text), "{text}");
        }
        let arrays = [
            "['make', 'install']",
            "[ 'make', 'install' ]",
            "[\"a\" \"b\"]",
            "[ \"a\" \"-f\" ]",
            "[ \"a\", \"b\"",
            "[ \"a\", ]",
        ];
        for text in arrays {
            assert!(!is_shell_test(text), "{text}");
        }
    }

    #[test]
    fn deep_nesting_does_not_recurse() {
        assert_eq!(read_strings(&"[".repeat(1_000_000)), JsonForm::Text);
    }
}
