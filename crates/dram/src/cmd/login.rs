//! `dram login` and `dram logout`: credentials for registries.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use dram_build::Cancel;
use dram_remote::registry::{Secret, check};

use super::say;
use crate::cli;
use crate::failure::Failure;
use crate::registry::{Registries, far};

/// The most bytes that are read for a name or a password.
const LONGEST: u64 = 64 << 10;

/// Stores credentials after the registry has accepted them.
pub(crate) fn login(args: &cli::Login) -> Result<(), Failure> {
    let (user, password) = (user(args)?, password(args)?);
    let registries = Registries::new(Cancel::default());
    let settings = registries.settings()?;
    let secret = Secret::Password { user: user.clone(), password: password.clone() };
    check(settings, &args.host, secret).map_err(far)?;
    let place = settings.credentials.save(&args.host, &user, &password).map_err(far)?;
    say(&format!("logged in to {}; kept in {place}\n", args.host));
    Ok(())
}

/// Removes the credentials for a registry.
pub(crate) fn logout(args: &cli::Logout) -> Result<(), Failure> {
    let registries = Registries::new(Cancel::default());
    let places = registries.settings()?.credentials.erase(&args.host).map_err(far)?;
    match places.is_empty() {
        true => say(&format!("nothing was kept for {}\n", args.host)),
        false => say(&format!("forgotten for {}: in {}\n", args.host, places.join(", "))),
    }
    Ok(())
}

fn user(args: &cli::Login) -> Result<String, Failure> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin || !io::stdin().is_terminal() => {
            return Err(Failure::usage("it is not said who logs in").help("`--username USER`"));
        }
        None => asked("name: ")?,
    };
    match user.is_empty() || user.contains(':') {
        true => Err(Failure::usage("a name has at least one letter, and no colon")),
        false => Ok(user),
    }
}

fn password(args: &cli::Login) -> Result<String, Failure> {
    let password = match args.password_stdin {
        true => {
            let mut text = String::new();
            let read = io::stdin().take(LONGEST).read_to_string(&mut text);
            read.map_err(|error| Failure::work("cannot read the password").because(&error))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        false if io::stdin().is_terminal() => {
            let echo = Echo::off()?;
            let password = asked("password: ");
            drop(echo);
            report_line();
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

fn asked(what: &str) -> Result<String, Failure> {
    let fail = |error: &io::Error| Failure::work("cannot use the terminal").because(error);
    let mut err = io::stderr();
    err.write_all(what.as_bytes()).and_then(|()| err.flush()).map_err(|error| fail(&error))?;
    let mut line = String::new();
    io::stdin().lock().take(LONGEST).read_line(&mut line).map_err(|error| fail(&error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Prints the line break that was not echoed after the password.
fn report_line() {
    let _ = io::stderr().write_all(b"\n");
}

/// A terminal without echo, until this value is dropped.
struct Echo(rustix::termios::Termios);

impl Echo {
    fn off() -> Result<Echo, Failure> {
        let fail = |error: rustix::io::Errno| Failure::work("cannot use the terminal").because(&io::Error::from(error));
        let before = rustix::termios::tcgetattr(io::stdin()).map_err(fail)?;
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &silent).map_err(fail)?;
        Ok(Echo(before))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}
