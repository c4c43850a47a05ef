//! The old version, as it is at the destination.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::Path;

use dram_release::appup::{BeamFiles, modules_differ};
use dram_release::consult::consult;
use dram_release::relup::RelupRelease;
use dram_release::relup_script::RelupApp;
use dram_release::resolve::StartType;
use dram_release::term::Term;

use super::UpgradeError;
use crate::AssembleError;
use crate::assemble::{self, ReleaseAssembly};

/// Selects the version to upgrade from.
///
/// # Errors
/// Fails if the version does not exist, or is the new one.
pub(super) fn choose_version(
    destination: &Path,
    name: &str,
    version: &str,
    asked: Option<&str>,
) -> Result<String, AssembleError> {
    let mut known = known_versions(destination, name);
    known.retain(|known| known != version);
    match asked {
        Some(asked) if asked == version => Err(UpgradeError::SameVersion(asked.to_owned()).into()),
        Some(asked) if known.iter().any(|known| known == asked) => Ok(asked.to_owned()),
        Some(asked) => {
            let (version, place) = (asked.to_owned(), destination.to_owned());
            Err(UpgradeError::NoSuchVersion { version, place, known }.into())
        }
        None => known.pop().ok_or_else(|| UpgradeError::NoOldVersion(destination.to_owned()).into()),
    }
}

/// Returns the versions of the release `name` at `destination`, the newest last.
fn known_versions(destination: &Path, name: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(destination.join("releases")) else { return Vec::new() };
    let is_one = |entry: &fs::DirEntry| entry.path().join(format!("{name}.rel")).is_file();
    let names = entries.flatten().filter(is_one).filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> = names.collect();
    found.sort_by(|one, other| compare_versions(one, other));
    found
}

/// Compares versions as in Semantic Versioning, with any number of parts.
fn compare_versions(one: &str, other: &str) -> Ordering {
    fn parts(version: &str) -> (Vec<&str>, Option<Vec<&str>>) {
        let version = version.split('+').next().unwrap_or_default();
        match version.split_once('-') {
            Some((numbers, rest)) => (numbers.split('.').collect(), Some(rest.split('.').collect())),
            None => (version.split('.').collect(), None),
        }
    }
    fn number(part: &str) -> Option<u64> {
        part.parse().ok()
    }
    fn part(one: &str, other: &str) -> Ordering {
        match (number(one), number(other)) {
            (Some(one), Some(other)) => one.cmp(&other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => one.cmp(other),
        }
    }
    fn list(one: &[&str], other: &[&str]) -> Ordering {
        let first = one.iter().zip(other).map(|(one, other)| part(one, other)).find(|found| found.is_ne());
        first.unwrap_or_else(|| one.len().cmp(&other.len()))
    }
    let ((first, before), (second, other_before)) = (parts(one), parts(other));
    let by_preview = || match (&before, &other_before) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => list(one, other),
    };
    list(&first, &second).then_with(by_preview).then_with(|| one.cmp(other))
}

/// Reads the old version. An application that the new version has in the same version may be missing, because a release
/// may not include OTP's applications.
///
/// # Errors
/// Fails if the old version cannot be read, or an application is missing.
pub(super) fn read_old_version(
    destination: &Path,
    name: &str,
    version: &str,
    new: &RelupRelease,
    otp: u32,
) -> Result<RelupRelease, AssembleError> {
    let path = destination.join("releases").join(version).join(format!("{name}.rel"));
    let bytes = fs::read(&path).map_err(AssembleError::io("read", &path))?;
    let wrong = |source: io::Error| UpgradeError::Rel { path: path.clone(), source };
    let terms = consult(&bytes).map_err(|error| wrong(io::Error::other(error)))?;
    let form =
        || wrong(io::Error::other("it is not `{release, {NAME, VERSION}, {erts, VERSION}, [APPLICATION, ...]}.`"));
    let (erts, members) = terms.first().and_then(parse_rel).ok_or_else(form)?;
    let mut applications = Vec::new();
    for (name, version, mode) in members {
        assemble::check_path_component("the application", &name)?;
        assemble::check_path_component("the version", &version)?;
        let place = destination.join("lib").join(format!("{name}-{version}"));
        let same = new.applications.iter().find(|app| app.name == name && app.version == version);
        let modules = match same {
            Some(same) => same.modules.clone(),
            None if place.is_dir() => assemble::read_app(&place, &name, otp)?.modules,
            None => return Err(UpgradeError::NoLibrary { name, version, place: destination.join("lib") }.into()),
        };
        applications.push(RelupApp { name, version, mode, modules });
    }
    Ok(RelupRelease { version: version.to_owned(), erts, applications })
}

type RelApplications = Vec<(String, String, StartType)>;

/// Returns the ERTS version and the applications of a `.rel` file.
fn parse_rel(term: &Term) -> Option<(String, RelApplications)> {
    let [tag, _, erts, members] = term.as_tuple()? else { return None };
    let [erts_tag, erts] = erts.as_tuple()? else { return None };
    if tag.as_atom() != Some("release") || erts_tag.as_atom() != Some("erts") {
        return None;
    }
    let member = |term: &Term| {
        let [name, version, rest @ ..] = term.as_tuple()? else { return None };
        let mode = rest.first().and_then(Term::as_atom).map_or(Some(StartType::Permanent), StartType::parse)?;
        Some((name.as_atom()?.to_owned(), version.as_string()?, mode))
    };
    let members = members.as_list()?.iter().map(member).collect::<Option<_>>()?;
    Some((erts.as_string()?, members))
}

/// Returns the modules of an application in the old version, with their bytes by name; `None` if the application is
/// missing.
pub(super) fn old_modules(destination: &Path, app: &RelupApp) -> Result<Option<BeamFiles>, AssembleError> {
    let ebin = destination.join("lib").join(format!("{}-{}", app.name, app.version)).join("ebin");
    let entries = match fs::read_dir(&ebin) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AssembleError::io("read", &ebin)(error)),
    };
    let mut modules = BeamFiles::new();
    for entry in entries {
        let path = entry.map_err(AssembleError::io("read", &ebin))?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".beam")) {
            modules.insert(name.to_owned(), fs::read(&path).map_err(AssembleError::io("read", &path))?);
        }
    }
    Ok(Some(modules))
}

/// Checks that an application with an unchanged version has unchanged modules.
///
/// # Errors
/// Fails if a module differs, or cannot be read.
pub(super) fn check_unchanged(
    assembly: &ReleaseAssembly,
    destination: &Path,
    app: &RelupApp,
) -> Result<(), AssembleError> {
    let Some(old) = old_modules(destination, app)? else { return Ok(()) };
    let new = super::new_modules(assembly, app)?;
    if new.is_empty() {
        // The release does not include OTP's applications.
        return Ok(());
    }
    for module in old.keys().chain(new.keys()) {
        let is_different = match (old.get(module), new.get(module)) {
            (Some(one), Some(other)) => modules_differ(one, other).map_err(|source| {
                let path = format!("lib/{}-{}/ebin/{module}.beam", app.name, app.version).into();
                AssembleError::Beam { path, source }
            })?,
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        if is_different {
            let (name, version, module) = (app.name.clone(), app.version.clone(), module.clone());
            return Err(UpgradeError::SameApplication { name, version, module }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_sorted_as_in_semantic_versioning() {
        let sorted = ["0.9", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.0+build", "1.0.1", "1.2.0", "1.10.0", "2"];
        for (at, one) in sorted.iter().enumerate() {
            for (beside, other) in sorted.iter().enumerate() {
                assert_eq!(compare_versions(one, other), at.cmp(&beside), "{one} and {other}");
            }
        }
    }

    fn rel(text: &str) -> Option<(String, RelApplications)> {
        parse_rel(&dram_release::consult::parse_one(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_rel_file_has_the_start_types_of_its_applications() {
        let (erts, apps) =
            rel("{release,{\"a\",\"1\"},{erts,\"13\"},[{k,\"1\"},{l,\"2\",load},{m,\"3\",none,[x]}]}").unwrap();
        let modes: Vec<_> = apps.iter().map(|(name, version, mode)| (name.as_str(), version.as_str(), *mode)).collect();
        assert_eq!(erts, "13");
        assert_eq!(modes, [("k", "1", StartType::Permanent), ("l", "2", StartType::Load), ("m", "3", StartType::None)]);
    }

    #[test]
    fn other_terms_are_no_rel_file() {
        for text in [
            "{relase,{\"a\",\"1\"},{erts,\"13\"},[]}",
            "{release,{\"a\",\"1\"},{erts,13},[]}",
            "{release,{\"a\",\"1\"},{ets,\"13\"},[]}",
            "{release,{\"a\",\"1\"},{erts,\"13\"}}",
            "{release,{\"a\",\"1\"},{erts,\"13\"},[k]}",
            "{release,{\"a\",\"1\"},{erts,\"13\"},[{k,\"1\",often}]}",
            "[]",
        ] {
            assert!(rel(text).is_none(), "{text}");
        }
    }

    #[test]
    fn an_old_version_that_cannot_be_read_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let of_version = dir.path().join("releases/1.0");
        fs::create_dir_all(&of_version).unwrap();
        let new = RelupRelease { version: "2.0".to_owned(), erts: "13".to_owned(), applications: Vec::new() };
        let read = |text: &str| {
            fs::write(of_version.join("demo.rel"), text).unwrap();
            read_old_version(dir.path(), "demo", "1.0", &new, 25).map(|_| ()).unwrap_err().to_string()
        };
        let start = "{release,{\"demo\",\"1.0\"},{erts,\"13\"},[";
        assert!(read("{release").ends_with("demo.rel` does not describe a release"));
        assert!(read("{release}.").ends_with("demo.rel` does not describe a release"));
        let told = read(&format!("{start}{{gone,\"1\"}}]}}."));
        assert!(told.starts_with("`gone` 1 of the old version is not in"), "{told}");
        let told = read(&format!("{start}{{'../gone',\"1\"}}]}}."));
        assert!(told.starts_with("the application `../gone` cannot be"), "{told}");
    }

    #[test]
    fn versions_are_those_with_a_rel_file_of_the_release() {
        let dir = tempfile::tempdir().unwrap();
        for (version, file) in [("1.10", "demo.rel"), ("1.9", "demo.rel"), ("3.0", "other.rel")] {
            fs::create_dir_all(dir.path().join("releases").join(version)).unwrap();
            fs::write(dir.path().join("releases").join(version).join(file), "").unwrap();
        }
        assert_eq!(known_versions(dir.path(), "demo"), ["1.9", "1.10"]);
        assert_eq!(choose_version(dir.path(), "demo", "2.0", None).unwrap(), "1.10");
        assert_eq!(choose_version(dir.path(), "demo", "1.10", None).unwrap(), "1.9");
    }
}
