//! `dram import`, `dram save`, `dram load`: images from and to archives and OCI layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read, Write as _};
use std::path::Path;

use dram_build::ArchiveFormat;
use dram_build::transfer::{StoreSource, select_root};
use dram_image::{Descriptor, Reference};
use dram_store::Store;

use super::atomic_write::write_atomically;
use super::{print_stdout, transfer};
use crate::ambient::{self, AmbientContext};
use crate::cli;
use crate::failure::Failure;
use crate::{image_lookup, report};

/// The argument that stands for standard input or output.
const STDIO_ARG: &str = "-";
/// The path of standard input as a file.
const STDIN_PATH: &str = "/dev/stdin";

/// Makes an image from a root file system in a tar.
pub(crate) fn import(ambient: &AmbientContext, args: &cli::ImportArgs) -> Result<(), Failure> {
    let name = image_lookup::parse_reference(&args.name)?;
    let store = Store::open_writable(ambient.store()?)?;
    let stream: Box<dyn Read + Send> = match args.rootfs.as_os_str() == STDIO_ARG {
        true => Box::new(io::stdin()),
        false => Box::new(open_rootfs(&args.rootfs)?),
    };
    let what = args.rootfs.display().to_string();
    let requested = ambient::env_var(ambient::SOURCE_DATE_EPOCH);
    let created = ambient::parse_epoch(requested.as_deref())?;
    let sealed = dram_build::import_tar(&store, stream, &what, ambient::architecture(), created)?;
    store.refs().set(std::slice::from_ref(&name), &sealed.manifest)?;
    print_stdout(&format!("{}@{}\n", name.short_name(), sealed.manifest.digest));
    Ok(())
}

fn open_rootfs(path: &Path) -> Result<File, Failure> {
    let fail = |error: &io::Error| Failure::work(format!("cannot read `{}`", path.display())).because(error);
    let file = File::open(path).map_err(|error| fail(&error))?;
    let meta = file.metadata().map_err(|error| fail(&error))?;
    if meta.is_dir() {
        let failure = Failure::work(format!("`{}` is a directory, not a tar", path.display()));
        return Err(failure.help(format!("`tar -C {} -c . | dram import - NAME`", path.display())));
    }
    Ok(file)
}

/// Writes images to an archive or an OCI layout.
pub(crate) fn save(ambient: &AmbientContext, args: &cli::SaveArgs) -> Result<(), Failure> {
    let store = Store::open(ambient.store()?)?;
    let mut images = Vec::new();
    let selection = transfer::image_selection(args.platform.as_deref(), true)?;
    for text in &args.images {
        let root = image_lookup::find_root(&store, text)?;
        let root = select_root(&root, &StoreSource::new(&store), &selection)?;
        let name = text.parse().ok().filter(|reference| matches!(store.refs().get(reference), Ok(Some(_))));
        images.push((root, name.into_iter().collect()));
    }
    let output = &args.output;
    if output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Ok(dram_build::save_layout(&store, &images, output)?);
    }
    if output.as_os_str() == STDIO_ARG {
        if io::stdout().is_terminal() {
            let failure = Failure::usage("an archive is nothing for a terminal");
            return Err(failure.help("`-o FILE` names a file, `| dram load` hands it on"));
        }
        let mut out = BufWriter::new(io::stdout());
        let shown = Path::new("standard output");
        dram_build::save_archive(&store, &images, ArchiveFormat::Docker, &ambient::platform(), (&mut out, shown))?;
        return out.flush().map_err(|error| Failure::work("cannot write standard output").because(&error));
    }
    write_atomically(output, &mut |out| {
        Ok(dram_build::save_archive(&store, &images, ArchiveFormat::Docker, &ambient::platform(), (out, output))?)
    })
}

/// The failure for an image without a name of its own; `tag` is what the archive calls it.
fn nameless_image(source: &Path, tag: Option<&str>, is_only_one: bool) -> Failure {
    let named = tag.map(|tag| format!(" but `{}`", tag.escape_debug())).unwrap_or_default();
    let failure = Failure::usage(format!("an image in `{}` has no name{named}", source.display()));
    if is_only_one {
        return failure.help("give one with --tag");
    }
    let kind = if source.is_dir() { "oci" } else { "oci-archive" };
    let tag = tag.map_or_else(|| "DIGEST".to_owned(), |tag| tag.escape_debug().to_string());
    failure.help(format!("name each: `dram copy {kind}:{}:{tag} store:NAME`", source.display()))
}

/// Reads images from an archive or an OCI layout into the store.
pub(crate) fn load(ambient: &AmbientContext, args: &cli::LoadArgs) -> Result<(), Failure> {
    let tag = args.tag.as_deref().map(image_lookup::parse_reference).transpose()?;
    let named = args.source.as_deref().or(args.input.as_deref()).filter(|path| path.as_os_str() != STDIO_ARG);
    if named.is_none() && io::stdin().is_terminal() {
        let failure = Failure::usage("nothing says which archive");
        return Err(failure.help("`dram load FILE`, or `dram load < FILE`"));
    }
    let source = named.unwrap_or(Path::new(STDIN_PATH));
    let store = Store::open_writable(ambient.store()?)?;
    let selection = transfer::image_selection(args.platform.as_deref(), args.all_platforms)?;
    let loaded = dram_build::load_images(&store, source, &selection)?;
    if let (Some(tag), [first, ..]) = (&tag, loaded.as_slice()) {
        if loaded.iter().any(|one| one.root.digest != first.root.digest) {
            let what = format!("`{}` holds several images, and one name cannot be for all", source.display());
            let failure = Failure::usage(what);
            return Err(match loaded.iter().find(|one| one.reference().is_none()) {
                Some(nameless) => {
                    let other = nameless_image(source, nameless.name.as_deref(), false);
                    other.helps.into_iter().fold(failure, Failure::help)
                }
                None => failure.help("leave --tag out: each keeps the name it has"),
            });
        }
        store.refs().set(std::slice::from_ref(tag), &first.root)?;
        print_stdout(&format!("{tag}\n"));
        return Ok(());
    }
    let mut all: Vec<(Reference, Descriptor)> = Vec::new();
    let is_one = loaded.windows(2).all(|pair| pair[0].root.digest == pair[1].root.digest);
    for one in loaded {
        let Some(name) = one.reference() else {
            return Err(nameless_image(source, one.name.as_deref(), is_one));
        };
        all.push((name, one.root));
    }
    let old: BTreeMap<_, _> =
        store.refs().list()?.into_iter().map(|tagged| (tagged.name, tagged.root.digest)).collect();
    store.refs().set_all(&all)?;
    // The archive has them in the order of their digests.
    let mut all: Vec<(String, Descriptor)> = all.into_iter().map(|(name, root)| (name.to_string(), root)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut said = BTreeSet::new();
    for (name, root) in all {
        // The archive decides about the names, so the user is told when one pointed to another image before.
        if let Some(before) = old.get(&name).filter(|before| **before != root.digest) {
            report::print_note(&format!("`{name}` was {before}"));
        }
        if said.insert(name.clone()) {
            print_stdout(&format!("{name}\n"));
        }
    }
    Ok(())
}
