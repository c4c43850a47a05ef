//! The configuration of a release: merging, and the settings that `mix release` adds for `Config.Provider`.
//!
//! It follows Elixir's `Config.Reader.merge/2` and `Config.Provider`.

use crate::term::Term;

/// Merges two configurations: lists of applications with lists of settings. If both have a setting, the second one
/// wins; if both values are keyword lists, they are merged recursively.
pub fn merge(first: &Term, second: &Term) -> Term {
    merge_pairs(first, second, &|one, other| merge_pairs(one, other, &merge_values))
}

fn merge_values(one: &Term, other: &Term) -> Term {
    if is_keyword_list(one) && is_keyword_list(other) { merge_pairs(one, other, &merge_values) } else { other.clone() }
}

fn is_keyword_list(term: &Term) -> bool {
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

/// Keeps the pairs that only `first` has, then those of `second`. If both have a key, `both` merges the values.
fn merge_pairs(first: &Term, second: &Term, both: &dyn Fn(&Term, &Term) -> Term) -> Term {
    let (Some(first), Some(second)) = (first.as_list(), second.as_list()) else { return second.clone() };
    let mut merged: Vec<Term> =
        first.iter().filter(|pair| !second.iter().any(|other| key(other) == key(pair))).cloned().collect();
    // If a key is repeated, the first pairs are merged with each other, then the second ones, and so on.
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

/// The config providers of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigProviders {
    /// The provider modules, each with the result of its `init/1`.
    pub modules: Vec<(String, Term)>,
    /// True if the system reboots with the new configuration.
    pub reboot: bool,
    /// True if the new configuration is deleted after it was read.
    pub prune: bool,
    /// True if distribution is started before the system reboots.
    pub early_distribution: bool,
    /// The compile-time configuration that must not change, as `{App, Path, Value}` terms; `None` if it is not
    /// validated.
    pub compile_env: Option<Vec<Term>>,
}

impl ConfigProviders {
    /// Returns the provider of `runtime.exs` for a release of this version.
    pub fn runtime_exs(version: &str, env: &str, target: &str) -> ConfigProviders {
        let path = Term::tuple([
            Term::atom("system"),
            binary("RELEASE_ROOT"),
            binary(&format!("/releases/{version}/runtime.exs")),
        ]);
        let options = [("env", env), ("target", target), ("imports", "disabled")];
        let options = options.map(|(name, value)| pair(name, Term::atom(value)));
        let reader = Term::tuple([path, Term::List(options.into())]);
        ConfigProviders {
            modules: vec![("Elixir.Config.Reader".to_owned(), reader)],
            reboot: false,
            prune: false,
            early_distribution: false,
            compile_env: None,
        }
    }

    /// Returns `config` with the settings that `Config.Provider` needs at boot.
    pub fn add_to_config(&self, config: &Term) -> Term {
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
