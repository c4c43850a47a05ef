//! A Dockerfile as read: instructions, their flags and words, each with its place in the text.

use std::ops::Range;

use dram_image::Healthcheck;

use crate::lines;

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// What the comments at the very top say to the builder.
    pub directives: Directives,
    /// Everything else, in the order of the text.
    pub instructions: Vec<Instruction>,
    /// Reading it found no error, so it may be built.
    pub sound: bool,
}

/// The parser directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# escape=`: a backslash, or a backtick.
    pub escape: char,
    /// `# syntax=`: another builder's frontend image. Kept for display, never fetched or run.
    pub syntax: Option<Word>,
    /// `# check=`: which checks to skip, and whether warnings are errors.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Directives { escape: '\\', syntax: None, check: None }
    }
}

/// A piece of text and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// The text, with continuation lines joined.
    pub text: String,
    /// The place, in bytes of the file.
    pub span: Range<usize>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// From the keyword to the last letter, heredocs not counted.
    pub span: Range<usize>,
    /// The line of the keyword, from 1.
    pub line: usize,
    /// The keyword as written.
    pub keyword: Word,
    /// Which keyword it is, if it is one.
    pub kind: Option<Keyword>,
    /// The flags as written.
    pub flags: Vec<Flag>,
    /// The instruction on one line, continuation lines joined as they stand.
    pub text: String,
    /// It is a trigger of the base, run as if it stood in the file.
    pub trigger: bool,
    /// The comments right above it, each without its `#` and the blanks around it.
    pub comments: Vec<String>,
    /// The line its text ends on, heredocs not counted.
    pub end_line: usize,
    /// The line it ends on, heredocs counted.
    pub last_line: usize,
    /// What it says.
    pub body: Body,
}

impl Instruction {
    /// What it says as a `FROM`, if it is one.
    pub fn from_line(&self) -> Option<&FromLine> {
        if let Body::From(from) = &self.body { Some(from) } else { None }
    }

    /// The arguments it declares as an `ARG`.
    pub fn arguments(&self) -> &[Argument] {
        if let Body::Arg(arguments) = &self.body { arguments } else { &[] }
    }

    /// `# check=…` in the comments right above it: which checks to skip for it alone. What follows a blank is a
    /// comment to it.
    pub fn check(&self) -> Option<&str> {
        let check = self.comments.iter().find_map(|comment| {
            let (name, value) = lines::directive(comment)?;
            name.eq_ignore_ascii_case("check").then_some(value)
        })?;
        check.split(' ').next()
    }

    /// What the comments right above it say about `name`, a stage or an argument that it defines: the rest of the
    /// first that starts with that name and a blank.
    pub fn description(&self, name: &str) -> Option<&str> {
        self.comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))
    }

    /// What it takes files from, each in the order of the text: the `--from` of a `COPY`, and of each `--mount` of a
    /// `RUN` that has one.
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
    /// The place of the whole flag.
    pub span: Range<usize>,
}

/// What an instruction says.
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
    /// `ONBUILD instruction`: the instruction as text, its heredocs with it.
    OnBuild(Word),
    /// Something wrong or not supported, which a diagnostic tells.
    Invalid,
}

/// What `FROM` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromLine {
    /// The image or stage, not expanded.
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
    /// What follows the `=`, not expanded.
    pub default: Option<Word>,
}

/// A name and its value, neither expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: Word,
    /// The value.
    pub value: Word,
}

/// The two forms of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Text for a shell.
    Shell(Word),
    /// The words themselves.
    Exec(Vec<Word>),
}

/// What `RUN` says.
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

/// A text below the line of its instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, without quotes.
    pub name: String,
    /// The lines, each with its end.
    pub contents: String,
    /// The word has no quotes: variables in the text are expanded where the builder writes the file.
    pub expand: bool,
    /// `<<-`: tabs at the start of a line do not count.
    pub strip_tabs: bool,
}

impl Heredoc {
    /// The text, without the tabs that do not count.
    pub fn text(&self) -> String {
        if !self.strip_tabs {
            return self.contents.clone();
        }
        self.contents.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// `--mount=key=value,…`, not expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// The keys in lower case, with their values where they have one.
    pub fields: Vec<(String, Option<String>)>,
    /// The place of the whole flag.
    pub span: Range<usize>,
}

impl MountLine {
    /// The last value of `from`: what `--mount` takes its files from.
    pub fn from(&self) -> Option<Word> {
        let (_, value) = self.fields.iter().rev().find(|(key, _)| key == "from")?;
        let text = value.clone().filter(|text| !text.is_empty())?;
        Some(Word { text, span: self.span.clone() })
    }
}

/// What `COPY` and `ADD` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The sources, not expanded; heredocs are not among them.
    pub sources: Vec<Word>,
    /// The sources that are heredocs, each with the place of its word.
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
    /// `--keep-git-dir`, when it is given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, when it is given.
    pub unpack: Option<bool>,
}

macro_rules! keywords {
    ($($variant:ident = $name:literal,)*) => {
        /// The instructions a Dockerfile may have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Keyword {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl Keyword {
            /// All of them.
            pub const ALL: &[Keyword] = &[$(Keyword::$variant),*];

            /// The name in capitals.
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
    /// The keyword `word` spells, in whatever case.
    pub fn find(word: &str) -> Option<Keyword> {
        Keyword::ALL.iter().copied().find(|keyword| keyword.name().eq_ignore_ascii_case(word))
    }
}
