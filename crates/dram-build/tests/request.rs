//! Builds by one call of the library, with images, registries and files in memory.

// A failure here is a failed test.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "the tests make files for the build context")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dram_build::container::HostSettings;
use dram_build::request::{
    BuildFailure, BuildNote, BuildOutput, BuildRequest, BuildResult, BuildServices, CacheEndpoint, CacheExportRequest,
    CacheImportRequest, DockerfileText, FileOrStdout, ImageDestination, InputError, InputFinder, OutputFileWriter,
    PushOptions, RegistryConnector, RequestEvent, StepCounts, WriteContents, run_build,
};
use dram_build::shared_cache::CacheExportOptions;
use dram_build::transfer::{ImageSink, ImageSource, TransferError};
use dram_build::{
    BuildContext, CancelToken, CommandOptions, FetchedFile, FetchedTree, Image, ImageOptions, LocalExecutor,
    RemoteError, RemoteFetcher, ResolvedInput,
};
use dram_dockerfile::PlatformSpec;
use dram_error::{ErrorClass, ErrorReport as _};
use dram_image::{Descriptor, Digest, ImagePlatform, Reference};
use dram_plan::GitRef;
use dram_sandbox::{HostCheck, JailNetwork, MissingHostSupport};
use dram_store::Store;

/// The time of the tests: each look at the clock is a second later.
static SECONDS: AtomicU64 = AtomicU64::new(0);

fn clock() -> Duration {
    Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed))
}

/// Images by name, named contexts by value, no registry, and files in memory.
#[derive(Debug, Default)]
struct FakeWorld {
    images: BTreeMap<String, Image>,
    contexts: BTreeMap<String, ResolvedInput>,
    asked: Mutex<Vec<String>>,
    written: Mutex<Vec<u8>>,
}

impl InputFinder for FakeWorld {
    fn find_image(&self, name: &str, platform: &ImagePlatform) -> Result<Option<Image>, InputError> {
        assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("linux", "amd64"));
        self.asked.lock().unwrap().push(name.to_owned());
        if name == "broken" {
            return Err(InputError { causes: vec!["it is damaged".into(), "a bit is wrong".into()], ..no_image(name) });
        }
        Ok(self.images.get(name).cloned())
    }

    fn unknown_image(&self, name: &str) -> Result<InputError, InputError> {
        Ok(no_image(name))
    }

    fn resolve_context(&self, value: &str) -> Result<ResolvedInput, InputError> {
        self.asked.lock().unwrap().push(value.to_owned());
        self.contexts.get(value).cloned().ok_or_else(|| no_image(value))
    }

    fn name_complete_images(&self) -> Result<(), InputError> {
        Ok(())
    }
}

fn no_image(name: &str) -> InputError {
    InputError { helps: vec!["pull it".to_owned()], ..InputError::work(format!("there is no image `{name}`")) }
}

impl RegistryConnector for FakeWorld {
    fn open_source(&self, name: &Reference, _: bool) -> Result<(Box<dyn ImageSource>, Descriptor), BuildFailure> {
        Err(InputError::work(format!("`{}` does not answer", name.host())).into())
    }

    fn open_sink(&self, name: &Reference, _: PushOptions) -> Result<Box<dyn ImageSink>, TransferError> {
        let source = std::io::Error::other(format!("`{}` does not answer", name.host()));
        Err(TransferError::Write { place: "the registry".into(), source })
    }
}

impl OutputFileWriter for FakeWorld {
    fn write_output(&self, dest: &FileOrStdout, write: &mut WriteContents<'_>) -> Result<(), BuildFailure> {
        assert_eq!(*dest, FileOrStdout::Stdout);
        let mut out = Vec::new();
        let as_writer: &mut (dyn Write + Send) = &mut out;
        write(as_writer, Path::new("memory"))?;
        *self.written.lock().unwrap() = out;
        Ok(())
    }
}

impl RemoteFetcher for FakeWorld {
    fn fetch_file(&self, _: &str, _: Option<&Digest>) -> Result<FetchedFile, RemoteError> {
        panic!("no test needs a file of the network")
    }

    fn resolve_commit(&self, _: &GitRef) -> Result<String, RemoteError> {
        panic!("no test needs a repository")
    }

    fn fetch_repository(&self, _: &GitRef, _: bool) -> Result<FetchedTree, RemoteError> {
        panic!("no test needs a repository")
    }
}

/// A store and a build context on the disk.
struct TestDirs {
    dir: tempfile::TempDir,
    store: Store,
}

impl TestDirs {
    fn new() -> TestDirs {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        fs::write(dir.path().join("context/page"), "<p>").unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        TestDirs { dir, store }
    }

    fn context(&self) -> BuildContext {
        BuildContext::Dir { path: self.dir.path().join("context"), ignore: None }
    }

    fn request(&self, dockerfile: &str) -> BuildRequest {
        let platform = PlatformSpec::parse("linux/amd64").unwrap();
        BuildRequest {
            dockerfile: DockerfileText {
                name: "Dockerfile".to_owned(),
                bytes: dockerfile.as_bytes().to_vec(),
                ignore: None,
                address: "-".to_owned(),
                context_address: "-".to_owned(),
            },
            context: self.context(),
            target: None,
            build_args: BTreeMap::new(),
            time: None,
            named_contexts: BTreeMap::new(),
            platforms: vec![platform.clone()],
            host_platform: platform,
            labels: BTreeMap::new(),
            outputs: vec![image_output("demo")],
            cache_imports: Vec::new(),
            cache_exports: Vec::new(),
            use_cache: true,
            no_cache_filter: Vec::new(),
            network: JailNetwork::None,
            command_options: CommandOptions::default(),
            check_commands: true,
        }
    }

    fn build(&self, request: &BuildRequest, world: &FakeWorld) -> Result<BuildResult, BuildFailure> {
        self.build_with_events(request, world).0
    }

    /// Builds on a machine that cannot run commands; returns the events in short.
    fn build_with_events(
        &self,
        request: &BuildRequest,
        world: &FakeWorld,
    ) -> (Result<BuildResult, BuildFailure>, Vec<String>) {
        let host = HostSettings { resolv_conf: Vec::new(), no_new_privs: true, single_id: false, limits: Vec::new() };
        let missing = || Some(MissingHostSupport { failed_checks: vec![failed_check()] });
        let services = BuildServices {
            store: &self.store,
            inputs: world,
            registries: world,
            files: world,
            remotes: world,
            executor: &LocalExecutor::new(&self.store, host, clock),
            missing_support: &missing,
            clock,
            wall_clock: || (7, 0),
            cancel: CancelToken::default(),
        };
        let events = Mutex::new(Vec::new());
        let result = run_build(request, &services, &|event| events.lock().unwrap().extend(describe(&event)));
        (result, events.into_inner().unwrap())
    }
}

fn failed_check() -> HostCheck {
    let status = dram_sandbox::HostCheckStatus::Missing;
    HostCheck { name: "namespaces", status, detail: "they are off".to_owned(), help: Some("turn them on".to_owned()) }
}

fn describe(event: &RequestEvent<'_>) -> Option<String> {
    match event {
        RequestEvent::Warnings(all) => Some(format!("{} warnings", all.len())),
        RequestEvent::Planned(plan) => Some(format!("{} stages", plan.stages.len())),
        RequestEvent::Note(BuildNote::CacheNotImported { cache, causes }) => Some(format!("{cache}: {causes:?}")),
        RequestEvent::Note(BuildNote::CacheExported { exported, .. }) => Some(format!("exported {}", exported.steps)),
        RequestEvent::Note(BuildNote::CacheNotExported { cache, .. }) => Some(format!("{cache} not exported")),
        RequestEvent::OutputsEnded => Some("outputs".to_owned()),
        RequestEvent::Step(_)
        | RequestEvent::TransferStarted
        | RequestEvent::Transfer(_)
        | RequestEvent::Note(BuildNote::CacheFailed(_)) => None,
    }
}

fn image_output(name: &str) -> BuildOutput {
    BuildOutput::Image {
        options: Box::new(ImageOptions::default()),
        names: vec![name.parse().unwrap()],
        destination: ImageDestination::Store,
        push: None,
    }
}

fn counts(result: &BuildResult) -> (usize, usize, usize) {
    let StepCounts { cached, from_shared_cache, executed } = result.step_counts();
    (cached, from_shared_cache, executed)
}

/// Builds `dockerfile` and returns its image.
fn base_image(dirs: &TestDirs, dockerfile: &str) -> Image {
    let result = dirs.build(&dirs.request(dockerfile), &FakeWorld::default()).unwrap();
    Image::open(&dirs.store, &result.last_image().unwrap().built.manifest).unwrap()
}

#[test]
fn result_has_digests_names_steps_and_durations() {
    let dirs = TestDirs::new();
    let mut request = dirs.request("FROM scratch\nCOPY page /srv/\nWORKDIR /data\nENV A=1\n");
    request.labels.insert("a".to_owned(), "b".to_owned());
    let (result, events) = dirs.build_with_events(&request, &FakeWorld::default());
    let result = result.unwrap();
    assert_eq!(events, ["1 stages", "outputs"]);
    assert_eq!(counts(&result), (0, 0, 2));
    let image = result.last_image().unwrap();
    let name: Reference = "demo".parse().unwrap();
    assert_eq!(image.names, std::slice::from_ref(&name));
    assert_eq!(dirs.store.refs().get(&name).unwrap().unwrap().digest, image.root_digest());
    let stored = Image::open(&dirs.store, &image.built.manifest).unwrap();
    assert_eq!(stored.manifest.value().config.digest, image.image_id());
    assert_eq!(stored.config.value().config.labels["a"], "b");
    let durations = [result.durations.resolve, result.durations.solve, result.durations.export];
    assert!(durations.iter().all(|duration| *duration >= Duration::from_secs(1)), "{durations:?}");

    let again = dirs.build(&request, &FakeWorld::default()).unwrap();
    assert_eq!(counts(&again), (2, 0, 0));
    assert_eq!(again.outputs, result.outputs);
    let mut all = request.clone();
    all.no_cache_filter = vec!["STAGE-0".to_owned()];
    assert_eq!(counts(&dirs.build(&all, &FakeWorld::default()).unwrap()), (0, 0, 2));
}

#[test]
fn triggers_of_a_base_image_bring_new_inputs() {
    let dirs = TestDirs::new();
    let base = base_image(&dirs, "FROM scratch\nCOPY page /base\nONBUILD COPY --from=tools /tool /tool\n");
    let tools = base_image(&dirs, "FROM scratch\nCOPY page /tool\n");
    let images = [("base".to_owned(), base), ("tools".to_owned(), tools)].into();
    let world = FakeWorld { images, ..FakeWorld::default() };
    let result = dirs.build(&dirs.request("FROM base\nCOPY page /own\n"), &world).unwrap();
    // The stages are resolved once more after the triggers are known.
    assert_eq!(*world.asked.lock().unwrap(), ["base", "base", "tools"]);
    assert_eq!(result.snapshot.layers.len(), 3);
}

#[test]
fn named_context_is_resolved_once_for_all_its_uses() {
    let dirs = TestDirs::new();
    let contexts = [("somewhere".to_owned(), ResolvedInput::Context(dirs.context()))].into();
    let world = FakeWorld { contexts, ..FakeWorld::default() };
    let mut request = dirs.request("FROM scratch\nCOPY --from=extra page /a\nCOPY --from=extra page /b\n");
    request.named_contexts.insert("extra".to_owned(), "somewhere".to_owned());
    assert_eq!(counts(&dirs.build(&request, &world).unwrap()), (0, 0, 2));
    assert_eq!(*world.asked.lock().unwrap(), ["somewhere"]);
}

#[test]
fn inputs_that_are_not_found_are_reported_together() {
    let dirs = TestDirs::new();
    let request = dirs.request("FROM nothing\nCOPY --from=broken a /\n");
    let Err(BuildFailure::MissingInputs(errors)) = dirs.build(&request, &FakeWorld::default()) else {
        panic!("the images are missing")
    };
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["there is no image `nothing`", "it is damaged"]);
    assert_eq!((errors[0].helps.as_slice(), errors[0].span.clone()), (&["pull it".to_owned()][..], 5..12));
    assert_eq!(errors[1].notes, ["a bit is wrong"]);
}

#[test]
fn errors_of_the_dockerfile_need_no_input() {
    let dirs = TestDirs::new();
    let world = FakeWorld::default();
    for text in ["FROM base\nCOPY\n", "RUN x\n", "FROM base\nFROM base AS 1a\n"] {
        let failure = dirs.build(&dirs.request(text), &world).unwrap_err();
        assert!(matches!(failure, BuildFailure::Dockerfile(_)), "{text}: {failure}");
    }
    assert!(world.asked.lock().unwrap().is_empty());
}

#[test]
fn commands_are_refused_before_any_step_is_executed() {
    let dirs = TestDirs::new();
    let request = dirs.request("FROM scratch\nCOPY page /\nRUN [\"/x\"]\n");
    let (result, events) = dirs.build_with_events(&request, &FakeWorld::default());
    let Err(BuildFailure::CommandsUnsupported(error)) = result else { panic!("no command can be run") };
    assert_eq!(error.message, "commands cannot be run here: namespaces: they are off");
    assert_eq!(error.helps[0], "turn them on");
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn unknown_stage_and_wrong_number_of_platforms_are_refused() {
    let dirs = TestDirs::new();
    let mut request = dirs.request("FROM scratch AS app\nCOPY page /\n");
    request.no_cache_filter = vec!["ap".to_owned()];
    let failure = dirs.build(&request, &FakeWorld::default()).unwrap_err();
    assert_eq!((failure.class(), failure.helps()), (ErrorClass::Usage, vec!["did you mean `app`?".to_owned()]));
    request.platforms.clear();
    let failure = dirs.build(&request, &FakeWorld::default()).unwrap_err();
    assert_eq!(failure.to_string(), "an image is for one platform, and 0 are requested");
}

#[test]
fn files_go_through_the_output_service() {
    let dirs = TestDirs::new();
    let world = FakeWorld::default();
    let mut request = dirs.request("FROM scratch\nCOPY page /srv/\n");
    request.outputs = vec![BuildOutput::Tar { dest: FileOrStdout::Stdout, time: None }, BuildOutput::Nothing];
    let result = dirs.build(&request, &world).unwrap();
    assert!(result.last_image().is_none());
    assert_eq!(result.outputs[0].destination.as_deref(), Some("standard output"));
    let tar = world.written.lock().unwrap().clone();
    assert!(tar.windows(8).any(|part| part == b"srv/page"));
}

#[test]
fn shared_cache_is_written_and_read_by_another_store() {
    let (dirs, other) = (TestDirs::new(), TestDirs::new());
    let endpoint = CacheEndpoint::Local { path: dirs.dir.path().join("cache"), tag_or_digest: "latest".to_owned() };
    let mut request = dirs.request("FROM scratch\nCOPY page /srv/\n");
    let options = CacheExportOptions::default();
    let export =
        CacheExportRequest { text: "c".into(), endpoint: Some(endpoint.clone()), options, ignore_error: false };
    request.cache_exports = vec![export];
    let (result, events) = dirs.build_with_events(&request, &FakeWorld::default());
    let result = result.unwrap();
    assert!(result.cache_failure.is_none());
    assert_eq!(events, ["1 stages", "outputs", "exported 1"]);

    let mut request = other.request("FROM scratch\nCOPY page /srv/\n");
    request.cache_imports = vec![CacheImportRequest { text: "c".to_owned(), endpoint }];
    let read = other.build(&request, &FakeWorld::default()).unwrap();
    assert_eq!(counts(&read), (1, 1, 0));
    assert_eq!(read.outputs, result.outputs);
}

#[test]
fn cache_that_is_out_of_reach_costs_no_image() {
    let dirs = TestDirs::new();
    let endpoint = CacheEndpoint::Registry { name: "host.example/cache".parse().unwrap(), insecure: false };
    let mut request = dirs.request("FROM scratch\nCOPY page /srv/\n");
    request.cache_imports = vec![CacheImportRequest { text: "c".to_owned(), endpoint: endpoint.clone() }];
    let options = CacheExportOptions::default();
    let export = |text: &str, ignore_error| {
        let endpoint = Some(endpoint.clone());
        CacheExportRequest { text: text.to_owned(), endpoint, options: options.clone(), ignore_error }
    };
    request.cache_exports = vec![export("quiet", true), export("loud", false)];
    let (result, events) = dirs.build_with_events(&request, &FakeWorld::default());
    let result = result.unwrap();
    let expected = ["c: [\"`host.example` does not answer\"]", "1 stages", "outputs", "quiet not exported"];
    assert_eq!(events.iter().filter(|event| expected.contains(&event.as_str())).count(), 4, "{events:?}");
    assert!(result.last_image().is_some());
    let failure = result.cache_failure.unwrap();
    assert_eq!(failure.causes()[0], "the cache `loud` was not written");
    assert_eq!(failure.helps().last().unwrap(), "with `ignore-error=true` this is no reason to fail");
}

#[test]
fn failed_service_keeps_its_class() {
    let dirs = TestDirs::new();
    let mut request = dirs.request("FROM extra\n");
    request.named_contexts.insert("extra".to_owned(), "nowhere".to_owned());
    let Err(BuildFailure::Input(error)) = dirs.build(&request, &FakeWorld::default()) else {
        panic!("the context cannot be resolved")
    };
    assert_eq!((error.class, error.to_string().as_str()), (ErrorClass::Work, "there is no image `nowhere`"));
}
