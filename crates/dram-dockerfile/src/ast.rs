//! The syntax tree of a Dockerfile: instructions, their flags and words, each with its byte range in the text.

use std::ops::Range;

use dram_image::Healthcheck;

use crate::lines;

/// A parsed Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at the top of the file.
    pub directives: ParserDirectives,
    /// The instructions, in file order.
    pub instructions: Vec<DockerfileInstruction>,
    /// True when parsing found no error, so that the file may be built.
    pub is_valid: bool,
}

/// The parser directives (`# syntax=`, `# escape=`, `# check=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParserDirectives {
    /// The escape character of `# escape=`: a backslash or a backtick.
    pub escape: char,
    /// `# syntax=`: the frontend image for another builder. Kept for display, never fetched or executed.
    pub syntax: Option<SpannedText>,
    /// `# check=`: the checks to skip, and the option to treat warnings as errors.
    pub check: Option<SpannedText>,
}

impl Default for ParserDirectives {
    fn default() -> Self {
        ParserDirectives { escape: '\\', syntax: None, check: None }
    }
}

/// A piece of text with its byte range in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpannedText {
    /// The text, with continuation lines joined.
    pub text: String,
    /// The byte range in the file.
    pub span: Range<usize>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileInstruction {
    /// The byte range from the keyword to the last character, without heredocs.
    pub span: Range<usize>,
    /// The line of the keyword, counted from 1.
    pub line: usize,
    /// The keyword as written.
    pub keyword: SpannedText,
    /// The keyword, or `None` when it is unknown.
    pub kind: Option<Keyword>,
    /// The flags as written.
    pub flags: Vec<InstructionFlag>,
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
    pub body: InstructionBody,
}

impl DockerfileInstruction {
    /// Returns the parsed `FROM`, if the instruction is one.
    pub fn as_from(&self) -> Option<&FromInstruction> {
        if let InstructionBody::From(from) = &self.body { Some(from) } else { None }
    }

    /// Returns the arguments that an `ARG` declares; empty for other instructions.
    pub fn arguments(&self) -> &[ArgDeclaration] {
        if let InstructionBody::Arg(arguments) = &self.body { arguments } else { &[] }
    }

    /// Returns the value of a `# check=…` comment directly above the instruction: options for this instruction alone.
    /// Text after a blank is a comment and is left out.
    pub fn check_directive(&self) -> Option<&str> {
        let check = self.comments.iter().find_map(|comment| {
            let (name, value) = lines::parse_directive(comment)?;
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
    pub fn from_words(&self) -> Vec<SpannedText> {
        match &self.body {
            InstructionBody::Copy(transfer) => transfer.from.iter().cloned().collect(),
            InstructionBody::Run(run) => run.mounts.iter().filter_map(MountFlag::from_value).collect(),
            InstructionBody::From(_)
            | InstructionBody::Arg(_)
            | InstructionBody::Env(_)
            | InstructionBody::Label(_)
            | InstructionBody::Cmd(_)
            | InstructionBody::Entrypoint(_)
            | InstructionBody::Add(_)
            | InstructionBody::Workdir(_)
            | InstructionBody::User(_)
            | InstructionBody::Expose(_)
            | InstructionBody::Volume(_)
            | InstructionBody::StopSignal(_)
            | InstructionBody::Shell(_)
            | InstructionBody::Healthcheck(_)
            | InstructionBody::Maintainer(_)
            | InstructionBody::OnBuild(_)
            | InstructionBody::Invalid => Vec::new(),
        }
    }
}

/// `--name` or `--name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionFlag {
    /// The name without its dashes.
    pub name: String,
    /// The value, unquoted.
    pub value: Option<String>,
    /// The byte range of the whole flag.
    pub span: Range<usize>,
}

/// The parsed arguments and flags of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionBody {
    /// `FROM [--platform=…] base [AS name]`
    From(FromInstruction),
    /// `ARG name[=default] …`
    Arg(Vec<ArgDeclaration>),
    /// `ENV name=value …`
    Env(Vec<KeyValuePair>),
    /// `LABEL name=value …`
    Label(Vec<KeyValuePair>),
    /// `RUN …`
    Run(RunInstruction),
    /// `CMD …`
    Cmd(CommandForm),
    /// `ENTRYPOINT …`
    Entrypoint(CommandForm),
    /// `COPY …`
    Copy(CopyInstruction),
    /// `ADD …`
    Add(CopyInstruction),
    /// `WORKDIR path`
    Workdir(SpannedText),
    /// `USER user[:group]`
    User(SpannedText),
    /// `EXPOSE port …`
    Expose(Vec<SpannedText>),
    /// `VOLUME path …`
    Volume(Vec<SpannedText>),
    /// `STOPSIGNAL signal`
    StopSignal(SpannedText),
    /// `SHELL ["…", …]`
    Shell(Vec<SpannedText>),
    /// `HEALTHCHECK …`
    Healthcheck(Healthcheck),
    /// `MAINTAINER name`
    Maintainer(SpannedText),
    /// `ONBUILD instruction`: the instruction as text, including its heredocs.
    OnBuild(SpannedText),
    /// An invalid or unsupported instruction, about which there is a diagnostic.
    Invalid,
}

/// The arguments and flags of `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInstruction {
    /// The base image or stage, not expanded.
    pub base: SpannedText,
    /// The name of the new stage, as written.
    pub name: Option<SpannedText>,
    /// `--platform`, not expanded.
    pub platform: Option<SpannedText>,
}

/// One argument of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: SpannedText,
    /// The default value behind the `=`, not expanded.
    pub default: Option<SpannedText>,
}

/// A name and its value from `ENV` or `LABEL`, neither expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValuePair {
    /// The name.
    pub name: SpannedText,
    /// The value.
    pub value: SpannedText,
}

/// A command in shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandForm {
    /// Shell form: text for a shell.
    Shell(SpannedText),
    /// Exec form: the program and its arguments.
    Exec(Vec<SpannedText>),
}

/// The command and flags of `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// The command.
    pub command: CommandForm,
    /// The heredocs of its line, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Option<SpannedText>,
    /// `--security`.
    pub security: Option<SpannedText>,
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
pub struct MountFlag {
    /// The keys in lower case, each with its value if it has one.
    pub fields: Vec<(String, Option<String>)>,
    /// The byte range of the whole flag.
    pub span: Range<usize>,
}

impl MountFlag {
    /// Returns the last value of `from`: the stage or image whose files are mounted.
    pub fn from_value(&self) -> Option<SpannedText> {
        let (_, value) = self.fields.iter().rev().find(|(key, _)| key == "from")?;
        let text = value.clone().filter(|text| !text.is_empty())?;
        Some(SpannedText { text, span: self.span.clone() })
    }
}

/// The arguments and flags of `COPY` and `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyInstruction {
    /// The sources, not expanded, without heredocs.
    pub sources: Vec<SpannedText>,
    /// The sources that are heredocs, each with the byte range of its word.
    pub heredocs: Vec<(Heredoc, Range<usize>)>,
    /// The destination, not expanded.
    pub dest: SpannedText,
    /// `--from`.
    pub from: Option<SpannedText>,
    /// `--chown`, not expanded.
    pub chown: Option<SpannedText>,
    /// `--chmod`, not expanded.
    pub chmod: Option<SpannedText>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, not expanded.
    pub exclude: Vec<SpannedText>,
    /// `--checksum`, not expanded.
    pub checksum: Option<SpannedText>,
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
