//! The content store: blobs, image references, the step cache, extracted layers, and their on-disk layout.
//!
//! ```text
//! STORE/
//!   version            version number of this on-disk layout
//!   refs.lock          lock held while index.json is replaced
//!   lock               shared lock of every user of the store; exclusive for garbage collection
//!   oci/               an OCI image layout: oci-layout, index.json, blobs/sha256/HEX
//!   layers/ID/         an extracted layer: an overlayfs directory, mounted as it is
//!   layers/ID.owners   ownership table: metadata of a layer that its user could not set on the disk
//!   steps/XX/KEY       cache record of a build step, by its cache key
//!   packs/ID.STAMP     the blob that a layer directory was packed into; .KIND: with another compression
//!   packs/ID.elf       programs and libraries of a layer, and the libraries that they need
//!   packs/ID.origin    the layer that a tar was packed from
//!   packs/BLOB.diff    the diff ID of a blob
//!   packs/ID.leans     the entries of a layer that depend on its parent layers
//!   packs/ID.BELOW.over  the layer id of a layer extracted over others
//!   packs/ID.size      length of a layer's tar
//!   downloads/HEX      a downloaded file, by its content digest; KEY.note records the response of an address
//!   contexts/KEY       digests of a build context's files, with the file status they are valid for
//!   seen/HEX           repositories that have a blob
//!   caches/KEY.N/      content of a cache mount; it outlives builds
//!   places/KEY/        build journal of a Dockerfile, used to explain cache misses
//!   failed/            file system of the last command that failed
//!   steplocks/KEY      lock held while a step is executed, so that two builds share its result
//!   lent-ids/          layers and steps of a user namespace with subordinate ids
//!   one-id/            layers and steps of a user namespace with a single id
//!   unprivileged/      layers and steps of a process without privileges
//!   fresh/BOOT/ID      marker of an unsynced layer
//!   sizes              cached disk usage of layers
//!   index.copy         a backup of index.json
//!   lost/N/            unknown files that `dram fsck --repair` moved away
//!   work/NAME/         temporary files of a running process; removed when the process is gone
//! ```
//!
//! Everything but references is immutable and named by a digest. Incomplete data has no final name: it is written in
//! `work/` and moved into place by an atomic rename.

mod again;
mod beside;
mod blobs;
mod caches;
mod compress;
mod context;
pub mod dir;
mod downloads;
mod error;
mod failed;
mod file;
mod fresh;
mod fsck;
mod inherit;
mod inventory;
mod layers;
mod lock;
mod memory;
mod merged;
mod over;
mod pack;
mod places;
mod programs;
mod prune;
mod refs;
mod rights;
mod same;
mod scan;
mod seen;
mod sizes;
mod store;
mod tree;
mod unpack;
mod usage;
mod way;
mod work;

pub use blobs::{BlobWriter, Blobs, NoRoom};
pub use caches::{ArchiveError, Cache, CacheName, CacheUse, Caches, Imported, TakenCache};
pub use compress::{Compression, Unpacked, Zstd};
pub use context::{ContextDir, IgnoreFn, Verdict};
pub use dir::{Dir, FileKind, Meta, Status};
pub use downloads::{Download, Downloads};
pub use error::{StoreError, causes};
pub use failed::{Failed, Kept};
pub use fsck::{Checked, Checking, Finding, Parallel, Repack, Skipped};
pub use inherit::OWNER_ATTRIBUTE;
pub use layers::{LayerId, Layers, Packed};
pub use lock::StepLock;
pub use memory::{KeyMaker, Memory, Record, StepKey};
pub use merged::Merged;
pub use pack::Stamp;
pub use places::{JOURNAL_HEAD, Places, Visited};
pub use programs::{Program, Programs};
pub use prune::{Gone, Pruned, Wish};
pub use refs::{OWN_ANNOTATIONS, Refs, Tagged};
pub use rights::Rights;
pub use seen::Seen;
pub use store::{Location, Store};
pub use tree::{Node, Tree};
pub use usage::{ImageShare, Share, Taken, Usage};
pub use work::Work;

#[cfg(test)]
mod tests;
