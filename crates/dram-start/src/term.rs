//! Erlang terms as nodes send them to each other: the external term format, written and read.
//!
//! Reading is total and bounded: the bytes come from another program. What only that program can understand (processes,
//! references, functions) is kept as its bytes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bytes::Bytes;

/// Terms inside terms, at most.
const DEPTH: usize = 500;
/// Terms in one message, at most.
const MOST: usize = 4_000_000;

/// A term.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A number of at most 64 bits.
    Int(i64),
    /// An atom.
    Atom(String),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A list that ends as lists should.
    List(Vec<Term>),
    /// A list of bytes, which is how text often comes.
    Text(Bytes),
    /// Whole bytes.
    Binary(Bytes),
    /// Keys and values.
    Map(Vec<(Term, Term)>),
    /// A list with something else at its end.
    Improper(Vec<Term>, alloc::boxed::Box<Term>),
    /// Anything else, as its bytes.
    Opaque(Bytes),
}

/// The bytes are not a term, or a larger one than is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Term {
    /// An atom.
    #[must_use]
    pub fn atom(name: &str) -> Self {
        Self::Atom(name.to_string())
    }

    /// A binary.
    #[must_use]
    pub fn binary(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }

    /// A process, as the node that made it writes it.
    #[must_use]
    pub fn pid(node: &str, id: u32, creation: u32) -> Self {
        let mut bytes = alloc::vec![88];
        write_atom(node, &mut bytes);
        for number in [id, 0, creation] {
            bytes.extend(number.to_be_bytes());
        }
        Self::Opaque(bytes)
    }

    /// Whether this is the atom `name`.
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

    /// Appends the term, without the version byte.
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

    /// Reads a term with its version byte and returns what follows it.
    ///
    /// # Errors
    /// The bytes are not a term, or one that is too large.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader { rest: bytes, left: MOST };
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

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<usize, Malformed> {
        let two = self.take(2)?;
        Ok(usize::from(u16::from_be_bytes([two[0], two[1]])))
    }

    fn long(&mut self) -> Result<usize, Malformed> {
        let four = self.take(4)?;
        usize::try_from(u32::from_be_bytes([four[0], four[1], four[2], four[3]])).map_err(|_| Malformed)
    }

    /// So many terms. Each has at least one byte, so a count that cannot be true is refused before memory is taken.
    fn terms(&mut self, count: usize, depth: usize) -> Result<Vec<Term>, Malformed> {
        if count > self.rest.len() || count > self.left {
            return Err(Malformed);
        }
        (0..count).map(|_| self.term(depth + 1)).collect()
    }

    fn term(&mut self, depth: usize) -> Result<Term, Malformed> {
        self.left = self.left.checked_sub(1).ok_or(Malformed)?;
        if depth > DEPTH {
            return Err(Malformed);
        }
        let start = self.rest;
        let term = match self.byte()? {
            97 => Term::Int(i64::from(self.byte()?)),
            98 => {
                let four = self.take(4)?;
                Term::Int(i64::from(i32::from_be_bytes([four[0], four[1], four[2], four[3]])))
            }
            110 => {
                let length = usize::from(self.byte()?);
                let negative = self.byte()? != 0;
                match small(self.take(length)?, negative) {
                    Some(number) => Term::Int(number),
                    None => self.kept(start),
                }
            }
            100 => {
                let length = self.short()?;
                Term::Atom(latin1(self.take(length)?))
            }
            115 => {
                let length = usize::from(self.byte()?);
                Term::Atom(latin1(self.take(length)?))
            }
            118 => {
                let length = self.short()?;
                self.utf8_atom(length)?
            }
            119 => {
                let length = usize::from(self.byte()?);
                self.utf8_atom(length)?
            }
            104 => {
                let arity = usize::from(self.byte()?);
                Term::Tuple(self.terms(arity, depth)?)
            }
            105 => {
                let arity = self.long()?;
                Term::Tuple(self.terms(arity, depth)?)
            }
            106 => Term::List(Vec::new()),
            107 => {
                let length = self.short()?;
                Term::Text(self.take(length)?.to_vec())
            }
            108 => {
                let length = self.long()?;
                let items = self.terms(length, depth)?;
                match self.term(depth + 1)? {
                    Term::List(end) if end.is_empty() => Term::List(items),
                    tail => Term::Improper(items, tail.into()),
                }
            }
            109 => {
                let length = self.long()?;
                Term::Binary(self.take(length)?.to_vec())
            }
            116 => {
                let size = self.long()?;
                if size > self.rest.len() / 2 {
                    return Err(Malformed);
                }
                let mut pairs = Vec::with_capacity(size);
                for _ in 0..size {
                    pairs.push((self.term(depth + 1)?, self.term(depth + 1)?));
                }
                Term::Map(pairs)
            }
            tag => {
                self.skip(tag, depth)?;
                self.kept(start)
            }
        };
        Ok(term)
    }

    /// What was read since `start`, as it was.
    fn kept(&self, start: &[u8]) -> Term {
        Term::Opaque(start[..start.len() - self.rest.len()].to_vec())
    }

    fn utf8_atom(&mut self, length: usize) -> Result<Term, Malformed> {
        let name = core::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?;
        Ok(Term::Atom(name.to_string()))
    }

    /// Passes over what is kept as bytes.
    fn skip(&mut self, tag: u8, depth: usize) -> Result<(), Malformed> {
        let node_and = |reader: &mut Self, count: usize| {
            reader.term(depth + 1)?;
            reader.take(count).map(|_| ())
        };
        match tag {
            // Floats.
            70 => self.take(8).map(|_| ()),
            99 => self.take(31).map(|_| ()),
            // Large numbers, and bits.
            111 | 77 => {
                let length = self.long()?;
                self.take(length + 1).map(|_| ())
            }
            // Processes, ports and references, old and new.
            103 => node_and(self, 9),
            88 => node_and(self, 12),
            102 => node_and(self, 5),
            89 => node_and(self, 8),
            120 => node_and(self, 12),
            101 => node_and(self, 5),
            114 => {
                let length = self.short()?;
                node_and(self, 1 + 4 * length)
            }
            90 => {
                let length = self.short()?;
                node_and(self, 4 + 4 * length)
            }
            // Functions: the length counts itself.
            112 => {
                let length = self.long()?.checked_sub(4).ok_or(Malformed)?;
                self.take(length).map(|_| ())
            }
            113 => (0..3).try_for_each(|_| self.term(depth + 1).map(|_| ())),
            _ => Err(Malformed),
        }
    }
}

fn small(bytes: &[u8], negative: bool) -> Option<i64> {
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let number = i64::try_from(u64::from_le_bytes(wide)).ok()?;
    Some(if negative { -number } else { number })
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A short description for messages: not Erlang's notation of every term.
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
    fn what_is_written_is_read() {
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
    fn what_cannot_be_true_is_refused_at_once() {
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
    fn no_cut_or_changed_message_is_more_than_malformed() {
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
