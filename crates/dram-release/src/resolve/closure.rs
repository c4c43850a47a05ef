//! What the applications asked for need, and how each starts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mode, ResolveError, Spec, Style};
use crate::catalog::Catalog;

/// How an application came to be in a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Regular(Mode),
    Included,
}

/// All applications of the release, in the order of its `.rel` file: those that were asked for, then the others by name.
///
/// # Errors
/// What is missing, what is wanted in two ways that exclude each other, what needs something that does not run.
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

/// The applications in the order of the `.rel` file: those that every release has and nobody asked for, then those
/// that were asked for.
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

/// An application that somebody wants.
struct Wanted {
    name: String,
    how: How,
    by: Option<String>,
    is_optional: bool,
}

/// Adds to `known` what `asked` needs, depth first, as Mix does: of two modes the stronger holds, except for what was
/// asked for by name.
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
    // What has been said about an application, and about who needs it.
    let mut reported: BTreeSet<(String, Option<Option<String>>)> = BTreeSet::new();
    // The next one is at the end.
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
        // What may be missing is forgotten when a mode grows stronger, before Elixir 1.15.1.
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

/// The stronger of two: `None` when the first is it already, an error when one is included and the other is not.
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
