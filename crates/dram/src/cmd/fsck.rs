//! `dram fsck`: verifies the store, and repairs it.

use dram_store::{Checked, Store};
use serde_json::json;

use super::say;
use crate::ambient::Ambient;
use crate::cli;
use crate::failure::Failure;
use crate::format::{count, plain, size};
use crate::report;

/// Verifies the store, and repairs it if asked to. Fails if a finding remains.
pub(crate) fn fsck(ambient: &Ambient, args: &cli::Fsck) -> Result<(), Failure> {
    let waiting = || report::note("waiting until no other dram uses the store");
    let store = match args.repair {
        true => Store::open_to_mend(ambient.store()?, &waiting)?,
        false => Store::open(ambient.store()?)?,
    };
    if args.repair {
        store.must_be_writable()?;
    }
    let checked = dram_build::check(&store, args.repair)?;
    match args.json {
        true => say_json(&checked),
        false => tell(&checked),
    }
    let left = checked.findings.iter().filter(|finding| !finding.mended).count();
    match left {
        0 => Ok(()),
        _ if args.repair => Err(Failure::work(format!("{left} findings could not be mended"))),
        _ => Err(Failure::work(format!("the store has {left} findings")).help("`dram fsck --repair` mends them")),
    }
}

fn tell(checked: &Checked) {
    for finding in &checked.findings {
        let place = if finding.place.is_empty() { "the store" } else { &finding.place };
        let verb = if finding.mended { "mended" } else { "--repair" };
        let text = format!("{place}: {}; it costs {}; {verb}: {}", finding.what, finding.cost, finding.repair);
        say(&format!("{}\n", plain(&text)));
    }
    let Checked { blobs, bytes, layers, names, findings, skipped } = checked;
    for one in skipped {
        say(&format!("{}\n", plain(&format!("{}: {}", one.place, one.why))));
    }
    let read = format!("{} ({})", count(*blobs, "blob"), size(*bytes));
    let (layers, names) = (count(*layers, "unpacked layer"), count(*names, "name"));
    say(&format!("read {read}, {layers} and {names}: {}\n", count(findings.len(), "finding")));
}

fn say_json(checked: &Checked) {
    let findings: Vec<_> = checked
        .findings
        .iter()
        .map(|finding| {
            json!({"place": finding.place, "what": finding.what, "cost": finding.cost, "repair": finding.repair,
                   "mended": finding.mended})
        })
        .collect();
    let skipped: Vec<_> = checked.skipped.iter().map(|one| json!({"place": one.place, "why": one.why})).collect();
    let all = json!({"blobs": checked.blobs, "bytes": checked.bytes, "layers": checked.layers, "names": checked.names,
                     "findings": findings, "skipped": skipped});
    say(&format!("{}\n", serde_json::to_string_pretty(&all).expect("plain data becomes JSON")));
}
