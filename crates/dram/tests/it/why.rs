//! Reasons for cache misses: printed for every executed step, and again by `dram why`.

use serde_json::Value;

use crate::support::{BASE, CommandOutput, Context, Store, list, tool, valid_image};

/// Returns what a build prints for the step whose line starts with `start`: `CACHED`, or the reason for the cache miss.
#[track_caller]
fn reason<'d>(done: &'d CommandOutput, start: &str) -> &'d str {
    let line = done.stderr.lines().find(|line| line.starts_with(start) && !line.contains("] done in "));
    let line = line.unwrap_or_else(|| panic!("no line starts with {start:?}\n{done}"));
    line.split_once(": ").unwrap_or_else(|| panic!("{line:?} says nothing\n{done}")).1
}

const APP: &str = "\
FROM parity-base AS base
ARG VERSION=1
RUN echo $VERSION > /version
FROM base AS builder
WORKDIR /src
COPY lib lib/
RUN mkdir /out && cat lib/* > /out/app
FROM parity-base
COPY --from=builder /out /app
ENV MODE=prod
USER app
RUN wc -c < /app/app
";

fn app() -> Context {
    Context::new(APP).file("lib/a.ex", "a\n").file("lib/b.ex", "b\n")
}

/// The sentences are compared in full, because people read them.
#[test]
fn every_cache_miss_gives_its_reason() {
    let (store, context) = (Store::with_base(), app());
    let first = store.build(&context).ok();
    for step in ["[base 2/2]", "[builder 1/3]", "[builder 2/3]", "[builder 3/3]", "[stage-2 1/4]", "[stage-2 4/4]"] {
        assert_eq!(reason(&first, step), "first build of this step", "{first}");
    }
    context.write("lib/b.ex", "changed\n");
    context.write("lib/c.ex", "new\n");
    let files = store.build(&context).ok();
    assert_eq!(reason(&files, "[builder 1/3]"), "CACHED");
    assert_eq!(reason(&files, "[builder 2/3]"), "changed lib/b.ex (+1 more)");
    assert_eq!(reason(&files, "[builder 3/3]"), "an earlier step changed: [builder 2/3]");
    assert_eq!(reason(&files, "[stage-2 1/4]"), "changed out/app");
    assert_eq!(reason(&files, "[stage-2 4/4]"), "an earlier step changed: [stage-2 1/4]");
    let arg = store.build(&context).args(["--build-arg", "VERSION=2"]).ok();
    assert_eq!(reason(&arg, "[base 2/2]"), "ARG VERSION 1 → 2");
    assert_eq!(reason(&arg, "[builder 1/3]"), "the stage below changed: [base 2/2]");
    assert_eq!(reason(&arg, "[builder 3/3]"), "ARG VERSION 1 → 2; the stage below changed: [base 2/2]");
    // The builder stage was executed again with the same result: later steps are cache hits, the RUN included.
    assert_eq!((reason(&arg, "[stage-2 1/4]"), reason(&arg, "[stage-2 4/4]")), ("CACHED", "CACHED"));
    let none = store.build(&context).args(["--no-cache"]).ok();
    for step in ["[base 2/2]", "[builder 2/3]", "[stage-2 1/4]", "[stage-2 4/4]"] {
        assert_eq!(reason(&none, step), "--no-cache", "{none}");
    }
    let some = store.build(&context).args(["--no-cache-filter", "builder"]).ok();
    assert_eq!(reason(&some, "[base 2/2]"), "CACHED", "{some}");
    for step in ["[builder 1/3]", "[builder 2/3]", "[builder 3/3]"] {
        assert_eq!(reason(&some, step), "--no-cache-filter", "{some}");
    }
    assert_eq!(reason(&some, "[stage-2 1/4]"), "CACHED", "{some}");
    valid_image(&store, "demo:latest");
}

/// Files in a mount are inputs like those of a copy, and are reported with the mount's target.
#[test]
fn changed_files_in_mounts_are_given_as_reasons() {
    let dockerfile = "\
FROM parity-base AS made
ARG NOTE
COPY one /files/one
RUN echo two > /files/two
FROM parity-base
RUN --mount=target=/context cat /context/dir/* > /one
RUN --mount=from=made,source=/files,target=/made cat /made/* > /both
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile).file("one", "1\n").file("dir/a", "a\n"));
    store.build(&context).ok();
    // The stage is executed again with the same files.
    let note = store.build(&context).args(["--build-arg", "NOTE=1"]).ok();
    assert_eq!(reason(&note, "[made 3/3]"), "ARG NOTE=1 is new");
    assert_eq!(reason(&note, "[stage-1 2/2]"), "CACHED", "{note}");
    context.write("one", "one\n");
    let one = store.build(&context).args(["--build-arg", "NOTE=1"]).ok();
    assert_eq!(reason(&one, "[stage-1 1/2]"), "changed one in the mount /context");
    assert_eq!(reason(&one, "[stage-1 2/2]"), "changed files/one in the mount /made");
    let edited = dockerfile.replace("target=/made", "target=/made,rw");
    context.write("Dockerfile", &edited);
    let edited = store.build(&context).args(["--build-arg", "NOTE=1"]).ok();
    assert_eq!(reason(&edited, "[stage-1 2/2]"), "--mount on /made bind ro → bind rw");
    let words = ["--build-arg", "NOTE=1", "--no-cache-filter", "stage-1"];
    assert_eq!(reason(&store.build(&context).args(words).ok(), "[stage-1 2/2]"), "--no-cache-filter");
    valid_image(&store, "demo:latest");
}

#[test]
fn changed_instructions_are_given_as_reasons() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    let edited = |from: &str, to: &str| {
        assert!(APP.contains(from), "{from}");
        context.write("Dockerfile", &APP.replace(from, to));
        let done = store.build(&context).ok();
        context.write("Dockerfile", APP);
        store.build(&context).ok();
        done
    };
    /// Text to replace, its replacement, and the reasons expected for steps.
    type Edit = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
    let table: &[Edit] = &[
        ("wc -c <", "wc -l <", &[("[stage-2 4/4]", "the command changed")]),
        ("MODE=prod", "MODE=dev", &[("[stage-2 4/4]", "ENV MODE prod → dev")]),
        ("MODE=prod", "MODE=prod NEW=1", &[("[stage-2 4/4]", "ENV NEW=1 is new")]),
        ("ENV MODE=prod", "ENV OTHER=prod", &[("[stage-2 4/4]", "ENV OTHER=prod is new; ENV MODE is gone")]),
        ("USER app", "USER root", &[("[stage-2 4/4]", "the user app → root")]),
        ("USER app\n", "WORKDIR /\nUSER app\n", &[("[stage-2 5/5]", "CACHED")]),
        ("USER app\n", "", &[("[stage-2 3/3]", "the user is no longer app")]),
        ("/out /app\n", "/out /app/\n", &[("[stage-2 1/4]", "the destination /app → /app/")]),
        ("COPY --from=b", "COPY --chown=app --from=b", &[("[stage-2 1/4]", "--chown is now app")]),
        ("COPY lib lib/", "COPY --chmod=700 lib lib/", &[("[builder 2/3]", "--chmod is now 700")]),
        (
            "WORKDIR /src",
            "WORKDIR /code",
            &[
                ("[builder 1/3]", "the directory /src → /code"),
                ("[builder 2/3]", "the destination /src/lib/ → /code/lib/; an earlier step changed: [builder 1/3]"),
                ("[builder 3/3]", "the working directory /src → /code; an earlier step changed: [builder 1/3]"),
            ],
        ),
        // A new instruction causes no other cache miss by itself; a removed one is reported if it had made a layer.
        (
            "COPY lib",
            "RUN true\nCOPY lib",
            &[("[builder 2/4]", "first build of this step"), ("[builder 3/4]", "CACHED")],
        ),
        (
            "COPY lib",
            "RUN touch /new\nCOPY lib",
            &[
                ("[builder 2/4]", "first build of this step"),
                ("[builder 3/4]", "an earlier step changed: [builder 2/4]"),
                ("[builder 4/4]", "an earlier step changed: [builder 2/4]"),
            ],
        ),
        (
            "WORKDIR /src\n",
            "",
            &[("[builder 1/2]", "the destination /src/lib/ → /lib/; an earlier step is gone: WORKDIR /src")],
        ),
    ];
    for (from, to, says) in table {
        let done = edited(from, to);
        for (step, want) in *says {
            assert_eq!(reason(&done, step), *want, "{from:?} became {to:?}\n{done}");
        }
    }
    valid_image(&store, "demo:latest");
}

/// The name of a stage is not part of the cache key.
#[test]
fn renaming_a_stage_keeps_cache_hits() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    context.write("Dockerfile", &APP.replace("AS base", "AS basis").replace("FROM base", "FROM basis"));
    assert_eq!(store.build(&context).ok().steps(), (0, 6));
    context.write("Dockerfile", &APP.replace("$VERSION", "$VERSION."));
    let renamed = store.build(&context).ok();
    assert_eq!(reason(&renamed, "[base 2/2]"), "the command changed", "{renamed}");
    assert_eq!(reason(&renamed, "[builder 1/3]"), "the stage below changed: [base 2/2]", "{renamed}");
    let before = "FROM parity-base AS more\nRUN true\n";
    context.write("Dockerfile", &format!("{before}{}", APP.replace("wc -c", "wc -w")));
    let moved = store.build(&context).ok();
    assert_eq!(reason(&moved, "[stage-3 4/4]"), "the command changed", "{moved}");
    valid_image(&store, "demo:latest");
}

#[test]
fn added_removed_and_changed_files_are_given_as_reasons() {
    let (store, context) = (Store::with_base(), Context::new("FROM parity-base\nCOPY . /all/\n"));
    for name in ["a", "b", "dir/c"] {
        context.write(name, name);
    }
    store.build(&context).ok();
    let link = context.join("link").display().to_string();
    let table = [
        (format!("chmod 755 {}", context.join("a").display()), "mode of a 644 → 755"),
        (format!("ln -s a {link}"), "added link"),
        (format!("ln -sf b {link}"), "changed link"),
        (format!("rm {}", context.join("b").display()), "removed b"),
        (format!("rm -r {}", context.join("dir").display()), "removed dir (+1 more)"),
    ];
    for (command, want) in table {
        tool("sh").args(["-c", &command]).ok();
        let done = store.build(&context).ok();
        assert_eq!(reason(&done, "[stage-0 1/1]"), want, "{command}\n{done}");
    }
    valid_image(&store, "demo:latest");
}

#[test]
fn a_changed_base_image_is_given_as_reason() {
    let (store, context) = (Store::with_base(), Context::new("FROM mine AS a\nRUN true\nFROM a\nRUN echo x > /x\n"));
    store.dram(["tag", BASE, "mine"]).ok();
    store.build(&context).ok();
    let other = Context::new("FROM parity-base\nRUN echo more > /more\n");
    store.dram(["build", "-t", "mine"]).arg(other.path()).ok();
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[a 1/1]"), "the base image changed: mine");
    assert_eq!(reason(&done, "[stage-1 1/1]"), "the base image changed: mine");
    context.write("Dockerfile", "FROM parity-base AS a\nRUN true\nFROM a\nRUN echo y > /x\n");
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[stage-1 1/1]"), "the command changed; the base image changed: mine → parity-base");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_previous_failure_is_given_as_reason() {
    let (store, context) = (Store::with_base(), Context::new("FROM parity-base\nRUN exit 3\nRUN echo after > /f\n"));
    store.build(&context).fails(1).says("first build of this step");
    let again = store.build(&context).fails(1);
    assert_eq!(reason(&again, "[stage-0 1/2]"), "it failed the last time");
    let why = store.dram(["why"]).dir(context.path()).ok().stdout;
    assert!(why.contains("0 steps executed, 0 cached, 1 failed, 1 not reached"), "{why}");
    context.write("Dockerfile", "FROM parity-base\nRUN exit 0\nRUN echo after > /f\n");
    let good = store.build(&context).ok();
    assert_eq!(reason(&good, "[stage-0 1/2]"), "the command changed");
    assert_eq!(reason(&good, "[stage-0 2/2]"), "first build of this step");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_result_removed_from_the_store_is_given_as_reason() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    let why = |words: &[&str]| store.dram(["why"]).args(words).dir(context.path()).end();
    assert!(why(&["12"]).stdout.starts_with("[stage-2 4/4] RUN wc -c < /app/app (line 12)\nexecuted in "));
    std::fs::remove_dir_all(store.join("steps")).unwrap();
    std::fs::create_dir(store.join("steps")).unwrap();
    assert!(why(&["12"]).stdout.ends_with("  first build of this step\nits result is no longer in the store\n"));
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[stage-2 4/4]"), "its result is no longer in the store");
    store.dram(["prune", "--all"]).ok();
    let none = why(&[]);
    assert_eq!(none.code, 1, "{none}");
    let none = none.says("no build is known").says("have been removed from the store");
    assert_eq!(none.stdout, "");
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[stage-2 4/4]"), "first build of this step since the store was pruned");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_step_whose_journal_may_have_been_evicted_is_not_said_to_be_pruned() {
    let (store, context) = (Store::with_base(), Context::new("FROM parity-base\nRUN true\n"));
    for number in 0..128 {
        std::fs::create_dir_all(store.join(&format!("history/{number:064x}"))).unwrap();
    }
    store.build(&Context::new("FROM parity-base\nRUN echo other\n")).ok();
    let done = store.build(&context).ok();
    assert_eq!(
        reason(&done, "[stage-0 1/1]"),
        "first known build of this step; the store has the journals of the last 128 builds"
    );
    let none = store.dram(["why", "-f", "/nonexistent"]).fails(1);
    none.says("the journals of the last 128 builds").does_not_say("removed");
    store.dram(["fsck"]).ok();
    store.dram(["prune", "--all"]).ok();
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[stage-0 1/1]"), "first build of this step since the store was pruned");
    store.dram(["fsck"]).ok();
}

#[test]
fn dram_why_explains_the_last_build() {
    let (store, context, other) = (Store::with_base(), app(), Context::new("FROM parity-base\nRUN echo other\n"));
    store.dram(["why"]).fails(1).says("no build is known").says("`dram build` first");
    store.build(&context).ok();
    context.write("lib/a.ex", "changed\n");
    context.write("lib/z.ex", "new\n");
    store.build(&context).ok();
    store.build(&other).ok();
    // In the directory of a build, the last build there is shown; elsewhere, the last build of all.
    let here = |words: &[&str]| store.dram(["why"]).args(words).dir(context.path()).ok().stdout;
    let head = format!("last build of {}", context.join("Dockerfile").display());
    assert!(here(&[]).starts_with(&head), "{}", here(&[]));
    assert!(here(&[]).contains(": 4 steps executed, 2 cached\n"), "{}", here(&[]));
    let elsewhere = store.dram(["why"]).ok().stdout;
    assert!(elsewhere.starts_with(&format!("last build of {}", other.join("Dockerfile").display())), "{elsewhere}");
    let named = store.dram(["why", "-f"]).arg(context.join("Dockerfile")).ok().stdout;
    assert!(named.starts_with(&head), "{named}");
    for step in [&["6"][..], &["builder", "2"], &["[builder 2/3]"], &["COPY lib"], &["copy", "lib"]] {
        let told = here(step);
        assert!(told.starts_with("[builder 2/3] COPY lib lib/ (line 6)\nexecuted in "), "{step:?}: {told}");
        assert!(told.ends_with(", because\n  changed lib/a.ex\n  added lib/z.ex\n"), "{step:?}: {told}");
    }
    let none = store.dram(["why", "nothing of that kind"]).dir(context.path()).fails(2);
    none.says("has no step `nothing of that kind`").says("`dram why` lists all");
    // After a fully cached build, the last execution is explained.
    assert_eq!(store.build(&context).ok().steps(), (0, 6));
    let told = here(&["6"]);
    assert!(told.contains("\ncached; its last execution took "), "{told}");
    assert!(told.ends_with(", that was because\n  changed lib/a.ex\n  added lib/z.ex\n"), "{told}");
    let json: Value = serde_json::from_str(&here(&["--json", "6"])).unwrap();
    let step = &list(&json["steps"])[0];
    assert_eq!(json["dockerfile"], context.join("Dockerfile").display().to_string());
    assert_eq!((&step["stage"], &step["step"], &step["of"]), (&"builder".into(), &2.into(), &3.into()));
    assert_eq!((&step["result"], &step["kept"]), (&"cached".into(), &true.into()));
    assert_eq!(step["because"], "changed lib/a.ex (+1 more)");
    assert_eq!(step["why"][0]["changes"][1], serde_json::json!({"path": "lib/z.ex", "change": "added"}));
    valid_image(&store, "demo:latest");
}

#[test]
fn targets_of_one_dockerfile_share_a_build_journal() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    store.build(&context).args(["--target", "base"]).ok();
    let why = store.dram(["why"]).dir(context.path()).ok().stdout;
    assert!(why.contains(", target base for linux/") && !why.contains("[builder"), "{why}");
    context.write("lib/a.ex", "changed\n");
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[builder 2/3]"), "changed lib/a.ex");
    valid_image(&store, "demo:latest");
}

#[test]
fn values_of_variables_named_like_secrets_are_not_stored() {
    let dockerfile = "\
FROM parity-base
ARG NPM_TOKEN
ARG PLAIN=1
RUN echo $PLAIN; true
ENV DB_PASSWORD=hunter2hunter2 COPY_OF=has-hunter2hunter2
RUN true
WORKDIR /at-$NPM_TOKEN
";
    let (store, context) = (Store::with_base(), Context::new(dockerfile));
    let token = |value: &str| ["--build-arg".to_owned(), format!("NPM_TOKEN={value}")];
    store.build(&context).args(token("sesame-open-one")).ok();
    let places = store.join("history");
    for secret in ["sesame-open-one", "hunter2hunter2"] {
        let found = tool("grep").args(["-r", secret]).arg(&places).fails(1);
        assert_eq!(found.stdout, "", "{found}");
    }
    tool("grep").args(["-rq", "PLAIN"]).arg(&places).ok();
    let done = store.build(&context).args(token("sesame-open-two")).ok();
    assert_eq!(reason(&done, "[stage-0 3/6]"), "ARG NPM_TOKEN changed");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_fully_cached_build_does_not_rewrite_the_journal() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    store.build(&context).ok();
    let places = store.join("history");
    let listing = || tool("find").arg(&places).args(["-type", "f", "-printf", "%i %s %p\n"]).ok().stdout;
    let before = listing();
    assert!(before.contains("/journal\n"), "{before}");
    store.build(&context).ok();
    assert_eq!(listing(), before, "the journal was written again");
    valid_image(&store, "demo:latest");
}

/// Damaged journals and file lists are treated like missing ones.
#[test]
fn a_damaged_journal_loses_only_the_reason() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    let damage = |kind: &str, script: &str| {
        let places = store.join("history");
        tool("find").arg(&places).args(["-name", kind, "-exec", "sh", "-c", script, "sh", "{}", ";"]).ok();
    };
    damage("[0-9a-f]*[0-9a-f]", r#"[ -d "$1" ] || printf 'dramlst1\377\377\377\377' > "$1""#);
    context.write("lib/a.ex", "changed\n");
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[builder 2/3]"), "the files changed");
    damage("journal", r#"head -c 500 "$1" > "$1.new" && mv "$1.new" "$1""#);
    context.write("lib/a.ex", "changed again\n");
    let done = store.build(&context).ok();
    assert_eq!(reason(&done, "[builder 2/3]"), "the journal of the last build cannot be read");
    valid_image(&store, "demo:latest");
}
