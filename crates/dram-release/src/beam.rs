//! Compiled modules: `.beam` files.
//!
//! An IFF form: `FOR1`, a length, `BEAM`, and chunks of a name, a length and bytes, padded to four.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};

use crate::resolve::Style;

/// The largest module, unpacked.
const LARGEST: u64 = 128 << 20;
/// The most chunks: the emulator knows about thirty.
const MOST_CHUNKS: usize = 65_536;

/// Why a file is no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeamError {
    /// It does not begin as modules do.
    #[error("it does not begin with `FOR1`, a length and `BEAM`")]
    Form,
    /// It is compressed, and not to be unpacked.
    #[error("it is compressed, and cannot be unpacked to at most 128 MiB")]
    Compressed,
    /// It says that it is longer than it is.
    #[error("it says that it has {says} bytes, and has {has}")]
    Short {
        /// What it says.
        says: u64,
        /// What it has.
        has: u64,
    },
    /// A chunk reaches beyond the end.
    #[error("its chunk `{0}` reaches beyond its end")]
    Chunk(String),
    /// A chunk that every module has is not there.
    #[error("it has no chunk `{0}`")]
    Missing(&'static str),
    /// There are too many chunks.
    #[error("it has more than {MOST_CHUNKS} chunks")]
    Many,
    /// It is another module than its name says.
    #[error("it is the module `{found}`, and not `{expected}`")]
    Name {
        /// The module that it is.
        found: String,
        /// The one that its name says.
        expected: String,
    },
    /// The names in it cannot be read.
    #[error("its atoms cannot be read")]
    Atoms,
}

/// A chunk: its name, and its bytes.
pub type Chunk<'a> = ([u8; 4], &'a [u8]);

/// The chunks of a module, in the order of the file.
#[derive(Debug, Clone)]
pub struct Beam<'a> {
    chunks: Vec<Chunk<'a>>,
}

impl<'a> Beam<'a> {
    /// Reads an unpacked module; see [`unpacked`]. What follows the form is left out, as the emulator does.
    ///
    /// # Errors
    /// See [`BeamError`].
    pub fn read(bytes: &'a [u8]) -> Result<Beam<'a>, BeamError> {
        let (Some(b"FOR1"), Some(says), Some(b"BEAM")) =
            (bytes.get(..4), bytes.get(4..8).and_then(long), bytes.get(8..12))
        else {
            return Err(BeamError::Form);
        };
        let has = (bytes.len() - 8) as u64;
        if u64::from(says) > has || says < 4 {
            return Err(BeamError::Short { says: says.into(), has });
        }
        let mut rest = bytes.get(12..8 + says as usize).unwrap_or_default();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let (Some(name), Some(length)) = (rest.first_chunk::<4>(), rest.get(4..8).and_then(long)) else {
                return Err(BeamError::Chunk(
                    String::from_utf8_lossy(&rest[..rest.len().min(4)]).escape_debug().to_string(),
                ));
            };
            let body = rest[8..].get(..length as usize);
            let body = body.ok_or_else(|| BeamError::Chunk(name.escape_ascii().to_string()))?;
            chunks.push((*name, body));
            if chunks.len() > MOST_CHUNKS {
                return Err(BeamError::Many);
            }
            // The padding of the last chunk may be missing.
            rest = rest[8..].get((length as usize).next_multiple_of(4)..).unwrap_or_default();
        }
        let beam = Beam { chunks };
        beam.chunk(b"Code").ok_or(BeamError::Missing("Code"))?;
        beam.atoms()?;
        Ok(beam)
    }

    /// The bytes of the first chunk of that name.
    pub fn chunk(&self, name: &[u8; 4]) -> Option<&'a [u8]> {
        self.chunks.iter().find(|(found, _)| found == name).map(|(_, bytes)| *bytes)
    }

    /// All chunks.
    pub fn chunks(&self) -> &[Chunk<'a>] {
        &self.chunks
    }

    fn atoms(&self) -> Result<&'a [u8], BeamError> {
        self.chunk(b"AtU8").or_else(|| self.chunk(b"Atom")).ok_or(BeamError::Missing("AtU8"))
    }

    /// The module's name: the first of its atoms.
    ///
    /// # Errors
    /// When there is none.
    pub fn module(&self) -> Result<&'a [u8], BeamError> {
        let atoms = self.atoms()?;
        let count = atoms.first_chunk::<4>().map(|count| i32::from_be_bytes(*count)).ok_or(BeamError::Atoms)?;
        let rest = &atoms[4..];
        // From OTP 28 on the count is negative, and the length of a name is written as code writes its arguments.
        let (length, rest) = match (count, rest) {
            (1.., [length, rest @ ..]) => (usize::from(*length), rest),
            (..=-1, [tag, rest @ ..]) if tag & 0b1000 == 0 => (usize::from(tag >> 4), rest),
            (..=-1, [tag, low, rest @ ..]) if tag & 0b1_0000 == 0 => {
                (usize::from(tag >> 5) << 8 | usize::from(*low), rest)
            }
            _ => return Err(BeamError::Atoms),
        };
        rest.get(..length).filter(|name| !name.is_empty()).ok_or(BeamError::Atoms)
    }
}

fn long(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The module itself: modules may be compressed with gzip.
///
/// # Errors
/// When it is, and cannot be unpacked within bounds.
pub fn unpacked(bytes: &[u8]) -> Result<Cow<'_, [u8]>, BeamError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut plain = Vec::new();
    let read = flate2::read::GzDecoder::new(bytes).take(LARGEST + 1).read_to_end(&mut plain);
    match read {
        Ok(length) if length as u64 <= LARGEST => Ok(Cow::Owned(plain)),
        Ok(_) | Err(_) => Err(BeamError::Compressed),
    }
}

/// Which chunks a stripped module keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripRule {
    order: Order,
    keep: Vec<[u8; 4]>,
    compress: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// These chunks, in this order, whatever the file's is.
    Listed(&'static [&'static [u8; 4]]),
    /// All but these, in the file's order.
    AllBut(&'static [&'static [u8; 4]]),
}

/// What Mix keeps before Elixir 1.16.
const MIX_OLD: &[&[u8; 4]] =
    &[b"Atom", b"AtU8", b"Attr", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Line"];
/// What Mix keeps since: `Attr`, and what OTP calls significant.
const MIX_NEW: &[&[u8; 4]] =
    &[b"Attr", b"Line", b"Type", b"Meta", b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT"];
/// What says how a module was made, and nothing about what it does.
const DISPENSABLE: &[&[u8; 4]] = &[b"Dbgi", b"Docs", b"ExCk", b"CInf", b"LocT", b"Abst"];

impl StripRule {
    /// The rule of a style, with further chunks that stay.
    pub fn for_style(style: &Style, keep: &[String], compress: bool) -> StripRule {
        let order = match style {
            Style::Mix { elixir } if *elixir < (1, 16) => Order::Listed(MIX_OLD),
            Style::Mix { .. } => Order::Listed(MIX_NEW),
            Style::Plain => Order::AllBut(DISPENSABLE),
        };
        let keep = keep.iter().filter_map(|name| name.as_bytes().try_into().ok()).collect();
        StripRule { order, keep, compress }
    }
}

/// The module in `bytes`, stripped. `name` is what it has to be called, where somebody knows.
///
/// # Errors
/// When it is no module, or another one.
pub fn strip(bytes: &[u8], name: Option<&[u8]>, rule: &StripRule) -> Result<Vec<u8>, BeamError> {
    let plain = unpacked(bytes)?;
    let beam = Beam::read(&plain)?;
    let found = beam.module()?;
    if let Some(expected) = name.filter(|expected| *expected != found) {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        return Err(BeamError::Name { found: text(found), expected: text(expected) });
    }
    let chunks: Vec<Chunk<'_>> = match rule.order {
        Order::Listed(names) => {
            let names = names.iter().map(|name| **name);
            let further = rule.keep.iter().copied().filter(|name| !names.clone().any(|listed| listed == *name));
            names.clone().chain(further).filter_map(|name| Some((name, beam.chunk(&name)?))).collect()
        }
        Order::AllBut(names) => {
            let stays = |chunk: &&Chunk<'_>| !names.contains(&&chunk.0) || rule.keep.contains(&chunk.0);
            beam.chunks().iter().filter(stays).copied().collect()
        }
    };
    let module = form(&chunks);
    if !rule.compress {
        return Ok(module);
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&module).and_then(|()| packed.finish()).map_err(|_| BeamError::Compressed)
}

/// The file with these chunks.
fn form(chunks: &[Chunk<'_>]) -> Vec<u8> {
    let size: usize = chunks.iter().map(|(_, bytes)| 8 + bytes.len().next_multiple_of(4)).sum();
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = Vec::with_capacity(12 + size);
    out.extend(b"FOR1");
    out.extend(length(4 + size));
    out.extend(b"BEAM");
    for (name, bytes) in chunks {
        out.extend(name);
        out.extend(length(bytes.len()));
        out.extend(*bytes);
        out.extend(&[0; 4][..bytes.len().wrapping_neg() % 4]);
    }
    out
}
