//! Builders of malformed and hostile tars and layouts, byte by byte, and a harness that feeds them to dram.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{CommandOutput, Store, TestCommand, User, base_tar, names, temp, tool};

/// Time limit for one hostile input, generous because other tests run in parallel.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Limit of the address space for one hostile input; every thread needs some of it.
const MEMORY_LIMIT: &str = "--as=2147483648";

/// A raw entry of a tar: header and data.
pub(crate) struct RawEntry {
    header: [u8; 512],
    data: Vec<u8>,
}

impl RawEntry {
    /// Creates an entry of type `kind` with mode 0644, owned by root.
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>) -> RawEntry {
        let mut header = [0; 512];
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[156] = kind;
        let part = RawEntry { header, data: Vec::new() };
        part.field(0, name.as_ref()).mode(0o644).field(108, b"0000000\0").field(116, b"0000000\0").size(0).time("1")
    }

    /// Overwrites bytes of the header at an offset.
    pub(crate) fn field(mut self, at: usize, bytes: &[u8]) -> RawEntry {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn mode(self, mode: u32) -> RawEntry {
        self.field(100, format!("{mode:07o}\0").as_bytes())
    }

    pub(crate) fn size(self, size: usize) -> RawEntry {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    fn time(self, octal: &str) -> RawEntry {
        self.field(136, format!("{octal:0>11}\0").as_bytes())
    }

    pub(crate) fn target(self, target: impl AsRef<[u8]>) -> RawEntry {
        self.field(157, target.as_ref())
    }

    /// Sets the data, and its size in the header.
    pub(crate) fn data(self, data: impl Into<Vec<u8>>) -> RawEntry {
        let data = data.into();
        RawEntry { data: Vec::new(), ..self.size(data.len()) }.only_data(data)
    }

    /// Sets the data without changing the size in the header.
    pub(crate) fn only_data(mut self, data: Vec<u8>) -> RawEntry {
        self.data = data;
        self
    }

    /// Returns the blocks of the entry, with a correct checksum.
    pub(crate) fn blocks(mut self) -> Vec<u8> {
        self.header[148..156].fill(b' ');
        let sum: u32 = self.header.iter().map(|&byte| u32::from(byte)).sum();
        self.header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut all = self.header.to_vec();
        all.extend(&self.data);
        all.resize(all.len().next_multiple_of(512), 0);
        all
    }
}

pub(crate) fn file(name: impl AsRef<[u8]>, data: &str) -> RawEntry {
    RawEntry::new(b'0', name).data(data)
}

pub(crate) fn dir(name: impl AsRef<[u8]>) -> RawEntry {
    RawEntry::new(b'5', name).mode(0o755)
}

pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> RawEntry {
    RawEntry::new(b'2', name).target(target).mode(0o777)
}

pub(crate) fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> RawEntry {
    RawEntry::new(b'1', name).target(target)
}

/// Creates a device node (`b'3'` character or `b'4'` block).
pub(crate) fn device_node(kind: u8, name: &str, major: u32, minor: u32) -> RawEntry {
    let number = |number: u32| format!("{number:07o}\0");
    RawEntry::new(kind, name).field(329, number(major).as_bytes()).field(337, number(minor).as_bytes())
}

/// Creates a pax extended header for the next entry, or (`b'g'`) a global one.
pub(crate) fn pax(kind: u8, records: &[(&str, &[u8])]) -> RawEntry {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = (1..9).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
        body.extend(format!("{} {key}=", rest + digits).bytes());
        body.extend(*value);
        body.push(b'\n');
    }
    RawEntry::new(kind, "pax").data(body)
}

/// Creates a GNU long name (`b'L'`) or long link (`b'K'`) for the next entry.
pub(crate) fn gnu_long(kind: u8, text: impl AsRef<[u8]>) -> RawEntry {
    RawEntry::new(kind, "././@LongLink").data([text.as_ref(), b"\0"].concat())
}

/// Returns a complete archive of these entries.
pub(crate) fn tar(parts: impl IntoIterator<Item = RawEntry>) -> Vec<u8> {
    let mut all: Vec<u8> = parts.into_iter().flat_map(RawEntry::blocks).collect();
    all.resize(all.len() + 1024, 0);
    all
}

/// Pipes the bytes through a program of the host and returns its output.
pub(crate) fn piped_through(program: &str, words: &[&str], bytes: &[u8]) -> Vec<u8> {
    let place = temp();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    fs::write(&from, bytes).unwrap();
    let script = r#"from=$1 to=$2; shift 2; "$@" < "$from" > "$to""#;
    tool("sh").args(["-c", script, "sh"]).arg(&from).arg(&to).arg(program).args(words).ok();
    fs::read(to).unwrap()
}

/// Returns the SHA-256 of the bytes as a digest string.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let sum = sha2::Sha256::digest(bytes);
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A change to a JSON document before it is written.
type DocumentEdit = Box<dyn Fn(&mut Value)>;

/// An OCI layout whose config, manifest and index can each be edited before they are written.
pub(crate) struct CraftedLayout {
    dir: TempDir,
    layers: Vec<(Vec<u8>, String)>,
    edit: [DocumentEdit; 3],
}

impl CraftedLayout {
    /// Creates an image of these uncompressed layers, named `hostile`.
    pub(crate) fn with_layers(layers: impl IntoIterator<Item = Vec<u8>>) -> CraftedLayout {
        let layers = layers.into_iter().map(|layer| (layer.clone(), digest(&layer)));
        let nothing = || Box::new(|_: &mut Value| ()) as DocumentEdit;
        CraftedLayout { dir: temp(), layers: layers.collect(), edit: [nothing(), nothing(), nothing()] }
    }

    /// Creates an image of these layers over the base image's root file system.
    pub(crate) fn over_base(layers: impl IntoIterator<Item = Vec<u8>>) -> CraftedLayout {
        CraftedLayout::with_layers(std::iter::once(fs::read(base_tar()).unwrap()).chain(layers))
    }

    /// Adds a layer, given as a blob and its diff ID.
    pub(crate) fn blob(mut self, blob: Vec<u8>, diff_id: &str) -> CraftedLayout {
        self.layers.push((blob, diff_id.to_owned()));
        self
    }

    pub(crate) fn config(mut self, edit: impl Fn(&mut Value) + 'static) -> CraftedLayout {
        self.edit[0] = Box::new(edit);
        self
    }

    pub(crate) fn manifest(mut self, edit: impl Fn(&mut Value) + 'static) -> CraftedLayout {
        self.edit[1] = Box::new(edit);
        self
    }

    pub(crate) fn index(mut self, edit: impl Fn(&mut Value) + 'static) -> CraftedLayout {
        self.edit[2] = Box::new(edit);
        self
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the path of a blob.
    pub(crate) fn blob_path(&self, digest: &str) -> PathBuf {
        self.join("blobs").join(digest.replace(':', "/"))
    }

    /// Writes a blob and returns its descriptor.
    fn put_blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.blob_path(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Writes the layout and returns the descriptors of the layers.
    pub(crate) fn write(&self) -> Vec<Value> {
        const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
        fs::create_dir_all(self.join("blobs/sha256")).unwrap();
        fs::write(self.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layers: Vec<Value> = self.layers.iter().map(|(blob, _)| self.put_blob(LAYER, blob)).collect();
        let diff_ids: Vec<&String> = self.layers.iter().map(|(_, diff_id)| diff_id).collect();
        let mut config = json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        self.edit[0](&mut config);
        let config = self.put_blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.edit[1](&mut manifest);
        let mut manifest = self.put_blob(MANIFEST, manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "hostile:latest"});
        let mut index = json!({"schemaVersion": 2, "manifests": [manifest]});
        self.edit[2](&mut index);
        fs::write(self.join("index.json"), index.to_string()).unwrap();
        layers
    }
}

/// Returns the host's architecture under its Go name.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A store, and a canary directory of the host that hostile inputs try to write to.
pub(crate) struct HostileHarness {
    pub(crate) store: Store,
    canary: TempDir,
    /// Limits memory with `prlimit`. Off for rootless stores, because `prlimit` would run as root.
    bounded: bool,
}

impl HostileHarness {
    /// Creates a harness with an empty store.
    pub(crate) fn new() -> HostileHarness {
        HostileHarness::with(Store::empty(), true)
    }

    /// Creates a harness with an empty store of this user.
    pub(crate) fn for_user(user: &User) -> HostileHarness {
        HostileHarness::with(Store::for_user(user), false)
    }

    fn with(store: Store, bounded: bool) -> HostileHarness {
        let canary = temp();
        fs::write(canary.path().join("file"), "the machine's own").unwrap();
        fs::set_permissions(canary.path(), fs::Permissions::from_mode(0o700)).unwrap();
        HostileHarness { store, canary, bounded }
    }

    /// Returns the absolute path of the canary directory.
    pub(crate) fn target(&self) -> String {
        self.canary.path().display().to_string()
    }

    /// Returns the path of the file in the canary directory.
    pub(crate) fn target_file(&self) -> String {
        format!("{}/file", self.target())
    }

    /// Runs `dram WORDS PATH` within the time and memory limits, and asserts that the host and the store are unharmed.
    #[track_caller]
    pub(crate) fn dram<const N: usize>(&self, words: [&str; N], path: &Path) -> CommandOutput {
        let begun = Instant::now();
        let done = self.with_memory_limit(self.store.dram(words).arg(path)).end();
        assert!(begun.elapsed() < TIME_LIMIT, "{done}");
        assert!((0..=3).contains(&done.code), "{done}");
        self.assert_unharmed(&done);
        done
    }

    fn with_memory_limit(&self, dram: TestCommand) -> TestCommand {
        if self.bounded { dram.run_under("prlimit", &[MEMORY_LIMIT]) } else { dram }
    }

    /// Asserts that the host was not written to, no temporary files are left, and the store's blobs are intact.
    #[track_caller]
    fn assert_unharmed(&self, done: &CommandOutput) {
        assert_eq!(names(self.canary.path()), ["file"], "the machine was written to\n{done}");
        assert_eq!(fs::read_to_string(self.target_file()).unwrap(), "the machine's own", "{done}");
        let mode = fs::metadata(self.canary.path()).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "the machine was changed\n{done}");
        assert_eq!(names(&self.store.join("work")), ["gate"], "{done}");
        for blob in self.store.blobs() {
            let bytes = fs::read(self.store.join("oci/blobs/sha256").join(&blob)).unwrap();
            assert_eq!(digest(&bytes), format!("sha256:{blob}"), "{done}");
        }
        self.store.dram(["images"]).ok();
    }

    /// Writes the layout and runs `dram load` on it.
    #[track_caller]
    pub(crate) fn load(&self, layout: &CraftedLayout) -> CommandOutput {
        layout.write();
        self.load_written(layout)
    }

    /// Runs `dram load` on the layout as it is on the disk.
    #[track_caller]
    pub(crate) fn load_written(&self, layout: &CraftedLayout) -> CommandOutput {
        self.dram(["load"], layout.dir.path())
    }

    /// Returns the names of all images in the store.
    pub(crate) fn images(&self) -> Vec<String> {
        let rows: Value = serde_json::from_str(&self.store.dram(["images", "--json"]).ok().stdout).unwrap();
        let name = |row: &Value| format!("{}:{}", row["name"].as_str().unwrap(), row["tag"].as_str().unwrap());
        rows.as_array().unwrap().iter().map(name).collect()
    }

    /// Asserts that the layout on the disk is refused with these words and leaves no image.
    #[track_caller]
    pub(crate) fn assert_refused_as_written(&self, what: &str, layout: &CraftedLayout, words: &str) {
        let done = self.load_written(layout);
        assert!(done.code != 0, "{what}: expected to be refused\n{done}");
        assert!(done.stderr.contains(words), "{what}: expected to read {words:?}\n{done}");
        assert_eq!(self.images(), [""; 0], "{what}: nothing is left\n{done}");
    }

    /// Loads the image and, if that succeeds, runs the script in it.
    #[track_caller]
    pub(crate) fn run(&self, layout: &CraftedLayout, script: &str) -> CommandOutput {
        let loaded = self.load(layout);
        if loaded.code != 0 {
            return loaded;
        }
        let begun = Instant::now();
        let run = self.store.dram(["run", "hostile", "/bin/busybox", "sh", "-c", script]);
        let done = self.with_memory_limit(run).end();
        assert!(begun.elapsed() < TIME_LIMIT, "{done}");
        self.assert_unharmed(&done);
        self.store.dram(["rm", "hostile"]).ok();
        done
    }

    /// Asserts that the image is refused, when loaded or run, with these words.
    #[track_caller]
    pub(crate) fn assert_refused(&self, what: &str, layout: &CraftedLayout, words: &str) {
        let done = self.run(layout, "true");
        assert!(done.code != 0, "{what}: expected to be refused\n{done}");
        assert!(done.stderr.contains(words), "{what}: expected to read {words:?}\n{done}");
        assert_eq!(self.store.dram(["images", "--json"]).ok().stdout.trim(), "[]", "{what}: nothing is left\n{done}");
    }

    /// Asserts that the image runs the script and prints `wanted`.
    #[track_caller]
    pub(crate) fn assert_prints(&self, what: &str, layout: &CraftedLayout, script: &str, wanted: &str) {
        let done = self.run(layout, script);
        assert!(done.code == 0 && done.stdout.trim_end() == wanted, "{what}: expected {wanted:?}\n{done}");
    }
}

impl Drop for HostileHarness {
    /// Asserts that every unpacked layer still matches its blob.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let checked = self.with_memory_limit(self.store.dram(["fsck", "--json"])).ok();
            let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
            assert_eq!((&checked["findings"], &checked["skipped"]), (&json!([]), &json!([])));
        }
    }
}
