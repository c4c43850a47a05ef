//! Tests of whole builds: scheduling, the step cache, lazy base images, shared caches and lost layers.

use crate::BuildError;
use crate::shared_cache::CacheMode;
use crate::testing::{MemoryImage, TestBuild, TestHouse, read_result};

#[test]
fn steps_of_a_stage_are_executed_in_order_over_each_other() {
    let house = TestHouse::new();
    let done = house.build("FROM scratch\nRUN write a 1\nENV X=1\nRUN read a && write b 2\nRUN read b\n");
    assert_eq!(
        done.events,
        [
            "started RUN write a 1",
            "executed RUN write a 1",
            "started RUN read a && write b 2",
            "log 1",
            "executed RUN read a && write b 2",
            "started RUN read b",
            "log 2",
            "executed RUN read b",
        ]
    );
    assert_eq!(done.snapshot().made_layers(), [true, true, false]);
    assert_eq!(read_result(&house, done.snapshot(), "b").as_deref(), Some("2"));
    assert_eq!(house.leftovers(), Vec::<String>::new());
}

#[test]
fn independent_stages_are_executed_at_the_same_time() {
    let house = TestHouse::new();
    // Each of the two commands ends only when the other one runs.
    let done = house.build(
        "FROM scratch AS a\nRUN meet x && write a 1\nFROM scratch AS b\nRUN meet x && write b 2\n\
         FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
    );
    assert_eq!(done.executed.len(), 4);
    assert_eq!(read_result(&house, done.snapshot(), "a").as_deref(), Some("1"));
    assert_eq!(read_result(&house, done.snapshot(), "b").as_deref(), Some("2"));
}

#[test]
fn a_stage_advances_up_to_the_step_that_needs_another_stage() {
    let house = TestHouse::new();
    // The target's first command runs while the stage that its second step copies from is executed.
    let done = house.build(
        "FROM scratch AS a\nRUN meet x && write a 1\nFROM scratch\nRUN meet x && write b 1\nCOPY --from=a /a /\n",
    );
    assert_eq!(done.executed.last().unwrap(), "COPY --from=a /a /");
    assert_eq!(done.snapshot().layers.len(), 2);
}

#[test]
fn a_stage_starts_from_the_finished_snapshot_of_its_base() {
    let house = TestHouse::new();
    let done =
        house.build("FROM scratch AS a\nRUN write a 1\nFROM a AS b\nRUN read a && write b 2\nFROM b\nRUN read b\n");
    assert_eq!(done.executed, ["RUN write a 1", "RUN read a && write b 2", "RUN read b"]);
    assert_eq!(done.snapshot().made_layers(), [true, true, false]);
}

#[test]
fn the_first_error_cancels_other_commands_and_is_returned() {
    let house = TestHouse::new();
    let done = house.build(
        "FROM scratch AS a\nRUN meet x && wait\nFROM scratch AS b\nRUN meet x && fail\n\
         FROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n",
    );
    assert!(matches!(done.result, Err(BuildError::CommandFailed { code: 1, .. })), "{:?}", done.result);
    assert_eq!(done.executed.len(), 2, "{:?}", done.executed);
}

#[test]
fn a_cancelled_build_executes_no_step() {
    let house = TestHouse::new();
    let build = TestBuild::new(&house, "FROM scratch\nRUN write a 1\n");
    build.cancel.cancel();
    let done = build.run();
    assert!(matches!(done.result, Err(BuildError::Cancelled)), "{:?}", done.result);
    assert!(done.events.is_empty(), "{:?}", done.events);
}

#[test]
fn a_failed_step_is_executed_again_by_the_next_build() {
    let house = TestHouse::new();
    for _ in 0..2 {
        let done = house.build("FROM scratch\nRUN write a 1\nRUN fail\n");
        assert_eq!(done.executed.last().unwrap(), "RUN fail");
    }
    assert_eq!(house.build("FROM scratch\nRUN write a 1\nRUN fail\n").events[0], "cached RUN write a 1");
}

#[test]
fn unchanged_steps_are_cached_and_steps_after_a_change_are_executed() {
    let house = TestHouse::new();
    let text = |middle: &str| format!("FROM scratch\nRUN write a 1\nRUN write b {middle}\nRUN write c 3\n");
    house.build(&text("2"));
    assert_eq!(house.build(&text("2")).executed, Vec::<String>::new());
    assert_eq!(house.build(&text("4")).executed, ["RUN write b 4", "RUN write c 3"]);
}

#[test]
fn an_equal_result_of_a_changed_step_cuts_off_the_execution_of_later_steps() {
    let house = TestHouse::new();
    house.build("FROM scratch\nRUN write a 1\nRUN write b 2\n");
    let done = house.build("FROM scratch\nRUN true x && write a 1\nRUN write b 2\n");
    assert_eq!(done.executed, ["RUN true x && write a 1"]);
    assert_eq!(done.events.last().unwrap(), "cached RUN write b 2");
}

#[test]
fn no_cache_executes_all_steps_and_no_cache_filter_those_of_its_stages() {
    let house = TestHouse::new();
    let text = "FROM scratch AS a\nRUN write a 1\nFROM scratch\nRUN write b 1\nCOPY --from=a /a /\n";
    house.build(text);
    assert_eq!(TestBuild::new(&house, text).without_cache().run().executed.len(), 3);
    let mut build = TestBuild::new(&house, text);
    build.no_cache_stages.insert(0);
    assert_eq!(build.run().executed, ["RUN write a 1"]);
}

#[test]
fn equal_steps_of_two_stages_are_executed_once() {
    let house = TestHouse::new();
    let done = house.build(
        "FROM scratch AS a\nRUN write a 1\nFROM scratch AS b\nRUN write a 1\n\
         FROM scratch\nCOPY --from=a /a /x\nCOPY --from=b /a /y\n",
    );
    assert_eq!(done.executed_sorted(), ["COPY --from=a /a /x", "COPY --from=b /a /y", "RUN write a 1"]);
}

#[test]
fn a_step_that_another_build_executes_is_waited_for_and_its_result_is_used() {
    let house = TestHouse::new();
    let text = "FROM scratch\nRUN meet x && write a 1\n";
    let build = TestBuild::new(&house, text).without_cache();
    let other = TestBuild::new(&house, text).without_cache();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| build.run());
        build.executor.wait_for_command_at("x");
        let second = scope.spawn(|| other.run());
        other.wait_for_event("waiting for RUN meet x && write a 1");
        // The command of the first build ends only now.
        build.executor.meet("x");
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.executed.len(), 1);
    assert_eq!(second.executed, Vec::<String>::new(), "{:?}", second.events);
    assert_eq!(first.snapshot(), second.snapshot());
}

#[test]
fn a_copy_of_a_stage_is_found_by_its_snapshot_and_then_by_the_files() {
    let house = TestHouse::new();
    let text = |other: &str| {
        format!("FROM scratch AS a\nRUN write a 1\nRUN write other {other}\nFROM scratch\nCOPY --from=a /a /\n")
    };
    house.build(&text("1"));
    // The snapshot of the stage differs, but not the copied file.
    assert_eq!(house.build(&text("2")).executed, ["RUN write other 2"]);
    // By now the copy is known under the new snapshot too.
    assert_eq!(house.build(&text("2")).executed, Vec::<String>::new());
}

#[test]
fn a_copy_of_the_build_context_is_executed_if_a_copied_file_changed() {
    let house = TestHouse::new();
    house.write("dir/a", "1");
    house.write("other", "1");
    let text = "FROM scratch\nCOPY dir /x/\n";
    assert_eq!(house.build(text).executed, ["COPY dir /x/"]);
    house.write("other", "2");
    assert_eq!(house.build(text).executed, Vec::<String>::new());
    house.write("dir/a", "22");
    let done = house.build(text);
    assert_eq!(done.executed, ["COPY dir /x/"]);
    assert_eq!(read_result(&house, done.snapshot(), "x/a").as_deref(), Some("22"));
}

#[test]
fn a_linked_copy_is_cached_over_other_layers() {
    let house = TestHouse::new();
    house.write("f", "1");
    let text = |below: &str| format!("FROM scratch\nRUN write a {below}\nCOPY --link f /\n");
    house.build(&text("1"));
    assert_eq!(house.build(&text("2")).executed, ["RUN write a 2"]);
}

#[test]
fn a_linked_copy_that_changes_a_directory_of_the_base_gives_a_warning() {
    let house = TestHouse::new();
    house.write("f", "1");
    house.write("dir/g", "1");
    let warning = |copy: &str| {
        let done = house.build(&format!("FROM scratch\nCOPY --chmod=1777 f /tmp/a\nCOPY f /usr/bin/b\n{copy}\n"));
        done.snapshot();
        let remarks = done.events.into_iter().filter_map(|event| event.strip_prefix("remark ").map(str::to_owned));
        remarks.collect::<Vec<String>>().join("\n")
    };
    let tmp = "`--link` copies without looking at the layers below: `/tmp` gets mode 0755 and owner 0:0 instead of mode \
               1777 and owner 0:0";
    let cases = [
        ("COPY f /tmp/f", ""),
        ("COPY --link f /tmp/f", tmp),
        // The same for a cache hit.
        ("COPY --link f /tmp/f", tmp),
        ("COPY --link f /tmp/", tmp),
        ("ADD --link f /tmp/f", tmp),
        ("COPY --link dir /tmp", tmp),
        ("COPY --link --chmod=1777 f /tmp/f", ""),
        ("COPY --link f /usr/bin/f", ""),
        ("COPY --link f /new/dir/f", ""),
        ("COPY --link f /", ""),
        (
            "COPY --link --chown=200 f /usr/bin/c",
            "`--link` copies without looking at the layers below: `/usr` gets mode 0755 and owner 200:200 instead of \
             mode 0755 and owner 0:0, `/usr/bin` gets mode 0755 and owner 200:200 instead of mode 0755 and owner 0:0",
        ),
        (
            "COPY --link f /usr/bin/b/",
            "`--link` copies without looking at the layers below: a directory `/usr/bin/b` replaces what was there",
        ),
    ];
    for (copy, expected) in cases {
        assert_eq!(warning(copy), expected, "{copy}");
    }
}

#[test]
fn a_base_image_that_no_step_reads_is_not_pulled() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("etc/a", "1")], &[("etc/b", "2")]]));
    house.write("f", "1");
    let text = "FROM base\nENV A=1\nCOPY --link f /\n";
    let build = TestBuild::new(&house, text).with_image("base", image.open_lazily(&house.store));
    let done = build.run();
    assert_eq!(done.snapshot().layers.len(), 3);
    assert_eq!(image.pulls(), [0, 0]);
}

#[test]
fn a_base_image_that_two_stages_read_is_pulled_once() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("etc/a", "1")], &[("etc/b", "2")]]));
    let text = "FROM base AS a\nRUN meet x && read etc/a\nFROM base\nRUN meet x && read etc/b && write c 1\n\
                COPY --from=a /etc/a /d\n";
    let build = TestBuild::new(&house, text).with_image("base", image.open_lazily(&house.store));
    let done = build.run();
    assert_eq!((done.count("log 1"), done.count("log 2")), (1, 1), "{:?}", done.events);
    assert_eq!(image.pulls(), [1, 1]);
    assert_eq!(done.snapshot().layers.len(), 4);
    // A later build of the same steps pulls nothing into a store that has only the documents.
    assert_eq!(build.run().executed, Vec::<String>::new());
}

#[test]
fn a_lazy_image_and_a_complete_one_have_the_same_cache_keys() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("etc/a", "1")]]));
    let text = "FROM base\nRUN read etc/a\nCOPY --from=base /etc/a /b\n";
    let done = TestBuild::new(&house, text).with_image("base", image.open_lazily(&house.store)).run();
    assert_eq!(done.executed.len(), 2);
    let again = TestBuild::new(&house, text).with_image("base", image.open_complete(&house.store)).run();
    assert_eq!(again.executed, Vec::<String>::new());
    assert_eq!(again.snapshot(), done.snapshot());
}

#[test]
fn a_base_image_of_the_store_is_unpacked_when_a_step_first_reads_it() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("etc/a", "1")]]));
    let with_base = |text| TestBuild::new(&house, text).with_image("base", image.open_complete(&house.store));
    assert_eq!(with_base("FROM base\nENV A=1\n").run().events, Vec::<String>::new());
    let events = ["unpacking base", "started RUN read etc/a", "log 1", "executed RUN read etc/a"];
    assert_eq!(with_base("FROM base\nRUN read etc/a\n").run().events, events);
    assert_eq!(with_base("FROM base\nRUN read etc/a && write b 1\n").run().count("unpacking base"), 0);
    assert_eq!(image.pulls(), [0]);
}

#[test]
fn a_base_layer_that_cannot_be_pulled_is_an_error_of_the_build() {
    let (house, image) = (TestHouse::new(), MemoryImage::new(&[&[("etc/a", "1")]]));
    let base = image.open_lazily(&house.store);
    image.registry.damage(&image.layers[0].digest, b"other bytes");
    let done = TestBuild::new(&house, "FROM base\nRUN read etc/a\n").with_image("base", base).run();
    assert!(matches!(done.result, Err(BuildError::Store(_))), "{:?}", done.result);
    assert!(!house.store.blobs().has(&image.layers[0]));
}

/// The text of a build whose first stage makes two layers, of which the target copies one file.
const TWO_STAGES: &str =
    "FROM scratch AS a\nRUN count a\nRUN write b 2\nFROM scratch\nRUN write c 3\nCOPY --from=a /a /\nRUN read a\n";

#[test]
fn a_shared_cache_gives_hits_and_only_the_layers_of_the_result_are_fetched() {
    let (cold, cache) = (TestHouse::new(), TestBuild::new(&TestHouse::new(), TWO_STAGES).export_cache(CacheMode::Max));
    let done = TestBuild::new(&cold, TWO_STAGES).with_cache(&cache).run();
    assert_eq!(done.executed, Vec::<String>::new());
    assert_eq!(done.count("fetching from the registry"), 2, "{:?}", done.events);
    assert_eq!(done.events.iter().filter(|event| event.starts_with("shared ")).count(), 5);
    assert_eq!(read_result(&cold, done.snapshot(), "a").as_deref(), Some("0"));
    // The fetched layers are in the store now, so their steps are ordinary cache hits.
    let again = TestBuild::new(&cold, "FROM scratch\nRUN write c 3\n").run();
    assert_eq!(again.events, ["cached RUN write c 3"]);
}

#[test]
fn a_lost_layer_of_the_result_executes_only_its_step() {
    let cache = TestBuild::new(&TestHouse::new(), "FROM scratch\nRUN write a 1\nRUN write b 2\nRUN write c 3\n")
        .export_cache(CacheMode::Min);
    for lost in 0..3 {
        let cache = crate::testing::MemoryCache { blobs: cache.blobs.copy(), ..cache.clone() };
        cache.blobs.remove(&cache.layers()[lost]);
        let house = TestHouse::new();
        let text = "FROM scratch\nRUN write a 1\nRUN write b 2\nRUN write c 3\n";
        let done = TestBuild::new(&house, text).with_cache(&cache).run();
        let step = ["RUN write a 1", "RUN write b 2", "RUN write c 3"][lost];
        assert_eq!(done.executed, [step]);
        assert_eq!(done.count(&format!("started {step}")), 1);
        assert_eq!(done.events.iter().filter(|event| event.starts_with("shared ")).count(), 3, "{:?}", done.events);
        assert_eq!(done.warnings.len(), 1, "{:?}", done.warnings);
        assert_eq!(read_result(&house, done.snapshot(), "c").as_deref(), Some("3"));
    }
}

#[test]
fn a_lost_layer_that_another_stage_reads_rewinds_its_stage_and_nothing_else() {
    let cache = TestBuild::new(&TestHouse::new(), TWO_STAGES).export_cache(CacheMode::Max);
    // The new text reads the copied stage's files, so its layers are needed.
    let text = TWO_STAGES.replace("COPY --from=a /a /", "COPY --from=a /a /new");
    cache.blobs.remove(&cache.layers()[0]);
    let house = TestHouse::new();
    let build = TestBuild::new(&house, &text.replace("RUN read a", "RUN read new")).with_cache(&cache);
    let done = build.run();
    assert_eq!(done.executed, ["RUN count a", "COPY --from=a /a /new", "RUN read new"], "{:?}", done.events);
    // An equal result was made, so the step after the lost one is still a hit, and it is reported once.
    assert_eq!(done.count("shared RUN write b 2"), 1);
    assert_eq!(done.count("shared RUN write c 3"), 1);
    assert_eq!(read_result(&house, done.snapshot(), "new").as_deref(), Some("0"));
}

#[test]
fn a_lost_layer_that_comes_out_differently_repeats_the_steps_that_used_it() {
    let cache = TestBuild::new(&TestHouse::new(), TWO_STAGES).export_cache(CacheMode::Max);
    cache.blobs.remove(&cache.layers()[0]);
    let house = TestHouse::new();
    let text = TWO_STAGES.replace("RUN read a", "COPY --from=a /a /again");
    let build = TestBuild::new(&house, &text).with_cache(&cache);
    // The step writes another number than in the build that made the cache.
    build.executor.counter.store(7, std::sync::atomic::Ordering::SeqCst);
    let done = build.run();
    let expected = ["COPY --from=a /a /", "COPY --from=a /a /again", "RUN count a", "RUN write b 2"].map(str::to_owned);
    assert_eq!(done.executed_sorted(), expected, "{:?}", done.events);
    for path in ["a", "again"] {
        assert_eq!(read_result(&house, done.snapshot(), path).as_deref(), Some("7"), "{path}");
    }
    assert_eq!(done.count("shared RUN write c 3"), 1);
}

#[test]
fn a_damaged_layer_of_a_shared_cache_is_not_taken() {
    let text = "FROM scratch\nRUN write a 1\n";
    let cache = TestBuild::new(&TestHouse::new(), text).export_cache(CacheMode::Min);
    cache.blobs.damage(&cache.layers()[0], b"something else");
    let house = TestHouse::new();
    let done = TestBuild::new(&house, text).with_cache(&cache).run();
    assert_eq!(done.executed, ["RUN write a 1"]);
    assert!(done.warnings[0].starts_with("a layer of the cache the registry "), "{:?}", done.warnings);
}

#[test]
fn a_lost_layer_of_a_base_stage_restarts_the_stages_on_it() {
    let text = "FROM scratch AS a\nRUN write a 1\nFROM a\nRUN write b 2\nRUN read a\n";
    let cache = TestBuild::new(&TestHouse::new(), text).export_cache(CacheMode::Max);
    cache.blobs.remove(&cache.layers()[0]);
    let house = TestHouse::new();
    let changed = text.replace("RUN read a", "RUN read a && read b");
    let done = TestBuild::new(&house, &changed).with_cache(&cache).run();
    assert_eq!(done.executed, ["RUN write a 1", "RUN read a && read b"]);
    assert_eq!((done.count("shared RUN write b 2"), done.count("log 1"), done.count("log 2")), (1, 1, 1));
}

#[test]
fn resource_usage_of_a_command_is_recorded_in_the_build_journal() {
    let house = TestHouse::new();
    house.build("FROM scratch\nRUN write a 1\n").snapshot();
    let journal = crate::why::BuildJournal::read(house.store.build_history(), &crate::testing::build_id().key());
    let usage = journal.unwrap().stages[0].steps[0].usage.unwrap();
    assert_eq!((usage.user_millis, usage.system_millis, usage.max_rss), (7, 0, 1 << 20));
}
