//! Tests of the test registries, with other tools.

use super::debian::{Debian, USER, WORD};
use super::fake::{FakeAuth, FakeRegistry, Fault, FaultPoint, Misbehaviour};
use super::http::Delivery;
use crate::support::{CommandOutput, TestCommand, temp, tool};

/// Creates an OCI layout with an image of two layers by umoci, and returns its digest.
pub(crate) fn make_layout(dir: &std::path::Path) -> String {
    let script = "set -e; umoci init --layout l; umoci new --image l:x; mkdir -p one two; echo one > one/one; \
        head -c 300000 /dev/urandom > two/two; umoci insert --image l:x one /one; umoci insert --image l:x two /two; \
        umoci config --image l:x --architecture amd64 --config.cmd /one";
    tool("sh").dir(dir).args(["-c", script]).ok();
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("l/index.json")).unwrap()).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

fn skopeo(words: &str) -> TestCommand {
    tool("skopeo").args(words.split_whitespace())
}

/// Copies an image to the registry and back with skopeo, and asserts that its digest is the same.
fn assert_round_trip(host: &str, words: &str) {
    let dir = temp();
    let digest = make_layout(dir.path());
    let there = format!("docker://{host}/some/name:1");
    skopeo(&format!("copy {} oci:l:x {there}", words.replace("@", "--dest-"))).dir(dir.path()).ok();
    skopeo(&format!("copy {} {there} oci:back:x", words.replace("@", "--src-"))).dir(dir.path()).ok();
    let back = skopeo("inspect --format {{.Digest}} oci:back:x").dir(dir.path()).ok().stdout;
    assert_eq!(back.trim(), digest);
}

#[test]
fn debians_registry_round_trips_images() {
    assert_round_trip(&Debian::plain().host(), "@tls-verify=false");
    let registry = Debian::tls();
    let certificates = temp();
    std::fs::copy(registry.authority(), certificates.path().join("ca.crt")).unwrap();
    assert_round_trip(&registry.host(), &format!("@cert-dir={}", certificates.path().display()));
    let registry = Debian::basic();
    assert_round_trip(&registry.host(), &format!("@tls-verify=false @creds={USER}:{WORD}"));
    let refused = skopeo(&format!("inspect --tls-verify=false docker://{}/some/name:1", registry.host())).end();
    assert_ne!(refused.code, 0, "{refused}");
    assert!(registry.requests().iter().any(|line| line.starts_with("PUT /v2/some/name/manifests/1")));
}

#[test]
fn the_fake_registry_without_faults_round_trips_images() {
    assert_round_trip(FakeRegistry::new([]).host(), "@tls-verify=false");
    assert_round_trip(
        FakeRegistry::with(FakeAuth::Basic, []).host(),
        &format!("@tls-verify=false @creds={USER}:{WORD}"),
    );
    let auth = FakeAuth::Token { realm: "http://{here}/token", login: true, uses: usize::MAX };
    assert_round_trip(FakeRegistry::with(auth, []).host(), &format!("@tls-verify=false @creds={USER}:{WORD}"));
}

fn pull(fake: &FakeRegistry) -> CommandOutput {
    let dir = temp();
    skopeo(&format!("copy --src-tls-verify=false docker://{}/x:1 oci:out:x", fake.host())).dir(dir.path()).end()
}

#[test]
fn download_faults_have_the_expected_effect_on_skopeo() {
    let dir = temp();
    make_layout(dir.path());
    let fake = FakeRegistry::new([]);
    skopeo(&format!("copy --dest-tls-verify=false oci:l:x docker://{}/x:1", fake.host())).dir(dir.path()).ok();
    let table = [
        (FaultPoint::Blob, Misbehaviour::Delivered(Delivery::Half), false),
        (FaultPoint::Blob, Misbehaviour::Flipped, false),
        (FaultPoint::Blob, Misbehaviour::Redirect("http://{other}/{digest}"), true),
        (FaultPoint::Blob, Misbehaviour::Redirect("/hop/3/{digest}"), true),
        (FaultPoint::Manifest, Misbehaviour::ChangesEachTime, true),
        (FaultPoint::Any, Misbehaviour::Status(403, "go away"), false),
        (FaultPoint::Any, Misbehaviour::Delivered(Delivery::Garbage), false),
    ];
    for (on, what, good) in table {
        fake.set_faults([Fault::always(on, what.clone())]);
        let done = pull(&fake);
        assert_eq!(done.code == 0, good, "{what:?}\n{done}");
    }
    let other = fake.take_requests().into_iter().filter(|seen| seen.other).count();
    assert!(other >= 2, "blobs were fetched from the other host");
}

#[test]
fn upload_faults_have_the_expected_effect_on_skopeo() {
    let dir = temp();
    make_layout(dir.path());
    let table = [
        (FaultPoint::Any, Misbehaviour::UploadsWithQuery, true),
        (FaultPoint::StartUpload, Misbehaviour::NoMount, true),
        (FaultPoint::StartUpload, Misbehaviour::UploadsElsewhere, true),
        (FaultPoint::UploadBytes, Misbehaviour::HalfTaken, false),
        (FaultPoint::FinishUpload, Misbehaviour::FalseSuccess, false),
        (FaultPoint::ManifestPut, Misbehaviour::Status(500, "no"), false),
        (FaultPoint::FinishUpload, Misbehaviour::NoUpload, false),
    ];
    for (on, what, good) in table {
        let fake = FakeRegistry::new([Fault::always(on, what.clone())]);
        let there = format!("docker://{}/x:1", fake.host());
        let done = skopeo(&format!("copy --dest-tls-verify=false oci:l:x {there}")).dir(dir.path()).end();
        assert_eq!(done.code == 0, good, "{what:?}\n{done}");
        assert_eq!(fake.tag("x", "1").is_some(), good, "{what:?}");
    }
}
