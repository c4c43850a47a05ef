//! What a module says about itself: what it exports and imports, its attributes, and its identity.
//!
//! The answers are those of `beam_lib`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Beam, BeamError, md5};
use crate::etf::{self, EtfError, EtfKind};
use crate::term::Term;

/// What identifies a module, in the order in which it is digested.
const IDENTITY: [&[u8; 4]; 9] = [b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta"];

/// The most atoms that an emulator has room for, unless it is told otherwise; further ones have no number.
const MOST_ATOMS: usize = 1 << 20;
/// The most rows of a table of functions.
const MOST_FUNCTIONS: usize = 1 << 18;
/// The most arguments of a function.
const MOST_ARGUMENTS: u32 = 255;

/// A function of a module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// How many arguments it takes.
    pub arity: u32,
}

/// A function of another module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Import {
    /// The module.
    pub module: String,
    /// The function's name.
    pub name: String,
    /// How many arguments it takes.
    pub arity: u32,
}

impl<'a> Beam<'a> {
    /// All atoms of the module, its name first.
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

    /// The functions that it exports, sorted.
    ///
    /// # Errors
    /// When there is no such table, or it cannot be read.
    pub fn exports(&self) -> Result<BTreeSet<Function>, BeamError> {
        let atoms = self.atom_table()?;
        let row =
            |[name, number, _label]: [u32; 3]| Some(Function { name: atom(&atoms, name)?, arity: arity(number)? });
        self.rows("ExpT")?.map(row).collect::<Option<_>>().ok_or(unreadable("ExpT"))
    }

    /// The functions of other modules that it calls, sorted.
    ///
    /// # Errors
    /// When there is no such table, or it cannot be read.
    pub fn imports(&self) -> Result<BTreeSet<Import>, BeamError> {
        let atoms = self.atom_table()?;
        let row = |[module, name, number]: [u32; 3]| {
            Some(Import { module: atom(&atoms, module)?, name: atom(&atoms, name)?, arity: arity(number)? })
        };
        self.rows("ImpT")?.map(row).collect::<Option<_>>().ok_or(unreadable("ImpT"))
    }

    /// Its attributes, each with all its values; none where that chunk is not there. One with a value that has no place
    /// in a [`Term`], such as a function, is left out.
    ///
    /// # Errors
    /// When they are no list of pairs of a name and a list.
    pub fn attributes(&self) -> Result<BTreeMap<String, Vec<Term>>, BeamError> {
        let mut all: BTreeMap<String, Vec<Term>> = BTreeMap::new();
        let Some(bytes) = self.chunk(b"Attr") else { return Ok(all) };
        let plain = etf::plain(bytes).map_err(|_| unreadable("Attr"))?;
        for element in etf::elements(&plain).map_err(|_| unreadable("Attr"))? {
            let pair = match etf::decode_plain(element) {
                Ok(pair) => pair,
                Err(EtfError { kind: EtfKind::NoValue(_), .. }) => continue,
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

    /// The behaviours that it says it has, in its own order.
    ///
    /// # Errors
    /// As [`Beam::attributes`].
    pub fn behaviours(&self) -> Result<Vec<String>, BeamError> {
        let attributes = self.attributes()?;
        let values = ["behaviour", "behavior"].iter().filter_map(|name| attributes.get(*name)).flatten();
        Ok(values.filter_map(|value| value.as_atom().map(str::to_owned)).collect())
    }

    /// Its versions: what `-vsn` says, or what the compiler put there.
    ///
    /// # Errors
    /// As [`Beam::attributes`].
    pub fn vsn(&self) -> Result<Vec<Term>, BeamError> {
        Ok(self.attributes()?.remove("vsn").unwrap_or_default())
    }

    /// Its identity: two modules with the same one do the same.
    ///
    /// # Errors
    /// When a chunk that every module has is not there.
    pub fn md5(&self) -> Result<[u8; 16], BeamError> {
        for name in ["Code", "ExpT", "ImpT", "StrT"] {
            self.table(name)?;
        }
        let funs = self.chunk(b"FunT").map(without_old_identity);
        let part = |name: &&[u8; 4]| match **name == *b"FunT" {
            true => funs.as_deref(),
            false => self.chunk(name),
        };
        Ok(md5::md5(IDENTITY.iter().filter_map(part)))
    }

    fn table(&self, name: &'static str) -> Result<&[u8], BeamError> {
        let id = name.as_bytes().first_chunk().expect("names of chunks have four letters");
        self.chunk(id).ok_or(BeamError::Missing(name))
    }

    fn rows(&self, name: &'static str) -> Result<impl Iterator<Item = [u32; 3]>, BeamError> {
        let bytes = self.table(name)?.get(4..).ok_or_else(|| unreadable(name))?;
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

fn atom(atoms: &[Cow<'_, str>], number: u32) -> Option<String> {
    Some(atoms.get((number as usize).checked_sub(1)?)?.clone().into_owned())
}

fn arity(number: u32) -> Option<u32> {
    (number <= MOST_ARGUMENTS).then_some(number)
}

/// The first name of a table, and what follows it. From OTP 28 on, where the count is negative, the length of a name
/// is written as code writes its arguments.
pub(super) fn split_name(bytes: &[u8], is_new: bool) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match (is_new, bytes) {
        (false, [length, rest @ ..]) => (usize::from(*length), rest),
        (true, [tag, rest @ ..]) if tag & 0b1000 == 0 => (usize::from(tag >> 4), rest),
        (true, [tag, low, rest @ ..]) if tag & 0b1_0000 == 0 => (usize::from(tag >> 5) << 8 | usize::from(*low), rest),
        (_, _) => return None,
    };
    rest.split_at_checked(length)
}

/// The table of functions without what the compiler made of its own sources' text: the last word of each row.
fn without_old_identity(table: &[u8]) -> Vec<u8> {
    let mut table = table.to_vec();
    if let Some(rows) = table.get_mut(4..) {
        rows.chunks_exact_mut(24).for_each(|row| row[20..].fill(0));
    }
    table
}
