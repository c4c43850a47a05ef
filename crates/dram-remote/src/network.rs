//! Settings of network access: proxies, trusted certificates, timeouts.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::url::{origin, split_credentials};
use crate::{FetchError, http_proxy};

/// The largest certificate file that is read, in bytes.
const MAX_BUNDLE_BYTES: u64 = 16 << 20;

/// The settings of network access.
pub struct NetworkSettings<'a> {
    /// The proxies.
    pub proxies: ProxySettings,
    /// The trusted certificates.
    pub trust: TrustStore,
    /// The timeout for name resolution, and for making a connection.
    pub connect_timeout: Duration,
    /// The timeout for each read and write.
    pub stall_timeout: Duration,
    /// The delay before the first retry; it doubles with each one.
    pub retry_delay: Duration,
    /// The directories in which `git` is looked for, in the form of `PATH`.
    pub search_path: OsString,
    /// The environment variables that `git` and `ssh` get; they get no others.
    pub git_env: Vec<(OsString, OsString)>,
    /// The socket of the ssh agent whose keys may be used; without one no repository is read by ssh.
    pub ssh_agent: Option<PathBuf>,
    /// Returns whether the operation is cancelled.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for NetworkSettings<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Proxy URLs may hold passwords.
        out.debug_struct("NetworkSettings").field("trust", &self.trust).finish_non_exhaustive()
    }
}

/// The proxies, in the form of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// The proxy for `http://`.
    pub http: Option<String>,
    /// The proxy for `https://`.
    pub https: Option<String>,
    /// The proxy for a scheme that has none of its own.
    pub all_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas: a domain includes its subdomains, and `*` is every
    /// host.
    pub no_proxy: Option<String>,
}

/// The certificates that are trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustStore {
    /// `SSL_CERT_FILE`: a file of certificates that replaces the system's.
    pub file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: directories of such files, separated by colons.
    pub dir: Option<OsString>,
}

/// The certificate bundles of the usual distributions.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

impl TrustStore {
    /// Returns the root certificates: those of the settings, or the system's, or Mozilla's list where the system has
    /// none; and those of the files `more`.
    pub(crate) fn root_certs(&self, more: &[PathBuf]) -> RootCerts {
        let mut found = Vec::new();
        for path in more {
            read_certificates(path, &mut found);
        }
        let added = found.len();
        if let Some(file) = &self.file {
            read_certificates(file, &mut found);
        }
        for dir in self.dir.iter().flat_map(std::env::split_paths) {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                read_certificates(&entry.path(), &mut found);
            }
        }
        if self.file.is_none() && self.dir.is_none() {
            if let Some(bundle) = SYSTEM_BUNDLES.iter().map(Path::new).find(|bundle| bundle.is_file()) {
                read_certificates(bundle, &mut found);
            }
            if found.len() == added && more.is_empty() {
                return RootCerts::WebPki;
            }
        }
        RootCerts::new_with_certs(&found)
    }
}

impl TrustStore {
    /// Describes the sources of [`TrustStore::root_certs`] for messages.
    pub(crate) fn describe_sources(&self, more: &[PathBuf]) -> String {
        let mut all: Vec<String> = more.iter().chain(&self.file).map(|path| path.display().to_string()).collect();
        all.extend(self.dir.iter().flat_map(std::env::split_paths).map(|dir| dir.display().to_string()));
        if self.file.is_none() && self.dir.is_none() {
            let bundle = SYSTEM_BUNDLES.iter().find(|bundle| Path::new(bundle).is_file());
            all.extend(bundle.map(|bundle| (*bundle).to_owned()));
        }
        if all.is_empty() { "Mozilla's list".to_owned() } else { all.join(", ") }
    }
}

/// Reads the certificates of a file. An unreadable file contributes none.
fn read_certificates(path: &Path, into: &mut Vec<Certificate<'static>>) {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).map(|file| file.take(MAX_BUNDLE_BYTES));
    if !path.is_file() || opened.and_then(|mut file| file.read_to_end(&mut bytes)).is_err() {
        return;
    }
    for item in parse_pem(&bytes).flatten() {
        if let PemItem::Certificate(certificate) = item {
            into.push(certificate);
        }
    }
}

impl NetworkSettings<'_> {
    /// Returns an HTTP agent for the server of `url`.
    pub(crate) fn new_agent(&self, url: &str) -> Result<Agent, FetchError> {
        let tls = match origin(url).0.as_str() {
            "https" => TlsConfig::builder().root_certs(self.trust.root_certs(&[])).build(),
            _ => TlsConfig::builder().build(),
        };
        // Each agent sends one request, so no idle connections are kept.
        self.new_agent_with(url, tls, 0)
    }

    /// Returns an agent with this TLS configuration, which keeps up to `idle` connections for later requests.
    pub(crate) fn new_agent_with(&self, url: &str, tls: TlsConfig, idle: usize) -> Result<Agent, FetchError> {
        let (scheme, host) = origin(url);
        let wrong = || FetchError::Transport {
            url: crate::redacted(url),
            why: "the proxy that the environment names is none".to_owned(),
        };
        let named = self.proxies.proxy_for(&scheme, &host).map(|text| match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        });
        let forwards = named.as_deref().filter(|proxy| scheme == "http" && proxy.starts_with("http://"));
        let forwards = match forwards {
            Some(proxy) => Some(split_credentials(proxy).0.parse::<Uri>().map_err(|_| wrong())?),
            None => None,
        };
        let tunnel = match named.as_deref().filter(|_| forwards.is_none()) {
            Some(proxy) => Some(Proxy::new(proxy).map_err(|_| wrong())?),
            None => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("dram/", env!("CARGO_PKG_VERSION")))
            // The stored bytes must be those of the server, without a content encoding.
            .accept_encoding("identity")
            .timeout_connect(Some(self.connect_timeout))
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_per_read(Some(self.stall_timeout))
            .timeout_per_write(Some(self.stall_timeout))
            .tls_config(tls)
            .proxy(tunnel);
        Ok(match forwards {
            Some(proxy) => http_proxy::proxied_agent(config.max_idle_connections(0).build(), proxy, &host),
            None => {
                http_proxy::direct_agent(config.max_idle_connections(idle).max_idle_connections_per_host(idle).build())
            }
        })
    }

    /// Returns the value of a `Proxy-Authorization` header for a plain HTTP request of `url`.
    pub(crate) fn proxy_authorization(&self, url: &str) -> Option<String> {
        let (scheme, host) = origin(url);
        let proxy = self.proxies.proxy_for(&scheme, &host).filter(|_| scheme == "http")?;
        split_credentials(&if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") }).1
    }
}

impl ProxySettings {
    /// Returns the proxy for `host`, which may have a port, if there is one.
    fn proxy_for(&self, scheme: &str, host: &str) -> Option<&str> {
        let own = if scheme == "https" { &self.https } else { &self.http };
        let proxy = own.as_deref().or(self.all_proxy.as_deref()).filter(|proxy| !proxy.is_empty())?;
        (!self.bypasses(host)).then_some(proxy)
    }

    fn bypasses(&self, host: &str) -> bool {
        let bare = match host.strip_prefix('[') {
            Some(literal) => literal.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        // Like Go, loopback hosts are never reached through a proxy.
        if bare == "localhost" || bare == "::1" || bare.starts_with("127.") {
            return true;
        }
        let fits = |entry: &str| {
            let entry = entry.trim().to_ascii_lowercase();
            let name = entry.strip_prefix("*.").or(entry.strip_prefix('.')).unwrap_or(&entry);
            let below = || bare.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
            match entry.as_str() {
                "" => false,
                "*" => true,
                _ => host == entry || bare == entry || below(),
            }
        };
        self.no_proxy.as_deref().unwrap_or_default().split(',').any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_entries_and_loopback_hosts_bypass_the_proxy() {
        let proxies = |none: &str| ProxySettings {
            https: Some("http://p:3128".to_owned()),
            no_proxy: Some(none.to_owned()),
            ..ProxySettings::default()
        };
        let table = [
            ("", "a.example", true),
            ("*", "a.example", false),
            ("a.example", "a.example:443", false),
            ("example", "a.example", false),
            (".example", "a.example", false),
            (".a.example", "a.example", true),
            ("*.example", "a.example", false),
            ("ample", "a.example", true),
            ("b, a.EXAMPLE", "a.example", false),
            ("a.example:8443", "a.example:8443", false),
            ("", "localhost:80", false),
            ("", "127.0.0.1:80", false),
            ("", "[::1]:80", false),
        ];
        for (none, host, expected) in table {
            assert_eq!(proxies(none).proxy_for("https", host).is_some(), expected, "{none} {host}");
            assert_eq!(proxies(none).proxy_for("http", host), None);
        }
    }
}
