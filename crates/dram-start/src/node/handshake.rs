//! The EPMD query for a node's port, and the distribution handshake of version 6, with version 5 for old nodes.
//!
//! Specification: "Erlang Distribution Protocol" of OTP 23 to 28. All messages here are without their length.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::cookie::digested_cookie;
use super::md5::md5;
use crate::byte_string::{ByteString, concat};

/// The distribution flags of this program: those that are mandatory since OTP 25, and Unicode I/O. Without
/// `DFLAG_PUBLISHED` the node is hidden.
///
/// The atom cache and fragmentation are left out, so that every message is complete and independent of others.
const DISTRIBUTION_FLAGS: u64 = 0x4            // DFLAG_EXTENDED_REFERENCES
    | 0x10 | 0x80                 // DFLAG_FUN_TAGS, DFLAG_NEW_FUN_TAGS
    | 0x100 | 0x200 | 0x400 | 0x800 // DFLAG_EXTENDED_PIDS_PORTS, _EXPORT_PTR_TAG, _BIT_BINARIES, _NEW_FLOATS
    | 0x1000                      // DFLAG_UNICODE_IO
    | 0x1_0000 | 0x2_0000 | 0x4_0000 // DFLAG_UTF8_ATOMS, _MAP_TAG, _BIG_CREATION
    | DFLAG_HANDSHAKE_23
    | 0x200_0000                  // DFLAG_UNLINK_ID
    | 0x400_0000                  // DFLAG_MANDATORY_25_DIGEST: all of the above
    | 1 << 34; // DFLAG_V4_NC

const DFLAG_HANDSHAKE_23: u64 = 0x100_0000;

/// The port of a node, as registered with EPMD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// The TCP port.
    pub port: u16,
    /// The highest version of the handshake that the node supports.
    pub highest: u16,
}

/// The EPMD request for the port of a node.
#[must_use]
pub fn epmd_port_request(name: &[u8]) -> ByteString {
    let length = u16::try_from(name.len() + 1).unwrap_or(u16::MAX);
    concat(&[&length.to_be_bytes(), b"z", name])
}

/// The length of the part of the reply that is read.
pub const EPMD_REPLY_LENGTH: usize = 10;

/// Parses the reply of EPMD; `None` if the node is not registered.
#[must_use]
pub fn parse_epmd_reply(answer: &[u8]) -> Option<NodePort> {
    match answer {
        [119, 0, high, low, _kind, _protocol, highest @ .., _, _] if highest.len() == 2 => Some(NodePort {
            port: u16::from_be_bytes([*high, *low]),
            highest: u16::from_be_bytes([highest[0], highest[1]]),
        }),
        _ => None,
    }
}

/// The reason why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeRefusal {
    /// The node refused with this status.
    Status(String),
    /// The cookies differ.
    WrongCookie,
    /// The node violated the protocol.
    Malformed,
}

/// The state of this program's side of a handshake.
#[derive(Debug)]
pub struct NodeHandshake {
    name: String,
    creation: u32,
    challenge: u32,
    cookie: ByteString,
    is_version_5: bool,
}

/// The next step of a handshake.
#[derive(Debug, PartialEq, Eq)]
pub enum HandshakeStep {
    /// Send this message and read the next one.
    Send(ByteString),
    /// Read the next message.
    Read,
    /// The handshake is complete.
    Done,
}

impl NodeHandshake {
    /// Begins a handshake as the node `name` with a random `creation` and `challenge`; `version` is the peer's highest.
    #[must_use]
    pub fn new(name: &str, creation: u32, challenge: u32, cookie: &[u8], version: u16) -> Self {
        Self { name: name.to_string(), creation, challenge, cookie: digested_cookie(cookie), is_version_5: version < 6 }
    }

    /// The first message, which sends the name.
    #[must_use]
    pub fn name_message(&self) -> ByteString {
        let name = self.name.as_bytes();
        if self.is_version_5 {
            let flags = (DISTRIBUTION_FLAGS & !DFLAG_HANDSHAKE_23 & 0xffff_ffff) as u32;
            return concat(&[b"n", &5_u16.to_be_bytes(), &flags.to_be_bytes(), name]);
        }
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        concat(&[b"N", &DISTRIBUTION_FLAGS.to_be_bytes(), &self.creation.to_be_bytes(), &length.to_be_bytes(), name])
    }

    /// The step that follows from the peer's next message.
    ///
    /// # Errors
    /// Fails if the peer refuses the connection or violates the protocol.
    pub fn handle_message(&self, message: &[u8]) -> Result<HandshakeStep, HandshakeRefusal> {
        let (kind, rest) = message.split_first().ok_or(HandshakeRefusal::Malformed)?;
        match (kind, rest) {
            (b's', b"ok" | b"ok_simultaneous") => Ok(HandshakeStep::Read),
            (b's', b"alive") => Ok(HandshakeStep::Send(b"strue".to_vec())),
            (b's', word) => Err(HandshakeRefusal::Status(crate::error::printable(word))),
            (b'N', rest) if rest.len() >= 12 => Ok(HandshakeStep::Send(self.challenge_reply(&rest[8..12]))),
            (b'n', rest) if rest.len() >= 10 => Ok(HandshakeStep::Send(self.challenge_reply(&rest[6..10]))),
            (b'a', digest) if *digest == self.digest(self.challenge) => Ok(HandshakeStep::Done),
            (b'a', _) => Err(HandshakeRefusal::WrongCookie),
            _ => Err(HandshakeRefusal::Malformed),
        }
    }

    fn challenge_reply(&self, theirs: &[u8]) -> ByteString {
        let theirs = u32::from_be_bytes([theirs[0], theirs[1], theirs[2], theirs[3]]);
        concat(&[b"r", &self.challenge.to_be_bytes(), &self.digest(theirs)])
    }

    fn digest(&self, challenge: u32) -> [u8; 16] {
        let text: Vec<u8> = concat(&[&self.cookie, format!("{challenge}").as_bytes()]);
        md5(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_of_version_6_succeeds_with_the_right_cookie_only() {
        let ours = NodeHandshake::new("rpc@h", 1, 7, b"secret", 6);
        assert_eq!(ours.name_message()[0], b'N');
        assert_eq!(ours.handle_message(b"sok").unwrap(), HandshakeStep::Read);
        let challenge = concat(&[b"N", &[0; 8], &9_u32.to_be_bytes(), &[0; 4], b"\x00\x01x"]);
        let expected = concat(&[b"r", &7_u32.to_be_bytes(), &md5(b"secret9")]);
        assert_eq!(ours.handle_message(&challenge).unwrap(), HandshakeStep::Send(expected));
        assert_eq!(ours.handle_message(&concat(&[b"a", &md5(b"secret7")])).unwrap(), HandshakeStep::Done);
        assert_eq!(ours.handle_message(&concat(&[b"a", &md5(b"wrong7")])), Err(HandshakeRefusal::WrongCookie));
    }

    #[test]
    fn a_handshake_of_version_5_is_used_for_old_nodes() {
        let ours = NodeHandshake::new("rpc@h", 1, 7, b"secret", 5);
        assert_eq!(ours.name_message()[..3], *b"n\x00\x05");
        let challenge = concat(&[b"n", &[0; 6], &9_u32.to_be_bytes(), b"name@h"]);
        assert!(matches!(ours.handle_message(&challenge), Ok(HandshakeStep::Send(_))));
        assert_eq!(ours.handle_message(b"snot_allowed"), Err(HandshakeRefusal::Status("not_allowed".to_string())));
        assert_eq!(ours.handle_message(b"n\x00"), Err(HandshakeRefusal::Malformed));
        assert_eq!(ours.handle_message(b""), Err(HandshakeRefusal::Malformed));
    }

    #[test]
    fn epmd_request_and_reply_have_the_format_of_the_protocol() {
        assert_eq!(epmd_port_request(b"ab"), b"\x00\x03zab");
        let answer = [119, 0, 0x12, 0x34, 77, 0, 0, 6, 0, 5];
        assert_eq!(parse_epmd_reply(&answer), Some(NodePort { port: 0x1234, highest: 6 }));
        assert_eq!(parse_epmd_reply(&[119, 1]), None);
    }
}
