//! Dependency resolution: the applications of a release and their start types.
//!
//! Under the rules of Mix, the result is that of `mix release`: the requested applications and all their dependencies,
//! each with the strongest start type that is required of it. Under the rules of OTP, it is the requested applications
//! and their dependencies.

mod closure;
mod error;

use std::collections::BTreeSet;
use std::fmt;

use crate::catalog::Catalog;
use crate::order;
pub use error::ResolveError;

/// The start type of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Only the modules are loaded.
    None,
    /// The application is loaded and not started.
    Load,
    /// It is started; if it terminates, other applications are not affected.
    Temporary,
    /// It is started; if it terminates abnormally, all other applications are terminated.
    Transient,
    /// It is started; if it terminates, all other applications are terminated.
    Permanent,
}

impl Mode {
    /// Parses the name of a start type.
    pub fn parse(name: &str) -> Option<Mode> {
        let all = [Mode::None, Mode::Load, Mode::Temporary, Mode::Transient, Mode::Permanent];
        all.into_iter().find(|mode| mode.name() == name)
    }

    /// Returns the name of the start type in Erlang.
    pub fn name(self) -> &'static str {
        match self {
            Mode::None => "none",
            Mode::Load => "load",
            Mode::Temporary => "temporary",
            Mode::Transient => "transient",
            Mode::Permanent => "permanent",
        }
    }

    /// Returns true if the application is started.
    fn starts(self) -> bool {
        match self {
            Mode::None | Mode::Load => false,
            Mode::Temporary | Mode::Transient | Mode::Permanent => true,
        }
    }
}

/// The tool whose rules decide which applications a release has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// The rules of Mix, for this version of Elixir.
    Mix {
        /// The major, minor and patch version.
        elixir: (u32, u32, u32),
    },
    /// The rules of OTP: only kernel and stdlib are always included.
    Plain,
}

impl Style {
    /// Returns the rules of Mix for an Elixir version such as `1.14.0`.
    pub fn mix(version: &str) -> Style {
        let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Style::Mix { elixir: (next(), next(), next()) }
    }

    /// Returns the applications that every release has.
    pub fn always(&self) -> &'static [&'static str] {
        match self {
            Style::Mix { .. } => &["kernel", "stdlib", "elixir", "sasl", "iex"],
            Style::Plain => &["kernel", "stdlib"],
        }
    }
}

/// The specification of a release.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The release name.
    pub name: String,
    /// The release version.
    pub version: String,
    /// The ERTS version.
    pub erts: String,
    /// The OTP release number.
    pub otp: u32,
    /// The rules to apply.
    pub style: Style,
    /// The requested applications, in order, with their start types if given.
    pub applications: Vec<(String, Option<Mode>)>,
    /// Applications whose start types are not validated against those of their dependencies (Mix's
    /// `skip_mode_validation_for`).
    pub unchecked: Vec<String>,
    /// Applications that are excluded, even if others depend on them.
    pub excluded: Vec<String>,
}

/// An application of a resolved release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) mode: Mode,
    pub(crate) included: Vec<String>,
    /// True if the `.rel` file lists the included applications; otherwise the application specification decides.
    pub(crate) says_included: bool,
}

impl Member {
    /// Returns the application's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the application's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the start type.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// A resolved release: its applications in the order of the `.rel` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) erts: String,
    pub(crate) otp: u32,
    pub(crate) style: Style,
    pub(crate) members: Vec<Member>,
    /// True for a relx release, whose `.rel` file omits defaults.
    pub(crate) is_terse: bool,
    /// Applications that others depend on and that are excluded.
    pub(crate) excluded: BTreeSet<String>,
}

impl Release {
    /// Returns the applications.
    pub fn apps(&self) -> &[Member] {
        &self.members
    }

    /// Returns the release name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the release version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the ERTS version.
    pub fn erts(&self) -> &str {
        &self.erts
    }

    /// Returns the OTP release number.
    pub fn otp(&self) -> u32 {
        self.otp
    }

    /// Returns the applications in the order in which the boot script loads and starts them.
    pub fn started<'a>(&'a self, catalog: &'a Catalog) -> Vec<&'a Member> {
        let placed = order::place(self, catalog).unwrap_or_default();
        placed.into_iter().map(|placed| placed.member).collect()
    }

    /// Returns the release of the `start_clean` boot script, in which only kernel and stdlib are started.
    pub fn clean(&self) -> Release {
        // Since Elixir 1.16, Mix loads the other applications too, except those with the start type `none`.
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

    /// Returns the release with other applications; under the rules of relx, with its own name and version.
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

/// Resolves the release.
///
/// # Errors
/// Returns all errors that can be found independently of each other.
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

/// Resolves a release of exactly the requested applications, in that order, as `systools` reads a `.rel` file. A
/// dependency that was not requested is an error.
///
/// # Errors
/// Returns all errors that can be found independently of each other.
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

/// Returns the release if it has no errors as a whole.
pub(crate) fn checked(release: Release, catalog: &Catalog) -> Result<Release, Vec<ResolveError>> {
    let errors = order::check(&release, catalog);
    if errors.is_empty() { Ok(release) } else { Err(errors) }
}
