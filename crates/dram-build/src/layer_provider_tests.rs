//! Tests of the layer provider with base images in memory.

use std::sync::Mutex;

use dram_store::{FileTree as _, LayerId};

use crate::layer_provider::RootedTree;
use crate::testing::{MemoryImage, TestHouse, read};
use crate::{BuildEvent, Layer, LayerError, LayerProvider};

fn missing_layer() -> LayerId {
    format!("c-{}", "ab".repeat(32)).parse().unwrap()
}

#[test]
fn layers_are_returned_lowest_first_and_each_is_unpacked_once() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("a", "1")], &[("a", "2")]]));
    let opened = image.open_complete(&house.store);
    let events = Mutex::new(Vec::new());
    let tell = |event: BuildEvent| events.lock().unwrap().push(event);
    let provider = LayerProvider::new(&house.store).with_events(&tell).with_image("base", &opened);
    let ids = provider.ensure(&opened.snapshot().layers).unwrap();
    let expected: Vec<LayerId> = image.layers.iter().map(|layer| LayerId::from_diff_id(&layer.digest)).collect();
    assert_eq!(ids, expected);
    assert_eq!(read(&house.store.layers().view(&ids).unwrap(), "a").unwrap(), b"2");
    assert_eq!(provider.ensure(&opened.snapshot().layers).unwrap(), ids);
    assert_eq!(events.into_inner().unwrap(), vec![BuildEvent::Unpacking { image: "base".to_owned() }; 2]);
}

#[test]
fn only_layers_that_are_not_unpacked_are_fetched() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("a", "1")], &[("b", "2")], &[("c", "3")]]));
    let lazy = image.open_lazily(&house.store);
    let provider = LayerProvider::new(&house.store).with_image("base", &lazy);
    let layers = lazy.snapshot().layers;
    assert_eq!(provider.lazy_blobs(&layers).len(), 3);
    provider.ensure(&layers[..1]).unwrap();
    assert_eq!(image.pulls(), [1, 0, 0]);
    house.store.blobs().remove(&image.layers[0].digest);
    provider.ensure(&layers).unwrap();
    assert_eq!(image.pulls(), [1, 1, 1]);
}

#[test]
fn blobs_are_fetched_without_unpacking_a_layer() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("a", "1")], &[("b", "2")]]));
    let lazy = image.open_lazily(&house.store);
    let provider = LayerProvider::new(&house.store).with_image("base", &lazy);
    provider.fetch_blobs(&lazy.snapshot().layers).unwrap();
    provider.fetch_blobs(&lazy.snapshot().layers).unwrap();
    assert_eq!(image.pulls(), [1, 1]);
    assert!(!house.store.layers().has(&LayerId::from_diff_id(&image.layers[0].digest)));
}

#[test]
fn each_blob_is_fetched_from_the_registry_of_its_image() {
    let house = TestHouse::new();
    let (one, two) = (MemoryImage::new(&[&[("a", "1")]]), MemoryImage::new(&[&[("a", "1")], &[("b", "2")]]));
    let (first, second) = (one.open_lazily(&house.store), two.open_lazily(&house.store));
    let provider = LayerProvider::new(&house.store).with_image("one", &first).with_image("two", &second);
    provider.ensure(&second.snapshot().layers).unwrap();
    // The layer that both images have comes from the first.
    assert_eq!((one.pulls(), two.pulls()), (vec![1], vec![0, 1]));
}

#[test]
fn layers_of_an_image_that_is_complete_in_the_store_are_not_lazy() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("a", "1")]]));
    let lazy = image.open_lazily(&house.store);
    let layers = lazy.snapshot().layers;
    let before = LayerProvider::new(&house.store).with_image("base", &lazy);
    assert!(!before.is_local(&layers));
    image.open_complete(&house.store);
    let after = LayerProvider::new(&house.store).with_image("base", &lazy);
    assert!(after.is_local(&layers));
    assert!(after.lazy_blobs(&layers).is_empty());
    assert!(!after.is_local(&[Layer::Local(missing_layer())]));
}

#[test]
fn missing_layer_of_a_step_is_lost_and_an_unreadable_file_outside_of_a_build() {
    let house = TestHouse::new();
    let provider = LayerProvider::new(&house.store);
    for layer in [Layer::Local(missing_layer()), Layer::Cached { id: missing_layer(), blob: None }] {
        let lost = provider.ensure(std::slice::from_ref(&layer));
        assert!(matches!(lost, Err(LayerError::Lost { layer }) if layer == missing_layer()));
        let snapshot = crate::Snapshot { layers: vec![layer], steps: Vec::new() };
        assert!(provider.view(&snapshot).unwrap_err().is_not_found());
    }
}

#[test]
fn handle_of_a_step_says_whether_its_layer_is_in_the_store() {
    let house = TestHouse::new();
    let done = house.build("FROM scratch\nRUN write a 1\n");
    let provider = LayerProvider::new(&house.store);
    let made = done.snapshot().layers[0].stored_id().unwrap().clone();
    assert_eq!(provider.step_layer(made.clone()), Layer::Local(made));
    assert_eq!(provider.step_layer(missing_layer()), Layer::Cached { id: missing_layer(), blob: None });
}

#[test]
fn tree_without_layers_has_a_root_that_is_removed_with_it() {
    let house = TestHouse::new();
    let rooted = RootedTree::open(&house.store, &[]).unwrap();
    let root = rooted.tree.node_at(&dram_image::TreePath::root()).unwrap().unwrap();
    assert_eq!((root.status.mode, root.status.uid, root.status.gid), (0o755, 0, 0));
    assert_eq!(house.leftovers().len(), 1);
    drop(rooted);
    assert_eq!(house.leftovers(), Vec::<String>::new());
}

#[test]
fn all_missing_blobs_are_announced_before_the_first_layer_is_unpacked() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("a", "1")], &[("b", "2")]]));
    let planned = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = planned.clone();
    let tell = move |progress| {
        if let crate::transfer::TransferProgress::Planned(blobs) = progress {
            seen.lock().unwrap().push(blobs.len());
        }
    };
    let lazy = crate::transfer::LazyBlobs::new(
        Box::new(image.registry.clone()),
        crate::CancelToken::default(),
        Box::new(tell),
    );
    let opened = lazy.open_image(&house.store, &image.root, &crate::testing::platform()).unwrap();
    LayerProvider::new(&house.store).with_image("base", &opened).ensure(&opened.snapshot().layers).unwrap();
    assert_eq!(*planned.lock().unwrap(), [2]);
}
