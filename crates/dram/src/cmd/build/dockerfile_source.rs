//! The inputs of a build: the Dockerfile, the ignore list and the build context.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dram_build::BuildContext;
use dram_dockerfile::ignore::IgnoreList;
use dram_dockerfile::remote::{self, RemoteSource};

use super::build_id;
use super::remote_context::{self, ContextFetcher, FetchedContext};
use crate::ambient::{self, SOURCE_DATE_EPOCH};
use crate::cli;
use crate::failure::Failure;
use crate::format::format_size;

/// The most bytes of a Dockerfile or ignore list: a longer file is a mistake in its name.
const MAX_TEXT_LENGTH: u64 = 16 << 20;

/// A Dockerfile, and its name in messages.
pub(super) struct DockerfileSource {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    /// The name and the content of the ignore list.
    pub(super) ignore: Option<(String, Arc<IgnoreList>)>,
    /// The addresses of the Dockerfile and of the build context, by which a later build finds this one.
    pub(super) addresses: (String, String),
}

/// The kind of a build context.
enum ContextLocation {
    Stdin,
    Dir,
    Remote(RemoteSource),
}

/// The build context and the Dockerfile of `args`, fetched if they are remote.
pub(super) fn resolve_context(
    args: &cli::BuildCommandArgs,
    build_args: &BTreeMap<String, String>,
    bring: &ContextFetcher<'_>,
) -> Result<(BuildContext, DockerfileSource), Failure> {
    let path = &args.context;
    match locate_context(path)? {
        ContextLocation::Stdin => context_from_stdin(args, bring),
        ContextLocation::Remote(remote) => remote_context(args, build_args, bring, &remote),
        ContextLocation::Dir => {
            let file = args.file.clone().unwrap_or_else(|| path.join("Dockerfile"));
            let mut source = read_dockerfile(&file, path, bring)?;
            source.ignore = read_ignore_list(&file, path)?;
            let ignore = source.ignore.as_ref().map(|(_, ignore)| ignore.clone());
            Ok((BuildContext::Dir { path: path.clone(), ignore }, source))
        }
    }
}

fn locate_context(path: &Path) -> Result<ContextLocation, Failure> {
    if path.as_os_str() == "-" {
        return Ok(ContextLocation::Stdin);
    }
    if path.is_dir() {
        return Ok(ContextLocation::Dir);
    }
    match path.to_str().map(remote::classify_context).transpose() {
        Ok(Some(Some(remote))) => Ok(ContextLocation::Remote(remote)),
        Err(wrong) => Err(Failure::usage(wrong.message).help(wrong.help)),
        Ok(Some(None) | None) => {
            let what = if path.exists() { "is not a directory" } else { "does not exist" };
            Err(Failure::usage(format!("the build context `{}` {what}", path.display())))
        }
    }
}

/// Reads `dram build -`: an archive, or the Dockerfile.
fn context_from_stdin(
    args: &cli::BuildCommandArgs,
    bring: &ContextFetcher<'_>,
) -> Result<(BuildContext, DockerfileSource), Failure> {
    if args.file.as_ref().is_some_and(|file| file.as_os_str() == "-") {
        let failure = Failure::usage("standard input cannot be both the build context and the Dockerfile");
        return Err(failure.help("leave out `-f -`, or name a directory instead of `-`"));
    }
    match bring.read_stdin()? {
        FetchedContext::Tree(context) => {
            let source = dockerfile_in_context(&context, args.file.as_deref(), "-")?;
            Ok((context, source))
        }
        FetchedContext::File(bytes, context) => match &args.file {
            None => Ok((
                context,
                DockerfileSource::new("standard input".to_owned(), bytes, ("-".to_owned(), "-".to_owned())),
            )),
            Some(file) => Err(second_dockerfile("standard input", file)),
        },
    }
}

/// The failure for a second Dockerfile: the first is standard input or an address that is no archive.
fn second_dockerfile(what: &str, file: &Path) -> Failure {
    let failure = Failure::usage(format!("{what} is no tar and so the Dockerfile, and so is `-f {}`", file.display()));
    failure.help("leave out `-f`, or give a tar")
}

fn remote_context(
    args: &cli::BuildCommandArgs,
    build_args: &BTreeMap<String, String>,
    bring: &ContextFetcher<'_>,
    remote: &RemoteSource,
) -> Result<(BuildContext, DockerfileSource), Failure> {
    let address = build_id::canonical_address(&args.context);
    let (context, text) = match remote {
        RemoteSource::Git(git) => {
            let keep = build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|value| is_go_true(value));
            let times = build_args.get(SOURCE_DATE_EPOCH).cloned().or_else(|| ambient::env_var(SOURCE_DATE_EPOCH));
            (bring.fetch_git(git, keep, times.is_some_and(|time| !time.is_empty()))?, None)
        }
        RemoteSource::Url { url, .. } => match bring.fetch_url(url)? {
            FetchedContext::Tree(context) => (context, None),
            FetchedContext::File(bytes, context) => (context, Some(bytes)),
        },
    };
    // A Dockerfile from outside the build context goes with any build context.
    let own = args
        .file
        .as_deref()
        .filter(|file| file.as_os_str() == "-" || file.is_absolute() || dockerfile_url(file).is_some());
    let source = match (own, text) {
        (Some(file), _) => {
            let mut source = read_dockerfile(file, Path::new(""), bring)?;
            source.addresses.1 = address;
            source
        }
        (None, None) => dockerfile_in_context(&context, args.file.as_deref(), &address)?,
        (None, Some(bytes)) => match &args.file {
            None => DockerfileSource::new(address.clone(), bytes, (address.clone(), address)),
            Some(file) => return Err(second_dockerfile(&format!("`{address}`"), file)),
        },
    };
    Ok((context, source))
}

/// Returns true for the values that Go's `strconv.ParseBool` calls true.
fn is_go_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// The Dockerfile in a fetched context; as in BuildKit, its name may be in lower case.
fn dockerfile_in_context(
    context: &BuildContext,
    file: Option<&Path>,
    address: &str,
) -> Result<DockerfileSource, Failure> {
    let name = file.unwrap_or(Path::new("Dockerfile"));
    let name = name.to_str().ok_or_else(|| Failure::usage(format!("`-f {}` is not UTF-8", name.display())))?;
    let small = name.strip_suffix("Dockerfile").filter(|dir| dir.is_empty() || dir.ends_with('/'));
    let small = small.map(|dir| format!("{dir}dockerfile"));
    for name in [Some(name), small.as_deref()].into_iter().flatten() {
        if let Some(bytes) = remote_context::read_context_file(context, name)? {
            let place = (format!("{name} of {address}"), address.to_owned());
            return Ok(DockerfileSource::new(name.to_owned(), bytes, place));
        }
    }
    let failure = Failure::usage(format!("there is no Dockerfile at `{name}` in the build context"));
    Err(failure.help("name it with `-f FILE`, a path in the build context"))
}

impl DockerfileSource {
    fn new(name: String, bytes: Vec<u8>, addresses: (String, String)) -> DockerfileSource {
        DockerfileSource { name, text: String::from_utf8_lossy(&bytes).into_owned(), bytes, ignore: None, addresses }
    }
}

/// The address of a Dockerfile, if it is on the network.
fn dockerfile_url(file: &Path) -> Option<&str> {
    file.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

fn read_dockerfile(file: &Path, context: &Path, bring: &ContextFetcher<'_>) -> Result<DockerfileSource, Failure> {
    let (name, bytes) = if file.as_os_str() == "-" {
        ("standard input".to_owned(), read_limited(&mut io::stdin().lock(), file)?)
    } else if let Some(url) = dockerfile_url(file) {
        let fetched = read_file(&bring.fetch_file(url)?)?;
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
    Ok(DockerfileSource::new(name, bytes, (build_id::canonical_address(file), build_id::canonical_address(context))))
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
    read_limited(&mut file, path).map(Some)
}

pub(super) fn read_limited(from: &mut dyn Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let got = from.take(MAX_TEXT_LENGTH + 1).read_to_end(&mut bytes);
    got.map_err(|error| Failure::usage(format!("cannot read `{}`", path.display())).because(&error))?;
    if bytes.len() as u64 > MAX_TEXT_LENGTH {
        let what = format!("`{}` is longer than {}", path.display(), format_size(MAX_TEXT_LENGTH));
        return Err(Failure::usage(what).help("is it the right file?"));
    }
    Ok(bytes)
}

/// The ignore list of this Dockerfile, or else that of the build context.
fn read_ignore_list(dockerfile: &Path, context: &Path) -> Result<Option<(String, Arc<IgnoreList>)>, Failure> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        if let Some(bytes) = read_file(&path)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Some((name, parse_ignore_list(&path, &bytes)?)));
        }
    }
    Ok(None)
}

fn parse_ignore_list(path: &Path, bytes: &[u8]) -> Result<Arc<IgnoreList>, Failure> {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    let ignore = IgnoreList::parse(bytes);
    ignore.map(Arc::new).map_err(|all| Failure::text(path.display().to_string(), text(), all))
}

/// A directory of `--build-context`, with its own ignore list.
pub(super) fn named_directory(path: &Path) -> Result<BuildContext, Failure> {
    let list = path.join(".dockerignore");
    let ignore = read_file(&list)?.map(|bytes| parse_ignore_list(&list, &bytes)).transpose()?;
    Ok(BuildContext::Dir { path: path.to_owned(), ignore })
}
