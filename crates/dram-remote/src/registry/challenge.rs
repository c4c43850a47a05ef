//! `WWW-Authenticate`: RFC 9110, 11.6.1, with the parameters of the distribution project's token authentication.

/// An authentication challenge of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AuthChallenge {
    /// Basic authentication with user name and password.
    Basic,
    /// A bearer token of an authorization server.
    Bearer {
        /// The URL of the authorization server.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
        /// The scope of the token.
        scope: Option<String>,
    },
}

/// The longest header that is read, in bytes.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// Selects the preferred challenge of all headers: a bearer token before basic authentication.
pub(super) fn select_challenge<'h>(headers: impl Iterator<Item = &'h str>) -> Option<AuthChallenge> {
    let all: Vec<AuthChallenge> =
        headers.filter(|text| text.len() <= MAX_HEADER_BYTES).flat_map(parse_challenges).collect();
    let bearer = all.iter().find(|one| matches!(one, AuthChallenge::Bearer { .. }));
    bearer.or(all.first()).cloned()
}

/// Parses the challenges of one header whose schemes are supported.
fn parse_challenges(text: &str) -> Vec<AuthChallenge> {
    let mut all: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text;
    while let Some((word, after)) = next_token(rest) {
        let after = after.trim_start();
        match after.strip_prefix('=') {
            // A parameter belongs to the last scheme before it.
            Some(value) => {
                let (value, after) = next_value(value.trim_start());
                if let Some((_, parameters)) = all.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                all.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    all.into_iter().filter_map(|(scheme, parameters)| supported_challenge(&scheme, &parameters)).collect()
}

fn supported_challenge(scheme: &str, parameters: &[(String, String)]) -> Option<AuthChallenge> {
    let find = |name: &str| {
        let found = parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    match scheme {
        "basic" => Some(AuthChallenge::Basic),
        "bearer" => Some(AuthChallenge::Bearer {
            realm: find("realm").unwrap_or_default(),
            service: find("service"),
            scope: find("scope"),
        }),
        _ => None,
    }
}

/// Returns the next token, and the rest of the text.
fn next_token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',', '=', '"']);
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Returns a parameter's value, quoted or not, and the rest of the text.
fn next_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

/// Parses a header as one of a response; an entry point for fuzzing.
pub fn try_challenge(text: &str) {
    let known = parse_challenges(text);
    assert!(known.len() <= text.len(), "every challenge has a name");
    if let Some(AuthChallenge::Bearer { realm, service, scope }) = select_challenge([text].into_iter()) {
        let whole = [Some(realm), service, scope].into_iter().flatten().map(|part| part.len()).sum::<usize>();
        assert!(whole <= 3 * text.len(), "nothing is made up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<AuthChallenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(AuthChallenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn bearer_is_preferred_and_unknown_schemes_are_ignored() {
        let table = [
            ("Basic realm=\"x\"", Some(AuthChallenge::Basic)),
            ("basic", Some(AuthChallenge::Basic)),
            ("Negotiate abc", None),
            ("", None),
            (",,=\"", None),
            (
                "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a/b:pull,push\"",
                bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push")),
            ),
            ("Bearer realm = \"a\" , service=s", bearer("a", Some("s"), None)),
            ("Bearer realm=\"a\\\"b\"", bearer("a\"b", None, None)),
            ("Bearer realm=\"open", bearer("open", None, None)),
            ("Bearer", bearer("", None, None)),
            ("Basic realm=\"x\", Bearer realm=\"a\"", bearer("a", None, None)),
            ("Digest realm=\"Bearer realm=b\", Basic", Some(AuthChallenge::Basic)),
        ];
        for (text, expected) in table {
            assert_eq!(select_challenge([text].into_iter()), expected, "{text}");
        }
        assert_eq!(select_challenge(["Basic", "Bearer realm=a"].into_iter()), bearer("a", None, None));
    }
}
