//! Damage to a store on its disk: each command works or reports the damage with a help, other images stay usable, and
//! `dram fsck --repair` repairs the store.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::{BASE, CommandOutput, Context, Store, names, temp, tool, valid_image};

const DOCKERFILE: &str = "FROM parity-base\nRUN echo made > /made\n";

/// Returns a copy of a store with the base image, `demo` upon it, and `other`, which shares nothing with them.
fn damageable_store() -> Store {
    static WHOLE: OnceLock<Store> = OnceLock::new();
    let whole = WHOLE.get_or_init(|| {
        let (store, dir) = (Store::with_base(), temp());
        fs::write(dir.path().join("file"), "other\n").unwrap();
        let tar = dir.path().join("other.tar");
        tool("tar").arg("-cf").arg(&tar).arg("-C").arg(dir.path()).arg("file").ok();
        store.dram(["import"]).arg(&tar).arg("other").ok();
        store.build(&Context::new(DOCKERFILE)).ok();
        store
    });
    let copy = Store::empty();
    tool("cp").arg("-a").arg(whole.path()).arg(copy.path()).ok();
    copy
}

fn blob(store: &Store, digest: &str) -> PathBuf {
    store.join("oci/blobs").join(digest.replace(':', "/"))
}

/// Returns the blobs of `demo` by kind: the layer of its RUN, the base layer, the config and the manifest.
fn blobs_of_demo(store: &Store) -> [(&'static str, String); 4] {
    let demo = store.inspect("demo");
    let at = |pointer: &str| demo.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    [
        ("layer", at("/manifest/layers/1/digest")),
        ("base", at("/manifest/layers/0/digest")),
        ("config", at("/manifest/config/digest")),
        ("manifest", at("/digest")),
    ]
}

/// Runs all common commands and asserts that each succeeds, or fails with an error that contains one of `named` and a
/// help.
#[track_caller]
fn assert_commands_work_or_report(store: &Store, named: &[&str]) {
    let out = temp();
    let context = Context::new(DOCKERFILE);
    let archive = out.path().join("demo.tar");
    let commands = [
        store.dram(["images"]),
        store.dram(["inspect", "demo"]),
        store.dram(["run", "demo", "cat", "/made"]),
        store.dram(["build", "--progress", "plain", "-t", "again"]).arg(context.path()),
        store.dram(["save", "-o"]).arg(&archive).arg("demo"),
        store.dram(["df"]),
        store.dram(["prune", "--dry-run"]),
    ];
    for (which, command) in commands.into_iter().enumerate() {
        let began = Instant::now();
        let done = command.end();
        assert!(began.elapsed() < Duration::from_secs(60), "{done}");
        if done.code == 0 {
            assert!(which != 2 || done.stdout == "made\n", "wrong bytes\n{done}");
        } else {
            assert_reported(&done, named);
        }
    }
    if archive.exists() {
        tool("skopeo").args(["inspect", "--raw"]).arg(format!("oci-archive:{}", archive.display())).ok();
    }
    assert_other_image_works(store);
}

#[track_caller]
fn assert_reported(done: &CommandOutput, named: &[&str]) {
    assert_eq!(done.code, 1, "{done}");
    assert!(named.iter().any(|name| done.stderr.contains(name)), "expected one of {named:?}\n{done}");
    done.clone().says("help: ").does_not_say("panick");
}

#[track_caller]
fn assert_other_image_works(store: &Store) {
    let out = temp();
    store.dram(["save", "-o"]).arg(out.path().join("other.tar")).arg("other").ok();
    assert_eq!(store.inspect("other")["names"][0], "other:latest");
}

/// Asserts that fsck finds `what`, repairs it, and then finds nothing. Returns the output of the repair.
#[track_caller]
fn assert_repaired(store: &Store, what: &str) -> String {
    let found = store.dram(["fsck"]).fails(1).says("dram fsck --repair");
    assert!(found.stdout.contains(what), "expected to read {what:?}\n{found}");
    let mended = store.dram(["fsck", "--repair"]).ok();
    assert!(mended.stdout.contains("; repaired: "), "{mended}");
    let whole = store.dram(["fsck"]).ok();
    assert!(whole.stdout.ends_with(" 0 findings\n"), "{whole}");
    store.dram(["images"]).ok();
    store.dram(["prune"]).ok();
    assert_other_image_works(store);
    valid_image(store, "other:latest");
    mended.stdout
}

/// Asserts that lost images can be imported and built again.
#[track_caller]
fn assert_rebuildable(store: &Store) {
    if store.dram(["inspect", BASE]).end().code != 0 {
        store.dram(["import"]).arg(crate::support::base_tar()).arg(BASE).ok();
    }
    store.build(&Context::new(DOCKERFILE)).ok();
    assert_eq!(store.sh("cat /made").stdout, "made\n");
    valid_image(store, "demo:latest");
    store.dram(["fsck"]).ok();
}

/// Damages each blob of `demo`, each in a store of its own, and asserts that the damage is found and repaired.
fn for_each_blob(damage: impl Fn(&Path)) {
    for (kind, _) in blobs_of_demo(&damageable_store()) {
        let store = damageable_store();
        let (_, digest) = blobs_of_demo(&store).into_iter().find(|(is, _)| *is == kind).unwrap();
        damage(&blob(&store, &digest));
        let found = store.dram(["fsck"]).fails(1);
        assert!(found.stdout.contains(&digest), "{found}");
        assert_commands_work_or_report(&store, &[&digest]);
        // A build from intact layers may have written the blob again.
        if store.dram(["fsck"]).end().code == 0 {
            damage(&blob(&store, &digest));
        }
        let said = assert_repaired(&store, &digest);
        match kind {
            "layer" => {
                assert!(said.contains("packed again"), "{said}");
                valid_image(&store, "demo:latest");
            }
            _ => assert!(said.contains("`dram pull "), "{said}"),
        }
        assert_rebuildable(&store);
    }
}

fn edit_file(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap_or_default();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_truncated_blob_is_found_and_repaired() {
    for_each_blob(|path| edit_file(path, |bytes| bytes.truncate(bytes.len() / 2)));
}

#[test]
fn a_blob_with_a_flipped_bit_is_found_and_repaired() {
    for_each_blob(|path| {
        let middle = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        };
        edit_file(path, middle);
    });
}

#[test]
fn an_empty_blob_is_found_and_repaired() {
    for_each_blob(|path| edit_file(path, Vec::clear));
}

#[test]
fn a_missing_blob_is_found_and_repaired() {
    for_each_blob(|path| drop(fs::remove_file(path)));
}

#[test]
fn a_sparse_file_instead_of_a_blob_is_found_and_repaired() {
    for_each_blob(|path| {
        let size = fs::metadata(path).unwrap().len();
        fs::File::create(path).unwrap().set_len(size).unwrap();
    });
}

#[test]
fn a_symlink_instead_of_a_blob_is_not_followed() {
    for_each_blob(|path| {
        let _ = fs::remove_file(path);
        symlink("/etc/hostname", path).unwrap();
    });
}

#[test]
fn a_pipe_instead_of_a_blob_is_not_waited_for() {
    for_each_blob(|path| {
        let _ = fs::remove_file(path);
        tool("mkfifo").arg(path).ok();
    });
}

#[test]
fn a_directory_instead_of_a_blob_is_moved_away() {
    for_each_blob(|path| {
        let _ = fs::remove_file(path);
        let _ = fs::create_dir(path);
    });
}

#[test]
fn missing_layers_are_packed_again_from_unpacked_ones() {
    let store = damageable_store();
    let context = Context::new("FROM parity-base\nRUN echo 1 > /one\nRUN echo 2 > /two\nRUN echo made > /made\n");
    let before = store.build(&context).ok().digest();
    let layers = store.inspect("demo")["manifest"]["layers"].clone();
    for layer in &layers.as_array().unwrap()[1..] {
        fs::remove_file(blob(&store, layer["digest"].as_str().unwrap())).unwrap();
    }
    assert!(assert_repaired(&store, "the image").contains("packed again"));
    assert_eq!(store.digest("demo"), before);
    valid_image(&store, "demo:latest");
}

#[test]
fn builds_work_on_a_noexec_file_system() {
    let (whole, place) = (damageable_store(), Store::empty());
    let path = place.path();
    let _small = crate::robustness::SmallFileSystem::mount(&path, "noexec,nosuid,nodev,mode=700");
    tool("cp").arg("-a").arg(whole.join(".")).arg(&path).ok();
    let built = place.build(&Context::new(DOCKERFILE)).arg("--no-cache").ok();
    assert_eq!(built.digest(), whole.digest("demo"));
    assert_eq!(place.sh("cat /made").stdout, "made\n");
    place.dram(["fsck"]).ok();
}

#[test]
fn swapped_blobs_are_moved_back() {
    let [(_, layer), (_, base), (_, config), (_, manifest)] = blobs_of_demo(&damageable_store());
    for (one, two) in [(&layer, &base), (&config, &manifest), (&layer, &config)] {
        let (store, used) = (damageable_store(), damageable_store());
        for store in [&store, &used] {
            let (one_path, two_path, aside) = (blob(store, one), blob(store, two), store.join("oci/blobs/aside"));
            fs::rename(&one_path, &aside).unwrap();
            fs::rename(&two_path, &one_path).unwrap();
            fs::rename(&aside, &two_path).unwrap();
        }
        assert_commands_work_or_report(&used, &[one, two]);
        used.dram(["fsck", "--repair"]).ok();
        assert_rebuildable(&used);
        let said = assert_repaired(&store, one);
        assert!(said.contains(&format!("it is what {two} should be")), "{said}");
        valid_image(&store, "demo:latest");
    }
}

#[test]
fn names_are_restored_from_the_copy_of_the_index() {
    for cut in [true, false] {
        let store = damageable_store();
        let index = store.join("oci/index.json");
        let whole = fs::read(&index).unwrap();
        match cut {
            true => edit_file(&index, |bytes| bytes.truncate(bytes.len() / 2)),
            false => fs::remove_file(&index).unwrap(),
        }
        let path = index.display().to_string();
        for words in [["images", "--json"], ["inspect", "demo"], ["prune", "-n"], ["tag", "demo"]] {
            let done = store.dram(words).args(["more"].iter().filter(|_| words[0] == "tag")).end();
            assert_reported(&done, &[&path]);
        }
        assert_reported(&store.build(&Context::new(DOCKERFILE)).end(), &[&path]);
        assert!(assert_repaired(&store, "index.json").contains("it is restored from its copy: 3 names"));
        assert_eq!(fs::read(&index).unwrap(), whole);
        assert_rebuildable(&store);
    }
}

#[test]
fn images_get_lost_names_when_the_index_and_its_copy_are_damaged() {
    let store = damageable_store();
    let digest = store.digest("demo");
    fs::write(store.join("oci/index.json"), "{").unwrap();
    fs::write(store.join("index.copy"), "").unwrap();
    let said = store.dram(["fsck", "--repair"]).ok().stdout;
    assert!(said.contains("the 3 images of the store are named lost:DIGEST"), "{said}");
    store.dram(["fsck"]).ok();
    assert_eq!(store.digest(&format!("lost:{}", &digest[7..19])), digest);
}

#[test]
fn a_dangling_name_is_removed_and_reported() {
    let store = damageable_store();
    let index = store.join("oci/index.json");
    let text = fs::read_to_string(&index).unwrap();
    let none = format!("sha256:{}", "0".repeat(64));
    fs::write(&index, text.replace(&store.digest("demo"), &none)).unwrap();
    assert_commands_work_or_report(&store, &[&none]);
    assert!(assert_repaired(&store, &none).contains("`dram pull demo"));
    store.dram(["inspect", "demo"]).fails(1);
    assert_rebuildable(&store);
}

#[test]
fn wrong_ownership_of_a_store_is_reported_and_repaired() {
    let store = damageable_store();
    let path = store.path();
    chown(&path, Some(12345), Some(12345)).unwrap();
    for name in names(&path) {
        chown(path.join(name), Some(12345), Some(12345)).unwrap();
    }
    assert_commands_work_or_report(&store, &[]);
    let said = assert_repaired(&store, "it belongs to the user 12345");
    assert!(said.contains("it is given to the store's user"), "{said}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert_repaired(&store, "others may look into the store");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    let user = crate::support::User { uid: 12345, gid: 12345, home: PathBuf::from("/nonexistent") };
    chown(temp().path(), Some(1), Some(1)).unwrap();
    let refused = store.dram(["images"]).user(&user).env("DRAM_STORE", &path).dir("/").end();
    assert_reported(&refused, &[&path.display().to_string()]);
}

#[test]
fn stale_locks_of_dead_processes_do_not_block() {
    let store = damageable_store();
    let pid = std::process::id().to_string();
    for name in ["lock", "refs.lock", "work/gate"] {
        fs::write(store.join(name), &pid).unwrap();
    }
    let left = store.join(&format!("work/p{pid}-0123456789abcdef"));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("lock"), &pid).unwrap();
    fs::write(store.join("steplocks").join("0".repeat(64)), &pid).unwrap();
    assert_commands_work_or_report(&store, &[]);
    assert!(!left.exists());
    store.dram(["fsck"]).ok();
}

#[test]
fn damaged_records_are_harmless_and_repaired() {
    for damage in [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2), |bytes: &mut Vec<u8>| bytes.fill(0xff)] {
        let store = damageable_store();
        let mut count = 0;
        for place in ["packs", "steps", "contexts", "sizes"] {
            let found = tool("find").arg(store.join(place)).args(["-type", "f", "-size", "+0"]).ok().stdout;
            for path in found.lines() {
                edit_file(Path::new(path), damage);
                count += 1;
            }
        }
        assert!(count > 6, "{count} records");
        assert_commands_work_or_report(&store, &["packs/"]);
        for path in tool("find").arg(store.join("steps")).args(["-type", "f"]).ok().stdout.lines() {
            edit_file(Path::new(path), damage);
        }
        assert_repaired(&store, "the record cannot be read");
        assert_rebuildable(&store);
    }
}

#[test]
fn a_store_of_a_later_version_is_not_touched() {
    let store = damageable_store();
    fs::write(store.join("version"), "999\n").unwrap();
    let before = tool("find").arg(store.path()).ok().stdout;
    for words in [["images", "--json"], ["fsck", "--repair"], ["prune", "--all"], ["run", "demo"], ["inspect", "demo"]]
    {
        assert_reported(&store.dram(words).end(), &["version `999`"]);
    }
    assert_reported(&store.build(&Context::new(DOCKERFILE)).end(), &["version `999`"]);
    assert_eq!(tool("find").arg(store.path()).ok().stdout, before);
}

#[test]
fn unknown_files_are_harmless_and_moved_to_lost() {
    let store = damageable_store();
    let mut made = 0;
    let rooms = tool("find").arg(store.path()).args(["-maxdepth", "3", "-type", "d", "-not", "-path", "*/layers/*"]);
    for room in rooms.ok().stdout.lines().map(Path::new) {
        // Files inside a cache mount or a layer are not entries of the store.
        fs::write(room.join("unknown"), "file").unwrap();
        fs::create_dir(room.join("unknown.d")).unwrap();
        fs::write(room.join("unknown.d/in"), "file").unwrap();
        symlink("/etc", room.join("unknown link")).unwrap();
        made += 1;
    }
    assert!(made > 15, "{made} rooms");
    assert_commands_work_or_report(&store, &[]);
    store.dram(["prune"]).ok();
    assert_repaired(&store, "that is no part of a store");
    let kept = tool("find").arg(store.join("lost")).args(["-name", "unknown", "-o", "-name", "unknown link"]).ok();
    assert_eq!(kept.stdout.lines().count(), 2 * made, "nothing is lost\n{kept}");
    assert!(Path::new("/etc/passwd").exists());
    assert_rebuildable(&store);
}

/// Replaces a file by a directory, or a directory by a file.
fn swap_file_and_directory(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
        fs::write(path, "in the way").unwrap();
    } else {
        let _ = fs::remove_file(path);
        fs::create_dir(path).unwrap();
        fs::write(path.join("in"), "the way").unwrap();
    }
}

#[test]
fn misplaced_files_and_directories_are_moved_to_lost() {
    let store = damageable_store();
    let context = Context::new("FROM parity-base\nRUN --mount=type=cache,target=/c echo made > /made\n");
    let build = || store.build(&context).arg("--no-cache");
    build().ok();
    // Some names are derived from their content.
    let first = |dir: &str| format!("{dir}/{}", names(&store.join(dir))[0]);
    let cache = first("caches");
    let rooms = [
        "layers",
        "steps",
        "packs",
        "contexts",
        "caches",
        "downloads",
        "blob-locations",
        "unsynced",
        "work",
        "steplocks",
    ];
    let files = ["lock", "refs.lock", "work/gate"];
    let mut places: Vec<String> = rooms.into_iter().chain(files).map(str::to_owned).collect();
    places.splice(0..0, [first("unsynced"), format!("{cache}/lock"), format!("{cache}/data"), cache.clone()]);
    // The directories of images come last, because the images are lost with them.
    places.extend(["oci/blobs/sha256", "oci/blobs", "oci"].map(str::to_owned));
    for place in places {
        let path = store.join(&place);
        if place.contains('/') && !place.starts_with("oci") {
            build().ok();
        }
        swap_file_and_directory(&path);
        let is_dir = path.is_dir();
        let refused = build().fails(1).says(&path.display().to_string());
        if rooms.contains(&place.as_str()) || place.starts_with("oci") {
            refused
                .says("should be a directory of the store, and is none")
                .says("`dram fsck --repair` moves it to `lost/`");
        } else if !place.ends_with("/data") {
            refused.says("`dram fsck --repair` moves what is of another kind to `lost/`");
        }
        store.dram(["fsck"]).fails(1).says("dram fsck --repair");
        assert_eq!(path.is_dir(), is_dir, "{place}: only looked at");
        let mended = store.dram(["fsck", "--repair"]).ok();
        assert!(mended.stdout.contains(&place) || place.starts_with(&cache), "{place}: {mended}");
        let lost = tool("grep").args(["-rlE", "in the way|the way"]).arg(store.join("lost")).ok().stdout;
        assert_eq!(lost.lines().count(), 1, "{place}: nothing is thrown away\n{lost}");
        fs::remove_dir_all(store.join("lost")).unwrap();
        let whole = store.dram(["fsck"]).ok();
        assert!(whole.stdout.ends_with(": 0 findings\n"), "{place}: {whole}");
        if place.starts_with("oci") {
            assert_rebuildable(&store);
        } else {
            assert_eq!(store.sh("cat /made").stdout, "made\n", "{place}");
        }
    }
}

#[test]
fn nothing_is_moved_in_a_directory_that_is_no_store() {
    let dir = temp();
    for name in ["work", "layers", "lost"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    let store = Store::empty();
    let refused = store.dram(["fsck", "--repair", "--store"]).arg(dir.path()).fails(1);
    refused.says("should be a directory of the store");
    assert_eq!(fs::read_to_string(dir.path().join("layers")).unwrap(), "mine");
}

#[test]
fn a_damaged_version_file_is_refused_with_help() {
    let store = damageable_store();
    let version = store.join("version");
    let damages: [&dyn Fn(&Path); 3] = [
        &|path| fs::write(path, "").unwrap(),
        &|path| fs::write(path, b"\x1b[31mv\xff").unwrap(),
        &swap_file_and_directory,
    ];
    for damage in damages {
        damage(&version);
        for words in [["images", "--json"], ["fsck", "--repair"], ["inspect", "demo"]] {
            let refused = store.dram(words).fails(1).says(&store.path().display().to_string());
            refused.says("its file `version` is damaged").says("write a file with a `2` in it").says("--store");
        }
        let _ = fs::remove_dir_all(&version);
        fs::write(&version, "1").unwrap();
        store.dram(["fsck", "--repair"]).ok();
        assert_rebuildable(&store);
    }
}

/// The recorded size is shown by `dram images` and used for nothing else.
#[test]
fn a_wrong_size_record_changes_no_image() {
    let store = damageable_store();
    let sizes = || tool("find").arg(store.join("packs")).args(["-name", "*.size"]).ok().stdout;
    let shown = |store: &Store| store.dram(["images", "--json"]).ok().stdout;
    let saved = |store: &Store| {
        let out = temp();
        store.dram(["save", "-o"]).arg(out.path().join("demo.tar")).arg("demo").ok();
        fs::read(out.path().join("demo.tar")).unwrap()
    };
    let right = (shown(&store), store.digest("demo"), saved(&store));
    for size in ["0", "1", "18446744073709551615"] {
        assert!(sizes().lines().count() >= 3);
        sizes().lines().for_each(|path| fs::write(path, size).unwrap());
        assert_ne!(shown(&store), right.0, "it is shown");
        store.build(&Context::new(DOCKERFILE)).ok();
        store.build(&Context::new(DOCKERFILE)).arg("--no-cache").ok();
        assert_eq!((store.digest("demo"), saved(&store)), (right.1.clone(), right.2.clone()), "{size}");
        assert_eq!(store.sh("cat /made").stdout, "made\n");
        assert_repaired(&store, &format!("it says {size} bytes of a tar that has "));
    }
}

#[test]
fn a_blob_named_in_capitals_is_no_blob() {
    let store = damageable_store();
    let digest = store.digest("demo");
    let upper = store.join("oci/blobs/sha256").join(digest[7..].to_uppercase());
    fs::write(&upper, "not that").unwrap();
    assert_commands_work_or_report(&store, &[]);
    assert_repaired(&store, "in capital letters");
    assert!(!upper.exists());
    valid_image(&store, "demo:latest");
}

#[test]
fn a_changed_unpacked_layer_is_made_again() {
    let store = damageable_store();
    let layers = names(&store.join("layers"));
    let made = layers.iter().find(|name| name.starts_with("c-")).unwrap();
    fs::write(store.join("layers").join(made).join("made"), "").unwrap();
    assert_repaired(&store, "does not match its id");
    assert_rebuildable(&store);
}

/// Returns the directory of the base image's unpacked layer.
fn base_layer(store: &Store, subdir: &str) -> PathBuf {
    let layers = store.join(subdir).join("layers");
    let all = names(&layers);
    layers.join(all.iter().find(|name| name.starts_with("d-") && !name.ends_with(".owners")).unwrap())
}

/// Changes the first byte of a file, keeping its length and timestamp.
fn flip_first_byte(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    edit_file(path, |bytes| bytes[0] ^= 1);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn every_kind_of_change_in_an_unpacked_layer_is_found_and_repaired() {
    type DamageCase = (&'static str, fn(&Path), &'static str);
    let changes: [DamageCase; 8] = [
        ("etc/passwd", flip_first_byte, "has other bytes"),
        ("etc/passwd", |path| edit_file(path, |bytes| bytes.truncate(9)), "has 9 bytes, and should have "),
        ("etc/passwd", |path| fs::remove_file(path).unwrap(), "is missing"),
        ("etc/added", |path| fs::write(path, "").unwrap(), "is not in the tar"),
        ("etc/passwd", |path| set_mode(path, 0o600), "has the mode 600, and should have 644"),
        ("etc/passwd", |path| chown(path, Some(7), None).unwrap(), "belongs to 7:0, and should to 0:0"),
        ("tmp", |path| set_mode(path, 0o755), "has the mode 755, and should have 1777"),
        ("etc/passwd", |path| drop(tool("setcap").arg("cap_net_raw+ep").arg(path).ok()), "has other attributes"),
    ];
    let store = damageable_store();
    let script = "cat /etc/passwd /made; ls -ldn /etc/passwd /etc/group /tmp; find /etc | wc -l";
    let (right, digest) = (store.sh(script).stdout, store.digest("demo"));
    let layer = base_layer(&store, "");
    let id = layer.file_name().unwrap().to_str().unwrap().to_owned();
    for (path, change, says) in changes {
        change(&layer.join(path));
        let before = tool("find").arg(store.path()).args(["-printf", "%p %s %i %t\n"]).ok().stdout;
        let found = store.dram(["fsck"]).fails(1);
        let line = format!("layers/{id}: the unpacked layer differs from its blob: /{path} {says}");
        assert!(found.stdout.contains(&line), "expected {line}\n{found}");
        let after = tool("find").arg(store.path()).args(["-printf", "%p %s %i %t\n"]).ok().stdout;
        let kept =
            |text: &str| text.lines().filter(|line| !line.contains("/work")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(kept(&before), kept(&after), "looking changes nothing");
        assert_eq!(names(&store.join("work")), ["gate"], "nothing is left");
        assert_repaired(&store, says);
        assert!(!layer.exists());
        assert_eq!(store.sh(script).stdout, right, "{path}");
        let built = store.build(&Context::new(DOCKERFILE)).arg("--no-cache").ok();
        assert_eq!(built.digest(), digest, "{path}");
        assert!(store.dram(["fsck"]).ok().stdout.ends_with(": 0 findings\n"));
    }
}

/// Each id mapping has its own directory of layers, with ownership tables for what the disk cannot hold.
#[test]
fn unpacked_layers_of_rootless_stores_are_verified() {
    let (lent, plain) = (crate::rootless::user_with_subids(), crate::rootless::user_without_subids());
    for (user, subdir, shown) in [(lent, "subordinate", "7:8 4711\n"), (plain, "single", "0:0 4711\n")] {
        let store = crate::rootless::with_base(&user);
        let context =
            Context::new(&format!("{DOCKERFILE}COPY --chown=7:8 --chmod=4711 file /owned\n")).file("file", "");
        store.build(&context).ok();
        // As a base image, the layer is unpacked from its blob.
        let upon = Context::new("FROM demo\nRUN stat -c '%u:%g %a' /owned > /seen\n");
        let build = || store.dram(["build", "-t", "upon", "--no-cache"]).arg(upon.path()).ok();
        let digest = build().digest();
        let whole = store.dram(["fsck"]).ok();
        assert!(whole.stdout.lines().count() == 1 && whole.stdout.ends_with(": 0 findings\n"), "{whole}");
        let layers = store.join(subdir).join("layers");
        let owned = |name: &String| name.starts_with("d-") && layers.join(name).join("owned").exists();
        let layer = layers.join(names(&layers).into_iter().find(owned).unwrap());
        let table = layer.with_extension("owners");
        let changes: [&dyn Fn(); 4] = [
            &|| set_mode(&layer.join("owned"), 0o755),
            &|| chown(layer.join("owned"), Some(user.uid), Some(user.gid)).unwrap(),
            &|| fs::write(&table, "owned 9:9 - - -\n").unwrap(),
            &|| fs::write(&table, "no table").unwrap(),
        ];
        for (which, change) in changes.into_iter().enumerate() {
            // With a single id, the owner is only in the table.
            if (subdir, which) == ("single", 1) {
                fs::remove_file(&table).unwrap();
            } else {
                change();
            }
            let found = store.dram(["fsck"]).fails(1);
            assert!(found.stdout.contains(subdir) && found.stdout.contains("differs from its blob"), "{which} {found}");
            store.dram(["fsck", "--repair"]).ok();
            assert!(!layer.exists() && !table.exists(), "{which}");
            assert_eq!(build().digest(), digest, "{which}");
            assert_eq!(store.dram(["run", "upon", "cat", "/seen"]).ok().stdout, shown, "{which}");
            assert!(store.dram(["fsck"]).ok().stdout.ends_with(": 0 findings\n"), "{which}");
        }
    }
}

#[test]
fn layers_that_cannot_be_verified_are_reported_and_are_no_finding() {
    let whole = damageable_store();
    let fill = "mkdir -p lost; dd if=/dev/zero of=lost/file bs=1M 2>/dev/null; truncate -s -1M lost/file";
    for (is_full, words) in [(true, "there is no room for a second copy"), (false, "the store is read-only")] {
        let place = Store::empty();
        let path = place.path();
        let small = crate::robustness::SmallFileSystem::mount(&path, "size=64m,mode=700");
        tool("cp").arg("-a").arg(whole.join(".")).arg(&path).ok();
        if is_full {
            tool("sh").arg("-c").arg(fill).dir(&path).ok();
        } else {
            small.read_only();
        }
        let done = place.dram(["fsck"]).ok();
        assert!(done.stdout.contains(&format!("the unpacked layer is not verified: {words}")), "{done}");
        assert!(done.stdout.ends_with(": 0 findings\n") && names(&path.join("work")) == ["gate"], "{done}");
    }
    fs::remove_file(blob(&whole, &blobs_of_demo(&whole)[1].1)).unwrap();
    let done = whole.dram(["fsck"]).fails(1);
    assert!(done.stdout.contains("the unpacked layer is not verified: no blob in the store"), "{done}");
}

/// Simulates a power cut after the last command: file names are there, and files are empty.
#[test]
fn an_unsynced_layer_emptied_by_a_power_cut_is_not_used() {
    let store = damageable_store();
    let found = tool("find").arg(store.join("layers")).args(["-type", "f"]).ok().stdout;
    for path in found.lines() {
        fs::write(path, "").unwrap();
    }
    let boots = names(&store.join("unsynced"));
    assert_eq!(boots.len(), 1);
    assert!(names(&store.join("unsynced").join(&boots[0])).len() >= 2);
    fs::rename(store.join("unsynced").join(&boots[0]), store.join("unsynced/00000000-0000-4000-8000-000000000000"))
        .unwrap();
    assert_eq!(store.sh("cat /made").stdout, "made\n");
    assert_rebuildable(&store);
}

/// After an orderly reboot, no step is executed again.
#[test]
fn an_intact_unsynced_layer_is_used_after_a_reboot() {
    let store = damageable_store();
    let boots = names(&store.join("unsynced"));
    fs::rename(store.join("unsynced").join(&boots[0]), store.join("unsynced/00000000-0000-4000-8000-000000000000"))
        .unwrap();
    assert_eq!(store.build(&Context::new(DOCKERFILE)).ok().steps(), (0, 1));
}
