//! `SOURCE_DATE_EPOCH`: the time of a build, from all of its sources.

use std::collections::BTreeMap;

use dram_build::BuildContext;
use dram_dockerfile::ast::{DockerfileInstruction, InstructionBody};
use dram_dockerfile::expand::{ExpandOptions, expand};
use dram_dockerfile::remote::RemoteSource;

use super::dockerfile_source::{ContextLocation, DockerfileSource, locate_context};
use super::remote_context::{ContextFetcher, modification_time};
use crate::ambient::{self, SOURCE_DATE_EPOCH};
use crate::cli;
use crate::failure::Failure;

/// The option, for messages.
const OPTION: &str = "--source-date-epoch";
/// The value of the option for the time of the context's commit.
const COMMIT: &str = "git";
/// The value of the argument with which BuildKit takes the time of a remote context.
const CONTEXT: &str = "context";

/// Returns true if the time of the context's commit is requested.
pub(super) fn wants_commit_time(args: &cli::BuildCommandArgs) -> bool {
    args.source_date_epoch.as_deref() == Some(COMMIT)
}

/// Makes a build argument of `--source-date-epoch`, which is stronger than other sources: its number, or the time of the
/// commit in the directory of the context. For a repository on the network the time is known when it was fetched, see
/// [`take_commit_time`].
pub(super) fn take_option(
    args: &cli::BuildCommandArgs,
    build_args: &mut BTreeMap<String, String>,
    bring: &ContextFetcher<'_>,
) -> Result<(), Failure> {
    let Some(text) = &args.source_date_epoch else { return Ok(()) };
    let time = match text.as_str() {
        COMMIT => match locate_context(&args.context)? {
            ContextLocation::Dir => Some(work_tree_time(args, bring)?),
            ContextLocation::Remote(RemoteSource::Git(_)) => None,
            ContextLocation::Stdin | ContextLocation::Remote(RemoteSource::Url { .. }) => {
                let what = format!("`{OPTION} {COMMIT}`: the build context is not in a Git repository");
                return Err(Failure::usage(what).help(format!("give the number: `{OPTION} EPOCH`")));
            }
        },
        number => Some(ambient::parse_document_time(&format!("`{OPTION}`"), number)?),
    };
    match time {
        Some(time) => build_args.insert(SOURCE_DATE_EPOCH.to_owned(), time.to_string()),
        // It would be the time of another commit.
        None => build_args.remove(SOURCE_DATE_EPOCH),
    };
    Ok(())
}

/// The time of the commit of a clean work tree.
fn work_tree_time(args: &cli::BuildCommandArgs, bring: &ContextFetcher<'_>) -> Result<i64, Failure> {
    let is_cancelled = || bring.cancel.is_cancelled();
    let time = dram_remote::work_tree_commit_time(&ambient::search_path(), &args.context, &[], &is_cancelled);
    time.map_err(|error| {
        let what = format!("`{OPTION} {COMMIT}`: `{}` has no time of a commit", args.context.display());
        let failure = Failure::usage(what).because(&error);
        failure.help(format!("commit everything, or give the number: `{OPTION} EPOCH`"))
    })
}

/// Makes a build argument of the commit's time of a context that was fetched from a repository, if `--source-date-epoch`
/// requests it. All files of such a context have that time.
pub(super) fn take_commit_time(
    args: &cli::BuildCommandArgs,
    build_args: &mut BTreeMap<String, String>,
    context: &BuildContext,
) -> Result<(), Failure> {
    let BuildContext::Fetched { path, .. } = context else { return Ok(()) };
    if !wants_commit_time(args) {
        return Ok(());
    }
    build_args.insert(SOURCE_DATE_EPOCH.to_owned(), modification_time(path)?.to_string());
    Ok(())
}

/// Returns the time that was given: as a build argument, in the environment, or by an `ARG` before the first `FROM`.
/// The value of the environment becomes a build argument, so that an `ARG` in a stage has it. A value without effect
/// becomes one of `notes`.
pub(super) fn take_epoch(
    args: &cli::BuildCommandArgs,
    build_args: &mut BTreeMap<String, String>,
    source: &DockerfileSource,
    notes: &mut Vec<String>,
) -> Result<Option<i64>, Failure> {
    if !build_args.contains_key(SOURCE_DATE_EPOCH)
        && let Some(value) = ambient::env_var(SOURCE_DATE_EPOCH).filter(|value| !value.is_empty())
    {
        build_args.insert(SOURCE_DATE_EPOCH.to_owned(), value);
    }
    if let Some(value) = build_args.get(SOURCE_DATE_EPOCH) {
        return parse_given_epoch(value);
    }
    let Some(found) = epoch_in_dockerfile(build_args, source) else { return Ok(None) };
    let place = format!("{}:{}: `ARG {SOURCE_DATE_EPOCH}`", source.name, found.line);
    match found.value.as_str() {
        "" => Ok(None),
        CONTEXT => match locate_context(&args.context)? {
            ContextLocation::Dir | ContextLocation::Stdin => {
                notes.push(format!("{place} is `{CONTEXT}`: a directory has no time of its own, so no time is set"));
                Ok(None)
            }
            ContextLocation::Remote(_) => {
                let failure = Failure::usage(format!("{place} is `{CONTEXT}`, which dram does not read"));
                Err(failure.help(format!("`{OPTION} {COMMIT}` is the time of the context's commit")))
            }
        },
        value if found.stages.contains(&value.to_lowercase()) => {
            let what = format!("{place} is the stage `{}`: dram takes no time from a stage", value.escape_debug());
            Err(Failure::usage(what).help(format!("write a number, or give one: `{OPTION} EPOCH`")))
        }
        value => ambient::parse_document_time(&place, value).map(Some),
    }
}

fn parse_given_epoch(value: &str) -> Result<Option<i64>, Failure> {
    if value == CONTEXT {
        let failure = Failure::usage(format!("{SOURCE_DATE_EPOCH}={CONTEXT}: a directory has no time of its own"));
        return Err(failure.help(format!("`{OPTION} {COMMIT}` is the time of its commit")));
    }
    ambient::parse_epoch(Some(value))
}

/// The value of an `ARG` before the first `FROM`.
struct EpochInDockerfile {
    value: String,
    line: usize,
    /// The names of the stages, in lower case.
    stages: Vec<String>,
}

/// The largest sum of the arguments before the first `FROM` for which a time is read. An error is reported of longer ones
/// elsewhere.
const MAX_ARGUMENTS_LENGTH: usize = 1 << 20;

/// Returns the last default of the argument before the first `FROM`, with variables expanded.
fn epoch_in_dockerfile(build_args: &BTreeMap<String, String>, source: &DockerfileSource) -> Option<EpochInDockerfile> {
    let dockerfile = dram_dockerfile::parse(&source.bytes).dockerfile;
    let is_from = |instruction: &&DockerfileInstruction| matches!(instruction.body, InstructionBody::From(_));
    let options = ExpandOptions::new(dockerfile.directives.escape);
    let (mut values, mut length) = (BTreeMap::<&str, String>::new(), 0);
    let mut line = None;
    for one in dockerfile.instructions.iter().take_while(|one| !is_from(one)) {
        for argument in one.arguments() {
            let name = argument.name.text.as_str();
            let default = || {
                let text = &argument.default.as_ref()?.text;
                Some(expand(text, options, &|name| values.get(name).map(String::as_str)).ok()?.text)
            };
            let Some(value) = build_args.get(name).cloned().or_else(default) else { continue };
            length += value.len();
            if length > MAX_ARGUMENTS_LENGTH {
                return None;
            }
            if name == SOURCE_DATE_EPOCH {
                line = Some(one.line);
            }
            values.insert(name, value);
        }
    }
    let value = values.remove(SOURCE_DATE_EPOCH)?;
    let names = dockerfile.instructions.iter().filter_map(|one| one.as_from()?.name.as_ref());
    Some(EpochInDockerfile { value, line: line?, stages: names.map(|name| name.text.to_lowercase()).collect() })
}
