//! `dram doctor`: shows the abilities of this machine.

use std::process::ExitCode;

use dram_sandbox::{Abilities, Commands, State};

use super::say;
use crate::format::{plain, table};

/// Prints the table. The exit code is 3 if commands cannot be run.
pub(crate) fn doctor() -> ExitCode {
    let abilities = Abilities::probe();
    let mut rows = vec![files(&abilities), commands(&abilities)];
    let mut helps = Vec::new();
    for row in abilities.rows() {
        let state = match row.state {
            State::Ok => "ok",
            State::Degraded => "limited",
            State::Missing => "MISSING",
        };
        rows.push(vec![row.name.to_owned(), state.to_owned(), plain(&row.found)]);
        helps.extend(row.help.as_ref().map(|help| format!("help: {}: {}\n", row.name, plain(help))));
    }
    say(&format!("{}{}", table(&rows), helps.concat()));
    if abilities.lack().is_some() { ExitCode::from(3) } else { ExitCode::SUCCESS }
}

/// The row of steps that need no privileges, only a kernel with safe path lookup.
fn files(abilities: &Abilities) -> Vec<String> {
    let (state, how) = match abilities.commands() {
        Commands::AsRoot | Commands::WithIds(_) => ("ok", "owners and devices are kept on the disk"),
        Commands::WithOneId => ("ok", "owners and devices are written down beside each layer"),
        Commands::Not if abilities.rows().iter().any(|row| row.name == "kernel" && row.state == State::Missing) => {
            ("MISSING", "see `kernel`")
        }
        Commands::Not => ("ok", "owners, devices and modes are written down beside each layer"),
    };
    ["COPY, ADD, WORKDIR", state, how].map(str::to_owned).to_vec()
}

fn commands(abilities: &Abilities) -> Vec<String> {
    let (state, how) = match abilities.commands() {
        Commands::AsRoot => ("ok", "as root".to_owned()),
        Commands::WithIds(count) => ("ok", format!("in a user namespace with {count} ids")),
        Commands::WithOneId => {
            ("limited", "in a user namespace with one id: commands see all files as root's".to_owned())
        }
        Commands::Not => ("MISSING", "see below".to_owned()),
    };
    vec!["RUN, dram run".to_owned(), state.to_owned(), how]
}
