//! Installs and removes versions of the release, with the `release_handler` of the running node.

use alloc::format;
use alloc::vec;

use dram_start::bytes::join;
use dram_start::conf::{Conf, Moment};
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::release::{Home, Release};
use dram_start::term::Term;

use crate::remote::{self, Missed};
use crate::{files, prepare, shell, sys};

const LIST: &str = "[io:format(\"~ts ~ts ~w~n\", [N, V, S]) || {N, V, _, S} <- release_handler:which_releases()], done";

/// Unpacks a version that is not known yet.
///
/// Without `RELEASES` the handler knows no version that uses the emulator's files, and would remove them with any
/// version.
const UNPACK: &str = "All = release_handler:which_releases(), \
     Unpacked = case {lists:keymember([], 3, All), lists:keymember(Vsn, 2, All)} of \
       {true, _} -> {error, \"releases/RELEASES is missing\"}; {false, true} -> {ok, Vsn}; \
       {false, false} -> release_handler:unpack_release(Archive) end, ";

/// Installs an unpacked version, and makes it permanent if `Lasting` is true.
const INSTALL: &str = "Install = fun() -> \
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
const FRESHEN: &str = "Root = code:root_dir(), Freshen = fun() -> \
     Dir = filename:join([Root, \"releases\", Vsn, \"consolidated\"]), \
     [code:del_path(Old) || Old <- code:get_path(), lists:suffix(\"/consolidated\", Old), lists:prefix(Root, Old)], \
     filelib:is_dir(Dir) andalso code:add_patha(Dir), \
     [case {code:is_loaded(M), beam_lib:md5(filename:join(Dir, File))} of \
        {{file, _}, {ok, {M, Md5}}} -> M:module_info(md5) =:= Md5 orelse begin \
           code:soft_purge(M) orelse code:purge(M), code:load_abs(filename:rootname(filename:join(Dir, File))) end; \
        _ -> ok end || File <- filelib:wildcard(\"*.beam\", Dir), M <- [list_to_atom(filename:rootname(File))]], ok end, ";

/// Puts a resolved `sys.config` in place while the handler reads it: with variables replaced and the configuration of
/// providers, as a start would have it. Otherwise the applications would lose these values.
const SETTLE: &str = "Own = filename:join([Root, \"releases\", Vsn, \"sys.config\"]), Kept = Own ++ \".kept\", \
     filelib:is_regular(Kept) andalso (ok = file:rename(Kept, Own)), \
     case Config of [] -> Install(); _ -> \
       {ok, [Plain]} = file:consult(Config), \
       Elixir = proplists:get_value(elixir, Plain, []), \
       Terms = case proplists:get_value(config_provider_init, Elixir) of \
         #{providers := Providers} -> lists:foldl(fun({Provider, State}, All) -> Provider:load(All, State) end, \
           lists:keystore(elixir, 1, Plain, {elixir, lists:keydelete(config_provider_init, 1, Elixir)}), Providers); \
         _ -> Plain end, \
       case file:consult(Own) of {ok, [Terms]} -> Install(); _ -> \
         Had = filelib:is_regular(Own), Had andalso (ok = file:rename(Own, Kept)), \
         Text = unicode:characters_to_binary(io_lib:format(\"%% coding: utf-8~n~tp.~n\", [Terms])), \
         try ok = file:write_file(Own, []), ok = file:change_mode(Own, 8#600), ok = file:write_file(Own, Text), \
             case file:consult(Own) of {ok, [Terms]} -> Install(); \
               _ -> {refused, \"the configuration holds what cannot be written as text\"} end \
         after case Had of true -> file:rename(Kept, Own); false -> file:delete(Own) end end end end";

const REMOVE: &str = "case lists:keymember([], 3, release_handler:which_releases()) of \
     true -> {refused, \"releases/RELEASES is missing\"}; \
     false -> case release_handler:remove_release(Vsn) of ok -> done; {error, Why} -> {refused, Why} end end";

/// A request to the `release_handler`.
struct Wish<'a> {
    vsn: &'a [u8],
    code: &'a str,
    /// True if the version becomes permanent.
    lasting: bool,
    /// The path of the configuration that a start with it would have; empty for none.
    config: &'a [u8],
}

fn ask(release: &Release, wish: &Wish<'_>, env: &Environment) -> Result<Term, Fault> {
    let Wish { vsn, code, lasting, config } = *wish;
    let target = remote::target(release, env)?;
    let mut node = remote::reach(&target, env).map_err(Missed::into_fault)?;
    let handler = node.call("erlang", "whereis", vec![Term::atom("release_handler")])?;
    if handler.is_atom("undefined") {
        let what = "cannot change versions: the running system has no `release_handler`";
        return Err(Fault::new(what, "add `sasl` to the release's applications"));
    }
    let text = |bytes: &[u8]| Term::Text(bytes.to_vec());
    let archive = join(&[vsn, b"/", &release.name]);
    let variables = vec![
        ("Vsn", text(vsn)),
        ("Archive", text(&archive)),
        ("Lasting", Term::atom(word(lasting))),
        ("Config", text(config)),
    ];
    let result = node.evaluate(code.as_bytes(), variables)?;
    if let Some([refused, why]) = result.tuple()
        && refused.is_atom("refused")
    {
        let why = node.pretty(why)?;
        let what = format!("the running system refuses version `{}`: {}", shown(vsn), shown(&why));
        return Err(Fault::new(what, "see `versions`, and whether the archive holds a `relup` for this change"));
    }
    Ok(result)
}

fn word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn tell(result: &Term, vsn: &[u8]) {
    let text = match result {
        Term::Tuple(_) => format!("version {} is already in use\n", shown(vsn)),
        Term::Atom(word) if word == "restarts" => format!("the system restarts with version {}\n", shown(vsn)),
        _ => return,
    };
    let _ = sys::write_all(1, text.as_bytes());
}

fn simply(release: &Release, vsn: &[u8], code: &str, env: &Environment) -> Result<Term, Fault> {
    ask(release, &Wish { vsn, code, lasting: false, config: b"" }, env)
}

/// The command `versions`.
pub(crate) fn list(release: &Release, env: &Environment) -> Result<u8, Fault> {
    simply(release, b"", LIST, env).map(|_| 0)
}

/// The command `unpack`.
pub(crate) fn unpack(release: &Release, vsn: &[u8], env: &Environment) -> Result<u8, Fault> {
    let code = format!("{UNPACK} case Unpacked of {{ok, _}} -> done; {{error, Why}} -> {{refused, Why}} end");
    simply(release, vsn, &code, env).map(|_| 0)
}

/// The command `install`, and `upgrade` if `lasting`.
pub(crate) fn install(release: &Release, vsn: &[u8], lasting: bool, env: &Environment) -> Result<u8, Fault> {
    shell::run_hooks(&release.home, &release.conf, Moment::PreUpgrade, env)?;
    unpack(release, vsn, env)?;
    let other = other(release, vsn)?;
    let config = prepare::config(&other, env)?;
    let path = config.as_ref().map(|stem| join(&[stem, b".config"])).unwrap_or_default();
    let code = format!("{FRESHEN} {INSTALL} {SETTLE}");
    let result = ask(release, &Wish { vsn, code: &code, lasting, config: &path }, env);
    if config.is_some_and(|stem| stem != other.sys_config) {
        let _ = sys::unlink(&path);
    }
    tell(&result?, vsn);
    shell::run_hooks(&release.home, &release.conf, Moment::PostUpgrade, env)?;
    Ok(0)
}

/// The settings of the release in another version.
fn other(release: &Release, vsn: &[u8]) -> Result<Release, Fault> {
    let home = Home { vsn: vsn.to_vec(), ..release.home.clone() };
    let (old, new) = (release.home.version_dir(), home.version_dir());
    let path = join(&[&new, b"/start.conf"]);
    let conf = Conf::parse(&path, &files::read_optional(&path)?.unwrap_or_default())?;
    let sys_config = match release.sys_config == join(&[&old, b"/sys"]) {
        true => join(&[&new, b"/sys"]),
        // The user has chosen a file.
        false => release.sys_config.clone(),
    };
    Ok(Release { home, conf, sys_config, ..release.clone() })
}

/// The command `uninstall`.
pub(crate) fn remove(release: &Release, vsn: &[u8], env: &Environment) -> Result<u8, Fault> {
    simply(release, vsn, REMOVE, env).map(|_| 0)
}
