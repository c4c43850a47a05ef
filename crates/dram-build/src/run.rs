//! `RUN`: a command changes the file system; the directory that took its changes is the layer.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dram_dockerfile::{Diagnostic, Run, Step};
use dram_sandbox::{Jail, Network, SandboxError, Stdio3};
use dram_store::{Dir, Merged, Store};

use crate::container::{self, Host};
use crate::lacks;
use crate::users::{self, UserError};
use crate::{BuildError, Cancel, Snapshot};

/// So many last lines of a failed command are shown.
const TAIL: usize = 20;
/// A shell's exit code when it finds no program of that name, or not what the program needs.
const NOT_FOUND: i32 = 127;
/// A longer line is cut: a command that writes no line end must not fill the memory.
const LONGEST_LINE: u64 = 64 << 10;

/// What a command needs from its surroundings.
pub(crate) struct Surroundings<'a> {
    pub(crate) store: &'a Store,
    pub(crate) network: Network,
    pub(crate) host: &'a Host,
    pub(crate) cancel: &'a Cancel,
}

/// Runs the command over `below`. `log` gets each line it writes. Returns the directory with its changes, or `None`
/// when there are none.
pub(crate) fn run(
    around: &Surroundings<'_>,
    below: &Snapshot,
    step: &Step,
    run: &Run,
    log: &mut dyn FnMut(&[u8]),
) -> Result<Option<PathBuf>, BuildError> {
    let store = around.store;
    let (mut jail, place) = container::jail(store, below, around.network, around.host)?;
    fill(&mut jail, store, below, step, run)?;
    let start = |source| BuildError::Start { text: step.text.clone(), span: step.span.clone(), source };
    let pipe = |source| start(SandboxError::HelperTalk { step: "make a pipe for".to_owned(), source });
    let (lines, writer) = io::pipe().map_err(pipe)?;
    let stderr = writer.try_clone().map_err(pipe)?;
    let io = Stdio3::Streams { stdin: Stdio::null(), stdout: writer.into(), stderr: stderr.into() };
    let mut running = jail.spawn(io).map_err(start)?;
    around.cancel.watch(&running.handle());
    let mut tail = VecDeque::new();
    read_lines(BufReader::new(lines), &mut |line| {
        log(line);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(String::from_utf8_lossy(line).into_owned());
    });
    let code = running.wait().map_err(start)?.code();
    if around.cancel.is_thrown() {
        return Err(BuildError::Cancelled);
    }
    if code != 0 {
        let (text, span) = (step.text.clone(), step.span.clone());
        let missing_loader = if code == NOT_FOUND { missing_loader(store, below, &place.upper, run) } else { None };
        return Err(BuildError::Run { text, span, code, tail: tail.into(), missing_loader });
    }
    if Dir::open(&place.upper)?.names()?.is_empty() {
        return Ok(None);
    }
    let maker = (jail.user.uid, jail.user.gid);
    store.layers().inherit_owners(&place.upper, &below.view(store.layers())?, maker)?;
    Ok(Some(place.into_upper()))
}

/// Looks for it in what the failed command left.
fn missing_loader(store: &Store, below: &Snapshot, upper: &Path, run: &Run) -> Option<(String, String)> {
    let lowers = below.layers.iter().rev().map(|layer| store.layers().path(&layer.id));
    let layers: Vec<PathBuf> = std::iter::once(upper.to_owned()).chain(lowers).collect();
    lacks::missing_loader(&Merged::open(&layers).ok()?, run)
}

fn fill(jail: &mut Jail, store: &Store, below: &Snapshot, step: &Step, run: &Run) -> Result<(), BuildError> {
    let view = below.view(store.layers())?;
    let user = users::user(&view, &run.user).map_err(|error| match error {
        UserError::Store(error) => BuildError::from(error),
        UserError::NoUser(_) | UserError::NoGroup(_) | UserError::Large(_) => {
            let help = "make the user with a RUN before the USER instruction, or write its number";
            BuildError::at(Diagnostic::error(step.span.clone(), error.to_string()).help(help))
        }
    })?;
    let pair = |(name, value): &(String, String)| format!("{name}={value}").into_bytes();
    jail.argv = run.argv.iter().map(|word| word.clone().into_bytes()).collect();
    jail.env = run.env.iter().chain(&run.hidden_env).map(pair).collect();
    if !run.env.iter().any(|(name, _)| name == "HOME") {
        jail.env.push(format!("HOME={}", user.home).into_bytes());
    }
    jail.cwd = run.cwd.clone().into_bytes();
    jail.user = user.ids;
    Ok(())
}

/// Calls `each` with every line, without its end, until the writers are gone.
fn read_lines(mut from: impl io::BufRead, each: &mut dyn FnMut(&[u8])) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let got = io::Read::take(&mut from, LONGEST_LINE).read_until(b'\n', &mut line);
        match got {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                while matches!(line.last(), Some(b'\n' | b'\r')) {
                    line.pop();
                }
                each(&line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_cut_where_they_end() {
        let mut lines = Vec::new();
        super::read_lines(&b"a\r\n\nb"[..], &mut |line| lines.push(line.to_vec()));
        assert_eq!(lines, [&b"a"[..], b"", b"b"]);
    }
}
