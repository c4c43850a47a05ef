//! Builds for tests: plans of Dockerfile text, an executor that runs no process, and images and caches in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dram_dockerfile::{BuildSettings, OnbuildTriggers, StageGraph};
use dram_image::tar::{TarEntry, TarEntryKind, TarWriter};
use dram_image::{
    Descriptor, Digest, Document, ImageConfig, ImagePlatform, Manifest, MediaType, RegistryErrorCode, RegistryRefusal,
    RootFs, TreePath,
};
use dram_plan::{GitRef, Plan};
use dram_sandbox::JailNetwork;
use dram_store::{FileTree as _, Store};

use crate::container::HostSettings;
use crate::layer_writer::{LayerWriter, MetadataOverride};
use crate::shared_cache::{CacheExportOptions, CacheMode, SharedCache};
use crate::temp_dir::TempDir;
use crate::transfer::{ImageSink, ImageSource, IncomingBlob, LazyBlobs, RegistryRepository, TransferError};
use crate::{
    BuildContext, BuildError, BuildEvent, BuildId, BuildOptions, CancelToken, CommandOptions, ExecuteEvent, ExecuteOp,
    ExecuteRequest, ExecutedStep, Executor, FetchedFile, FetchedTree, Image, LayerProvider, LocalExecutor, RemoteError,
    RemoteErrorKind, RemoteFetcher, ResolvedInput, ResourceUsage, SharedCaches, Snapshot,
};

/// The longest time that a test waits for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `is_done` returns true.
fn wait_until(what: &str, is_done: &dyn Fn() -> bool) {
    for _ in 0..DEADLINE.as_millis() / 2 {
        if is_done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("waited in vain for {what}");
}

/// A clock that stands still: tests do not depend on times.
fn clock() -> Duration {
    Duration::ZERO
}

/// The time of day in builds that set none.
pub(crate) const NOW: (i64, u32) = (1_000_000_000, 5);

/// A store and a build context in a temporary directory.
#[derive(Debug)]
pub(crate) struct TestHouse {
    pub(crate) store: Store,
    pub(crate) context: PathBuf,
    _dir: tempfile::TempDir,
}

impl TestHouse {
    pub(crate) fn new() -> TestHouse {
        let dir = tempfile::tempdir().unwrap();
        let context = dir.path().join("context");
        std::fs::create_dir(&context).unwrap();
        TestHouse { store: Store::open(&dir.path().join("store")).unwrap(), context, _dir: dir }
    }

    /// Writes a file of the build context.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.context.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Builds `text` without external inputs, and returns the outcome.
    pub(crate) fn build(&self, text: &str) -> TestOutcome {
        TestBuild::new(self, text).run()
    }

    /// Returns the names of the files in the work directory of this process, without the lock.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.store.work_dir().path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "lock");
        names
    }
}

/// A build of a test.
pub(crate) struct TestBuild<'a> {
    house: &'a TestHouse,
    text: String,
    pub(crate) use_cache: bool,
    pub(crate) no_cache_stages: BTreeSet<usize>,
    pub(crate) inputs: BTreeMap<String, ResolvedInput>,
    pub(crate) caches: SharedCaches<'a>,
    pub(crate) options: CommandOptions,
    pub(crate) cancel: CancelToken,
    /// The time that was requested for all files.
    pub(crate) time: Option<i64>,
    pub(crate) wall_clock: fn() -> (i64, u32),
    pub(crate) executor: FakeExecutor<'a>,
    events: Mutex<Vec<String>>,
}

/// The outcome of a build.
#[derive(Debug)]
pub(crate) struct TestOutcome {
    pub(crate) result: Result<Snapshot, BuildError>,
    /// The events, as words: `started RUN write a 1`.
    pub(crate) events: Vec<String>,
    /// The instructions that were executed, in the order of their starts.
    pub(crate) executed: Vec<String>,
    /// The warnings about shared caches.
    pub(crate) warnings: Vec<String>,
}

impl TestOutcome {
    /// Returns the snapshot of a build that succeeded.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.result.as_ref().unwrap()
    }

    /// Returns the executed instructions in the order of their names, for builds with parallel stages.
    pub(crate) fn executed_sorted(&self) -> Vec<String> {
        let mut all = self.executed.clone();
        all.sort();
        all
    }

    /// Returns how often each event happened.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.events.iter().filter(|other| *other == event).count()
    }
}

impl<'a> TestBuild<'a> {
    pub(crate) fn new(house: &'a TestHouse, text: &str) -> TestBuild<'a> {
        TestBuild {
            house,
            text: text.to_owned(),
            use_cache: true,
            no_cache_stages: BTreeSet::new(),
            inputs: BTreeMap::new(),
            caches: SharedCaches::default(),
            options: CommandOptions::default(),
            cancel: CancelToken::default(),
            time: None,
            wall_clock: || NOW,
            executor: FakeExecutor::new(&house.store),
            events: Mutex::default(),
        }
    }

    /// Waits until the build that runs has told `event`.
    pub(crate) fn wait_for_event(&self, event: &str) {
        wait_until(event, &|| self.events.lock().unwrap().iter().any(|other| other == event));
    }

    pub(crate) fn with_image(mut self, name: &str, image: Image) -> TestBuild<'a> {
        self.inputs.insert(name.to_owned(), ResolvedInput::Image(Box::new(image)));
        self
    }

    pub(crate) fn with_cache(mut self, cache: &MemoryCache) -> TestBuild<'a> {
        self.caches = SharedCaches::new(vec![cache.open()]);
        self
    }

    pub(crate) fn without_cache(mut self) -> TestBuild<'a> {
        self.use_cache = false;
        self
    }

    pub(crate) fn house(&self) -> &'a TestHouse {
        self.house
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.text, &self.inputs)
    }

    pub(crate) fn run(&self) -> TestOutcome {
        self.run_and(&|_, _| ())
    }

    /// Runs the build and calls `then` with the provider and the snapshot, if it succeeded.
    pub(crate) fn run_and(&self, then: &dyn Fn(&LayerProvider<'_>, &Snapshot)) -> TestOutcome {
        let plan = self.plan();
        let text = |at: crate::StepPosition| plan.stages[at.stage].steps[at.step].text.clone();
        let tell = |event: BuildEvent| {
            self.events.lock().unwrap().push(match event {
                BuildEvent::Started(at, _) => format!("started {}", text(at)),
                BuildEvent::Executed(at, _) => format!("executed {}", text(at)),
                BuildEvent::Cached(at) => format!("cached {}", text(at)),
                BuildEvent::SharedCacheHit(at) => format!("shared {}", text(at)),
                BuildEvent::WaitingForStep(at) => format!("waiting for {}", text(at)),
                BuildEvent::WaitingForCache(_, id) => format!("waiting for the cache {id}"),
                BuildEvent::Log(_, line) => format!("log {}", String::from_utf8_lossy(&line)),
                BuildEvent::Remark(remark) => format!("remark {}", remark.message),
                BuildEvent::Unpacking { image } => format!("unpacking {image}"),
                BuildEvent::Fetching { from, .. } => format!("fetching from {from}"),
                BuildEvent::Packing { .. } => "packing".to_owned(),
            });
        };
        let layers = LayerProvider::new(&self.house.store)
            .with_events(&tell)
            .with_inputs(&self.inputs)
            .with_shared_caches(&self.caches, self.cancel.clone());
        let options = BuildOptions {
            layers: &layers,
            executor: &self.executor,
            context: &BuildContext::Dir { path: self.house.context.clone(), ignore: None },
            use_cache: self.use_cache,
            no_cache_stages: self.no_cache_stages.clone(),
            network: JailNetwork::None,
            build_id: build_id(),
            clock,
            wall_clock: self.wall_clock,
            time: self.time,
            command_options: self.options.clone(),
            remotes: &OfflineFetcher,
            cancel: self.cancel.clone(),
        };
        let result = crate::build(&plan, &self.inputs, &options, &tell);
        if let Ok(snapshot) = &result {
            then(&layers, snapshot);
        }
        let (executed, warnings) = (self.executor.take_executed(), self.caches.warnings());
        TestOutcome { result, events: std::mem::take(&mut self.events.lock().unwrap()), executed, warnings }
    }

    /// Runs the build, which must succeed, and exports its results as a shared cache.
    pub(crate) fn export_cache(&self, mode: CacheMode) -> MemoryCache {
        let cache = MemoryCache::default();
        let root = Mutex::new(None);
        let outcome = self.run_and(&|_, snapshot| {
            let form = CacheExportOptions { mode, time: self.time, ..CacheExportOptions::default() };
            let told: (&dyn Fn(BuildEvent), &(dyn Fn(_) + Sync)) = (&|_| (), &|_| ());
            let cancel = CancelToken::default();
            let made =
                self.caches.export_cache(&self.house.store, snapshot, &form, &cache.blobs, &cancel, told).unwrap();
            *root.lock().unwrap() = Some(made.manifest);
        });
        outcome.snapshot();
        MemoryCache { root: root.into_inner().unwrap(), ..cache }
    }
}

/// Returns the identity that all builds of tests share.
pub(crate) fn build_id() -> BuildId {
    BuildId {
        dockerfile: "Dockerfile".to_owned(),
        context: ".".to_owned(),
        platform: "linux/amd64".to_owned(),
        target: String::new(),
        build_args: BTreeMap::new(),
    }
}

/// Plans the last stage of a Dockerfile without errors.
pub(crate) fn plan(text: &str, inputs: &BTreeMap<String, ResolvedInput>) -> Plan {
    let settings =
        BuildSettings { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..BuildSettings::default() };
    let parsed = dram_dockerfile::parse(text.as_bytes());
    let (graph, problems) = StageGraph::new(&parsed.dockerfile, &settings, &OnbuildTriggers::new());
    let graph = graph.unwrap_or_else(|| panic!("{problems:?} {:?}", parsed.diagnostics));
    let config = |(name, input): (&String, &ResolvedInput)| match input {
        ResolvedInput::Image(image) => Some((name.clone(), image.config.value().clone())),
        ResolvedInput::Context(_) => None,
    };
    let (plan, problems) = graph.plan(&inputs.iter().filter_map(config).collect());
    plan.unwrap_or_else(|| panic!("{problems:?}"))
}

/// An executor that runs no process. Copies and working directories are written as usual. The script of a command is a
/// list of words, separated by ` && `:
///
/// - `write PATH TEXT` writes a file;
/// - `count PATH` writes a number into a file that is another one at each execution;
/// - `read PATH` prints the file as a line;
/// - `meet NAME` waits until another command of the build meets it there;
/// - `wait` waits until the build is cancelled;
/// - `fail` fails with exit code 1.
#[derive(Debug)]
pub(crate) struct FakeExecutor<'a> {
    store: &'a Store,
    local: LocalExecutor<'a>,
    executed: Mutex<Vec<String>>,
    meetings: Mutex<BTreeMap<String, usize>>,
    met: Condvar,
    /// Shared by the builds of a test that count with it.
    pub(crate) counter: Arc<AtomicUsize>,
}

impl<'a> FakeExecutor<'a> {
    pub(crate) fn new(store: &'a Store) -> FakeExecutor<'a> {
        let host = HostSettings { resolv_conf: Vec::new(), no_new_privs: false, single_id: false, limits: Vec::new() };
        FakeExecutor {
            store,
            local: LocalExecutor::new(store, host, clock),
            executed: Mutex::default(),
            meetings: Mutex::default(),
            met: Condvar::new(),
            counter: Arc::default(),
        }
    }

    fn take_executed(&self) -> Vec<String> {
        std::mem::take(&mut self.executed.lock().unwrap())
    }

    /// Waits until a command waits at `name`.
    pub(crate) fn wait_for_command_at(&self, name: &str) {
        wait_until(name, &|| self.meetings.lock().unwrap().contains_key(name));
    }

    /// Waits until somebody else is at `name` too.
    pub(crate) fn meet(&self, name: &str) {
        let mut meetings = self.meetings.lock().unwrap();
        *meetings.entry(name.to_owned()).or_default() += 1;
        self.met.notify_all();
        let waited = self.met.wait_timeout_while(meetings, DEADLINE, |all| all[name] < 2).unwrap();
        assert!(!waited.1.timed_out(), "nobody else is at {name}");
    }

    fn wait_for_cancel(cancel: &CancelToken) -> BuildError {
        wait_until("the cancellation", &|| cancel.is_cancelled());
        BuildError::Cancelled
    }

    fn run(&self, request: &ExecuteRequest<'_>, script: &str, tell: &dyn Fn(ExecuteEvent<'_>)) -> FakeResult {
        let view = self.store.layers().view(request.layers).unwrap();
        let made = TempDir::new(self.store).unwrap();
        let mut writer = LayerWriter::new(&view, made.path(), MetadataOverride::default(), request.now).unwrap();
        for command in script.split(" && ") {
            let words: Vec<&str> = command.split(' ').collect();
            let mut write = |path: &str, text: &str| {
                let path = TreePath::clean(path.as_bytes()).unwrap();
                writer.make_dirs(&path.parent().unwrap()).unwrap();
                writer.write_file(&path, text.as_bytes(), 0o644).unwrap();
            };
            match words.as_slice() {
                ["true", ..] => {}
                ["write", path, text] => write(path, text),
                ["count", path] => write(path, &self.counter.fetch_add(1, Ordering::SeqCst).to_string()),
                ["read", path] => tell(ExecuteEvent::Log(&read(&view, path).unwrap_or_default())),
                ["meet", name] => self.meet(name),
                ["wait"] => return Err(Self::wait_for_cancel(request.cancel)),
                ["fail"] => {
                    let (text, span) = (request.step.text.clone(), request.step.origin.span());
                    let (tail, missing_loader, id_count) = (Vec::new(), None, None);
                    return Err(BuildError::CommandFailed {
                        text,
                        span,
                        code: 1,
                        tail,
                        missing_loader,
                        id_count,
                        kept: false,
                    });
                }
                other => panic!("no such command: {other:?}"),
            }
        }
        if writer.is_empty() {
            return Ok(None);
        }
        writer.finish().unwrap();
        Ok(Some(self.store.layers().commit(&made.keep()).unwrap()))
    }
}

type FakeResult = Result<Option<dram_store::LayerId>, BuildError>;

impl Executor for FakeExecutor<'_> {
    fn execute(
        &self,
        request: &ExecuteRequest<'_>,
        tell: &dyn Fn(ExecuteEvent<'_>),
    ) -> Result<ExecutedStep, BuildError> {
        self.executed.lock().unwrap().push(request.step.text.clone());
        let ExecuteOp::Run(run) = request.op else { return self.local.execute(request, tell) };
        let usage = ResourceUsage { user_time: Duration::from_millis(7), max_rss: 1 << 20, ..ResourceUsage::default() };
        Ok(ExecutedStep { layer: self.run(request, run.run.argv.last().unwrap(), tell)?, usage })
    }
}

/// Returns the content of the file `path`, if there is one.
pub(crate) fn read(view: &dram_store::MergedTree, path: &str) -> Option<Vec<u8>> {
    let node = view.find(&TreePath::clean(path.as_bytes()).unwrap(), true).unwrap()?;
    let mut bytes = Vec::new();
    view.open(&node.path).unwrap().read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

/// Returns the content of a file in the result of a build in `house`.
pub(crate) fn read_result(house: &TestHouse, snapshot: &Snapshot, path: &str) -> Option<String> {
    let view = LayerProvider::new(&house.store).view(snapshot).unwrap();
    read(&view, path).map(|bytes| String::from_utf8(bytes).unwrap())
}

/// A network that nothing can be fetched from.
#[derive(Debug)]
struct OfflineFetcher;

fn unreachable_network() -> RemoteError {
    RemoteError { kind: RemoteErrorKind::Failed, causes: vec!["there is no network".to_owned()], help: None }
}

impl RemoteFetcher for OfflineFetcher {
    fn fetch_file(&self, _: &str, _: Option<&Digest>) -> Result<FetchedFile, RemoteError> {
        Err(unreachable_network())
    }

    fn resolve_commit(&self, _: &GitRef) -> Result<String, RemoteError> {
        Err(unreachable_network())
    }

    fn fetch_repository(&self, _: &GitRef, _: bool) -> Result<FetchedTree, RemoteError> {
        Err(unreachable_network())
    }
}

/// A registry in memory. Clones share the same blobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScriptedRegistry(Arc<Mutex<RegistryState>>);

#[derive(Debug, Default)]
struct RegistryState {
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// The blobs that were opened, in order.
    opened: Vec<Digest>,
    /// The digests of blobs, documents and images that were written, in order.
    written: Vec<Digest>,
    images: Vec<Digest>,
    /// The repositories that blobs can be mounted from.
    mountable: BTreeMap<Digest, RegistryRepository>,
    /// The digests of blobs that the registry reports to have and has not.
    claimed: BTreeSet<Digest>,
    /// The content that is sent for a blob until it is reported as corrupt.
    corrupt: BTreeMap<Digest, Vec<u8>>,
}

impl ScriptedRegistry {
    /// Adds a blob and returns its descriptor.
    pub(crate) fn add(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let blob = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.0.lock().unwrap().blobs.insert(blob.digest, bytes);
        blob
    }

    /// Returns a registry with the same blobs that can be changed on its own.
    pub(crate) fn copy(&self) -> ScriptedRegistry {
        let blobs = self.0.lock().unwrap().blobs.clone();
        ScriptedRegistry(Arc::new(Mutex::new(RegistryState { blobs, ..RegistryState::default() })))
    }

    /// Replaces the content of a blob.
    pub(crate) fn damage(&self, digest: &Digest, bytes: &[u8]) {
        self.0.lock().unwrap().blobs.insert(*digest, bytes.to_vec());
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        self.0.lock().unwrap().blobs.remove(digest).unwrap();
    }

    /// Returns the digests of the blobs that were opened, in order.
    pub(crate) fn opened(&self) -> Vec<Digest> {
        self.0.lock().unwrap().opened.clone()
    }

    /// Returns the digests of everything that was written, in order.
    pub(crate) fn written(&self) -> Vec<Digest> {
        self.0.lock().unwrap().written.clone()
    }

    /// Returns the digests of the images that were given a name.
    pub(crate) fn images(&self) -> Vec<Digest> {
        self.0.lock().unwrap().images.clone()
    }

    /// Makes this source know that `repository` has the blob.
    pub(crate) fn know_in(&self, digest: &Digest, repository: &str) {
        let repository = RegistryRepository { host: "host".to_owned(), name: repository.to_owned() };
        self.0.lock().unwrap().mountable.insert(*digest, repository);
    }

    /// Makes this sink say that it has a blob, which it has not.
    pub(crate) fn claim(&self, digest: &Digest) {
        self.0.lock().unwrap().claimed.insert(*digest);
    }

    /// Makes this source send `bytes` for a blob, until that is reported.
    pub(crate) fn send_wrong_bytes_first(&self, digest: &Digest, bytes: &[u8]) {
        self.0.lock().unwrap().corrupt.insert(*digest, bytes.to_vec());
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.0.lock().unwrap().blobs.contains_key(digest)
    }

    fn write(&self, blob: &Descriptor, bytes: Vec<u8>) {
        let mut state = self.0.lock().unwrap();
        state.blobs.insert(blob.digest, bytes);
        state.written.push(blob.digest);
    }

    fn bytes(&self, digest: &Digest) -> Result<Vec<u8>, TransferError> {
        self.0.lock().unwrap().blobs.get(digest).cloned().ok_or_else(blob_unknown)
    }
}

/// The answer of a registry that lacks a blob.
fn blob_unknown() -> TransferError {
    let codes = vec![RegistryErrorCode::BlobUnknown];
    let refusal = RegistryRefusal { request: "find the blob".to_owned(), status: Some(404), codes };
    let causes = vec!["there is no such blob".to_owned()];
    TransferError::Remote(RemoteError { kind: RemoteErrorKind::Refused(refusal), causes, help: None })
}

impl ImageSource for ScriptedRegistry {
    fn display_name(&self) -> String {
        "the registry".to_owned()
    }

    fn read_document(&self, document: &Descriptor) -> Result<Vec<u8>, TransferError> {
        self.bytes(&document.digest)
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        let mut state = self.0.lock().unwrap();
        state.opened.push(blob.digest);
        let wrong = state.corrupt.get(&blob.digest).cloned();
        drop(state);
        Ok(Box::new(std::io::Cursor::new(wrong.map_or_else(|| self.bytes(&blob.digest), Ok)?)))
    }

    fn report_corrupt(&self, blob: &Descriptor) -> bool {
        self.0.lock().unwrap().corrupt.remove(&blob.digest).is_some()
    }

    fn known_repositories(&self, blob: &Descriptor) -> Vec<RegistryRepository> {
        self.0.lock().unwrap().mountable.get(&blob.digest).cloned().into_iter().collect()
    }
}

impl ImageSink for ScriptedRegistry {
    fn display_name(&self) -> String {
        "the registry".to_owned()
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, TransferError> {
        Ok(self.has_blob(&blob.digest) || self.0.lock().unwrap().claimed.contains(&blob.digest))
    }

    fn mount_blob(&self, blob: &Descriptor, from: &RegistryRepository) -> Result<bool, TransferError> {
        let mut state = self.0.lock().unwrap();
        if from.name != "mountable" {
            return Ok(false);
        }
        state.blobs.insert(blob.digest, Vec::new());
        Ok(true)
    }

    fn verifies_digest(&self) -> bool {
        true
    }

    fn put_blob(&self, blob: &Descriptor, incoming: &IncomingBlob<'_>) -> Result<(), TransferError> {
        let mut bytes = Vec::new();
        incoming.write_to(&mut bytes, std::path::Path::new("the registry"))?;
        if Digest::of(&bytes) != blob.digest {
            return Err(incoming.damaged_blob("it is another blob".to_owned()));
        }
        self.write(blob, bytes);
        Ok(())
    }

    fn put_document(&self, document: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        self.write(document, bytes.to_vec());
        Ok(())
    }

    fn put_image(&self, root: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let claimed = std::mem::take(&mut self.0.lock().unwrap().claimed);
        if claimed.iter().any(|digest| !self.has_blob(digest)) {
            return Err(blob_unknown());
        }
        self.write(root, bytes.to_vec());
        self.0.lock().unwrap().images.push(root.digest);
        Ok(())
    }
}

/// A shared cache in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryCache {
    pub(crate) blobs: ScriptedRegistry,
    pub(crate) root: Option<Descriptor>,
}

impl MemoryCache {
    pub(crate) fn open(&self) -> SharedCache<'static> {
        SharedCache::open(Box::new(self.blobs.clone()), self.root.as_ref().unwrap(), &platform()).unwrap()
    }

    /// Returns the digests of the layers in the manifest.
    pub(crate) fn layers(&self) -> Vec<Digest> {
        let bytes = self.blobs.bytes(&self.root.as_ref().unwrap().digest).unwrap();
        let manifest = Document::<Manifest>::read(bytes).unwrap();
        manifest.value().layers.iter().map(|layer| layer.digest).collect()
    }
}

/// Returns the platform of all images of tests.
pub(crate) fn platform() -> ImagePlatform {
    ImagePlatform { architecture: "amd64".to_owned(), os: "linux".to_owned(), variant: None }
}

/// An image in a registry in memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryImage {
    pub(crate) registry: ScriptedRegistry,
    pub(crate) root: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Returns a tar with these files.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (path, text) in files {
        let path = TreePath::parse(path.as_bytes()).unwrap();
        let kind = TarEntryKind::File { size: text.len() as u64 };
        let entry = TarEntry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() };
        tar.append(&entry, &mut text.as_bytes()).unwrap();
    }
    tar.finish().unwrap()
}

impl MemoryImage {
    /// Makes an image with one layer for each list of files.
    pub(crate) fn new(layers: &[&[(&str, &str)]]) -> MemoryImage {
        MemoryImage::in_registry(ScriptedRegistry::default(), layers)
    }

    pub(crate) fn in_registry(registry: ScriptedRegistry, layers: &[&[(&str, &str)]]) -> MemoryImage {
        let layers: Vec<Descriptor> = layers.iter().map(|files| registry.add(MediaType::LAYER, tar(files))).collect();
        let config = ImageConfig {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            // The layers are not compressed, so their diff IDs are the digests of the blobs.
            rootfs: RootFs { diff_ids: layers.iter().map(|layer| layer.digest).collect(), ..RootFs::default() },
            ..ImageConfig::default()
        };
        let config = registry.add(MediaType::CONFIG, Document::write(config).unwrap().bytes().to_vec());
        let manifest = Document::write(Manifest::new(config.clone(), layers.clone())).unwrap();
        let root = registry.add(MediaType::MANIFEST, manifest.bytes().to_vec());
        MemoryImage { registry, root, config, layers }
    }

    /// Opens the image in `store` without its layers, which are pulled lazily.
    pub(crate) fn open_lazily(&self, store: &Store) -> Image {
        let lazy = LazyBlobs::new(Box::new(self.registry.clone()), CancelToken::default(), Box::new(|_| ()));
        lazy.open_image(store, &self.root, &platform()).unwrap()
    }

    /// Opens the image in `store`, with its layers.
    pub(crate) fn open_complete(&self, store: &Store) -> Image {
        self.open_lazily(store);
        for layer in &self.layers {
            store.blobs().put(&self.registry.bytes(&layer.digest).unwrap()).unwrap();
        }
        Image::open(store, &self.root).unwrap()
    }

    /// Returns how often each layer was opened in the registry.
    pub(crate) fn pulls(&self) -> Vec<usize> {
        let opened = self.registry.opened();
        self.layers.iter().map(|layer| opened.iter().filter(|digest| **digest == layer.digest).count()).collect()
    }
}
