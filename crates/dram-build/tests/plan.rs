//! Executes a plan that was written by hand: there is no Dockerfile.

// A failure here is a failed test.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "the tests make files for the build context")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use dram_build::container::HostSettings;
use dram_build::{
    BuildContext, BuildError, BuildEvent, BuildId, BuildOptions, CancelToken, CommandOptions, FetchedFile, FetchedTree,
    LayerProvider, LocalExecutor, RemoteError, RemoteFetcher, Snapshot, build,
};
use dram_image::Digest;
use dram_plan::{GitRef, Plan};
use dram_sandbox::JailNetwork;
use dram_store::Store;

const PLAN: &str = r#"{
    "version": 1,
    "target": 0,
    "stages": [{
        "name": "app",
        "index": 0,
        "base": "scratch",
        "steps": [
            {
                "text": "copy the page",
                "origin": { "generated": { "by": "a test" } },
                "op": {
                    "copy": {
                        "from": "context",
                        "sources": [{ "text": "page.html", "kind": "path" }, { "text": "version", "kind": { "inline": "1\n" } }],
                        "dest": "/srv/",
                        "chmod": "0600",
                        "unpack": "no"
                    }
                }
            },
            { "text": "make /data", "origin": { "generated": { "by": "a test" } }, "op": { "workdir": { "path": "/data" } } }
        ],
        "config": { "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } }
    }]
}"#;

/// A network without anything in it.
#[derive(Debug)]
struct UnreachableFetcher;

impl RemoteFetcher for UnreachableFetcher {
    fn fetch_file(&self, _: &str, _: Option<&Digest>) -> Result<FetchedFile, RemoteError> {
        panic!("the plan needs no file of the network")
    }

    fn resolve_commit(&self, _: &GitRef) -> Result<String, RemoteError> {
        panic!("the plan needs no repository")
    }

    fn fetch_repository(&self, _: &GitRef, _: bool) -> Result<FetchedTree, RemoteError> {
        panic!("the plan needs no repository")
    }
}

fn execute(store: &Store, context: &Path, plan: &Plan) -> (Result<Snapshot, BuildError>, Vec<BuildEvent>) {
    let context = BuildContext::Dir { path: context.to_owned(), ignore: None };
    let host = HostSettings { resolv_conf: Vec::new(), no_new_privs: true, single_id: false, limits: Vec::new() };
    let executor = LocalExecutor::new(store, host, || Duration::ZERO);
    let layers = LayerProvider::new(store);
    let options = BuildOptions {
        layers: &layers,
        executor: &executor,
        context: &context,
        use_cache: true,
        no_cache_stages: BTreeSet::new(),
        network: JailNetwork::None,
        build_id: BuildId {
            dockerfile: "-".to_owned(),
            context: String::new(),
            platform: "linux/amd64".to_owned(),
            target: String::new(),
            build_args: BTreeMap::new(),
        },
        clock: || Duration::ZERO,
        wall_clock: || (7, 0),
        time: None,
        command_options: CommandOptions::default(),
        remotes: &UnreachableFetcher,
        cancel: CancelToken::default(),
    };
    let events = Mutex::new(Vec::new());
    let built = build(plan, &BTreeMap::new(), &options, &|event| events.lock().unwrap().push(event));
    (built, events.into_inner().unwrap())
}

#[test]
fn plan_without_a_dockerfile_is_executed_and_cached() {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("page.html"), "<p>").unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let plan = Plan::from_json(PLAN.as_bytes()).unwrap();

    let (built, events) = execute(&store, &context, &plan);
    let snapshot = built.unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, BuildEvent::Executed(..))).count(), 2, "{events:?}");
    assert!(snapshot.steps.iter().all(|step| step.made_layer && step.executed == Some(7)));
    assert_eq!(snapshot.steps.len(), 2);
    let read = |path: &str| {
        let ids = LayerProvider::new(&store).ensure(&snapshot.layers).unwrap();
        let mut layers = ids.iter().map(|id| store.layers().path(id).join(path));
        layers.find_map(|path| fs::read_to_string(path).ok())
    };
    assert_eq!(read("srv/page.html").as_deref(), Some("<p>"));
    assert_eq!(read("srv/version").as_deref(), Some("1\n"));

    let (built, events) = execute(&store, &context, &plan);
    assert_eq!(built.unwrap(), snapshot);
    assert_eq!(events.iter().filter(|event| matches!(event, BuildEvent::Cached(_))).count(), 2, "{events:?}");
}

#[test]
fn failure_of_a_generated_step_names_the_step() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let plan = Plan::from_json(PLAN.as_bytes()).unwrap();
    let (built, _) = execute(&store, dir.path(), &plan);
    let BuildError::AtLine(error) = built.unwrap_err() else { panic!("it is an error of a step") };
    assert_eq!(error.message, "no such file in the build context: `page.html`");
    assert!(error.span.is_empty());
    assert!(error.notes.contains(&"in the step `copy the page`, made by a test".to_owned()), "{error:?}");
}

#[test]
fn input_that_was_not_resolved_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let text = PLAN.replace(r#""base": "scratch""#, r#""base": { "external": "debian" }"#);
    let plan = Plan::from_json(text.as_bytes()).unwrap();
    let (built, events) = execute(&store, dir.path(), &plan);
    assert_eq!(built.unwrap_err().to_string(), "the plan needs `debian`, which was not resolved");
    assert!(events.is_empty());
}
