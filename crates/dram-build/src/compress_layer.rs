//! Compresses a tar into a blob. See [why gzip in members](../../../docs/decisions/gzip-in-members.md).

use std::io::Write;

use dram_gzip::CompressError;
use dram_image::{Descriptor, DigestHasher, HashingWriter, MediaType};
use dram_store::{PackedLayer, Store, StoreError, ZstdWriter};

/// The compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCompression {
    /// No compression.
    Plain,
    /// gzip in members, at a level of libdeflate: 0 to 12.
    Gzip(i32),
    /// zstd, at a level of zstd: 1 to 22, or 0 for its default.
    Zstd(i32),
}

impl Default for LayerCompression {
    /// libdeflate's level 3: its output is 4 % larger than at level 6, in two thirds of the time.
    fn default() -> Self {
        LayerCompression::Gzip(3)
    }
}

impl LayerCompression {
    /// Returns a short name; empty for the default.
    pub(crate) fn short_name(self) -> String {
        match self {
            usual if usual == LayerCompression::default() => String::new(),
            LayerCompression::Plain => "plain".to_owned(),
            LayerCompression::Gzip(level) => format!("gzip-{level}"),
            LayerCompression::Zstd(level) => format!("zstd-{level}"),
        }
    }

    /// Parses a name that [`LayerCompression::short_name`] returned.
    pub(crate) fn from_short_name(kind: &str) -> Option<LayerCompression> {
        let level = |text: &str, most: i32| text.parse().ok().filter(|level| (0..=most).contains(level));
        let found = match kind.split_once('-') {
            None if kind.is_empty() => LayerCompression::default(),
            None if kind == "plain" => LayerCompression::Plain,
            Some(("gzip", text)) => LayerCompression::Gzip(level(text, 12)?),
            Some(("zstd", text)) => LayerCompression::Zstd(level(text, 22)?),
            None | Some(_) => return None,
        };
        // Each compression has exactly one name: `gzip-03` is invalid.
        (found.short_name() == kind).then_some(found)
    }

    /// Returns the OCI media type of a layer with this compression.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            LayerCompression::Plain => MediaType::LAYER,
            LayerCompression::Gzip(_) => MediaType::LAYER_GZIP,
            LayerCompression::Zstd(_) => MediaType::LAYER_ZSTD,
        }
    }
}

/// Compresses the output of `produce` into a blob of `store`. Returns the blob and its diff ID.
///
/// # Errors
/// Returns the error of `produce`, or an error if a file operation fails.
pub(crate) fn compress_layer(
    store: &Store,
    how: LayerCompression,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send,
) -> Result<PackedLayer, StoreError> {
    let mut writer = store.blobs().writer()?;
    let path = writer.path().to_owned();
    let fail = |source| StoreError::Io { verb: "write", path: path.clone(), source };
    let hasher = match how {
        LayerCompression::Plain => hash_output(&mut writer, produce)?,
        LayerCompression::Gzip(level) => dram_gzip::compress(level, None, &mut writer, |out| hash_output(out, produce))
            .map_err(|failed| match failed {
                CompressError::Produce(error) => error,
                CompressError::Write(source) => fail(source),
            })?,
        LayerCompression::Zstd(level) => {
            let mut out = ZstdWriter::new(&mut writer, level).map_err(fail)?;
            let hasher = hash_output(&mut out, produce)?;
            out.finish().map_err(fail)?;
            hasher
        }
    };
    let plain_size = hasher.length();
    let diff_id = hasher.finish();
    store.layers().record_tar_size(&diff_id, plain_size)?;
    let (digest, size) = writer.commit()?;
    let blob = Descriptor::new(how.media_type(), digest, size);
    store.layers().record_blob_verified(&blob, &diff_id);
    Ok(PackedLayer { diff_id, blob })
}

/// Hashes the output of `produce` and passes it on to `out`.
fn hash_output(
    out: &mut dyn Write,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
) -> Result<DigestHasher, StoreError> {
    let mut hashing = HashingWriter::new(out);
    produce(&mut hashing)?;
    Ok(hashing.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_name_of_each_compression_is_unique() {
        for how in [
            LayerCompression::default(),
            LayerCompression::Plain,
            LayerCompression::Gzip(9),
            LayerCompression::Zstd(0),
            LayerCompression::Zstd(19),
        ] {
            assert_eq!(LayerCompression::from_short_name(&how.short_name()), Some(how));
        }
        for none in ["gzip", "gzip-3", "gzip-13", "zstd-03", "zstd--1", "zstd-99", "../..", "plain-1", "xz"] {
            assert_eq!(LayerCompression::from_short_name(none), None, "{none}");
        }
    }
}
