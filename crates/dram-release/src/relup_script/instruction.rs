//! Release upgrade instructions, as in appup(4) and relup(4).

use super::RelupScriptError;
use crate::resolve::StartType;
use crate::term::Term;

/// The purge method: how processes that run the old code of a module are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeMethod {
    /// `soft_purge`: they prevent the installation of the release.
    Soft,
    /// `brutal_purge`: they are killed.
    Brutal,
}

/// A module with the methods to purge its old code before and after a load.
#[derive(Debug, Clone, PartialEq)]
pub struct ModulePurge {
    /// The module.
    pub module: String,
    /// `PrePurge`: the method for code that is already old.
    pub pre_purge: PurgeMethod,
    /// `PostPurge`: the method for code that becomes old.
    pub post_purge: PurgeMethod,
}

/// A high-level instruction for one module, which is ordered by dependencies.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleChange {
    /// The module and its purge methods.
    pub code: ModulePurge,
    /// The kind of change.
    pub kind: ModuleChangeKind,
    /// `DepMods`: the modules that it depends on.
    pub dep_modules: Vec<String>,
}

/// The kind of change of a module.
#[derive(Debug, Clone, PartialEq)]
pub enum ModuleChangeKind {
    /// `update`: the module's processes are suspended while it is loaded, and may convert their state.
    Update {
        /// True for a static module: on a downgrade, the state is converted after the old code was loaded.
        is_static: bool,
        /// The timeout for suspending the processes; `None` is the default.
        timeout: Option<Term>,
        /// The `Extra` argument of `code_change`; `None` for a soft update, which does not call it.
        advanced: Option<Term>,
    },
    /// The module is loaded.
    Load,
    /// The module is deleted.
    Delete,
}

/// A high-level or low-level upgrade instruction.
#[derive(Debug, Clone, PartialEq)]
pub enum UpgradeInstruction {
    /// A change of a module, ordered by dependencies.
    Change(ModuleChange),
    /// `add_application` with the start type.
    AddApplication(String, StartType),
    /// `remove_application`.
    RemoveApplication(String),
    /// `restart_application`.
    RestartApplication(String),
    /// `load_object_code`: the code of modules is read from the disk.
    LoadObjectCode {
        /// The library: the application's name.
        library: String,
        /// The library's version, a string.
        version: Term,
        /// The modules.
        modules: Vec<String>,
    },
    /// `point_of_no_return`: if a later instruction fails, the system restarts.
    PointOfNoReturn,
    /// `load`: the module's code becomes current.
    Load(ModulePurge),
    /// `remove`: the module's current code becomes old.
    Remove(ModulePurge),
    /// `purge`: the old code of modules is purged.
    Purge(Vec<String>),
    /// `suspend`: processes that run these modules are suspended, each with an optional timeout.
    Suspend(Vec<(String, Option<Term>)>),
    /// `resume`: suspended processes are resumed.
    Resume(Vec<String>),
    /// `code_change`: processes convert their state. The flag is true for a downgrade and `None` if the mode is not
    /// given; each module has its `Extra` argument.
    CodeChange(Option<bool>, Vec<(String, Term)>),
    /// `stop`: processes of these modules are stopped.
    Stop(Vec<String>),
    /// `start`: stopped processes are started again.
    Start(Vec<String>),
    /// `sync_nodes`: synchronizes with other nodes.
    SyncNodes(Term, Term),
    /// `apply`: calls the function in `{M, F, A}`.
    Apply(Term),
    /// `restart_new_emulator`: restarts with the new ERTS before all other instructions.
    RestartNewEmulator,
    /// `restart_emulator`: restarts the emulator after all other instructions.
    RestartEmulator,
}

impl PurgeMethod {
    fn name(self) -> &'static str {
        match self {
            PurgeMethod::Soft => "soft_purge",
            PurgeMethod::Brutal => "brutal_purge",
        }
    }
}

impl ModulePurge {
    /// Returns the module with `brutal_purge` before and after the load.
    pub fn brutal(module: &str) -> ModulePurge {
        ModulePurge { module: module.to_owned(), pre_purge: PurgeMethod::Brutal, post_purge: PurgeMethod::Brutal }
    }

    fn term(&self) -> Term {
        Term::tuple([Term::atom(&self.module), Term::atom(self.pre_purge.name()), Term::atom(self.post_purge.name())])
    }
}

impl ModuleChange {
    /// Returns the instruction to load a module with `brutal_purge` and without dependencies.
    pub fn load(module: &str) -> ModuleChange {
        ModuleChange { code: ModulePurge::brutal(module), kind: ModuleChangeKind::Load, dep_modules: Vec::new() }
    }
}

/// Reads the instructions of a script. A nested list is flattened; its instructions have no short forms, as in
/// `systools`.
///
/// # Errors
/// Returns an error for the first invalid instruction.
pub fn read_script(script: &Term) -> Result<Vec<UpgradeInstruction>, RelupScriptError> {
    let mut read = Vec::new();
    for term in script.as_list().ok_or_else(|| invalid_instruction(script, "a script is a list of instructions"))? {
        match term.as_list() {
            Some(inner) => {
                for term in inner {
                    read.push(parse_instruction(term)?);
                }
            }
            None => read.push(parse_instruction(&expand_short_form(term))?),
        }
    }
    Ok(read)
}

/// Expands a short form of a high-level instruction to its long form.
fn expand_short_form(term: &Term) -> Term {
    let Some(parts) = term.as_tuple() else { return term.clone() };
    let brutal = || Term::atom("brutal_purge");
    let none = || Term::List(Vec::new());
    let full = |words: Vec<Term>| Term::Tuple([&parts[..2], &words].concat());
    let is_soft = |term: &Term| term.as_atom() == Some("soft");
    match (parts.first().and_then(Term::as_atom), parts.get(1..).unwrap_or_default()) {
        (Some("load_module"), [_]) => full(vec![brutal(), brutal(), none()]),
        (Some("load_module"), [_, on @ Term::List(_)]) => full(vec![brutal(), brutal(), on.clone()]),
        (Some("update"), [_]) => full(vec![Term::atom("soft"), brutal(), brutal(), none()]),
        (Some("update"), [_, kind]) if kind.as_atom() == Some("supervisor") => {
            let advanced = Term::tuple([Term::atom("advanced"), none()]);
            full(vec![Term::atom("static"), Term::atom("default"), advanced, brutal(), brutal(), none()])
        }
        (Some("update"), [_, change]) if is_soft(change) || change.as_tuple().is_some() => {
            full(vec![change.clone(), brutal(), brutal(), none()])
        }
        (Some("update"), [_, on @ Term::List(_)]) => full(vec![Term::atom("soft"), brutal(), brutal(), on.clone()]),
        (Some("update"), [_, change, on @ Term::List(_)]) if is_soft(change) || change.as_tuple().is_some() => {
            full(vec![change.clone(), brutal(), brutal(), on.clone()])
        }
        (Some("add_module" | "delete_module"), [_]) => full(vec![none()]),
        (Some("add_application"), [_]) => full(vec![Term::atom("permanent")]),
        _ => term.clone(),
    }
}

fn invalid_instruction(term: &Term, why: &'static str) -> RelupScriptError {
    RelupScriptError::Instruction { shown: term.to_string().chars().take(120).collect(), why }
}

/// A parser for the parts of one instruction; its errors show the whole instruction.
struct UpgradeInstructionParser<'a>(&'a Term);

impl UpgradeInstructionParser<'_> {
    fn error(&self, why: &'static str) -> RelupScriptError {
        invalid_instruction(self.0, why)
    }

    fn name(&self, term: &Term) -> Result<String, RelupScriptError> {
        term.as_atom().map(str::to_owned).ok_or_else(|| self.error("a module or application is an atom"))
    }

    fn names(&self, term: &Term) -> Result<Vec<String>, RelupScriptError> {
        term.as_atoms().ok_or_else(|| self.error("modules are a list of atoms"))
    }

    fn module_purge(&self, module: &Term, before: &Term, after: &Term) -> Result<ModulePurge, RelupScriptError> {
        let purge = |term: &Term| match term.as_atom() {
            Some("soft_purge") => Ok(PurgeMethod::Soft),
            Some("brutal_purge") => Ok(PurgeMethod::Brutal),
            _ => Err(self.error("code goes with `soft_purge` or `brutal_purge`")),
        };
        Ok(ModulePurge { module: self.name(module)?, pre_purge: purge(before)?, post_purge: purge(after)? })
    }

    fn purge_triple(&self, term: &Term) -> Result<ModulePurge, RelupScriptError> {
        match term.as_tuple() {
            Some([module, before, after]) => self.module_purge(module, before, after),
            _ => Err(self.error("it takes `{MODULE, PURGE, PURGE}`")),
        }
    }

    /// Parses a timeout; `default` gives `None`.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a term of any other kind is one case")]
    fn timeout(&self, term: &Term) -> Result<Option<Term>, RelupScriptError> {
        match term {
            Term::Atom(name) if name == "default" => Ok(None),
            Term::Atom(name) if name == "infinity" => Ok(Some(term.clone())),
            Term::Int(1..) | Term::Big(false, _) => Ok(Some(term.clone())),
            _ => Err(self.error("a time is `default`, `infinity` or a positive number of milliseconds")),
        }
    }

    fn update(&self, kind: &Term, timeout: &Term, change: &Term) -> Result<ModuleChangeKind, RelupScriptError> {
        let is_static = match kind.as_atom() {
            Some("static") => true,
            Some("dynamic") => false,
            _ => return Err(self.error("a kind of module is `static` or `dynamic`")),
        };
        let advanced = match (change.as_atom(), change.as_tuple()) {
            (Some("soft"), _) => None,
            (_, Some([tag, extra])) if tag.as_atom() == Some("advanced") => Some(extra.clone()),
            _ => return Err(self.error("a change is `soft` or `{advanced, EXTRA}`")),
        };
        Ok(ModuleChangeKind::Update { is_static, timeout: self.timeout(timeout)?, advanced })
    }

    fn call(&self, term: &Term) -> Result<Term, RelupScriptError> {
        match term.as_tuple() {
            Some([Term::Atom(_), Term::Atom(_), Term::List(_)]) => Ok(term.clone()),
            _ => Err(self.error("a call is `{MODULE, FUNCTION, ARGUMENTS}`")),
        }
    }

    fn suspended(&self, term: &Term) -> Result<(String, Option<Term>), RelupScriptError> {
        match term.as_tuple() {
            Some([module, timeout]) => {
                // A `default` that is written here is kept in the relup.
                self.timeout(timeout)?;
                Ok((self.name(module)?, Some(timeout.clone())))
            }
            _ => Ok((self.name(term)?, None)),
        }
    }

    fn code_changes(&self, term: &Term) -> Result<Vec<(String, Term)>, RelupScriptError> {
        let pair = |term: &Term| match term.as_tuple() {
            Some([module, extra]) => Ok((self.name(module)?, extra.clone())),
            _ => Err(self.error("what changes its code is `{MODULE, EXTRA}`")),
        };
        term.as_list().ok_or_else(|| self.error("modules are a list"))?.iter().map(pair).collect()
    }
}

/// Parses one instruction in its long form.
fn parse_instruction(term: &Term) -> Result<UpgradeInstruction, RelupScriptError> {
    let parts = UpgradeInstructionParser(term);
    let unknown = || parts.error("there is no such instruction");
    if let Some(word) = term.as_atom() {
        return match word {
            "point_of_no_return" => Ok(UpgradeInstruction::PointOfNoReturn),
            "restart_new_emulator" => Ok(UpgradeInstruction::RestartNewEmulator),
            "restart_emulator" => Ok(UpgradeInstruction::RestartEmulator),
            // `systools` accepts them, but `release_handler` would fail with an error in the middle of the upgrade.
            "restart" | "reboot" => {
                Err(parts.error("no running system knows this instruction: use `restart_emulator`"))
            }
            _ => Err(unknown()),
        };
    }
    let Some([Term::Atom(word), rest @ ..]) = term.as_tuple() else { return Err(unknown()) };
    let (dynamic, default) = (Term::atom("dynamic"), Term::atom("default"));
    let update = |module: &Term, [kind, timeout, change]: [&Term; 3], [before, after]: [&Term; 2], on: &Term| {
        let kind = parts.update(kind, timeout, change)?;
        Ok(UpgradeInstruction::Change(ModuleChange {
            code: parts.module_purge(module, before, after)?,
            kind,
            dep_modules: parts.names(on)?,
        }))
    };
    match (word.as_str(), rest) {
        ("update", [module, change, before, after, on]) => {
            update(module, [&dynamic, &default, change], [before, after], on)
        }
        ("update", [module, timeout, change, before, after, on]) => {
            update(module, [&dynamic, timeout, change], [before, after], on)
        }
        ("update", [module, kind, timeout, change, before, after, on]) => {
            update(module, [kind, timeout, change], [before, after], on)
        }
        ("load_module", [module, before, after, on]) => {
            let code = parts.module_purge(module, before, after)?;
            Ok(UpgradeInstruction::Change(ModuleChange {
                code,
                kind: ModuleChangeKind::Load,
                dep_modules: parts.names(on)?,
            }))
        }
        ("add_module" | "delete_module", [module, on]) => {
            let kind = if word == "add_module" { ModuleChangeKind::Load } else { ModuleChangeKind::Delete };
            let code = ModulePurge::brutal(&parts.name(module)?);
            Ok(UpgradeInstruction::Change(ModuleChange { code, kind, dep_modules: parts.names(on)? }))
        }
        // This short form occurs in a nested list.
        ("add_module" | "delete_module", [module]) => {
            parse_instruction(&expand_short_form(&Term::tuple([Term::atom(word), module.clone()])))
        }
        ("add_application", [name, mode]) => {
            let mode =
                mode.as_atom().and_then(StartType::parse).ok_or_else(|| parts.error("there is no such start type"))?;
            Ok(UpgradeInstruction::AddApplication(parts.name(name)?, mode))
        }
        ("remove_application", [name]) => Ok(UpgradeInstruction::RemoveApplication(parts.name(name)?)),
        ("restart_application", [name]) => Ok(UpgradeInstruction::RestartApplication(parts.name(name)?)),
        ("load_object_code", [what]) => match what.as_tuple() {
            Some([library, version @ Term::List(_), modules]) => Ok(UpgradeInstruction::LoadObjectCode {
                library: parts.name(library)?,
                version: version.clone(),
                modules: parts.names(modules)?,
            }),
            _ => Err(parts.error("it takes `{LIBRARY, VERSION, MODULES}`")),
        },
        ("load", [what]) => Ok(UpgradeInstruction::Load(parts.purge_triple(what)?)),
        ("remove", [what]) => Ok(UpgradeInstruction::Remove(parts.purge_triple(what)?)),
        ("purge", [modules]) => Ok(UpgradeInstruction::Purge(parts.names(modules)?)),
        ("suspend", [modules]) => {
            let modules = modules.as_list().ok_or_else(|| parts.error("modules are a list"))?;
            Ok(UpgradeInstruction::Suspend(modules.iter().map(|term| parts.suspended(term)).collect::<Result<_, _>>()?))
        }
        ("resume", [modules]) => Ok(UpgradeInstruction::Resume(parts.names(modules)?)),
        ("code_change", [modules]) => Ok(UpgradeInstruction::CodeChange(None, parts.code_changes(modules)?)),
        ("code_change", [mode, modules]) => {
            let is_down = match mode.as_atom() {
                Some("up") => false,
                Some("down") => true,
                _ => return Err(parts.error("code changes `up` or `down`")),
            };
            Ok(UpgradeInstruction::CodeChange(Some(is_down), parts.code_changes(modules)?))
        }
        ("stop", [modules]) => Ok(UpgradeInstruction::Stop(parts.names(modules)?)),
        ("start", [modules]) => Ok(UpgradeInstruction::Start(parts.names(modules)?)),
        ("sync_nodes", [id, what]) => {
            if what.as_atoms().is_none() {
                parts.call(what)?;
            }
            Ok(UpgradeInstruction::SyncNodes(id.clone(), what.clone()))
        }
        ("apply", [call]) => Ok(UpgradeInstruction::Apply(parts.call(call)?)),
        _ => Err(unknown()),
    }
}

impl UpgradeInstruction {
    /// Returns the instruction as it is written to a relup; `None` for a high-level instruction, which is translated
    /// into others.
    pub fn term(&self) -> Option<Term> {
        let pair = |word: &str, what: Term| Some(Term::tuple([Term::atom(word), what]));
        match self {
            UpgradeInstruction::Change(_)
            | UpgradeInstruction::AddApplication(..)
            | UpgradeInstruction::RemoveApplication(_)
            | UpgradeInstruction::RestartApplication(_) => None,
            UpgradeInstruction::LoadObjectCode { library, version, modules } => {
                pair("load_object_code", Term::tuple([Term::atom(library), version.clone(), Term::atoms(modules)]))
            }
            UpgradeInstruction::PointOfNoReturn => Some(Term::atom("point_of_no_return")),
            UpgradeInstruction::Load(code) => pair("load", code.term()),
            UpgradeInstruction::Remove(code) => pair("remove", code.term()),
            UpgradeInstruction::Purge(modules) => pair("purge", Term::atoms(modules)),
            UpgradeInstruction::Suspend(modules) => {
                let one = |(module, timeout): &(String, Option<Term>)| match timeout {
                    None => Term::atom(module),
                    Some(timeout) => Term::tuple([Term::atom(module), timeout.clone()]),
                };
                pair("suspend", Term::List(modules.iter().map(one).collect()))
            }
            UpgradeInstruction::Resume(modules) => pair("resume", Term::atoms(modules)),
            UpgradeInstruction::CodeChange(is_down, modules) => {
                let one = |(module, extra): &(String, Term)| Term::tuple([Term::atom(module), extra.clone()]);
                let modules = Term::List(modules.iter().map(one).collect());
                match is_down {
                    None => pair("code_change", modules),
                    Some(is_down) => {
                        let mode = Term::atom(if *is_down { "down" } else { "up" });
                        Some(Term::tuple([Term::atom("code_change"), mode, modules]))
                    }
                }
            }
            UpgradeInstruction::Stop(modules) => pair("stop", Term::atoms(modules)),
            UpgradeInstruction::Start(modules) => pair("start", Term::atoms(modules)),
            UpgradeInstruction::SyncNodes(id, what) => {
                Some(Term::tuple([Term::atom("sync_nodes"), id.clone(), what.clone()]))
            }
            UpgradeInstruction::Apply(call) => pair("apply", call.clone()),
            UpgradeInstruction::RestartNewEmulator => Some(Term::atom("restart_new_emulator")),
            UpgradeInstruction::RestartEmulator => Some(Term::atom("restart_emulator")),
        }
    }

    /// Returns the term for messages. It is as an appup has it, but an instruction for a module is without the purge
    /// methods and the modules that it depends on.
    pub(crate) fn shown_term(&self) -> Term {
        let pair = |word: &str, name: &str| Term::tuple([Term::atom(word), Term::atom(name)]);
        match self {
            UpgradeInstruction::Change(change) => match change.kind {
                ModuleChangeKind::Update { .. } => pair("update", &change.code.module),
                ModuleChangeKind::Load => pair("load_module", &change.code.module),
                ModuleChangeKind::Delete => pair("delete_module", &change.code.module),
            },
            UpgradeInstruction::AddApplication(name, mode) => {
                Term::tuple([Term::atom("add_application"), Term::atom(name), Term::atom(mode.name())])
            }
            UpgradeInstruction::RemoveApplication(name) => pair("remove_application", name),
            UpgradeInstruction::RestartApplication(name) => pair("restart_application", name),
            low_level @ (UpgradeInstruction::LoadObjectCode { .. }
            | UpgradeInstruction::PointOfNoReturn
            | UpgradeInstruction::Load(_)
            | UpgradeInstruction::Remove(_)
            | UpgradeInstruction::Purge(_)
            | UpgradeInstruction::Suspend(_)
            | UpgradeInstruction::Resume(_)
            | UpgradeInstruction::CodeChange(..)
            | UpgradeInstruction::Stop(_)
            | UpgradeInstruction::Start(_)
            | UpgradeInstruction::SyncNodes(..)
            | UpgradeInstruction::Apply(_)
            | UpgradeInstruction::RestartNewEmulator
            | UpgradeInstruction::RestartEmulator) => {
                low_level.term().expect("only the instructions above are high-level")
            }
        }
    }
}
