//! Stores of format version 1 are migrated without loss, even if the migration is killed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::robustness::SmallFileSystem;
use crate::support::{CommandOutput, Context, Store, names, repo, tool};

/// The digest of the image in the store of version 1.
const DIGEST: &str = "sha256:2b45250690598d200b8f25aa7ff1c03a83c06ab1e6be262aa9fb44a3c92138da";

/// Returns a copy of the store of version 1 that `tests/store-v1/README.md` describes.
fn old_store() -> Store {
    let store = Store::empty();
    unpack_into(&store);
    store
}

fn unpack_into(store: &Store) {
    fs::create_dir_all(store.path()).unwrap();
    tool("tar").arg("-xzpf").arg(repo("tests/store-v1/store.tgz")).arg("-C").arg(store.path()).ok();
}

/// Returns the build context of the image.
fn context() -> Context {
    let dockerfile = "FROM scratch\nWORKDIR /app\nCOPY hello /app/\nCOPY sub /app/sub/\nCMD [\"/app/hello\"]\n";
    Context::new(dockerfile).file("hello", "hello\n").file("sub/more", "more\n")
}

/// Asserts that nothing of the old store is lost: names, cached steps, layers and records.
#[track_caller]
fn assert_migrated(store: &Store, context: &Context) {
    let build = |words: &[&str]| {
        store.dram(["build", "--progress", "plain", "-t", "again"]).args(words).arg(context.path()).ok()
    };
    // Its cache records have no time of execution. They get one, which stays the same.
    let first = build(&[]);
    assert_eq!((first.steps(), first.digest()), ((0, 3), build(&[]).digest()), "{first}");
    let built = build(&["--source-date-epoch=0"]);
    assert_eq!((built.steps(), built.digest()), ((0, 3), DIGEST.to_owned()), "{built}");
    for name in ["demo:1", "other.example/name:2"] {
        assert_eq!(store.digest(name), DIGEST, "{name}");
    }
    let checked = store.dram(["fsck"]).ok();
    assert!(checked.stdout.ends_with(": 0 findings\n"), "{checked}");
    assert_eq!(fs::read_to_string(store.join("version")).unwrap(), "2\n");
    assert_eq!(names(&store.join("blob-locations")).len(), 1);
    let entries = names(&store.path());
    let old = ["seen", "places", "fresh", "lent-ids", "one-id"];
    assert!(old.iter().all(|old| !entries.iter().any(|entry| entry == old)), "{entries:?}");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn store_of_version_1_is_migrated_and_every_step_is_cached() {
    let (store, context) = (old_store(), context());
    assert_eq!(fs::read_to_string(store.join("version")).unwrap(), "1\n");
    assert_migrated(&store, &context);
    assert_migrated(&store, &context);
}

#[test]
fn hundred_kills_during_the_migration_lose_nothing() {
    let context = context();
    let migrate = |store: &Store| store.dram(["images"]);
    let began = Instant::now();
    let first = old_store();
    let copied = began.elapsed();
    migrate(&first).ok();
    let span = began.elapsed().saturating_sub(copied);
    for number in 0..100_u32 {
        let store = old_store();
        let running = migrate(&store).start();
        thread::sleep(span * number / 100);
        drop(running);
        // Some of them are killed again while they finish the migration.
        if number % 3 == 0 {
            let running = migrate(&store).start();
            thread::sleep(span * (99 - number) / 100);
            drop(running);
        }
        assert_migrated(&store, &context);
    }
}

#[test]
fn two_processes_migrate_one_store_at_the_same_time() {
    let (store, context) = (old_store(), context());
    let all: Vec<_> = (0..4).map(|_| store.dram(["images"]).start()).collect();
    let ends: Vec<CommandOutput> = all.into_iter().map(|one| one.end()).collect();
    for done in &ends {
        assert!(done.code == 0 && done.stdout.contains("other.example/name"), "{done}");
    }
    assert_migrated(&store, &context);
}

#[test]
fn store_of_version_1_on_a_read_only_file_system_is_refused() {
    let store = Store::empty();
    let path = store.path();
    let small = SmallFileSystem::mount(&path, "size=16m,mode=700");
    unpack_into(&store);
    small.read_only();
    let refused = store.dram(["images"]).fails(1);
    refused.says("has an older version, and is read-only").says("make it writable for one command");
    assert_eq!(fs::read_to_string(store.join("version")).unwrap(), "1\n");
}

#[test]
fn command_waits_until_nobody_uses_the_store_of_version_1() {
    let store = old_store();
    let lock = fs::File::open(store.join("lock")).unwrap();
    lock.lock_shared().unwrap();
    let running = store.dram(["images"]).start();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read_to_string(store.join("version")).unwrap(), "1\n");
    drop(lock);
    let done = running.end();
    assert_eq!(done.code, 0, "{done}");
    done.says("waiting until no other dram uses it");
}
