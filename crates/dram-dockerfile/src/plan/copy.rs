//! Plans `COPY` and `ADD`.

use std::ops::Range;

use dram_plan::{ChmodMode, CopyOp, CopySource, CopySourceKind, InputRef, StepOp, StepPart, UnpackPolicy};

use super::stage_planner::{InstructionEffect, StagePlanner};
use crate::ast::{CopyInstruction, DockerfileInstruction, SpannedText};
use crate::diagnostic::{Diagnostic, quote};
use crate::glob;
use crate::paths;
use crate::remote::{self, RemoteSource};

impl StagePlanner<'_> {
    /// Plans a `COPY`, or an `ADD` when `unpack` is set.
    pub(super) fn plan_copy(
        &mut self,
        transfer: &CopyInstruction,
        instruction: &DockerfileInstruction,
        input: Option<&InputRef>,
        unpack: bool,
    ) -> Option<InstructionEffect> {
        let keyword = if unpack { "ADD" } else { "COPY" };
        let sources = self.expand_sources(transfer, keyword);
        let chown = self.expand_flag(transfer.chown.as_ref());
        let chmod = self.expand_flag(transfer.chmod.as_ref());
        let checksum = self.expand_flag(transfer.checksum.as_ref());
        let exclude: Option<Vec<String>> = transfer.exclude.iter().map(|word| self.expand(word)).collect();
        let written = self.expand(&transfer.dest);
        let (sources, chown, chmod, written) = (sources?, chown?, chmod?, written?);
        let (checksum, exclude) = (checksum?, exclude?);
        let mode = match (&chmod, &transfer.chmod) {
            (Some(text), Some(word)) => Some(self.parse_mode(text, word)?),
            (_, _) => None,
        };
        if let (Some(owner), Some(word)) = (&chown, &transfer.chown)
            && !self.check_ids(owner, word.span.clone())
        {
            return None;
        }
        if let (Some(text), Some(word)) = (&checksum, &transfer.checksum) {
            self.check_checksum(text, word, &sources)?;
        }
        let sources = self.merge_git_flags(sources, transfer, checksum.as_deref())?;
        let created_by = created_by(keyword, transfer, [("--chown", &chown), ("--chmod", &chmod)], &sources, &written);
        let copy = CopyOp {
            from: input.cloned().unwrap_or(InputRef::Context),
            sources,
            dest: self.absolute_dest(&written),
            chown,
            chmod: mode,
            unpack: match (transfer.unpack, unpack) {
                (Some(true), true) => UnpackPolicy::All,
                (None, true) => UnpackPolicy::Local,
                (Some(false), true) | (_, false) => UnpackPolicy::No,
            },
            link: transfer.link,
            parents: transfer.parents,
            exclude,
            checksum,
            keep_git_dir: transfer.keep_git_dir.unwrap_or(false),
        };
        let parts = part_spans(transfer, instruction);
        Some(InstructionEffect { op: StepOp::Copy(copy), created_by, layer: true, parts })
    }

    /// Expands the value of a flag; an empty value counts as none.
    fn expand_flag(&mut self, word: Option<&SpannedText>) -> Option<Option<String>> {
        match word {
            Some(word) => self.expand(word).map(|value| Some(value).filter(|value| !value.is_empty())),
            None => Some(None),
        }
    }

    fn expand_sources(&mut self, transfer: &CopyInstruction, keyword: &str) -> Option<Vec<CopySource>> {
        let mut sources = Vec::with_capacity(transfer.sources.len() + transfer.heredocs.len());
        let mut wrong = false;
        for word in &transfer.sources {
            let Some(text) = self.expand(word) else {
                wrong = true;
                continue;
            };
            match classify_source(&text, keyword, word) {
                Ok(kind) => sources.push(CopySource { text, kind }),
                Err(error) => {
                    self.report.push(*error);
                    wrong = true;
                }
            }
        }
        for (heredoc, span) in &transfer.heredocs {
            let mut text = heredoc.text();
            if heredoc.expand {
                text = self.expand_text(&SpannedText { text, span: span.clone() })?;
            } else if !self.budget.spend(text.len()) {
                self.report.error(span.clone(), "the values of the Dockerfile grow too large together");
                return None;
            }
            let name = paths::absolute("/", &heredoc.name).rsplit('/').next().unwrap_or_default().to_owned();
            if name.is_empty() {
                let message = format!("{} cannot be the name of a file", quote(&heredoc.name));
                self.report.error(span.clone(), message);
                return None;
            }
            sources.push(CopySource { text: name, kind: CopySourceKind::Inline(text) });
        }
        (!wrong).then_some(sources)
    }

    /// Merges the flags into the Git sources; a flag that contradicts the URL is an error.
    fn merge_git_flags(
        &mut self,
        mut sources: Vec<CopySource>,
        transfer: &CopyInstruction,
        checksum: Option<&str>,
    ) -> Option<Vec<CopySource>> {
        // Heredocs come after the words, and are no repositories.
        let spans = transfer.sources.iter().map(|word| &word.span);
        for (source, span) in sources.iter_mut().zip(spans) {
            let CopySourceKind::Git(git) = &mut source.kind else { continue };
            let differs = |what: &str| {
                let message = format!("{what} is said by a flag and, differently, by the address");
                Diagnostic::error(span.clone(), message).help("keep one of the two")
            };
            if let (Some(flag), Some(own)) = (transfer.keep_git_dir, git.keep_git_dir)
                && flag != own
            {
                self.report.push(differs("whether the Git directory is kept"));
                return None;
            }
            git.keep_git_dir = transfer.keep_git_dir.or(git.keep_git_dir);
            if let (Some(flag), Some(own)) = (checksum, git.checksum.as_deref())
                && flag != own
            {
                self.report.push(differs("the checksum"));
                return None;
            }
            if let Some(checksum) = checksum {
                git.checksum = Some(checksum.to_owned());
            }
        }
        Some(sources)
    }

    fn check_checksum(&mut self, text: &str, word: &SpannedText, sources: &[CopySource]) -> Option<()> {
        let error = |message: &str| Diagnostic::error(word.span.clone(), message.to_owned());
        let [one] = sources else {
            let error = error("`--checksum` is for one source");
            self.report.push(error.help("write an `ADD` of its own for each source"));
            return None;
        };
        let hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (right, how) = match &one.kind {
            CopySourceKind::Path | CopySourceKind::Inline(_) => {
                let error = error("`--checksum` is for a URL or a Git repository");
                self.report.push(error.help("leave the flag out; what is copied from the build context has a digest"));
                return None;
            }
            CopySourceKind::Url => {
                let digits = text.strip_prefix("sha256:");
                (digits.is_some_and(|digits| digits.len() == 64 && hex(digits)), "`sha256:` and 64 hexadecimal digits")
            }
            CopySourceKind::Git(_) => (hex(text) && text.len() <= 64, "the id of a commit, or how it begins"),
        };
        if !right {
            self.report.push(error(&format!("{} is not a checksum", quote(text))).note(format!("it is {how}")));
            return None;
        }
        Some(())
    }

    fn parse_mode(&mut self, text: &str, word: &SpannedText) -> Option<ChmodMode> {
        let mode = ChmodMode::parse(text);
        if mode.is_none() {
            let error = Diagnostic::error(word.span.clone(), format!("{} is not a mode", quote(text)));
            self.report
                .push(error.help("write it in octal, as `--chmod=0755`, or in letters, as `--chmod=u=rwX,go=rX`"));
        }
        mode
    }

    fn absolute_dest(&mut self, written: &str) -> String {
        let dir = self.state.working_dir();
        let mut dest = paths::destination(&dir, written);
        // The directory of a `WORKDIR` certainly exists.
        if self.state.workdir_given && dest == dir && !dest.ends_with('/') {
            dest.push('/');
        }
        dest
    }
}

/// Returns the spans of the parts that messages of the build point to.
fn part_spans(transfer: &CopyInstruction, instruction: &DockerfileInstruction) -> Vec<(StepPart, Range<usize>)> {
    let words = transfer.sources.iter().map(|word| &word.span);
    let sources = words.chain(transfer.heredocs.iter().map(|(_, span)| span)).enumerate();
    let sources = sources.map(|(at, span)| (StepPart::Source(at), span.clone()));
    let chown = instruction.flags.iter().find(|flag| flag.name == "chown");
    let chown = chown.map(|flag| (StepPart::Chown, flag.span.clone()));
    sources.chain([(StepPart::Dest, transfer.dest.span.clone())]).chain(chown).collect()
}

/// Formats the history entry as BuildKit does.
fn created_by(
    keyword: &str,
    transfer: &CopyInstruction,
    flags: [(&str, &Option<String>); 2],
    sources: &[CopySource],
    dest: &str,
) -> String {
    let mut out = keyword.to_owned();
    if transfer.parents {
        out.push_str(" --parents");
    }
    for (flag, value) in flags {
        if let Some(value) = value {
            out.push_str(&format!(" {flag}={value}"));
        }
    }
    for source in sources {
        out.push(' ');
        match &source.kind {
            CopySourceKind::Inline(_) => out.push_str("<<"),
            CopySourceKind::Path | CopySourceKind::Url | CopySourceKind::Git(_) => {}
        }
        // Credentials in a URL must not be shown.
        out.push_str(&remote::redacted(&source.text));
    }
    out.push_str(&format!(" {dest} # buildkit"));
    out
}

/// Returns the kind of a source, or the error that it cannot be copied.
fn classify_source(text: &str, keyword: &str, word: &SpannedText) -> Result<CopySourceKind, Box<Diagnostic>> {
    let error = |message: String| Diagnostic::error(word.span.clone(), message);
    let remote = remote::classify(text).map_err(|wrong| Box::new(error(wrong.message).help(wrong.help)))?;
    if let Some(remote) = remote {
        let what = match (keyword, remote) {
            ("ADD", RemoteSource::Url { .. }) => return Ok(CopySourceKind::Url),
            ("ADD", RemoteSource::Git(git)) => return Ok(CopySourceKind::Git(Box::new(git))),
            (_, RemoteSource::Url { .. }) => "a URL",
            (_, RemoteSource::Git(_)) => "a Git repository",
        };
        let error = error(format!("`{keyword}` cannot copy from {what}"));
        return Err(Box::new(error.help("`ADD` can; `COPY` takes files of the build context, a stage or an image")));
    }
    let malformed = text.split('/').any(|part| glob::has_wildcards(part) && glob::matches(part, "").is_err());
    if malformed {
        let error = error(format!("the wildcard {} is malformed", quote(text)));
        return Err(Box::new(error.help("put a backslash before a literal `[`")));
    }
    Ok(CopySourceKind::Path)
}
