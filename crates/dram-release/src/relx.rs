//! Dependency resolution under the rules of relx.
//!
//! It follows relx 4: `rlx_release` parses the goals, `rlx_resolve` resolves their dependencies.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::AppSpec;
use crate::catalog::AppCatalog;
use crate::resolve::{ReleaseApp, ReleaseRules, ResolveError, ResolvedRelease, StartType, check_release};
use crate::term::Term;

/// A goal: an application that is requested for the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelxGoal {
    /// The application's name.
    pub name: String,
    /// The required version.
    pub version: Option<String>,
    /// The start type.
    pub mode: Option<StartType>,
    /// The included applications to include; a subset of those in the application specification.
    pub included: Option<Vec<String>>,
}

/// A term is not a valid goal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` asks for no application: it is `NAME`, or a tuple of NAME and a version, a start type, applications to include"
)]
pub struct RelxGoalError(
    /// The term, truncated for the message.
    pub String,
);

impl RelxGoal {
    /// Parses `name`, `{name, Mode}`, `{name, "1.0"}`, `{name, [included]}`, `{name, "1.0", Mode}`,
    /// `{name, "1.0", [included]}` or `{name, "1.0", Mode, [included]}`.
    ///
    /// # Errors
    /// Fails if the term has none of these forms.
    pub fn parse(term: &Term) -> Result<RelxGoal, RelxGoalError> {
        let wrong = || RelxGoalError(term.to_string().chars().take(80).collect());
        let (name, rest) = match (term.as_atom(), term.as_tuple()) {
            (Some(name), _) => (name, &[][..]),
            (None, Some([name, rest @ ..])) => (name.as_atom().ok_or_else(wrong)?, rest),
            (None, _) => return Err(wrong()),
        };
        let mut goal = RelxGoal { name: name.to_owned(), version: None, mode: None, included: None };
        let mode = |term: &Term| term.as_atom().and_then(StartType::parse);
        let version = |term: &Term| term.as_string();
        match rest {
            [] if term.as_atom().is_some() => {}
            // An empty list means that nothing is included: a version is never empty.
            [one] => match (mode(one), one.as_atoms(), version(one)) {
                (Some(mode), _, _) => goal.mode = Some(mode),
                (None, Some(included), _) => goal.included = Some(included),
                (None, None, Some(version)) => goal.version = Some(version),
                (None, None, None) => return Err(wrong()),
            },
            [first, second] => {
                goal.version = Some(version(first).ok_or_else(wrong)?);
                match (mode(second), second.as_atoms()) {
                    (Some(mode), _) => goal.mode = Some(mode),
                    (None, Some(included)) => goal.included = Some(included),
                    (None, None) => return Err(wrong()),
                }
            }
            [first, second, third] => {
                goal.version = Some(version(first).ok_or_else(wrong)?);
                goal.mode = Some(mode(second).ok_or_else(wrong)?);
                goal.included = Some(third.as_atoms().ok_or_else(wrong)?);
            }
            _ => return Err(wrong()),
        }
        Ok(goal)
    }
}

/// The specification of a release under the rules of relx.
#[derive(Debug, Clone)]
pub struct RelxSpec {
    /// The release name.
    pub name: String,
    /// The release version.
    pub version: String,
    /// The ERTS version.
    pub erts: String,
    /// The OTP release number.
    pub otp: u32,
    /// The requested applications, in order.
    pub goals: Vec<RelxGoal>,
    /// Applications that are excluded, even if others depend on them.
    pub excluded: Vec<String>,
}

/// Resolves the release: each application comes after its dependencies.
///
/// # Errors
/// Returns all errors that can be found independently of each other.
pub fn resolve(spec: &RelxSpec, catalog: &AppCatalog) -> Result<ResolvedRelease, Vec<ResolveError>> {
    let mut errors = Vec::new();
    let mut goals: BTreeMap<&str, &RelxGoal> = BTreeMap::new();
    for goal in &spec.goals {
        // If there are two goals for one application, the first counts.
        goals.entry(&goal.name).or_insert(goal);
    }
    let order = dependency_order(spec, &goals, catalog, &mut errors);
    let included: BTreeSet<&String> = order.iter().flat_map(|app| &app.included_applications).collect();
    let mut members = Vec::new();
    for app in &order {
        let goal = goals.get(app.name.as_str());
        let usual = if included.contains(&app.name) { StartType::Load } else { StartType::Permanent };
        let said = goal.and_then(|goal| goal.included.clone());
        for name in said.iter().flatten().filter(|name| !app.included_applications.contains(name)) {
            errors.push(ResolveError::NotIncluded { app: app.name.clone(), name: name.clone() });
        }
        members.push(ReleaseApp {
            name: app.name.clone(),
            version: app.vsn.clone(),
            // A goal without a start type is permanent, even if another application includes it.
            mode: goal.map_or(usual, |goal| goal.mode.unwrap_or(StartType::Permanent)),
            lists_included: said.is_some(),
            included: said.unwrap_or_else(|| app.included_applications.clone()),
        });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let release = ResolvedRelease {
        name: spec.name.clone(),
        version: spec.version.clone(),
        erts: spec.erts.clone(),
        otp: spec.otp,
        rules: ReleaseRules::Otp,
        apps: members,
        omits_defaults: true,
        excluded: spec.excluded.iter().cloned().collect(),
    };
    check_release(release, catalog)
}

/// A step of the depth-first traversal: before and after the dependencies of an application.
enum DependencyStep<'a> {
    Enter { name: &'a str, by: Option<&'a AppSpec> },
    Leave(&'a AppSpec),
}

/// Returns the applications; each one comes after its dependencies.
fn dependency_order<'a>(
    spec: &'a RelxSpec,
    goals: &BTreeMap<&str, &'a RelxGoal>,
    catalog: &'a AppCatalog,
    errors: &mut Vec<ResolveError>,
) -> Vec<&'a AppSpec> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // The stack's top is at the end.
    let mut steps: Vec<DependencyStep<'a>> =
        spec.goals.iter().rev().map(|goal| DependencyStep::Enter { name: &goal.name, by: None }).collect();
    while let Some(step) = steps.pop() {
        let (name, by) = match step {
            DependencyStep::Leave(app) => {
                if !spec.excluded.contains(&app.name) {
                    order.push(app);
                }
                continue;
            }
            DependencyStep::Enter { name, .. } if seen.contains(name) => continue,
            DependencyStep::Enter { name, by } => (name, by),
        };
        let Some(found) = catalog.get(name) else {
            // The application may be optional for this one and required by another.
            if !by.is_some_and(|by| by.optional_applications.iter().any(|optional| optional == name)) {
                let by = by.map(|app| app.name.clone());
                errors.push(ResolveError::Missing { name: name.to_owned(), by });
                seen.insert(name);
            }
            continue;
        };
        seen.insert(name);
        let app = &found.app;
        if let Some(asked) = goals.get(name).and_then(|goal| goal.version.as_ref()).filter(|asked| **asked != app.vsn) {
            let (name, asked, found_version) = (name.to_owned(), asked.clone(), app.vsn.clone());
            let location = found.location.clone();
            errors.push(ResolveError::WrongVersion { name, asked, found: found_version, location });
        }
        steps.push(DependencyStep::Leave(app));
        let children = app.applications.iter().chain(&app.included_applications).chain(&app.optional_applications);
        let children: Vec<_> = children.map(|name| DependencyStep::Enter { name, by: Some(app) }).collect();
        steps.extend(children.into_iter().rev());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{AppOrigin, CatalogEntry};
    use crate::consult::parse_one;
    use crate::release_files::rel_text;

    fn goal(text: &str) -> Option<String> {
        let goal = RelxGoal::parse(&parse_one(text.as_bytes()).unwrap()).ok()?;
        Some(format!("{} {:?} {:?} {:?}", goal.name, goal.version, goal.mode, goal.included))
    }

    #[test]
    fn goals_have_seven_forms() {
        assert_eq!(goal("a").unwrap(), "a None None None");
        assert_eq!(goal("{a,load}").unwrap(), "a None Some(Load) None");
        assert_eq!(goal("{a,\"1\"}").unwrap(), "a Some(\"1\") None None");
        assert_eq!(goal("{a,[b]}").unwrap(), "a None None Some([\"b\"])");
        assert_eq!(goal("{a,[]}").unwrap(), "a None None Some([])");
        assert_eq!(goal("{a,\"1\",none}").unwrap(), "a Some(\"1\") Some(None) None");
        assert_eq!(goal("{a,\"1\",[b]}").unwrap(), "a Some(\"1\") None Some([\"b\"])");
        assert_eq!(goal("{a,\"1\",temporary,[b]}").unwrap(), "a Some(\"1\") Some(Temporary) Some([\"b\"])");
        for text in
            ["\"a\"", "{a}", "{}", "{a,later}", "{a,1}", "{a,load,\"1\"}", "{a,\"1\",load,b}", "{\"a\",\"1\"}", "[a]"]
        {
            assert_eq!(goal(text), None, "{text}");
        }
    }

    fn catalog(apps: &[(&str, &str)]) -> AppCatalog {
        let mut catalog = AppCatalog::default();
        for (name, keys) in apps {
            let text = format!(
                "{{application,{name},[{{vsn,\"1\"}},{{description,\"\"}},{{modules,[]}},{{registered,[]}},{keys}]}}."
            );
            let app = AppSpec::read(text.as_bytes(), name, 25).unwrap();
            catalog.add(CatalogEntry {
                app,
                origin: AppOrigin::Project,
                location: format!("/lib/{name}"),
                beams: None,
            });
        }
        catalog
    }

    fn resolved(goals: &[&str], excluded: &[&str]) -> Result<String, Vec<ResolveError>> {
        let catalog = catalog(&[
            ("kernel", "{applications,[]}"),
            ("stdlib", "{applications,[kernel]}"),
            ("a", "{applications,[kernel,stdlib,b]},{included_applications,[c]}"),
            ("b", "{applications,[kernel]}"),
            ("c", "{applications,[absent]},{optional_applications,[absent]}"),
        ]);
        let goals = goals.iter().map(|goal| RelxGoal::parse(&parse_one(goal.as_bytes()).unwrap()).unwrap()).collect();
        let excluded = excluded.iter().map(|name| (*name).to_owned()).collect();
        let (name, version, erts) = ("r".to_owned(), "1".to_owned(), "13.1".to_owned());
        let release = resolve(&RelxSpec { name, version, erts, otp: 25, goals, excluded }, &catalog)?;
        let text: String = rel_text(&release).lines().map(str::trim).collect();
        Ok(text.split_once("{erts,\"13.1\"},").unwrap().1.to_owned())
    }

    #[test]
    fn default_start_types_are_omitted_from_the_rel_file() {
        let all = "[{kernel,\"1\"},{stdlib,\"1\"},{b,\"1\"},{c,\"1\",load},{a,\"1\"}]}.";
        assert_eq!(resolved(&["a"], &[]).unwrap(), all);
        let all = "[{kernel,\"1\"},{stdlib,\"1\"},{b,\"1\",none},{c,\"1\",load},{a,\"1\",load,[c]}]}.";
        assert_eq!(resolved(&["{a,\"1\",load,[c]}", "{b,none}"], &[]).unwrap(), all);
        assert_eq!(resolved(&["a"], &["b"]).unwrap(), "[{kernel,\"1\"},{stdlib,\"1\"},{c,\"1\",load},{a,\"1\"}]}.");
    }

    #[test]
    fn all_relx_errors_are_reported_at_once() {
        let errors = resolved(&["{a,\"2\",[b]}", "gone"], &[]).unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let expected = [
            "`a` was asked for in version 2, and `/lib/a` has version 1",
            "there is no application `gone`",
            "`a` is to include `b`, and its specification does not name it",
        ];
        assert_eq!(texts, expected);
        assert!(errors.iter().all(|error| !error.help().is_empty()));
    }
}
