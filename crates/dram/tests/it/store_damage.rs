//! What may happen to a store on its disk: each command is right all the same or says what is wrong and what can be done,
//! other images stay usable, and `dram fsck --repair` makes the store whole.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::{BASE, Context, Done, Store, names, temp, tool, valid_image};

const DOCKERFILE: &str = "FROM parity-base\nRUN echo made > /made\n";

/// A store with the base, `demo` upon it, and `other`, which shares nothing with them. The same bytes each time.
fn store() -> Store {
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

/// The blobs of `demo` by what they are: the layer of its RUN, that of its base, its configuration, its manifest.
fn victims(store: &Store) -> [(&'static str, String); 4] {
    let demo = store.inspect("demo");
    let at = |pointer: &str| demo.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    [
        ("layer", at("/manifest/layers/1/digest")),
        ("base", at("/manifest/layers/0/digest")),
        ("config", at("/manifest/config/digest")),
        ("manifest", at("/digest")),
    ]
}

/// Everything a person may do. A failure names something of `named`, and says what can be done.
#[track_caller]
fn each_is_right_or_says_why(store: &Store, named: &[&str]) {
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
            is_named(&done, named);
        }
    }
    if archive.exists() {
        tool("skopeo").args(["inspect", "--raw"]).arg(format!("oci-archive:{}", archive.display())).ok();
    }
    other_is_well(store);
}

#[track_caller]
fn is_named(done: &Done, named: &[&str]) {
    assert_eq!(done.code, 1, "{done}");
    assert!(named.iter().any(|name| done.stderr.contains(name)), "expected one of {named:?}\n{done}");
    done.clone().says("help: ").does_not_say("panick");
}

#[track_caller]
fn other_is_well(store: &Store) {
    let out = temp();
    store.dram(["save", "-o"]).arg(out.path().join("other.tar")).arg("other").ok();
    assert_eq!(store.inspect("other")["names"][0], "other:latest");
}

/// A check finds it, mending mends it, and then there is nothing to find. Returns what was said about the mending.
#[track_caller]
fn mends(store: &Store, what: &str) -> String {
    let found = store.dram(["fsck"]).fails(1).says("dram fsck --repair");
    assert!(found.stdout.contains(what), "expected to read {what:?}\n{found}");
    let mended = store.dram(["fsck", "--repair"]).ok();
    assert!(mended.stdout.contains("; mended: "), "{mended}");
    let whole = store.dram(["fsck"]).ok();
    assert!(whole.stdout.ends_with(" 0 findings\n"), "{whole}");
    store.dram(["images"]).ok();
    store.dram(["prune"]).ok();
    other_is_well(store);
    valid_image(store, "other:latest");
    mended.stdout
}

/// What was lost can be had again.
#[track_caller]
fn comes_back(store: &Store) {
    if store.dram(["inspect", BASE]).end().code != 0 {
        store.dram(["import"]).arg(crate::support::base_tar()).arg(BASE).ok();
    }
    store.build(&Context::new(DOCKERFILE)).ok();
    assert_eq!(store.sh("cat /made").stdout, "made\n");
    valid_image(store, "demo:latest");
    store.dram(["fsck"]).ok();
}

/// Damages each victim of a store of its own in the same way.
fn each_victim(damage: impl Fn(&Path)) {
    for (kind, _) in victims(&store()) {
        let store = store();
        let (_, digest) = victims(&store).into_iter().find(|(is, _)| *is == kind).unwrap();
        damage(&blob(&store, &digest));
        let found = store.dram(["fsck"]).fails(1);
        assert!(found.stdout.contains(&digest), "{found}");
        each_is_right_or_says_why(&store, &[&digest]);
        // A build upon what is whole may have made it again.
        if store.dram(["fsck"]).end().code == 0 {
            damage(&blob(&store, &digest));
        }
        let said = mends(&store, &digest);
        match kind {
            "layer" => {
                assert!(said.contains("packed again"), "{said}");
                valid_image(&store, "demo:latest");
            }
            _ => assert!(said.contains("`dram pull "), "{said}"),
        }
        comes_back(&store);
    }
}

fn write_over(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap_or_default();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_truncated_blob_is_found_and_mended() {
    each_victim(|path| write_over(path, |bytes| bytes.truncate(bytes.len() / 2)));
}

#[test]
fn a_blob_with_another_bit_is_found_and_mended() {
    each_victim(|path| {
        let middle = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        };
        write_over(path, middle);
    });
}

#[test]
fn an_empty_blob_is_found_and_mended() {
    each_victim(|path| write_over(path, Vec::clear));
}

#[test]
fn a_missing_blob_is_found_and_mended() {
    each_victim(|path| drop(fs::remove_file(path)));
}

#[test]
fn a_hole_instead_of_a_blob_is_found_and_mended() {
    each_victim(|path| {
        let size = fs::metadata(path).unwrap().len();
        fs::File::create(path).unwrap().set_len(size).unwrap();
    });
}

#[test]
fn a_link_in_a_blobs_place_is_not_followed() {
    each_victim(|path| {
        let _ = fs::remove_file(path);
        symlink("/etc/hostname", path).unwrap();
    });
}

#[test]
fn a_pipe_in_a_blobs_place_is_not_waited_for() {
    each_victim(|path| {
        let _ = fs::remove_file(path);
        tool("mkfifo").arg(path).ok();
    });
}

#[test]
fn a_directory_in_a_blobs_place_is_moved_away() {
    each_victim(|path| {
        let _ = fs::remove_file(path);
        let _ = fs::create_dir(path);
    });
}

#[test]
fn all_layers_that_can_be_made_again_are() {
    let store = store();
    let context = Context::new("FROM parity-base\nRUN echo 1 > /one\nRUN echo 2 > /two\nRUN echo made > /made\n");
    let before = store.build(&context).ok().digest();
    let layers = store.inspect("demo")["manifest"]["layers"].clone();
    for layer in &layers.as_array().unwrap()[1..] {
        fs::remove_file(blob(&store, layer["digest"].as_str().unwrap())).unwrap();
    }
    assert!(mends(&store, "the image").contains("packed again"));
    assert_eq!(store.digest("demo"), before);
    valid_image(&store, "demo:latest");
}

#[test]
fn a_disk_where_nothing_may_be_executed_is_no_hindrance() {
    let (whole, place) = (store(), Store::empty());
    let path = place.path();
    let _small = crate::robust::Small::mount(&path, "noexec,nosuid,nodev,mode=700");
    tool("cp").arg("-a").arg(whole.join(".")).arg(&path).ok();
    let built = place.build(&Context::new(DOCKERFILE)).arg("--no-cache").ok();
    assert_eq!(built.digest(), whole.digest("demo"));
    assert_eq!(place.sh("cat /made").stdout, "made\n");
    place.dram(["fsck"]).ok();
}

#[test]
fn blobs_that_changed_places_get_them_back() {
    let [(_, layer), (_, base), (_, config), (_, manifest)] = victims(&store());
    for (one, two) in [(&layer, &base), (&config, &manifest), (&layer, &config)] {
        let (store, used) = (store(), store());
        for store in [&store, &used] {
            let (one_path, two_path, aside) = (blob(store, one), blob(store, two), store.join("oci/blobs/aside"));
            fs::rename(&one_path, &aside).unwrap();
            fs::rename(&two_path, &one_path).unwrap();
            fs::rename(&aside, &two_path).unwrap();
        }
        each_is_right_or_says_why(&used, &[one, two]);
        used.dram(["fsck", "--repair"]).ok();
        comes_back(&used);
        let said = mends(&store, one);
        assert!(said.contains(&format!("it is what {two} should be")), "{said}");
        valid_image(&store, "demo:latest");
    }
}

#[test]
fn names_come_back_from_their_copy() {
    for cut in [true, false] {
        let store = store();
        let index = store.join("oci/index.json");
        let whole = fs::read(&index).unwrap();
        match cut {
            true => write_over(&index, |bytes| bytes.truncate(bytes.len() / 2)),
            false => fs::remove_file(&index).unwrap(),
        }
        let path = index.display().to_string();
        for words in [["images", "--json"], ["inspect", "demo"], ["prune", "-n"], ["tag", "demo"]] {
            let done = store.dram(words).args(["more"].iter().filter(|_| words[0] == "tag")).end();
            is_named(&done, &[&path]);
        }
        is_named(&store.build(&Context::new(DOCKERFILE)).end(), &[&path]);
        assert!(mends(&store, "index.json").contains("the copy of it takes its place: 3 names"));
        assert_eq!(fs::read(&index).unwrap(), whole);
        comes_back(&store);
    }
}

#[test]
fn images_without_names_are_found_where_there_is_no_copy_either() {
    let store = store();
    let digest = store.digest("demo");
    fs::write(store.join("oci/index.json"), "{").unwrap();
    fs::write(store.join("index.copy"), "").unwrap();
    let said = store.dram(["fsck", "--repair"]).ok().stdout;
    assert!(said.contains("the 3 images that are here are named lost:DIGEST"), "{said}");
    store.dram(["fsck"]).ok();
    assert_eq!(store.digest(&format!("lost:{}", &digest[7..19])), digest);
}

#[test]
fn a_name_that_leads_to_nothing_goes_and_is_told() {
    let store = store();
    let index = store.join("oci/index.json");
    let text = fs::read_to_string(&index).unwrap();
    let none = format!("sha256:{}", "0".repeat(64));
    fs::write(&index, text.replace(&store.digest("demo"), &none)).unwrap();
    each_is_right_or_says_why(&store, &[&none]);
    assert!(mends(&store, &none).contains("`dram pull demo"));
    store.dram(["inspect", "demo"]).fails(1);
    comes_back(&store);
}

#[test]
fn a_store_that_is_somebody_elses_is_told_and_given_back() {
    let store = store();
    let path = store.path();
    chown(&path, Some(12345), Some(12345)).unwrap();
    for name in names(&path) {
        chown(path.join(name), Some(12345), Some(12345)).unwrap();
    }
    each_is_right_or_says_why(&store, &[]);
    let said = mends(&store, "it belongs to the user 12345");
    assert!(said.contains("it is given to the store's user"), "{said}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    mends(&store, "others may look into the store");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    let user = crate::support::User { uid: 12345, gid: 12345, home: PathBuf::from("/nonexistent") };
    chown(temp().path(), Some(1), Some(1)).unwrap();
    let refused = store.dram(["images"]).user(&user).env("DRAM_STORE", &path).dir("/").end();
    is_named(&refused, &[&path.display().to_string()]);
}

#[test]
fn locks_that_the_dead_left_keep_nobody_waiting() {
    let store = store();
    let pid = std::process::id().to_string();
    for name in ["lock", "refs.lock", "work/gate"] {
        fs::write(store.join(name), &pid).unwrap();
    }
    let left = store.join(&format!("work/p{pid}-0123456789abcdef"));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("lock"), &pid).unwrap();
    fs::write(store.join("steplocks").join("0".repeat(64)), &pid).unwrap();
    each_is_right_or_says_why(&store, &[]);
    assert!(!left.exists());
    store.dram(["fsck"]).ok();
}

#[test]
fn records_that_are_damaged_cost_a_look_and_are_mended() {
    for damage in [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2), |bytes: &mut Vec<u8>| bytes.fill(0xff)] {
        let store = store();
        let mut count = 0;
        for place in ["packs", "steps", "contexts", "sizes"] {
            let found = tool("find").arg(store.join(place)).args(["-type", "f", "-size", "+0"]).ok().stdout;
            for path in found.lines() {
                write_over(Path::new(path), damage);
                count += 1;
            }
        }
        assert!(count > 6, "{count} records");
        each_is_right_or_says_why(&store, &["packs/"]);
        for path in tool("find").arg(store.join("steps")).args(["-type", "f"]).ok().stdout.lines() {
            write_over(Path::new(path), damage);
        }
        mends(&store, "the record cannot be read");
        comes_back(&store);
    }
}

#[test]
fn a_store_of_a_later_dram_is_not_touched() {
    let store = store();
    fs::write(store.join("version"), "999\n").unwrap();
    let before = tool("find").arg(store.path()).ok().stdout;
    for words in [["images", "--json"], ["fsck", "--repair"], ["prune", "--all"], ["run", "demo"], ["inspect", "demo"]]
    {
        is_named(&store.dram(words).end(), &["version `999`"]);
    }
    is_named(&store.build(&Context::new(DOCKERFILE)).end(), &["version `999`"]);
    assert_eq!(tool("find").arg(store.path()).ok().stdout, before);
}

#[test]
fn what_nobody_knows_harms_nobody_and_is_kept() {
    let store = store();
    let mut made = 0;
    let rooms = tool("find").arg(store.path()).args(["-maxdepth", "3", "-type", "d", "-not", "-path", "*/layers/*"]);
    for room in rooms.ok().stdout.lines().map(Path::new) {
        // A cache's own files, and what lies in a layer, are not the store's.
        fs::write(room.join("unknown"), "file").unwrap();
        fs::create_dir(room.join("unknown.d")).unwrap();
        fs::write(room.join("unknown.d/in"), "file").unwrap();
        symlink("/etc", room.join("unknown link")).unwrap();
        made += 1;
    }
    assert!(made > 15, "{made} rooms");
    each_is_right_or_says_why(&store, &[]);
    store.dram(["prune"]).ok();
    mends(&store, "that is no part of a store");
    let kept = tool("find").arg(store.join("lost")).args(["-name", "unknown", "-o", "-name", "unknown link"]).ok();
    assert_eq!(kept.stdout.lines().count(), 2 * made, "nothing is lost\n{kept}");
    assert!(Path::new("/etc/passwd").exists());
    comes_back(&store);
}

/// Puts a file in the place of a directory, or a directory in that of a file.
fn turn_over(path: &Path) {
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
fn a_file_where_a_directory_should_be_is_named_and_moved_away() {
    let store = store();
    let context = Context::new("FROM parity-base\nRUN --mount=type=cache,target=/c echo made > /made\n");
    let build = || store.build(&context).arg("--no-cache");
    build().ok();
    // The names of some are their content.
    let first = |dir: &str| format!("{dir}/{}", names(&store.join(dir))[0]);
    let cache = first("caches");
    let rooms = ["layers", "steps", "packs", "contexts", "caches", "downloads", "seen", "fresh", "work", "steplocks"];
    let files = ["lock", "refs.lock", "work/gate"];
    let mut places: Vec<String> = rooms.into_iter().chain(files).map(str::to_owned).collect();
    places.splice(0..0, [first("fresh"), format!("{cache}/lock"), format!("{cache}/data"), cache.clone()]);
    // Those of the images are the last: they take the images along.
    places.extend(["oci/blobs/sha256", "oci/blobs", "oci"].map(str::to_owned));
    for place in places {
        let path = store.join(&place);
        if place.contains('/') && !place.starts_with("oci") {
            build().ok();
        }
        turn_over(&path);
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
            comes_back(&store);
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
fn a_version_that_says_nothing_is_refused_with_a_way_out() {
    let store = store();
    let version = store.join("version");
    let damages: [&dyn Fn(&Path); 3] =
        [&|path| fs::write(path, "").unwrap(), &|path| fs::write(path, b"\x1b[31mv\xff").unwrap(), &turn_over];
    for damage in damages {
        damage(&version);
        for words in [["images", "--json"], ["fsck", "--repair"], ["inspect", "demo"]] {
            let refused = store.dram(words).fails(1).says(&store.path().display().to_string());
            refused.says("its file `version` is damaged").says("write a file with a `1` in it").says("--store");
        }
        let _ = fs::remove_dir_all(&version);
        fs::write(&version, "1").unwrap();
        store.dram(["fsck", "--repair"]).ok();
        comes_back(&store);
    }
}

/// It is what `dram images` shows, and nothing else.
#[test]
fn a_wrong_note_about_a_size_reaches_no_image() {
    let store = store();
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
        mends(&store, &format!("it says {size} bytes of a tar that has "));
    }
}

#[test]
fn a_blob_in_capitals_is_no_blob() {
    let store = store();
    let digest = store.digest("demo");
    let upper = store.join("oci/blobs/sha256").join(digest[7..].to_uppercase());
    fs::write(&upper, "not that").unwrap();
    each_is_right_or_says_why(&store, &[]);
    mends(&store, "in capital letters");
    assert!(!upper.exists());
    valid_image(&store, "demo:latest");
}

#[test]
fn an_unpacked_layer_that_changed_is_made_again() {
    let store = store();
    let layers = names(&store.join("layers"));
    let made = layers.iter().find(|name| name.starts_with("c-")).unwrap();
    fs::write(store.join("layers").join(made).join("made"), "").unwrap();
    mends(&store, "does not hold what its name says");
    comes_back(&store);
}

/// The directory of the base image's layer.
fn base_layer(store: &Store, shelf: &str) -> PathBuf {
    let layers = store.join(shelf).join("layers");
    let all = names(&layers);
    layers.join(all.iter().find(|name| name.starts_with("d-") && !name.ends_with(".owners")).unwrap())
}

/// Another byte in a file of the same length and time.
fn flip(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    write_over(path, |bytes| bytes[0] ^= 1);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_layer_that_changed_after_it_was_unpacked_is_unpacked_again() {
    type Change = (&'static str, fn(&Path), &'static str);
    let changes: [Change; 8] = [
        ("etc/passwd", flip, "has other bytes"),
        ("etc/passwd", |path| write_over(path, |bytes| bytes.truncate(9)), "has 9 bytes, and should have "),
        ("etc/passwd", |path| fs::remove_file(path).unwrap(), "is missing"),
        ("etc/added", |path| fs::write(path, "").unwrap(), "is not in the tar"),
        ("etc/passwd", |path| set_mode(path, 0o600), "has the mode 600, and should have 644"),
        ("etc/passwd", |path| chown(path, Some(7), None).unwrap(), "belongs to 7:0, and should to 0:0"),
        ("tmp", |path| set_mode(path, 0o755), "has the mode 755, and should have 1777"),
        ("etc/passwd", |path| drop(tool("setcap").arg("cap_net_raw+ep").arg(path).ok()), "has other attributes"),
    ];
    let store = store();
    let script = "cat /etc/passwd /made; ls -ldn /etc/passwd /etc/group /tmp; find /etc | wc -l";
    let (right, digest) = (store.sh(script).stdout, store.digest("demo"));
    let layer = base_layer(&store, "");
    let id = layer.file_name().unwrap().to_str().unwrap().to_owned();
    for (path, change, says) in changes {
        change(&layer.join(path));
        let before = tool("find").arg(store.path()).args(["-printf", "%p %s %i %t\n"]).ok().stdout;
        let found = store.dram(["fsck"]).fails(1);
        let line = format!("layers/{id}: the unpacked layer is not what its blob holds: /{path} {says}");
        assert!(found.stdout.contains(&line), "expected {line}\n{found}");
        let after = tool("find").arg(store.path()).args(["-printf", "%p %s %i %t\n"]).ok().stdout;
        let kept =
            |text: &str| text.lines().filter(|line| !line.contains("/work")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(kept(&before), kept(&after), "looking changes nothing");
        assert_eq!(names(&store.join("work")), ["gate"], "nothing is left");
        mends(&store, says);
        assert!(!layer.exists());
        assert_eq!(store.sh(script).stdout, right, "{path}");
        let built = store.build(&Context::new(DOCKERFILE)).arg("--no-cache").ok();
        assert_eq!(built.digest(), digest, "{path}");
        assert!(store.dram(["fsck"]).ok().stdout.ends_with(": 0 findings\n"));
    }
}

/// Each kind of user has a shelf of layers, and what the disk cannot hold is beside them.
#[test]
fn layers_of_users_are_compared_as_users_have_them() {
    let (lent, plain) = (crate::rootless::user(), crate::rootless::plain_user());
    for (user, shelf, shown) in [(lent, "lent-ids", "7:8 4711\n"), (plain, "one-id", "0:0 4711\n")] {
        let store = crate::rootless::with_base(&user);
        let context =
            Context::new(&format!("{DOCKERFILE}COPY --chown=7:8 --chmod=4711 file /owned\n")).file("file", "");
        store.build(&context).ok();
        // As a base, what was made here is unpacked from its tar.
        let upon = Context::new("FROM demo\nRUN stat -c '%u:%g %a' /owned > /seen\n");
        let build = || store.dram(["build", "-t", "upon", "--no-cache"]).arg(upon.path()).ok();
        let digest = build().digest();
        let whole = store.dram(["fsck"]).ok();
        assert!(whole.stdout.lines().count() == 1 && whole.stdout.ends_with(": 0 findings\n"), "{whole}");
        let layers = store.join(shelf).join("layers");
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
            // Where there is one id, the owner is not on the disk.
            if (shelf, which) == ("one-id", 1) {
                fs::remove_file(&table).unwrap();
            } else {
                change();
            }
            let found = store.dram(["fsck"]).fails(1);
            assert!(
                found.stdout.contains(shelf) && found.stdout.contains("not what its blob holds"),
                "{which} {found}"
            );
            store.dram(["fsck", "--repair"]).ok();
            assert!(!layer.exists() && !table.exists(), "{which}");
            assert_eq!(build().digest(), digest, "{which}");
            assert_eq!(store.dram(["run", "upon", "cat", "/seen"]).ok().stdout, shown, "{which}");
            assert!(store.dram(["fsck"]).ok().stdout.ends_with(": 0 findings\n"), "{which}");
        }
    }
}

#[test]
fn what_cannot_be_compared_is_said_and_is_no_damage() {
    let whole = store();
    let fill = "mkdir -p lost; dd if=/dev/zero of=lost/file bs=1M 2>/dev/null; truncate -s -1M lost/file";
    for (is_full, words) in [(true, "there is no room for a second copy"), (false, "the store is read-only")] {
        let place = Store::empty();
        let path = place.path();
        let small = crate::robust::Small::mount(&path, "size=64m,mode=700");
        tool("cp").arg("-a").arg(whole.join(".")).arg(&path).ok();
        if is_full {
            tool("sh").arg("-c").arg(fill).dir(&path).ok();
        } else {
            small.read_only();
        }
        let done = place.dram(["fsck"]).ok();
        assert!(done.stdout.contains(&format!("the unpacked layer is not compared: {words}")), "{done}");
        assert!(done.stdout.ends_with(": 0 findings\n") && names(&path.join("work")) == ["gate"], "{done}");
    }
    fs::remove_file(blob(&whole, &victims(&whole)[1].1)).unwrap();
    let done = whole.dram(["fsck"]).fails(1);
    assert!(done.stdout.contains("the unpacked layer is not compared: no blob in the store"), "{done}");
}

/// As if the machine had been cut from its power after the last command: names are there, and files are empty.
#[test]
fn a_layer_that_a_power_cut_emptied_is_not_used() {
    let store = store();
    let found = tool("find").arg(store.join("layers")).args(["-type", "f"]).ok().stdout;
    for path in found.lines() {
        fs::write(path, "").unwrap();
    }
    let boots = names(&store.join("fresh"));
    assert_eq!(boots.len(), 1);
    assert!(names(&store.join("fresh").join(&boots[0])).len() >= 2);
    fs::rename(store.join("fresh").join(&boots[0]), store.join("fresh/00000000-0000-4000-8000-000000000000")).unwrap();
    assert_eq!(store.sh("cat /made").stdout, "made\n");
    comes_back(&store);
}

/// After an orderly start of the machine, nothing is done twice but unpacking.
#[test]
fn a_layer_that_came_through_is_used_after_a_boot() {
    let store = store();
    let boots = names(&store.join("fresh"));
    fs::rename(store.join("fresh").join(&boots[0]), store.join("fresh/00000000-0000-4000-8000-000000000000")).unwrap();
    assert_eq!(store.build(&Context::new(DOCKERFILE)).ok().steps(), (0, 1));
}
