//! The start program of a release, `bin/NAME`: input and output. The logic is in `dram-start`.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod control;
mod errno;
mod files;
mod home;
mod net;
mod prepare;
mod process;
mod remote;
mod running;
mod shell;
mod shim;
mod sys;
mod versions;

use alloc::format;
use alloc::vec::Vec;

use boot::Wish;
use dram_start::bytes::{Bytes, file_name, join, split_once};
use dram_start::command::{self, Command, Meaning};
use dram_start::conf::{Conf, Distribution};
use dram_start::environment::Environment;
use dram_start::fault::{Fault, shown};
use dram_start::launch::Purpose;
use dram_start::release::{Naming, Release};
use sys::Start;

pub(crate) fn main(start: &Start) -> u8 {
    match run(start) {
        Ok(code) => code,
        Err(fault) => {
            process::say(&fault);
            fault.code
        }
    }
}

fn run(start: &Start) -> Result<u8, Fault> {
    shim::run(start)?;
    let mut env = Environment::from_strings(&start.environment);
    let home = home::find(start, &env)?;
    let path = join(&[&home.version_dir(), b"/start.conf"]);
    let conf = Conf::parse(&path, &files::read_optional(&path)?.unwrap_or_default())?;
    let Some(word) = start.arguments.get(1) else { return Ok(usage(&home.prog, &conf)) };
    let meaning = command::find(word, &conf.commands)?;
    if meaning == Meaning::Command(Command::Help) {
        return Ok(usage(&home.prog, &conf));
    }
    // A shell that has sourced `env.sh` may execute this program with another command than the user's.
    let asked = env.get("RELEASE_COMMAND").filter(|_| env.get(shell::READ).is_some()).unwrap_or(word).to_vec();
    home.announce(&conf, &asked, &mut env);
    let starts = matches!(
        meaning,
        Meaning::Command(
            Command::Foreground
                | Command::ForegroundBoot
                | Command::Console
                | Command::ConsoleBoot
                | Command::Daemon
                | Command::DaemonIex
        )
    );
    shell::read_first(&home, &conf, &start.arguments, starts, &mut env)?;
    let mut arguments = start.arguments.get(2..).unwrap_or_default().to_vec();
    if starts {
        arguments = named(&arguments, &mut env)?;
    }
    let custom = match &meaning {
        Meaning::Custom(custom) => Some(custom.path.clone()),
        Meaning::Command(_) => None,
    };
    let command = match meaning {
        Meaning::Command(command) => command,
        Meaning::Custom(_) => Command::Help,
    };
    let release = Release::settle(home, conf, &mut env)?;
    if let Some(path) = custom {
        return shell::custom(&release.home, &path, &arguments, &env);
    }
    obey(&release, command, arguments, &env)
}

fn usage(prog: &[u8], conf: &Conf) -> u8 {
    let _ = sys::write_all(1, command::usage(prog, &conf.commands).as_bytes());
    0
}

/// Removes `--name N` and `--sname N` from the arguments of a start, and sets them in the environment.
fn named(arguments: &[Bytes], env: &mut Environment) -> Result<Vec<Bytes>, Fault> {
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
            let what = format!("cannot read the option `{}`: its value is missing", shown(option));
            return Err(Fault::usage(what, "give the node's name after it"));
        };
        env.set(b"RELEASE_DISTRIBUTION", kind);
        env.set(b"RELEASE_NODE", &name);
    }
    Ok(rest)
}

fn obey(release: &Release, command: Command, mut arguments: Vec<Bytes>, env: &Environment) -> Result<u8, Fault> {
    let script = |arguments: &mut Vec<Bytes>| match arguments.is_empty() {
        true => Err(Fault::usage("no file is given", "give it after the command")),
        false => Ok(arguments.remove(0)),
    };
    let system = |arguments: Vec<Bytes>| Wish { arguments, system: true, ..Wish::default() };
    match command {
        Command::Foreground => boot::start(release, &Purpose::Run, system(arguments), env),
        Command::ForegroundBoot => {
            let boot = Some(script(&mut arguments)?);
            boot::start(release, &Purpose::Run, Wish { boot, ..system(arguments) }, env)
        }
        Command::Console => boot::start(release, &Purpose::Console, system(arguments), env),
        Command::ConsoleBoot => {
            let boot = Some(script(&mut arguments)?);
            boot::start(release, &Purpose::Console, Wish { boot, ..system(arguments) }, env)
        }
        Command::ConsoleClean => {
            boot::start_beside(release, &Purpose::Clean, Wish { arguments, ..Wish::default() }, env)
        }
        Command::Daemon => boot::daemon(release, &Purpose::Run, system(arguments), env),
        Command::DaemonIex => boot::daemon(release, &Purpose::Console, system(arguments), env),
        Command::Attach => boot::attach(release, env),
        Command::Stop => control::stop(release, env),
        Command::Restart => control::init(release, "restart", env),
        Command::Reboot => control::init(release, "reboot", env),
        Command::RemoteConsole => remote_console(release, env),
        Command::Rpc => control::rpc(release, &arguments, env),
        Command::Eval => {
            let (text, arguments) = control::text(&arguments, release.conf.elixir)?;
            boot::start_beside(release, &Purpose::Eval(text), Wish { arguments, ..Wish::default() }, env)
        }
        Command::Ping => control::ping(release, env),
        Command::Pid => control::pid(release, env),
        Command::Version => {
            let line = join(&[&release.name, b" ", &release.home.vsn, b"\n"]);
            let _ = sys::write_all(1, &line);
            Ok(0)
        }
        Command::Describe => control::describe(release, env),
        Command::Info => control::info(release, env),
        Command::ReloadConfig => control::reload(release, env),
        Command::Escript => {
            let mut env = env.clone();
            let file = script(&mut arguments)?;
            env.set(b"ESCRIPT_NAME", &file);
            arguments.insert(0, file);
            boot::start_beside(release, &Purpose::Escript, Wish { arguments, ..Wish::default() }, &env)
        }
        Command::Versions => versions::list(release, env),
        Command::Unpack => versions::unpack(release, &script(&mut arguments)?, env),
        Command::Install => versions::install(release, &script(&mut arguments)?, false, env),
        Command::Upgrade => versions::install(release, &script(&mut arguments)?, true, env),
        Command::Uninstall => versions::remove(release, &script(&mut arguments)?, env),
        Command::Help => Ok(usage(file_name(&release.home.prog), &release.conf)),
    }
}

/// The command `remote_console`: opens a shell in the running node, with an emulator of its own.
fn remote_console(release: &Release, env: &Environment) -> Result<u8, Fault> {
    let target = remote::target(release, env)?;
    let Some(to) = target.node else {
        let what = "cannot open a shell in the running system: it has no node name";
        return Err(Fault::new(what, "start it with RELEASE_DISTRIBUTION=sname or name, and a cookie"));
    };
    let (name, host) = split_once(&to, b'@').unwrap_or((&to, b""));
    let own = join(&[b"rem-", &files::random_name(), b"-", name]);
    let node = match target.kind {
        // A long name needs a host. That of the other node can be resolved, so it is used.
        Distribution::Name => join(&[&own, b"@", host]),
        Distribution::Sname | Distribution::None => own,
    };
    let naming = Some(Naming { kind: target.kind, node });
    boot::start_beside(release, &Purpose::Remote { to: to.clone() }, Wish { naming, ..Wish::default() }, env)
}
