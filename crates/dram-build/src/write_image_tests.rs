//! Tests of written images: documents, layers and what is packed.

use std::sync::Mutex;

use dram_image::{HistoryEntry, MediaType};

use crate::compress_layer::LayerCompression;
use crate::testing::{MemoryImage, TestBuild, TestHouse, read_result};
use crate::write_image::reconcile_history;
use crate::{BuildEvent, BuiltImage, Image, ImageFormat, ImageOptions, LayerProvider, import_tar, squash, write_image};

/// Builds `text` and writes its image. Returns the image and the number of layers that were packed.
fn write(build: &TestBuild<'_>, how: &ImageOptions) -> (BuiltImage, usize) {
    let plan = build.plan();
    let written = Mutex::new(None);
    let packed = Mutex::new(0);
    build
        .run_and(&|layers, snapshot| {
            let tell = |event: BuildEvent| {
                assert!(matches!(event, BuildEvent::Packing { .. }), "{event:?}");
                *packed.lock().unwrap() += 1;
            };
            let config = plan.stages[plan.target].config.clone();
            *written.lock().unwrap() = Some(write_image(layers, snapshot, config, how, &tell).unwrap());
        })
        .snapshot();
    (written.into_inner().unwrap().unwrap(), packed.into_inner().unwrap())
}

fn open(house: &TestHouse, built: &BuiltImage) -> Image {
    Image::open(&house.store, &built.manifest).unwrap()
}

#[test]
fn history_has_an_entry_for_each_step_and_marks_those_without_a_layer() {
    let house = TestHouse::new();
    let text = "FROM scratch\nRUN write a 1\nENV X=1\nRUN true\nCOPY f /\n";
    house.write("f", "1");
    let (built, packed) =
        write(&TestBuild::new(&house, text), &ImageOptions { time: Some(86_400), ..ImageOptions::default() });
    let image = open(&house, &built);
    let config = image.config.value();
    assert_eq!(config.history.iter().map(|entry| entry.empty_layer).collect::<Vec<_>>(), [false, true, true, false]);
    assert!(config.history.iter().all(|entry| entry.created.as_deref() == Some("1970-01-02T00:00:00Z")));
    assert_eq!((config.rootfs.diff_ids.len(), image.manifest.value().layers.len(), packed), (2, 2, 2));
    // Unpacking verifies that each blob has its diff ID.
    assert_eq!(read_result(&house, &image.snapshot(), "a").as_deref(), Some("1"));
    assert_eq!(read_result(&house, &image.snapshot(), "f").as_deref(), Some("1"));
}

#[test]
fn equal_builds_write_the_same_image_and_pack_nothing_again() {
    let (house, other) = (TestHouse::new(), TestHouse::new());
    let text = "FROM scratch\nRUN write a 1\nWORKDIR /x/y\n";
    let (first, packed) = write(&TestBuild::new(&house, text), &ImageOptions::default());
    assert_eq!(packed, 2);
    assert_eq!(write(&TestBuild::new(&house, text), &ImageOptions::default()), (first.clone(), 0));
    assert_eq!(write(&TestBuild::new(&other, text), &ImageOptions::default()), (first.clone(), 2));
    let later = ImageOptions { time: Some(1), ..ImageOptions::default() };
    assert_ne!(write(&TestBuild::new(&house, text), &later).0.manifest.digest, first.manifest.digest);
}

#[test]
fn blobs_of_the_base_are_kept_and_compressed_again_only_if_asked() {
    let (house, base) = (TestHouse::new(), MemoryImage::new(&[&[("etc/a", "1")]]));
    let build =
        || TestBuild::new(&house, "FROM base\nRUN write b 1\n").with_image("base", base.open_lazily(&house.store));
    let (built, packed) = write(&build(), &ImageOptions::default());
    let image = open(&house, &built);
    assert_eq!((image.manifest.value().layers[0].clone(), packed), (base.layers[0].clone(), 1));
    let again = ImageOptions { recompress_base: true, ..ImageOptions::default() };
    let (built, packed) = write(&build(), &again);
    let other = open(&house, &built);
    assert_eq!(packed, 1);
    assert_eq!(other.config.value().rootfs.diff_ids, image.config.value().rootfs.diff_ids);
    assert_eq!(other.manifest.value().layers[0].media_type, MediaType::LAYER_GZIP);
    // The blob was made before, so it is found again.
    assert_eq!(write(&build(), &again), (built, 0));
}

#[test]
fn media_types_are_those_of_the_format_and_the_compression() {
    let house = TestHouse::new();
    let build = || TestBuild::new(&house, "FROM scratch\nRUN write a 1\n");
    let types = |how: &ImageOptions| {
        let (built, _) = write(&build(), how);
        let layer = open(&house, &built).manifest.value().layers[0].media_type.clone();
        [built.manifest.media_type, built.config.media_type, layer]
    };
    let docker = ImageOptions { format: ImageFormat::Docker, ..ImageOptions::default() };
    assert_eq!(types(&ImageOptions::default()), [MediaType::MANIFEST, MediaType::CONFIG, MediaType::LAYER_GZIP]);
    let docker = types(&docker);
    assert_eq!(docker[..2], [MediaType::DOCKER_MANIFEST, MediaType::DOCKER_CONFIG]);
    assert_eq!(docker[2], MediaType::docker_layer(MediaType::LAYER_GZIP));
    let zstd = ImageOptions { compression: LayerCompression::Zstd(3), ..ImageOptions::default() };
    assert_eq!(types(&zstd)[2], MediaType::LAYER_ZSTD);
}

#[test]
fn annotations_are_written_to_the_manifest_and_to_its_descriptor() {
    let house = TestHouse::new();
    let one = |name: &str| [(name.to_owned(), "1".to_owned())].into();
    let how = ImageOptions { annotations: one("m"), descriptor_annotations: one("d"), ..ImageOptions::default() };
    let (built, _) = write(&TestBuild::new(&house, "FROM scratch\nRUN write a 1\n"), &how);
    assert_eq!(built.manifest.annotations, one("d"));
    assert_eq!(open(&house, &built).manifest.value().annotations, one("m"));
}

#[test]
fn history_is_reconciled_with_the_number_of_layers() {
    let entries = |empty: &str| -> Vec<HistoryEntry> {
        let entry = |letter| HistoryEntry { empty_layer: letter == 'e', ..HistoryEntry::default() };
        empty.chars().map(entry).collect()
    };
    for (before, layers, after) in
        [("", 0, ""), ("", 2, "ll"), ("el", 1, "el"), ("elel", 1, "eeel"), ("el", 3, "llel"), ("ll", 0, "ee")]
    {
        let mut history = entries(before);
        reconcile_history(&mut history, layers);
        assert_eq!(history, entries(after), "{before} with {layers} layers");
    }
}

#[test]
fn squashed_image_has_one_layer_with_the_same_files() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("a", "1"), ("b", "1")], &[("a", "2")]]));
    let whole = image.open_complete(&house.store);
    let provider = LayerProvider::new(&house.store);
    let squashed = squash(&provider, &whole).unwrap();
    assert_eq!(squash(&provider, &whole).unwrap(), squashed);
    let opened = open(&house, &squashed);
    assert_eq!(opened.manifest.value().layers.len(), 1);
    assert_eq!(opened.config.value().history.iter().filter(|entry| !entry.empty_layer).count(), 1);
    for (path, content) in [("a", "2"), ("b", "1")] {
        assert_eq!(read_result(&house, &opened.snapshot(), path).as_deref(), Some(content), "{path}");
    }
}

#[test]
fn imported_tar_must_be_complete() {
    let house = TestHouse::new();
    let tar = crate::testing::tar(&[("a", "a text")]);
    let import = |bytes: &[u8]| {
        import_tar(&house.store, Box::new(std::io::Cursor::new(bytes.to_vec())), "the tar", "amd64", None)
    };
    let built = import(&tar).unwrap();
    assert_eq!(read_result(&house, &open(&house, &built).snapshot(), "a").as_deref(), Some("a text"));
    for cut in [100, 512, 514] {
        assert!(import(&tar[..cut]).is_err(), "{cut} bytes");
    }
}

#[test]
fn layer_of_this_machine_is_used_as_its_step_left_it_when_its_image_is_run() {
    let house = TestHouse::new();
    let build = TestBuild::new(&house, "FROM scratch\nRUN write a 1\n");
    let made = build.run().snapshot().layers.clone();
    let (built, _) = write(&build, &ImageOptions::default());
    let image = open(&house, &built);
    assert_eq!(image.snapshot_to_run(&house.store).layers, made);
    assert_ne!(image.snapshot().layers, made);
}
