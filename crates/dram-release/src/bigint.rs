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
    let mut magnitude: Vec<u8> = Vec::new();
    for letter in digits.chars() {
        let mut carry = letter.to_digit(base)?;
        for byte in &mut magnitude {
            carry += u32::from(*byte) * base;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        while carry > 0 {
            magnitude.push((carry & 0xff) as u8);
            carry >>= 8;
        }
    }
    Some(normal(false, magnitude))
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
    let mut rest = magnitude.to_vec();
    let mut digits = Vec::new();
    while rest.iter().any(|&byte| byte != 0) {
        let mut remainder = 0_u32;
        for byte in rest.iter_mut().rev() {
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 10) as u8;
            remainder = value % 10;
        }
        digits.push(char::from_digit(remainder, 10).unwrap_or('0'));
    }
    digits.iter().rev().collect()
}
