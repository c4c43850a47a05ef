//! Locations of registries and mirrors: `registries.conf` and `certs.d` of the containers tools and Docker.
//!
//! Follows containers-registries.conf(5), version 2, for names with a host, and containers-certs.d(5).

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use dram_image::Reference;
use serde::Deserialize;

use super::RegistryError;

/// The largest settings file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Docker Hub's name, and the host that serves it.
const HUB: [&str; 2] = ["docker.io", "registry-1.docker.io"];

/// The registry settings of this machine.
#[derive(Debug, Clone, Default)]
pub struct RegistryHosts {
    entries: Vec<(RegistryEntry, PathBuf)>,
    certificates: Vec<PathBuf>,
    /// Every registry may be used without TLS, or with an untrusted certificate.
    all_insecure: bool,
}

#[derive(Debug, Deserialize)]
struct RegistriesConf {
    #[serde(default)]
    registry: Vec<RegistryEntry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryEntry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<MirrorEntry>,
    #[serde(default)]
    mirror_by_digest_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorEntry {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

/// A registry or mirror that may have an image, and the repository there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegistryLocation {
    /// Host and port, as in credentials and messages.
    pub(super) host: String,
    /// The repository at this host.
    pub(super) repository: String,
    /// Plain HTTP and untrusted certificates are allowed.
    pub(super) is_insecure: bool,
    /// Directories with certificates for this host.
    pub(super) certificates: Vec<PathBuf>,
}

impl RegistryLocation {
    /// Returns the host and port to connect to.
    pub(super) fn connect_host(&self) -> &str {
        if HUB.contains(&self.host.as_str()) || self.host == "index.docker.io" { HUB[1] } else { &self.host }
    }

    /// Returns whether the registry is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        super::address_scope::scope_of_host(&self.host) == super::address_scope::AddressScope::Loopback
    }
}

impl RegistryHosts {
    /// Reads `files`, where a directory stands for the `.conf` files in it; later files take precedence. Certificates
    /// are in `certificates/HOST`. Missing files are skipped.
    ///
    /// # Errors
    /// Fails when a file cannot be read or parsed.
    pub fn read(files: &[PathBuf], certificates: Vec<PathBuf>) -> Result<RegistryHosts, RegistryError> {
        let mut hosts = RegistryHosts { certificates, ..RegistryHosts::default() };
        for path in files {
            for file in conf_files(path) {
                hosts.add_file(&file)?;
            }
        }
        Ok(hosts)
    }

    /// Returns the settings with every registry insecure: plain HTTP and untrusted certificates are allowed.
    #[must_use]
    pub fn with_all_insecure(self) -> RegistryHosts {
        RegistryHosts { all_insecure: true, ..self }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), RegistryError> {
        let fail = |why: String| RegistryError::Settings { path: path.to_owned(), why };
        let mut text = String::new();
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(|error| fail(error.to_string()))?,
        };
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(fail(format!("it is longer than {MAX_FILE_BYTES} bytes")));
        }
        let read: RegistriesConf =
            toml::from_str(&text).map_err(|error| fail(super::response_text::sanitise(error.message())))?;
        for mut entry in read.registry {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            if entry.prefix.is_empty() {
                return Err(fail("a `[[registry]]` has neither `prefix` nor `location`".to_owned()));
            }
            self.entries.retain(|(known, _)| known.prefix != entry.prefix);
            self.entries.push((entry, path.to_owned()));
        }
        Ok(())
    }

    /// Returns the locations that an image is pulled from: mirrors first, the registry last.
    pub(super) fn pull_locations(&self, name: &Reference, what: &str) -> Result<Vec<RegistryLocation>, RegistryError> {
        let whole = format!("{}/{}", name.host(), name.repository());
        let Some((entry, matched)) = self.find_entry(&whole, what)? else {
            return Ok(vec![self.location(&whole, false)]);
        };
        let rest = &whole[matched..];
        let by_digest = name.digest().is_some();
        let fits = |mirror: &&MirrorEntry| match mirror.pull_from_mirror.as_str() {
            "digest-only" => by_digest,
            "tag-only" => !by_digest,
            _ => by_digest || !entry.mirror_by_digest_only,
        };
        let mirrors = entry.mirror.iter().filter(fits);
        let mut places: Vec<RegistryLocation> =
            mirrors.map(|mirror| self.location(&format!("{}{rest}", mirror.location), mirror.insecure)).collect();
        places.push(self.primary_location(entry, &whole, rest));
        Ok(places)
    }

    /// Returns the location that an image is pushed to.
    pub(super) fn push_location(&self, name: &Reference, what: &str) -> Result<RegistryLocation, RegistryError> {
        let whole = format!("{}/{}", name.host(), name.repository());
        Ok(match self.find_entry(&whole, what)? {
            None => self.location(&whole, false),
            Some((entry, matched)) => self.primary_location(entry, &whole, &whole[matched..]),
        })
    }

    fn primary_location(&self, entry: &RegistryEntry, whole: &str, rest: &str) -> RegistryLocation {
        match entry.location.is_empty() || entry.prefix.starts_with("*.") {
            true => self.location(whole, entry.insecure),
            false => self.location(&format!("{}{rest}", entry.location), entry.insecure),
        }
    }

    /// Returns the entry with the longest prefix of `name`, and the length of the match.
    fn find_entry(&self, name: &str, what: &str) -> Result<Option<(&RegistryEntry, usize)>, RegistryError> {
        let fitting =
            self.entries.iter().filter_map(|(entry, path)| Some((entry, path, matched_len(&entry.prefix, name)?)));
        let Some((entry, path, length)) = fitting.max_by_key(|(entry, _, _)| entry.prefix.len()) else {
            return Ok(None);
        };
        if entry.blocked {
            let (what, prefix, path) = (what.to_owned(), entry.prefix.clone(), path.clone());
            return Err(RegistryError::Blocked { what, prefix, path });
        }
        Ok(Some((entry, length)))
    }

    fn location(&self, name: &str, is_insecure: bool) -> RegistryLocation {
        let (host, repository) = name.split_once('/').unwrap_or((name, ""));
        let certificates = self.certificates.iter().map(|dir| dir.join(host)).filter(|dir| dir.is_dir()).collect();
        let is_insecure = is_insecure || self.all_insecure;
        RegistryLocation { host: host.to_owned(), repository: repository.to_owned(), is_insecure, certificates }
    }
}

/// Returns the length of the part of `name` that `prefix` matches, if it does.
fn matched_len(prefix: &str, name: &str) -> Option<usize> {
    let host = name.find('/').unwrap_or(name.len());
    if let Some(domain) = prefix.strip_prefix('*') {
        let (domain, path) = domain.split_at(domain.find('/').unwrap_or(domain.len()));
        let fits = name[..host].ends_with(domain) && host > domain.len() && name[host..].starts_with(path);
        return fits.then_some(host + path.len());
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

/// Returns the file itself, or the `.conf` files of a directory in the order of their names.
fn conf_files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Result<RegistryHosts, RegistryError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        fs::write(&path, text).unwrap();
        RegistryHosts::read(&[path], Vec::new())
    }

    fn pull_targets(hosts: &RegistryHosts, name: &str) -> Vec<(String, bool)> {
        let places = hosts.pull_locations(&name.parse().unwrap(), "pull").unwrap();
        places
            .into_iter()
            .map(|place| (format!("{}/{}", place.connect_host(), place.repository), place.is_insecure))
            .collect()
    }

    #[test]
    fn names_resolve_to_mirrors_and_then_the_registry() {
        let hosts = hosts(
            r#"
            unqualified-search-registries = ["docker.io"]
            short-name-mode = "enforcing"
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.example:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "second.example"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "a.example/team"
            location = "b.example/other"
            [[registry]]
            prefix = "*.wild.example"
            insecure = true
            "#,
        )
        .unwrap();
        let digest = format!("debian@sha256:{}", "0".repeat(64));
        let table: [(&str, &[(&str, bool)]); 6] = [
            (
                "debian",
                &[("mirror.example:5000/hub/library/debian", true), ("registry-1.docker.io/library/debian", false)],
            ),
            (
                &digest,
                &[
                    ("mirror.example:5000/hub/library/debian", true),
                    ("second.example/library/debian", false),
                    ("registry-1.docker.io/library/debian", false),
                ],
            ),
            ("a.example/team/x", &[("b.example/other/x", false)]),
            ("a.example/teams/x", &[("a.example/teams/x", false)]),
            ("x.wild.example/y", &[("x.wild.example/y", true)]),
            ("wild.example/y", &[("wild.example/y", false)]),
        ];
        for (name, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(place, insecure)| ((*place).to_owned(), *insecure)).collect();
            assert_eq!(pull_targets(&hosts, name), expected, "{name}");
        }
    }

    #[test]
    fn blocked_prefixes_and_invalid_files_are_errors() {
        let blocked = hosts("[[registry]]\nprefix = \"docker.io\"\nblocked = true\n").unwrap();
        let error = blocked.push_location(&"debian".parse().unwrap(), "push `debian`").unwrap_err();
        assert!(error.to_string().starts_with("cannot push `debian`: `docker.io` is blocked in /"), "{error}");
        for text in ["[[registry]]\n", "[[registry]]\nprefix = 1\n", "registry", "\u{1}"] {
            let error = hosts(text).unwrap_err();
            assert!(matches!(error, RegistryError::Settings { .. }), "{text}");
        }
        assert_eq!(RegistryHosts::read(&[PathBuf::from("/nonexistent")], Vec::new()).unwrap().entries.len(), 0);
    }
}
