//! The inputs of a build: the Dockerfile, the ignore list and the build context.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use dram_build::BuildContext;
use dram_dockerfile::ignore::IgnoreList;
use dram_dockerfile::option_value::parse_go_bool;
use dram_dockerfile::remote::{self, RemoteSource};
use dram_image::TreePath;

use super::remote_context::{ContextFetcher, FetchedContext};
use super::text_files::{TextDir, TextFile, locate_text, read_limited};
use super::{build_id, epoch};
use crate::ambient::{self, SOURCE_DATE_EPOCH};
use crate::cli;
use crate::failure::Failure;

/// A Dockerfile, and its name in messages.
pub(super) struct DockerfileSource {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    /// The name and the content of the ignore list.
    pub(super) ignore: Option<NamedIgnoreList>,
    /// The addresses of the Dockerfile and of the build context, by which a later build finds this one.
    pub(super) addresses: (String, String),
}

/// The kind of a build context.
pub(super) enum ContextLocation {
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
            let (mut source, own_list) = read_dockerfile(&file, Some(path), bring)?;
            source.ignore = match own_list {
                Some(own) => Some(own),
                None => ignore_list_of(path)?,
            };
            let ignore = source.ignore.as_ref().map(|(_, ignore)| ignore.clone());
            Ok((BuildContext::Dir { path: path.clone(), ignore }, source))
        }
    }
}

pub(super) fn locate_context(path: &Path) -> Result<ContextLocation, Failure> {
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
            let keep =
                build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|value| parse_go_bool(value) == Some(true));
            let times = build_args.get(SOURCE_DATE_EPOCH).cloned().or_else(|| ambient::env_var(SOURCE_DATE_EPOCH));
            let times = times.is_some_and(|time| !time.is_empty()) || epoch::wants_commit_time(args);
            (bring.fetch_git(git, keep, times)?, None)
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
            let (mut source, _) = read_dockerfile(file, None, bring)?;
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

/// The Dockerfile in a fetched context; as in BuildKit, its name may be in lower case.
fn dockerfile_in_context(
    context: &BuildContext,
    file: Option<&Path>,
    address: &str,
) -> Result<DockerfileSource, Failure> {
    let name = file.unwrap_or(Path::new("Dockerfile"));
    let name = name.to_str().ok_or_else(|| Failure::usage(format!("`-f {}` is not UTF-8", name.display())))?;
    let dir = TextDir::of_context(context)?;
    let place = (format!("{name} of {address}"), address.to_owned());
    let path = text_path(name)?;
    match find_dockerfile(&dir, &path)? {
        (TextFile::Found(bytes), found) => {
            let place = if found == path { place } else { (format!("{found} of {address}"), address.to_owned()) };
            Ok(DockerfileSource::new(found.to_string(), bytes, place))
        }
        (missing, _) => {
            let failure = Failure::usage(format!("there is no Dockerfile at `{name}` in the build context"));
            Err(match missing {
                TextFile::LeadsOutside(target) => {
                    failure.help(format!("it is a symbolic link to `{target}`: {}", dir.link_help()))
                }
                TextFile::Missing | TextFile::Found(_) => {
                    failure.help("name it with `-f FILE`, a path in the build context")
                }
            })
        }
    }
}

fn text_path(name: &str) -> Result<TreePath, Failure> {
    TreePath::clean(name.as_bytes())
        .map_err(|error| Failure::usage(format!("`{name}` in the build context cannot be a path")).because(&error))
}

/// Reads the Dockerfile at `path`; as in BuildKit, its name may be in lower case. Returns it with its path.
fn find_dockerfile(dir: &TextDir, path: &TreePath) -> Result<(TextFile, TreePath), Failure> {
    let asked = dir.read(path)?;
    if matches!(asked, TextFile::Missing) && path.name() == Some(b"Dockerfile") {
        let small = path.parent().unwrap_or_default().join(b"dockerfile");
        let found = dir.read(&small)?;
        if !matches!(found, TextFile::Missing) {
            return Ok((found, small));
        }
    }
    Ok((asked, path.clone()))
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

/// A name of an ignore list, and the list.
type NamedIgnoreList = (String, Arc<IgnoreList>);

/// Reads the Dockerfile `file`, and the ignore list of its own beside it.
fn read_dockerfile(
    file: &Path,
    context: Option<&Path>,
    bring: &ContextFetcher<'_>,
) -> Result<(DockerfileSource, Option<NamedIgnoreList>), Failure> {
    let addresses = || {
        let context = context.map(build_id::canonical_address).unwrap_or_default();
        (build_id::canonical_address(file), context)
    };
    if file.as_os_str() == "-" {
        let bytes = read_limited(&mut io::stdin().lock(), file)?;
        return Ok((DockerfileSource::new("standard input".to_owned(), bytes, addresses()), None));
    }
    if let Some(url) = dockerfile_url(file) {
        let bytes = bring.fetch_text(url)?;
        return Ok((DockerfileSource::new(remote::redacted(url), bytes, addresses()), None));
    }
    let (dir, path) = locate_text(file, context)?;
    if !dir.as_os_str().is_empty() && !dir.is_dir() {
        return Err(no_dockerfile(file, context));
    }
    let dir = TextDir::open(&dir)?;
    match find_dockerfile(&dir, &path)? {
        (TextFile::Found(bytes), found) => {
            let name = if found == path { file.to_owned() } else { file.with_file_name("dockerfile") };
            let source = DockerfileSource::new(name.display().to_string(), bytes, addresses());
            let mut own = None;
            for path in [&found, &path] {
                let list = TreePath::clean(&[path.as_bytes(), b".dockerignore"].concat());
                own = own
                    .or(read_ignore_list(&dir, &list.map_err(|error| no_dockerfile(file, context).because(&error))?)?);
            }
            Ok((source, own))
        }
        (TextFile::LeadsOutside(target), _) => {
            let what = format!("it is a symbolic link to `{target}`: {}", dir.link_help());
            Err(Failure { helps: vec![what], ..no_dockerfile(file, context) })
        }
        (TextFile::Missing, _) => Err(no_dockerfile(file, context)),
    }
}

fn no_dockerfile(file: &Path, context: Option<&Path>) -> Failure {
    let failure = Failure::usage(format!("there is no Dockerfile at `{}`", file.display()));
    let near = context.map(|context| context.join("Containerfile")).filter(|near| near.is_file());
    let near = near.map_or_else(|| "FILE".to_owned(), |near| near.display().to_string());
    failure.help(format!("name it with `-f {near}`"))
}

/// The ignore list at `path`, if there is one.
fn read_ignore_list(dir: &TextDir, path: &TreePath) -> Result<Option<NamedIgnoreList>, Failure> {
    let Some(bytes) = dir.read_if_present(path)? else { return Ok(None) };
    let name = String::from_utf8_lossy(path.name().unwrap_or_default()).into_owned();
    let text = || String::from_utf8_lossy(&bytes).into_owned();
    match IgnoreList::parse(&bytes) {
        Ok(list) => Ok(Some((name, Arc::new(list)))),
        Err(all) => Err(Failure::text(dir.display_path(path).display().to_string(), text(), all)),
    }
}

/// The ignore list of the build context `path`.
fn ignore_list_of(path: &Path) -> Result<Option<NamedIgnoreList>, Failure> {
    let name = TreePath::root().join(b".dockerignore");
    read_ignore_list(&TextDir::open(path)?, &name)
}

/// A directory of `--build-context`, with its own ignore list.
pub(super) fn named_directory(path: &Path) -> Result<BuildContext, Failure> {
    let ignore = ignore_list_of(path)?.map(|(_, ignore)| ignore);
    Ok(BuildContext::Dir { path: path.to_owned(), ignore })
}
