//! Runs the commands of README.md.

use std::fs;

use crate::support::{dram_path, repo, temp, tool};

/// Commands that other tests cover, or that change the host.
const LEFT_OUT: [&str; 3] = ["make ", "cargo ", "apt-get "];

/// Returns the commands of a page: lines after `$ ` in console blocks, continued by lines with `> ` or after a `\`.
fn commands(page: &str) -> Vec<String> {
    let (mut commands, mut inside, mut goes_on): (Vec<String>, _, _) = (Vec::new(), false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            (inside, goes_on) = (line == "```console", false);
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
            goes_on = true;
        } else if goes_on {
            let broken = commands.last().is_some_and(|command| command.ends_with('\\'));
            match line.strip_prefix("> ").or(broken.then_some(line)) {
                Some(more) => *commands.last_mut().unwrap() += &format!("\n{more}"),
                None => goes_on = false,
            }
        }
    }
    commands.retain(|command| !LEFT_OUT.iter().any(|start| command.starts_with(start)));
    commands
}

#[test]
fn console_commands_are_extracted_without_their_output() {
    let page = "$ no\n```console\n$ one\nout\n> out\n$ cat <<E\n> text\n> E\n$ make all\n```\n```\n$ no\n```\n\
                ```console\n$ a \\\n  b\nout\n```\n";
    assert_eq!(commands(page), ["one", "cat <<E\ntext\nE", "a \\\n  b"]);
}

#[test]
fn the_tour_of_the_readme_works() {
    let commands = commands(&fs::read_to_string(repo("README.md")).unwrap());
    assert!(commands.iter().any(|command| command.starts_with("dram build ")), "{commands:#?}");
    let home = temp();
    let path = format!("{}:{}", dram_path().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let tour = home.path().join("tour");
    fs::create_dir(&tour).unwrap();
    let bash = tool("bash").args(["-e", "-x", "-c", &commands.join("\n")]).dir(&tour);
    bash.env("PATH", path).env("HOME", home.path()).env("DRAM_STORE", home.path().join("store")).ok();
}
