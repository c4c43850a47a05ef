//! Application specifications: `.app` files.
//!
//! The form is that of app(4); what is refused is what `systools` refuses.

use std::collections::BTreeSet;

use crate::consult::{TermError, consult};
use crate::term::Term;

/// The first OTP release that takes no application or module twice in one list.
const NO_DUPLICATES: u32 = 27;

/// An application.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its name.
    pub name: String,
    /// What it is, in words.
    pub description: String,
    /// Its version.
    pub vsn: String,
    /// An identifier; nobody uses it.
    pub id: String,
    /// Its modules.
    pub modules: Vec<String>,
    /// Names that its processes register.
    pub registered: Vec<String>,
    /// Applications that must run before it does.
    pub applications: Vec<String>,
    /// Those of `applications` that may be missing.
    pub optional_applications: Vec<String>,
    /// Applications that it starts itself.
    pub included_applications: Vec<String>,
    /// Its configuration, pairs of an atom and a term.
    pub env: Term,
    /// The most milliseconds that it may run, or `infinity`.
    pub max_t: Term,
    /// The most processes that it may have, or `infinity`.
    pub max_p: Term,
    /// The phases in which it starts.
    pub start_phases: Option<Term>,
    /// The module that starts it, and its argument; an empty list for a library.
    pub start: Term,
}

/// Why a file is no application specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// It is no text of terms.
    #[error(transparent)]
    Syntax(#[from] TermError),
    /// It is not one term of the right form.
    #[error("it is not `{{application, NAME, [...]}}.`")]
    Form,
    /// It is another application's.
    #[error("it is the specification of `{found}`, and not of `{expected}`")]
    Name {
        /// The name in the file.
        found: String,
        /// The name that it should have.
        expected: String,
    },
    /// A key that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A key has a value that it cannot have.
    #[error("`{key}` is {found}, and not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A version that cannot be part of a directory's name.
    #[error("`vsn` is `{0}`, which cannot be part of a directory's name")]
    Version(String),
    /// Something is in a list twice.
    #[error("`{what}` is twice in `{key}`")]
    Twice {
        /// The list.
        key: &'static str,
        /// What is in it twice.
        what: String,
    },
    /// An application names itself.
    #[error("it names itself in `{0}`")]
    Itself(&'static str),
    /// An application is started by somebody else and by this one.
    #[error("`{0}` is both in `applications` and in `included_applications`")]
    Both(String),
}

impl App {
    /// Reads the file `NAME.app` for the OTP release `otp`. Of a key that is there twice the first counts, as in Erlang.
    ///
    /// # Errors
    /// See [`AppError`].
    pub fn read(bytes: &[u8], name: &str, otp: u32) -> Result<App, AppError> {
        let terms = consult(bytes)?;
        let [term] = terms.as_slice() else { return Err(AppError::Form) };
        let Some([tag, found, keys]) = term.as_tuple() else { return Err(AppError::Form) };
        let (Some("application"), Some(found), Some(_)) = (tag.as_atom(), found.as_atom(), keys.as_list()) else {
            return Err(AppError::Form);
        };
        if found != name {
            return Err(AppError::Name { found: found.to_owned(), expected: name.to_owned() });
        }
        let keys = Keys { keys, otp };
        let vsn = keys.string("vsn")?.ok_or(AppError::Missing("vsn"))?;
        if vsn.is_empty() || matches!(vsn.as_str(), "." | "..") || vsn.contains(|c: char| c == '/' || c.is_control()) {
            return Err(AppError::Version(vsn.escape_debug().to_string()));
        }
        let number = |term: &Term| matches!(term, Term::Int(1..) | Term::Big(false, _));
        let limit = |term: &Term| number(term) || term.as_atom() == Some("infinity");
        let is_start = |term: &Term| match term {
            Term::List(elements) => elements.is_empty(),
            term => matches!(term.as_tuple(), Some([module, _]) if module.as_atom().is_some()),
        };
        let is_env = |term: &Term| {
            let is_pair = |pair: &Term| matches!(pair.as_tuple(), Some([key, _]) if key.as_atom().is_some());
            term.as_list().is_some_and(|pairs| pairs.iter().all(is_pair))
        };
        let infinity = || Term::atom("infinity");
        let app = App {
            name: name.to_owned(),
            description: keys.string("description")?.unwrap_or_default(),
            vsn,
            id: keys.string("id")?.unwrap_or_default(),
            modules: keys.modules()?,
            registered: keys.atoms("registered")?,
            applications: keys.atoms("applications")?,
            optional_applications: keys.atoms("optional_applications")?,
            included_applications: keys.atoms("included_applications")?,
            env: keys.value("env", "a list of pairs", is_env)?.unwrap_or(Term::List(Vec::new())),
            max_t: keys.value("maxT", "a number or `infinity`", limit)?.unwrap_or_else(infinity),
            max_p: keys.value("maxP", "a number or `infinity`", limit)?.unwrap_or_else(infinity),
            start_phases: keys.value("start_phases", "a list", |term| {
                term.as_list().is_some() || term.as_atom() == Some("undefined")
            })?,
            start: keys.value("mod", "`{MODULE, ARGUMENT}`", is_start)?.unwrap_or(Term::List(Vec::new())),
        };
        app.check()
    }

    /// The module that starts it.
    pub fn start_module(&self) -> Option<&str> {
        self.start.as_tuple()?.first()?.as_atom()
    }

    fn check(self) -> Result<App, AppError> {
        for (key, list) in
            [("applications", &self.applications), ("included_applications", &self.included_applications)]
        {
            if list.contains(&self.name) {
                return Err(AppError::Itself(key));
            }
        }
        let included: BTreeSet<_> = self.included_applications.iter().collect();
        match self.applications.iter().find(|name| included.contains(name)) {
            Some(name) => Err(AppError::Both(name.clone())),
            None => Ok(self),
        }
    }
}

struct Keys<'a> {
    keys: &'a Term,
    otp: u32,
}

impl Keys<'_> {
    fn value(
        &self,
        key: &'static str,
        expected: &'static str,
        is_right: impl Fn(&Term) -> bool,
    ) -> Result<Option<Term>, AppError> {
        match self.keys.find(key) {
            None => Ok(None),
            Some(value) if is_right(value) => Ok(Some(value.clone())),
            Some(value) => {
                let mut found: String = value.to_string().chars().take(60).collect();
                found = format!("`{found}`, {}", value.kind());
                Err(AppError::Value { key, expected, found })
            }
        }
    }

    fn string(&self, key: &'static str) -> Result<Option<String>, AppError> {
        Ok(self.value(key, "a string", |term| term.as_string().is_some())?.and_then(|term| term.as_string()))
    }

    fn atoms(&self, key: &'static str) -> Result<Vec<String>, AppError> {
        let found = self.value(key, "a list of atoms", |term| term.as_atoms().is_some())?;
        let names = found.and_then(|term| term.as_atoms()).unwrap_or_default();
        if self.otp >= NO_DUPLICATES {
            no_duplicates(key, &names)?;
        }
        Ok(names)
    }

    /// A module may be written as `{MODULE, VERSION}`.
    fn modules(&self) -> Result<Vec<String>, AppError> {
        let name = |term: &Term| match term.as_tuple() {
            Some([module, _]) => module.as_atom().map(str::to_owned),
            Some(_) => None,
            None => term.as_atom().map(str::to_owned),
        };
        let names = |term: &Term| term.as_list()?.iter().map(name).collect::<Option<Vec<_>>>();
        let found = self.value("modules", "a list of atoms", |term| names(term).is_some())?;
        let found = found.and_then(|term| names(&term)).unwrap_or_default();
        if self.otp >= NO_DUPLICATES {
            no_duplicates("modules", &found)?;
        }
        Ok(found)
    }
}

fn no_duplicates(key: &'static str, names: &[String]) -> Result<(), AppError> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(what) => Err(AppError::Twice { key, what: what.clone() }),
        None => Ok(()),
    }
}
