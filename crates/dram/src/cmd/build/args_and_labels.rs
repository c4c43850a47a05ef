//! Options of the form `K=V`: `--build-arg` and `--label`.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::{ambient, cli};

pub(super) fn parse_build_args(args: &cli::BuildCommandArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in &args.build_arg {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::usage(format!("`--build-arg {text}` has no name"))),
            Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
            // As in Docker: without a value the environment's is used, and without that the argument is left out.
            None => drop(ambient::env_var(text).map(|value| all.insert(text.clone(), value))),
        }
    }
    Ok(all)
}

/// The labels of `--label`; without `=` the value is empty.
pub(super) fn parse_labels(args: &cli::BuildCommandArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in &args.label {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(Failure::usage(format!("`--label {text}` has no name")));
        }
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}
