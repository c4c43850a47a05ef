//! Compiled modules (`.beam` files).
//!
//! A `.beam` file is an IFF form: `FOR1`, a length, `BEAM`, and then chunks of a name, a length and data padded to four
//! bytes.

mod md5;
mod module_info;
mod strip;

use std::borrow::Cow;
use std::io::Read as _;

pub use module_info::{ExportedFunction, ImportedFunction};
pub use strip::{StripRule, strip};

/// Chunks that describe how a module was compiled, and do not affect what it does.
pub(crate) const DEBUG_CHUNKS: &[&[u8; 4]] = &[b"Dbgi", b"Docs", b"ExCk", b"CInf", b"LocT", b"Abst"];
/// The maximum size of a decompressed module.
const MAX_MODULE_SIZE: u64 = 128 << 20;
/// The maximum number of chunks; the emulator knows about thirty.
const MOST_CHUNKS: usize = 65_536;

/// The reason why a file is not a valid module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeamError {
    /// The file does not start with the IFF header of a `.beam` file.
    #[error("it does not begin with `FOR1`, a length and `BEAM`")]
    Form,
    /// The file is compressed and cannot be decompressed within the size limit.
    #[error("it is compressed, and cannot be unpacked to at most 128 MiB")]
    Compressed,
    /// The file is shorter than its header says.
    #[error("it says that it has {says} bytes, and has {has}")]
    Truncated {
        /// The length in the header.
        says: u64,
        /// The actual length.
        has: u64,
    },
    /// A chunk extends beyond the end of the file.
    #[error("its chunk `{0}` reaches beyond its end")]
    ChunkTooLong(String),
    /// A required chunk is missing.
    #[error("it has no chunk `{0}`")]
    Missing(&'static str),
    /// The file has too many chunks.
    #[error("it has more than {MOST_CHUNKS} chunks")]
    TooManyChunks,
    /// The module name does not match the file name.
    #[error("it is the module `{found}`, and not `{expected}`")]
    Name {
        /// The module name in the file.
        found: String,
        /// The expected module name.
        expected: String,
    },
    /// The atom table cannot be read.
    #[error("its atoms cannot be read")]
    Atoms,
    /// The content of a chunk is invalid.
    #[error("its chunk `{0}` cannot be read")]
    Unreadable(&'static str),
}

/// A chunk: its name and its data.
pub type BeamChunk<'a> = ([u8; 4], &'a [u8]);

/// The chunks of a module, in the order of the file.
#[derive(Debug, Clone)]
pub struct Beam<'a> {
    chunks: Vec<BeamChunk<'a>>,
}

impl<'a> Beam<'a> {
    /// Reads a module that is not compressed; see [`decompress`]. Bytes after the IFF form are ignored, as the emulator
    /// does.
    ///
    /// # Errors
    /// See [`BeamError`].
    pub fn read(bytes: &'a [u8]) -> Result<Beam<'a>, BeamError> {
        let (Some(b"FOR1"), Some(says), Some(b"BEAM")) =
            (bytes.get(..4), bytes.get(4..8).and_then(read_u32), bytes.get(8..12))
        else {
            return Err(BeamError::Form);
        };
        let has = (bytes.len() - 8) as u64;
        if u64::from(says) > has || says < 4 {
            return Err(BeamError::Truncated { says: says.into(), has });
        }
        let mut rest = bytes.get(12..8 + says as usize).unwrap_or_default();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let (Some(name), Some(length)) = (rest.first_chunk::<4>(), rest.get(4..8).and_then(read_u32)) else {
                return Err(BeamError::ChunkTooLong(
                    String::from_utf8_lossy(&rest[..rest.len().min(4)]).escape_debug().to_string(),
                ));
            };
            let body = rest[8..].get(..length as usize);
            let body = body.ok_or_else(|| BeamError::ChunkTooLong(name.escape_ascii().to_string()))?;
            chunks.push((*name, body));
            if chunks.len() > MOST_CHUNKS {
                return Err(BeamError::TooManyChunks);
            }
            // The padding of the last chunk may be missing.
            rest = rest[8..].get((length as usize).next_multiple_of(4)..).unwrap_or_default();
        }
        let beam = Beam { chunks };
        beam.chunk(b"Code").ok_or(BeamError::Missing("Code"))?;
        beam.atoms()?;
        Ok(beam)
    }

    /// Returns the data of the first chunk with this name.
    pub fn chunk(&self, name: &[u8; 4]) -> Option<&'a [u8]> {
        self.chunks.iter().find(|(found, _)| found == name).map(|(_, bytes)| *bytes)
    }

    /// Returns all chunks.
    pub fn chunks(&self) -> &[BeamChunk<'a>] {
        &self.chunks
    }

    /// Returns the atom table, and whether it is encoded in UTF-8.
    fn atoms(&self) -> Result<(&'a [u8], bool), BeamError> {
        let newer = self.chunk(b"AtU8").map(|table| (table, true));
        newer.or_else(|| Some((self.chunk(b"Atom")?, false))).ok_or(BeamError::Missing("AtU8"))
    }

    /// Returns the module name: the first atom of the atom table.
    ///
    /// # Errors
    /// Fails if the atom table is empty or invalid.
    pub fn module(&self) -> Result<&'a [u8], BeamError> {
        let (table, _) = self.atoms()?;
        let (count, rest) = table.split_first_chunk::<4>().ok_or(BeamError::Atoms)?;
        let count = i32::from_be_bytes(*count);
        let first = module_info::split_name(rest, count < 0).filter(|(name, _)| count != 0 && !name.is_empty());
        first.map(|(name, _)| name).ok_or(BeamError::Atoms)
    }
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Returns the module decompressed, if it was compressed with gzip.
///
/// # Errors
/// Fails if the module is compressed and cannot be decompressed within the size limit.
pub fn decompress(bytes: &[u8]) -> Result<Cow<'_, [u8]>, BeamError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut plain = Vec::new();
    let read = flate2::read::GzDecoder::new(bytes).take(MAX_MODULE_SIZE + 1).read_to_end(&mut plain);
    match read {
        Ok(length) if length as u64 <= MAX_MODULE_SIZE => Ok(Cow::Owned(plain)),
        Ok(_) | Err(_) => Err(BeamError::Compressed),
    }
}
