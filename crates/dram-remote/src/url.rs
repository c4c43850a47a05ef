//! URLs: origins, redirect locations, and the credentials in a URL, which go into a header and are redacted in
//! messages.

use dram_image::base64;

/// Returns `url` for messages, with user name and password redacted.
pub fn redacted(url: &str) -> String {
    match split_user_info(url) {
        Some((scheme, Some(user), rest)) => {
            let hidden = if user.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" };
            format!("{scheme}://{hidden}@{rest}")
        }
        Some((_, None, _)) | None => url.to_owned(),
    }
}

/// Returns `url` without fragment, user and password, and the value of an `Authorization` header made from the two.
pub(crate) fn split_credentials(url: &str) -> (String, Option<String>) {
    let url = url.split('#').next().unwrap_or_default();
    match split_user_info(url) {
        Some((scheme, Some(user), rest)) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut both = percent_decode(name);
            both.push(b':');
            both.extend(percent_decode(password));
            (format!("{scheme}://{rest}"), Some(format!("Basic {}", base64::encode(&both))))
        }
        Some((_, None, _)) | None => (url.to_owned(), None),
    }
}

/// Returns the scheme, the user information, and the rest of `url` after it.
fn split_user_info(url: &str) -> Option<(&str, Option<&str>, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(match rest[..end].rfind('@') {
        Some(at) => (scheme, Some(&rest[..at]), &rest[at + 1..]),
        None => (scheme, None, rest),
    })
}

/// Returns the scheme in lower case, and the host with its port.
pub(crate) fn origin(url: &str) -> (String, String) {
    let (scheme, _, rest) = split_user_info(url).unwrap_or(("", None, ""));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    (scheme.to_ascii_lowercase(), rest[..end].to_ascii_lowercase())
}

/// Resolves `location` against `base` (RFC 3986, 5.2).
pub(crate) fn resolve_location(base: &str, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = location.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return location.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
    if let Some(host) = location.strip_prefix("//") {
        return format!("{scheme}://{host}");
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if location.starts_with('/') {
        return format!("{scheme}://{host}{location}");
    }
    if location.starts_with('?') {
        return format!("{scheme}://{host}{path}{location}");
    }
    let dir = &path[..path.rfind('/').map_or(0, |at| at + 1)];
    let dir = if dir.is_empty() { "/" } else { dir };
    let (mut tail, query) = location.split_at(location.find('?').unwrap_or(location.len()));
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    let directory =
        tail.is_empty() || tail.ends_with('/') || tail == "." || tail.ends_with("/.") || tail.ends_with("..");
    while let Some((part, after)) = tail.split_once('/').or((!tail.is_empty()).then_some((tail, ""))) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
        tail = after;
    }
    let slash = if directory && !parts.is_empty() { "/" } else { "" };
    format!("{scheme}://{host}/{}{slash}{query}", parts.join("/"))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok()).filter(|_| first == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_credentials_move_to_the_header_and_are_redacted() {
        let table = [
            ("https://h/x#f", "https://h/x", None, "https://h/x#f"),
            ("https://u:p%40@h/x", "https://h/x", Some("Basic dTpwQA=="), "https://xxxxx:xxxxx@h/x"),
            ("https://token@h", "https://h", Some("Basic dG9rZW46"), "https://xxxxx@h"),
            ("https://h/a@b", "https://h/a@b", None, "https://h/a@b"),
        ];
        for (url, bare, header, shown) in table {
            assert_eq!(split_credentials(url), (bare.to_owned(), header.map(str::to_owned)), "{url}");
            assert_eq!(redacted(url), shown);
        }
    }

    #[test]
    fn redirect_locations_are_resolved_against_the_base_url() {
        let table = [
            ("http://h/a/b?q", "c", "http://h/a/c"),
            ("http://h/a/b", "../c?x", "http://h/c?x"),
            ("http://h", "c/", "http://h/c/"),
            ("http://h/a/b", "./", "http://h/a/"),
            ("http://h/a/b", "/c", "http://h/c"),
            ("http://h/a/b?q", "?r", "http://h/a/b?r"),
            ("https://h/a", "//g/c", "https://g/c"),
            ("https://h/a", "http://g/c#f", "http://g/c"),
            ("https://h/a", "c?to=http://x", "https://h/c?to=http://x"),
            ("https://h/a", "/c?to=http://x", "https://h/c?to=http://x"),
        ];
        for (base, location, expected) in table {
            assert_eq!(resolve_location(base, location), expected, "{base} {location}");
        }
    }
}
