//! Commands for the running node.

use alloc::format;
use alloc::vec;

use dram_start::byte_string::{ByteString, concat};
use dram_start::command::{EvalCode, call_expression, parse_code, rpc_arguments};
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::release::StartSettings;
use dram_start::start_conf::StartHookPoint;
use dram_start::term::NodeTerm;

use crate::files::OwnFileError;
use crate::node_connection::{self, NodeConnectError, NodeConnection, NodeTarget};
use crate::process::SIGTERM;
use crate::state_lock::{self, ReleaseStatus};
use crate::{files, shell, sys};

/// Evaluates Elixir code. An exception is returned in the format of Elixir, and an exit for the shell as its code.
const EVAL_ELIXIR: &str = "try 'Elixir.Code':eval_string(Text) of _ -> ok \
                      catch exit:{shutdown, Code} when is_integer(Code) -> {stopped, Code}; \
                      exit:normal -> {stopped, 0}; exit:shutdown -> {stopped, 0}; exit:{shutdown, _} -> {stopped, 0}; \
                      Class:Reason:Stack -> {failed, 'Elixir.Exception':format(Class, Reason, Stack)} end";

/// Reads the configuration and the files that it includes again, and notifies the applications of changes.
const RELOAD_CONFIG: &str = "{ok, [Own]} = file:consult(Path), \
     Merge = fun({App, New}, All) -> Old = proplists:get_value(App, All, []), \
             Rest = [Pair || {Key, _} = Pair <- Old, not lists:keymember(Key, 1, New)], \
             lists:keystore(App, 1, All, {App, New ++ Rest}) end, \
     Include = fun(File, All) -> Name = filename:rootname(File, \".config\") ++ \".config\", \
               Beside = filename:absname(Name, filename:dirname(Path)), \
               Found = case filelib:is_regular(Beside) of true -> Beside; false -> Name end, \
               {ok, [More]} = file:consult(Found), lists:foldl(Merge, All, More) end, \
     Config = lists:foldl(fun({_, _} = Pair, All) -> Merge(Pair, All); (File, All) -> Include(File, All) end, [], Own), \
     Specs = [{application, App, Keys} || {App, _, _} <- application:loaded_applications(), \
              {ok, Keys} <- [application:get_all_key(App)]], \
     Before = application_controller:prep_config_change(), \
     ok = application_controller:change_application_data(Specs, Config), \
     ok = application_controller:config_change(Before)";

const PRINT_PROCESSES: &str = "io:format(\"~-18ts ~-38ts ~10ts ~12ts ~8ts~n\", [\"process\", \"name or start\", \"memory\", \
     \"reductions\", \"queue\"]), [begin {current_function, F} = proplists:lookup(current_function, I), \
     Name = case proplists:get_value(registered_name, I) of [] -> F; undefined -> F; N -> N end, \
     io:format(\"~-18ts ~-38ts ~10w ~12w ~8w~n\", [pid_to_list(P), io_lib:format(\"~0tp\", [Name]), \
     proplists:get_value(memory, I), proplists:get_value(reductions, I), proplists:get_value(message_queue_len, I)]) \
     end || P <- processes(), I <- [process_info(P, [registered_name, current_function, memory, reductions, \
     message_queue_len])], is_list(I)], ok";

/// The interval after which `stop` sends SIGTERM again, in milliseconds.
const SIGNAL_INTERVAL: u64 = 5000;

fn connect_node(release: &StartSettings, env: &EnvironmentVariables) -> Result<NodeConnection, StartError> {
    node_connection::connect_to_node(release, &node_connection::node_target(release, env)?, env)
        .map_err(NodeConnectError::into_error)
}

fn print_line(text: &[u8]) {
    let _ = sys::write_all(1, &concat(&[text, b"\n"]));
}

/// The command `ping`.
pub(crate) fn ping(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    match node_connection::answers_ping(release, env)? {
        true => {
            print_line(b"pong");
            Ok(0)
        }
        false => {
            print_line(b"pang");
            Ok(1)
        }
    }
}

fn not_running_error() -> StartError {
    StartError::new(
        "the system does not run, as far as can be seen",
        "start it; if it runs, set RELEASE_TMP, RELEASE_NODE and RELEASE_COOKIE to what it was started with",
    )
}

/// The error for a state file that is not this user's.
fn unusable_state_error(release: &StartSettings, why: &OwnFileError) -> StartError {
    let path = state_lock::state_file_path(release);
    let what = format!("cannot tell whether the system runs by `{}`: {why}", printable(&path));
    StartError::new(what, "call the command as the user who started the system, or set RELEASE_NODE and RELEASE_COOKIE")
}

fn other_container_error() -> StartError {
    StartError::new("the system runs in another container", "call the command there, or stop the container")
}

/// The command `pid`.
pub(crate) fn pid(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    let target = node_connection::node_target(release, env)?;
    if target.node.is_some() {
        match node_connection::connect_to_node(release, &target, env) {
            Ok(mut node) => {
                let found = node.call("os", "getpid", vec![])?;
                print_line(found.bytes().unwrap_or_default());
                return Ok(0);
            }
            Err(missed) => {
                if let ReleaseStatus::Running(state) = state_lock::release_status(release) {
                    print_line(format!("{}", state.pid).as_bytes());
                    return Ok(0);
                }
                return Err(missed.into_error());
            }
        }
    }
    match state_lock::release_status(release) {
        ReleaseStatus::Running(state) => {
            print_line(format!("{}", state.pid).as_bytes());
            Ok(0)
        }
        ReleaseStatus::OtherContainer => Err(other_container_error()),
        ReleaseStatus::Unusable(why) => Err(unusable_state_error(release, &why)),
        ReleaseStatus::NotRunning => Err(not_running_error()),
    }
}

/// The command `stop`: stops the release, and waits for its end.
pub(crate) fn stop(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    let target = node_connection::node_target(release, env)?;
    let before = state_lock::release_status(release);
    let mut node = match (connect_if_named(release, &target, env), &before) {
        (Some(Ok(node)), _) => Some(node),
        (_, ReleaseStatus::Running(_)) => None,
        (Some(Err(missed)), _) => return Err(missed.into_error()),
        (None, ReleaseStatus::OtherContainer) => return Err(other_container_error()),
        (None, ReleaseStatus::Unusable(why)) => return Err(unusable_state_error(release, why)),
        (None, ReleaseStatus::NotRunning) => return Err(not_running_error()),
    };
    shell::run_hooks(&release.home, &release.conf, StartHookPoint::PreStop, env)?;
    if let Some(node) = &mut node {
        node.call("init", "stop", vec![])?;
    } else if let ReleaseStatus::Running(state) = &before {
        sys::kill(state.pid, SIGTERM).map_err(|errno| {
            let what = format!("cannot send SIGTERM to process {}: {errno}", state.pid);
            StartError::new(what, "call the command as the user who started the system")
        })?;
    }
    let until = sys::monotonic_milliseconds() + release.conf.stop_timeout * 1000;
    let mut ended = match &mut node {
        Some(node) => node.wait_for_end(release.conf.stop_timeout * 1000),
        None => false,
    };
    // The lock of the state file is released when the last process of the release ends.
    if !matches!(before, ReleaseStatus::NotRunning | ReleaseStatus::Unusable(_)) {
        ended = false;
        let mut again = sys::monotonic_milliseconds() + SIGNAL_INTERVAL;
        while !ended && sys::monotonic_milliseconds() < until {
            let status = state_lock::release_status(release);
            // An emulator that has just begun to boot loses the signal.
            if let (ReleaseStatus::Running(state), None) = (&status, &node)
                && sys::monotonic_milliseconds() > again
            {
                again += SIGNAL_INTERVAL;
                let _ = sys::kill(state.pid, SIGTERM);
            }
            ended = matches!(status, ReleaseStatus::NotRunning);
            sys::sleep(if ended { 0 } else { 10 });
        }
    }
    if !ended {
        let what = format!("the system did not stop within {} seconds", release.conf.stop_timeout);
        return Err(StartError::new(what, "see its log; `kill -KILL` ends it at once"));
    }
    shell::run_hooks(&release.home, &release.conf, StartHookPoint::PostStop, env)?;
    Ok(0)
}

fn connect_if_named(
    release: &StartSettings,
    target: &NodeTarget,
    env: &EnvironmentVariables,
) -> Option<Result<NodeConnection, NodeConnectError>> {
    target.node.as_ref()?;
    Some(node_connection::connect_to_node(release, target, env))
}

/// The commands `restart` and `reboot`: functions of `init` without arguments.
pub(crate) fn call_init(release: &StartSettings, function: &str, env: &EnvironmentVariables) -> Result<u8, StartError> {
    let mut node = connect_node(release, env)?;
    if function == "reboot" && node.call("erlang", "whereis", vec![NodeTerm::atom("heart")])?.is_atom("undefined") {
        let note = "the system runs without `heart`: it stops, and is not started again\n";
        let _ = sys::write_all(2, note.as_bytes());
    }
    let result = node.call("init", function, vec![])?;
    if result.is_atom("ok") { Ok(0) } else { Err(node.call_error(&result)?) }
}

/// The code to evaluate, from an expression, a file or a function. Returns it with the remaining arguments.
pub(crate) fn code_text(
    arguments: &[ByteString],
    elixir: bool,
) -> Result<(ByteString, alloc::vec::Vec<ByteString>), StartError> {
    let (code, rest) = parse_code(arguments)?;
    Ok(match code {
        EvalCode::Expression(text) => (text, rest),
        EvalCode::File(path) => (files::read_required(&path)?, rest),
        EvalCode::Function { module, name, as_list: list } => {
            (call_expression(&module, &name, list, &rest, elixir), alloc::vec::Vec::new())
        }
    })
}

/// The command `rpc`.
pub(crate) fn rpc(
    release: &StartSettings,
    arguments: &[ByteString],
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    let (text, extra) = code_text(&rpc_arguments(arguments, release.conf.elixir)?, release.conf.elixir)?;
    if let Some(word) = extra.first() {
        let what = format!("`rpc` has no use for the argument `{}`", printable(word));
        return Err(StartError::invalid_usage(what, "to pass arguments, use --mfa Mod.fun/ARITY"));
    }
    let mut node = connect_node(release, env)?;
    if !release.conf.elixir {
        let value = node.evaluate(&text, vec![])?;
        let shown = node.format_term(&value)?;
        print_line(&shown);
        return Ok(0);
    }
    let result = node.evaluate(EVAL_ELIXIR.as_bytes(), vec![("Text", NodeTerm::binary(&text))])?;
    match result.tuple() {
        Some([failed, why]) if failed.is_atom("failed") => {
            let _ = sys::write_all(2, &concat(&[why.bytes().unwrap_or_default(), b"\n"]));
            Ok(1)
        }
        // As in a shell, only the last eight bits count.
        Some([stopped, NodeTerm::Integer(code)]) if stopped.is_atom("stopped") => Ok((*code & 0xff) as u8),
        _ => Ok(0),
    }
}

/// The command `info`.
pub(crate) fn info(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    connect_node(release, env)?.evaluate(PRINT_PROCESSES.as_bytes(), vec![]).map(|_| 0)
}

/// The command `reload_config`.
pub(crate) fn reload_config(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    let Some(config) = crate::prepare::prepare_config(release, env)? else {
        let what = format!("cannot read `{}.config`: it is not there", printable(&release.sys_config));
        return Err(StartError::new(what, "set RELEASE_SYS_CONFIG to the configuration to load"));
    };
    let path = NodeTerm::Binary(config.path());
    let reloaded =
        connect_node(release, env).and_then(|mut node| node.evaluate(RELOAD_CONFIG.as_bytes(), vec![("Path", path)]));
    config.remove_copy();
    reloaded.map(|_| 0)
}

/// The command `describe`.
pub(crate) fn describe(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    let target = node_connection::node_target(release, env)?;
    let state = match state_lock::release_status(release) {
        ReleaseStatus::Running(state) => format!("runs as process {}", state.pid),
        ReleaseStatus::OtherContainer => "runs in another container".into(),
        ReleaseStatus::Unusable(why) => format!("not known: {why}"),
        ReleaseStatus::NotRunning => "not seen running".into(),
    };
    let node = target.node.as_ref().map_or_else(|| "none".into(), |node| printable(node));
    let rows: [(&str, ByteString); 9] = [
        ("release", concat(&[&release.name, b" ", &release.home.vsn])),
        ("root", release.home.root.clone()),
        ("emulator", concat(&[b"erts-", &release.home.erts])),
        ("node", node.into_bytes()),
        ("mode", release.mode.clone()),
        ("configuration", concat(&[&release.sys_config, b".config"])),
        ("arguments", release.vm_args.clone()),
        ("writes to", release.tmp.clone()),
        ("system", state.into_bytes()),
    ];
    for (name, value) in rows {
        print_line(format!("{name:<14} {}", printable(&value)).as_bytes());
    }
    Ok(0)
}
