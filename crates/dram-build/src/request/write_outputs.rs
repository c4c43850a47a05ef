//! Writes the outputs of a build.

use dram_image::{ImageConfig, ImagePlatform, Reference};
use dram_store::{Store, StoreError};

use super::{
    BuildFailure, BuildOutput, BuildServices, ImageDestination, OutputImage, OutputResult, PushOptions, RequestEvent,
};
use crate::transfer::{CopyOptions, ImageSelection, StoreSource, TransferProgress, copy_image};
use crate::{
    BuildEvent, BuiltImage, LayerProvider, SharedCaches, Snapshot, export_dir, export_tar, save_archive, save_layout,
    write_image,
};

/// Writes the result of a build to its outputs.
pub(super) struct OutputWriter<'a> {
    pub(super) services: &'a BuildServices<'a>,
    pub(super) layers: &'a LayerProvider<'a>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) config: &'a ImageConfig,
    pub(super) platform: &'a ImagePlatform,
    pub(super) events: &'a (dyn Fn(RequestEvent<'_>) + Sync),
}

impl OutputWriter<'_> {
    /// Writes all outputs in order. With `inline`, images hold a cache of their own layers.
    pub(super) fn write_all(
        &self,
        outputs: &[BuildOutput],
        inline: Option<&SharedCaches<'_>>,
    ) -> Result<Vec<OutputResult>, BuildFailure> {
        let write = |output: &BuildOutput| {
            let cached = inline.map(|caches| output.with_cache(caches, self.snapshot)).transpose();
            let cached = cached.map_err(StoreError::from)?.flatten();
            let image = self.write(cached.as_ref().unwrap_or(output))?;
            Ok(OutputResult { image, destination: output.destination() })
        };
        outputs.iter().map(write).collect()
    }

    fn write(&self, output: &BuildOutput) -> Result<Option<OutputImage>, BuildFailure> {
        let (layers, snapshot) = (self.layers, self.snapshot);
        match output {
            BuildOutput::Nothing => Ok(None),
            BuildOutput::Local { dest, time } => {
                export_dir(layers, snapshot, dest, *time)?;
                Ok(None)
            }
            BuildOutput::Tar { dest, time } => {
                let mut write = |out: &mut (dyn std::io::Write + Send), shown: &std::path::Path| {
                    Ok(export_tar(layers, snapshot, *time, out, shown)?)
                };
                self.services.files.write_output(dest, &mut write)?;
                Ok(None)
            }
            BuildOutput::Image { options, names, destination, push } => {
                let tell = |event: BuildEvent| (self.events)(RequestEvent::Step(event));
                let built = write_image(layers, snapshot, self.config.clone(), options, &tell)?;
                // A registry may have the blobs of the base image: for an image that only goes there, none is fetched
                // into the store.
                if push.is_none() || *destination != ImageDestination::StoreUnnamed {
                    layers.fetch_blobs(&snapshot.layers)?;
                }
                self.deliver_image(layers.store(), &built, names, destination)?;
                for name in push.iter().flat_map(|_| names) {
                    self.push_image(&built, name, push.unwrap_or_default())?;
                }
                Ok(Some(OutputImage { built, names: names.clone() }))
            }
        }
    }

    fn push_image(&self, built: &BuiltImage, name: &Reference, options: PushOptions) -> Result<(), BuildFailure> {
        let lazy = self.layers.lazy_blobs(&self.snapshot.layers);
        let source = StoreSource::with_lazy_blobs(self.services.store, lazy);
        let sink = self.services.registries.open_sink(name, options)?;
        (self.events)(RequestEvent::TransferStarted);
        let tell = |progress: TransferProgress| (self.events)(RequestEvent::Transfer(progress));
        let cancel = self.services.cancel.clone();
        let copy = CopyOptions { selection: ImageSelection::All, referrers: false, cancel, tell: &tell };
        copy_image(&built.manifest, &source, &*sink, &copy)?;
        Ok(())
    }

    fn deliver_image(
        &self,
        store: &Store,
        built: &BuiltImage,
        names: &[Reference],
        destination: &ImageDestination,
    ) -> Result<(), BuildFailure> {
        let images = [(built.manifest.clone(), names.to_vec())];
        match destination {
            ImageDestination::Store => Ok(store.refs().set(names, &built.manifest)?),
            ImageDestination::StoreUnnamed => Ok(()),
            ImageDestination::Layout(path) => Ok(save_layout(store, &images, path)?),
            ImageDestination::Archive(dest, format) => {
                let mut write = |out: &mut (dyn std::io::Write + Send), shown: &std::path::Path| {
                    Ok(save_archive(store, &images, *format, self.platform, (out, shown))?)
                };
                self.services.files.write_output(dest, &mut write)
            }
        }
    }
}
