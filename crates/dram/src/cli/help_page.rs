//! docs/help.txt: the `--help` of every command as one page, so that a change of the command line is seen in a diff.
#![allow(clippy::disallowed_methods, reason = "the person who runs the test tells it to write the page")]

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use super::Cli;

/// Width of the page. A terminal may be narrower; the texts are the same.
const WIDTH: usize = 100;

/// Appends the long help of a command and of the commands below it. The built-in command `help` repeats them.
fn write_help(command: &mut Command, path: &str, page: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("$ {path} --help\n{}\n\n", lines.join("\n").trim_end()));
    for below in command.get_subcommands_mut().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        let path = format!("{path} {}", below.get_name());
        write_help(below, &path, page);
    }
}

#[test]
fn the_help_page_is_what_the_commands_print() {
    let mut command = Cli::command().term_width(WIDTH);
    command.build();
    let mut page = String::from(
        "The help of every command. Made of crates/dram/src/cli: change it there, then run the test\n\
         `the_help_page_is_what_the_commands_print` with WRITE_PAGES=1.\n\n",
    );
    write_help(&mut command, "dram", &mut page);
    assert!(page.contains("$ dram cache ") && page.lines().count() > 500, "the commands below commands are missing");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/help.txt");
    if std::env::var_os("WRITE_PAGES").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert!(written == page, "run this test with WRITE_PAGES=1, and look at what changed in docs/help.txt");
}
