//! The order in which applications are loaded and started, and the checks of a release as a whole.
//!
//! The rules are those of `systools`: an application comes after those that it depends on and includes; otherwise the
//! order of the `.rel` file is kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{AppCatalog, CatalogEntry};
use crate::resolve::{ReleaseApp, ResolveError, ResolvedRelease, StartType};

/// An application of the release with its effective dependencies.
#[derive(Debug, Clone)]
pub(crate) struct OrderedApp<'a> {
    pub(crate) member: &'a ReleaseApp,
    pub(crate) entry: &'a CatalogEntry,
    /// The applications that it depends on, in the order of the `.rel` file.
    pub(crate) dependencies: Vec<String>,
    /// The applications that it includes, in the order of the `.rel` file.
    pub(crate) included: Vec<String>,
}

/// Returns all errors of the release as a whole.
pub(crate) fn release_errors(release: &ResolvedRelease, catalog: &AppCatalog) -> Vec<ResolveError> {
    let mut errors = Vec::new();
    let mut registered: BTreeMap<&str, &str> = BTreeMap::new();
    let mut included: BTreeMap<&str, &str> = BTreeMap::new();
    let mut modules: BTreeMap<&str, &str> = BTreeMap::new();
    let found: Vec<_> = release.apps.iter().filter_map(|member| catalog.get(&member.name)).collect();
    check_base_apps(release, &mut errors);
    check_missing_apps(release, catalog, &mut errors);
    for (member, CatalogEntry { app, .. }) in release.apps.iter().zip(&found) {
        let own = app.name.as_str();
        for name in &app.registered {
            if let Some(first) = registered.insert(name, own) {
                let (name, first, second) = (name.clone(), first.to_owned(), own.to_owned());
                errors.push(ResolveError::RegisteredTwice { name, first, second });
            }
        }
        for name in &member.included {
            if let Some(first) = included.insert(name, own) {
                let (name, first, second) = (name.clone(), first.to_owned(), own.to_owned());
                errors.push(ResolveError::IncludedTwice { name, first, second });
            }
        }
        for module in &app.modules {
            if let Some(first) = modules.insert(module, own) {
                let (module, first, second) = (module.clone(), first.to_owned(), own.to_owned());
                errors.push(ResolveError::ModuleTwice { module, first, second });
            }
        }
    }
    // The callback module of an application may be compiled without being listed in `modules`.
    let compiled: BTreeSet<&str> =
        found.iter().filter_map(|found| found.beams.as_ref()).flatten().map(String::as_str).collect();
    for CatalogEntry { app, beams, location, .. } in &found {
        let missing = |module: &&String| beams.as_ref().is_some_and(|beams| !beams.contains(*module));
        if let Some(module) = app.modules.iter().find(missing) {
            let (app, module, location) = (app.name.clone(), module.clone(), location.clone());
            errors.push(ResolveError::NoBeam { app, module, location });
        }
        if let Some(module) =
            app.start_module().filter(|module| !modules.contains_key(module) && !compiled.contains(module))
        {
            errors.push(ResolveError::NoStartModule { app: app.name.clone(), module: module.to_owned() });
        }
    }
    if errors.is_empty()
        && let Err(cycle) = start_order(release, catalog)
    {
        errors.push(ResolveError::Cycle(cycle));
    }
    errors
}

/// Checks that kernel and stdlib are in the release, and permanent.
fn check_base_apps(release: &ResolvedRelease, errors: &mut Vec<ResolveError>) {
    for name in ["kernel", "stdlib"] {
        match release.apps.iter().find(|member| member.name == name).map(|member| member.mode) {
            Some(StartType::Permanent) => {}
            Some(mode) => errors.push(ResolveError::BaseNotPermanent { name: name.to_owned(), mode }),
            None => errors.push(ResolveError::Missing { name: name.to_owned(), by: None }),
        }
    }
}

/// Checks that all dependencies and included applications are in the release.
fn check_missing_apps(release: &ResolvedRelease, catalog: &AppCatalog, errors: &mut Vec<ResolveError>) {
    let members: BTreeSet<&str> = release.apps.iter().map(ReleaseApp::name).collect();
    let mut reported = BTreeSet::new();
    for member in &release.apps {
        let Some(CatalogEntry { app, .. }) = catalog.get(&member.name) else { continue };
        let optional: BTreeSet<&String> = app.optional_applications.iter().collect();
        let used = app.applications.iter().filter(|name| !optional.contains(name));
        for name in used.chain(&member.included) {
            let is_there = members.contains(name.as_str()) || release.excluded.contains(name);
            if !is_there && reported.insert(name) {
                errors.push(ResolveError::Missing { name: name.clone(), by: Some(member.name.clone()) });
            }
        }
    }
}

/// Returns the applications in start order, or a dependency cycle as a list of names.
pub(crate) fn start_order<'a>(
    release: &'a ResolvedRelease,
    catalog: &'a AppCatalog,
) -> Result<Vec<OrderedApp<'a>>, Vec<String>> {
    let all = effective_apps(release, catalog);
    let next = dependency_indices(&all);
    if let Some(cycle) = find_cycle(&next) {
        return Err(cycle.into_iter().map(|at| all[at].member.name().to_owned()).collect());
    }
    // The stack's top is at the end. An application that is pushed again stays at its old position too, and is skipped
    // when it is reached there.
    let mut waiting: Vec<usize> = (0..all.len()).rev().collect();
    let mut is_done = vec![false; all.len()];
    let mut order = Vec::new();
    while let Some(at) = waiting.pop() {
        if is_done[at] {
            continue;
        }
        if next[at].iter().all(|other| is_done[*other]) {
            is_done[at] = true;
            order.push(at);
            continue;
        }
        waiting.push(at);
        waiting.extend(next[at].iter().rev().filter(|other| !is_done[**other]));
    }
    Ok(order.into_iter().map(|at| all[at].clone()).collect())
}

/// Returns the dependencies of each application, by index and without duplicates.
fn dependency_indices(all: &[OrderedApp<'_>]) -> Vec<Vec<usize>> {
    let number: BTreeMap<&str, usize> = all.iter().enumerate().map(|(at, app)| (app.member.name(), at)).collect();
    let included: BTreeSet<(usize, &str)> =
        all.iter().enumerate().flat_map(|(at, app)| app.included.iter().map(move |name| (at, name.as_str()))).collect();
    let next = |app: &OrderedApp<'_>| {
        let mut seen = BTreeSet::new();
        let others = app.dependencies.iter().chain(&app.included).filter_map(|name| number.get(name.as_str()).copied());
        // A dependency on the application that includes this one is ignored: the including application depends on this
        // one.
        others.filter(|other| !included.contains(&(*other, app.member.name())) && seen.insert(*other)).collect()
    };
    all.iter().map(next).collect()
}

/// Returns the applications with their effective dependencies: a dependency on an included application becomes one on
/// the topmost application that includes it.
fn effective_apps<'a>(release: &'a ResolvedRelease, catalog: &'a AppCatalog) -> Vec<OrderedApp<'a>> {
    let position: BTreeMap<&str, usize> =
        release.apps.iter().enumerate().map(|(at, member)| (member.name(), at)).collect();
    let mut above: BTreeMap<String, &str> = BTreeMap::new();
    for member in &release.apps {
        for name in &included_apps(member, &release.excluded) {
            above.entry(name.clone()).or_insert(member.name());
        }
    }
    let tops = top_includers(&above);
    let top = |name: &'a str| tops.get(name).copied().unwrap_or(name);
    let sorted = |mut names: Vec<String>| {
        names.sort_by_key(|name| position.get(name.as_str()).copied().unwrap_or(usize::MAX));
        names
    };
    let place = |member: &'a ReleaseApp| {
        let found = catalog.get(&member.name)?;
        let my_top = top(&member.name);
        let mut uses = found.app.applications.clone();
        uses.retain(|name| !release.excluded.contains(name));
        for used in &uses.clone() {
            if used == my_top {
                uses.retain(|name| name != my_top);
            } else if let Some(holder) = above.get(used.as_str()) {
                let used_top = top(holder);
                if uses.iter().any(|name| name == used_top) {
                    uses.retain(|name| name != used);
                } else if used_top != my_top {
                    uses.retain(|name| name != used);
                    uses.push(used_top.to_owned());
                }
            }
        }
        let includes = sorted(included_apps(member, &release.excluded));
        Some(OrderedApp { member, entry: found, dependencies: sorted(uses), included: includes })
    };
    release.apps.iter().filter_map(place).collect()
}

/// Returns the topmost including application of each included application. If applications include each other in a
/// cycle, it is any one of the cycle.
fn top_includers<'a>(above: &'a BTreeMap<String, &'a str>) -> BTreeMap<&'a str, &'a str> {
    let mut tops: BTreeMap<&str, &str> = BTreeMap::new();
    for name in above.keys() {
        let (mut way, mut at) = (Vec::new(), name.as_str());
        let top = loop {
            match (tops.get(at), above.get(at)) {
                (Some(top), _) => break *top,
                (None, None) => break at,
                (None, Some(next)) => {
                    // Marked as visited, so that an inclusion cycle ends.
                    tops.insert(at, at);
                    way.push(at);
                    at = next;
                }
            }
        };
        for below in way {
            tops.insert(below, top);
        }
    }
    tops
}

fn included_apps(member: &ReleaseApp, excluded: &BTreeSet<String>) -> Vec<String> {
    member.included.iter().filter(|name| !excluded.contains(*name)).cloned().collect()
}

/// Returns a dependency cycle as a list of indices, in which the first one is repeated at the end.
fn find_cycle(next: &[Vec<usize>]) -> Option<Vec<usize>> {
    let (mut is_done, mut is_on_way) = (vec![false; next.len()], vec![false; next.len()]);
    for start in 0..next.len() {
        // The depth-first path: each node with the number of its dependencies that were visited.
        let mut way: Vec<(usize, usize)> = Vec::new();
        if !is_done[start] {
            way.push((start, 0));
            is_on_way[start] = true;
        }
        while let Some((at, looked)) = way.last_mut() {
            let at = *at;
            let Some(&other) = next[at].get(*looked) else {
                is_done[at] = true;
                is_on_way[at] = false;
                way.pop();
                continue;
            };
            *looked += 1;
            if is_on_way[other] {
                let from = way.iter().position(|(on, _)| *on == other).unwrap_or(0);
                return Some(way[from..].iter().map(|(on, _)| *on).chain([other]).collect());
            }
            if !is_done[other] {
                is_on_way[other] = true;
                way.push((other, 0));
            }
        }
    }
    None
}
