//! The commands of a release, under the names that they have in Mix, Distillery and relx.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat};
use crate::error::{StartError, printable};
use crate::start_conf::StartCustomCommand;

/// A command of the start program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartCommand {
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

impl StartCommand {
    /// Returns true if the command starts the system of the release, so that the hooks of a start run.
    #[must_use]
    pub fn starts_release(self) -> bool {
        matches!(
            self,
            Self::Foreground
                | Self::ForegroundBoot
                | Self::Console
                | Self::ConsoleBoot
                | Self::Daemon
                | Self::DaemonIex
        )
    }
}

/// A command, its names, its argument, and its description.
struct StartCommandRow(StartCommand, &'static [&'static str], &'static str, &'static str);

const COMMANDS: &[StartCommandRow] = &[
    StartCommandRow(StartCommand::Foreground, &["foreground", "start"], "", "starts the system here, without a shell"),
    StartCommandRow(
        StartCommand::ForegroundBoot,
        &["foreground_boot", "start_boot"],
        "FILE",
        "the same, from another boot script",
    ),
    StartCommandRow(StartCommand::Console, &["console", "start_iex"], "", "starts the system here, with a shell"),
    StartCommandRow(StartCommand::ConsoleClean, &["console_clean"], "", "a shell without the system"),
    StartCommandRow(StartCommand::ConsoleBoot, &["console_boot"], "FILE", "a shell, from another boot script"),
    StartCommandRow(StartCommand::Daemon, &["daemon"], "", "starts the system in the background"),
    StartCommandRow(StartCommand::DaemonIex, &["daemon_iex"], "", "the same, with a shell to attach to"),
    StartCommandRow(StartCommand::Attach, &["attach", "daemon_attach"], "", "takes the shell of a daemon"),
    StartCommandRow(StartCommand::Stop, &["stop"], "", "stops the running system and waits for its end"),
    StartCommandRow(StartCommand::Restart, &["restart"], "", "restarts the running system in its process"),
    StartCommandRow(StartCommand::Reboot, &["reboot"], "", "stops the running system for `heart` to start it again"),
    StartCommandRow(
        StartCommand::RemoteConsole,
        &["remote_console", "remote", "remsh"],
        "",
        "a shell in the running system",
    ),
    StartCommandRow(
        StartCommand::Rpc,
        &["rpc"],
        "EXPR",
        "runs an expression in the running system; also --file, --mfa",
    ),
    StartCommandRow(StartCommand::Eval, &["eval"], "EXPR", "runs an expression in a new system; also --file, --mfa"),
    StartCommandRow(StartCommand::Ping, &["ping"], "", "says pong if the system runs"),
    StartCommandRow(StartCommand::Pid, &["pid"], "", "prints the running system's process"),
    StartCommandRow(StartCommand::Version, &["version"], "", "prints the release's name and version"),
    StartCommandRow(StartCommand::Describe, &["describe", "status"], "", "prints what the release is"),
    StartCommandRow(StartCommand::Info, &["info"], "", "prints the processes of the running system"),
    StartCommandRow(
        StartCommand::ReloadConfig,
        &["reload_config"],
        "",
        "makes the running system read its configuration again",
    ),
    StartCommandRow(StartCommand::Escript, &["escript"], "FILE", "runs a script of Erlang"),
    StartCommandRow(
        StartCommand::Versions,
        &["versions", "which_releases"],
        "",
        "prints the versions that are installed",
    ),
    StartCommandRow(StartCommand::Unpack, &["unpack"], "VERSION", "unpacks releases/VERSION/NAME.tar.gz"),
    StartCommandRow(StartCommand::Install, &["install"], "VERSION", "changes to a version, until the next start"),
    StartCommandRow(StartCommand::Upgrade, &["upgrade", "downgrade"], "VERSION", "changes to a version, for good"),
    StartCommandRow(StartCommand::Uninstall, &["uninstall"], "VERSION", "removes a version"),
    StartCommandRow(StartCommand::Help, &["help", "usage", "--help", "-h"], "", "prints this"),
];

/// The command that a word of the command line stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartCommandMatch<'a> {
    /// A command of every release.
    Builtin(StartCommand),
    /// A custom command of this release.
    Custom(&'a StartCustomCommand),
}

/// Looks up the command `word`. Custom commands take precedence.
///
/// # Errors
/// Fails for an unknown command; the error suggests a similar name.
pub fn find_command<'a>(word: &[u8], customs: &'a [StartCustomCommand]) -> Result<StartCommandMatch<'a>, StartError> {
    if let Some(custom) = customs.iter().find(|custom| custom.name == word) {
        return Ok(StartCommandMatch::Custom(custom));
    }
    if let Some(row) = COMMANDS.iter().find(|row| row.1.iter().any(|name| name.as_bytes() == word)) {
        return Ok(StartCommandMatch::Builtin(row.0));
    }
    let names = COMMANDS.iter().flat_map(|row| row.1.iter().map(|name| name.as_bytes()));
    let all = names.chain(customs.iter().map(|custom| custom.name.as_slice()));
    let near = all.map(|name| (edit_distance(word, name), name)).min().filter(|(far, name)| *far <= name.len() / 3 + 1);
    let help = match near {
        Some((_, name)) => format!("did you mean `{}`?", printable(name)),
        None => String::from("call the program without arguments to see its commands"),
    };
    Err(StartError::invalid_usage(format!("unknown command `{}`", printable(word)), help))
}

/// The value of `RELEASE_COMMAND` for a command. An Elixir release reads the words of `bin/NAME` of Mix, which an
/// `env.sh` compares with.
#[must_use]
pub fn exported_command<'a>(command: &StartCommandMatch<'_>, word: &'a [u8], elixir: bool) -> &'a [u8] {
    match command {
        StartCommandMatch::Builtin(StartCommand::Foreground) if elixir => b"start",
        StartCommandMatch::Builtin(StartCommand::Console) if elixir => b"start_iex",
        StartCommandMatch::Builtin(StartCommand::RemoteConsole) if elixir => b"remote",
        StartCommandMatch::Builtin(_) | StartCommandMatch::Custom(_) => word,
    }
}

/// Checks that a command can use all its arguments.
///
/// # Errors
/// Fails for the first argument that would have no effect.
pub fn check_word_count(command: StartCommand, word: &[u8], arguments: &[ByteString]) -> Result<(), StartError> {
    let most = match command {
        StartCommand::Foreground
        | StartCommand::ForegroundBoot
        | StartCommand::Console
        | StartCommand::ConsoleClean
        | StartCommand::ConsoleBoot
        | StartCommand::Daemon
        | StartCommand::DaemonIex
        | StartCommand::Rpc
        | StartCommand::Eval
        | StartCommand::Escript
        | StartCommand::Help => return Ok(()),
        StartCommand::Unpack | StartCommand::Upgrade | StartCommand::Install | StartCommand::Uninstall => 1,
        StartCommand::Attach
        | StartCommand::Stop
        | StartCommand::Restart
        | StartCommand::Reboot
        | StartCommand::RemoteConsole
        | StartCommand::Ping
        | StartCommand::Pid
        | StartCommand::Version
        | StartCommand::Describe
        | StartCommand::Info
        | StartCommand::ReloadConfig
        | StartCommand::Versions => 0,
    };
    match arguments.get(most) {
        None => Ok(()),
        Some(extra) => {
            let what = format!("`{}` has no use for the argument `{}`", printable(word), printable(extra));
            Err(StartError::invalid_usage(
                what,
                "leave it out; settings are environment variables, such as RELEASE_NODE",
            ))
        }
    }
}

/// The expression of `rpc` for its arguments: an Erlang release takes relx's `MODULE FUNCTION [ARGUMENTS]` too.
///
/// # Errors
/// Fails for an argument that would have no effect.
pub fn rpc_arguments(arguments: &[ByteString], elixir: bool) -> Result<Vec<ByteString>, StartError> {
    let is_option = |word: &ByteString| word.starts_with(b"--");
    match arguments {
        [module, function, rest @ ..] if !elixir && rest.len() < 2 && !arguments.iter().any(is_option) => {
            let list = rest.first().map_or(b"[]".as_slice(), |list| list.as_slice());
            Ok(alloc::vec![concat(&[b"apply(", module, b", ", function, b", ", list, b")"])])
        }
        [_, extra, ..] if !arguments.iter().any(is_option) => {
            let what = format!("`rpc` has no use for the argument `{}`", printable(extra));
            Err(StartError::invalid_usage(what, "quote the expression as one word, or use --mfa Mod.fun/ARITY"))
        }
        _ => Ok(arguments.to_vec()),
    }
}

/// The help text with all commands. `prog` is the name by which the program was called.
#[must_use]
pub fn usage(prog: &[u8], customs: &[StartCustomCommand]) -> String {
    let mut text = format!("Usage: {} COMMAND [ARGS]\n\nCommands:\n\n", printable(prog));
    for StartCommandRow(_, names, after, about) in COMMANDS {
        let call = if after.is_empty() { String::from(names[0]) } else { format!("{} {after}", names[0]) };
        let others = match names[1..].iter().copied().filter(|name| !name.starts_with('-')).collect::<Vec<_>>() {
            others if others.is_empty() => String::new(),
            others => format!(" [{}]", others.join(", ")),
        };
        text.push_str(&format!("    {call:<22} {about}{others}\n"));
    }
    for custom in customs {
        text.push_str(&format!("    {:<22} {}\n", printable(&custom.name), printable(&custom.description)));
    }
    text.push_str("\nOptions of foreground, console and daemon: --name NAME, --sname NAME\n");
    text
}

/// The Levenshtein distance of two words.
fn edit_distance(one: &[u8], other: &[u8]) -> usize {
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
pub enum EvalCode {
    /// An expression.
    Expression(ByteString),
    /// The expressions in a file.
    File(ByteString),
    /// A call of a function.
    Function {
        /// The module in source notation: `Mod.Sub` in Elixir, `mod` in Erlang.
        module: ByteString,
        /// The name of the function.
        name: ByteString,
        /// If true, the arguments are passed as one list of strings.
        as_list: bool,
    },
}

/// Parses `EXPR`, `--file FILE` or `--mfa M.f/a [--argv]`. Returns the code and the remaining arguments.
///
/// # Errors
/// Fails if there is no code, or an option has no value.
pub fn parse_code(arguments: &[ByteString]) -> Result<(EvalCode, Vec<ByteString>), StartError> {
    let nothing =
        || StartError::invalid_usage("nothing to run", "give an expression, `--file FILE`, or `--mfa Mod.fun/ARITY`");
    let mut rest: Vec<ByteString> = Vec::new();
    let (mut file, mut mfa, mut list) = (None, None, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (option, given) = match crate::byte_string::split_once(word, b'=') {
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
        return Ok((EvalCode::File(file), rest));
    }
    if let Some(mfa) = mfa {
        return parse_function(&mfa, list, &rest).map(|code| (code, rest));
    }
    if rest.is_empty() || rest[0].is_empty() {
        return Err(nothing());
    }
    Ok((EvalCode::Expression(rest.remove(0)), rest))
}

fn parse_function(mfa: &[u8], list: bool, arguments: &[ByteString]) -> Result<EvalCode, StartError> {
    let wrong = || {
        let what = format!("cannot read the function `{}`", printable(mfa));
        StartError::invalid_usage(what, "write it as `Mod.fun/ARITY`")
    };
    let slash = mfa.iter().rposition(|b| *b == b'/').ok_or_else(wrong)?;
    let arity = crate::byte_string::parse_number(&mfa[slash + 1..]).ok_or_else(wrong)?;
    let path = &mfa[..slash];
    let dot = path.iter().rposition(|b| *b == b'.' || *b == b':').filter(|dot| *dot > 0).ok_or_else(wrong)?;
    let (module, name) = (path[..dot].to_vec(), path[dot + 1..].to_vec());
    let given = if list { 1 } else { arguments.len() as u64 };
    if name.is_empty() || arity != given {
        let what = format!("cannot call `{}` with {given} argument(s)", printable(mfa));
        return Err(StartError::invalid_usage(
            what,
            "give as many arguments as the function has, or `--argv` for one list of all",
        ));
    }
    Ok(EvalCode::Function { module, name, as_list: list })
}

/// A call of a function as an expression of Elixir or Erlang.
#[must_use]
pub fn call_expression(module: &[u8], name: &[u8], list: bool, arguments: &[ByteString], elixir: bool) -> ByteString {
    let quoted: Vec<ByteString> = arguments.iter().map(|argument| quote_string(argument, elixir)).collect();
    let inside = quoted.join(b", ".as_slice());
    let inside = if list { crate::byte_string::concat(&[b"[", &inside, b"]"]) } else { inside };
    let own = if elixir && module.first().is_some_and(u8::is_ascii_lowercase) { b":".as_slice() } else { b"" };
    let dot: &[u8] = if elixir { b"." } else { b":" };
    crate::byte_string::concat(&[own, module, dot, name, b"(", &inside, b")"])
}

fn quote_string(text: &[u8], elixir: bool) -> ByteString {
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
        for (word, command) in [("start", StartCommand::Foreground), ("remsh", StartCommand::RemoteConsole)] {
            assert_eq!(find_command(word.as_bytes(), &[]), Ok(StartCommandMatch::Builtin(command)));
        }
        let custom = StartCustomCommand { name: b"stop".to_vec(), path: b"x".to_vec(), description: vec![] };
        assert!(matches!(find_command(b"stop", core::slice::from_ref(&custom)), Ok(StartCommandMatch::Custom(_))));
    }

    #[test]
    fn a_misspelled_command_gets_a_suggestion() {
        let fault = find_command(b"strat", &[]).unwrap_err();
        assert_eq!((fault.help.as_str(), fault.exit_code), ("did you mean `start`?", 2));
        assert!(find_command(b"xyzzyxyzzy", &[]).unwrap_err().help.contains("without arguments"));
    }

    #[test]
    fn code_is_an_expression_a_file_or_a_function() {
        let list = |text: &str| crate::byte_string::split_words(text.as_bytes());
        assert_eq!(parse_code(&list("1+1 a")).unwrap(), (EvalCode::Expression(b"1+1".to_vec()), list("a")));
        assert_eq!(parse_code(&list("--file=x")).unwrap().0, EvalCode::File(b"x".to_vec()));
        let (found, rest) = parse_code(&list("--mfa My.Mod.run/2 a b")).unwrap();
        assert_eq!(found, EvalCode::Function { module: b"My.Mod".to_vec(), name: b"run".to_vec(), as_list: false });
        assert_eq!(call_expression(b"My.Mod", b"run", false, &rest, true), b"My.Mod.run(\"a\", \"b\")");
        assert!(parse_code(&list("--mfa M.f/1 a b")).is_err());
        assert!(parse_code(&list("--mfa M.f/1 --argv a b")).is_ok());
        assert!(parse_code(&[]).is_err());
    }

    #[test]
    fn arguments_of_a_call_are_escaped() {
        let text = call_expression(b"m", b"f", true, &[b"\"#{x}\\".to_vec()], true);
        assert_eq!(text, b":m.f([\"\\\"\\#{x}\\\\\"])");
    }

    fn words(line: &str) -> Vec<ByteString> {
        crate::byte_string::split_words(line.as_bytes())
    }

    #[test]
    fn arguments_without_an_effect_are_refused() {
        for (command, line) in [
            (StartCommand::Stop, "now"),
            (StartCommand::Pid, "-x"),
            (StartCommand::Info, "processes"),
            (StartCommand::Upgrade, "1.0 --no-permanent"),
            (StartCommand::RemoteConsole, "a"),
        ] {
            let fault = check_word_count(command, b"word", &words(line)).unwrap_err();
            let last = line.split(' ').next_back().unwrap();
            assert_eq!((fault.exit_code, fault.message), (2, format!("`word` has no use for the argument `{last}`")));
        }
        for (command, line) in [
            (StartCommand::Stop, ""),
            (StartCommand::Upgrade, "1.0"),
            (StartCommand::Console, "a b c"),
            (StartCommand::Escript, "file a b"),
            (StartCommand::Help, "rpc"),
        ] {
            assert_eq!(check_word_count(command, b"word", &words(line)), Ok(()), "{line}");
        }
    }

    #[test]
    fn rpc_takes_one_expression_or_in_an_erlang_release_a_function() {
        let rpc = |line: &str, elixir| rpc_arguments(&words(line), elixir).map(|found| found.join(b" ".as_slice()));
        assert_eq!(rpc("IO.puts(1)", true), Ok(b"IO.puts(1)".to_vec()));
        assert_eq!(rpc("--mfa IO.inspect/1 --argv a b", true), Ok(b"--mfa IO.inspect/1 --argv a b".to_vec()));
        assert_eq!(rpc("init get_status", false), Ok(b"apply(init, get_status, [])".to_vec()));
        assert_eq!(rpc("lists max [[1,2]]", false), Ok(b"apply(lists, max, [[1,2]])".to_vec()));
        let fault = rpc("IO puts hello", true).unwrap_err();
        assert_eq!(fault.message, "`rpc` has no use for the argument `puts`");
        assert!(rpc("a b [] d", false).is_err());
    }

    #[test]
    fn an_elixir_release_exports_the_words_of_mix() {
        let exported = |command, word: &'static str, elixir| {
            let word = exported_command(&StartCommandMatch::Builtin(command), word.as_bytes(), elixir);
            String::from_utf8(word.to_vec()).unwrap()
        };
        assert_eq!(exported(StartCommand::Foreground, "foreground", true), "start");
        assert_eq!(exported(StartCommand::Console, "console", true), "start_iex");
        assert_eq!(exported(StartCommand::RemoteConsole, "remsh", true), "remote");
        assert_eq!(exported(StartCommand::Foreground, "foreground", false), "foreground");
        assert_eq!(exported(StartCommand::Daemon, "daemon", true), "daemon");
    }
}
