//! Caches that machines share: `--cache-to` on one, `--cache-from` on another, which carries nothing out.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::registry::debian::Debian;
use crate::registry::fake::{Fake, Fault, On, What};
use crate::rootless::{plain_user, user, with_base};
use crate::support::{Context, Done, Store, Tool, list, names, temp, tool, valid_image};

/// A value that must be in no cache.
const SECRET: &str = "swordfish-4711-swordfish";

/// Two stages with all kinds of changes. The first command needs a secret, which the cold machine does not have.
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

/// The same files elsewhere, as another checkout has them.
fn checked_out_again(context: &Context) -> Context {
    let copy = Context::new("");
    tool("sh")
        .args(["-c", r#"cp -r "$1"/. "$2" && find "$2" -exec touch -d 2001-02-03 {} +"#, "sh"])
        .arg(context.path())
        .arg(copy.path())
        .ok();
    copy
}

fn build(store: &Store, context: &Context, words: &[&str]) -> Tool {
    store.build(context).args(words)
}

/// A build that knows the secret.
fn warm(store: &Store, context: &Context, words: &[&str]) -> Done {
    build(store, context, words).args(["--secret", "id=token,env=TOKEN"]).env("TOKEN", SECRET).ok()
}

/// A place for a cache, and the two options that name it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: temp() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn to(&self, more: &str) -> String {
        format!("--cache-to=type=local,dest={}{more}", self.path().display())
    }

    fn from(&self) -> String {
        format!("--cache-from=type=local,src={}", self.path().display())
    }

    /// The manifest of the cache, and its table of contents.
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

/// A cold machine builds `context` with what `from` says. Returns its store and how many steps it carried out.
fn cold(context: &Context, from: &str) -> (Store, Done) {
    let store = Store::with_base();
    let done = build(&store, &checked_out_again(context), &[from]).ok();
    (store, done)
}

#[test]
fn a_cold_machine_takes_everything_from_a_directory() {
    for mode in ["", ",mode=max", ",mode=max,compression=zstd", ",compression=uncompressed,oci-mediatypes=false"] {
        let (store, context, place) = (Store::with_base(), app(), Place::new());
        assert_eq!(warm(&store, &context, &[&place.to(mode)]).steps(), (7, 0));
        let (other, done) = cold(&context, &place.from());
        assert_eq!(done.steps(), (0, 7), "{mode}: {done}");
        assert_eq!(other.digest("demo"), store.digest("demo"));
        valid_image(&other, "demo:latest");
        other.sh("test $(stat -c %u:%g:%a /app/lib/a) = 12:34:644 && test -p /d/pipe && ! test -e /gone /d/one");
        // What was fetched is remembered; what was passed over is asked for again.
        build(&other, &context, &[&place.from()]).ok().says("7 remembered (3 by a shared cache)");
    }
}

#[test]
fn layers_of_other_stages_are_fetched_only_when_they_are_looked_into() {
    let (store, context) = (Store::with_base(), app());
    let (small, large) = (Place::new(), Place::new());
    warm(&store, &context, &[&small.to(""), &large.to(",mode=max")]);
    assert!(small.layers() < large.layers(), "{} {}", small.layers(), large.layers());
    let (other, _) = cold(&context, &large.from());
    let fetched = names(&other.join("layers")).iter().filter(|name| name.starts_with("c-")).count();
    assert_eq!(fetched, small.layers());
    assert!(!other.join("layers").join("x").exists());

    // A copy of something else of the first stage needs that stage: it is in the one, and not in the other.
    context.write("Dockerfile", &APP.replace("COPY --from=build /out /app", "COPY --from=build /build-only /app/"));
    let (_, done) = cold(&context, &large.from());
    assert_eq!(done.steps(), (2, 5), "{done}");
    let other = Store::with_base();
    let done = warm(&other, &context, &[&small.from()]);
    assert_eq!(done.steps(), (5, 2), "{done}");
    other.sh("test \"$(cat /app/build-only)\" = big");
}

#[test]
fn a_changed_file_rebuilds_what_stands_on_it() {
    let dockerfile = "FROM parity-base\nRUN echo below > /below\nCOPY file /\nRUN cp /file /copy\n";
    let (store, context, place) = (Store::with_base(), Context::new(dockerfile).file("file", "1"), Place::new());
    build(&store, &context, &[&place.to(",mode=max")]).ok();
    context.write("file", "2");
    let (other, done) = cold(&context, &place.from());
    assert_eq!(done.steps(), (2, 1), "{done}");
    done.says("RUN echo below > /below: CACHED (shared)").says("fetching ");
    // What came from a cache has the time that it was packed with, and never one that is later than a changed source's.
    other.sh("test \"$(cat /copy)\" = 2 && test $(stat -c %Y /below) = 0");
    let why = other.dram(["why"]).ok().stdout;
    assert!(why.contains("from a shared cache"), "{why}");
    assert!(why.contains("2 steps carried out, 1 remembered (1 from a shared cache)"), "{why}");
}

#[test]
fn a_cold_machine_takes_everything_from_a_registry() {
    let (registry, store, context) = (Debian::plain(), Store::with_base(), app());
    let name = registry.name("caches/app:main");
    let to = format!("--cache-to=type=registry,ref={name},mode=max");
    let done = warm(&store, &context, &[&to]);
    done.says(&format!("cached in {name}: 7 steps, "));
    let (other, done) = cold(&context, &format!("--cache-from=type=registry,ref={name}"));
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
    // Written again from the cold machine, nothing is fetched or sent that is there.
    let before = registry.requests().len();
    build(&other, &context, &[&to, &format!("--cache-from={name}")]).ok();
    let again = registry.requests();
    let moved = |request: &&String| request.starts_with("PATCH ") || request.starts_with("GET /v2/caches/app/blobs/");
    let moved: Vec<&String> = again[before..].iter().filter(moved).collect();
    // The table of contents alone.
    assert!(moved.len() <= 2, "{moved:#?}");
    assert_eq!(serde_json::from_str::<Value>(&skopeo_raw(&name)).unwrap(), manifest);
    // Other tools move it as they move images.
    let out = temp();
    let copied = format!("oci:{}:main", out.path().join("layout").display());
    let from = format!("docker://{name}");
    tool("skopeo").args(["copy", "--src-tls-verify=false", &from, &copied]).ok();
    let from = format!("--cache-from=type=local,src={},tag=main", out.path().join("layout").display());
    assert_eq!(cold(&context, &from).1.steps(), (0, 7));
}

fn skopeo_raw(name: &str) -> String {
    tool("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok().stdout
}

#[test]
fn a_pushed_image_is_a_cache() {
    let (registry, store, context) = (Debian::plain(), Store::with_base(), app());
    let name = registry.name("app:1");
    let output = format!("type=registry,name={name}");
    warm(&store, &context, &["--cache-to", "type=inline", "-o", &output]);
    let (other, done) = cold(&context, &format!("--cache-from={name}"));
    assert_eq!(done.steps(), (0, 7), "{done}");
    // Made and pushed again from there, it is the same image.
    let pushed = skopeo_raw(&name);
    let from = format!("--cache-from={name}");
    build(&other, &context, &[&from, "--cache-to", "type=inline", "-o", &output]).ok();
    assert_eq!(skopeo_raw(&name), pushed);
}

#[test]
fn a_registry_that_is_of_no_use_costs_nothing_but_time() {
    let (registry, context) = (Debian::plain(), Context::new("FROM parity-base\nRUN echo one > /one\n"));
    let store = Store::with_base();
    let (_, done) = cold(&context, &format!("--cache-from={}", registry.name("app:none")));
    assert_eq!(done.steps(), (1, 0), "{done}");
    done.says("nothing is taken from it");
    // An image without a cache.
    let name = registry.name("app:bare");
    build(&store, &context, &["-o", "type=image", "-o", &format!("type=registry,name={name}")]).ok();
    let (_, done) = cold(&context, &format!("--cache-from={name}"));
    assert_eq!(done.steps(), (1, 0), "{done}");
    done.says("is an image without a cache");
    // One that answers wrongly for every layer.
    let to = |fake: &Fake| format!("--cache-to=type=registry,ref={}", fake.name("caches:1"));
    for wrong in [What::Flipped, What::Status(404, "gone"), What::Nothing] {
        let fake = Fake::new([]);
        build(&store, &context, &[&to(&fake)]).ok();
        let document: Value =
            serde_json::from_slice(&fake.manifest("caches", &fake.tag("caches", "1").unwrap()).unwrap()).unwrap();
        let layer = document["layers"][0]["digest"].as_str().unwrap().to_owned();
        fake.now([Fault::always(On::Blob, wrong).at(layer)]);
        let (other, done) = cold(&context, &format!("--cache-from={}", fake.name("caches:1")));
        assert_eq!(done.steps(), (1, 0), "{done}");
        assert_eq!(other.digest("demo"), store.digest("demo"));
    }
    // One that takes nothing.
    let fake = Fake::new([Fault::always(On::Start, What::Status(403, "denied"))]);
    build(&store, &context, &[&to(&fake)]).fails(4).says("was not written");
    build(&store, &context, &[&format!("{},ignore-error=true", to(&fake))]).ok().says("note: `--cache-to ");
}

#[test]
fn a_stage_that_makes_the_same_files_again_disturbs_nobody() {
    let (store, context, place) = (Store::with_base(), app(), Place::new());
    warm(&store, &context, &[&place.to(",mode=max")]);
    context.write("Dockerfile", &APP.replace("echo big", "echo bigger"));
    let other = Store::with_base();
    let done = warm(&other, &context, &[&place.from()]);
    assert_eq!(done.steps(), (1, 6), "{done}");
    done.says("COPY --from=build /out /app: CACHED (shared)");
    assert_eq!(other.digest("demo"), store.digest("demo"));
}

#[test]
fn an_image_holds_a_cache_of_its_own() {
    let (store, context, out) = (Store::with_base(), app(), temp());
    let layout = out.path().join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    warm(&store, &context, &["--cache-to", "type=inline", "-o", &output]);
    let from = format!("--cache-from=type=local,src={}", layout.display());
    let (other, done) = cold(&context, &from);
    assert_eq!(done.steps(), (0, 7), "{done}");
    // The image is the same but for the annotation, and the same again when it has that.
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let plain = store.dram(["build", "--quiet", "-t", "plain"]).arg(context.path()).ok();
    assert_ne!(index["manifests"][0]["digest"], plain.stdout.trim());
    assert_eq!(other.digest("demo"), plain.stdout.trim());
    build(&other, &context, &["--cache-to=type=inline", &from]).ok();
    assert_eq!(other.digest("demo"), index["manifests"][0]["digest"].as_str().unwrap());
    valid_image(&other, "demo:latest");
    // An image that came in otherwise says the same, under its name.
    let third = Store::with_base();
    third.dram(["load"]).arg(&layout).ok();
    let words = ["--cache-from", "demo", "--pull=never", "-t", "again"];
    assert_eq!(third.build(&context).args(words).ok().steps(), (0, 7));
}

#[test]
fn a_build_that_wants_nothing_remembered_takes_nothing() {
    let context = Context::new("FROM parity-base AS one\nRUN echo 1 > /1\nFROM one\nRUN echo 2 > /2\n");
    let (store, place) = (Store::with_base(), Place::new());
    let done = build(&store, &context, &[&place.to("")]).ok();
    done.says(&format!("cached in {}: 2 steps, 2 layers of ", place.path().display()));
    let from = place.from();
    assert_eq!(build(&Store::with_base(), &context, &[&from, "--no-cache"]).ok().steps(), (2, 0));
    assert_eq!(build(&Store::with_base(), &context, &[&from, "--no-cache-filter", "one"]).ok().steps(), (1, 1));
    // What an older way of saying it asks for is the same.
    let older = build(&store, &context, &["--build-arg", "BUILDKIT_INLINE_CACHE=1"]).ok().digest();
    assert_eq!(build(&store, &context, &["--cache-to", "type=inline"]).ok().digest(), older);
}

#[test]
fn several_caches_are_asked_in_turn_and_a_missing_one_is_remarked_upon() {
    let (store, context) = (Store::with_base(), app());
    let (first, second) = (Place::new(), Place::new());
    let part = "FROM parity-base\nRUN mkdir /d && echo one > /d/one && ln /d/one /d/two && echo gone > /gone && chmod 4711 /d/one\n";
    build(&store, &Context::new(part), &[&first.to("")]).ok();
    warm(&store, &context, &[&second.to(",tag=main")]);
    let missing = "--cache-from=type=local,src=/nowhere/at/all";
    let tagged = format!("{},tag=main", second.from());
    let other = Store::with_base();
    let done = build(&other, &context, &[missing, &first.from(), &tagged]).ok();
    assert_eq!(done.steps(), (0, 7), "{done}");
    done.says("note: `--cache-from type=local,src=/nowhere/at/all`: ");
    let done = build(&Store::with_base(), &context, &[&format!("{},tag=other", second.from())]).fails(1);
    done.says("has no `other`; nothing is taken from it");
}

#[test]
fn what_is_damaged_is_carried_out() {
    let (store, context, place) = (Store::with_base(), app(), Place::new());
    context.write(
        "Dockerfile",
        &APP.replace("--mount=type=secret,id=token,required=true test -s /run/secrets/token && ", ""),
    );
    build(&store, &context, &[&place.to(",mode=max")]).ok();
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
        let (other, done) = cold(&context, &place.from());
        assert_eq!(done.steps().0 + done.steps().1, 7, "{at}: {done}");
        assert!(done.steps().0 >= 4, "{at}: {done}");
        done.says(says);
        assert_eq!(other.digest("demo"), want, "{at}");
        valid_image(&other, "demo:latest");
        tool("rm").arg("-r").arg(place.path()).ok();
        tool("cp").arg("-a").arg(whole.path().join("cache")).arg(place.path()).ok();
    }
    // One of several is lost: only what it held is done again.
    flip(&place.blob(&layers[layers.len() - 1]));
    let (other, done) = cold(&context, &place.from());
    let (carried_out, remembered) = done.steps();
    assert!(carried_out >= 1 && remembered >= 4, "{done}");
    assert_eq!(other.digest("demo"), want);
}

/// What is said of it, and what it does to the table of contents.
type Lie<'a> = (&'a str, &'a dyn Fn(&mut Value));

#[test]
fn a_cache_that_lies_is_found_out() {
    let dockerfile = "FROM parity-base\nRUN echo one > /one\nRUN echo two > /two\n";
    let (store, context, place) = (Store::with_base(), Context::new(dockerfile), Place::new());
    build(&store, &context, &[&place.to("")]).ok();
    let want = store.digest("demo");
    let (manifest, document) = place.read();
    // Each puts another document in the place of the table of contents.
    let lies: [Lie<'_>; 6] = [
        ("and it should hold", &|document| {
            // The first layer under the name of the second, whole in every other way.
            let (zero, one) = (document["layers"][0].clone(), document["layers"][1].clone());
            document["layers"][0]["id"] = one["id"].clone();
            document["layers"][1]["id"] = zero["id"].clone();
        }),
        ("unpacks to", &|document| document["layers"][0]["diff_id"] = document["layers"][1]["diff_id"].clone()),
        ("is not packed as dram packs", &|document| document["layers"][0]["time"] = Value::from(77)),
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
        manifest["config"] = put(&place, &manifest["config"], &document);
        let index =
            put(&place, &serde_json::json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json" }), &manifest);
        fs::write(
            place.path().join("index.json"),
            serde_json::json!({ "schemaVersion": 2, "manifests": [index] }).to_string(),
        )
        .unwrap();
        let (other, done) = cold(&context, &place.from());
        assert!(done.steps().0 >= 1, "{says}: {done}");
        done.says(says);
        assert_eq!(other.digest("demo"), want, "{says}");
        other.sh("test \"$(cat /one /two)\" = \"$(printf 'one\\ntwo')\"");
    }
}

/// Puts `document` into the cache. Returns a descriptor of it like `like`.
fn put(place: &Place, like: &Value, document: &Value) -> Value {
    let text = document.to_string();
    let sum = tool("sha256sum").stdin(text.clone()).ok().stdout;
    let mut descriptor = like.clone();
    descriptor["digest"] = Value::from(format!("sha256:{}", &sum[..64]));
    descriptor["size"] = Value::from(text.len());
    fs::write(place.blob(&descriptor), text).unwrap();
    descriptor
}

#[test]
fn foreign_caches_are_passed_over_in_words() {
    let context = Context::new("FROM parity-base\nRUN echo one > /one\n");
    let (store, place) = (Store::with_base(), Place::new());
    build(&store, &context, &[&place.to("")]).ok();
    let (manifest, _) = place.read();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let buildkit = "application/vnd.buildkit.cacheconfig.v0";
    let image =
        serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let mut inline = image.clone();
    inline["moby.buildkit.cache.v0"] = Value::from("e30=");
    let config = |kind: &str, document: &Value| {
        let config = put(&place, &serde_json::json!({ "mediaType": kind }), document);
        serde_json::json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [] })
    };
    let empty = serde_json::json!({});
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [put(&place, &serde_json::json!({ "mediaType": buildkit }), &empty)]
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
        let root = put(&place, &serde_json::json!({ "mediaType": kind }), &document);
        fs::write(
            place.path().join("index.json"),
            serde_json::json!({ "schemaVersion": 2, "manifests": [root] }).to_string(),
        )
        .unwrap();
        let (_, done) = cold(&context, &place.from());
        assert_eq!(done.steps(), (1, 0), "{done}");
        done.says(says).says("nothing is taken from it");
    }
}

#[test]
fn no_secret_is_in_a_cache() {
    let (store, context, place) = (Store::with_base(), app(), Place::new());
    warm(&store, &context, &[&place.to(",mode=max,compression=uncompressed")]);
    let found = tool("grep").args(["-rlF", SECRET]).arg(place.path()).end();
    assert_eq!((found.code, found.stdout.as_str()), (1, ""));
    let found = tool("grep").args(["-rlF", "big"]).arg(place.path()).end();
    assert_eq!(found.code, 0, "what the command wrote is there");
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_after_all_else() {
    let (store, out) = (Store::with_base(), temp());
    let context = Context::new("FROM parity-base\nRUN echo one > /one\n");
    fs::write(out.path().join("file"), "").unwrap();
    let to = format!("--cache-to=type=local,dest={}", out.path().join("file").display());
    build(&store, &context, &[&to]).fails(1).says("was not written").says("ignore-error=true");
    assert!(!store.digest("demo").is_empty());
    let done = build(&store, &context, &[&format!("{to},ignore-error=true")]).ok();
    done.says("note: `--cache-to ");
    // A directory that is somebody's own is no cache.
    build(&store, &context, &["--cache-to", &format!("type=local,dest={}", out.path().display())])
        .fails(1)
        .says("holds something that is no OCI layout");
}

#[test]
fn options_are_those_of_buildkit() {
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
fn users_take_what_their_like_or_a_greater_one_made() {
    let dockerfile = "FROM parity-base\nRUN echo one > /one && chown 12:34 /one\nCOPY file /there/\nWORKDIR /work\n";
    let context = Context::new(dockerfile).file("file", "1");
    let copy_of = |place: &Place| {
        // Everybody may read it, wherever it came from.
        tool("chmod").args(["-R", "a+rX"]).arg(place.dir.path()).ok();
    };
    let (root, lent, one) = (Store::with_base(), with_base(&user()), with_base(&plain_user()));
    let of_root = Place::new();
    let want = build(&root, &context, &[&of_root.to("")]).ok().digest();
    copy_of(&of_root);
    for store in [&lent, &one] {
        let done = build(store, &context, &[&of_root.from()]).ok();
        assert_eq!((done.steps(), done.digest()), ((0, 3), want.clone()), "{done}");
    }
    // What one with one id made serves root where no command made it.
    let (one, of_one) = (with_base(&plain_user()), Place::new());
    tool("chmod").arg("a+rwx").arg(of_one.dir.path()).ok();
    build(&one, &context, &[&of_one.to("")]).ok();
    let done = build(&Store::with_base(), &context, &[&of_one.from()]).ok();
    assert_eq!((done.steps(), done.digest()), ((1, 2), want), "{done}");
    let done = build(&with_base(&plain_user()), &context, &[&of_one.from()]).ok();
    assert_eq!(done.steps(), (0, 3), "{done}");
}
