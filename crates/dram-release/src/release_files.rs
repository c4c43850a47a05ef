//! The text of the small files in a release's `releases` directory.

use crate::print::{pretty, write};
use crate::resolve::{ReleaseApp, ResolvedRelease, StartType};
use crate::term::Term;

/// Returns the text of `NAME.rel`, as `mix release` or relx writes it; relx omits defaults.
pub fn rel_text(release: &ResolvedRelease) -> String {
    let member = |member: &ReleaseApp| {
        let mut parts = vec![Term::atom(&member.name), Term::string(&member.version)];
        if !release.omits_defaults || member.mode != StartType::Permanent {
            parts.push(Term::atom(member.mode.name()));
        }
        if member.lists_included {
            parts.push(Term::atoms(&member.included));
        }
        Term::Tuple(parts)
    };
    let term = Term::tuple([
        Term::atom("release"),
        Term::tuple([Term::string(&release.name), Term::string(&release.version)]),
        Term::tuple([Term::atom("erts"), Term::string(&release.erts)]),
        Term::List(release.apps.iter().map(member).collect()),
    ]);
    format!("%% coding: utf-8\n{}.\n", pretty(&term))
}

/// Returns the text of `start_erl.data`: the versions of ERTS and of the release.
pub fn start_erl_text(release: &ResolvedRelease) -> String {
    format!("{} {}", release.erts, release.version)
}

/// Returns the text of `RELEASES`, which `release_handler` reads. The paths of the applications are relative to the
/// release's root.
pub fn releases_text(release: &ResolvedRelease) -> String {
    releases_text_at(release, "")
}

/// Returns the text of `RELEASES` for a release installed at `root`.
pub fn releases_text_at(release: &ResolvedRelease, root: &str) -> String {
    let slash = if root.is_empty() { "" } else { "/" };
    let library = |member: &ReleaseApp| {
        let place = format!("{root}{slash}lib/{}-{}", member.name, member.version);
        Term::tuple([Term::atom(&member.name), Term::string(&member.version), Term::string(&place)])
    };
    let term = Term::tuple([
        Term::atom("release"),
        Term::string(&release.name),
        Term::string(&release.version),
        Term::string(&release.erts),
        Term::List(release.apps.iter().map(library).collect()),
        Term::atom("permanent"),
    ]);
    format!("%% coding: utf-8\n{}.\n", pretty(&Term::List(vec![term])))
}

/// Returns the text of `sys.config` with the configuration `term`, a list of applications with their settings.
pub fn sys_config_text(term: &Term, changes_at_start: bool) -> String {
    format!("%% coding: utf-8\n%% RUNTIME_CONFIG={changes_at_start}\n{}.\n", write(term))
}
