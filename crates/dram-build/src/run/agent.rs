//! A socket of our own before that of an ssh agent, so that owner and mode of what a command sees can be others.
//!
//! Bytes are passed on as they are: what they mean is between ssh and the agent.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
#[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use dram_dockerfile::MountedFile;
use dram_store::{Dir, StoreError};

/// Passes on until dropped.
#[derive(Debug)]
pub(super) struct Relay {
    socket: PathBuf,
    reached: PathBuf,
    ended: Arc<AtomicBool>,
    /// Keeps the short name of the directory alive.
    _directory: Dir,
    listening: Option<JoinHandle<()>>,
}

impl Relay {
    /// A socket in the directory `place`, which is the caller's to remove, that stands for the one at `agent`.
    #[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
    pub(super) fn start(agent: &Path, place: &Path, file: &MountedFile) -> Result<Relay, StoreError> {
        use std::os::fd::AsRawFd as _;
        let fail = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { verb, path, source }
        };
        // A socket's path has room for a hundred bytes, and a store may lie deep.
        UnixStream::connect(short(agent)?.path()).map_err(fail("reach the ssh agent at", agent))?;
        let directory = Dir::open(place)?;
        let reached = PathBuf::from(format!("/proc/self/fd/{}/agent", directory.fd().as_raw_fd()));
        let socket = place.join("agent");
        let listener = UnixListener::bind(&reached).map_err(fail("make the socket", &socket))?;
        let mode = std::fs::Permissions::from_mode(file.mode & 0o777);
        std::fs::set_permissions(&socket, mode).map_err(fail("change the mode of", &socket))?;
        std::os::unix::fs::lchown(&socket, Some(file.uid), Some(file.gid))
            .map_err(fail("change the owner of", &socket))?;
        let ended = Arc::new(AtomicBool::new(false));
        let (agent, over) = (agent.to_owned(), Arc::clone(&ended));
        let listening = thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let agent = agent.clone();
                // Ends when both sides have closed.
                thread::spawn(move || pass_on(&stream, &agent));
            }
        });
        Ok(Relay { socket, reached, ended, _directory: directory, listening: Some(listening) })
    }

    /// The socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }
}

impl Drop for Relay {
    #[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // The listener sees that it is over when somebody comes. Nobody could come if the socket's name is gone.
        if UnixStream::connect(&self.reached).is_ok()
            && let Some(listening) = self.listening.take()
        {
            let _ = listening.join();
        }
    }
}

/// Both directions, until each has ended.
#[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
fn pass_on(stream: &UnixStream, agent: &Path) {
    let Ok(short) = short(agent) else { return };
    let Ok(agent) = UnixStream::connect(short.path()) else { return };
    thread::scope(|scope| {
        scope.spawn(|| one_way(stream, &agent));
        one_way(&agent, stream);
    });
}

#[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
fn one_way(mut from: &UnixStream, mut to: &UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// A name of a socket that is short enough to be connected to.
struct Short {
    path: PathBuf,
    _directory: Dir,
}

impl Short {
    fn path(&self) -> &Path {
        &self.path
    }
}

fn short(socket: &Path) -> Result<Short, StoreError> {
    use std::os::fd::AsRawFd as _;
    let directory = Dir::open(socket.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let path = Path::new("/proc/self/fd").join(directory.fd().as_raw_fd().to_string());
    Ok(Short { path: path.join(socket.file_name().unwrap_or_default()), _directory: directory })
}
