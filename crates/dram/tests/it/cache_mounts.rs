//! Cache mounts: they persist across builds, follow their sharing mode, and can be exported, imported and pruned.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::{BASE, CommandOutput, Context, Store, list, temp, tool, valid_image, wait_until};

fn context(runs: &str) -> Context {
    Context::new(&format!("FROM {BASE}\n{runs}\n"))
}

fn list_caches(store: &Store) -> Vec<Value> {
    let done = store.dram(["cache", "ls", "--json"]).ok();
    list(&serde_json::from_str(&done.stdout).unwrap()).to_vec()
}

/// Runs `script` inside the cache `id` in a build and returns its output.
fn run_in_cache(store: &Store, id: &str, script: &str) -> String {
    let salt = tool("sh").args(["-c", "head -c 8 /dev/urandom | od -An -tx1 | tr -d ' '"]).ok().stdout;
    let context = context(&format!("RUN --mount=type=cache,id={id},target=/c cd /c; ({script}) > /out; : {salt}"));
    store.build(&context).ok();
    store.sh("cat /out").stdout
}

#[test]
fn a_cache_mount_persists_across_builds_and_is_in_no_layer() {
    let store = Store::with_base();
    let context = context(
        "ARG N\nRUN --mount=type=cache,target=/root/.cache,uid=7,gid=8,mode=0700 \
             stat -c '%a %u:%g' /root/.cache > /stat; echo $N >> /root/.cache/log; cat /root/.cache/log > /seen",
    );
    let build = |n: &str| store.build(&context).args(["--build-arg", &format!("N={n}")]).ok();
    build("1");
    assert_eq!(build("2").steps().0, 1);
    assert_eq!(store.sh("cat /stat /seen; ls -A /root").stdout, "700 7:8\n1\n2\n");
    valid_image(&store, "demo:latest");
    // The content of a cache mount is not part of the cache key.
    assert_eq!(build("1").steps().0, 0);
    assert_eq!(store.sh("cat /seen").stdout, "1\n");
    store.build(&context).args(["--no-cache", "--build-arg", "N=3"]).ok();
    assert_eq!(store.sh("cat /seen").stdout, "1\n2\n3\n");
    let rows = list_caches(&store);
    let row = &rows[0];
    assert_eq!((rows.len(), &row["id"], &row["uses"], &row["size"]), (1, &"/root/.cache".into(), &3.into(), &6.into()));
    let table = store.dram(["cache", "ls"]).ok().stdout;
    assert!(table.contains("/root/.cache") && table.contains("7:8") && table.contains("now"), "{table}");
    store.dram(["prune", "--all"]).ok();
    assert_eq!(list_caches(&store).len(), 1, "`dram prune` leaves caches alone");
}

#[test]
fn a_cache_mount_is_seeded_from_a_stage_and_can_be_read_only() {
    let store = Store::with_base();
    let context = Context::new(&format!(
        "FROM {BASE} AS made\nRUN mkdir -p /s/d && echo seed > /s/d/f && chown 7:8 /s/d/f && chmod 750 /s\n\
         FROM {BASE}\n\
         RUN --mount=type=cache,id=c,target=/c,from=made,source=/s stat -c '%a %u:%g' /c /c/d/f > /out && echo x >> /c/d/f\n\
         RUN --mount=type=cache,id=c,target=/c,from=made,source=/s,ro cat /c/d/f >> /out && ! touch /c/x\n\
         RUN --mount=type=cache,id=c,target=/c ls -A /c >> /out\n"
    ));
    store.build(&context).ok();
    assert_eq!(store.sh("cat /out").stdout, "750 0:0\n644 7:8\nseed\nx\n");
    // As in BuildKit, a cache mount with a `from=` is a different cache.
    assert_eq!(list_caches(&store).len(), 2);
    let missing = self::context(&format!("RUN --mount=type=cache,target=/c,from={BASE},source=/bni true"));
    store.build(&missing).fails(1).says("no such file").says("did you mean `/bin`?");
}

fn logging_context(store: &Store, sharing: &str, who: &str) -> Context {
    let _ = store;
    context(&format!(
        "RUN --mount=type=cache,id=c,target=/c,sharing={sharing} echo {who} in >> /c/log; touch /c/{who}; sleep 1; \
             echo {who} out >> /c/log; cat /c/log > /out"
    ))
}

/// Runs two builds with a cache of this sharing mode, the second while the first runs. Returns both results and the log
/// that the second saw at its end.
fn two_concurrent_builds(sharing: &str) -> (CommandOutput, CommandOutput, Vec<String>) {
    let store = Store::with_base();
    let (a, b) = (logging_context(&store, sharing, "a"), logging_context(&store, sharing, "b"));
    let caches = store.join("caches");
    let first = store.build(&a).start();
    let is_in = || fs::read_dir(&caches).unwrap().flatten().any(|cache| cache.path().join("data/a").exists());
    wait_until("the first build has the cache", Duration::from_secs(20), is_in);
    let second = store.dram(["build", "--progress", "plain", "-t", "second"]).arg(b.path()).start();
    let (first, second) = (first.end(), second.end());
    assert_eq!((first.code, second.code), (0, 0), "{first}\n{second}");
    let seen = store.dram(["run", "second", "cat", "/out"]).ok().stdout;
    (first, second, seen.lines().map(str::to_owned).collect())
}

#[test]
fn builds_use_a_locked_cache_one_after_the_other() {
    let (_, second, seen) = two_concurrent_builds("locked");
    assert_eq!(seen, ["a in", "a out", "b in", "b out"]);
    second.says("another process uses the cache `c`; waiting for it");
}

#[test]
fn a_shared_cache_is_used_concurrently_and_private_caches_are_separate() {
    let (_, second, seen) = two_concurrent_builds("shared");
    assert_eq!(seen, ["a in", "b in", "a out", "b out"]);
    second.does_not_say("waiting");
    assert_eq!(two_concurrent_builds("private").2, ["b in", "b out"]);
}

#[test]
fn a_killed_build_leaves_its_cache_usable() {
    let store = Store::with_base();
    let context = context("RUN --mount=type=cache,id=c,target=/c,sharing=locked echo 1 > /c/mark; sleep 600");
    let build = store.build(&context).start();
    let caches = store.join("caches");
    let is_in = || fs::read_dir(&caches).unwrap().flatten().any(|cache| cache.path().join("data/mark").exists());
    wait_until("the build has the cache", Duration::from_secs(20), is_in);
    let busy = store.dram(["cache", "prune", "--all"]).ok();
    assert!(busy.stdout.contains("removed 0 caches"), "{busy}");
    busy.says("is in use");
    store.dram(["cache", "export", "-o", "-"]).fails(1).says("the cache `c` is in use");
    build.signal("KILL");
    build.end();
    assert_eq!(run_in_cache(&store, "c", "cat mark"), "1\n");
    assert_eq!(list_caches(&store).len(), 1);
}

#[test]
fn caches_are_exported_and_imported_unchanged() {
    let store = Store::with_base();
    run_in_cache(
        &store,
        "c",
        "mkdir d; echo x > d/f; chown 7:8 d/f; chmod 4755 d/f; ln d/f twin; ln -s /etc/shadow link; touch -d @1000 d/f; mkfifo pipe",
    );
    run_in_cache(&store, "other", "touch other");
    let dir = temp();
    let archive = |name: &str| dir.path().join(name);
    let export = |name: &str, ids: &[&str]| store.dram(["cache", "export", "-o"]).arg(archive(name)).args(ids).ok();
    export("a.tar", &["c"]);
    export("b.tar", &["c"]);
    assert_eq!(fs::read(archive("a.tar")).unwrap(), fs::read(archive("b.tar")).unwrap());
    // Other tar programs can read the archive, and it contains no file of the host.
    let names = tool("tar").arg("-tvf").arg(archive("a.tar")).ok().stdout;
    assert!(names.contains("link -> /etc/shadow") && names.contains("7/8") && !names.contains("root:"), "{names}");
    export("a.tar.zst", &[]);
    export("a.tar.gz", &[]);
    assert!(tool("gzip").arg("-t").arg(archive("a.tar.gz")).ok().stderr.is_empty());
    for name in ["a.tar", "a.tar.gz", "a.tar.zst"] {
        let other = Store::with_base();
        other.dram(["cache", "import"]).arg(archive(name)).ok();
        let seen = run_in_cache(&other, "c", "stat -c '%a %u:%g %Y %h' d/f; readlink link; ls -A; test -p pipe");
        assert_eq!(seen, "4755 7:8 1000 2\n/etc/shadow\nd\nlink\npipe\ntwin\n", "{name}");
        assert_eq!(list_caches(&other).len(), if name == "a.tar" { 1 } else { 2 });
    }
    let damaged = fs::read(archive("a.tar.gz")).unwrap();
    fs::write(archive("cut"), &damaged[..damaged.len() - 20]).unwrap();
    run_in_cache(&store, "c", "touch newer");
    store.dram(["cache", "import"]).arg(archive("cut")).fails(1);
    store.dram(["cache", "import"]).arg(crate::support::base_tar()).fails(1).says("is not an archive of caches");
    assert_eq!(run_in_cache(&store, "c", "ls newer"), "newer\n", "nothing changed");
    let done = store.dram(["cache", "import"]).arg(archive("a.tar")).ok();
    assert_eq!(done.stdout, "c, in the place of the one that was in the store\n");
    assert_eq!(run_in_cache(&store, "c", "ls newer || true"), "");
    store.dram(["cache", "export", "-o", "-", "ohter"]).fails(1).says("did you mean `other`?");
}

#[test]
fn links_in_a_cache_mount_do_not_reach_the_host() {
    let store = Store::with_base();
    let outside = temp();
    fs::write(outside.path().join("secret"), "of the host").unwrap();
    let inside = outside.path().display();
    let hostile = context(&format!(
        "RUN --mount=type=cache,id=c,target=/c rm -rf /c; ln -s {inside} /c/out; ln -s {inside}/secret /c/secret; \
             ln -s / /c/root; mkdir -p /c/a/b; ln -s ../../../../../../.. /c/a/b/up\n\
         RUN --mount=type=cache,id=c,target=/c test ! -e /c/out && touch /c/more"
    ));
    store.build(&hostile).ok();
    let archive = outside.path().join("archive.tar");
    store.dram(["cache", "export", "-o"]).arg(&archive).ok();
    let text = String::from_utf8_lossy(&fs::read(&archive).unwrap()).into_owned();
    assert!(!text.contains("of the host"));
    store.dram(["cache", "import"]).arg(&archive).ok();
    store.dram(["cache", "prune", "--all"]).ok();
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "of the host");
    assert!(Path::new("/etc/passwd").exists() && list_caches(&store).is_empty());
}

#[test]
fn caches_are_pruned_by_name_age_and_size() {
    let store = Store::with_base();
    for id in ["one", "two", "three"] {
        run_in_cache(&store, id, "head -c 10000 /dev/zero > f");
    }
    let left = || list_caches(&store).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let prune = |args: &[&str]| store.dram(["cache", "prune"]).args(args).ok().stdout;
    store.dram(["cache", "prune"]).fails(2).says("--older-than");
    store.dram(["cache", "prune", "--older-than", "week"]).fails(2).says("`week` is no time span");
    assert_eq!(prune(&["--older-than", "1h"]), "removed 0 caches: 0 B\n");
    assert_eq!(prune(&["two", "--dry-run"]), "would remove 1 cache: 10.0 kB\n");
    assert_eq!(prune(&["two"]), "removed 1 cache: 10.0 kB\n");
    assert_eq!(left(), ["one", "three"]);
    let key = list_caches(&store)[0]["key"].as_str().unwrap().to_owned();
    let cache = store.join("caches").join(key);
    for file in ["about", "lock"] {
        tool("touch").args(["-d", "3 days ago"]).arg(cache.join(file)).ok();
    }
    assert_eq!(prune(&["--keep-size", "15k", "-n"]), "would remove 1 cache: 10.0 kB\n");
    assert_eq!(prune(&["--older-than", "2d"]), "removed 1 cache: 10.0 kB\n");
    assert_eq!(left(), ["three"]);
    assert_eq!(prune(&["--all"]), "removed 1 cache: 10.0 kB\n");
    assert!(left().is_empty());
}
