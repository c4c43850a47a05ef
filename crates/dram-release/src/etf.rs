//! The external term format: what `term_to_binary/1` writes and `binary_to_term/1` reads.
//!
//! Follows OTP's "External Term Format" in the ERTS user's guide.

use std::io::Read as _;

use crate::bigint;
use crate::term::{DEEPEST, Term};

/// The most terms that one reading may make: memory stays bounded whatever the bytes say.
const MOST_TERMS: usize = 8 << 20;
/// The longest a compressed term may become.
const LONGEST: u64 = 256 << 20;

/// How atoms are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomForm {
    /// Latin-1, up to OTP 25, where the atom allows it.
    Latin1,
    /// UTF-8, from OTP 26.
    Utf8,
}

impl AtomForm {
    /// The form of an OTP release.
    pub fn of_otp(release: u32) -> AtomForm {
        if release >= 26 { AtomForm::Utf8 } else { AtomForm::Latin1 }
    }
}

/// Bytes that are no term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct EtfError {
    /// Where, from 0.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

/// The bytes of `term`, as `term_to_binary/1` writes them.
pub fn encode(term: &Term, atoms: AtomForm) -> Vec<u8> {
    let mut out = vec![131];
    put(&mut out, term, atoms);
    out
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("no term in memory has four billion elements").to_be_bytes()
}

fn put(out: &mut Vec<u8>, term: &Term, atoms: AtomForm) {
    match term {
        Term::Int(value) => put_int(out, *value),
        Term::Big(negative, magnitude) => put_big(out, *negative, magnitude),
        Term::Float(value) => {
            out.push(70);
            out.extend(value.to_be_bytes());
        }
        Term::Atom(name) => put_atom(out, name, atoms),
        Term::Binary(bytes) => {
            out.push(109);
            out.extend(length(bytes.len()));
            out.extend(bytes);
        }
        Term::Bits(bytes, bits) => {
            out.push(77);
            out.extend(length(bytes.len()));
            out.push(*bits);
            out.extend(bytes);
        }
        Term::List(elements) if elements.is_empty() => out.push(106),
        Term::List(elements) => match as_bytes(elements) {
            Some(bytes) => {
                out.push(107);
                out.extend(u16::try_from(bytes.len()).expect("it was looked at").to_be_bytes());
                out.extend(bytes);
            }
            None => {
                out.push(108);
                out.extend(length(elements.len()));
                elements.iter().for_each(|element| put(out, element, atoms));
                out.push(106);
            }
        },
        Term::Improper(elements, tail) => {
            out.push(108);
            out.extend(length(elements.len()));
            elements.iter().for_each(|element| put(out, element, atoms));
            put(out, tail, atoms);
        }
        Term::Tuple(elements) => {
            match u8::try_from(elements.len()) {
                Ok(count) => out.extend([104, count]),
                Err(_) => {
                    out.push(105);
                    out.extend(length(elements.len()));
                }
            }
            elements.iter().for_each(|element| put(out, element, atoms));
        }
        Term::Map(pairs) => {
            out.push(116);
            out.extend(length(pairs.len()));
            for (key, value) in pairs {
                put(out, key, atoms);
                put(out, value, atoms);
            }
        }
    }
}

fn put_int(out: &mut Vec<u8>, value: i64) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend([97, byte]);
    } else if let Ok(value) = i32::try_from(value) {
        out.push(98);
        out.extend(value.to_be_bytes());
    } else {
        let magnitude = value.unsigned_abs().to_le_bytes();
        let long = magnitude.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        put_big(out, value < 0, &magnitude[..long]);
    }
}

fn put_big(out: &mut Vec<u8>, negative: bool, magnitude: &[u8]) {
    match u8::try_from(magnitude.len()) {
        Ok(count) => out.extend([110, count]),
        Err(_) => {
            out.push(111);
            out.extend(length(magnitude.len()));
        }
    }
    out.push(u8::from(negative));
    out.extend(magnitude);
}

fn put_atom(out: &mut Vec<u8>, name: &str, form: AtomForm) {
    let latin: Option<Vec<u8>> = name.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
    match (form, latin) {
        (AtomForm::Latin1, Some(bytes)) => {
            out.push(100);
            out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(bytes);
        }
        (AtomForm::Latin1 | AtomForm::Utf8, _) => match u8::try_from(name.len()) {
            Ok(count) => {
                out.extend([119, count]);
                out.extend(name.as_bytes());
            }
            Err(_) => {
                out.push(118);
                out.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
                out.extend(name.as_bytes());
            }
        },
    }
}

/// The elements as bytes, if all are and there are few enough.
fn as_bytes(elements: &[Term]) -> Option<Vec<u8>> {
    if elements.len() > usize::from(u16::MAX) {
        return None;
    }
    let byte = |term: &Term| match term {
        Term::Int(value) => u8::try_from(*value).ok(),
        _ => None,
    };
    elements.iter().map(byte).collect()
}

/// The term that `bytes` hold. What this machine has no value for (functions, processes, ports, references) is
/// refused.
///
/// # Errors
/// The first byte that fits no term; terms that are nested too deeply, or too many.
pub fn decode(bytes: &[u8]) -> Result<Term, EtfError> {
    let wrong = |at, what: &str| EtfError { at, what: what.to_owned() };
    match bytes {
        [131, 80, rest @ ..] => {
            let Some((size, packed)) = rest.split_first_chunk::<4>() else { return Err(wrong(2, "it is cut short")) };
            let size = u64::from(u32::from_be_bytes(*size));
            if size > LONGEST {
                return Err(wrong(2, "it says that it inflates to more than 256 MiB"));
            }
            let mut plain = Vec::new();
            let read = flate2::read::ZlibDecoder::new(packed).take(size + 1).read_to_end(&mut plain);
            if read.is_err() || plain.len() as u64 != size {
                return Err(wrong(6, "it does not inflate to the length that it says"));
            }
            Reader::new(&plain).whole()
        }
        [131, rest @ ..] => Reader::new(rest).whole(),
        _ => Err(wrong(0, "it does not begin with the number of the format, 131")),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0, left: MOST_TERMS }
    }

    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, EtfError> {
        Err(EtfError { at: self.at + 1, what: what.into() })
    }

    fn whole(mut self) -> Result<Term, EtfError> {
        let term = self.term(0)?;
        if self.at == self.bytes.len() { Ok(term) } else { self.wrong("there is more after the term") }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], EtfError> {
        match self.bytes[self.at..].get(..count) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => self.wrong("it is cut short"),
        }
    }

    fn u8(&mut self) -> Result<usize, EtfError> {
        Ok(usize::from(self.take(1)?[0]))
    }

    fn u16(&mut self) -> Result<usize, EtfError> {
        let bytes = self.take(2)?;
        Ok(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }

    fn u32(&mut self) -> Result<usize, EtfError> {
        Ok(self.u16()? << 16 | self.u16()?)
    }

    /// A number of elements: each takes at least one byte, so a lie is found before memory is taken for it.
    fn count(&mut self) -> Result<usize, EtfError> {
        let count = self.u32()?;
        if count > self.bytes.len() - self.at {
            self.wrong("it says that it has more elements than bytes")
        } else {
            Ok(count)
        }
    }

    fn many(&mut self, count: usize, depth: usize) -> Result<Vec<Term>, EtfError> {
        (0..count).map(|_| self.term(depth + 1)).collect()
    }

    fn term(&mut self, depth: usize) -> Result<Term, EtfError> {
        if depth > DEEPEST {
            return self.wrong(format!("terms are nested more than {DEEPEST} deep"));
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return self.wrong("it has too many terms"),
        };
        let tag = self.u8()?;
        Ok(match tag {
            97 => Term::Int(i64::try_from(self.u8()?).unwrap_or(0)),
            98 => {
                let bytes = self.take(4)?;
                Term::Int(i64::from(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
            }
            70 => {
                let bytes = self.take(8)?;
                let value = f64::from_be_bytes(bytes.try_into().expect("eight were taken"));
                if !value.is_finite() {
                    return self.wrong("a float that is no number");
                }
                Term::Float(value)
            }
            100 | 115 => {
                let count = if tag == 100 { self.u16()? } else { self.u8()? };
                Term::Atom(self.take(count)?.iter().map(|&byte| char::from(byte)).collect())
            }
            118 | 119 => {
                let count = if tag == 118 { self.u16()? } else { self.u8()? };
                match std::str::from_utf8(self.take(count)?) {
                    Ok(name) => Term::Atom(name.to_owned()),
                    Err(_) => return self.wrong("an atom that is not UTF-8"),
                }
            }
            104 | 105 => {
                let count = if tag == 104 { self.u8()? } else { self.count()? };
                Term::Tuple(self.many(count, depth)?)
            }
            106 => Term::List(Vec::new()),
            107 => {
                let count = self.u16()?;
                let bytes = self.take(count)?;
                self.left = match self.left.checked_sub(count) {
                    Some(left) => left,
                    None => return self.wrong("it has too many terms"),
                };
                Term::List(bytes.iter().map(|&byte| Term::Int(i64::from(byte))).collect())
            }
            108 => {
                let count = self.count()?;
                let elements = self.many(count, depth)?;
                match self.term(depth + 1)? {
                    Term::List(rest) if rest.is_empty() => Term::List(elements),
                    Term::List(rest) => Term::List(elements.into_iter().chain(rest).collect()),
                    tail => Term::Improper(elements, Box::new(tail)),
                }
            }
            109 => {
                let count = self.u32()?;
                Term::Binary(self.take(count)?.to_vec())
            }
            77 => {
                let (count, bits) = (self.u32()?, self.take(1)?[0]);
                let bytes = self.take(count)?.to_vec();
                if !(1..=8).contains(&bits) || bytes.is_empty() {
                    return self.wrong("a bit string with an impossible number of bits");
                }
                Term::Bits(bytes, bits)
            }
            110 | 111 => {
                let count = if tag == 110 { self.u8()? } else { self.u32()? };
                let negative = self.u8()? != 0;
                bigint::normal(negative, self.take(count)?.to_vec())
            }
            116 => {
                let count = self.count()?;
                let pair = |reader: &mut Self| Ok((reader.term(depth + 1)?, reader.term(depth + 1)?));
                Term::Map((0..count).map(|_| pair(self)).collect::<Result<_, EtfError>>()?)
            }
            other => return self.wrong(format!("a term of kind {other}, which has no value here")),
        })
    }
}
