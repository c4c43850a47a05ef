//! Which applications a release has, and how each starts.
//!
//! Under Mix's rules it is what `mix release` works out: everything that the applications asked for need, each with
//! the strongest start type that somebody needs it with. Under the others, what was asked for and what it needs.

mod closure;
mod error;

use std::collections::BTreeSet;
use std::fmt;

use crate::catalog::Catalog;
use crate::order;
pub use error::ResolveError;

/// How an application starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Its modules are loaded, and that is all.
    None,
    /// It is loaded and not started.
    Load,
    /// It is started; whatever its end, the others go on.
    Temporary,
    /// It is started; the others end when it fails.
    Transient,
    /// It is started; the others end when it does.
    Permanent,
}

impl Mode {
    /// The mode with that name.
    pub fn parse(name: &str) -> Option<Mode> {
        let all = [Mode::None, Mode::Load, Mode::Temporary, Mode::Transient, Mode::Permanent];
        all.into_iter().find(|mode| mode.name() == name)
    }

    /// Its name in Erlang.
    pub fn name(self) -> &'static str {
        match self {
            Mode::None => "none",
            Mode::Load => "load",
            Mode::Temporary => "temporary",
            Mode::Transient => "transient",
            Mode::Permanent => "permanent",
        }
    }

    /// Whether the application runs.
    fn starts(self) -> bool {
        match self {
            Mode::None | Mode::Load => false,
            Mode::Temporary | Mode::Transient | Mode::Permanent => true,
        }
    }
}

/// Whose rules hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// Mix's, of an Elixir of this version.
    Mix {
        /// Major, minor and patch.
        elixir: (u32, u32, u32),
    },
    /// Erlang's: kernel and stdlib are always there, and nothing else is that nobody needs.
    Plain,
}

impl Style {
    /// Mix's rules of an Elixir of that version, such as `1.14.0`.
    pub fn mix(version: &str) -> Style {
        let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Style::Mix { elixir: (next(), next(), next()) }
    }

    /// Applications that every release has.
    pub fn always(&self) -> &'static [&'static str] {
        match self {
            Style::Mix { .. } => &["kernel", "stdlib", "elixir", "sasl", "iex"],
            Style::Plain => &["kernel", "stdlib"],
        }
    }
}

/// What a release is asked to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The version of its run-time system.
    pub erts: String,
    /// The number of its OTP release.
    pub otp: u32,
    /// Whose rules hold.
    pub style: Style,
    /// Applications that were asked for, in order, with their modes where these were given.
    pub applications: Vec<(String, Option<Mode>)>,
    /// Applications whose modes are not compared with those of what they need.
    pub unchecked: Vec<String>,
    /// Applications that are left out, whoever needs them.
    pub excluded: Vec<String>,
}

/// An application of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) mode: Mode,
    pub(crate) included: Vec<String>,
    /// Whether the `.rel` file says what is included: otherwise the application's own specification does.
    pub(crate) says_included: bool,
}

impl Member {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How it starts.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// A release: its applications, in the order of its `.rel` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) erts: String,
    pub(crate) otp: u32,
    pub(crate) style: Style,
    pub(crate) members: Vec<Member>,
    /// Whether relx's rules made it: its `.rel` file leaves out what goes without saying.
    pub(crate) is_terse: bool,
    /// Applications that others name and that are left out.
    pub(crate) excluded: BTreeSet<String>,
}

impl Release {
    /// Its applications.
    pub fn apps(&self) -> &[Member] {
        &self.members
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version of its run-time system.
    pub fn erts(&self) -> &str {
        &self.erts
    }

    /// The number of its OTP release.
    pub fn otp(&self) -> u32 {
        self.otp
    }

    /// Its applications in the order in which they load and start, which is that of its boot script.
    pub fn started<'a>(&'a self, catalog: &'a Catalog) -> Vec<&'a Member> {
        let placed = order::place(self, catalog).unwrap_or_default();
        placed.into_iter().map(|placed| placed.member).collect()
    }

    /// The same release with nothing but kernel and stdlib started: for commands that are not the system.
    pub fn clean(&self) -> Release {
        // From 1.16 on Mix loads the specifications of the rest, of those that were more than part of the path.
        let loads = match self.style {
            Style::Mix { elixir } => elixir >= (1, 16, 0),
            Style::Plain => false,
        };
        let rest = |mode: Mode| if loads && mode != Mode::None { Mode::Load } else { Mode::None };
        let (mut members, others): (Vec<_>, Vec<_>) =
            self.members.iter().cloned().partition(|member| is_base(&member.name));
        members.sort_by(|one, other| one.name.cmp(&other.name));
        members.iter_mut().for_each(|member| member.mode = Mode::Permanent);
        members.extend(others.into_iter().map(|member| Member { mode: rest(member.mode), ..member }));
        self.named("start_clean", members)
    }

    /// The same release with other members; relx gives such releases names of their own.
    fn named(&self, name: &str, members: Vec<Member>) -> Release {
        match self.is_terse {
            true => Release { name: name.to_owned(), version: "1.0".to_owned(), members, ..self.clone() },
            false => Release { members, ..self.clone() },
        }
    }
}

fn is_base(name: &str) -> bool {
    matches!(name, "kernel" | "stdlib")
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Works out the release.
///
/// # Errors
/// Everything that is wrong, so far as one thing does not hide another.
pub fn resolve(spec: &Spec, catalog: &Catalog) -> Result<Release, Vec<ResolveError>> {
    let modes = closure::modes(spec, catalog)?;
    let member = |(name, mode): (String, Mode)| {
        let app = &catalog.get(&name)?.app;
        let included = app.included_applications.clone();
        let says_included = !included.is_empty();
        Some(Member { version: app.vsn.clone(), included, says_included, name, mode })
    };
    let members = modes.into_iter().filter_map(member).collect();
    checked(release(spec, members), catalog)
}

/// The release of exactly those applications that were asked for, in that order: one that another needs and nobody
/// asked for is an error. As `systools` reads a `.rel` file.
///
/// # Errors
/// Everything that is wrong, so far as one thing does not hide another.
pub fn exact(spec: &Spec, catalog: &Catalog) -> Result<Release, Vec<ResolveError>> {
    let mut errors = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for (name, mode) in &spec.applications {
        let mode = mode.unwrap_or(Mode::Permanent);
        match catalog.get(name) {
            None => errors.push(ResolveError::Missing { name: name.clone(), by: None }),
            Some(_) if members.iter().any(|member| member.name == *name) => {
                errors.push(ResolveError::AskedTwice(name.clone()));
            }
            Some(found) => members.push(Member {
                name: name.clone(),
                version: found.app.vsn.clone(),
                mode,
                included: found.app.included_applications.clone(),
                says_included: false,
            }),
        }
    }
    if errors.is_empty() { checked(release(spec, members), catalog) } else { Err(errors) }
}

fn release(spec: &Spec, members: Vec<Member>) -> Release {
    Release {
        name: spec.name.clone(),
        version: spec.version.clone(),
        erts: spec.erts.clone(),
        otp: spec.otp,
        style: spec.style.clone(),
        members,
        is_terse: false,
        excluded: spec.excluded.iter().cloned().collect(),
    }
}

/// The release, if nothing is wrong with it as a whole.
pub(crate) fn checked(release: Release, catalog: &Catalog) -> Result<Release, Vec<ResolveError>> {
    let errors = order::check(&release, catalog);
    if errors.is_empty() { Ok(release) } else { Err(errors) }
}
