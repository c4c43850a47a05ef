//! Boot scripts (`.script` and `.boot` files).
//!
//! The instructions and their order are those of `systools:make_script` in OTP 24 and newer; with [`BootOptions::mix`],
//! changed as `mix release` changes them.

use std::collections::BTreeSet;

use crate::app::AppSpec;
use crate::catalog::{AppCatalog, AppOrigin};
use crate::etf::{AtomEncoding, encode};
use crate::print::pretty;
use crate::resolve::{ResolvedRelease, StartType};
use crate::start_order::{OrderedApp, start_order};
use crate::term::Term;

/// The modules that are loaded before all others, in this order.
const MANDATORY_MODULES: [&str; 29] = [
    "error_handler",
    "application",
    "application_controller",
    "application_master",
    "code",
    "code_server",
    "erl_eval",
    "erl_lint",
    "erl_parse",
    "error_logger",
    "ets",
    "file",
    "filename",
    "file_server",
    "file_io_server",
    "gen",
    "gen_event",
    "gen_server",
    "heart",
    "kernel",
    "logger",
    "logger_filters",
    "logger_server",
    "logger_backend",
    "logger_config",
    "logger_simple_h",
    "lists",
    "proc_lib",
    "supervisor",
];

/// The modules that are preloaded in the emulator.
const PRELOADED_MODULES: [&str; 18] = [
    "atomics",
    "counters",
    "erl_init",
    "erl_prim_loader",
    "erl_tracer",
    "erlang",
    "erts_code_purger",
    "erts_dirty_process_signal_handler",
    "erts_internal",
    "erts_literal_area_collector",
    "init",
    "persistent_term",
    "prim_buffer",
    "prim_eval",
    "prim_file",
    "prim_inet",
    "prim_zip",
    "zlib",
];

/// Further preloaded modules, with the first OTP release that has them. The socket modules came with OTP 22; before OTP
/// 24 they depend on how the emulator was built, and are usually there.
const PRELOADED_SINCE: [(u32, &str); 4] =
    [(22, "prim_net"), (22, "prim_socket"), (22, "socket_registry"), (27, "erts_trace_cleaner")];

/// The first OTP release that supports optional applications.
const OPTIONAL_SINCE: u32 = 24;

/// The options of a boot script.
#[derive(Debug, Clone, Default)]
pub struct BootOptions {
    /// True if the project's applications are below `$RELEASE_LIB`, and not below `$ROOT/lib`.
    pub release_lib: bool,
    /// A directory that comes first in the code path.
    pub first_path: Option<String>,
    /// True if `Config.Provider` changes the configuration before applications are loaded.
    pub providers: bool,
    /// True if `$HOME/.erlang` is evaluated.
    pub dot_erlang: bool,
    /// Modules that are loaded at boot even in interactive mode.
    pub eager_modules: Vec<String>,
    /// Additional kernel processes, started before any application.
    pub kernel_processes: Vec<KernelProcess>,
}

/// A `kernelProcess` instruction of the boot script.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelProcess {
    /// The process name.
    pub name: String,
    /// The module of the start function.
    pub module: String,
    /// The start function.
    pub function: String,
    /// The arguments of the start function.
    pub arguments: Vec<Term>,
}

impl BootOptions {
    /// Returns the options that `mix release` uses.
    pub fn mix(first_path: Option<String>, providers: bool) -> BootOptions {
        BootOptions { release_lib: true, first_path, providers, ..BootOptions::default() }
    }
}

/// A boot script.
#[derive(Debug, Clone, PartialEq)]
pub struct BootScript {
    term: Term,
    atoms: AtomEncoding,
}

impl BootScript {
    /// Creates the boot script of `release`, which [`crate::resolve::resolve`] resolved with `catalog`.
    pub fn new(release: &ResolvedRelease, catalog: &AppCatalog, options: &BootOptions) -> BootScript {
        let placed = start_order(release, catalog).expect("a release that was resolved has no circle");
        let writer = BootScriptWriter { release, options, ordered_apps: &placed };
        let name = Term::tuple([Term::string(&release.name), Term::string(&release.version)]);
        let term = Term::tuple([Term::atom("script"), name, Term::List(writer.instructions())]);
        BootScript { term, atoms: AtomEncoding::for_otp(release.otp) }
    }

    /// Returns the content of the `.boot` file.
    pub fn to_boot(&self) -> Vec<u8> {
        encode(&self.term, self.atoms)
    }

    /// Returns the term `{script,{Name,Version},Instructions}`.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Returns the text of the `.script` file.
    pub fn to_script(&self) -> String {
        format!("%% coding: utf-8\n{}.\n", pretty(&self.term))
    }
}

struct BootScriptWriter<'a> {
    release: &'a ResolvedRelease,
    options: &'a BootOptions,
    ordered_apps: &'a [OrderedApp<'a>],
}

impl BootScriptWriter<'_> {
    fn instructions(&self) -> Vec<Term> {
        let preloaded = self.preloaded();
        let all: Vec<String> = self.ordered_apps.iter().map(|app| self.ebin_path(app)).collect();
        let base = self.ordered_apps.iter().filter(|app| matches!(app.member.name(), "kernel" | "stdlib"));
        let base: Vec<String> = base.map(|app| self.ebin_path(app)).collect();
        let names = |names: &[&str]| Term::List(names.iter().map(|name| Term::atom(*name)).collect());
        let sorted: Vec<&str> = preloaded.iter().copied().collect();
        let mut list = vec![
            pair("preLoaded", names(&sorted)),
            progress("preloaded"),
            self.path_instruction(&base),
            pair("primLoad", names(&MANDATORY_MODULES)),
        ];
        if !self.options.eager_modules.is_empty() {
            list.push(self.path_instruction(&all));
            list.push(pair("primLoad", Term::atoms(&self.options.eager_modules)));
        }
        list.push(Term::tuple([Term::atom("kernel_load_completed")]));
        list.push(progress("kernel_load_completed"));
        for (app, path) in self.ordered_apps.iter().zip(&all) {
            let is_new = |module: &&String| {
                !MANDATORY_MODULES.contains(&module.as_str()) && !preloaded.contains(module.as_str())
            };
            let mut modules: Vec<&String> = app.entry.app.modules.iter().filter(is_new).collect();
            modules.sort();
            list.push(self.path_instruction(std::slice::from_ref(path)));
            list.push(pair("primLoad", Term::atoms(modules)));
        }
        list.push(progress("modules_loaded"));
        list.push(self.path_instruction(&all));
        self.push_start_instructions(&mut list);
        list
    }

    fn push_start_instructions(&self, list: &mut Vec<Term>) {
        let empty = || Term::List(Vec::new());
        list.push(kernel_process("heart", "heart", "start", empty()));
        list.push(kernel_process("logger", "logger_server", "start_link", empty()));
        let kernel =
            self.ordered_apps.iter().filter(|app| app.member.name() == "kernel").map(|app| self.application_term(app));
        list.push(kernel_process(
            "application_controller",
            "application_controller",
            "start",
            Term::List(kernel.collect()),
        ));
        for KernelProcess { name, module, function, arguments } in &self.options.kernel_processes {
            list.push(kernel_process(name, module, function, Term::List(arguments.clone())));
        }
        list.push(progress("init_kernel_started"));
        for app in
            self.ordered_apps.iter().filter(|app| app.member.name() != "kernel" && app.member.mode() != StartType::None)
        {
            list.push(apply("application", "load", vec![self.application_term(app)]));
        }
        list.push(progress("applications_loaded"));
        let included: BTreeSet<&String> = self.ordered_apps.iter().flat_map(|app| &app.included).collect();
        for app in self.ordered_apps {
            let mode = app.member.mode();
            let starts = !matches!(mode, StartType::None | StartType::Load) && !included.contains(&app.member.name);
            if starts {
                let arguments = vec![Term::atom(app.member.name()), Term::atom(mode.name())];
                list.push(apply("application", "start_boot", arguments));
            }
            if self.options.providers && app.member.name() == "stdlib" {
                list.push(apply("Elixir.Config.Provider", "boot", Vec::new()));
            }
        }
        if self.options.dot_erlang {
            list.push(apply("c", "erlangrc", Vec::new()));
        }
        list.push(progress("started"));
    }

    fn preloaded(&self) -> BTreeSet<&'static str> {
        let later = PRELOADED_SINCE.iter().filter(|(since, _)| self.release.otp >= *since).map(|(_, name)| *name);
        PRELOADED_MODULES.into_iter().chain(later).collect()
    }

    fn ebin_path(&self, app: &OrderedApp<'_>) -> String {
        let is_ours = self.options.release_lib && app.entry.origin == AppOrigin::Project;
        let lib = if is_ours { "$RELEASE_LIB" } else { "$ROOT/lib" };
        format!("{lib}/{}-{}/ebin", app.member.name(), app.member.version())
    }

    /// Returns the `path` instruction that sets the code path. The first path is prepended wherever the code path
    /// contains applications of the project.
    fn path_instruction(&self, paths: &[String]) -> Term {
        let has_ours = paths.iter().any(|path| path.starts_with("$RELEASE_LIB"));
        let first = self.options.first_path.iter().filter(|_| has_ours);
        pair("path", Term::List(first.chain(paths).map(|path| Term::string(path)).collect()))
    }

    fn application_term(&self, app: &OrderedApp<'_>) -> Term {
        // Destructured without `..`, so that a new field does not compile until this function handles it.
        let AppSpec {
            name,
            description,
            vsn,
            id,
            modules,
            registered,
            applications: _,
            optional_applications,
            included_applications: _,
            env,
            max_t,
            max_p,
            start_phases,
            start,
            runtime_dependencies: _,
            unknown_keys: _,
        } = &app.entry.app;
        let mut keys = vec![
            pair("description", Term::string(description)),
            pair("vsn", Term::string(vsn)),
            pair("id", Term::string(id)),
            pair("modules", Term::atoms(modules)),
            pair("registered", Term::atoms(registered)),
            pair("applications", Term::atoms(&app.dependencies)),
            pair("included_applications", Term::atoms(&app.included)),
            pair("env", env.clone()),
            pair("maxT", max_t.clone()),
            pair("maxP", max_p.clone()),
        ];
        if self.release.otp >= OPTIONAL_SINCE {
            keys.insert(6, pair("optional_applications", Term::atoms(optional_applications)));
        }
        if let Some(phases) = start_phases.as_ref().filter(|phases| phases.as_atom() != Some("undefined")) {
            keys.push(pair("start_phases", phases.clone()));
        }
        if app.entry.app.start_module().is_some() {
            keys.push(pair("mod", start.clone()));
        }
        Term::tuple([Term::atom("application"), Term::atom(name), Term::List(keys)])
    }
}

fn pair(key: &str, value: Term) -> Term {
    Term::tuple([Term::atom(key), value])
}

fn progress(what: &str) -> Term {
    pair("progress", Term::atom(what))
}

fn apply(module: &str, function: &str, arguments: Vec<Term>) -> Term {
    pair("apply", mfa_term(module, function, Term::List(arguments)))
}

fn mfa_term(module: &str, function: &str, arguments: Term) -> Term {
    Term::tuple([Term::atom(module), Term::atom(function), arguments])
}

fn kernel_process(name: &str, module: &str, function: &str, arguments: Term) -> Term {
    Term::tuple([Term::atom("kernelProcess"), Term::atom(name), mfa_term(module, function, arguments)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogEntry;
    use crate::resolve::{ReleaseRules, ReleaseSpec, resolve_exact};

    /// Returns the instructions of a release of kernel and stdlib, each as text.
    fn instructions(otp: u32, options: &BootOptions) -> Vec<String> {
        let mut catalog = AppCatalog::default();
        for name in ["kernel", "stdlib"] {
            let text = format!(
                "{{application,{name},[{{vsn,\"1\"}},{{description,\"\"}},{{modules,[{name}_b,{name}_a,file,init]}},
                  {{registered,[]}},{{applications,[]}}]}}."
            )
            .replace(",file,init", if name == "kernel" { ",file,init" } else { "" });
            let app = AppSpec::read(text.as_bytes(), name, otp).unwrap();
            catalog.add(CatalogEntry { app, origin: AppOrigin::Otp, location: String::new(), beams: None });
        }
        let spec = ReleaseSpec {
            name: "r".to_owned(),
            version: "1".to_owned(),
            erts: "1".to_owned(),
            otp,
            rules: ReleaseRules::Otp,
            applications: vec![("kernel".to_owned(), None), ("stdlib".to_owned(), None)],
            skip_mode_validation: Vec::new(),
            excluded: Vec::new(),
        };
        let release = resolve_exact(&spec, &catalog).unwrap();
        let script = BootScript::new(&release, &catalog, options);
        let parts = script.term().as_tuple().unwrap();
        parts[2].as_list().unwrap().iter().map(pretty).collect()
    }

    #[test]
    fn eager_modules_are_loaded_before_kernel_load_completed() {
        let options = BootOptions { eager_modules: vec!["stdlib_a".to_owned()], ..BootOptions::default() };
        let list = instructions(25, &options);
        let hot = list.iter().position(|text| text == "{primLoad,[stdlib_a]}").unwrap();
        assert_eq!(list[hot - 1], "{path,[\"$ROOT/lib/kernel-1/ebin\",\"$ROOT/lib/stdlib-1/ebin\"]}");
        assert_eq!(list[hot + 1], "{kernel_load_completed}");
        // In embedded mode all modules are loaded, so the module is listed there as well.
        assert!(list.contains(&"{primLoad,[stdlib_a,stdlib_b]}".to_owned()));
        let plain = instructions(25, &BootOptions::default());
        assert_eq!(list.len(), plain.len() + 2);
    }

    #[test]
    fn preloaded_and_mandatory_modules_are_not_loaded_again() {
        assert!(instructions(25, &BootOptions::default()).contains(&"{primLoad,[kernel_a,kernel_b]}".to_owned()));
    }

    #[test]
    fn additional_kernel_processes_start_before_any_application() {
        let process = KernelProcess {
            name: "pidfile".to_owned(),
            module: "files".to_owned(),
            function: "start".to_owned(),
            arguments: vec![Term::Int(1)],
        };
        let options = BootOptions { kernel_processes: vec![process], ..BootOptions::default() };
        let list = instructions(25, &options);
        let at = list.iter().position(|text| text == "{kernelProcess,pidfile,{files,start,[1]}}").unwrap();
        assert!(list[at - 1].starts_with("{kernelProcess,application_controller,"));
        assert_eq!(list[at + 1], "{progress,init_kernel_started}");
    }

    #[test]
    fn keys_and_preloaded_modules_depend_on_the_otp_release() {
        let has = |otp, text: &str| instructions(otp, &BootOptions::default()).iter().any(|one| one.contains(text));
        assert!(!has(23, "optional_applications") && has(24, "optional_applications"));
        assert!(!has(26, "erts_trace_cleaner") && has(27, "erts_trace_cleaner") && has(29, "erts_trace_cleaner"));
        assert!(!has(21, "prim_net") && has(23, "prim_net"));
    }

    #[test]
    fn dot_erlang_is_evaluated_only_if_requested() {
        let list = |dot_erlang| instructions(25, &BootOptions { dot_erlang, ..BootOptions::default() });
        assert!(list(true).contains(&"{apply,{c,erlangrc,[]}}".to_owned()));
        assert_eq!(list(true).len(), list(false).len() + 1);
    }
}
