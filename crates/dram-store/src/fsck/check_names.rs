//! Verifies image references: the index is readable, and the images that it names are complete.

use std::fs;

use dram_image::{Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Reference};

use super::FsckRun;
use crate::{Store, StoreError, inventory};

/// Maximum size of a manifest.
const MAX_MANIFEST_SIZE: u64 = 4 << 20;

impl FsckRun<'_> {
    /// Verifies the index, and replaces it by its backup or a rebuilt one when it cannot be read.
    pub(super) fn check_index(&mut self) -> Result<(), StoreError> {
        let refs = self.store.refs();
        let Err(error) = refs.list() else { return Ok(()) };
        let path = refs.path();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let what = match fs::symlink_metadata(&path) {
            Err(_) => "the names of the images are gone".to_owned(),
            Ok(_) => format!("the names of the images cannot be read{cause}"),
        };
        let (index, repair) = match refs.read_copy() {
            Some(index) => {
                let count = index.manifests.len();
                (index, format!("it is restored from its copy: {count} names"))
            }
            None => {
                let index = rebuild_index(self.store);
                let count = index.manifests.len();
                (index, format!("there is no copy: the {count} images of the store are named lost:DIGEST"))
            }
        };
        self.report_finding(&path, what, "all images", &repair, |check| {
            if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
                check.move_to_lost(&path)?;
            }
            check.store.refs().replace_index(index)
        });
        Ok(())
    }

    /// Collects the images that need each blob, as far as their documents are readable.
    pub(super) fn collect_blob_users(&mut self) {
        for tagged in self.store.refs().list().unwrap_or_default() {
            let mut use_it = |digest: Digest| {
                self.images_by_blob.entry(digest).or_default().insert(tagged.name.clone());
            };
            use_it(tagged.manifest.digest);
            let Ok(manifest) = self.store.blobs().read_document::<Manifest>(&tagged.manifest) else { continue };
            use_it(manifest.value().config.digest);
            manifest.value().layers.iter().for_each(|layer| use_it(layer.digest));
        }
    }

    /// Verifies that every reference has a complete image.
    pub(super) fn check_names(&mut self) -> Result<(), StoreError> {
        for tagged in self.store.refs().list().unwrap_or_default() {
            self.report.names += 1;
            let Some((first, why)) = self.first_missing_blob(&tagged.manifest) else { continue };
            let place = self.store.refs().path();
            let what = format!("the image {} is damaged: {why}", tagged.name);
            if self.options.repair && self.repack_missing_layers(first, &tagged.manifest) {
                let repair = "the layer is packed again from its unpacked form";
                self.report_finding(&place, what, "nothing", repair, |_| Ok(()));
                continue;
            }
            let again = recovery_hint(&tagged.name);
            let repair = match self.options.repair {
                true => format!("the name is removed, as nothing in the store can repair the image; {again}"),
                false => format!(
                    "the layer is packed again if the store has it unpacked, or else the name is removed; {again}"
                ),
            };
            self.report_finding(&place, what, format!("the image {}", tagged.name), &repair, |check| {
                check.store.refs().remove(&tagged.name).map(drop)
            });
        }
        Ok(())
    }

    /// Restores all missing layers of the image, of which `first` is the first one. Returns true if the image is
    /// complete now.
    fn repack_missing_layers(&self, first: Digest, image: &Descriptor) -> bool {
        let mut lacking = first;
        while self.repack_blob(&lacking) {
            match self.first_missing_blob(image) {
                None => return true,
                Some((next, _)) if next == lacking => return false,
                Some((next, _)) => lacking = next,
            }
        }
        false
    }

    /// Returns the first missing blob of the image, and the reason.
    fn first_missing_blob(&self, descriptor: &Descriptor) -> Option<(Digest, String)> {
        let blobs = self.store.blobs();
        let lack = |digest: Digest, error: &StoreError| {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Some((digest, format!("{error}{cause}")))
        };
        let manifest = match blobs.read_document::<Manifest>(descriptor) {
            Ok(manifest) => manifest,
            Err(error) => return lack(descriptor.digest, &error),
        };
        let config = &manifest.value().config;
        if let Err(error) = blobs.read_document::<ImageConfig>(config) {
            return lack(config.digest, &error);
        }
        // The content of existing blobs was verified before.
        let gone = manifest.value().layers.iter().find(|layer| !blobs.has(layer));
        gone.map(|layer| (layer.digest, format!("the store has no blob {} of {} bytes", layer.digest, layer.size)))
    }
}

/// Returns advice for restoring an image.
fn recovery_hint(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => format!("`dram pull {}` or building it restores it", reference.short()),
        Err(_) => "loading or building it restores it".to_owned(),
    }
}

/// Returns an index of all complete images, with generated names.
fn rebuild_index(store: &Store) -> Index {
    let mut index = Index::new(Vec::new());
    for (digest, size) in store.blobs().list().unwrap_or_default() {
        let mut found = Descriptor::new(MediaType::MANIFEST, digest, size);
        if size > MAX_MANIFEST_SIZE || inventory::read_named_image(store, "", &found).is_err() {
            continue;
        }
        if let Ok(manifest) = store.blobs().read_document::<Manifest>(&found) {
            found.media_type = manifest.value().media_type.clone().unwrap_or_else(|| MediaType::MANIFEST.to_owned());
        }
        if let Ok(name) = format!("lost:{}", &digest.hex()[..12]).parse::<Reference>() {
            found.annotations.insert(crate::refs::REF_NAME_ANNOTATION.to_owned(), name.to_string());
            index.manifests.push(found);
        }
    }
    index
}
