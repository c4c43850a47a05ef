//! Parses arbitrary text as an application specification. If it is valid, the release is resolved and its boot script
//! must decode as a term.
#![no_main]

use dram_release::app::App;
use dram_release::boot::{BootOptions, BootScript};
use dram_release::catalog::{Catalog, Found, Origin};
use dram_release::etf::decode;
use dram_release::files;
use dram_release::resolve::{Spec, Style, resolve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut catalog = Catalog::default();
    let mut add = |bytes: &[u8], name: &str| {
        let Ok(app) = App::read(bytes, name, 25) else { return false };
        catalog.add(Found { app, origin: Origin::Project, location: "here".to_owned(), beams: None });
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
    let spec = Spec {
        name: "a".to_owned(),
        version: "1".to_owned(),
        erts: "13".to_owned(),
        otp: 25,
        style: Style::Plain,
        applications: names,
        unchecked: Vec::new(),
        excluded: Vec::new(),
    };
    let Ok(release) = resolve(&spec, &catalog) else { return };
    for release in [release.clean(), release] {
        let script = BootScript::new(&release, &catalog, &BootOptions::mix(None, true));
        assert!(decode(&script.to_boot()).is_ok());
        let _ = (script.to_script(), files::rel(&release), files::releases(&release));
    }
});
