//! Robustness against kills, interrupts, damaged files, full disks and concurrent commands.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    BASE, CommandOutput, Context, RunningCommand, Store, TestCommand, base_tar, names, temp, tool, valid_image,
    wait_until,
};

/// Returns a number of seconds for `sleep` that identifies the processes of this test.
fn unique_seconds(which: u32) -> String {
    format!("86{which}{:07}", std::process::id())
}

/// Tells if a process with this number in its arguments is alive. A zombie has no arguments.
fn process_lives(number: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let words = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    words.into_iter().any(|words| String::from_utf8_lossy(&words).contains(number))
}

fn is_mounted(place: &Path) -> bool {
    let inside = format!("{}/", place.display());
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&inside)
}

/// Asserts that nothing is mounted in the store and no temporary files are left.
#[track_caller]
fn assert_tidy(store: &Store) {
    store.dram(["images"]).ok();
    assert!(!is_mounted(&store.path()), "something of the store is mounted");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

/// Returns all paths in the store except `contexts/`, whose records are written only when files are old enough.
fn all_files(store: &Store) -> Vec<String> {
    assert!(names(&store.join("contexts")).len() <= 1, "there is one context");
    let found =
        tool("find").args([".", "-mindepth", "1", "-not", "-path", "./contexts/*"]).dir(store.path()).ok().stdout;
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

/// Returns a context of three stages, the first two parallel, which leave processes that ignore signals.
fn busy_context(number: &str) -> Context {
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
    let build = store.build(context).arg("--no-cache").at_time_0().start();
    thread::sleep(delay);
    build.signal("KILL");
    let done = build.end();
    assert!([0, 137].contains(&done.code), "{done}");
    wait_until("nothing of the jails lives", Duration::from_secs(2), || !process_lives(number));
    assert_tidy(store);
}

/// Builds and prunes, and returns the digest of the image and all paths in the store.
fn build_and_prune(store: &Store, context: &Context) -> (String, Vec<String>) {
    let built = store.build(context).arg("--no-cache").at_time_0().ok();
    store.dram(["prune"]).ok();
    assert_tidy(store);
    (built.digest(), all_files(store))
}

#[test]
fn a_killed_build_leaves_nothing_behind() {
    let (store, fresh, number) = (Store::with_base(), Store::with_base(), unique_seconds(1));
    let context = busy_context(&number);
    let began = Instant::now();
    let expected = build_and_prune(&fresh, &context);
    let whole = began.elapsed();
    for first in [1, 2] {
        for moment in (first..=20).step_by(2) {
            kill_after(&store, &context, &number, whole * moment / 21);
        }
        let (digest, files) = build_and_prune(&store, &context);
        assert_eq!(digest, expected.0);
        let more: Vec<_> = files.iter().filter(|file| !expected.1.contains(file)).collect();
        assert!(more.is_empty(), "kills left behind {more:?}");
    }
    valid_image(&store, "demo:latest");
}

#[test]
fn a_killed_run_leaves_nothing_behind() {
    let (store, number) = (Store::with_base(), unique_seconds(2));
    let script = format!("trap '' TERM INT; sleep {number} & echo > /file; sleep {number}; true");
    for signal in ["KILL", "KILL", "KILL"] {
        let run = store.dram(["run", BASE, "sh", "-c", &script]).start();
        wait_until("it sleeps", Duration::from_secs(10), || process_lives(&number));
        run.signal(signal);
        assert_eq!(run.end().code, 137);
        wait_until("nothing of the jail lives", Duration::from_secs(2), || !process_lives(&number));
        assert_tidy(&store);
    }
}

/// Starts a build whose processes ignore signals.
fn start_stubborn_build(store: &Store, context: &Context, number: &str) -> RunningCommand {
    let build = store.build(context).start();
    wait_until("it sleeps", Duration::from_secs(10), || process_lives(number));
    build
}

#[test]
fn an_interrupted_build_ends_its_processes() {
    for (which, signal) in [(3, "INT"), (4, "TERM"), (5, "HUP")] {
        let (store, number) = (Store::with_base(), unique_seconds(which));
        let dockerfile = format!("FROM {BASE}\nRUN trap '' TERM INT HUP; sleep {number} & sleep {number}; true\n");
        let context = Context::new(&dockerfile);
        let build = start_stubborn_build(&store, &context, &number);
        let asked = Instant::now();
        build.signal(signal);
        let done = build.end();
        assert!(asked.elapsed() < Duration::from_secs(10), "{signal} took {:?}", asked.elapsed());
        assert_eq!(done.code, 130, "{done}");
        done.says("the build was interrupted");
        wait_until("nothing of the jail lives", Duration::from_secs(2), || !process_lives(&number));
        assert_tidy(&store);
    }
}

/// Starts `dram build -t NAME`.
fn start_build(store: &Store, context: &Context, name: &str) -> RunningCommand {
    store.dram(["build", "--progress", "plain", "-t", name]).arg(context.path()).start()
}

fn assert_all_succeed(started: Vec<RunningCommand>) -> Vec<CommandOutput> {
    let ends: Vec<CommandOutput> = started.into_iter().map(RunningCommand::end).collect();
    for done in &ends {
        assert_eq!(done.code, 0, "{done}");
    }
    ends
}

/// Returns a context whose steps have another result each time they are executed.
fn nondeterministic_context(which: usize) -> Context {
    let random = "cat /proc/sys/kernel/random/uuid";
    Context::new(&format!(
        "FROM {BASE}\nRUN echo {which}; sleep 0.5; {random} > /first\nRUN {random} > /second\nCOPY Dockerfile /\n"
    ))
}

#[test]
fn concurrent_builds_execute_each_step_once() {
    for round in 0..5 {
        let (store, context) = (Store::with_base(), nondeterministic_context(round));
        let both = assert_all_succeed(vec![start_build(&store, &context, "one"), start_build(&store, &context, "two")]);
        assert_eq!(both[0].digest(), both[1].digest(), "{}\n{}", both[0], both[1]);
        let carried_out: usize = both.iter().map(|done| done.steps().0).sum();
        assert_eq!(carried_out, 3, "{}\n{}", both[0], both[1]);
        assert_tidy(&store);
        valid_image(&store, "two:latest");
    }
}

#[test]
fn eight_concurrent_builds_succeed() {
    let store = Store::with_base();
    let contexts: Vec<Context> = (0..4).map(nondeterministic_context).collect();
    let pairs = contexts.iter().chain(&contexts).enumerate();
    let eight =
        assert_all_succeed(pairs.map(|(i, context)| start_build(&store, context, &format!("image:{i}"))).collect());
    for (i, done) in eight.iter().enumerate() {
        assert_eq!(store.digest(&format!("image:{i}")), done.digest());
        assert_eq!(done.digest(), eight[(i + 4) % 8].digest(), "{done}");
    }
    assert_tidy(&store);
    (0..4).for_each(|i| valid_image(&store, &format!("image:{i}")));
}

#[test]
fn prune_during_builds_removes_nothing_they_need() {
    let store = Store::with_base();
    let contexts: Vec<Context> = (0..3).map(nondeterministic_context).collect();
    let builds: Vec<_> = (0..3).map(|i| start_build(&store, &contexts[i], &format!("image:{i}"))).collect();
    (0..3).for_each(|_| drop(store.dram(["prune"]).ok()));
    assert_all_succeed(builds);
    (0..3).for_each(|i| valid_image(&store, &format!("image:{i}")));
}

/// Kinds of damage to a file.
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

/// Returns a store with `parity-base` and `other`, which share no blob.
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

/// Asserts that the command failed with an error that contains `what` and a help.
#[track_caller]
fn assert_reported(done: &CommandOutput, what: &str) {
    assert_eq!(done.code, 1, "{done}");
    done.clone().says(what).says("help: ");
}

#[track_caller]
fn save(store: &Store, name: &str) -> CommandOutput {
    let out = temp();
    store.dram(["save", "-o"]).arg(out.path().join("image.tar")).arg(name).end()
}

/// Imports the base image again and asserts that the store is intact.
#[track_caller]
fn assert_import_repairs(store: &Store) {
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    assert_eq!(save(store, BASE).code, 0, "{}", save(store, BASE));
    store.dram(["run", BASE, "true"]).ok();
    store.dram(["images"]).ok();
    valid_image(store, &format!("{BASE}:latest"));
}

#[test]
fn a_damaged_layer_is_reported_and_other_images_work() {
    for how in DAMAGES {
        let store = two_images();
        let digest = store.inspect(BASE)["manifest"]["layers"][0]["digest"].as_str().unwrap().to_owned();
        // Unpacked layers are pruned, so that the blob has to be read.
        store.dram(["prune", "--all"]).ok();
        damage(&blob(&store, &digest), how);
        let run = store.dram(["run", BASE, "true"]).end();
        assert_reported(&run, &digest);
        assert_reported(&save(&store, BASE), &digest);
        assert_reported(&store.build(&Context::new("FROM parity-base\nRUN true\n")).end(), &digest);
        assert_eq!(save(&store, "other").code, 0, "{how}");
        assert_import_repairs(&store);
    }
}

#[test]
fn a_damaged_manifest_or_config_is_reported_and_other_images_work() {
    for (how, at) in DAMAGES.into_iter().flat_map(|how| [(how, "/digest"), (how, "/manifest/config/digest")]) {
        let store = two_images();
        let digest = store.inspect(BASE).pointer(at).unwrap().as_str().unwrap().to_owned();
        damage(&blob(&store, &digest), how);
        let images = store.dram(["images"]).end();
        assert!(images.stdout.contains("other"), "{images}");
        assert_reported(&images, &digest);
        assert_reported(&store.dram(["run", BASE, "true"]).end(), &digest);
        assert_reported(&store.dram(["prune"]).end(), &digest);
        assert_eq!(save(&store, "other").code, 0, "{how} {at}");
        assert_import_repairs(&store);
    }
}

#[test]
fn a_truncated_index_is_reported() {
    for how in ["truncated", "empty"] {
        let store = two_images();
        let index = store.join("oci/index.json");
        let whole = fs::read(&index).unwrap();
        damage(&index, how);
        let path = index.display().to_string();
        assert_reported(&store.dram(["images"]).end(), &path);
        assert_reported(&store.dram(["run", BASE, "true"]).end(), &path);
        assert_reported(&store.dram(["import"]).arg(base_tar()).arg(BASE).end(), &path);
        assert_reported(&store.dram(["prune"]).end(), &path);
        fs::write(&index, whole).unwrap();
        assert_import_repairs(&store);
    }
}

/// A small tmpfs, unmounted when dropped.
pub(crate) struct SmallFileSystem<'a>(&'a Path);

impl SmallFileSystem<'_> {
    pub(crate) fn mount<'a>(place: &'a Path, options: &str) -> SmallFileSystem<'a> {
        fs::create_dir_all(place).unwrap();
        tool("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place).ok();
        SmallFileSystem(place)
    }

    pub(crate) fn read_only(&self) {
        tool("mount").args(["-o", "remount,ro"]).arg(self.0).ok();
    }
}

impl Drop for SmallFileSystem<'_> {
    fn drop(&mut self) {
        tool("umount").arg("--lazy").arg(self.0).end();
    }
}

#[test]
fn a_full_disk_during_an_import_is_reported() {
    let store = Store::empty();
    let path = store.path();
    let _small = SmallFileSystem::mount(&path, "size=1m");
    let import = store.dram(["import"]).arg(base_tar()).arg(BASE).fails(1);
    assert_reported(&import, &path.display().to_string());
    import.says("o space left on device").says("prune");
    assert_tidy(&store);
}

#[test]
fn a_full_disk_during_a_build_is_reported() {
    let store = Store::empty();
    let path = store.path();
    let _small = SmallFileSystem::mount(&path, "size=8m");
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    let context = Context::new(&format!("FROM {BASE}\nCOPY large /\n"));
    fs::write(context.join("large"), vec![7; 12 << 20]).unwrap();
    let copy = store.build(&context).fails(1);
    assert_reported(&copy, &path.display().to_string());
    copy.says("o space left on device").says("prune");
    assert_tidy(&store);
    context.write("Dockerfile", &format!("FROM {BASE}\nRUN dd if=/dev/zero of=/large bs=1M count=12\n"));
    store.build(&context).fails(1).says("No space left on device");
    assert_tidy(&store);
    context.write("Dockerfile", &format!("FROM {BASE}\nRUN echo small > /file\n"));
    store.build(&context).ok();
    valid_image(&store, "demo:latest");
}

#[test]
fn a_read_only_store_can_be_read() {
    let (store, out) = (Store::empty(), temp());
    let path = store.path();
    let small = SmallFileSystem::mount(&path, "size=32m");
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    let context = Context::new(&format!("FROM {BASE}\nRUN echo one > /file\n"));
    store.build(&context).ok();
    small.read_only();
    assert!(store.dram(["images"]).ok().stdout.contains("demo"));
    assert!(store.dram(["history", "demo"]).ok().stdout.contains("echo one"));
    store.inspect("demo");
    store.dram(["save", "-o"]).arg(out.path().join("demo.tar")).arg("demo").ok();
    let said = format!("{} is read-only", path.display());
    assert_reported(&store.build(&context).end(), &said);
    assert_reported(&store.dram(["tag", "demo", "other"]).end(), &said);
    assert_reported(&store.dram(["rm", "demo"]).end(), &said);
    assert_reported(&store.dram(["prune", "--all"]).end(), &said);
    assert_reported(&store.dram(["import"]).arg(base_tar()).arg("other").end(), &said);
    assert_reported(&store.dram(["load"]).arg(out.path().join("demo.tar")).end(), &said);
    // A container needs a writable directory.
    assert_reported(&store.dram(["run", "demo", "true"]).end(), &said);
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
fn the_umask_does_not_change_the_digest() {
    let context = Context::new(MADE);
    let digest_under = |umask: u32| {
        let store = Store::empty();
        store.dram(["import"]).arg(base_tar()).arg(BASE).umask(umask).ok();
        let digest = store.build(&context).umask(umask).at_time_0().ok().digest();
        valid_image(&store, "demo:latest");
        digest
    };
    let usual = digest_under(0o022);
    assert_eq!([digest_under(0o077), digest_under(0), digest_under(0o777)], [usual.as_str(); 3]);
}

/// Runs the command with shell redirections.
fn with_redirections(which: &str, command: TestCommand) -> TestCommand {
    command.run_under("sh", &["-c", &format!(r#""$0" "$@" {which}"#)])
}

#[test]
fn closed_standard_streams_break_nothing() {
    let (store, context) = (Store::with_base(), Context::new(MADE));
    let expected = store.build(&context).ok().digest();
    for which in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
        with_redirections(which, store.dram(["images"])).ok();
        with_redirections(which, store.build(&context).arg("--no-cache")).ok();
        assert_eq!(store.digest("demo"), expected, "{which}");
        with_redirections(which, store.dram(["run", "demo", "sh", "-c", "cat; echo said; echo said >&2; true"])).ok();
    }
    assert_tidy(&store);
    valid_image(&store, "demo:latest");
}

#[test]
fn write_errors_on_standard_output_fail_but_a_closed_pipe_does_not() {
    let store = Store::with_base();
    with_redirections("> /dev/full", store.dram(["images"])).fails(1).says("o space left on device");
    with_redirections("| head -c 1", store.dram(["images"])).ok().does_not_say("panick");
    with_redirections("| head -c 1", store.dram(["save", "-o", "-", BASE])).ok().does_not_say("panick");
}
