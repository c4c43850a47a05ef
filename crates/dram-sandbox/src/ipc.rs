//! Messages between the caller, the helper and process 1 of the jail: JSON packets, with descriptors attached.

use crate::error::SandboxError;
use crate::outcome::{CommandExit, CommandUsage};
use crate::prelude::*;
use core::mem::MaybeUninit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one packet.
pub(crate) fn send(
    to: BorrowedFd<'_>,
    message: &impl Serialize,
    attached: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = &attached {
        control.push(SendAncillaryMessage::ScmRights(core::slice::from_ref(fd)));
    }
    sendmsg(to, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet; `None` when the other end is gone.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
pub(crate) fn receive<T: DeserializeOwned>(from: BorrowedFd<'_>) -> Result<Option<(T, Option<OwnedFd>)>, Errno> {
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
        return Err(Errno::MSGSIZE);
    }
    match bytes.get(..received.bytes) {
        None | Some([]) => Ok(None),
        Some(packet) => Ok(Some((serde_json::from_slice(packet).map_err(|_| Errno::BADMSG)?, attached))),
    }
}

/// Blocks until at least one of the descriptors is readable or at its end. Returns true for each of these.
pub(crate) fn wait_until_readable<const N: usize>(fds: [BorrowedFd<'_>; N]) -> Result<[bool; N], SandboxError> {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        match poll(&mut polled, None) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(SandboxError::helper_connection("wait for", error)),
            Ok(_) => return Ok(polled.map(|fd| !fd.revents().is_empty())),
        }
    }
}
