//! The application resource file (`.app`).
//!
//! The format is that of app(4); a file is refused if `systools` refuses it.

use std::collections::BTreeSet;

use crate::consult::{TermError, consult};
use crate::print::pretty;
use crate::term::Term;

/// The first OTP release that rejects an application or a module listed twice.
const NO_DUPLICATES: u32 = 27;

/// An application specification: the content of an `.app` file.
#[derive(Debug, Clone, PartialEq)]
pub struct AppSpec {
    /// The application's name.
    pub name: String,
    /// A one-line description of the application.
    pub description: String,
    /// The application's version.
    pub vsn: String,
    /// The product identification; neither OTP nor dram uses it.
    pub id: String,
    /// The application's modules.
    pub modules: Vec<String>,
    /// The names that its processes register.
    pub registered: Vec<String>,
    /// The applications that must be started before this one.
    pub applications: Vec<String>,
    /// The subset of `applications` that may be missing.
    pub optional_applications: Vec<String>,
    /// The included applications, which this application starts itself.
    pub included_applications: Vec<String>,
    /// The default configuration parameters: a list of `{Par, Val}` pairs.
    pub env: Term,
    /// The maximum time in milliseconds that the application may run, or `infinity`.
    pub max_t: Term,
    /// The maximum number of processes, or `infinity`; ignored by the emulator.
    pub max_p: Term,
    /// The start phases.
    pub start_phases: Option<Term>,
    /// The callback module and its start argument (`mod`); an empty list for a library application.
    pub start: Term,
    /// The versions of other applications that it needs at run time, such as `erts-13.0`; nothing checks them.
    pub runtime_dependencies: Vec<String>,
    /// All keys that app(4) does not define, unchanged.
    pub unknown_keys: Vec<Term>,
}

/// The keys that app(4) defines.
const APP_KEYS: [&str; 14] = [
    "vsn",
    "id",
    "description",
    "modules",
    "registered",
    "applications",
    "optional_applications",
    "included_applications",
    "mod",
    "start_phases",
    "env",
    "maxT",
    "maxP",
    "runtime_dependencies",
];

/// The reason why a file is not a valid application resource file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppSpecError {
    /// The file is not a sequence of Erlang terms.
    #[error(transparent)]
    Syntax(#[from] TermError),
    /// The file is not exactly one `application` tuple.
    #[error("it is not `{{application, NAME, [...]}}.`")]
    Form,
    /// The file belongs to another application.
    #[error("it is the specification of `{found}`, and not of `{expected}`")]
    Name {
        /// The application name in the file.
        found: String,
        /// The expected application name.
        expected: String,
    },
    /// A required key is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// The value of a key has the wrong type.
    #[error("`{key}` is {found}, and not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// A description of the expected value.
        expected: &'static str,
        /// A description of the value found.
        found: String,
    },
    /// The version cannot be part of a directory name.
    #[error("`vsn` is `{0}`, which cannot be part of a directory's name")]
    Version(String),
    /// A list contains an element twice.
    #[error("`{what}` is twice in `{key}`")]
    Twice {
        /// The key of the list.
        key: &'static str,
        /// The element that is repeated.
        what: String,
    },
    /// The application depends on or includes itself.
    #[error("it names itself in `{0}`")]
    Itself(&'static str),
    /// An application is listed both as a dependency and as an included application.
    #[error("`{0}` is both in `applications` and in `included_applications`")]
    Both(String),
}

impl AppSpec {
    /// Reads `NAME.app` for the OTP release `otp`. If a key is repeated, the first one counts, as in OTP.
    ///
    /// # Errors
    /// See [`AppSpecError`].
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    pub fn read(bytes: &[u8], name: &str, otp: u32) -> Result<AppSpec, AppSpecError> {
        let terms = consult(bytes)?;
        let [term] = terms.as_slice() else { return Err(AppSpecError::Form) };
        let Some([tag, found, keys]) = term.as_tuple() else { return Err(AppSpecError::Form) };
        let (Some("application"), Some(found), Some(_)) = (tag.as_atom(), found.as_atom(), keys.as_list()) else {
            return Err(AppSpecError::Form);
        };
        if found != name {
            return Err(AppSpecError::Name { found: found.to_owned(), expected: name.to_owned() });
        }
        let keys = AppSpecKeys { keys, otp };
        let vsn = keys.string("vsn")?.ok_or(AppSpecError::Missing("vsn"))?;
        if vsn.is_empty() || matches!(vsn.as_str(), "." | "..") || vsn.contains(|c: char| c == '/' || c.is_control()) {
            return Err(AppSpecError::Version(vsn.escape_debug().to_string()));
        }
        let number = |term: &Term| matches!(term, Term::Int(1..) | Term::Big(false, _));
        let limit = |term: &Term| number(term) || term.as_atom() == Some("infinity");
        let is_start = |term: &Term| match term {
            Term::List(elements) => elements.is_empty(),
            term => matches!(term.as_tuple(), Some([module, _]) if module.as_atom().is_some()),
        };
        let is_pairs = |term: &Term| {
            let is_pair = |pair: &Term| matches!(pair.as_tuple(), Some([key, _]) if key.as_atom().is_some());
            term.as_list().is_some_and(|pairs| pairs.iter().all(is_pair))
        };
        let infinity = || Term::atom("infinity");
        let app = AppSpec {
            name: name.to_owned(),
            description: keys.string("description")?.ok_or(AppSpecError::Missing("description"))?,
            vsn,
            id: keys.string("id")?.unwrap_or_default(),
            modules: keys.atoms("modules")?.ok_or(AppSpecError::Missing("modules"))?,
            registered: keys.atoms("registered")?.ok_or(AppSpecError::Missing("registered"))?,
            applications: keys.atoms("applications")?.ok_or(AppSpecError::Missing("applications"))?,
            optional_applications: keys.atoms("optional_applications")?.unwrap_or_default(),
            included_applications: keys.atoms("included_applications")?.unwrap_or_default(),
            env: keys.value("env", "a list of pairs", is_pairs)?.unwrap_or(Term::List(Vec::new())),
            max_t: keys.value("maxT", "a number or `infinity`", limit)?.unwrap_or_else(infinity),
            max_p: keys.value("maxP", "a number or `infinity`", limit)?.unwrap_or_else(infinity),
            start_phases: keys.value("start_phases", "a list of pairs", |term| {
                is_pairs(term) || term.as_atom() == Some("undefined")
            })?,
            start: keys.value("mod", "`{MODULE, ARGUMENT}`", is_start)?.unwrap_or(Term::List(Vec::new())),
            runtime_dependencies: keys.keys.find("runtime_dependencies").map(string_list).unwrap_or_default(),
            unknown_keys: keys.unknown_keys(),
        };
        app.check_dependencies()
    }

    /// Returns the callback module that starts the application.
    pub fn start_module(&self) -> Option<&str> {
        self.start.as_tuple()?.first()?.as_atom()
    }

    fn check_dependencies(self) -> Result<AppSpec, AppSpecError> {
        for (key, list) in
            [("applications", &self.applications), ("included_applications", &self.included_applications)]
        {
            if list.contains(&self.name) {
                return Err(AppSpecError::Itself(key));
            }
        }
        let included: BTreeSet<_> = self.included_applications.iter().collect();
        match self.applications.iter().find(|name| included.contains(name)) {
            Some(name) => Err(AppSpecError::Both(name.clone())),
            None => Ok(self),
        }
    }
}

impl AppSpecError {
    /// Returns a hint for the user on how to fix the error.
    pub fn help(&self) -> &'static str {
        match self {
            AppSpecError::Syntax(_) | AppSpecError::Form => {
                "compile the application again: this is no file that its build tool wrote"
            }
            AppSpecError::Name { .. } => "name the file after the application in it",
            AppSpecError::Missing(_) | AppSpecError::Value { .. } => {
                "correct it in the application's `.app.src` or `mix.exs`, and compile it again"
            }
            AppSpecError::Version(_) => "give the application a version such as `1.0.0`",
            AppSpecError::Twice { .. } => "leave one of the two out: from OTP 27 on Erlang refuses both",
            AppSpecError::Itself(_) => "leave it out: an application cannot wait for itself",
            AppSpecError::Both(_) => "leave it out of one of them: who includes an application starts it too",
        }
    }
}

/// Returns the text of the `.app` file without the given applications and modules. Mix rewrites `.app` files this way
/// since Elixir 1.18, and relx does if applications or modules are excluded from the release.
///
/// # Errors
/// Fails if `bytes` is not an application specification.
#[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
pub fn rewrite_app(bytes: &[u8], without_apps: &[String], without_modules: &[String]) -> Result<String, AppSpecError> {
    let mut terms = consult(bytes)?;
    let [Term::Tuple(parts)] = terms.as_mut_slice() else { return Err(AppSpecError::Form) };
    let [Term::Atom(tag), Term::Atom(_), Term::List(keys)] = parts.as_mut_slice() else {
        return Err(AppSpecError::Form);
    };
    if tag != "application" {
        return Err(AppSpecError::Form);
    }
    for (name, without) in [
        ("applications", without_apps),
        ("included_applications", without_apps),
        ("optional_applications", without_apps),
        ("modules", without_modules),
    ] {
        let list = keys.iter_mut().find_map(|pair| match pair {
            Term::Tuple(parts) => match parts.as_mut_slice() {
                [Term::Atom(key), Term::List(list)] if key == name => Some(list),
                _ => None,
            },
            _ => None,
        });
        if let Some(list) = list {
            list.retain(|term| !term.as_atom().is_some_and(|name| without.iter().any(|without| without == name)));
        }
    }
    Ok(format!("{}.\n", pretty(&terms[0])))
}

struct AppSpecKeys<'a> {
    keys: &'a Term,
    otp: u32,
}

impl AppSpecKeys<'_> {
    fn value(
        &self,
        key: &'static str,
        expected: &'static str,
        is_right: impl Fn(&Term) -> bool,
    ) -> Result<Option<Term>, AppSpecError> {
        let is_key = |parts: &&[Term]| parts.first().and_then(Term::as_atom) == Some(key);
        let value = match self.keys.as_list().unwrap_or_default().iter().filter_map(Term::as_tuple).find(is_key) {
            None => return Ok(None),
            Some([_, value]) => value,
            Some(parts) => {
                let found = truncated_value(&Term::Tuple(parts.to_vec()));
                return Err(AppSpecError::Value { key, expected: "a pair of the key and its value", found });
            }
        };
        match value {
            value if is_right(value) => Ok(Some(value.clone())),
            value => Err(AppSpecError::Value { key, expected, found: truncated_value(value) }),
        }
    }

    fn string(&self, key: &'static str) -> Result<Option<String>, AppSpecError> {
        Ok(self.value(key, "a string", |term| term.as_string().is_some())?.and_then(|term| term.as_string()))
    }

    fn atoms(&self, key: &'static str) -> Result<Option<Vec<String>>, AppSpecError> {
        let found = self.value(key, "a list of atoms", |term| term.as_atoms().is_some())?;
        let names = found.and_then(|term| term.as_atoms());
        if self.otp >= NO_DUPLICATES {
            check_no_duplicates(key, names.as_deref().unwrap_or_default())?;
        }
        Ok(names)
    }

    fn unknown_keys(&self) -> Vec<Term> {
        let name = |term: &Term| term.as_tuple().and_then(|parts| parts.first()?.as_atom().map(str::to_owned));
        let is_other = |term: &&Term| name(term).is_none_or(|name| !APP_KEYS.contains(&name.as_str()));
        self.keys.as_list().unwrap_or_default().iter().filter(is_other).cloned().collect()
    }
}

/// Formats a value for a message, truncated.
fn truncated_value(value: &Term) -> String {
    let text: String = value.to_string().chars().take(60).collect();
    format!("`{text}`, {}", value.kind())
}

fn string_list(term: &Term) -> Vec<String> {
    term.as_list().unwrap_or_default().iter().filter_map(Term::as_string).collect()
}

fn check_no_duplicates(key: &'static str, names: &[String]) -> Result<(), AppSpecError> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(what) => Err(AppSpecError::Twice { key, what: what.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str, otp: u32) -> Result<AppSpec, AppSpecError> {
        let usual = "{vsn,\"1\"},{description,\"d\"},{modules,[]},{registered,[]},{applications,[kernel]}";
        AppSpec::read(format!("{{application,demo,[{keys}{usual}]}}.").as_bytes(), "demo", otp)
    }

    #[test]
    fn unknown_keys_are_kept() {
        let app = read("{mine,1},alone,{runtime_dependencies,[\"erts-9.0\"]},", 25).unwrap();
        assert_eq!(app.runtime_dependencies, ["erts-9.0"]);
        assert_eq!(Term::List(app.unknown_keys).to_string(), "[{mine,1},alone]");
    }

    #[test]
    fn a_version_that_is_no_single_path_component_is_refused() {
        for vsn in ["", ".", "..", "../../x", "1/2", "1\\n", "\\0"] {
            let refused = read(&format!("{{vsn,\"{vsn}\"}},"), 25);
            assert!(matches!(refused, Err(AppSpecError::Version(_))), "{vsn}: {refused:?}");
        }
        assert_eq!(read("{vsn,\"1.0-rc.1+build\"},", 25).unwrap().vsn, "1.0-rc.1+build");
    }

    #[test]
    fn duplicate_list_elements_are_refused_from_otp_27_on() {
        for key in ["modules", "registered", "applications", "optional_applications", "included_applications"] {
            let keys = format!("{{{key},[a,b,a]}},");
            assert!(read(&keys, 26).is_ok(), "{key}");
            assert_eq!(read(&keys, 27), Err(AppSpecError::Twice { key: static_key(key), what: "a".to_owned() }));
        }
    }

    fn static_key(key: &str) -> &'static str {
        APP_KEYS.into_iter().find(|known| *known == key).unwrap()
    }

    #[test]
    fn an_application_that_depends_on_itself_is_refused() {
        assert_eq!(read("{applications,[demo]},", 25), Err(AppSpecError::Itself("applications")));
        assert_eq!(read("{included_applications,[demo]},", 25), Err(AppSpecError::Itself("included_applications")));
        let both = read("{applications,[a,b]},{included_applications,[b]},", 25);
        assert_eq!(both, Err(AppSpecError::Both("b".to_owned())));
    }

    #[test]
    fn a_rewritten_specification_lacks_excluded_applications_and_modules() {
        let text =
            "{application,demo, [{vsn,\"1\"},\n{modules,[a,b,'C']}, {applications,[kernel,x,stdlib]},{env,[{x,y}]}]}.";
        let same = rewrite_app(text.as_bytes(), &[], &[]).unwrap();
        assert_eq!(consult(same.as_bytes()), consult(text.as_bytes()));
        let less = rewrite_app(text.as_bytes(), &["x".to_owned()], &["C".to_owned(), "a".to_owned()]).unwrap();
        let expected = "{application,demo,\n             [{vsn,\"1\"},\n              {modules,[b]},\n              \
                        {applications,[kernel,stdlib]},\n              {env,[{x,y}]}]}.\n";
        assert_eq!(less, expected);
        assert_eq!(rewrite_app(b"{a,b}.", &[], &[]), Err(AppSpecError::Form));
    }

    #[test]
    fn errors_name_the_position_or_the_key() {
        let error = AppSpec::read(b"{application,demo,\n [{vsn,\"1\"}}.", "demo", 25).unwrap_err();
        assert_eq!(error.to_string(), "line 2, column 12: expected `]` or `,`");
        let error = read("{modules,\"text\"},", 25).unwrap_err();
        assert_eq!(error.to_string(), "`modules` is `[116,101,120,116]`, a list, and not a list of atoms");
    }
}
