//! `COPY` and `ADD`.

use super::apply::{Effect, Worker};
use super::{Copy, CopySpans, From, Mode, Op, Source, SourceKind, Unpack};
use crate::ast::{Instruction, Transfer, Word};
use crate::diagnostic::{Diagnostic, quote};
use crate::glob;
use crate::graph::Origin;
use crate::paths;

impl Worker<'_> {
    /// Plans a `COPY`, or an `ADD` when `unpack` is set.
    pub(super) fn copy(
        &mut self,
        transfer: &Transfer,
        instruction: &Instruction,
        origin: Option<&Origin>,
        unpack: bool,
    ) -> Option<Effect> {
        let keyword = if unpack { "ADD" } else { "COPY" };
        let sources = self.sources(transfer, keyword);
        let chown = self.flag(transfer.chown.as_ref());
        let chmod = self.flag(transfer.chmod.as_ref());
        let checksum = self.flag(transfer.checksum.as_ref());
        let exclude: Option<Vec<String>> = transfer.exclude.iter().map(|word| self.expand(word)).collect();
        let written = self.expand(&transfer.dest);
        let (sources, chown, chmod, written) = (sources?, chown?, chmod?, written?);
        let (checksum, exclude) = (checksum?, exclude?);
        let mode = match (&chmod, &transfer.chmod) {
            (Some(text), Some(word)) => Some(self.mode(text, word)?),
            (_, _) => None,
        };
        if let (Some(owner), Some(word)) = (&chown, &transfer.chown)
            && !self.ids_fit(owner, word.span.clone())
        {
            return None;
        }
        if let (Some(text), Some(word)) = (&checksum, &transfer.checksum) {
            self.checksum(text, word, &sources)?;
        }
        let created_by = created_by(keyword, transfer, [("--chown", &chown), ("--chmod", &chmod)], &sources, &written);
        let copy = Copy {
            from: origin.map_or(From::Context, place),
            sources,
            dest: self.dest(&written),
            chown,
            chmod: mode,
            unpack: match (transfer.unpack, unpack) {
                (Some(true), true) => Unpack::All,
                (None, true) => Unpack::Local,
                (Some(false), true) | (_, false) => Unpack::No,
            },
            link: transfer.link,
            parents: transfer.parents,
            exclude,
            checksum,
            keep_git_dir: transfer.keep_git_dir.unwrap_or(false),
            spans: spans(transfer, instruction),
        };
        Some(Effect { op: Op::Copy(copy), created_by, layer: true })
    }

    /// Expands a flag; an empty value counts as none.
    fn flag(&mut self, word: Option<&Word>) -> Option<Option<String>> {
        match word {
            Some(word) => self.expand(word).map(|value| Some(value).filter(|value| !value.is_empty())),
            None => Some(None),
        }
    }

    fn sources(&mut self, transfer: &Transfer, keyword: &str) -> Option<Vec<Source>> {
        let mut sources = Vec::with_capacity(transfer.sources.len() + transfer.heredocs.len());
        let mut wrong = false;
        for word in &transfer.sources {
            let Some(text) = self.expand(word) else {
                wrong = true;
                continue;
            };
            match kind(&text, keyword, word) {
                Ok(kind) => sources.push(Source { text, kind, span: word.span.clone() }),
                Err(error) => {
                    self.report.push(*error);
                    wrong = true;
                }
            }
        }
        for (heredoc, span) in &transfer.heredocs {
            let mut text = heredoc.text();
            if heredoc.expand {
                text = self.expand_text(&Word { text, span: span.clone() })?;
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
            sources.push(Source { text: name, kind: SourceKind::Inline(text), span: span.clone() });
        }
        (!wrong).then_some(sources)
    }

    fn checksum(&mut self, text: &str, word: &Word, sources: &[Source]) -> Option<()> {
        let error = |message: &str| Diagnostic::error(word.span.clone(), message.to_owned());
        let [one] = sources else {
            let error = error("`--checksum` is for one source");
            self.report.push(error.help("write an `ADD` of its own for each source"));
            return None;
        };
        let hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (right, how) = match &one.kind {
            SourceKind::Path | SourceKind::Inline(_) => {
                let error = error("`--checksum` is for a URL or a Git repository");
                self.report.push(error.help("leave the flag out; what is copied from the build context has a digest"));
                return None;
            }
            SourceKind::Url => {
                let digits = text.strip_prefix("sha256:");
                (digits.is_some_and(|digits| digits.len() == 64 && hex(digits)), "`sha256:` and 64 hexadecimal digits")
            }
            SourceKind::Git => (hex(text) && text.len() <= 64, "the id of a commit, or how it begins"),
        };
        if !right {
            self.report.push(error(&format!("{} is not a checksum", quote(text))).note(format!("it is {how}")));
            return None;
        }
        Some(())
    }

    fn mode(&mut self, text: &str, word: &Word) -> Option<Mode> {
        let mode = Mode::parse(text);
        if mode.is_none() {
            let error = Diagnostic::error(word.span.clone(), format!("{} is not a mode", quote(text)));
            self.report
                .push(error.help("write it in octal, as `--chmod=0755`, or in letters, as `--chmod=u=rwX,go=rX`"));
        }
        mode
    }

    fn dest(&mut self, written: &str) -> String {
        let dir = self.state.dir();
        let mut dest = paths::destination(&dir, written);
        // The directory of a `WORKDIR` is there for sure.
        if self.state.workdir_given && dest == dir && !dest.ends_with('/') {
            dest.push('/');
        }
        dest
    }
}

/// What an origin is in a plan.
pub(super) fn place(origin: &Origin) -> From {
    match origin {
        Origin::Stage(at) => From::Stage(*at),
        Origin::Outside(name) => From::Named(name.clone()),
        Origin::Scratch => From::Scratch,
    }
}

fn spans(transfer: &Transfer, instruction: &Instruction) -> CopySpans {
    let place = |name: &str| instruction.flags.iter().find(|flag| flag.name == name).map(|flag| flag.span.clone());
    CopySpans {
        dest: transfer.dest.span.clone(),
        from: place("from"),
        chown: place("chown"),
        chmod: place("chmod"),
        checksum: place("checksum"),
    }
}

/// The line of history, in BuildKit's words.
fn created_by(
    keyword: &str,
    transfer: &Transfer,
    flags: [(&str, &Option<String>); 2],
    sources: &[Source],
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
            SourceKind::Inline(_) => out.push_str("<<"),
            SourceKind::Path | SourceKind::Url | SourceKind::Git => {}
        }
        out.push_str(&source.text);
    }
    out.push_str(&format!(" {dest} # buildkit"));
    out
}

/// What a source is, or why it cannot be copied.
fn kind(text: &str, keyword: &str, word: &Word) -> Result<SourceKind, Box<Diagnostic>> {
    let error = |message: String| Diagnostic::error(word.span.clone(), message);
    if let Some(remote) = remote(text) {
        return match (keyword, remote) {
            ("ADD", Remote::Url) => Ok(SourceKind::Url),
            ("ADD", Remote::Git) => Ok(SourceKind::Git),
            (_, _) => {
                let error = error(format!("`{keyword}` cannot copy from {remote}"));
                Err(Box::new(error.help("`ADD` can; `COPY` takes files of the build context, a stage or an image")))
            }
        };
    }
    let malformed = text.split('/').any(|part| glob::has_magic(part) && glob::matches(part, "").is_err());
    if malformed {
        let error = error(format!("the wildcard {} is malformed", quote(text)));
        return Err(Box::new(error.help("put a backslash before a literal `[`")));
    }
    Ok(SourceKind::Path)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remote {
    Url,
    Git,
}

impl std::fmt::Display for Remote {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Remote::Url => "a URL",
            Remote::Git => "a Git repository",
        })
    }
}

/// What kind of thing on the network `text` names, if it does: BuildKit's rules for `ADD`.
fn remote(text: &str) -> Option<Remote> {
    let has = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if has("http://") || has("https://") {
        let path = text.split(['?', '#']).next().unwrap_or_default();
        return Some(if path.ends_with(".git") { Remote::Git } else { Remote::Url });
    }
    let git = has("git://") || has("ssh://");
    // `user@host:path`, the way of ssh.
    let scp = || {
        let (host, _) = text.split_once(':')?;
        let (user, host) = host.split_once('@')?;
        let proper = |part: &str| {
            !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
        };
        (proper(user) && proper(host)).then_some(())
    };
    (git || scp().is_some()).then_some(Remote::Git)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes() {
        let table = [
            ("https://example.com/a.tar", Some(Remote::Url)),
            ("HTTP://example.com/a", Some(Remote::Url)),
            ("https://example.com/a.git", Some(Remote::Git)),
            ("https://example.com/a.git#main:dir", Some(Remote::Git)),
            ("git@example.com:a/b", Some(Remote::Git)),
            ("git://example.com/a", Some(Remote::Git)),
            ("github.com/a/b", None),
            ("a.git", None),
            ("./git@example.com:a", None),
            ("lib/a:b", None),
        ];
        for (text, expected) in table {
            assert_eq!(remote(text), expected, "{text}");
        }
    }
}
