//! The flags of each instruction, and the errors for unknown, repeated and malformed ones.

use crate::ast::{InstructionFlag, Keyword, SpannedText};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::suggest::nearest_name;

/// The kind of value that a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlagKind {
    /// The flag takes a value.
    Value,
    /// The flag takes a value and may be repeated.
    List,
    /// The flag is on or off.
    Switch,
    /// The flag is not supported. The error is reported by the plan, since an unneeded stage may have it.
    Unsupported,
}

/// Returns the flags of an instruction. A new flag is a new row here and a field in the instruction.
fn flag_table(keyword: Keyword) -> &'static [(&'static str, FlagKind)] {
    use FlagKind::{List, Switch, Unsupported, Value};
    match keyword {
        Keyword::From => &[("platform", Value)],
        Keyword::Copy => &[
            ("from", Value),
            ("chown", Value),
            ("chmod", Value),
            ("link", Switch),
            ("parents", Switch),
            ("exclude", List),
        ],
        Keyword::Add => &[
            ("chown", Value),
            ("chmod", Value),
            ("link", Switch),
            ("keep-git-dir", Switch),
            ("checksum", Value),
            ("unpack", Switch),
            ("exclude", List),
        ],
        Keyword::Run => &[("mount", List), ("network", Value), ("security", Value), ("device", Unsupported)],
        Keyword::Healthcheck => &[
            ("interval", Value),
            ("timeout", Value),
            ("start-period", Value),
            ("start-interval", Value),
            ("retries", Value),
        ],
        Keyword::Arg
        | Keyword::Cmd
        | Keyword::Entrypoint
        | Keyword::Env
        | Keyword::Expose
        | Keyword::Label
        | Keyword::Maintainer
        | Keyword::Onbuild
        | Keyword::Shell
        | Keyword::Stopsignal
        | Keyword::User
        | Keyword::Volume
        | Keyword::Workdir => &[],
    }
}

/// Returns the names of the supported flags of `keyword`.
pub fn flag_names(keyword: Keyword) -> impl Iterator<Item = &'static str> {
    let taken = |(_, known): &&(&str, FlagKind)| match known {
        FlagKind::Value | FlagKind::List | FlagKind::Switch => true,
        FlagKind::Unsupported => false,
    };
    flag_table(keyword).iter().filter(taken).map(|(name, _)| *name)
}

/// Checks the flags of an instruction and reports errors; returns false when there were any.
pub(super) fn check_flags(keyword: Keyword, flags: &[InstructionFlag], report: &mut DiagnosticCollector) -> bool {
    let name = keyword.name();
    let table = flag_table(keyword);
    let mut fine = true;
    for (at, flag) in flags.iter().enumerate() {
        let mut wrong = |diagnostic: Diagnostic| {
            report.push(diagnostic);
            fine = false;
        };
        let written = quote(&format!("--{}", flag.name));
        let error = |message: String| Diagnostic::error(flag.span.clone(), message);
        let Some((_, known)) = table.iter().find(|(known, _)| *known == flag.name) else {
            let mut unknown = error(format!("`{name}` has no flag {written}"));
            if let Some(meant) = nearest_name(&flag.name, table.iter().map(|(known, _)| *known)) {
                unknown = unknown.help(format!("did you mean `--{meant}`?"));
            }
            wrong(unknown);
            continue;
        };
        let twice = || flags[..at].iter().any(|other| other.name == flag.name);
        match (known, flag.value.as_deref()) {
            (FlagKind::Value | FlagKind::List | FlagKind::Unsupported, None) => wrong(
                error(format!("{written} lacks its value")).help(format!("write `--{}=…`, without blanks", flag.name)),
            ),
            (FlagKind::Value | FlagKind::Switch, _) if twice() => {
                wrong(error(format!("{written} is given twice")).help("keep one of the two"));
            }
            (FlagKind::Switch, Some(value)) if parse_switch_flag(value).is_none() => wrong(
                error(format!("{written} is on or off, and {} is neither", quote(value)))
                    .help(format!("write `--{}`, or `--{}=false`", flag.name, flag.name)),
            ),
            (FlagKind::Value | FlagKind::List | FlagKind::Switch | FlagKind::Unsupported, _) => {}
        }
    }
    fine
}

/// Parses the value of a switch as BuildKit's frontend does: `true` or `false` in any case, and none of the other words of
/// Go's `ParseBool`. The empty value of `--flag=` is refused.
fn parse_switch_flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Returns the value of switch `name`; `None` when it is not given.
pub(super) fn switch_value(flags: &[InstructionFlag], name: &str) -> Option<bool> {
    let flag = flags.iter().find(|flag| flag.name == name)?;
    Some(flag.value.as_deref().and_then(parse_switch_flag).unwrap_or(true))
}

/// Returns all values of flag `name`, each with the byte range of its flag.
pub(super) fn flag_values(flags: &[InstructionFlag], name: &str) -> Vec<SpannedText> {
    let all = flags.iter().filter(|flag| flag.name == name);
    all.filter_map(|flag| Some(SpannedText { text: flag.value.clone()?, span: flag.span.clone() })).collect()
}

/// Returns the value of flag `name`, with the byte range of the whole flag.
pub(super) fn flag_value(flags: &[InstructionFlag], name: &str) -> Option<SpannedText> {
    let flag = flags.iter().find(|flag| flag.name == name)?;
    Some(SpannedText { text: flag.value.clone()?, span: flag.span.clone() })
}
