//! Images leave the store: as an archive that OCI tools and Docker both read, or as a layout directory.

use std::io::Write;
use std::path::Path;

use dram_image::Reference;
use dram_store::Store;

use crate::transfer::{Archive, ArchiveSink, Copying, LayoutSink, Name, StoreSource, TransferError, Which, copy};
use crate::{Cancel, Image};

fn whole() -> Copying<'static> {
    Copying { which: Which::All, referrers: false, cancel: Cancel::default(), tell: &|_| () }
}

/// Writes `images`, each under its names, as one tar that is an OCI layout. The same images give the same bytes.
///
/// # Errors
/// When a blob is missing or damaged, or `out` (called `shown` in errors) refuses.
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

/// Writes `images` into the OCI layout at the directory `path`, made if it is missing; other names in it stay.
///
/// # Errors
/// When a blob is missing or damaged, the directory holds something else, or it cannot be written.
pub fn save_layout(store: &Store, images: &[(Image, Vec<Reference>)], path: &Path) -> Result<(), TransferError> {
    for (image, names) in images {
        let sink = LayoutSink::new(path, names.iter().map(Name::from).collect())?;
        copy(&image.descriptor, &StoreSource::new(store), &sink, &whole())?;
    }
    Ok(())
}
