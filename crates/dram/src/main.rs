//! The command: it turns arguments into text and an exit code. Only this crate reads the environment, the clock, the
//! home directory and the terminal, and only this crate prints.

mod ambient;
mod cli;
mod cmd;
mod docker_words;
mod failure;
mod format;
mod image_address;
mod image_lookup;
mod image_resolver;
mod large_stack;
mod network_fetcher;
mod progress;
mod registry_access;
mod report;
mod signals;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use dram_error::ErrorClass;

fn main() -> ExitCode {
    install_panic_hook();
    signals::survive_file_size_limit();
    let words = match docker_words::translate(std::env::args_os().collect()) {
        Ok(words) => words,
        Err(failure) => return fail(&failure),
    };
    let cli = match large_stack::on_large_stack(|| cli::Cli::try_parse_from(&words)) {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(failure) = docker_words::refuse_option(&error, &words) {
                return fail(&failure);
            }
            // Help and version are no errors to clap, and it knows which stream they belong to.
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            return match (error.use_stderr(), printed) {
                (true, _) => ExitCode::from(2),
                (false, Err(error)) => cmd::end_unwritable_stdout(&error),
                (false, Ok(())) => ExitCode::SUCCESS,
            };
        }
    };
    match cmd::run(cli) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &failure::Failure) -> ExitCode {
    report::print_failure(failure);
    ExitCode::from(failure.code())
}

/// Installs a panic hook that reports a panic as a bug. A failed write to standard output is no panic: see
/// `print_stdout`. That no thread can be started is one of the standard library, and no bug.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        if let Some(why) = info.payload_as_str().and_then(|text| text.strip_prefix("failed to spawn thread: ")) {
            let failure = failure::Failure::no_more_threads(ErrorClass::Work, why);
            report::print_failure(&failure);
            std::process::exit(i32::from(failure.code()));
        }
        report::print_bug(&info.to_string());
        std::process::exit(70);
    }));
}
