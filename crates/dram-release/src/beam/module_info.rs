//! The information in a module's chunks: exports, imports, attributes and MD5.
//!
//! The results are those of `beam_lib`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Beam, BeamError, md5};
use crate::etf::{self, EtfError, EtfErrorKind};
use crate::term::Term;

/// The chunks that `beam_lib:md5/1` digests, in its order.
const MD5_CHUNKS: [&[u8; 4]; 9] = [b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta"];

/// The default limit of the emulator's atom table; further atoms are not read.
const MOST_ATOMS: usize = 1 << 20;
/// The maximum number of entries of an export or import table.
const MOST_FUNCTIONS: usize = 1 << 18;
/// The maximum arity of a function.
const MOST_ARGUMENTS: u32 = 255;

/// An exported function of a module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportedFunction {
    /// The function's name.
    pub name: String,
    /// The number of arguments.
    pub arity: u32,
}

/// A function of another module that a module calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportedFunction {
    /// The module.
    pub module: String,
    /// The function's name.
    pub name: String,
    /// The number of arguments.
    pub arity: u32,
}

impl<'a> Beam<'a> {
    /// Returns all atoms of the module; the module name comes first.
    fn atom_table(&self) -> Result<Vec<Cow<'a, str>>, BeamError> {
        let (table, is_utf8) = self.atoms()?;
        let (count, mut rest) = table.split_first_chunk::<4>().ok_or(BeamError::Atoms)?;
        let count = i32::from_be_bytes(*count);
        let mut names = Vec::new();
        while !rest.is_empty() && names.len() < MOST_ATOMS {
            let (name, after) = split_name(rest, count < 0).ok_or(BeamError::Atoms)?;
            rest = after;
            names.push(match is_utf8 {
                true => Cow::Borrowed(std::str::from_utf8(name).map_err(|_| BeamError::Atoms)?),
                false => Cow::Owned(name.iter().copied().map(char::from).collect()),
            });
        }
        Ok(names)
    }

    /// Returns the exported functions, sorted.
    ///
    /// # Errors
    /// Fails if the export table is missing or invalid.
    pub fn exports(&self) -> Result<BTreeSet<ExportedFunction>, BeamError> {
        let atoms = self.atom_table()?;
        let row = |[name, number, _label]: [u32; 3]| {
            Some(ExportedFunction { name: atom_name(&atoms, name)?, arity: checked_arity(number)? })
        };
        self.table_rows("ExpT")?.map(row).collect::<Option<_>>().ok_or(unreadable("ExpT"))
    }

    /// Returns the functions of other modules that the module calls, sorted.
    ///
    /// # Errors
    /// Fails if the import table is missing or invalid.
    pub fn imports(&self) -> Result<BTreeSet<ImportedFunction>, BeamError> {
        let atoms = self.atom_table()?;
        let row = |[module, name, number]: [u32; 3]| {
            Some(ImportedFunction {
                module: atom_name(&atoms, module)?,
                name: atom_name(&atoms, name)?,
                arity: checked_arity(number)?,
            })
        };
        self.table_rows("ImpT")?.map(row).collect::<Option<_>>().ok_or(unreadable("ImpT"))
    }

    /// Returns the module attributes, each with all its values; empty if there is no `Attr` chunk. An attribute with a
    /// value that [`Term`] cannot represent, such as a function, is left out.
    ///
    /// # Errors
    /// Fails if the chunk is not a list of pairs of a name and a list.
    pub fn attributes(&self) -> Result<BTreeMap<String, Vec<Term>>, BeamError> {
        let mut all: BTreeMap<String, Vec<Term>> = BTreeMap::new();
        let Some(bytes) = self.chunk(b"Attr") else { return Ok(all) };
        let plain = etf::payload(bytes).map_err(|_| unreadable("Attr"))?;
        for element in etf::list_elements(&plain).map_err(|_| unreadable("Attr"))? {
            let pair = match etf::decode_payload(element) {
                Ok(pair) => pair,
                Err(EtfError { kind: EtfErrorKind::UnsupportedType(_), .. }) => continue,
                Err(_) => return Err(unreadable("Attr")),
            };
            let Term::Tuple(pair) = pair else { return Err(unreadable("Attr")) };
            let Ok([Term::Atom(name), Term::List(values)]) = <[Term; 2]>::try_from(pair) else {
                return Err(unreadable("Attr"));
            };
            all.entry(name).or_default().extend(values);
        }
        Ok(all)
    }

    /// Returns the behaviours that the module declares, in the order of its attributes.
    ///
    /// # Errors
    /// As for [`Beam::attributes`].
    pub fn behaviours(&self) -> Result<Vec<String>, BeamError> {
        let attributes = self.attributes()?;
        let values = ["behaviour", "behavior"].iter().filter_map(|name| attributes.get(*name)).flatten();
        Ok(values.filter_map(|value| value.as_atom().map(str::to_owned)).collect())
    }

    /// Returns the module's `vsn` attribute: the value of `-vsn`, or the one that the compiler generated.
    ///
    /// # Errors
    /// As for [`Beam::attributes`].
    pub fn vsn(&self) -> Result<Vec<Term>, BeamError> {
        Ok(self.attributes()?.remove("vsn").unwrap_or_default())
    }

    /// Returns the MD5 digest that identifies the module's code, as `beam_lib:md5/1` does.
    ///
    /// # Errors
    /// Fails if a required chunk is missing.
    pub fn md5(&self) -> Result<[u8; 16], BeamError> {
        for name in ["Code", "ExpT", "ImpT", "StrT"] {
            self.required_chunk(name)?;
        }
        let funs = self.chunk(b"FunT").map(without_old_uniq);
        let part = |name: &&[u8; 4]| match **name == *b"FunT" {
            true => funs.as_deref(),
            false => self.chunk(name),
        };
        Ok(md5::md5(MD5_CHUNKS.iter().filter_map(part)))
    }

    fn required_chunk(&self, name: &'static str) -> Result<&[u8], BeamError> {
        let id = name.as_bytes().first_chunk().expect("names of chunks have four letters");
        self.chunk(id).ok_or(BeamError::Missing(name))
    }

    fn table_rows(&self, name: &'static str) -> Result<impl Iterator<Item = [u32; 3]>, BeamError> {
        let bytes = self.required_chunk(name)?.get(4..).ok_or_else(|| unreadable(name))?;
        let (rows, []) = bytes.as_chunks::<12>() else { return Err(unreadable(name)) };
        if rows.len() > MOST_FUNCTIONS {
            return Err(unreadable(name));
        }
        let number = |row: &[u8; 12], at: usize| u32::from_be_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        Ok(rows.iter().map(move |row| [number(row, 0), number(row, 4), number(row, 8)]))
    }
}

fn unreadable(name: &'static str) -> BeamError {
    BeamError::Unreadable(name)
}

fn atom_name(atoms: &[Cow<'_, str>], number: u32) -> Option<String> {
    Some(atoms.get((number as usize).checked_sub(1)?)?.clone().into_owned())
}

fn checked_arity(number: u32) -> Option<u32> {
    (number <= MOST_ARGUMENTS).then_some(number)
}

/// Splits the first name off an atom table. From OTP 28 on, the atom count is negative, and the length of a name is
/// encoded like an argument of a BEAM instruction.
pub(super) fn split_name(bytes: &[u8], is_new: bool) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match (is_new, bytes) {
        (false, [length, rest @ ..]) => (usize::from(*length), rest),
        (true, [tag, rest @ ..]) if tag & 0b1000 == 0 => (usize::from(tag >> 4), rest),
        (true, [tag, low, rest @ ..]) if tag & 0b1_0000 == 0 => (usize::from(tag >> 5) << 8 | usize::from(*low), rest),
        (_, _) => return None,
    };
    rest.split_at_checked(length)
}

/// Returns the function table with the last word of each row (`OldUniq`, which the compiler derives from the source)
/// set to zero.
fn without_old_uniq(table: &[u8]) -> Vec<u8> {
    let mut table = table.to_vec();
    if let Some(rows) = table.get_mut(4..) {
        rows.chunks_exact_mut(24).for_each(|row| row[20..].fill(0));
    }
    table
}
