//! A Dockerfile as read: instructions, their flags and words, each with its place in the text.

use std::ops::Range;

use dram_image::Healthcheck;

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
    /// `# check=…` in the comments right above it: which checks to skip for it alone.
    pub check: Option<String>,
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

    /// The `--from` it has as a `COPY`.
    pub fn copy_from(&self) -> Option<&Word> {
        if let Body::Copy(transfer) = &self.body { transfer.from.as_ref() } else { None }
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
    Run(Command),
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

/// What `COPY` and `ADD` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The sources, not expanded; at least one.
    pub sources: Vec<Word>,
    /// The destination, not expanded.
    pub dest: Word,
    /// `--from`.
    pub from: Option<Word>,
    /// `--chown`, not expanded.
    pub chown: Option<Word>,
    /// `--chmod`, not expanded.
    pub chmod: Option<Word>,
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
