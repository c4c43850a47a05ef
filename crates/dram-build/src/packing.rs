//! A tar becomes a compressed blob: [why it is gzip in members](../../../docs/decisions/gzip-in-members.md).

use std::io::Write;

use dram_gzip::Failed;
use dram_image::{Descriptor, Hashing, MediaType};
use dram_store::{Packed, Store, StoreError};

/// libdeflate's level: 4 % larger than its sixth, a third faster.
const LEVEL: i32 = 3;

/// Compresses what `produce` writes into a blob of `store`. Returns the blob and the digest of what was written.
///
/// # Errors
/// Whatever `produce` returns, or the disk's refusal.
pub(crate) fn compress(
    store: &Store,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send,
) -> Result<Packed, StoreError> {
    let mut writer = store.blobs().writer()?;
    let hasher = dram_gzip::compress(LEVEL, None, &mut writer, |out| {
        let mut hashing = Hashing::new(out);
        produce(&mut hashing)?;
        Ok(hashing.finish())
    });
    let hasher = hasher.map_err(|failed| match failed {
        Failed::Produce(error) => error,
        Failed::Write(source) => StoreError::Io { verb: "write", path: writer.path().to_owned(), source },
    })?;
    let plain_size = hasher.length();
    let diff_id = hasher.finish();
    store.layers().remember_size(&diff_id, plain_size)?;
    let (digest, size) = writer.commit()?;
    Ok(Packed { diff_id, blob: Descriptor::new(MediaType::LAYER_GZIP, digest, size) })
}
