//! The command line of the emulator for each kind of start.

use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat, split_words};
use crate::environment::EnvironmentVariables;
use crate::erlexec::{EmulatorCommand, EmulatorPaths, ReadArgsFile, expand_arguments, translate_arguments};
use crate::error::StartError;
use crate::release::{NodeNaming, StartSettings, before_extra, remove_name_flags};
use crate::start_conf::StartNodeNameKind;

/// The purpose for which an emulator is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmulatorPurpose {
    /// Runs the release, without a shell.
    Release,
    /// Runs the release with a shell.
    Console,
    /// Opens a shell, without the release.
    CleanConsole,
    /// Evaluates an expression, without the release.
    Eval(ByteString),
    /// Opens a remote shell in another node.
    RemoteConsole {
        /// The name of that node.
        to: ByteString,
    },
    /// Runs an escript.
    Escript,
    /// Evaluates an Erlang expression in a hidden node that does not listen, for calls of another node.
    NodeBridge(ByteString),
}

/// The inputs of a command line that are not settings of the release.
#[derive(Clone, Debug, Default)]
pub struct LaunchContext {
    /// True if both output and errors go to a terminal.
    pub terminal: bool,
    /// The major and minor version of Elixir in the release.
    pub elixir: Option<(u64, u64)>,
    /// The boot script, if it is not the default one of the purpose.
    pub boot_script: Option<ByteString>,
    /// The arguments for the code of the release.
    pub arguments: Vec<ByteString>,
    /// The path of the configuration, without `.config`.
    pub config: Option<ByteString>,
}

/// The arguments of `erl` for this purpose.
#[must_use]
pub fn launch_arguments(
    release: &StartSettings,
    purpose: &EmulatorPurpose,
    around: &LaunchContext,
    env: &EnvironmentVariables,
) -> Vec<ByteString> {
    let elixir = release.conf.elixir;
    let mut line: Vec<ByteString> = Vec::new();
    let mut flags = |text: &str| line.extend(split_words(text.as_bytes()));
    let shell = matches!(
        purpose,
        EmulatorPurpose::Console | EmulatorPurpose::CleanConsole | EmulatorPurpose::RemoteConsole { .. }
    );
    let version = around.elixir.unwrap_or((1, 17));
    let mut extra: Vec<ByteString> = Vec::new();
    if elixir && !matches!(purpose, EmulatorPurpose::Escript | EmulatorPurpose::NodeBridge(_)) {
        flags(&alloc::string::String::from_utf8_lossy(env.get("ELIXIR_ERL_OPTIONS").unwrap_or_default()));
        if around.terminal && env.get_non_empty("NO_COLOR").is_none() {
            flags("-elixir ansi_enabled true");
        }
        if !shell {
            flags("-noshell -s elixir start_cli");
        } else if version < (1, 15) {
            flags("-noshell -user Elixir.IEx.CLI");
        } else if version < (1, 16) {
            flags("-noshell -s elixir start_cli -user elixir");
        } else if version < (1, 17) {
            flags("-noshell -s elixir start_iex -user elixir");
        } else {
            flags("-noshell -user elixir");
        }
        if shell || *purpose == EmulatorPurpose::Release {
            extra.push(b"--no-halt".to_vec());
        }
        if shell && ((1, 15)..(1, 16)).contains(&version) {
            extra.extend([b"-e".to_vec(), b":elixir.start_iex()".to_vec()]);
        }
        if shell {
            extra.push(b"+iex".to_vec());
        }
        match purpose {
            EmulatorPurpose::Eval(text) => extra.extend([b"--eval".to_vec(), text.clone()]),
            EmulatorPurpose::RemoteConsole { to } => extra.extend([b"--remsh".to_vec(), to.clone()]),
            EmulatorPurpose::Release
            | EmulatorPurpose::Console
            | EmulatorPurpose::CleanConsole
            | EmulatorPurpose::Escript
            | EmulatorPurpose::NodeBridge(_) => {}
        }
        if !around.arguments.is_empty() {
            extra.push(b"--".to_vec());
        }
    } else {
        match purpose {
            // `+Bd` disables the break handler, which nobody can use without a shell.
            EmulatorPurpose::Release => flags("-noshell -noinput +Bd"),
            EmulatorPurpose::Eval(_) | EmulatorPurpose::NodeBridge(_) => flags("-noshell -noinput"),
            EmulatorPurpose::Escript => flags("-noshell -run escript start +B"),
            EmulatorPurpose::Console | EmulatorPurpose::CleanConsole | EmulatorPurpose::RemoteConsole { .. } => {}
        }
    }
    if matches!(purpose, EmulatorPurpose::Release | EmulatorPurpose::Console) {
        match elixir && release.conf.reboot {
            true => flags("-elixir -config_provider_reboot_mode"),
            false => flags("-mode"),
        }
        line.push(release.mode.clone());
    }
    if let Some(config) = &around.config {
        line.extend([b"-config".to_vec(), config.clone()]);
    }
    let script = match purpose {
        EmulatorPurpose::Release | EmulatorPurpose::Console => &release.boot_script,
        EmulatorPurpose::CleanConsole
        | EmulatorPurpose::Eval(_)
        | EmulatorPurpose::RemoteConsole { .. }
        | EmulatorPurpose::Escript
        | EmulatorPurpose::NodeBridge(_) => &release.clean_boot_script,
    };
    let script = around.boot_script.as_ref().unwrap_or(script);
    let path = match script.contains(&b'/') {
        true => script.clone(),
        false => concat(&[&release.home.version_dir(), b"/", script]),
    };
    line.extend([b"-boot".to_vec(), path]);
    // The first name is that of Mix and of the assembler, the second that of relx and Distillery.
    for name in ["RELEASE_LIB", "ERTS_LIB_DIR"] {
        line.extend([b"-boot_var".to_vec(), name.as_bytes().to_vec(), concat(&[&release.home.root, b"/lib"])]);
    }
    match purpose {
        EmulatorPurpose::RemoteConsole { to } => {
            line.push(b"-hidden".to_vec());
            if !elixir {
                line.extend([b"-remsh".to_vec(), to.clone()]);
            }
        }
        EmulatorPurpose::Eval(text) if !elixir => {
            line.extend([b"-eval".to_vec(), text.clone(), b"-s".to_vec(), b"erlang".to_vec(), b"halt".to_vec()]);
        }
        EmulatorPurpose::NodeBridge(text) => {
            line.extend([b"-hidden".to_vec(), b"-eval".to_vec(), text.clone()]);
        }
        EmulatorPurpose::Release
        | EmulatorPurpose::Console
        | EmulatorPurpose::CleanConsole
        | EmulatorPurpose::Eval(_)
        | EmulatorPurpose::Escript => {}
    }
    line.extend(split_words(env.get("ERL_OPTS").unwrap_or_default()));
    extra.extend(split_words(env.get("EXTRA_OPTS").unwrap_or_default()));
    extra.extend(around.arguments.iter().cloned());
    if !extra.is_empty() {
        line.push(b"-extra".to_vec());
        line.append(&mut extra);
    }
    line
}

/// Adds the file of arguments to `line` and expands all files of arguments.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn expand_launch_arguments(
    release: &StartSettings,
    mut line: Vec<ByteString>,
    file: Option<&[u8]>,
    env: &EnvironmentVariables,
    read: ReadArgsFile<'_>,
) -> Result<Vec<ByteString>, StartError> {
    if let Some(file) = file {
        let at = line.iter().position(|argument| argument == b"-extra").unwrap_or(line.len());
        line.splice(at..at, [b"-args_file".to_vec(), file.to_vec()]);
    }
    expand_arguments(&line, env, release.conf.otp.as_deref(), read)
}

/// The parameter of `kernel` for the encoding of standard input and output, since OTP 26.
const OUTPUT_ENCODING: &[u8] = b"standard_io_encoding";

/// Makes standard input and output UTF-8, whatever the locale is: since OTP 26 they follow the locale, and in an image
/// without files of locales none is UTF-8. `config` is the text of the configuration, which has priority.
#[must_use]
pub fn with_output_encoding(release: &StartSettings, arguments: Vec<ByteString>, config: &[u8]) -> Vec<ByteString> {
    let is_older = release.conf.otp.as_ref().and_then(|otp| otp.parse::<u32>().ok()).is_some_and(|otp| otp < 26);
    let is_set = before_extra(&arguments).iter().any(|word| word == OUTPUT_ENCODING);
    if is_older || is_set || crate::byte_string::find_bytes(config, OUTPUT_ENCODING).is_some() {
        return arguments;
    }
    let mut all = alloc::vec![b"-kernel".to_vec(), OUTPUT_ENCODING.to_vec(), b"unicode".to_vec()];
    all.extend(arguments);
    all
}

/// The word in the place of the cookie. Every user of the machine can read the command line of every process, so the
/// cookie itself is not there: see [`hidden_cookie_position`].
const HIDDEN_COOKIE: &[u8] = b"(hidden)";

/// The position of the word that must be replaced by the cookie when the emulator has been executed, if there is one.
#[must_use]
pub fn hidden_cookie_position(arguments: &[ByteString]) -> Option<usize> {
    let mut pairs = before_extra(arguments).windows(2);
    pairs.position(|pair| pair[0] == b"-setcookie" && pair[1] == HIDDEN_COOKIE).map(|at| at + 1)
}

/// The emulator command for expanded arguments, with exactly this node name, and a cookie if there is one. The cookie is not in it:
/// [`hidden_cookie_position`] is its place.
///
/// # Errors
/// Fails for an invalid flag.
pub fn emulator_command(
    arguments: &[ByteString],
    naming: Option<&NodeNaming>,
    has_cookie: bool,
    place: &EmulatorPaths,
    env: &EnvironmentVariables,
) -> Result<EmulatorCommand, StartError> {
    let mut all = Vec::new();
    // Without a locale the emulator takes file names for Latin-1, although they are UTF-8 nearly everywhere.
    if !arguments.iter().take_while(|one| one.as_slice() != b"-extra").any(|one| one.starts_with(b"+fn")) {
        all.push(b"+fnu".to_vec());
    }
    match naming {
        Some(NodeNaming { kind: StartNodeNameKind::None, .. }) | None => {}
        Some(NodeNaming { kind, node }) => {
            all.extend([concat(&[b"-", kind.as_str().as_bytes()]), node.clone()]);
            if has_cookie {
                all.extend([b"-setcookie".to_vec(), HIDDEN_COOKIE.to_vec()]);
            }
        }
    }
    all.append(&mut remove_name_flags(arguments));
    translate_arguments(&all, place, env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::ReleaseHome;
    use crate::start_conf::StartConf;

    fn arguments_of(purpose: &EmulatorPurpose, elixir: Option<(u64, u64)>) -> Vec<ByteString> {
        let conf = StartConf { elixir: elixir.is_some(), ..StartConf::default() };
        let mut env = EnvironmentVariables::default();
        let release = StartSettings::resolve(ReleaseHome::default(), conf, &mut env).unwrap();
        let around = LaunchContext {
            elixir,
            arguments: alloc::vec![b"a".to_vec(), b"b c".to_vec()],
            ..LaunchContext::default()
        };
        launch_arguments(&release, purpose, &around, &env)
    }

    #[test]
    fn a_word_in_the_place_of_the_cookie_is_on_the_command_line() {
        let naming = NodeNaming { kind: StartNodeNameKind::Sname, node: b"demo".to_vec() };
        let place = EmulatorPaths { root: b"/r".to_vec(), bin: b"/r/bin".to_vec(), progname: b"erl".to_vec() };
        let line = emulator_command(&[], Some(&naming), true, &place, &EnvironmentVariables::default()).unwrap();
        let at = hidden_cookie_position(&line.arguments).unwrap();
        assert_eq!(line.arguments[at - 1], b"-setcookie");
    }

    #[test]
    fn output_is_utf_8_since_otp_26_unless_an_argument_or_the_configuration_says_otherwise() {
        let with = |otp: &str, arguments: &[&[u8]], config: &[u8]| {
            let conf = StartConf { otp: Some(otp.into()), ..StartConf::default() };
            let mut env = EnvironmentVariables::default();
            let release = StartSettings::resolve(ReleaseHome::default(), conf, &mut env).unwrap();
            let arguments = arguments.iter().map(|word| word.to_vec()).collect();
            with_output_encoding(&release, arguments, config)
        };
        assert_eq!(with("27", &[b"-a"], b"[]."), [b"-kernel".as_slice(), b"standard_io_encoding", b"unicode", b"-a"]);
        assert_eq!(with("25", &[b"-a"], b"[]."), [b"-a"]);
        assert_eq!(with("27", &[b"-a"], b"[{kernel,[{standard_io_encoding,latin1}]}]."), [b"-a"]);
        let own: [&[u8]; 3] = [b"-kernel", b"standard_io_encoding", b"latin1"];
        assert_eq!(with("27", &own, b""), own);
        let later: [&[u8]; 2] = [b"-extra", b"standard_io_encoding"];
        assert_eq!(with("27", &later, b"").len(), 5);
    }

    #[test]
    fn arguments_of_a_shell_are_no_files_that_it_runs() {
        for version in [(1, 14), (1, 15), (1, 18)] {
            let line = arguments_of(&EmulatorPurpose::Console, Some(version));
            let last = &line[line.len() - 4..];
            assert_eq!(last, [b"+iex".as_slice(), b"--", b"a", b"b c"], "{version:?}");
        }
        let line = arguments_of(&EmulatorPurpose::Console, None);
        assert_eq!(line[line.len() - 3..], [b"-extra".as_slice(), b"a", b"b c"], "Erlang has no such rule");
    }
}
