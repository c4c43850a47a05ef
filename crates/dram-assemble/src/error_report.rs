//! The class and the help of each [`AssembleError`] and [`UpgradeError`].

use std::io::ErrorKind;

use dram_error::{ErrorClass, ErrorReport};
use dram_release::resolve::ResolveError;

use crate::{AssembleError, UpgradeError};

impl ErrorReport for AssembleError {
    fn class(&self) -> ErrorClass {
        match self {
            AssembleError::NoTool { .. } => ErrorClass::MissingSupport,
            AssembleError::Upgrade(upgrade) => upgrade.class(),
            AssembleError::NoProject(_)
            | AssembleError::NoRelease { .. }
            | AssembleError::SeveralReleases(_)
            | AssembleError::Settings { .. }
            | AssembleError::NotARelease(_)
            | AssembleError::NotWrittenByDram(_)
            | AssembleError::Name { .. } => ErrorClass::Usage,
            AssembleError::Io { .. }
            | AssembleError::Tool { .. }
            | AssembleError::Project { .. }
            | AssembleError::Answer(_)
            | AssembleError::App { .. }
            | AssembleError::Beam { .. }
            | AssembleError::Terms { .. }
            | AssembleError::Resolve(_)
            | AssembleError::NoErts(_)
            | AssembleError::NoLibrary { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        let help = match self {
            AssembleError::NoProject(_) => {
                "name a directory with `mix.exs` or `rebar.config`, or give directories of compiled modules with --from"
                    .to_owned()
            }
            AssembleError::NoTool { tool, .. } => format!("install it, or add the directory of `{tool}` to PATH"),
            AssembleError::NoRelease { known, .. } | AssembleError::SeveralReleases(known) => {
                format!("name one with --name: {}", known.join(", "))
            }
            AssembleError::NotWrittenByDram(_) => {
                "replace it with --overwrite, or name another place with --output".to_owned()
            }
            AssembleError::NotARelease(_) => "name a directory that is empty, or not there, with --output".to_owned(),
            AssembleError::App { .. } | AssembleError::Beam { .. } => {
                "compile the application again: `mix compile --force`, or `mix deps.compile NAME --force`".to_owned()
            }
            AssembleError::NoLibrary { .. } => {
                "install the library, or leave --portable out to use the libraries of the system that it runs on"
                    .to_owned()
            }
            AssembleError::NoErts(_) => "install Erlang, or name its directory with --otp".to_owned(),
            AssembleError::Io { source, .. } if source.kind() == ErrorKind::FileTooLarge => {
                "the size of a file is limited here: `ulimit -f unlimited` in the shell raises the limit".to_owned()
            }
            AssembleError::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
                "free space on the disk, or inodes (`df -i`); or name another place with --output".to_owned()
            }
            AssembleError::Upgrade(upgrade) => return upgrade.helps(),
            AssembleError::Resolve(errors) => return helps_of(errors),
            AssembleError::Answer(_) => "this is a bug in dram: please report it".to_owned(),
            AssembleError::Io { .. }
            | AssembleError::Tool { .. }
            | AssembleError::Project { .. }
            | AssembleError::Terms { .. }
            | AssembleError::Name { .. }
            | AssembleError::Settings { .. } => return Vec::new(),
        };
        vec![help]
    }

    fn causes(&self) -> Vec<String> {
        let mut causes = dram_error::error_chain(self);
        if let AssembleError::Resolve(errors) = self
            && errors.len() > 1
        {
            causes.extend(errors.iter().map(ToString::to_string));
        }
        if let AssembleError::Project { file, line, message } = self {
            // A message of several lines is shown as the tool shows it: see `output`.
            if let Some((first, _)) = message.split_once('\n') {
                first.clone_into(&mut causes[0]);
            }
            if let Some(file) = file {
                let place = line.map_or(file.clone(), |line| format!("{file}:{line}"));
                causes.push(format!("in `{place}`"));
            }
        }
        causes
    }

    fn output(&self) -> Vec<String> {
        match self {
            AssembleError::Tool { output, .. } => output.lines().map(str::to_owned).collect(),
            AssembleError::Project { message, .. } if message.contains('\n') => {
                message.lines().map(str::to_owned).collect()
            }
            AssembleError::Io { .. }
            | AssembleError::NoProject(_)
            | AssembleError::NoTool { .. }
            | AssembleError::Project { .. }
            | AssembleError::Answer(_)
            | AssembleError::NoRelease { .. }
            | AssembleError::SeveralReleases(_)
            | AssembleError::App { .. }
            | AssembleError::Beam { .. }
            | AssembleError::Terms { .. }
            | AssembleError::Resolve(_)
            | AssembleError::Name { .. }
            | AssembleError::NoErts(_)
            | AssembleError::NotWrittenByDram(_)
            | AssembleError::NotARelease(_)
            | AssembleError::NoLibrary { .. }
            | AssembleError::Upgrade(_)
            | AssembleError::Settings { .. } => Vec::new(),
        }
    }
}

/// Returns the helps of several errors, each once.
fn helps_of(errors: &[ResolveError]) -> Vec<String> {
    let mut helps = Vec::new();
    for help in errors.iter().map(ResolveError::help) {
        if !helps.contains(&help) {
            helps.push(help);
        }
    }
    helps
}

impl ErrorReport for UpgradeError {
    fn class(&self) -> ErrorClass {
        match self {
            UpgradeError::NoOldVersion(_) | UpgradeError::NoSuchVersion { .. } | UpgradeError::SameVersion(_) => {
                ErrorClass::Usage
            }
            UpgradeError::Rel { .. }
            | UpgradeError::NoLibrary { .. }
            | UpgradeError::SameApplication { .. }
            | UpgradeError::Appup { .. }
            | UpgradeError::OtherVersions { .. }
            | UpgradeError::Link(_)
            | UpgradeError::Generate { .. }
            | UpgradeError::Relup { .. } => ErrorClass::Work,
        }
    }

    fn helps(&self) -> Vec<String> {
        vec![upgrade_help(self)]
    }
}

/// Returns the help for an error of an upgrade.
fn upgrade_help(error: &UpgradeError) -> String {
    match error {
        UpgradeError::NoOldVersion(_) => {
            "put the release that runs there, or name its directory with --output; a first version needs no --upgrade"
                .to_owned()
        }
        UpgradeError::NoSuchVersion { known, .. } if known.is_empty() => {
            "put the release that runs there, or name its directory with --output".to_owned()
        }
        UpgradeError::NoSuchVersion { known, .. } => format!("there is {}", known.join(", ")),
        UpgradeError::SameVersion(_) => "give the project a new version, or name an older one with --from".to_owned(),
        UpgradeError::Rel { .. } | UpgradeError::NoLibrary { .. } => "make the old version again".to_owned(),
        UpgradeError::SameApplication { name, .. } => {
            format!("give `{name}` a new version: a running system only looks at applications with another one")
        }
        UpgradeError::Appup { .. } => {
            "correct it, or remove it to have one made; appup(4) says what is in it".to_owned()
        }
        UpgradeError::OtherVersions { from, to, .. } => {
            format!("it is `{{\"{to}\", [{{\"{from}\", INSTRUCTIONS}}], [{{\"{from}\", INSTRUCTIONS}}]}}.`")
        }
        UpgradeError::Link(_) => "put what it leads to there: a running system unpacks no such links".to_owned(),
        UpgradeError::Generate { name, .. } => {
            format!("write one: `rel/appups/{name}/FROM_to_TO.appup` in the project")
        }
        UpgradeError::Relup { .. } => {
            "a release that is to be upgraded has `sasl`; appups are in `rel/appups` of the project, or made".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn class_and_help_follow_from_the_variant() {
        let (path, text) = (PathBuf::new, String::new);
        let io = |kind: ErrorKind| AssembleError::Io { verb: "write", path: path(), source: Error::from(kind) };
        let table = [
            (io(ErrorKind::StorageFull), ErrorClass::Work, true),
            (io(ErrorKind::FileTooLarge), ErrorClass::Work, true),
            (io(ErrorKind::NotFound), ErrorClass::Work, false),
            (AssembleError::NoProject(path()), ErrorClass::Usage, true),
            (AssembleError::NoTool { tool: "mix", why: "" }, ErrorClass::MissingSupport, true),
            (AssembleError::Tool { command: text(), status: text(), output: text() }, ErrorClass::Work, false),
            (AssembleError::Project { file: None, line: None, message: text() }, ErrorClass::Work, false),
            (AssembleError::Answer(text()), ErrorClass::Work, true),
            (AssembleError::NoRelease { name: text(), known: Vec::new() }, ErrorClass::Usage, true),
            (AssembleError::SeveralReleases(Vec::new()), ErrorClass::Usage, true),
            (AssembleError::Resolve(vec![ResolveError::RequestedTwice(text())]), ErrorClass::Work, true),
            (AssembleError::Name { what: "", name: text() }, ErrorClass::Usage, false),
            (AssembleError::NoErts(path()), ErrorClass::Work, true),
            (AssembleError::NotWrittenByDram(path()), ErrorClass::Usage, true),
            (AssembleError::NotARelease(path()), ErrorClass::Usage, true),
            (AssembleError::NoLibrary { program: text(), library: text() }, ErrorClass::Work, true),
            (AssembleError::Settings { path: path(), message: text() }, ErrorClass::Usage, false),
            (UpgradeError::NoOldVersion(path()).into(), ErrorClass::Usage, true),
            (UpgradeError::SameVersion(text()).into(), ErrorClass::Usage, true),
            (UpgradeError::Link(path()).into(), ErrorClass::Work, true),
        ];
        for (error, class, has_help) in table {
            assert_eq!((error.class(), !error.helps().is_empty()), (class, has_help), "{error:?}");
        }
    }

    #[test]
    fn place_of_an_error_in_the_project_and_output_of_a_tool_are_reported() {
        let (file, message) = (Some("mix.exs".to_owned()), "no".to_owned());
        let error = AssembleError::Project { file, line: Some(3), message };
        assert_eq!(error.causes(), ["no", "in `mix.exs:3`"]);
        let error = AssembleError::Tool {
            command: "mix".to_owned(),
            status: "exit status: 1".to_owned(),
            output: "a\nb\n".to_owned(),
        };
        assert_eq!(error.output(), ["a", "b"]);
    }

    #[test]
    fn a_message_of_several_lines_is_shown_as_lines() {
        let message = "could not start\n\n  * the first reason\n".to_owned();
        let error = AssembleError::Project { file: Some("mix.exs".to_owned()), line: Some(3), message };
        assert_eq!(error.causes(), ["could not start", "in `mix.exs:3`"]);
        assert_eq!(error.output(), ["could not start", "", "  * the first reason"]);
    }
}
