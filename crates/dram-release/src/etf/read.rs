//! Decoding of terms, and skipping over terms without decoding them.

use std::borrow::Cow;

use super::{EtfError, EtfErrorKind, MAX_INTEGER_BYTES, decode_payload, encode_length, payload};
use crate::bigint;
use crate::term::{DEEPEST, MOST_TERMS, Term};

/// Returns the encoded elements of the proper list in `plain`.
pub(crate) fn list_elements(plain: &[u8]) -> Result<Vec<&[u8]>, EtfError> {
    let mut reader = EtfReader::new(plain);
    let mut elements = Vec::new();
    match reader.u8()? {
        106 => {}
        107 => {
            reader.u16()?;
            return reader.fail(EtfErrorKind::Value("numbers where pairs should be"));
        }
        108 => {
            for _ in 0..reader.read_count()? {
                let from = reader.at;
                reader.skip_term()?;
                elements.push(&plain[from..reader.at]);
            }
            if reader.u8()? != 106 {
                return reader.fail(EtfErrorKind::Value("a list with another end than `[]`"));
            }
        }
        _ => return reader.fail(EtfErrorKind::Value("a term that is no list")),
    }
    reader.expect_end()?;
    Ok(elements)
}

/// Returns the encoded list in `bytes` without the tuples whose first element is the atom `tag`. All other bytes are
/// unchanged; if no tuple matches, the list is returned as it is.
///
/// # Errors
/// Fails if `bytes` is not a list.
pub(crate) fn remove_tagged_tuples<'a>(bytes: &'a [u8], tag: &str) -> Result<Cow<'a, [u8]>, EtfError> {
    let plain = payload(bytes)?;
    let all = list_elements(&plain)?;
    let has_tag = |element: &[u8]| match element {
        [104, count, rest @ ..] if *count > 0 => {
            let mut reader = EtfReader::new(rest);
            reader
                .skip_term()
                .is_ok_and(|()| decode_payload(&rest[..reader.at]).is_ok_and(|first| first.as_atom() == Some(tag)))
        }
        _ => false,
    };
    let kept: Vec<_> = all.iter().filter(|element| !has_tag(element)).collect();
    if kept.len() == all.len() {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = vec![131];
    if !kept.is_empty() {
        out.push(108);
        out.extend(encode_length(kept.len()));
        kept.into_iter().for_each(|element| out.extend(*element));
    }
    out.push(106);
    Ok(Cow::Owned(out))
}

/// A reader over encoded terms.
pub(super) struct EtfReader<'a> {
    bytes: &'a [u8],
    at: usize,
    terms_left: usize,
}

impl<'a> EtfReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        EtfReader { bytes, at: 0, terms_left: MOST_TERMS }
    }

    fn fail<T>(&self, kind: EtfErrorKind) -> Result<T, EtfError> {
        Err(EtfError { at: self.at + 1, kind })
    }

    pub(super) fn expect_end(&self) -> Result<(), EtfError> {
        if self.at == self.bytes.len() { Ok(()) } else { self.fail(EtfErrorKind::TrailingData) }
    }

    /// Skips one term without decoding it. It is iterative, so that the nesting depth is not limited by the stack.
    fn skip_term(&mut self) -> Result<(), EtfError> {
        let mut terms = 1_usize;
        while terms > 0 {
            terms -= 1;
            let tag = self.u8()?;
            let bytes = match tag {
                97 => 1,
                98 => 4,
                70 => 8,
                99 => 31,
                106 => 0,
                100 | 107 | 118 => self.u16()?,
                115 | 119 => self.u8()?,
                109 => self.u32()?,
                77 | 111 => self.u32()?.saturating_add(1),
                110 => self.u8()? + 1,
                112 => self.u32()?.saturating_sub(4),
                104 | 105 | 108 | 113 | 116 => {
                    let below = match tag {
                        104 => self.u8()?,
                        113 => 3,
                        108 => self.read_count()? + 1,
                        116 => self.read_count()? * 2,
                        _ => self.read_count()?,
                    };
                    terms += below;
                    0
                }
                other => return self.fail(EtfErrorKind::UnsupportedType(other)),
            };
            self.take_bytes(bytes)?;
        }
        Ok(())
    }

    fn take_bytes(&mut self, count: usize) -> Result<&'a [u8], EtfError> {
        match self.bytes[self.at..].get(..count) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => self.fail(EtfErrorKind::Truncated),
        }
    }

    fn u8(&mut self) -> Result<usize, EtfError> {
        Ok(usize::from(self.take_bytes(1)?[0]))
    }

    fn u16(&mut self) -> Result<usize, EtfError> {
        let bytes = self.take_bytes(2)?;
        Ok(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }

    fn u32(&mut self) -> Result<usize, EtfError> {
        Ok(self.u16()? << 16 | self.u16()?)
    }

    /// Reads the number of elements. Each element takes at least one byte, so a wrong count is detected before memory
    /// is allocated.
    fn read_count(&mut self) -> Result<usize, EtfError> {
        let count = self.u32()?;
        if count > self.bytes.len() - self.at { self.fail(EtfErrorKind::InvalidCount) } else { Ok(count) }
    }

    // This function is recursive and should use little stack, so everything that does not recurse is in other
    // functions.
    pub(super) fn read_term(&mut self, depth: usize) -> Result<Term, EtfError> {
        self.enter(depth)?;
        match self.u8()? {
            104 => {
                let count = self.u8()?;
                Ok(Term::Tuple(self.read_terms(count, depth)?))
            }
            105 => {
                let count = self.read_count()?;
                Ok(Term::Tuple(self.read_terms(count, depth)?))
            }
            108 => self.read_list(depth),
            116 => self.read_map(depth),
            tag => self.read_scalar(tag),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), EtfError> {
        if depth > DEEPEST {
            return self.fail(EtfErrorKind::TooDeep);
        }
        self.count_terms(1)
    }

    /// Counts terms before they are created.
    fn count_terms(&mut self, terms: usize) -> Result<(), EtfError> {
        match self.terms_left.checked_sub(terms) {
            Some(left) => {
                self.terms_left = left;
                Ok(())
            }
            None => self.fail(EtfErrorKind::TooManyTerms),
        }
    }

    fn read_terms(&mut self, count: usize, depth: usize) -> Result<Vec<Term>, EtfError> {
        let mut terms = Vec::new();
        for _ in 0..count {
            terms.push(self.read_term(depth + 1)?);
        }
        Ok(terms)
    }

    fn read_list(&mut self, depth: usize) -> Result<Term, EtfError> {
        let count = self.read_count()?;
        let elements = self.read_terms(count, depth)?;
        Ok(Term::with_tail(elements, self.read_term(depth + 1)?))
    }

    fn read_map(&mut self, depth: usize) -> Result<Term, EtfError> {
        let mut pairs = Vec::new();
        for _ in 0..self.read_count()? {
            let key = self.read_term(depth + 1)?;
            pairs.push((key, self.read_term(depth + 1)?));
        }
        Ok(Term::Map(pairs))
    }

    /// Decodes a term that contains no other terms.
    fn read_scalar(&mut self, tag: usize) -> Result<Term, EtfError> {
        Ok(match tag {
            97 => Term::Int(i64::try_from(self.u8()?).unwrap_or(0)),
            98 => {
                let bytes = self.take_bytes(4)?;
                Term::Int(i64::from(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
            }
            70 => {
                let bytes = self.take_bytes(8)?;
                let value = f64::from_be_bytes(bytes.try_into().expect("eight were taken"));
                if !value.is_finite() {
                    return self.fail(EtfErrorKind::Value("a float that is no number"));
                }
                Term::Float(value)
            }
            100 | 115 => {
                let count = if tag == 100 { self.u16()? } else { self.u8()? };
                Term::Atom(self.take_bytes(count)?.iter().map(|&byte| char::from(byte)).collect())
            }
            118 | 119 => {
                let count = if tag == 118 { self.u16()? } else { self.u8()? };
                match std::str::from_utf8(self.take_bytes(count)?) {
                    Ok(name) => Term::Atom(name.to_owned()),
                    Err(_) => return self.fail(EtfErrorKind::Value("an atom that is not UTF-8")),
                }
            }
            106 => Term::List(Vec::new()),
            107 => {
                let count = self.u16()?;
                let bytes = self.take_bytes(count)?;
                self.count_terms(count)?;
                Term::List(bytes.iter().map(|&byte| Term::Int(i64::from(byte))).collect())
            }
            109 => {
                let count = self.u32()?;
                Term::Binary(self.take_bytes(count)?.to_vec())
            }
            77 => {
                let (count, bits) = (self.u32()?, self.take_bytes(1)?[0]);
                let bytes = self.take_bytes(count)?.to_vec();
                if !(1..=8).contains(&bits) || bytes.is_empty() {
                    return self.fail(EtfErrorKind::Value("a bit string with an impossible number of bits"));
                }
                Term::Bits(bytes, bits)
            }
            110 | 111 => {
                let count = if tag == 110 { self.u8()? } else { self.u32()? };
                let negative = self.u8()? != 0;
                if count > MAX_INTEGER_BYTES {
                    return self.fail(EtfErrorKind::Value("an integer of more than 4096 bytes"));
                }
                bigint::normalize(negative, self.take_bytes(count)?.to_vec())
            }
            other => return self.fail(EtfErrorKind::UnsupportedType(other)),
        })
    }
}
