//! `dram run`: a command in a temporary container.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::support::{Context, Store, TestCommand, names, temp, tool, valid_image, wait_until};

fn run_sh(store: &Store, options: &[&str], script: &str) -> TestCommand {
    store.dram(["run"]).args(options).args(["parity-base", "sh", "-c", script])
}

/// Asserts that a run with `options` prints `text`.
#[track_caller]
fn assert_prints(store: &Store, options: &[&str], script: &str, text: &str) {
    let done = run_sh(store, options, script).ok();
    assert_eq!(done.stdout, text, "{done}");
}

#[test]
fn exit_codes_and_streams_are_passed_on() {
    let store = Store::with_base();
    let done = run_sh(&store, &[], "echo out; echo err >&2; exit 7").fails(7);
    assert_eq!(done.stdout, "out\n");
    assert!(done.stderr.ends_with("err\n"), "{done}");
    let again = run_sh(&store, &["--rm"], "echo out; echo err >&2").ok();
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("out\n", "err\n"));
    run_sh(&store, &[], "exit 255").fails(255);
    run_sh(&store, &[], "sh -c 'kill -TERM $$'; exit $?").fails(143);
}

#[test]
fn environment_variables_are_passed_as_asked() {
    let store = Store::with_base();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env = run_sh(&store, &["-e", "A=1", "-e", "B", "-e", "C=", "-e", "GONE", "--env", "D=x=y z"], "env | sort");
    let done = env.env("B", "from here").env("SECRET", "x").ok();
    let shown: Vec<_> = done.stdout.lines().filter(|line| !line.starts_with("SHLVL=")).collect();
    let path = format!("PATH={path}");
    assert_eq!(shown, ["A=1", "B=from here", "C=", "D=x=y z", "HOME=/root", &path, "PWD=/"]);
    assert_prints(&store, &["-e", "HOME=/elsewhere", "-e", "PATH=/bin"], "echo $HOME $PATH", "/elsewhere /bin\n");
    assert_prints(&store, &["-u", "app"], "echo $HOME", "/home/app\n");
    run_sh(&store, &["-e", "=x"], "true").fails(2);
}

#[test]
fn volumes_are_mounted_read_write_or_read_only() {
    let (store, place) = (Store::with_base(), temp());
    let host = place.path().join("dir");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("f"), "seen\n").unwrap();
    let both = format!("{}:/new/place", host.display());
    assert_prints(&store, &["-v", &both], "cat /new/place/f; echo written > /new/place/g", "seen\n");
    assert_eq!(fs::read_to_string(host.join("g")).unwrap(), "written\n");
    let ro = format!("{}:/srv:ro", host.display());
    let done = run_sh(&store, &["-v", &ro], "cat /srv/f; echo x > /srv/h").fails(1);
    assert_eq!(done.stdout, "seen\n");
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    assert_eq!(names(&host), ["f", "g"]);
    let file = format!("{}:/etc/base.conf", host.join("f").display());
    assert_prints(&store, &["-v", &file, "-v", &both], "cat /etc/base.conf /new/place/f", "seen\nseen\n");
    assert_prints(&store, &[], "cat /etc/base.conf; ls /new 2>&1 | wc -l", "setting=1\n1\n");
}

#[test]
fn a_volume_target_through_a_link_stays_inside_the_image() {
    let (store, place) = (Store::with_base(), temp());
    fs::write(place.path().join("f"), "seen\n").unwrap();
    symlink("f", place.path().join("link")).unwrap();
    let context = Context::new("FROM parity-base\nRUN ln -s ../../../../tmp /out\n");
    store.build(&context).ok();
    let volume = format!("{}:/out/in:ro", place.path().display());
    let done = store.dram(["run", "-v", &volume, "demo", "sh", "-c", "cat /tmp/in/link"]).ok();
    assert_eq!(done.stdout, "seen\n");
    valid_image(&store, "demo:latest");
}

#[test]
fn user_and_workdir_options_are_respected() {
    let store = Store::with_base();
    assert_prints(&store, &[], "id; pwd", "uid=0(root) gid=0(root) groups=0(root)\n/\n");
    assert_prints(&store, &["-u", "app"], "id", "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)\n");
    assert_prints(&store, &["--user", "app:staff"], "id -u; id -g", "1000\n50\n");
    assert_prints(&store, &["-u", "1234:4321"], "id -u; id -g; id -G", "1234\n4321\n4321\n");
    assert_prints(&store, &["-w", "/usr/share/base"], "ls", "deep\none\ntwo\ntwo-again\n");
    assert_prints(&store, &["--workdir", "/made/now", "-u", "app"], "pwd", "/made/now\n");
    run_sh(&store, &["-u", "nosuch"], "true").fails(1).says("no user `nosuch`");
    run_sh(&store, &["-w", "/etc/passwd"], "true").fails(1).says("/etc/passwd");
}

#[test]
fn standard_input_is_passed_only_with_interactive() {
    let store = Store::with_base();
    let cat = || store.dram(["run", "-i", "parity-base", "cat"]);
    assert_eq!(cat().stdin("one\ntwo\n").ok().stdout, "one\ntwo\n");
    let many = "0123456789\n".repeat(200_000);
    assert_eq!(cat().stdin(many.clone()).ok().stdout, many);
    assert_eq!(store.dram(["run", "parity-base", "cat"]).stdin("one\n").ok().stdout, "");
}

/// Returns the command `dram run WORDS` under a terminal.
fn on_terminal(store: &Store, words: &str) -> TestCommand {
    let command = format!("stty rows 33 cols 77; {} run {words}", crate::support::dram_path().display());
    tool("script").args(["-qec", &command, "/dev/null"]).env("DRAM_STORE", store.path())
}

#[test]
fn a_terminal_is_allocated_only_with_tty() {
    let store = Store::with_base();
    let done = on_terminal(&store, "-t parity-base sh -c 'tty; stty size; echo $TERM; exit 6'").env("TERM", "vt100");
    let done = done.fails(6);
    // `script` signals the end of its input by a NUL.
    let shown = done.stdout.replace("^@", "");
    assert!(shown.ends_with("/dev/pts/0\r\n33 77\r\nxterm\r\n"), "{done}");
    let typed = on_terminal(&store, "-it parity-base sh").stdin("echo $((40 + 2))\nexit 3\n").fails(3);
    assert!(typed.stdout.contains("\n42\r\n"), "{typed}");
    assert_prints(&store, &[], "tty || true", "not a tty\n");
}

/// Also a stream that a command may only write to leads to the keyboard, if it is the terminal.
#[test]
fn without_tty_the_command_gets_pipes_on_a_terminal_too() {
    let store = Store::with_base();
    let look = "sh -c 'for fd in 0 1 2; do test -t $fd && echo terminal $fd; done; readlink /proc/self/fd/1 | cut -c1-5; \
                readlink /proc/self/fd/2 | cut -c1-5; head -n 1 <&1 2>/dev/null; echo end; echo to-err >&2; exit 4'";
    for options in ["", "-i"] {
        let done = on_terminal(&store, &format!("{options} parity-base {}", look.replace("\\\n", "")))
            .stdin("typed\n")
            .fails(4);
        let shown = done.stdout.replace("^@", "");
        assert!(
            shown.matches("pipe:").count() == 2 && shown.contains("end\r\n") && shown.contains("to-err"),
            "{options}\n{done}"
        );
        assert!(!shown.contains("terminal"), "{options}\n{done}");
        // What the terminal itself echoes is all that is there of it.
        assert!(shown.matches("typed").count() <= 1, "{options}\n{done}");
    }
    let typed = on_terminal(&store, "-i parity-base sh -c 'read line; echo got $line'").stdin("typed\n").ok();
    assert!(typed.stdout.contains("got typed\r\n"), "{typed}");
}

#[test]
fn a_command_whose_output_nobody_reads_ends_and_a_full_disk_is_an_error() {
    let store = Store::with_base();
    run_sh(&store, &[], "true").ok();
    let program = crate::support::dram_path().display().to_string();
    let script = format!("{program} run parity-base sh -c 'yes; echo $? >&2' | head -n 1");
    let done = tool("sh").args(["-c", &script]).env("DRAM_STORE", store.path()).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.trim_end()), ("y\n", "141"), "{done}");
    let script = format!("{program} run parity-base echo x > /dev/full");
    let done = tool("sh").args(["-c", &script]).env("DRAM_STORE", store.path()).fails(1);
    assert!(done.stderr.contains("cannot write the output of the command"), "{done}");
    // The mode of the user's own file is not for the command.
    let place = temp();
    let file = place.path().join("out");
    let script = format!("{program} run parity-base chmod 0777 /dev/stdout > {}", file.display());
    tool("sh").args(["-c", &script]).env("DRAM_STORE", store.path()).start().end();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o111, 0);
}

#[test]
fn signals_are_passed_on() {
    for (signal, code) in [("TERM", 9), ("INT", 9), ("HUP", 9), ("USR1", 9), ("QUIT", 9)] {
        let (store, place) = (Store::with_base(), temp());
        let volume = format!("{}:/out", place.path().display());
        let script = format!("trap 'echo got; exit 9' {signal}; : > /out/ready; while :; do sleep 0.05; done");
        let started = run_sh(&store, &["-v", &volume], &script).start();
        wait_until("the trap is set", Duration::from_secs(20), || place.path().join("ready").exists());
        started.signal(signal);
        let done = started.end();
        assert_eq!((done.code, done.stdout.as_str()), (code, "got\n"), "SIG{signal}\n{done}");
    }
}

#[test]
fn killing_dram_ends_its_container() {
    let (store, place) = (Store::with_base(), temp());
    let volume = format!("{}:/out", place.path().display());
    let mark = format!("86401.{}", std::process::id());
    let script = format!("trap '' TERM INT; sleep {mark} & setsid sleep {mark} & : > /out/ready; wait");
    let started = run_sh(&store, &["-v", &volume], &script).start();
    wait_until("it runs", Duration::from_secs(20), || place.path().join("ready").exists());
    started.signal("KILL");
    assert_eq!(started.end().code, 137);
    wait_until("all is over", Duration::from_secs(5), || tool("pgrep").args(["-f", &mark]).end().stdout.is_empty());
    assert_prints(&store, &[], "echo works", "works\n");
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn a_second_signal_kills_a_command_that_ignores_the_first() {
    for signal in ["TERM", "INT"] {
        let (store, place) = (Store::with_base(), temp());
        let volume = format!("{}:/out", place.path().display());
        let started = run_sh(&store, &["-v", &volume], ": > /out/ready; while :; do sleep 1; done").start();
        wait_until("it runs", Duration::from_secs(20), || place.path().join("ready").exists());
        std::thread::sleep(Duration::from_millis(300));
        started.signal(signal);
        std::thread::sleep(Duration::from_millis(300));
        started.signal(signal);
        let done = started.end();
        assert_eq!(done.code, 137, "{done}");
    }
}

#[test]
fn network_none_and_host_are_supported_and_bridge_refused() {
    let store = Store::with_base();
    let devices = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '";
    assert_prints(&store, &["--network", "none"], devices, "lo\n");
    assert_prints(&store, &["--network", "none"], "ping -c1 -W2 127.0.0.1 | grep -c '1 packets received'", "1\n");
    let host = run_sh(&store, &["--network", "host"], devices).ok().stdout;
    let own = fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(host.lines().count(), own, "{host}");
    run_sh(&store, &["--network", "bridge"], "true").fails(2);
    assert_prints(&store, &[], "hostname; grep -c localhost /etc/hosts", "dram\n2\n");
}

#[test]
fn entrypoint_and_cmd_of_the_image_are_run() {
    let store = Store::with_base();
    let context = Context::new("FROM parity-base\nENTRYPOINT [\"echo\", \"entry\"]\nCMD [\"cmd\", \"two\"]\n");
    store.build(&context).ok();
    for (options, words, text) in [
        (vec![], vec![], "entry cmd two\n"),
        (vec![], vec!["own"], "entry own\n"),
        (vec![], vec!["-n", "--x"], "entry -n --x\n"),
        (vec!["--entrypoint", "printf"], vec!["%s.", "a", "b"], "a.b."),
        (vec!["--entrypoint", "pwd"], vec![], "/\n"),
    ] {
        let done = store.dram(["run"]).args(options).arg("demo").args(words).ok();
        assert_eq!(done.stdout, text, "{done}");
    }
    let context = Context::new("FROM parity-base\nUSER app\nWORKDIR /srv\nENV X=1\nCMD id -u; pwd; echo $X\n");
    store.build(&context).ok();
    assert_eq!(store.dram(["run", "demo"]).ok().stdout, "1000\n/srv\n1\n");
    let digest = store.digest("demo");
    assert_eq!(store.dram(["run", &digest]).ok().stdout, "1000\n/srv\n1\n");
    assert_eq!(store.dram(["run", &digest[7..19], "echo", "short"]).ok().stdout, "short\n");
    valid_image(&store, "demo:latest");
}

#[test]
fn changes_of_a_container_are_discarded() {
    let store = Store::with_base();
    assert_prints(&store, &[], "echo x > /new; rm -r /usr/share/base; echo y > /etc/passwd; ls /new", "/new\n");
    let (files, digest) = (all_files(&store), store.digest("parity-base"));
    assert_prints(&store, &[], "rm -rf /bin /etc; echo x > /new", "");
    assert_prints(
        &store,
        &[],
        "ls /new 2>&1; ls /usr/share/base; head -c5 /etc/passwd",
        "ls: /new: No such file or directory\ndeep\none\ntwo\ntwo-again\nroot:",
    );
    assert_eq!((all_files(&store), store.digest("parity-base")), (files, digest));
    assert_eq!(names(&store.join("work")), ["gate"]);
}

fn all_files(store: &Store) -> String {
    tool("find").arg(store.path()).args(["-not", "-path", "*/work/*"]).ok().stdout
}

#[test]
fn background_processes_end_with_their_command() {
    let store = Store::with_base();
    let mark = format!("86400.{}", std::process::id());
    assert_prints(
        &store,
        &[],
        &format!("sleep {mark} & setsid sleep {mark} >/dev/null 2>&1 & sleep 0.2; echo over"),
        "over\n",
    );
    let alive = tool("pgrep").args(["-f", &mark]).end();
    assert_eq!(alive.stdout, "", "{alive}");
}

#[test]
fn a_container_cannot_change_the_host() {
    let store = Store::with_base();
    for script in [
        "mount -t tmpfs none /mnt",
        "mknod /x c 1 3 && echo > /x",
        "mknod /x b 8 0 && head -c1 /x",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "chroot /proc/1/root ls /lib/systemd",
        "cat /proc/kcore",
        "insmod /x",
        "hostname other",
        "dmesg",
    ] {
        let done = run_sh(&store, &[], &format!("mkdir -p /mnt; {script}")).end();
        assert_ne!(done.code, 0, "{done}");
    }
    assert_prints(&store, &[], "grep Cap /proc/self/status | grep Eff", "CapEff:\t00000000a80425fb\n");
}

#[test]
fn eight_containers_run_concurrently() {
    let store = Store::with_base();
    let all: Vec<_> =
        (0..8).map(|number| run_sh(&store, &[], &format!("sleep 0.2; echo {number} > /f; cat /f")).start()).collect();
    for (number, one) in all.into_iter().enumerate() {
        let done = one.end();
        assert_eq!((done.code, done.stdout.as_str()), (0, format!("{number}\n").as_str()), "{done}");
    }
    assert_eq!(names(&store.join("work")), ["gate"]);
}

#[test]
fn options_of_docker_run_have_their_effect_or_are_refused() {
    let store = Store::with_base();
    let run = |options: &[&str], script: &str| {
        store.dram(["run", "--rm", "--init", "--name", "x"]).args(options).args(["parity-base", "sh", "-c", script])
    };
    let limits = run(&["--ulimit", "nofile=60:70", "-p", "80:80", "-P", "-l", "a=b"], "ulimit -Sn; ulimit -Hn").ok();
    assert_eq!(limits.stdout, "60\n70\n");
    let size = run(&["--shm-size", "3m"], "df -k /dev/shm | tail -n 1").ok().stdout;
    assert_eq!(size.split_whitespace().nth(1), Some("3072"), "{size}");
    run(&["--ulimit", "nofile"], "true").fails(2).says("NAME=SOFT:HARD");
    run(&["-p", "8080:80"], "true").fails(2).says("let the command listen on 8080");
    run(&["-p", "80", "--network", "none"], "true").fails(2).says("leave `--network none` out");
    run(&["-d"], "true").fails(2).says("`dram run -d`: a container begins and ends with its `dram run`").says("`&`");
    store.dram(["ps"]).fails(2).says("dram keeps no containers").does_not_say("Usage");
}
