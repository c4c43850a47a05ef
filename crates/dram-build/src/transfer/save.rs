//! Exports images from the store: as an archive that OCI tools and Docker read, or as a layout directory.

use std::io::Write;
use std::path::Path;

use dram_image::Reference;
use dram_store::Store;

use crate::transfer::{Archive, ArchiveSink, Copying, LayoutSink, Name, StoreSource, TransferError, Which, copy};
use crate::{Cancel, Image};

fn whole() -> Copying<'static> {
    Copying { which: Which::All, referrers: false, cancel: Cancel::default(), tell: &|_| () }
}

/// Writes `images` with their names as one tar that is an OCI layout. The same images give the same bytes.
///
/// # Errors
/// Returns an error if a blob is missing or damaged, or if `out`, which errors call `shown`, cannot be written.
pub fn save_archive(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    archive: Archive,
    out: &mut (dyn Write + Send),
    shown: &Path,
) -> Result<(), TransferError> {
    let sink = ArchiveSink::new(archive, out, shown)?;
    for (image, names) in images {
        sink.name(names.iter().map(Name::from).collect());
        copy(&image.descriptor, &StoreSource::new(store), &sink, &whole())?;
    }
    sink.end()
}

/// Writes `images` into the OCI layout at the directory `path`, which is made if it is missing. Other names in it are
/// kept.
///
/// # Errors
/// Returns an error if a blob is missing or damaged, or if the directory holds something else or cannot be written.
pub fn save_layout(store: &Store, images: &[(Image, Vec<Reference>)], path: &Path) -> Result<(), TransferError> {
    for (image, names) in images {
        let sink = LayoutSink::new(path, names.iter().map(Name::from).collect())?;
        copy(&image.descriptor, &StoreSource::new(store), &sink, &whole())?;
    }
    Ok(())
}
