//! Pushes images to engines: Docker, podman's service with Docker's API, a fake engine that has some layers already,
//! and containers-storage through the podman command.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Context, RunningCommand, Store, TestCommand, User, base_tar, temp, tool, wait_until};

fn with_demo() -> Store {
    let store = Store::with_base();
    store.build(&Context::new("FROM parity-base\nRUN echo one > /one\nCMD [\"cat\", \"/one\"]\n")).ok();
    store
}

/// Podman with a storage of its own.
struct Podman {
    dir: TempDir,
}

impl Podman {
    fn new() -> Podman {
        let dir = temp();
        let at = dir.path().display();
        let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n");
        fs::write(dir.path().join("storage.conf"), conf).unwrap();
        Podman { dir }
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("storage.conf")
    }

    fn run(&self, words: &[&str]) -> TestCommand {
        tool("podman").args(words).env("CONTAINERS_STORAGE_CONF", self.conf())
    }

    /// Returns the id of an image, which is the digest of its config.
    fn config_digest(&self, name: &str) -> String {
        let inspected = self.run(&["image", "inspect", name]).ok().stdout;
        format!("sha256:{}", serde_json::from_str::<Value>(&inspected).unwrap()[0]["Id"].as_str().unwrap())
    }
}

fn config_digest(store: &Store) -> String {
    store.inspect("demo")["manifest"]["config"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn images_are_pushed_to_the_podman_service() {
    let (store, podman) = (with_demo(), Podman::new());
    let socket = podman.dir.path().join("engine.sock");
    let url = format!("unix://{}", socket.display());
    let _service = podman.run(&["system", "service", "--time=0", &url]).start();
    wait_until("the service listens", Duration::from_secs(30), || UnixStream::connect(&socket).is_ok());
    store.dram(["push", "demo", "docker-daemon:given:1"]).env("DOCKER_HOST", &url).ok();
    assert_eq!(podman.config_digest("given:1"), config_digest(&store));
    let place = temp();
    store.dram(["save", "-o"]).arg(place.path().join("demo.tar")).arg("demo").ok();
    let other = Store::empty();
    let from = format!("docker-archive:{}", place.path().join("demo.tar").display());
    other.dram(["copy", &from, "docker-daemon:again:2"]).env("DOCKER_HOST", &url).ok();
    assert_eq!(podman.config_digest("again:2"), config_digest(&store));
}

#[test]
fn images_are_pushed_to_containers_storage_with_their_digest() {
    let (store, podman) = (with_demo(), Podman::new());
    let push = store.dram(["push", "demo", "containers-storage:localhost/given:1"]);
    push.without("DOCKER_CONFIG").env("CONTAINERS_STORAGE_CONF", podman.conf()).ok();
    assert_eq!(podman.config_digest("localhost/given:1"), config_digest(&store));
    let names = podman.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().stdout;
    assert_eq!(names.trim(), "localhost/given:1", "no other name is left");
    let digest = podman.run(&["image", "inspect", "--format", "{{.Digest}}", "localhost/given:1"]).ok().stdout;
    assert_eq!(digest.trim(), store.digest("demo"));
    assert_eq!(crate::support::names(&store.join("work")), ["gate"]);
    let nowhere = store.dram(["push", "demo", "containers-storage:x"]).env("PATH", "/nonexistent").fails(1);
    nowhere.says("`podman` is not installed").says("apt-get install podman");
}

/// Serves a fake Docker engine that has an image with these layers, and sends each archive that it receives to the
/// channel.
fn fake_engine(socket: &Path, layers: Vec<String>, answer: &'static str) -> mpsc::Receiver<Vec<u8>> {
    let listener = UnixListener::bind(socket).unwrap();
    let (given, taken) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer_as_engine(stream.unwrap(), &layers, answer, &given);
        }
    });
    taken
}

/// Answers one request as the fake engine does.
fn answer_as_engine(stream: impl Read + Write, layers: &[String], answer: &str, given: &mpsc::Sender<Vec<u8>>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut chunked) = (String::new(), false);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        chunked |= line.to_ascii_lowercase().starts_with("transfer-encoding: chunked");
        if line.trim().is_empty() {
            break;
        }
    }
    let body = match first.split(' ').nth(1).unwrap() {
        "/info" => r#"{"DriverStatus":[["Backing Filesystem","extfs"]],"DockerRootDir":"/var/lib/docker"}"#.to_owned(),
        "/images/json" => r#"[{"Id":"sha256:abc"}]"#.to_owned(),
        "/images/sha256:abc/json" => format!(r#"{{"RootFS":{{"Layers":{}}}}}"#, serde_json::json!(layers)),
        _ => {
            assert!(chunked && first.starts_with("POST /images/load"), "{first}");
            given.send(read_chunks(&mut reader)).unwrap();
            answer.to_owned()
        }
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    reader.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
    reader.get_mut().flush().unwrap();
}

fn read_chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut bytes = vec![0; size + 2];
        reader.read_exact(&mut bytes).unwrap();
        if size == 0 {
            return all;
        }
        all.extend_from_slice(&bytes[..size]);
    }
}

/// Serves a fake Docker engine on a port of the loopback interface, with TLS and certificates for `localhost` that are
/// made in `dir`: `ca.pem`, with which clients verify it and it verifies clients, and `cert.pem` and `key.pem` of a client.
fn fake_tls_engine(dir: &Path) -> (u16, mpsc::Receiver<Vec<u8>>) {
    for script in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=engine -keyout engine.key -out engine.csr",
        "x509 -req -in engine.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names -out engine.pem",
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=client -keyout key.pem -out client.csr",
        "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names -out cert.pem",
    ] {
        fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        tool("openssl").dir(dir).args(script.split_whitespace()).ok();
    }
    let certificates = |name: &str| CertificateDer::pem_file_iter(dir.join(name)).unwrap().map(Result::unwrap);
    let mut roots = RootCertStore::empty();
    roots.add(certificates("ca.pem").next().unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("engine.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(clients).with_single_cert(certificates("engine.pem").collect(), key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (given, taken) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client without its certificate is refused here.
            if connection.complete_io(&mut stream).is_err() {
                continue;
            }
            let mut stream = StreamOwned::new(connection, stream);
            answer_as_engine(&mut stream, &[], r#"{"stream":"Loaded image: demo:latest"}"#, &given);
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    });
    (port, taken)
}

/// Writes a context of the `docker` command into its configuration directory.
fn write_docker_context(config: &Path, name: &str, host: &str) -> PathBuf {
    let hex = tool("sha256sum").stdin(name.as_bytes().to_vec()).ok().stdout[..64].to_owned();
    let meta = config.join("contexts/meta").join(&hex);
    fs::create_dir_all(&meta).unwrap();
    let endpoint = serde_json::json!({ "Host": host, "SkipTLSVerify": false });
    let text = serde_json::json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": endpoint } });
    fs::write(meta.join("meta.json"), text.to_string()).unwrap();
    config.join("contexts/tls").join(&hex).join("docker")
}

#[test]
fn selected_docker_context_says_which_engine_is_pushed_to() {
    let (store, place) = (with_demo(), temp());
    let config = place.path().join("docker");
    let socket = place.path().join("box.sock");
    let taken = fake_engine(&socket, vec![], r#"{"stream":"x"}"#);
    write_docker_context(&config, "box", &format!("unix://{}", socket.display()));
    write_docker_context(&config, "far", "ssh://me@far.example");
    let push = || store.dram(["push", "demo", "docker-daemon:demo"]).env("DOCKER_CONFIG", &config);
    push().env("DOCKER_CONTEXT", "box").ok().says("the Docker context `box`");
    assert!(!taken.recv().unwrap().is_empty());
    fs::write(config.join("config.json"), r#"{"currentContext":"box"}"#).unwrap();
    push().ok().says("the Docker context `box`");
    assert!(!taken.recv().unwrap().is_empty());
    let far = push().env("DOCKER_CONTEXT", "far").fails(1);
    far.says("does not speak SSH").says("ssh -nNT -L").says("me@far.example");
    push().env("DOCKER_CONTEXT", "gone").fails(1).says("there is no Docker context `gone`").says("docker context ls");
    let other = push().env("DOCKER_CONTEXT", "box").env("DOCKER_HOST", "unix:///nowhere.sock").fails(1);
    other.says("cannot reach the engine at /nowhere.sock");
}

#[test]
fn engines_are_verified_with_the_certificates_of_the_context_or_the_environment() {
    let (store, place) = (with_demo(), temp());
    let certificates = place.path().join("certificates");
    fs::create_dir(&certificates).unwrap();
    let (port, taken) = fake_tls_engine(&certificates);
    let config = place.path().join("docker");
    let host = format!("tcp://localhost:{port}");
    let of_context = write_docker_context(&config, "far", &host);
    let push = || store.dram(["push", "demo", "docker-daemon:demo"]).env("DOCKER_CONFIG", &config);
    fs::create_dir_all(&of_context).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(certificates.join(name), of_context.join(name)).unwrap();
    }
    push().env("DOCKER_CONTEXT", "far").ok().says(&format!("tcp://localhost:{port}"));
    assert!(!blobs_in_archive(taken.recv().unwrap()).is_empty());
    let by_environment = || push().env("DOCKER_HOST", &host).env("DOCKER_TLS_VERIFY", "1");
    by_environment().env("DOCKER_CERT_PATH", &certificates).ok();
    assert!(!blobs_in_archive(taken.recv().unwrap()).is_empty());
    by_environment().fails(1).says("cannot reach the engine").says("ca.pem");

    // An engine that another authority certified, and a client without a certificate.
    fs::remove_file(of_context.join("cert.pem")).unwrap();
    push().env("DOCKER_CONTEXT", "far").fails(1).says(&format!("localhost:{port}"));
    let words =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout x -out ca.pem";
    tool("openssl").dir(&of_context).args(words.split_whitespace()).ok();
    push().env("DOCKER_CONTEXT", "far").fails(1).says("certificate");
}

/// Returns the names of the blobs in an archive.
fn blobs_in_archive(archive: Vec<u8>) -> Vec<String> {
    let listed = tool("tar").args(["-tf", "-"]).stdin(archive).ok().stdout;
    listed
        .lines()
        .filter_map(|line| line.strip_prefix("blobs/sha256/"))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn only_missing_layers_are_sent_to_an_engine() {
    let (store, place) = (with_demo(), temp());
    let config = store.inspect("demo")["config"].clone();
    let diff_ids: Vec<String> =
        config["rootfs"]["diff_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    let manifest = store.inspect("demo")["manifest"].clone();
    let layers: Vec<String> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap()[7..].to_owned())
        .collect();
    for (number, has, sent) in
        [(0, vec![diff_ids[0].clone(), "sha256:other".to_owned()], 1), (1, vec![diff_ids[1].clone()], 2)]
    {
        let socket = place.path().join(format!("{number}.sock"));
        let taken = fake_engine(&socket, has, r#"{"stream":"Loaded image: demo:latest"}"#);
        let push = store.dram(["push", "demo", "docker-daemon:demo"]);
        push.env("DOCKER_HOST", format!("unix://{}", socket.display())).ok();
        let blobs = blobs_in_archive(taken.recv().unwrap());
        let found = layers.iter().filter(|layer| blobs.contains(layer)).count();
        assert_eq!(found, sent, "{blobs:?}");
        assert!(blobs.contains(&layers[1]), "the last one is new to it");
    }
    let socket = place.path().join("no.sock");
    let _taken = fake_engine(&socket, vec![], "{\"stream\":\"x\"}\n{\"error\":\"no space left\"}");
    let push = store.dram(["push", "demo", "docker-daemon:demo"]);
    push.env("DOCKER_HOST", format!("unix://{}", socket.display())).fails(4).says("no space left");
    let push = store.dram(["push", "demo", "docker-daemon:demo"]).env("DOCKER_HOST", "unix:///nowhere.sock");
    push.fails(1).says("cannot reach the engine at /nowhere.sock").says("DOCKER_HOST");
    let push = store.dram(["push", "demo", "docker-daemon:demo"]).env("DOCKER_HOST", "ssh://host");
    push.fails(1).says("does not speak SSH").says("DOCKER_HOST=unix://");
}

/// A Docker engine with directories of its own, in network, mount and process namespaces that end with it.
struct DockerEngine {
    dir: TempDir,
    daemon: Option<RunningCommand>,
}

impl DockerEngine {
    fn new() -> DockerEngine {
        let dir = temp();
        let at = |name: &str| dir.path().join(name).display().to_string();
        // With the containerd image store of newer versions, image ids are other digests.
        fs::write(at("daemon.json"), r#"{"features":{"containerd-snapshotter":false}}"#).unwrap();
        let alone = ["--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c"];
        // dockerd writes into these directories of the host, so it gets empty ones.
        let script = r#"mkdir -p /etc/docker && for dir in /etc/docker /run /opt; do mount -t tmpfs none $dir || exit; done
            exec dockerd "$@""#;
        let daemon = tool("unshare").args(alone).args([script, "dockerd", "--config-file"]).arg(at("daemon.json"));
        let daemon = daemon.args(["--host", &format!("unix://{}", at("engine.sock"))]);
        let daemon = daemon.args(["--data-root", &at("root"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        let daemon = daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        let docker = DockerEngine { daemon: Some(daemon.start()), dir };
        wait_until("the engine listens", Duration::from_secs(60), || UnixStream::connect(docker.socket()).is_ok());
        docker
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// Sends a request to the engine with `curl` and returns the body.
    fn request(&self, words: &[&str], path: &str) -> String {
        let curl = tool("curl").args(["-sS", "--fail-with-body", "--unix-socket"]).arg(self.socket()).args(words);
        curl.arg(format!("http://engine{path}")).ok().stdout
    }

    fn config_digest(&self, name: &str) -> String {
        let inspected: Value = serde_json::from_str(&self.request(&[], &format!("/images/{name}/json"))).unwrap();
        inspected["Id"].as_str().unwrap().to_owned()
    }

    /// Creates a container of the image and returns the contents of these files.
    fn container_files(&self, image: &str, paths: [&str; 3]) -> [Vec<u8>; 3] {
        let place = temp();
        let (json, tar) = (format!(r#"{{"Image":"{image}"}}"#), place.path().join("all.tar"));
        let made = self.request(&["-H", "Content-Type: application/json", "-d", &json], "/containers/create");
        let made: Value = serde_json::from_str(&made).unwrap();
        let path = format!("/containers/{}", made["Id"].as_str().unwrap());
        self.request(&["-o", tar.to_str().unwrap()], &format!("{path}/export"));
        self.request(&["-X", "DELETE"], &path);
        tool("tar").arg("-xf").arg(&tar).arg("-C").arg(place.path()).args(paths).ok();
        paths.map(|path| fs::read(place.path().join(path)).unwrap())
    }

    /// Kills dockerd, which is PID 1 of its namespace, so all its processes end with it.
    fn stop(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        let first = tool("pgrep").arg("-P").arg(daemon.pid().to_string()).end().stdout;
        tool("kill").args(["-KILL", first.trim()]).end();
        daemon.end();
    }
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Proxies `socket` to `docker`, calls `before` when an archive arrives, and counts the bytes sent to the engine.
fn counting_proxy(docker: &DockerEngine, socket: &Path, before: impl Fn() + Send + 'static) -> Arc<AtomicU64> {
    let (listener, target) = (UnixListener::bind(socket).unwrap(), docker.socket());
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    thread::spawn(move || {
        for from in listener.incoming() {
            let (mut from, mut first) = (from.unwrap(), [0; 64]);
            let length = from.read(&mut first).unwrap();
            if first.starts_with(b"POST /images/load") {
                before();
            }
            let mut to = UnixStream::connect(&target).unwrap();
            to.write_all(&first[..length]).unwrap();
            let (mut answers, mut back) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut answers, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
            count.fetch_add(std::io::copy(&mut from, &mut to).unwrap_or(0), Ordering::SeqCst);
        }
    });
    sent
}

/// Returns the bytes of the base image's program.
fn base_program() -> Vec<u8> {
    let place = temp();
    tool("tar").arg("-xf").arg(base_tar()).arg("-C").arg(place.path()).arg("./bin/busybox").ok();
    fs::read(place.path().join("bin/busybox")).unwrap()
}

#[test]
fn docker_gets_only_missing_layers_and_a_complete_image() {
    let (store, mut docker, place) = (with_demo(), DockerEngine::new(), temp());
    let url = |socket: &Path| format!("unix://{}", socket.display());
    let push = |words: [&str; 3], socket: &Path| store.dram(words).env("DOCKER_HOST", url(socket));
    push(["push", "demo", "docker-daemon:given:1"], &docker.socket()).ok().says("copied").does_not_say("were not sent");
    assert_eq!(docker.config_digest("given:1"), config_digest(&store));

    // The next image is based on the first one, whose layers are not sent again.
    store.build(&Context::new("FROM demo\nRUN echo two > /two\nCMD [\"cat\", \"/two\"]\n")).ok();
    let whole = [base_program(), b"one\n".to_vec(), b"two\n".to_vec()];
    let paths = ["bin/busybox", "one", "two"];
    let sent = counting_proxy(&docker, &place.path().join("count.sock"), || ());
    let pushed = push(["push", "demo", "docker-daemon:given:2"], &place.path().join("count.sock")).ok();
    pushed.says("the engine has 2 of the layers");
    assert_eq!(docker.config_digest("given:2"), config_digest(&store));
    assert!(docker.container_files("given:2", paths) == whole);
    assert!(sent.load(Ordering::SeqCst) < 30_000, "{sent:?} bytes");

    // The layers are deleted from the engine before the archive arrives.
    let (socket, lost) = (docker.socket(), place.path().join("lost.sock"));
    let sent = counting_proxy(&docker, &lost, move || {
        for name in ["given:1", "given:2"] {
            let curl = tool("curl").args(["-sS", "-X", "DELETE", "--unix-socket"]).arg(&socket);
            curl.arg(format!("http://engine/images/{name}?force=1")).ok();
        }
    });
    let pushed = push(["push", "demo", "docker-daemon:given:3"], &lost).ok();
    pushed.says("sending all of them").does_not_say("were not sent");
    assert_eq!(docker.config_digest("given:3"), config_digest(&store));
    assert!(docker.container_files("given:3", paths) == whole);
    assert!(sent.load(Ordering::SeqCst) > 500_000, "{sent:?} bytes");

    // An image without layers, and zstd layers, which only newer engines can read.
    store.build(&Context::new("FROM scratch\nCMD [\"none\"]\n")).ok();
    push(["push", "demo", "docker-daemon:none"], &docker.socket()).ok();
    assert_eq!(docker.config_digest("none:latest"), config_digest(&store));
    let output = "type=image,compression=zstd,force-compression=true";
    store.build(&Context::new("FROM parity-base\nRUN echo z > /z\n")).args(["--output", output]).ok();
    let version: Value = serde_json::from_str(&docker.request(&[], "/version")).unwrap();
    let major = version["Version"].as_str().unwrap().split('.').next().unwrap().parse::<u32>().unwrap();
    if major >= 23 {
        push(["push", "demo", "docker-daemon:z"], &docker.socket()).ok();
        assert_eq!(docker.config_digest("z:latest"), config_digest(&store));
    } else {
        let refused = push(["push", "demo", "docker-daemon:z"], &docker.socket()).fails(4);
        refused.says("tar").says("reads layers of zstd since version 23").does_not_say("copied");
    }

    // A user without permission on the socket.
    let user = User { uid: 65534, gid: 65534, home: place.path().to_owned() };
    let of_user = Store::for_user(&user);
    of_user.dram(["import"]).arg(base_tar()).arg("demo").ok();
    let refused = of_user.dram(["push", "demo", "docker-daemon:x"]).env("DOCKER_HOST", url(&docker.socket())).fails(1);
    refused.says("cannot reach the engine").says("often `docker`");

    docker.stop();
    let left = TempDir::new().unwrap();
    std::mem::replace(&mut docker.dir, left).close().unwrap();
    push(["push", "demo", "docker-daemon:x"], &docker.socket()).fails(1).says("start the engine");
}

#[test]
fn errors_of_an_engine_are_reported() {
    let (store, place) = (with_demo(), temp());
    let push = |dest: &str, host: &str| store.dram(["push", "demo", dest]).env("DOCKER_HOST", host);
    let socket = place.path().join("deep.sock");
    let _taken = fake_engine(&socket, vec![], r#"{"errorDetail":{"message":"m"},"error":"max depth exceeded"}"#);
    let refused = push("docker-daemon:demo", &format!("unix://{}", socket.display())).fails(4);
    refused.says("max depth exceeded").says("up to 125 layers").says("dram squash").does_not_say("copied");

    // An engine that answers and closes the connection in the middle of the archive, behind a proxy that forbids all
    // other requests.
    let socket = place.path().join("full.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 4096];
            assert!(stream.read(&mut head).unwrap() > 16);
            let (status, why) = match head.starts_with(b"POST") {
                true => ("500 Internal Server Error", r#"{"message":"no space left on device"}"#),
                false => ("403 Forbidden", "<html>"),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{why}", why.len());
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    let refused = push("docker-daemon:demo", &format!("unix://{}", socket.display())).fails(4);
    refused.says("refuses: 500 no space left on device").does_not_say("copied");

    let named = format!("docker-daemon:demo@{}", store.digest("demo"));
    push(&named, "unix:///nowhere.sock")
        .fails(2)
        .says("an engine calls images by tags")
        .says("docker-daemon:demo:latest");
    push("docker-daemon:demo", "tcp://127.0.0.1:1/path").fails(1).says("is no address of an engine");
}
