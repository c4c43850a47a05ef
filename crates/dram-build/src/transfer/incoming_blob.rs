//! A blob that is being copied: its reader limits the size, verifies the digest and reports the progress.

use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

use dram_image::{Descriptor, DigestHasher};
use dram_store::StoreError;

use crate::transfer::{CopyOptions, ImageSource, TransferError, TransferProgress};

/// A blob for a sink to take.
#[derive(Debug)]
pub struct IncomingBlob<'a> {
    source: &'a dyn ImageSource,
    blob: &'a Descriptor,
    how: &'a CopyOptions<'a>,
    /// True if the source or the sink verifies the digest.
    is_verified_elsewhere: bool,
    failure: Mutex<Option<TransferError>>,
}

impl<'a> IncomingBlob<'a> {
    pub(super) fn new(
        source: &'a dyn ImageSource,
        blob: &'a Descriptor,
        is_verified_elsewhere: bool,
        how: &'a CopyOptions<'a>,
    ) -> Self {
        IncomingBlob { source, blob, how, is_verified_elsewhere, failure: Mutex::default() }
    }

    /// Returns the error for this blob when its bytes are not those that its digest stands for.
    pub(crate) fn damaged_blob(&self, why: String) -> TransferError {
        self.source.damaged_blob(self.blob.digest, why)
    }

    /// Returns a reader from the beginning of the blob; each call starts again. It fails instead of ending with the
    /// wrong size or digest.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be read.
    pub fn open(&self) -> Result<impl Read + Send + '_, TransferError> {
        let hasher = (!self.is_verified_elsewhere).then(DigestHasher::new);
        (self.how.tell)(TransferProgress::Started(self.blob.clone()));
        Ok(VerifyingReader { incoming: self, from: self.source.open(self.blob)?, left: self.blob.size, hasher })
    }

    /// Writes the whole blob to `out`, which is at `place`.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be read or `out` cannot be written.
    pub fn write_to(&self, out: &mut dyn Write, place: &std::path::Path) -> Result<(), TransferError> {
        let mut reader = self.open()?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let got = reader.read(&mut buffer).map_err(|error| self.read_error(error))?;
            if got == 0 {
                return Ok(());
            }
            out.write_all(&buffer[..got]).map_err(|source| TransferError::Write { place: place.to_owned(), source })?;
        }
    }

    /// Returns the cause of a read error: the error that the source recorded, or `error` itself.
    pub(super) fn read_error(&self, error: io::Error) -> TransferError {
        let place = format!("the blob {} of {}", self.blob.digest, self.source.display_name());
        self.take_failure().unwrap_or(TransferError::Read { place, source: error })
    }

    /// Takes the error that the source side recorded, if there is one.
    pub(super) fn take_failure(&self) -> Option<TransferError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn record_failure(&self, error: TransferError) -> io::Error {
        let text = error.to_string();
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        io::Error::other(text)
    }

    fn record_damage(&self, why: String) -> io::Error {
        self.record_failure(self.source.damaged_blob(self.blob.digest, why))
    }
}

/// A reader that fails instead of returning the last bytes if the size or the digest is wrong. So a caller that has
/// read as many bytes as the descriptor says has read the right ones.
struct VerifyingReader<'a> {
    incoming: &'a IncomingBlob<'a>,
    from: Box<dyn Read + Send + 'a>,
    left: u64,
    hasher: Option<DigestHasher>,
}

impl Read for VerifyingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let incoming = self.incoming;
        if incoming.how.cancel.is_cancelled() {
            return Err(incoming.record_failure(TransferError::Cancelled));
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let got = self.read_retrying(&mut buffer[..most])?;
        self.left -= got as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..got]);
        }
        if self.left > 0 && got == 0 {
            let (there, size) = (incoming.blob.size - self.left, incoming.blob.size);
            return Err(incoming.record_damage(format!("it has {there} bytes, expected {size}")));
        }
        if self.left == 0 {
            self.verify_end()?;
        }
        (incoming.how.tell)(TransferProgress::Bytes(incoming.blob.digest, got as u64));
        Ok(got)
    }
}

impl VerifyingReader<'_> {
    fn read_retrying(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.from.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let damage = error.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
                    let why = match damage {
                        Some(StoreError::DamagedBlob { why, .. }) => why.clone(),
                        Some(_) | None => error.to_string(),
                    };
                    return Err(self.incoming.record_damage(why));
                }
                done => return done,
            }
        }
    }

    /// Verifies the end of the blob: no more bytes may follow, and the digest must match.
    fn verify_end(&mut self) -> io::Result<()> {
        if self.read_retrying(&mut [0])? > 0 {
            let size = self.incoming.blob.size;
            return Err(self.incoming.record_damage(format!("it has more bytes than {size}")));
        }
        match self.hasher.take().map(DigestHasher::finish) {
            Some(found) if found != self.incoming.blob.digest => {
                Err(self.incoming.record_damage("its content does not match its digest".to_owned()))
            }
            Some(_) | None => Ok(()),
        }
    }
}
