//! `dram shell --failed`: a shell in the state of a failed step.

use crate::support::{BASE, Context, Store, valid_image};

fn context(runs: &str) -> Context {
    Context::new(&format!("FROM {BASE}\n{runs}\n"))
}

#[test]
fn shell_failed_restores_the_environment_of_the_failed_step() {
    let store = Store::with_base();
    let context = context(
        "WORKDIR /work\nENV A=1\nARG B=2\nRUN echo below > /below\nUSER app\n\
         RUN --mount=type=bind,source=dir,target=/src --mount=type=cache,id=c,target=/c,uid=1000 \\\n\
             --mount=type=secret,id=s,env=S --mount=type=tmpfs,target=/mem --mount=from=parity-base,target=/img,source=/etc \\\n\
             echo left > /tmp/left; echo cached > /c/f; touch /mem/x; rm -f /tmp/none; exit 4",
    )
    .file("dir/file", "text")
    .file("dir/hidden", "")
    .file(".dockerignore", "dir/hidden\n");
    store.dram(["shell", "--failed"]).fails(1).says("no command of a build has failed");
    let secret = ["--secret", "id=s,env=VALUE"];
    store.build(&context).args(secret).env("VALUE", "xyzzy").fails(1).says("`dram shell --failed`");
    let script =
        "echo $PWD $A $B $(id -u) \"<$S>\"; cat /tmp/left /below /c/f /src/file; ls -A /src /mem; test -e /img/passwd";
    let shell = |script: &str| store.dram(["shell", "--failed", "sh", "-c", script]).ok().stdout;
    assert_eq!(shell(script), "/work 1 2 1000 <>\nleft\nbelow\ncached\ntext/mem:\n\n/src:\nfile\n");
    // Changes made in the shell are discarded, except in cache mounts.
    shell("touch /tmp/new; rm /tmp/left; echo more > /c/more; ! touch /src/x");
    assert_eq!(shell("ls /tmp /c; exit 0"), "/c:\nf\nmore\n\n/tmp:\nleft\n");
    let given = store.dram(["shell", "--failed"]).args(secret).args(["sh", "-c", "echo $S"]).env("VALUE", "xyzzy").ok();
    assert_eq!(given.stdout, "xyzzy\n");
    assert_eq!(store.dram(["shell", "--failed", "sh", "-c", "exit 9"]).end().code, 9);
    // Without a command, it starts a shell that reads standard input.
    assert_eq!(store.dram(["shell", "--failed"]).stdin("cat /tmp/left\n").ok().stdout, "left\n");
    store.build(&context).args(secret).env("VALUE", "xyzzy").fails(1);
    store.dram(["shell"]).fails(2).says("dram shell --failed");
}

#[test]
fn a_failed_step_is_kept_until_the_next_failure_success_or_prune() {
    let store = Store::with_base();
    let first = context("RUN --mount=type=cache,id=c,target=/c touch /first; test -e /c/good");
    let second = context("RUN touch /second; exit 1");
    let left = || store.dram(["shell", "--failed", "ls", "/"]).end().stdout;
    store.build(&first).fails(1);
    assert!(left().contains("first"));
    store.build(&second).fails(1);
    assert!(left().contains("second") && !left().contains("first"));
    store.build(&first).fails(1);
    store.dram(["shell", "--failed", "touch", "/c/good"]).ok();
    store.build(&first).ok();
    valid_image(&store, "demo:latest");
    assert_eq!(left(), "");
    store.build(&second).fails(1);
    store.dram(["prune"]).ok();
    assert_eq!(left(), "");
    assert!(!store.join("failed").exists());
    // A command that could not be started leaves no state.
    store.build(&context("RUN [\"/no/such/program\"]")).fails(1).does_not_say("dram shell");
}
