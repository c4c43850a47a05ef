//! Decodes terms from untrusted bytes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{MalformedTerm, NodeTerm};

/// The deepest nesting of terms.
const MAX_DEPTH: usize = 500;
/// The most terms in one message.
const MAX_TERMS: usize = 4_000_000;
/// The most elements that memory is reserved for before they are decoded.
const MAX_RESERVED: usize = 256;

/// The number of elements to reserve memory for, if the message says that there are `count`. The count is a claim: nested
/// terms could reserve much more memory than the message has bytes.
fn reserved_elements(count: usize) -> usize {
    count.min(MAX_RESERVED)
}

/// A decoder: the remaining bytes and the remaining number of terms.
pub(super) struct NodeTermReader<'a> {
    pub(super) rest: &'a [u8],
    terms_left: usize,
}

impl<'a> NodeTermReader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest, terms_left: MAX_TERMS }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedTerm> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(MalformedTerm)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, MalformedTerm> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<usize, MalformedTerm> {
        let two = self.take(2)?;
        Ok(usize::from(u16::from_be_bytes([two[0], two[1]])))
    }

    fn long(&mut self) -> Result<usize, MalformedTerm> {
        let four = self.take(4)?;
        usize::try_from(u32::from_be_bytes([four[0], four[1], four[2], four[3]])).map_err(|_| MalformedTerm)
    }

    /// Decodes `count` terms. Each has at least one byte, so an impossible count is refused before memory is allocated.
    fn terms(&mut self, count: usize, depth: usize) -> Result<Vec<NodeTerm>, MalformedTerm> {
        if count > self.rest.len() || count > self.terms_left {
            return Err(MalformedTerm);
        }
        let mut terms = Vec::with_capacity(reserved_elements(count));
        for _ in 0..count {
            terms.push(self.term(depth + 1)?);
        }
        Ok(terms)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub(super) fn term(&mut self, depth: usize) -> Result<NodeTerm, MalformedTerm> {
        self.terms_left = self.terms_left.checked_sub(1).ok_or(MalformedTerm)?;
        if depth > MAX_DEPTH {
            return Err(MalformedTerm);
        }
        let start = self.rest;
        let term = match self.byte()? {
            97 => NodeTerm::Integer(i64::from(self.byte()?)),
            98 => {
                let four = self.take(4)?;
                NodeTerm::Integer(i64::from(i32::from_be_bytes([four[0], four[1], four[2], four[3]])))
            }
            110 => {
                let length = usize::from(self.byte()?);
                let negative = self.byte()? != 0;
                match parse_small_integer(self.take(length)?, negative) {
                    Some(number) => NodeTerm::Integer(number),
                    None => self.opaque_since(start),
                }
            }
            100 => {
                let length = self.short()?;
                NodeTerm::Atom(decode_latin1(self.take(length)?))
            }
            115 => {
                let length = usize::from(self.byte()?);
                NodeTerm::Atom(decode_latin1(self.take(length)?))
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
                NodeTerm::Tuple(self.terms(arity, depth)?)
            }
            105 => {
                let arity = self.long()?;
                NodeTerm::Tuple(self.terms(arity, depth)?)
            }
            106 => NodeTerm::List(Vec::new()),
            107 => {
                let length = self.short()?;
                NodeTerm::ByteList(self.take(length)?.to_vec())
            }
            108 => {
                let length = self.long()?;
                let items = self.terms(length, depth)?;
                match self.term(depth + 1)? {
                    NodeTerm::List(end) if end.is_empty() => NodeTerm::List(items),
                    tail => NodeTerm::Improper(items, tail.into()),
                }
            }
            109 => {
                let length = self.long()?;
                NodeTerm::Binary(self.take(length)?.to_vec())
            }
            116 => {
                let size = self.long()?;
                if size > self.rest.len() / 2 || size > self.terms_left / 2 {
                    return Err(MalformedTerm);
                }
                let mut pairs = Vec::with_capacity(reserved_elements(size));
                for _ in 0..size {
                    pairs.push((self.term(depth + 1)?, self.term(depth + 1)?));
                }
                NodeTerm::Map(pairs)
            }
            tag => {
                self.skip(tag, depth)?;
                self.opaque_since(start)
            }
        };
        Ok(term)
    }

    /// The bytes since `start` as an opaque term.
    fn opaque_since(&self, start: &[u8]) -> NodeTerm {
        NodeTerm::Opaque(start[..start.len() - self.rest.len()].to_vec())
    }

    fn utf8_atom(&mut self, length: usize) -> Result<NodeTerm, MalformedTerm> {
        let name = core::str::from_utf8(self.take(length)?).map_err(|_| MalformedTerm)?;
        Ok(NodeTerm::Atom(name.to_string()))
    }

    /// Skips the content of a term that is kept as bytes.
    fn skip(&mut self, tag: u8, depth: usize) -> Result<(), MalformedTerm> {
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
                let length = self.long()?.checked_sub(4).ok_or(MalformedTerm)?;
                self.take(length).map(|_| ())
            }
            113 => (0..3).try_for_each(|_| self.term(depth + 1).map(|_| ())),
            _ => Err(MalformedTerm),
        }
    }
}

fn parse_small_integer(bytes: &[u8], negative: bool) -> Option<i64> {
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let number = i64::try_from(u64::from_le_bytes(wide)).ok()?;
    Some(if negative { -number } else { number })
}

fn decode_latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_sizes_reserve_little_memory() {
        let largest = size_of::<(NodeTerm, NodeTerm)>() * reserved_elements(usize::MAX);
        // As many maps as may be nested stay far below the size of a message.
        assert!(largest * MAX_DEPTH < 16 << 20, "{largest}");
        assert_eq!(reserved_elements(2), 2);
    }

    #[test]
    fn a_map_with_more_terms_than_a_message_may_have_is_refused_before_it_is_decoded() {
        let mut reader = NodeTermReader { rest: &[116, 0, 0, 0, 3, 106, 106, 106, 106, 106, 106], terms_left: 6 };
        assert_eq!(reader.term(0), Err(MalformedTerm));
        assert_eq!(reader.rest.len(), 6, "no key was decoded");
    }
}
