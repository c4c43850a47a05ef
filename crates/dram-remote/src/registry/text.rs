//! What servers say: bounded, and clean enough to be shown.

use std::io::Read;

use serde::Deserialize;
use ureq::Body;
use ureq::http::HeaderMap;

/// More of an error is not read.
const MOST_WORDS: u64 = 64 << 10;
/// More of an error is not shown.
const MOST_SHOWN: usize = 400;

/// A header, if it is there and is text.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The media type of `headers` without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = header(headers, "content-type")?.split(';').next()?.trim().to_ascii_lowercase();
    (!text.is_empty()).then_some(text)
}

/// All of `body`, if that is no more than `most` bytes.
pub(super) fn all(body: Body, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    body.into_reader().take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// `text` without what would move a terminal's cursor, and not too long.
pub(super) fn clean(text: &str) -> String {
    let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = plain.take(MOST_SHOWN).collect();
    if text.trim().chars().count() > MOST_SHOWN {
        shown.push('…');
    }
    shown
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The codes and the words of an error (distribution specification 1.1, "Error codes").
pub(super) fn complaint(headers: &HeaderMap, body: Body) -> (Vec<String>, String) {
    let kind = media_type(headers).unwrap_or_default();
    let mut bytes = Vec::new();
    // What can be had of it is better than nothing.
    let _ = body.into_reader().take(MOST_WORDS).read_to_end(&mut bytes);
    match serde_json::from_slice::<Errors>(&bytes) {
        Ok(Errors { errors }) => {
            let words: Vec<&str> = errors
                .iter()
                .map(|one| if one.message.is_empty() { &one.code } else { &one.message })
                .map(String::as_str)
                .collect();
            (errors.iter().map(|one| one.code.clone()).collect(), clean(&words.join("; ")))
        }
        Err(_) if kind == "text/html" => (Vec::new(), "a page for people, in text/html".to_owned()),
        Err(_) => (Vec::new(), clean(&String::from_utf8_lossy(&bytes))),
    }
}
