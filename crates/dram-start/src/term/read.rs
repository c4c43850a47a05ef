//! Decodes terms from untrusted bytes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Malformed, Term};

/// The deepest nesting of terms.
const DEPTH: usize = 500;
/// The most terms in one message.
const MOST: usize = 4_000_000;

/// A decoder: the remaining bytes and the remaining number of terms.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest, left: MOST }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
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

    /// Decodes `count` terms. Each has at least one byte, so an impossible count is refused before memory is allocated.
    fn terms(&mut self, count: usize, depth: usize) -> Result<Vec<Term>, Malformed> {
        if count > self.rest.len() || count > self.left {
            return Err(Malformed);
        }
        (0..count).map(|_| self.term(depth + 1)).collect()
    }

    pub(super) fn term(&mut self, depth: usize) -> Result<Term, Malformed> {
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

    /// The bytes since `start` as an opaque term.
    fn kept(&self, start: &[u8]) -> Term {
        Term::Opaque(start[..start.len() - self.rest.len()].to_vec())
    }

    fn utf8_atom(&mut self, length: usize) -> Result<Term, Malformed> {
        let name = core::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?;
        Ok(Term::Atom(name.to_string()))
    }

    /// Skips the content of a term that is kept as bytes.
    fn skip(&mut self, tag: u8, depth: usize) -> Result<(), Malformed> {
        let node_and = |reader: &mut Self, count: usize| {
            reader.term(depth + 1)?;
            reader.take(count).map(|_| ())
        };
        match tag {
            // Floats.
            70 => self.take(8).map(|_| ()),
            99 => self.take(31).map(|_| ()),
            // Large integers and bitstrings.
            111 | 77 => {
                let length = self.long()?;
                self.take(length + 1).map(|_| ())
            }
            // Pids, ports and references, in old and new formats.
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
