//! What a registry can do to whoever says who they are.

use super::fake::{Auth, Fault, On, Seen, What};
use super::row::{count, hold, offer, pull, push};

fn token(realm: &'static str, login: bool) -> Auth {
    Auth::Token { realm, login, uses: usize::MAX }
}

const HERE: &str = "http://{here}/token";

fn at_token(what: What) -> [Fault; 1] {
    [Fault::always(On::Token, what)]
}

#[test]
fn rights_are_shown_to_whom_they_belong() {
    let tokens = |seen: &[Seen]| count(seen, "GET", "/token") + count(seen, "POST", "/token");
    hold([
        pull("auth-basic", []).auth(Auth::Basic).known(),
        push("auth-basic, push", []).auth(Auth::Basic).known(),
        pull("auth-basic, unknown", []).auth(Auth::Basic).bad(["401", "{host}", "dram login"]),
        pull("token for everybody", []).auth(token(HERE, false)),
        pull("token", []).auth(token(HERE, true)).known(),
        push("token, push", []).auth(token(HERE, true)).known(),
        pull("token, unknown", []).auth(token(HERE, true)).bad(["{host}", "dram login"]),
        pull("tokens that end", []).auth(Auth::Token { realm: HERE, login: true, uses: 2 }).known(),
        push("tokens that end, push", []).auth(Auth::Token { realm: HERE, login: true, uses: 2 }).known(),
        pull("auth-401-loop", [])
            .auth(Auth::Nobody)
            .known()
            .bad(["401", "{host}", "config.json"])
            .asks("not for ever", move |seen| tokens(seen) <= 3 && seen.len() <= 10),
        pull("auth-forbidden", [Fault::always(On::Manifest, What::Status(403, "the lawyers say no"))])
            .auth(token(HERE, true))
            .known()
            .bad(["the lawyers say no", "{host}"]),
    ]);
}

#[test]
fn rights_do_not_leave_the_host() {
    hold([
        pull("auth-realm-other", []).auth(token("http://{other}/token", true)).known().bad(["{host}", "{other}"]),
        pull("auth-realm-other, for everybody", []).auth(token("http://{other}/token", false)).either(),
        pull("auth-realm-linklocal", [])
            .auth(token("http://169.254.169.254/token", true))
            .known()
            .bad(["169.254.169.254", "{host}"])
            .within(4),
        pull("auth-realm-file", []).auth(token("file:///etc/passwd", true)).known().bad(["{host}"]),
        pull("auth-realm-none", []).auth(token("", true)).known().bad(["{host}"]),
        pull("redirect, basic", [Fault::always(On::Blob, What::Leads("http://{other}/{digest}"))])
            .auth(Auth::Basic)
            .known()
            .asks("it goes there", |seen| seen.iter().any(|seen| seen.other)),
        pull("redirect, token", [Fault::always(On::Blob, What::Leads("http://{other}/{digest}"))])
            .auth(token(HERE, true))
            .known()
            .asks("it goes there", |seen| seen.iter().any(|seen| seen.other)),
        push("upload-loc-other, basic", [Fault::always(On::Start, What::UploadsElsewhere)])
            .auth(Auth::Basic)
            .known()
            .either(),
        push("upload-loc-other, token", [Fault::always(On::Start, What::UploadsElsewhere)])
            .auth(token(HERE, true))
            .known()
            .either(),
    ]);
}

#[test]
fn tokens_are_bounded() {
    let huge = [br#"{"token":""#.to_vec(), vec![b'a'; 64 << 20], br#""}"#.to_vec()].concat();
    let json = "application/json";
    let lines = br#"{"token":"hidden-token\r\nX-Stolen: 1"}"#;
    hold(
        [
            pull("token-500", at_token(What::Status(500, "no tokens today"))).bad(["500", "{host}"]),
            pull("token-500 twice", [Fault::first(2, On::Token, What::Status(500, ""))]),
            pull("token-huge", at_token(What::Body(json, huge))).bad(["{host}"]),
            pull("token-html", at_token(What::Body("text/html", b"<html>".to_vec()))).bad(["{host}"]),
            pull("token-none", at_token(What::Body(json, b"{}".to_vec()))).bad(["{host}"]),
            pull("token of two lines", at_token(What::Body(json, lines.to_vec()))).bad(["{host}"]),
        ]
        .map(|row| row.auth(token(HERE, true)).known()),
    );
    assert!(!offer().blobs.is_empty());
}
