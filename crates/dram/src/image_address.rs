//! Addresses of images on the command line, in skopeo's syntax.

use std::fmt;
use std::path::PathBuf;

use dram_dockerfile::suggest::nearest_name;
use dram_image::Reference;

use crate::failure::Failure;

/// The address of an image, to copy from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageAddress {
    /// `docker://NAME`: a registry.
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI layout in a directory.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:TAG]`: an OCI layout in a tar.
    Archive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<Reference>),
    /// `store:NAME`: dram's own store.
    Store(String),
    /// `docker-daemon:NAME`: a Docker engine.
    Engine(Reference),
    /// `containers-storage:NAME`: podman's store.
    Podman(Reference),
}

const SCHEMES: [&str; 7] =
    ["docker", "oci", "oci-archive", "docker-archive", "store", "docker-daemon", "containers-storage"];

impl ImageAddress {
    /// Returns true if `text` begins with the scheme of an address, so that it is no name.
    pub(crate) fn is_address(text: &str) -> bool {
        text.split_once(':')
            .is_some_and(|(kind, rest)| SCHEMES.contains(&kind) && (kind != "docker" || rest.starts_with("//")))
    }

    /// Parses an address.
    pub(crate) fn parse(text: &str) -> Result<ImageAddress, Failure> {
        let wrong = |what: &str| Failure::usage(format!("`{}` {what}", text.escape_debug()));
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| SCHEMES.contains(kind)) else {
            let failure = wrong("is no address of an image");
            let kind = text.split(':').next().unwrap_or_default();
            return Err(match nearest_name(kind, SCHEMES.iter().copied()) {
                Some(near) if text.contains(':') => failure.help(format!("did you mean `{near}:`?")),
                _ => failure
                    .help(format!("`docker://{text}` is in a registry, `store:{text}` in the store of this machine"))
                    .help(
                        "others: oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], \
                           docker-daemon:NAME, containers-storage:NAME",
                    ),
            });
        };
        let name = |text: &str| text.parse::<Reference>().map_err(|error| Failure::usage(error.to_string()));
        // As in skopeo: the first colon ends the path, whatever the tag has in it.
        let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
        let tag = tag.filter(|tag| !tag.is_empty());
        if path.is_empty() {
            return Err(wrong("names nothing"));
        }
        Ok(match kind {
            "docker" => match rest.strip_prefix("//") {
                Some(rest) => ImageAddress::Registry(name(rest)?),
                None => return Err(wrong("lacks `//`").help(format!("`docker://{rest}`"))),
            },
            "oci" => ImageAddress::Layout(path.into(), tag.map(str::to_owned)),
            "oci-archive" => ImageAddress::Archive(path.into(), tag.map(str::to_owned)),
            "docker-archive" => ImageAddress::DockerArchive(path.into(), tag.map(name).transpose()?),
            "store" => ImageAddress::Store(rest.to_owned()),
            "docker-daemon" => ImageAddress::Engine(name(rest)?),
            _ => ImageAddress::Podman(name(rest)?),
        })
    }
}

impl fmt::Display for ImageAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |out: &mut fmt::Formatter<'_>, kind: &str, path: &PathBuf, tag: Option<String>| {
            let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
            write!(out, "{kind}:{}{tag}", path.display())
        };
        match self {
            ImageAddress::Registry(name) => write!(out, "docker://{name}"),
            ImageAddress::Layout(dir, tag) => path(out, "oci", dir, tag.clone()),
            ImageAddress::Archive(file, tag) => path(out, "oci-archive", file, tag.clone()),
            ImageAddress::DockerArchive(file, name) => {
                path(out, "docker-archive", file, name.as_ref().map(Reference::to_string))
            }
            ImageAddress::Store(name) => write!(out, "store:{name}"),
            ImageAddress::Engine(name) => write!(out, "docker-daemon:{name}"),
            ImageAddress::Podman(name) => write!(out, "containers-storage:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_as_in_skopeo() {
        let name = |text: &str| text.parse::<Reference>().unwrap();
        for (text, wanted) in [
            ("docker://localhost:5000/a/b:c", ImageAddress::Registry(name("localhost:5000/a/b:c"))),
            ("docker://debian", ImageAddress::Registry(name("debian"))),
            ("oci:dir", ImageAddress::Layout("dir".into(), None)),
            ("oci:a/dir:demo:1", ImageAddress::Layout("a/dir".into(), Some("demo:1".to_owned()))),
            ("oci-archive:/x.tar:", ImageAddress::Archive("/x.tar".into(), None)),
            ("docker-archive:x.tar:a:b", ImageAddress::DockerArchive("x.tar".into(), Some(name("a:b")))),
            ("store:demo:1", ImageAddress::Store("demo:1".to_owned())),
            ("docker-daemon:demo:1", ImageAddress::Engine(name("demo:1"))),
            ("containers-storage:demo", ImageAddress::Podman(name("demo"))),
        ] {
            assert_eq!(ImageAddress::parse(text).unwrap(), wanted, "{text}");
        }
        for text in
            ["", "demo", "demo:1", "docker:demo", "docker://", "docker://A", "oci:", "oci::tag", "dir:x", "store:"]
        {
            assert_eq!(ImageAddress::parse(text).unwrap_err().code(), 2, "{text}");
        }
    }

    #[test]
    fn address_is_displayed_as_it_was_written() {
        for text in ["docker://localhost:5000/a:b", "oci:d:t", "oci-archive:f", "docker-archive:f:a:b", "store:x"] {
            assert_eq!(ImageAddress::parse(text).unwrap().to_string(), text);
        }
    }
}
