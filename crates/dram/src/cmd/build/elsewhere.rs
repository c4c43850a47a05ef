//! Build contexts that are no directory of the user's: standard input, files and repositories on the network.
//!
//! What is what, is decided as BuildKit and buildx do. What is brought lies in the store's place for half-done things,
//! which goes with the process.

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

/// So much of a stream says whether it is an archive.
const HEAD: u64 = 512;
/// What a file from the network that is no archive is called in its context.
pub(super) const FILE: &str = "context";

/// What brings contexts here.
pub(crate) struct Bring<'a> {
    /// Opens the store that they are brought to.
    pub(crate) store: &'a dyn Fn() -> Result<&'a Store, Failure>,
    /// Whether anybody wants more of a context than its Dockerfile.
    pub(crate) files: bool,
    /// What stops it.
    pub(crate) cancel: Cancel,
}

/// A context that was brought.
pub(super) enum Brought {
    /// Files.
    Tree(Context),
    /// One file, which is no archive.
    File(Vec<u8>, Context),
}

impl Bring<'_> {
    /// What is at `url`.
    pub(super) fn file(&self, url: &str) -> Result<PathBuf, Failure> {
        let network = Network::new((self.store)()?, self.cancel.clone());
        let file = network.file(url, FILE.to_owned(), None);
        file.map(|file| file.path).map_err(|error| failed(&remote::redacted(url), error))
    }

    /// The archive at `url`, unpacked, or the file that is there.
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

    /// A context that holds the file at `url` and nothing else: what BuildKit makes of a named one, archive or not.
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

    /// What `git` means of a repository, with the times of its commit if that is wanted.
    pub(super) fn git(&self, git: &GitRef, keep_git_dir: bool, times: bool) -> Result<Context, Failure> {
        let network = Network::new((self.store)()?, self.cancel.clone());
        let keep_git_dir = keep_git_dir || git.keep_git_dir == Some(true);
        let tree = network.tree(git, keep_git_dir, times || git.commit_times == Some(true));
        let tree = tree.map_err(|error| failed(&remote::redacted(&git.remote), error))?;
        Ok(Context::Brought { path: tree.path, owners: false })
    }

    /// What comes in on standard input: an archive, unpacked, or a text.
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

    /// `failure`, unless it is that somebody stopped the build.
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

/// A stream that ends in an error when somebody stops the build.
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

/// Standard input, which does not keep its reader for longer than a moment: a signal must be heard while nothing comes.
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

/// Whether a stream that begins with `head` is an archive, as BuildKit sees it, which does not know zstd.
fn is_archive(head: &[u8]) -> bool {
    Compression::of(head) != Compression::None || dram_image::tar::is_header(head)
}

fn failed(shown: &str, error: RemoteError) -> Failure {
    let mut failure = Failure::work(format!("cannot fetch the build context `{shown}`"));
    failure.causes.extend(error.causes);
    failure.helps.extend(error.help);
    failure
}

/// The bytes of the file `name` in a context that was brought; links lead nowhere outside.
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
