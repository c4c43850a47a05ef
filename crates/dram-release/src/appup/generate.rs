//! Generates an appup from the difference between two versions of an application.
//!
//! Supervisors get `{update, Module, supervisor}`, processes that export `code_change` get
//! `{update, Module, {advanced, []}}`, and all other modules get `load_module`. A module comes after the modules that
//! it calls.

use std::collections::{BTreeMap, BTreeSet};

use super::Appup;
use crate::beam::{Beam, BeamError, DEBUG_CHUNKS, decompress};
use crate::term::Term;

/// The modules of one version of an application: the bytes of each `.beam` file by module name.
pub type BeamFiles = BTreeMap<String, Vec<u8>>;

/// Chunks that count as a change even if only one of the two files has them; any other missing chunk may have been
/// stripped.
const CODE_CHUNKS: [&[u8; 4]; 8] = [b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT"];
/// Attributes that are derived from the code (`vsn`) or from the directory it was compiled in (`external_resource`).
const DERIVED_ATTRIBUTES: [&str; 2] = ["vsn", "external_resource"];
/// Behaviours that mark a supervisor callback module. A `DynamicSupervisor` is upgraded in the same way.
const SUPERVISOR_BEHAVIOURS: [&str; 3] = ["supervisor", "Elixir.Supervisor", "Elixir.DynamicSupervisor"];
/// Functions that are exported only by modules whose processes can convert their state.
const CODE_CHANGE_CALLBACKS: [(&str, u32); 3] = [("code_change", 3), ("code_change", 4), ("system_code_change", 4)];

/// The reason why no appup could be generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the module `{module}` cannot be read")]
pub struct AppupGenerateError {
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
pub fn modules_differ(one: &[u8], other: &[u8]) -> Result<bool, BeamError> {
    if one == other {
        return Ok(false);
    }
    let (one, other) = (decompress(one)?, decompress(other)?);
    let (one, other) = (Beam::read(&one)?, Beam::read(&other)?);
    let names = one.chunks().iter().chain(other.chunks()).map(|(name, _)| name);
    for name in names.collect::<BTreeSet<_>>() {
        let is_different = match (one.chunk(name), other.chunk(name)) {
            _ if DEBUG_CHUNKS.contains(&name) => false,
            (Some(_), Some(_)) if name == b"Attr" => significant_attributes(&one)? != significant_attributes(&other)?,
            (Some(one), Some(other)) => one != other,
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => CODE_CHUNKS.contains(&name),
        };
        if is_different {
            return Ok(true);
        }
    }
    Ok(false)
}

fn significant_attributes(beam: &Beam<'_>) -> Result<BTreeMap<String, Vec<Term>>, BeamError> {
    let mut attributes = beam.attributes()?;
    attributes.retain(|name, _| !DERIVED_ATTRIBUTES.contains(&name.as_str()));
    Ok(attributes)
}

/// A module that differs between the two versions.
struct ChangedModule {
    module: String,
    kind: ChangedModuleKind,
    /// The modules that it calls and that changed as well.
    depends_on: Vec<String>,
}

enum ChangedModuleKind {
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
pub fn generate_appup(from: &str, to: &str, old: &BeamFiles, new: &BeamFiles) -> Result<Appup, AppupGenerateError> {
    let failed = |module: &String| {
        let module = module.clone();
        move |source| AppupGenerateError { module, source }
    };
    let mut changed = Vec::new();
    for (module, bytes) in new {
        if let Some(before) = old.get(module)
            && modules_differ(before, bytes).map_err(failed(module))?
        {
            changed.push(classify_change(module, before, bytes).map_err(failed(module))?);
        }
    }
    let names: BTreeSet<_> = changed.iter().map(|changed| changed.module.clone()).collect();
    changed
        .iter_mut()
        .for_each(|changed| changed.depends_on.retain(|name| names.contains(name) && *name != changed.module));
    let only = |some: &BeamFiles, others: &BeamFiles, word: &str| -> Vec<Term> {
        let names = some.keys().filter(|name| !others.contains_key(*name));
        names.map(|name| Term::tuple([Term::atom(word), Term::atom(name)])).collect()
    };
    let changes: Vec<_> = sort_by_dependencies(changed).iter().map(ChangedModule::term).collect();
    let up = [only(new, old, "add_module"), changes.clone(), only(old, new, "delete_module")].concat();
    let down = [only(old, new, "add_module"), changes, only(new, old, "delete_module")].concat();
    Ok(build_appup(from, to, up, down))
}

/// Returns an appup that only restarts the emulator (`restart_new_emulator`), for the base applications of OTP.
pub fn restart_appup(from: &str, to: &str) -> Appup {
    let script = || vec![Term::atom("restart_new_emulator")];
    build_appup(from, to, script(), script())
}

fn build_appup(from: &str, to: &str, up: Vec<Term>, down: Vec<Term>) -> Appup {
    let way = |script: Vec<Term>| Term::List(vec![Term::tuple([Term::string(from), Term::List(script)])]);
    let term = Term::tuple([Term::string(to), way(up), way(down)]);
    Appup::from_term(term).expect("what is generated has the right form")
}

/// Classifies a changed module by its old version, and lists the modules that its new version calls.
fn classify_change(module: &str, old: &[u8], new: &[u8]) -> Result<ChangedModule, BeamError> {
    let (old, new) = (decompress(old)?, decompress(new)?);
    let (old, new) = (Beam::read(&old)?, Beam::read(&new)?);
    let exports = old.exports()?;
    let is_supervisor = old.behaviours()?.iter().any(|name| SUPERVISOR_BEHAVIOURS.contains(&name.as_str()));
    let has = |&(name, arity): &(&str, u32)| exports.iter().any(|found| found.name == name && found.arity == arity);
    let kind = match is_supervisor {
        true => ChangedModuleKind::Supervisor,
        false if CODE_CHANGE_CALLBACKS.iter().any(has) => ChangedModuleKind::Process,
        false => ChangedModuleKind::Code,
    };
    let on: BTreeSet<_> = new.imports()?.into_iter().map(|import| import.module).collect();
    Ok(ChangedModule { module: module.to_owned(), kind, depends_on: on.into_iter().collect() })
}

impl ChangedModule {
    fn term(&self) -> Term {
        let mut parts = match self.kind {
            ChangedModuleKind::Supervisor => {
                return Term::tuple([Term::atom("update"), Term::atom(&self.module), Term::atom("supervisor")]);
            }
            ChangedModuleKind::Process => {
                let advanced = Term::tuple([Term::atom("advanced"), Term::List(Vec::new())]);
                vec![Term::atom("update"), Term::atom(&self.module), advanced]
            }
            ChangedModuleKind::Code => vec![Term::atom("load_module"), Term::atom(&self.module)],
        };
        if !self.depends_on.is_empty() {
            parts.push(Term::atoms(&self.depends_on));
        }
        Term::Tuple(parts)
    }
}

/// Sorts the changes so that each module comes after the modules it depends on. If several modules are ready, or a
/// dependency cycle is left, the module with the fewest dependencies comes first; ties are broken by name.
fn sort_by_dependencies(changed: Vec<ChangedModule>) -> Vec<ChangedModule> {
    let mut left: BTreeMap<String, ChangedModule> =
        changed.into_iter().map(|changed| (changed.module.clone(), changed)).collect();
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
    let mut ready: BTreeSet<(usize, usize, String)> = BTreeSet::new();
    for changed in left.values() {
        waiting.insert(changed.module.clone(), changed.depends_on.len());
        ready.insert((changed.depends_on.len(), changed.depends_on.len(), changed.module.clone()));
        for on in &changed.depends_on {
            users.entry(on.clone()).or_default().push(changed.module.clone());
        }
    }
    let mut sorted: Vec<ChangedModule> = Vec::new();
    while let Some((_, _, module)) = ready.pop_first() {
        for user in users.remove(&module).unwrap_or_default() {
            let (Some(count), Some(all)) = (waiting.get_mut(&user), left.get(&user).map(|user| user.depends_on.len()))
            else {
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
