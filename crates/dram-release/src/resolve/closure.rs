//! The transitive dependencies of the requested applications, and their start types.

use std::collections::{BTreeMap, BTreeSet};

use super::{ReleaseRules, ReleaseSpec, ResolveError, StartType};
use crate::catalog::AppCatalog;

/// The way in which an application belongs to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReleaseMembership {
    Regular(StartType),
    Included,
}

/// Returns all applications of the release in the order of its `.rel` file: first the requested ones, then the others
/// by name.
///
/// # Errors
/// Returns errors for missing applications, applications that are both regular and included, and dependencies that are
/// not started.
pub(super) fn resolve_start_types(
    spec: &ReleaseSpec,
    catalog: &AppCatalog,
) -> Result<Vec<(String, StartType)>, Vec<ResolveError>> {
    let mut errors = Vec::new();
    let mut modes = first_applications(spec, &mut errors);
    let asked = modes.clone();
    let given: BTreeMap<&str, StartType> = asked.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    let mut known = BTreeMap::new();
    add_dependencies(&asked, &given, spec, catalog, &mut known, &mut errors);
    if matches!(spec.rules, ReleaseRules::Mix { .. }) && !known.contains_key("iex") {
        let iex = vec![("iex".to_owned(), StartType::None)];
        add_dependencies(&iex, &given, spec, catalog, &mut known, &mut errors);
        modes.extend(iex);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    for (name, _) in &modes {
        known.remove(name);
    }
    modes.extend(known.into_iter().map(|(name, how)| (name, start_type_of(how))));
    check_start_types(&modes, spec, catalog, &mut errors);
    if errors.is_empty() { Ok(modes) } else { Err(errors) }
}

/// Returns the first applications of the `.rel` file: those that every release has and that were not requested, then
/// the requested ones.
fn first_applications(spec: &ReleaseSpec, errors: &mut Vec<ResolveError>) -> Vec<(String, StartType)> {
    let asked: BTreeSet<&str> = spec.applications.iter().map(|(name, _)| name.as_str()).collect();
    let always = spec.rules.base_applications().iter().filter(|name| **name != "iex" && !asked.contains(**name));
    let mut all: Vec<_> = always.map(|name| ((*name).to_owned(), StartType::Permanent)).collect();
    let mut listed = BTreeSet::new();
    for (name, mode) in &spec.applications {
        if listed.insert(name) {
            all.push((name.clone(), mode.unwrap_or(StartType::Permanent)));
        } else {
            errors.push(ResolveError::RequestedTwice(name.clone()));
        }
    }
    all
}

fn start_type_of(how: ReleaseMembership) -> StartType {
    match how {
        ReleaseMembership::Regular(mode) => mode,
        ReleaseMembership::Included => StartType::Load,
    }
}

/// A request for an application, by another application or by the release.
struct AppRequest {
    name: String,
    membership: ReleaseMembership,
    required_by: Option<String>,
    is_optional: bool,
}

/// Adds the dependencies of `asked` to `known`, depth first, as Mix does. Of two start types the stronger one counts,
/// except for applications whose start type was requested.
fn add_dependencies(
    asked: &[(String, StartType)],
    given: &BTreeMap<&str, StartType>,
    spec: &ReleaseSpec,
    catalog: &AppCatalog,
    known: &mut BTreeMap<String, ReleaseMembership>,
    errors: &mut Vec<ResolveError>,
) {
    let first = |(name, mode): &(String, StartType)| AppRequest {
        name: name.clone(),
        membership: ReleaseMembership::Regular(*mode),
        required_by: None,
        is_optional: false,
    };
    let excluded: BTreeSet<&String> = spec.excluded.iter().collect();
    // The errors that were reported: by application, and by the application that depends on it.
    let mut reported: BTreeSet<(String, Option<Option<String>>)> = BTreeSet::new();
    // The stack's top is at the end.
    let mut waiting: Vec<AppRequest> = asked.iter().rev().map(first).collect();
    while let Some(wanted) = waiting.pop() {
        if excluded.contains(&wanted.name) {
            continue;
        }
        let how = match known.get(&wanted.name) {
            None => given.get(wanted.name.as_str()).map_or(wanted.membership, |mode| ReleaseMembership::Regular(*mode)),
            Some(_) if given.contains_key(wanted.name.as_str()) => continue,
            Some(before) => match stronger_membership(*before, wanted.membership) {
                Ok(None) => continue,
                Ok(Some(mode)) => mode,
                Err(()) => {
                    if reported.insert((wanted.name.clone(), None)) {
                        errors.push(ResolveError::RegularAndIncluded(wanted.name));
                    }
                    continue;
                }
            },
        };
        let Some(found) = catalog.get(&wanted.name) else {
            if !wanted.is_optional && reported.insert((wanted.name.clone(), Some(wanted.required_by.clone()))) {
                errors.push(ResolveError::Missing { name: wanted.name, by: wanted.required_by });
            }
            continue;
        };
        let is_new = known.insert(wanted.name.clone(), how).is_none();
        // Before Elixir 1.15.1, Mix ignores `optional_applications` when it visits an application again with a stronger
        // start type.
        let forgets = !is_new && matches!(spec.rules, ReleaseRules::Mix { elixir } if elixir < (1, 15, 1));
        let optional: BTreeSet<&String> = found.app.optional_applications.iter().collect();
        let child = |name: &String, how| AppRequest {
            name: name.clone(),
            membership: how,
            required_by: Some(wanted.name.clone()),
            is_optional: !forgets && how != ReleaseMembership::Included && optional.contains(name),
        };
        if is_new {
            waiting.extend(
                found.app.included_applications.iter().rev().map(|name| child(name, ReleaseMembership::Included)),
            );
        }
        let below = ReleaseMembership::Regular(start_type_of(how));
        waiting.extend(found.app.applications.iter().rev().map(|name| child(name, below)));
    }
}

/// Returns the stronger one of two: `None` if it is already the first, an error if one is included and the other is
/// not.
fn stronger_membership(before: ReleaseMembership, wanted: ReleaseMembership) -> Result<Option<ReleaseMembership>, ()> {
    match (before, wanted) {
        (before, wanted) if before == wanted => Ok(None),
        (ReleaseMembership::Included, ReleaseMembership::Regular(_))
        | (ReleaseMembership::Regular(_), ReleaseMembership::Included) => Err(()),
        (ReleaseMembership::Included, ReleaseMembership::Included) => Ok(None),
        (ReleaseMembership::Regular(before), ReleaseMembership::Regular(wanted)) => {
            Ok((wanted > before).then_some(ReleaseMembership::Regular(wanted)))
        }
    }
}

fn check_start_types(
    modes: &[(String, StartType)],
    spec: &ReleaseSpec,
    catalog: &AppCatalog,
    errors: &mut Vec<ResolveError>,
) {
    let by_name: BTreeMap<&str, StartType> = modes.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    let is_old = matches!(spec.rules, ReleaseRules::Mix { elixir } if elixir < (1, 15, 0));
    let unchecked: BTreeSet<&String> = spec.skip_mode_validation.iter().collect();
    for (name, mode) in modes.iter().filter(|(name, _)| !unchecked.contains(name)) {
        let children = catalog.get(name).map(|found| found.app.applications.as_slice()).unwrap_or_default();
        for child in children {
            let (app, mode, child_name) = (name.clone(), *mode, child.clone());
            match by_name.get(child.as_str()) {
                Some(child_mode) if mode.is_started() && !child_mode.is_started() => {
                    let (child, child_mode) = (child_name, *child_mode);
                    errors.push(ResolveError::StartTypeConflict { app, mode, child, child_mode });
                }
                None if is_old && !spec.excluded.contains(child) => {
                    errors.push(ResolveError::MissingOptional { app, child: child_name });
                }
                Some(_) | None => {}
            }
        }
    }
}
