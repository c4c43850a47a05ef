//! The command line of the emulator for each kind of start.

use alloc::vec::Vec;

use crate::bytes::{Bytes, join, words};
use crate::conf::Distribution;
use crate::environment::Environment;
use crate::erlexec::{Emulator, Place, Read, expand, translate};
use crate::fault::Fault;
use crate::release::{Naming, Release, without_names};

/// The purpose for which an emulator is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Runs the release, without a shell.
    Run,
    /// Runs the release with a shell.
    Console,
    /// Opens a shell, without the release.
    Clean,
    /// Evaluates an expression, without the release.
    Eval(Bytes),
    /// Opens a remote shell in another node.
    Remote {
        /// The name of that node.
        to: Bytes,
    },
    /// Runs an escript.
    Escript,
}

/// The inputs of a command line that are not settings of the release.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// True if both output and errors go to a terminal.
    pub terminal: bool,
    /// The major and minor version of Elixir in the release.
    pub elixir: Option<(u64, u64)>,
    /// The boot script, if it is not the default one of the purpose.
    pub boot: Option<Bytes>,
    /// The arguments for the code of the release.
    pub arguments: Vec<Bytes>,
    /// The path of the configuration, without `.config`.
    pub config: Option<Bytes>,
}

/// The arguments of `erl` for this purpose.
#[must_use]
pub fn line(release: &Release, purpose: &Purpose, around: &Surroundings, env: &Environment) -> Vec<Bytes> {
    let elixir = release.conf.elixir;
    let mut line: Vec<Bytes> = Vec::new();
    let mut flags = |text: &str| line.extend(words(text.as_bytes()));
    let shell = matches!(purpose, Purpose::Console | Purpose::Clean | Purpose::Remote { .. });
    let version = around.elixir.unwrap_or((1, 17));
    let mut extra: Vec<Bytes> = Vec::new();
    if elixir && *purpose != Purpose::Escript {
        flags(&alloc::string::String::from_utf8_lossy(env.get("ELIXIR_ERL_OPTIONS").unwrap_or_default()));
        if around.terminal && env.filled("NO_COLOR").is_none() {
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
        if shell || *purpose == Purpose::Run {
            extra.push(b"--no-halt".to_vec());
        }
        if shell && ((1, 15)..(1, 16)).contains(&version) {
            extra.extend([b"-e".to_vec(), b":elixir.start_iex()".to_vec()]);
        }
        if shell {
            extra.push(b"+iex".to_vec());
        }
        match purpose {
            Purpose::Eval(text) => extra.extend([b"--eval".to_vec(), text.clone()]),
            Purpose::Remote { to } => extra.extend([b"--remsh".to_vec(), to.clone()]),
            Purpose::Run | Purpose::Console | Purpose::Clean | Purpose::Escript => {}
        }
        if !around.arguments.is_empty() && !shell {
            extra.push(b"--".to_vec());
        }
    } else {
        match purpose {
            // `+Bd` disables the break handler, which nobody can use without a shell.
            Purpose::Run => flags("-noshell -noinput +Bd"),
            Purpose::Eval(_) => flags("-noshell -noinput"),
            Purpose::Escript => flags("-noshell -run escript start +B"),
            Purpose::Console | Purpose::Clean | Purpose::Remote { .. } => {}
        }
    }
    if matches!(purpose, Purpose::Run | Purpose::Console) {
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
        Purpose::Run | Purpose::Console => &release.boot,
        Purpose::Clean | Purpose::Eval(_) | Purpose::Remote { .. } | Purpose::Escript => &release.boot_clean,
    };
    let script = around.boot.as_ref().unwrap_or(script);
    let path = match script.contains(&b'/') {
        true => script.clone(),
        false => join(&[&release.home.version_dir(), b"/", script]),
    };
    line.extend([b"-boot".to_vec(), path]);
    // The first name is that of Mix and of the assembler, the second that of relx and Distillery.
    for name in ["RELEASE_LIB", "ERTS_LIB_DIR"] {
        line.extend([b"-boot_var".to_vec(), name.as_bytes().to_vec(), join(&[&release.home.root, b"/lib"])]);
    }
    match purpose {
        Purpose::Remote { to } => {
            line.push(b"-hidden".to_vec());
            if !elixir {
                line.extend([b"-remsh".to_vec(), to.clone()]);
            }
        }
        Purpose::Eval(text) if !elixir => {
            line.extend([b"-eval".to_vec(), text.clone(), b"-s".to_vec(), b"erlang".to_vec(), b"halt".to_vec()]);
        }
        Purpose::Run | Purpose::Console | Purpose::Clean | Purpose::Eval(_) | Purpose::Escript => {}
    }
    line.extend(words(env.get("ERL_OPTS").unwrap_or_default()));
    extra.extend(words(env.get("EXTRA_OPTS").unwrap_or_default()));
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
pub fn complete(
    release: &Release,
    mut line: Vec<Bytes>,
    file: Option<&[u8]>,
    env: &Environment,
    read: Read<'_>,
) -> Result<Vec<Bytes>, Fault> {
    if let Some(file) = file {
        let at = line.iter().position(|argument| argument == b"-extra").unwrap_or(line.len());
        line.splice(at..at, [b"-args_file".to_vec(), file.to_vec()]);
    }
    expand(&line, env, release.conf.otp.as_deref(), read)
}

/// The emulator command for expanded arguments, with exactly this node name and cookie.
///
/// # Errors
/// Fails for an invalid flag.
pub fn emulator(
    arguments: &[Bytes],
    naming: Option<&Naming>,
    cookie: Option<&[u8]>,
    place: &Place,
    env: &Environment,
) -> Result<Emulator, Fault> {
    let mut all = Vec::new();
    // Without a locale the emulator takes file names for Latin-1, although they are UTF-8 nearly everywhere.
    if !arguments.iter().take_while(|one| one.as_slice() != b"-extra").any(|one| one.starts_with(b"+fn")) {
        all.push(b"+fnu".to_vec());
    }
    match naming {
        Some(Naming { kind: Distribution::None, .. }) | None => {}
        Some(Naming { kind, node }) => {
            all.extend([join(&[b"-", kind.word().as_bytes()]), node.clone()]);
            if let Some(cookie) = cookie {
                all.extend([b"-setcookie".to_vec(), cookie.to_vec()]);
            }
        }
    }
    all.append(&mut without_names(arguments));
    translate(&all, place, env)
}
