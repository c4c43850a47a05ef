//! Tests the client against a real registry, Debian's `docker-registry`.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]
#![allow(clippy::disallowed_types, reason = "a test starts what it needs")]

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dram_error::ErrorReport as _;
use dram_image::{Descriptor, Digest, MediaType, Reference};
use dram_remote::registry::{CredentialStore, Registry, RegistryHosts, RegistrySecret, RegistrySettings, check_login};
use dram_remote::{ProxySettings, TrustStore};
use serde_json::json;

struct RegistryServer(Child, u16);

impl Drop for RegistryServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn registry(dir: &Path, more: &str) -> RegistryServer {
    let config = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: data}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{more}"
    );
    fs::write(dir.join("config.yml"), config).unwrap();
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new("docker-registry");
    command.args(["serve", "config.yml"]).current_dir(dir).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().unwrap();
    let mut running = RegistryServer(child, 0);
    for _ in 0..400 {
        let text = fs::read_to_string(dir.join("log")).unwrap();
        let port = text.split("listening on 127.0.0.1:").nth(1).and_then(|rest| rest.split_once('"'));
        if let Some(port) = port.and_then(|(port, _)| port.parse().ok()) {
            running.1 = port;
            return running;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the registry does not listen");
}

fn settings(dir: &Path) -> RegistrySettings {
    let auth = dir.join("auth.json");
    RegistrySettings {
        proxies: ProxySettings::default(),
        trust: TrustStore::default(),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(5),
        retry_delay: Duration::from_millis(100),
        is_cancelled: Arc::new(|| false),
        clock: || Duration::ZERO,
        report: Arc::new(|_| ()),
        hosts: Arc::new(RegistryHosts::default()),
        credentials: CredentialStore {
            files: vec![auth.clone()],
            write_path: Some(auth),
            search_path: "/usr/bin".into(),
        },
    }
}

fn push_and_pull(settings: &RegistrySettings, port: u16) {
    let name: Reference = format!("127.0.0.1:{port}/team/app:1").parse().unwrap();
    let to = Registry::for_push(settings, &name).unwrap();
    let blob: Vec<u8> =
        (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(n | 1).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layer = Descriptor::new(MediaType::LAYER_GZIP, Digest::of(&blob), blob.len() as u64);
    let config = Descriptor::new(MediaType::CONFIG, Digest::of(b"{}"), 2);
    assert!(!to.has_blob(&layer).unwrap());
    assert!(!to.mount_blob(&layer, "team/other").unwrap());
    to.upload_blob(&layer, &|| Ok(Box::new(io::Cursor::new(blob.clone())))).unwrap();
    to.upload_blob(&config, &|| Ok(Box::new(io::Cursor::new(b"{}".to_vec())))).unwrap();
    assert!(to.has_blob(&layer).unwrap());
    let manifest = json!({ "schemaVersion": 2, "mediaType": MediaType::MANIFEST, "config": config, "layers": [layer] });
    let bytes = manifest.to_string().into_bytes();
    let descriptor = Descriptor::new(MediaType::MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    assert!(!to.has_manifest(&descriptor).unwrap());
    to.put_manifest(Some("1"), &descriptor, &bytes).unwrap();

    let from = Registry::for_pull(settings, &name).unwrap();
    let found = from.resolve(&name).unwrap();
    assert_eq!((&found.descriptor, &found.bytes), (&descriptor, &bytes));
    assert_eq!(from.fetch_manifest(&descriptor).unwrap(), found);
    let mut read = Vec::new();
    from.open_blob(&layer).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == blob);
    assert_eq!(from.referrers(&descriptor.digest).unwrap(), Vec::new());
    let mut tags = Vec::new();
    from.tags(&mut |tag| {
        tags.push(tag.to_owned());
        true
    })
    .unwrap();
    assert_eq!(tags, ["1"]);
    // This registry has no referrers API, so a signature, for example, goes through the referrers tag.
    let about = json!({
        "schemaVersion": 2, "mediaType": MediaType::MANIFEST, "config": config, "layers": [], "subject": descriptor,
        "annotations": { "of": "tests" },
    });
    let about = about.to_string().into_bytes();
    let referrer = Descriptor::new(MediaType::MANIFEST, Digest::of(&about), about.len() as u64);
    for _ in 0..2 {
        to.put_manifest(None, &referrer, &about).unwrap();
        let found = from.referrers(&descriptor.digest).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].digest, found[0].annotations["of"].as_str()), (referrer.digest, "tests"));
    }
    let missing = from.resolve(&format!("127.0.0.1:{port}/team/app:2").parse().unwrap()).unwrap_err();
    assert!(
        missing.refusal().and_then(|refusal| refusal.status) == Some(404)
            && missing.to_string().contains("404: MANIFEST_UNKNOWN: manifest unknown"),
        "{missing}"
    );

    let other: Reference = format!("127.0.0.1:{port}/team/other:1").parse().unwrap();
    let other = Registry::for_push(settings, &other).unwrap();
    assert!(other.mount_blob(&layer, "team/app").unwrap());
    assert!(other.has_blob(&layer).unwrap());
    let lacks = other.put_manifest(Some("1"), &descriptor, &bytes).unwrap_err();
    assert!(lacks.refusal().is_some_and(|refusal| refusal.is_blob_missing()), "{lacks}");
}

#[test]
fn pushed_image_is_pulled_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let running = registry(dir.path(), "");
    push_and_pull(&settings(dir.path()), running.1);
}

#[test]
fn registry_with_htpasswd_requires_credentials() {
    let dir = tempfile::tempdir().unwrap();
    // `htpasswd -nbB -C 4 tester hidden`.
    let line = "tester:$2y$04$1ipB/aqJ4qyosGzU.SJlg.zlAm2ZtPiFg0n.Z1NYBqXooPsiyfJvi\n";
    fs::write(dir.path().join("htpasswd"), line).unwrap();
    let running = registry(dir.path(), "auth: {htpasswd: {realm: tests, path: htpasswd}}\n");
    let (settings, host) = (settings(dir.path()), format!("127.0.0.1:{}", running.1));
    let name: Reference = format!("{host}/team/app:1").parse().unwrap();
    let unknown = Registry::for_pull(&settings, &name).unwrap().resolve(&name).unwrap_err();
    assert!(unknown.to_string().contains("answers 401"), "{unknown}");
    assert_eq!(unknown.helps(), [format!("log in with `dram login {host}`")]);
    let secret = |password: &str| RegistrySecret::Password { user: "tester".to_owned(), password: password.to_owned() };
    let wrong = check_login(&settings, &host, secret("wrong")).unwrap_err();
    assert!(wrong.refusal().is_some() && !wrong.to_string().contains("wrong"), "{wrong}");
    check_login(&settings, &host, secret("hidden")).unwrap();
    settings.credentials.save(&host, "tester", "hidden").unwrap();
    push_and_pull(&settings, running.1);
    assert_eq!(settings.credentials.erase(&host).unwrap().len(), 1);
}
