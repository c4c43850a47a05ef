//! Integers of any size: just enough to read and to write them.

use crate::term::Term;

/// The most digits that are read: a longer number is nobody's configuration.
const MOST_DIGITS: usize = 4096;

/// The number that `digits` say in `base`; `None` when there are none, or too many.
pub(crate) fn parse(digits: &str, base: u32) -> Option<Term> {
    if digits.is_empty() || digits.len() > MOST_DIGITS {
        return None;
    }
    if let Ok(value) = i64::from_str_radix(digits, base) {
        return Some(Term::Int(value));
    }
    // As many digits at once as fit a limb whatever the base: 12 of base 36 are less than 2⁶⁴.
    let mut limbs: Vec<u64> = Vec::new();
    for piece in digits.as_bytes().chunks(12) {
        let (mut value, mut scale) = (0_u64, 1_u64);
        for &digit in piece {
            value = value * u64::from(base) + u64::from(char::from(digit).to_digit(base)?);
            scale *= u64::from(base);
        }
        for limb in &mut limbs {
            let sum = u128::from(*limb) * u128::from(scale) + u128::from(value);
            *limb = sum as u64;
            value = (sum >> 64) as u64;
        }
        if value > 0 {
            limbs.push(value);
        }
    }
    Some(normal(false, limbs.into_iter().flat_map(u64::to_le_bytes).collect()))
}

/// The number with that magnitude, in the smallest form.
pub(crate) fn normal(negative: bool, mut magnitude: Vec<u8>) -> Term {
    while magnitude.last() == Some(&0) {
        magnitude.pop();
    }
    if magnitude.len() <= 8 {
        let mut bytes = [0; 8];
        bytes[..magnitude.len()].copy_from_slice(&magnitude);
        let value = i128::from(u64::from_le_bytes(bytes));
        if let Ok(value) = i64::try_from(if negative { -value } else { value }) {
            return Term::Int(value);
        }
    }
    Term::Big(negative, magnitude)
}

/// The same with the other sign.
pub(crate) fn negate(term: Term) -> Term {
    match term {
        Term::Int(i64::MIN) => Term::Big(false, (1_u64 << 63).to_le_bytes().to_vec()),
        Term::Int(value) => Term::Int(-value),
        Term::Big(negative, magnitude) => normal(!negative, magnitude),
        Term::Float(value) => Term::Float(-value),
        other => other,
    }
}

/// The digits of a magnitude in base ten.
pub(crate) fn decimal(magnitude: &[u8]) -> String {
    let limb = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |limb, byte| limb << 8 | u32::from(*byte));
    let mut limbs: Vec<u32> = magnitude.chunks(4).map(limb).collect();
    // Nine digits each, the last ones first.
    let mut pieces = Vec::new();
    while let Some(last) = limbs.last() {
        if *last == 0 {
            limbs.pop();
            continue;
        }
        let mut rest = 0_u64;
        for limb in limbs.iter_mut().rev() {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / 1_000_000_000) as u32;
            rest = value % 1_000_000_000;
        }
        pieces.push(rest);
    }
    let first = pieces.pop().unwrap_or(0).to_string();
    pieces.iter().rev().fold(first, |text, piece| format!("{text}{piece:09}"))
}
