//! Verifies image references: the index is readable, and the images that it names are complete.

use std::fs;

use dram_image::{Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Reference};

use super::Check;
use crate::{Store, StoreError, inventory};

/// Maximum size of a manifest.
const LARGEST_MANIFEST: u64 = 4 << 20;

impl Check<'_> {
    /// Verifies the index, and replaces it by its backup or a rebuilt one when it cannot be read.
    pub(super) fn index(&mut self) -> Result<(), StoreError> {
        let refs = self.store.refs();
        let Err(error) = refs.all() else { return Ok(()) };
        let path = refs.path();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let what = match fs::symlink_metadata(&path) {
            Err(_) => "the names of the images are gone".to_owned(),
            Ok(_) => format!("the names of the images cannot be read{cause}"),
        };
        let (index, repair) = match refs.copied() {
            Some(index) => {
                let count = index.manifests.len();
                (index, format!("the copy of it takes its place: {count} names"))
            }
            None => {
                let index = unnamed(self.store);
                let count = index.manifests.len();
                (index, format!("there is no copy: the {count} images that are here are named lost:DIGEST"))
            }
        };
        self.find(&path, what, "all images", &repair, |check| {
            if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
                check.lose(&path)?;
            }
            check.store.refs().replace(index)
        });
        Ok(())
    }

    /// Collects the images that need each blob, as far as their documents are readable.
    pub(super) fn gather_users(&mut self) {
        for tagged in self.store.refs().all().unwrap_or_default() {
            let mut use_it = |digest: Digest| {
                self.users.entry(digest).or_default().insert(tagged.name.clone());
            };
            use_it(tagged.manifest.digest);
            let Ok(manifest) = self.store.blobs().document::<Manifest>(&tagged.manifest) else { continue };
            use_it(manifest.value().config.digest);
            manifest.value().layers.iter().for_each(|layer| use_it(layer.digest));
        }
    }

    /// Verifies that every reference has a complete image.
    pub(super) fn names(&mut self) -> Result<(), StoreError> {
        for tagged in self.store.refs().all().unwrap_or_default() {
            self.checked.names += 1;
            let Some((first, why)) = self.lacks(&tagged.manifest) else { continue };
            let place = self.store.refs().path();
            let what = format!("the image {} is damaged: {why}", tagged.name);
            if self.how.repair && self.remake_all(first, &tagged.manifest) {
                let repair = "the layer was packed again from what is unpacked of it";
                self.find(&place, what, "nothing", repair, |_| Ok(()));
                continue;
            }
            let again = again(&tagged.name);
            let repair = match self.how.repair {
                true => format!("the name was taken off, as nothing here can make the image whole; {again}"),
                false => format!("the layer is packed again if it is here unpacked, or the name goes; {again}"),
            };
            self.find(&place, what, format!("the image {}", tagged.name), &repair, |check| {
                check.store.refs().remove(&tagged.name).map(drop)
            });
        }
        Ok(())
    }

    /// Restores all missing layers of the image, of which `first` is the first one. Returns true if the image is
    /// complete now.
    fn remake_all(&self, first: Digest, image: &Descriptor) -> bool {
        let mut lacking = first;
        while self.remake(&lacking) {
            match self.lacks(image) {
                None => return true,
                Some((next, _)) if next == lacking => return false,
                Some((next, _)) => lacking = next,
            }
        }
        false
    }

    /// Returns the first missing blob of the image, and the reason.
    fn lacks(&self, descriptor: &Descriptor) -> Option<(Digest, String)> {
        let blobs = self.store.blobs();
        let lack = |digest: Digest, error: &StoreError| {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Some((digest, format!("{error}{cause}")))
        };
        let manifest = match blobs.document::<Manifest>(descriptor) {
            Ok(manifest) => manifest,
            Err(error) => return lack(descriptor.digest, &error),
        };
        let config = &manifest.value().config;
        if let Err(error) = blobs.document::<ImageConfig>(config) {
            return lack(config.digest, &error);
        }
        // The content of existing blobs was verified before.
        let gone = manifest.value().layers.iter().find(|layer| !blobs.has(layer));
        gone.map(|layer| (layer.digest, format!("the store has no blob {} of {} bytes", layer.digest, layer.size)))
    }
}

/// Returns advice for restoring an image.
fn again(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => format!("`dram pull {}` or building it brings it back", reference.short()),
        Err(_) => "loading or building it brings it back".to_owned(),
    }
}

/// Returns an index of all complete images, with generated names.
fn unnamed(store: &Store) -> Index {
    let mut index = Index::new(Vec::new());
    for (digest, size) in store.blobs().all().unwrap_or_default() {
        let mut found = Descriptor::new(MediaType::MANIFEST, digest, size);
        if size > LARGEST_MANIFEST || inventory::named(store, "", &found).is_err() {
            continue;
        }
        if let Ok(manifest) = store.blobs().document::<Manifest>(&found) {
            found.media_type = manifest.value().media_type.clone().unwrap_or_else(|| MediaType::MANIFEST.to_owned());
        }
        if let Ok(name) = format!("lost:{}", &digest.hex()[..12]).parse::<Reference>() {
            found.annotations.insert(crate::refs::NAME.to_owned(), name.to_string());
            index.manifests.push(found);
        }
    }
    index
}
