//! What is left after kills, interrupts, damage, full disks and crowds.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{BASE, Context, Done, Started, Store, Tool, base_tar, names, temp, tool, until, valid_image};

/// A number of seconds to sleep that no other process of this machine has among its words.
fn odd(which: u32) -> String {
    format!("86{which}{:07}", std::process::id())
}

/// Whether a process with this number lives. What is dead and not yet waited for has no words.
fn lives(number: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let words = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    words.into_iter().any(|words| String::from_utf8_lossy(&words).contains(number))
}

fn is_mounted(place: &Path) -> bool {
    let inside = format!("{}/", place.display());
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&inside)
}

/// Fails unless the store is as if nobody had worked in it, apart from what is done.
#[track_caller]
fn is_tidy(store: &Store) {
    store.dram(["images"]).ok();
    assert!(!is_mounted(&store.path()), "something of the store is mounted");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

/// Everything in the store, but for what is known of contexts: that is written down when their files are old enough.
fn all_files(store: &Store) -> Vec<String> {
    assert!(names(&store.join("contexts")).len() <= 1, "there is one context");
    let found =
        tool("find").args([".", "-mindepth", "1", "-not", "-path", "./contexts/*"]).dir(store.path()).ok().stdout;
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

/// Three stages, the first two at once; one leaves a process behind that does not want to go.
fn busy(number: &str) -> Context {
    let dockerfile = format!(
        "\
FROM {BASE} AS a
COPY data /data
RUN (trap '' TERM INT HUP; exec sleep {number}) & \\
    for i in $(seq 60); do mkdir -p /a/$i; head -c 20000 /data > /a/$i/file; sleep 0.005; done
RUN rm -r /a/1; chown -R 1000:50 /a/2
FROM {BASE} AS b
RUN (trap '' TERM INT HUP; exec sleep {number}) & \\
    for i in $(seq 60); do echo $i > /b-$i; ln /b-$i /c-$i; sleep 0.005; done
FROM {BASE}
COPY --from=a /a /a
COPY --from=b /b-* /b/
COPY data /data
RUN cat /a/*/file /b/* > /all
"
    );
    let context = Context::new(&dockerfile);
    let data: Vec<u8> = (0..4_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(context.join("data"), data).unwrap();
    context
}

fn kill_after(store: &Store, context: &Context, number: &str, delay: Duration) {
    let build = store.build(context).arg("--no-cache").start();
    thread::sleep(delay);
    build.signal("KILL");
    let done = build.end();
    assert!([0, 137].contains(&done.code), "{done}");
    until("nothing of the jails lives", Duration::from_secs(2), || !lives(number));
    is_tidy(store);
}

/// The image and all files after a build went through and what nobody needs is gone.
fn settled(store: &Store, context: &Context) -> (String, Vec<String>) {
    let built = store.build(context).arg("--no-cache").ok();
    store.dram(["prune"]).ok();
    is_tidy(store);
    (built.digest(), all_files(store))
}

#[test]
fn a_killed_build_leaves_nothing_behind() {
    let (store, fresh, number) = (Store::with_base(), Store::with_base(), odd(1));
    let context = busy(&number);
    let began = Instant::now();
    let expected = settled(&fresh, &context);
    let whole = began.elapsed();
    for first in [1, 2] {
        for moment in (first..=20).step_by(2) {
            kill_after(&store, &context, &number, whole * moment / 21);
        }
        let (digest, files) = settled(&store, &context);
        assert_eq!(digest, expected.0);
        let more: Vec<_> = files.iter().filter(|file| !expected.1.contains(file)).collect();
        assert!(more.is_empty(), "kills left behind {more:?}");
    }
    valid_image(&store, "demo:latest");
}

#[test]
fn a_killed_run_leaves_nothing_behind() {
    let (store, number) = (Store::with_base(), odd(2));
    let script = format!("trap '' TERM INT; sleep {number} & echo > /file; sleep {number}; true");
    for signal in ["KILL", "KILL", "KILL"] {
        let run = store.dram(["run", BASE, "sh", "-c", &script]).start();
        until("it sleeps", Duration::from_secs(10), || lives(&number));
        run.signal(signal);
        assert_eq!(run.end().code, 137);
        until("nothing of the jail lives", Duration::from_secs(2), || !lives(&number));
        is_tidy(&store);
    }
}

/// A build on its way whose processes ignore what they are asked.
fn stubborn(store: &Store, context: &Context, number: &str) -> Started {
    let build = store.build(context).start();
    until("it sleeps", Duration::from_secs(10), || lives(number));
    build
}

#[test]
fn an_interrupted_build_takes_its_processes_along() {
    for (which, signal) in [(3, "INT"), (4, "TERM"), (5, "HUP")] {
        let (store, number) = (Store::with_base(), odd(which));
        let dockerfile = format!("FROM {BASE}\nRUN trap '' TERM INT HUP; sleep {number} & sleep {number}; true\n");
        let context = Context::new(&dockerfile);
        let build = stubborn(&store, &context, &number);
        let asked = Instant::now();
        build.signal(signal);
        let done = build.end();
        assert!(asked.elapsed() < Duration::from_secs(10), "{signal} took {:?}", asked.elapsed());
        assert_eq!(done.code, 130, "{done}");
        done.says("the build was interrupted");
        until("nothing of the jail lives", Duration::from_secs(2), || !lives(&number));
        is_tidy(&store);
    }
}

/// `dram build -t NAME`, under way.
fn started(store: &Store, context: &Context, name: &str) -> Started {
    store.dram(["build", "--progress", "plain", "-t", name]).arg(context.path()).start()
}

fn all_good(started: Vec<Started>) -> Vec<Done> {
    let ends: Vec<Done> = started.into_iter().map(Started::end).collect();
    for done in &ends {
        assert_eq!(done.code, 0, "{done}");
    }
    ends
}

/// No two executions make the same.
fn never_twice(which: usize) -> Context {
    let random = "cat /proc/sys/kernel/random/uuid";
    Context::new(&format!(
        "FROM {BASE}\nRUN echo {which}; sleep 0.5; {random} > /first\nRUN {random} > /second\nCOPY Dockerfile /\n"
    ))
}

#[test]
fn two_builds_at_once_do_each_step_once() {
    for round in 0..5 {
        let (store, context) = (Store::with_base(), never_twice(round));
        let both = all_good(vec![started(&store, &context, "one"), started(&store, &context, "two")]);
        assert_eq!(both[0].digest(), both[1].digest(), "{}\n{}", both[0], both[1]);
        let carried_out: usize = both.iter().map(|done| done.steps().0).sum();
        assert_eq!(carried_out, 3, "{}\n{}", both[0], both[1]);
        is_tidy(&store);
        valid_image(&store, "two:latest");
    }
}

#[test]
fn eight_builds_at_once_go_well() {
    let store = Store::with_base();
    let contexts: Vec<Context> = (0..4).map(never_twice).collect();
    let pairs = contexts.iter().chain(&contexts).enumerate();
    let eight = all_good(pairs.map(|(i, context)| started(&store, context, &format!("image:{i}"))).collect());
    for (i, done) in eight.iter().enumerate() {
        assert_eq!(store.digest(&format!("image:{i}")), done.digest());
        assert_eq!(done.digest(), eight[(i + 4) % 8].digest(), "{done}");
    }
    is_tidy(&store);
    (0..4).for_each(|i| valid_image(&store, &format!("image:{i}")));
}

#[test]
fn collecting_garbage_beside_builds_takes_nothing_away() {
    let store = Store::with_base();
    let contexts: Vec<Context> = (0..3).map(never_twice).collect();
    let builds: Vec<_> = (0..3).map(|i| started(&store, &contexts[i], &format!("image:{i}"))).collect();
    (0..3).for_each(|_| drop(store.dram(["prune"]).ok()));
    all_good(builds);
    (0..3).for_each(|i| valid_image(&store, &format!("image:{i}")));
}

/// What may happen to a file on the disk.
const DAMAGES: [&str; 4] = ["truncated", "flipped", "missing", "empty"];

fn damage(file: &Path, how: &str) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    match how {
        "truncated" => bytes.truncate(middle),
        "flipped" => bytes[middle] ^= 0x40,
        "empty" => bytes.clear(),
        _ => return fs::remove_file(file).unwrap(),
    }
    fs::write(file, bytes).unwrap();
}

/// A store with `parity-base` and `other`, which share nothing.
fn two_images() -> Store {
    let (store, dir) = (Store::with_base(), temp());
    fs::write(dir.path().join("file"), "other\n").unwrap();
    let tar = dir.path().join("other.tar");
    tool("tar").arg("-cf").arg(&tar).arg("-C").arg(dir.path()).arg("file").ok();
    store.dram(["import"]).arg(&tar).arg("other").ok();
    store
}

fn blob(store: &Store, digest: &str) -> std::path::PathBuf {
    store.join("oci/blobs").join(digest.replace(':', "/"))
}

/// Fails unless the failure names `what` and says what can be done.
#[track_caller]
fn is_named(done: &Done, what: &str) {
    assert_eq!(done.code, 1, "{done}");
    done.clone().says(what).says("help: ");
}

#[track_caller]
fn save(store: &Store, name: &str) -> Done {
    let out = temp();
    store.dram(["save", "-o"]).arg(out.path().join("image.tar")).arg(name).end()
}

/// Brings the base in again: all is well.
#[track_caller]
fn heals(store: &Store) {
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    assert_eq!(save(store, BASE).code, 0, "{}", save(store, BASE));
    store.dram(["run", BASE, "true"]).ok();
    store.dram(["images"]).ok();
    valid_image(store, &format!("{BASE}:latest"));
}

#[test]
fn a_damaged_layer_is_named_and_the_others_are_well() {
    for how in DAMAGES {
        let store = two_images();
        let digest = store.inspect(BASE)["manifest"]["layers"][0]["digest"].as_str().unwrap().to_owned();
        // The unpacked layers go, so that the packed one is what there is.
        store.dram(["prune", "--all"]).ok();
        damage(&blob(&store, &digest), how);
        let run = store.dram(["run", BASE, "true"]).end();
        is_named(&run, &digest);
        is_named(&save(&store, BASE), &digest);
        is_named(&store.build(&Context::new("FROM parity-base\nRUN true\n")).end(), &digest);
        assert_eq!(save(&store, "other").code, 0, "{how}");
        heals(&store);
    }
}

#[test]
fn a_damaged_document_is_named_and_the_others_are_well() {
    for (how, at) in DAMAGES.into_iter().flat_map(|how| [(how, "/digest"), (how, "/manifest/config/digest")]) {
        let store = two_images();
        let digest = store.inspect(BASE).pointer(at).unwrap().as_str().unwrap().to_owned();
        damage(&blob(&store, &digest), how);
        let images = store.dram(["images"]).end();
        assert!(images.stdout.contains("other"), "{images}");
        is_named(&images, &digest);
        is_named(&store.dram(["run", BASE, "true"]).end(), &digest);
        is_named(&store.dram(["prune"]).end(), &digest);
        assert_eq!(save(&store, "other").code, 0, "{how} {at}");
        heals(&store);
    }
}

#[test]
fn a_cut_index_is_named() {
    for how in ["truncated", "empty"] {
        let store = two_images();
        let index = store.join("oci/index.json");
        let whole = fs::read(&index).unwrap();
        damage(&index, how);
        let path = index.display().to_string();
        is_named(&store.dram(["images"]).end(), &path);
        is_named(&store.dram(["run", BASE, "true"]).end(), &path);
        is_named(&store.dram(["import"]).arg(base_tar()).arg(BASE).end(), &path);
        is_named(&store.dram(["prune"]).end(), &path);
        fs::write(&index, whole).unwrap();
        heals(&store);
    }
}

/// A small file system of its own; unmounted when dropped.
pub(crate) struct Small<'a>(&'a Path);

impl Small<'_> {
    pub(crate) fn mount<'a>(place: &'a Path, options: &str) -> Small<'a> {
        fs::create_dir_all(place).unwrap();
        tool("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place).ok();
        Small(place)
    }

    pub(crate) fn read_only(&self) {
        tool("mount").args(["-o", "remount,ro"]).arg(self.0).ok();
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        tool("umount").arg("--lazy").arg(self.0).end();
    }
}

#[test]
fn a_full_disk_is_named_when_an_image_comes_in() {
    let store = Store::empty();
    let path = store.path();
    let _small = Small::mount(&path, "size=1m");
    let import = store.dram(["import"]).arg(base_tar()).arg(BASE).fails(1);
    is_named(&import, &path.display().to_string());
    import.says("o space left on device").says("prune");
    is_tidy(&store);
}

#[test]
fn a_full_disk_is_named_when_a_build_runs_into_it() {
    let store = Store::empty();
    let path = store.path();
    let _small = Small::mount(&path, "size=8m");
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    let context = Context::new(&format!("FROM {BASE}\nCOPY large /\n"));
    fs::write(context.join("large"), vec![7; 12 << 20]).unwrap();
    let copy = store.build(&context).fails(1);
    is_named(&copy, &path.display().to_string());
    copy.says("o space left on device").says("prune");
    is_tidy(&store);
    context.write("Dockerfile", &format!("FROM {BASE}\nRUN dd if=/dev/zero of=/large bs=1M count=12\n"));
    store.build(&context).fails(1).says("No space left on device");
    is_tidy(&store);
    context.write("Dockerfile", &format!("FROM {BASE}\nRUN echo small > /file\n"));
    store.build(&context).ok();
    valid_image(&store, "demo:latest");
}

#[test]
fn a_read_only_store_can_be_looked_at() {
    let (store, out) = (Store::empty(), temp());
    let path = store.path();
    let small = Small::mount(&path, "size=32m");
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    let context = Context::new(&format!("FROM {BASE}\nRUN echo one > /file\n"));
    store.build(&context).ok();
    small.read_only();
    assert!(store.dram(["images"]).ok().stdout.contains("demo"));
    assert!(store.dram(["history", "demo"]).ok().stdout.contains("echo one"));
    store.inspect("demo");
    store.dram(["save", "-o"]).arg(out.path().join("demo.tar")).arg("demo").ok();
    let said = format!("{} is read-only", path.display());
    is_named(&store.build(&context).end(), &said);
    is_named(&store.dram(["tag", "demo", "other"]).end(), &said);
    is_named(&store.dram(["rm", "demo"]).end(), &said);
    is_named(&store.dram(["prune", "--all"]).end(), &said);
    is_named(&store.dram(["import"]).arg(base_tar()).arg("other").end(), &said);
    is_named(&store.dram(["load"]).arg(out.path().join("demo.tar")).end(), &said);
    // A container needs a place to write.
    is_named(&store.dram(["run", "demo", "true"]).end(), &said);
}

const MADE: &str = "\
FROM parity-base AS made
RUN echo one > /one; mkdir -p /a/b; chmod 751 /a
WORKDIR /work/place
COPY Dockerfile .
COPY --chown=1000:50 Dockerfile deep/er/
FROM parity-base
COPY --from=made /work /work
COPY --from=made /one /made/there/
";

#[test]
fn the_umask_changes_nothing() {
    let context = Context::new(MADE);
    let digest_under = |umask: u32| {
        let store = Store::empty();
        store.dram(["import"]).arg(base_tar()).arg(BASE).umask(umask).ok();
        let digest = store.build(&context).umask(umask).ok().digest();
        valid_image(&store, "demo:latest");
        digest
    };
    let usual = digest_under(0o022);
    assert_eq!([digest_under(0o077), digest_under(0), digest_under(0o777)], [usual.as_str(); 3]);
}

/// The command `$@` with some of its files closed.
fn with_closed(which: &str, command: Tool) -> Tool {
    command.within("sh", &["-c", &format!(r#""$0" "$@" {which}"#)])
}

#[test]
fn closed_files_break_nothing() {
    let (store, context) = (Store::with_base(), Context::new(MADE));
    let expected = store.build(&context).ok().digest();
    for which in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
        with_closed(which, store.dram(["images"])).ok();
        with_closed(which, store.build(&context).arg("--no-cache")).ok();
        assert_eq!(store.digest("demo"), expected, "{which}");
        with_closed(which, store.dram(["run", "demo", "sh", "-c", "cat; echo said; echo said >&2; true"])).ok();
    }
    is_tidy(&store);
    valid_image(&store, "demo:latest");
}

#[test]
fn what_cannot_be_printed_is_a_failure_unless_nobody_listens() {
    let store = Store::with_base();
    with_closed("> /dev/full", store.dram(["images"])).fails(1).says("o space left on device");
    with_closed("| head -c 1", store.dram(["images"])).ok().does_not_say("panick");
    with_closed("| head -c 1", store.dram(["save", "-o", "-", BASE])).ok().does_not_say("panick");
}
