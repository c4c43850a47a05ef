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
        let sources = self.sources(&transfer.sources, keyword);
        let chown = self.flag(transfer.chown.as_ref());
        let chmod = self.flag(transfer.chmod.as_ref());
        let written = self.expand(&transfer.dest);
        let (sources, chown, chmod, written) = (sources?, chown?, chmod?, written?);
        let mode = match (&chmod, &transfer.chmod) {
            (Some(text), Some(word)) => Some(self.mode(text, word)?),
            (_, _) => None,
        };
        if let (Some(owner), Some(word)) = (&chown, &transfer.chown)
            && !self.ids_fit(owner, word.span.clone())
        {
            return None;
        }
        let dest = self.dest(&written, &sources, transfer)?;
        let mut created_by = keyword.to_owned();
        for (flag, value) in [("--chown", &chown), ("--chmod", &chmod)] {
            if let Some(value) = value {
                created_by.push_str(&format!(" {flag}={value}"));
            }
        }
        for source in &sources {
            created_by.push(' ');
            created_by.push_str(&source.text);
        }
        created_by.push_str(&format!(" {written} # buildkit"));
        let from = match origin {
            None => From::Context,
            Some(Origin::Stage(at)) => From::Stage(*at),
            Some(Origin::Outside(name)) => From::Named(name.clone()),
        };
        let place = |name: &str| instruction.flags.iter().find(|flag| flag.name == name).map(|flag| flag.span.clone());
        let spans = CopySpans {
            dest: transfer.dest.span.clone(),
            from: place("from"),
            chown: place("chown"),
            chmod: place("chmod"),
            checksum: place("checksum"),
        };
        let copy = Copy {
            from,
            sources,
            dest,
            chown,
            chmod: mode,
            unpack: if unpack { Unpack::Local } else { Unpack::No },
            link: false,
            parents: false,
            exclude: Vec::new(),
            checksum: None,
            keep_git_dir: false,
            spans,
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

    fn sources(&mut self, words: &[Word], keyword: &str) -> Option<Vec<Source>> {
        let mut sources = Vec::with_capacity(words.len());
        let mut wrong = false;
        for word in words {
            let Some(text) = self.expand(word) else {
                wrong = true;
                continue;
            };
            match refused(&text, keyword, word) {
                Some(error) => {
                    self.report.push(error);
                    wrong = true;
                }
                None => sources.push(Source { text, kind: SourceKind::Path, span: word.span.clone() }),
            }
        }
        (!wrong).then_some(sources)
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

    fn dest(&mut self, written: &str, sources: &[Source], transfer: &Transfer) -> Option<String> {
        let dir = self.state.dir();
        let mut dest = paths::destination(&dir, written);
        // How many files a wildcard stands for is only known when it is carried out.
        let literal = sources.iter().filter(|source| !glob::has_magic(&source.text)).count();
        if literal < 2 || dest.ends_with('/') {
            return Some(dest);
        }
        // The directory of a `WORKDIR` is there for sure.
        if self.state.workdir_given && dest == dir {
            dest.push('/');
            return Some(dest);
        }
        self.report.push(
            Diagnostic::error(
                transfer.dest.span.clone(),
                format!("several sources, but {} does not end with a slash", quote(written)),
            )
            .note("unless it is a directory already, each file would overwrite the one before")
            .help(format!("write {}", quote(&format!("{written}/")))),
        );
        None
    }
}

/// Why a source cannot be copied, when it cannot.
fn refused(text: &str, keyword: &str, word: &Word) -> Option<Diagnostic> {
    let error = |message: String| Diagnostic::error(word.span.clone(), message);
    if let Some(remote) = remote(text) {
        return Some(match keyword {
            "ADD" => {
                let help = match remote {
                    Remote::Url => "fetch it in a `RUN`, with `curl`, or put the file into the build context",
                    Remote::Git => "clone it in a `RUN`, with `git`, or put the files into the build context",
                };
                error(format!("`ADD` from {remote} is not supported yet")).help(help)
            }
            _ => error(format!("`{keyword}` cannot copy from {remote}")).help("copy from the build context"),
        });
    }
    let malformed = text.split('/').any(|part| glob::has_magic(part) && glob::matches(part, "").is_err());
    malformed.then(|| {
        error(format!("the wildcard {} is malformed", quote(text))).help("put a backslash before a literal `[`")
    })
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
