//! Verifies image references: the index is readable, and the images that it names are complete.

use std::collections::BTreeSet;
use std::fs;

use dram_image::{Descriptor, Digest, Index, MediaType, Reference};

use super::FsckRun;
use crate::{Store, StoreError, inventory};

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
            for blob in self.store.root_contents(&tagged.root).blobs {
                self.images_by_blob.entry(blob.digest).or_default().insert(tagged.name.clone());
            }
        }
    }

    /// Verifies that every reference has a complete image.
    pub(super) fn check_names(&mut self) -> Result<(), StoreError> {
        for tagged in self.store.refs().list().unwrap_or_default() {
            self.report.names += 1;
            let Some((first, why)) = self.first_missing_blob(&tagged.root) else { continue };
            let place = self.store.refs().path();
            let what = format!("the image {} is damaged: {why}", tagged.name);
            if self.options.repair && self.repack_missing_layers(first, &tagged.root) {
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
    fn first_missing_blob(&self, root: &Descriptor) -> Option<(Digest, String)> {
        let contents = self.store.root_contents(root);
        if let Some((document, error)) = contents.unreadable.first() {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let platform = document.platform.as_ref().map(|platform| format!(", the manifest for {platform}"));
            return Some((document.digest, format!("{error}{cause}{}", platform.unwrap_or_default())));
        }
        // The content of existing blobs was verified before.
        let gone = contents.blobs.iter().find(|blob| !self.store.blobs().has(blob))?;
        Some((gone.digest, format!("the store has no blob {} of {} bytes", gone.digest, gone.size)))
    }
}

/// Returns advice for restoring an image.
fn recovery_hint(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => format!("`dram pull {}` or building it restores it", reference.short()),
        Err(_) => "loading or building it restores it".to_owned(),
    }
}

/// Returns an index of all complete images, with generated names. Images of a complete index have no name of their own.
fn rebuild_index(store: &Store) -> Index {
    let blobs = store.blobs().list().unwrap_or_default();
    let documents = blobs.into_iter().filter_map(|(digest, size)| store.document_descriptor(digest, size));
    let (indexes, manifests): (Vec<_>, Vec<_>) = documents.partition(|one| MediaType::is_index(&one.media_type));
    let (mut roots, mut below) = (Vec::new(), BTreeSet::new());
    for root in indexes.into_iter().chain(manifests) {
        if below.contains(&root.digest) {
            continue;
        }
        let Ok(image) = inventory::read_named_image(store, "", &root) else { continue };
        below.extend(image.blobs.into_iter().filter(|digest| *digest != root.digest));
        roots.push(root);
    }
    let mut index = Index::new(Vec::new());
    // An index may be found before the index that contains it.
    for mut root in roots.into_iter().filter(|root| !below.contains(&root.digest)) {
        if let Ok(name) = format!("lost:{}", &root.digest.hex()[..12]).parse::<Reference>() {
            root.annotations.insert(crate::refs::REF_NAME_ANNOTATION.to_owned(), name.to_string());
            index.manifests.push(root);
        }
    }
    index
}
