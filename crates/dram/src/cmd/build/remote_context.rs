//! Build contexts that are no local directory: standard input, files and repositories on the network.
//!
//! The kind of a context is decided as in BuildKit and buildx. Fetched contexts lie in the store's directory for
//! temporary files, which is removed after the process.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dram_build::{BuildContext, BuildError, CancelToken, RemoteError};
use dram_dockerfile::remote;
use dram_plan::GitRef;
use dram_store::{CompressionFormat, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::text_files::read_limited;
use crate::failure::Failure;
use crate::network_fetcher::NetworkFetcher;

/// The number of bytes that decide if a stream is an archive.
const DETECTION_LENGTH: u64 = 512;
/// The name in its context of a fetched file that is no archive.
pub(super) const FETCHED_FILE_NAME: &str = "context";

/// Fetches build contexts.
pub(crate) struct ContextFetcher<'a> {
    /// Opens the store into which contexts are fetched.
    pub(crate) store: &'a dyn Fn() -> Result<&'a Store, Failure>,
    /// True if the files of a context are needed, and not only its Dockerfile.
    pub(crate) needs_files: bool,
    /// The socket of the ssh agent for the repositories that the command line names.
    pub(crate) ssh_agent: Option<PathBuf>,
    /// Cancels a fetch.
    pub(crate) cancel: CancelToken,
}

/// A fetched build context.
pub(super) enum FetchedContext {
    /// A tree of files.
    Tree(BuildContext),
    /// One file that is no archive, and the context for it.
    File(Vec<u8>, BuildContext),
}

impl ContextFetcher<'_> {
    fn network(&self) -> Result<NetworkFetcher<'_>, Failure> {
        Ok(NetworkFetcher::new((self.store)()?, self.ssh_agent.clone(), self.cancel.clone()))
    }

    /// Fetches the file at `url`.
    fn fetch_file(&self, url: &str) -> Result<PathBuf, Failure> {
        let network = self.network()?;
        let file = network.fetch_file(url, FETCHED_FILE_NAME.to_owned(), None);
        file.map(|file| file.path).map_err(|error| fetch_failure(&remote::redacted(url), error))
    }

    /// Fetches the text at `url`.
    pub(super) fn fetch_text(&self, url: &str) -> Result<Vec<u8>, Failure> {
        let path = self.fetch_file(url)?;
        let file = File::open(&path);
        let mut file =
            file.map_err(|error| Failure::work(format!("cannot read `{}`", path.display())).because(&error))?;
        read_limited(&mut file, Path::new(&remote::redacted(url)))
    }

    /// Fetches the file at `url`, and unpacks it if it is an archive.
    pub(super) fn fetch_url(&self, url: &str) -> Result<FetchedContext, Failure> {
        let shown = remote::redacted(url);
        let path = self.fetch_file(url)?;
        let fail = |error: io::Error| Failure::work(format!("cannot read `{}`", path.display())).because(&error);
        let mut head = Vec::new();
        File::open(&path).and_then(|file| file.take(DETECTION_LENGTH).read_to_end(&mut head)).map_err(fail)?;
        let file = File::open(&path).map_err(fail)?;
        if is_archive(&head) {
            return self.unpack(self.cancellable(file), &shown).map(FetchedContext::Tree);
        }
        let context = self.single_file_context(&path, &shown)?;
        read_limited(&mut &file, Path::new(&shown)).map(|bytes| FetchedContext::File(bytes, context))
    }

    /// A context with the file at `url` and nothing else: BuildKit makes this of a named context, archive or not.
    pub(super) fn fetch_url_as_file(&self, url: &str) -> Result<BuildContext, Failure> {
        self.single_file_context(&self.fetch_file(url)?, &remote::redacted(url))
    }

    fn single_file_context(&self, path: &Path, shown: &str) -> Result<BuildContext, Failure> {
        let dir = (self.store)()?.work_dir().temp_dir()?;
        let to = dir.join(FETCHED_FILE_NAME);
        let copied = fs::copy(path, &to).and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(0o600)));
        copied.map_err(|error| Failure::work(format!("cannot keep `{shown}`")).because(&error))?;
        Ok(BuildContext::Fetched { path: dir, owners: false })
    }

    /// Checks out the Git tree that `git` names; with `times`, its files have the time of the commit.
    pub(super) fn fetch_git(&self, git: &GitRef, keep_git_dir: bool, times: bool) -> Result<BuildContext, Failure> {
        let network = self.network()?;
        let keep_git_dir = keep_git_dir || git.keep_git_dir == Some(true);
        let tree = network.checkout_tree(git, keep_git_dir, times || git.commit_times == Some(true));
        let tree = tree.map_err(|error| fetch_failure(&remote::redacted(&git.remote), error))?;
        Ok(BuildContext::Fetched { path: tree.path, owners: false })
    }

    /// Reads standard input: an archive, which is unpacked, or a text.
    pub(super) fn read_stdin(&self) -> Result<FetchedContext, Failure> {
        const SHOWN: &str = "standard input";
        let mut head = Vec::new();
        let got = self.cancellable(PollingStdin).take(DETECTION_LENGTH).read_to_end(&mut head);
        got.map_err(|error| self.or_interrupted(Failure::usage(format!("cannot read {SHOWN}")).because(&error)))?;
        if head.is_empty() {
            let failure = Failure::usage(format!("there is nothing on {SHOWN}"));
            return Err(failure.help("`tar -c . | dram build -` builds a directory, `dram build - <FILE` a Dockerfile"));
        }
        let is_archive = is_archive(&head);
        let mut whole = io::Cursor::new(head).chain(self.cancellable(PollingStdin));
        if is_archive {
            return self.unpack(whole, SHOWN).map(FetchedContext::Tree);
        }
        let bytes = read_limited(&mut whole, Path::new(SHOWN)).map_err(|failure| self.or_interrupted(failure))?;
        Ok(FetchedContext::File(bytes, self.empty_context()?))
    }

    /// A context without files.
    fn empty_context(&self) -> Result<BuildContext, Failure> {
        let path = if self.needs_files { (self.store)()?.work_dir().temp_dir()? } else { PathBuf::new() };
        Ok(BuildContext::Fetched { path, owners: false })
    }

    fn cancellable<R: Read>(&self, inner: R) -> CancellableReader<R> {
        CancellableReader { inner, cancel: self.cancel.clone() }
    }

    /// Returns `failure`, or that of an interrupted build if the build was cancelled.
    fn or_interrupted(&self, failure: Failure) -> Failure {
        match self.cancel.is_cancelled() {
            true => Failure::build(BuildError::Cancelled, "", ""),
            false => failure,
        }
    }

    fn unpack(&self, stream: impl Read + 'static, shown: &str) -> Result<BuildContext, Failure> {
        let store = (self.store)()?;
        let path = store.work_dir().temp_dir()?;
        let unpacked = store.layers().unpack_archive(stream, &path, shown);
        if unpacked.map_err(|error| self.or_interrupted(error.into()))?.is_none() {
            let failure = Failure::work(format!("the build context `{shown}` is compressed, and holds no tar"));
            return Err(failure.help("`tar -cz . >context.tar.gz` makes one"));
        }
        Ok(BuildContext::Fetched { path, owners: true })
    }
}

/// A reader that fails when the build is cancelled.
struct CancellableReader<R> {
    inner: R,
    cancel: CancelToken,
}

impl<R: Read> Read for CancellableReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("the build was interrupted"));
            }
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

/// Standard input that blocks for a moment only, so that cancelling is noticed while no input arrives.
struct PollingStdin;

impl Read for PollingStdin {
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
    CompressionFormat::detect(head) != CompressionFormat::None || dram_image::tar::is_header_block(head)
}

/// Returns the modification time of the fetched directory `path`, in seconds since 1970.
pub(super) fn modification_time(path: &Path) -> Result<i64, Failure> {
    let status = fs::metadata(path);
    let status = status.map_err(|error| Failure::work(format!("cannot read `{}`", path.display())).because(&error))?;
    Ok(status.mtime())
}

fn fetch_failure(shown: &str, error: RemoteError) -> Failure {
    let mut failure = Failure::work(format!("cannot fetch the build context `{shown}`"));
    failure.causes.extend(error.causes);
    failure.helps.extend(error.help);
    failure
}
