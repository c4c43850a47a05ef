//! `dram fsck`: verifies the store, and repairs it.

use dram_store::{FsckReport, Store};
use serde_json::json;

use super::print_stdout;
use crate::ambient::AmbientContext;
use crate::cli;
use crate::failure::Failure;
use crate::format::{escape_control, format_count, format_size};
use crate::report;

/// Verifies the store, and repairs it if asked to. Fails if a finding remains.
pub(crate) fn fsck(ambient: &AmbientContext, args: &cli::FsckArgs) -> Result<(), Failure> {
    let waiting = || report::print_note("waiting until no other dram uses the store");
    let store = match args.repair {
        true => Store::open_for_repair(ambient.store()?, &waiting)?,
        false => Store::open(ambient.store()?)?,
    };
    if args.repair {
        store.require_writable()?;
    }
    let checked = dram_build::verify_store(&store, args.repair)?;
    match args.json {
        true => print_json(&checked),
        false => print_text(&checked),
    }
    let left = checked.findings.iter().filter(|finding| !finding.repaired).count();
    match left {
        0 => Ok(()),
        _ if args.repair => Err(Failure::work(format!("{left} findings could not be repaired"))),
        _ => Err(Failure::work(format!("the store has {left} findings")).help("`dram fsck --repair` repairs them")),
    }
}

fn print_text(checked: &FsckReport) {
    for finding in &checked.findings {
        let place = if finding.path.is_empty() { "the store" } else { &finding.path };
        let verb = if finding.repaired { "repaired" } else { "--repair" };
        let text = format!("{place}: {}; it costs {}; {verb}: {}", finding.problem, finding.cost, finding.repair);
        print_stdout(&format!("{}\n", escape_control(&text)));
    }
    let FsckReport { blobs, bytes, layers, names, findings, skipped } = checked;
    for one in skipped {
        print_stdout(&format!("{}\n", escape_control(&format!("{}: {}", one.path, one.reason))));
    }
    let read = format!("{} ({})", format_count(*blobs, "blob"), format_size(*bytes));
    let (layers, names) = (format_count(*layers, "unpacked layer"), format_count(*names, "name"));
    print_stdout(&format!("read {read}, {layers} and {names}: {}\n", format_count(findings.len(), "finding")));
}

fn print_json(checked: &FsckReport) {
    let findings: Vec<_> = checked
        .findings
        .iter()
        .map(|finding| {
            json!({"place": finding.path, "what": finding.problem, "cost": finding.cost, "repair": finding.repair,
                   "mended": finding.repaired})
        })
        .collect();
    let skipped: Vec<_> = checked.skipped.iter().map(|one| json!({"place": one.path, "why": one.reason})).collect();
    let all = json!({"blobs": checked.blobs, "bytes": checked.bytes, "layers": checked.layers, "names": checked.names,
                     "findings": findings, "skipped": skipped});
    print_stdout(&format!("{}\n", serde_json::to_string_pretty(&all).expect("plain data becomes JSON")));
}
