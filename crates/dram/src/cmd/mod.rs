//! One file for each command.

mod amount;
mod build;
mod cache;
mod doctor;
mod fsck;
mod images;
mod lacks;
mod login;
mod moving;
mod names;
mod privilege;
mod release;
mod run;
mod shell;
mod space;
mod transfer;
mod upgrade;
mod whole;
mod why;

use std::process::ExitCode;

pub(crate) use amount::bytes;

use crate::ambient::Ambient;
use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::report;

/// Runs the command. Returns the exit code.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    if let Command::Doctor = cli.command {
        return Ok(doctor::doctor());
    }
    // It needs no store, and its files belong to the calling user, so no user namespace is entered.
    if let Command::Release(args) = cli.command {
        return release::release(&args).map(|()| ExitCode::SUCCESS);
    }
    let ambient = Ambient::enter(cli.store, &cli.limit, cli.max_size.as_deref())?;
    let grows = matches!(
        cli.command,
        Command::Build(_)
            | Command::Import(_)
            | Command::Load(_)
            | Command::Copy(_)
            | Command::Pull(_)
            | Command::Squash(_)
    );
    let done = match cli.command {
        Command::Build(args) => match build::Call::of(&args)? {
            Some(call) => return build::call(&ambient, &args, call),
            None => build::build(&ambient, &args),
        },
        Command::Run(args) => return run::run(&ambient, &args),
        Command::Images(args) => images::images(&ambient, args.json),
        Command::History(args) => images::history(&ambient, &args.image, args.no_trunc),
        Command::Inspect(args) => images::inspect(&ambient, &args.image),
        Command::Tag(args) => names::tag(&ambient, &args),
        Command::Squash(args) => names::squash(&ambient, &args),
        Command::Rm(args) => names::rm(&ambient, &args.names),
        Command::Why(args) => why::why(&ambient, &args),
        Command::Cache(args) => cache::cache(&ambient, &args),
        Command::Shell(args) => return shell::shell(&ambient, &args),
        Command::Prune(args) => space::prune(&ambient, &args),
        Command::Df(args) => space::df(&ambient, &args),
        Command::Fsck(args) => fsck::fsck(&ambient, &args),
        Command::Import(args) => moving::import(&ambient, &args),
        Command::Save(args) => moving::save(&ambient, &args),
        Command::Load(args) => moving::load(&ambient, &args),
        Command::Pull(args) => transfer::pull(&ambient, &args),
        Command::Push(args) => transfer::push(&ambient, &args),
        Command::Login(args) => login::login(&args),
        Command::Logout(args) => login::logout(&args),
        Command::Copy(args) => transfer::copy(&ambient, &args),
        Command::Doctor | Command::Release(_) => unreachable!("answered above"),
    };
    done?;
    if grows {
        // The command itself succeeded: a store above its limit is no failure of it.
        let _ = space::keep_within(&ambient).map_err(|failure| report::failure(&failure));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output. Control characters are escaped as in JSON, except line breaks and tabs: a JSON document
/// may hold all but the first 32 unescaped, and a terminal would execute them. A closed pipe ends the process with 0,
/// any other error of writing with 1.
fn say(text: &str) {
    use std::io::Write as _;
    let speaks = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    let text = match text.contains(speaks) {
        true => text.split_inclusive(speaks).map(|part| escape_last(part, speaks)).collect(),
        false => std::borrow::Cow::Borrowed(text),
    };
    let mut out = std::io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    report::failure(&Failure::work("cannot write standard output").because(&error));
    std::process::exit(1);
}

/// `part` with its last character as `\uXXXX`, if `speaks` is true for that.
fn escape_last(part: &str, speaks: impl Fn(char) -> bool) -> String {
    match part.chars().next_back() {
        Some(last) if speaks(last) => format!("{}\\u{:04x}", &part[..part.len() - last.len_utf8()], u32::from(last)),
        Some(_) | None => part.to_owned(),
    }
}
