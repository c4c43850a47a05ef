//! Disk usage of a store, pruning and eviction.

use std::fs;
use std::path::Path;

use crate::support::{BASE, Context, Store, names, temp, tool, valid_image};

/// Returns a context with a step whose layer takes a megabyte.
fn large_context(which: u32) -> Context {
    Context::new(&format!("FROM {BASE}\nRUN head -c 1000000 /dev/urandom > /large; echo {which}\n"))
}

fn json(done: &crate::support::CommandOutput) -> serde_json::Value {
    serde_json::from_str(&done.stdout).unwrap()
}

/// Sets the time of last use this many days back.
fn set_age(place: &Path, days: u32) {
    tool("find").arg(place).args(["-type", "f", "-exec", "touch", "-d", &format!("{days} days ago"), "{}", "+"]).ok();
}

fn layers(store: &Store) -> Vec<String> {
    names(&store.join("layers")).into_iter().filter(|name| name.starts_with("c-")).collect()
}

#[test]
fn df_agrees_with_du_and_shows_reclaimable_space() {
    let store = Store::with_base();
    store.build(&large_context(1)).ok();
    store.dram(["build", "--progress", "plain", "-t", "second"]).arg(large_context(2).path()).ok();
    let usage = json(&store.dram(["df", "--json"]).ok());
    let du = tool("du").args(["-s", "--block-size=1"]).arg(store.path()).ok().stdout;
    let du: u64 = du.split('\t').next().unwrap().parse().unwrap();
    let total = usage["bytes"].as_u64().unwrap();
    assert!(total.abs_diff(du) < du / 10, "df says {total}, du {du}");
    let kind = |kind: &str| usage["kinds"].as_array().unwrap().iter().find(|row| row["kind"] == kind).unwrap().clone();
    assert!(kind("layers")["bytes"].as_u64().unwrap() > 2_000_000, "{usage}");
    assert_eq!((kind("layers")["reclaimable"].as_u64(), kind("steps")["count"].as_u64()), (Some(0), Some(2)));
    assert_eq!(kind("layers")["reclaimable_all"], kind("layers")["bytes"]);
    let images = usage["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    let demo = images.iter().find(|image| image["name"].as_str().unwrap().contains("demo")).unwrap();
    let (bytes, shared) = (demo["bytes"].as_u64().unwrap(), demo["shared"].as_u64().unwrap());
    assert!(bytes - shared > 1_000_000 && shared > 100_000, "the base is shared, the rest is not: {demo}");
    let listed = store.dram(["df", "-v"]).ok().stdout;
    assert!(listed.contains("demo") && listed.contains(&layers(&store)[0]), "{listed}");
}

#[test]
fn prune_older_than_removes_unused_steps_and_layers() {
    let store = Store::with_base();
    let (old, new) = (large_context(1), large_context(2));
    store.build(&old).ok();
    let before = layers(&store);
    set_age(&store.join("steps"), 10);
    store.build(&new).ok();
    let (long, week) = (["--older-than", "2w"], ["--filter", "until=168h"]);
    for (words, steps, said) in [(long, 0, "0 cached steps"), (week, 1, "1 cached step")] {
        let dry = store.dram(["prune", "-n"]).args(words).ok().stdout;
        assert!(dry.contains(&format!(" and {said}: ")), "{dry}");
        assert_eq!(dry.lines().filter(|line| line.starts_with("step ")).count(), steps);
    }
    store.dram(["prune", "--filter", "label=a"]).fails(2).says("until=24h");
    let pruned = json(&store.dram(["prune", "--older-than", "7d", "--json"]).ok());
    let kinds = |kind: &str| pruned["removed"].as_array().unwrap().iter().filter(|gone| gone["kind"] == kind).count();
    assert_eq!((kinds("step"), kinds("layer")), (1, 1), "{pruned}");
    assert!(!layers(&store).contains(&before[0]));
    assert_eq!(store.build(&new).ok().steps(), (0, 1));
    // Using a step resets its age.
    set_age(&store.join("steps"), 10);
    store.build(&new).ok();
    store.dram(["prune", "--older-than", "7d"]).ok();
    assert_eq!(store.build(&new).ok().steps(), (0, 1));
    valid_image(&store, "demo:latest");
}

#[test]
fn least_recently_used_data_is_evicted_first() {
    let store = Store::with_base();
    let contexts = [large_context(1), large_context(2), large_context(3)];
    for (which, context) in contexts.iter().enumerate() {
        store.build(context).ok();
        set_age(&store.join("steps"), 5 - u32::try_from(which).unwrap());
        tool("find").arg(store.join("steps")).args(["-type", "f", "-newermt", "2 hours ago"]).ok();
    }
    // Only the last step was not aged again, so the order of use is that of the builds.
    store.build(&contexts[0]).ok();
    store.dram(["prune"]).ok();
    let left = json(&store.dram(["prune", "-n", "--json"]).ok())["left"].as_u64().unwrap();
    let to = (left - 1_500_000).to_string();
    store.dram(["prune", "--max-used-space", &to]).ok();
    assert_eq!(store.build(&contexts[0]).ok().steps(), (0, 1), "it was used last");
    store.dram(["prune", "--keep-storage", "1k"]).ok().says("images with names stay");
    assert_eq!(layers(&store), Vec::<String>::new());
    valid_image(&store, "demo:latest");
    store.build(&contexts[0]).ok();
}

#[test]
fn max_size_is_kept_by_automatic_eviction() {
    let store = Store::with_base();
    let size = |store: &Store| json(&store.dram(["df", "--json"]).ok())["bytes"].as_u64().unwrap();
    let limit = size(&store) + 8_000_000;
    for which in 0..8 {
        store.build(&large_context(which)).env("DRAM_MAX_SIZE", limit.to_string()).ok();
        assert!(size(&store) < limit + 1_000_000, "after build {which}: {} of {limit}", size(&store));
    }
    valid_image(&store, "demo:latest");
    // Eviction does not block other builds, and does not wait for them.
    let busy = Context::new(&format!("FROM {BASE}\nRUN sleep 2\n"));
    let busy = store.dram(["build", "--progress", "plain", "-t", "busy"]).arg(busy.path()).start();
    crate::support::wait_until("it builds", std::time::Duration::from_secs(10), || {
        names(&store.join("steplocks")).len() == 1
    });
    store.build(&large_context(9)).env("DRAM_MAX_SIZE", limit.to_string()).ok();
    assert_eq!(busy.end().code, 0);
    let out = temp();
    let archive = out.path().join("demo.tar");
    store.dram(["save", "-o"]).arg(&archive).arg("demo").ok();
    let other = Store::empty();
    let refused = other.dram(["load", "--max-size", "500k"]).arg(&archive).fails(1);
    refused.says("the store may take 512000 bytes").says("more are needed").says("--max-size");
    assert_eq!(names(&other.join("work")), ["gate"]);
    other.dram(["load", "--max-size", "none"]).arg(&archive).ok();
    other.dram(["images", "--max-size", "much"]).fails(2).says("`much` is no size");
    assert!(fs::metadata(other.join("sizes")).is_err() || fs::metadata(other.join("sizes")).unwrap().len() < 1000);
}

#[test]
fn the_store_format_page_names_every_entry_of_a_store() {
    let page = fs::read_to_string(crate::support::repo("docs/store-format.md")).unwrap();
    let table = page.split("## Top level").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: Vec<(String, bool)> = rows.map(|(name, rest)| (name.to_owned(), rest.starts_with("directory"))).collect();
    let store = Store::with_base();
    store.build(&large_context(1)).ok();
    store.build(&Context::new(&format!("FROM {BASE}\nRUN false\n"))).fails(1);
    store.dram(["df"]).ok();
    fs::write(store.join("unknown"), "").unwrap();
    store.dram(["fsck", "--repair"]).ok();
    let found = names(&store.path());
    let real: Vec<(String, bool)> = found.iter().map(|name| (name.clone(), store.join(name).is_dir())).collect();
    let unknown: Vec<_> = real.iter().filter(|entry| !rows.contains(entry)).collect();
    assert!(unknown.is_empty(), "docs/store-format.md says nothing of {unknown:?}");
    let absent: Vec<_> = rows.iter().filter(|row| !real.contains(row)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(absent, ["subordinate", "single", "unprivileged"], "in the page, and not in a store of root's");
}
