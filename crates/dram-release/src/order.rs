//! The order in which applications load and start, and what keeps them from it.
//!
//! The rules are those of `systools`: an application comes after what it uses and what it includes, and otherwise as
//! the `.rel` file has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::catalog::{Catalog, Found};
use crate::resolve::{Member, Mode, Release, ResolveError};

/// An application in its place.
#[derive(Debug, Clone)]
pub(crate) struct Placed<'a> {
    pub(crate) member: &'a Member,
    pub(crate) found: &'a Found,
    /// What it uses, in the order of the `.rel` file.
    pub(crate) uses: Vec<String>,
    /// What it includes, in the order of the `.rel` file.
    pub(crate) includes: Vec<String>,
}

/// Everything that is wrong with a release as a whole.
pub(crate) fn check(release: &Release, catalog: &Catalog) -> Vec<ResolveError> {
    let mut errors = Vec::new();
    let mut registered: BTreeMap<&str, &str> = BTreeMap::new();
    let mut included: BTreeMap<&str, &str> = BTreeMap::new();
    let mut modules: BTreeMap<&str, &str> = BTreeMap::new();
    let found: Vec<_> = release.members.iter().filter_map(|member| catalog.get(&member.name)).collect();
    base(release, &mut errors);
    undefined(release, catalog, &mut errors);
    for (member, Found { app, .. }) in release.members.iter().zip(&found) {
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
    // A module that is compiled and not listed can start an application too.
    let compiled: BTreeSet<&str> =
        found.iter().filter_map(|found| found.beams.as_ref()).flatten().map(String::as_str).collect();
    for Found { app, beams, location, .. } in &found {
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
        && let Err(cycle) = place(release, catalog)
    {
        errors.push(ResolveError::Cycle(cycle));
    }
    errors
}

/// Erlang's own applications are there, and permanent.
fn base(release: &Release, errors: &mut Vec<ResolveError>) {
    for name in ["kernel", "stdlib"] {
        match release.members.iter().find(|member| member.name == name).map(|member| member.mode) {
            Some(Mode::Permanent) => {}
            Some(mode) => errors.push(ResolveError::Base { name: name.to_owned(), mode }),
            None => errors.push(ResolveError::Missing { name: name.to_owned(), by: None }),
        }
    }
}

/// Applications that others need, and that are no members.
fn undefined(release: &Release, catalog: &Catalog, errors: &mut Vec<ResolveError>) {
    let members: BTreeSet<&str> = release.members.iter().map(Member::name).collect();
    let mut reported = BTreeSet::new();
    for member in &release.members {
        let Some(Found { app, .. }) = catalog.get(&member.name) else { continue };
        let used = app.applications.iter().filter(|name| !app.optional_applications.contains(name));
        for name in used.chain(&member.included) {
            let is_there = members.contains(name.as_str()) || release.excluded.contains(name);
            if !is_there && reported.insert(name) {
                errors.push(ResolveError::Missing { name: name.clone(), by: Some(member.name.clone()) });
            }
        }
    }
}

/// The applications in the order they load and start; a circle, by name, when there is one.
pub(crate) fn place<'a>(release: &'a Release, catalog: &'a Catalog) -> Result<Vec<Placed<'a>>, Vec<String>> {
    let all = with_uses(release, catalog);
    let number: BTreeMap<&str, usize> = all.iter().enumerate().map(|(at, app)| (app.member.name(), at)).collect();
    if let Some(cycle) = cycle(&all, &number) {
        return Err(cycle);
    }
    let mut waiting: VecDeque<usize> = (0..all.len()).collect();
    let mut is_waiting = vec![true; all.len()];
    let mut order = Vec::new();
    while let Some(next) = waiting.pop_front() {
        is_waiting[next] = false;
        let app = &all[next];
        let mut before = Vec::new();
        for name in app.uses.iter().chain(&app.includes) {
            let Some(&other) = number.get(name.as_str()) else { continue };
            // An application that this one is included in waits for this one, whatever this one says.
            let is_top = all[other].includes.iter().any(|included| included == app.member.name());
            if is_waiting[other] && !is_top && !before.contains(&other) {
                before.push(other);
            }
        }
        if before.is_empty() {
            order.push(next);
            continue;
        }
        waiting.retain(|other| !before.contains(other));
        waiting.push_front(next);
        is_waiting[next] = true;
        before.into_iter().rev().for_each(|other| waiting.push_front(other));
    }
    Ok(order.into_iter().map(|at| all[at].clone()).collect())
}

/// What each application uses: who uses one that is included in another waits for the one at the top.
fn with_uses<'a>(release: &'a Release, catalog: &'a Catalog) -> Vec<Placed<'a>> {
    let position: BTreeMap<&str, usize> =
        release.members.iter().enumerate().map(|(at, member)| (member.name(), at)).collect();
    let mut above: BTreeMap<String, &str> = BTreeMap::new();
    for member in &release.members {
        for name in &included(member, &release.excluded) {
            above.entry(name.clone()).or_insert(member.name());
        }
    }
    let top = |name: &'a str| {
        let mut top = name;
        // As many steps as there are applications: a circle of inclusion ends too.
        for _ in 0..above.len() {
            match above.get(top) {
                Some(next) => top = next,
                None => break,
            }
        }
        top
    };
    let sorted = |mut names: Vec<String>| {
        names.sort_by_key(|name| position.get(name.as_str()).copied().unwrap_or(usize::MAX));
        names
    };
    let place = |member: &'a Member| {
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
        let includes = sorted(included(member, &release.excluded));
        Some(Placed { member, found, uses: sorted(uses), includes })
    };
    release.members.iter().filter_map(place).collect()
}

fn included(member: &Member, excluded: &BTreeSet<String>) -> Vec<String> {
    member.included.iter().filter(|name| !excluded.contains(*name)).cloned().collect()
}

/// A circle of applications that wait for each other: its names, the first one again at the end.
fn cycle(all: &[Placed<'_>], number: &BTreeMap<&str, usize>) -> Option<Vec<String>> {
    let next = |at: usize| -> Vec<usize> {
        let app = &all[at];
        let others = app.uses.iter().chain(&app.includes).filter_map(|name| number.get(name.as_str()).copied());
        others.filter(|&other| !all[other].includes.iter().any(|name| name == app.member.name())).collect()
    };
    let mut done = BTreeSet::new();
    for start in 0..all.len() {
        let mut way: Vec<(usize, VecDeque<usize>)> = Vec::new();
        let mut on_way = BTreeSet::new();
        if done.contains(&start) {
            continue;
        }
        way.push((start, next(start).into()));
        on_way.insert(start);
        while let Some((at, rest)) = way.last_mut() {
            let at = *at;
            match rest.pop_front() {
                None => {
                    done.insert(at);
                    on_way.remove(&at);
                    way.pop();
                }
                Some(other) if on_way.contains(&other) => {
                    let from = way.iter().position(|(on, _)| *on == other).unwrap_or(0);
                    let names = way[from..].iter().map(|(on, _)| all[*on].member.name().to_owned());
                    return Some(names.chain([all[other].member.name().to_owned()]).collect());
                }
                Some(other) if done.contains(&other) => {}
                Some(other) => {
                    on_way.insert(other);
                    way.push((other, next(other).into()));
                }
            }
        }
    }
    None
}
