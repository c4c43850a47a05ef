//! Binaries in term text: segments with sizes and types, in the bit syntax.

use super::TermError;
use super::scan::{Reader, Token};
use crate::term::Term;

/// The maximum size of one segment in bytes.
const LARGEST: usize = 1 << 20;

/// A binary under construction.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// The number of bits used in the last byte; 0 if all are.
    used: u8,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.used);
        }
        self.used = (self.used + 1) % 8;
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.used == 0 {
            self.bytes.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|byte| (0..8).for_each(|bit| self.push(byte >> (7 - bit) & 1 == 1)));
        }
    }

    fn term(self) -> Term {
        if self.used == 0 { Term::Binary(self.bytes) } else { Term::Bits(self.bytes, self.used) }
    }
}

/// The type of a segment.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Integer,
    Float,
    Binary,
    Utf8,
    Utf16,
    Utf32,
}

struct Form {
    size: Option<usize>,
    kind: Option<Kind>,
    unit: usize,
    is_little: bool,
}

enum Value {
    Number(Term),
    Text(String),
    Bits(Vec<u8>, u8),
}

impl Reader<'_> {
    /// Parses a binary; the current token is `<<`.
    pub(super) fn binary(&mut self, depth: usize) -> Result<Term, TermError> {
        self.advance()?;
        let mut bits = Bits::default();
        if !self.is(">>") {
            loop {
                self.segment(&mut bits, depth)?;
                if !self.is(",") {
                    break;
                }
                self.advance()?;
            }
        }
        self.expect(">>", "or `,`")?;
        Ok(bits.term())
    }

    fn segment(&mut self, bits: &mut Bits, depth: usize) -> Result<(), TermError> {
        let place = self.token_at;
        let value = match &self.token {
            Token::Text(text) => {
                let text = text.clone();
                self.advance()?;
                Value::Text(text)
            }
            _ => match self.term(depth + 1)? {
                number @ (Term::Int(_) | Term::Big(..) | Term::Float(_)) => Value::Number(number),
                Term::Binary(bytes) => Value::Bits(bytes, 8),
                Term::Bits(bytes, used) => Value::Bits(bytes, used),
                _ => return Err(self.wrong_at(place, "expected a string, a number or a binary in a binary")),
            },
        };
        let form = self.form()?;
        let letters = if let Value::Text(text) = &value { text.chars().count() } else { 1 };
        // A term takes about 32 bytes, so the size is counted in terms; text without sizes is not longer than the
        // input.
        let bytes = form.size.unwrap_or(0).saturating_mul(form.unit.max(1)).saturating_mul(letters) / 8;
        self.count(bytes / 32)?;
        let wrong = |what: &str| self.wrong_at(place, what);
        match (&value, form.kind) {
            (Value::Number(Term::Float(number)), Some(Kind::Float)) => put_float(bits, *number, &form),
            (Value::Number(Term::Float(_)), _) => None,
            (Value::Number(Term::Int(number)), Some(Kind::Float)) => put_float(bits, *number as f64, &form),
            (Value::Number(number), Some(Kind::Integer) | None) => put_integer(bits, number, &form),
            (Value::Number(Term::Int(number)), Some(kind)) => {
                let letter = u32::try_from(*number).ok().and_then(char::from_u32);
                letter.and_then(|letter| put_letter(bits, letter, kind, &form))
            }
            (Value::Number(_), Some(_)) => None,
            (Value::Text(text), kind) => text.chars().try_for_each(|letter| match kind {
                None | Some(Kind::Integer) => put_integer(bits, &Term::Int(i64::from(u32::from(letter))), &form),
                Some(Kind::Float) => put_float(bits, f64::from(u32::from(letter)), &form),
                Some(kind) => put_letter(bits, letter, kind, &form),
            }),
            (Value::Bits(bytes, used), Some(Kind::Binary)) if form.size.is_none() => {
                let (last, whole) = bytes.split_last().unwrap_or((&0, &[]));
                bits.extend(whole);
                let used = if bytes.is_empty() { 0 } else { *used };
                (used % 8 == 0 || form.unit == 1).then(|| {
                    (0..used).for_each(|bit| bits.push(last >> (7 - bit) & 1 == 1));
                })
            }
            (Value::Bits(..), _) => None,
        }
        .ok_or_else(|| wrong("this segment has a value, a size or a type that no binary can have here"))
    }

    /// Parses the rest of a segment: `:SIZE` and `/TYPE-TYPE`.
    fn form(&mut self) -> Result<Form, TermError> {
        let mut form = Form { size: None, kind: None, unit: 0, is_little: false };
        if self.is(":") {
            self.advance()?;
            form.size = Some(self.size()?);
        }
        if !self.is("/") {
            return Ok(form);
        }
        loop {
            self.advance()?;
            let Token::Atom(name) = &self.token else { return Err(self.wrong("expected the type of a segment")) };
            match name.as_str() {
                "integer" => form.kind = Some(Kind::Integer),
                "float" => form.kind = Some(Kind::Float),
                "binary" | "bytes" => form.kind = Some(Kind::Binary),
                "bitstring" | "bits" => (form.kind, form.unit) = (Some(Kind::Binary), 1),
                "utf8" => form.kind = Some(Kind::Utf8),
                "utf16" => form.kind = Some(Kind::Utf16),
                "utf32" => form.kind = Some(Kind::Utf32),
                "big" | "signed" | "unsigned" => {}
                "little" => form.is_little = true,
                "unit" => {
                    self.advance()?;
                    self.expect(":", "after `unit`")?;
                    form.unit = self.size()?;
                    if self.is("-") {
                        continue;
                    }
                    return Ok(form);
                }
                other => return Err(self.wrong(format!("`{other}` is no type of a segment that means something here"))),
            }
            self.advance()?;
            if !self.is("-") {
                return Ok(form);
            }
        }
    }

    fn size(&mut self) -> Result<usize, TermError> {
        let size = match &self.token {
            Token::Number(Term::Int(size)) => usize::try_from(*size).ok().filter(|size| *size <= LARGEST),
            _ => None,
        };
        let size = size.ok_or_else(|| self.wrong(format!("expected a size of at most {LARGEST}")))?;
        self.advance()?;
        Ok(size)
    }
}

fn total(form: &Form, size: usize) -> Option<usize> {
    form.size.unwrap_or(size).checked_mul(form.unit.max(1)).filter(|bits| *bits <= 8 * LARGEST)
}

/// Appends the low bits of the number, in two's complement.
fn put_integer(bits: &mut Bits, number: &Term, form: &Form) -> Option<()> {
    let size = total(form, 8)?;
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

fn put_float(bits: &mut Bits, number: f64, form: &Form) -> Option<()> {
    let mut bytes = match total(form, 64)? {
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

fn put_letter(bits: &mut Bits, letter: char, kind: Kind, form: &Form) -> Option<()> {
    if form.size.is_some() || form.unit != 0 {
        return None;
    }
    let mut units: Vec<Vec<u8>> = match kind {
        Kind::Utf8 => vec![letter.encode_utf8(&mut [0; 4]).as_bytes().to_vec()],
        Kind::Utf16 => letter.encode_utf16(&mut [0; 2]).iter().map(|unit| unit.to_be_bytes().to_vec()).collect(),
        Kind::Utf32 => vec![u32::from(letter).to_be_bytes().to_vec()],
        Kind::Integer | Kind::Float | Kind::Binary => return None,
    };
    if form.is_little && kind != Kind::Utf8 {
        units.iter_mut().for_each(|unit| unit.reverse());
    }
    units.iter().for_each(|unit| bits.extend(unit));
    Some(())
}
