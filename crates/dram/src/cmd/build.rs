//! `dram build`: a Dockerfile becomes an image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dram_build::{Cancel, Context, Image, Options, Outside};
use dram_dockerfile::ignore::Ignore;
use dram_dockerfile::{Diagnostic, Need, NeedKind, Parsed, Plan, Settings, Severity, StageGraph, Triggers};
use dram_image::{ImageConfig, Reference};
use dram_store::Store;

use super::{lacks, say};
use crate::ambient::{self, Ambient};
use crate::cli;
use crate::failure::{Failure, Remarks};
use crate::format::size;
use crate::progress::Progress;
use crate::{find, report, signals};

/// Nobody writes a longer one; what is longer is a mistake in the file's name.
const LONGEST_TEXT: u64 = 16 << 20;

/// Builds the image and names it.
pub(crate) fn build(ambient: &Ambient, args: &cli::Build) -> Result<(), Failure> {
    let tags = args.tag.iter().map(|text| find::reference(text)).collect::<Result<Vec<_>, _>>()?;
    let build_args = build_args(args)?;
    let latest = ambient::latest(build_args.get("SOURCE_DATE_EPOCH").map(String::as_str))?;
    let (context, source) = context(args)?;
    let contexts = named(args)?;
    let host = ambient.host()?;
    let store = Store::open_to_write(ambient.store()?)?;
    let (plan, outside) = plan(&store, args, &source, build_args, &contexts)?;
    let progress = Progress::new(args.progress, &plan);
    let cancel = Cancel::default();
    signals::cancel_on_signal(cancel.clone())?;
    let network = match args.network {
        cli::Network::Host => dram_sandbox::Network::Host,
        cli::Network::None => dram_sandbox::Network::None,
    };
    let options = Options { store: &store, context: &context, use_memory: !args.no_cache, network, host, cancel };
    let tell = |event| progress.tell(event);
    let built = dram_build::build(&plan, &outside, &options, &tell);
    if built.is_err() {
        progress.end();
    }
    let snapshot = built.map_err(|error| {
        let mut failure = Failure::build(error, &source.name, &source.text);
        if progress.shows_output() {
            failure.output.clear();
        }
        failure
    })?;
    let config = plan.stages[plan.target].config.clone();
    let sealed = dram_build::seal(&store, &snapshot, config, latest, &tell)?;
    store.refs().set(&tags, &sealed.manifest)?;
    progress.end();
    if args.progress == cli::Progress::Quiet {
        say(&format!("{}\n", sealed.manifest.digest));
        return Ok(());
    }
    lacks::warn(&dram_build::lacks(&store, &snapshot)?);
    let (remembered, done) = progress.counts();
    let image = Image::open(&store, &sealed.manifest)?;
    let names: Vec<String> = tags.iter().map(Reference::short).collect();
    let named = if names.is_empty() { "built".to_owned() } else { format!("built {}", names.join(", ")) };
    report::note(&format!(
        "{named}: {}, {} compressed; {done} steps carried out, {remembered} remembered",
        sealed.manifest.digest,
        size(image.compressed_size())
    ));
    Ok(())
}

fn build_args(args: &cli::Build) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in &args.build_arg {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::usage(format!("`--build-arg {text}` has no name"))),
            Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
            // As engines do: without a value it is the environment's, and nothing when that has none.
            None => drop(ambient::variable(text).map(|value| all.insert(text.clone(), value))),
        }
    }
    Ok(all)
}

/// A text of the user's and what to call it.
struct Source {
    name: String,
    text: String,
    bytes: Vec<u8>,
}

fn context(args: &cli::Build) -> Result<(Context, Source), Failure> {
    let path = &args.context;
    let shown = path.display();
    if path.as_os_str() == "-" || path.to_str().is_some_and(|text| text.contains("://")) {
        let failure = Failure::usage(format!("`{shown}` is not supported as a build context yet"));
        return Err(failure.help("name a directory"));
    }
    if !path.is_dir() {
        let what = if path.exists() { "is not a directory" } else { "does not exist" };
        return Err(Failure::usage(format!("the build context `{shown}` {what}")));
    }
    let file = args.file.clone().unwrap_or_else(|| path.join("Dockerfile"));
    let source = dockerfile(&file, path)?;
    let ignore = ignore(&file, path)?;
    Ok((Context::Dir { path: path.clone(), ignore }, source))
}

fn dockerfile(file: &Path, context: &Path) -> Result<Source, Failure> {
    let (name, bytes) = match file.as_os_str() == "-" {
        true => ("standard input".to_owned(), read(&mut io::stdin().lock(), file)?),
        false => {
            let bytes = read_file(file)?.ok_or_else(|| {
                let failure = Failure::usage(format!("there is no Dockerfile at `{}`", file.display()));
                let near = context.join("Containerfile");
                let near = if near.is_file() { near.display().to_string() } else { "FILE".to_owned() };
                failure.help(format!("name it with `-f {near}`"))
            })?;
            (file.display().to_string(), bytes)
        }
    };
    Ok(Source { name, text: String::from_utf8_lossy(&bytes).into_owned(), bytes })
}

/// The bytes of a regular file, or `None` when there is none.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let fail = |error: &io::Error| Failure::usage(format!("cannot read `{}`", path.display())).because(error);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(&error)),
        Ok(meta) if !meta.is_file() => {
            return Err(Failure::usage(format!("`{}` is not a regular file", path.display())));
        }
        Ok(_) => {}
    }
    let mut file = File::open(path).map_err(|error| fail(&error))?;
    read(&mut file, path).map(Some)
}

fn read(from: &mut dyn Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let got = from.take(LONGEST_TEXT + 1).read_to_end(&mut bytes);
    got.map_err(|error| Failure::usage(format!("cannot read `{}`", path.display())).because(&error))?;
    if bytes.len() as u64 > LONGEST_TEXT {
        let what = format!("`{}` is longer than {}", path.display(), size(LONGEST_TEXT));
        return Err(Failure::usage(what).help("is it the right file?"));
    }
    Ok(bytes)
}

/// The ignore list of this Dockerfile, or that of the context.
fn ignore(dockerfile: &Path, context: &Path) -> Result<Option<Arc<Ignore>>, Failure> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        if let Some(bytes) = read_file(&path)? {
            let text = || String::from_utf8_lossy(&bytes).into_owned();
            let ignore = Ignore::parse(&bytes);
            let ignore = ignore.map_err(|all| Failure::text(path.display().to_string(), text(), all))?;
            return Ok(Some(Arc::new(ignore)));
        }
    }
    Ok(None)
}

/// What `--build-context` gives names to.
fn named(args: &cli::Build) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in &args.build_context {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                all.insert(name.to_owned(), value.to_owned());
            }
            Some(_) | None => return Err(Failure::usage(format!("`--build-context {text}` is not NAME=VALUE"))),
        }
    }
    Ok(all)
}

/// Reads the Dockerfile, finds what it needs from outside, and plans. Warnings are shown; errors all at once.
fn plan(
    store: &Store,
    args: &cli::Build,
    source: &Source,
    build_args: BTreeMap<String, String>,
    contexts: &BTreeMap<String, String>,
) -> Result<(Plan, BTreeMap<String, Outside>), Failure> {
    let parsed = dram_dockerfile::parse(&source.bytes);
    let settings = Settings {
        target: args.target.clone(),
        build_args,
        contexts: contexts.keys().cloned().collect::<BTreeSet<_>>(),
        os: "linux".to_owned(),
        architecture: ambient::architecture().to_owned(),
        variant: None,
        builder: None,
    };
    let Graph { graph, outside, mut remarks } = graph(store, source, &parsed, &settings, contexts)?;
    let found = |(name, outside): (&String, &Outside)| match outside {
        Outside::Image(image) => Some((name.clone(), image.config.value().clone())),
        Outside::Dir(_) => None,
    };
    let found: BTreeMap<String, ImageConfig> = outside.iter().filter_map(found).collect();
    let (plan, more) = graph.plan(&found);
    remarks.extend(more);
    let Some(plan) = plan.filter(|_| !has_errors(&remarks)) else { return Err(wrong(source, remarks)) };
    if !remarks.is_empty() && args.progress != cli::Progress::Quiet {
        report::warnings(&Remarks { name: source.name.clone(), text: source.text.clone(), diagnostics: remarks });
    }
    Ok((plan, outside))
}

/// The stages, what they need from outside, and what there is to say about them.
struct Graph {
    graph: StageGraph,
    outside: BTreeMap<String, Outside>,
    remarks: Vec<Diagnostic>,
}

/// Reads the stages and finds what they need. An image may have triggers that need more, so this is done until all is
/// known.
fn graph(
    store: &Store,
    source: &Source,
    parsed: &Parsed,
    settings: &Settings,
    contexts: &BTreeMap<String, String>,
) -> Result<Graph, Failure> {
    let mut triggers = Triggers::new();
    loop {
        let mut remarks = parsed.diagnostics.clone();
        let (graph, more) = StageGraph::new(&parsed.dockerfile, settings, &triggers);
        remarks.extend(more);
        let Some(graph) = graph.filter(|_| !has_errors(&remarks)) else { return Err(wrong(source, remarks)) };
        let (outside, more) = outside(store, &graph.needs(), settings, contexts)?;
        if has_errors(&more) {
            let diagnostics = remarks.into_iter().chain(more).collect();
            let mut failure = wrong(source, diagnostics);
            failure.becomes_work();
            return Err(failure);
        }
        let found = |(name, outside): (&String, &Outside)| match outside {
            Outside::Image(image) => Some((name.clone(), image.config.value().config.on_build.clone())),
            Outside::Dir(_) => None,
        };
        let found: Triggers = outside.iter().filter_map(found).filter(|(_, texts)| !texts.is_empty()).collect();
        if found == triggers {
            return Ok(Graph { graph, outside, remarks });
        }
        triggers = found;
    }
}

fn has_errors(remarks: &[Diagnostic]) -> bool {
    remarks.iter().any(|remark| remark.severity == Severity::Error)
}

/// The errors; what a warning at the same place proposes may be just what is meant.
fn wrong(source: &Source, remarks: Vec<Diagnostic>) -> Failure {
    let (mut remarks, warnings): (Vec<_>, Vec<_>) =
        remarks.into_iter().partition(|remark| remark.severity == Severity::Error);
    for warning in warnings {
        if let Some(error) = remarks.iter_mut().find(|error| error.span == warning.span) {
            error.helps.splice(0..0, warning.helps);
        }
    }
    remarks.sort_by_key(|remark| remark.span.start);
    Failure::text(source.name.clone(), source.text.clone(), remarks)
}

type Found = (BTreeMap<String, Outside>, Vec<Diagnostic>);

/// Finds every image and named context; what is not found is remarked upon at its place.
fn outside(
    store: &Store,
    needs: &[Need],
    settings: &Settings,
    contexts: &BTreeMap<String, String>,
) -> Result<Found, Failure> {
    let mut outside = BTreeMap::new();
    let mut remarks = Vec::new();
    for need in needs {
        let value = settings.context_for(&need.name).and_then(|name| contexts.get(name));
        let found = match value {
            Some(value) => named_context(store, value)?,
            None => find::descriptor(store, &need.name)?
                .map(|descriptor| Image::open(store, &descriptor).map(|image| Outside::Image(Box::new(image))))
                .transpose()?,
        };
        match found {
            Some(Outside::Dir(_)) if need.kind == NeedKind::Base => {
                let what = format!("the build context `{}` is a directory, and a stage stands on an image", need.name);
                let help = "start the stage with `FROM scratch` and `COPY --from` the context";
                remarks.push(Diagnostic::error(need.span.clone(), what).help(help));
            }
            Some(found) => drop(outside.insert(need.key.clone(), found)),
            None => remarks.push(not_found(store, need)?),
        }
    }
    Ok((outside, remarks))
}

fn named_context(store: &Store, value: &str) -> Result<Option<Outside>, Failure> {
    if let Some(name) = value.strip_prefix("docker-image://") {
        return Ok(Some(Outside::Image(Box::new(find::image(store, name)?))));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        return layout_context(store, layout).map(Some);
    }
    if value.contains("://") {
        let failure = Failure::usage(format!("the build context `{value}` is of a kind that is not supported yet"));
        return Err(failure.help("name a directory, docker-image://NAME or oci-layout://DIR[:TAG]"));
    }
    match Path::new(value).is_dir() {
        true => Ok(Some(Outside::Dir(PathBuf::from(value)))),
        false => Err(Failure::usage(format!("the build context `{value}` is not a directory"))),
    }
}

fn layout_context(store: &Store, text: &str) -> Result<Outside, Failure> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (text, None),
    };
    let loaded = dram_build::load(store, Path::new(path), ambient::architecture())?;
    let fits = |name: &str| tag.is_none_or(|tag| name == tag || name.ends_with(&format!(":{tag}")));
    let one = loaded.iter().find(|one| one.name.as_deref().is_none_or(fits)).or(match tag {
        Some("latest") | None => loaded.first(),
        Some(_) => None,
    });
    match one {
        Some(one) => Ok(Outside::Image(Box::new(Image::open(store, &one.manifest)?))),
        None => Err(Failure::work(format!("the layout `{path}` has no image `{}`", tag.unwrap_or_default()))),
    }
}

fn not_found(store: &Store, need: &Need) -> Result<Diagnostic, Failure> {
    let unknown = find::unknown(store, &need.name)?;
    let mut remark = Diagnostic::error(need.span.clone(), unknown.causes.join(": "));
    remark.helps = unknown.helps;
    Ok(remark)
}
