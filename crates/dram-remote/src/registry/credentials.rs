//! Credentials for registries: the files of Docker and of the containers tools, and credential helpers.
//!
//! Follows containers-auth.json(5) and Docker's `config.json`.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dram_image::base64;
use serde_json::{Map, Value, json};

use super::RegistryError;
use crate::child_process::{CredentialHelper, HelperOutcome};

/// The largest credentials file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The key of Docker Hub in such files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The files that hold credentials.
#[derive(Debug, Clone, Default)]
pub struct CredentialStore {
    /// The files that are searched, in order of precedence.
    pub files: Vec<PathBuf>,
    /// The file that new credentials are written to.
    pub write_path: Option<PathBuf>,
    /// The directories in which credential helpers are looked for, in the form of `PATH`.
    pub search_path: std::ffi::OsString,
}

/// A secret that authenticates a user with a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistrySecret {
    /// A user name and a password.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity token, which is exchanged for access tokens.
    Identity(String),
}

impl fmt::Debug for RegistrySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl RegistrySecret {
    /// Returns the value of an `Authorization` header for basic authentication (RFC 7617).
    pub(super) fn basic_authorization(&self) -> Option<String> {
        match self {
            RegistrySecret::Password { user, password } => {
                Some(format!("Basic {}", base64::encode(format!("{user}:{password}").as_bytes())))
            }
            RegistrySecret::Identity(_) => None,
        }
    }
}

/// A secret and its source, for messages.
#[derive(Debug, Clone)]
pub(super) struct FoundCredentials {
    pub(super) secret: RegistrySecret,
    pub(super) source: String,
}

impl CredentialStore {
    /// Returns the credentials for `repository` at `host`, if there are any.
    pub(super) fn find(&self, host: &str, repository: &str) -> Result<Option<FoundCredentials>, RegistryError> {
        let mut failed = None;
        for path in &self.files {
            let Some(file) = read_file(path)? else { continue };
            match self.find_in_file(path, &file, host, repository) {
                Ok(None) => {}
                // Another file may have credentials.
                Err(error @ RegistryError::Helper { .. }) => failed = failed.or(Some(error)),
                found => return found,
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn find_in_file(
        &self,
        path: &Path,
        file: &Map<String, Value>,
        host: &str,
        repository: &str,
    ) -> Result<Option<FoundCredentials>, RegistryError> {
        if let Some(name) = helper_for(file, host) {
            return self.ask_helper(name, host);
        }
        let auths = file.get("auths").and_then(Value::as_object);
        let place = || path.display().to_string();
        for accepted_key in matching_keys(host, repository) {
            let entries = auths.into_iter().flatten().filter(|(key, _)| normalise_key(key) == accepted_key);
            for (_, entry) in entries {
                if let Some(secret) = parse_entry(path, entry)? {
                    return Ok(Some(FoundCredentials { secret, source: place() }));
                }
            }
        }
        match file.get("credsStore").and_then(Value::as_str).filter(|name| !name.is_empty()) {
            Some(name) => self.ask_helper(name, host),
            None => Ok(None),
        }
    }

    fn ask_helper(&self, name: &str, host: &str) -> Result<Option<FoundCredentials>, RegistryError> {
        let helper = CredentialHelper::new(&self.search_path, name);
        let outcome = helper
            .run("get", docker_key(host).as_bytes())
            .map_err(|why| helper_error("read credentials", name, &why))?;
        let text = match outcome {
            HelperOutcome::Success(text) => text,
            HelperOutcome::Failure(why) if is_unknown_host(&why) => return Ok(None),
            HelperOutcome::Failure(why) => return Err(helper_error("read credentials", name, &why)),
        };
        let answer: Value =
            serde_json::from_str(&text).map_err(|_| helper_error("read credentials", name, "its answer is no JSON"))?;
        let field = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (user, password) = (field("Username"), field("Secret"));
        if password.is_empty() {
            return Ok(None);
        }
        let secret = if user == "<token>" {
            RegistrySecret::Identity(password)
        } else {
            RegistrySecret::Password { user, password }
        };
        Ok(Some(FoundCredentials { secret, source: format!("`docker-credential-{name}`") }))
    }

    /// Saves a user name and a password for `host`. Returns the file or credential helper that keeps them.
    ///
    /// # Errors
    /// Fails when no file is configured, or it cannot be read or written, or the credential helper fails.
    pub fn save(&self, host: &str, user: &str, password: &str) -> Result<String, RegistryError> {
        let Some(path) = &self.write_path else {
            let why = "HOME is not set; REGISTRY_AUTH_FILE or DOCKER_CONFIG can name a place".to_owned();
            return Err(RegistryError::Settings { path: PathBuf::from("the file of credentials"), why });
        };
        let mut file = read_file(path)?.unwrap_or_default();
        let store = file.get("credsStore").and_then(Value::as_str).filter(|name| !name.is_empty());
        if let Some(name) = helper_for(&file, host).or(store) {
            let text = json!({ "ServerURL": docker_key(host), "Username": user, "Secret": password }).to_string();
            return match CredentialHelper::new(&self.search_path, name).run("store", text.as_bytes()) {
                Ok(HelperOutcome::Success(_)) => Ok(format!("`docker-credential-{name}`")),
                Ok(HelperOutcome::Failure(why)) | Err(why) => Err(helper_error("keep credentials", name, &why)),
            };
        }
        let auths = file.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else { return Err(invalid_file(path, "`auths` is no object")) };
        auths.retain(|key, _| normalise_key(key) != normalise_key(host));
        auths.insert(docker_key(host), json!({ "auth": base64::encode(format!("{user}:{password}").as_bytes()) }));
        replace_file(path, &file)?;
        Ok(path.display().to_string())
    }

    /// Erases the credentials for `host`. Returns the files and credential helpers that had them.
    ///
    /// # Errors
    /// Fails when a file cannot be read or written, or the credential helper fails.
    pub fn erase(&self, host: &str) -> Result<Vec<String>, RegistryError> {
        let mut gone = Vec::new();
        for path in &self.files {
            let Some(mut file) = read_file(path)? else { continue };
            let store = file.get("credsStore").and_then(Value::as_str).filter(|name| !name.is_empty());
            if let Some(name) = helper_for(&file, host).or(store).map(str::to_owned)
                && self.ask_helper(&name, host)?.is_some()
            {
                match CredentialHelper::new(&self.search_path, &name).run("erase", docker_key(host).as_bytes()) {
                    Ok(HelperOutcome::Success(_)) => gone.push(format!("`docker-credential-{name}`")),
                    Ok(HelperOutcome::Failure(why)) | Err(why) => {
                        return Err(helper_error("forget credentials", &name, &why));
                    }
                }
            }
            let Some(auths) = file.get_mut("auths").and_then(Value::as_object_mut) else { continue };
            let before = auths.len();
            auths.retain(|key, _| normalise_key(key) != normalise_key(host));
            if auths.len() != before {
                replace_file(path, &file)?;
                gone.push(path.display().to_string());
            }
        }
        Ok(gone)
    }
}

fn helper_error(what: &'static str, name: &str, why: &str) -> RegistryError {
    let why = if why.trim().is_empty() { "it says nothing".to_owned() } else { super::response_text::sanitise(why) };
    RegistryError::Helper { what, program: format!("docker-credential-{name}"), why }
}

fn invalid_file(path: &Path, why: &str) -> RegistryError {
    RegistryError::Settings { path: path.to_owned(), why: why.to_owned() }
}

fn helper_for<'f>(file: &'f Map<String, Value>, host: &str) -> Option<&'f str> {
    let helpers = file.get("credHelpers")?.as_object()?;
    let found = helpers.iter().find(|(key, _)| normalise_key(key) == normalise_key(host))?;
    found.1.as_str().filter(|name| !name.is_empty())
}

/// Returns the key that Docker uses for `host`.
fn docker_key(host: &str) -> String {
    if normalise_key(host) == "docker.io" { HUB_KEY.to_owned() } else { host.to_owned() }
}

/// Returns whether a credential helper fails because it has nothing for the host. The protocol of credential helpers has
/// no code for that, only this message.
fn is_unknown_host(message: &str) -> bool {
    message.contains("credentials not found")
}

/// Normalises a key to host and path, without scheme and API version.
fn normalise_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or(key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_at(key.find('/').unwrap_or(key.len()));
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => format!("docker.io{path}"),
        _ => format!("{host}{path}"),
    }
}

/// Returns the matching keys, the longest first.
fn matching_keys(host: &str, repository: &str) -> Vec<String> {
    let host = normalise_key(host);
    let mut all = Vec::new();
    let mut rest = repository;
    while !rest.is_empty() {
        all.push(format!("{host}/{rest}"));
        rest = rest.rfind('/').map_or("", |at| &rest[..at]);
    }
    all.push(host);
    all
}

fn parse_entry(path: &Path, entry: &Value) -> Result<Option<RegistrySecret>, RegistryError> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(RegistrySecret::Identity(token.to_owned())));
    }
    if let Some(both) = text("auth") {
        let bytes = base64::decode_loose(both.trim_end_matches('\0'))
            .ok_or_else(|| invalid_file(path, "an `auth` is no base 64"))?;
        let both = String::from_utf8(bytes).map_err(|_| invalid_file(path, "an `auth` is no text"))?;
        let (user, password) = both.split_once(':').ok_or_else(|| invalid_file(path, "an `auth` has no `:` in it"))?;
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(RegistrySecret::Password { user: user.to_owned(), password }));
    }
    let both = text("username").zip(text("password"));
    Ok(both.map(|(user, password)| RegistrySecret::Password { user: user.to_owned(), password: password.to_owned() }))
}

fn read_file(path: &Path) -> Result<Option<Map<String, Value>>, RegistryError> {
    let fail = |why: String| RegistryError::Settings { path: path.to_owned(), why };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| fail(error.to_string()))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(fail(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // No content of the file is shown, not even the invalid part: it may be a secret.
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| fail(format!("it is no JSON object: line {}, column {}", error.line(), error.column())))?;
    Ok(Some(value))
}

/// Replaces the file with an atomic rename; only its owner may read it.
fn replace_file(path: &Path, file: &Map<String, Value>) -> Result<(), RegistryError> {
    let fail = |error: std::io::Error| RegistryError::Settings { path: path.to_owned(), why: error.to_string() };
    // A symbolic link is followed, so that it stays one.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let text = serde_json::to_string_pretty(file).expect("plain data becomes JSON");
    // A killed process with the same id may have left this file. `create_new` follows no symbolic link.
    let _ = fs::remove_file(&new);
    let written = File::options().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut out| {
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        fs::rename(&new, path)
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        fail(error)
    })
}

/// Parses a credentials file as [`CredentialStore`] does; an entry point for fuzzing.
pub fn try_credentials(bytes: &[u8]) {
    let Ok(file) = serde_json::from_slice::<Map<String, Value>>(bytes) else { return };
    let auths = file.get("auths").and_then(Value::as_object);
    for (key, entry) in auths.into_iter().flatten() {
        let _ = (normalise_key(key), parse_entry(Path::new("auth.json"), entry));
    }
    let _ = helper_for(&file, "registry.example");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials_of(text: &str) -> (tempfile::TempDir, CredentialStore) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text).unwrap();
        let files = vec![dir.path().join("missing.json"), path.clone()];
        (dir, CredentialStore { files, write_path: Some(path), search_path: "/nonexistent".into() })
    }

    fn lookup(credentials: &CredentialStore, host: &str, repository: &str) -> Option<String> {
        let found = credentials.find(host, repository).unwrap()?;
        Some(match found.secret {
            RegistrySecret::Password { user, password } => format!("{user}:{password}"),
            RegistrySecret::Identity(token) => token,
        })
    }

    #[test]
    fn longest_matching_key_is_used() {
        let auth = |text: &str| base64::encode(text.as_bytes());
        let text = json!({ "auths": {
            "a.example": { "auth": auth("host:1") },
            "a.example/team": { "auth": auth("team:2") },
            "https://b.example:5000/v2/": { "username": "user", "password": "with:colon" },
            HUB_KEY: { "auth": auth("hub:a:b") },
            "c.example": { "identitytoken": "token", "auth": auth("<token>:") },
            "d.example": {},
        } });
        let (_dir, credentials) = credentials_of(&text.to_string());
        let table = [
            ("a.example", "x", Some("host:1")),
            ("A.example", "team", Some("team:2")),
            ("a.example", "team/x/y", Some("team:2")),
            ("a.example", "teams", Some("host:1")),
            ("b.example:5000", "x", Some("user:with:colon")),
            ("b.example", "x", None),
            ("docker.io", "library/x", Some("hub:a:b")),
            ("registry-1.docker.io", "library/x", Some("hub:a:b")),
            ("c.example", "x", Some("token")),
            ("d.example", "x", None),
        ];
        for (host, repository, expected) in table {
            assert_eq!(lookup(&credentials, host, repository).as_deref(), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn saved_credentials_are_found_and_other_settings_are_kept() {
        let (dir, credentials) = credentials_of(r#"{"psFormat":"x","auths":{"http://a.example/":{"auth":"eDp5"}}}"#);
        credentials.save("a.example", "me", "word").unwrap();
        credentials.save("docker.io", "hub", "word").unwrap();
        assert_eq!(lookup(&credentials, "a.example", "x").as_deref(), Some("me:word"));
        let path = dir.path().join("config.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("psFormat") && text.contains(HUB_KEY) && !text.contains("http://a.example"), "{text}");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(credentials.erase("a.example").unwrap(), [path.display().to_string()]);
        assert_eq!(lookup(&credentials, "a.example", "x"), None);
        assert_eq!(credentials.erase("a.example").unwrap(), Vec::<String>::new());
        assert_eq!(lookup(&credentials, "docker.io", "x").as_deref(), Some("hub:word"));
    }

    #[test]
    fn failing_helper_is_an_error_only_when_no_file_has_credentials() {
        let (dir, mut credentials) = credentials_of(r#"{"credsStore":"gone","credHelpers":{"b.example":"gone"}}"#);
        for host in ["a.example", "b.example"] {
            let error = credentials.find(host, "x").unwrap_err();
            assert!(matches!(error, RegistryError::Helper { .. }), "{error}");
            assert!(
                error.to_string().contains("`docker-credential-gone`")
                    && error.to_string().contains("it is not installed"),
                "{error}"
            );
        }
        let other = dir.path().join("other.json");
        fs::write(&other, r#"{"auths":{"b.example":{"auth":"bWU6d29yZA=="}}}"#).unwrap();
        credentials.files.push(other);
        assert_eq!(lookup(&credentials, "b.example", "x").as_deref(), Some("me:word"));
        assert!(credentials.find("a.example", "x").is_err());
    }

    #[test]
    fn invalid_files_are_named_without_their_content() {
        for text in
            ["{", "[]", r#"{"auths":{"a.example":{"auth":"hidden!"}}}"#, r#"{"auths":{"a.example":{"auth":"eA=="}}}"#]
        {
            let (_dir, credentials) = credentials_of(text);
            let error = credentials.find("a.example", "x").unwrap_err().to_string();
            assert!(error.contains("config.json") && !error.contains("hidden"), "{error}");
        }
        assert_eq!(lookup(&credentials_of(" \n").1, "a.example", "x"), None);
    }
}
