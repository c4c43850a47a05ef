//! The external term format: the encoding of `term_to_binary/1` and `binary_to_term/1`.
//!
//! It follows "External Term Format" in the ERTS User's Guide.

mod read;

use std::borrow::Cow;
use std::io::Read as _;

pub(crate) use read::{list_elements, remove_tagged_tuples};

use crate::term::{DEEPEST, MOST_TERMS, Term};

/// The maximum size of an integer in bytes.
const MAX_INTEGER_BYTES: usize = 4096;
/// The maximum size of a decompressed term.
const MAX_DECOMPRESSED_SIZE: usize = 64 << 20;

/// The encoding of atoms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomEncoding {
    /// Latin-1 if the atom allows it, up to OTP 25.
    Latin1,
    /// UTF-8, from OTP 26 on.
    Utf8,
}

impl AtomEncoding {
    /// Returns the atom encoding of an OTP release.
    pub fn for_otp(release: u32) -> AtomEncoding {
        if release >= 26 { AtomEncoding::Utf8 } else { AtomEncoding::Latin1 }
    }
}

/// The bytes are not a valid encoded term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {kind}")]
pub struct EtfError {
    /// The offset, from 0; in a compressed term, the offset in the decompressed data.
    pub at: usize,
    /// The kind of error.
    pub kind: EtfErrorKind,
}

/// The kind of error in an encoded term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtfErrorKind {
    /// The version byte 131 is missing.
    #[error("it does not begin with the number of the format, 131")]
    Version,
    /// The data is truncated.
    #[error("it is cut short")]
    Truncated,
    /// A compressed term cannot be decompressed.
    #[error("it does not inflate to the length that it says, of at most 64 MiB")]
    Compressed,
    /// A length is larger than the data.
    #[error("it says that it has more elements than bytes")]
    InvalidCount,
    /// Terms are nested too deeply.
    #[error("terms are nested more than {DEEPEST} deep")]
    TooDeep,
    /// There are too many terms.
    #[error("it has more than {MOST_TERMS} terms")]
    TooManyTerms,
    /// A value is invalid in Erlang.
    #[error("{0}")]
    Value(&'static str),
    /// The term has a type that [`Term`] cannot represent: function, pid, port or reference.
    #[error("a term of kind {0}, which has no value here")]
    UnsupportedType(usize),
    /// There is data after the term.
    #[error("there is more after the term")]
    TrailingData,
}

/// Encodes `term`, as `term_to_binary/1` does.
pub fn encode(term: &Term, atoms: AtomEncoding) -> Vec<u8> {
    let mut out = vec![131];
    encode_into(&mut out, term, atoms);
    out
}

fn encode_length(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("no term in memory has four billion elements").to_be_bytes()
}

fn encode_into(out: &mut Vec<u8>, term: &Term, atoms: AtomEncoding) {
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
            out.extend(encode_length(bytes.len()));
            out.extend(bytes);
        }
        Term::Bits(bytes, bits) => {
            out.push(77);
            out.extend(encode_length(bytes.len()));
            out.push(*bits);
            out.extend(bytes);
        }
        Term::List(elements) if elements.is_empty() => out.push(106),
        Term::List(elements) => match byte_list(elements) {
            Some(bytes) => {
                out.push(107);
                out.extend(u16::try_from(bytes.len()).expect("it was looked at").to_be_bytes());
                out.extend(bytes);
            }
            None => {
                out.push(108);
                out.extend(encode_length(elements.len()));
                elements.iter().for_each(|element| encode_into(out, element, atoms));
                out.push(106);
            }
        },
        Term::Improper(elements, tail) => {
            out.push(108);
            out.extend(encode_length(elements.len()));
            elements.iter().for_each(|element| encode_into(out, element, atoms));
            encode_into(out, tail, atoms);
        }
        Term::Tuple(elements) => {
            match u8::try_from(elements.len()) {
                Ok(count) => out.extend([104, count]),
                Err(_) => {
                    out.push(105);
                    out.extend(encode_length(elements.len()));
                }
            }
            elements.iter().for_each(|element| encode_into(out, element, atoms));
        }
        Term::Map(pairs) => {
            out.push(116);
            out.extend(encode_length(pairs.len()));
            for (key, value) in pairs {
                encode_into(out, key, atoms);
                encode_into(out, value, atoms);
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
            out.extend(encode_length(magnitude.len()));
        }
    }
    out.push(u8::from(negative));
    out.extend(magnitude);
}

fn put_atom(out: &mut Vec<u8>, name: &str, form: AtomEncoding) {
    let latin: Option<Vec<u8>> = name.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
    match (form, latin) {
        (AtomEncoding::Latin1, Some(bytes)) => {
            out.push(100);
            out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(bytes);
        }
        (AtomEncoding::Latin1 | AtomEncoding::Utf8, _) => match u8::try_from(name.len()) {
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

/// Returns the elements as bytes, if all of them are bytes and the list is short enough for `STRING_EXT`.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
fn byte_list(elements: &[Term]) -> Option<Vec<u8>> {
    if elements.len() > usize::from(u16::MAX) {
        return None;
    }
    let byte = |term: &Term| match term {
        Term::Int(value) => u8::try_from(*value).ok(),
        _ => None,
    };
    elements.iter().map(byte).collect()
}

/// Decodes the term in `bytes`. Functions, pids, ports and references are refused.
///
/// # Errors
/// Fails at the first invalid byte, or if terms are nested too deeply or are too many.
pub fn decode(bytes: &[u8]) -> Result<Term, EtfError> {
    decode_payload(&payload(bytes)?)
}

/// Decodes a term without the version byte.
pub(crate) fn decode_payload(bytes: &[u8]) -> Result<Term, EtfError> {
    let mut reader = read::EtfReader::new(bytes);
    let term = reader.read_term(0)?;
    reader.expect_end()?;
    Ok(term)
}

/// Returns the encoded term without the version byte, decompressed if it was compressed.
pub(crate) fn payload(bytes: &[u8]) -> Result<Cow<'_, [u8]>, EtfError> {
    let wrong = |at, kind| EtfError { at, kind };
    match bytes {
        [131, 80, rest @ ..] => {
            let (size, packed) = rest.split_first_chunk::<4>().ok_or(wrong(2, EtfErrorKind::Truncated))?;
            let size = u32::from_be_bytes(*size) as usize;
            let mut plain = Vec::new();
            if size <= MAX_DECOMPRESSED_SIZE {
                let read = flate2::read::ZlibDecoder::new(packed).take(size as u64 + 1).read_to_end(&mut plain);
                if read.is_ok() && plain.len() == size {
                    return Ok(Cow::Owned(plain));
                }
            }
            Err(wrong(2, EtfErrorKind::Compressed))
        }
        [131, rest @ ..] => Ok(Cow::Borrowed(rest)),
        _ => Err(wrong(0, EtfErrorKind::Version)),
    }
}
