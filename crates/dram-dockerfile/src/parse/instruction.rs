//! Parses one instruction: its keyword, flags, arguments and heredocs.

use std::collections::HashMap;
use std::ops::Range;

use super::{LONGEST_TEXT, command, flags, mount, onbuild, pairs};
use crate::ast::{Body, Flag, FromLine, Heredoc, Instruction, Keyword, RunLine, Transfer, Word};
use crate::diagnostic::{Diagnostic, Report, quote};
use crate::lines::{Lines, Logical};
use crate::{heredoc, json, words};

/// The logical line of an instruction with its keyword, flags and the range of its arguments.
pub(super) struct Line<'l> {
    pub(super) logical: &'l Logical,
    pub(super) keyword: Keyword,
    pub(super) flags: &'l [Flag],
    /// The byte range of the arguments in the logical line.
    pub(super) args: Range<usize>,
    pub(super) escape: char,
}

impl Line<'_> {
    /// Returns the arguments as one text.
    pub(super) fn text(&self) -> &str {
        &self.logical.text[self.args.clone()]
    }

    /// Returns a part of the arguments.
    pub(super) fn word(&self, here: Range<usize>) -> Word {
        self.logical.word(self.args.start + here.start..self.args.start + here.end)
    }

    /// Returns all arguments as one word.
    pub(super) fn all(&self) -> Word {
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
    pub(super) fn strings(&self, report: &mut Report) -> Result<Option<Vec<Word>>, ()> {
        match json::read(self.text()) {
            json::Form::Text => Ok(None),
            json::Form::NotStrings => {
                report.push(
                    Diagnostic::error(self.all().span, "a JSON array of arguments holds strings only")
                        .help("put every argument into double quotes"),
                );
                Err(())
            }
            json::Form::Strings(strings) => {
                Ok(Some(strings.into_iter().map(|(text, place)| Word { text, span: self.word(place).span }).collect()))
            }
        }
    }
}

/// Parses an instruction from its logical line, and reads the heredocs below it.
pub(super) fn read(logical: &Logical, lines: &mut Lines<'_>, report: &mut Report) -> Instruction {
    let text = logical.text.trim_end();
    let escape = lines.directives.escape;
    let (keyword, behind) = words::keyword(text);
    let (raw, args) = words::flags(text, behind, escape);
    let args = args + (text[args..].len() - text[args..].trim_start().len());
    let flags: Vec<Flag> = raw.into_iter().map(|(flag, place)| split_flag(&flag, logical.span(place))).collect();
    let word = logical.word(keyword);
    let kind = Keyword::find(&word.text);
    let body = match kind {
        None => unknown(&word, report),
        Some(keyword) => {
            let line = Line { logical, keyword, flags: &flags, args: args..text.len(), escape };
            body(&line, lines, report)
        }
    };
    Instruction {
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

fn split_flag(flag: &str, span: Range<usize>) -> Flag {
    let flag = flag.strip_prefix("--").unwrap_or(flag);
    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
    Flag { name: name.to_owned(), value, span }
}

fn unknown(word: &Word, report: &mut Report) -> Body {
    if report.is_full() {
        report.skip();
        return Body::Invalid;
    }
    let options = Keyword::ALL.iter().map(|keyword| keyword.name());
    report.push(
        Diagnostic::error(word.span.clone(), format!("unknown instruction {}", quote(&word.text)))
            .did_you_mean(&word.text, options),
    );
    Body::Invalid
}

fn body(line: &Line<'_>, lines: &mut Lines<'_>, report: &mut Report) -> Body {
    let heredocs = heredocs(line, lines, report);
    let flags = flags::check(line.keyword, line.flags, report);
    let body = heredocs.and_then(|heredocs| arguments(line, heredocs, report));
    match body {
        Some(body) if flags => body,
        Some(_) | None => Body::Invalid,
    }
}

/// Reads the heredocs below a `RUN`, `COPY` or `ADD`; `None` when one is not terminated.
fn heredocs(line: &Line<'_>, lines: &mut Lines<'_>, report: &mut Report) -> Option<Vec<Heredoc>> {
    let text = line.text();
    let (keyword, args) = match line.keyword {
        Keyword::Onbuild => {
            let (place, behind) = words::keyword(text);
            (Keyword::find(&text[place]), &text[behind..])
        }
        other => (Some(other), text),
    };
    if !matches!(keyword, Some(Keyword::Run | Keyword::Copy | Keyword::Add)) {
        return Some(Vec::new());
    }
    let found = heredoc::find(args);
    if found.is_empty() || matches!(json::read(args), json::Form::Strings(_)) {
        return Some(Vec::new());
    }
    let mut heredocs = Vec::with_capacity(found.len());
    for heredoc::Opening { name, strip_tabs, expand } in found {
        let (contents, closed) = lines.heredoc(&name, strip_tabs);
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
        heredocs.push(Heredoc { name, contents: contents.to_owned(), expand, strip_tabs });
    }
    Some(heredocs)
}

fn arguments(line: &Line<'_>, heredocs: Vec<Heredoc>, report: &mut Report) -> Option<Body> {
    match line.keyword {
        Keyword::From => from(line, report),
        Keyword::Arg => pairs::arguments(line, report).map(Body::Arg),
        Keyword::Env => pairs::pairs(line, report).map(Body::Env),
        Keyword::Label => pairs::pairs(line, report).map(Body::Label),
        Keyword::Run => run(line, heredocs, report).map(Body::Run),
        Keyword::Cmd => command::command(line, report).map(Body::Cmd),
        Keyword::Entrypoint => command::command(line, report).map(Body::Entrypoint),
        Keyword::Shell => command::shell(line, report).map(Body::Shell),
        Keyword::Healthcheck => command::healthcheck(line, report).map(Body::Healthcheck),
        Keyword::Copy => transfer(line, heredocs, report).map(Body::Copy),
        Keyword::Add => transfer(line, heredocs, report).map(Body::Add),
        Keyword::Workdir => one(line, report).map(Body::Workdir),
        Keyword::User => one(line, report).map(Body::User),
        Keyword::Stopsignal => one(line, report).map(Body::StopSignal),
        Keyword::Maintainer => one(line, report).map(Body::Maintainer),
        Keyword::Expose => many(line, words::blanks(line.text()), report).map(Body::Expose),
        Keyword::Volume => volume(line, report),
        Keyword::Onbuild => onbuild::onbuild(line, &heredocs, report).map(Body::OnBuild),
    }
}

fn from(line: &Line<'_>, report: &mut Report) -> Option<Body> {
    let words: Vec<Word> = words::blanks(line.text()).into_iter().map(|place| line.word(place)).collect();
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
    if let Some(name) = name.as_ref().filter(|name| !proper_stage_name(&name.text)) {
        report.push(
            Diagnostic::error(name.span.clone(), format!("{} cannot be the name of a stage", quote(&name.text)))
                .help("a name starts with a letter, then letters, digits, `-`, `_` and `.` follow"),
        );
        return None;
    }
    Some(Body::From(FromLine { base, name, platform: flags::value(line.flags, "platform") }))
}

fn proper_stage_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

fn one(line: &Line<'_>, report: &mut Report) -> Option<Word> {
    if line.args.is_empty() {
        report.push(line.error(format!("`{}` takes an argument", line.keyword.name())));
        return None;
    }
    Some(line.all())
}

fn many(line: &Line<'_>, places: Vec<Range<usize>>, report: &mut Report) -> Option<Vec<Word>> {
    if places.is_empty() {
        report.push(line.error(format!("`{}` takes at least one argument", line.keyword.name())));
        return None;
    }
    Some(places.into_iter().map(|place| line.word(place)).collect())
}

fn volume(line: &Line<'_>, report: &mut Report) -> Option<Body> {
    let paths = match line.strings(report).ok()? {
        Some(strings) => strings,
        None => many(line, words::blanks(line.text()), report)?,
    };
    let blank = paths.iter().find(|path| path.text.trim().is_empty()).map(|path| path.span.clone());
    if paths.is_empty() || blank.is_some() {
        let span = blank.unwrap_or_else(|| line.span());
        report.error(span, "`VOLUME` takes at least one path, and none may be empty");
        return None;
    }
    Some(Body::Volume(paths))
}

fn run(line: &Line<'_>, heredocs: Vec<Heredoc>, report: &mut Report) -> Option<RunLine> {
    let mounts: Vec<_> =
        flags::values(line.flags, "mount").iter().map(|flag| mount::mount(flag, report)).collect::<Option<_>>()?;
    let network = among(line, "network", &["default", "none", "host"], report)?;
    let security = among(line, "security", &["sandbox", "insecure"], report)?;
    let command = command::command(line, report)?;
    Some(RunLine { command, heredocs, mounts, network, security })
}

/// Reads a flag that takes one of `words`; the first of them is the default and is returned as no value.
fn among(line: &Line<'_>, flag: &str, words: &[&str], report: &mut Report) -> Option<Option<Word>> {
    let Some(word) = flags::value(line.flags, flag) else { return Some(None) };
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

fn transfer(line: &Line<'_>, heredocs: Vec<Heredoc>, report: &mut Report) -> Option<Transfer> {
    let mut words = match line.strings(report).ok()? {
        Some(strings) => strings,
        None => words::blanks(line.text()).into_iter().map(|place| line.word(place)).collect(),
    };
    let name = line.keyword.name();
    let Some(dest) = words.pop().filter(|_| !words.is_empty()) else {
        report.push(
            line.error(format!("`{name}` takes at least one source and a destination"))
                .help(format!("write `{name} source destination`")),
        );
        return None;
    };
    if heredoc::opening(&dest.text).is_some() {
        report.push(
            Diagnostic::error(dest.span, format!("a heredoc cannot be the destination of `{name}`"))
                .help(format!("write the destination last: `{name} <<EOF /path`")),
        );
        return None;
    }
    let (sources, inline) = inline(line, words, heredocs, report)?;
    let value = |name| flags::value(line.flags, name);
    let switch = |name| flags::switch(line.flags, name);
    Some(Transfer {
        sources,
        heredocs: inline,
        dest,
        from: value("from"),
        chown: value("chown"),
        chmod: value("chmod"),
        link: switch("link").unwrap_or(false),
        parents: switch("parents").unwrap_or(false),
        exclude: flags::values(line.flags, "exclude"),
        checksum: value("checksum").filter(|word| !word.text.is_empty()),
        keep_git_dir: switch("keep-git-dir"),
        unpack: switch("unpack"),
    })
}

/// The sources that are paths or URLs, and those that are heredocs with the byte ranges of their words.
type Sources = (Vec<Word>, Vec<(Heredoc, Range<usize>)>);

fn inline(line: &Line<'_>, words: Vec<Word>, heredocs: Vec<Heredoc>, report: &mut Report) -> Option<Sources> {
    // Of two heredocs with one name the last wins.
    let by_name: HashMap<String, Heredoc> = heredocs.into_iter().map(|one| (one.name.clone(), one)).collect();
    let (mut sources, mut inline) = (Vec::new(), Vec::new());
    let mut left = LONGEST_TEXT;
    for word in words {
        let Some(opening) = heredoc::opening(&word.text) else {
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
                report.push(line.error(format!("the heredocs grow beyond {} MiB together", LONGEST_TEXT >> 20)));
                return None;
            }
        }
        inline.push((heredoc.clone(), word.span));
    }
    Some((sources, inline))
}
