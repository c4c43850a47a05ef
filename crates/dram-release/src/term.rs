//! Erlang terms as values.

use std::fmt;

/// The deepest nesting that any reader here follows.
pub const DEEPEST: usize = 512;
/// The most terms that any reader here makes of one input: memory stays bounded whatever it says.
pub const MOST_TERMS: usize = 2 << 20;

/// A term. Strings are lists of integers, as in Erlang.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// An integer.
    Int(i64),
    /// An integer that does not fit: whether it is negative, and its magnitude, least byte first.
    Big(bool, Vec<u8>),
    /// A float.
    Float(f64),
    /// An atom.
    Atom(String),
    /// A binary.
    Binary(Vec<u8>),
    /// A bit string: bytes, and how many bits of the last one count.
    Bits(Vec<u8>, u8),
    /// A proper list.
    List(Vec<Term>),
    /// A list that ends in something else than the empty list.
    Improper(Vec<Term>, Box<Term>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A map, in the order it was written.
    Map(Vec<(Term, Term)>),
}

impl Term {
    /// An atom.
    pub fn atom(name: impl Into<String>) -> Term {
        Term::Atom(name.into())
    }

    /// A string: the list of its characters.
    pub fn string(text: &str) -> Term {
        Term::List(text.chars().map(|letter| Term::Int(i64::from(u32::from(letter)))).collect())
    }

    /// A tuple.
    pub fn tuple<const N: usize>(elements: [Term; N]) -> Term {
        Term::Tuple(elements.into())
    }

    /// The list of these elements that goes on with `tail`.
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

    /// A list of atoms.
    pub fn atoms<'a>(names: impl IntoIterator<Item = &'a String>) -> Term {
        Term::List(names.into_iter().map(Term::atom).collect())
    }

    /// The atom's name, if it is one.
    pub fn as_atom(&self) -> Option<&str> {
        match self {
            Term::Atom(name) => Some(name),
            _ => None,
        }
    }

    /// The integer, if it is one that fits and is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Term::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The elements, if it is a proper list.
    pub fn as_list(&self) -> Option<&[Term]> {
        match self {
            Term::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The elements, if it is a tuple.
    pub fn as_tuple(&self) -> Option<&[Term]> {
        match self {
            Term::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text, if it is a list of characters.
    pub fn as_string(&self) -> Option<String> {
        let letter = |term: &Term| match term {
            Term::Int(value) => char::from_u32(u32::try_from(*value).ok()?),
            _ => None,
        };
        self.as_list()?.iter().map(letter).collect()
    }

    /// The text, if it is a string, a binary of UTF-8, or a list of such and of characters, as Erlang takes for text.
    pub fn as_text(&self) -> Option<String> {
        let mut text = String::new();
        let mut waiting = vec![self];
        // Characters stand in lists only.
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

    /// The names, if it is a list of atoms.
    pub fn as_atoms(&self) -> Option<Vec<String>> {
        self.as_list()?.iter().map(|term| term.as_atom().map(str::to_owned)).collect()
    }

    /// The value of the first pair `{key, value}` in a list.
    pub fn find(&self, key: &str) -> Option<&Term> {
        self.as_list()?.iter().find_map(|pair| match pair.as_tuple()? {
            [name, value] if name.as_atom() == Some(key) => Some(value),
            _ => None,
        })
    }

    /// Puts the keys of every map in the order that Erlang has them in, up to OTP 25 (from OTP 26 on the order depends
    /// on the running system). A map of more than 32 keys stays as it is: its order is nowhere said.
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
                crate::order_of_terms::sort(pairs);
            }
        }
    }

    /// What kind of term it is, for messages.
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
    fn text_has_many_forms() {
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
    fn of_two_pairs_with_one_key_the_first_is_found() {
        let list = term("[x,{a},{a,1,2},{\"a\",0},{a,1},{a,2}]");
        assert_eq!(list.find("a"), Some(&Term::Int(1)));
        assert_eq!(list.find("b"), None);
        assert_eq!(term("{a,1}").find("a"), None);
    }
}
