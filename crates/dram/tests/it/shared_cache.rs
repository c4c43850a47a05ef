//! Shared caches: `--cache-to` on one machine, `--cache-from` on another, which executes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::registry::debian::Debian;
use crate::registry::fake::{FakeRegistry, Fault, FaultPoint, Misbehaviour};
use crate::rootless::{user_with_subids, user_without_subids, with_base};
use crate::support::{CommandOutput, Context, Store, TestCommand, list, names, temp, tool, valid_image};

/// A secret that must not be stored in a cache.
const SECRET: &str = "swordfish-4711-swordfish";

/// Two stages with all kinds of changes. The first command needs a secret, which the second machine does not have.
const APP: &str = "\
FROM parity-base AS build
WORKDIR /src
COPY lib lib
RUN --mount=type=secret,id=token,required=true test -s /run/secrets/token && mkdir -m 750 /out && cp -r lib /out/lib \\
 && chown -R 12:34 /out && echo big > /build-only
FROM parity-base
RUN mkdir /d && echo one > /d/one && ln /d/one /d/two && echo gone > /gone && chmod 4711 /d/one
RUN rm /gone && rm -r /d && mkdir /d && mkfifo /d/pipe && ln -s nowhere /d/link && chmod 1777 /d
COPY --from=build /out /app
WORKDIR /home/app
ENV GREETING=hello
";

fn app() -> Context {
    Context::new(APP).file("lib/a", "a\n").file("lib/sub/b", "b\n")
}

/// Copies the context with other timestamps, as a fresh checkout has them.
fn fresh_checkout(context: &Context) -> Context {
    let copy = Context::new("");
    tool("sh")
        .args(["-c", r#"cp -r "$1"/. "$2" && find "$2" -exec touch -d 2001-02-03 {} +"#, "sh"])
        .arg(context.path())
        .arg(copy.path())
        .ok();
    copy
}

fn build(store: &Store, context: &Context, words: &[&str]) -> TestCommand {
    store.build(context).args(words)
}

/// Builds with the secret.
fn build_with_secret(store: &Store, context: &Context, words: &[&str]) -> CommandOutput {
    build(store, context, words).args(["--secret", "id=token,env=TOKEN"]).env("TOKEN", SECRET).ok()
}

/// A directory for a cache, and the two options that name it.
struct CacheDir {
    dir: tempfile::TempDir,
}

impl CacheDir {
    fn new() -> CacheDir {
        CacheDir { dir: temp() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn cache_to(&self, more: &str) -> String {
        format!("--cache-to=type=local,dest={}{more}", self.path().display())
    }

    fn cache_from(&self) -> String {
        format!("--cache-from=type=local,src={}", self.path().display())
    }

    /// Returns the manifest and the config of the cache.
    fn read(&self) -> (Value, Value) {
        let json = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let index = json(self.path().join("index.json"));
        let manifest = json(self.blob(&index["manifests"][0]));
        let document = json(self.blob(&manifest["config"]));
        (manifest, document)
    }

    fn blob(&self, descriptor: &Value) -> PathBuf {
        self.path().join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
    }

    fn layers(&self) -> usize {
        list(&self.read().0["layers"]).len()
    }
}

/// The option with which steps that are executed again give the same image.
const FIXED_TIME: &str = "--source-date-epoch=0";

/// Builds a fresh checkout of `context` in a new store with the option `from`. Returns the store and the result.
fn cold_build(context: &Context, from: &str) -> (Store, CommandOutput) {
    cold_build_with(context, &[from])
}

/// Builds a fresh checkout of `context` in a new store with `words`. Returns the store and the result.
fn cold_build_with(context: &Context, words: &[&str]) -> (Store, CommandOutput) {
    let store = Store::with_base();
    let done = build(&store, &fresh_checkout(context), words).ok();
    (store, done)
}

#[test]
fn a_cold_build_gets_cache_hits_from_a_directory() {
    for mode in ["", ",mode=max", ",mode=max,compression=zstd", ",compression=uncompressed,oci-mediatypes=false"] {
        let (store, context, place) = (Store::with_base(), app(), CacheDir::new());
        assert_eq!(build_with_secret(&store, &context, &[&place.cache_to(mode)]).steps(), (7, 0));
        let (other, done) = cold_build(&context, &place.cache_from());
        assert_eq!(done.steps(), (0, 7), "{mode}: {done}");
        assert_eq!(other.digest("demo"), store.digest("demo"));
        valid_image(&other, "demo:latest");
        other.sh("test $(stat -c %u:%g:%a /app/lib/a) = 12:34:644 && test -p /d/pipe && ! test -e /gone /d/one");
        // Layers that were pulled are now cached locally; those that were not needed come from the shared cache again.
        build(&other, &context, &[&place.cache_from()]).ok().says("7 cached (3 from a shared cache)");
    }
}

#[test]
fn layers_of_other_stages_are_pulled_lazily() {
    let (store, context) = (Store::with_base(), app());
    let (small, large) = (CacheDir::new(), CacheDir::new());
    build_with_secret(&store, &context, &[&small.cache_to(""), &large.cache_to(",mode=max")]);
    assert!(small.layers() < large.layers(), "{} {}", small.layers(), large.layers());
    let (other, _) = cold_build(&context, &large.cache_from());
    let fetched = names(&other.join("layers")).iter().filter(|name| name.starts_with("c-")).count();
    assert_eq!(fetched, small.layers());
    assert!(!other.join("layers").join("x").exists());

    // Copying another file of the first stage needs that stage's layers, which only the cache with `mode=max` contains.
    context.write("Dockerfile", &APP.replace("COPY --from=build /out /app", "COPY --from=build /build-only /app/"));
    let (_, done) = cold_build(&context, &large.cache_from());
    assert_eq!(done.steps(), (2, 5), "{done}");
    let other = Store::with_base();
    let done = build_with_secret(&other, &context, &[&small.cache_from()]);
    assert_eq!(done.steps(), (5, 2), "{done}");
    other.sh("test \"$(cat /app/build-only)\" = big");
}

#[test]
fn a_changed_file_is_a_cache_miss_only_for_dependent_steps() {
    let dockerfile = "FROM parity-base\nRUN echo below > /below\nCOPY file /\nRUN cp /file /copy\n";
    let (store, context, place) = (Store::with_base(), Context::new(dockerfile).file("file", "1"), CacheDir::new());
    build(&store, &context, &[&place.cache_to(",mode=max")]).ok();
    context.write("file", "2");
    let (other, done) = cold_build(&context, &place.cache_from());
    assert_eq!(done.steps(), (2, 1), "{done}");
    done.says("RUN echo below > /below: CACHED (shared)").says("fetching ");
    // Files from a cache have the time at which the first machine made them, in whole seconds.
    let time = store.sh("stat -c %Y /below").stdout;
    assert_eq!(other.sh("test \"$(cat /copy)\" = 2 && stat -c %Y /below").stdout, time);
    assert!(time.trim().parse::<u64>().unwrap() > 1_700_000_000, "{time}");
    let why = other.dram(["why"]).ok().stdout;
    assert!(why.contains("from a shared cache"), "{why}");
    assert!(why.contains("2 steps executed, 1 cached (1 from a shared cache)"), "{why}");
}

#[test]
fn a_cold_build_gets_cache_hits_from_a_registry() {
    let (registry, store, context) = (Debian::plain(), Store::with_base(), app());
    let name = registry.name("caches/app:main");
    let to = format!("--cache-to=type=registry,ref={name},mode=max");
    let done = build_with_secret(&store, &context, &[&to]);
    done.says(&format!("cached in {name}: 7 steps, "));
    let (other, done) = cold_build(&context, &format!("--cache-from=type=registry,ref={name}"));
    assert_eq!(done.steps(), (0, 7), "{done}");
    assert_eq!(other.digest("demo"), store.digest("demo"));
    let manifest: Value = serde_json::from_str(&skopeo_raw(&name)).unwrap();
    let requests = registry.requests();
    let fetched = |layer: &&Value| {
        let path = format!("GET /v2/caches/app/blobs/{} ", layer["digest"].as_str().unwrap());
        requests.iter().any(|request| request.starts_with(&path))
    };
    let layers = list(&manifest["layers"]);
    let small = names(&other.join("layers")).iter().filter(|name| name.starts_with("c-")).count();
    assert_eq!(layers.iter().filter(fetched).count(), small, "of {}: {requests:#?}", layers.len());
    assert!(small < layers.len());
    // A cache export from the second machine fetches and sends nothing that the registry has.
    let before = registry.requests().len();
    build(&other, &context, &[&to, &format!("--cache-from={name}")]).ok();
    let again = registry.requests();
    let moved = |request: &&String| request.starts_with("PATCH ") || request.starts_with("GET /v2/caches/app/blobs/");
    let moved: Vec<&String> = again[before..].iter().filter(moved).collect();
    // Only the config of the cache is transferred.
    assert!(moved.len() <= 2, "{moved:#?}");
    assert_eq!(serde_json::from_str::<Value>(&skopeo_raw(&name)).unwrap(), manifest);
    // Other tools copy a cache like an image.
    let out = temp();
    let copied = format!("oci:{}:main", out.path().join("layout").display());
    let from = format!("docker://{name}");
    tool("skopeo").args(["copy", "--src-tls-verify=false", &from, &copied]).ok();
    let from = format!("--cache-from=type=local,src={},tag=main", out.path().join("layout").display());
    assert_eq!(cold_build(&context, &from).1.steps(), (0, 7));
}

fn skopeo_raw(name: &str) -> String {
    tool("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok().stdout
}

#[test]
fn a_pushed_image_with_an_inline_cache_is_a_cache() {
    let (registry, store, context) = (Debian::plain(), Store::with_base(), app());
    let name = registry.name("app:1");
    let output = format!("type=registry,name={name}");
    build_with_secret(&store, &context, &["--cache-to", "type=inline", "-o", &output]);
    let (other, done) = cold_build(&context, &format!("--cache-from={name}"));
    assert_eq!(done.steps(), (0, 7), "{done}");
    // Built and pushed again from there, it is the same image.
    let pushed = skopeo_raw(&name);
    let from = format!("--cache-from={name}");
    build(&other, &context, &[&from, "--cache-to", "type=inline", "-o", &output]).ok();
    assert_eq!(skopeo_raw(&name), pushed);
}

#[test]
fn an_unusable_registry_cache_does_not_fail_the_build() {
    let (registry, context) = (Debian::plain(), Context::new("FROM parity-base\nRUN echo one > /one\n"));
    let store = Store::with_base();
    let (_, done) = cold_build(&context, &format!("--cache-from={}", registry.name("app:none")));
    assert_eq!(done.steps(), (1, 0), "{done}");
    done.says("it is not used");
    // An image without an inline cache.
    let name = registry.name("app:bare");
    build(&store, &context, &["-o", "type=image", "-o", &format!("type=registry,name={name}")]).ok();
    let (_, done) = cold_build(&context, &format!("--cache-from={name}"));
    assert_eq!(done.steps(), (1, 0), "{done}");
    done.says("is an image without a cache");
    // A registry that answers wrongly for every layer.
    let to = |fake: &FakeRegistry| format!("--cache-to=type=registry,ref={}", fake.name("caches:1"));
    for wrong in [Misbehaviour::Flipped, Misbehaviour::Status(404, "gone"), Misbehaviour::NoContent] {
        let fake = FakeRegistry::new([]);
        build(&store, &context, &[&to(&fake), FIXED_TIME]).ok();
        let document: Value =
            serde_json::from_slice(&fake.manifest("caches", &fake.tag("caches", "1").unwrap()).unwrap()).unwrap();
        let layer = document["layers"][0]["digest"].as_str().unwrap().to_owned();
        fake.set_faults([Fault::always(FaultPoint::Blob, wrong).at(layer)]);
        let (other, done) =
            cold_build_with(&context, &[&format!("--cache-from={}", fake.name("caches:1")), FIXED_TIME]);
        assert_eq!(done.steps(), (1, 0), "{done}");
        assert_eq!(other.digest("demo"), store.digest("demo"));
    }
    // A registry that refuses uploads.
    let fake = FakeRegistry::new([Fault::always(FaultPoint::StartUpload, Misbehaviour::Status(403, "denied"))]);
    build(&store, &context, &[&to(&fake)]).fails(4).says("was not written");
    build(&store, &context, &[&format!("{},ignore-error=true", to(&fake))]).ok().says("note: `--cache-to ");
}

#[test]
fn an_identical_rebuild_of_a_stage_keeps_shared_cache_hits() {
    let (store, context, place) = (Store::with_base(), app(), CacheDir::new());
    build_with_secret(&store, &context, &[&place.cache_to(",mode=max")]);
    context.write("Dockerfile", &APP.replace("echo big", "echo bigger"));
    let other = Store::with_base();
    let done = build_with_secret(&other, &context, &[&place.cache_from()]);
    assert_eq!(done.steps(), (1, 6), "{done}");
    done.says("COPY --from=build /out /app: CACHED (shared)");
    assert_eq!(other.digest("demo"), store.digest("demo"));
}

#[test]
fn a_layout_or_loaded_image_with_an_inline_cache_is_a_cache() {
    let (store, context, out) = (Store::with_base(), app(), temp());
    let layout = out.path().join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    build_with_secret(&store, &context, &["--cache-to", "type=inline", "-o", &output]);
    let from = format!("--cache-from=type=local,src={}", layout.display());
    let (other, done) = cold_build(&context, &from);
    assert_eq!(done.steps(), (0, 7), "{done}");
    // The image differs only in the annotation, and is identical with it.
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let plain = store.dram(["build", "--quiet", "-t", "plain"]).arg(context.path()).ok();
    assert_ne!(index["manifests"][0]["digest"], plain.stdout.trim());
    assert_eq!(other.digest("demo"), plain.stdout.trim());
    build(&other, &context, &["--cache-to=type=inline", &from]).ok();
    assert_eq!(other.digest("demo"), index["manifests"][0]["digest"].as_str().unwrap());
    valid_image(&other, "demo:latest");
    // A loaded image has the same inline cache, under its name.
    let third = Store::with_base();
    third.dram(["load"]).arg(&layout).ok();
    let words = ["--cache-from", "demo", "--pull=never", "-t", "again"];
    assert_eq!(third.build(&context).args(words).ok().steps(), (0, 7));
}

#[test]
fn no_cache_ignores_shared_caches() {
    let context = Context::new("FROM parity-base AS one\nRUN echo 1 > /1\nFROM one\nRUN echo 2 > /2\n");
    let (store, place) = (Store::with_base(), CacheDir::new());
    let done = build(&store, &context, &[&place.cache_to("")]).ok();
    done.says(&format!("cached in {}: 2 steps, 2 layers of ", place.path().display()));
    let from = place.cache_from();
    assert_eq!(build(&Store::with_base(), &context, &[&from, "--no-cache"]).ok().steps(), (2, 0));
    assert_eq!(build(&Store::with_base(), &context, &[&from, "--no-cache-filter", "one"]).ok().steps(), (1, 1));
    // The older build argument does the same.
    let older = build(&store, &context, &["--build-arg", "BUILDKIT_INLINE_CACHE=1"]).ok().digest();
    assert_eq!(build(&store, &context, &["--cache-to", "type=inline"]).ok().digest(), older);
}

#[test]
fn several_caches_are_combined_and_a_missing_one_is_a_note() {
    let (store, context) = (Store::with_base(), app());
    let (first, second) = (CacheDir::new(), CacheDir::new());
    let part = "FROM parity-base\nRUN mkdir /d && echo one > /d/one && ln /d/one /d/two && echo gone > /gone && chmod 4711 /d/one\n";
    build(&store, &Context::new(part), &[&first.cache_to("")]).ok();
    build_with_secret(&store, &context, &[&second.cache_to(",tag=main")]);
    let missing = "--cache-from=type=local,src=/nowhere/at/all";
    let tagged = format!("{},tag=main", second.cache_from());
    let other = Store::with_base();
    let done = build(&other, &context, &[missing, &first.cache_from(), &tagged]).ok();
    assert_eq!(done.steps(), (0, 7), "{done}");
    done.says("note: `--cache-from type=local,src=/nowhere/at/all`: ");
    let done = build(&Store::with_base(), &context, &[&format!("{},tag=other", second.cache_from())]).fails(1);
    done.says("has no `other`; it is not used");
}

#[test]
fn steps_with_damaged_cache_layers_are_executed() {
    let (store, context, place) = (Store::with_base(), app(), CacheDir::new());
    context.write(
        "Dockerfile",
        &APP.replace("--mount=type=secret,id=token,required=true test -s /run/secrets/token && ", ""),
    );
    build(&store, &context, &[&place.cache_to(",mode=max"), FIXED_TIME]).ok();
    let want = store.digest("demo");
    let whole = temp();
    tool("cp").arg("-a").arg(place.path()).arg(whole.path().join("cache")).ok();
    let (manifest, _) = place.read();
    let layers = list(&manifest["layers"]);
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let damages: [(&str, &dyn Fn()); 6] = [
        ("is damaged", &|| layers.iter().for_each(|layer| flip(&place.blob(layer)))),
        ("is damaged", &|| layers.iter().for_each(|layer| fs::write(place.blob(layer), "").unwrap())),
        ("is not there", &|| layers.iter().for_each(|layer| fs::remove_file(place.blob(layer)).unwrap())),
        ("is damaged", &|| flip(&place.blob(&manifest["config"]))),
        ("is not there", &|| fs::remove_file(place.blob(&manifest["config"])).unwrap()),
        ("index.json", &|| fs::write(place.path().join("index.json"), "{").unwrap()),
    ];
    for (at, (says, damage)) in damages.iter().enumerate() {
        damage();
        let (other, done) = cold_build_with(&context, &[&place.cache_from(), FIXED_TIME]);
        assert_eq!(done.steps().0 + done.steps().1, 7, "{at}: {done}");
        assert!(done.steps().0 >= 4, "{at}: {done}");
        done.says(says);
        assert_eq!(other.digest("demo"), want, "{at}");
        valid_image(&other, "demo:latest");
        tool("rm").arg("-r").arg(place.path()).ok();
        tool("cp").arg("-a").arg(whole.path().join("cache")).arg(place.path()).ok();
    }
    // With one damaged layer, only the steps that need it are executed.
    flip(&place.blob(&layers[layers.len() - 1]));
    let (other, done) = cold_build_with(&context, &[&place.cache_from(), FIXED_TIME]);
    let (executed, cached) = done.steps();
    assert!(executed >= 1 && cached >= 4, "{done}");
    assert_eq!(other.digest("demo"), want);
}

/// The expected message, and the change to the config of the cache.
type Falsification<'a> = (&'a str, &'a dyn Fn(&mut Value));

#[test]
fn a_cache_with_false_contents_is_rejected() {
    let dockerfile = "FROM parity-base\nRUN echo one > /one\nRUN echo two > /two\n";
    let (store, context, place) = (Store::with_base(), Context::new(dockerfile), CacheDir::new());
    build(&store, &context, &[&place.cache_to(""), FIXED_TIME]).ok();
    let want = store.digest("demo");
    let (manifest, document) = place.read();
    // Each case replaces the config of the cache.
    let lies: [Falsification<'_>; 8] = [
        ("and it should hold", &|document| {
            // The first layer under the id of the second, otherwise valid.
            let (zero, one) = (document["layers"][0].clone(), document["layers"][1].clone());
            document["layers"][0]["id"] = one["id"].clone();
            document["layers"][1]["id"] = zero["id"].clone();
        }),
        ("unpacks to", &|document| document["layers"][0]["diff_id"] = document["layers"][1]["diff_id"].clone()),
        ("is not packed as dram packs", &|document| document["layers"][0]["time"] = Value::from(77)),
        ("it has a layer without a time", &|document| {
            document["layers"][0].as_object_mut().unwrap().remove("time");
        }),
        ("not between the years", &|document| document["steps"][0]["executed"] = Value::from(i64::MAX)),
        ("there is no compression", &|document| document["layers"][0]["compression"] = Value::from("../../../canary")),
        ("it names the layer 99", &|document| document["layers"][0]["at"] = Value::from(99)),
        ("is no layer that a step makes", &|document| {
            document["steps"][0]["layer"] = Value::from(format!("d-{}", "ab".repeat(32)));
        }),
    ];
    for (says, lie) in lies {
        let mut document = document.clone();
        lie(&mut document);
        let mut manifest = manifest.clone();
        manifest["config"] = put_document(&place, &manifest["config"], &document);
        let index = put_document(
            &place,
            &serde_json::json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json" }),
            &manifest,
        );
        fs::write(
            place.path().join("index.json"),
            serde_json::json!({ "schemaVersion": 2, "manifests": [index] }).to_string(),
        )
        .unwrap();
        let (other, done) = cold_build_with(&context, &[&place.cache_from(), FIXED_TIME]);
        assert!(done.steps().0 >= 1, "{says}: {done}");
        done.says(says);
        assert_eq!(other.digest("demo"), want, "{says}");
        other.sh("test \"$(cat /one /two)\" = \"$(printf 'one\\ntwo')\"");
    }
}

/// Writes `document` into the cache and returns a descriptor for it, based on `like`.
fn put_document(place: &CacheDir, like: &Value, document: &Value) -> Value {
    let text = document.to_string();
    let sum = tool("sha256sum").stdin(text.clone()).ok().stdout;
    let mut descriptor = like.clone();
    descriptor["digest"] = Value::from(format!("sha256:{}", &sum[..64]));
    descriptor["size"] = Value::from(text.len());
    fs::write(place.blob(&descriptor), text).unwrap();
    descriptor
}

#[test]
fn caches_of_other_formats_are_skipped_with_a_note() {
    let context = Context::new("FROM parity-base\nRUN echo one > /one\n");
    let (store, place) = (Store::with_base(), CacheDir::new());
    build(&store, &context, &[&place.cache_to("")]).ok();
    let (manifest, _) = place.read();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let buildkit = "application/vnd.buildkit.cacheconfig.v0";
    let image =
        serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let mut inline = image.clone();
    inline["moby.buildkit.cache.v0"] = Value::from("e30=");
    let config = |kind: &str, document: &Value| {
        let config = put_document(&place, &serde_json::json!({ "mediaType": kind }), document);
        serde_json::json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [] })
    };
    let empty = serde_json::json!({});
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [put_document(&place, &serde_json::json!({ "mediaType": buildkit }), &empty)]
    });
    let table = [
        (manifest_type, config(buildkit, &empty), "is a cache of BuildKit's"),
        ("application/vnd.oci.image.index.v1+json", index, "is a cache of BuildKit's"),
        (manifest_type, config("application/vnd.oci.image.config.v1+json", &inline), "is a cache of BuildKit's"),
        (manifest_type, config("application/vnd.oci.image.config.v1+json", &image), "is an image without a cache"),
        (
            manifest_type,
            config(manifest["config"]["mediaType"].as_str().unwrap(), &empty),
            "the cache's table of contents",
        ),
    ];
    for (kind, document, says) in table {
        let root = put_document(&place, &serde_json::json!({ "mediaType": kind }), &document);
        fs::write(
            place.path().join("index.json"),
            serde_json::json!({ "schemaVersion": 2, "manifests": [root] }).to_string(),
        )
        .unwrap();
        let (_, done) = cold_build(&context, &place.cache_from());
        assert_eq!(done.steps(), (1, 0), "{done}");
        done.says(says).says("it is not used");
    }
}

#[test]
fn secrets_are_not_in_a_shared_cache() {
    let (store, context, place) = (Store::with_base(), app(), CacheDir::new());
    build_with_secret(&store, &context, &[&place.cache_to(",mode=max,compression=uncompressed")]);
    let found = tool("grep").args(["-rlF", SECRET]).arg(place.path()).end();
    assert_eq!((found.code, found.stdout.as_str()), (1, ""));
    let found = tool("grep").args(["-rlF", "big"]).arg(place.path()).end();
    assert_eq!(found.code, 0, "what the command wrote is there");
}

#[test]
fn a_failed_cache_export_is_an_error_after_the_build() {
    let (store, out) = (Store::with_base(), temp());
    let context = Context::new("FROM parity-base\nRUN echo one > /one\n");
    fs::write(out.path().join("file"), "").unwrap();
    let to = format!("--cache-to=type=local,dest={}", out.path().join("file").display());
    build(&store, &context, &[&to]).fails(1).says("was not written").says("ignore-error=true");
    assert!(!store.digest("demo").is_empty());
    let done = build(&store, &context, &[&format!("{to},ignore-error=true")]).ok();
    done.says("note: `--cache-to ");
    // A directory with other files is not overwritten by a cache.
    build(&store, &context, &["--cache-to", &format!("type=local,dest={}", out.path().display())])
        .fails(1)
        .says("holds something that is no OCI layout");
}

#[test]
fn cache_options_are_those_of_buildkit() {
    let context = Context::new("FROM parity-base\nRUN true\n");
    let store = Store::with_base();
    for (words, says) in [
        (["--cache-to", "type=local"], "it has no `dest=DIR`"),
        (["--cache-from", "type=local"], "it has no `src=DIR`"),
        (["--cache-from", "type=registry"], "it has no `ref=NAME`"),
        (["--cache-from", "type=inline"], "a cache in an image is where the image is"),
        (["--cache-to", "dest=x"], "it has no `type=`"),
        (["--cache-to", "type=locl,dest=x"], "there is no type `locl`"),
        (["--cache-to", "type=local,dest=x,mode=all"], "there is no mode `all`"),
        (["--cache-to", "type=inline,mode=max"], "an image has no layers but its own"),
        (["--cache-to", "type=local,dest=x,mod=max"], "did you mean `mode`?"),
        (["--cache-to", "type=local,dest=x,image-manifest=false"], "a cache is an image manifest"),
        (["--cache-to", "type=local,dest=x,compression=estargz"], "`compression=estargz` is not supported"),
        (["--cache-from", "UPPER"], "UPPER"),
    ] {
        build(&store, &context, &words).fails(2).says(says);
    }
    for kind in ["gha,scope=x", "s3,region=x,bucket=y", "azblob,name=x"] {
        build(&store, &context, &["--cache-to", &format!("type={kind}"), "--cache-from", &format!("type={kind}")])
            .ok()
            .says("it has no effect");
    }
}

#[test]
fn rootless_builds_use_caches_of_root_and_of_their_own_id_mapping() {
    let dockerfile = "FROM parity-base\nRUN echo one > /one && chown 12:34 /one\nCOPY file /there/\nWORKDIR /work\n";
    let context = Context::new(dockerfile).file("file", "1");
    let copy_of = |place: &CacheDir| {
        // Makes the cache readable for every user.
        tool("chmod").args(["-R", "a+rX"]).arg(place.dir.path()).ok();
    };
    let (root, lent, one) = (Store::with_base(), with_base(&user_with_subids()), with_base(&user_without_subids()));
    let of_root = CacheDir::new();
    let want = build(&root, &context, &[&of_root.cache_to("")]).ok().digest();
    copy_of(&of_root);
    for store in [&lent, &one] {
        let done = build(store, &context, &[&of_root.cache_from()]).ok();
        assert_eq!((done.steps(), done.digest()), ((0, 3), want.clone()), "{done}");
    }
    // A cache made with a single id is used by root only where no command made the layer.
    let (one, of_one) = (with_base(&user_without_subids()), CacheDir::new());
    tool("chmod").arg("a+rwx").arg(of_one.dir.path()).ok();
    build(&one, &context, &[&of_one.cache_to("")]).ok();
    let done = build(&Store::with_base(), &context, &[&of_one.cache_from(), FIXED_TIME]).ok();
    let want = build(&root, &context, &[FIXED_TIME]).ok().digest();
    assert_eq!((done.steps(), done.digest()), ((1, 2), want), "{done}");
    let done = build(&with_base(&user_without_subids()), &context, &[&of_one.cache_from()]).ok();
    assert_eq!(done.steps(), (0, 3), "{done}");
}
