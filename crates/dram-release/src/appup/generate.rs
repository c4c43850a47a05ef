//! Generates an appup from the difference between two versions of an application.
//!
//! Supervisors get `{update, Module, supervisor}`, processes that export `code_change` get
//! `{update, Module, {advanced, []}}`, and all other modules get `load_module`. A module comes after the modules that
//! it calls.

use std::collections::{BTreeMap, BTreeSet};

use super::Appup;
use crate::beam::{Beam, BeamError, unpacked};
use crate::term::Term;

/// The modules of one version of an application: the bytes of each `.beam` file by module name.
pub type Modules = BTreeMap<String, Vec<u8>>;

/// Chunks that describe how a module was compiled, and do not affect what it does.
const DISPENSABLE: [&[u8; 4]; 6] = [b"Dbgi", b"Docs", b"ExCk", b"CInf", b"LocT", b"Abst"];
/// Chunks that count as a change even if only one of the two files has them; any other missing chunk may have been
/// stripped.
const CODE: [&[u8; 4]; 8] = [b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT"];
/// Attributes that are derived from the code (`vsn`) or from the directory it was compiled in (`external_resource`).
const INCIDENTAL: [&str; 2] = ["vsn", "external_resource"];
/// Behaviours that mark a supervisor callback module. A `DynamicSupervisor` is upgraded in the same way.
const SUPERVISORS: [&str; 3] = ["supervisor", "Elixir.Supervisor", "Elixir.DynamicSupervisor"];
/// Functions that are exported only by modules whose processes can convert their state.
const CHANGE: [(&str, u32); 3] = [("code_change", 3), ("code_change", 4), ("system_code_change", 4)];

/// The reason why no appup could be generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the module `{module}` cannot be read")]
pub struct GenerateError {
    /// The module that could not be read.
    pub module: String,
    /// The underlying error.
    pub source: BeamError,
}

/// Returns true if two `.beam` files differ in what they do. Compiler information, documentation and chunks that one
/// file lost by stripping are ignored.
///
/// # Errors
/// Fails if one of the files is not a `.beam` file.
pub fn differ(one: &[u8], other: &[u8]) -> Result<bool, BeamError> {
    if one == other {
        return Ok(false);
    }
    let (one, other) = (unpacked(one)?, unpacked(other)?);
    let (one, other) = (Beam::read(&one)?, Beam::read(&other)?);
    let names = one.chunks().iter().chain(other.chunks()).map(|(name, _)| name);
    for name in names.collect::<BTreeSet<_>>() {
        let is_different = match (one.chunk(name), other.chunk(name)) {
            _ if DISPENSABLE.contains(&name) => false,
            (Some(_), Some(_)) if name == b"Attr" => attributes(&one)? != attributes(&other)?,
            (Some(one), Some(other)) => one != other,
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => CODE.contains(&name),
        };
        if is_different {
            return Ok(true);
        }
    }
    Ok(false)
}

fn attributes(beam: &Beam<'_>) -> Result<BTreeMap<String, Vec<Term>>, BeamError> {
    let mut attributes = beam.attributes()?;
    attributes.retain(|name, _| !INCIDENTAL.contains(&name.as_str()));
    Ok(attributes)
}

/// A module that differs between the two versions.
struct Changed {
    module: String,
    kind: Kind,
    /// The modules that it calls and that changed as well.
    on: Vec<String>,
}

enum Kind {
    Supervisor,
    Process,
    Code,
}

/// Generates the appup that upgrades from the modules `old` of version `from` to the modules `new` of version `to`, and
/// downgrades back.
///
/// Modules are added before the modules that use them, and deleted after the modules that used them.
///
/// # Errors
/// Fails if a module cannot be read.
pub fn generate(from: &str, to: &str, old: &Modules, new: &Modules) -> Result<Appup, GenerateError> {
    let failed = |module: &String| {
        let module = module.clone();
        move |source| GenerateError { module, source }
    };
    let mut changed = Vec::new();
    for (module, bytes) in new {
        if let Some(before) = old.get(module)
            && differ(before, bytes).map_err(failed(module))?
        {
            changed.push(look(module, before, bytes).map_err(failed(module))?);
        }
    }
    let names: BTreeSet<_> = changed.iter().map(|changed| changed.module.clone()).collect();
    changed.iter_mut().for_each(|changed| changed.on.retain(|name| names.contains(name) && *name != changed.module));
    let only = |some: &Modules, others: &Modules, word: &str| -> Vec<Term> {
        let names = some.keys().filter(|name| !others.contains_key(*name));
        names.map(|name| Term::tuple([Term::atom(word), Term::atom(name)])).collect()
    };
    let changes: Vec<_> = sorted(changed).iter().map(Changed::term).collect();
    let up = [only(new, old, "add_module"), changes.clone(), only(old, new, "delete_module")].concat();
    let down = [only(old, new, "add_module"), changes, only(new, old, "delete_module")].concat();
    Ok(appup(from, to, up, down))
}

/// Returns an appup that only restarts the emulator (`restart_new_emulator`), for the base applications of OTP.
pub fn restart(from: &str, to: &str) -> Appup {
    let script = || vec![Term::atom("restart_new_emulator")];
    appup(from, to, script(), script())
}

fn appup(from: &str, to: &str, up: Vec<Term>, down: Vec<Term>) -> Appup {
    let way = |script: Vec<Term>| Term::List(vec![Term::tuple([Term::string(from), Term::List(script)])]);
    let term = Term::tuple([Term::string(to), way(up), way(down)]);
    Appup::of(term).expect("what is generated has the right form")
}

/// Classifies a changed module by its old version, and lists the modules that its new version calls.
fn look(module: &str, old: &[u8], new: &[u8]) -> Result<Changed, BeamError> {
    let (old, new) = (unpacked(old)?, unpacked(new)?);
    let (old, new) = (Beam::read(&old)?, Beam::read(&new)?);
    let exports = old.exports()?;
    let is_supervisor = old.behaviours()?.iter().any(|name| SUPERVISORS.contains(&name.as_str()));
    let has = |&(name, arity): &(&str, u32)| exports.iter().any(|found| found.name == name && found.arity == arity);
    let kind = match is_supervisor {
        true => Kind::Supervisor,
        false if CHANGE.iter().any(has) => Kind::Process,
        false => Kind::Code,
    };
    let on: BTreeSet<_> = new.imports()?.into_iter().map(|import| import.module).collect();
    Ok(Changed { module: module.to_owned(), kind, on: on.into_iter().collect() })
}

impl Changed {
    fn term(&self) -> Term {
        let mut parts = match self.kind {
            Kind::Supervisor => {
                return Term::tuple([Term::atom("update"), Term::atom(&self.module), Term::atom("supervisor")]);
            }
            Kind::Process => {
                let advanced = Term::tuple([Term::atom("advanced"), Term::List(Vec::new())]);
                vec![Term::atom("update"), Term::atom(&self.module), advanced]
            }
            Kind::Code => vec![Term::atom("load_module"), Term::atom(&self.module)],
        };
        if !self.on.is_empty() {
            parts.push(Term::atoms(&self.on));
        }
        Term::Tuple(parts)
    }
}

/// Sorts the changes so that each module comes after the modules it depends on. If several modules are ready, or a
/// dependency cycle is left, the module with the fewest dependencies comes first; ties are broken by name.
fn sorted(changed: Vec<Changed>) -> Vec<Changed> {
    let mut left: BTreeMap<String, Changed> =
        changed.into_iter().map(|changed| (changed.module.clone(), changed)).collect();
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
    let mut ready: BTreeSet<(usize, usize, String)> = BTreeSet::new();
    for changed in left.values() {
        waiting.insert(changed.module.clone(), changed.on.len());
        ready.insert((changed.on.len(), changed.on.len(), changed.module.clone()));
        for on in &changed.on {
            users.entry(on.clone()).or_default().push(changed.module.clone());
        }
    }
    let mut sorted: Vec<Changed> = Vec::new();
    while let Some((_, _, module)) = ready.pop_first() {
        for user in users.remove(&module).unwrap_or_default() {
            let (Some(count), Some(all)) = (waiting.get_mut(&user), left.get(&user).map(|user| user.on.len())) else {
                continue;
            };
            if ready.remove(&(*count, all, user.clone())) {
                *count -= 1;
                ready.insert((*count, all, user));
            }
        }
        sorted.extend(left.remove(&module));
    }
    sorted
}
