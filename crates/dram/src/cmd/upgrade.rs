//! Arguments and messages of `dram release --upgrade`.

use std::path::PathBuf;

use dram_assemble::{ApplicationChange, AssembledRelease, PreparedUpgrade, UpgradeRequest};
use serde_json::{Value, json};

use crate::cli;
use crate::failure::Failure;

/// Reads `--from`: directories of modules, or the version to upgrade from.
pub(super) fn parse_from(args: &cli::ReleaseArgs) -> Result<(&[PathBuf], Option<UpgradeRequest>), Failure> {
    match (args.upgrade, args.from.as_slice()) {
        (false, [_, ..]) if args.env.is_some() => {
            Err(Failure::usage("`--env` and `--from` cannot be given together: compiled modules have no environment"))
        }
        (false, from) => Ok((from, None)),
        (true, _) if args.otp.is_some() => {
            Err(Failure::usage("`--otp` and `--upgrade` cannot be given together: the project's own Erlang is taken"))
        }
        (true, []) => Ok((&[], Some(UpgradeRequest { from: None }))),
        (true, [from]) => Ok((&[], Some(UpgradeRequest { from: Some(from.to_string_lossy().into_owned()) }))),
        (true, [_, _, ..]) => {
            let failure = Failure::usage("`--from` takes one version with `--upgrade`");
            Err(failure.help("name the project before it: `dram release PROJECT --upgrade --from VERSION`"))
        }
    }
}

/// Describes the upgrade, and the commands that install it on a running system.
pub(super) fn upgrade_text(made: &AssembledRelease, upgrade: &PreparedUpgrade) -> String {
    let mut text = format!("\nan upgrade from {}:\n\n", upgrade.from);
    for changed in &upgrade.changes {
        let how = changed.appup.as_ref().map_or("worked out".to_owned(), |path| format!("as {} says", path.display()));
        text.push_str(&format!("    {} {} becomes {}, {how}\n", changed.name, changed.from, changed.to));
    }
    let (name, version) = (&made.name, &made.version);
    text.push_str("\nto upgrade a running system, copy the archive to its directory, and change it there:\n\n");
    text.push_str(&format!("    releases/{version}/{name}.tar.gz\n    bin/{name} upgrade {version}\n"));
    text
}

/// The same as JSON.
pub(super) fn upgrade_json(upgrade: &PreparedUpgrade) -> Value {
    let changed = |changed: &ApplicationChange| {
        json!({
            "name": changed.name,
            "from": changed.from,
            "to": changed.to,
            "appup": changed.appup.as_ref().map(|path| path.to_string_lossy()),
        })
    };
    json!({ "from": upgrade.from, "applications": upgrade.changes.iter().map(changed).collect::<Vec<_>>() })
}
