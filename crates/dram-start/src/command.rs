//! The commands of a release, under the names that they have in Mix, Distillery and relx.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bytes::Bytes;
use crate::conf::Custom;
use crate::fault::{Fault, shown};

/// A command of the start program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Starts the release in the foreground.
    Foreground,
    /// Starts it in the foreground with another boot script.
    ForegroundBoot,
    /// Starts it in the foreground with a shell.
    Console,
    /// Opens a shell without starting the release.
    ConsoleClean,
    /// Opens a shell with another boot script.
    ConsoleBoot,
    /// Starts the release in the background.
    Daemon,
    /// Starts it in the background with a shell.
    DaemonIex,
    /// Attaches the terminal to the shell of a daemon.
    Attach,
    /// Stops the release.
    Stop,
    /// Restarts the release in the same process.
    Restart,
    /// Stops the release, for `heart` to start it again.
    Reboot,
    /// Opens a shell in the running node.
    RemoteConsole,
    /// Evaluates code in the running node.
    Rpc,
    /// Evaluates code in a new emulator.
    Eval,
    /// Checks that the release runs.
    Ping,
    /// Prints the process id of the release.
    Pid,
    /// Prints the version of the release.
    Version,
    /// Prints the settings and the state of the release.
    Describe,
    /// Prints the processes of the running node.
    Info,
    /// Makes the running node read its configuration again.
    ReloadConfig,
    /// Runs an escript.
    Escript,
    /// Unpacks the archive of a version.
    Unpack,
    /// Upgrades to another version permanently.
    Upgrade,
    /// Installs a version until the next start.
    Install,
    /// Removes a version.
    Uninstall,
    /// Prints the installed versions.
    Versions,
    /// Prints the commands.
    Help,
}

/// A command, its names, its argument, and its description.
struct Row(Command, &'static [&'static str], &'static str, &'static str);

const ROWS: &[Row] = &[
    Row(Command::Foreground, &["foreground", "start"], "", "starts the system here, without a shell"),
    Row(Command::ForegroundBoot, &["foreground_boot", "start_boot"], "FILE", "the same, from another boot script"),
    Row(Command::Console, &["console", "start_iex"], "", "starts the system here, with a shell"),
    Row(Command::ConsoleClean, &["console_clean"], "", "a shell without the system"),
    Row(Command::ConsoleBoot, &["console_boot"], "FILE", "a shell, from another boot script"),
    Row(Command::Daemon, &["daemon"], "", "starts the system in the background"),
    Row(Command::DaemonIex, &["daemon_iex"], "", "the same, with a shell to attach to"),
    Row(Command::Attach, &["attach", "daemon_attach"], "", "takes the shell of a daemon"),
    Row(Command::Stop, &["stop"], "", "stops the running system and waits for its end"),
    Row(Command::Restart, &["restart"], "", "restarts the running system in its process"),
    Row(Command::Reboot, &["reboot"], "", "stops the running system for `heart` to start it again"),
    Row(Command::RemoteConsole, &["remote_console", "remote", "remsh"], "", "a shell in the running system"),
    Row(Command::Rpc, &["rpc"], "EXPR", "runs an expression in the running system; also --file, --mfa"),
    Row(Command::Eval, &["eval"], "EXPR", "runs an expression in a new system; also --file, --mfa"),
    Row(Command::Ping, &["ping"], "", "says pong if the system runs"),
    Row(Command::Pid, &["pid"], "", "prints the running system's process"),
    Row(Command::Version, &["version"], "", "prints the release's name and version"),
    Row(Command::Describe, &["describe", "status"], "", "prints what the release is"),
    Row(Command::Info, &["info"], "", "prints the processes of the running system"),
    Row(Command::ReloadConfig, &["reload_config"], "", "makes the running system read its configuration again"),
    Row(Command::Escript, &["escript"], "FILE", "runs a script of Erlang"),
    Row(Command::Versions, &["versions", "which_releases"], "", "prints the versions that are installed"),
    Row(Command::Unpack, &["unpack"], "VERSION", "unpacks releases/VERSION/NAME.tar.gz"),
    Row(Command::Install, &["install"], "VERSION", "changes to a version, until the next start"),
    Row(Command::Upgrade, &["upgrade", "downgrade"], "VERSION", "changes to a version, for good"),
    Row(Command::Uninstall, &["uninstall"], "VERSION", "removes a version"),
    Row(Command::Help, &["help", "usage", "--help", "-h"], "", "prints this"),
];

/// The command that a word of the command line stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A command of every release.
    Command(Command),
    /// A custom command of this release.
    Custom(&'a Custom),
}

/// Looks up the command `word`. Custom commands take precedence.
///
/// # Errors
/// Fails for an unknown command; the error suggests a similar name.
pub fn find<'a>(word: &[u8], customs: &'a [Custom]) -> Result<Meaning<'a>, Fault> {
    if let Some(custom) = customs.iter().find(|custom| custom.name == word) {
        return Ok(Meaning::Custom(custom));
    }
    if let Some(row) = ROWS.iter().find(|row| row.1.iter().any(|name| name.as_bytes() == word)) {
        return Ok(Meaning::Command(row.0));
    }
    let names = ROWS.iter().flat_map(|row| row.1.iter().map(|name| name.as_bytes()));
    let all = names.chain(customs.iter().map(|custom| custom.name.as_slice()));
    let near = all.map(|name| (distance(word, name), name)).min().filter(|(far, name)| *far <= name.len() / 3 + 1);
    let help = match near {
        Some((_, name)) => format!("did you mean `{}`?", shown(name)),
        None => String::from("call the program without arguments to see its commands"),
    };
    Err(Fault::usage(format!("unknown command `{}`", shown(word)), help))
}

/// The help text with all commands. `prog` is the name by which the program was called.
#[must_use]
pub fn usage(prog: &[u8], customs: &[Custom]) -> String {
    let mut text = format!("Usage: {} COMMAND [ARGS]\n\nCommands:\n\n", shown(prog));
    for Row(_, names, after, about) in ROWS {
        let call = if after.is_empty() { String::from(names[0]) } else { format!("{} {after}", names[0]) };
        let others = match names[1..].iter().copied().filter(|name| !name.starts_with('-')).collect::<Vec<_>>() {
            others if others.is_empty() => String::new(),
            others => format!(" [{}]", others.join(", ")),
        };
        text.push_str(&format!("    {call:<22} {about}{others}\n"));
    }
    for custom in customs {
        text.push_str(&format!("    {:<22} {}\n", shown(&custom.name), shown(&custom.about)));
    }
    text.push_str("\nOptions of foreground, console and daemon: --name NAME, --sname NAME\n");
    text
}

/// The Levenshtein distance of two words.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, left) in one.iter().enumerate() {
        let mut corner = row[0];
        row[0] = index + 1;
        for (at, right) in other.iter().enumerate() {
            let changed = corner + usize::from(left != right);
            corner = row[at + 1];
            row[at + 1] = changed.min(corner + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

/// The code that `rpc` and `eval` run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// An expression.
    Text(Bytes),
    /// The expressions in a file.
    File(Bytes),
    /// A call of a function.
    Function {
        /// The module in source notation: `Mod.Sub` in Elixir, `mod` in Erlang.
        module: Bytes,
        /// The name of the function.
        name: Bytes,
        /// If true, the arguments are passed as one list of strings.
        list: bool,
    },
}

/// Parses `EXPR`, `--file FILE` or `--mfa M.f/a [--argv]`. Returns the code and the remaining arguments.
///
/// # Errors
/// Fails if there is no code, or an option has no value.
pub fn code(arguments: &[Bytes]) -> Result<(Code, Vec<Bytes>), Fault> {
    let nothing = || Fault::usage("nothing to run", "give an expression, `--file FILE`, or `--mfa Mod.fun/ARITY`");
    let mut rest: Vec<Bytes> = Vec::new();
    let (mut file, mut mfa, mut list) = (None, None, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (option, given) = match crate::bytes::split_once(word, b'=') {
            Some((option, given)) if option.starts_with(b"--") => (option, Some(given.to_vec())),
            _ => (word.as_slice(), None),
        };
        match option {
            b"--file" => file = Some(given.or_else(|| words.next().cloned()).ok_or_else(nothing)?),
            b"--mfa" => mfa = Some(given.or_else(|| words.next().cloned()).ok_or_else(nothing)?),
            b"--argv" => list = true,
            b"--" => {
                rest.extend(words.by_ref().cloned());
            }
            _ => rest.push(word.clone()),
        }
    }
    if let Some(file) = file {
        return Ok((Code::File(file), rest));
    }
    if let Some(mfa) = mfa {
        return function(&mfa, list, &rest).map(|code| (code, rest));
    }
    if rest.is_empty() || rest[0].is_empty() {
        return Err(nothing());
    }
    Ok((Code::Text(rest.remove(0)), rest))
}

fn function(mfa: &[u8], list: bool, arguments: &[Bytes]) -> Result<Code, Fault> {
    let wrong = || {
        let what = format!("cannot read the function `{}`", shown(mfa));
        Fault::usage(what, "write it as `Mod.fun/ARITY`")
    };
    let slash = mfa.iter().rposition(|b| *b == b'/').ok_or_else(wrong)?;
    let arity = crate::bytes::number(&mfa[slash + 1..]).ok_or_else(wrong)?;
    let path = &mfa[..slash];
    let dot = path.iter().rposition(|b| *b == b'.' || *b == b':').filter(|dot| *dot > 0).ok_or_else(wrong)?;
    let (module, name) = (path[..dot].to_vec(), path[dot + 1..].to_vec());
    let given = if list { 1 } else { arguments.len() as u64 };
    if name.is_empty() || arity != given {
        let what = format!("cannot call `{}` with {given} argument(s)", shown(mfa));
        return Err(Fault::usage(what, "give as many arguments as the function has, or `--argv` for one list of all"));
    }
    Ok(Code::Function { module, name, list })
}

/// A call of a function as an expression of Elixir or Erlang.
#[must_use]
pub fn call_text(module: &[u8], name: &[u8], list: bool, arguments: &[Bytes], elixir: bool) -> Bytes {
    let quoted: Vec<Bytes> = arguments.iter().map(|argument| quote(argument, elixir)).collect();
    let inside = quoted.join(b", ".as_slice());
    let inside = if list { crate::bytes::join(&[b"[", &inside, b"]"]) } else { inside };
    let own = if elixir && module.first().is_some_and(u8::is_ascii_lowercase) { b":".as_slice() } else { b"" };
    let dot: &[u8] = if elixir { b"." } else { b":" };
    crate::bytes::join(&[own, module, dot, name, b"(", &inside, b")"])
}

fn quote(text: &[u8], elixir: bool) -> Bytes {
    let mut found = alloc::vec![b'"'];
    for byte in text {
        match byte {
            b'"' | b'\\' => found.extend([b'\\', *byte]),
            // Elixir would interpolate `#{…}`.
            b'#' if elixir => found.extend([b'\\', *byte]),
            _ => found.push(*byte),
        }
    }
    found.push(b'"');
    found
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn commands_of_mix_distillery_and_relx_are_found() {
        for (word, command) in [("start", Command::Foreground), ("remsh", Command::RemoteConsole)] {
            assert_eq!(find(word.as_bytes(), &[]), Ok(Meaning::Command(command)));
        }
        let custom = Custom { name: b"stop".to_vec(), path: b"x".to_vec(), about: vec![] };
        assert!(matches!(find(b"stop", core::slice::from_ref(&custom)), Ok(Meaning::Custom(_))));
    }

    #[test]
    fn a_misspelled_command_gets_a_suggestion() {
        let fault = find(b"strat", &[]).unwrap_err();
        assert_eq!((fault.help.as_str(), fault.code), ("did you mean `start`?", 2));
        assert!(find(b"xyzzyxyzzy", &[]).unwrap_err().help.contains("without arguments"));
    }

    #[test]
    fn code_is_an_expression_a_file_or_a_function() {
        let list = |text: &str| crate::bytes::words(text.as_bytes());
        assert_eq!(code(&list("1+1 a")).unwrap(), (Code::Text(b"1+1".to_vec()), list("a")));
        assert_eq!(code(&list("--file=x")).unwrap().0, Code::File(b"x".to_vec()));
        let (found, rest) = code(&list("--mfa My.Mod.run/2 a b")).unwrap();
        assert_eq!(found, Code::Function { module: b"My.Mod".to_vec(), name: b"run".to_vec(), list: false });
        assert_eq!(call_text(b"My.Mod", b"run", false, &rest, true), b"My.Mod.run(\"a\", \"b\")");
        assert!(code(&list("--mfa M.f/1 a b")).is_err());
        assert!(code(&list("--mfa M.f/1 --argv a b")).is_ok());
        assert!(code(&[]).is_err());
    }

    #[test]
    fn arguments_of_a_call_are_escaped() {
        let text = call_text(b"m", b"f", true, &[b"\"#{x}\\".to_vec()], true);
        assert_eq!(text, b":m.f([\"\\\"\\#{x}\\\\\"])");
    }
}
