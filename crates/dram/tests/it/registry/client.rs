//! The registry client as a library: behaviour that no command shows, or that needs a special registry.

use std::fs;
use std::io::{BufRead as _, BufReader, Cursor, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use dram_error::ErrorReport as _;
use dram_image::{Descriptor, Digest, DigestHasher, MediaType, Reference};
use dram_remote::registry::{CredentialStore, Registry, RegistryError, RegistryHosts, RegistrySettings};
use dram_remote::{ProxySettings, TrustStore};
use serde_json::{Value, json};

use super::debian::Debian;
use super::fake::{FakeAuth, FakeRegistry, Fault, FaultPoint, IDENTITY_TOKEN, Misbehaviour};
use super::http::Delivery;
use crate::support::temp;

fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Warnings of the client.
type Warnings = Arc<Mutex<Vec<String>>>;

/// Returns settings with short timeouts and this `registries.conf`.
fn settings(dir: &Path, conf: &str) -> (RegistrySettings, Warnings) {
    let file = dir.join("registries.conf");
    fs::write(&file, conf).unwrap();
    let remarks = Warnings::default();
    let told = remarks.clone();
    let settings = RegistrySettings {
        proxies: ProxySettings::default(),
        trust: TrustStore::default(),
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_millis(400),
        retry_delay: Duration::from_millis(20),
        is_cancelled: Arc::new(|| false),
        clock: since_start,
        report: Arc::new(move |text| told.lock().unwrap().push(text.to_owned())),
        hosts: Arc::new(RegistryHosts::read(&[file], vec![dir.join("certs.d")]).unwrap()),
        credentials: CredentialStore::default(),
    };
    (settings, remarks)
}

fn name(host: &str, image: &str) -> Reference {
    format!("{host}/{image}").parse().unwrap()
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::LAYER, Digest::of(bytes), bytes.len() as u64)
}

/// Reads a whole blob, or returns the error as text.
fn read_blob(registry: &Registry, blob: &Descriptor) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = registry.open_blob(blob).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn upload(registry: &Registry, bytes: &[u8]) -> Result<(), RegistryError> {
    registry.upload_blob(&blob(bytes), &|| Ok(Box::new(Cursor::new(bytes.to_vec()))))
}

/// Returns a manifest without layers, with additional fields.
fn manifest(more: &Value) -> (Descriptor, Vec<u8>) {
    let mut document = json!({
        "schemaVersion": 2, "mediaType": MediaType::MANIFEST, "layers": [],
        "config": Descriptor::new(MediaType::CONFIG, Digest::of(b"{}"), 2),
    });
    more.as_object().unwrap().iter().for_each(|(name, value)| document[name] = value.clone());
    let bytes = document.to_string().into_bytes();
    (Descriptor::new(MediaType::MANIFEST, Digest::of(&bytes), bytes.len() as u64), bytes)
}

fn tags(registry: &Registry, most: usize) -> Result<Vec<String>, RegistryError> {
    let mut all = Vec::new();
    registry.tags(&mut |tag| {
        all.push(tag.to_owned());
        all.len() < most
    })?;
    Ok(all)
}

#[test]
fn tags_are_paginated_and_stay_on_one_host() {
    let dir = temp();
    let (settings, _) = settings(dir.path(), "");
    let fake = FakeRegistry::new([]);
    let registry = Registry::for_pull(&settings, &name(fake.host(), "x")).unwrap();
    for tag in 0..2500 {
        fake.add_manifest("x", &format!("t{tag:05}"), MediaType::MANIFEST, b"{}");
    }
    let all = tags(&registry, usize::MAX).unwrap();
    assert_eq!((all.len(), all[0].as_str(), all[2499].as_str()), (2500, "t00000", "t02499"));
    assert_eq!(fake.take_requests().iter().filter(|seen| seen.path.contains("/tags/")).count(), 3);
    assert_eq!(tags(&registry, 3).unwrap(), all[..3]);
    // A list that continues on another host, and one that never ends.
    let elsewhere = Misbehaviour::Header("Link", Some("<http://{other}/v2/x/tags/list>; rel=\"next\""));
    fake.set_faults([Fault::always(FaultPoint::Tags, elsewhere)]);
    let error = tags(&registry, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("another host") && error.contains(fake.other_host()), "{error}");
    assert!(fake.take_requests().iter().all(|seen| !seen.other));
    fake.set_faults([Fault::always(
        FaultPoint::Tags,
        Misbehaviour::Header("Link", Some("</v2/x/tags/list?n=1000>; rel=\"next\"")),
    )]);
    let error = tags(&registry, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("goes on where it began"), "{error}");
    let million: Vec<String> = (0..1_000_000).map(|tag| format!("t{tag}")).collect();
    let million = json!({ "name": "x", "tags": million }).to_string().into_bytes();
    fake.set_faults([Fault::always(FaultPoint::Tags, Misbehaviour::Body("application/json", million))]);
    let mut count = 0;
    // Reading the list takes long in an unoptimized test binary.
    let settings = RegistrySettings { stall_timeout: Duration::from_secs(10), ..settings };
    Registry::for_pull(&settings, &name(fake.host(), "x"))
        .unwrap()
        .tags(&mut |_| {
            count += 1;
            true
        })
        .unwrap();
    assert_eq!(count, 1_000_000);
}

#[test]
fn a_slow_blob_and_a_retry_after_of_a_day_are_not_waited_for() {
    let dir = temp();
    let (settings, _) = settings(dir.path(), "");
    let bytes = vec![7; 100_000];
    let fake = FakeRegistry::new([Fault::always(FaultPoint::Blob, Misbehaviour::Delivered(Delivery::Slow(100)))]);
    fake.add_blob("x", &bytes);
    let registry = Registry::for_pull(&settings, &name(fake.host(), "x")).unwrap();
    let began = Instant::now();
    let error = read_blob(&registry, &blob(&bytes)).unwrap_err();
    assert!(error.contains("next to nothing") && error.contains(fake.host()), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    fake.set_faults([Fault::always(FaultPoint::Any, Misbehaviour::RetryAfter("86400".to_owned()))]);
    let error = read_blob(&registry, &blob(&bytes)).unwrap_err();
    for word in ["429", "TOOMANYREQUESTS: slow down", "86400 s", "120 s"] {
        assert!(error.contains(word), "{error}");
    }
    // Two errors, then success.
    fake.set_faults([Fault::first(2, FaultPoint::Blob, Misbehaviour::Status(503, "busy"))]);
    assert_eq!(read_blob(&registry, &blob(&bytes)), Ok(bytes));
}

#[test]
fn an_upload_refused_with_413_is_split_into_chunks() {
    let dir = temp();
    let (settings, _) = settings(dir.path(), "");
    let fake = FakeRegistry::new([Fault::first(1, FaultPoint::UploadBytes, Misbehaviour::Status(413, "too much"))]);
    let registry = Registry::for_push(&settings, &name(fake.host(), "x")).unwrap();
    let bytes: Vec<u8> = (0..33_u32 << 20).map(|n| (n >> 12) as u8).collect();
    upload(&registry, &bytes).unwrap();
    assert!(fake.has_blob("x", &Digest::of(&bytes).to_string()));
    let seen = fake.take_requests();
    assert_eq!(seen.iter().filter(|seen| seen.method == "PATCH").count(), 2);
    // A registry that refuses even small chunks is not retried forever.
    fake.set_faults([Fault::always(FaultPoint::UploadBytes, Misbehaviour::Status(413, "too much"))]);
    let error = upload(&registry, b"little").unwrap_err().to_string();
    assert!(error.contains("413") && error.contains("too much"), "{error}");
    // A digest mismatch may be a transmission error, so the upload is retried once.
    fake.set_faults([Fault::first(1, FaultPoint::FinishUpload, Misbehaviour::Flipped)]);
    upload(&registry, b"little").unwrap();
}

#[test]
fn referrers_use_the_api_or_the_fallback_tag() {
    let dir = temp();
    let (settings, _) = settings(dir.path(), "");
    let fake = FakeRegistry::new([]);
    fake.add_blob("x", b"{}");
    let registry = Registry::for_push(&settings, &name(fake.host(), "x")).unwrap();
    let (image, bytes) = manifest(&json!({}));
    registry.put_manifest(Some("1"), &image, &bytes).unwrap();
    let (note, bytes) = manifest(&json!({ "subject": image, "artifactType": "application/note" }));
    registry.put_manifest(None, &note, &bytes).unwrap();
    let digests = |registry: &Registry| {
        let found = registry.referrers(&image.digest).unwrap();
        found.iter().map(|one| one.digest).collect::<Vec<_>>()
    };
    assert_eq!(digests(&registry), [note.digest]);
    assert_eq!(fake.tag("x", &format!("sha256-{}", image.digest.hex())), None);
    // A registry without the referrers API.
    fake.set_faults([
        Fault::always(FaultPoint::Referrers, Misbehaviour::Status(404, "what?")),
        Fault::always(FaultPoint::ManifestPut, Misbehaviour::Header("OCI-Subject", None)),
    ]);
    assert_eq!(digests(&registry), []);
    for by in ["b", "c", "b"] {
        let (note, bytes) = manifest(&json!({ "subject": image, "annotations": { "by": by } }));
        registry.put_manifest(None, &note, &bytes).unwrap();
    }
    assert_eq!(digests(&registry).len(), 2);
    let list = fake.tag("x", &format!("sha256-{}", image.digest.hex())).unwrap();
    let list: Value = serde_json::from_slice(&fake.manifest("x", &list).unwrap()).unwrap();
    assert_eq!(list["manifests"][1]["annotations"]["by"], "c");
    assert_eq!(list["manifests"][0]["artifactType"], MediaType::CONFIG);
}

#[test]
fn a_failing_mirror_is_reported_and_skipped() {
    let dir = temp();
    let (bad, good, own) = (FakeRegistry::new([]), FakeRegistry::new([]), FakeRegistry::new([]));
    bad.set_faults([Fault::always(FaultPoint::Any, Misbehaviour::Status(403, "not for you"))]);
    let conf = format!(
        "[[registry]]\nprefix = \"registry.example/team\"\nlocation = \"{}/own\"\n\
         [[registry.mirror]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}/far\"\n",
        own.host(),
        bad.host(),
        good.host()
    );
    let (settings, remarks) = settings(dir.path(), &conf);
    let (image, bytes) = manifest(&json!({}));
    good.add_manifest("far/app", "1", MediaType::MANIFEST, &bytes);
    good.add_blob("far/app", b"layer");
    let app = name("registry.example", "team/app:1");
    let registry = Registry::for_pull(&settings, &app).unwrap();
    assert_eq!(registry.resolve(&app).unwrap().descriptor.digest, image.digest);
    let remark = remarks.lock().unwrap().join("\n");
    assert!(remark.contains("mirror") && remark.contains(bad.host()) && remark.contains("not for you"), "{remark}");
    assert_eq!(read_blob(&registry, &blob(b"layer")), Ok(b"layer".to_vec()));
    assert!(own.take_requests().is_empty());
    // Mirrors are not pushed to. If no mirror has an image, the error is that of the registry.
    upload(&Registry::for_push(&settings, &app).unwrap(), b"more").unwrap();
    assert!(own.has_blob("own/app", &Digest::of(b"more").to_string()));
    assert!(good.take_requests().iter().all(|seen| seen.method != "POST"));
    let error = registry.resolve(&name("registry.example", "team/app:2")).unwrap_err();
    assert!(
        error.refusal().and_then(|refusal| refusal.status) == Some(404) && error.to_string().contains(own.host()),
        "{error}"
    );
}

#[test]
fn threads_share_tokens_and_renew_expired_ones() {
    let dir = temp();
    let (settings, _) = settings(dir.path(), "");
    let fake = FakeRegistry::with(FakeAuth::Token { realm: "http://{here}/token", login: false, uses: 2 }, []);
    let blobs: Vec<Vec<u8>> = (0..24_u8).map(|n| vec![n; 5000]).collect();
    blobs.iter().for_each(|bytes| drop(fake.add_blob("x", bytes)));
    let registry = Registry::for_pull(&settings, &name(fake.host(), "x")).unwrap();
    thread::scope(|scope| {
        let (registry, blobs) = (&registry, &blobs);
        for part in 0..4 {
            scope.spawn(move || {
                for bytes in blobs.iter().skip(part).step_by(4) {
                    assert_eq!(read_blob(registry, &blob(bytes)).as_ref(), Ok(bytes));
                }
            });
        }
    });
}

#[test]
fn certificates_are_read_from_certs_d() {
    let dir = temp();
    let registry = Debian::tls_for_known();
    let host = registry.host();
    let there = name(&host, "x");
    let send_with = |settings: &RegistrySettings| upload(&Registry::for_push(settings, &there).unwrap(), b"layer");
    let error = send_with(&settings(dir.path(), "").0).unwrap_err();
    let help = error.helps().remove(0);
    assert!(matches!(error, RegistryError::Trust { .. }), "{error}");
    assert!(help.contains(&format!("certs.d/{host}/ca.crt")) && help.contains("/etc/ssl"), "{help}");
    // `insecure` accepts an untrusted certificate; the client certificate is still required.
    let insecure = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    let unknown = |settings: &RegistrySettings| {
        let error = send_with(settings).unwrap_err();
        assert!(error.to_string().contains("wants a certificate"), "{error}");
        assert!(error.helps()[0].contains("client.cert"));
    };
    unknown(&settings(dir.path(), &insecure).0);
    let own = dir.path().join("certs.d").join(&host);
    fs::create_dir_all(&own).unwrap();
    fs::copy(registry.authority(), own.join("ca.crt")).unwrap();
    unknown(&settings(dir.path(), "").0);
    for end in ["cert", "key"] {
        fs::copy(registry.authority().with_file_name(format!("client.{end}")), own.join(format!("client.{end}")))
            .unwrap();
    }
    send_with(&settings(dir.path(), "").0).unwrap();
    fs::remove_file(own.join("client.key")).unwrap();
    let error = send_with(&settings(dir.path(), "").0).unwrap_err();
    assert!(error.to_string().contains("client.key"), "{error}");
}

#[test]
fn a_host_without_tls_is_reported_as_such() {
    let dir = temp();
    let debian = Debian::plain();
    // A name that is not loopback: TLS is required there.
    let (address, asked) = proxy(&debian.host(), true);
    let proxies = ProxySettings { https: Some(address), ..ProxySettings::default() };
    let settings = RegistrySettings { proxies, ..settings(dir.path(), "").0 };
    let there = name("registry.example", "x:1");
    let error = Registry::for_pull(&settings, &there).unwrap().resolve(&there).unwrap_err();
    assert!(error.to_string().contains("`registry.example` does not speak TLS"), "{error}");
    assert!(error.helps()[0].contains("insecure = true"));
    assert!(asked.lock().unwrap().iter().all(|line| line.starts_with("CONNECT registry.example:443 ")));
}

#[test]
fn a_large_blob_survives_repeated_interruptions() {
    let dir = temp();
    let (settings, _) = settings(dir.path(), "");
    let fake = FakeRegistry::new([Fault::first(6, FaultPoint::Blob, Misbehaviour::Delivered(Delivery::Half))]);
    let bytes: Vec<u8> = (0..48_u32 << 20).map(|n| (n >> 9) as u8).collect();
    fake.add_blob("x", &bytes);
    let registry = Registry::for_pull(&settings, &name(fake.host(), "x")).unwrap();
    let mut hasher = DigestHasher::new();
    std::io::copy(&mut registry.open_blob(&blob(&bytes)).unwrap(), &mut hasher).unwrap();
    assert_eq!((hasher.length(), hasher.finish()), (bytes.len() as u64, Digest::of(&bytes)));
    let ranges = fake.take_requests().iter().filter(|seen| seen.range.is_some()).count();
    assert!((4..=6).contains(&ranges), "{ranges}");
}

#[test]
fn an_interrupted_mirror_falls_back_to_the_registry() {
    let dir = temp();
    let (mirror, own) = (
        FakeRegistry::new([Fault::always(FaultPoint::Blob, Misbehaviour::Delivered(Delivery::Half))]),
        FakeRegistry::new([]),
    );
    let (from, to) = (own.host(), mirror.host());
    let conf = format!("[[registry]]\nlocation = \"{from}\"\n[[registry.mirror]]\nlocation = \"{to}\"\n");
    let (settings, remarks) = settings(dir.path(), &conf);
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|n| (n >> 7) as u8).collect();
    mirror.add_blob("x", &bytes);
    own.add_blob("x", &bytes);
    let registry = Registry::for_pull(&settings, &name(own.host(), "x")).unwrap();
    assert!(read_blob(&registry, &blob(&bytes)).as_ref() == Ok(&bytes));
    let seen = own.take_requests();
    assert!(seen.len() == 1 && seen[0].range.is_some(), "{seen:?}");
    assert!(remarks.lock().unwrap()[0].contains("broke off"));
}

#[test]
fn a_pull_through_mirror_serves_what_it_lacks() {
    let dir = temp();
    let own = Debian::plain();
    let mirror = Debian::mirror_of(&format!("http://{}", own.host()));
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"all\"\n",
        own.host(),
        mirror.host()
    );
    let settings = RegistrySettings { stall_timeout: Duration::from_secs(10), ..settings(dir.path(), &conf).0 };
    let app = name(&own.host(), "team/app:1");
    let to = Registry::for_push(&settings, &app).unwrap();
    upload(&to, b"{}").unwrap();
    let (image, bytes) = manifest(&json!({}));
    to.put_manifest(Some("1"), &image, &bytes).unwrap();
    let from = Registry::for_pull(&settings, &app).unwrap();
    assert_eq!(from.resolve(&app).unwrap().descriptor, image);
    assert_eq!(read_blob(&from, &blob(b"{}")), Ok(b"{}".to_vec()));
    assert!(mirror.requests().iter().any(|line| line.contains("/blobs/sha256:")), "{:?}", mirror.requests());
}

/// Starts a proxy that forwards every host to `to`, with or without tunnels. Returns its address and the request lines.
fn proxy(to: &str, tunnels: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, to) = (listener.local_addr().unwrap().to_string(), to.to_owned());
    let lines = Arc::new(Mutex::new(Vec::new()));
    let asked = lines.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (to, asked) = (to.clone(), asked.clone());
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                asked.lock().unwrap().push(line.trim().to_owned());
                let mut stream = stream;
                let is_tunnel = line.starts_with("CONNECT ");
                if is_tunnel && !tunnels {
                    return stream.write_all(b"HTTP/1.1 403 No Tunnels\r\nContent-Length: 0\r\n\r\n").unwrap();
                }
                let mut server = TcpStream::connect(to).unwrap();
                if is_tunnel {
                    while line != "\r\n" {
                        line.clear();
                        reader.read_line(&mut line).unwrap();
                    }
                    stream.write_all(b"HTTP/1.1 200 Here\r\n\r\n").unwrap();
                } else {
                    server.write_all(line.replacen("http://registry.example", "", 1).as_bytes()).unwrap();
                }
                let mut back = server.try_clone().unwrap();
                thread::spawn(move || std::io::copy(&mut back, &mut stream));
                let _ = std::io::copy(&mut reader, &mut server);
            });
        }
    });
    (address, lines)
}

#[test]
fn a_registry_is_reached_through_a_proxy() {
    let dir = temp();
    let fake = FakeRegistry::new([]);
    let (address, asked) = proxy(fake.host(), false);
    let conf = "[[registry]]\nlocation = \"registry.example\"\ninsecure = true\n";
    let proxies = ProxySettings { http: Some(address.clone()), https: Some(address), ..ProxySettings::default() };
    let settings = RegistrySettings { proxies, ..settings(dir.path(), conf).0 };
    let registry = Registry::for_push(&settings, &name("registry.example", "x")).unwrap();
    for bytes in [&b"one"[..], b"two"] {
        upload(&registry, bytes).unwrap();
        assert_eq!(read_blob(&registry, &blob(bytes)), Ok(bytes.to_vec()));
    }
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("CONNECT registry.example:443 "), "{asked:?}");
    assert!(asked[1..].iter().all(|line| line.contains(" http://registry.example/v2/x/")), "{asked:?}");
}

#[test]
fn an_identity_token_authenticates_without_a_password() {
    let dir = temp();
    let fake = FakeRegistry::with(FakeAuth::Token { realm: "http://{here}/token", login: true, uses: usize::MAX }, []);
    fake.add_blob("x", b"layer");
    let file = dir.path().join("config.json");
    let there = name(fake.host(), "x");
    let with = |token: &str| {
        let auths = json!({ "auths": { fake.host(): { "identitytoken": token } } });
        fs::write(&file, auths.to_string()).unwrap();
        let credentials = CredentialStore { files: vec![file.clone()], ..CredentialStore::default() };
        let settings = RegistrySettings { credentials, ..settings(dir.path(), "").0 };
        read_blob(&Registry::for_pull(&settings, &there).unwrap(), &blob(b"layer"))
    };
    assert_eq!(with(IDENTITY_TOKEN), Ok(b"layer".to_vec()));
    assert!(fake.take_requests().iter().any(|seen| seen.method == "POST" && seen.path == "/token"));
    let error = with("hidden-other").unwrap_err();
    assert!(error.contains("401") && !error.contains("hidden"), "{error}");
}
