//! Squashes an image into a single layer.

use std::io;

use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use dram_image::{Document, HistoryEntry, Manifest, MediaType};
use dram_store::{FileTree as _, StoreError};

use crate::compress_layer::{LayerCompression, compress_layer};
use crate::export::{self, ExportError};
use crate::{BuiltImage, Image, LayerProvider};

/// Makes an image with the files and the config of `image` in one layer. Files keep their times, so the same image
/// gives the same bytes. The history is kept, with all entries marked `empty_layer`.
///
/// # Errors
/// Returns an error if a layer is missing, damaged, or does not have the diff ID in the config, or if a file operation
/// fails.
pub fn squash(provider: &LayerProvider<'_>, image: &Image) -> Result<BuiltImage, StoreError> {
    let store = provider.store();
    let layers = provider.ensure_outside_build(&image.snapshot().layers)?;
    let packed = compress_layer(store, LayerCompression::default(), |out| {
        let view = store.layers().view(&layers)?;
        let mut tar = TarWriter::new(out);
        let fail = |source| StoreError::Io { verb: "write", path: "the layer".into(), source };
        if let Some(root) = root_entry(&view)? {
            tar.append(&root, &mut io::empty()).map_err(fail)?;
        }
        export::write_tar(&view, None, &mut tar).map_err(|error| match error {
            ExportError::Store(error) => error,
            ExportError::Write { path, source } => StoreError::Io { verb: "write", path, source },
            ExportError::InTheWay(path) | ExportError::Device(path) => {
                StoreError::Io { verb: "write", path, source: io::ErrorKind::Other.into() }
            }
        })?;
        tar.finish().map(drop).map_err(fail)
    })?;
    let mut config = image.config.value().clone();
    config.rootfs.diff_ids = vec![packed.diff_id];
    config.history.iter_mut().for_each(|entry| entry.empty_layer = true);
    let (created, created_by) = (config.created.clone(), Some("dram squash".to_owned()));
    config.history.push(HistoryEntry { created, created_by, ..HistoryEntry::default() });
    let config = store.blobs().put_document(&Document::write(config)?, MediaType::CONFIG)?;
    let mut manifest = Manifest::new(config.clone(), vec![packed.blob]);
    manifest.annotations.clone_from(&image.manifest.value().annotations);
    let manifest = store.blobs().put_document(&Document::write(manifest)?, MediaType::MANIFEST)?;
    Ok(BuiltImage { manifest, config })
}

/// Returns the tar entry of the root directory, or `None` if it has the mode and owner that every engine gives it.
fn root_entry(view: &dram_store::MergedTree) -> Result<Option<TarEntry>, StoreError> {
    let Some(node) = view.node_at(&dram_image::TreePath::root())? else { return Ok(None) };
    let status = &node.status;
    if (status.mode, status.uid, status.gid) == (0o755, 0, 0) {
        return Ok(None);
    }
    let (mode, uid, gid, mtime) = (status.mode, status.uid, status.gid, status.mtime.0);
    let xattrs = view.xattrs(&node)?;
    Ok(Some(TarEntry { path: node.path, kind: TarEntryKind::Dir, mode, uid, gid, mtime, xattrs }))
}
