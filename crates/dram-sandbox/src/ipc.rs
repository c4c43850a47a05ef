//! Messages between the caller, the helper and process 1 of the jail: JSON packets, with descriptors attached.

use crate::error::SandboxError;
use crate::running::{CommandExit, CommandUsage};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The largest packet. Larger ones are a bug: large data travels in a memory file.
const MAX_PACKET: usize = 64 << 10;

/// A request of the caller to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum HelperRequest {
    /// The jail, as JSON in the attached memory file.
    Start,
    /// Send this signal to the command.
    Signal(i32),
}

/// An event that the helper, or process 1 of the jail, reports about the command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum HelperEvent {
    /// The attached descriptor is the outer end of the command's pseudo-terminal.
    Terminal,
    /// The attached descriptor receives the notifications of changes of owners.
    OwnerNotifications,
    /// The command runs.
    Started,
    /// The command could not be started.
    Failed(SandboxError),
    /// The command has ended.
    Ended {
        /// Its exit status.
        exit: CommandExit,
        /// The resources that it used.
        usage: CommandUsage,
    },
}

/// Makes two connected sockets that keep packet boundaries. An end reads nothing (`None`) once the other one is gone.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
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
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
pub(crate) fn receive<T: DeserializeOwned>(from: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_PACKET];
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
