//! Faults of a registry during pulls.

use std::fs;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::fake::{FakeAuth, Fault, FaultPoint, Misbehaviour, RecordedRequest};
use super::http::Delivery;
use super::scenario::{KIND, assert_scenarios, count, pull, registry_with_image, test_image};
use crate::support::{Context, Store, temp};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NULLS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A fault for every request of the largest blob.
fn always(what: Misbehaviour) -> [Fault; 1] {
    [Fault::always(FaultPoint::Blob, what).at(&test_image().large)]
}

/// A fault for the first request of the largest blob.
fn once(what: Misbehaviour) -> [Fault; 1] {
    [Fault::first(1, FaultPoint::Blob, what).at(&test_image().large)]
}

fn ranges(seen: &[RecordedRequest]) -> Vec<String> {
    seen.iter().filter_map(|seen| seen.range.clone()).collect()
}

fn half() -> usize {
    test_image().blobs[&test_image().large].len() / 2
}

#[test]
fn blobs_arrive_whole_or_not_at_all() {
    let long = Misbehaviour::Delivered(Delivery::More(1 << 20));
    let html = Misbehaviour::Body("text/html; charset=utf-8", b"<html>log in</html>".to_vec());
    let of_large = |seen: &[RecordedRequest]| count(seen, "GET", &test_image().large);
    assert_scenarios([
        pull("none", []),
        pull("truncate", always(Misbehaviour::Delivered(Delivery::Half)))
            .fails_with(["{large}", "{host}"])
            .requests_satisfy("it is asked again for the rest", |seen| ranges(seen).len() >= 2)
            .requests_satisfy("but not for ever", move |seen| of_large(seen) <= 6),
        pull("truncate once", once(Misbehaviour::Delivered(Delivery::Half)))
            .requests_satisfy("only the rest is asked for", |seen| ranges(seen) == [format!("bytes={}-", half())]),
        pull("long", always(long)).fails_with(["{large}"]),
        pull("bitflip", always(Misbehaviour::Flipped)).fails_with(["{large}", "{host}"]),
        pull("slow", always(Misbehaviour::Delivered(Delivery::Slow(400_000)))),
        pull("very slow", always(Misbehaviour::Delivered(Delivery::Slow(1)))).fails_with(["{host}"]),
        pull("stall", always(Misbehaviour::Delivered(Delivery::Stall(Duration::from_secs(20))))).fails_with(["{host}"]),
        pull("stall once", once(Misbehaviour::Delivered(Delivery::Stall(Duration::from_secs(20)))))
            .requests_satisfy("only the rest is asked for", |seen| ranges(seen) == [format!("bytes={}-", half())]),
        pull("html", always(html)).fails_with(["{large}", "text/html"]),
        pull("gzip-ce", always(Misbehaviour::Gzipped)).may_fail().requests_satisfy("as it is", |seen| {
            seen.iter().all(|seen| seen.encoding.as_deref().is_none_or(|encoding| encoding == "identity"))
        }),
        pull("416", always(Misbehaviour::Status(416, "no such part"))).fails_with(["416", "{host}"]),
    ]);
    let half = Fault::first(1, FaultPoint::Blob, Misbehaviour::Delivered(Delivery::Half)).at(&test_image().large);
    let then = |what: Misbehaviour| [half.clone(), Fault::first(1, FaultPoint::Blob, what).at(&test_image().large)];
    assert_scenarios([
        pull("416 for the rest", then(Misbehaviour::Status(416, "no such part"))),
        pull("range-ignored", then(Misbehaviour::IgnoresRange)),
        pull(
            "short twice",
            [Fault::first(2, FaultPoint::Blob, Misbehaviour::Delivered(Delivery::Half)).at(&test_image().large)],
        ),
    ]);
}

#[test]
fn blob_redirects_are_followed_within_limits() {
    assert_scenarios([
        pull("redirect-loop", always(Misbehaviour::Redirect("/v2/x/blobs/{digest}")))
            .fails_with(["{host}"])
            .requests_satisfy("not for ever", |seen| seen.len() < 60),
        pull("redirect-file", always(Misbehaviour::Redirect("file:///etc/passwd"))).fails_with(["{host}"]),
        pull("redirect-relative", always(Misbehaviour::Redirect("../../../hop/0/{digest}"))),
        pull("redirect-path", always(Misbehaviour::Redirect("/hop/3/{digest}"))),
        pull("redirect-many", always(Misbehaviour::Redirect("/hop/30/{digest}"))).fails_with(["{host}"]),
        pull("redirect-other", always(Misbehaviour::Redirect("http://{other}/{digest}")))
            .requests_satisfy("it goes there", |seen| seen.iter().any(|seen| seen.other)),
    ]);
}

#[test]
fn manifests_are_verified_against_digest_type_and_size() {
    let manifests = |what: Misbehaviour| [Fault::always(FaultPoint::Manifest, what)];
    let deep = Misbehaviour::Body(KIND, b"[".repeat(200_000));
    let deeper = Misbehaviour::Body(KIND, b"{\"layers\":".repeat(200_000));
    let lie = || Misbehaviour::Header("Docker-Content-Digest", Some(NULLS));
    assert_scenarios([
        pull("by digest", []).by_digest(),
        pull("bitflip", manifests(Misbehaviour::Longer)).fails_with(["{host}"]),
        pull("bitflip, by digest", manifests(Misbehaviour::Longer))
            .by_digest()
            .fails_with([test_image().digest.as_str()]),
        pull("flipped, by digest", manifests(Misbehaviour::Flipped))
            .by_digest()
            .fails_with([test_image().digest.as_str()]),
        pull("dcd", manifests(lie())).fails_with([NULLS]),
        pull("no dcd", manifests(Misbehaviour::Header("Docker-Content-Digest", None))),
        pull("ct", manifests(Misbehaviour::Header("Content-Type", Some(INDEX)))).fails_with(["{host}"]),
        pull("ct, by digest", manifests(Misbehaviour::Header("Content-Type", Some(INDEX))))
            .by_digest()
            .fails_with(["{host}"]),
        pull("noct", manifests(Misbehaviour::Header("Content-Type", None))),
        pull("deep", manifests(deep)).fails_with(["{host}"]),
        pull("deeper", manifests(deeper)).fails_with(["{host}"]),
        pull("huge", manifests(Misbehaviour::Body(KIND, vec![b' '; 40 << 20]))).fails_with(["{host}"]),
        pull("moving", manifests(Misbehaviour::ChangesEachTime))
            .requests_satisfy("it is asked once", |seen| count(seen, "GET", "/manifests/1") == 1),
    ]);
}

#[test]
fn transient_errors_are_retried_a_limited_number_of_times() {
    let any = |what: Misbehaviour| [Fault::always(FaultPoint::Any, what)];
    let first = |what: Misbehaviour| [Fault::first(2, FaultPoint::Any, what)];
    let waits = |text: &str| [Fault::first(1, FaultPoint::Manifest, Misbehaviour::RetryAfter(text.to_owned()))];
    assert_scenarios([
        pull("status 500", any(Misbehaviour::Status(500, "we are down")))
            .fails_with(["500", "we are down", "{host}"])
            .requests_satisfy("at most 5 times", |seen| (2..=6).contains(&seen.len())),
        pull("status 500 twice", first(Misbehaviour::Status(500, ""))),
        pull("status 503, blob", [Fault::first(2, FaultPoint::Blob, Misbehaviour::Status(503, ""))]),
        pull("status 404", any(Misbehaviour::Status(404, "nothing here")))
            .fails_with(["404", "{host}"])
            .requests_satisfy("once", |seen| {
                count(seen, "GET", "/manifests/1") + count(seen, "HEAD", "/manifests/1") <= 2
            }),
        pull("status 403", any(Misbehaviour::Status(403, "the lawyers say no"))).fails_with([
            "403",
            "the lawyers say no",
            "{host}",
        ]),
        pull("status 400, blob", always(Misbehaviour::Status(400, "ask nicely"))).fails_with([
            "400",
            "ask nicely",
            "{host}",
        ]),
        pull("retry-after", waits("1")).requests_satisfy("a second later", |seen| {
            let asked: Vec<_> = seen.iter().filter(|seen| seen.path.contains("/manifests/")).collect();
            asked.len() == 2 && asked[1].at - asked[0].at >= Duration::from_secs(1)
        }),
        pull("no /v2/", [Fault::always(FaultPoint::Version, Misbehaviour::Status(404, ""))]),
        pull("retry-after a date", waits("Sun, 06 Nov 1994 08:49:37 GMT")),
        pull("retry-after a day", any(Misbehaviour::RetryAfter("86400".to_owned())))
            .fails_with(["429", "{host}"])
            .time_limit(20),
        pull("retry-after nonsense", waits("soon")),
        pull("close", any(Misbehaviour::Delivered(Delivery::Close))).fails_with(["{host}"]),
        pull("close twice", first(Misbehaviour::Delivered(Delivery::Close))),
        pull("garbage", any(Misbehaviour::Delivered(Delivery::Garbage))).fails_with(["{host}"]),
        pull("status-204", any(Misbehaviour::NoContent)).fails_with(["{host}"]),
        pull("slow-headers", any(Misbehaviour::Delivered(Delivery::SlowHeader))).fails_with(["{host}"]),
    ]);
}

#[test]
fn a_mirror_with_corrupt_blobs_falls_back_to_the_registry() {
    let (own, mirror, dir, store) = (
        registry_with_image(FakeAuth::Everybody, []),
        registry_with_image(FakeAuth::Everybody, []),
        temp(),
        Store::empty(),
    );
    mirror.set_faults(always(Misbehaviour::Flipped));
    let conf = dir.path().join("registries.conf");
    let (from, to) = (own.host(), mirror.host());
    fs::write(&conf, format!("[[registry]]\nlocation = \"{from}\"\n[[registry.mirror]]\nlocation = \"{to}\"\n"))
        .unwrap();
    let name = format!("{from}/x:1");
    let done = store.dram(["pull", &name]).env("CONTAINERS_REGISTRIES_CONF", &conf).ok();
    done.says("a mirror gave another blob").says(&test_image().large);
    assert_eq!(store.digest(&name), test_image().digest);
    let seen = own.take_requests();
    assert_eq!(count(&seen, "GET", &test_image().large), 1);
    assert_eq!(count(&seen, "GET", "/blobs/"), 1, "only what was wrong is asked for again");
}

#[test]
fn redirects_into_a_less_public_network_are_refused() {
    let (dir, store) = (temp(), Store::empty());
    let fake =
        registry_with_image(FakeAuth::Everybody, always(Misbehaviour::Redirect("http://inner.example/{digest}")));
    let port = fake.host().rsplit_once(':').unwrap().1.to_owned();
    let conf = dir.path().join("registries.conf");
    fs::write(&conf, format!("[[registry]]\nlocation = \"registry.example:{port}\"\ninsecure = true\n")).unwrap();
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 registry.example\n169.254.169.254 inner.example\n").unwrap();
    let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
    let pull = store.dram(["pull", &format!("registry.example:{port}/x:1")]).env("CONTAINERS_REGISTRIES_CONF", &conf);
    let done = pull.run_under("unshare", &["--mount", "sh", "-c", &script]).fails(1);
    done.says("inner.example").says("in a private network that it is not in itself");
}

/// Listens on a port of the loopback interface and never answers. The time of the first connection is sent.
fn silent_registry() -> (String, mpsc::Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (contacted, times) = mpsc::channel();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let _ = contacted.send(Instant::now());
            open.push(stream);
        }
    });
    (host, times)
}

#[test]
fn registries_of_base_images_are_asked_at_the_same_time_and_named_when_they_are_slow() {
    let ((first, of_first), (second, of_second)) = (silent_registry(), silent_registry());
    let context =
        Context::new(&format!("FROM {first}/x:1 AS a\nFROM {second}/y:1\nCOPY --from=a /etc/passwd /\nRUN true\n"));
    let store = Store::with_base();
    let done = store.build(&context).env("DRAM_NETWORK_TIMEOUT", "0.8").fails(1);
    for host in [&first, &second] {
        assert_eq!(done.stderr.matches(&format!("waiting for {host} to answer: ")).count(), 1, "{done}");
    }
    let (one, other) = (of_first.recv().unwrap(), of_second.recv().unwrap());
    let apart = one.max(other) - one.min(other);
    assert!(apart < Duration::from_millis(500), "they are asked {apart:?} apart");
    let push = || store.dram(["push", "parity-base"]).arg(format!("{first}/x")).env("DRAM_NETWORK_TIMEOUT", "0.8");
    push().fails(1).says(&format!("waiting for {first} to answer"));
}
