//! `dram login` and `dram logout`: credentials for registries.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use dram_build::CancelToken;
use dram_remote::registry::{RegistrySecret, check_login};

use super::print_stdout;
use crate::cli;
use crate::failure::Failure;
use crate::registry_access::{RegistryAccess, transfer_error};

/// The most bytes that are read for a name or a password.
const MAX_INPUT_LENGTH: u64 = 64 << 10;

/// Stores credentials after the registry has accepted them.
pub(crate) fn login(args: &cli::LoginArgs) -> Result<(), Failure> {
    let (user, password) = (read_user(args)?, read_password(args)?);
    let registries = RegistryAccess::new(CancelToken::default());
    let settings = registries.settings()?;
    let secret = RegistrySecret::Password { user: user.clone(), password: password.clone() };
    check_login(settings, &args.host, secret).map_err(transfer_error)?;
    let place = settings.credentials.save(&args.host, &user, &password).map_err(transfer_error)?;
    print_stdout(&format!("logged in to {}; kept in {place}\n", args.host));
    Ok(())
}

/// Removes the credentials for a registry.
pub(crate) fn logout(args: &cli::LogoutArgs) -> Result<(), Failure> {
    let registries = RegistryAccess::new(CancelToken::default());
    let places = registries.settings()?.credentials.erase(&args.host).map_err(transfer_error)?;
    match places.is_empty() {
        true => print_stdout(&format!("there are no credentials for {}\n", args.host)),
        false => print_stdout(&format!("removed the credentials for {} from {}\n", args.host, places.join(", "))),
    }
    Ok(())
}

fn read_user(args: &cli::LoginArgs) -> Result<String, Failure> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin || !io::stdin().is_terminal() => {
            return Err(Failure::usage("it is not said who logs in").help("`--username USER`"));
        }
        None => prompt("name: ")?,
    };
    match user.is_empty() || user.contains(':') {
        true => Err(Failure::usage("a name has at least one letter, and no colon")),
        false => Ok(user),
    }
}

fn read_password(args: &cli::LoginArgs) -> Result<String, Failure> {
    let password = match args.password_stdin {
        true => {
            let mut text = String::new();
            let read = io::stdin().take(MAX_INPUT_LENGTH).read_to_string(&mut text);
            read.map_err(|error| Failure::work("cannot read the password").because(&error))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        false if io::stdin().is_terminal() => {
            let echo = EchoOffGuard::disable_echo()?;
            let password = prompt("password: ");
            drop(echo);
            print_line_break();
            password?
        }
        false => {
            let failure = Failure::usage("there is no terminal to ask for a password");
            return Err(
                failure.help("give it with `--password-stdin`: `dram login -u USER --password-stdin HOST < FILE`")
            );
        }
    };
    if password.is_empty() { Err(Failure::usage("the password is empty")) } else { Ok(password) }
}

fn prompt(what: &str) -> Result<String, Failure> {
    let fail = |error: &io::Error| Failure::work("cannot use the terminal").because(error);
    let mut err = io::stderr();
    err.write_all(what.as_bytes()).and_then(|()| err.flush()).map_err(|error| fail(&error))?;
    let mut line = String::new();
    io::stdin().lock().take(MAX_INPUT_LENGTH).read_line(&mut line).map_err(|error| fail(&error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Prints the line break that was not echoed after the password.
fn print_line_break() {
    let _ = io::stderr().write_all(b"\n");
}

/// A terminal without echo, until this value is dropped.
struct EchoOffGuard(rustix::termios::Termios);

impl EchoOffGuard {
    fn disable_echo() -> Result<EchoOffGuard, Failure> {
        let fail = |error: rustix::io::Errno| Failure::work("cannot use the terminal").because(&io::Error::from(error));
        let before = rustix::termios::tcgetattr(io::stdin()).map_err(fail)?;
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &silent).map_err(fail)?;
        Ok(EchoOffGuard(before))
    }
}

impl Drop for EchoOffGuard {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}
