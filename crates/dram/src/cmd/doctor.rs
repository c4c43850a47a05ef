//! `dram doctor`: what this machine can do.

use std::process::ExitCode;

use dram_sandbox::{Abilities, State};

use super::say;
use crate::format::{plain, table};

/// Prints the table. Exit code 3 when commands cannot be run.
pub(crate) fn doctor() -> ExitCode {
    let abilities = Abilities::probe();
    let mut rows = Vec::new();
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
