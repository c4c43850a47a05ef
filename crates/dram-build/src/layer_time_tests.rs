//! Tests of the times of files: in layers that are written, in images, and in shared caches.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use dram_image::tar::TarReader;
use dram_image::{Digest, TreePath};
use dram_store::FileTree as _;

use crate::layer_writer::{ArchiveRules, LayerWriteError, MetadataOverride};
use crate::layer_writer_tests::{LayerDirs, path};
use crate::shared_cache::CacheMode;
use crate::testing::{MemoryImage, NOW, TestBuild, TestHouse};
use crate::{BuiltImage, Image, ImageOptions, LayerProvider, write_image};

const OLD: i64 = 500_000_000;

fn set_time(path: &Path, seconds: i64) {
    let since = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since };
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn time(path: &Path) -> (i64, i64) {
    let status = fs::symlink_metadata(path).unwrap();
    (status.mtime(), status.mtime_nsec())
}

/// Returns the paths and times of the entries in all layers of `image`.
fn entry_times(house: &TestHouse, image: &Image) -> Vec<(String, i64)> {
    let mut all = Vec::new();
    for (diff_id, blob) in image.layers() {
        let mut tar = Vec::new();
        house.store.layers().copy_uncompressed(blob, diff_id, &mut tar).unwrap();
        let mut reader = TarReader::new(tar.as_slice());
        while let Some(entry) = reader.next_entry().unwrap() {
            all.push((entry.path.to_string().trim_start_matches('/').to_owned(), entry.mtime));
        }
    }
    all
}

/// Builds and writes the image with the times of `build.time`.
fn write(build: &TestBuild<'_>) -> Image {
    let plan = build.plan();
    let written = std::sync::Mutex::new(None::<BuiltImage>);
    let how = ImageOptions { time: build.time, ..ImageOptions::default() };
    build
        .run_and(&|layers, snapshot| {
            let config = plan.stages[plan.target].config.clone();
            *written.lock().unwrap() = Some(write_image(layers, snapshot, config, &how, &|_| ()).unwrap());
        })
        .snapshot();
    let built = written.into_inner().unwrap().unwrap();
    Image::open(&build.house().store, &built.manifest).unwrap()
}

fn digest(image: &Image) -> Digest {
    image.manifest.digest()
}

#[test]
fn copied_files_and_directories_have_the_times_of_their_sources_and_what_is_made_has_the_time_of_the_step() {
    let dirs = LayerDirs::new();
    for dir in ["below/kept", "below/filled", "source/dir/sub"] {
        fs::create_dir_all(dirs.layer.parent().unwrap().join(dir)).unwrap();
    }
    fs::write(dirs.source.join("dir/sub/f"), "1").unwrap();
    for (at, path) in
        ["source/dir/sub/f", "source/dir/sub", "source/dir", "below/kept", "below/filled", "below"].iter().enumerate()
    {
        set_time(&dirs.layer.parent().unwrap().join(path), OLD + i64::try_from(at).unwrap());
    }
    dirs.write(MetadataOverride::default(), |writer, source| {
        writer.make_dirs(&path("kept"))?;
        writer.make_dirs(&path("filled/new"))?;
        writer.make_dirs(&path("copy"))?;
        writer.copy_contents(source, &path("dir"), &path("copy"))?;
        writer.write_file(&path("filled/new/made"), b"1", 0o644)
    })
    .unwrap();
    let found = |path: &str| time(&dirs.layer.join(path));
    assert_eq!(found("copy/sub/f"), (OLD, 0));
    assert_eq!(found("copy/sub"), (OLD + 1, 0));
    assert_eq!(found("copy"), (OLD + 2, 0));
    assert_eq!(found("kept"), (OLD + 3, 0), "nothing was made in it");
    let now = (NOW.0, i64::from(NOW.1));
    for made in ["filled", "filled/new", "filled/new/made", ""] {
        assert_eq!(found(made), now, "{made}");
    }
}

#[test]
fn root_in_which_nothing_is_made_keeps_its_time() {
    let dirs = LayerDirs::new();
    fs::create_dir_all(dirs.below.join("a")).unwrap();
    set_time(&dirs.below, OLD);
    dirs.write(MetadataOverride::default(), |writer, _| writer.make_dirs(&path("a/b"))).unwrap();
    assert_eq!(time(&dirs.layer), (OLD, 0));
}

#[test]
fn members_of_an_archive_have_its_times_and_implied_directories_that_of_the_step() {
    let dirs = LayerDirs::new();
    fs::create_dir_all(dirs.source.join("implied/named")).unwrap();
    fs::write(dirs.source.join("implied/named/f"), "1").unwrap();
    for path in ["implied/named/f", "implied/named", "implied"] {
        set_time(&dirs.source.join(path), OLD);
    }
    dirs.write(MetadataOverride::default(), |writer, source| {
        writer.archive = Some(ArchiveRules { implied_dirs: BTreeSet::from([path("implied")]) });
        writer.make_dirs(&path("to"))?;
        writer.copy_contents(source, &TreePath::root(), &path("to"))
    })
    .unwrap();
    let found = |path: &str| time(&dirs.layer.join(path)).0;
    assert_eq!(["to/implied/named/f", "to/implied/named"].map(found), [OLD; 2]);
    assert_eq!(["to/implied", "to"].map(found), [NOW.0; 2]);
}

#[test]
fn time_beyond_common_ones_is_kept_or_refused() {
    // The years 1940 and 2440.
    for seconds in [-946_771_200, 14_831_769_600] {
        let dirs = LayerDirs::new();
        fs::create_dir(dirs.source.join("d")).unwrap();
        fs::write(dirs.source.join("d/f"), "1").unwrap();
        set_time(&dirs.source.join("d/f"), seconds);
        set_time(&dirs.source.join("d"), seconds);
        let real = time(&dirs.source.join("d/f")).0;
        let copied = dirs.write(MetadataOverride::default(), |writer, source| {
            writer.copy_contents(source, &TreePath::root(), &TreePath::root())
        });
        match copied {
            Ok(()) => assert_eq!(["d", "d/f"].map(|path| time(&dirs.layer.join(path)).0), [real; 2]),
            Err(LayerWriteError::Time { time, .. }) => assert_eq!(time, real),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn image_has_the_times_of_its_files_and_of_the_execution_of_its_steps() {
    let house = TestHouse::new();
    house.write("f", "1");
    set_time(&house.context.join("f"), OLD);
    let mut build = TestBuild::new(&house, "FROM scratch\nENV A=1\nCOPY f /d/\nENV B=1\nRUN true\nRUN write a 1\n");
    let image = write(&build);
    let config = image.config.value();
    let at = |time: &str| Some(time.to_owned());
    assert_eq!(config.created, at("2001-09-09T01:46:40Z"));
    assert!(config.history.iter().all(|entry| entry.created == config.created), "{:?}", config.history);
    let now = NOW.0;
    assert_eq!(entry_times(&house, &image), [("d".into(), now), ("d/f".into(), OLD), ("a".into(), now)]);
    // A rebuild later changes nothing, also when a file of the context was touched.
    build.wall_clock = || (NOW.0 + 60, 0);
    set_time(&house.context.join("f"), OLD + 1);
    assert_eq!(digest(&write(&build)), digest(&image));
    // A changed file has its own time; the steps before it keep theirs.
    house.write("f", "2");
    set_time(&house.context.join("f"), OLD + 2);
    let text = "FROM scratch\nENV A=1\nRUN write a 1\nCOPY f /d/\nENV B=1\n";
    let mut build = TestBuild::new(&house, text);
    write(&build);
    build.wall_clock = || (NOW.0 + 3600, 0);
    house.write("f", "3");
    set_time(&house.context.join("f"), OLD + 3);
    let image = write(&build);
    assert_eq!(entry_times(&house, &image), [("a".into(), now), ("d".into(), now + 3600), ("d/f".into(), OLD + 3)]);
    let created: Vec<_> = image.config.value().history.iter().map(|entry| entry.created.clone()).collect();
    let (early, late) = (at("2001-09-09T01:46:40Z"), at("2001-09-09T02:46:40Z"));
    assert_eq!(created, [early.clone(), early, late.clone(), late.clone()]);
    assert_eq!(image.config.value().created, late);
}

#[test]
fn executed_step_with_equal_content_keeps_the_old_layer_and_its_times() {
    let house = TestHouse::new();
    let mut build = TestBuild::new(&house, "FROM scratch\nRUN write a 1\n");
    let before = write(&build);
    build.use_cache = false;
    build.wall_clock = || (NOW.0 + 60, 0);
    let after = write(&build);
    assert_eq!(digest(&after), digest(&before));
    // The same for an equal result of another step, in another build.
    let mut build = TestBuild::new(&house, "FROM scratch\nRUN write a 1 && true\nRUN write b 1\n");
    build.wall_clock = || (NOW.0 + 60, 0);
    let longer = write(&build);
    let created: Vec<_> = longer.config.value().history.iter().map(|entry| entry.created.as_deref()).collect();
    assert_eq!(created, [Some("2001-09-09T01:46:40Z"), Some("2001-09-09T01:47:40Z")]);
    assert_eq!(longer.config.value().created.as_deref(), Some("2001-09-09T01:47:40Z"));
    // When the layer is gone, it is made again, at another time.
    let layers = house.store.layers();
    for layer in &build.run().snapshot().layers {
        let id = layer.step_id().unwrap();
        fs::remove_dir_all(layers.path(id)).unwrap();
    }
    let mut build = TestBuild::new(&house, "FROM scratch\nRUN write a 1\n");
    build.wall_clock = || (NOW.0 + 120, 0);
    assert_eq!(write(&build).config.value().created.as_deref(), Some("2001-09-09T01:48:40Z"));
}

#[test]
fn requested_time_is_that_of_all_files_and_documents_and_makes_every_store_write_the_same() {
    let text = "FROM scratch\nRUN write a 1\nWORKDIR /w\nCOPY f /d/\n";
    let mut digests = BTreeSet::new();
    for (clock, file_time) in [((|| (NOW.0, 5)) as fn() -> (i64, u32), OLD), (|| (NOW.0 + 60, 0), OLD + 9)] {
        let house = TestHouse::new();
        house.write("f", "1");
        set_time(&house.context.join("f"), file_time);
        for time in [Some(86_400), None, Some(86_400)] {
            let mut build = TestBuild::new(&house, text);
            (build.wall_clock, build.time) = (clock, time);
            let image = write(&build);
            let times: BTreeSet<i64> = entry_times(&house, &image).into_iter().map(|(_, time)| time).collect();
            if time.is_some() {
                assert_eq!(times, BTreeSet::from([86_400]));
                assert_eq!(image.config.value().created.as_deref(), Some("1970-01-02T00:00:00Z"));
                digests.insert(digest(&image).to_string());
            } else {
                assert!(times.contains(&file_time), "{times:?}");
            }
        }
    }
    assert_eq!(digests.len(), 1);
}

#[test]
fn image_without_executed_steps_is_as_old_as_the_last_entry_of_its_base() {
    let (house, base) = (TestHouse::new(), MemoryImage::new(&[&[("etc/a", "1")]]));
    let image = base.open_complete(&house.store);
    let build = TestBuild::new(&house, "FROM base\nENV A=1\n").with_image("base", image);
    let config = write(&build).config.value().clone();
    let last = config.history.iter().rev().find_map(|entry| entry.created.clone());
    assert_eq!(config.created, last);
}

#[test]
fn shared_cache_carries_times_to_another_store() {
    let text = "FROM scratch\nRUN write a 1\nCOPY f /d/\n";
    let house = TestHouse::new();
    house.write("f", "1");
    set_time(&house.context.join("f"), OLD);
    let build = TestBuild::new(&house, text);
    let cache = build.export_cache(CacheMode::Max);
    let image = write(&build);
    let cold = TestHouse::new();
    cold.write("f", "1");
    let mut build = TestBuild::new(&cold, text).with_cache(&cache);
    build.wall_clock = || (NOW.0 + 60, 0);
    assert_eq!(digest(&write(&build)), digest(&image));
    // Later steps see these times, and this store exports the same cache again.
    let view = LayerProvider::new(&cold.store).view(build.run().snapshot()).unwrap();
    let status = |name: &str| view.node_at(&path(name)).unwrap().unwrap().status;
    assert_eq!((status("d/f").mtime, status("a").mtime, status("d").mtime), ((OLD, 0), (NOW.0, 0), (NOW.0, 0)));
    assert_eq!(build.export_cache(CacheMode::Max).root, cache.root);
}

#[test]
fn shared_cache_with_a_requested_time_has_no_other_time() {
    let text = "FROM scratch\nRUN write a 1\n";
    let export = |clock: fn() -> (i64, u32)| {
        let house = TestHouse::new();
        let mut build = TestBuild::new(&house, text);
        (build.time, build.wall_clock) = (Some(77), clock);
        build.export_cache(CacheMode::Max)
    };
    let cache = export(|| NOW);
    assert_eq!(export(|| (NOW.0 + 60, 0)).root, cache.root);
    let cold = TestHouse::new();
    let image = write(&TestBuild::new(&cold, text).with_cache(&cache));
    assert_eq!(entry_times(&cold, &image), [("a".into(), 77)]);
    assert_eq!(image.config.value().created.as_deref(), Some("1970-01-01T00:01:17Z"));
}
