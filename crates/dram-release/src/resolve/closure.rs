//! The transitive dependencies of the requested applications, and their start types.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mode, ResolveError, Spec, Style};
use crate::catalog::Catalog;

/// The way in which an application belongs to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Regular(Mode),
    Included,
}

/// Returns all applications of the release in the order of its `.rel` file: first the requested ones, then the others
/// by name.
///
/// # Errors
/// Returns errors for missing applications, applications that are both regular and included, and dependencies that are
/// not started.
pub(super) fn modes(spec: &Spec, catalog: &Catalog) -> Result<Vec<(String, Mode)>, Vec<ResolveError>> {
    let mut errors = Vec::new();
    let mut modes = asked(spec, &mut errors);
    let asked = modes.clone();
    let given: BTreeMap<&str, Mode> = asked.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    let mut known = BTreeMap::new();
    load(&asked, &given, spec, catalog, &mut known, &mut errors);
    if matches!(spec.style, Style::Mix { .. }) && !known.contains_key("iex") {
        let iex = vec![("iex".to_owned(), Mode::None)];
        load(&iex, &given, spec, catalog, &mut known, &mut errors);
        modes.extend(iex);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    for (name, _) in &modes {
        known.remove(name);
    }
    modes.extend(known.into_iter().map(|(name, how)| (name, mode_of(how))));
    check_modes(&modes, spec, catalog, &mut errors);
    if errors.is_empty() { Ok(modes) } else { Err(errors) }
}

/// Returns the first applications of the `.rel` file: those that every release has and that were not requested, then
/// the requested ones.
fn asked(spec: &Spec, errors: &mut Vec<ResolveError>) -> Vec<(String, Mode)> {
    let asked: BTreeSet<&str> = spec.applications.iter().map(|(name, _)| name.as_str()).collect();
    let always = spec.style.always().iter().filter(|name| **name != "iex" && !asked.contains(**name));
    let mut all: Vec<_> = always.map(|name| ((*name).to_owned(), Mode::Permanent)).collect();
    let mut listed = BTreeSet::new();
    for (name, mode) in &spec.applications {
        if listed.insert(name) {
            all.push((name.clone(), mode.unwrap_or(Mode::Permanent)));
        } else {
            errors.push(ResolveError::AskedTwice(name.clone()));
        }
    }
    all
}

fn mode_of(how: How) -> Mode {
    match how {
        How::Regular(mode) => mode,
        How::Included => Mode::Load,
    }
}

/// A request for an application, by another application or by the release.
struct Wanted {
    name: String,
    how: How,
    by: Option<String>,
    is_optional: bool,
}

/// Adds the dependencies of `asked` to `known`, depth first, as Mix does. Of two start types the stronger one counts,
/// except for applications whose start type was requested.
fn load(
    asked: &[(String, Mode)],
    given: &BTreeMap<&str, Mode>,
    spec: &Spec,
    catalog: &Catalog,
    known: &mut BTreeMap<String, How>,
    errors: &mut Vec<ResolveError>,
) {
    let first = |(name, mode): &(String, Mode)| Wanted {
        name: name.clone(),
        how: How::Regular(*mode),
        by: None,
        is_optional: false,
    };
    let excluded: BTreeSet<&String> = spec.excluded.iter().collect();
    // The errors that were reported: by application, and by the application that depends on it.
    let mut reported: BTreeSet<(String, Option<Option<String>>)> = BTreeSet::new();
    // The stack's top is at the end.
    let mut waiting: Vec<Wanted> = asked.iter().rev().map(first).collect();
    while let Some(wanted) = waiting.pop() {
        if excluded.contains(&wanted.name) {
            continue;
        }
        let how = match known.get(&wanted.name) {
            None => given.get(wanted.name.as_str()).map_or(wanted.how, |mode| How::Regular(*mode)),
            Some(_) if given.contains_key(wanted.name.as_str()) => continue,
            Some(before) => match stronger(*before, wanted.how) {
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
            if !wanted.is_optional && reported.insert((wanted.name.clone(), Some(wanted.by.clone()))) {
                errors.push(ResolveError::Missing { name: wanted.name, by: wanted.by });
            }
            continue;
        };
        let is_new = known.insert(wanted.name.clone(), how).is_none();
        // Before Elixir 1.15.1, Mix ignores `optional_applications` when it visits an application again with a stronger
        // start type.
        let forgets = !is_new && matches!(spec.style, Style::Mix { elixir } if elixir < (1, 15, 1));
        let optional: BTreeSet<&String> = found.app.optional_applications.iter().collect();
        let child = |name: &String, how| Wanted {
            name: name.clone(),
            how,
            by: Some(wanted.name.clone()),
            is_optional: !forgets && how != How::Included && optional.contains(name),
        };
        if is_new {
            waiting.extend(found.app.included_applications.iter().rev().map(|name| child(name, How::Included)));
        }
        let below = How::Regular(mode_of(how));
        waiting.extend(found.app.applications.iter().rev().map(|name| child(name, below)));
    }
}

/// Returns the stronger one of two: `None` if it is already the first, an error if one is included and the other is
/// not.
fn stronger(before: How, wanted: How) -> Result<Option<How>, ()> {
    match (before, wanted) {
        (before, wanted) if before == wanted => Ok(None),
        (How::Included, How::Regular(_)) | (How::Regular(_), How::Included) => Err(()),
        (How::Included, How::Included) => Ok(None),
        (How::Regular(before), How::Regular(wanted)) => Ok((wanted > before).then_some(How::Regular(wanted))),
    }
}

fn check_modes(modes: &[(String, Mode)], spec: &Spec, catalog: &Catalog, errors: &mut Vec<ResolveError>) {
    let by_name: BTreeMap<&str, Mode> = modes.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    let is_old = matches!(spec.style, Style::Mix { elixir } if elixir < (1, 15, 0));
    let unchecked: BTreeSet<&String> = spec.unchecked.iter().collect();
    for (name, mode) in modes.iter().filter(|(name, _)| !unchecked.contains(name)) {
        let children = catalog.get(name).map(|found| found.app.applications.as_slice()).unwrap_or_default();
        for child in children {
            let (app, mode, child_name) = (name.clone(), *mode, child.clone());
            match by_name.get(child.as_str()) {
                Some(child_mode) if mode.starts() && !child_mode.starts() => {
                    let (child, child_mode) = (child_name, *child_mode);
                    errors.push(ResolveError::ModeConflict { app, mode, child, child_mode });
                }
                None if is_old && !spec.excluded.contains(child) => {
                    errors.push(ResolveError::NoOptional { app, child: child_name });
                }
                Some(_) | None => {}
            }
        }
    }
}
