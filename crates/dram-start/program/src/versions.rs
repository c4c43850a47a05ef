//! Several versions of a release: the running system's own `release_handler` does the work.

use alloc::format;
use alloc::vec;

use dram_start::bytes::join;
use dram_start::conf::Moment;
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::release::Release;
use dram_start::term::Term;

use crate::remote::{self, Missed};
use crate::{shell, sys};

const LIST: &str = "[io:format(\"~ts ~ts ~w~n\", [N, V, S]) || {N, V, _, S} <- release_handler:which_releases()], done";

/// Unpacks a version that is not known yet.
///
/// Without `RELEASES` the handler takes the emulator's own files for nobody's, and would remove them with any version.
const UNPACK: &str = "All = release_handler:which_releases(), \
     Unpacked = case {lists:keymember([], 3, All), lists:keymember(Vsn, 2, All)} of \
       {true, _} -> {error, \"releases/RELEASES is missing\"}; {false, true} -> {ok, Vsn}; \
       {false, false} -> release_handler:unpack_release(Archive) end, ";

const INSTALL: &str = "case Unpacked of {error, Why} -> {refused, Why}; {ok, _} -> \
     case [S || {_, V, _, S} <- release_handler:which_releases(), V =:= Vsn] of \
       [permanent] -> {already, Vsn}; \
       [current] -> case Lasting of true -> case release_handler:make_permanent(Vsn) of ok -> done; \
                    {error, Why} -> {refused, Why} end; false -> {already, Vsn} end; \
       _ -> case release_handler:check_install_release(Vsn) of {error, Why} -> {refused, Why}; _ -> \
            case release_handler:install_release(Vsn, [{update_paths, true}]) of \
              {ok, _, _} when Lasting -> case release_handler:make_permanent(Vsn) of ok -> done; \
                                         {error, Why} -> {refused, Why} end; \
              {ok, _, _} -> done; \
              {continue_after_restart, _, _} -> restarts; \
              {error, Why} -> {refused, Why} end end end end";

const REMOVE: &str = "case lists:keymember([], 3, release_handler:which_releases()) of \
     true -> {refused, \"releases/RELEASES is missing\"}; \
     false -> case release_handler:remove_release(Vsn) of ok -> done; {error, Why} -> {refused, Why} end end";

fn ask(release: &Release, vsn: &[u8], code: &str, lasting: bool, env: &Environment) -> Result<Term, Fault> {
    let target = remote::target(release, env)?;
    let mut node = remote::reach(&target, env).map_err(Missed::into_fault)?;
    let handler = node.call("erlang", "whereis", vec![Term::atom("release_handler")])?;
    if handler.is_atom("undefined") {
        let what = "cannot change versions: the running system has no `release_handler`";
        return Err(Fault::new(what, "add `sasl` to the release's applications"));
    }
    let text = |bytes: &[u8]| Term::Text(bytes.to_vec());
    let archive = join(&[vsn, b"/", &release.name]);
    let variables = vec![("Vsn", text(vsn)), ("Archive", text(&archive)), ("Lasting", Term::atom(word(lasting)))];
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

/// `versions`.
pub(crate) fn list(release: &Release, env: &Environment) -> Result<u8, Fault> {
    ask(release, b"", LIST, false, env).map(|_| 0)
}

/// `unpack`.
pub(crate) fn unpack(release: &Release, vsn: &[u8], env: &Environment) -> Result<u8, Fault> {
    let code = format!("{UNPACK} case Unpacked of {{ok, _}} -> done; {{error, Why}} -> {{refused, Why}} end");
    ask(release, vsn, &code, false, env).map(|_| 0)
}

/// `install`, and `upgrade` when `lasting`.
pub(crate) fn install(release: &Release, vsn: &[u8], lasting: bool, env: &Environment) -> Result<u8, Fault> {
    shell::run_hooks(&release.home, &release.conf, Moment::PreUpgrade, env)?;
    let result = ask(release, vsn, &format!("{UNPACK} {INSTALL}"), lasting, env)?;
    tell(&result, vsn);
    shell::run_hooks(&release.home, &release.conf, Moment::PostUpgrade, env)?;
    Ok(0)
}

/// `uninstall`.
pub(crate) fn remove(release: &Release, vsn: &[u8], env: &Environment) -> Result<u8, Fault> {
    ask(release, vsn, REMOVE, false, env).map(|_| 0)
}
