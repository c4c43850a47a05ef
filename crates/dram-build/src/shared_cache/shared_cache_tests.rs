//! Tests of shared caches in memory: what they contain, and caches that must be refused.

use dram_image::{Descriptor, Document, ImageConfig, Index, Manifest, MediaType};
use dram_store::IdMapping;

use super::cache_document::{BuilderPrivilege, CACHE_CONFIG_TYPE, CachedStep};
use super::{CacheMode, SharedCache, SharedCacheError, SharedCaches};
use crate::testing::{MemoryCache, MemoryImage, ScriptedRegistry, TestBuild, TestHouse, platform};
use crate::transfer::{ImageSource as _, StoreSource, TransferError};
use crate::{Image, ImageOptions, LayerProvider, write_image};

const TWO_STAGES: &str = "FROM scratch AS a\nRUN write a 1\nFROM scratch\nCOPY --from=a /a /\nRUN true\n";

fn open(registry: &ScriptedRegistry, root: &Descriptor) -> Result<SharedCache<'static>, SharedCacheError> {
    SharedCache::open(Box::new(registry.clone()), root, &platform())
}

#[test]
fn cache_has_all_steps_and_by_its_mode_the_layers_of_the_result_or_of_all_steps() {
    let export = |mode| TestBuild::new(&TestHouse::new(), TWO_STAGES).export_cache(mode);
    let (min, max) = (export(CacheMode::Min), export(CacheMode::Max));
    // Both layers have the same content, so they are one.
    assert_eq!((min.layers().len(), max.layers().len()), (1, 1));
    assert_eq!((min.open().step_count(), max.open().step_count()), (3, 3));
    let other = TWO_STAGES.replace("/a /\n", "/a /b\n");
    let export = |mode| TestBuild::new(&TestHouse::new(), &other).export_cache(mode);
    assert_eq!((export(CacheMode::Min).layers().len(), export(CacheMode::Max).layers().len()), (1, 2));
}

#[test]
fn layers_that_were_not_fetched_are_passed_on_by_a_later_export() {
    let text = TWO_STAGES.replace("/a /\n", "/a /b\n");
    let first = TestBuild::new(&TestHouse::new(), &text).export_cache(CacheMode::Max);
    let house = TestHouse::new();
    let second = TestBuild::new(&house, &text).with_cache(&first).export_cache(CacheMode::Max);
    assert_eq!(second.layers().len(), 2);
    // A third machine can use the second cache alone.
    let done = TestBuild::new(&TestHouse::new(), &text).with_cache(&second).run();
    assert_eq!(done.executed, Vec::<String>::new());
}

#[test]
fn first_of_two_caches_that_has_a_layer_is_asked_and_then_the_other() {
    let text = "FROM scratch\nRUN write a 1\n";
    let first = TestBuild::new(&TestHouse::new(), text).export_cache(CacheMode::Min);
    let second = MemoryCache { blobs: first.blobs.copy(), ..first.clone() };
    first.blobs.remove(&first.layers()[0]);
    let house = TestHouse::new();
    let mut build = TestBuild::new(&house, text);
    build.caches = SharedCaches::new(vec![first.open(), second.open()]);
    let done = build.run();
    assert_eq!((done.executed.len(), done.count("fetching from the registry")), (0, 2), "{:?}", done.events);
    assert_eq!(second.blobs.opened().last(), Some(&second.layers()[0]));
}

#[test]
fn step_of_a_cache_without_its_layer_is_executed_when_its_files_are_needed() {
    let text = TWO_STAGES.replace("/a /\n", "/a /b\n");
    let cache = TestBuild::new(&TestHouse::new(), &text).export_cache(CacheMode::Min);
    // All steps are cache hits, so the layer of the first stage is not needed.
    let house = TestHouse::new();
    assert_eq!(TestBuild::new(&house, &text).with_cache(&cache).run().executed, Vec::<String>::new());
    let changed = text.replace("/a /b\n", "/a /c\n");
    let done = TestBuild::new(&TestHouse::new(), &changed).with_cache(&cache).run();
    assert_eq!(done.executed, ["RUN write a 1", "COPY --from=a /a /c", "RUN true"]);
    assert_eq!(done.warnings, Vec::<String>::new());
}

#[test]
fn image_with_an_inline_cache_is_a_cache_of_its_layers() {
    let (house, text) = (TestHouse::new(), "FROM scratch\nRUN write a 1\nRUN write b 2\n");
    let build = TestBuild::new(&house, text);
    let snapshot = build.run().result.unwrap();
    let config = build.plan().stages[0].config.clone();
    let annotation = build.caches.inline_annotation(&snapshot, &ImageOptions::default()).unwrap();
    let how = ImageOptions { annotations: [annotation].into(), ..ImageOptions::default() };
    let layers = LayerProvider::new(&house.store);
    let built = write_image(&layers, &snapshot, config.clone(), &how, &|_| ()).unwrap();
    let source = || Box::new(StoreSource::new(&house.store));
    let cache = SharedCache::open(source(), &built.manifest, &platform()).unwrap();
    assert_eq!(cache.step_count(), 2);
    let cold = TestHouse::new();
    let mut build = TestBuild::new(&cold, text);
    build.caches = SharedCaches::new(vec![cache]);
    let done = build.run();
    assert_eq!((done.executed.len(), done.count("fetching from the store")), (0, 2), "{:?}", done.events);
    let plain = write_image(&layers, &snapshot, config, &ImageOptions::default(), &|_| ()).unwrap();
    let refused = SharedCache::open(source(), &plain.manifest, &platform());
    assert!(matches!(refused, Err(SharedCacheError::NoInlineCache(_))), "{refused:?}");
}

#[test]
fn caches_of_buildkit_are_recognised() {
    let registry = ScriptedRegistry::default();
    let buildkit = registry.add("application/vnd.buildkit.cacheconfig.v0", b"{}".to_vec());
    let manifest = Document::write(Manifest::new(buildkit.clone(), Vec::new())).unwrap();
    let manifest = registry.add(MediaType::MANIFEST, manifest.bytes().to_vec());
    let index = registry.add(MediaType::INDEX, Document::write(Index::new(vec![buildkit])).unwrap().bytes().to_vec());
    let config = String::from_utf8(Document::write(ImageConfig::default()).unwrap().bytes().to_vec()).unwrap();
    let config = config.replacen('{', r#"{"moby.buildkit.cache.v0":"x","#, 1);
    let config = registry.add(MediaType::CONFIG, config.into_bytes());
    let inline = Document::write(Manifest::new(config, Vec::new())).unwrap();
    let inline = registry.add(MediaType::MANIFEST, inline.bytes().to_vec());
    for root in [manifest, index, inline] {
        assert!(matches!(open(&registry, &root), Err(SharedCacheError::BuildKit(_))), "{root:?}");
    }
    let image = MemoryImage::new(&[&[("a", "1")]]);
    assert!(matches!(open(&image.registry, &image.root), Err(SharedCacheError::NoInlineCache(_))));
}

#[test]
fn cache_whose_document_is_damaged_or_too_large_is_refused() {
    let registry = ScriptedRegistry::default();
    let root_of = |config: Descriptor| {
        let manifest = Document::write(Manifest::new(config, Vec::new())).unwrap();
        registry.add(MediaType::MANIFEST, manifest.bytes().to_vec())
    };
    let text = br#"{"version":1,"steps":[],"layers":[]}"#;
    let config = registry.add(CACHE_CONFIG_TYPE, text.to_vec());
    assert_eq!(open(&registry, &root_of(config.clone())).unwrap().step_count(), 0);
    let huge = Descriptor { size: 1 << 40, ..config.clone() };
    for wrong in [huge, Descriptor { size: config.size + 1, ..config.clone() }] {
        let refused = open(&registry, &root_of(wrong));
        assert!(matches!(refused, Err(SharedCacheError::Transfer(TransferError::Blob { .. }))), "{refused:?}");
    }
    registry.damage(&config.digest, br#"{"version":1,"steps":[],"layers":{}}"#);
    let refused = open(&registry, &root_of(config));
    assert!(matches!(refused, Err(SharedCacheError::Transfer(TransferError::Blob { .. }))), "{refused:?}");
    let no_json = registry.add(CACHE_CONFIG_TYPE, b"{".to_vec());
    assert!(matches!(open(&registry, &root_of(no_json)), Err(SharedCacheError::Document { .. })));
}

#[test]
fn results_without_times_are_used_only_when_a_time_is_requested() {
    let text = "FROM scratch\nRUN write a 1\nRUN write b 1\n";
    let house = TestHouse::new();
    let mut build = TestBuild::new(&house, text);
    build.time = Some(0);
    let cache = build.export_cache(CacheMode::Max);
    // As an earlier version wrote it.
    let read = |document: &Descriptor| cache.blobs.read_document(document).unwrap();
    let mut manifest = Document::<Manifest>::read(read(cache.root.as_ref().unwrap())).unwrap().value().clone();
    let document = String::from_utf8(read(&manifest.config)).unwrap().replace(r#","executed":0"#, "");
    assert!(document.contains(r#""version":1"#) && !document.contains("executed"), "{document}");
    manifest.config = cache.blobs.add(CACHE_CONFIG_TYPE, document.into_bytes());
    let manifest = Document::write(manifest).unwrap();
    let root = cache.blobs.add(MediaType::MANIFEST, manifest.bytes().to_vec());
    let old = MemoryCache { root: Some(root), ..cache.clone() };
    let house = TestHouse::new();
    let done = TestBuild::new(&house, text).with_cache(&old).run();
    assert_eq!((done.executed.len(), done.warnings.len()), (2, 1), "{:?}", done.warnings);
    assert!(done.warnings[0].contains("without times"), "{:?}", done.warnings);
    let house = TestHouse::new();
    let mut build = TestBuild::new(&house, text).with_cache(&old);
    build.time = Some(5);
    let done = build.run();
    assert_eq!((done.executed.len(), done.warnings.len()), (0, 0), "{:?}", done.warnings);
}

#[test]
fn result_of_a_less_privileged_builder_is_not_used() {
    let mine = BuilderPrivilege::current();
    let step = |executed_by| CachedStep { keys: Vec::new(), layer: None, executed_by, executed: None };
    assert!(step(None).is_usable());
    assert!(step(Some(mine)).is_usable());
    assert!(step(Some(BuilderPrivilege::Root)).is_usable());
    let is_least = IdMapping::of_current_process() == IdMapping::Unprivileged;
    assert_eq!(step(Some(BuilderPrivilege::Unprivileged)).is_usable(), is_least);
}

#[test]
fn layers_of_a_shared_cache_get_their_blob_back_when_the_image_is_written() {
    let text = "FROM scratch\nRUN write a 1\n";
    let cache = TestBuild::new(&TestHouse::new(), text).export_cache(CacheMode::Min);
    let house = TestHouse::new();
    let build = TestBuild::new(&house, text).with_cache(&cache);
    let config = build.plan().stages[0].config.clone();
    let done = build.run_and(&|layers, snapshot| {
        let packing = |event| panic!("the blob is known: {event:?}");
        let built = write_image(layers, snapshot, config.clone(), &ImageOptions::default(), &packing).unwrap();
        let image = Image::open(&house.store, &built.manifest).unwrap();
        assert_eq!(image.manifest.value().layers[0].digest, cache.layers()[0]);
    });
    done.snapshot();
}
