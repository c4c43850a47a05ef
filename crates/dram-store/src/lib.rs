//! The disk: blobs, references, remembered steps, layer directories, and the places they lie in.
//!
//! ```text
//! STORE/
//!   version            the number of this layout
//!   refs.lock          held while index.json is replaced
//!   lock               shared by whoever uses the store, exclusive to collect garbage
//!   oci/               an OCI image layout: oci-layout, index.json, blobs/sha256/HEX
//!   layers/ID/         a layer unpacked: an overlay directory, used as it is
//!   layers/ID.owners   what the disk could not hold of a layer for the user who made it
//!   steps/XX/KEY       what a build step left, under the key that names all its inputs
//!   packs/ID.STAMP     which blob a layer directory was packed into; with .KIND, in another compression than gzip's usual
//!   packs/ID.elf       which programs and libraries a layer has, and what they need
//!   packs/ID.origin      which layer a tar was packed from
//!   packs/BLOB.diff    which tar a blob holds
//!   packs/ID.leans     what of a layer depends on those below it
//!   packs/ID.BELOW.over  which layer it is over others
//!   packs/ID.size      how long a layer's tar is
//!   downloads/HEX      a file from the network, named by its content; KEY.note is what an address had
//!   contexts/KEY       digests of a build context's files, with the file status they hold for
//!   seen/HEX           repositories that have a blob
//!   caches/KEY.N/      what a cache mount shows: it outlives builds
//!   places/KEY/        what the last build of a Dockerfile did and took, to say why a step is carried out
//!   failed/            what the last command that failed left
//!   steplocks/KEY      held while a step runs, so that two builds share it
//!   lent-ids/          layers and steps of a user namespace with many ids
//!   one-id/            layers and steps of a user who has one id only
//!   unprivileged/      layers and steps of one who may set nothing on the disk
//!   fresh/BOOT/ID      marks a layer that was not flushed to the disk since it was made
//!   sizes              what layers take on the disk
//!   index.copy         a copy of index.json
//!   lost/N/            what `dram fsck --repair` found and did not know
//!   work/NAME/         half-done things of a running process; swept when it is gone
//! ```
//!
//! Everything but references is immutable and named by a digest. What is half written has no name: it lies in
//! `work/` and is renamed into place when whole.

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
