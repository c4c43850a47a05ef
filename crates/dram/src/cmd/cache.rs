//! `dram cache`: lists, exports, imports and removes the content of cache mounts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use dram_store::{CacheMountInfo, CompressionFormat, Store};
use serde::Serialize;

use super::atomic_write::write_atomically;
use super::print_stdout;
use super::quantity::{parse_size, parse_time_span};
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::Failure;
use crate::format::{escape_control, format_count as counted, format_size, format_table};
use crate::report;

/// The length of the part of a key that is shown, and that is enough to name a cache.
const SHOWN_KEY_LENGTH: usize = 12;

/// Runs the subcommand.
pub(crate) fn cache(ambient: &AmbientContext, args: &cli::CacheArgs) -> Result<(), Failure> {
    match &args.command {
        cli::CacheCommand::Ls { json } => ls(ambient, *json),
        cli::CacheCommand::Export { ids, output } => export(ambient, ids, output),
        cli::CacheCommand::Import { file } => import(ambient, file),
        cli::CacheCommand::Prune(args) => prune(ambient, args),
    }
}

/// One line of `dram cache ls`.
#[derive(Serialize)]
struct CacheRow<'a> {
    id: &'a str,
    key: &'a str,
    size: u64,
    uses: u64,
    /// Seconds since 1970.
    last_used: i64,
    mode: String,
    uid: u32,
    gid: u32,
    /// True if its first content came from a stage or an image.
    seeded: bool,
}

fn ls(ambient: &AmbientContext, json: bool) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let all = store.caches().list()?;
    if json {
        let row = |cache: &CacheMountInfo| {
            serde_json::to_value(CacheRow {
                id: &cache.name.id,
                key: &cache.key,
                size: cache.size,
                uses: cache.uses,
                last_used: cache.last_used,
                mode: format!("{:04o}", cache.name.mode),
                uid: cache.name.uid,
                gid: cache.name.gid,
                seeded: cache.name.seed.is_some(),
            })
            .expect("plain data becomes JSON")
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        print_stdout(&format!("{}\n", serde_json::to_string_pretty(&rows).expect("plain data becomes JSON")));
        return Ok(());
    }
    let now = ambient::now();
    let mut rows = vec![["ID", "KEY", "SIZE", "LAST USED", "USES", "OWNER", "MODE"].map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|cache| {
        vec![
            escape_control(&cache.name.id),
            cache.key[..SHOWN_KEY_LENGTH].to_owned() + key_suffix(&cache.key),
            format_size(cache.size),
            format_age(now - cache.last_used),
            cache.uses.to_string(),
            format!("{}:{}", cache.name.uid, cache.name.gid),
            format!("{:04o}", cache.name.mode),
        ]
    }));
    print_stdout(&format_table(&rows));
    Ok(())
}

/// The suffix `.N` of a key; empty for the first cache of a name.
fn key_suffix(key: &str) -> &str {
    let number = key.find('.').map_or("", |at| &key[at..]);
    if number == ".0" { "" } else { number }
}

pub(super) fn format_age(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..60 => return "now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// Returns the caches of `all` that `ids` name, by id or by the start of the key; all of them if `ids` is empty.
fn select_caches<'a>(all: &'a [CacheMountInfo], ids: &[String]) -> Result<Vec<&'a CacheMountInfo>, Failure> {
    if ids.is_empty() {
        return Ok(all.iter().collect());
    }
    let mut chosen = Vec::new();
    for id in ids {
        let is_key =
            |cache: &CacheMountInfo| id.len() >= 4 && (cache.key.starts_with(id) || short_key(&cache.key) == *id);
        let named: Vec<&CacheMountInfo> = all.iter().filter(|cache| cache.name.id == *id).collect();
        let named = if named.is_empty() { all.iter().filter(|cache| is_key(cache)).collect() } else { named };
        if named.is_empty() {
            let mut failure = Failure::work(format!("there is no cache `{}`", escape_control(id)));
            let names = all.iter().map(|cache| cache.name.id.as_str());
            if let Some(near) = dram_dockerfile::suggest::nearest_name(id, names) {
                failure = failure.help(format!("did you mean `{}`?", escape_control(near)));
            }
            return Err(failure.help("`dram cache ls` lists all"));
        }
        chosen.extend(named);
    }
    Ok(chosen)
}

fn short_key(key: &str) -> String {
    key[..SHOWN_KEY_LENGTH].to_owned() + key_suffix(key)
}

fn export(ambient: &AmbientContext, ids: &[String], output: &Path) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let all = store.caches().list()?;
    let keys: Vec<String> = select_caches(&all, ids)?.into_iter().map(|cache| cache.key.clone()).collect();
    let compression = match output.extension().and_then(|ending| ending.to_str()) {
        Some("gz" | "tgz") => CompressionFormat::Gzip,
        Some("zst" | "zstd") => CompressionFormat::Zstd,
        Some("xz" | "txz") => CompressionFormat::Xz,
        Some("bz2" | "tbz2") => CompressionFormat::Bzip2,
        Some(_) | None => CompressionFormat::None,
    };
    if output.as_os_str() == "-" {
        return export_to(&store, &keys, compression, &mut io::stdout().lock());
    }
    write_atomically(output, &mut |out| export_to(&store, &keys, compression, out))?;
    report::print_note(&format!("exported {} to `{}`", counted(keys.len(), "cache"), output.display()));
    Ok(())
}

fn export_to(
    store: &Store,
    keys: &[String],
    compression: CompressionFormat,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    Ok(store.caches().export(keys, compression, out)?)
}

fn import(ambient: &AmbientContext, file: &Path) -> Result<(), Failure> {
    let store = Store::open_writable(ambient.store()?)?;
    let stream: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => {
            let fail = |error: io::Error| Failure::work(format!("cannot read `{}`", file.display())).because(&error);
            Box::new(File::open(file).map_err(fail)?)
        }
    };
    for one in store.caches().import(stream, &file.display().to_string())? {
        let replaced = if one.replaced { ", in the place of the one that was in the store" } else { "" };
        print_stdout(&format!("{}{replaced}\n", escape_control(&one.name.id)));
    }
    Ok(())
}

fn prune(ambient: &AmbientContext, args: &cli::CachePruneArgs) -> Result<(), Failure> {
    let older_than = args.older_than.as_deref().map(parse_time_span).transpose()?;
    let keep_size = args.keep_size.as_deref().map(parse_size).transpose()?;
    if args.ids.is_empty() && !args.all && older_than.is_none() && keep_size.is_none() {
        let failure = Failure::usage("nothing says which caches to remove");
        return Err(failure.help("name some, or use --older-than, --keep-size or --all"));
    }
    let store = Store::open_writable(ambient.store()?)?;
    let all = store.caches().list()?;
    let mut candidates = select_caches(&all, &args.ids)?;
    if let Some(seconds) = older_than {
        let now = ambient::now();
        candidates.retain(|cache| now - cache.last_used >= seconds);
    }
    if let Some(keep) = keep_size {
        candidates = least_recently_used(candidates, keep);
    }
    let (mut count, mut freed) = (0, 0);
    for cache in candidates {
        if args.dry_run || store.caches().remove(&cache.key)? {
            count += 1;
            freed += cache.size;
        } else {
            report::print_note(&format!("the cache `{}` is in use, and stays", escape_control(&cache.name.id)));
        }
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    print_stdout(&format!("{verb} {}: {}\n", counted(count, "cache"), format_size(freed)));
    Ok(())
}

/// Returns the least recently used caches, to be removed so that the others take at most `keep` bytes.
fn least_recently_used(mut all: Vec<&CacheMountInfo>, keep: u64) -> Vec<&CacheMountInfo> {
    all.sort_by(|a, b| b.last_used.cmp(&a.last_used).then_with(|| a.key.cmp(&b.key)));
    let mut kept = 0_u64;
    all.retain(|cache| {
        kept = kept.saturating_add(cache.size);
        kept > keep
    });
    all
}
