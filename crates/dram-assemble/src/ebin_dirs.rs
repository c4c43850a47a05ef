//! Turns bare directories of compiled modules into a blueprint; neither Mix nor rebar3 is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dram_release::resolve::{ReleaseRules, StartType};

use crate::blueprint::{ConfigText, OtpInstallation, ReleaseBlueprint, StartProgramSettings, StripOptions};
use crate::settings::DramTomlSettings;
use crate::{AssembleError, AssembleRequest};

/// The applications of Elixir.
const ELIXIR_APPLICATIONS: [&str; 6] = ["elixir", "eex", "ex_unit", "iex", "logger", "mix"];

/// Creates the blueprint of a release of the applications in `request.from`.
///
/// The application named like the release is requested; if there is none, all applications are.
///
/// # Errors
/// Fails if a directory contains no application, or Erlang was not found.
pub(crate) fn blueprint(
    request: &AssembleRequest,
    settings: &DramTomlSettings,
) -> Result<ReleaseBlueprint, AssembleError> {
    let mut places = BTreeMap::new();
    for dir in &request.from {
        let (name, place) = find_application(dir)?;
        places.insert(name, place);
    }
    let name = match (&request.name, places.len()) {
        (Some(name), _) => name.clone(),
        (None, 1) => places.keys().next().cloned().unwrap_or_default(),
        (None, _) => return Err(AssembleError::SeveralReleases(places.keys().cloned().collect())),
    };
    let asked = match &settings.applications {
        Some(applications) => applications.iter().map(|text| parse_application(text)).collect::<Result<_, _>>()?,
        None if places.contains_key(&name) => vec![(name.clone(), None)],
        None => places.keys().map(|name| (name.clone(), None)).collect(),
    };
    let otp = find_otp(request)?;
    let elixir = add_elixir(request, &mut places)?;
    let version = match request.version.clone().or_else(|| settings.version.clone()) {
        Some(version) => version,
        None => application_version(&places, &name, otp.release)?,
    };
    let style = match &elixir {
        Some(version) => ReleaseRules::mix(version),
        None => ReleaseRules::Otp,
    };
    Ok(ReleaseBlueprint {
        name,
        version,
        rules: style,
        configured_output: None,
        erts_programs: Vec::new(),
        applications: asked,
        listed: None,
        goals: Vec::new(),
        skip_mode_validation: Vec::new(),
        excluded: Vec::new(),
        app_dirs: places,
        consolidated: None,
        app_subdirs: vec!["priv"],
        strip: Some(StripOptions { keep: Vec::new(), compress: false }),
        sys_config: ConfigText::new("[].\n"),
        runtime_config: None,
        has_providers: false,
        vm_args: ConfigText::default(),
        remote_vm_args: None,
        env_sh: None,
        cookie: None,
        overlays: Vec::new(),
        portable: false,
        start: StartProgramSettings { elixir: elixir.is_some(), ..StartProgramSettings::default() },
        warnings: Vec::new(),
        otp,
    })
}

/// Returns the names of the `.app` files in `ebin`, sorted.
///
/// # Errors
/// Fails if the directory cannot be read.
pub(crate) fn application_names(ebin: &Path) -> Result<Vec<String>, AssembleError> {
    let entries = fs::read_dir(ebin).map_err(AssembleError::io("read", ebin))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut apps: Vec<_> = names.filter_map(|name| name.strip_suffix(".app").map(str::to_owned)).collect();
    apps.sort();
    Ok(apps)
}

/// Returns the applications of Elixir that are in its directory `lib`.
pub(crate) fn elixir_applications(lib: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let places = ELIXIR_APPLICATIONS.iter().map(|name| ((*name).to_owned(), lib.join(name)));
    places.filter(|(_, dir)| dir.join("ebin").is_dir())
}

/// Returns the name and directory of the application in `dir`, which is the application's directory or its `ebin`.
fn find_application(dir: &Path) -> Result<(String, PathBuf), AssembleError> {
    let ebin = if dir.join("ebin").is_dir() { dir.join("ebin") } else { dir.to_owned() };
    let apps = application_names(&ebin)?;
    let place = fs::canonicalize(&ebin).map_err(AssembleError::io("find", &ebin))?;
    match (apps.as_slice(), place.parent()) {
        ([name], Some(place)) => Ok((name.clone(), place.to_owned())),
        (found, _) => {
            let message = match found.len() {
                0 => "there is no `.app` file in it: it holds no compiled application".to_owned(),
                _ => format!("it holds several applications: {}", found.join(", ")),
            };
            Err(AssembleError::Project { file: Some(ebin.display().to_string()), line: None, message })
        }
    }
}

fn parse_application(text: &str) -> Result<(String, Option<StartType>), AssembleError> {
    let Some((name, mode)) = text.split_once(':') else { return Ok((text.to_owned(), None)) };
    let Some(mode) = StartType::parse(mode) else {
        let message = format!("`{mode}` is no start type: permanent, transient, temporary, load, none");
        return Err(AssembleError::Project { file: Some("dram.toml".to_owned()), line: None, message });
    };
    Ok((name.to_owned(), Some(mode)))
}

fn application_version(places: &BTreeMap<String, PathBuf>, name: &str, otp: u32) -> Result<String, AssembleError> {
    match places.get(name) {
        Some(place) => Ok(crate::assemble::read_app(place, name, otp)?.vsn),
        None => {
            let message = format!("it is not known which version the release `{name}` has: say so with --version");
            Err(AssembleError::Project { file: None, line: None, message })
        }
    }
}

/// Returns the OTP installation: the requested one, or that of the `erl` on the search path.
fn find_otp(request: &AssembleRequest) -> Result<OtpInstallation, AssembleError> {
    let root = match &request.otp {
        Some(root) => root.clone(),
        None => {
            let why = "a release brings Erlang along; name its directory with --otp";
            let erl = request.tools.find("erl").ok_or(AssembleError::NoTool { tool: "erl", why })?;
            let erl = fs::canonicalize(&erl).map_err(AssembleError::io("find", &erl))?;
            // The path is ROOT/bin/erl, or ROOT/erts-VERSION/bin/erl.
            let above = erl.ancestors().skip(2).take(2).find(|dir| dir.join("releases").is_dir());
            above.ok_or_else(|| AssembleError::NoErts(erl.clone()))?.to_owned()
        }
    };
    let path = root.join("releases").join("start_erl.data");
    let text = fs::read_to_string(&path).map_err(|_| AssembleError::NoErts(root.clone()))?;
    let words: Vec<_> = text.split_whitespace().collect();
    match words.as_slice() {
        [erts, release] if root.join(format!("erts-{erts}")).is_dir() => {
            let release = release.parse().map_err(|_| AssembleError::NoErts(root.clone()))?;
            Ok(OtpInstallation { root, release, erts: (*erts).to_owned() })
        }
        _ => Err(AssembleError::NoErts(root)),
    }
}

/// Adds the applications of the Elixir on the search path, unless `places` has Elixir. Returns the Elixir version if
/// the project uses it.
fn add_elixir(
    request: &AssembleRequest,
    places: &mut BTreeMap<String, PathBuf>,
) -> Result<Option<String>, AssembleError> {
    if !places.contains_key("elixir") {
        let Some(elixir) = request.tools.find("elixir").and_then(|path| fs::canonicalize(path).ok()) else {
            return Ok(None);
        };
        let Some(lib) = elixir.ancestors().nth(2).map(|dir| dir.join("lib")) else { return Ok(None) };
        for (name, place) in elixir_applications(&lib) {
            places.entry(name).or_insert(place);
        }
    }
    // A project without Elixir modules does not need Elixir.
    let needs_it = request.from.iter().any(|dir| {
        let ebin = if dir.join("ebin").is_dir() { dir.join("ebin") } else { dir.clone() };
        fs::read_dir(ebin).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"Elixir."))
        })
    });
    match places.get("elixir") {
        Some(place) if needs_it => Ok(Some(crate::assemble::read_app(place, "elixir", 0)?.vsn)),
        Some(_) | None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_project::TestProject;

    #[test]
    fn an_application_is_found_by_its_directory_or_its_ebin() {
        let project = TestProject::new();
        project.write_app("build/demo", "demo", "1", "{applications,[]}");
        let expected = ("demo".to_owned(), fs::canonicalize(project.path("build/demo")).unwrap());
        for name in ["build/demo", "build/demo/ebin"] {
            assert_eq!(find_application(&project.path(name)).unwrap(), expected);
        }
    }

    #[test]
    fn a_directory_with_no_application_or_with_two_is_refused() {
        let project = TestProject::new();
        let error = |name: &str| find_application(&project.path(name)).unwrap_err().to_string();
        assert_eq!(error("project"), "there is no `.app` file in it: it holds no compiled application");
        project.write("project/b.app", "");
        project.write("project/a.app", "");
        assert_eq!(error("project"), "it holds several applications: a, b");
        assert!(error("gone").starts_with("cannot read `"), "{}", error("gone"));
    }

    #[test]
    fn an_application_of_dram_toml_may_have_a_start_type() {
        assert_eq!(parse_application("a").unwrap(), ("a".to_owned(), None));
        assert_eq!(parse_application("a:temporary").unwrap(), ("a".to_owned(), Some(StartType::Temporary)));
        for wrong in ["a:", "a:often", "a:b:load"] {
            let error = parse_application(wrong).unwrap_err();
            assert!(
                matches!(&error, AssembleError::Project { file: Some(file), .. } if file == "dram.toml"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_version_is_that_of_the_application_named_like_the_release() {
        let project = TestProject::new();
        project.write_app("build/demo", "demo", "3.1", "{applications,[]}");
        let places = BTreeMap::from([("demo".to_owned(), project.path("build/demo"))]);
        assert_eq!(application_version(&places, "demo", 25).unwrap(), "3.1");
        let error = application_version(&places, "other", 25).unwrap_err().to_string();
        assert_eq!(error, "it is not known which version the release `other` has: say so with --version");
    }

    #[test]
    fn only_applications_of_elixir_that_are_there_are_taken() {
        let project = TestProject::new();
        let names: Vec<_> = elixir_applications(&project.path("elixir/lib")).map(|(name, _)| name).collect();
        assert_eq!(names, ["elixir", "iex", "logger"]);
        assert_eq!(elixir_applications(&project.path("gone")).count(), 0);
    }
}
