//! Installs and removes versions of the release, with the `release_handler` of the running node.

use alloc::format;
use alloc::vec;

use dram_start::byte_string::concat;
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::release::{ReleaseHome, StartSettings};
use dram_start::start_conf::{StartConf, StartHookPoint};
use dram_start::term::NodeTerm;

use crate::node_connection::{self, NodeConnectError};
use crate::prepare::PreparedConfig;
use crate::{files, prepare, shell, sys};

const LIST_VERSIONS: &str =
    "[io:format(\"~ts ~ts ~w~n\", [N, V, S]) || {N, V, _, S} <- release_handler:which_releases()], done";

/// Unpacks a version that is not known yet.
///
/// Without `RELEASES` the handler knows no version that uses the emulator's files, and would remove them with any
/// version.
const UNPACK_VERSION: &str = "All = release_handler:which_releases(), \
     Unpacked = case {lists:keymember([], 3, All), lists:keymember(Vsn, 2, All)} of \
       {true, _} -> {error, \"releases/RELEASES is missing\"}; {false, true} -> {ok, Vsn}; \
       {false, false} -> release_handler:unpack_release(Archive) end, ";

/// Installs an unpacked version, and makes it permanent if `Lasting` is true.
const INSTALL_VERSION: &str = "Install = fun() -> \
     case [S || {_, V, _, S} <- release_handler:which_releases(), V =:= Vsn] of \
       [permanent] -> {already, Vsn}; \
       [current] -> case Lasting of true -> case release_handler:make_permanent(Vsn) of ok -> done; \
                    {error, Why} -> {refused, Why} end; false -> {already, Vsn} end; \
       _ -> case release_handler:check_install_release(Vsn) of {error, Why} -> {refused, Why}; _ -> \
            case release_handler:install_release(Vsn, [{update_paths, true}]) of \
              {ok, _, _} -> Freshen(), case Lasting of false -> done; true -> \
                 case release_handler:make_permanent(Vsn) of ok -> done; {error, Why} -> {refused, Why} end end; \
              {continue_after_restart, _, _} -> restarts; \
              {error, Why} -> {refused, Why} end end end end, ";

/// Loads the consolidated protocols of the version: they belong to no application, and no `relup` names them.
const RELOAD_PROTOCOLS: &str = "Root = code:root_dir(), Freshen = fun() -> \
     Dir = filename:join([Root, \"releases\", Vsn, \"consolidated\"]), \
     [code:del_path(Old) || Old <- code:get_path(), lists:suffix(\"/consolidated\", Old), lists:prefix(Root, Old)], \
     filelib:is_dir(Dir) andalso code:add_patha(Dir), \
     [case {code:is_loaded(M), beam_lib:md5(filename:join(Dir, File))} of \
        {{file, _}, {ok, {M, Md5}}} -> M:module_info(md5) =:= Md5 orelse begin \
           code:soft_purge(M) orelse code:purge(M), code:load_abs(filename:rootname(filename:join(Dir, File))) end; \
        _ -> ok end || File <- filelib:wildcard(\"*.beam\", Dir), M <- [list_to_atom(filename:rootname(File))]], ok end, ";

/// Puts a resolved `sys.config` in place while the handler reads it: with variables replaced and the configuration of
/// providers, as a start would have it. Otherwise the applications would lose these values.
const INSTALL_WITH_CONFIG: &str = "Own = filename:join([Root, \"releases\", Vsn, \"sys.config\"]), Kept = Own ++ \".kept\", \
     filelib:is_regular(Kept) andalso (ok = file:rename(Kept, Own)), \
     case Config of [] -> Install(); _ -> \
       {ok, [Plain]} = file:consult(Config), \
       Elixir = proplists:get_value(elixir, Plain, []), \
       Terms = case proplists:get_value(config_provider_init, Elixir) of \
         #{providers := Providers} -> lists:foldl(fun({Provider, State}, All) -> Provider:load(All, State) end, \
           lists:keystore(elixir, 1, Plain, {elixir, lists:keydelete(config_provider_init, 1, Elixir)}), Providers); \
         _ -> Plain end, \
       Parses = fun(Value) -> \
         case erl_scan:string(lists:flatten(io_lib:format(\"~tp.\", [Value]))) of \
           {ok, Tokens, _} -> case erl_parse:parse_term(Tokens) of {ok, Same} -> Same =:= Value; _ -> false end; \
           _ -> false end end, \
       Unwritable = fun(All) -> \
         Keys = [io_lib:format(\"~tp of ~tp\", [Key, App]) || {App, Pairs} <- All, {Key, Value} <- Pairs, not Parses(Value)], \
         unicode:characters_to_binary([\"the configuration holds what cannot be written as text, such as a function: \", \
           lists:join(\", \", Keys), \"; start the version, or set these values where the application starts\"]) end, \
       case file:consult(Own) of {ok, [Terms]} -> Install(); _ -> \
         Had = filelib:is_regular(Own), Had andalso (ok = file:rename(Own, Kept)), \
         Text = unicode:characters_to_binary(io_lib:format(\"%% coding: utf-8~n~tp.~n\", [Terms])), \
         try ok = file:write_file(Own, []), ok = file:change_mode(Own, 8#600), ok = file:write_file(Own, Text), \
             case file:consult(Own) of {ok, [Terms]} -> Install(); \
               _ -> {refused, Unwritable(Terms)} end \
         after case Had of true -> file:rename(Kept, Own); false -> file:delete(Own) end end end end";

const REMOVE_VERSION: &str = "case lists:keymember([], 3, release_handler:which_releases()) of \
     true -> {refused, \"releases/RELEASES is missing\"}; \
     false -> case release_handler:remove_release(Vsn) of ok -> done; {error, Why} -> {refused, Why} end end";

/// A request to the `release_handler`.
struct VersionRequest<'a> {
    vsn: &'a [u8],
    code: &'a str,
    /// True if the version becomes permanent.
    permanent: bool,
    /// The path of the configuration that a start with it would have; empty for none.
    config: &'a [u8],
}

fn send_request(
    release: &StartSettings,
    wish: &VersionRequest<'_>,
    env: &EnvironmentVariables,
) -> Result<NodeTerm, StartError> {
    let VersionRequest { vsn, code, permanent: lasting, config } = *wish;
    let target = node_connection::node_target(release, env)?;
    let mut node = node_connection::connect_to_node(release, &target, env).map_err(NodeConnectError::into_error)?;
    let handler = node.call("erlang", "whereis", vec![NodeTerm::atom("release_handler")])?;
    if handler.is_atom("undefined") {
        let what = "cannot change versions: the running system has no `release_handler`";
        return Err(StartError::new(what, "add `sasl` to the release's applications"));
    }
    let text = |bytes: &[u8]| NodeTerm::ByteList(bytes.to_vec());
    let archive = concat(&[vsn, b"/", &release.name]);
    let variables = vec![
        ("Vsn", text(vsn)),
        ("Archive", text(&archive)),
        ("Lasting", NodeTerm::atom(bool_word(lasting))),
        ("Config", text(config)),
    ];
    let result = node.evaluate(code.as_bytes(), variables)?;
    if let Some([refused, why]) = result.tuple()
        && refused.is_atom("refused")
    {
        let why = match why {
            NodeTerm::Binary(text) => text.clone(),
            NodeTerm::Integer(_)
            | NodeTerm::Atom(_)
            | NodeTerm::Tuple(_)
            | NodeTerm::List(_)
            | NodeTerm::Improper(..)
            | NodeTerm::ByteList(_)
            | NodeTerm::Map(_)
            | NodeTerm::Opaque(_) => node.format_term(why)?,
        };
        let what = format!("the running system refuses version `{}`: {}", printable(vsn), printable(&why));
        return Err(StartError::new(what, "see `versions`, and whether the archive holds a `relup` for this change"));
    }
    Ok(result)
}

fn bool_word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn print_outcome(result: &NodeTerm, vsn: &[u8]) {
    let text = match result {
        NodeTerm::Tuple(_) => format!("version {} is already in use\n", printable(vsn)),
        NodeTerm::Atom(word) if word == "restarts" => format!("the system restarts with version {}\n", printable(vsn)),
        _ => return,
    };
    let _ = sys::write_all(1, text.as_bytes());
}

fn send_simple_request(
    release: &StartSettings,
    vsn: &[u8],
    code: &str,
    env: &EnvironmentVariables,
) -> Result<NodeTerm, StartError> {
    send_request(release, &VersionRequest { vsn, code, permanent: false, config: b"" }, env)
}

/// The command `versions`.
pub(crate) fn list_versions(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    send_simple_request(release, b"", LIST_VERSIONS, env).map(|_| 0)
}

/// The command `unpack`.
pub(crate) fn unpack_version(
    release: &StartSettings,
    vsn: &[u8],
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    let code = format!("{UNPACK_VERSION} case Unpacked of {{ok, _}} -> done; {{error, Why}} -> {{refused, Why}} end");
    send_simple_request(release, vsn, &code, env).map(|_| 0)
}

/// The command `install`, and `upgrade` if `lasting`.
pub(crate) fn install_version(
    release: &StartSettings,
    vsn: &[u8],
    lasting: bool,
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    shell::run_hooks(&release.home, &release.conf, StartHookPoint::PreUpgrade, env)?;
    unpack_version(release, vsn, env)?;
    let other = settings_of_version(release, vsn)?;
    let config = prepare::prepare_config(&other, env)?;
    let path = config.as_ref().map(PreparedConfig::path).unwrap_or_default();
    let code = format!("{RELOAD_PROTOCOLS} {INSTALL_VERSION} {INSTALL_WITH_CONFIG}");
    let result = send_request(release, &VersionRequest { vsn, code: &code, permanent: lasting, config: &path }, env);
    config.iter().for_each(PreparedConfig::remove_copy);
    print_outcome(&result?, vsn);
    shell::run_hooks(&release.home, &release.conf, StartHookPoint::PostUpgrade, env)?;
    Ok(0)
}

/// The settings of the release in another version.
fn settings_of_version(release: &StartSettings, vsn: &[u8]) -> Result<StartSettings, StartError> {
    let home = ReleaseHome { vsn: vsn.to_vec(), ..release.home.clone() };
    let (old, new) = (release.home.version_dir(), home.version_dir());
    let path = concat(&[&new, b"/start.conf"]);
    let conf = StartConf::parse(&path, &files::read_optional(&path)?.unwrap_or_default())?;
    let sys_config = match release.sys_config == concat(&[&old, b"/sys"]) {
        true => concat(&[&new, b"/sys"]),
        // The user has chosen a file.
        false => release.sys_config.clone(),
    };
    Ok(StartSettings { home, conf, sys_config, ..release.clone() })
}

/// The command `uninstall`.
pub(crate) fn remove_version(
    release: &StartSettings,
    vsn: &[u8],
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    send_simple_request(release, vsn, REMOVE_VERSION, env).map(|_| 0)
}
