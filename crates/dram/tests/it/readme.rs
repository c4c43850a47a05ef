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

#[test]
fn an_old_cargo_is_told_with_the_version_that_is_needed() {
    let manifest = fs::read_to_string(repo("Cargo.toml")).unwrap();
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).unwrap();
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(repo(page)).unwrap();
        assert!(text.contains(&format!("Rust {wanted} or newer")), "{page}");
    }
    let tools = temp();
    for (name, text) in [("cargo", "echo 'cargo 1.85.1 (0123abc 2025-01-01)'"), ("gcc", ":")] {
        let path = tools.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    let script = || tool("bash").arg(repo("scripts/install-needs.sh")).without("DRAM").env("PATH", &path);
    let done = script().fails(1);
    done.says(&format!("dram needs Rust {wanted} or newer, and this cargo is 1.85.1")).says("rustup default stable");
    let rustup = tools.path().join("rustup");
    fs::write(&rustup, "#!/bin/sh\necho \"rustup $*\"\n").unwrap();
    fs::set_permissions(&rustup, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let done = script().ok();
    assert!(done.stdout.contains(&format!("rustup toolchain install {wanted} ")), "{done}");
    fs::write(tools.path().join("cargo"), format!("#!/bin/sh\necho 'cargo {wanted}.3 (0123abc 2026-01-01)'\n"))
        .unwrap();
    assert_eq!(script().ok().stdout, "");
}
