//! Integers of arbitrary size: parsing and printing.

use crate::term::Term;

/// The maximum number of digits of a parsed integer.
const MOST_DIGITS: usize = 4096;

/// Parses `digits` in `base`. Returns `None` if there are no digits, or too many.
pub(crate) fn parse_integer(digits: &str, base: u32) -> Option<Term> {
    if digits.is_empty() || digits.len() > MOST_DIGITS {
        return None;
    }
    if let Ok(value) = i64::from_str_radix(digits, base) {
        return Some(Term::Int(value));
    }
    // Twelve digits fit in one limb in any base: 36¹² is less than 2⁶⁴.
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
    Some(normalize(false, limbs.into_iter().flat_map(u64::to_le_bytes).collect()))
}

/// Returns the integer with this magnitude, as [`Term::Int`] if it fits.
pub(crate) fn normalize(negative: bool, mut magnitude: Vec<u8>) -> Term {
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

/// Returns the number with the opposite sign.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
pub(crate) fn negate(term: Term) -> Term {
    match term {
        Term::Int(i64::MIN) => Term::Big(false, (1_u64 << 63).to_le_bytes().to_vec()),
        Term::Int(value) => Term::Int(-value),
        Term::Big(negative, magnitude) => normalize(!negative, magnitude),
        Term::Float(value) => Term::Float(-value),
        other => other,
    }
}

/// Formats a magnitude in base ten.
pub(crate) fn to_decimal(magnitude: &[u8]) -> String {
    let limb = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |limb, byte| limb << 8 | u32::from(*byte));
    let mut limbs: Vec<u32> = magnitude.chunks(4).map(limb).collect();
    // Each piece holds nine digits; the least significant piece comes first.
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
