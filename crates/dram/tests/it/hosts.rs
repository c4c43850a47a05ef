//! Hosts that lack something: the answer names it and the way out, `dram doctor` gives the same, and nothing is left.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::rootless::user_without_subids;
use crate::support::{
    BASE, CommandOutput, Context, Store, TestCommand, base_tar, dram_path, names, temp, tool, valid_image,
};

/// Executes a program under a filter that refuses system calls: `ERRNO NUMBER… -- PROGRAM`.
const REFUSE: &str = "
import ctypes, os, struct, sys
at = sys.argv.index('--')
answer, numbers = int(sys.argv[1]), [int(word) for word in sys.argv[2:at]]
rules = [(0x20, 0, 0, 0)]
for number in numbers:
    rules += [(0x15, 0, 1, number), (6, 0, 0, 0x50000 | answer)]
rules += [(6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('<HBBI', *rule) for rule in rules))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(len(rules), ctypes.addressof(code))
prctl = ctypes.CDLL(None).prctl
prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
prctl(38, 1, None, 0, 0)
assert prctl(22, 2, ctypes.addressof(program), 0, 0) == 0
os.execv(sys.argv[at + 1], sys.argv[at + 1:])
";

/// System calls that a build makes, and their numbers on x86_64.
#[cfg(target_arch = "x86_64")]
const CALLS: &[(&str, u32)] = &[
    ("close_range", 436),
    ("fsconfig", 431),
    ("fsmount", 432),
    ("fsopen", 430),
    ("memfd_create", 319),
    ("mount", 165),
    ("mount_setattr", 442),
    ("move_mount", 429),
    ("open_tree", 428),
    ("openat2", 437),
    ("pidfd_open", 434),
    ("pivot_root", 155),
    ("seccomp", 317),
    ("sethostname", 170),
    ("umount2", 166),
];

fn context() -> Context {
    Context::new("FROM parity-base\nRUN echo hi > /f\n")
}

/// Asserts that the command has printed each text, on either stream.
#[track_caller]
fn assert_tells(said: &CommandOutput, texts: &[&str]) {
    for text in texts {
        assert!(said.stdout.contains(text) || said.stderr.contains(text), "expected to read {text:?}\n{said}");
    }
}

/// Asserts that no process has left a directory in the store, and that there is no trace of `dram doctor`.
#[track_caller]
fn assert_nothing_is_left(store: &Path) {
    let left: Vec<String> = names(&store.join("work")).into_iter().filter(|name| name != "gate").collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(!names(store.parent().unwrap()).iter().any(|name| name.contains("doctor")), "{store:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_refused_system_call_is_named_with_one_exit_code_and_nothing_is_left() {
    let (store, context) = (Store::with_base(), context());
    for (name, number) in CALLS {
        // `EPERM` and `ENOSYS`.
        for errno in ["1", "38"] {
            let under =
                |command: TestCommand| command.run_under("python3", &["-c", REFUSE, errno, &number.to_string(), "--"]);
            under(store.build(&context)).fails(3).says(name);
            assert_tells(&under(store.dram(["doctor"])).fails(3), &[name]);
            assert_nothing_is_left(&store.path());
        }
    }
    under_clone3_filter(&store, &context);
    store.build(&context).ok();
}

/// The C library starts threads with `clone3` and takes only `ENOSYS` for "use `clone`".
#[cfg(target_arch = "x86_64")]
fn under_clone3_filter(store: &Store, context: &Context) {
    let under = |errno: &str, command: TestCommand| command.run_under("python3", &["-c", REFUSE, errno, "435", "--"]);
    under("38", store.build(context)).ok();
    under("38", store.dram(["doctor"])).ok();
    under("1", store.build(context).arg("--no-cache")).fails(3).says("no more threads can be started").says("`clone3`");
    assert_tells(&under("1", store.dram(["doctor"])).fails(3), &["no more thread can be started"]);
    assert_nothing_is_left(&store.path());
}

/// A directory that becomes the root directory, with nothing but dram, a context and an archive of the base.
struct Chroot {
    dir: TempDir,
}

impl Chroot {
    fn new() -> Chroot {
        let dir = temp();
        fs::copy(dram_path(), dir.path().join("dram")).unwrap();
        fs::copy(base_tar(), dir.path().join("base.tar")).unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        fs::copy(context().join("Dockerfile"), dir.path().join("context/Dockerfile")).unwrap();
        Chroot { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a shell script in a mount namespace whose mounts would propagate; `R` is the directory.
    fn script(&self, script: &str) -> CommandOutput {
        let script = format!("set -e; mount --make-rshared /; R=$1\n{script}");
        let words = ["--mount", "sh", "-c", script.as_str(), "sh"];
        tool("unshare").args(words).arg(self.dir.path()).env("DRAM_STORE", "/store").end()
    }
}

const MOUNTS: &str =
    "mkdir -p $R/proc $R/dev; mount -t proc proc $R/proc; touch $R/dev/null; mount --bind /dev/null $R/dev/null\n";

#[test]
fn a_root_directory_that_is_no_mount_point_is_enough_for_root() {
    let chroot = Chroot::new();
    let script = format!(
        "{MOUNTS}cat /proc/self/mountinfo > $R/before
         chroot $R /dram import /base.tar {BASE}; chroot $R /dram build -t demo /context
         chroot $R /dram run demo sh -c 'cat /f; ls /../..; ls -d /dram /before /proc/1/root/before || true'
         chroot $R /dram doctor
         cat /proc/self/mountinfo | diff $R/before -; ls -A $R/store/work"
    );
    let said = chroot.script(&script);
    assert!(said.code == 0, "{said}");
    assert!(said.stdout.contains("hi\nbin\n") && !said.stdout.contains("/before\n"), "{said}");
    assert!(said.stdout.ends_with("gate\n"), "{said}");
    assert_eq!(names(chroot.dir.path()), ["base.tar", "before", "context", "dev", "dram", "proc", "store"]);
    // The kernel makes no user namespace there.
    let said = chroot.script(&format!("{MOUNTS}chroot --userspec=65534 $R /dram --store /none/s doctor"));
    assert_eq!(said.code, 3, "{said}");
    assert_tells(&said, &["entered with `chroot`", "pivot_root"]);
}

#[test]
fn a_root_directory_without_proc_or_null_device_is_told_and_gets_no_files() {
    let chroot = Chroot::new();
    let before = names(chroot.dir.path());
    for command in ["doctor", "build /context", "images", "fsck"] {
        let said = chroot.script(&format!("chroot $R /dram {command}"));
        assert_eq!(said.code, 3, "{said}");
        assert_tells(&said, &["mount -t proc proc /proc"]);
    }
    assert_eq!(names(chroot.dir.path()), before);
    let said = chroot.script("mkdir $R/proc; mount -t proc proc $R/proc; chroot $R /dram doctor");
    assert_eq!(said.code, 3, "{said}");
    assert_tells(&said, &["mknod -m 666 /dev/null c 1 3"]);
    let said = chroot.script(&format!(
        "mount -t proc proc $R/proc; chroot $R /dram import /base.tar {BASE}; chroot $R /dram build /context"
    ));
    assert_eq!(said.code, 3, "{said}");
    said.says("`/dev/null` is missing").says("mknod -m 666 /dev/null c 1 3");
    assert_eq!(names(chroot.dir.path()), ["base.tar", "context", "dram", "proc", "store"]);
    assert_nothing_is_left(&chroot.path("store"));
}

/// Executes a script with mounts of its own. Its arguments are `dir`, dram, the archive of the base image and a context.
fn run_with_own_mounts(script: &str, dir: &Path) -> CommandOutput {
    tool("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(dir)
        .arg(dram_path())
        .arg(base_tar())
        .arg(context().path())
        .end()
}

#[test]
fn a_store_on_an_overlay_is_told_with_the_way_out() {
    let dir = temp();
    let script = format!(
        "set -e; cd $1; mkdir lower disk merged; mount -t tmpfs tmpfs disk; mkdir disk/upper disk/work
         mount -t overlay overlay -o lowerdir=lower,upperdir=disk/upper,workdir=disk/work merged
         export DRAM_STORE=$1/merged/store; code=0
         $2 doctor || code=$?; ls -A merged
         $2 import $3 {BASE}; $2 build $4 || code=$code/$?
         ls -A merged/store/work; test $code = 3/3"
    );
    let said = run_with_own_mounts(&script, dir.path());
    assert!(said.code == 0, "{said}");
    assert!(said.stdout.ends_with("\ngate\n") && !said.stdout.contains(".dram-doctor"), "{said}");
    assert_tells(
        &said,
        &["is on an overlay file system", "an `emptyDir` of Kubernetes", "error: the store is on an overlay"],
    );
}

#[test]
fn a_kind_of_namespace_that_a_sysctl_forbids_is_named() {
    for kind in ["mnt", "pid", "ipc", "uts"] {
        let store = Store::empty();
        let script = format!("echo 0 > /proc/sys/user/max_{kind}_namespaces; exec \"$0\" \"$@\"");
        let under =
            |command: TestCommand| command.run_under("unshare", &["--user", "--map-root-user", "sh", "-c", &script]);
        let context = context();
        under(store.dram(["import"]).arg(base_tar()).arg(BASE)).ok();
        let help = format!("sysctl -w user.max_{kind}_namespaces=15000");
        under(store.build(&context)).fails(3).says(&help).does_not_say("No space left");
        let doctor = under(store.dram(["doctor"])).fails(3);
        assert_tells(&doctor, &[&help]);
        assert!(!doctor.stdout.contains("No space left"), "{doctor}");
        assert_nothing_is_left(&store.path());
    }
}

#[test]
fn a_limit_of_processes_is_named_and_is_no_bug() {
    // A user of its own, as the limit counts all processes of a user.
    let user = crate::support::User { uid: 64_321, gid: 64_321, home: PathBuf::from("/nonexistent") };
    let store = Store::for_user(&user);
    store.dram(["import"]).arg(base_tar()).arg(BASE).ok();
    let context = context();
    let mut codes = Vec::new();
    for limit in 1..9 {
        let limit = format!("--nproc={limit}");
        let words = ["--reuid=64321", "--regid=64321", "--clear-groups", "prlimit", &limit];
        let said = store.build(&context).arg("--no-cache").run_under("setpriv", &words).end();
        assert!([0, 1, 3].contains(&said.code), "{limit}: {said}");
        if said.code != 0 {
            codes.push(said.code);
            said.says("ulimit -u");
        }
    }
    assert!(!codes.is_empty());
}

#[test]
fn no_inodes_left_is_told() {
    let dir = temp();
    let script = format!(
        "cd $1; mkdir disk; mount -t tmpfs -o nr_inodes=45 tmpfs disk; export DRAM_STORE=$1/disk/store
         $2 import $3 {BASE}; $2 build $4"
    );
    let said = run_with_own_mounts(&script, dir.path());
    assert_eq!(said.code, 1, "{said}");
    said.says("or inodes (`df -i`)");
}

#[test]
fn version_and_help_that_cannot_be_written_are_failures() {
    let store = Store::empty();
    for command in ["--version", "--help", "doctor"] {
        let full = store.dram([command]).run_under("sh", &["-c", "exec \"$0\" \"$@\" > /dev/full"]).fails(1);
        full.says("cannot write standard output").says("No space left on device");
    }
    // A reader that has gone is no failure.
    store.dram(["--version"]).run_under("sh", &["-c", "\"$0\" \"$@\" | true"]).ok();
}

#[test]
fn a_small_stack_is_enough() {
    let (store, context) = (Store::with_base(), context());
    let under = |command: TestCommand| command.run_under("prlimit", &["--stack=65536"]);
    under(store.build(&context)).ok();
    under(store.dram(["fsck"])).ok();
    under(store.dram(["doctor"])).ok();
    let said = under(store.dram(["run", "demo", "sh", "-c", "ulimit -s"])).ok();
    assert_eq!(said.stdout, "64\n");
    valid_image(&store, "demo:latest");
}

#[test]
fn a_store_that_the_user_cannot_write_is_named_by_doctor() {
    let user = user_without_subids();
    let store = Store::for_user(&user);
    chown(store.path().parent().unwrap(), Some(0), Some(0)).unwrap();
    assert_tells(&store.dram(["doctor"]).fails(3), &["cannot be written to", "--store or DRAM_STORE"]);
    assert_eq!(names(store.path().parent().unwrap()), Vec::<String>::new());
}

/// The `getaddrinfo` of a static program loads libraries of the host, which may be those of another C library. Its settings
/// are the one file that nothing else reads, so their path shows it also in a program without symbols.
#[test]
fn the_program_does_not_contain_the_host_look_up_of_the_c_library() {
    let settings = concat!("/etc/", "gai.conf").as_bytes();
    let program = fs::read(dram_path()).unwrap();
    assert!(program.len() > 1 << 20, "this is not the program");
    let is_linked = program.windows(settings.len()).any(|bytes| bytes == settings);
    assert!(!is_linked, "`getaddrinfo` is linked: look up host names with `HostResolver`, not with `std::net`");
}
