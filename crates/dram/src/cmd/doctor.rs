//! `dram doctor`: shows the abilities of this machine.

use std::path::Path;
use std::process::ExitCode;

use dram_sandbox::{CommandSupport, HostCheckStatus, HostChecks};

use super::print_stdout;
use crate::format::{escape_control, format_table};

/// Prints the table; `store` is the directory of the store. The exit code is 3 if commands cannot be run.
pub(crate) fn doctor(store: Option<&Path>) -> ExitCode {
    let abilities = HostChecks::probe(store);
    let mut rows = vec![files_row(&abilities), commands_row(&abilities)];
    let mut helps = Vec::new();
    for row in abilities.checks() {
        let state = match row.status {
            HostCheckStatus::Ok => "ok",
            HostCheckStatus::Degraded => "limited",
            HostCheckStatus::Missing => "MISSING",
        };
        rows.push(vec![row.name.to_owned(), state.to_owned(), escape_control(&row.detail)]);
        helps.extend(row.help.as_ref().map(|help| format!("help: {}: {}\n", row.name, escape_control(help))));
    }
    print_stdout(&format!("{}{}", format_table(&rows), helps.concat()));
    if abilities.missing_support().is_some() { ExitCode::from(3) } else { ExitCode::SUCCESS }
}

/// The row of steps that need no privileges, only a kernel with safe path lookup.
fn files_row(abilities: &HostChecks) -> Vec<String> {
    let (state, how) = match abilities.command_support() {
        CommandSupport::AsRoot | CommandSupport::UserNamespace(_) => ("ok", "owners and devices are kept on the disk"),
        CommandSupport::SingleId => ("ok", "owners and devices are written down beside each layer"),
        CommandSupport::Unsupported => match abilities.missing_file_access() {
            Some(check) => {
                return ["COPY, ADD, WORKDIR", "MISSING", &format!("see `{check}`")].map(str::to_owned).to_vec();
            }
            None => ("ok", "owners, devices and modes are written down beside each layer"),
        },
    };
    ["COPY, ADD, WORKDIR", state, how].map(str::to_owned).to_vec()
}

fn commands_row(abilities: &HostChecks) -> Vec<String> {
    let (state, how) = match abilities.command_support() {
        CommandSupport::AsRoot => ("ok", "as root".to_owned()),
        CommandSupport::UserNamespace(count) => ("ok", format!("in a user namespace with {count} ids")),
        CommandSupport::SingleId => {
            ("limited", "in a user namespace with a single id: commands see all files as root's".to_owned())
        }
        CommandSupport::Unsupported => ("MISSING", "see below".to_owned()),
    };
    vec!["RUN, dram run".to_owned(), state.to_owned(), how]
}
