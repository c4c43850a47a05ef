//! `dram prune`, `dram df`, and the size limit of the store.

use dram_store::{PruneOptions, PruneReport, Store, StoreUsage};
use serde_json::json;

use super::print_stdout;
use super::quantity::{parse_size, parse_time_span};
use crate::ambient::{self, AmbientContext, StoreQuota};
use crate::cli;
use crate::failure::Failure;
use crate::format::{escape_control, format_count, format_size, format_table};
use crate::report;

/// Removes unreferenced data, and data that the options select.
pub(crate) fn prune(ambient: &AmbientContext, args: &cli::PruneArgs) -> Result<(), Failure> {
    let wish = PruneOptions {
        all: args.all,
        older_than: requested_age(args)?,
        max_bytes: args.max_used_space.as_deref().map(parse_size).transpose()?,
        dry_run: args.dry_run,
    };
    let waiting = || report::print_note("waiting until no other dram uses the store");
    let store = Store::open_exclusive(ambient.store()?, &waiting)?;
    if !args.dry_run {
        store.require_writable()?;
    }
    let pruned = store.prune(&wish)?;
    match args.json {
        true => print_pruned_json(&pruned, args.dry_run),
        false => print_stdout(&pruned_text(&pruned, args.dry_run)),
    }
    let too_large = wish.max_bytes.filter(|most| pruned.remaining_bytes > *most);
    if let Some(most) = too_large {
        report::print_note(&still_too_large(pruned.remaining_bytes, most));
    }
    Ok(())
}

fn requested_age(args: &cli::PruneArgs) -> Result<Option<i64>, Failure> {
    if let Some(text) = &args.older_than {
        return parse_time_span(text).map(Some);
    }
    match args.filter.as_deref().map(|filter| (filter, filter.strip_prefix("until="))) {
        None => Ok(None),
        Some((_, Some(text))) => parse_time_span(text).map(Some),
        Some((filter, None)) => Err(Failure::usage(format!("`{}` is no filter of dram's", escape_control(filter)))
            .help("write `--filter until=24h`")),
    }
}

fn still_too_large(left: u64, most: u64) -> String {
    let (left, most) = (format_size(left), format_size(most));
    format!(
        "the store still takes {left}, more than {most}: images with names stay until `dram rm` removes their names"
    )
}

fn pruned_text(pruned: &PruneReport, dry: bool) -> String {
    let verb = if dry { "would remove" } else { "removed" };
    let caches = if pruned.caches > 0 { format!(", {}", format_count(pruned.caches, "cache")) } else { String::new() };
    let mut text = format!(
        "{verb} {}{caches}, {} and {}: {}\n",
        format_count(pruned.blobs, "blob"),
        format_count(pruned.layers, "unpacked layer"),
        format_count(pruned.steps, "cached step"),
        format_size(pruned.bytes)
    );
    if dry {
        let mut gone: Vec<_> = pruned.items.iter().collect();
        gone.sort_by(|a, b| (a.kind, b.bytes, &a.name).cmp(&(b.kind, a.bytes, &b.name)));
        let rows: Vec<Vec<String>> = gone
            .into_iter()
            .map(|gone| vec![gone.kind.to_owned(), escape_control(&gone.name), format_size(gone.bytes)])
            .collect();
        text.push_str(&format_table(&rows));
    }
    text
}

fn print_pruned_json(pruned: &PruneReport, dry: bool) {
    let gone: Vec<_> =
        pruned.items.iter().map(|gone| json!({"kind": gone.kind, "name": gone.name, "bytes": gone.bytes})).collect();
    let all = json!({"dry_run": dry, "bytes": pruned.bytes, "left": pruned.remaining_bytes, "removed": gone});
    print_stdout(&format!("{}\n", serde_json::to_string_pretty(&all).expect("plain data becomes JSON")));
}

/// Prints the disk usage of the store.
pub(crate) fn df(ambient: &AmbientContext, args: &cli::DfArgs) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let usage = store.usage()?;
    let limit = ambient.quota().bytes(&store);
    if args.json {
        print_usage_json(&store, &usage, limit);
        return Ok(());
    }
    let head = ["KIND", "COUNT", "SIZE", "PRUNE FREES", "PRUNE --ALL FREES"].map(str::to_owned).to_vec();
    let rows = usage.kinds.iter().map(|share| {
        let count = share.count.to_string();
        vec![
            share.kind.to_owned(),
            count,
            format_size(share.bytes),
            format_size(share.prunable),
            format_size(share.prunable_with_all),
        ]
    });
    print_stdout(&format_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {}", format_size(limit)));
    print_stdout(&format!("{} in {} ({limit})\n", format_size(usage.total_bytes), store.root().display()));
    if args.verbose {
        print_usage_details(&usage);
    }
    Ok(())
}

fn print_usage_details(usage: &StoreUsage) {
    let head = ["IMAGE", "BLOBS", "SHARED", "UNIQUE"].map(str::to_owned).to_vec();
    let rows = usage.images.iter().map(|image| {
        let unique = image.bytes - image.shared;
        vec![escape_control(&image.name), format_size(image.bytes), format_size(image.shared), format_size(unique)]
    });
    print_stdout(&format!("\n{}", format_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())));
    let head = ["KIND", "NAME", "SIZE", "LAST USED"].map(str::to_owned).to_vec();
    let now = ambient::now();
    let rows = usage.items.iter().map(|thing| {
        let used = if thing.last_used > 0 { super::cache::format_age(now - thing.last_used) } else { String::new() };
        vec![thing.kind.to_owned(), escape_control(&thing.name), format_size(thing.bytes), used]
    });
    print_stdout(&format!("\n{}", format_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())));
}

fn print_usage_json(store: &Store, usage: &StoreUsage, limit: Option<u64>) {
    let kinds: Vec<_> = usage
        .kinds
        .iter()
        .map(|share| {
            json!({"kind": share.kind, "count": share.count, "bytes": share.bytes, "reclaimable": share.prunable,
                   "reclaimable_all": share.prunable_with_all})
        })
        .collect();
    let images: Vec<_> = usage
        .images
        .iter()
        .map(|image| json!({"name": image.name, "bytes": image.bytes, "shared": image.shared}))
        .collect();
    let things: Vec<_> = usage
        .items
        .iter()
        .map(
            |thing| json!({"kind": thing.kind, "name": thing.name, "bytes": thing.bytes, "last_used": thing.last_used}),
        )
        .collect();
    let all = json!({"store": store.root(), "bytes": usage.total_bytes, "limit": limit, "kinds": kinds, "images": images,
                     "things": things});
    print_stdout(&format!("{}\n", serde_json::to_string_pretty(&all).expect("plain data becomes JSON")));
}

/// Evicts data from a store above its limit. While another process uses the store, a later command does it instead.
pub(crate) fn enforce_quota(ambient: &AmbientContext) -> Result<(), Failure> {
    // A copy between other endpoints needs no store, and creates none.
    if matches!(ambient.quota(), StoreQuota::Unlimited) || !ambient.store()?.root.join("version").exists() {
        return Ok(());
    }
    let store = Store::open(ambient.store()?)?;
    let Some(most) = ambient.quota().bytes(&store).filter(|_| store.require_writable().is_ok()) else { return Ok(()) };
    if store.quick_usage()? <= most {
        return Ok(());
    }
    drop(store);
    let Some(store) = Store::try_open_exclusive(ambient.store()?)? else { return Ok(()) };
    let pruned = store.prune(&PruneOptions { max_bytes: Some(most), ..PruneOptions::default() })?;
    if pruned.bytes > 0 {
        let freed = format_size(pruned.bytes);
        report::print_note(&format!("freed {freed} to keep the store below its limit of {}", format_size(most)));
    }
    if pruned.remaining_bytes > most {
        report::print_note(&still_too_large(pruned.remaining_bytes, most));
    }
    Ok(())
}
