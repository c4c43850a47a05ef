//! The start program of a release, `bin/NAME`: input and output. The logic is in `dram-start`.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod config_copy;
mod errno;
mod files;
mod hidden_argument;
mod home;
mod net;
mod node_bridge;
mod node_commands;
mod node_connection;
mod prepare;
mod process;
mod run_trampoline;
mod shell;
mod state_lock;
mod sys;
mod versions;

use alloc::format;
use alloc::vec::Vec;

use boot::EmulatorOptions;
use dram_start::byte_string::{ByteString, concat, file_name, split_once};
use dram_start::command::{self, StartCommand, StartCommandMatch};
use dram_start::env_script::ENV_SH_READ;
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::launch::EmulatorPurpose;
use dram_start::release::{ReleaseHome, StartSettings};
use dram_start::start_conf::{StartConf, StartWorkingDirectory};
use sys::StartArguments;

pub(crate) fn main(start: &StartArguments) -> u8 {
    match run_start_program(start) {
        Ok(code) => code,
        Err(fault) => {
            process::print_error(&fault);
            fault.exit_code
        }
    }
}

fn run_start_program(start: &StartArguments) -> Result<u8, StartError> {
    run_trampoline::execute_if_trampoline(start)?;
    let mut env = EnvironmentVariables::from_strings(&start.environment);
    let home = home::find_release(start, &env)?;
    let path = concat(&[&home.version_dir(), b"/start.conf"]);
    let conf = StartConf::parse(&path, &files::read_optional(&path)?.unwrap_or_default())?;
    let Some(word) = start.arguments.get(1) else { return Ok(print_usage(&home.prog, &conf)) };
    let meaning = command::find_command(word, &conf.custom_commands)?;
    if meaning == StartCommandMatch::Builtin(StartCommand::Help) {
        return Ok(print_usage(&home.prog, &conf));
    }
    // A shell that has sourced `env.sh` may execute this program with another command than the user's.
    let own = command::exported_command(&meaning, word, conf.elixir);
    let asked = env.get("RELEASE_COMMAND").filter(|_| env.get(ENV_SH_READ).is_some()).unwrap_or(own).to_vec();
    if let StartCommandMatch::Builtin(command) = meaning {
        command::check_word_count(command, word, start.arguments.get(2..).unwrap_or_default())?;
    }
    enter_working_directory(&home, &conf)?;
    home.export_variables(&conf, &asked, &mut env);
    let starts = matches!(meaning, StartCommandMatch::Builtin(command) if command.starts_release());
    shell::source_files_and_reexecute(&home, &conf, &start.arguments, starts, &mut env)?;
    let mut arguments = start.arguments.get(2..).unwrap_or_default().to_vec();
    if starts {
        arguments = take_name_options(&arguments, &mut env)?;
    }
    let custom = match &meaning {
        StartCommandMatch::Custom(custom) => Some(custom.path.clone()),
        StartCommandMatch::Builtin(_) => None,
    };
    let command = match meaning {
        StartCommandMatch::Builtin(command) => command,
        StartCommandMatch::Custom(_) => StartCommand::Help,
    };
    let release = StartSettings::resolve(home, conf, &mut env)?;
    if let Some(path) = custom {
        return shell::execute_custom_command(&release.home, &path, &arguments, &env);
    }
    run_command(&release, command, arguments, &env)
}

fn print_usage(prog: &[u8], conf: &StartConf) -> u8 {
    let _ = sys::write_all(1, command::usage(prog, &conf.custom_commands).as_bytes());
    0
}

/// Enters the directory in which the release and its scripts run.
fn enter_working_directory(home: &ReleaseHome, conf: &StartConf) -> Result<(), StartError> {
    match conf.working_directory {
        StartWorkingDirectory::Caller => Ok(()),
        StartWorkingDirectory::Release => sys::change_directory(&home.root).map_err(|errno| {
            let what = format!("cannot enter the root of the release `{}`: {errno}", printable(&home.root));
            StartError::new(what, "make the directory accessible to this user")
        }),
    }
}

/// Removes `--name N` and `--sname N` from the arguments of a start, and sets them in the environment.
fn take_name_options(arguments: &[ByteString], env: &mut EnvironmentVariables) -> Result<Vec<ByteString>, StartError> {
    let mut rest = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (option, given) =
            split_once(word, b'=').map_or((word.as_slice(), None), |(option, value)| (option, Some(value.to_vec())));
        let kind: &[u8] = match option {
            b"--name" => b"name",
            b"--sname" => b"sname",
            b"--" => {
                rest.extend(words.by_ref().cloned());
                break;
            }
            _ => {
                rest.push(word.clone());
                continue;
            }
        };
        let Some(name) = given.or_else(|| words.next().cloned()) else {
            let what = format!("cannot read the option `{}`: its value is missing", printable(option));
            return Err(StartError::invalid_usage(what, "give the node's name after it"));
        };
        env.set(b"RELEASE_DISTRIBUTION", kind);
        env.set(b"RELEASE_NODE", &name);
    }
    Ok(rest)
}

fn run_command(
    release: &StartSettings,
    command: StartCommand,
    mut arguments: Vec<ByteString>,
    env: &EnvironmentVariables,
) -> Result<u8, StartError> {
    let script = |arguments: &mut Vec<ByteString>| match arguments.is_empty() {
        true => Err(StartError::invalid_usage("no file is given", "give it after the command")),
        false => Ok(arguments.remove(0)),
    };
    let system =
        |arguments: Vec<ByteString>| EmulatorOptions { arguments, is_release: true, ..EmulatorOptions::default() };
    match command {
        StartCommand::Foreground => boot::start_release(release, &EmulatorPurpose::Release, system(arguments), env),
        StartCommand::ForegroundBoot => {
            let boot = Some(script(&mut arguments)?);
            boot::start_release(
                release,
                &EmulatorPurpose::Release,
                EmulatorOptions { boot_script: boot, ..system(arguments) },
                env,
            )
        }
        StartCommand::Console => boot::start_release(release, &EmulatorPurpose::Console, system(arguments), env),
        StartCommand::ConsoleBoot => {
            let boot = Some(script(&mut arguments)?);
            boot::start_release(
                release,
                &EmulatorPurpose::Console,
                EmulatorOptions { boot_script: boot, ..system(arguments) },
                env,
            )
        }
        StartCommand::ConsoleClean => boot::start_helper(
            release,
            &EmulatorPurpose::CleanConsole,
            EmulatorOptions { arguments, ..EmulatorOptions::default() },
            env,
        ),
        StartCommand::Daemon => boot::start_daemon(release, &EmulatorPurpose::Release, system(arguments), env),
        StartCommand::DaemonIex => boot::start_daemon(release, &EmulatorPurpose::Console, system(arguments), env),
        StartCommand::Attach => boot::attach_to_daemon(release, env),
        StartCommand::Stop => node_commands::stop(release, env),
        StartCommand::Restart => node_commands::call_init(release, "restart", env),
        StartCommand::Reboot => node_commands::call_init(release, "reboot", env),
        StartCommand::RemoteConsole => remote_console(release, env),
        StartCommand::Rpc => node_commands::rpc(release, &arguments, env),
        StartCommand::Eval => {
            let (text, arguments) = node_commands::code_text(&arguments, release.conf.elixir)?;
            boot::start_helper(
                release,
                &EmulatorPurpose::Eval(text),
                EmulatorOptions { arguments, ..EmulatorOptions::default() },
                env,
            )
        }
        StartCommand::Ping => node_commands::ping(release, env),
        StartCommand::Pid => node_commands::pid(release, env),
        StartCommand::Version => {
            let line = concat(&[&release.name, b" ", &release.home.vsn, b"\n"]);
            let _ = sys::write_all(1, &line);
            Ok(0)
        }
        StartCommand::Describe => node_commands::describe(release, env),
        StartCommand::Info => node_commands::info(release, env),
        StartCommand::ReloadConfig => node_commands::reload_config(release, env),
        StartCommand::Escript => {
            let mut env = env.clone();
            let file = script(&mut arguments)?;
            env.set(b"ESCRIPT_NAME", &file);
            arguments.insert(0, file);
            boot::start_helper(
                release,
                &EmulatorPurpose::Escript,
                EmulatorOptions { arguments, ..EmulatorOptions::default() },
                &env,
            )
        }
        StartCommand::Versions => versions::list_versions(release, env),
        StartCommand::Unpack => versions::unpack_version(release, &script(&mut arguments)?, env),
        StartCommand::Install => versions::install_version(release, &script(&mut arguments)?, false, env),
        StartCommand::Upgrade => versions::install_version(release, &script(&mut arguments)?, true, env),
        StartCommand::Uninstall => versions::remove_version(release, &script(&mut arguments)?, env),
        StartCommand::Help => Ok(print_usage(file_name(&release.home.prog), &release.conf)),
    }
}

/// The command `remote_console`: opens a shell in the running node, with an emulator of its own.
fn remote_console(release: &StartSettings, env: &EnvironmentVariables) -> Result<u8, StartError> {
    let target = node_connection::node_target(release, env)?;
    let Some(to) = target.node.clone() else {
        let what = "cannot open a shell in the running system: it has no node name";
        let help = "set RELEASE_NODE to a name, or RELEASE_DISTRIBUTION to sname, for the start and for this command";
        return Err(StartError::new(what, help));
    };
    let naming = Some(node_bridge::helper_naming(&target, &to));
    boot::start_helper(
        release,
        &EmulatorPurpose::RemoteConsole { to: to.clone() },
        EmulatorOptions { naming, ..EmulatorOptions::default() },
        env,
    )
}
