//! The inputs of a build: the Dockerfile, the ignore list and the build context.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dram_build::Context;
use dram_dockerfile::ignore::Ignore;
use dram_dockerfile::remote::{self, Remote};

use super::elsewhere::{self, Bring, Brought};
use super::place;
use crate::ambient::{self, EPOCH};
use crate::cli;
use crate::failure::Failure;
use crate::format::size;

/// The most bytes of a Dockerfile or ignore list: a longer file is a mistake in its name.
const LONGEST_TEXT: u64 = 16 << 20;

/// A Dockerfile, and its name in messages.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    /// The name and the content of the ignore list.
    pub(super) ignore: Option<(String, Arc<Ignore>)>,
    /// The addresses of the Dockerfile and of the build context, by which a later build finds this one.
    pub(super) place: (String, String),
}

/// The kind of a build context.
enum Whereabouts {
    Input,
    Dir,
    Remote(Remote),
}

/// The build context and the Dockerfile of `args`, fetched if they are remote.
pub(super) fn context(
    args: &cli::Build,
    build_args: &BTreeMap<String, String>,
    bring: &Bring<'_>,
) -> Result<(Context, Source), Failure> {
    let path = &args.context;
    match whereabouts(path)? {
        Whereabouts::Input => input(args, bring),
        Whereabouts::Remote(remote) => elsewhere(args, build_args, bring, &remote),
        Whereabouts::Dir => {
            let file = args.file.clone().unwrap_or_else(|| path.join("Dockerfile"));
            let mut source = dockerfile(&file, path, bring)?;
            source.ignore = ignore(&file, path)?;
            let ignore = source.ignore.as_ref().map(|(_, ignore)| ignore.clone());
            Ok((Context::Dir { path: path.clone(), ignore }, source))
        }
    }
}

fn whereabouts(path: &Path) -> Result<Whereabouts, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Whereabouts::Input);
    }
    if path.is_dir() {
        return Ok(Whereabouts::Dir);
    }
    match path.to_str().map(remote::classify_context).transpose() {
        Ok(Some(Some(remote))) => Ok(Whereabouts::Remote(remote)),
        Err(wrong) => Err(Failure::usage(wrong.message).help(wrong.help)),
        Ok(Some(None) | None) => {
            let what = if path.exists() { "is not a directory" } else { "does not exist" };
            Err(Failure::usage(format!("the build context `{}` {what}", path.display())))
        }
    }
}

/// Reads `dram build -`: an archive, or the Dockerfile.
fn input(args: &cli::Build, bring: &Bring<'_>) -> Result<(Context, Source), Failure> {
    if args.file.as_ref().is_some_and(|file| file.as_os_str() == "-") {
        let failure = Failure::usage("standard input cannot be both the build context and the Dockerfile");
        return Err(failure.help("leave out `-f -`, or name a directory instead of `-`"));
    }
    match bring.input()? {
        Brought::Tree(context) => {
            let source = within(&context, args.file.as_deref(), "-")?;
            Ok((context, source))
        }
        Brought::File(bytes, context) => match &args.file {
            None => Ok((context, Source::new("standard input".to_owned(), bytes, ("-".to_owned(), "-".to_owned())))),
            Some(file) => Err(twice("standard input", file)),
        },
    }
}

/// The failure for a second Dockerfile: the first is standard input or an address that is no archive.
fn twice(what: &str, file: &Path) -> Failure {
    let failure = Failure::usage(format!("{what} is no tar and so the Dockerfile, and so is `-f {}`", file.display()));
    failure.help("leave out `-f`, or give a tar")
}

fn elsewhere(
    args: &cli::Build,
    build_args: &BTreeMap<String, String>,
    bring: &Bring<'_>,
    remote: &Remote,
) -> Result<(Context, Source), Failure> {
    let address = place::address(&args.context);
    let (context, text) = match remote {
        Remote::Git(git) => {
            let keep = build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|value| is_true(value));
            let times = build_args.get(EPOCH).cloned().or_else(|| ambient::variable(EPOCH));
            (bring.git(git, keep, times.is_some_and(|time| !time.is_empty()))?, None)
        }
        Remote::Url { url, .. } => match bring.url(url)? {
            Brought::Tree(context) => (context, None),
            Brought::File(bytes, context) => (context, Some(bytes)),
        },
    };
    // A Dockerfile from outside the build context goes with any build context.
    let own = args.file.as_deref().filter(|file| file.as_os_str() == "-" || file.is_absolute() || url(file).is_some());
    let source = match (own, text) {
        (Some(file), _) => {
            let mut source = dockerfile(file, Path::new(""), bring)?;
            source.place.1 = address;
            source
        }
        (None, None) => within(&context, args.file.as_deref(), &address)?,
        (None, Some(bytes)) => match &args.file {
            None => Source::new(address.clone(), bytes, (address.clone(), address)),
            Some(file) => return Err(twice(&format!("`{address}`"), file)),
        },
    };
    Ok((context, source))
}

/// Returns true for the values that Go's `strconv.ParseBool` calls true.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// The Dockerfile in a fetched context; as in BuildKit, its name may be in lower case.
fn within(context: &Context, file: Option<&Path>, address: &str) -> Result<Source, Failure> {
    let name = file.unwrap_or(Path::new("Dockerfile"));
    let name = name.to_str().ok_or_else(|| Failure::usage(format!("`-f {}` is not UTF-8", name.display())))?;
    let small = name.strip_suffix("Dockerfile").filter(|dir| dir.is_empty() || dir.ends_with('/'));
    let small = small.map(|dir| format!("{dir}dockerfile"));
    for name in [Some(name), small.as_deref()].into_iter().flatten() {
        if let Some(bytes) = elsewhere::text(context, name)? {
            let place = (format!("{name} of {address}"), address.to_owned());
            return Ok(Source::new(name.to_owned(), bytes, place));
        }
    }
    let failure = Failure::usage(format!("there is no Dockerfile at `{name}` in the build context"));
    Err(failure.help("name it with `-f FILE`, a path in the build context"))
}

impl Source {
    fn new(name: String, bytes: Vec<u8>, place: (String, String)) -> Source {
        Source { name, text: String::from_utf8_lossy(&bytes).into_owned(), bytes, ignore: None, place }
    }
}

/// The address of a Dockerfile, if it is on the network.
fn url(file: &Path) -> Option<&str> {
    file.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

fn dockerfile(file: &Path, context: &Path, bring: &Bring<'_>) -> Result<Source, Failure> {
    let (name, bytes) = if file.as_os_str() == "-" {
        ("standard input".to_owned(), read(&mut io::stdin().lock(), file)?)
    } else if let Some(url) = url(file) {
        let fetched = read_file(&bring.file(url)?)?;
        (remote::redacted(url), fetched.unwrap_or_default())
    } else {
        let small = file.file_name().filter(|name| *name == "Dockerfile").map(|_| file.with_file_name("dockerfile"));
        let bytes = match (read_file(file)?, small) {
            (None, Some(small)) => read_file(&small)?,
            (bytes, _) => bytes,
        };
        let bytes = bytes.ok_or_else(|| {
            let failure = Failure::usage(format!("there is no Dockerfile at `{}`", file.display()));
            let near = context.join("Containerfile");
            let near = if near.is_file() { near.display().to_string() } else { "FILE".to_owned() };
            failure.help(format!("name it with `-f {near}`"))
        })?;
        (file.display().to_string(), bytes)
    };
    Ok(Source::new(name, bytes, (place::address(file), place::address(context))))
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

pub(super) fn read(from: &mut dyn Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let got = from.take(LONGEST_TEXT + 1).read_to_end(&mut bytes);
    got.map_err(|error| Failure::usage(format!("cannot read `{}`", path.display())).because(&error))?;
    if bytes.len() as u64 > LONGEST_TEXT {
        let what = format!("`{}` is longer than {}", path.display(), size(LONGEST_TEXT));
        return Err(Failure::usage(what).help("is it the right file?"));
    }
    Ok(bytes)
}

/// The ignore list of this Dockerfile, or else that of the build context.
fn ignore(dockerfile: &Path, context: &Path) -> Result<Option<(String, Arc<Ignore>)>, Failure> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        if let Some(bytes) = read_file(&path)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Some((name, parsed(&path, &bytes)?)));
        }
    }
    Ok(None)
}

fn parsed(path: &Path, bytes: &[u8]) -> Result<Arc<Ignore>, Failure> {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    let ignore = Ignore::parse(bytes);
    ignore.map(Arc::new).map_err(|all| Failure::text(path.display().to_string(), text(), all))
}

/// A directory of `--build-context`, with its own ignore list.
pub(super) fn named(path: &Path) -> Result<Context, Failure> {
    let list = path.join(".dockerignore");
    let ignore = read_file(&list)?.map(|bytes| parsed(&list, &bytes)).transpose()?;
    Ok(Context::Dir { path: path.to_owned(), ignore })
}
