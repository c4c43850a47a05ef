//! `SOURCE_DATE_EPOCH`: the time of a build, from all of its sources.

use std::collections::BTreeMap;

use dram_dockerfile::ast::{DockerfileInstruction, InstructionBody};

use super::dockerfile_source::DockerfileSource;
use crate::ambient::{self, SOURCE_DATE_EPOCH};
use crate::failure::Failure;

/// Returns the time that was given: as a build argument, in the environment, or by an `ARG` before the first `FROM`.
/// The value of the environment becomes a build argument, so that an `ARG` in a stage has it.
pub(super) fn take_epoch(
    build_args: &mut BTreeMap<String, String>,
    source: &DockerfileSource,
) -> Result<Option<i64>, Failure> {
    if !build_args.contains_key(SOURCE_DATE_EPOCH)
        && let Some(value) = ambient::env_var(SOURCE_DATE_EPOCH).filter(|value| !value.is_empty())
    {
        build_args.insert(SOURCE_DATE_EPOCH.to_owned(), value);
    }
    match build_args.get(SOURCE_DATE_EPOCH) {
        Some(value) => parse_given_epoch(value),
        None => Ok(epoch_in_dockerfile(source)),
    }
}

fn parse_given_epoch(value: &str) -> Result<Option<i64>, Failure> {
    if value == "context" {
        let failure = Failure::usage(format!("{SOURCE_DATE_EPOCH}=context: a directory has no time of its own"));
        return Err(failure.help(format!("`--build-arg {SOURCE_DATE_EPOCH}=$(git log -1 --format=%ct)`")));
    }
    ambient::parse_epoch(Some(value))
}

/// The value of an `ARG` before the first `FROM`, if it is a plain number.
fn epoch_in_dockerfile(source: &DockerfileSource) -> Option<i64> {
    let parsed = dram_dockerfile::parse(&source.bytes);
    let is_from = |instruction: &DockerfileInstruction| matches!(instruction.body, InstructionBody::From(_));
    let first = parsed.dockerfile.instructions.iter().take_while(|instruction| !is_from(instruction));
    let argument = first
        .flat_map(DockerfileInstruction::arguments)
        .filter(|argument| argument.name.text == SOURCE_DATE_EPOCH)
        .last()?;
    argument.default.as_ref()?.text.parse().ok()
}
