//! Exports images from the store: as an archive that OCI tools and Docker read, or as a layout directory.

use std::io::Write;
use std::path::Path;

use dram_image::Reference;
use dram_store::Store;

use crate::transfer::{
    ArchiveFormat, ArchiveSink, CopyOptions, ImageSelection, LayoutName, LayoutSink, StoreSource, TransferError,
    copy_image,
};
use crate::{CancelToken, Image};

fn whole_image_options() -> CopyOptions<'static> {
    CopyOptions { selection: ImageSelection::All, referrers: false, cancel: CancelToken::default(), tell: &|_| () }
}

/// Writes `images` with their names as one tar that is an OCI layout. The same images give the same bytes.
///
/// # Errors
/// Returns an error if a blob is missing or damaged, or if `out`, which errors call `shown`, cannot be written.
pub fn save_archive(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    archive: ArchiveFormat,
    out: &mut (dyn Write + Send),
    shown: &Path,
) -> Result<(), TransferError> {
    let sink = ArchiveSink::new(archive, out, shown)?;
    for (image, names) in images {
        sink.set_names(names.iter().map(LayoutName::from).collect());
        copy_image(&image.descriptor, &StoreSource::new(store), &sink, &whole_image_options())?;
    }
    sink.finish_archive()
}

/// Writes `images` into the OCI layout at the directory `path`, which is made if it is missing. Other names in it are
/// kept.
///
/// # Errors
/// Returns an error if a blob is missing or damaged, or if the directory holds something else or cannot be written.
pub fn save_layout(store: &Store, images: &[(Image, Vec<Reference>)], path: &Path) -> Result<(), TransferError> {
    for (image, names) in images {
        let sink = LayoutSink::new(path, names.iter().map(LayoutName::from).collect())?;
        copy_image(&image.descriptor, &StoreSource::new(store), &sink, &whole_image_options())?;
    }
    Ok(())
}
