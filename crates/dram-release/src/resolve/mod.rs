//! Dependency resolution: the applications of a release and their start types.
//!
//! Under the rules of Mix, the result is that of `mix release`: the requested applications and all their dependencies,
//! each with the strongest start type that is required of it. Under the rules of OTP, it is the requested applications
//! and their dependencies.

mod closure;
mod error;

use std::collections::BTreeSet;
use std::fmt;

use crate::catalog::AppCatalog;
use crate::start_order;
pub use error::ResolveError;

/// The start type of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StartType {
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

impl StartType {
    /// Parses the name of a start type.
    pub fn parse(name: &str) -> Option<StartType> {
        let all = [StartType::None, StartType::Load, StartType::Temporary, StartType::Transient, StartType::Permanent];
        all.into_iter().find(|mode| mode.name() == name)
    }

    /// Returns the name of the start type in Erlang.
    pub fn name(self) -> &'static str {
        match self {
            StartType::None => "none",
            StartType::Load => "load",
            StartType::Temporary => "temporary",
            StartType::Transient => "transient",
            StartType::Permanent => "permanent",
        }
    }

    /// Returns true if the application is started.
    fn is_started(self) -> bool {
        match self {
            StartType::None | StartType::Load => false,
            StartType::Temporary | StartType::Transient | StartType::Permanent => true,
        }
    }
}

/// The tool whose rules decide which applications a release has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseRules {
    /// The rules of Mix, for this version of Elixir.
    Mix {
        /// The major, minor and patch version.
        elixir: (u32, u32, u32),
    },
    /// The rules of OTP: only kernel and stdlib are always included.
    Otp,
}

impl ReleaseRules {
    /// Returns the rules of Mix for an Elixir version such as `1.14.0`.
    pub fn mix(version: &str) -> ReleaseRules {
        let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        ReleaseRules::Mix { elixir: (next(), next(), next()) }
    }

    /// Returns the applications that every release has.
    pub fn base_applications(&self) -> &'static [&'static str] {
        match self {
            ReleaseRules::Mix { .. } => &["kernel", "stdlib", "elixir", "sasl", "iex"],
            ReleaseRules::Otp => &["kernel", "stdlib"],
        }
    }
}

/// The specification of a release.
#[derive(Debug, Clone)]
pub struct ReleaseSpec {
    /// The release name.
    pub name: String,
    /// The release version.
    pub version: String,
    /// The ERTS version.
    pub erts: String,
    /// The OTP release number.
    pub otp: u32,
    /// The rules to apply.
    pub rules: ReleaseRules,
    /// The requested applications, in order, with their start types if given.
    pub applications: Vec<(String, Option<StartType>)>,
    /// Applications whose start types are not validated against those of their dependencies (Mix's
    /// `skip_mode_validation_for`).
    pub skip_mode_validation: Vec<String>,
    /// Applications that are excluded, even if others depend on them.
    pub excluded: Vec<String>,
}

/// An application of a resolved release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseApp {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) mode: StartType,
    pub(crate) included: Vec<String>,
    /// True if the `.rel` file lists the included applications; otherwise the application specification decides.
    pub(crate) lists_included: bool,
}

impl ReleaseApp {
    /// Returns the application's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the application's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the start type.
    pub fn mode(&self) -> StartType {
        self.mode
    }
}

/// A resolved release: its applications in the order of the `.rel` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedRelease {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) erts: String,
    pub(crate) otp: u32,
    pub(crate) rules: ReleaseRules,
    pub(crate) apps: Vec<ReleaseApp>,
    /// True for a relx release, whose `.rel` file omits defaults.
    pub(crate) omits_defaults: bool,
    /// Applications that others depend on and that are excluded.
    pub(crate) excluded: BTreeSet<String>,
}

impl ResolvedRelease {
    /// Returns the applications.
    pub fn apps(&self) -> &[ReleaseApp] {
        &self.apps
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
    pub fn start_order<'a>(&'a self, catalog: &'a AppCatalog) -> Vec<&'a ReleaseApp> {
        let placed = start_order::start_order(self, catalog).unwrap_or_default();
        placed.into_iter().map(|placed| placed.member).collect()
    }

    /// Returns the release of the `start_clean` boot script, in which only kernel and stdlib are started.
    pub fn start_clean(&self) -> ResolvedRelease {
        // Since Elixir 1.16, Mix loads the other applications too, except those with the start type `none`.
        let loads = match self.rules {
            ReleaseRules::Mix { elixir } => elixir >= (1, 16, 0),
            ReleaseRules::Otp => false,
        };
        let rest = |mode: StartType| if loads && mode != StartType::None { StartType::Load } else { StartType::None };
        let (mut members, others): (Vec<_>, Vec<_>) =
            self.apps.iter().cloned().partition(|member| is_base_app(&member.name));
        members.sort_by(|one, other| one.name.cmp(&other.name));
        members.iter_mut().for_each(|member| member.mode = StartType::Permanent);
        members.extend(others.into_iter().map(|member| ReleaseApp { mode: rest(member.mode), ..member }));
        self.with_apps("start_clean", members)
    }

    /// Returns the release with other applications; under the rules of relx, with its own name and version.
    fn with_apps(&self, name: &str, members: Vec<ReleaseApp>) -> ResolvedRelease {
        match self.omits_defaults {
            true => ResolvedRelease { name: name.to_owned(), version: "1.0".to_owned(), apps: members, ..self.clone() },
            false => ResolvedRelease { apps: members, ..self.clone() },
        }
    }
}

fn is_base_app(name: &str) -> bool {
    matches!(name, "kernel" | "stdlib")
}

impl fmt::Display for StartType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Resolves the release.
///
/// # Errors
/// Returns all errors that can be found independently of each other.
pub fn resolve(spec: &ReleaseSpec, catalog: &AppCatalog) -> Result<ResolvedRelease, Vec<ResolveError>> {
    let modes = closure::resolve_start_types(spec, catalog)?;
    resolve_listed(spec, &modes, catalog)
}

/// Resolves a release of exactly these applications, in this order, as Mix makes a boot script of a list.
///
/// # Errors
/// Returns all errors that can be found independently of each other.
pub fn resolve_listed(
    spec: &ReleaseSpec,
    listed: &[(String, StartType)],
    catalog: &AppCatalog,
) -> Result<ResolvedRelease, Vec<ResolveError>> {
    let member = |(name, mode): &(String, StartType)| {
        let missing = || ResolveError::Missing { name: name.clone(), by: None };
        let app = &catalog.get(name).ok_or_else(missing)?.app;
        let included = app.included_applications.clone();
        let lists_included = !included.is_empty();
        Ok(ReleaseApp { version: app.vsn.clone(), included, lists_included, name: name.clone(), mode: *mode })
    };
    let (mut members, mut errors) = (Vec::new(), Vec::new());
    for app in listed {
        match member(app) {
            Ok(found) => members.push(found),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { check_release(new_release(spec, members), catalog) } else { Err(errors) }
}

/// Resolves a release of exactly the requested applications, in that order, as `systools` reads a `.rel` file. A
/// dependency that was not requested is an error.
///
/// # Errors
/// Returns all errors that can be found independently of each other.
pub fn resolve_exact(spec: &ReleaseSpec, catalog: &AppCatalog) -> Result<ResolvedRelease, Vec<ResolveError>> {
    let mut errors = Vec::new();
    let mut members: Vec<ReleaseApp> = Vec::new();
    for (name, mode) in &spec.applications {
        let mode = mode.unwrap_or(StartType::Permanent);
        match catalog.get(name) {
            None => errors.push(ResolveError::Missing { name: name.clone(), by: None }),
            Some(_) if members.iter().any(|member| member.name == *name) => {
                errors.push(ResolveError::RequestedTwice(name.clone()));
            }
            Some(found) => members.push(ReleaseApp {
                name: name.clone(),
                version: found.app.vsn.clone(),
                mode,
                included: found.app.included_applications.clone(),
                lists_included: false,
            }),
        }
    }
    if errors.is_empty() { check_release(new_release(spec, members), catalog) } else { Err(errors) }
}

fn new_release(spec: &ReleaseSpec, members: Vec<ReleaseApp>) -> ResolvedRelease {
    ResolvedRelease {
        name: spec.name.clone(),
        version: spec.version.clone(),
        erts: spec.erts.clone(),
        otp: spec.otp,
        rules: spec.rules.clone(),
        apps: members,
        omits_defaults: false,
        excluded: spec.excluded.iter().cloned().collect(),
    }
}

/// Returns the release if it has no errors as a whole.
pub(crate) fn check_release(
    release: ResolvedRelease,
    catalog: &AppCatalog,
) -> Result<ResolvedRelease, Vec<ResolveError>> {
    let errors = start_order::release_errors(&release, catalog);
    if errors.is_empty() { Ok(release) } else { Err(errors) }
}
