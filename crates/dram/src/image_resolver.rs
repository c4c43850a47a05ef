//! Images that a command needs and the store may not have. The registry is asked if the pull policy says so, and layers
//! are pulled lazily.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};

use dram_build::transfer::{LazyBlobs, TransferError, TransferProgress, has_platform};
use dram_build::{CancelToken, Image};
use dram_image::{Descriptor, ImagePlatform, MediaType, Reference};
use dram_store::Store;

use crate::ambient;
use crate::cli::PullPolicy;
use crate::failure::Failure;
use crate::image_lookup;
use crate::registry_access::{RegistryAccess, RegistryImage};

/// A callback that shows the progress of transfers. Several threads call it.
type TransferListener = Box<dyn Fn(TransferProgress) + Send + Sync>;

/// The answer of a registry for a name: its repository and the descriptor for which the name stands there.
type RegistryAnswer = Result<(RegistryImage, Descriptor), TransferError>;

/// The number of registries that are asked at the same time.
const PARALLEL_QUESTIONS: usize = 8;

/// Resolves names to images of the store or, as the pull policy says, of registries.
pub(crate) struct ImageResolver<'a> {
    store: &'a Store,
    policy: PullPolicy,
    registries: RegistryAccess,
    cancel: CancelToken,
    /// The callback that shows the progress of transfers, once it is set.
    listener: Arc<OnceLock<TransferListener>>,
    resolved: RefCell<BTreeMap<(String, String), Option<Image>>>,
    /// The answers of registries that were asked in advance, each used once.
    answers: RefCell<BTreeMap<Reference, RegistryAnswer>>,
    /// Images that came from a registry: their names, and the index from which each was chosen.
    pulled: RefCell<Vec<(Reference, Image, Option<dram_image::Digest>)>>,
}

impl<'a> ImageResolver<'a> {
    /// A resolver for images of `store` and, as `policy` says, of registries.
    pub(crate) fn new(store: &'a Store, policy: PullPolicy, cancel: CancelToken) -> ImageResolver<'a> {
        ImageResolver {
            store,
            policy,
            registries: RegistryAccess::new(cancel.clone()),
            cancel,
            listener: Arc::default(),
            resolved: RefCell::default(),
            answers: RefCell::default(),
            pulled: RefCell::default(),
        }
    }

    /// Reports the progress of all further transfers to `show`.
    pub(crate) fn set_listener(&self, show: TransferListener) {
        let _ = self.listener.set(show);
    }

    /// The registries from which images are pulled.
    pub(crate) fn registries(&self) -> &RegistryAccess {
        &self.registries
    }

    /// Returns the image called `name` for `platform`; `None` if the store has none and no registry may be asked. Fails
    /// if it cannot be pulled.
    pub(crate) fn find(&self, name: &str, platform: &ImagePlatform) -> Result<Option<Image>, Failure> {
        let key = (name.to_owned(), format!("{platform:?}"));
        if let Some(known) = self.resolved.borrow().get(&key) {
            return Ok(known.clone());
        }
        let found = self.resolve(name, platform)?;
        self.resolved.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    /// Asks the registries for those of `wanted` that they will be asked for, several at the same time.
    pub(crate) fn prepare(&self, wanted: &[(String, ImagePlatform)]) {
        let mut names: Vec<Reference> = Vec::new();
        for (name, platform) in wanted {
            let is_known = self.resolved.borrow().contains_key(&(name.clone(), format!("{platform:?}")));
            let reference = name.parse::<Reference>().ok().filter(|_| !image_lookup::is_id(name) && !is_known);
            let Some(reference) = reference else { continue };
            if !names.contains(&reference) && self.asks_for(name, &reference, platform) {
                names.push(reference);
            }
        }
        if names.len() < 2 {
            return;
        }
        for batch in names.chunks(PARALLEL_QUESTIONS) {
            let registries = &self.registries;
            let answers = std::thread::scope(|scope| {
                let asked = batch.iter().map(|name| scope.spawn(move || registries.source(name)));
                let asked: Vec<_> = asked.collect();
                let joined = asked.into_iter().map(|thread| thread.join().unwrap_or_else(|why| resume_unwind(why)));
                joined.collect::<Vec<_>>()
            });
            self.answers.borrow_mut().extend(batch.iter().cloned().zip(answers));
        }
    }

    /// Returns whether [`ImageResolver::resolve`] asks the registry for the image.
    fn asks_for(&self, name: &str, reference: &Reference, platform: &ImagePlatform) -> bool {
        if self.policy == PullPolicy::Never {
            return false;
        }
        let Ok(root) = image_lookup::find_descriptor(self.store, name) else { return false };
        let image = root.and_then(|root| image_lookup::open_for_platform(self.store, name, &root, platform).ok());
        let fits = image.is_some_and(|image| has_platform(&image, platform));
        !fits || self.policy == PullPolicy::Always && reference.digest().is_none()
    }

    fn ask_registry(&self, reference: &Reference) -> RegistryAnswer {
        let known = self.answers.borrow_mut().remove(reference);
        known.unwrap_or_else(|| self.registries.source(reference))
    }

    fn resolve(&self, name: &str, platform: &ImagePlatform) -> Result<Option<Image>, Failure> {
        let root = image_lookup::find_descriptor(self.store, name)?;
        let open = |root: &Descriptor| image_lookup::open_for_platform(self.store, name, root, platform);
        let is_index = root.as_ref().is_some_and(|root| MediaType::is_index(&root.media_type));
        let opened = root.as_ref().map(open).transpose();
        let reference = name.parse::<Reference>().ok().filter(|_| !image_lookup::is_id(name));
        let (Some(reference), true) = (reference, self.policy != PullPolicy::Never) else { return opened };
        // An index without the platform is like an image for another platform: the registry may have more.
        let (here, lacking) = match opened {
            Ok(image) => (image, None),
            Err(failure) if is_index => (None, Some(failure)),
            Err(failure) => return Err(failure),
        };
        let fits = here.as_ref().is_some_and(|image| has_platform(image, platform));
        if fits && (self.policy == PullPolicy::Missing || reference.digest().is_some()) {
            return Ok(here);
        }
        match (self.ask_registry(&reference), here) {
            (Ok((_, root)), Some(image)) if fits && self.is_current(&reference, &root)? => Ok(Some(image)),
            (Ok((remote, root)), _) => self.fetch_documents(&reference, remote, &root, platform).map(Some),
            (Err(TransferError::Cancelled), _) => Err(TransferError::Cancelled.into()),
            // An image of the store for another platform is used as before, and a diagnostic reports it.
            (Err(_), Some(image)) if self.policy == PullPolicy::Missing => Ok(Some(image)),
            (Err(error), None) => Err(lacking.map_or_else(|| unavailable_image(self.store, name, error), Ok)?),
            (Err(error), _) => Err(unavailable_image(self.store, name, error)?),
        }
    }

    /// Returns true if the image of this name in the store is the one that the registry has under this name.
    fn is_current(&self, reference: &Reference, root: &Descriptor) -> Result<bool, Failure> {
        let name = reference.to_string();
        let mut all = self.store.refs().list()?.into_iter();
        Ok(all.any(|tagged| {
            tagged.name == name && (tagged.root.digest == root.digest || tagged.index() == Some(root.digest))
        }))
    }

    /// Fetches the manifest and config of an image; its layers stay in the registry and are pulled lazily.
    fn fetch_documents(
        &self,
        reference: &Reference,
        remote: RegistryImage,
        root: &Descriptor,
        platform: &ImagePlatform,
    ) -> Result<Image, Failure> {
        let screen = self.listener.clone();
        let tell = move |motion| {
            if let Some(show) = screen.get() {
                show(motion);
            }
        };
        let far = LazyBlobs::new(Box::new(remote), self.cancel.clone(), Box::new(tell));
        let image = far.clone().open_image(self.store, root, platform)?;
        for (_, blob) in image.layers() {
            for at in far.known_repositories(blob) {
                // Without this record a later push may upload the blob again, and nothing else goes wrong.
                let _ = self.store.blob_locations().add(&blob.digest, &at.host, &at.name);
            }
        }
        let index = MediaType::is_index(&root.media_type).then_some(root.digest);
        self.pulled.borrow_mut().push((reference.clone(), image.clone(), index));
        Ok(image)
    }

    /// Gives the images that are complete by now their names in the store, so that the registry is not asked again.
    pub(crate) fn name_complete_images(&self) -> Result<(), Failure> {
        // A name in the store stands for an image of this machine's platform, or for an index, which is not replaced by
        // one of its images.
        let own = ambient::platform();
        let stays = |image: &Image| image.has_all_blobs(self.store) && has_platform(image, &own);
        for (reference, image, index) in self.pulled.borrow().iter().filter(|(_, image, _)| stays(image)) {
            let old = self.store.refs().get(reference)?;
            if old.is_some_and(|root| MediaType::is_index(&root.media_type)) {
                continue;
            }
            self.store.refs().set_from(std::slice::from_ref(reference), &image.descriptor, *index)?;
        }
        Ok(())
    }
}

/// The failure for an image that is not in the store and cannot be pulled.
fn unavailable_image(store: &Store, name: &str, error: TransferError) -> Result<Failure, Failure> {
    let unknown = image_lookup::unknown_image(store, name)?;
    let mut failure = Failure::from(error);
    if let Some(first) = failure.causes.first_mut() {
        *first = format!("it cannot be fetched: {first}");
    }
    failure.causes.splice(0..0, unknown.causes);
    failure.helps.splice(0..0, unknown.helps);
    Ok(failure)
}
