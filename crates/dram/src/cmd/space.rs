//! `dram prune`, `dram df`, and the size limit of the store.

use dram_store::{Pruned, Store, Usage, Wish};
use serde_json::json;

use super::amount::{bytes, seconds};
use super::say;
use crate::ambient::{self, Ambient, Most};
use crate::cli;
use crate::failure::Failure;
use crate::format::{count, plain, size, table};
use crate::report;

/// Removes unreferenced data, and data that the options select.
pub(crate) fn prune(ambient: &Ambient, args: &cli::Prune) -> Result<(), Failure> {
    let wish = Wish {
        all: args.all,
        older_than: span(args)?,
        most: args.max_used_space.as_deref().map(bytes).transpose()?,
        dry: args.dry_run,
    };
    let waiting = || report::note("waiting until no other dram uses the store");
    let store = Store::open_alone(ambient.store()?, &waiting)?;
    if !args.dry_run {
        store.must_be_writable()?;
    }
    let pruned = store.prune(&wish)?;
    match args.json {
        true => say_json(&pruned, args.dry_run),
        false => say(&told(&pruned, args.dry_run)),
    }
    let too_large = wish.most.filter(|most| pruned.left > *most);
    if let Some(most) = too_large {
        report::note(&still_too_large(pruned.left, most));
    }
    Ok(())
}

fn span(args: &cli::Prune) -> Result<Option<i64>, Failure> {
    if let Some(text) = &args.older_than {
        return seconds(text).map(Some);
    }
    match args.filter.as_deref().map(|filter| (filter, filter.strip_prefix("until="))) {
        None => Ok(None),
        Some((_, Some(text))) => seconds(text).map(Some),
        Some((filter, None)) => {
            Err(Failure::usage(format!("`{}` is no filter of dram's", plain(filter)))
                .help("write `--filter until=24h`"))
        }
    }
}

fn still_too_large(left: u64, most: u64) -> String {
    let (left, most) = (size(left), size(most));
    format!(
        "the store still takes {left}, more than {most}: images with names stay until `dram rm` takes the names off"
    )
}

fn told(pruned: &Pruned, dry: bool) -> String {
    let verb = if dry { "would remove" } else { "removed" };
    let caches = if pruned.caches > 0 { format!(", {}", count(pruned.caches, "cache")) } else { String::new() };
    let mut text = format!(
        "{verb} {}{caches}, {} and {}: {}\n",
        count(pruned.blobs, "blob"),
        count(pruned.layers, "unpacked layer"),
        count(pruned.steps, "remembered step"),
        size(pruned.bytes)
    );
    if dry {
        let mut gone: Vec<_> = pruned.gone.iter().collect();
        gone.sort_by(|a, b| (a.kind, b.bytes, &a.name).cmp(&(b.kind, a.bytes, &b.name)));
        let rows: Vec<Vec<String>> =
            gone.into_iter().map(|gone| vec![gone.kind.to_owned(), plain(&gone.name), size(gone.bytes)]).collect();
        text.push_str(&table(&rows));
    }
    text
}

fn say_json(pruned: &Pruned, dry: bool) {
    let gone: Vec<_> =
        pruned.gone.iter().map(|gone| json!({"kind": gone.kind, "name": gone.name, "bytes": gone.bytes})).collect();
    let all = json!({"dry_run": dry, "bytes": pruned.bytes, "left": pruned.left, "removed": gone});
    say(&format!("{}\n", serde_json::to_string_pretty(&all).expect("plain data becomes JSON")));
}

/// Prints the disk usage of the store.
pub(crate) fn df(ambient: &Ambient, args: &cli::Df) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let usage = store.usage()?;
    let limit = ambient.most().bytes(&store);
    if args.json {
        df_json(&store, &usage, limit);
        return Ok(());
    }
    let head = ["KIND", "COUNT", "SIZE", "PRUNE FREES", "PRUNE --ALL FREES"].map(str::to_owned).to_vec();
    let rows = usage.shares.iter().map(|share| {
        let count = share.count.to_string();
        vec![share.kind.to_owned(), count, size(share.bytes), size(share.plain), size(share.all)]
    });
    say(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {}", size(limit)));
    say(&format!("{} in {} ({limit})\n", size(usage.total), store.root().display()));
    if args.verbose {
        details(&usage);
    }
    Ok(())
}

fn details(usage: &Usage) {
    let head = ["IMAGE", "BLOBS", "SHARED", "UNIQUE"].map(str::to_owned).to_vec();
    let rows = usage.images.iter().map(|image| {
        let unique = image.bytes - image.shared;
        vec![plain(&image.name), size(image.bytes), size(image.shared), size(unique)]
    });
    say(&format!("\n{}", table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())));
    let head = ["KIND", "NAME", "SIZE", "LAST USED"].map(str::to_owned).to_vec();
    let now = ambient::now();
    let rows = usage.things.iter().map(|thing| {
        let used = if thing.used > 0 { super::cache::ago(now - thing.used) } else { String::new() };
        vec![thing.kind.to_owned(), plain(&thing.name), size(thing.bytes), used]
    });
    say(&format!("\n{}", table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())));
}

fn df_json(store: &Store, usage: &Usage, limit: Option<u64>) {
    let kinds: Vec<_> = usage
        .shares
        .iter()
        .map(|share| {
            json!({"kind": share.kind, "count": share.count, "bytes": share.bytes, "reclaimable": share.plain,
                   "reclaimable_all": share.all})
        })
        .collect();
    let images: Vec<_> = usage
        .images
        .iter()
        .map(|image| json!({"name": image.name, "bytes": image.bytes, "shared": image.shared}))
        .collect();
    let things: Vec<_> = usage
        .things
        .iter()
        .map(|thing| json!({"kind": thing.kind, "name": thing.name, "bytes": thing.bytes, "last_used": thing.used}))
        .collect();
    let all = json!({"store": store.root(), "bytes": usage.total, "limit": limit, "kinds": kinds, "images": images,
                     "things": things});
    say(&format!("{}\n", serde_json::to_string_pretty(&all).expect("plain data becomes JSON")));
}

/// Evicts data from a store above its limit. While another process uses the store, a later command does it instead.
pub(crate) fn keep_within(ambient: &Ambient) -> Result<(), Failure> {
    // A copy between other endpoints needs no store, and creates none.
    if matches!(ambient.most(), Most::None) || !ambient.store()?.root.join("version").exists() {
        return Ok(());
    }
    let store = Store::open(ambient.store()?)?;
    let Some(most) = ambient.most().bytes(&store).filter(|_| store.must_be_writable().is_ok()) else { return Ok(()) };
    if store.takes()? <= most {
        return Ok(());
    }
    drop(store);
    let Some(store) = Store::try_open_alone(ambient.store()?)? else { return Ok(()) };
    let pruned = store.prune(&Wish { most: Some(most), ..Wish::default() })?;
    if pruned.bytes > 0 {
        let freed = size(pruned.bytes);
        report::note(&format!("freed {freed} to keep the store below its limit of {}", size(most)));
    }
    if pruned.left > most {
        report::note(&still_too_large(pruned.left, most));
    }
    Ok(())
}
