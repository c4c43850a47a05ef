//! Images go to engines: podman's service, which speaks Docker's API, one that has some layers already, and podman's
//! own store by its command.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Context, Store, Tool, temp, tool, until};

fn with_demo() -> Store {
    let store = Store::with_base();
    store.build(&Context::new("FROM parity-base\nRUN echo one > /one\nCMD [\"cat\", \"/one\"]\n")).ok();
    store
}

/// Podman with a store of its own.
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

    fn run(&self, words: &[&str]) -> Tool {
        tool("podman").args(words).env("CONTAINERS_STORAGE_CONF", self.conf())
    }

    /// The id of an image, which is the digest of its configuration.
    fn id(&self, name: &str) -> String {
        let inspected = self.run(&["image", "inspect", name]).ok().stdout;
        format!("sha256:{}", serde_json::from_str::<Value>(&inspected).unwrap()[0]["Id"].as_str().unwrap())
    }
}

fn id(store: &Store) -> String {
    store.inspect("demo")["manifest"]["config"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn podmans_service_takes_an_image_as_dockers_would() {
    let (store, podman) = (with_demo(), Podman::new());
    let socket = podman.dir.path().join("engine.sock");
    let url = format!("unix://{}", socket.display());
    let _service = podman.run(&["system", "service", "--time=0", &url]).start();
    until("the service listens", Duration::from_secs(30), || UnixStream::connect(&socket).is_ok());
    store.dram(["push", "demo", "docker-daemon:given:1"]).env("DOCKER_HOST", &url).ok();
    assert_eq!(podman.id("given:1"), id(&store));
    let place = temp();
    store.dram(["save", "-o"]).arg(place.path().join("demo.tar")).arg("demo").ok();
    let other = Store::empty();
    let from = format!("docker-archive:{}", place.path().join("demo.tar").display());
    other.dram(["copy", &from, "docker-daemon:again:2"]).env("DOCKER_HOST", &url).ok();
    assert_eq!(podman.id("again:2"), id(&store));
}

#[test]
fn podmans_own_store_takes_an_image_with_its_digest() {
    let (store, podman) = (with_demo(), Podman::new());
    let push = store.dram(["push", "demo", "containers-storage:localhost/given:1"]);
    push.without("DOCKER_CONFIG").env("CONTAINERS_STORAGE_CONF", podman.conf()).ok();
    assert_eq!(podman.id("localhost/given:1"), id(&store));
    let digest = podman.run(&["image", "inspect", "--format", "{{.Digest}}", "localhost/given:1"]).ok().stdout;
    assert_eq!(digest.trim(), store.digest("demo"));
    assert_eq!(crate::support::names(&store.join("work")), ["gate"]);
    let nowhere = store.dram(["push", "demo", "containers-storage:x"]).env("PATH", "/nonexistent").fails(1);
    nowhere.says("`podman` is not installed").says("apt-get install podman");
}

/// An engine that has an image of these layers. It sends on what it is given.
fn engine(socket: &Path, layers: Vec<String>, answer: &'static str) -> mpsc::Receiver<Vec<u8>> {
    let listener = UnixListener::bind(socket).unwrap();
    let (given, taken) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
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
                "/info" => {
                    r#"{"DriverStatus":[["Backing Filesystem","extfs"]],"DockerRootDir":"/var/lib/docker"}"#.to_owned()
                }
                "/images/json" => r#"[{"Id":"sha256:abc"}]"#.to_owned(),
                "/images/sha256:abc/json" => format!(r#"{{"RootFS":{{"Layers":{}}}}}"#, serde_json::json!(layers)),
                _ => {
                    assert!(chunked && first.starts_with("POST /images/load"), "{first}");
                    given.send(chunks(&mut reader)).unwrap();
                    answer.to_owned()
                }
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
        }
    });
    taken
}

fn chunks(reader: &mut BufReader<UnixStream>) -> Vec<u8> {
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

/// The blobs in an archive.
fn blobs(archive: Vec<u8>) -> Vec<String> {
    let listed = tool("tar").args(["-tf", "-"]).stdin(archive).ok().stdout;
    listed
        .lines()
        .filter_map(|line| line.strip_prefix("blobs/sha256/"))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_engine_gets_the_layers_that_it_has_not() {
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
        let taken = engine(&socket, has, r#"{"stream":"Loaded image: demo:latest"}"#);
        let push = store.dram(["push", "demo", "docker-daemon:demo"]);
        push.env("DOCKER_HOST", format!("unix://{}", socket.display())).ok();
        let blobs = blobs(taken.recv().unwrap());
        let found = layers.iter().filter(|layer| blobs.contains(layer)).count();
        assert_eq!(found, sent, "{blobs:?}");
        assert!(blobs.contains(&layers[1]), "the last one is new to it");
    }
    let socket = place.path().join("no.sock");
    let _taken = engine(&socket, vec![], "{\"stream\":\"x\"}\n{\"error\":\"no space left\"}");
    let push = store.dram(["push", "demo", "docker-daemon:demo"]);
    push.env("DOCKER_HOST", format!("unix://{}", socket.display())).fails(4).says("no space left");
    let push = store.dram(["push", "demo", "docker-daemon:demo"]).env("DOCKER_HOST", "unix:///nowhere.sock");
    push.fails(1).says("cannot reach the engine at /nowhere.sock").says("DOCKER_HOST");
    let push = store.dram(["push", "demo", "docker-daemon:demo"]).env("DOCKER_HOST", "ssh://host");
    push.fails(1).says("is no address of an engine").says("unix:///var/run/docker.sock");
}
