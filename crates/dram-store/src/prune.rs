//! Collecting garbage: what no name and no remembered step leads to.

use std::collections::BTreeSet;
use std::path::Path;

use dram_image::{Descriptor, Digest, ImageConfig, Manifest, TreePath};

use crate::{Dir, LayerId, Rights, Store, StoreError};

/// What was, or would be, removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Blobs that no image has.
    pub blobs: usize,
    /// Unpacked layers that no image and no remembered step has.
    pub layers: usize,
    /// Remembered steps.
    pub steps: usize,
    /// Bytes that the files had.
    pub bytes: u64,
}

impl Store {
    /// Removes what nothing leads to, and what the last command that failed left. Caches stay. With `all`, the remembered steps go first, and with them every layer
    /// directory; images stay. With `dry`, nothing is removed and the numbers say what would be.
    ///
    /// The store must be open alone ([`Store::open_alone`]).
    ///
    /// # Errors
    /// When the index or an image cannot be read (what cannot be read could lead to anything, so nothing is
    /// removed), or the disk refuses.
    pub fn prune(&self, all: bool, dry: bool) -> Result<Pruned, StoreError> {
        let images = self.reachable()?;
        let mut pruned = Pruned::default();
        for &rights in self.rights().reach() {
            let mut layers = if all { BTreeSet::new() } else { images.layers.clone() };
            self.steps_to_forget(rights, all, dry, &mut layers, &mut pruned)?;
            self.prune_layers(&self.shelf_of(rights, "layers"), &layers, dry, &mut pruned)?;
        }
        for (digest, size) in self.blobs().all()? {
            if !images.blobs.contains(&digest) {
                pruned.blobs += 1;
                pruned.bytes += size;
                if !dry {
                    Dir::open(&self.join("oci/blobs/sha256"))?.remove(&TreePath::parse(digest.hex().as_bytes())?)?;
                }
            }
        }
        pruned.bytes += if all { self.downloads().forget(dry)? } else { 0 };
        pruned.bytes += self.failed().size().unwrap_or(0);
        if !dry {
            self.failed().remove()?;
            self.prune_records(all)?;
            self.seen().retain(&|digest| images.blobs.contains(digest))?;
        }
        Ok(pruned)
    }

    fn steps_to_forget(
        &self,
        rights: Rights,
        all: bool,
        dry: bool,
        layers: &mut BTreeSet<LayerId>,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        let mut forgotten = 0;
        let dirs = self.shelf_of(rights, "layers");
        let removed = self.memory().retain(rights, &mut |record| {
            let keep = !all && record.layer.as_ref().is_none_or(|layer| dirs.join(layer.as_str()).is_dir());
            forgotten += usize::from(!keep);
            if keep {
                layers.extend(record.layer.clone());
            }
            keep || dry
        })?;
        pruned.steps += forgotten.max(removed);
        Ok(())
    }

    fn prune_layers(
        &self,
        path: &Path,
        keep: &BTreeSet<LayerId>,
        dry: bool,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        if !path.is_dir() {
            return Ok(());
        }
        let dir = Dir::open(path)?;
        for name in dir.names()? {
            if name.ends_with(b".owners") {
                continue;
            }
            let id = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<LayerId>().ok());
            if id.is_none_or(|id| keep.contains(&id) || keep.contains(&id.alone())) {
                continue;
            }
            let name = TreePath::parse(&name)?;
            pruned.layers += 1;
            crate::scan::scan(&dir.sub(&name)?, &mut |found| {
                pruned.bytes += if found.link_to.is_none() { found.status.size } else { 0 };
                Ok(())
            })?;
            if !dry {
                dir.remove(&name)?;
            }
        }
        if dry { Ok(()) } else { prune_tables(&dir) }
    }

    /// Records of packed layers whose blob is gone, and with `all` what is remembered of contexts.
    fn prune_records(&self, all: bool) -> Result<(), StoreError> {
        let packs = Dir::open(&self.join("packs"))?;
        for name in packs.names()? {
            let name = TreePath::parse(&name)?;
            if [&b".size"[..], b".elf", b".origin", b".leans", b".over", b".diff"]
                .iter()
                .any(|kind| name.as_bytes().ends_with(kind))
            {
                if all {
                    packs.remove(&name)?;
                }
                continue;
            }
            let bytes = crate::file::read_small(&self.join("packs").join(name.as_path()), 1 << 20).ok().flatten();
            let packed = bytes.and_then(|bytes| serde_json::from_slice::<crate::Packed>(&bytes).ok());
            if !packed.is_some_and(|packed| self.blobs().has(&packed.blob)) {
                packs.remove(&name)?;
            }
        }
        let contexts = Dir::open(&self.join("contexts"))?;
        for name in if all { contexts.names()? } else { Vec::new() } {
            contexts.remove(&TreePath::parse(&name)?)?;
        }
        if all { self.places().forget(0) } else { Ok(()) }
    }

    fn reachable(&self) -> Result<Reachable, StoreError> {
        let mut reachable = Reachable::default();
        for tagged in self.refs().all()? {
            self.reach(&tagged.manifest, &mut reachable)?;
        }
        Ok(reachable)
    }

    fn reach(&self, descriptor: &Descriptor, reachable: &mut Reachable) -> Result<(), StoreError> {
        let manifest = self.blobs().document::<Manifest>(descriptor)?;
        let config = self.blobs().document::<ImageConfig>(&manifest.value().config)?;
        reachable.blobs.insert(descriptor.digest);
        reachable.blobs.insert(manifest.value().config.digest);
        reachable.blobs.extend(manifest.value().layers.iter().map(|layer| layer.digest));
        reachable.layers.extend(config.value().rootfs.diff_ids.iter().map(LayerId::of_diff));
        Ok(())
    }
}

/// What is written down of layers that are not there.
fn prune_tables(layers: &Dir) -> Result<(), StoreError> {
    for name in layers.names()? {
        let Some(layer) = name.strip_suffix(b".owners").filter(|layer| !layer.is_empty()) else { continue };
        if layers.status(&TreePath::parse(layer)?)?.is_none() {
            layers.remove(&TreePath::parse(&name)?)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Reachable {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<LayerId>,
}
