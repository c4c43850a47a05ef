//! Tars and layouts that no honest tool writes, made byte by byte, and what dram makes of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Done, Store, Tool, User, base_tar, names, temp, tool};

/// What one hostile input may take of a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
/// The address space a hostile input may make dram take; its threads need some each.
const MEMORY: &str = "--as=2147483648";

/// One entry of a tar as its blocks: a header, data and padding.
pub(crate) struct Part {
    header: [u8; 512],
    data: Vec<u8>,
}

impl Part {
    /// An entry of the type `kind`, mode 0644, of root.
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>) -> Part {
        let mut header = [0; 512];
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[156] = kind;
        let part = Part { header, data: Vec::new() };
        part.field(0, name.as_ref()).mode(0o644).field(108, b"0000000\0").field(116, b"0000000\0").size(0).time("1")
    }

    /// Overwrites a part of the header.
    pub(crate) fn field(mut self, at: usize, bytes: &[u8]) -> Part {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn mode(self, mode: u32) -> Part {
        self.field(100, format!("{mode:07o}\0").as_bytes())
    }

    pub(crate) fn size(self, size: usize) -> Part {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    fn time(self, octal: &str) -> Part {
        self.field(136, format!("{octal:0>11}\0").as_bytes())
    }

    pub(crate) fn target(self, target: impl AsRef<[u8]>) -> Part {
        self.field(157, target.as_ref())
    }

    /// With this data, and its size in the header.
    pub(crate) fn data(self, data: impl Into<Vec<u8>>) -> Part {
        let data = data.into();
        Part { data: Vec::new(), ..self.size(data.len()) }.only_data(data)
    }

    /// With this data, whatever the header says.
    pub(crate) fn only_data(mut self, data: Vec<u8>) -> Part {
        self.data = data;
        self
    }

    /// The entry's blocks, its checksum right.
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

pub(crate) fn file(name: impl AsRef<[u8]>, data: &str) -> Part {
    Part::new(b'0', name).data(data)
}

pub(crate) fn dir(name: impl AsRef<[u8]>) -> Part {
    Part::new(b'5', name).mode(0o755)
}

pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Part {
    Part::new(b'2', name).target(target).mode(0o777)
}

pub(crate) fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Part {
    Part::new(b'1', name).target(target)
}

/// A device (`b'3'` or `b'4'`).
pub(crate) fn node(kind: u8, name: &str, major: u32, minor: u32) -> Part {
    let number = |number: u32| format!("{number:07o}\0");
    Part::new(kind, name).field(329, number(major).as_bytes()).field(337, number(minor).as_bytes())
}

/// An extended header for the next entry, or (`b'g'`) for all.
pub(crate) fn pax(kind: u8, records: &[(&str, &[u8])]) -> Part {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = (1..9).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
        body.extend(format!("{} {key}=", rest + digits).bytes());
        body.extend(*value);
        body.push(b'\n');
    }
    Part::new(kind, "pax").data(body)
}

/// A GNU long name (`b'L'`) or link (`b'K'`) for the next entry.
pub(crate) fn long(kind: u8, text: impl AsRef<[u8]>) -> Part {
    Part::new(kind, "././@LongLink").data([text.as_ref(), b"\0"].concat())
}

/// A whole archive.
pub(crate) fn tar(parts: impl IntoIterator<Item = Part>) -> Vec<u8> {
    let mut all: Vec<u8> = parts.into_iter().flat_map(Part::blocks).collect();
    all.resize(all.len() + 1024, 0);
    all
}

/// The bytes through a program of this machine.
pub(crate) fn through(program: &str, words: &[&str], bytes: &[u8]) -> Vec<u8> {
    let place = temp();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    fs::write(&from, bytes).unwrap();
    let script = r#"from=$1 to=$2; shift 2; "$@" < "$from" > "$to""#;
    tool("sh").args(["-c", script, "sh"]).arg(&from).arg(&to).arg(program).args(words).ok();
    fs::read(to).unwrap()
}

/// What `sha256sum` says, as a digest.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let sum = sha2::Sha256::digest(bytes);
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// What bends a document.
type Bend = Box<dyn Fn(&mut Value)>;

/// An OCI layout in the making. Its documents are made from the bottom up; each may be bent before it is written.
pub(crate) struct Layout {
    dir: TempDir,
    layers: Vec<(Vec<u8>, String)>,
    bend: [Bend; 3],
}

impl Layout {
    /// An image of these plain tars, named `hostile`.
    pub(crate) fn of(layers: impl IntoIterator<Item = Vec<u8>>) -> Layout {
        let layers = layers.into_iter().map(|layer| (layer.clone(), digest(&layer)));
        let nothing = || Box::new(|_: &mut Value| ()) as Bend;
        Layout { dir: temp(), layers: layers.collect(), bend: [nothing(), nothing(), nothing()] }
    }

    /// Over the base image's root file system.
    pub(crate) fn over_base(layers: impl IntoIterator<Item = Vec<u8>>) -> Layout {
        Layout::of(std::iter::once(fs::read(base_tar()).unwrap()).chain(layers))
    }

    /// With one more layer, given as a blob and the digest of what is in it.
    pub(crate) fn blob(mut self, blob: Vec<u8>, diff_id: &str) -> Layout {
        self.layers.push((blob, diff_id.to_owned()));
        self
    }

    pub(crate) fn config(mut self, bend: impl Fn(&mut Value) + 'static) -> Layout {
        self.bend[0] = Box::new(bend);
        self
    }

    pub(crate) fn manifest(mut self, bend: impl Fn(&mut Value) + 'static) -> Layout {
        self.bend[1] = Box::new(bend);
        self
    }

    pub(crate) fn index(mut self, bend: impl Fn(&mut Value) + 'static) -> Layout {
        self.bend[2] = Box::new(bend);
        self
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the blob lies.
    pub(crate) fn place(&self, digest: &str) -> PathBuf {
        self.join("blobs").join(digest.replace(':', "/"))
    }

    /// Writes the blob; returns its descriptor.
    fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.place(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Writes everything; returns the descriptors of the layers.
    pub(crate) fn write(&self) -> Vec<Value> {
        const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
        fs::create_dir_all(self.join("blobs/sha256")).unwrap();
        fs::write(self.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layers: Vec<Value> = self.layers.iter().map(|(blob, _)| self.put(LAYER, blob)).collect();
        let diff_ids: Vec<&String> = self.layers.iter().map(|(_, diff_id)| diff_id).collect();
        let mut config = json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        self.bend[0](&mut config);
        let config = self.put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.bend[1](&mut manifest);
        let mut manifest = self.put(MANIFEST, manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "hostile:latest"});
        let mut index = json!({"schemaVersion": 2, "manifests": [manifest]});
        self.bend[2](&mut index);
        fs::write(self.join("index.json"), index.to_string()).unwrap();
        layers
    }
}

/// This machine's architecture under its Go name.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A store, and a directory of the machine that hostile inputs aim at.
pub(crate) struct Range {
    pub(crate) store: Store,
    canary: TempDir,
    /// Whether memory is bounded from outside: the program that does it would run as root.
    bounded: bool,
}

impl Range {
    /// With an empty store.
    pub(crate) fn new() -> Range {
        Range::with(Store::empty(), true)
    }

    /// With an empty store of this user.
    pub(crate) fn of(user: &User) -> Range {
        Range::with(Store::of(user), false)
    }

    fn with(store: Store, bounded: bool) -> Range {
        let canary = temp();
        fs::write(canary.path().join("file"), "the machine's own").unwrap();
        fs::set_permissions(canary.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Range { store, canary, bounded }
    }

    /// The directory, as an absolute path.
    pub(crate) fn target(&self) -> String {
        self.canary.path().display().to_string()
    }

    /// The file in it.
    pub(crate) fn target_file(&self) -> String {
        format!("{}/file", self.target())
    }

    /// `dram WORDS PATH`, in bounded time and memory; nothing of it stays but what it was asked for.
    #[track_caller]
    pub(crate) fn dram<const N: usize>(&self, words: [&str; N], path: &Path) -> Done {
        let begun = Instant::now();
        let done = self.bounded(self.store.dram(words).arg(path)).end();
        assert!(begun.elapsed() < PATIENCE, "{done}");
        assert!((0..=3).contains(&done.code), "{done}");
        self.unharmed(&done);
        done
    }

    fn bounded(&self, dram: Tool) -> Tool {
        if self.bounded { dram.within("prlimit", &[MEMORY]) } else { dram }
    }

    /// Fails if the machine was written to, something is left, or the store is damaged.
    #[track_caller]
    fn unharmed(&self, done: &Done) {
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

    /// `dram load` of what was made.
    #[track_caller]
    pub(crate) fn load(&self, layout: &Layout) -> Done {
        layout.write();
        self.load_written(layout)
    }

    /// `dram load` of what lies there now.
    #[track_caller]
    pub(crate) fn load_written(&self, layout: &Layout) -> Done {
        self.dram(["load"], layout.dir.path())
    }

    /// The images' names.
    pub(crate) fn images(&self) -> Vec<String> {
        let rows: Value = serde_json::from_str(&self.store.dram(["images", "--json"]).ok().stdout).unwrap();
        let name = |row: &Value| format!("{}:{}", row["name"].as_str().unwrap(), row["tag"].as_str().unwrap());
        rows.as_array().unwrap().iter().map(name).collect()
    }

    /// What lies there now is refused with these words, and nothing has a name.
    #[track_caller]
    pub(crate) fn refuses_written(&self, what: &str, layout: &Layout, words: &str) {
        let done = self.load_written(layout);
        assert!(done.code != 0, "{what}: expected to be refused\n{done}");
        assert!(done.stderr.contains(words), "{what}: expected to read {words:?}\n{done}");
        assert_eq!(self.images(), [""; 0], "{what}: nothing is left\n{done}");
    }

    /// Loads it and runs the script in it, as far as that goes.
    #[track_caller]
    pub(crate) fn run(&self, layout: &Layout, script: &str) -> Done {
        let loaded = self.load(layout);
        if loaded.code != 0 {
            return loaded;
        }
        let begun = Instant::now();
        let run = self.store.dram(["run", "hostile", "/bin/busybox", "sh", "-c", script]);
        let done = self.bounded(run).end();
        assert!(begun.elapsed() < PATIENCE, "{done}");
        self.unharmed(&done);
        self.store.dram(["rm", "hostile"]).ok();
        done
    }

    /// The image is refused, in loading or in running it, with these words.
    #[track_caller]
    pub(crate) fn refuses(&self, what: &str, layout: &Layout, words: &str) {
        let done = self.run(layout, "true");
        assert!(done.code != 0, "{what}: expected to be refused\n{done}");
        assert!(done.stderr.contains(words), "{what}: expected to read {words:?}\n{done}");
        assert_eq!(self.store.dram(["images", "--json"]).ok().stdout.trim(), "[]", "{what}: nothing is left\n{done}");
    }

    /// The image runs the script, which prints this.
    #[track_caller]
    pub(crate) fn prints(&self, what: &str, layout: &Layout, script: &str, wanted: &str) {
        let done = self.run(layout, script);
        assert!(done.code == 0 && done.stdout.trim_end() == wanted, "{what}: expected {wanted:?}\n{done}");
    }
}

impl Drop for Range {
    /// All that was unpacked is what its blob gives again, however strange.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let checked = self.bounded(self.store.dram(["fsck", "--json"])).ok();
            let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
            assert_eq!((&checked["findings"], &checked["skipped"]), (&json!([]), &json!([])));
        }
    }
}
