//! Directories that a command nests deeper than a path can name: later commands of the store work all the same.

use crate::rootless::stores_of_all_users;
use crate::support::{Context, Store, valid_image};

/// A script that nests `count` × 1,500 directories in `place`, which is on one file system.
///
/// No path of it is longer than `PATH_MAX`: each chain is moved to the end of the next.
fn nest(place: &str, count: u32) -> String {
    format!(
        "cd {place} && chain=$(yes d | head -n 1500 | tr '\\n' '/') && mkdir -p 0/$chain && n=0 && \
         while [ $n -lt {} ]; do next=$((n + 1)); mkdir -p $next/$chain && mv $n $next/$chain/d && n=$next; done",
        count - 1
    )
}

/// Builds another image, lists, verifies, and removes everything that is not needed.
fn later_commands_work(store: &Store) {
    store.dram(["images"]).ok();
    store.dram(["fsck"]).ok();
    store.build(&Context::new("FROM parity-base\nRUN echo other > /other\n")).ok();
    assert_eq!(store.sh("cat /other").stdout, "other\n");
    store.dram(["prune", "--all"]).ok();
    store.dram(["fsck"]).ok();
    valid_image(store, "demo:latest");
}

#[test]
fn a_step_that_nests_directories_too_deeply_is_refused_in_words() {
    for store in stores_of_all_users() {
        let context = Context::new(&format!("FROM parity-base\nRUN mkdir /t && {}\n", nest("/t", 4)));
        let done = store.build(&context).fails(1).says("no path of an image can be longer than 4,095 bytes");
        assert!(done.stderr.len() < 3000, "{done}");
        later_commands_work(&store);
    }
}

#[test]
fn a_cache_mount_with_nested_directories_is_evicted() {
    for store in stores_of_all_users() {
        let script = nest("/cache", 4);
        store.build(&Context::new(&format!("FROM parity-base\nRUN --mount=type=cache,target=/cache {script}\n"))).ok();
        store.dram(["cache", "ls"]).ok();
        store.dram(["df"]).ok();
        store.dram(["prune", "--max-used-space", "1"]).ok();
        store.build(&Context::new("FROM parity-base\nRUN --mount=type=cache,target=/cache test ! -e /cache/3\n")).ok();
        store
            .build(&Context::new(&format!("FROM parity-base\nRUN --mount=type=cache,target=/cache :; {script}\n")))
            .ok();
        store.dram(["cache", "prune", "--all"]).ok();
        later_commands_work(&store);
    }
}

#[test]
fn a_failed_step_with_nested_directories_stops_nobody() {
    for store in stores_of_all_users() {
        let context = Context::new(&format!("FROM parity-base\nRUN mkdir /t && {}; exit 7\n", nest("/t", 2)));
        store.build(&context).fails(1).says("exit code 7");
        store.build(&context).fails(1).says("exit code 7");
        later_commands_work(&store);
    }
}
