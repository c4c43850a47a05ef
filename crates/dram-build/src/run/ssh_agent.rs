//! Relays an ssh agent through a socket of its own, so that the socket in the container can have its own owner and
//! mode.
//!
//! Bytes are passed on unchanged; the protocol is between ssh and the agent.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
#[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use dram_plan::MountedFile;
use dram_store::{Dir, StoreError};

/// A relay to an ssh agent, which runs until it is dropped.
#[derive(Debug)]
pub(super) struct AgentRelay {
    socket: PathBuf,
    short_path: PathBuf,
    ended: Arc<AtomicBool>,
    /// Keeps the short path of the directory valid.
    _directory: Dir,
    listener: Option<JoinHandle<()>>,
}

impl AgentRelay {
    /// Starts a relay to the agent at the socket `agent`. Its own socket is in the directory `place`, which the caller
    /// removes.
    #[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
    pub(super) fn start(agent: &Path, place: &Path, file: &MountedFile) -> Result<AgentRelay, StoreError> {
        use std::os::fd::AsRawFd as _;
        let fail = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { verb, path, source }
        };
        // A socket's path is limited to about a hundred bytes, and a store may have a longer one.
        UnixStream::connect(short_socket_path(agent)?.path()).map_err(fail("reach the ssh agent at", agent))?;
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
                // This thread ends when both sides have closed the connection.
                thread::spawn(move || relay_connection(&stream, &agent));
            }
        });
        Ok(AgentRelay { socket, short_path: reached, ended, _directory: directory, listener: Some(listening) })
    }

    /// Returns the path of the relay's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }
}

impl Drop for AgentRelay {
    #[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // The listener checks `ended` at the next connection. If the socket's path is gone, no connection can wake it.
        if UnixStream::connect(&self.short_path).is_ok()
            && let Some(listening) = self.listener.take()
        {
            let _ = listening.join();
        }
    }
}

/// Copies in both directions until each has ended.
#[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
fn relay_connection(stream: &UnixStream, agent: &Path) {
    let Ok(short) = short_socket_path(agent) else { return };
    let Ok(agent) = UnixStream::connect(short.path()) else { return };
    thread::scope(|scope| {
        scope.spawn(|| copy_one_way(stream, &agent));
        copy_one_way(&agent, stream);
    });
}

#[allow(clippy::disallowed_types, reason = "an ssh agent is a socket; it reaches no network")]
fn copy_one_way(mut from: &UnixStream, mut to: &UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// A path of a socket that is short enough for `connect`.
struct ShortSocketPath {
    path: PathBuf,
    _directory: Dir,
}

impl ShortSocketPath {
    fn path(&self) -> &Path {
        &self.path
    }
}

fn short_socket_path(socket: &Path) -> Result<ShortSocketPath, StoreError> {
    use std::os::fd::AsRawFd as _;
    let directory = Dir::open(socket.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let path = Path::new("/proc/self/fd").join(directory.fd().as_raw_fd().to_string());
    Ok(ShortSocketPath { path: path.join(socket.file_name().unwrap_or_default()), _directory: directory })
}
