//! Tests of the commands for a running release whose distribution speaks TLS.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::test_release::{TestRelease, lossy_text, mix_release, print_note};

const NAMED: [(&str, &str); 3] =
    [("RELEASE_DISTRIBUTION", "name"), ("RELEASE_NODE", "sealed@127.0.0.1"), ("RELEASE_COOKIE", "secret")];

/// A release with a key and a certificate. Returns it and the flags of its distribution.
fn release() -> (TestRelease, String) {
    let world = TestRelease::new("");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=sealed"]);
    openssl.arg("-keyout").arg(world.root.join("key.pem")).arg("-out").arg(world.root.join("cert.pem"));
    assert!(openssl.output().unwrap().status.success());
    let options = format!(
        "[{{server, [{{certfile, \"{0}/cert.pem\"}}, {{keyfile, \"{0}/key.pem\"}}]}}, {{client, [{{verify, verify_none}}]}}].",
        world.root.display()
    );
    world.write("tls.conf", &options);
    // The release does not include these: others run it without the library that `crypto` needs.
    let find =
        "[io:format(\"-pa ~ts \", [code:lib_dir(App, ebin)]) || App <- [ssl, public_key, asn1, crypto]], halt().";
    let paths = lossy_text(&Command::new("erl").args(["-noshell", "-eval", find]).output().unwrap().stdout);
    let flags = format!("{paths}-proto_dist inet_tls -ssl_dist_optfile {}/tls.conf", world.root.display());
    (world, flags)
}

#[test]
fn commands_reach_a_node_that_speaks_tls_as_with_mix() {
    let (world, flags) = release();
    fs::copy(mix_release().join("bin/demo"), world.root.join("bin/mix-demo")).unwrap();
    for file in ["vm.args", "remote.vm.args"] {
        world.write(&format!("releases/0.1.0/{file}"), &flags);
    }
    let mut system = world.start_foreground(&NAMED);
    let begun = Instant::now();
    assert_eq!(world.run_ok(&["ping"], &NAMED), "pong\n");
    print_note(&format!("ping by TLS: {:?}", begun.elapsed()));
    assert_eq!(world.run_ok(&["pid"], &NAMED), format!("{}\n", system.pid()));
    let code = "IO.inspect({node(), IO.read(:stdio, :all)}); exit({:shutdown, 4})";
    let outputs = ["demo", "mix-demo"].map(|program| {
        let mut rpc = Command::new(world.root.join("bin").join(program));
        world.set_environment(&mut rpc);
        rpc.args(["rpc", code]).envs(NAMED).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = rpc.spawn().unwrap();
        child.stdin.take().unwrap().write_all("é\nx".as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), lossy_text(&output.stdout), lossy_text(&output.stderr))
    });
    let said = (Some(4), "{:\"sealed@127.0.0.1\", \"é\\nx\"}\n".to_owned());
    for (code, stdout, stderr) in outputs {
        assert_eq!((code, stdout), said, "{stderr}");
    }
    let raised = world.run(&["rpc", "raise \"boom\""], &NAMED);
    assert_eq!(raised.status.code(), Some(1));
    assert!(lossy_text(&raised.stderr).contains("** (RuntimeError) boom"), "{}", lossy_text(&raised.stderr));
    let refused = world.run(&["ping"], &[NAMED[0], NAMED[1], ("RELEASE_COOKIE", "other")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(lossy_text(&refused.stderr).contains("does not take our cookie"), "{}", lossy_text(&refused.stderr));
    world.run_ok(&["stop"], &NAMED);
    assert_eq!(system.wait_for_exit_code(), Some(0), "{}", system.output());
    assert_eq!(lossy_text(&world.run(&["ping"], &NAMED).stdout), "pang\n");
}

#[test]
fn the_flags_of_tls_may_be_those_of_the_system_or_of_the_environment_only() {
    let (world, flags) = release();
    let (paths, _) = flags.split_once("-proto_dist").unwrap();
    world.write("releases/0.1.0/vm.args", &flags);
    world.write("releases/0.1.0/remote.vm.args", paths);
    let mut system = world.start_foreground(&NAMED);
    assert_eq!(world.run_ok(&["rpc", "IO.puts(node())"], &NAMED), "sealed@127.0.0.1\n");
    world.run_ok(&["stop"], &NAMED);
    assert_eq!(system.wait_for_exit_code(), Some(0));
    world.write("releases/0.1.0/vm.args", "");
    let env = [NAMED[0], NAMED[1], NAMED[2], ("ELIXIR_ERL_OPTIONS", flags.as_str())];
    let mut system = world.start_foreground(&env);
    assert_eq!(world.run_ok(&["rpc", "IO.puts(node())"], &env), "sealed@127.0.0.1\n");
    world.run_ok(&["stop"], &env);
    assert_eq!(system.wait_for_exit_code(), Some(0));
}
