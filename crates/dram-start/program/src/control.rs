//! Commands for the running node.

use alloc::format;
use alloc::vec;

use dram_start::bytes::{Bytes, join};
use dram_start::command::{Code, call_text, code};
use dram_start::conf::Moment;
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::release::Release;
use dram_start::term::Term;

use crate::process::SIGTERM;
use crate::remote::{self, Missed, Node, Target};
use crate::running::{self, Running};
use crate::{files, shell, sys};

/// Evaluates Elixir code. An exception is returned in the format of Elixir.
const ELIXIR: &str = "try 'Elixir.Code':eval_string(Text) of _ -> ok \
                      catch Class:Reason:Stack -> {failed, 'Elixir.Exception':format(Class, Reason, Stack)} end";

/// Reads the configuration again, and notifies the applications of changes.
const RELOAD: &str = "{ok, [Config]} = file:consult(Path), \
     Specs = [{application, App, Keys} || {App, _, _} <- application:loaded_applications(), \
              {ok, Keys} <- [application:get_all_key(App)]], \
     Before = application_controller:prep_config_change(), \
     ok = application_controller:change_application_data(Specs, Config), \
     ok = application_controller:config_change(Before)";

const PROCESSES: &str = "io:format(\"~-18ts ~-38ts ~10ts ~12ts ~8ts~n\", [\"process\", \"name or start\", \"memory\", \
     \"reductions\", \"queue\"]), [begin {current_function, F} = proplists:lookup(current_function, I), \
     Name = case proplists:get_value(registered_name, I) of [] -> F; undefined -> F; N -> N end, \
     io:format(\"~-18ts ~-38ts ~10w ~12w ~8w~n\", [pid_to_list(P), io_lib:format(\"~0tp\", [Name]), \
     proplists:get_value(memory, I), proplists:get_value(reductions, I), proplists:get_value(message_queue_len, I)]) \
     end || P <- processes(), I <- [process_info(P, [registered_name, current_function, memory, reductions, \
     message_queue_len])], is_list(I)], ok";

fn node(release: &Release, env: &Environment) -> Result<Node, Fault> {
    remote::reach(&remote::target(release, env)?, env).map_err(Missed::into_fault)
}

fn out(text: &[u8]) {
    let _ = sys::write_all(1, &join(&[text, b"\n"]));
}

/// The command `ping`.
pub(crate) fn ping(release: &Release, env: &Environment) -> Result<u8, Fault> {
    match remote::ping(release, env)? {
        true => {
            out(b"pong");
            Ok(0)
        }
        false => {
            out(b"pang");
            Ok(1)
        }
    }
}

fn not_running() -> Fault {
    Fault::new(
        "the system does not run, as far as can be seen",
        "start it; if it runs, set RELEASE_TMP, RELEASE_NODE and RELEASE_COOKIE to what it was started with",
    )
}

fn elsewhere() -> Fault {
    Fault::new("the system runs in another container", "call the command there, or stop the container")
}

/// The command `pid`.
pub(crate) fn pid(release: &Release, env: &Environment) -> Result<u8, Fault> {
    let target = remote::target(release, env)?;
    if target.node.is_some() {
        match remote::reach(&target, env) {
            Ok(mut node) => {
                let found = node.call("os", "getpid", vec![])?;
                out(found.bytes().unwrap_or_default());
                return Ok(0);
            }
            Err(missed) => {
                if let Running::Yes(state) = running::look(release) {
                    out(format!("{}", state.process).as_bytes());
                    return Ok(0);
                }
                return Err(missed.into_fault());
            }
        }
    }
    match running::look(release) {
        Running::Yes(state) => {
            out(format!("{}", state.process).as_bytes());
            Ok(0)
        }
        Running::Elsewhere => Err(elsewhere()),
        Running::No => Err(not_running()),
    }
}

/// The command `stop`: stops the release, and waits for its end.
pub(crate) fn stop(release: &Release, env: &Environment) -> Result<u8, Fault> {
    let target = remote::target(release, env)?;
    let before = running::look(release);
    let mut node = match (reach_if_named(&target, env), &before) {
        (Some(Ok(node)), _) => Some(node),
        (_, Running::Yes(_)) => None,
        (Some(Err(missed)), _) => return Err(missed.into_fault()),
        (None, Running::Elsewhere) => return Err(elsewhere()),
        (None, Running::No) => return Err(not_running()),
    };
    shell::run_hooks(&release.home, &release.conf, Moment::PreStop, env)?;
    if let Some(node) = &mut node {
        node.call("init", "stop", vec![])?;
    } else if let Running::Yes(state) = &before {
        sys::kill(state.process, SIGTERM).map_err(|errno| {
            let what = format!("cannot send SIGTERM to process {}: {errno}", state.process);
            Fault::new(what, "call the command as the user who started the system")
        })?;
    }
    let until = sys::clock() + release.conf.stop_timeout * 1000;
    let mut ended = match &mut node {
        Some(node) => node.wait_for_end(release.conf.stop_timeout * 1000),
        None => false,
    };
    // The lock of the state file is released when the last process of the release ends.
    if !matches!(before, Running::No) {
        ended = false;
        while !ended && sys::clock() < until {
            ended = matches!(running::look(release), Running::No);
            sys::pause(if ended { 0 } else { 10 });
        }
    }
    if !ended {
        let what = format!("the system did not stop within {} seconds", release.conf.stop_timeout);
        return Err(Fault::new(what, "see its log; `kill -KILL` ends it at once"));
    }
    shell::run_hooks(&release.home, &release.conf, Moment::PostStop, env)?;
    Ok(0)
}

fn reach_if_named(target: &Target, env: &Environment) -> Option<Result<Node, Missed>> {
    target.node.as_ref()?;
    Some(remote::reach(target, env))
}

/// The commands `restart` and `reboot`: functions of `init` without arguments.
pub(crate) fn init(release: &Release, function: &str, env: &Environment) -> Result<u8, Fault> {
    let mut node = node(release, env)?;
    let result = node.call("init", function, vec![])?;
    if result.is_atom("ok") { Ok(0) } else { Err(node.failed(&result)?) }
}

/// The code to evaluate, from an expression, a file or a function. Returns it with the remaining arguments.
pub(crate) fn text(arguments: &[Bytes], elixir: bool) -> Result<(Bytes, alloc::vec::Vec<Bytes>), Fault> {
    let (code, rest) = code(arguments)?;
    Ok(match code {
        Code::Text(text) => (text, rest),
        Code::File(path) => (files::need(&path)?, rest),
        Code::Function { module, name, list } => {
            (call_text(&module, &name, list, &rest, elixir), alloc::vec::Vec::new())
        }
    })
}

/// The command `rpc`.
pub(crate) fn rpc(release: &Release, arguments: &[Bytes], env: &Environment) -> Result<u8, Fault> {
    let (text, _) = text(arguments, release.conf.elixir)?;
    let mut node = node(release, env)?;
    if !release.conf.elixir {
        let value = node.evaluate(&text, vec![])?;
        let shown = node.pretty(&value)?;
        out(&shown);
        return Ok(0);
    }
    let result = node.evaluate(ELIXIR.as_bytes(), vec![("Text", Term::binary(&text))])?;
    match result.tuple() {
        Some([failed, why]) if failed.is_atom("failed") => {
            let _ = sys::write_all(2, &join(&[why.bytes().unwrap_or_default(), b"\n"]));
            Ok(1)
        }
        _ => Ok(0),
    }
}

/// The command `info`.
pub(crate) fn info(release: &Release, env: &Environment) -> Result<u8, Fault> {
    node(release, env)?.evaluate(PROCESSES.as_bytes(), vec![]).map(|_| 0)
}

/// The command `reload_config`.
pub(crate) fn reload(release: &Release, env: &Environment) -> Result<u8, Fault> {
    let Some(config) = crate::prepare::config(release, env)? else {
        let what = format!("cannot read `{}.config`: it is not there", shown(&release.sys_config));
        return Err(Fault::new(what, "set RELEASE_SYS_CONFIG to the configuration to load"));
    };
    let path = join(&[&config, b".config"]);
    node(release, env)?.evaluate(RELOAD.as_bytes(), vec![("Path", Term::Binary(path))])?;
    Ok(0)
}

/// The command `describe`.
pub(crate) fn describe(release: &Release, env: &Environment) -> Result<u8, Fault> {
    let target = remote::target(release, env)?;
    let state = match running::look(release) {
        Running::Yes(state) => format!("runs as process {}", state.process),
        Running::Elsewhere => "runs in another container".into(),
        Running::No => "not seen running".into(),
    };
    let node = target.node.as_ref().map_or_else(|| "none".into(), |node| shown(node));
    let rows: [(&str, Bytes); 9] = [
        ("release", join(&[&release.name, b" ", &release.home.vsn])),
        ("root", release.home.root.clone()),
        ("emulator", join(&[b"erts-", &release.home.erts])),
        ("node", node.into_bytes()),
        ("mode", release.mode.clone()),
        ("configuration", join(&[&release.sys_config, b".config"])),
        ("arguments", release.vm_args.clone()),
        ("writes to", release.tmp.clone()),
        ("system", state.into_bytes()),
    ];
    for (name, value) in rows {
        out(format!("{name:<14} {}", shown(&value)).as_bytes());
    }
    Ok(0)
}
