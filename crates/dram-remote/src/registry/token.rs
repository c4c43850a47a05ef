//! Tokens: the distribution project's token authentication, and its OAuth 2 form for identity tokens.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::RegistryError;
use super::credentials::{FoundCredentials, RegistrySecret};
use super::endpoint::{RegistryEndpoint, RegistryResponse, RequestPayload};
use super::response_text::{read_bounded, read_error_body, sanitise};
use crate::url::origin;

/// The largest response of an authorization server that is read, in bytes.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Value,
}

impl TokenResponse {
    /// Returns the lifetime of the token, with a margin for the time that requests take.
    fn lifetime(&self) -> Duration {
        let seconds =
            self.expires_in.as_f64().filter(|seconds| (0.0..=1e9).contains(seconds)).unwrap_or(MIN_LIFETIME_SECONDS);
        Duration::from_secs_f64(seconds.max(MIN_LIFETIME_SECONDS) * 0.9)
    }
}

/// The default lifetime (the distribution project's specification), and the minimum, in seconds.
const MIN_LIFETIME_SECONDS: f64 = 60.0;

/// A request to an authorization server.
pub(super) struct TokenRequest<'w> {
    /// The action, for messages.
    pub(super) what: &'w str,
    pub(super) realm: &'w str,
    pub(super) service: Option<&'w str>,
    /// The scopes of the token, separated by spaces; may be empty.
    pub(super) scope: &'w str,
}

impl TokenRequest<'_> {
    fn token_error(
        &self,
        endpoint: &RegistryEndpoint,
        why: impl Into<String>,
        shown: Option<&FoundCredentials>,
    ) -> RegistryError {
        RegistryError::Token {
            what: self.what.to_owned(),
            host: endpoint.host().to_owned(),
            realm: sanitise(&crate::redacted(self.realm)),
            why: why.into(),
            credential_source: shown.map(|found| found.source.clone()),
        }
    }

    /// Returns the error for a realm that the registry must not send clients to.
    fn realm_error(&self, endpoint: &RegistryEndpoint, why: &str) -> RegistryError {
        let realm = sanitise(&crate::redacted(self.realm));
        let why = format!("`{}` sends to `{realm}` for a token: {why}", endpoint.host());
        RegistryError::InvalidResponse { what: self.what.to_owned(), why }
    }

    /// Requests a token from the realm; returns it with its lifetime. Credentials are sent only where the registry
    /// could have read them anyway, at the same host, or over TLS.
    pub(super) fn fetch(
        &self,
        endpoint: &RegistryEndpoint,
        found: Option<&FoundCredentials>,
    ) -> Result<(String, Duration), RegistryError> {
        let base = endpoint.base_url(self.what)?;
        let ((own_scheme, own), (scheme, host)) = (origin(&base), origin(self.realm));
        if !matches!(scheme.as_str(), "http" | "https") || host.is_empty() || self.realm.contains('@') {
            return Err(self.realm_error(endpoint, "that is no address of a server"));
        }
        if own_scheme == "https" && scheme == "http" {
            return Err(self.realm_error(endpoint, "that is not encrypted, and the registry is"));
        }
        if !endpoint.redirect_allowed(&own, &host) {
            return Err(self.realm_error(endpoint, "that is in a private network, and the registry is not"));
        }
        let may_see = own == host || scheme == "https";
        let reply = self.send(endpoint, found.filter(|_| may_see))?;
        if !(200..300).contains(&reply.status) {
            let (_, message) = read_error_body(&reply.headers, reply.body);
            let message = if message.is_empty() { message } else { format!(": {message}") };
            if found.is_some() && !may_see {
                let why = "is another host without encryption, so no credentials are sent to it, and answers";
                return Err(self.realm_error(endpoint, &format!("that {why} {}{message}", reply.status)));
            }
            return Err(self.token_error(endpoint, format!("it answers {}{message}", reply.status), found));
        }
        let bytes = read_bounded(reply.body, MAX_RESPONSE_BYTES)
            .map_err(|error| self.token_error(endpoint, error.to_string(), found))?;
        let bytes = bytes.ok_or_else(|| self.token_error(endpoint, "its answer does not end", found))?;
        let answer: TokenResponse = serde_json::from_slice(&bytes)
            .map_err(|_| self.token_error(endpoint, "its answer is no JSON with a token", found))?;
        let good_for = answer.lifetime();
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.token_error(
                endpoint,
                "its answer has no token that could be shown to the registry",
                found,
            ));
        }
        Ok((token, good_for))
    }

    fn send(
        &self,
        endpoint: &RegistryEndpoint,
        found: Option<&FoundCredentials>,
    ) -> Result<RegistryResponse, RegistryError> {
        let fields = |client: &[(&str, &str)]| {
            let mut text = String::new();
            let service = self.service.map(|service| ("service", service));
            let scopes = self.scope.split(' ').filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope));
            for (name, value) in client.iter().copied().chain(service).chain(scopes) {
                text.push_str(if text.is_empty() { "" } else { "&" });
                text.push_str(&format!("{name}={}", percent_encode(value)));
            }
            text
        };
        if let Some(RegistrySecret::Identity(token)) = found.map(|found| &found.secret) {
            let client = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "dram")];
            let form = fields(&client);
            let kind = [("content-type", "application/x-www-form-urlencoded".to_owned())];
            return endpoint.send_external(
                self.what,
                &Method::POST,
                self.realm,
                &kind,
                RequestPayload::Bytes(form.as_bytes()),
            );
        }
        let mark = if self.realm.contains('?') { '&' } else { '?' };
        let account = match found.map(|found| &found.secret) {
            Some(RegistrySecret::Password { user, .. }) => vec![("account", user.as_str())],
            Some(RegistrySecret::Identity(_)) | None => Vec::new(),
        };
        let url = format!("{}{mark}{}", self.realm, fields(&account));
        let basic = found.and_then(|found| found.secret.basic_authorization()).map(|basic| ("authorization", basic));
        let headers: Vec<_> = basic.into_iter().collect();
        endpoint.send_external(self.what, &Method::GET, &url, &headers, RequestPayload::None)
    }
}

/// Merges the scopes `own` and `theirs`, separated by spaces. A scope that one of ours covers is not repeated.
pub(super) fn merge_scopes(own: &str, offered: &str) -> String {
    let parts = |scope: &str| scope.rsplit_once(':').map(|(of, actions)| (of.to_owned(), actions.to_owned()));
    let covers = |one: &str, other: &str| match (parts(one), parts(other)) {
        (Some((of, has)), Some((what, wants))) => {
            of == what && wants.split(',').all(|want| has.split(',').any(|one| one == want))
        }
        _ => one == other,
    };
    let mut all: Vec<&str> = own.split_ascii_whitespace().collect();
    for scope in offered.split_ascii_whitespace() {
        if !all.iter().any(|one| covers(one, scope)) {
            all.push(scope);
        }
    }
    all.join(" ")
}

/// Percent-encodes a value for a query (RFC 3986, 3.4), which is valid in a form too.
pub(super) fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_lifetime_has_a_minimum_and_a_margin() {
        let table = [
            ("{}", 54),
            (r#"{"expires_in":300}"#, 270),
            (r#"{"expires_in":1}"#, 54),
            (r#"{"expires_in":-5}"#, 54),
            (r#"{"expires_in":1e300}"#, 54),
            (r#"{"expires_in":null}"#, 54),
            (r#"{"expires_in":"300"}"#, 54),
        ];
        for (text, seconds) in table {
            let answer: TokenResponse = serde_json::from_str(text).unwrap();
            assert_eq!(answer.lifetime().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn scopes_are_merged_without_duplicates() {
        let table = [
            ("repository:x:pull", "", "repository:x:pull"),
            ("", "registry:catalog:*", "registry:catalog:*"),
            ("repository:x:pull,push", "repository:x:pull", "repository:x:pull,push"),
            ("repository:x:pull", "repository:x:push,pull", "repository:x:pull repository:x:push,pull"),
            ("repository:x:pull", "repository:me/x:pull", "repository:x:pull repository:me/x:pull"),
            ("repository:x:pull", "all all", "repository:x:pull all"),
        ];
        for (own, offered, expected) in table {
            assert_eq!(merge_scopes(own, offered), expected, "{own} {offered}");
        }
        assert_eq!(percent_encode("a b/c:~\u{e9}"), "a%20b%2Fc%3A~%C3%A9");
    }
}
