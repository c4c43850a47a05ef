//! Build contexts that are no local directory: standard input, files and repositories on the network.
//!
//! The kind of a context is decided as in BuildKit and buildx. Fetched contexts lie in the store's directory for
//! temporary files, which is removed after the process.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dram_build::{BuildError, Cancel, Context, RemoteError};
use dram_dockerfile::{GitRef, remote};
use dram_image::TreePath;
use dram_store::{Compression, FileKind, Merged, Store, Tree as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::source::read;
use crate::failure::Failure;
use crate::remotes::Network;

/// The number of bytes that decide if a stream is an archive.
const HEAD: u64 = 512;
/// The name in its context of a fetched file that is no archive.
pub(super) const FILE: &str = "context";

/// Fetches build contexts.
pub(crate) struct Bring<'a> {
    /// Opens the store into which contexts are fetched.
    pub(crate) store: &'a dyn Fn() -> Result<&'a Store, Failure>,
    /// True if the files of a context are needed, and not only its Dockerfile.
    pub(crate) files: bool,
    /// Cancels a fetch.
    pub(crate) cancel: Cancel,
}

/// A fetched build context.
pub(super) enum Brought {
    /// A tree of files.
    Tree(Context),
    /// One file that is no archive, and the context for it.
    File(Vec<u8>, Context),
}

impl Bring<'_> {
    /// Fetches the file at `url`.
    pub(super) fn file(&self, url: &str) -> Result<PathBuf, Failure> {
        let network = Network::new((self.store)()?, self.cancel.clone());
        let file = network.file(url, FILE.to_owned(), None);
        file.map(|file| file.path).map_err(|error| failed(&remote::redacted(url), error))
    }

    /// Fetches the file at `url`, and unpacks it if it is an archive.
    pub(super) fn url(&self, url: &str) -> Result<Brought, Failure> {
        let shown = remote::redacted(url);
        let path = self.file(url)?;
        let fail = |error: io::Error| Failure::work(format!("cannot read `{}`", path.display())).because(&error);
        let mut head = Vec::new();
        File::open(&path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(fail)?;
        let file = File::open(&path).map_err(fail)?;
        if is_archive(&head) {
            return self.unpacked(self.stoppable(file), &shown).map(Brought::Tree);
        }
        let context = self.one_file(&path, &shown)?;
        read(&mut &file, Path::new(&shown)).map(|bytes| Brought::File(bytes, context))
    }

    /// A context with the file at `url` and nothing else: BuildKit makes this of a named context, archive or not.
    pub(super) fn url_as_file(&self, url: &str) -> Result<Context, Failure> {
        self.one_file(&self.file(url)?, &remote::redacted(url))
    }

    fn one_file(&self, path: &Path, shown: &str) -> Result<Context, Failure> {
        let dir = (self.store)()?.work().fresh()?;
        let to = dir.join(FILE);
        let copied = fs::copy(path, &to).and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(0o600)));
        copied.map_err(|error| Failure::work(format!("cannot keep `{shown}`")).because(&error))?;
        Ok(Context::Brought { path: dir, owners: false })
    }

    /// Checks out the Git tree that `git` names; with `times`, its files have the time of the commit.
    pub(super) fn git(&self, git: &GitRef, keep_git_dir: bool, times: bool) -> Result<Context, Failure> {
        let network = Network::new((self.store)()?, self.cancel.clone());
        let keep_git_dir = keep_git_dir || git.keep_git_dir == Some(true);
        let tree = network.tree(git, keep_git_dir, times || git.commit_times == Some(true));
        let tree = tree.map_err(|error| failed(&remote::redacted(&git.remote), error))?;
        Ok(Context::Brought { path: tree.path, owners: false })
    }

    /// Reads standard input: an archive, which is unpacked, or a text.
    pub(super) fn input(&self) -> Result<Brought, Failure> {
        const SHOWN: &str = "standard input";
        let mut head = Vec::new();
        let got = self.stoppable(Patient).take(HEAD).read_to_end(&mut head);
        got.map_err(|error| self.stopped(Failure::usage(format!("cannot read {SHOWN}")).because(&error)))?;
        if head.is_empty() {
            let failure = Failure::usage(format!("there is nothing on {SHOWN}"));
            return Err(failure.help("`tar -c . | dram build -` builds a directory, `dram build - <FILE` a Dockerfile"));
        }
        let is_archive = is_archive(&head);
        let mut whole = io::Cursor::new(head).chain(self.stoppable(Patient));
        if is_archive {
            return self.unpacked(whole, SHOWN).map(Brought::Tree);
        }
        let bytes = read(&mut whole, Path::new(SHOWN)).map_err(|failure| self.stopped(failure))?;
        Ok(Brought::File(bytes, self.nothing()?))
    }

    /// A context without files.
    fn nothing(&self) -> Result<Context, Failure> {
        let path = if self.files { (self.store)()?.work().fresh()? } else { PathBuf::new() };
        Ok(Context::Brought { path, owners: false })
    }

    fn stoppable<R: Read>(&self, inner: R) -> Stoppable<R> {
        Stoppable { inner, cancel: self.cancel.clone() }
    }

    /// Returns `failure`, or that of an interrupted build if the build was cancelled.
    fn stopped(&self, failure: Failure) -> Failure {
        match self.cancel.is_thrown() {
            true => Failure::build(BuildError::Cancelled, "", ""),
            false => failure,
        }
    }

    fn unpacked(&self, stream: impl Read + 'static, shown: &str) -> Result<Context, Failure> {
        let store = (self.store)()?;
        let path = store.work().fresh()?;
        let unpacked = store.layers().unpack_archive(stream, &path, shown);
        if !unpacked.map_err(|error| self.stopped(error.into()))? {
            let failure = Failure::work(format!("the build context `{shown}` is compressed, and holds no tar"));
            return Err(failure.help("`tar -cz . >context.tar.gz` makes one"));
        }
        Ok(Context::Brought { path, owners: true })
    }
}

/// A reader that fails when the build is cancelled.
struct Stoppable<R> {
    inner: R,
    cancel: Cancel,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancel.is_thrown() {
                return Err(io::Error::other("somebody stopped the build"));
            }
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

/// Standard input that blocks for a moment only, so that cancelling is noticed while no input arrives.
struct Patient;

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let moment = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let input = io::stdin();
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&moment)) {
            Ok(0) | Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => input.lock().read(buffer),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns true if a stream that begins with `head` is an archive. BuildKit decides in the same way, but does not know
/// zstd.
fn is_archive(head: &[u8]) -> bool {
    Compression::of(head) != Compression::None || dram_image::tar::is_header(head)
}

fn failed(shown: &str, error: RemoteError) -> Failure {
    let mut failure = Failure::work(format!("cannot fetch the build context `{shown}`"));
    failure.causes.extend(error.causes);
    failure.helps.extend(error.help);
    failure
}

/// Reads the file `name` in a fetched context; symbolic links cannot leave the context.
pub(super) fn text(context: &Context, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let Context::Brought { path, .. } = context else { return Ok(None) };
    let wrong = |what: &str| Failure::usage(format!("`{name}` in the build context {what}"));
    let tree = Merged::open(std::slice::from_ref(path))?;
    let clean = TreePath::clean(name.as_bytes()).map_err(|error| wrong("cannot be a path").because(&error))?;
    match tree.find(&clean, true)? {
        None => Ok(None),
        Some(node) if node.status.kind != FileKind::File => Err(wrong("is not a regular file")),
        Some(node) => read(&mut tree.open(&node.path)?, Path::new(name)).map(Some),
    }
}
