//! Parses arbitrary text as an appup. A valid one must survive a round trip, and its relup, if there is one, must
//! parse.
#![no_main]

use std::collections::BTreeMap;

use dram_release::appup::Appup;
use dram_release::consult::consult;
use dram_release::relup::{RelupRelease, make_relup, relup_text};
use dram_release::relup_script::RelupApp;
use dram_release::resolve::StartType;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(appup) = Appup::read(bytes) else { return };
    assert_eq!(
        Appup::read(appup.text().as_bytes()).map(|appup| appup.term().to_string()),
        Ok(appup.term().to_string())
    );
    let application = |name: &str, version: &str| RelupApp {
        name: name.to_owned(),
        version: version.to_owned(),
        mode: StartType::Permanent,
        modules: ["a", "b", "c"].map(|module| format!("{name}{module}")).into(),
    };
    let release = |version: &str| RelupRelease {
        version: version.to_owned(),
        erts: "1".to_owned(),
        applications: vec![application("sasl", "1"), application("", version)],
    };
    let appups = BTreeMap::from([(String::new(), appup)]);
    if let Ok(term) = make_relup(&release("2"), &["sasl".to_owned(), String::new()], &release("1"), &appups) {
        assert!(consult(relup_text(&term).as_bytes()).is_ok());
    }
});
