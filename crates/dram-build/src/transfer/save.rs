//! Exports images from the store: as an archive that OCI tools and Docker read, or as a layout directory.

use std::io::Write;
use std::path::Path;

use dram_image::{Descriptor, ImagePlatform, Manifest, MediaType, Reference};
use dram_store::Store;

use crate::CancelToken;
use crate::transfer::{
    ArchiveFormat, ArchiveSink, CopyOptions, ImageSelection, LayoutName, LayoutSink, StoreSource, TransferError,
    copy_image, select_manifest,
};

fn whole_image_options() -> CopyOptions<'static> {
    CopyOptions { selection: ImageSelection::All, referrers: false, cancel: CancelToken::default(), tell: &|_| () }
}

/// Writes the images at these roots with their names as one tar that is an OCI layout. The same images give the same
/// bytes. An index is written with all its images; for Docker, `manifest.json` names its image for `platform`, if there
/// is one.
///
/// # Errors
/// Returns an error if a blob is missing or damaged, or if `out`, which errors call `shown`, cannot be written.
pub fn save_archive(
    store: &Store,
    images: &[(Descriptor, Vec<Reference>)],
    archive: ArchiveFormat,
    platform: &ImagePlatform,
    (out, shown): (&mut (dyn Write + Send), &Path),
) -> Result<(), TransferError> {
    let (sink, source) = (ArchiveSink::new(archive, out, shown)?, StoreSource::new(store));
    for (root, names) in images {
        sink.set_names(names.iter().map(LayoutName::from).collect());
        if MediaType::is_index(&root.media_type) {
            let one = select_manifest(&source, root, platform)?;
            let one = one.map(|one| store.blobs().read_document::<Manifest>(&one)).transpose()?;
            sink.set_docker_image(one.map(|manifest| manifest.value().clone()));
        }
        copy_image(root, &source, &sink, &whole_image_options())?;
    }
    sink.finish_archive()
}

/// Writes the images at these roots into the OCI layout at the directory `path`, which is made if it is missing. Other
/// names in it are kept.
///
/// # Errors
/// Returns an error if a blob is missing or damaged, or if the directory holds something else or cannot be written.
pub fn save_layout(store: &Store, images: &[(Descriptor, Vec<Reference>)], path: &Path) -> Result<(), TransferError> {
    for (root, names) in images {
        let sink = LayoutSink::new(path, names.iter().map(LayoutName::from).collect())?;
        copy_image(root, &StoreSource::new(store), &sink, &whole_image_options())?;
    }
    Ok(())
}
