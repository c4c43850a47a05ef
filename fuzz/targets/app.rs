//! Parses arbitrary text as an application specification. If it is valid, the release is resolved and its boot script
//! must decode as a term.
#![no_main]

use dram_release::app::AppSpec;
use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::{AppCatalog, AppOrigin, CatalogEntry};
use dram_release::etf::decode;
use dram_release::release_files::{rel_text, releases_text};
use dram_release::resolve::{ReleaseRules, ReleaseSpec, resolve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut catalog = AppCatalog::default();
    let mut add = |bytes: &[u8], name: &str| {
        let Ok(app) = AppSpec::read(bytes, name, 25) else { return false };
        catalog.add(CatalogEntry { app, origin: AppOrigin::Project, location: "here".to_owned(), beams: None });
        true
    };
    for name in ["kernel", "stdlib"] {
        let text = format!(
            "{{application,{name},[{{description,[]}},{{vsn,\"1\"}},{{modules,[]}},{{registered,[]}},{{applications,[]}}]}}."
        );
        assert!(add(text.as_bytes(), name));
    }
    // A zero byte separates the files.
    let mut names = Vec::new();
    for (text, name) in bytes.split(|&byte| byte == 0).zip(["a", "b", "c"]) {
        if add(text, name) {
            names.push((name.to_owned(), None));
        }
    }
    if names.is_empty() {
        return;
    }
    let spec = ReleaseSpec {
        name: "a".to_owned(),
        version: "1".to_owned(),
        erts: "13".to_owned(),
        otp: 25,
        rules: ReleaseRules::Otp,
        applications: names,
        skip_mode_validation: Vec::new(),
        excluded: Vec::new(),
    };
    let Ok(release) = resolve(&spec, &catalog) else { return };
    for release in [release.start_clean(), release] {
        let script = BootScript::new(&release, &catalog, &BootOptions::mix(None, true));
        assert!(decode(&script.to_boot()).is_ok());
        let _ = (script.to_script(), rel_text(&release), releases_text(&release));
    }
});
