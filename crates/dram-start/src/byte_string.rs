//! Functions for text that need not be UTF-8: paths, arguments and variables are byte strings here.

use alloc::vec::Vec;

/// Text as the system passes it: any bytes.
pub type ByteString = Vec<u8>;

/// Concatenates the parts.
#[must_use]
pub fn concat(parts: &[&[u8]]) -> ByteString {
    parts.concat()
}

/// Returns `bytes` without white space at both ends.
#[must_use]
pub fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// The position of `needle` in `hay`.
#[must_use]
pub fn find_bytes(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len()).position(|window| window == needle)
}

/// Splits at the first `byte`, which is in neither part.
#[must_use]
pub fn split_once(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == byte)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Splits `bytes` into words, as a shell splits a variable that is not quoted.
#[must_use]
pub fn split_words(bytes: &[u8]) -> Vec<ByteString> {
    bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The last component of a path.
#[must_use]
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

/// The path without its last component; `.` if it has only one.
#[must_use]
pub fn parent_path(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => b"/",
        Some(at) => &path[..at],
        None => b".",
    }
}

/// Parses a decimal number.
#[must_use]
pub fn parse_number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_file_name_of_a_path() {
        assert_eq!(parent_path(b"/a/b"), b"/a");
        assert_eq!(parent_path(b"/a"), b"/");
        assert_eq!(parent_path(b"a"), b".");
        assert_eq!(file_name(b"/a/b"), b"b");
        assert_eq!(file_name(b"b"), b"b");
    }

    #[test]
    fn numbers_with_other_characters_than_digits_are_refused() {
        assert_eq!(parse_number(b"12"), Some(12));
        assert_eq!(parse_number(b"+12"), None);
        assert_eq!(parse_number(b""), None);
    }
}
