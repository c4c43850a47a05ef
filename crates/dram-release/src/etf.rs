//! The external term format: what `term_to_binary/1` writes and `binary_to_term/1` reads.
//!
//! Follows OTP's "External Term Format" in the ERTS user's guide.

use std::borrow::Cow;
use std::io::Read as _;

use crate::bigint;
use crate::term::{DEEPEST, MOST_TERMS, Term};

/// The most bytes of an integer.
const BIGGEST: usize = 4096;
/// The longest a compressed term may become.
const LONGEST: usize = 64 << 20;

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
#[error("byte {at}: {kind}")]
pub struct EtfError {
    /// Where, from 0; in a compressed term, where in the inflated one.
    pub at: usize,
    /// What is wrong.
    pub kind: EtfKind,
}

/// What is wrong with bytes that are no term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtfKind {
    /// They do not begin as terms do.
    #[error("it does not begin with the number of the format, 131")]
    Version,
    /// They end too early.
    #[error("it is cut short")]
    Short,
    /// A compressed term that cannot be unpacked.
    #[error("it does not inflate to the length that it says, of at most 64 MiB")]
    Compressed,
    /// A length that cannot be.
    #[error("it says that it has more elements than bytes")]
    Count,
    /// Terms in terms in terms.
    #[error("terms are nested more than {DEEPEST} deep")]
    Deep,
    /// Too many terms.
    #[error("it has more than {MOST_TERMS} terms")]
    Many,
    /// A value that Erlang does not have.
    #[error("{0}")]
    Value(&'static str),
    /// A term of a kind for which there is no value here: functions, processes, ports, references.
    #[error("a term of kind {0}, which has no value here")]
    NoValue(usize),
    /// Bytes behind the term.
    #[error("there is more after the term")]
    After,
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
    decode_plain(&plain(bytes)?)
}

/// The term that `bytes` hold, without the number of the format.
pub(crate) fn decode_plain(bytes: &[u8]) -> Result<Term, EtfError> {
    let mut reader = Reader::new(bytes);
    let term = reader.term(0)?;
    reader.end()?;
    Ok(term)
}

/// The bytes of a term without the number of the format, inflated where they were not.
pub(crate) fn plain(bytes: &[u8]) -> Result<Cow<'_, [u8]>, EtfError> {
    let wrong = |at, kind| EtfError { at, kind };
    match bytes {
        [131, 80, rest @ ..] => {
            let (size, packed) = rest.split_first_chunk::<4>().ok_or(wrong(2, EtfKind::Short))?;
            let size = u32::from_be_bytes(*size) as usize;
            let mut plain = Vec::new();
            if size <= LONGEST {
                let read = flate2::read::ZlibDecoder::new(packed).take(size as u64 + 1).read_to_end(&mut plain);
                if read.is_ok() && plain.len() == size {
                    return Ok(Cow::Owned(plain));
                }
            }
            Err(wrong(2, EtfKind::Compressed))
        }
        [131, rest @ ..] => Ok(Cow::Borrowed(rest)),
        _ => Err(wrong(0, EtfKind::Version)),
    }
}

/// The elements of the proper list that `plain` holds, each as its bytes.
pub(crate) fn elements(plain: &[u8]) -> Result<Vec<&[u8]>, EtfError> {
    let mut reader = Reader::new(plain);
    let mut elements = Vec::new();
    match reader.u8()? {
        106 => {}
        107 => {
            reader.u16()?;
            return reader.wrong(EtfKind::Value("numbers where pairs should be"));
        }
        108 => {
            for _ in 0..reader.count()? {
                let from = reader.at;
                reader.skip()?;
                elements.push(&plain[from..reader.at]);
            }
            if reader.u8()? != 106 {
                return reader.wrong(EtfKind::Value("a list with another end than `[]`"));
            }
        }
        _ => return reader.wrong(EtfKind::Value("a term that is no list")),
    }
    reader.end()?;
    Ok(elements)
}

/// The list in `bytes` without the tuples whose first element is the atom `tag`. Every other byte stays what it is;
/// a list that has none stays itself.
///
/// # Errors
/// When it is no list.
pub(crate) fn without<'a>(bytes: &'a [u8], tag: &str) -> Result<Cow<'a, [u8]>, EtfError> {
    let plain = plain(bytes)?;
    let all = elements(&plain)?;
    let has_tag = |element: &[u8]| match element {
        [104, count, rest @ ..] if *count > 0 => {
            let mut reader = Reader::new(rest);
            reader
                .skip()
                .is_ok_and(|()| decode_plain(&rest[..reader.at]).is_ok_and(|first| first.as_atom() == Some(tag)))
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
        out.extend(length(kept.len()));
        kept.into_iter().for_each(|element| out.extend(*element));
    }
    out.push(106);
    Ok(Cow::Owned(out))
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

    fn wrong<T>(&self, kind: EtfKind) -> Result<T, EtfError> {
        Err(EtfError { at: self.at + 1, kind })
    }

    fn end(&self) -> Result<(), EtfError> {
        if self.at == self.bytes.len() { Ok(()) } else { self.wrong(EtfKind::After) }
    }

    /// Goes over one term without making it, and without a stack: however deep it is.
    fn skip(&mut self) -> Result<(), EtfError> {
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
                        108 => self.count()? + 1,
                        116 => self.count()? * 2,
                        _ => self.count()?,
                    };
                    terms += below;
                    0
                }
                other => return self.wrong(EtfKind::NoValue(other)),
            };
            self.take(bytes)?;
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], EtfError> {
        match self.bytes[self.at..].get(..count) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => self.wrong(EtfKind::Short),
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
        if count > self.bytes.len() - self.at { self.wrong(EtfKind::Count) } else { Ok(count) }
    }

    // One level of nesting takes as little of the stack as may be: what does not call itself has functions of its own.
    fn term(&mut self, depth: usize) -> Result<Term, EtfError> {
        self.enter(depth)?;
        match self.u8()? {
            104 => {
                let count = self.u8()?;
                Ok(Term::Tuple(self.many(count, depth)?))
            }
            105 => {
                let count = self.count()?;
                Ok(Term::Tuple(self.many(count, depth)?))
            }
            108 => self.list(depth),
            116 => self.map(depth),
            tag => self.simple(tag),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), EtfError> {
        if depth > DEEPEST {
            return self.wrong(EtfKind::Deep);
        }
        self.made(1)
    }

    /// Counts terms that are about to be made.
    fn made(&mut self, terms: usize) -> Result<(), EtfError> {
        match self.left.checked_sub(terms) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => self.wrong(EtfKind::Many),
        }
    }

    fn many(&mut self, count: usize, depth: usize) -> Result<Vec<Term>, EtfError> {
        let mut terms = Vec::new();
        for _ in 0..count {
            terms.push(self.term(depth + 1)?);
        }
        Ok(terms)
    }

    fn list(&mut self, depth: usize) -> Result<Term, EtfError> {
        let count = self.count()?;
        let elements = self.many(count, depth)?;
        Ok(Term::with_tail(elements, self.term(depth + 1)?))
    }

    fn map(&mut self, depth: usize) -> Result<Term, EtfError> {
        let mut pairs = Vec::new();
        for _ in 0..self.count()? {
            let key = self.term(depth + 1)?;
            pairs.push((key, self.term(depth + 1)?));
        }
        Ok(Term::Map(pairs))
    }

    /// A term that holds no others.
    fn simple(&mut self, tag: usize) -> Result<Term, EtfError> {
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
                    return self.wrong(EtfKind::Value("a float that is no number"));
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
                    Err(_) => return self.wrong(EtfKind::Value("an atom that is not UTF-8")),
                }
            }
            106 => Term::List(Vec::new()),
            107 => {
                let count = self.u16()?;
                let bytes = self.take(count)?;
                self.made(count)?;
                Term::List(bytes.iter().map(|&byte| Term::Int(i64::from(byte))).collect())
            }
            109 => {
                let count = self.u32()?;
                Term::Binary(self.take(count)?.to_vec())
            }
            77 => {
                let (count, bits) = (self.u32()?, self.take(1)?[0]);
                let bytes = self.take(count)?.to_vec();
                if !(1..=8).contains(&bits) || bytes.is_empty() {
                    return self.wrong(EtfKind::Value("a bit string with an impossible number of bits"));
                }
                Term::Bits(bytes, bits)
            }
            110 | 111 => {
                let count = if tag == 110 { self.u8()? } else { self.u32()? };
                let negative = self.u8()? != 0;
                if count > BIGGEST {
                    return self.wrong(EtfKind::Value("an integer of more than 4096 bytes"));
                }
                bigint::normal(negative, self.take(count)?.to_vec())
            }
            other => return self.wrong(EtfKind::NoValue(other)),
        })
    }
}
