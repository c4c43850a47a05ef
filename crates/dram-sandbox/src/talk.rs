//! Messages between the caller, the helper and the process in the jail: JSON packets, with descriptors attached.

use crate::error::SandboxError;
use crate::running::Exit;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Longer packets are a bug: what can be large travels in a memory file.
const LONGEST: usize = 64 << 10;

/// What the caller says to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The jail, as JSON in the attached memory file.
    Start,
    /// Send this signal to the command.
    Signal(i32),
}

/// What the helper, or the process in the jail, says about the command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    /// The attached descriptor is the outer end of the command's terminal.
    Terminal,
    /// The attached descriptor is where changes of owners arrive.
    Owners,
    /// The command runs.
    Started,
    /// The command does not run.
    Failed(SandboxError),
    /// The command has ended.
    Ended(Exit),
}

/// Two connected ends. Packets keep their borders; an end reads nothing (`None`) once the other one is gone.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet.
pub(crate) fn send(to: BorrowedFd<'_>, message: &impl Serialize, attached: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = &attached {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    sendmsg(to, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet; `None` when the other end is gone.
pub(crate) fn receive<T: DeserializeOwned>(from: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let attached = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    match bytes.get(..received.bytes) {
        None | Some([]) => Ok(None),
        Some(packet) => Ok(Some((serde_json::from_slice(packet)?, attached))),
    }
}
