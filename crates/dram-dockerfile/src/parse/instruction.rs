//! Parses one instruction: its keyword, flags, arguments and heredocs.

use std::collections::HashMap;
use std::ops::Range;

use super::{MAX_DOCKERFILE_SIZE, command, flags, mount_flag, onbuild, pairs};
use crate::ast::{
    CopyInstruction, DockerfileInstruction, FromInstruction, Heredoc, InstructionBody, InstructionFlag, Keyword,
    RunInstruction, SpannedText,
};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::lines::{LineReader, LogicalLine};
use crate::{heredoc, json, words};

/// The logical line of an instruction with its keyword, flags and the range of its arguments.
pub(super) struct InstructionLine<'l> {
    pub(super) logical: &'l LogicalLine,
    pub(super) keyword: Keyword,
    pub(super) flags: &'l [InstructionFlag],
    /// The byte range of the arguments in the logical line.
    pub(super) args: Range<usize>,
    pub(super) escape: char,
}

impl InstructionLine<'_> {
    /// Returns the arguments as one text.
    pub(super) fn text(&self) -> &str {
        &self.logical.text[self.args.clone()]
    }

    /// Returns a part of the arguments.
    pub(super) fn word(&self, here: Range<usize>) -> SpannedText {
        self.logical.word(self.args.start + here.start..self.args.start + here.end)
    }

    /// Returns all arguments as one word.
    pub(super) fn all_arguments(&self) -> SpannedText {
        self.word(0..self.args.len())
    }

    /// Returns the byte range of the whole instruction.
    pub(super) fn span(&self) -> Range<usize> {
        self.logical.span(0..self.logical.text.trim_end().len())
    }

    /// Makes an error about the whole instruction.
    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.span(), message)
    }

    /// Returns the strings of the JSON form; `None` when the arguments are plain text, `Err` when they are other JSON.
    pub(super) fn json_strings(&self, report: &mut DiagnosticCollector) -> Result<Option<Vec<SpannedText>>, ()> {
        match json::read_strings(self.text()) {
            json::JsonForm::Text => Ok(None),
            json::JsonForm::NotStrings => {
                report.push(
                    Diagnostic::error(self.all_arguments().span, "a JSON array of arguments holds strings only")
                        .help("put every argument into double quotes"),
                );
                Err(())
            }
            json::JsonForm::Strings(strings) => Ok(Some(
                strings.into_iter().map(|(text, place)| SpannedText { text, span: self.word(place).span }).collect(),
            )),
        }
    }
}

/// Parses an instruction from its logical line, and reads the heredocs below it.
pub(super) fn read(
    logical: &LogicalLine,
    lines: &mut LineReader<'_>,
    report: &mut DiagnosticCollector,
) -> DockerfileInstruction {
    let text = logical.text.trim_end();
    let escape = lines.directives.escape;
    let (keyword, behind) = words::keyword_range(text);
    let (raw, args) = words::split_flags(text, behind, escape);
    let args = args + (text[args..].len() - text[args..].trim_start().len());
    let flags: Vec<InstructionFlag> =
        raw.into_iter().map(|(flag, place)| split_flag(&flag, logical.span(place))).collect();
    let word = logical.word(keyword);
    let kind = Keyword::find(&word.text);
    let body = match kind {
        None => unknown_instruction(&word, report),
        Some(keyword) => {
            let line = InstructionLine { logical, keyword, flags: &flags, args: args..text.len(), escape };
            read_body(&line, lines, report)
        }
    };
    DockerfileInstruction {
        span: logical.span(text.len() - text.trim_start().len()..text.len()),
        line: logical.line,
        keyword: word,
        kind,
        flags,
        text: text.trim().to_owned(),
        trigger: false,
        comments: logical.comments.clone(),
        end_line: logical.end_line,
        last_line: lines.line(),
        body,
    }
}

fn split_flag(flag: &str, span: Range<usize>) -> InstructionFlag {
    let flag = flag.strip_prefix("--").unwrap_or(flag);
    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
    InstructionFlag { name: name.to_owned(), value, span }
}

fn unknown_instruction(word: &SpannedText, report: &mut DiagnosticCollector) -> InstructionBody {
    if report.is_full() {
        report.skip();
        return InstructionBody::Invalid;
    }
    let options = Keyword::ALL.iter().map(|keyword| keyword.name());
    report.push(
        Diagnostic::error(word.span.clone(), format!("unknown instruction {}", quote(&word.text)))
            .did_you_mean(&word.text, options),
    );
    InstructionBody::Invalid
}

fn read_body(
    line: &InstructionLine<'_>,
    lines: &mut LineReader<'_>,
    report: &mut DiagnosticCollector,
) -> InstructionBody {
    let heredocs = read_heredocs(line, lines, report);
    let flags = flags::check_flags(line.keyword, line.flags, report);
    let body = heredocs.and_then(|heredocs| read_arguments(line, heredocs, report));
    match body {
        Some(body) if flags => body,
        Some(_) | None => InstructionBody::Invalid,
    }
}

/// Reads the heredocs below a `RUN`, `COPY` or `ADD`; `None` when one is not terminated.
fn read_heredocs(
    line: &InstructionLine<'_>,
    lines: &mut LineReader<'_>,
    report: &mut DiagnosticCollector,
) -> Option<Vec<Heredoc>> {
    let text = line.text();
    let (keyword, args) = match line.keyword {
        Keyword::Onbuild => {
            let (place, behind) = words::keyword_range(text);
            (Keyword::find(&text[place]), &text[behind..])
        }
        other @ (Keyword::Add
        | Keyword::Arg
        | Keyword::Cmd
        | Keyword::Copy
        | Keyword::Entrypoint
        | Keyword::Env
        | Keyword::Expose
        | Keyword::From
        | Keyword::Healthcheck
        | Keyword::Label
        | Keyword::Maintainer
        | Keyword::Run
        | Keyword::Shell
        | Keyword::Stopsignal
        | Keyword::User
        | Keyword::Volume
        | Keyword::Workdir) => (Some(other), text),
    };
    if !matches!(keyword, Some(Keyword::Run | Keyword::Copy | Keyword::Add)) {
        return Some(Vec::new());
    }
    let found = heredoc::find_starts(args);
    if found.is_empty() || matches!(json::read_strings(args), json::JsonForm::Strings(_)) {
        return Some(Vec::new());
    }
    let mut heredocs = Vec::with_capacity(found.len());
    for heredoc::HeredocStart { name, strip_tabs, expand } in found {
        let (contents, closed) = lines.read_heredoc_body(&name, strip_tabs);
        if !closed {
            let place = text.find("<<").unwrap_or(0);
            let span = line.word(place..text.len().min(place + 2)).span;
            report.push(
                Diagnostic::error(span, format!("the heredoc {} is never closed", quote(&name)))
                    .label("starts here")
                    .help(format!("end it with a line that is only {}", quote(&name))),
            );
            return None;
        }
        if keyword == Some(Keyword::Run) && contents.contains("\r\n") {
            let place = text.find("<<").unwrap_or(0);
            let message =
                format!("the lines of the heredoc {} end in CR LF, and the command gets the CR", quote(&name));
            let warning = Diagnostic::warning(None, line.word(place..text.len().min(place + 2)).span, message);
            report.push(warning.label("starts here").help("write the lines of the Dockerfile with LF alone"));
        }
        heredocs.push(Heredoc { name, contents: contents.to_owned(), expand, strip_tabs });
    }
    Some(heredocs)
}

fn read_arguments(
    line: &InstructionLine<'_>,
    heredocs: Vec<Heredoc>,
    report: &mut DiagnosticCollector,
) -> Option<InstructionBody> {
    match line.keyword {
        Keyword::From => read_from(line, report),
        Keyword::Arg => pairs::read_arg_declarations(line, report).map(InstructionBody::Arg),
        Keyword::Env => pairs::read_pairs(line, report).map(InstructionBody::Env),
        Keyword::Label => pairs::read_pairs(line, report).map(InstructionBody::Label),
        Keyword::Run => read_run(line, heredocs, report).map(InstructionBody::Run),
        Keyword::Cmd => command::read_command(line, report).map(InstructionBody::Cmd),
        Keyword::Entrypoint => command::read_command(line, report).map(InstructionBody::Entrypoint),
        Keyword::Shell => command::read_shell(line, report).map(InstructionBody::Shell),
        Keyword::Healthcheck => command::read_healthcheck(line, report).map(InstructionBody::Healthcheck),
        Keyword::Copy => read_copy(line, heredocs, report).map(InstructionBody::Copy),
        Keyword::Add => read_copy(line, heredocs, report).map(InstructionBody::Add),
        Keyword::Workdir => single_argument(line, report).map(InstructionBody::Workdir),
        Keyword::User => single_argument(line, report).map(InstructionBody::User),
        Keyword::Stopsignal => single_argument(line, report).map(InstructionBody::StopSignal),
        Keyword::Maintainer => single_argument(line, report).map(InstructionBody::Maintainer),
        Keyword::Expose => argument_list(line, words::split_blanks(line.text()), report).map(InstructionBody::Expose),
        Keyword::Volume => read_volume(line, report),
        Keyword::Onbuild => onbuild::read_onbuild(line, &heredocs, report).map(InstructionBody::OnBuild),
    }
}

fn read_from(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<InstructionBody> {
    let words: Vec<SpannedText> = words::split_blanks(line.text()).into_iter().map(|place| line.word(place)).collect();
    let (base, name) = match words.as_slice() {
        [base] => (base.clone(), None),
        [base, separator, name] if separator.text.eq_ignore_ascii_case("as") => (base.clone(), Some(name.clone())),
        _ => {
            report.push(
                line.error("`FROM` takes an image, or an image, `AS` and a name")
                    .help("write `FROM image` or `FROM image AS name`"),
            );
            return None;
        }
    };
    if let Some(name) = name.as_ref().filter(|name| !is_valid_stage_name(&name.text)) {
        report.push(
            Diagnostic::error(name.span.clone(), format!("{} cannot be the name of a stage", quote(&name.text)))
                .help("a name starts with a letter, then letters, digits, `-`, `_` and `.` follow"),
        );
        return None;
    }
    Some(InstructionBody::From(FromInstruction { base, name, platform: flags::flag_value(line.flags, "platform") }))
}

fn is_valid_stage_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

fn single_argument(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<SpannedText> {
    if line.args.is_empty() {
        report.push(line.error(format!("`{}` takes an argument", line.keyword.name())));
        return None;
    }
    Some(line.all_arguments())
}

fn argument_list(
    line: &InstructionLine<'_>,
    places: Vec<Range<usize>>,
    report: &mut DiagnosticCollector,
) -> Option<Vec<SpannedText>> {
    if places.is_empty() {
        report.push(line.error(format!("`{}` takes at least one argument", line.keyword.name())));
        return None;
    }
    Some(places.into_iter().map(|place| line.word(place)).collect())
}

fn read_volume(line: &InstructionLine<'_>, report: &mut DiagnosticCollector) -> Option<InstructionBody> {
    let paths = match line.json_strings(report).ok()? {
        Some(strings) => strings,
        None => argument_list(line, words::split_blanks(line.text()), report)?,
    };
    let blank = paths.iter().find(|path| path.text.trim().is_empty()).map(|path| path.span.clone());
    if paths.is_empty() || blank.is_some() {
        let span = blank.unwrap_or_else(|| line.span());
        report.error(span, "`VOLUME` takes at least one path, and none may be empty");
        return None;
    }
    Some(InstructionBody::Volume(paths))
}

fn read_run(
    line: &InstructionLine<'_>,
    heredocs: Vec<Heredoc>,
    report: &mut DiagnosticCollector,
) -> Option<RunInstruction> {
    let mounts: Vec<_> = flags::flag_values(line.flags, "mount")
        .iter()
        .map(|flag| mount_flag::parse_mount_flag(flag, report))
        .collect::<Option<_>>()?;
    let network = choice_flag(line, "network", &["default", "none", "host"], report)?;
    let security = choice_flag(line, "security", &["sandbox", "insecure"], report)?;
    let command = command::read_command(line, report)?;
    Some(RunInstruction { command, heredocs, mounts, network, security })
}

/// Reads a flag that takes one of `words`; the first of them is the default and is returned as no value.
fn choice_flag(
    line: &InstructionLine<'_>,
    flag: &str,
    words: &[&str],
    report: &mut DiagnosticCollector,
) -> Option<Option<SpannedText>> {
    let Some(word) = flags::flag_value(line.flags, flag) else { return Some(None) };
    if !words.contains(&word.text.as_str()) {
        let listed: Vec<String> = words.iter().map(|word| quote(word)).collect();
        report.push(
            Diagnostic::error(word.span.clone(), format!("`--{flag}` cannot be {}", quote(&word.text)))
                .did_you_mean(&word.text, words.iter().copied())
                .note(format!("it is one of {}", listed.join(", "))),
        );
        return None;
    }
    Some(Some(word).filter(|word| word.text != words[0]))
}

fn read_copy(
    line: &InstructionLine<'_>,
    heredocs: Vec<Heredoc>,
    report: &mut DiagnosticCollector,
) -> Option<CopyInstruction> {
    let mut words = match line.json_strings(report).ok()? {
        Some(strings) => strings,
        None => words::split_blanks(line.text()).into_iter().map(|place| line.word(place)).collect(),
    };
    let name = line.keyword.name();
    let Some(dest) = words.pop().filter(|_| !words.is_empty()) else {
        report.push(
            line.error(format!("`{name}` takes at least one source and a destination"))
                .help(format!("write `{name} source destination`")),
        );
        return None;
    };
    if heredoc::parse_start(&dest.text).is_some() {
        report.push(
            Diagnostic::error(dest.span, format!("a heredoc cannot be the destination of `{name}`"))
                .help(format!("write the destination last: `{name} <<EOF /path`")),
        );
        return None;
    }
    let (sources, inline) = resolve_heredoc_sources(line, words, heredocs, report)?;
    let value = |name| flags::flag_value(line.flags, name);
    let switch = |name| flags::switch_value(line.flags, name);
    Some(CopyInstruction {
        sources,
        heredocs: inline,
        dest,
        from: value("from"),
        chown: value("chown"),
        chmod: value("chmod"),
        link: switch("link").unwrap_or(false),
        parents: switch("parents").unwrap_or(false),
        exclude: flags::flag_values(line.flags, "exclude"),
        checksum: value("checksum").filter(|word| !word.text.is_empty()),
        keep_git_dir: switch("keep-git-dir"),
        unpack: switch("unpack"),
    })
}

/// The sources that are paths or URLs, and those that are heredocs with the byte ranges of their words.
type CopySources = (Vec<SpannedText>, Vec<(Heredoc, Range<usize>)>);

fn resolve_heredoc_sources(
    line: &InstructionLine<'_>,
    words: Vec<SpannedText>,
    heredocs: Vec<Heredoc>,
    report: &mut DiagnosticCollector,
) -> Option<CopySources> {
    // Of two heredocs with one name the last wins.
    let by_name: HashMap<String, Heredoc> = heredocs.into_iter().map(|one| (one.name.clone(), one)).collect();
    let (mut sources, mut inline) = (Vec::new(), Vec::new());
    let mut left = MAX_DOCKERFILE_SIZE;
    for word in words {
        let Some(opening) = heredoc::parse_start(&word.text) else {
            sources.push(word);
            continue;
        };
        let Some(heredoc) = by_name.get(&opening.name) else {
            let message = format!("{} is not a heredoc in the JSON form", quote(&word.text));
            report.push(Diagnostic::error(word.span, message).help("write the words without brackets and quotes"));
            return None;
        };
        // One heredoc may be the source of many files.
        match left.checked_sub(heredoc.contents.len()) {
            Some(less) => left = less,
            None => {
                report.push(line.error(format!("the heredocs grow beyond {} MiB together", MAX_DOCKERFILE_SIZE >> 20)));
                return None;
            }
        }
        inline.push((heredoc.clone(), word.span));
    }
    Some((sources, inline))
}
