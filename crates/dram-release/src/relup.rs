//! The release upgrade file (`relup`).
//!
//! The format is that of relup(4), and the content is that of `systools:make_relup/4`.

use std::collections::BTreeMap;

use crate::appup::Appup;
use crate::print::pretty;
use crate::relup_script::instruction::UpgradeInstruction;
use crate::relup_script::{RelupApp, RelupScriptError, UpgradeDirection, translate_scripts};
use crate::term::Term;

/// One version of a release, as `systools:make_relup` sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelupRelease {
    /// The release version.
    pub version: String,
    /// The ERTS version.
    pub erts: String,
    /// The applications, in the order of the `.rel` file.
    pub applications: Vec<RelupApp>,
}

/// The reason why no relup could be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelupError {
    /// A version lacks the application `sasl`, which contains `release_handler`.
    #[error("version `{0}` has no application `sasl`, which changes a running system")]
    NoSasl(String),
    /// An application has no appup for this change.
    #[error("no appup says how `{app}` changes from `{from}` to `{to}`")]
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
        source: RelupScriptError,
    },
}

impl RelupRelease {
    fn find_app(&self, name: &str) -> Option<&RelupApp> {
        self.applications.iter().find(|app| app.name == name)
    }
}

/// Creates the term of the `relup` file that upgrades from `old` to `new`, and downgrades back. `order` is the start
/// order of the applications of `new`; `appups` has those of the applications whose version changes.
///
/// # Errors
/// See [`RelupError`].
pub fn make_relup(
    new: &RelupRelease,
    order: &[String],
    old: &RelupRelease,
    appups: &BTreeMap<String, Appup>,
) -> Result<Term, RelupError> {
    if let Some(without) = [new, old].into_iter().find(|version| version.find_app("sasl").is_none()) {
        return Err(RelupError::NoSasl(without.version.clone()));
    }
    let way = |direction: UpgradeDirection| {
        let (from, to) = match direction {
            UpgradeDirection::Up => (old, new),
            UpgradeDirection::Down => (new, old),
        };
        let scripts = collect_scripts(direction, [from, to], (new, old), order, appups)?;
        let script = translate_scripts(direction, &scripts, &to.applications, &from.applications)
            .map_err(|source| RelupError::Script { is_down: direction == UpgradeDirection::Down, source })?;
        let script = Term::List(script.iter().filter_map(UpgradeInstruction::term).collect());
        Ok(Term::List(vec![Term::tuple([Term::string(&old.version), Term::List(Vec::new()), script])]))
    };
    Ok(Term::tuple([Term::string(&new.version), way(UpgradeDirection::Up)?, way(UpgradeDirection::Down)?]))
}

/// Returns the text of the `relup` file.
pub fn relup_text(relup: &Term) -> String {
    format!("%% coding: utf-8\n{}.\n", pretty(relup))
}

/// Collects the scripts of all applications: additions, changes, removals.
fn collect_scripts(
    direction: UpgradeDirection,
    [from, to]: [&RelupRelease; 2],
    (new, old): (&RelupRelease, &RelupRelease),
    order: &[String],
    appups: &BTreeMap<String, Appup>,
) -> Result<Vec<Vec<UpgradeInstruction>>, RelupError> {
    let mut scripts = Vec::new();
    if new.erts != old.erts {
        scripts.push(vec![UpgradeInstruction::RestartNewEmulator]);
    }
    let added = to.applications.iter().filter(|app| from.find_app(&app.name).is_none());
    scripts.extend(added.map(|app| vec![UpgradeInstruction::AddApplication(app.name.clone(), app.mode)]));
    for name in order {
        let (Some(now), Some(before)) = (new.find_app(name), old.find_app(name)) else { continue };
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
    let removed = from.applications.iter().filter(|app| to.find_app(&app.name).is_none());
    scripts.extend(removed.map(|app| vec![UpgradeInstruction::RemoveApplication(app.name.clone())]));
    Ok(scripts)
}
