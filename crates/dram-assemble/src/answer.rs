//! Reads the answers of the query scripts: terms with maps.
//!
//! The scripts belong to dram (`ask/`), so an answer of another form is a bug or a damaged file; the error names the
//! key.

use std::path::PathBuf;

use dram_release::term::Term;

use crate::AssembleError;

/// A map of an answer, with the name that errors use for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerMap<'a> {
    name: &'static str,
    pairs: &'a [(Term, Term)],
}

impl<'a> AnswerMap<'a> {
    /// Wraps the map `term`.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub(crate) fn from_term(name: &'static str, term: &'a Term) -> Result<AnswerMap<'a>, AssembleError> {
        match term {
            Term::Map(pairs) => Ok(AnswerMap { name, pairs }),
            _ => Err(AssembleError::Answer(format!("`{name}` is no map"))),
        }
    }

    /// Returns the value of `key`; `nil` counts as missing.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Term> {
        let found = self.pairs.iter().find(|(name, _)| name.as_atom() == Some(key));
        found.map(|(_, value)| value).filter(|value| value.as_atom() != Some("nil"))
    }

    /// Returns the value of `key`, converted by `read`.
    pub(crate) fn required<T>(&self, key: &str, read: impl Fn(&'a Term) -> Option<T>) -> Result<T, AssembleError> {
        let wrong = || AssembleError::Answer(format!("`{key}` of `{}` is not what it should be", self.name));
        self.get(key).and_then(read).ok_or_else(wrong)
    }

    /// Returns the value of `key`, converted by `read`; `None` if it is missing.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        read: impl Fn(&'a Term) -> Option<T>,
    ) -> Result<Option<T>, AssembleError> {
        self.get(key).map(|_| self.required(key, read)).transpose()
    }

    /// Returns the map at `key`.
    pub(crate) fn map(&self, key: &'static str) -> Result<AnswerMap<'a>, AssembleError> {
        AnswerMap::from_term(key, self.get(key).ok_or_else(|| AssembleError::Answer(format!("`{key}` is missing")))?)
    }

    /// Returns the list at `key`; empty if it is missing.
    pub(crate) fn list(&self, key: &str) -> Result<&'a [Term], AssembleError> {
        Ok(self.optional(key, list)?.unwrap_or_default())
    }

    /// Returns true if the value of `key` is `true`.
    pub(crate) fn is_true(&self, key: &str) -> bool {
        self.get(key).and_then(Term::as_atom) == Some("true")
    }
}

/// Returns the elements of a list.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
pub(crate) fn list(term: &Term) -> Option<&[Term]> {
    match term {
        Term::List(elements) => Some(elements),
        _ => None,
    }
}

/// Returns the elements of a tuple.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
pub(crate) fn tuple(term: &Term) -> Option<&[Term]> {
    match term {
        Term::Tuple(elements) => Some(elements),
        _ => None,
    }
}

/// Returns the bytes of a binary.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
pub(crate) fn bytes(term: &Term) -> Option<&[u8]> {
    match term {
        Term::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

/// Returns a binary as text.
pub(crate) fn text(term: &Term) -> Option<String> {
    String::from_utf8(bytes(term)?.to_vec()).ok()
}

/// Returns a binary as a path.
pub(crate) fn path(term: &Term) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes(term)?.to_vec())))
}

/// Returns the name of an atom.
pub(crate) fn atom(term: &Term) -> Option<String> {
    term.as_atom().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use dram_release::consult::parse_one;

    use super::*;

    #[test]
    fn nil_counts_as_missing_and_a_wrong_value_names_its_key() {
        let term = parse_one(b"#{a => nil,b => true,c => [x],d => <<255>>,e => <<\"t\">>}").unwrap();
        let map = AnswerMap::from_term("answer", &term).unwrap();
        assert!(map.get("a").is_none() && map.get("z").is_none());
        assert!(map.is_true("b") && !map.is_true("a") && !map.is_true("c"));
        assert_eq!((map.list("a").unwrap().len(), map.list("c").unwrap().len()), (0, 1));
        assert_eq!(map.optional("a", text).unwrap(), None);
        assert_eq!(map.required("e", text).unwrap(), "t");
        let told = |error: AssembleError| error.to_string().split_once(": ").unwrap().1.to_owned();
        assert_eq!(told(map.required("a", text).unwrap_err()), "`a` of `answer` is not what it should be");
        assert_eq!(told(map.optional("d", text).unwrap_err()), "`d` of `answer` is not what it should be");
        assert_eq!(told(map.list("b").unwrap_err()), "`b` of `answer` is not what it should be");
        assert_eq!(told(map.map("a").unwrap_err()), "`a` is missing");
        assert_eq!(told(map.map("c").unwrap_err()), "`c` is no map");
        assert_eq!(map.required("d", path).unwrap().as_os_str().len(), 1, "a path need not be UTF-8");
    }
}
