//! The documents of an image: the exact bytes with the value parsed from them.
//!
//! Follows the OCI image specification 1.1 (`descriptor.md`, `manifest.md`, `image-index.md`) and reads Docker's
//! schema 2 manifests, whose fields are the same.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::config::ContainerConfig;
use crate::{Digest, ImageConfig, base64};

/// The largest document of any kind that is read, in bytes. Each kind has its own limit, [`DocumentKind::MAX_BYTES`].
pub const LARGEST_DOCUMENT: usize = 32 << 20;

/// The largest number of layers of an image. It is ten times as many as any system runs.
const MOST_LAYERS: usize = 10_000;

/// The largest number of labels, variables, ports, volumes and triggers of an image. Each is copied several times in a
/// build.
const MOST_SETTINGS: usize = 100_000;

/// The exact bytes of a document, and the value parsed from them. The bytes are authoritative: they are stored and
/// hashed, and never serialised again from the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T> {
    bytes: Vec<u8>,
    value: T,
}

/// The error for bytes that are not a valid document of their kind.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The text is not JSON, or does not have the form of this document.
    #[error("{what} cannot be read")]
    Json {
        /// The kind of document.
        what: &'static str,
        /// The error and its position.
        #[source]
        source: serde_json::Error,
    },
    /// The text is too long.
    #[error("{what} of {length} bytes is larger than the {limit} that are read")]
    TooLarge {
        /// The kind of document.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The length that is allowed.
        limit: usize,
    },
    /// The document contradicts itself or the specification.
    #[error("{what}: {why}")]
    Invalid {
        /// The kind of document.
        what: &'static str,
        /// The contradiction.
        why: String,
    },
}

/// The error for a value that is not written as a document because nothing could read it again.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {what}: what could not be read again is not written")]
pub struct DocumentWriteError {
    what: &'static str,
    #[source]
    source: DocumentError,
}

impl DocumentWriteError {
    /// Returns what the user can do.
    pub fn help(&self) -> &'static str {
        if self.what == Index::NAME {
            return "remove names that nothing needs, or write to another place";
        }
        if self.what == Manifest::NAME {
            return "use fewer or shorter annotations, or fewer layers";
        }
        "use fewer or shorter labels, variables and instructions"
    }
}

/// A value that is parsed from, and serialised into, a [`Document`].
pub trait DocumentKind: Serialize + DeserializeOwned {
    /// The name of this kind of document in messages.
    const NAME: &'static str;
    /// The largest document of this kind that is read and written, in bytes.
    const MAX_BYTES: usize;
    /// The largest number of values in one. Empty values take a few bytes each in the text, and a hundred in memory.
    const MAX_VALUES: usize = 600_000;

    /// Validates constraints that the JSON form alone does not express.
    ///
    /// # Errors
    /// Returns the reason why the document is invalid.
    fn check(&self) -> Result<(), String>;
}

impl<T: DocumentKind> Document<T> {
    /// Parses and validates `bytes`.
    ///
    /// # Errors
    /// Fails when the bytes are too many, not JSON of this form, or not valid.
    pub fn read(bytes: Vec<u8>) -> Result<Self, DocumentError> {
        check_size::<T>(&bytes)?;
        let value: T =
            serde_json::from_slice(&bytes).map_err(|source| DocumentError::Json { what: T::NAME, source })?;
        value.check().map_err(|why| DocumentError::Invalid { what: T::NAME, why })?;
        Ok(Document { bytes, value })
    }

    /// Serialises `value` once, in the field order of its type.
    ///
    /// # Errors
    /// Fails when [`Document::read`] would not read the result.
    pub fn write(value: T) -> Result<Self, DocumentWriteError> {
        let bytes = serde_json::to_vec(&value).expect("plain data becomes JSON");
        let invalid = |why| DocumentError::Invalid { what: T::NAME, why };
        let checked = check_size::<T>(&bytes).and_then(|()| value.check().map_err(invalid));
        checked.map_err(|source| DocumentWriteError { what: T::NAME, source })?;
        Ok(Document { bytes, value })
    }

    /// Returns the exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the parsed value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Returns a descriptor of the bytes.
    pub fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor::new(media_type, self.digest(), self.bytes.len() as u64)
    }
}

/// Checks the length of a document and the number of its values.
fn check_size<T: DocumentKind>(bytes: &[u8]) -> Result<(), DocumentError> {
    if bytes.len() > T::MAX_BYTES {
        return Err(DocumentError::TooLarge { what: T::NAME, length: bytes.len(), limit: T::MAX_BYTES });
    }
    let values = bytes.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > T::MAX_VALUES {
        let why = format!("it has more than the {} values that are read", T::MAX_VALUES);
        return Err(DocumentError::Invalid { what: T::NAME, why });
    }
    Ok(())
}

/// The media types that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType;

impl MediaType {
    /// An image manifest.
    pub const MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// An image index.
    pub const INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// An image config.
    pub const CONFIG: &'static str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed layer.
    pub const LAYER: &'static str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer compressed with gzip.
    pub const LAYER_GZIP: &'static str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed with zstd.
    pub const LAYER_ZSTD: &'static str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's image manifest.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's manifest list.
    pub const DOCKER_INDEX: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image config.
    pub const DOCKER_CONFIG: &'static str = "application/vnd.docker.container.image.v1+json";
    /// Docker's uncompressed layer.
    pub const DOCKER_LAYER: &'static str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's layer compressed with gzip.
    pub const DOCKER_LAYER_GZIP: &'static str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer compressed with zstd.
    pub const DOCKER_LAYER_ZSTD: &'static str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// The media types of layers: OCI's, and Docker's equivalent.
    const LAYERS: [(&'static str, &'static str); 3] = [
        (Self::LAYER, Self::DOCKER_LAYER),
        (Self::LAYER_GZIP, Self::DOCKER_LAYER_GZIP),
        (Self::LAYER_ZSTD, Self::DOCKER_LAYER_ZSTD),
    ];

    /// Returns OCI's equivalent of a Docker layer type; any other type is returned unchanged.
    pub fn oci_layer(text: &str) -> &str {
        Self::LAYERS.iter().find(|(_, docker)| *docker == text).map_or(text, |(oci, _)| oci)
    }

    /// Returns Docker's equivalent of an OCI layer type; any other type is returned unchanged.
    pub fn docker_layer(text: &str) -> &str {
        Self::LAYERS.iter().find(|(oci, _)| *oci == text).map_or(text, |(_, docker)| docker)
    }

    /// Returns whether `text` is the media type of an index, of OCI or Docker.
    pub fn is_index(text: &str) -> bool {
        text == Self::INDEX || text == Self::DOCKER_INDEX
    }

    /// Returns whether `text` is the media type of an image config, of OCI or Docker.
    pub fn is_image_config(text: &str) -> bool {
        text == Self::CONFIG || text == Self::DOCKER_CONFIG
    }

    /// Returns whether `text` is the media type of a manifest, of OCI or Docker.
    pub fn is_manifest(text: &str) -> bool {
        text == Self::MANIFEST || text == Self::DOCKER_MANIFEST
    }
}

/// A descriptor of a blob: its media type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the blob.
    pub media_type: String,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// The platform of the image, for an entry of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<ImagePlatform>,
    /// Annotations; the tags in an OCI layout are among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The embedded blob in base64, if there is one. It is verified and otherwise ignored.
    #[serde(default, skip_serializing)]
    pub data: Option<String>,
}

impl Descriptor {
    /// Returns a descriptor without platform and annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            data: None,
        }
    }

    /// Fails when the embedded blob does not match size and digest.
    fn check_data(&self) -> Result<(), String> {
        let Some(text) = &self.data else { return Ok(()) };
        match base64::decode(text) {
            Some(data) if data.len() as u64 == self.size && Digest::of(&data) == self.digest => Ok(()),
            Some(_) | None => Err(format!("the `data` of {} is not what its digest says", self.digest)),
        }
    }
}

/// The platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlatform {
    /// The CPU architecture under its Go name.
    pub architecture: String,
    /// The operating system under its Go name.
    pub os: String,
    /// The variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl std::fmt::Display for ImagePlatform {
    /// Formats the platform as `linux/arm64/v8`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty());
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        write!(out, "{}/{}{variant}", self.os, self.architecture)
    }
}

/// A field whose value is ignored and takes no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IgnoredField;

impl<'de> Deserialize<'de> for IgnoredField {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(input).map(|_| IgnoredField)
    }
}

/// An image manifest: the config and the layers of an image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The media type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The kind of an artifact that is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The descriptor of the config.
    pub config: Descriptor,
    /// The descriptors of the layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The field of an index: a document that has both is refused.
    #[serde(default, skip_serializing)]
    manifests: Option<IgnoredField>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Returns a manifest of OCI's media type.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            manifests: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the reason why the manifest is not that of an image that can be run or built upon; `None` if it may be.
    pub fn obstacle(&self) -> Option<ImageObstacle> {
        if let Some(layer) = self.layers.iter().find(|layer| layer.media_type.ends_with("+encrypted")) {
            return Some(ImageObstacle::Encrypted(layer.media_type.clone()));
        }
        let is_layer = |layer: &Descriptor| MediaType::oci_layer(&layer.media_type).starts_with(MediaType::LAYER);
        if MediaType::is_image_config(&self.config.media_type) || self.layers.iter().any(is_layer) {
            return None;
        }
        Some(ImageObstacle::Artifact(self.artifact_type.clone().unwrap_or_else(|| self.config.media_type.clone())))
    }
}

/// The reason why a manifest is not that of an image that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageObstacle {
    /// A layer is encrypted; it has this media type.
    Encrypted(String),
    /// It is an artifact of this type.
    Artifact(String),
}

impl fmt::Display for ImageObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageObstacle::Encrypted(kind) => write!(f, "its layers are encrypted (`{}`)", kind.escape_debug()),
            ImageObstacle::Artifact(kind) => {
                write!(f, "it is no image, but an artifact of the type `{}`", kind.escape_debug())
            }
        }
    }
}

impl ImageObstacle {
    /// Returns what the user can do.
    pub fn help(&self) -> &'static str {
        match self {
            ImageObstacle::Encrypted(_) => "decrypt it with its key first: `skopeo copy --decryption-key`",
            ImageObstacle::Artifact(_) => "`dram copy` brings it to another registry, a layout or an archive",
        }
    }
}

impl DocumentKind for Manifest {
    const NAME: &'static str = "the image manifest";
    // The distribution specification has registries accept manifests of at least this size.
    const MAX_BYTES: usize = 4 << 20;

    fn check(&self) -> Result<(), String> {
        if self.schema_version != 2 {
            return Err(format!("schemaVersion is {}, expected 2", self.schema_version));
        }
        if self.manifests.is_some() {
            return Err("it has both `layers` and `manifests`".to_owned());
        }
        if self.layers.len() > MOST_LAYERS {
            return Err(format!("it has {} layers, more than the {MOST_LAYERS} that are read", self.layers.len()));
        }
        match self.media_type.as_deref() {
            Some(kind) if !MediaType::is_manifest(kind) => Err(format!("its mediaType is `{}`", kind.escape_debug())),
            Some(_) | None => self.layers.iter().chain([&self.config]).try_for_each(Descriptor::check_data),
        }
    }
}

/// An image index: manifests for several platforms, or the entries of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The media type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The entries.
    pub manifests: Vec<Descriptor>,
    /// The field of a manifest: a document that has both is refused.
    #[serde(default, skip_serializing)]
    layers: Option<IgnoredField>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Returns an index of OCI's media type.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Index {
            schema_version: 2,
            media_type: Some(MediaType::INDEX.to_owned()),
            manifests,
            layers: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl DocumentKind for Index {
    const NAME: &'static str = "the index";
    // The index of a layout names all its images.
    const MAX_BYTES: usize = LARGEST_DOCUMENT;
    const MAX_VALUES: usize = 2_000_000;

    fn check(&self) -> Result<(), String> {
        if self.schema_version != 2 {
            return Err(format!("schemaVersion is {}, expected 2", self.schema_version));
        }
        if self.layers.is_some() {
            return Err("it has both `layers` and `manifests`".to_owned());
        }
        match self.media_type.as_deref() {
            Some(kind) if !MediaType::is_index(kind) => Err(format!("its mediaType is `{}`", kind.escape_debug())),
            Some(_) | None => self.manifests.iter().try_for_each(Descriptor::check_data),
        }
    }
}

impl DocumentKind for ImageConfig {
    const NAME: &'static str = "the image configuration";
    // Four times what podman, buildah and skopeo read, as each instruction has an entry in the history.
    const MAX_BYTES: usize = 16 << 20;

    fn check(&self) -> Result<(), String> {
        if self.rootfs.kind != "layers" {
            return Err(format!("rootfs.type is `{}`, expected `layers`", self.rootfs.kind.escape_debug()));
        }
        let ContainerConfig { exposed_ports, env, volumes, labels, on_build, .. } = &self.config;
        if exposed_ports.len() + env.len() + volumes.len() + labels.len() + on_build.len() > MOST_SETTINGS {
            return Err(format!("it has more than the {MOST_SETTINGS} settings that are read"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Result<Document<Manifest>, DocumentError> {
        Document::read(text.as_bytes().to_vec())
    }

    #[test]
    fn written_document_reads_back_equal() {
        let config = Descriptor::new(MediaType::CONFIG, Digest::of(b"c"), 1);
        let document = Document::write(Manifest::new(config, vec![])).unwrap();
        assert_eq!(Document::read(document.bytes().to_vec()).unwrap(), document);
    }

    #[test]
    fn contradictory_or_malformed_manifests_are_refused() {
        let config = r#""config":{"mediaType":"x","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;
        for (text, want) in [
            (format!(r#"{{"schemaVersion":1,{config},"layers":[]}}"#), "schemaVersion is 1"),
            (format!(r#"{{"schemaVersion":2,{config},"layers":[],"manifests":[]}}"#), "both"),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{}",{config},"layers":[]}}"#, MediaType::INDEX), "mediaType"),
        ] {
            assert!(manifest(&text).unwrap_err().to_string().contains(want), "{text}");
        }
        for text in ["", "{", "[]", "null", r#"{"schemaVersion":2,"config":null,"layers":[]}"#] {
            assert!(manifest(text).is_err(), "{text}");
        }
        let deep = "[".repeat(200_000);
        assert!(manifest(&format!(r#"{{"schemaVersion":2,{config},"layers":{deep}"#)).is_err());
    }

    #[test]
    fn embedded_data_must_match_size_and_digest() {
        let text = |data: &str| {
            let whole = Document::write(Manifest::new(
                Descriptor::new(MediaType::CONFIG, Digest::of(b"any carnal pleas"), 16),
                vec![],
            ));
            String::from_utf8(whole.unwrap().bytes().to_vec())
                .unwrap()
                .replace(r#""size":16"#, &format!(r#""size":16,"data":"{data}""#))
        };
        assert!(manifest(&text("YW55IGNhcm5hbCBwbGVhcw==")).is_ok());
        for wrong in
            ["", "YW55IGNhcm5hbCBwbGVhcw", "YW55IGNhcm5hbCBwbGVhcy4=", "YW55IGNhcm5hbCBwbGVhc===", "=", "00e9=="]
        {
            assert!(manifest(&text(wrong)).unwrap_err().to_string().contains("`data`"), "{wrong}");
        }
    }

    #[test]
    fn documents_of_too_many_values_are_refused() {
        let many = format!(r#"{{"history":[{}{{}}]}}"#, "{},".repeat(1_100_000));
        let error = Document::<ImageConfig>::read(many.into_bytes()).unwrap_err().to_string();
        assert!(error.contains("600000 values"), "{error}");
    }

    #[test]
    fn artifacts_and_encrypted_layers_are_told_from_images() {
        let blob = |kind: &str| Descriptor::new(kind, Digest::of(b"x"), 1);
        let layers = |kind: &str| vec![blob(MediaType::LAYER), blob(kind)];
        for (config, layers, words) in [
            (MediaType::CONFIG, layers(MediaType::LAYER_ZSTD), None),
            (MediaType::DOCKER_CONFIG, layers("application/vnd.in-toto+json"), None),
            ("text/plain", layers("text/plain"), None),
            (MediaType::CONFIG, layers("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), Some("encrypted")),
            ("application/vnd.cncf.helm.config.v1+json", vec![blob("application/tar+gzip")], Some("helm.config")),
            ("application/vnd.oci.empty.v1+json", vec![blob("text/plain")], Some("oci.empty")),
        ] {
            let obstacle = Manifest::new(blob(config), layers).obstacle().map(|obstacle| obstacle.to_string());
            assert_eq!(obstacle.is_some(), words.is_some(), "{config}: {obstacle:?}");
            assert!(obstacle.unwrap_or_default().contains(words.unwrap_or_default()), "{config}");
        }
    }

    #[test]
    fn documents_that_could_not_be_read_are_not_written() {
        let config = |labels: usize, length: usize| {
            let labels = (0..labels).map(|number| (format!("l{number}"), "x".repeat(length))).collect();
            let config = ContainerConfig { labels, ..ContainerConfig::default() };
            ImageConfig { architecture: "amd64".to_owned(), os: "linux".to_owned(), config, ..ImageConfig::default() }
        };
        let history = |count: usize| {
            let entry = crate::HistoryEntry { created_by: Some("LABEL a=b".to_owned()), ..Default::default() };
            ImageConfig { history: vec![entry; count], ..config(0, 0) }
        };
        for value in [config(100_000, 1), config(15, 1 << 20), history(100_000)] {
            let written = Document::write(value).unwrap();
            assert_eq!(Document::<ImageConfig>::read(written.bytes().to_vec()).unwrap(), written);
        }
        for value in [config(100_001, 1), config(17, 1 << 20), history(700_000)] {
            let error = Document::write(value.clone()).unwrap_err();
            assert!(error.to_string().contains("cannot write the image configuration"), "{error}");
            let bytes = serde_json::to_vec(&value).unwrap();
            assert!(Document::<ImageConfig>::read(bytes).is_err());
        }
        let named = |count: usize| {
            let mut entry = Descriptor::new(MediaType::MANIFEST, Digest::of(b""), 0);
            entry.annotations.insert("name".to_owned(), "n".repeat(4096));
            Document::write(Index::new(vec![entry; count]))
        };
        assert!(named(7_000).is_ok());
        let error = named(9_999).unwrap_err();
        assert!(error.help().contains("remove names"), "{}", error.help());
    }

    #[test]
    fn malformed_digests_in_descriptors_are_refused() {
        for (digest, size) in [("sha256:../../canary", "0"), ("sha256:00", "0"), ("md5", "0")] {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{digest}","size":{size}}},"layers":[]}}"#
            );
            assert!(manifest(&text).is_err(), "{text}");
        }
    }
}
