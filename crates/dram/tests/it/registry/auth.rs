//! Authentication with a registry, and its faults.

use super::fake::{FakeAuth, Fault, FaultPoint, Misbehaviour, RecordedRequest};
use super::scenario::{assert_scenarios, count, pull, push, test_image};

fn token(realm: &'static str, login: bool) -> FakeAuth {
    FakeAuth::Token { realm, login, uses: usize::MAX }
}

const HERE: &str = "http://{here}/token";

fn at_token(what: Misbehaviour) -> [Fault; 1] {
    [Fault::always(FaultPoint::Token, what)]
}

#[test]
fn credentials_authenticate_pulls_and_pushes() {
    let tokens = |seen: &[RecordedRequest]| count(seen, "GET", "/token") + count(seen, "POST", "/token");
    assert_scenarios([
        pull("auth-basic", []).auth(FakeAuth::Basic).with_login(),
        push("auth-basic, push", []).auth(FakeAuth::Basic).with_login(),
        pull("auth-basic, unknown", []).auth(FakeAuth::Basic).fails_with(["401", "{host}", "dram login"]),
        pull("token for everybody", []).auth(token(HERE, false)),
        pull("token", []).auth(token(HERE, true)).with_login(),
        push("token, push", []).auth(token(HERE, true)).with_login(),
        pull("token, unknown", []).auth(token(HERE, true)).fails_with(["{host}", "dram login"]),
        pull("tokens that end", []).auth(FakeAuth::Token { realm: HERE, login: true, uses: 2 }).with_login(),
        push("tokens that end, push", []).auth(FakeAuth::Token { realm: HERE, login: true, uses: 2 }).with_login(),
        pull("auth-401-loop", [])
            .auth(FakeAuth::Nobody)
            .with_login()
            .fails_with(["401", "{host}", "config.json"])
            .requests_satisfy("not for ever", move |seen| tokens(seen) <= 3 && seen.len() <= 10),
        pull("auth-forbidden", [Fault::always(FaultPoint::Manifest, Misbehaviour::Status(403, "the lawyers say no"))])
            .auth(token(HERE, true))
            .with_login()
            .fails_with(["the lawyers say no", "{host}"]),
    ]);
}

#[test]
fn credentials_are_not_sent_to_another_host() {
    assert_scenarios([
        pull("auth-realm-other", [])
            .auth(token("http://{other}/token", true))
            .with_login()
            .fails_with(["{host}", "{other}"]),
        pull("auth-realm-other, for everybody", []).auth(token("http://{other}/token", false)).may_fail(),
        pull("auth-realm-linklocal", [])
            .auth(token("http://169.254.169.254/token", true))
            .with_login()
            .fails_with(["169.254.169.254", "{host}"])
            .time_limit(4),
        pull("auth-realm-file", []).auth(token("file:///etc/passwd", true)).with_login().fails_with(["{host}"]),
        pull("auth-realm-none", []).auth(token("", true)).with_login().fails_with(["{host}"]),
        pull("redirect, basic", [Fault::always(FaultPoint::Blob, Misbehaviour::Redirect("http://{other}/{digest}"))])
            .auth(FakeAuth::Basic)
            .with_login()
            .requests_satisfy("it goes there", |seen| seen.iter().any(|seen| seen.other)),
        pull("redirect, token", [Fault::always(FaultPoint::Blob, Misbehaviour::Redirect("http://{other}/{digest}"))])
            .auth(token(HERE, true))
            .with_login()
            .requests_satisfy("it goes there", |seen| seen.iter().any(|seen| seen.other)),
        push("upload-loc-other, basic", [Fault::always(FaultPoint::StartUpload, Misbehaviour::UploadsElsewhere)])
            .auth(FakeAuth::Basic)
            .with_login()
            .may_fail(),
        push("upload-loc-other, token", [Fault::always(FaultPoint::StartUpload, Misbehaviour::UploadsElsewhere)])
            .auth(token(HERE, true))
            .with_login()
            .may_fail(),
    ]);
}

#[test]
fn invalid_token_responses_are_refused() {
    let huge = [br#"{"token":""#.to_vec(), vec![b'a'; 64 << 20], br#""}"#.to_vec()].concat();
    let json = "application/json";
    let lines = br#"{"token":"hidden-token\r\nX-Stolen: 1"}"#;
    assert_scenarios(
        [
            pull("token-500", at_token(Misbehaviour::Status(500, "no tokens today"))).fails_with(["500", "{host}"]),
            pull("token-500 twice", [Fault::first(2, FaultPoint::Token, Misbehaviour::Status(500, ""))]),
            pull("token-huge", at_token(Misbehaviour::Body(json, huge))).fails_with(["{host}"]),
            pull("token-html", at_token(Misbehaviour::Body("text/html", b"<html>".to_vec()))).fails_with(["{host}"]),
            pull("token-none", at_token(Misbehaviour::Body(json, b"{}".to_vec()))).fails_with(["{host}"]),
            pull("token of two lines", at_token(Misbehaviour::Body(json, lines.to_vec()))).fails_with(["{host}"]),
        ]
        .map(|row| row.auth(token(HERE, true)).with_login()),
    );
    assert!(!test_image().blobs.is_empty());
}
