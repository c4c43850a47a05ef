//! Releases of the applications of the installed OTP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dram_release::app::AppSpec;
use dram_release::catalog::{AppCatalog, AppOrigin, CatalogEntry};
use dram_release::resolve::{ReleaseRules, ReleaseSpec, StartType};

/// The installed OTP release.
pub(crate) const OTP: u32 = 25;

/// Returns a catalog of these application specifications, and the directory of each.
pub(crate) fn catalog(apps: &[PathBuf], origin: AppOrigin) -> (AppCatalog, BTreeMap<String, PathBuf>) {
    let mut catalog = AppCatalog::default();
    let mut dirs = BTreeMap::new();
    for path in apps {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let app = AppSpec::read(&std::fs::read(path).unwrap(), name, OTP);
        let app = app.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let ebin = path.parent().unwrap().to_path_buf();
        let beams = modules(&ebin);
        dirs.insert(name.to_owned(), ebin.clone());
        catalog.add(CatalogEntry { app, origin, location: ebin.display().to_string(), beams: Some(beams) });
    }
    (catalog, dirs)
}

fn modules(ebin: &Path) -> std::collections::BTreeSet<String> {
    let names = std::fs::read_dir(ebin).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".beam").map(str::to_owned)).collect()
}

/// Returns a specification of a release of these applications.
pub(crate) fn spec(name: &str, style: ReleaseRules, applications: &[(&str, Option<StartType>)]) -> ReleaseSpec {
    ReleaseSpec {
        name: name.to_owned(),
        version: "1.0".to_owned(),
        erts: "13.1.5".to_owned(),
        otp: OTP,
        rules: style,
        applications: applications.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect(),
        skip_mode_validation: Vec::new(),
        excluded: Vec::new(),
    }
}
