//! The syntax tree of a Dockerfile: instructions, their flags and words, each with its byte range in the text.

use std::ops::Range;

use dram_image::Healthcheck;

use crate::lines;

/// A parsed Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at the top of the file.
    pub directives: Directives,
    /// The instructions, in file order.
    pub instructions: Vec<Instruction>,
    /// True when parsing found no error, so that the file may be built.
    pub sound: bool,
}

/// The parser directives (`# syntax=`, `# escape=`, `# check=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The escape character of `# escape=`: a backslash or a backtick.
    pub escape: char,
    /// `# syntax=`: the frontend image for another builder. Kept for display, never fetched or executed.
    pub syntax: Option<Word>,
    /// `# check=`: the checks to skip, and the option to treat warnings as errors.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Directives { escape: '\\', syntax: None, check: None }
    }
}

/// A piece of text with its byte range in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// The text, with continuation lines joined.
    pub text: String,
    /// The byte range in the file.
    pub span: Range<usize>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The byte range from the keyword to the last character, without heredocs.
    pub span: Range<usize>,
    /// The line of the keyword, counted from 1.
    pub line: usize,
    /// The keyword as written.
    pub keyword: Word,
    /// The keyword, or `None` when it is unknown.
    pub kind: Option<Keyword>,
    /// The flags as written.
    pub flags: Vec<Flag>,
    /// The instruction on one line, with continuation lines joined unchanged.
    pub text: String,
    /// True for an `ONBUILD` trigger of the base, which is executed as if it stood in the file.
    pub trigger: bool,
    /// The comments directly above the instruction, each without its `#` and surrounding blanks.
    pub comments: Vec<String>,
    /// The last line of its text, without heredocs.
    pub end_line: usize,
    /// The last line, heredocs included.
    pub last_line: usize,
    /// The parsed arguments and flags.
    pub body: Body,
}

impl Instruction {
    /// Returns the parsed `FROM`, if the instruction is one.
    pub fn from_line(&self) -> Option<&FromLine> {
        if let Body::From(from) = &self.body { Some(from) } else { None }
    }

    /// Returns the arguments that an `ARG` declares; empty for other instructions.
    pub fn arguments(&self) -> &[Argument] {
        if let Body::Arg(arguments) = &self.body { arguments } else { &[] }
    }

    /// Returns the value of a `# check=…` comment directly above the instruction: options for this instruction alone.
    /// Text after a blank is a comment and is left out.
    pub fn check(&self) -> Option<&str> {
        let check = self.comments.iter().find_map(|comment| {
            let (name, value) = lines::directive(comment)?;
            name.eq_ignore_ascii_case("check").then_some(value)
        })?;
        check.split(' ').next()
    }

    /// Returns the description of `name`, a stage or argument that the instruction defines: the rest of the first
    /// comment directly above that starts with the name and a blank.
    pub fn description(&self, name: &str) -> Option<&str> {
        self.comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))
    }

    /// Returns the stages and images that files are taken from, in the order of the text: the `--from` of a `COPY`, and
    /// the `from` of each `--mount` of a `RUN`.
    pub fn froms(&self) -> Vec<Word> {
        match &self.body {
            Body::Copy(transfer) => transfer.from.iter().cloned().collect(),
            Body::Run(run) => run.mounts.iter().filter_map(MountLine::from).collect(),
            Body::From(_)
            | Body::Arg(_)
            | Body::Env(_)
            | Body::Label(_)
            | Body::Cmd(_)
            | Body::Entrypoint(_)
            | Body::Add(_)
            | Body::Workdir(_)
            | Body::User(_)
            | Body::Expose(_)
            | Body::Volume(_)
            | Body::StopSignal(_)
            | Body::Shell(_)
            | Body::Healthcheck(_)
            | Body::Maintainer(_)
            | Body::OnBuild(_)
            | Body::Invalid => Vec::new(),
        }
    }
}

/// `--name` or `--name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The name without its dashes.
    pub name: String,
    /// The value, unquoted.
    pub value: Option<String>,
    /// The byte range of the whole flag.
    pub span: Range<usize>,
}

/// The parsed arguments and flags of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `FROM [--platform=…] base [AS name]`
    From(FromLine),
    /// `ARG name[=default] …`
    Arg(Vec<Argument>),
    /// `ENV name=value …`
    Env(Vec<Pair>),
    /// `LABEL name=value …`
    Label(Vec<Pair>),
    /// `RUN …`
    Run(RunLine),
    /// `CMD …`
    Cmd(Command),
    /// `ENTRYPOINT …`
    Entrypoint(Command),
    /// `COPY …`
    Copy(Transfer),
    /// `ADD …`
    Add(Transfer),
    /// `WORKDIR path`
    Workdir(Word),
    /// `USER user[:group]`
    User(Word),
    /// `EXPOSE port …`
    Expose(Vec<Word>),
    /// `VOLUME path …`
    Volume(Vec<Word>),
    /// `STOPSIGNAL signal`
    StopSignal(Word),
    /// `SHELL ["…", …]`
    Shell(Vec<Word>),
    /// `HEALTHCHECK …`
    Healthcheck(Healthcheck),
    /// `MAINTAINER name`
    Maintainer(Word),
    /// `ONBUILD instruction`: the instruction as text, including its heredocs.
    OnBuild(Word),
    /// An invalid or unsupported instruction, about which there is a diagnostic.
    Invalid,
}

/// The arguments and flags of `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromLine {
    /// The base image or stage, not expanded.
    pub base: Word,
    /// The name of the new stage, as written.
    pub name: Option<Word>,
    /// `--platform`, not expanded.
    pub platform: Option<Word>,
}

/// One argument of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The name.
    pub name: Word,
    /// The default value behind the `=`, not expanded.
    pub default: Option<Word>,
}

/// A name and its value from `ENV` or `LABEL`, neither expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: Word,
    /// The value.
    pub value: Word,
}

/// A command in shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Shell form: text for a shell.
    Shell(Word),
    /// Exec form: the program and its arguments.
    Exec(Vec<Word>),
}

/// The command and flags of `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLine {
    /// The command.
    pub command: Command,
    /// The heredocs of its line, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountLine>,
    /// `--network`.
    pub network: Option<Word>,
    /// `--security`.
    pub security: Option<Word>,
}

/// A heredoc: text below the line of its instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator word, without quotes.
    pub name: String,
    /// The lines of the body, each with its line end.
    pub contents: String,
    /// True when the terminator is unquoted: the builder expands variables when it writes the body to a file.
    pub expand: bool,
    /// True for `<<-`: tabs at the start of each line are removed.
    pub strip_tabs: bool,
}

impl Heredoc {
    /// Returns the body, without leading tabs for `<<-`.
    pub fn text(&self) -> String {
        if !self.strip_tabs {
            return self.contents.clone();
        }
        self.contents.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// A `--mount=key=value,…` flag, not expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// The keys in lower case, each with its value if it has one.
    pub fields: Vec<(String, Option<String>)>,
    /// The byte range of the whole flag.
    pub span: Range<usize>,
}

impl MountLine {
    /// Returns the last value of `from`: the stage or image whose files are mounted.
    pub fn from(&self) -> Option<Word> {
        let (_, value) = self.fields.iter().rev().find(|(key, _)| key == "from")?;
        let text = value.clone().filter(|text| !text.is_empty())?;
        Some(Word { text, span: self.span.clone() })
    }
}

/// The arguments and flags of `COPY` and `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The sources, not expanded, without heredocs.
    pub sources: Vec<Word>,
    /// The sources that are heredocs, each with the byte range of its word.
    pub heredocs: Vec<(Heredoc, Range<usize>)>,
    /// The destination, not expanded.
    pub dest: Word,
    /// `--from`.
    pub from: Option<Word>,
    /// `--chown`, not expanded.
    pub chown: Option<Word>,
    /// `--chmod`, not expanded.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, not expanded.
    pub exclude: Vec<Word>,
    /// `--checksum`, not expanded.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
}

macro_rules! keywords {
    ($($variant:ident = $name:literal,)*) => {
        /// The keywords of the Dockerfile language.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Keyword {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl Keyword {
            /// All keywords.
            pub const ALL: &[Keyword] = &[$(Keyword::$variant),*];

            /// Returns the keyword in capitals.
            pub fn name(self) -> &'static str {
                match self {
                    $(Keyword::$variant => $name,)*
                }
            }
        }
    };
}

keywords! {
    Add = "ADD",
    Arg = "ARG",
    Cmd = "CMD",
    Copy = "COPY",
    Entrypoint = "ENTRYPOINT",
    Env = "ENV",
    Expose = "EXPOSE",
    From = "FROM",
    Healthcheck = "HEALTHCHECK",
    Label = "LABEL",
    Maintainer = "MAINTAINER",
    Onbuild = "ONBUILD",
    Run = "RUN",
    Shell = "SHELL",
    Stopsignal = "STOPSIGNAL",
    User = "USER",
    Volume = "VOLUME",
    Workdir = "WORKDIR",
}

impl Keyword {
    /// Returns the keyword that `word` spells, in any case.
    pub fn find(word: &str) -> Option<Keyword> {
        Keyword::ALL.iter().copied().find(|keyword| keyword.name().eq_ignore_ascii_case(word))
    }
}
