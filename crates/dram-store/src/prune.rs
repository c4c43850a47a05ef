//! Garbage collection: removes objects that no image and no cache record refers to, and on request those that were not
//! used for a long time.

use std::collections::{BTreeMap, BTreeSet};

use dram_image::TreePath;

use crate::inventory::{Inventory, Item, What};
use crate::{Dir, LayerId, Rights, StepKey, Store, StoreError};

/// Options of a garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Removes all cache records, extracted layers and downloads.
    pub all: bool,
    /// Removes those of them that were not used for this many seconds.
    pub older_than: Option<i64>,
    /// Evicts the least recently used of them, and cache mounts, until the store has at most this many bytes.
    pub most: Option<u64>,
    /// Reports what would be removed, and removes nothing.
    pub dry: bool,
}

/// One object that was, or would be, removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Kind of the object, as shown to users.
    pub kind: &'static str,
    /// Name of the object.
    pub name: String,
    /// Disk usage in bytes.
    pub bytes: u64,
}

/// Objects that were, or would be, removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
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
    pub gone: Vec<Gone>,
    /// Size of the store in bytes after the removal.
    pub left: u64,
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
    pub fn prune(&self, wish: &Wish) -> Result<Pruned, StoreError> {
        let inventory = Inventory::of(self, true)?;
        let mut choice = Choice::new(self, &inventory);
        choice.steps(wish);
        choice.rest(wish);
        choice.least_used(wish);
        let mut pruned = choice.count();
        pruned.left = inventory.total().saturating_sub(pruned.bytes);
        if !wish.dry {
            let gone: Vec<&Item> = inventory
                .items
                .iter()
                .enumerate()
                .filter(|(at, _)| choice.gone.contains(at))
                .map(|(_, item)| item)
                .collect();
            // Cache records are removed first: a record without its layer is invalid, a layer without a record only
            // unreferenced.
            let is_record = |item: &&&Item| matches!(item.what, What::Step(..));
            gone.iter().filter(is_record).try_for_each(|item| self.remove_item(&item.what))?;
            gone.iter().filter(|item| !is_record(item)).try_for_each(|item| self.remove_item(&item.what))?;
            self.failed().remove()?;
            self.tidy(wish.all, &inventory)?;
        }
        Ok(pruned)
    }

    /// Returns the disk usage of blobs, layers, cache mounts and downloads in bytes: a fast estimate that leaves out
    /// small records.
    ///
    /// # Errors
    /// When a file system operation fails.
    pub fn takes(&self) -> Result<u64, StoreError> {
        Ok(Inventory::bulk(self)?.total())
    }

    fn remove_item(&self, what: &What) -> Result<(), StoreError> {
        let remove = |place: &str, name: &TreePath| Dir::open(&self.join(place))?.remove(name);
        match what {
            What::Blob(digest) => remove("oci/blobs/sha256", &TreePath::parse(digest.hex().as_bytes())?),
            What::Layer(id, rights) => self.remove_layer(id, *rights),
            What::Step(rights, path, _) => self.memory().forget(*rights, path),
            What::Download(name) => remove("downloads", name),
            What::Context(name) => remove("contexts", name),
            What::Cache(key, _) => self.caches().remove(key).map(drop),
        }
    }

    /// Removes records about objects that are gone, and with `all` those that are cheap to compute again.
    fn tidy(&self, all: bool, before: &Inventory) -> Result<(), StoreError> {
        let blobs = before.named_blobs();
        self.seen().retain(&|digest| blobs.contains(digest))?;
        self.tidy_packs(all)?;
        for &rights in self.rights().reach() {
            self.tidy_tables(rights)?;
        }
        // No process holds one of these locks, because the store is open exclusively.
        let locks = Dir::open(&self.join("steplocks"))?;
        let is_key = |name: &Vec<u8>| std::str::from_utf8(name).is_ok_and(|name| name.parse::<StepKey>().is_ok());
        locks.names()?.iter().filter(|name| is_key(name)).try_for_each(|name| locks.remove(&TreePath::parse(name)?))?;
        if all {
            self.places().forget(0)?;
        }
        self.forget_marks()
    }

    fn tidy_packs(&self, all: bool) -> Result<(), StoreError> {
        let packs = Dir::open(&self.join("packs"))?;
        for name in packs.names()? {
            let Some((subject, kind)) = std::str::from_utf8(&name).ok().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let layer = subject.parse::<LayerId>();
            let goes = match kind {
                "used" => layer.is_ok_and(|id| !self.has_anywhere(&id)),
                "size" | "elf" | "origin" | "leans" | "diff" => all,
                _ if kind.ends_with(".over") => all,
                _ if layer.is_err() => continue,
                _ => {
                    let path =
                        self.join("packs").join(std::ffi::OsStr::new(std::str::from_utf8(&name).unwrap_or_default()));
                    let bytes = crate::file::read_small(&path, 1 << 20).ok().flatten();
                    let packed = bytes.and_then(|bytes| serde_json::from_slice::<crate::Packed>(&bytes).ok());
                    !packed.is_some_and(|packed| self.blobs().has(&packed.blob))
                }
            };
            if goes {
                packs.remove(&TreePath::parse(&name)?)?;
            }
        }
        Ok(())
    }

    fn has_anywhere(&self, id: &LayerId) -> bool {
        let all = Rights::All.reach().iter();
        all.into_iter().any(|rights| self.shelf_of(*rights, "layers").join(id.as_str()).is_dir())
    }

    /// Removes ownership tables of layers that do not exist.
    fn tidy_tables(&self, rights: Rights) -> Result<(), StoreError> {
        let path = self.shelf_of(rights, "layers");
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
struct Choice<'a> {
    store: &'a Store,
    inventory: &'a Inventory,
    gone: BTreeSet<usize>,
    /// Number of cache records that refer to each layer.
    users: BTreeMap<(Option<&'static str>, LayerId), usize>,
}

impl<'a> Choice<'a> {
    fn new(store: &'a Store, inventory: &'a Inventory) -> Choice<'a> {
        Choice { store, inventory, gone: BTreeSet::new(), users: BTreeMap::new() }
    }

    fn is_old(&self, item: &Item, wish: &Wish) -> bool {
        wish.older_than.is_some_and(|span| self.store.now().saturating_sub(item.used) >= span)
    }

    fn steps(&mut self, wish: &Wish) {
        let here: BTreeSet<_> = self.inventory.items.iter().filter_map(layer_of).collect();
        for (at, item) in self.inventory.items.iter().enumerate() {
            let What::Step(rights, _, record) = &item.what else { continue };
            let layer = record.as_ref().map(|record| record.layer.clone().map(|id| (rights.shelf(), id)));
            match layer {
                Some(layer)
                    if !wish.all && !self.is_old(item, wish) && layer.as_ref().is_none_or(|id| here.contains(id)) =>
                {
                    layer.into_iter().for_each(|layer| *self.users.entry(layer).or_default() += 1);
                }
                Some(_) | None => drop(self.gone.insert(at)),
            }
        }
    }

    fn rest(&mut self, wish: &Wish) {
        let (blobs, layers) = (self.inventory.named_blobs(), self.inventory.named_layers());
        for (at, item) in self.inventory.items.iter().enumerate() {
            let goes = match &item.what {
                What::Step(..) | What::Cache(..) => false,
                What::Blob(digest) => !blobs.contains(digest),
                What::Layer(id, rights) => {
                    let is_named = layers.contains(&id.alone()) && !wish.all && !self.is_old(item, wish);
                    !is_named && !self.users.contains_key(&(rights.shelf(), id.clone()))
                }
                What::Download(_) | What::Context(_) => wish.all || self.is_old(item, wish),
            };
            if goes {
                self.gone.insert(at);
            }
        }
    }

    /// Selects the least recently used objects until the rest is within the size limit.
    fn least_used(&mut self, wish: &Wish) {
        let Some(most) = wish.most else { return };
        let items = &self.inventory.items;
        let mut left = self.inventory.total().saturating_sub(self.inventory.failed);
        left = left.saturating_sub(self.gone.iter().map(|at| items[*at].bytes).sum());
        let place: BTreeMap<_, usize> =
            items.iter().enumerate().filter_map(|(at, item)| Some((layer_of(item)?, at))).collect();
        let mut order: Vec<usize> = (0..items.len()).filter(|at| !self.gone.contains(at)).collect();
        order.sort_by_key(|at| items[*at].used);
        for at in order {
            if left <= most {
                return;
            }
            match &items[at].what {
                What::Blob(_) => continue,
                // A layer with cache records is evicted with the last of them.
                What::Layer(id, rights) if self.users.contains_key(&(rights.shelf(), id.clone())) => continue,
                What::Step(rights, _, record) => {
                    let layer = record.as_ref().and_then(|record| record.layer.clone());
                    let layer = layer.map(|id| (rights.shelf(), id));
                    if let Some(at) =
                        layer.and_then(|layer| self.lose_user(&layer).then(|| place.get(&layer)).flatten())
                    {
                        self.gone.insert(*at);
                        left = left.saturating_sub(items[*at].bytes);
                    }
                }
                What::Layer(..) | What::Download(_) | What::Context(_) | What::Cache(..) => {}
            }
            self.gone.insert(at);
            left = left.saturating_sub(items[at].bytes);
        }
    }

    /// Removes one cache record's reference to the layer. Returns true if it was the last one.
    fn lose_user(&mut self, layer: &(Option<&'static str>, LayerId)) -> bool {
        let Some(count) = self.users.get_mut(layer) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.users.remove(layer);
        }
        last
    }

    fn count(&self) -> Pruned {
        let mut pruned = Pruned { bytes: self.inventory.failed, ..Pruned::default() };
        if self.inventory.failed > 0 {
            pruned.gone.push(Gone {
                kind: "failed",
                name: "what the last failed command left".to_owned(),
                bytes: pruned.bytes,
            });
        }
        for item in self.gone.iter().map(|at| &self.inventory.items[*at]) {
            pruned.bytes += item.bytes;
            let (kind, name) = match &item.what {
                What::Blob(digest) => ("blob", digest.to_string()),
                What::Layer(id, _) => ("layer", id.to_string()),
                What::Step(_, path, _) => {
                    ("step", String::from_utf8_lossy(path.name().unwrap_or_default()).into_owned())
                }
                What::Download(name) => ("download", name.as_path().display().to_string()),
                What::Context(name) => ("context", name.as_path().display().to_string()),
                What::Cache(_, id) => ("cache", id.clone()),
            };
            pruned.blobs += usize::from(kind == "blob");
            pruned.layers += usize::from(kind == "layer");
            pruned.steps += usize::from(kind == "step");
            pruned.caches += usize::from(kind == "cache");
            pruned.gone.push(Gone { kind, name, bytes: item.bytes });
        }
        pruned
    }
}

fn layer_of(item: &Item) -> Option<(Option<&'static str>, LayerId)> {
    match &item.what {
        What::Layer(id, rights) => Some((rights.shelf(), id.clone())),
        What::Blob(_) | What::Step(..) | What::Download(_) | What::Context(_) | What::Cache(..) => None,
    }
}
