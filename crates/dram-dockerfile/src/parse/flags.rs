//! The flags of each instruction: known ones, ones that are not supported yet, and mistyped ones.

use crate::ast::{Flag, Keyword, Word};
use crate::diagnostic::{Diagnostic, Report, quote};
use crate::nearest::nearest;

/// What is done about a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It takes a value.
    Value,
    /// It has a meaning that would be lost; the words say what to do instead.
    Refused(&'static str),
    /// As `Refused`, but a switch that may be turned off.
    RefusedSwitch(&'static str),
}

const LINK: Known = Known::RefusedSwitch("leave the flag out; without it the image has the same files");
const EXCLUDE: Known = Known::Refused("exclude the files in .dockerignore, or name the ones to copy");

/// The flags of an instruction. A new flag is a new row here and a field in the instruction.
fn table(keyword: Keyword) -> &'static [(&'static str, Known)] {
    use Known::{Refused, RefusedSwitch, Value};
    match keyword {
        Keyword::From => &[("platform", Value)],
        Keyword::Copy => &[
            ("from", Value),
            ("chown", Value),
            ("chmod", Value),
            ("link", LINK),
            ("parents", RefusedSwitch("copy each directory to its own destination")),
            ("exclude", EXCLUDE),
        ],
        Keyword::Add => &[
            ("chown", Value),
            ("chmod", Value),
            ("link", LINK),
            ("keep-git-dir", RefusedSwitch("clone the repository in a `RUN`")),
            ("checksum", Refused("fetch and check the file in a `RUN`, with `curl` and `sha256sum -c`")),
            ("unpack", Refused("`COPY` never unpacks, `ADD` always unpacks local archives")),
            ("exclude", EXCLUDE),
        ],
        Keyword::Run => &[
            ("mount", Refused("copy what the command needs, and remove it in the same `RUN`")),
            ("network", Refused("leave the flag out; the network is the same for every `RUN`")),
            ("security", Refused("leave the flag out; `RUN` never runs privileged")),
            ("device", Refused("leave the flag out; `RUN` sees no devices of the host")),
        ],
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

/// Checks the flags of an instruction and reports what is wrong with them; false when something is.
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
        let refusal = |help: &str| error(format!("`{name} --{}` is not supported yet", flag.name)).help(help);
        match (known, flag.value.as_deref()) {
            (Known::Refused(help), _) => wrong(refusal(help)),
            (Known::RefusedSwitch(_), Some(value)) if value.eq_ignore_ascii_case("false") => {}
            (Known::RefusedSwitch(help), _) => wrong(refusal(help)),
            (Known::Value, None) => wrong(
                error(format!("{written} lacks its value")).help(format!("write `--{}=…`, without blanks", flag.name)),
            ),
            (Known::Value, Some(_)) if flags[..at].iter().any(|other| other.name == flag.name) => {
                wrong(error(format!("{written} is given twice")).help("keep one of the two"));
            }
            (Known::Value, Some(_)) => {}
        }
    }
    fine
}

/// The value of flag `name`, at the place of the whole flag.
pub(super) fn value(flags: &[Flag], name: &str) -> Option<Word> {
    let flag = flags.iter().find(|flag| flag.name == name)?;
    Some(Word { text: flag.value.clone()?, span: flag.span.clone() })
}
