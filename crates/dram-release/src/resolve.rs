//! Which applications a release has, and how each starts.
//!
//! Under Mix's rules it is what `mix release` works out: everything that the applications asked for need, each with
//! the strongest start type that somebody needs it with. Under the others, what was asked for and what it needs.

use std::collections::BTreeMap;
use std::fmt;

use crate::catalog::Catalog;
use crate::order;

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
        /// Major and minor.
        elixir: (u32, u32),
    },
    /// Erlang's: kernel and stdlib are always there, and nothing else is that nobody needs.
    Plain,
}

impl Style {
    /// Mix's rules of an Elixir of that version, such as `1.14.0`.
    pub fn mix(version: &str) -> Style {
        let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        Style::Mix { elixir: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) }
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
}

impl Release {
    /// Its applications.
    pub fn apps(&self) -> &[Member] {
        &self.members
    }

    /// The same release with nothing but kernel and stdlib started: for commands that are not the system.
    pub fn clean(&self) -> Release {
        // From 1.16 on Mix loads the specifications of the rest.
        let rest = match self.style {
            Style::Mix { elixir } if elixir >= (1, 16) => Mode::Load,
            Style::Mix { .. } | Style::Plain => Mode::None,
        };
        let (mut members, others): (Vec<_>, Vec<_>) =
            self.members.iter().cloned().partition(|member| is_base(&member.name));
        members.sort_by(|one, other| one.name.cmp(&other.name));
        members.iter_mut().for_each(|member| member.mode = Mode::Permanent);
        members.extend(others.into_iter().map(|member| Member { mode: rest, ..member }));
        Release { members, ..self.clone() }
    }
}

fn is_base(name: &str) -> bool {
    matches!(name, "kernel" | "stdlib")
}

/// Why the applications do not make a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// An application is nowhere.
    #[error("there is no application `{name}`{}", needed_by(.by))]
    Missing {
        /// Its name.
        name: String,
        /// Who needs it; nobody when it was asked for.
        by: Option<String>,
    },
    /// An application is started by somebody else, and by the one that includes it.
    #[error("`{0}` is both an application of its own and one that another includes")]
    RegularAndIncluded(String),
    /// Two applications include one.
    #[error("`{name}` is included by `{first}` and by `{second}`")]
    IncludedTwice {
        /// The one.
        name: String,
        /// The one that includes it.
        first: String,
        /// The other.
        second: String,
    },
    /// Two applications register a name.
    #[error("the name `{name}` is registered by `{first}` and by `{second}`")]
    RegisteredTwice {
        /// The name.
        name: String,
        /// The one application.
        first: String,
        /// The other.
        second: String,
    },
    /// Two applications have a module of one name.
    #[error("the module `{module}` is in `{first}` and in `{second}`")]
    ModuleTwice {
        /// The module.
        module: String,
        /// The one application.
        first: String,
        /// The other.
        second: String,
    },
    /// A module is listed and not compiled.
    #[error("`{app}` lists the module `{module}`, and `{location}` has no `{module}.beam`")]
    NoBeam {
        /// The application.
        app: String,
        /// The module.
        module: String,
        /// Where it should be.
        location: String,
    },
    /// The module that starts an application is nowhere.
    #[error("`{app}` is started by the module `{module}`, which no application of the release has")]
    NoStartModule {
        /// The application.
        app: String,
        /// The module.
        module: String,
    },
    /// Applications wait for each other.
    #[error("applications need each other in a circle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// An application runs and needs one that does not.
    #[error("`{app}` starts as {mode}, and needs `{child}`, which is set to {child_mode} and does not start")]
    ModeConflict {
        /// The application.
        app: String,
        /// Its mode.
        mode: Mode,
        /// What it needs.
        child: String,
        /// The mode of that one.
        child_mode: Mode,
    },
}

fn needed_by(by: &Option<String>) -> String {
    by.as_ref().map(|by| format!(", which `{by}` needs")).unwrap_or_default()
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// How an application came to be in a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Regular(Mode),
    Included,
}

/// Works out the release.
///
/// # Errors
/// Everything that is wrong, so far as one thing does not hide another.
pub fn resolve(spec: &Spec, catalog: &Catalog) -> Result<Release, Vec<ResolveError>> {
    let asked = asked(spec);
    let mut errors = Vec::new();
    let mut known = BTreeMap::new();
    load(&asked, spec, catalog, &mut known, &mut errors);
    let mut listed = asked.clone();
    if matches!(spec.style, Style::Mix { .. }) && !known.contains_key("iex") {
        let iex = vec![("iex".to_owned(), Mode::None)];
        load(&iex, spec, catalog, &mut known, &mut errors);
        listed.extend(iex);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut modes = listed;
    let rest = known.iter().filter(|(name, _)| !modes.iter().any(|(listed, _)| listed == *name));
    let rest: Vec<_> = rest.map(|(name, how)| (name.clone(), mode_of(*how))).collect();
    modes.extend(rest);
    check_modes(&modes, spec, catalog, &mut errors);
    let member = |(name, mode): (String, Mode)| {
        let app = &catalog.get(&name)?.app;
        Some(Member { version: app.vsn.clone(), included: app.included_applications.clone(), name, mode })
    };
    let members = modes.into_iter().filter_map(member).collect();
    let release = Release {
        name: spec.name.clone(),
        version: spec.version.clone(),
        erts: spec.erts.clone(),
        otp: spec.otp,
        style: spec.style.clone(),
        members,
    };
    errors.extend(order::check(&release, catalog));
    if errors.is_empty() { Ok(release) } else { Err(errors) }
}

/// The applications in the order of the `.rel` file: those that every release has and nobody asked for, then those
/// that were asked for.
fn asked(spec: &Spec) -> Vec<(String, Mode)> {
    let always = spec.style.always().iter().filter(|name| **name != "iex");
    let mut all: Vec<_> = always
        .filter(|name| !spec.applications.iter().any(|(asked, _)| asked == **name))
        .map(|name| ((*name).to_owned(), Mode::Permanent))
        .collect();
    for (name, mode) in &spec.applications {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.clone(), mode.unwrap_or(Mode::Permanent)));
        }
    }
    all
}

fn mode_of(how: How) -> Mode {
    match how {
        How::Regular(mode) => mode,
        How::Included => Mode::Load,
    }
}

/// An application that somebody wants.
struct Wanted {
    name: String,
    how: How,
    by: Option<String>,
    is_optional: bool,
}

/// Adds to `known` what `asked` needs, depth first, as Mix does: of two modes the stronger holds, except for what was
/// asked for by name.
fn load(
    asked: &[(String, Mode)],
    spec: &Spec,
    catalog: &Catalog,
    known: &mut BTreeMap<String, How>,
    errors: &mut Vec<ResolveError>,
) {
    let given: BTreeMap<&str, Mode> = asked.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    let first = |(name, mode): &(String, Mode)| Wanted {
        name: name.clone(),
        how: How::Regular(*mode),
        by: None,
        is_optional: false,
    };
    // The next one is at the end.
    let mut waiting: Vec<Wanted> = asked.iter().rev().map(first).collect();
    while let Some(wanted) = waiting.pop() {
        if spec.excluded.contains(&wanted.name) {
            continue;
        }
        let how = match known.get(&wanted.name) {
            None => given.get(wanted.name.as_str()).map_or(wanted.how, |mode| How::Regular(*mode)),
            Some(_) if given.contains_key(wanted.name.as_str()) => continue,
            Some(before) => match stronger(*before, wanted.how) {
                Ok(None) => continue,
                Ok(Some(mode)) => mode,
                Err(()) => {
                    let error = ResolveError::RegularAndIncluded(wanted.name);
                    if !errors.contains(&error) {
                        errors.push(error);
                    }
                    continue;
                }
            },
        };
        let Some(found) = catalog.get(&wanted.name) else {
            if !wanted.is_optional {
                let error = ResolveError::Missing { name: wanted.name, by: wanted.by };
                if !errors.contains(&error) {
                    errors.push(error);
                }
            }
            continue;
        };
        let is_new = known.insert(wanted.name.clone(), how).is_none();
        let child = |name: &String, how| Wanted {
            name: name.clone(),
            how,
            by: Some(wanted.name.clone()),
            is_optional: found.app.optional_applications.contains(name),
        };
        if is_new {
            waiting.extend(found.app.included_applications.iter().rev().map(|name| child(name, How::Included)));
        }
        let below = How::Regular(mode_of(how));
        waiting.extend(found.app.applications.iter().rev().map(|name| child(name, below)));
    }
}

/// The stronger of two: `None` when the first is it already, an error when one is included and the other is not.
fn stronger(before: How, wanted: How) -> Result<Option<How>, ()> {
    match (before, wanted) {
        (before, wanted) if before == wanted => Ok(None),
        (How::Included, How::Regular(_)) | (How::Regular(_), How::Included) => Err(()),
        (How::Included, How::Included) => Ok(None),
        (How::Regular(before), How::Regular(wanted)) => Ok((wanted > before).then_some(How::Regular(wanted))),
    }
}

fn check_modes(modes: &[(String, Mode)], spec: &Spec, catalog: &Catalog, errors: &mut Vec<ResolveError>) {
    let by_name: BTreeMap<&str, Mode> = modes.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
    for (name, mode) in modes.iter().filter(|(name, mode)| mode.starts() && !spec.unchecked.contains(name)) {
        let children = catalog.get(name).map(|found| found.app.applications.as_slice()).unwrap_or_default();
        for child in children {
            if let Some(child_mode) = by_name.get(child.as_str()).filter(|mode| !mode.starts()) {
                errors.push(ResolveError::ModeConflict {
                    app: name.clone(),
                    mode: *mode,
                    child: child.clone(),
                    child_mode: *child_mode,
                });
            }
        }
    }
}
