//! The command: it turns arguments into text and an exit code. Only this crate reads the environment, the clock, the
//! home directory and the terminal, and only this crate prints.

mod ambient;
mod cli;
mod cmd;
mod failure;
mod format;
mod image_address;
mod image_lookup;
mod image_resolver;
mod network_fetcher;
mod progress;
mod registry_access;
mod report;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    install_panic_hook();
    signals::survive_file_size_limit();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors to clap, and it knows which stream they belong to.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match cmd::run(cli) {
        Ok(code) => code,
        Err(failure) => {
            report::print_failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// Installs a panic hook that reports a panic as a bug. A failed write to standard output is no panic: see
/// `print_stdout`.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        report::print_bug(&info.to_string());
        std::process::exit(70);
    }));
}
