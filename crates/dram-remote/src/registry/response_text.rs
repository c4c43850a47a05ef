//! Headers and bodies of responses: bounded, and sanitised for messages.

use std::io::Read;

use dram_image::RegistryErrorCode;
use serde::Deserialize;
use ureq::Body;
use ureq::http::HeaderMap;

/// The largest part of an error body that is read, in bytes.
const MAX_ERROR_BYTES: u64 = 64 << 10;
/// The longest message of a server that is shown, in bytes.
const MAX_SHOWN_BYTES: usize = 400;

/// Returns a header, if it is present and text.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns the media type of `headers` without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = header(headers, "content-type")?.split(';').next()?.trim().to_ascii_lowercase();
    (!text.is_empty()).then_some(text)
}

/// Reads the whole `body`, or returns `None` when it is longer than `most` bytes.
pub(super) fn read_bounded(body: Body, max_bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    body.into_reader().take(max_bytes + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max_bytes).then_some(bytes))
}

/// Returns `text` with control and bidirectional characters escaped, and truncated.
pub(super) fn sanitise(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.trim().chars() {
        if shown.len() >= MAX_SHOWN_BYTES {
            shown.push('…');
            break;
        }
        match letter {
            '\n' | '\t' | '\r' => shown.push(' '),
            letter if letter.is_control() || is_invisible(letter) => shown.extend(letter.escape_unicode()),
            letter => shown.push(letter),
        }
    }
    shown
}

/// Returns whether a character is invisible or changes the direction of text.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[derive(Deserialize)]
struct RegistryErrorBody {
    errors: Vec<RegistryErrorItem>,
}

#[derive(Deserialize)]
struct RegistryErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Returns the codes and the messages of an error body (distribution specification 1.1, "Error codes").
pub(super) fn read_error_body(headers: &HeaderMap, body: Body) -> (Vec<RegistryErrorCode>, String) {
    let kind = media_type(headers).unwrap_or_default();
    let mut bytes = Vec::new();
    // A partial body is still useful for the message.
    let _ = body.into_reader().take(MAX_ERROR_BYTES).read_to_end(&mut bytes);
    match serde_json::from_slice::<RegistryErrorBody>(&bytes) {
        Ok(RegistryErrorBody { errors }) => {
            let words = errors.iter().map(|one| match (one.code.as_str(), one.message.as_str()) {
                (code, "") => code.to_owned(),
                ("", message) => message.to_owned(),
                (code, message) => format!("{code}: {message}"),
            });
            let words: Vec<String> = words.collect();
            (errors.iter().map(|one| error_code(&one.code)).collect(), sanitise(&words.join("; ")))
        }
        Err(_) if kind == "text/html" => (Vec::new(), "a page for people, in text/html".to_owned()),
        Err(_) => (Vec::new(), sanitise(&String::from_utf8_lossy(&bytes))),
    }
}

fn error_code(text: &str) -> RegistryErrorCode {
    text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidirectional_characters_are_escaped() {
        let table = [
            (" a\nb\t", "a b"),
            ("a\u{1b}[2Jb\u{9b}", "a\\u{1b}[2Jb\\u{9b}"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("é…", "é…"),
            ("", ""),
        ];
        for (text, shown) in table {
            assert_eq!(sanitise(text), shown);
        }
        assert_eq!(sanitise(&"x".repeat(5000)).len(), MAX_SHOWN_BYTES + '…'.len_utf8());
    }

    fn error_body(kind: &str, text: &str) -> (Vec<RegistryErrorCode>, String) {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        read_error_body(&headers, Body::builder().data(text))
    }

    #[test]
    fn error_bodies_give_codes_and_messages() {
        let json = "application/json";
        let one =
            r#"{"errors":[{"code":"DENIED","message":"no\u001b"},{"code":"B"},{"message":"c","detail":{"x":[1]}}]}"#;
        let shown = "DENIED: no\\u{1b}; B; c";
        let other = |text: &str| RegistryErrorCode::Other(text.to_owned());
        assert_eq!(error_body(json, one), (vec![RegistryErrorCode::Denied, other("B"), other("")], shown.to_owned()));
        assert_eq!(error_body("text/html; x", "<html>").1, "a page for people, in text/html");
        assert_eq!(error_body("text/plain", "404 page not found\n").1, "404 page not found");
        assert_eq!(error_body(json, &"[".repeat(100_000)).1.len(), MAX_SHOWN_BYTES + 3);
        assert_eq!(error_body(json, ""), (Vec::new(), String::new()));
    }
}
