//! `dram shell --failed`: enters the container of a failed RUN.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use dram_build::{BuildError, CommandOptions, FailedCommand};
use dram_store::Store;

use super::build::run_inputs::{parse_agents, parse_secrets};
use super::run;
use crate::ambient::AmbientContext;
use crate::cli;
use crate::failure::Failure;
use crate::format::escape_control;
use crate::report;

/// Starts a shell, or another command, in the state that the last failed RUN left. Returns its exit code.
pub(crate) fn shell(ambient: &AmbientContext, args: &cli::ShellArgs) -> Result<ExitCode, Failure> {
    if !args.failed {
        let failure = Failure::usage("nothing says where the shell is to start");
        return Err(failure
            .help("`dram shell --failed` starts where the last build failed, `dram run -it IMAGE sh` in an image"));
    }
    if let Some(lack) = ambient.missing_ability() {
        return Err(Failure::from(lack));
    }
    let given = CommandOptions {
        secrets: parse_secrets(&args.secret)?,
        ssh_agents: parse_agents(&args.ssh)?,
        ..CommandOptions::default()
    };
    let store = Store::open_writable(ambient.store()?)?;
    let Some(failed) = FailedCommand::open(&store)? else {
        let failure = Failure::work("no command of a build has failed, or nothing is left of it");
        return Err(failure.help("a failed RUN is kept until another fails, it succeeds, or `dram prune` runs"));
    };
    let mut told = false;
    let mut wait = |id: &str| {
        if !std::mem::replace(&mut told, true) {
            report::print_note(&format!("another process uses the cache `{}`; waiting for it", escape_control(id)));
        }
        true
    };
    let revived = failed.revive(&ambient.host(), &given, &mut wait);
    let mut revived = revived.map_err(|error| match error {
        BuildError::Store(error) => Failure::from(error),
        error @ (BuildError::AtLine(_)
        | BuildError::CommandFailed { .. }
        | BuildError::CommandStart { .. }
        | BuildError::CacheLost { .. }
        | BuildError::Cancelled) => Failure::work("cannot enter what the command left").because(&error),
    })?;
    revived.jail.argv = match args.command.is_empty() {
        true => vec![failed.shell().as_bytes().to_vec()],
        false => args.command.iter().map(|word| word.clone().into_bytes()).collect(),
    };
    let tty = io::stdin().is_terminal() && io::stdout().is_terminal();
    if tty && args.command.is_empty() {
        report::print_note(&format!(
            "as `{}` left it; nothing that changes here is kept, but for caches",
            escape_control(failed.text())
        ));
        if !revived.jail.env.iter().any(|pair| pair.starts_with(b"TERM=")) {
            revived.jail.env.push(b"TERM=xterm".to_vec());
        }
    }
    run::run_jail(&mut revived.jail, tty, true)
}
