//! TCP connections with a timeout for every wait.

use alloc::vec;

use dram_start::bytes::Bytes;
use dram_start::node::address::Address;

use crate::errno::Errno;
use crate::sys::{self, Fd};

const READABLE: u16 = 1;
const WRITABLE: u16 = 4;
const TIMEOUT: Errno = Errno(110);

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Stream(Fd);

/// Connects to the first address that answers.
pub(crate) fn connect(addresses: &[Address], port: u16, milliseconds: u64) -> Result<Stream, Errno> {
    let mut last = Errno(113);
    for address in addresses {
        match connect_one(address, port, milliseconds) {
            Ok(stream) => return Ok(stream),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

fn connect_one(address: &Address, port: u16, milliseconds: u64) -> Result<Stream, Errno> {
    let socket = sys::socket(address.family())?;
    match sys::connect(&socket, &address.with_port(port)) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            let until = sys::clock() + milliseconds;
            while !sys::wait_for(socket.0, WRITABLE, 100)? {
                if sys::clock() >= until {
                    return Err(TIMEOUT);
                }
            }
            sys::socket_error(&socket)?;
        }
        Err(other) => return Err(other),
    }
    Ok(Stream(socket))
}

/// The result of reading a number of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// All bytes were read.
    Bytes(Bytes),
    /// The peer closed the connection.
    End,
}

impl Stream {
    /// Returns true if data arrives within the timeout.
    pub(crate) fn readable(&self, milliseconds: u64) -> Result<bool, Errno> {
        sys::wait_for(self.0.0, READABLE, milliseconds)
    }

    /// Reads exactly `count` bytes.
    pub(crate) fn read(&self, count: usize, milliseconds: u64) -> Result<Got, Errno> {
        let mut found = vec![0; count];
        let mut filled = 0;
        let until = sys::clock() + milliseconds;
        while filled < count {
            match sys::read(self.0.0, &mut found[filled..]) {
                Ok(0) => return Ok(Got::End),
                Ok(more) => filled += more,
                Err(Errno::AGAIN) => {
                    let left = until.saturating_sub(sys::clock());
                    if left == 0 {
                        return Err(TIMEOUT);
                    }
                    self.readable(left)?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Got::Bytes(found))
    }

    /// Writes all bytes.
    pub(crate) fn write(&self, mut bytes: &[u8], milliseconds: u64) -> Result<(), Errno> {
        let until = sys::clock() + milliseconds;
        while !bytes.is_empty() {
            match sys::send(&self.0, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN) => {
                    let left = until.saturating_sub(sys::clock());
                    if left == 0 {
                        return Err(TIMEOUT);
                    }
                    sys::wait_for(self.0.0, WRITABLE, left)?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}
