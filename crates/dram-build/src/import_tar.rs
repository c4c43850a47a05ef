//! Makes an image of one layer from a tar of a root file system.

use std::io::{self, Read, Write};

use dram_image::tar::TarReader;
use dram_image::{ContainerConfig, Document, HistoryEntry, ImageConfig, Manifest, MediaType, RootFs, rfc3339};
use dram_store::{DecompressingReader, Store, StoreError};

use crate::BuiltImage;
use crate::compress_layer::{LayerCompression, compress_layer};

/// The default `PATH`, without which commands of the image would not be found. Every builder sets the same.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes an image from the tar `stream`, plain or compressed, for `architecture` (a Go name). Errors call the stream
/// `what`. The files keep their times. The image is created at `created`, in seconds since 1970, or without it at the time of
/// the newest file, so that the same tar gives the same image.
///
/// # Errors
/// Returns an error if the stream is not a complete tar, or a file operation fails.
pub fn import_tar(
    store: &Store,
    stream: Box<dyn Read + Send>,
    what: &str,
    architecture: &str,
    created: Option<i64>,
) -> Result<BuiltImage, StoreError> {
    let mut newest = 0;
    let packed = compress_layer(store, LayerCompression::default(), |out| {
        newest = copy_tar(store, stream, what, out)?;
        Ok(())
    })?;
    let created = Some(rfc3339(created.unwrap_or(newest)));
    let created_by = Some("dram import".to_owned());
    let config = ImageConfig {
        created: created.clone(),
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        config: ContainerConfig { env: vec![DEFAULT_PATH.to_owned()], ..ContainerConfig::default() },
        rootfs: RootFs { diff_ids: vec![packed.diff_id], ..RootFs::default() },
        history: vec![HistoryEntry { created, created_by, ..HistoryEntry::default() }],
        ..ImageConfig::default()
    };
    let config = store.blobs().put_document(&Document::write(config)?, MediaType::CONFIG)?;
    let manifest = Document::write(Manifest::new(config.clone(), vec![packed.blob]))?;
    let manifest = store.blobs().put_document(&manifest, MediaType::MANIFEST)?;
    Ok(BuiltImage { manifest, config })
}

/// Copies the uncompressed bytes of `stream`, which errors call `what`, to `out`. Returns the time of the newest entry, at
/// least 0. Fails if they are not a complete tar.
pub(crate) fn copy_tar(
    store: &Store,
    stream: Box<dyn Read>,
    what: &str,
    out: &mut dyn Write,
) -> Result<i64, StoreError> {
    let unpacked = DecompressingReader::new(stream, store.limits());
    let unpacked = unpacked.map_err(|source| StoreError::Io { verb: "read", path: what.into(), source })?;
    let fail = |source| StoreError::Tar { what: what.to_owned(), source };
    let mut reader = TarReader::new(TeeReader { from: unpacked, to: out }).with_limits(store.limits());
    let mut newest = 0;
    while let Some(entry) = reader.next_entry().map_err(fail)? {
        newest = newest.max(entry.mtime);
    }
    reader.drain().map_err(fail)?;
    Ok(newest)
}

/// A reader that also writes all its bytes to a writer.
struct TeeReader<'a, R> {
    from: R,
    to: &'a mut dyn Write,
}

impl<R: Read> Read for TeeReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buffer)?;
        self.to.write_all(&buffer[..got])?;
        Ok(got)
    }
}
