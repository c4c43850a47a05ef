//! Modules without what only their makers need.

use std::io::Write as _;

use super::{Beam, BeamError, Chunk, unpacked};
use crate::etf;
use crate::resolve::Style;

/// Which chunks a stripped module keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripRule {
    order: Order,
    keep: Vec<[u8; 4]>,
    compress: bool,
    drop_paths: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// These chunks, in this order, whatever the file's is.
    Listed(&'static [&'static [u8; 4]]),
    /// These chunks in this order, behind those that are kept besides.
    After(&'static [&'static [u8; 4]]),
    /// All but these, in the file's order.
    AllBut(&'static [&'static [u8; 4]]),
}

/// What Mix keeps before Elixir 1.15.4.
const MIX_OLD: &[&[u8; 4]] =
    &[b"Atom", b"AtU8", b"Attr", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Line"];
/// What Mix keeps since: `Attr`, and what `beam_lib:significant_chunks/0` says.
const MIX_NEW: &[&[u8; 4]] =
    &[b"Attr", b"Line", b"Type", b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta"];
/// What `beam_lib:significant_chunks/0` says.
const SIGNIFICANT: &[&[u8; 4]] =
    &[b"Line", b"Type", b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta"];
/// The attribute that names files which the module was made from.
const EXTERNAL_RESOURCE: &str = "external_resource";
/// What says how a module was made, and nothing about what it does.
const DISPENSABLE: &[&[u8; 4]] = &[b"Dbgi", b"Docs", b"ExCk", b"CInf", b"LocT", b"Abst"];

impl StripRule {
    /// The rule of a style, with further chunks that stay.
    pub fn for_style(style: &Style, keep: &[String], compress: bool) -> StripRule {
        let order = match style {
            Style::Mix { elixir } if *elixir < (1, 15, 4) => Order::Listed(MIX_OLD),
            Style::Mix { .. } => Order::Listed(MIX_NEW),
            Style::Plain => Order::AllBut(DISPENSABLE),
        };
        let keep = keep.iter().filter_map(|name| name.as_bytes().try_into().ok()).collect();
        StripRule { order, keep, compress, drop_paths: false }
    }

    /// The rule of `beam_lib:strip_release/2`, which relx uses with `Attr` and Distillery with nothing to keep: what OTP
    /// calls significant, compressed with gzip.
    pub fn erlang(keep: &[String]) -> StripRule {
        let keep = keep.iter().filter_map(|name| name.as_bytes().try_into().ok()).collect();
        StripRule { order: Order::After(SIGNIFICANT), keep, compress: true, drop_paths: false }
    }

    /// The same rule, which also leaves out what names files of the machine that compiled the module: the attribute
    /// `external_resource`. Nothing reads it at run time, and with it equal sources in two places are two modules.
    #[must_use]
    pub fn dropping_paths(mut self, drop_paths: bool) -> StripRule {
        self.drop_paths = drop_paths;
        self
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
        Order::After(names) => {
            let further = names.iter().map(|name| **name).filter(|name| !rule.keep.contains(name));
            rule.keep.iter().copied().chain(further).filter_map(|name| Some((name, beam.chunk(&name)?))).collect()
        }
        Order::AllBut(names) => {
            let stays = |chunk: &&Chunk<'_>| !names.contains(&&chunk.0) || rule.keep.contains(&chunk.0);
            beam.chunks().iter().filter(stays).copied().collect()
        }
    };
    let without_paths = match beam.chunk(b"Attr").filter(|_| rule.drop_paths) {
        Some(attributes) => {
            Some(etf::without(attributes, EXTERNAL_RESOURCE).map_err(|_| BeamError::Unreadable("Attr"))?)
        }
        None => None,
    };
    let chunks: Vec<Chunk<'_>> = match &without_paths {
        Some(attributes) => {
            chunks.into_iter().map(|(name, old)| (name, if name == *b"Attr" { attributes } else { old })).collect()
        }
        None => chunks,
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
