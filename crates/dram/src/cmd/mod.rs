//! One file for each command.

mod archives;
mod atomic_write;
mod build;
mod cache;
mod container_options;
mod disk_usage;
mod doctor;
mod fsck;
mod image_names;
mod images;
mod login;
mod privilege;
mod quantity;
mod release;
mod run;
mod shell;
mod transfer;
mod upgrade;
mod why;

use std::process::ExitCode;

pub(crate) use quantity::parse_size;

use crate::ambient::{self, AmbientContext};
use crate::cli::{Cli, CliCommand};
use crate::failure::Failure;
use crate::large_stack::on_large_stack;
use crate::report;

/// Runs the command. Returns the exit code.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    if let CliCommand::Doctor = cli.command {
        return Ok(on_large_stack(|| doctor::doctor(ambient::store_root(cli.store).as_deref())));
    }
    // It needs no store, and its files belong to the calling user, so no user namespace is entered.
    if let CliCommand::Release(args) = cli.command {
        return on_large_stack(|| release::release(&args).map(|()| ExitCode::SUCCESS));
    }
    let ambient = AmbientContext::enter(cli.store, &cli.limit, cli.max_size.as_deref())?;
    // The user namespace is entered by now, which only works while there is one thread.
    on_large_stack(|| run_with_store(&ambient, cli.command))
}

/// Runs a command that may use the store. Returns the exit code.
fn run_with_store(ambient: &AmbientContext, command: CliCommand) -> Result<ExitCode, Failure> {
    let grows = matches!(
        command,
        CliCommand::Build(_)
            | CliCommand::Import(_)
            | CliCommand::Load(_)
            | CliCommand::Copy(_)
            | CliCommand::Pull(_)
            | CliCommand::Squash(_)
    );
    let done = match command {
        CliCommand::Build(args) => match build::CallRequest::from_args(&args)? {
            Some(call) => return build::answer_call(ambient, &args, call),
            None => build::build(ambient, &args),
        },
        CliCommand::Run(args) => return run::run(ambient, &args),
        CliCommand::Images(args) => images::images(ambient, &args),
        CliCommand::History(args) => images::history(ambient, &args),
        CliCommand::Inspect(args) => images::inspect(ambient, &args),
        CliCommand::Tag(args) => image_names::tag(ambient, &args),
        CliCommand::Squash(args) => image_names::squash(ambient, &args),
        CliCommand::Rm(args) => image_names::rm(ambient, &args),
        CliCommand::Why(args) => why::why(ambient, &args),
        CliCommand::Cache(args) => cache::cache(ambient, &args),
        CliCommand::Shell(args) => return shell::shell(ambient, &args),
        CliCommand::Prune(args) => disk_usage::prune(ambient, &args),
        CliCommand::Df(args) => disk_usage::df(ambient, &args),
        CliCommand::Fsck(args) => fsck::fsck(ambient, &args),
        CliCommand::Import(args) => archives::import(ambient, &args),
        CliCommand::Save(args) => archives::save(ambient, &args),
        CliCommand::Load(args) => archives::load(ambient, &args),
        CliCommand::Pull(args) => transfer::pull(ambient, &args),
        CliCommand::Push(args) => transfer::push(ambient, &args),
        CliCommand::Login(args) => login::login(&args),
        CliCommand::Logout(args) => login::logout(&args),
        CliCommand::Copy(args) => transfer::copy(ambient, &args),
        CliCommand::Doctor | CliCommand::Release(_) => unreachable!("answered above"),
    };
    done?;
    if grows {
        // The command itself succeeded: a store above its limit is no failure of it.
        let _ = disk_usage::enforce_quota(ambient).map_err(|failure| report::print_failure(&failure));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output. Control characters are escaped as in JSON, except line breaks and tabs: a JSON document
/// may hold all but the first 32 unescaped, and a terminal would execute them. A closed pipe ends the process with 0,
/// any other error of writing with 1.
fn print_stdout(text: &str) {
    use std::io::Write as _;
    let speaks = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    let text = match text.contains(speaks) {
        true => text.split_inclusive(speaks).map(|part| escape_last(part, speaks)).collect(),
        false => std::borrow::Cow::Borrowed(text),
    };
    let mut out = std::io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    end_unwritable_stdout(&error)
}

/// Ends the process after an error of writing to standard output: with 0 for a closed pipe, otherwise with 1.
pub(crate) fn end_unwritable_stdout(error: &std::io::Error) -> ! {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    report::print_failure(&Failure::work("cannot write standard output").because(error));
    std::process::exit(1);
}

/// `part` with its last character as `\uXXXX`, if `speaks` is true for that.
fn escape_last(part: &str, speaks: impl Fn(char) -> bool) -> String {
    match part.chars().next_back() {
        Some(last) if speaks(last) => format!("{}\\u{:04x}", &part[..part.len() - last.len_utf8()], u32::from(last)),
        Some(_) | None => part.to_owned(),
    }
}
