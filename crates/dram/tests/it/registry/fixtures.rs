//! The registries themselves, by other tools.

use super::debian::{Debian, USER, WORD};
use super::fake::{Auth, Fake, Fault, On, What};
use super::http::Way;
use crate::support::{Done, Tool, temp, tool};

/// An image of two layers in an OCI layout, made by another tool; its digest.
pub(crate) fn layout(dir: &std::path::Path) -> String {
    let script = "set -e; umoci init --layout l; umoci new --image l:x; mkdir -p one two; echo one > one/one; \
        head -c 300000 /dev/urandom > two/two; umoci insert --image l:x one /one; umoci insert --image l:x two /two; \
        umoci config --image l:x --architecture amd64 --config.cmd /one";
    tool("sh").dir(dir).args(["-c", script]).ok();
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("l/index.json")).unwrap()).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

fn skopeo(words: &str) -> Tool {
    tool("skopeo").args(words.split_whitespace())
}

/// There and back: it must have stayed the same.
fn round_trip(host: &str, words: &str) {
    let dir = temp();
    let digest = layout(dir.path());
    let there = format!("docker://{host}/some/name:1");
    skopeo(&format!("copy {} oci:l:x {there}", words.replace("@", "--dest-"))).dir(dir.path()).ok();
    skopeo(&format!("copy {} {there} oci:back:x", words.replace("@", "--src-"))).dir(dir.path()).ok();
    let back = skopeo("inspect --format {{.Digest}} oci:back:x").dir(dir.path()).ok().stdout;
    assert_eq!(back.trim(), digest);
}

#[test]
fn debians_registry_keeps_images() {
    round_trip(&Debian::plain().host(), "@tls-verify=false");
    let registry = Debian::tls();
    let certificates = temp();
    std::fs::copy(registry.authority(), certificates.path().join("ca.crt")).unwrap();
    round_trip(&registry.host(), &format!("@cert-dir={}", certificates.path().display()));
    let registry = Debian::basic();
    round_trip(&registry.host(), &format!("@tls-verify=false @creds={USER}:{WORD}"));
    let refused = skopeo(&format!("inspect --tls-verify=false docker://{}/some/name:1", registry.host())).end();
    assert_ne!(refused.code, 0, "{refused}");
    assert!(registry.requests().iter().any(|line| line.starts_with("PUT /v2/some/name/manifests/1")));
}

#[test]
fn the_registry_without_faults_keeps_images() {
    round_trip(Fake::new([]).host(), "@tls-verify=false");
    round_trip(Fake::with(Auth::Basic, []).host(), &format!("@tls-verify=false @creds={USER}:{WORD}"));
    let auth = Auth::Token { realm: "http://{here}/token", login: true, uses: usize::MAX };
    round_trip(Fake::with(auth, []).host(), &format!("@tls-verify=false @creds={USER}:{WORD}"));
}

fn pull(fake: &Fake) -> Done {
    let dir = temp();
    skopeo(&format!("copy --src-tls-verify=false docker://{}/x:1 oci:out:x", fake.host())).dir(dir.path()).end()
}

#[test]
fn faults_show() {
    let dir = temp();
    layout(dir.path());
    let fake = Fake::new([]);
    skopeo(&format!("copy --dest-tls-verify=false oci:l:x docker://{}/x:1", fake.host())).dir(dir.path()).ok();
    let table = [
        (On::Blob, What::Comes(Way::Half), false),
        (On::Blob, What::Flipped, false),
        (On::Blob, What::Leads("http://{other}/{digest}"), true),
        (On::Blob, What::Leads("/hop/3/{digest}"), true),
        (On::Manifest, What::Moves, true),
        (On::Any, What::Status(403, "go away"), false),
        (On::Any, What::Comes(Way::Garbage), false),
    ];
    for (on, what, good) in table {
        fake.now([Fault::always(on, what.clone())]);
        let done = pull(&fake);
        assert_eq!(done.code == 0, good, "{what:?}\n{done}");
    }
    let other = fake.seen().into_iter().filter(|seen| seen.other).count();
    assert!(other >= 2, "blobs were fetched from the other host");
}

#[test]
fn faults_of_uploads_show() {
    let dir = temp();
    layout(dir.path());
    let table = [
        (On::Any, What::UploadsWithQuery, true),
        (On::Start, What::NoMount, true),
        (On::Start, What::UploadsElsewhere, true),
        (On::Bytes, What::HalfTaken, false),
        (On::Put, What::Lies, false),
        (On::ManifestPut, What::Status(500, "no"), false),
        (On::Put, What::NoUpload, false),
    ];
    for (on, what, good) in table {
        let fake = Fake::new([Fault::always(on, what.clone())]);
        let there = format!("docker://{}/x:1", fake.host());
        let done = skopeo(&format!("copy --dest-tls-verify=false oci:l:x {there}")).dir(dir.path()).end();
        assert_eq!(done.code == 0, good, "{what:?}\n{done}");
        assert_eq!(fake.tag("x", "1").is_some(), good, "{what:?}");
    }
}
