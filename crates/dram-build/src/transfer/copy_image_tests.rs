//! Tests of image copies between registries in memory.

use dram_image::{Descriptor, Digest, Document, ImagePlatform, Index, MediaType};

use crate::CancelToken;
use crate::testing::{MemoryImage, ScriptedRegistry, platform};
use crate::transfer::{
    CopyOptions, ImageSelection, ImageSource as _, TransferError, TransferProgress, copy_image, image_layers,
};

/// Copies all of `root`, and returns the progress without the bytes that were read.
fn copy(
    root: &Descriptor,
    from: &ScriptedRegistry,
    to: &ScriptedRegistry,
) -> (Result<Descriptor, TransferError>, Vec<TransferProgress>) {
    let progress = std::sync::Mutex::new(Vec::new());
    let tell = |event| match event {
        TransferProgress::Bytes(..) | TransferProgress::Started(_) => {}
        event @ (TransferProgress::Planned(_)
        | TransferProgress::AlreadyPresent(_)
        | TransferProgress::Mounted(_)
        | TransferProgress::Done(_)) => progress.lock().unwrap().push(event),
    };
    let (selection, cancel) = (ImageSelection::All, CancelToken::default());
    let done = copy_image(root, from, to, &CopyOptions { selection, referrers: false, cancel, tell: &tell });
    (done, progress.into_inner().unwrap())
}

fn two_layers() -> MemoryImage {
    MemoryImage::new(&[&[("a", "1")], &[("b", "2")]])
}

/// Adds an index of `entries` to `registry`.
fn index(registry: &ScriptedRegistry, entries: Vec<Descriptor>) -> Descriptor {
    registry.add(MediaType::INDEX, Document::write(Index::new(entries)).unwrap().bytes().to_vec())
}

#[test]
fn layers_are_copied_before_the_config_and_the_image_comes_last() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    let (done, progress) = copy(&image.root, &image.registry, &sink);
    assert_eq!(done.unwrap(), image.root);
    let digests = [image.layers[0].digest, image.layers[1].digest, image.config.digest, image.root.digest];
    assert_eq!(sink.written(), digests);
    assert_eq!(sink.images(), [image.root.digest]);
    assert_eq!(progress[1..], digests[..3].iter().map(|digest| TransferProgress::Done(*digest)).collect::<Vec<_>>());
}

#[test]
fn blobs_that_the_sink_has_are_not_sent() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    sink.add(MediaType::LAYER, crate::testing::tar(&[("a", "1")]));
    let (_, progress) = copy(&image.root, &image.registry, &sink);
    assert_eq!(progress[1], TransferProgress::AlreadyPresent(image.layers[0].digest));
    assert_eq!(image.pulls(), [0, 1]);
}

#[test]
fn blob_of_a_known_repository_is_mounted_and_sent_if_that_is_refused() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    image.registry.know_in(&image.layers[0].digest, "mountable");
    image.registry.know_in(&image.layers[1].digest, "private");
    let (done, progress) = copy(&image.root, &image.registry, &sink);
    done.unwrap();
    assert_eq!(progress[1], TransferProgress::Mounted(image.layers[0].digest));
    assert_eq!(image.pulls(), [0, 1]);
}

#[test]
fn layer_of_two_images_and_an_image_that_is_listed_twice_are_copied_once() {
    let registry = ScriptedRegistry::default();
    let one = MemoryImage::in_registry(registry.clone(), &[&[("a", "1")], &[("b", "2")]]);
    let two = MemoryImage::in_registry(registry.clone(), &[&[("a", "1")], &[("c", "3")]]);
    let root = index(&registry, vec![one.root.clone(), two.root.clone(), one.root.clone()]);
    let sink = ScriptedRegistry::default();
    let (done, _) = copy(&root, &registry, &sink);
    done.unwrap();
    assert_eq!((one.pulls(), two.pulls()), (vec![1, 1], vec![1, 1]));
    assert_eq!(sink.written().len(), 3 + 2 + 2 + 1);
    assert_eq!(sink.images(), [root.digest]);
}

#[test]
fn blob_with_other_bytes_is_an_error_and_no_image_is_named() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    let length = usize::try_from(image.layers[1].size).unwrap();
    for wrong in [vec![0; length], vec![0; length - 1], vec![0; length + 1], Vec::new()] {
        image.registry.damage(&image.layers[1].digest, &wrong);
        let (done, _) = copy(&image.root, &image.registry, &sink);
        assert!(matches!(done, Err(TransferError::Blob { .. } | TransferError::Read { .. })), "{done:?}");
        assert_eq!(sink.images(), Vec::<Digest>::new());
        assert!(!sink.has_blob(&image.layers[1].digest));
    }
}

#[test]
fn document_with_other_bytes_is_an_error() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    let root = Descriptor { size: image.root.size + 1, ..image.root.clone() };
    assert!(matches!(copy(&root, &image.registry, &sink).0, Err(TransferError::Blob { .. })));
    let huge = Descriptor { size: u64::MAX, ..image.root.clone() };
    assert!(matches!(copy(&huge, &image.registry, &sink).0, Err(TransferError::Blob { .. })));
    image.registry.damage(&image.root.digest, &vec![b' '; usize::try_from(image.root.size).unwrap()]);
    assert!(matches!(copy(&image.root, &image.registry, &sink).0, Err(TransferError::Blob { .. })));
    assert_eq!(sink.written(), Vec::<Digest>::new());
}

#[test]
fn corrupt_blob_is_read_again_if_the_source_has_another_origin() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    let length = usize::try_from(image.layers[0].size).unwrap();
    image.registry.send_wrong_bytes_first(&image.layers[0].digest, &vec![0; length]);
    copy(&image.root, &image.registry, &sink).0.unwrap();
    assert_eq!(image.pulls(), [2, 1]);
}

#[test]
fn sink_that_lacks_a_blob_it_claimed_gets_all_blobs() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    sink.claim(&image.layers[0].digest);
    let (done, progress) = copy(&image.root, &image.registry, &sink);
    done.unwrap();
    assert_eq!(progress[1], TransferProgress::AlreadyPresent(image.layers[0].digest));
    assert!(sink.has_blob(&image.layers[0].digest));
    assert_eq!(sink.images(), [image.root.digest]);
}

#[test]
fn indexes_that_are_nested_too_deeply_are_refused() {
    let (image, sink) = (two_layers(), ScriptedRegistry::default());
    let mut root = image.root.clone();
    for depth in 1..7 {
        root = index(&image.registry, vec![root]);
        assert_eq!(copy(&root, &image.registry, &sink).0.is_ok(), depth <= 4, "{depth}");
    }
}

#[test]
fn only_the_image_of_the_platform_is_copied_from_an_index() {
    let registry = ScriptedRegistry::default();
    let one = MemoryImage::in_registry(registry.clone(), &[&[("a", "1")]]);
    let two = MemoryImage::in_registry(registry.clone(), &[&[("b", "2")]]);
    let arm = ImagePlatform { architecture: "arm64".to_owned(), ..platform() };
    let entry = |image: &MemoryImage, platform| Descriptor { platform: Some(platform), ..image.root.clone() };
    let root = index(&registry, vec![entry(&one, platform()), entry(&two, arm)]);
    let copy_for = |architecture: &str, sink: &ScriptedRegistry| {
        let platform = ImagePlatform { architecture: architecture.to_owned(), ..platform() };
        let (selection, cancel) = (ImageSelection::Platform(platform), CancelToken::default());
        copy_image(&root, &registry, sink, &CopyOptions { selection, referrers: false, cancel, tell: &|_| () })
    };
    let sink = ScriptedRegistry::default();
    assert_eq!(copy_for("arm64", &sink).unwrap().digest, two.root.digest);
    assert_eq!((one.pulls(), two.pulls()), (vec![0], vec![1]));
    let error = copy_for("riscv64", &sink).unwrap_err().to_string();
    assert!(error.contains("linux/riscv64") && error.contains("linux/amd64, linux/arm64"), "{error}");
}

#[test]
fn cancelled_copy_reads_no_blob() {
    let (image, sink, cancel) = (two_layers(), ScriptedRegistry::default(), CancelToken::default());
    cancel.cancel();
    let how = CopyOptions { selection: ImageSelection::All, referrers: false, cancel, tell: &|_| () };
    assert!(matches!(copy_image(&image.root, &image.registry, &sink, &how), Err(TransferError::Cancelled)));
    assert_eq!(image.registry.opened(), Vec::<Digest>::new());
}

#[test]
fn layers_of_an_image_are_only_taken_from_a_config_with_its_digest() {
    let image = two_layers();
    let layers = |image: &MemoryImage| image_layers(&image.root, &image.registry, &ImageSelection::All);
    let expected: Vec<_> = image.layers.iter().map(|layer| (layer.digest, layer.clone())).collect();
    assert_eq!(layers(&image).unwrap(), expected);
    let mut config = Vec::new();
    std::io::Read::read_to_end(&mut image.registry.open(&image.config).unwrap(), &mut config).unwrap();
    let other = String::from_utf8(config).unwrap().replace("amd64", "arm64");
    image.registry.damage(&image.config.digest, other.as_bytes());
    assert!(matches!(layers(&image), Err(TransferError::Blob { .. })));
}
