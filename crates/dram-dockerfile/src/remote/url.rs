//! Splits a URL into its parts: RFC 3986, with the restrictions of Go's `net/url`.

/// The parts of a URL, not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UrlParts<'a> {
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) fragment: Option<&'a str>,
}

impl<'a> UrlParts<'a> {
    /// Splits `text`; `None` when it is not a valid URL with an authority.
    pub(super) fn parse(text: &'a str) -> Option<UrlParts<'a>> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let (rest, fragment) = split_optional(rest, '#');
        let (rest, query) = split_optional(rest, '?');
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit('@').next().unwrap_or_default();
        let sound = escapes_are_valid(path)
            && escapes_are_valid(authority)
            && fragment.is_none_or(escapes_are_valid)
            && !host.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}'])
            && port_is_number(host);
        sound.then_some(UrlParts { scheme, authority, path, query, fragment })
    }

    /// Returns the URL without query and fragment.
    pub(super) fn without_options(&self) -> String {
        format!("{}://{}{}", self.scheme.to_ascii_lowercase(), self.authority, self.path)
    }
}

fn split_optional(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn port_is_number(host: &str) -> bool {
    let after = match host.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((_, after)) => after,
            None => return false,
        },
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn escapes_are_valid(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

/// Decodes each `%XX` to its byte; malformed escapes are kept.
pub(super) fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = &after[2..];
            }
            (_, _) => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

fn hex_digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        b'a'..=b'f' => hex - b'a' + 10,
        _ => hex - b'A' + 10,
    }
}

/// Returns the decoded pairs of a query; `None` for each one that is malformed.
pub(super) fn query_pairs(query: &str) -> Vec<Option<(String, String)>> {
    let part = |text: &str| {
        let sound = escapes_are_valid(text);
        sound.then(|| String::from_utf8_lossy(&percent_decode(&text.replace('+', " "))).into_owned())
    };
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if text.contains(';') { None } else { Some((part(name)?, part(value)?)) }
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// Splits the scp form `user@host:path?query#fragment` into address, query and fragment.
pub(super) fn split_scp(text: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    let (user, rest) = text.split_once('@')?;
    let (host, _) = rest.split_once(':')?;
    let fits = |part: &str, more: &str| {
        !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    if !fits(user, "-_") || !fits(host, "-.") || text.contains('\n') {
        return None;
    }
    let (place, fragment) = split_optional(text, '#');
    let (place, query) = split_optional(place, '?');
    match query.map(query_pairs) {
        Some(pairs) if pairs.iter().any(Option::is_none) => None,
        Some(_) | None => Some((place, query, fragment)),
    }
}
