//! Records about layers that steps made: when, and the blobs that they were packed into. See
//! [the format of the store](../../../docs/store-format.md).

use std::path::PathBuf;

use dram_image::{Digest, RFC3339_TIMES};

use crate::atomic_file::{self, Durability};
use crate::layers::MAX_SHORT_RECORD_BYTES;
use crate::pack::PackedTimes;
use crate::{LayerId, Layers, PackedLayer, StoreError};

/// A record has a few hundred bytes; a larger one is damaged.
const MAX_PACK_RECORD_BYTES: u64 = 1 << 20;

impl Layers<'_> {
    /// Records that the tar `diff_id` was packed from the layer `id`.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn record_origin(self, diff_id: &Digest, id: &LayerId) -> Result<(), StoreError> {
        let record = self.origin_record_path(diff_id);
        let (bytes, work) = (id.as_str().as_bytes(), self.store().work_dir().path());
        atomic_file::write_atomic(&record, bytes, MAX_SHORT_RECORD_BYTES, &work, Durability::Unsynced)
    }

    /// The layer that the tar `diff_id` was packed from, if it is in the store. Their content differs in times only.
    pub fn find_origin(self, diff_id: &Digest) -> Option<LayerId> {
        let bytes = atomic_file::read_limited(&self.origin_record_path(diff_id), MAX_SHORT_RECORD_BYTES).ok()??;
        let id: LayerId = std::str::from_utf8(&bytes).ok()?.parse().ok()?;
        self.has(&id).then_some(id)
    }

    fn origin_record_path(self, diff_id: &Digest) -> PathBuf {
        self.store().join("packs").join(format!("{}.origin", LayerId::from_diff_id(diff_id)))
    }

    /// The time at which the layer `id` was made, in seconds since 1970: that of the first call, as long as the layer is
    /// in the store. A step that is executed again with an equal result keeps the layer, with the times of its files, so it
    /// keeps this time as well.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn record_made(self, id: &LayerId, now: i64) -> Result<i64, StoreError> {
        let record = self.made_record_path(id);
        let known = atomic_file::read_limited(&record, MAX_SHORT_RECORD_BYTES).ok().flatten();
        let known = known.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse().ok());
        if let Some(known) = known.filter(|time| RFC3339_TIMES.contains(time)) {
            return Ok(known);
        }
        let (text, work) = (now.to_string(), self.store().work_dir().path());
        atomic_file::write_atomic(&record, text.as_bytes(), MAX_SHORT_RECORD_BYTES, &work, Durability::Unsynced)?;
        Ok(now)
    }

    pub(crate) fn made_record_path(self, id: &LayerId) -> PathBuf {
        self.store().join("packs").join(format!("{id}.made"))
    }

    /// The blob that the layer was packed into with the compression `kind` (a short word, empty for the default), if
    /// there is a record of it and the blob is in the store.
    pub fn find_packed(self, id: &LayerId, times: PackedTimes, kind: &str) -> Option<PackedLayer> {
        let bytes =
            atomic_file::read_limited(&self.pack_record_path(id, times, kind), MAX_PACK_RECORD_BYTES).ok()??;
        let packed: PackedLayer = serde_json::from_slice(&bytes).ok()?;
        self.store().blobs().has(&packed.blob).then_some(packed)
    }

    /// Records the blob that the layer was packed into.
    ///
    /// # Errors
    /// On an I/O error.
    pub fn record_packed(
        self,
        id: &LayerId,
        times: PackedTimes,
        kind: &str,
        packed: &PackedLayer,
    ) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(packed).expect("plain data becomes JSON");
        atomic_file::write_atomic(
            &self.pack_record_path(id, times, kind),
            &bytes,
            MAX_PACK_RECORD_BYTES,
            &self.store().work_dir().path(),
            Durability::Unsynced,
        )
    }

    fn pack_record_path(self, id: &LayerId, times: PackedTimes, kind: &str) -> PathBuf {
        let dot = if kind.is_empty() { "" } else { "." };
        self.store().join("packs").join(format!("{id}.{times}{dot}{kind}"))
    }
}
