//! The documents of an image: exact bytes and their reading.
//!
//! Follows the OCI image specification 1.1 (`descriptor.md`, `manifest.md`, `image-index.md`) and reads Docker's
//! schema 2 manifests, whose fields are the same.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::{Digest, ImageConfig, base64};

/// The largest manifest, index or configuration that is read, in bytes.
///
/// The distribution specification has registries take at least 4 MiB of a manifest; a configuration, which holds a
/// line for each instruction, may be longer.
pub const LARGEST_DOCUMENT: usize = 32 << 20;

/// The most layers of an image that are read. Ten times as many as any system runs.
const MOST_LAYERS: usize = 10_000;

/// The most values in a document that is read: of those that say nothing, millions fit into few bytes, and each takes a
/// hundred in memory.
const MOST_VALUES: usize = 2_000_000;

/// Exact bytes and what they say. The bytes are the truth: they are stored and hashed, and never written anew from
/// the reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T> {
    bytes: Vec<u8>,
    value: T,
}

/// Bytes that are not the document they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The text is no JSON, or not of this document's form.
    #[error("{what} cannot be read")]
    Json {
        /// The kind of document.
        what: &'static str,
        /// What was found, and where.
        #[source]
        source: serde_json::Error,
    },
    /// The text is longer than [`LARGEST_DOCUMENT`].
    #[error("{what} of {length} bytes is larger than the {LARGEST_DOCUMENT} that are read")]
    Large {
        /// The kind of document.
        what: &'static str,
        /// How long it is.
        length: usize,
    },
    /// The document contradicts itself or the specification.
    #[error("{what}: {why}")]
    Wrong {
        /// The kind of document.
        what: &'static str,
        /// The contradiction.
        why: String,
    },
}

/// A value that is read from, and made into, a [`Document`].
pub trait Kind: Serialize + DeserializeOwned {
    /// What a person calls such a document.
    const NAME: &'static str;

    /// Checks what the JSON form alone does not say.
    ///
    /// # Errors
    /// The contradiction, in words.
    fn check(&self) -> Result<(), String>;
}

impl<T: Kind> Document<T> {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// When they are too many, no JSON of this form, or contradict themselves.
    pub fn read(bytes: Vec<u8>) -> Result<Self, DocumentError> {
        if bytes.len() > LARGEST_DOCUMENT {
            return Err(DocumentError::Large { what: T::NAME, length: bytes.len() });
        }
        let values = bytes.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
        if values > MOST_VALUES {
            let why = format!("it has more than the {MOST_VALUES} values that are read");
            return Err(DocumentError::Wrong { what: T::NAME, why });
        }
        let value: T =
            serde_json::from_slice(&bytes).map_err(|source| DocumentError::Json { what: T::NAME, source })?;
        value.check().map_err(|why| DocumentError::Wrong { what: T::NAME, why })?;
        Ok(Document { bytes, value })
    }

    /// Writes `value` down, once, in the field order of its type.
    pub fn write(value: T) -> Self {
        let bytes = serde_json::to_vec(&value).expect("plain data becomes JSON");
        Document { bytes, value }
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The reading.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// A pointer to these bytes.
    pub fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor::new(media_type, self.digest(), self.bytes.len() as u64)
    }
}

/// The media types that are read and written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType;

impl MediaType {
    /// An image manifest.
    pub const MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// An image index.
    pub const INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// An image configuration.
    pub const CONFIG: &'static str = "application/vnd.oci.image.config.v1+json";
    /// A layer, plain.
    pub const LAYER: &'static str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer, compressed with gzip.
    pub const LAYER_GZIP: &'static str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer, compressed with zstd.
    pub const LAYER_ZSTD: &'static str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's image manifest.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_INDEX: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &'static str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, plain.
    pub const DOCKER_LAYER: &'static str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's layer, compressed with gzip.
    pub const DOCKER_LAYER_GZIP: &'static str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer, compressed with zstd.
    pub const DOCKER_LAYER_ZSTD: &'static str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// What a layer has in both dialects: OCI's name, and Docker's.
    const LAYERS: [(&'static str, &'static str); 3] = [
        (Self::LAYER, Self::DOCKER_LAYER),
        (Self::LAYER_GZIP, Self::DOCKER_LAYER_GZIP),
        (Self::LAYER_ZSTD, Self::DOCKER_LAYER_ZSTD),
    ];

    /// The layer type `text` in OCI's dialect; another text as it is.
    pub fn oci_layer(text: &str) -> &str {
        Self::LAYERS.iter().find(|(_, docker)| *docker == text).map_or(text, |(oci, _)| oci)
    }

    /// The layer type `text` in Docker's dialect; another text as it is.
    pub fn docker_layer(text: &str) -> &str {
        Self::LAYERS.iter().find(|(oci, _)| *oci == text).map_or(text, |(_, docker)| docker)
    }

    /// Whether `text` names an index, in either dialect.
    pub fn is_index(text: &str) -> bool {
        text == Self::INDEX || text == Self::DOCKER_INDEX
    }

    /// Whether `text` names a manifest, in either dialect.
    pub fn is_manifest(text: &str) -> bool {
        text == Self::MANIFEST || text == Self::DOCKER_MANIFEST
    }
}

/// A pointer to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For an entry of an index: where the image runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free key/value pairs; a layout's tags are one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The blob itself in base 64, where somebody put it in. It is checked and not used.
    #[serde(default, skip_serializing)]
    pub data: Option<String>,
}

impl Descriptor {
    /// A pointer without platform and annotations.
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

    /// Fails when a blob that is put in is not the one that is pointed to.
    fn check_data(&self) -> Result<(), String> {
        let Some(text) = &self.data else { return Ok(()) };
        match base64::decode(text) {
            Some(data) if data.len() as u64 == self.size && Digest::of(&data) == self.digest => Ok(()),
            Some(_) | None => Err(format!("the `data` of {} is not what its digest says", self.digest)),
        }
    }
}

/// Where an image runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture under its Go name.
    pub architecture: String,
    /// Operating system under its Go name.
    pub os: String,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A field whose value does not matter, and takes no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(input).map(|_| Anything)
    }
}

/// One image for one platform: a configuration and layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What this document is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// An index's field: a document that has both is refused.
    #[serde(default, skip_serializing)]
    manifests: Option<Anything>,
    /// Free key/value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest of OCI's type.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            config,
            layers,
            manifests: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Kind for Manifest {
    const NAME: &'static str = "the image manifest";

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

/// Several images under one digest, or the table of contents of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What this document is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The entries.
    pub manifests: Vec<Descriptor>,
    /// A manifest's field: a document that has both is refused.
    #[serde(default, skip_serializing)]
    layers: Option<Anything>,
    /// Free key/value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An index of OCI's type.
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

impl Kind for Index {
    const NAME: &'static str = "the index";

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

impl Kind for ImageConfig {
    const NAME: &'static str = "the image configuration";

    fn check(&self) -> Result<(), String> {
        if self.rootfs.kind != "layers" {
            return Err(format!("rootfs.type is `{}`, expected `layers`", self.rootfs.kind.escape_debug()));
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
    fn what_is_written_reads_back() {
        let config = Descriptor::new(MediaType::CONFIG, Digest::of(b"c"), 1);
        let document = Document::write(Manifest::new(config, vec![]));
        assert_eq!(Document::read(document.bytes().to_vec()).unwrap(), document);
    }

    #[test]
    fn contradictions_are_refused() {
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
    fn blobs_that_are_put_in_are_what_their_digests_say() {
        let text = |data: &str| {
            let whole = Document::write(Manifest::new(
                Descriptor::new(MediaType::CONFIG, Digest::of(b"any carnal pleas"), 16),
                vec![],
            ));
            String::from_utf8(whole.bytes().to_vec())
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
        assert!(error.contains("2000000 values"), "{error}");
    }

    #[test]
    fn sizes_and_digests_are_of_their_form() {
        for (digest, size) in [("sha256:../../canary", "0"), ("sha256:00", "0"), ("md5", "0")] {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{digest}","size":{size}}},"layers":[]}}"#
            );
            assert!(manifest(&text).is_err(), "{text}");
        }
    }
}
