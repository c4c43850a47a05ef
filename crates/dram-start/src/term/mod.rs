//! Erlang terms in the external term format, as nodes exchange them.
//!
//! Decoding never panics and is bounded, as the bytes come from another program. Terms that have a meaning only for the
//! node that made them (pids, references, functions) are kept as their bytes.

mod read;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::byte_string::ByteString;

/// A term.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeTerm {
    /// An integer of at most 64 bits.
    Integer(i64),
    /// An atom.
    Atom(String),
    /// A tuple.
    Tuple(Vec<NodeTerm>),
    /// A proper list.
    List(Vec<NodeTerm>),
    /// A list of bytes (`STRING_EXT`), the usual form of text.
    ByteList(ByteString),
    /// A binary.
    Binary(ByteString),
    /// A map.
    Map(Vec<(NodeTerm, NodeTerm)>),
    /// An improper list: its items and its tail.
    Improper(Vec<NodeTerm>, alloc::boxed::Box<NodeTerm>),
    /// Any other term, as its bytes.
    Opaque(ByteString),
}

/// The error for bytes that are not a term, or one that exceeds the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedTerm;

impl NodeTerm {
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
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn tuple(&self) -> Option<&[NodeTerm]> {
        match self {
            Self::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The bytes of a binary or of a list of bytes.
    #[must_use]
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(bytes) | Self::ByteList(bytes) => Some(bytes),
            Self::List(items) if items.is_empty() => Some(&[]),
            _ => None,
        }
    }

    /// Appends the encoded term, without the version byte.
    pub fn write(&self, to: &mut ByteString) {
        match self {
            Self::Integer(number) => write_int(*number, to),
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
            Self::ByteList(bytes) if bytes.is_empty() => to.push(106),
            Self::ByteList(bytes) => match u16::try_from(bytes.len()) {
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
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), MalformedTerm> {
        let mut reader = read::NodeTermReader::new(bytes);
        if reader.byte()? != 131 {
            return Err(MalformedTerm);
        }
        let term = reader.term(0)?;
        Ok((term, reader.rest))
    }
}

fn write_head(tag: u8, length: usize, to: &mut ByteString) {
    to.push(tag);
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn write_int(number: i64, to: &mut ByteString) {
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

fn write_atom(name: &str, to: &mut ByteString) {
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
pub fn short_text(term: &NodeTerm) -> String {
    match term {
        NodeTerm::Integer(number) => format!("{number}"),
        NodeTerm::Atom(name) => name.clone(),
        NodeTerm::Binary(bytes) | NodeTerm::ByteList(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        NodeTerm::Tuple(items) => format!("{{{}}}", items.iter().map(short_text).collect::<Vec<_>>().join(",")),
        NodeTerm::List(items) | NodeTerm::Improper(items, _) => {
            format!("[{}]", items.iter().map(short_text).collect::<Vec<_>>().join(","))
        }
        NodeTerm::Map(_) => "#{…}".to_string(),
        NodeTerm::Opaque(_) => "…".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn again(term: &NodeTerm) -> NodeTerm {
        let mut bytes = vec![131];
        term.write(&mut bytes);
        let (found, rest) = NodeTerm::read(&bytes).unwrap();
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn an_encoded_term_is_decoded_unchanged() {
        let terms = [
            NodeTerm::Integer(0),
            NodeTerm::Integer(-1),
            NodeTerm::Integer(1 << 40),
            NodeTerm::Integer(-(1 << 40)),
            NodeTerm::atom("Elixir.Code"),
            NodeTerm::Tuple(vec![
                NodeTerm::List(vec![]),
                NodeTerm::ByteList(b"abc".to_vec()),
                NodeTerm::binary(b"\x00\xff"),
            ]),
            NodeTerm::List(vec![NodeTerm::Integer(1), NodeTerm::List(vec![NodeTerm::atom("x")])]),
            NodeTerm::Improper(vec![NodeTerm::Integer(1)], NodeTerm::Integer(2).into()),
            NodeTerm::Map(vec![(NodeTerm::atom("k"), NodeTerm::Integer(300))]),
            NodeTerm::pid("a@b", 1, 2),
            NodeTerm::Tuple(vec![NodeTerm::Integer(7); 300]),
        ];
        for term in terms {
            assert_eq!(again(&term), term);
        }
    }

    #[test]
    fn impossible_lengths_and_deep_nesting_are_malformed() {
        assert_eq!(NodeTerm::read(b""), Err(MalformedTerm));
        assert_eq!(NodeTerm::read(&[130, 106]), Err(MalformedTerm));
        assert_eq!(NodeTerm::read(&[131, 108, 0xff, 0xff, 0xff, 0xff, 106]), Err(MalformedTerm));
        assert_eq!(NodeTerm::read(&[131, 116, 0xff, 0xff, 0xff, 0xff]), Err(MalformedTerm));
        assert_eq!(NodeTerm::read(&[131, 109, 0, 0, 0, 9, 1]), Err(MalformedTerm));
        assert_eq!(NodeTerm::read(&[131, 112, 0, 0, 0, 1]), Err(MalformedTerm));
        let mut deep = vec![131];
        for _ in 0..100_000 {
            deep.extend([104, 1]);
        }
        assert_eq!(NodeTerm::read(&deep), Err(MalformedTerm));
    }

    #[test]
    fn truncated_terms_are_malformed_and_corrupted_ones_never_panic() {
        let mut bytes = vec![131];
        let list = NodeTerm::List(vec![
            NodeTerm::pid("n@h", 5, 6),
            NodeTerm::Map(vec![(NodeTerm::Integer(1), NodeTerm::binary(b"b"))]),
        ]);
        NodeTerm::Tuple(vec![NodeTerm::atom("io_request"), list, NodeTerm::ByteList(b"t".to_vec())]).write(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(NodeTerm::read(&bytes[..end]), Err(MalformedTerm));
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = NodeTerm::read(&changed);
            }
        }
    }
}
