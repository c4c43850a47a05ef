//! Garbage collection: removes objects that no image and no cache record refers to, and on request those that were not
//! used for a long time.

use std::collections::{BTreeMap, BTreeSet};

use dram_image::TreePath;

use crate::inventory::{InventoryItem, StoreInventory, StoredObject};
use crate::{Dir, IdMapping, LayerId, StepKey, Store, StoreError};

/// Options of a garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneOptions {
    /// Removes all cache records, extracted layers and downloads.
    pub all: bool,
    /// Removes those of them that were not used for this many seconds.
    pub older_than: Option<i64>,
    /// Evicts the least recently used of them, and cache mounts, until the store has at most this many bytes.
    pub max_bytes: Option<u64>,
    /// Reports what would be removed, and removes nothing.
    pub dry_run: bool,
}

/// One object that was, or would be, removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedItem {
    /// Kind of the object, as shown to users.
    pub kind: &'static str,
    /// Name of the object.
    pub name: String,
    /// Disk usage in bytes.
    pub bytes: u64,
}

/// Objects that were, or would be, removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneReport {
    /// Number of blobs that no image has.
    pub blobs: usize,
    /// Number of extracted layers that no image and no cache record refers to.
    pub layers: usize,
    /// Number of cache records.
    pub steps: usize,
    /// Number of cache mounts.
    pub caches: usize,
    /// Total disk usage of the removed objects in bytes.
    pub bytes: u64,
    /// The removed objects.
    pub items: Vec<PrunedItem>,
    /// Size of the store in bytes after the removal.
    pub remaining_bytes: u64,
}

impl Store {
    /// Removes unreferenced objects, the file system of the last failed command, and the objects that `wish` selects.
    /// Named images always stay. Cache mounts stay unless the size limit requires their eviction.
    ///
    /// The store must be open exclusively ([`Store::open_exclusive`]).
    ///
    /// # Errors
    /// When the index or an image cannot be read (an unreadable image could refer to any object, so nothing is
    /// removed), or a file system operation fails.
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        let inventory = StoreInventory::collect(self, true)?;
        let mut choice = PruneSelection::new(self, &inventory);
        choice.select_steps(options);
        choice.select_unreferenced(options);
        choice.select_least_recently_used(options);
        let mut pruned = choice.report();
        pruned.remaining_bytes = inventory.total_bytes().saturating_sub(pruned.bytes);
        if !options.dry_run {
            let gone: Vec<&InventoryItem> = inventory
                .items
                .iter()
                .enumerate()
                .filter(|(at, _)| choice.selected.contains(at))
                .map(|(_, item)| item)
                .collect();
            // Cache records are removed first: a record without its layer is invalid, a layer without a record only
            // unreferenced.
            let is_record = |item: &&&InventoryItem| matches!(item.object, StoredObject::Step(..));
            gone.iter().filter(is_record).try_for_each(|item| self.remove_item(&item.object))?;
            gone.iter().filter(|item| !is_record(item)).try_for_each(|item| self.remove_item(&item.object))?;
            self.failed_command().remove()?;
            self.remove_stale_records(options.all, &inventory)?;
        }
        Ok(pruned)
    }

    /// Returns the disk usage of blobs, layers, cache mounts and downloads in bytes: a fast estimate that leaves out
    /// small records.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn quick_usage(&self) -> Result<u64, StoreError> {
        Ok(StoreInventory::collect_largest(self)?.total_bytes())
    }

    fn remove_item(&self, what: &StoredObject) -> Result<(), StoreError> {
        let remove = |place: &str, name: &TreePath| Dir::open(&self.join(place))?.remove(name);
        match what {
            StoredObject::Blob(digest) => remove("oci/blobs/sha256", &TreePath::parse(digest.hex().as_bytes())?),
            StoredObject::Layer(id, id_mapping) => self.remove_layer(id, *id_mapping),
            StoredObject::Step(id_mapping, path, _) => self.step_cache().remove(*id_mapping, path),
            StoredObject::Download(name) => remove("downloads", name),
            StoredObject::Context(name) => remove("contexts", name),
            StoredObject::Cache(key, _) => self.caches().remove(key).map(drop),
        }
    }

    /// Removes records about objects that are gone, and with `all` those that are cheap to compute again.
    fn remove_stale_records(&self, all: bool, before: &StoreInventory) -> Result<(), StoreError> {
        let blobs = before.named_blobs();
        self.blob_locations().retain(&|digest| blobs.contains(digest))?;
        self.remove_stale_pack_records(all)?;
        for &id_mapping in self.id_mapping().manageable() {
            self.remove_stale_ownership_tables(id_mapping)?;
        }
        // No process holds one of these locks, because the store is open exclusively.
        let locks = Dir::open(&self.join("steplocks"))?;
        let is_key = |name: &Vec<u8>| std::str::from_utf8(name).is_ok_and(|name| name.parse::<StepKey>().is_ok());
        locks.names()?.iter().filter(|name| is_key(name)).try_for_each(|name| locks.remove(&TreePath::parse(name)?))?;
        if all {
            self.build_history().remove_all()?;
        }
        self.remove_stale_markers()
    }

    fn remove_stale_pack_records(&self, all: bool) -> Result<(), StoreError> {
        let packs = Dir::open(&self.join("packs"))?;
        for name in packs.names()? {
            let Some((subject, kind)) = std::str::from_utf8(&name).ok().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let layer = subject.parse::<LayerId>();
            let goes = match kind {
                // Nothing reads these records of earlier versions.
                "elf" => true,
                "used" | "made" => layer.is_ok_and(|id| !self.has_layer_in_any_subdir(&id)),
                "size" | "origin" | "leans" | "diff" => all,
                _ if kind.ends_with(".over") => all,
                _ if layer.is_err() => continue,
                _ => {
                    let path =
                        self.join("packs").join(std::ffi::OsStr::new(std::str::from_utf8(&name).unwrap_or_default()));
                    let bytes = crate::atomic_file::read_limited(&path, 1 << 20).ok().flatten();
                    let packed = bytes.and_then(|bytes| serde_json::from_slice::<crate::PackedLayer>(&bytes).ok());
                    !packed.is_some_and(|packed| self.blobs().has(&packed.blob))
                }
            };
            if goes {
                packs.remove(&TreePath::parse(&name)?)?;
            }
        }
        Ok(())
    }

    fn has_layer_in_any_subdir(&self, id: &LayerId) -> bool {
        let all = IdMapping::Root.manageable().iter();
        all.into_iter().any(|id_mapping| self.subdir_of(*id_mapping, "layers").join(id.as_str()).is_dir())
    }

    /// Removes ownership tables of layers that do not exist.
    fn remove_stale_ownership_tables(&self, id_mapping: IdMapping) -> Result<(), StoreError> {
        let path = self.subdir_of(id_mapping, "layers");
        if !path.is_dir() {
            return Ok(());
        }
        let layers = Dir::open(&path)?;
        for name in layers.names()? {
            let Some(layer) = name.strip_suffix(b".owners").filter(|layer| !layer.is_empty()) else { continue };
            if layers.status(&TreePath::parse(layer)?)?.is_none() {
                layers.remove(&TreePath::parse(&name)?)?;
            }
        }
        Ok(())
    }
}

/// The objects that are selected for removal.
struct PruneSelection<'a> {
    store: &'a Store,
    inventory: &'a StoreInventory,
    selected: BTreeSet<usize>,
    /// Number of cache records that refer to each layer.
    layer_users: BTreeMap<(Option<&'static str>, LayerId), usize>,
}

impl<'a> PruneSelection<'a> {
    fn new(store: &'a Store, inventory: &'a StoreInventory) -> PruneSelection<'a> {
        PruneSelection { store, inventory, selected: BTreeSet::new(), layer_users: BTreeMap::new() }
    }

    fn is_old(&self, item: &InventoryItem, options: &PruneOptions) -> bool {
        options.older_than.is_some_and(|span| self.store.opened_at().saturating_sub(item.last_used) >= span)
    }

    fn select_steps(&mut self, options: &PruneOptions) {
        let existing_layers: BTreeSet<_> = self.inventory.items.iter().filter_map(layer_key).collect();
        for (index, item) in self.inventory.items.iter().enumerate() {
            let StoredObject::Step(id_mapping, _, record) = &item.object else { continue };
            let layer =
                record.as_ref().map(|record| record.layer.clone().map(|id| (id_mapping.privilege_subdir(), id)));
            match layer {
                Some(layer)
                    if !options.all
                        && !self.is_old(item, options)
                        && layer.as_ref().is_none_or(|id| existing_layers.contains(id)) =>
                {
                    layer.into_iter().for_each(|layer| *self.layer_users.entry(layer).or_default() += 1);
                }
                Some(_) | None => drop(self.selected.insert(index)),
            }
        }
    }

    fn select_unreferenced(&mut self, options: &PruneOptions) {
        let (blobs, layers) = (self.inventory.named_blobs(), self.inventory.named_layers());
        for (index, item) in self.inventory.items.iter().enumerate() {
            let goes = match &item.object {
                StoredObject::Step(..) | StoredObject::Cache(..) => false,
                StoredObject::Blob(digest) => !blobs.contains(digest),
                StoredObject::Layer(id, id_mapping) => {
                    let is_named =
                        layers.contains(&id.without_inherited()) && !options.all && !self.is_old(item, options);
                    !is_named && !self.layer_users.contains_key(&(id_mapping.privilege_subdir(), id.clone()))
                }
                StoredObject::Download(_) | StoredObject::Context(_) => options.all || self.is_old(item, options),
            };
            if goes {
                self.selected.insert(index);
            }
        }
    }

    /// Selects the least recently used objects until the rest is within the size limit.
    fn select_least_recently_used(&mut self, options: &PruneOptions) {
        let Some(max_bytes) = options.max_bytes else { return };
        let items = &self.inventory.items;
        let mut remaining = self.inventory.total_bytes().saturating_sub(self.inventory.failed_bytes);
        remaining = remaining.saturating_sub(self.selected.iter().map(|index| items[*index].bytes).sum());
        let place: BTreeMap<_, usize> =
            items.iter().enumerate().filter_map(|(index, item)| Some((layer_key(item)?, index))).collect();
        let mut oldest_first: Vec<usize> = (0..items.len()).filter(|index| !self.selected.contains(index)).collect();
        oldest_first.sort_by_key(|index| items[*index].last_used);
        for index in oldest_first {
            if remaining <= max_bytes {
                return;
            }
            match &items[index].object {
                StoredObject::Blob(_) => continue,
                // A layer with cache records is evicted with the last of them.
                StoredObject::Layer(id, id_mapping)
                    if self.layer_users.contains_key(&(id_mapping.privilege_subdir(), id.clone())) =>
                {
                    continue;
                }
                StoredObject::Step(id_mapping, _, record) => {
                    let layer = record.as_ref().and_then(|record| record.layer.clone());
                    let layer = layer.map(|id| (id_mapping.privilege_subdir(), id));
                    if let Some(index) =
                        layer.and_then(|layer| self.release_layer(&layer).then(|| place.get(&layer)).flatten())
                    {
                        self.selected.insert(*index);
                        remaining = remaining.saturating_sub(items[*index].bytes);
                    }
                }
                StoredObject::Layer(..)
                | StoredObject::Download(_)
                | StoredObject::Context(_)
                | StoredObject::Cache(..) => {}
            }
            self.selected.insert(index);
            remaining = remaining.saturating_sub(items[index].bytes);
        }
    }

    /// Removes one cache record's reference to the layer. Returns true if it was the last one.
    fn release_layer(&mut self, layer: &(Option<&'static str>, LayerId)) -> bool {
        let Some(count) = self.layer_users.get_mut(layer) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.layer_users.remove(layer);
        }
        last
    }

    fn report(&self) -> PruneReport {
        let mut pruned = PruneReport { bytes: self.inventory.failed_bytes, ..PruneReport::default() };
        if self.inventory.failed_bytes > 0 {
            pruned.items.push(PrunedItem {
                kind: "failed",
                name: "what the last failed command left".to_owned(),
                bytes: pruned.bytes,
            });
        }
        for item in self.selected.iter().map(|at| &self.inventory.items[*at]) {
            pruned.bytes += item.bytes;
            let (kind, name) = match &item.object {
                StoredObject::Blob(digest) => ("blob", digest.to_string()),
                StoredObject::Layer(id, _) => ("layer", id.to_string()),
                StoredObject::Step(_, path, _) => {
                    ("step", String::from_utf8_lossy(path.name().unwrap_or_default()).into_owned())
                }
                StoredObject::Download(name) => ("download", name.as_path().display().to_string()),
                StoredObject::Context(name) => ("context", name.as_path().display().to_string()),
                StoredObject::Cache(_, id) => ("cache", id.clone()),
            };
            pruned.blobs += usize::from(kind == "blob");
            pruned.layers += usize::from(kind == "layer");
            pruned.steps += usize::from(kind == "step");
            pruned.caches += usize::from(kind == "cache");
            pruned.items.push(PrunedItem { kind, name, bytes: item.bytes });
        }
        pruned
    }
}

fn layer_key(item: &InventoryItem) -> Option<(Option<&'static str>, LayerId)> {
    match &item.object {
        StoredObject::Layer(id, id_mapping) => Some((id_mapping.privilege_subdir(), id.clone())),
        StoredObject::Blob(_)
        | StoredObject::Step(..)
        | StoredObject::Download(_)
        | StoredObject::Context(_)
        | StoredObject::Cache(..) => None,
    }
}
