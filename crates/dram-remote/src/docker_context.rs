//! The Docker engine that the user selected: by `DOCKER_HOST`, or by a context of the `docker` command
//! (`docker context use`, `DOCKER_CONTEXT`).
//!
//! A context is in `contexts/` of Docker's configuration directory: `meta/HEX/meta.json`, where HEX is the SHA-256 of its
//! name, and the files of its certificates in `tls/HEX/docker/`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use dram_image::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::engine::EngineError;
use crate::engine_tls::EngineTls;

/// The largest file of Docker's settings that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The context that stands for the environment and the default socket.
const DEFAULT_CONTEXT: &str = "default";

/// The settings of the environment that select the engine.
#[derive(Debug, Clone, Default)]
pub struct EngineSelection {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// Docker's configuration directory: `DOCKER_CONFIG`, or `.docker` in the home directory.
    pub config_dir: Option<PathBuf>,
    /// True if `DOCKER_TLS_VERIFY` has a value.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`: the directory of the certificates of `DOCKER_TLS_VERIFY`, instead of the configuration's.
    pub certificates: Option<PathBuf>,
}

/// An engine that is selected.
#[derive(Debug, Clone, Default)]
pub struct SelectedEngine {
    /// The address in the form of `DOCKER_HOST`; `None` for the default socket.
    pub address: Option<String>,
    /// The files of TLS, if it is spoken over a network.
    pub tls: Option<EngineTls>,
    /// The context that says so, if one does.
    pub context: Option<String>,
}

#[derive(Deserialize)]
struct DockerConfigFile {
    #[serde(default, rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(default, rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Deserialize, Default)]
struct ContextEndpoints {
    #[serde(default)]
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    #[serde(default)]
    host: Option<String>,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

impl EngineSelection {
    /// Returns the selected engine, as the `docker` command selects it: `DOCKER_HOST` has precedence over
    /// `DOCKER_CONTEXT`, and this over `currentContext` in `config.json`.
    ///
    /// # Errors
    /// Fails when the context does not exist, a file of it cannot be read, or it asks for TLS without verification.
    pub fn select(&self) -> Result<SelectedEngine, EngineError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(host) = given(&self.host) {
            return Ok(SelectedEngine { address: Some(host), tls: self.environment_tls(), context: None });
        }
        let name = match given(&self.context) {
            Some(name) => Some(name),
            None => self.current_context()?,
        };
        match name.filter(|name| name != DEFAULT_CONTEXT) {
            Some(name) => self.read_context(name),
            None => Ok(SelectedEngine { address: None, tls: self.environment_tls(), context: None }),
        }
    }

    fn environment_tls(&self) -> Option<EngineTls> {
        let dir = self.certificates.as_ref().or(self.config_dir.as_ref());
        dir.filter(|_| self.tls).map(|dir| EngineTls::in_dir(dir))
    }

    fn current_context(&self) -> Result<Option<String>, EngineError> {
        let Some(dir) = &self.config_dir else { return Ok(None) };
        let file: Option<DockerConfigFile> = read_json(&dir.join("config.json"))?;
        Ok(file.and_then(|file| file.current_context).filter(|name| !name.is_empty()))
    }

    fn read_context(&self, name: String) -> Result<SelectedEngine, EngineError> {
        let unknown = || EngineError::UnknownContext(name.clone());
        let contexts = self.config_dir.as_ref().ok_or_else(unknown)?.join("contexts");
        let hex = Digest::of(name.as_bytes()).hex();
        let file: ContextFile = read_json(&contexts.join("meta").join(&hex).join("meta.json"))?.ok_or_else(unknown)?;
        let endpoint = file.endpoints.docker.ok_or_else(unknown)?;
        let address = endpoint.host.filter(|host| !host.is_empty());
        let certificates = contexts.join("tls").join(&hex).join("docker");
        let tls = certificates.is_dir().then(|| EngineTls::in_dir(&certificates));
        let is_network = address.as_ref().is_some_and(|address| !address.starts_with("unix://"));
        if endpoint.skip_tls_verify && is_network {
            return Err(EngineError::UnverifiedTls(name));
        }
        Ok(SelectedEngine { address, tls, context: Some(name) })
    }
}

/// Reads a JSON file; `None` if it does not exist. Errors do not show its content, which may hold secrets.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EngineError> {
    let fail = |source: io::Error| EngineError::Settings { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(fail)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let why = format!("it is no JSON of Docker's: line {}, column {}", error.line(), error.column());
        fail(io::Error::new(io::ErrorKind::InvalidData, why))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with_context(dir: &Path, name: &str, host: &str) {
        let place = dir.join("contexts/meta").join(Digest::of(name.as_bytes()).hex());
        fs::create_dir_all(&place).unwrap();
        let endpoint = format!(r#"{{"Host":"{host}","SkipTLSVerify":{}}}"#, name == "unverified");
        let text = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
        fs::write(place.join("meta.json"), text).unwrap();
    }

    #[test]
    fn engine_is_selected_as_the_docker_command_does() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path();
        for (name, host) in [("box", "unix:///box.sock"), ("far", "tcp://far:2376"), ("unverified", "tcp://x:1")] {
            with_context(config, name, host);
        }
        let select = |host: &str, context: &str, current: &str| {
            fs::write(config.join("config.json"), format!(r#"{{"currentContext":"{current}","auths":{{}}}}"#)).unwrap();
            let (host, context) = (Some(host.to_owned()), Some(context.to_owned()));
            let config_dir = Some(config.to_owned());
            EngineSelection { host, context, config_dir, ..EngineSelection::default() }.select()
        };
        for (host, context, current, expected) in [
            ("", "", "", None),
            ("", "", "default", None),
            ("", "", "box", Some("unix:///box.sock")),
            ("", "far", "box", Some("tcp://far:2376")),
            ("", "default", "box", None),
            ("unix:///own.sock", "far", "box", Some("unix:///own.sock")),
        ] {
            let found = select(host, context, current).unwrap();
            assert_eq!(found.address.as_deref(), expected, "{host} {context} {current}");
        }
        for (context, words) in [("gone", "no Docker context `gone`"), ("unverified", "unverified")] {
            let error = select("", context, "").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        fs::write(config.join("config.json"), "{").unwrap();
        let selection = EngineSelection { config_dir: Some(config.to_owned()), ..EngineSelection::default() };
        assert!(matches!(selection.select(), Err(EngineError::Settings { .. })));
    }

    #[test]
    fn certificates_of_a_context_are_those_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        with_context(dir.path(), "far", "tcp://far:2376");
        let selection = EngineSelection {
            context: Some("far".to_owned()),
            config_dir: Some(dir.path().to_owned()),
            ..EngineSelection::default()
        };
        assert!(selection.select().unwrap().tls.is_none());
        let place = dir.path().join("contexts/tls").join(Digest::of(b"far").hex()).join("docker");
        fs::create_dir_all(&place).unwrap();
        assert_eq!(selection.select().unwrap().tls.unwrap().authority(), place.join("ca.pem"));
        let verified = EngineSelection { host: Some("tcp://x".to_owned()), tls: true, ..selection };
        assert_eq!(verified.select().unwrap().tls.unwrap().authority(), dir.path().join("ca.pem"));
    }
}
