//! Stripping of modules: removes the chunks that are not needed at run time.

use std::io::Write as _;

use super::{Beam, BeamChunk, BeamError, DEBUG_CHUNKS, decompress};
use crate::etf;
use crate::resolve::ReleaseRules;

/// The rule that decides which chunks a stripped module keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripRule {
    order: ChunkSelection,
    keep: Vec<[u8; 4]>,
    compress: bool,
    drop_paths: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ChunkSelection {
    /// Exactly these chunks, in this order.
    Listed(&'static [&'static [u8; 4]]),
    /// The additionally kept chunks first, then these chunks in this order.
    After(&'static [&'static [u8; 4]]),
    /// All chunks except these, in the order of the file.
    AllBut(&'static [&'static [u8; 4]]),
}

/// The chunks that Mix keeps before Elixir 1.15.4.
const MIX_CHUNKS_BEFORE_1_15_4: &[&[u8; 4]] =
    &[b"Atom", b"AtU8", b"Attr", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Line"];
/// The chunks that Mix keeps since Elixir 1.15.4: `Attr`, and those of `beam_lib:significant_chunks/0`.
const MIX_CHUNKS: &[&[u8; 4]] =
    &[b"Attr", b"Line", b"Type", b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta"];
/// The chunks of `beam_lib:significant_chunks/0`.
const SIGNIFICANT_CHUNKS: &[&[u8; 4]] =
    &[b"Line", b"Type", b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta"];
/// The attribute that names the external files the module was compiled from.
const EXTERNAL_RESOURCE: &str = "external_resource";

impl StripRule {
    /// Returns the strip rule of a release tool, with additional chunks to keep.
    pub fn for_rules(style: &ReleaseRules, keep: &[String], compress: bool) -> StripRule {
        let order = match style {
            ReleaseRules::Mix { elixir } if *elixir < (1, 15, 4) => ChunkSelection::Listed(MIX_CHUNKS_BEFORE_1_15_4),
            ReleaseRules::Mix { .. } => ChunkSelection::Listed(MIX_CHUNKS),
            ReleaseRules::Otp => ChunkSelection::AllBut(DEBUG_CHUNKS),
        };
        let keep = keep.iter().filter_map(|name| name.as_bytes().try_into().ok()).collect();
        StripRule { order, keep, compress, drop_paths: false }
    }

    /// Returns the rule of `beam_lib:strip_release/2`: the significant chunks and those in `keep`, compressed with
    /// gzip. relx keeps `Attr`, Distillery keeps nothing in addition.
    pub fn beam_lib(keep: &[String]) -> StripRule {
        let keep = keep.iter().filter_map(|name| name.as_bytes().try_into().ok()).collect();
        StripRule { order: ChunkSelection::After(SIGNIFICANT_CHUNKS), keep, compress: true, drop_paths: false }
    }

    /// Sets whether the attribute `external_resource` is removed. It holds paths of the machine that compiled the
    /// module and is not used at run time; with it, equal sources compiled in two directories give two different
    /// modules.
    #[must_use]
    pub fn drop_external_resources(mut self, drop_paths: bool) -> StripRule {
        self.drop_paths = drop_paths;
        self
    }
}

/// Strips the module in `bytes`. If `name` is given, it must be the module's name.
///
/// # Errors
/// Fails if `bytes` is not a module, or has another name.
pub fn strip(bytes: &[u8], name: Option<&[u8]>, rule: &StripRule) -> Result<Vec<u8>, BeamError> {
    let plain = decompress(bytes)?;
    let beam = Beam::read(&plain)?;
    let found = beam.module()?;
    if let Some(expected) = name.filter(|expected| *expected != found) {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        return Err(BeamError::Name { found: text(found), expected: text(expected) });
    }
    let chunks: Vec<BeamChunk<'_>> = match rule.order {
        ChunkSelection::Listed(names) => {
            let names = names.iter().map(|name| **name);
            let further = rule.keep.iter().copied().filter(|name| !names.clone().any(|listed| listed == *name));
            names.clone().chain(further).filter_map(|name| Some((name, beam.chunk(&name)?))).collect()
        }
        ChunkSelection::After(names) => {
            let further = names.iter().map(|name| **name).filter(|name| !rule.keep.contains(name));
            rule.keep.iter().copied().chain(further).filter_map(|name| Some((name, beam.chunk(&name)?))).collect()
        }
        ChunkSelection::AllBut(names) => {
            let stays = |chunk: &&BeamChunk<'_>| !names.contains(&&chunk.0) || rule.keep.contains(&chunk.0);
            beam.chunks().iter().filter(stays).copied().collect()
        }
    };
    let without_paths = match beam.chunk(b"Attr").filter(|_| rule.drop_paths) {
        Some(attributes) => {
            Some(etf::remove_tagged_tuples(attributes, EXTERNAL_RESOURCE).map_err(|_| BeamError::Unreadable("Attr"))?)
        }
        None => None,
    };
    let chunks: Vec<BeamChunk<'_>> = match &without_paths {
        Some(attributes) => {
            chunks.into_iter().map(|(name, old)| (name, if name == *b"Attr" { attributes } else { old })).collect()
        }
        None => chunks,
    };
    let module = encode_beam(&chunks);
    if !rule.compress {
        return Ok(module);
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&module).and_then(|()| packed.finish()).map_err(|_| BeamError::Compressed)
}

/// Encodes chunks as a `.beam` file.
fn encode_beam(chunks: &[BeamChunk<'_>]) -> Vec<u8> {
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
