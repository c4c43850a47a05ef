//! The flags of each instruction, and the errors for unknown, repeated and malformed ones.

use crate::ast::{Flag, Keyword, Word};
use crate::diagnostic::{Diagnostic, Report, quote};
use crate::nearest::nearest;

/// The kind of value that a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The flag takes a value.
    Value,
    /// The flag takes a value and may be repeated.
    List,
    /// The flag is on or off.
    Switch,
    /// The flag is not supported. The error is reported by the plan, since an unneeded stage may have it.
    Refused,
}

/// Returns the flags of an instruction. A new flag is a new row here and a field in the instruction.
fn table(keyword: Keyword) -> &'static [(&'static str, Known)] {
    use Known::{List, Refused, Switch, Value};
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
        Keyword::Run => &[("mount", List), ("network", Value), ("security", Value), ("device", Refused)],
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
pub fn flags(keyword: Keyword) -> impl Iterator<Item = &'static str> {
    let taken = |(_, known): &&(&str, Known)| match known {
        Known::Value | Known::List | Known::Switch => true,
        Known::Refused => false,
    };
    table(keyword).iter().filter(taken).map(|(name, _)| *name)
}

/// Checks the flags of an instruction and reports errors; returns false when there were any.
pub(super) fn check(keyword: Keyword, flags: &[Flag], report: &mut Report) -> bool {
    let name = keyword.name();
    let table = table(keyword);
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
            if let Some(meant) = nearest(&flag.name, table.iter().map(|(known, _)| *known)) {
                unknown = unknown.help(format!("did you mean `--{meant}`?"));
            }
            wrong(unknown);
            continue;
        };
        let twice = || flags[..at].iter().any(|other| other.name == flag.name);
        match (known, flag.value.as_deref()) {
            (Known::Value | Known::List | Known::Refused, None) => wrong(
                error(format!("{written} lacks its value")).help(format!("write `--{}=…`, without blanks", flag.name)),
            ),
            (Known::Value | Known::Switch, _) if twice() => {
                wrong(error(format!("{written} is given twice")).help("keep one of the two"));
            }
            (Known::Switch, Some(value)) if truth(value).is_none() => wrong(
                error(format!("{written} is on or off, and {} is neither", quote(value)))
                    .help(format!("write `--{}`, or `--{}=false`", flag.name, flag.name)),
            ),
            (Known::Value | Known::List | Known::Switch | Known::Refused, _) => {}
        }
    }
    fine
}

/// Parses the value of a switch.
fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Returns the value of switch `name`; `None` when it is not given.
pub(super) fn switch(flags: &[Flag], name: &str) -> Option<bool> {
    let flag = flags.iter().find(|flag| flag.name == name)?;
    Some(flag.value.as_deref().and_then(truth).unwrap_or(true))
}

/// Returns all values of flag `name`, each with the byte range of its flag.
pub(super) fn values(flags: &[Flag], name: &str) -> Vec<Word> {
    let all = flags.iter().filter(|flag| flag.name == name);
    all.filter_map(|flag| Some(Word { text: flag.value.clone()?, span: flag.span.clone() })).collect()
}

/// Returns the value of flag `name`, with the byte range of the whole flag.
pub(super) fn value(flags: &[Flag], name: &str) -> Option<Word> {
    let flag = flags.iter().find(|flag| flag.name == name)?;
    Some(Word { text: flag.value.clone()?, span: flag.span.clone() })
}
