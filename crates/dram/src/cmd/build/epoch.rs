//! `SOURCE_DATE_EPOCH`: the time of a build, from all of its sources.

use std::collections::BTreeMap;

use dram_dockerfile::ast::{Body, Instruction};

use super::source::Source;
use crate::ambient::{self, EPOCH};
use crate::failure::Failure;

/// Returns the time that was given: as a build argument, in the environment, or by an `ARG` before the first `FROM`.
/// The value of the environment becomes a build argument, so that an `ARG` in a stage has it.
pub(super) fn take(build_args: &mut BTreeMap<String, String>, source: &Source) -> Result<Option<i64>, Failure> {
    if !build_args.contains_key(EPOCH)
        && let Some(value) = ambient::variable(EPOCH).filter(|value| !value.is_empty())
    {
        build_args.insert(EPOCH.to_owned(), value);
    }
    match build_args.get(EPOCH) {
        Some(value) => given(value),
        None => Ok(in_text(source)),
    }
}

fn given(value: &str) -> Result<Option<i64>, Failure> {
    if value == "context" {
        let failure = Failure::usage(format!("{EPOCH}=context: a directory has no time of its own"));
        return Err(failure.help(format!("`--build-arg {EPOCH}=$(git log -1 --format=%ct)`")));
    }
    ambient::epoch(Some(value))
}

/// The value of an `ARG` before the first `FROM`, if it is a plain number.
fn in_text(source: &Source) -> Option<i64> {
    let parsed = dram_dockerfile::parse(&source.bytes);
    let is_from = |instruction: &Instruction| matches!(instruction.body, Body::From(_));
    let first = parsed.dockerfile.instructions.iter().take_while(|instruction| !is_from(instruction));
    let argument = first.flat_map(Instruction::arguments).filter(|argument| argument.name.text == EPOCH).last()?;
    argument.default.as_ref()?.text.parse().ok()
}
