//! Printing of terms, as `io_lib:format/2` prints them with `~tw` and `~tp` on lines of 80 columns.
//!
//! Lines are broken by the rules of OTP 25's `io_lib_pretty` with unlimited depth, because release files must be
//! identical to those that Erlang writes.

mod layout;
mod node;

use crate::bigint;
use crate::consult::scan::{RESERVED, is_atom_char, is_atom_start};
use crate::term::Term;
use layout::{LINE_WIDTH, LayoutCheck, LayoutWriter};
use node::PrintNode;

/// Prints `term` on one line as `~tw` does: strings as lists, binaries as bytes.
pub fn write(term: &Term) -> String {
    let mut out = String::new();
    write_into(&mut out, term);
    out
}

fn write_into(out: &mut String, term: &Term) {
    match term {
        Term::Int(_) | Term::Big(..) | Term::Float(_) | Term::Atom(_) => out.push_str(&scalar_text(term)),
        Term::Binary(bytes) => out.push_str(&format!("<<{}>>", byte_texts(bytes, 8).join(","))),
        Term::Bits(bytes, bits) => out.push_str(&format!("<<{}>>", byte_texts(bytes, *bits).join(","))),
        Term::List(elements) => {
            out.push('[');
            write_elements(out, elements, ",");
            out.push(']');
        }
        Term::Improper(elements, tail) => {
            out.push('[');
            write_elements(out, elements, ",");
            out.push('|');
            write_into(out, tail);
            out.push(']');
        }
        Term::Tuple(elements) => {
            out.push('{');
            write_elements(out, elements, ",");
            out.push('}');
        }
        Term::Map(pairs) => {
            out.push_str("#{");
            for (number, (key, value)) in pairs.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_into(out, key);
                out.push_str(" => ");
                write_into(out, value);
            }
            out.push('}');
        }
    }
}

fn write_elements(out: &mut String, elements: &[Term], separator: &str) {
    for (number, element) in elements.iter().enumerate() {
        if number > 0 {
            out.push_str(separator);
        }
        write_into(out, element);
    }
}

/// Returns each byte as a number; the last one with its size, if it has only `bits` bits.
fn byte_texts(bytes: &[u8], bits: u8) -> Vec<String> {
    let mut texts: Vec<String> = bytes.iter().map(u8::to_string).collect();
    if let (Some(last), Some(byte), 1..8) = (texts.last_mut(), bytes.last(), bits) {
        *last = format!("{}:{bits}", byte >> (8 - bits));
    }
    texts
}

#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
fn scalar_text(term: &Term) -> String {
    match term {
        Term::Int(value) => value.to_string(),
        Term::Big(negative, magnitude) => {
            format!("{}{}", if *negative { "-" } else { "" }, bigint::to_decimal(magnitude))
        }
        Term::Float(value) => float_text(*value),
        Term::Atom(name) => atom(name),
        other => write(other),
    }
}

/// Returns the shortest text that reads back as `value`, with an exponent if that is shorter.
fn float_text(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0" } else { "0.0" }.to_owned();
    }
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let place = exponent.parse::<i64>().unwrap_or(0) + 1;
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", place_dot(&digits, place, value.abs() >= 9_007_199_254_740_992.0))
}

fn place_dot(digits: &str, place: i64, is_large: bool) -> String {
    let long = i64::try_from(digits.len()).unwrap_or(0);
    let exponent = (place - 1).to_string();
    let with_exponent = || match digits.split_at(1) {
        (first, "") => format!("{first}.0e{exponent}"),
        (first, rest) => format!("{first}.{rest}e{exponent}"),
    };
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    if place == 0 {
        return format!("0.{digits}");
    }
    if (1..long).contains(&place) {
        let (whole, part) = digits.split_at(usize::try_from(place).unwrap_or(0));
        return if is_large { with_exponent() } else { format!("{whole}.{part}") };
    }
    let cost = i64::try_from(exponent.len()).unwrap_or(0) + 1 + if long == 1 { 2 } else { 1 };
    if place < 0 {
        return if 2 - place <= cost { format!("0.{}{digits}", zeros(-place)) } else { with_exponent() };
    }
    if place - long + 2 <= cost && !is_large { format!("{digits}{}.0", zeros(place - long)) } else { with_exponent() }
}

/// Prints an atom, quoted if necessary.
pub fn atom(name: &str) -> String {
    let is_plain = name.chars().next().is_some_and(is_atom_start) && name.chars().all(is_atom_char);
    if is_plain && !RESERVED.contains(&name) { name.to_owned() } else { quoted(name, '\'') }
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for letter in text.chars() {
        match letter {
            letter if letter == quote => out.extend(['\\', letter]),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{7f}' => out.push_str("\\d"),
            letter if letter < ' ' || ('\u{80}'..'\u{a0}').contains(&letter) => {
                out.push_str(&format!("\\{:03o}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push(quote);
    out
}

/// Prints `term` on several lines as `~tp` does: printable lists and binaries as strings.
pub fn pretty(term: &Term) -> String {
    let node = PrintNode::from_term(term);
    if matches!(term, Term::Int(_) | Term::Big(..) | Term::Float(_) | Term::Atom(_)) || node.flat_len < LINE_WIDTH - 1 {
        return node.flat();
    }
    let most = node.flat_len;
    // The indentation of the rest of a tuple behind its tag, an atom: after the tag if that leaves enough room.
    let inset = [-1, 4]
        .into_iter()
        .find(|inset| LayoutCheck { max_width: most, inset: *inset }.node(&node, 1, 0, 0).is_some())
        .unwrap_or(1);
    let mut page = LayoutWriter { out: String::new(), max_width: most, inset };
    page.node(&node, 1, 0, 0, 0);
    page.out
}
