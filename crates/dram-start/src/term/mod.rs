//! Erlang terms in the external term format, as nodes exchange them.
//!
//! Decoding never panics and is bounded, as the bytes come from another program. Terms that have a meaning only for the
//! node that made them (pids, references, functions) are kept as their bytes.

mod read;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bytes::Bytes;

/// A term.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// An integer of at most 64 bits.
    Int(i64),
    /// An atom.
    Atom(String),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A proper list.
    List(Vec<Term>),
    /// A list of bytes (`STRING_EXT`), the usual form of text.
    Text(Bytes),
    /// A binary.
    Binary(Bytes),
    /// A map.
    Map(Vec<(Term, Term)>),
    /// An improper list: its items and its tail.
    Improper(Vec<Term>, alloc::boxed::Box<Term>),
    /// Any other term, as its bytes.
    Opaque(Bytes),
}

/// The error for bytes that are not a term, or one that exceeds the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Term {
    /// Makes an atom.
    #[must_use]
    pub fn atom(name: &str) -> Self {
        Self::Atom(name.to_string())
    }

    /// Makes a binary.
    #[must_use]
    pub fn binary(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }

    /// Makes a pid, as the node that owns it encodes it.
    #[must_use]
    pub fn pid(node: &str, id: u32, creation: u32) -> Self {
        let mut bytes = alloc::vec![88];
        write_atom(node, &mut bytes);
        for number in [id, 0, creation] {
            bytes.extend(number.to_be_bytes());
        }
        Self::Opaque(bytes)
    }

    /// Returns true if this is the atom `name`.
    #[must_use]
    pub fn is_atom(&self, name: &str) -> bool {
        matches!(self, Self::Atom(own) if own == name)
    }

    /// The elements of a tuple.
    #[must_use]
    pub fn tuple(&self) -> Option<&[Term]> {
        match self {
            Self::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The bytes of a binary or of a list of bytes.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(bytes) | Self::Text(bytes) => Some(bytes),
            Self::List(items) if items.is_empty() => Some(&[]),
            _ => None,
        }
    }

    /// Appends the encoded term, without the version byte.
    pub fn write(&self, to: &mut Bytes) {
        match self {
            Self::Int(number) => write_int(*number, to),
            Self::Atom(name) => write_atom(name, to),
            Self::Tuple(elements) => {
                match u8::try_from(elements.len()) {
                    Ok(arity) => to.extend([104, arity]),
                    Err(_) => write_head(105, elements.len(), to),
                }
                elements.iter().for_each(|element| element.write(to));
            }
            Self::List(items) if items.is_empty() => to.push(106),
            Self::List(items) => {
                write_head(108, items.len(), to);
                items.iter().for_each(|item| item.write(to));
                to.push(106);
            }
            Self::Improper(items, tail) => {
                write_head(108, items.len(), to);
                items.iter().for_each(|item| item.write(to));
                tail.write(to);
            }
            Self::Text(bytes) if bytes.is_empty() => to.push(106),
            Self::Text(bytes) => match u16::try_from(bytes.len()) {
                Ok(length) => {
                    to.push(107);
                    to.extend(length.to_be_bytes());
                    to.extend_from_slice(bytes);
                }
                Err(_) => {
                    write_head(108, bytes.len(), to);
                    bytes.iter().for_each(|byte| to.extend([97, *byte]));
                    to.push(106);
                }
            },
            Self::Binary(bytes) => {
                write_head(109, bytes.len(), to);
                to.extend_from_slice(bytes);
            }
            Self::Map(pairs) => {
                write_head(116, pairs.len(), to);
                for (key, value) in pairs {
                    key.write(to);
                    value.write(to);
                }
            }
            Self::Opaque(bytes) => to.extend_from_slice(bytes),
        }
    }

    /// Decodes a term with its version byte. Returns it and the remaining bytes.
    ///
    /// # Errors
    /// Fails if the bytes are not a term, or one that exceeds the limits.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = read::Reader::new(bytes);
        if reader.byte()? != 131 {
            return Err(Malformed);
        }
        let term = reader.term(0)?;
        Ok((term, reader.rest))
    }
}

fn write_head(tag: u8, length: usize, to: &mut Bytes) {
    to.push(tag);
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn write_int(number: i64, to: &mut Bytes) {
    if let Ok(small) = u8::try_from(number) {
        to.extend([97, small]);
    } else if let Ok(medium) = i32::try_from(number) {
        to.push(98);
        to.extend(medium.to_be_bytes());
    } else {
        to.extend([110, 8, u8::from(number < 0)]);
        to.extend(number.unsigned_abs().to_le_bytes());
    }
}

fn write_atom(name: &str, to: &mut Bytes) {
    match u8::try_from(name.len()) {
        Ok(length) => to.extend([119, length]),
        Err(_) => {
            to.push(118);
            to.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    to.extend_from_slice(name.as_bytes());
}

/// A short description for messages; only some terms are in Erlang's notation.
#[must_use]
pub fn brief(term: &Term) -> String {
    match term {
        Term::Int(number) => format!("{number}"),
        Term::Atom(name) => name.clone(),
        Term::Binary(bytes) | Term::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Term::Tuple(items) => format!("{{{}}}", items.iter().map(brief).collect::<Vec<_>>().join(",")),
        Term::List(items) | Term::Improper(items, _) => {
            format!("[{}]", items.iter().map(brief).collect::<Vec<_>>().join(","))
        }
        Term::Map(_) => "#{…}".to_string(),
        Term::Opaque(_) => "…".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn again(term: &Term) -> Term {
        let mut bytes = vec![131];
        term.write(&mut bytes);
        let (found, rest) = Term::read(&bytes).unwrap();
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn an_encoded_term_is_decoded_unchanged() {
        let terms = [
            Term::Int(0),
            Term::Int(-1),
            Term::Int(1 << 40),
            Term::Int(-(1 << 40)),
            Term::atom("Elixir.Code"),
            Term::Tuple(vec![Term::List(vec![]), Term::Text(b"abc".to_vec()), Term::binary(b"\x00\xff")]),
            Term::List(vec![Term::Int(1), Term::List(vec![Term::atom("x")])]),
            Term::Improper(vec![Term::Int(1)], Term::Int(2).into()),
            Term::Map(vec![(Term::atom("k"), Term::Int(300))]),
            Term::pid("a@b", 1, 2),
            Term::Tuple(vec![Term::Int(7); 300]),
        ];
        for term in terms {
            assert_eq!(again(&term), term);
        }
    }

    #[test]
    fn impossible_lengths_and_deep_nesting_are_malformed() {
        assert_eq!(Term::read(b""), Err(Malformed));
        assert_eq!(Term::read(&[130, 106]), Err(Malformed));
        assert_eq!(Term::read(&[131, 108, 0xff, 0xff, 0xff, 0xff, 106]), Err(Malformed));
        assert_eq!(Term::read(&[131, 116, 0xff, 0xff, 0xff, 0xff]), Err(Malformed));
        assert_eq!(Term::read(&[131, 109, 0, 0, 0, 9, 1]), Err(Malformed));
        assert_eq!(Term::read(&[131, 112, 0, 0, 0, 1]), Err(Malformed));
        let mut deep = vec![131];
        for _ in 0..100_000 {
            deep.extend([104, 1]);
        }
        assert_eq!(Term::read(&deep), Err(Malformed));
    }

    #[test]
    fn truncated_terms_are_malformed_and_corrupted_ones_never_panic() {
        let mut bytes = vec![131];
        let list = Term::List(vec![Term::pid("n@h", 5, 6), Term::Map(vec![(Term::Int(1), Term::binary(b"b"))])]);
        Term::Tuple(vec![Term::atom("io_request"), list, Term::Text(b"t".to_vec())]).write(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(Term::read(&bytes[..end]), Err(Malformed));
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Term::read(&changed);
            }
        }
    }
}
