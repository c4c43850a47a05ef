//! What a registry can do to whoever pulls.

use std::fs;
use std::time::Duration;

use super::fake::{Auth, Fault, On, Seen, What};
use super::http::Way;
use super::row::{KIND, count, hold, offer, pull, stocked};
use crate::support::{Store, temp};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NULLS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Every answer with the largest blob.
fn always(what: What) -> [Fault; 1] {
    [Fault::always(On::Blob, what).at(&offer().large)]
}

/// The first of them.
fn once(what: What) -> [Fault; 1] {
    [Fault::first(1, On::Blob, what).at(&offer().large)]
}

fn ranges(seen: &[Seen]) -> Vec<String> {
    seen.iter().filter_map(|seen| seen.range.clone()).collect()
}

fn half() -> usize {
    offer().blobs[&offer().large].len() / 2
}

#[test]
fn blobs_arrive_whole_or_not_at_all() {
    let long = What::Comes(Way::More(1 << 20));
    let html = What::Body("text/html; charset=utf-8", b"<html>log in</html>".to_vec());
    let of_large = |seen: &[Seen]| count(seen, "GET", &offer().large);
    hold([
        pull("none", []),
        pull("truncate", always(What::Comes(Way::Half)))
            .bad(["{large}", "{host}"])
            .asks("it is asked again for the rest", |seen| ranges(seen).len() >= 2)
            .asks("but not for ever", move |seen| of_large(seen) <= 6),
        pull("truncate once", once(What::Comes(Way::Half)))
            .asks("only the rest is asked for", |seen| ranges(seen) == [format!("bytes={}-", half())]),
        pull("long", always(long)).bad(["{large}"]),
        pull("bitflip", always(What::Flipped)).bad(["{large}", "{host}"]),
        pull("slow", always(What::Comes(Way::Slow(400_000)))),
        pull("very slow", always(What::Comes(Way::Slow(1)))).bad(["{host}"]),
        pull("stall", always(What::Comes(Way::Stall(Duration::from_secs(20))))).bad(["{host}"]),
        pull("stall once", once(What::Comes(Way::Stall(Duration::from_secs(20)))))
            .asks("only the rest is asked for", |seen| ranges(seen) == [format!("bytes={}-", half())]),
        pull("html", always(html)).bad(["{large}", "text/html"]),
        pull("gzip-ce", always(What::Wrapped)).either().asks("as it is", |seen| {
            seen.iter().all(|seen| seen.encoding.as_deref().is_none_or(|encoding| encoding == "identity"))
        }),
        pull("416", always(What::Status(416, "no such part"))).bad(["416", "{host}"]),
    ]);
    let half = Fault::first(1, On::Blob, What::Comes(Way::Half)).at(&offer().large);
    let then = |what: What| [half.clone(), Fault::first(1, On::Blob, what).at(&offer().large)];
    hold([
        pull("416 for the rest", then(What::Status(416, "no such part"))),
        pull("range-ignored", then(What::IgnoresRange)),
        pull("short twice", [Fault::first(2, On::Blob, What::Comes(Way::Half)).at(&offer().large)]),
    ]);
}

#[test]
fn blobs_may_be_elsewhere() {
    hold([
        pull("redirect-loop", always(What::Leads("/v2/x/blobs/{digest}")))
            .bad(["{host}"])
            .asks("not for ever", |seen| seen.len() < 60),
        pull("redirect-file", always(What::Leads("file:///etc/passwd"))).bad(["{host}"]),
        pull("redirect-relative", always(What::Leads("../../../hop/0/{digest}"))),
        pull("redirect-path", always(What::Leads("/hop/3/{digest}"))),
        pull("redirect-many", always(What::Leads("/hop/30/{digest}"))).bad(["{host}"]),
        pull("redirect-other", always(What::Leads("http://{other}/{digest}")))
            .asks("it goes there", |seen| seen.iter().any(|seen| seen.other)),
    ]);
}

#[test]
fn manifests_are_what_was_asked_for() {
    let manifests = |what: What| [Fault::always(On::Manifest, what)];
    let deep = What::Body(KIND, b"[".repeat(200_000));
    let deeper = What::Body(KIND, b"{\"layers\":".repeat(200_000));
    let lie = || What::Header("Docker-Content-Digest", Some(NULLS));
    hold([
        pull("by digest", []).by_digest(),
        pull("bitflip", manifests(What::Longer)).bad(["{host}"]),
        pull("bitflip, by digest", manifests(What::Longer)).by_digest().bad([offer().digest.as_str()]),
        pull("flipped, by digest", manifests(What::Flipped)).by_digest().bad([offer().digest.as_str()]),
        pull("dcd", manifests(lie())).bad([NULLS]),
        pull("no dcd", manifests(What::Header("Docker-Content-Digest", None))),
        pull("ct", manifests(What::Header("Content-Type", Some(INDEX)))).bad(["{host}"]),
        pull("ct, by digest", manifests(What::Header("Content-Type", Some(INDEX)))).by_digest().bad(["{host}"]),
        pull("noct", manifests(What::Header("Content-Type", None))),
        pull("deep", manifests(deep)).bad(["{host}"]),
        pull("deeper", manifests(deeper)).bad(["{host}"]),
        pull("huge", manifests(What::Body(KIND, vec![b' '; 40 << 20]))).bad(["{host}"]),
        pull("moving", manifests(What::Moves)).asks("it is asked once", |seen| count(seen, "GET", "/manifests/1") == 1),
    ]);
}

#[test]
fn bad_luck_has_an_end() {
    let any = |what: What| [Fault::always(On::Any, what)];
    let first = |what: What| [Fault::first(2, On::Any, what)];
    let waits = |text: &str| [Fault::first(1, On::Manifest, What::RetryAfter(text.to_owned()))];
    hold([
        pull("status 500", any(What::Status(500, "we are down")))
            .bad(["500", "we are down", "{host}"])
            .asks("at most 5 times", |seen| (2..=6).contains(&seen.len())),
        pull("status 500 twice", first(What::Status(500, ""))),
        pull("status 503, blob", [Fault::first(2, On::Blob, What::Status(503, ""))]),
        pull("status 404", any(What::Status(404, "nothing here")))
            .bad(["404", "{host}"])
            .asks("once", |seen| count(seen, "GET", "/manifests/1") + count(seen, "HEAD", "/manifests/1") <= 2),
        pull("status 403", any(What::Status(403, "the lawyers say no"))).bad(["403", "the lawyers say no", "{host}"]),
        pull("status 400, blob", always(What::Status(400, "ask nicely"))).bad(["400", "ask nicely", "{host}"]),
        pull("retry-after", waits("1")).asks("a second later", |seen| {
            let asked: Vec<_> = seen.iter().filter(|seen| seen.path.contains("/manifests/")).collect();
            asked.len() == 2 && asked[1].at - asked[0].at >= Duration::from_secs(1)
        }),
        pull("no /v2/", [Fault::always(On::Version, What::Status(404, ""))]),
        pull("retry-after a date", waits("Sun, 06 Nov 1994 08:49:37 GMT")),
        pull("retry-after a day", any(What::RetryAfter("86400".to_owned()))).bad(["429", "{host}"]).within(20),
        pull("retry-after nonsense", waits("soon")),
        pull("close", any(What::Comes(Way::Close))).bad(["{host}"]),
        pull("close twice", first(What::Comes(Way::Close))),
        pull("garbage", any(What::Comes(Way::Garbage))).bad(["{host}"]),
        pull("status-204", any(What::Nothing)).bad(["{host}"]),
        pull("slow-headers", any(What::Comes(Way::SlowHeader))).bad(["{host}"]),
    ]);
}

#[test]
fn a_mirror_that_lies_is_left_for_the_registry() {
    let (own, mirror, dir, store) =
        (stocked(Auth::Everybody, []), stocked(Auth::Everybody, []), temp(), Store::empty());
    mirror.now(always(What::Flipped));
    let conf = dir.path().join("registries.conf");
    let (from, to) = (own.host(), mirror.host());
    fs::write(&conf, format!("[[registry]]\nlocation = \"{from}\"\n[[registry.mirror]]\nlocation = \"{to}\"\n"))
        .unwrap();
    let name = format!("{from}/x:1");
    let done = store.dram(["pull", &name]).env("CONTAINERS_REGISTRIES_CONF", &conf).ok();
    done.says("a mirror gave another blob").says(&offer().large);
    assert_eq!(store.digest(&name), offer().digest);
    let seen = own.seen();
    assert_eq!(count(&seen, "GET", &offer().large), 1);
    assert_eq!(count(&seen, "GET", "/blobs/"), 1, "only what was wrong is asked for again");
}

#[test]
fn names_do_not_lead_deeper_in() {
    let (dir, store) = (temp(), Store::empty());
    let fake = stocked(Auth::Everybody, always(What::Leads("http://inner.example/{digest}")));
    let port = fake.host().rsplit_once(':').unwrap().1.to_owned();
    let conf = dir.path().join("registries.conf");
    fs::write(&conf, format!("[[registry]]\nlocation = \"registry.example:{port}\"\ninsecure = true\n")).unwrap();
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 registry.example\n169.254.169.254 inner.example\n").unwrap();
    let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
    let pull = store.dram(["pull", &format!("registry.example:{port}/x:1")]).env("CONTAINERS_REGISTRIES_CONF", &conf);
    let done = pull.within("unshare", &["--mount", "sh", "-c", &script]).fails(1);
    done.says("inner.example").says("in a network that it is not in itself");
}
