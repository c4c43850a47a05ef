//! TCP connections with a timeout for every wait.

use alloc::vec;

use dram_start::byte_string::ByteString;
use dram_start::node::address::NodeAddress;

use crate::errno::StartErrno;
use crate::sys::{self, StartFd};

const READABLE: u16 = 1;
const WRITABLE: u16 = 4;
const TIMEOUT: StartErrno = StartErrno(110);

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct NodeStream(StartFd);

/// Connects to the first address that answers.
pub(crate) fn connect_to_any(
    addresses: &[NodeAddress],
    port: u16,
    milliseconds: u64,
) -> Result<NodeStream, StartErrno> {
    let mut last = StartErrno(113);
    for address in addresses {
        match connect_one(address, port, milliseconds) {
            Ok(stream) => return Ok(stream),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

fn connect_one(address: &NodeAddress, port: u16, milliseconds: u64) -> Result<NodeStream, StartErrno> {
    let socket = sys::socket(address.family())?;
    match sys::connect(&socket, &address.to_sockaddr(port)) {
        Ok(()) => {}
        Err(StartErrno::INPROGRESS) => {
            let until = sys::monotonic_milliseconds() + milliseconds;
            while !sys::wait_for_events(socket.0, WRITABLE, 100)? {
                if sys::monotonic_milliseconds() >= until {
                    return Err(TIMEOUT);
                }
            }
            sys::socket_error(&socket)?;
        }
        Err(other) => return Err(other),
    }
    Ok(NodeStream(socket))
}

/// The result of reading a number of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamRead {
    /// All bytes were read.
    Bytes(ByteString),
    /// The peer closed the connection.
    End,
}

impl NodeStream {
    /// A connection over a socket that is connected already.
    pub(crate) fn from_socket(socket: StartFd) -> Self {
        Self(socket)
    }

    /// Returns true if data arrives within the timeout.
    pub(crate) fn readable(&self, milliseconds: u64) -> Result<bool, StartErrno> {
        sys::wait_for_events(self.0.0, READABLE, milliseconds)
    }

    /// Waits until data arrives here or at the file descriptor `other`. Returns for each of them whether it can be read.
    pub(crate) fn readable_beside(&self, other: i32, milliseconds: u64) -> Result<(bool, bool), StartErrno> {
        let [here, beside] = sys::wait_for_input([self.0.0, other], milliseconds)?;
        Ok((here, beside))
    }

    /// Reads exactly `count` bytes.
    pub(crate) fn read(&self, count: usize, milliseconds: u64) -> Result<StreamRead, StartErrno> {
        let mut found = vec![0; count];
        let mut filled = 0;
        let until = sys::monotonic_milliseconds() + milliseconds;
        while filled < count {
            match sys::read(self.0.0, &mut found[filled..]) {
                Ok(0) => return Ok(StreamRead::End),
                Ok(more) => filled += more,
                Err(StartErrno::AGAIN) => {
                    let left = until.saturating_sub(sys::monotonic_milliseconds());
                    if left == 0 {
                        return Err(TIMEOUT);
                    }
                    self.readable(left)?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(StreamRead::Bytes(found))
    }

    /// Writes all bytes.
    pub(crate) fn write(&self, mut bytes: &[u8], milliseconds: u64) -> Result<(), StartErrno> {
        let until = sys::monotonic_milliseconds() + milliseconds;
        while !bytes.is_empty() {
            match sys::send(&self.0, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(StartErrno::AGAIN) => {
                    let left = until.saturating_sub(sys::monotonic_milliseconds());
                    if left == 0 {
                        return Err(TIMEOUT);
                    }
                    sys::wait_for_events(self.0.0, WRITABLE, left)?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}
