//! Binaries in term text: segments with sizes and types, in the bit syntax.

use super::TermError;
use super::scan::{ConsultParser, TermToken};
use crate::term::Term;

/// The maximum size of one segment in bytes.
const LARGEST: usize = 1 << 20;

/// A binary under construction.
#[derive(Default)]
struct BitstringBuilder {
    bytes: Vec<u8>,
    /// The number of bits used in the last byte; 0 if all are.
    used_bits: u8,
}

impl BitstringBuilder {
    fn push(&mut self, bit: bool) {
        if self.used_bits == 0 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.used_bits);
        }
        self.used_bits = (self.used_bits + 1) % 8;
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.used_bits == 0 {
            self.bytes.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|byte| (0..8).for_each(|bit| self.push(byte >> (7 - bit) & 1 == 1)));
        }
    }

    fn into_term(self) -> Term {
        if self.used_bits == 0 { Term::Binary(self.bytes) } else { Term::Bits(self.bytes, self.used_bits) }
    }
}

/// The type of a segment.
#[derive(Clone, Copy, PartialEq)]
enum SegmentType {
    Integer,
    Float,
    Binary,
    Utf8,
    Utf16,
    Utf32,
}

struct SegmentSpec {
    size: Option<usize>,
    kind: Option<SegmentType>,
    unit: usize,
    is_little: bool,
}

enum SegmentValue {
    Number(Term),
    Text(String),
    Bits(Vec<u8>, u8),
}

impl ConsultParser<'_> {
    /// Parses a binary; the current token is `<<`.
    pub(super) fn binary(&mut self, depth: usize) -> Result<Term, TermError> {
        self.advance()?;
        let mut bits = BitstringBuilder::default();
        if !self.is_at(">>") {
            loop {
                self.segment(&mut bits, depth)?;
                if !self.is_at(",") {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect(">>", "or `,`")?;
        Ok(bits.into_term())
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    fn segment(&mut self, bits: &mut BitstringBuilder, depth: usize) -> Result<(), TermError> {
        let place = self.token_offset;
        let value = match &self.token {
            TermToken::Text(text) => {
                let text = text.clone();
                self.advance()?;
                SegmentValue::Text(text)
            }
            _ => match self.term(depth + 1)? {
                number @ (Term::Int(_) | Term::Big(..) | Term::Float(_)) => SegmentValue::Number(number),
                Term::Binary(bytes) => SegmentValue::Bits(bytes, 8),
                Term::Bits(bytes, used) => SegmentValue::Bits(bytes, used),
                _ => return Err(self.error_at(place, "expected a string, a number or a binary in a binary")),
            },
        };
        let form = self.segment_spec()?;
        let letters = if let SegmentValue::Text(text) = &value { text.chars().count() } else { 1 };
        // A term takes about 32 bytes, so the size is counted in terms; text without sizes is not longer than the
        // input.
        let bytes = form.size.unwrap_or(0).saturating_mul(form.unit.max(1)).saturating_mul(letters) / 8;
        self.count_terms(bytes / 32)?;
        let wrong = |what: &str| self.error_at(place, what);
        match (&value, form.kind) {
            (SegmentValue::Number(Term::Float(number)), Some(SegmentType::Float)) => put_float(bits, *number, &form),
            (SegmentValue::Number(Term::Float(_)), _) => None,
            (SegmentValue::Number(Term::Int(number)), Some(SegmentType::Float)) => {
                put_float(bits, *number as f64, &form)
            }
            (SegmentValue::Number(number), Some(SegmentType::Integer) | None) => put_integer(bits, number, &form),
            (SegmentValue::Number(Term::Int(number)), Some(kind)) => {
                let letter = u32::try_from(*number).ok().and_then(char::from_u32);
                letter.and_then(|letter| put_char(bits, letter, kind, &form))
            }
            (SegmentValue::Number(_), Some(_)) => None,
            (SegmentValue::Text(text), kind) => text.chars().try_for_each(|letter| match kind {
                None | Some(SegmentType::Integer) => put_integer(bits, &Term::Int(i64::from(u32::from(letter))), &form),
                Some(SegmentType::Float) => put_float(bits, f64::from(u32::from(letter)), &form),
                Some(kind) => put_char(bits, letter, kind, &form),
            }),
            (SegmentValue::Bits(bytes, used), Some(SegmentType::Binary)) if form.size.is_none() => {
                let (last, whole) = bytes.split_last().unwrap_or((&0, &[]));
                bits.extend(whole);
                let used = if bytes.is_empty() { 0 } else { *used };
                (used % 8 == 0 || form.unit == 1).then(|| {
                    (0..used).for_each(|bit| bits.push(last >> (7 - bit) & 1 == 1));
                })
            }
            (SegmentValue::Bits(..), _) => None,
        }
        .ok_or_else(|| wrong("this segment has a value, a size or a type that no binary can have here"))
    }

    /// Parses the rest of a segment: `:SIZE` and `/TYPE-TYPE`.
    fn segment_spec(&mut self) -> Result<SegmentSpec, TermError> {
        let mut form = SegmentSpec { size: None, kind: None, unit: 0, is_little: false };
        if self.is_at(":") {
            self.advance()?;
            form.size = Some(self.segment_size()?);
        }
        if !self.is_at("/") {
            return Ok(form);
        }
        loop {
            self.advance()?;
            let TermToken::Atom(name) = &self.token else { return Err(self.error("expected the type of a segment")) };
            match name.as_str() {
                "integer" => form.kind = Some(SegmentType::Integer),
                "float" => form.kind = Some(SegmentType::Float),
                "binary" | "bytes" => form.kind = Some(SegmentType::Binary),
                "bitstring" | "bits" => (form.kind, form.unit) = (Some(SegmentType::Binary), 1),
                "utf8" => form.kind = Some(SegmentType::Utf8),
                "utf16" => form.kind = Some(SegmentType::Utf16),
                "utf32" => form.kind = Some(SegmentType::Utf32),
                "big" | "signed" | "unsigned" => {}
                "little" => form.is_little = true,
                "unit" => {
                    self.advance()?;
                    self.expect(":", "after `unit`")?;
                    form.unit = self.segment_size()?;
                    if self.is_at("-") {
                        continue;
                    }
                    return Ok(form);
                }
                other => return Err(self.error(format!("`{other}` is no type of a segment that means something here"))),
            }
            self.advance()?;
            if !self.is_at("-") {
                return Ok(form);
            }
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    fn segment_size(&mut self) -> Result<usize, TermError> {
        let size = match &self.token {
            TermToken::Number(Term::Int(size)) => usize::try_from(*size).ok().filter(|size| *size <= LARGEST),
            _ => None,
        };
        let size = size.ok_or_else(|| self.error(format!("expected a size of at most {LARGEST}")))?;
        self.advance()?;
        Ok(size)
    }
}

fn segment_bits(form: &SegmentSpec, size: usize) -> Option<usize> {
    form.size.unwrap_or(size).checked_mul(form.unit.max(1)).filter(|bits| *bits <= 8 * LARGEST)
}

/// Appends the low bits of the number, in two's complement.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
fn put_integer(bits: &mut BitstringBuilder, number: &Term, form: &SegmentSpec) -> Option<()> {
    let size = segment_bits(form, 8)?;
    let (is_negative, magnitude) = match number {
        Term::Int(number) => (*number < 0, number.unsigned_abs().to_le_bytes().to_vec()),
        Term::Big(is_negative, magnitude) => (*is_negative, magnitude.clone()),
        _ => return None,
    };
    let mut bytes = magnitude;
    bytes.resize(size.div_ceil(8), 0);
    if is_negative {
        let mut carry = true;
        for byte in &mut bytes {
            let (new, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (new, over);
        }
    }
    if form.is_little {
        let (whole, rest) = (size / 8, size % 8);
        bits.extend(&bytes[..whole]);
        if let Some(last) = bytes.get(whole) {
            (0..rest).rev().for_each(|bit| bits.push(last >> bit & 1 == 1));
        }
    } else {
        let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1 == 1;
        (0..size).rev().for_each(|at| bits.push(bit(at)));
    }
    Some(())
}

fn put_float(bits: &mut BitstringBuilder, number: f64, form: &SegmentSpec) -> Option<()> {
    let mut bytes = match segment_bits(form, 64)? {
        64 => number.to_be_bytes().to_vec(),
        32 if (number as f32).is_finite() => (number as f32).to_be_bytes().to_vec(),
        _ => return None,
    };
    if form.is_little {
        bytes.reverse();
    }
    bits.extend(&bytes);
    Some(())
}

fn put_char(bits: &mut BitstringBuilder, letter: char, kind: SegmentType, form: &SegmentSpec) -> Option<()> {
    if form.size.is_some() || form.unit != 0 {
        return None;
    }
    let mut units: Vec<Vec<u8>> = match kind {
        SegmentType::Utf8 => vec![letter.encode_utf8(&mut [0; 4]).as_bytes().to_vec()],
        SegmentType::Utf16 => letter.encode_utf16(&mut [0; 2]).iter().map(|unit| unit.to_be_bytes().to_vec()).collect(),
        SegmentType::Utf32 => vec![u32::from(letter).to_be_bytes().to_vec()],
        SegmentType::Integer | SegmentType::Float | SegmentType::Binary => return None,
    };
    if form.is_little && kind != SegmentType::Utf8 {
        units.iter_mut().for_each(|unit| unit.reverse());
    }
    units.iter().for_each(|unit| bits.extend(unit));
    Some(())
}
