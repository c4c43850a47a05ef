//! The texts of a build and the directory it takes files from: the Dockerfile, the ignore list, the context.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dram_build::Context;
use dram_dockerfile::ignore::Ignore;

use crate::cli;
use crate::failure::Failure;
use crate::format::size;

/// Nobody writes a longer one; what is longer is a mistake in the file's name.
const LONGEST_TEXT: u64 = 16 << 20;

/// A text of the user's and what to call it.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    /// The name of the ignore list, and what it says.
    pub(super) ignore: Option<(String, Arc<Ignore>)>,
}

pub(super) fn context(args: &cli::Build) -> Result<(Context, Source), Failure> {
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
    let mut source = dockerfile(&file, path)?;
    source.ignore = ignore(&file, path)?;
    let ignore = source.ignore.as_ref().map(|(_, ignore)| ignore.clone());
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
    Ok(Source { name, text: String::from_utf8_lossy(&bytes).into_owned(), bytes, ignore: None })
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
fn ignore(dockerfile: &Path, context: &Path) -> Result<Option<(String, Arc<Ignore>)>, Failure> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        if let Some(bytes) = read_file(&path)? {
            let text = || String::from_utf8_lossy(&bytes).into_owned();
            let ignore = Ignore::parse(&bytes);
            let ignore = ignore.map_err(|all| Failure::text(path.display().to_string(), text(), all))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Some((name, Arc::new(ignore))));
        }
    }
    Ok(None)
}
