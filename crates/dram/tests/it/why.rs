//! Every step that is carried out says why, and `dram why` says it again.

use serde_json::Value;

use crate::support::{BASE, Context, Done, Store, list, tool, valid_image};

/// What a build says of the step whose line starts like this: `CACHED`, or why it is carried out.
#[track_caller]
fn of<'d>(done: &'d Done, start: &str) -> &'d str {
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

/// The sentences are compared whole: they are what people read.
#[test]
fn every_miss_says_why() {
    let (store, context) = (Store::with_base(), app());
    let first = store.build(&context).ok();
    for step in ["[base 2/2]", "[builder 1/3]", "[builder 2/3]", "[builder 3/3]", "[stage-2 1/4]", "[stage-2 4/4]"] {
        assert_eq!(of(&first, step), "first build of this step", "{first}");
    }
    context.write("lib/b.ex", "changed\n");
    context.write("lib/c.ex", "new\n");
    let files = store.build(&context).ok();
    assert_eq!(of(&files, "[builder 1/3]"), "CACHED");
    assert_eq!(of(&files, "[builder 2/3]"), "changed lib/b.ex (+1 more)");
    assert_eq!(of(&files, "[builder 3/3]"), "an earlier step changed: [builder 2/3]");
    assert_eq!(of(&files, "[stage-2 1/4]"), "changed out/app");
    assert_eq!(of(&files, "[stage-2 4/4]"), "an earlier step changed: [stage-2 1/4]");
    let arg = store.build(&context).args(["--build-arg", "VERSION=2"]).ok();
    assert_eq!(of(&arg, "[base 2/2]"), "ARG VERSION 1 → 2");
    assert_eq!(of(&arg, "[builder 1/3]"), "the stage below changed: [base 2/2]");
    assert_eq!(of(&arg, "[builder 3/3]"), "ARG VERSION 1 → 2; the stage below changed: [base 2/2]");
    // The builder ran again and made the same files: nothing below is done again, the RUN included.
    assert_eq!((of(&arg, "[stage-2 1/4]"), of(&arg, "[stage-2 4/4]")), ("CACHED", "CACHED"));
    let none = store.build(&context).args(["--no-cache"]).ok();
    for step in ["[base 2/2]", "[builder 2/3]", "[stage-2 1/4]", "[stage-2 4/4]"] {
        assert_eq!(of(&none, step), "--no-cache", "{none}");
    }
    let some = store.build(&context).args(["--no-cache-filter", "builder"]).ok();
    assert_eq!(of(&some, "[base 2/2]"), "CACHED", "{some}");
    for step in ["[builder 1/3]", "[builder 2/3]", "[builder 3/3]"] {
        assert_eq!(of(&some, step), "--no-cache-filter", "{some}");
    }
    assert_eq!(of(&some, "[stage-2 1/4]"), "CACHED", "{some}");
    valid_image(&store, "demo:latest");
}

/// What a command sees mounted is an input like what a copy takes, and is told by the place it is seen at.
#[test]
fn files_in_mounts_are_told() {
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
    // The stage is made again, and holds the same files.
    let note = store.build(&context).args(["--build-arg", "NOTE=1"]).ok();
    assert_eq!(of(&note, "[made 3/3]"), "ARG NOTE=1 is new");
    assert_eq!(of(&note, "[stage-1 2/2]"), "CACHED", "{note}");
    context.write("one", "one\n");
    let one = store.build(&context).args(["--build-arg", "NOTE=1"]).ok();
    assert_eq!(of(&one, "[stage-1 1/2]"), "changed one in the mount /context");
    assert_eq!(of(&one, "[stage-1 2/2]"), "changed files/one in the mount /made");
    let edited = dockerfile.replace("target=/made", "target=/made,rw");
    context.write("Dockerfile", &edited);
    let edited = store.build(&context).args(["--build-arg", "NOTE=1"]).ok();
    assert_eq!(of(&edited, "[stage-1 2/2]"), "--mount on /made bind ro → bind rw");
    let words = ["--build-arg", "NOTE=1", "--no-cache-filter", "stage-1"];
    assert_eq!(of(&store.build(&context).args(words).ok(), "[stage-1 2/2]"), "--no-cache-filter");
    valid_image(&store, "demo:latest");
}

#[test]
fn what_the_file_says_is_told_by_its_name() {
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
    /// What is replaced, by what, and what steps then say.
    type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
    let table: &[Row] = &[
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
        // A new line is new, and no other; what is gone is told when it had made something.
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
            assert_eq!(of(&done, step), *want, "{from:?} became {to:?}\n{done}");
        }
    }
    valid_image(&store, "demo:latest");
}

/// A stage is the same under another name, or under none.
#[test]
fn the_name_of_a_stage_is_not_what_it_is() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    context.write("Dockerfile", &APP.replace("AS base", "AS basis").replace("FROM base", "FROM basis"));
    assert_eq!(store.build(&context).ok().steps(), (0, 6));
    context.write("Dockerfile", &APP.replace("$VERSION", "$VERSION."));
    let renamed = store.build(&context).ok();
    assert_eq!(of(&renamed, "[base 2/2]"), "the command changed", "{renamed}");
    assert_eq!(of(&renamed, "[builder 1/3]"), "the stage below changed: [base 2/2]", "{renamed}");
    let before = "FROM parity-base AS more\nRUN true\n";
    context.write("Dockerfile", &format!("{before}{}", APP.replace("wc -c", "wc -w")));
    let moved = store.build(&context).ok();
    assert_eq!(of(&moved, "[stage-3 4/4]"), "the command changed", "{moved}");
    valid_image(&store, "demo:latest");
}

#[test]
fn what_became_of_files_is_told() {
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
        assert_eq!(of(&done, "[stage-0 1/1]"), want, "{command}\n{done}");
    }
    valid_image(&store, "demo:latest");
}

#[test]
fn another_base_image_is_told() {
    let (store, context) = (Store::with_base(), Context::new("FROM mine AS a\nRUN true\nFROM a\nRUN echo x > /x\n"));
    store.dram(["tag", BASE, "mine"]).ok();
    store.build(&context).ok();
    let other = Context::new("FROM parity-base\nRUN echo more > /more\n");
    store.dram(["build", "-t", "mine"]).arg(other.path()).ok();
    let done = store.build(&context).ok();
    assert_eq!(of(&done, "[a 1/1]"), "the base image changed: mine");
    assert_eq!(of(&done, "[stage-1 1/1]"), "the base image changed: mine");
    context.write("Dockerfile", "FROM parity-base AS a\nRUN true\nFROM a\nRUN echo y > /x\n");
    let done = store.build(&context).ok();
    assert_eq!(of(&done, "[stage-1 1/1]"), "the command changed; the base image changed: mine → parity-base");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_failed_step_says_so_the_next_time() {
    let (store, context) = (Store::with_base(), Context::new("FROM parity-base\nRUN exit 3\nRUN echo after > /f\n"));
    store.build(&context).fails(1).says("first build of this step");
    let again = store.build(&context).fails(1);
    assert_eq!(of(&again, "[stage-0 1/2]"), "it failed the last time");
    let why = store.dram(["why"]).dir(context.path()).ok().stdout;
    assert!(why.contains("0 steps carried out, 0 remembered, 1 failed, 1 not reached"), "{why}");
    context.write("Dockerfile", "FROM parity-base\nRUN exit 0\nRUN echo after > /f\n");
    let good = store.build(&context).ok();
    assert_eq!(of(&good, "[stage-0 1/2]"), "the command changed");
    assert_eq!(of(&good, "[stage-0 2/2]"), "first build of this step");
    valid_image(&store, "demo:latest");
}

#[test]
fn what_was_removed_from_the_store_is_told() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    let why = |words: &[&str]| store.dram(["why"]).args(words).dir(context.path()).end();
    assert!(why(&["12"]).stdout.starts_with("[stage-2 4/4] RUN wc -c < /app/app (line 12)\ncarried out in "));
    std::fs::remove_dir_all(store.join("steps")).unwrap();
    std::fs::create_dir(store.join("steps")).unwrap();
    assert!(why(&["12"]).stdout.ends_with("  first build of this step\nits result is no longer in the store\n"));
    let done = store.build(&context).ok();
    assert_eq!(of(&done, "[stage-2 4/4]"), "its result is no longer in the store");
    store.dram(["prune", "--all"]).ok();
    let none = why(&[]);
    assert_eq!(none.code, 1, "{none}");
    let none = none.says("no build is known").says("has been removed from the store");
    assert_eq!(none.stdout, "");
    let done = store.build(&context).ok();
    assert_eq!(of(&done, "[stage-2 4/4]"), "first build of this step since the store was pruned");
    valid_image(&store, "demo:latest");
}

#[test]
fn dram_why_tells_the_last_build_again() {
    let (store, context, other) = (Store::with_base(), app(), Context::new("FROM parity-base\nRUN echo other\n"));
    store.dram(["why"]).fails(1).says("no build is known").says("`dram build` first");
    store.build(&context).ok();
    context.write("lib/a.ex", "changed\n");
    context.write("lib/z.ex", "new\n");
    store.build(&context).ok();
    store.build(&other).ok();
    // Here it is the last one here; where nothing was built, the last one at all.
    let here = |words: &[&str]| store.dram(["why"]).args(words).dir(context.path()).ok().stdout;
    let head = format!("last build of {}", context.join("Dockerfile").display());
    assert!(here(&[]).starts_with(&head), "{}", here(&[]));
    assert!(here(&[]).contains(": 4 steps carried out, 2 remembered\n"), "{}", here(&[]));
    let elsewhere = store.dram(["why"]).ok().stdout;
    assert!(elsewhere.starts_with(&format!("last build of {}", other.join("Dockerfile").display())), "{elsewhere}");
    let named = store.dram(["why", "-f"]).arg(context.join("Dockerfile")).ok().stdout;
    assert!(named.starts_with(&head), "{named}");
    for step in [&["6"][..], &["builder", "2"], &["[builder 2/3]"], &["COPY lib"], &["copy", "lib"]] {
        let told = here(step);
        assert!(told.starts_with("[builder 2/3] COPY lib lib/ (line 6)\ncarried out in "), "{step:?}: {told}");
        assert!(told.ends_with(", because\n  changed lib/a.ex\n  added lib/z.ex\n"), "{step:?}: {told}");
    }
    let none = store.dram(["why", "nothing of that kind"]).dir(context.path()).fails(2);
    none.says("has no step `nothing of that kind`").says("`dram why` lists all");
    // After a build that remembers everything, the last time counts.
    assert_eq!(store.build(&context).ok().steps(), (0, 6));
    let told = here(&["6"]);
    assert!(told.contains("\nremembered; when it was last carried out it took "), "{told}");
    assert!(told.ends_with(", that was because\n  changed lib/a.ex\n  added lib/z.ex\n"), "{told}");
    let json: Value = serde_json::from_str(&here(&["--json", "6"])).unwrap();
    let step = &list(&json["steps"])[0];
    assert_eq!(json["dockerfile"], context.join("Dockerfile").display().to_string());
    assert_eq!((&step["stage"], &step["step"], &step["of"]), (&"builder".into(), &2.into(), &3.into()));
    assert_eq!((&step["result"], &step["kept"]), (&"remembered".into(), &true.into()));
    assert_eq!(step["because"], "changed lib/a.ex (+1 more)");
    assert_eq!(step["why"][0]["changes"][1], serde_json::json!({"path": "lib/z.ex", "change": "added"}));
    valid_image(&store, "demo:latest");
}

#[test]
fn targets_of_one_file_are_one_place() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    store.build(&context).args(["--target", "base"]).ok();
    let why = store.dram(["why"]).dir(context.path()).ok().stdout;
    assert!(why.contains(", target base for linux/") && !why.contains("[builder"), "{why}");
    context.write("lib/a.ex", "changed\n");
    let done = store.build(&context).ok();
    assert_eq!(of(&done, "[builder 2/3]"), "changed lib/a.ex");
    valid_image(&store, "demo:latest");
}

#[test]
fn values_that_sound_like_secrets_are_not_written_down() {
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
    let places = store.join("places");
    for secret in ["sesame-open-one", "hunter2hunter2"] {
        let found = tool("grep").args(["-r", secret]).arg(&places).fails(1);
        assert_eq!(found.stdout, "", "{found}");
    }
    tool("grep").args(["-rq", "PLAIN"]).arg(&places).ok();
    let done = store.build(&context).args(token("sesame-open-two")).ok();
    assert_eq!(of(&done, "[stage-0 3/6]"), "ARG NPM_TOKEN changed");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_build_where_all_is_remembered_writes_nothing_down() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    store.build(&context).ok();
    let places = store.join("places");
    let listing = || tool("find").arg(&places).args(["-type", "f", "-printf", "%i %s %p\n"]).ok().stdout;
    let before = listing();
    assert!(before.contains("/journal\n"), "{before}");
    store.build(&context).ok();
    assert_eq!(listing(), before, "the journal was written again");
    valid_image(&store, "demo:latest");
}

/// What is kept is read with care: a damaged journal or list is as good as none.
#[test]
fn damaged_notes_cost_the_reason_alone() {
    let (store, context) = (Store::with_base(), app());
    store.build(&context).ok();
    let damage = |kind: &str, script: &str| {
        let places = store.join("places");
        tool("find").arg(&places).args(["-name", kind, "-exec", "sh", "-c", script, "sh", "{}", ";"]).ok();
    };
    damage("[0-9a-f]*[0-9a-f]", r#"[ -d "$1" ] || printf 'dramlst1\377\377\377\377' > "$1""#);
    context.write("lib/a.ex", "changed\n");
    let done = store.build(&context).ok();
    assert_eq!(of(&done, "[builder 2/3]"), "the files changed");
    damage("journal", r#"head -c 500 "$1" > "$1.new" && mv "$1.new" "$1""#);
    context.write("lib/a.ex", "changed again\n");
    let done = store.build(&context).ok();
    assert_eq!(of(&done, "[builder 2/3]"), "what was noted the last time cannot be read");
    valid_image(&store, "demo:latest");
}
