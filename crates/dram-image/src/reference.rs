//! Image references.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// A normalised image reference: `debian` and `docker.io/library/debian:latest` are equal.
///
/// Follows the reference grammar of the distribution project, Docker Hub's short names included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    path: String,
    tag: String,
    digest: Option<Digest>,
}

/// The error for a text that is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {why}")]
pub struct ReferenceError {
    text: String,
    why: &'static str,
}

const DOCKER_HUB: &str = "docker.io";

impl Reference {
    /// Returns the registry's host and port; `docker.io` by default.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the repository within the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.path
    }

    /// Returns the tag; `latest` by default.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Returns the digest that the reference is pinned to, if any.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the short name without the tag: `debian`, `ghcr.io/a/b`.
    pub fn short_name(&self) -> String {
        let whole = || format!("{}/{}", self.host, self.path);
        if self.host != DOCKER_HUB {
            return whole();
        }
        let short = self.path.strip_prefix("library/").unwrap_or(&self.path);
        // The name must not be shortened when it would then mean another registry, as `docker.io/example.com/x` would.
        if split_host(short) == (DOCKER_HUB, self.path.clone()) { short.to_owned() } else { whole() }
    }

    /// Returns the short name with the tag: `debian:12`.
    ///
    /// Two references to the same image have the same short name.
    pub fn short(&self) -> String {
        format!("{}:{}", self.short_name(), self.tag)
    }

    /// Returns the full name: `docker.io/library/debian:12`.
    pub fn full_name(&self) -> String {
        format!("{}/{}:{}", self.host, self.path, self.tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digest {
            None => f.write_str(&self.short()),
            Some(digest) => write!(f, "{}@{digest}", self.short_name()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |why| ReferenceError { text: text.chars().take(300).collect(), why };
        if text.len() > 1024 {
            return Err(fail("it is longer than any registry takes"));
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(digest.parse().map_err(|_| fail("what follows `@` is no digest"))?)),
        };
        let (name, tag) = split_tag(name);
        let (host, path) = split_host(name);
        check_host(host).map_err(fail)?;
        check_path(&path).map_err(fail)?;
        if !is_tag(tag) {
            return Err(fail("a tag is up to 128 letters, digits, `_`, `.` and `-`, the first no `.` or `-`"));
        }
        Ok(Reference { host: host.to_owned(), path, tag: tag.to_owned(), digest })
    }
}

/// Splits `name:tag`. A colon before a slash belongs to a port.
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((left, tag)) if !tag.contains('/') => (left, tag),
        Some(_) | None => (name, "latest"),
    }
}

/// Splits the host off. The first component is a host when it has a dot or a port, is `localhost`, or has an upper-case
/// letter.
fn split_host(name: &str) -> (&str, String) {
    let is_host =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part.chars().any(|c| c.is_ascii_uppercase());
    match name.split_once('/') {
        Some(("index.docker.io", path)) => split_hub_path(path),
        Some((host, path)) if host != DOCKER_HUB && is_host(host) => (host, path.to_owned()),
        Some((DOCKER_HUB, path)) => split_hub_path(path),
        Some(_) => (DOCKER_HUB, name.to_owned()),
        None => split_hub_path(name),
    }
}

fn split_hub_path(path: &str) -> (&'static str, String) {
    if path.contains('/') { (DOCKER_HUB, path.to_owned()) } else { (DOCKER_HUB, format!("library/{path}")) }
}

/// Validates the host, which becomes a part of URLs and must not hold characters with a meaning there.
fn check_host(host: &str) -> Result<(), &'static str> {
    const WRONG: &str = "its registry is no host: words of letters, digits and `-`, joined by `.`, and maybe a port";
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(WRONG);
            }
            ("ipv6", rest.strip_prefix(':').or((!rest.is_empty()).then_some("")))
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let is_word = |word: &str| {
        let inside = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inside && !word.is_empty() && !word.starts_with('-') && !word.ends_with('-')
    };
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let fits = name.len() <= 253 && name.split('.').all(is_word) && port.is_none_or(is_port);
    if fits { Ok(()) } else { Err(WRONG) }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path == "library/" || path.is_empty() {
        return Err("the name is empty");
    }
    if path.len() > 255 {
        return Err("the repository is longer than 255 bytes");
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err("a repository is written in lower case");
    }
    let part_is_good = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        ends(part.chars().next())
            && ends(part.chars().next_back())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !part.contains("..")
            && !part.contains("___")
            && !part.contains("._")
            && !part.contains("_.")
    };
    if path.split('/').all(part_is_good) {
        Ok(())
    } else {
        Err("a repository is words of lower-case letters and digits, joined by `.`, `_`, `-` and `/`")
    }
}

fn is_tag(tag: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=128).contains(&tag.len()) && tag.chars().all(good) && !tag.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (text, full, short) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/debian:12", "docker.io/library/debian:12", "debian:12"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("localhost/app:1", "localhost/app:1", "localhost/app:1"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.full_name().as_str(), reference.short().as_str()), (full, short));
        }
    }

    #[test]
    fn short_and_full_names_parse_to_the_same_reference() {
        for text in [
            "docker.io/example.com/x",
            "docker.io/docker.io/x",
            "docker.io/index.docker.io/x",
            "docker.io/localhost/x",
            "docker.io/library/a/b",
            "docker.io/library/example.com/x",
            "library/library",
            "docker.io/library/docker.io",
        ] {
            let name: Reference = text.parse().unwrap();
            assert_eq!(name.short().parse::<Reference>().unwrap(), name, "{text}");
            assert_eq!(name.full_name().parse::<Reference>().unwrap(), name, "{text}");
        }
        let (hub, other): (Reference, Reference) =
            ("docker.io/example.com/x".parse().unwrap(), "example.com/x".parse().unwrap());
        assert_ne!(hub.short(), other.short());
    }

    #[test]
    fn invalid_registry_hosts_are_refused() {
        for text in
            ["a.b/x", "localhost/x", "h:5000/x", "[::1]/x", "[fe80::1]:5000/x", "A/x", "127.0.0.1:1/x", "xn--a.b/x"]
        {
            assert!(text.parse::<Reference>().is_ok(), "{text}");
        }
        let long = format!("{}.b/x", "a".repeat(260));
        for text in [
            "a.b?c/x",
            "a.b#/x",
            "a.b%2f/x",
            "a.b\\c/x",
            "u:p:1/x",
            "a.b:/x",
            "a.b:123456/x",
            "a..b/x",
            ".a/x",
            "-a.b/x",
            "a.b-/x",
            "[::1/x",
            "[x]/x",
            "[::1]5/x",
            "[::1]:/x",
            "a.b c/x",
            "a.b\n/x",
            "a_b.c/x",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn invalid_image_names_are_refused() {
        for text in ["", ":", "a:", "A", "a//b", "a/../b", "-a", "a:b c", "a@sha256:1", "../../canary", "a\nb", "a:.x"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
