//! Erlang terms.

use std::fmt;

/// The maximum nesting depth of terms for all parsers.
pub const DEEPEST: usize = 512;
/// The maximum number of terms that a parser creates from one input, so that memory use is bounded.
pub const MOST_TERMS: usize = 2 << 20;

/// An Erlang term. Strings are lists of integers.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// An integer.
    Int(i64),
    /// An integer that does not fit in 64 bits: the sign (true if negative), and the magnitude in little-endian bytes.
    Big(bool, Vec<u8>),
    /// A float.
    Float(f64),
    /// An atom.
    Atom(String),
    /// A binary.
    Binary(Vec<u8>),
    /// A bitstring: bytes, and the number of significant bits in the last one.
    Bits(Vec<u8>, u8),
    /// A proper list.
    List(Vec<Term>),
    /// An improper list: elements and a tail that is not a list.
    Improper(Vec<Term>, Box<Term>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A map, in the order in which it was written.
    Map(Vec<(Term, Term)>),
}

impl Term {
    /// Creates an atom.
    pub fn atom(name: impl Into<String>) -> Term {
        Term::Atom(name.into())
    }

    /// Creates a string: a list of character codes.
    pub fn string(text: &str) -> Term {
        Term::List(text.chars().map(|letter| Term::Int(i64::from(u32::from(letter)))).collect())
    }

    /// Creates a tuple.
    pub fn tuple<const N: usize>(elements: [Term; N]) -> Term {
        Term::Tuple(elements.into())
    }

    /// Creates the list `[elements... | tail]`.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn with_tail(mut elements: Vec<Term>, tail: Term) -> Term {
        match tail {
            Term::List(rest) => {
                elements.extend(rest);
                Term::List(elements)
            }
            Term::Improper(rest, tail) => {
                elements.extend(rest);
                Term::Improper(elements, tail)
            }
            tail if elements.is_empty() => tail,
            tail => Term::Improper(elements, Box::new(tail)),
        }
    }

    /// Creates a list of atoms.
    pub fn atoms<'a>(names: impl IntoIterator<Item = &'a String>) -> Term {
        Term::List(names.into_iter().map(Term::atom).collect())
    }

    /// Returns the atom's name, if this is an atom.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn as_atom(&self) -> Option<&str> {
        match self {
            Term::Atom(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the integer, if this is one that fits and is not negative.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Term::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Returns the elements, if this is a proper list.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn as_list(&self) -> Option<&[Term]> {
        match self {
            Term::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// Returns the elements, if this is a tuple.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn as_tuple(&self) -> Option<&[Term]> {
        match self {
            Term::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// Returns the string, if this is a list of character codes.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn as_string(&self) -> Option<String> {
        let letter = |term: &Term| match term {
            Term::Int(value) => char::from_u32(u32::try_from(*value).ok()?),
            _ => None,
        };
        self.as_list()?.iter().map(letter).collect()
    }

    /// Returns the text, if this is chardata: a string, a UTF-8 binary, or a nested list of binaries and character
    /// codes.
    pub fn as_text(&self) -> Option<String> {
        let mut text = String::new();
        let mut waiting = vec![self];
        // A single character code is not chardata; it must be in a list.
        if !matches!(self, Term::List(_) | Term::Binary(_)) {
            return None;
        }
        while let Some(term) = waiting.pop() {
            match term {
                Term::Int(value) => text.push(char::from_u32(u32::try_from(*value).ok()?)?),
                Term::Binary(bytes) => text.push_str(std::str::from_utf8(bytes).ok()?),
                Term::List(elements) => waiting.extend(elements.iter().rev()),
                Term::Big(..)
                | Term::Float(_)
                | Term::Atom(_)
                | Term::Bits(..)
                | Term::Improper(..)
                | Term::Tuple(_)
                | Term::Map(_) => return None,
            }
        }
        Some(text)
    }

    /// Returns the names, if this is a list of atoms.
    pub fn as_atoms(&self) -> Option<Vec<String>> {
        self.as_list()?.iter().map(|term| term.as_atom().map(str::to_owned)).collect()
    }

    /// Returns the value of the first pair `{key, value}` in a list of tuples.
    pub fn find(&self, key: &str) -> Option<&Term> {
        self.as_list()?.iter().find_map(|pair| match pair.as_tuple()? {
            [name, value] if name.as_atom() == Some(key) => Some(value),
            _ => None,
        })
    }

    /// Sorts the keys of all maps as Erlang does up to OTP 25; from OTP 26 on the order depends on the running system.
    /// A map of more than 32 keys is left as it is, because its order is not specified.
    pub fn sort_maps(&mut self) {
        match self {
            Term::Int(_) | Term::Big(..) | Term::Float(_) | Term::Atom(_) | Term::Binary(_) | Term::Bits(..) => {}
            Term::List(elements) | Term::Tuple(elements) => elements.iter_mut().for_each(Term::sort_maps),
            Term::Improper(elements, tail) => {
                elements.iter_mut().for_each(Term::sort_maps);
                tail.sort_maps();
            }
            Term::Map(pairs) => {
                for (key, value) in pairs.iter_mut() {
                    key.sort_maps();
                    value.sort_maps();
                }
                crate::term_order::sort_keys(pairs);
            }
        }
    }

    /// Returns the type of the term, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Term::Int(_) | Term::Big(..) => "an integer",
            Term::Float(_) => "a float",
            Term::Atom(_) => "an atom",
            Term::Binary(_) | Term::Bits(..) => "a binary",
            Term::List(_) | Term::Improper(..) => "a list",
            Term::Tuple(_) => "a tuple",
            Term::Map(_) => "a map",
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&crate::print::write(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consult::parse_one;

    fn term(text: &str) -> Term {
        parse_one(text.as_bytes()).unwrap()
    }

    #[test]
    fn as_text_accepts_all_forms_of_chardata() {
        for text in ["\"caf\u{e9}\"", "<<\"caf\u{e9}\"/utf8>>", "[\"ca\",<<\"f\">>,[[233]]]", "[99,$a,[[],102],233]"] {
            assert_eq!(term(text).as_text().as_deref(), Some("caf\u{e9}"), "{text}");
        }
        for text in
            ["a", "99", "[a]", "[1.5]", "[-1]", "[16#d800]", "<<233>>", "<<1:1>>", "{}", "#{}", "[1|2]", "[[1|2]]"]
        {
            assert_eq!(term(text).as_text(), None, "{text}");
        }
        assert_eq!(term("[]").as_text().as_deref(), Some(""));
    }

    #[test]
    fn find_returns_the_first_pair_of_a_repeated_key() {
        let list = term("[x,{a},{a,1,2},{\"a\",0},{a,1},{a,2}]");
        assert_eq!(list.find("a"), Some(&Term::Int(1)));
        assert_eq!(list.find("b"), None);
        assert_eq!(term("{a,1}").find("a"), None);
    }
}
