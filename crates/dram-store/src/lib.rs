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
//!   packs/ID.origin    the layer that a tar was packed from
//!   packs/BLOB.diff    the diff ID of a blob
//!   packs/ID.leans     the entries of a layer that depend on its parent layers
//!   packs/ID.BELOW.over  the layer id of a layer extracted over others
//!   packs/ID.size      length of a layer's tar
//!   downloads/HEX      a downloaded file, by its content digest; KEY.note records the response of an address
//!   contexts/KEY       digests of a build context's files, with the file status they are valid for
//!   blob-locations/HEX repositories that have a blob
//!   caches/KEY.N/      content of a cache mount; it outlives builds
//!   history/KEY/       build journal of a Dockerfile, used to explain cache misses
//!   failed/            file system of the last command that failed
//!   steplocks/KEY      lock held while a step is executed, so that two builds share its result
//!   subordinate/       layers and steps of a user namespace with subordinate ids, and the stand-ins of foreign ids
//!   single/            layers and steps of a user namespace with a single id
//!   unprivileged/      layers and steps of a process without privileges
//!   unsynced/BOOT/ID   marker of an unsynced layer
//!   sizes              cached disk usage of layers
//!   index.copy         a backup of index.json
//!   lost/N/            unknown files that `dram fsck --repair` moved away
//!   work/NAME/         temporary files of a running process; removed when the process is gone
//! ```
//!
//! Everything but references is immutable and named by a digest. Incomplete data has no final name: it is written in
//! `work/` and moved into place by an atomic rename.

mod atomic_file;
mod blob_locations;
mod blobs;
mod build_history;
mod caches;
mod compress;
mod context_dir;
pub mod dir;
mod download_cache;
mod error;
mod error_report;
mod failed_command;
mod foreign_ids;
mod fsck;
mod id_mapping;
mod inherit_owners;
mod inventory;
mod layer_scan;
mod layers;
mod lock;
mod merged;
mod migration;
mod misplaced;
mod output_dir;
mod owner_notes;
mod ownership;
mod pack;
mod pack_records;
mod parent_deps;
mod prune;
mod refs;
mod remove_tree;
mod root_contents;
mod size_cache;
mod step_cache;
mod store;
mod tree;
mod tree_diff;
mod tree_walk;
mod unpack;
mod unsynced;
mod usage;
mod verify;
mod work_dir;

pub use blob_locations::BlobLocations;
pub use blobs::{BlobWriter, Blobs, QuotaExceeded};
pub use build_history::{BuildHistory, JOURNAL_HEAD_SIZE, JournalLoss, MAX_BUILDS, RecentBuild};
pub use caches::{
    CacheArchiveError, CacheMountGuard, CacheMountIdentity, CacheMountInfo, CacheMountSharing, CacheMounts,
    ImportedCacheMount,
};
pub use compress::{CompressionFormat, DecompressingReader, ZstdWriter};
pub use context_dir::{ContextDir, IgnoreFn, IgnoreVerdict, SavedDigests};
pub use dir::{Dir, FileKind, FileMetadata, FileStatus};
pub use download_cache::{DownloadCache, DownloadRecord};
pub use error::{StoreError, error_chain};
pub use error_report::exhausted_resource_help;
pub use failed_command::{FailedCommandStore, SavedFailedCommand};
pub use foreign_ids::ForeignIds;
pub use fsck::{FsckFinding, FsckOptions, FsckReport, ParallelFn, RepackFn, SkippedCheck};
pub use id_mapping::IdMapping;
pub use layers::{LayerId, Layers, PackedLayer};
pub use lock::StepLock;
pub use merged::MergedTree;
pub use output_dir::{OutputDir, OutputLock, PendingOutput};
pub use owner_notes::OWNER_ATTRIBUTE;
pub use pack::PackedTimes;
pub use prune::{PruneOptions, PruneReport, PrunedItem};
pub use refs::{ImageRefs, OWN_ANNOTATION_PREFIX, TaggedImage};
pub use root_contents::{MAX_INDEX_DEPTH, ManifestContents, RootContents};
pub use step_cache::{CacheRecord, StepCache, StepKey, StepKeyBuilder};
pub use store::{Store, StoreLocation};
pub use tree::{FileTree, TreeNode};
pub use tree_walk::TreeWalk;
pub use usage::{ImageUsage, ItemUsage, KindUsage, StoreUsage};
pub use work_dir::ProcessWorkDir;

#[cfg(test)]
mod tests;
