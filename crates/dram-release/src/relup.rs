//! The release upgrade file (`relup`).
//!
//! The format is that of relup(4), and the content is that of `systools:make_relup/4`.

use std::collections::BTreeMap;

use crate::appup::Appup;
use crate::print::pretty;
use crate::rc::instruction::Instruction;
use crate::rc::{Application, Direction, RcError, translate};
use crate::term::Term;

/// One version of a release, as `systools:make_relup` sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The release version.
    pub version: String,
    /// The ERTS version.
    pub erts: String,
    /// The applications, in the order of the `.rel` file.
    pub applications: Vec<Application>,
}

/// The reason why no relup could be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelupError {
    /// A version lacks the application `sasl`, which contains `release_handler`.
    #[error("version `{0}` has no application `sasl`, which changes a running system")]
    NoSasl(String),
    /// An application has no appup for this change.
    #[error("nobody says how `{app}` changes from `{from}` to `{to}`")]
    NoAppup {
        /// The application.
        app: String,
        /// The old version.
        from: String,
        /// The new version.
        to: String,
    },
    /// The scripts cannot be combined.
    #[error("the instructions that lead {} do not fit together", if *is_down { "back" } else { "to the new version" })]
    Script {
        /// True for the downgrade.
        is_down: bool,
        /// The underlying error.
        source: RcError,
    },
}

impl Version {
    fn find(&self, name: &str) -> Option<&Application> {
        self.applications.iter().find(|app| app.name == name)
    }
}

/// Creates the term of the `relup` file that upgrades from `old` to `new`, and downgrades back. `order` is the start
/// order of the applications of `new`; `appups` has those of the applications whose version changes.
///
/// # Errors
/// See [`RelupError`].
pub fn relup(
    new: &Version,
    order: &[String],
    old: &Version,
    appups: &BTreeMap<String, Appup>,
) -> Result<Term, RelupError> {
    if let Some(without) = [new, old].into_iter().find(|version| version.find("sasl").is_none()) {
        return Err(RelupError::NoSasl(without.version.clone()));
    }
    let way = |direction: Direction| {
        let (from, to) = match direction {
            Direction::Up => (old, new),
            Direction::Down => (new, old),
        };
        let scripts = scripts(direction, [from, to], (new, old), order, appups)?;
        let script = translate(direction, &scripts, &to.applications, &from.applications)
            .map_err(|source| RelupError::Script { is_down: direction == Direction::Down, source })?;
        let script = Term::List(script.iter().filter_map(Instruction::term).collect());
        Ok(Term::List(vec![Term::tuple([Term::string(&old.version), Term::List(Vec::new()), script])]))
    };
    Ok(Term::tuple([Term::string(&new.version), way(Direction::Up)?, way(Direction::Down)?]))
}

/// Returns the text of the `relup` file.
pub fn text(relup: &Term) -> String {
    format!("%% coding: utf-8\n{}.\n", pretty(relup))
}

/// Collects the scripts of all applications: additions, changes, removals.
fn scripts(
    direction: Direction,
    [from, to]: [&Version; 2],
    (new, old): (&Version, &Version),
    order: &[String],
    appups: &BTreeMap<String, Appup>,
) -> Result<Vec<Vec<Instruction>>, RelupError> {
    let mut scripts = Vec::new();
    if new.erts != old.erts {
        scripts.push(vec![Instruction::RestartNewEmulator]);
    }
    let added = to.applications.iter().filter(|app| from.find(&app.name).is_none());
    scripts.extend(added.map(|app| vec![Instruction::AddApplication(app.name.clone(), app.mode)]));
    for name in order {
        let (Some(now), Some(before)) = (new.find(name), old.find(name)) else { continue };
        if now.version == before.version {
            continue;
        }
        let script = appups.get(name).and_then(|appup| appup.script(direction, &before.version));
        let script = script.ok_or_else(|| RelupError::NoAppup {
            app: name.clone(),
            from: before.version.clone(),
            to: now.version.clone(),
        })?;
        scripts.push(script.to_vec());
    }
    let removed = from.applications.iter().filter(|app| to.find(&app.name).is_none());
    scripts.extend(removed.map(|app| vec![Instruction::RemoveApplication(app.name.clone())]));
    Ok(scripts)
}
