//! The configuration of a release: merging it, and what `mix release` adds so that it changes at start.
//!
//! Follows `Config.Reader.merge/2` and `Config.Provider` of Elixir.

use crate::term::Term;

/// Two configurations as one: lists of applications with lists of settings. Of a setting that both have the second's
/// counts, unless both are lists of pairs themselves: then they are merged in turn.
pub fn merge(first: &Term, second: &Term) -> Term {
    merge_pairs(first, second, &|one, other| merge_pairs(one, other, &deep))
}

fn deep(one: &Term, other: &Term) -> Term {
    if is_keywords(one) && is_keywords(other) { merge_pairs(one, other, &deep) } else { other.clone() }
}

fn is_keywords(term: &Term) -> bool {
    term.as_list().is_some_and(|pairs| pairs.iter().all(|pair| key(pair).is_some()))
}

fn key(pair: &Term) -> Option<&str> {
    match pair.as_tuple()? {
        [key, _] => key.as_atom(),
        _ => None,
    }
}

fn value(pair: &Term) -> Option<&Term> {
    pair.as_tuple()?.get(1)
}

/// What only the first has, then what the second has, each value made of both where both have one.
fn merge_pairs(first: &Term, second: &Term, both: &dyn Fn(&Term, &Term) -> Term) -> Term {
    let (Some(first), Some(second)) = (first.as_list(), second.as_list()) else { return second.clone() };
    let mut merged: Vec<Term> =
        first.iter().filter(|pair| !second.iter().any(|other| key(other) == key(pair))).cloned().collect();
    // Of several pairs with one key, the first is merged with the first, the second with the second.
    let mut left: Vec<&Term> = first.iter().collect();
    for pair in second {
        let at = left.iter().position(|other| key(other) == key(pair));
        let values = at.map(|at| left.remove(at)).and_then(value).zip(value(pair));
        merged.push(match (values, key(pair)) {
            (Some((one, other)), Some(name)) => Term::tuple([Term::atom(name), both(one, other)]),
            (_, _) => pair.clone(),
        });
    }
    Term::List(merged)
}

/// What changes a release's configuration when it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Providers {
    /// The modules that do, each with what its `init/1` gave.
    pub modules: Vec<(String, Term)>,
    /// Whether the system starts again with the new configuration.
    pub reboot: bool,
    /// Whether the new configuration is taken away once it was read.
    pub prune: bool,
    /// Whether the node is reachable already before it starts again.
    pub early_distribution: bool,
    /// Settings that were read when the project was compiled, and may not change: lists of `{App, Path, Value}`; `None`
    /// where nobody looks.
    pub compile_env: Option<Vec<Term>>,
}

impl Providers {
    /// `runtime.exs` of the release of that version.
    pub fn runtime_exs(version: &str, env: &str, target: &str) -> Providers {
        let path = Term::tuple([
            Term::atom("system"),
            binary("RELEASE_ROOT"),
            binary(&format!("/releases/{version}/runtime.exs")),
        ]);
        let options = [("env", env), ("target", target), ("imports", "disabled")];
        let options = options.map(|(name, value)| pair(name, Term::atom(value)));
        let reader = Term::tuple([path, Term::List(options.into())]);
        Providers {
            modules: vec![("Elixir.Config.Reader".to_owned(), reader)],
            reboot: false,
            prune: false,
            early_distribution: false,
            compile_env: None,
        }
    }

    /// The configuration of the release, which says what changes it.
    pub fn add_to(&self, config: &Term) -> Term {
        let starts_late = self.reboot && !self.early_distribution;
        let kernel = |starts| {
            let setting = pair("start_distribution", Term::atom(if starts { "true" } else { "false" }));
            vec![pair("kernel", Term::List(vec![setting]))]
        };
        let truth = |value: bool| Term::atom(if value { "true" } else { "false" });
        let modules = self.modules.iter().map(|(name, init)| Term::tuple([Term::atom(name), init.clone()]));
        let compile_env = match &self.compile_env {
            Some(settings) if !settings.is_empty() => Term::List(settings.clone()),
            Some(_) | None => truth(false),
        };
        let config_path = Term::tuple([Term::atom("system"), binary("RELEASE_SYS_CONFIG"), binary(".config")]);
        let fields = [
            ("__struct__", Term::atom("Elixir.Config.Provider")),
            ("config_path", config_path),
            ("extra_config", Term::List(if starts_late { kernel(true) } else { Vec::new() })),
            ("providers", Term::List(modules.collect())),
            ("prune_runtime_sys_config_after_boot", truth(self.prune)),
            ("reboot_system_after_config", truth(self.reboot)),
            ("validate_compile_env", compile_env),
        ];
        let fields = fields.map(|(name, value)| (Term::atom(name), value));
        let init = pair("config_provider_init", Term::Map(fields.into()));
        let mut added = vec![pair("elixir", Term::List(vec![init]))];
        if starts_late {
            added.extend(kernel(false));
        }
        merge(config, &Term::List(added))
    }
}

fn pair(name: &str, value: Term) -> Term {
    Term::tuple([Term::atom(name), value])
}

fn binary(text: &str) -> Term {
    Term::Binary(text.as_bytes().to_vec())
}
