//! How two nodes meet: the port mapper's answer, and the handshake of version 6 with version 5 behind it.
//!
//! Followed is "Erlang Distribution Protocol" of OTP 23 to 28. All messages here come without their length.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::md5::md5;
use crate::bytes::{Bytes, join};

/// What this program can do: what OTP 25 and later ask of every node, text in Unicode, and a hidden name.
///
/// Not offered are the atom cache and fragments, so that every message comes whole and by itself.
const FLAGS: u64 = 0x4            // references of several words
    | 0x10 | 0x80                 // functions
    | 0x100 | 0x200 | 0x400 | 0x800 // processes and ports, exports, bits, floats
    | 0x1000                      // input and output in Unicode
    | 0x1_0000 | 0x2_0000 | 0x4_0000 // atoms in UTF-8, maps, large creations
    | HANDSHAKE_23
    | 0x200_0000                  // links that are taken back with a number
    | 0x400_0000                  // all of the above at once
    | 1 << 34; // long processes, ports and references

const HANDSHAKE_23: u64 = 0x100_0000;

/// Where a node listens, as the port mapper says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The TCP port.
    pub port: u16,
    /// The highest version of the handshake the node knows.
    pub highest: u16,
}

/// The question after a node to the port mapper.
#[must_use]
pub fn ask_port(name: &[u8]) -> Bytes {
    let length = u16::try_from(name.len() + 1).unwrap_or(u16::MAX);
    join(&[&length.to_be_bytes(), b"z", name])
}

/// The length of the answer that is needed.
pub const ANSWER: usize = 10;

/// The port mapper's answer: `None` if it does not know the node.
#[must_use]
pub fn read_port(answer: &[u8]) -> Option<Port> {
    match answer {
        [119, 0, high, low, _kind, _protocol, highest @ .., _, _] if highest.len() == 2 => Some(Port {
            port: u16::from_be_bytes([*high, *low]),
            highest: u16::from_be_bytes([highest[0], highest[1]]),
        }),
        _ => None,
    }
}

/// Why a node does not talk to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It said so, in this word.
    Said(String),
    /// It does not have our cookie.
    Cookie,
    /// Its words are not those of the protocol.
    Malformed,
}

/// Our half of the handshake.
#[derive(Debug)]
pub struct Handshake {
    name: String,
    creation: u32,
    challenge: u32,
    cookie: Bytes,
    old: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this and read on.
    Send(Bytes),
    /// Read on.
    Read,
    /// The nodes are connected.
    Done,
}

impl Handshake {
    /// A handshake as the node `name` with a random `creation` and `challenge`; `version` is the peer's highest.
    #[must_use]
    pub fn new(name: &str, creation: u32, challenge: u32, cookie: &[u8], version: u16) -> Self {
        Self { name: name.to_string(), creation, challenge, cookie: cookie.to_vec(), old: version < 6 }
    }

    /// The first message.
    #[must_use]
    pub fn hello(&self) -> Bytes {
        let name = self.name.as_bytes();
        if self.old {
            let flags = (FLAGS & !HANDSHAKE_23 & 0xffff_ffff) as u32;
            return join(&[b"n", &5_u16.to_be_bytes(), &flags.to_be_bytes(), name]);
        }
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        join(&[b"N", &FLAGS.to_be_bytes(), &self.creation.to_be_bytes(), &length.to_be_bytes(), name])
    }

    /// The answer to the peer's next message.
    ///
    /// # Errors
    /// The peer does not want us, or does not follow the protocol.
    pub fn answer(&self, message: &[u8]) -> Result<Next, Refused> {
        let (kind, rest) = message.split_first().ok_or(Refused::Malformed)?;
        match (kind, rest) {
            (b's', b"ok" | b"ok_simultaneous") => Ok(Next::Read),
            (b's', b"alive") => Ok(Next::Send(b"strue".to_vec())),
            (b's', word) => Err(Refused::Said(crate::fault::shown(word))),
            (b'N', rest) if rest.len() >= 12 => Ok(Next::Send(self.prove(&rest[8..12]))),
            (b'n', rest) if rest.len() >= 10 => Ok(Next::Send(self.prove(&rest[6..10]))),
            (b'a', digest) if *digest == self.digest(self.challenge) => Ok(Next::Done),
            (b'a', _) => Err(Refused::Cookie),
            _ => Err(Refused::Malformed),
        }
    }

    fn prove(&self, theirs: &[u8]) -> Bytes {
        let theirs = u32::from_be_bytes([theirs[0], theirs[1], theirs[2], theirs[3]]);
        join(&[b"r", &self.challenge.to_be_bytes(), &self.digest(theirs)])
    }

    fn digest(&self, challenge: u32) -> [u8; 16] {
        let text: Vec<u8> = join(&[&self.cookie, format!("{challenge}").as_bytes()]);
        md5(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_goes_through() {
        let ours = Handshake::new("rpc@h", 1, 7, b"secret", 6);
        assert_eq!(ours.hello()[0], b'N');
        assert_eq!(ours.answer(b"sok").unwrap(), Next::Read);
        let challenge = join(&[b"N", &[0; 8], &9_u32.to_be_bytes(), &[0; 4], b"\x00\x01x"]);
        let expected = join(&[b"r", &7_u32.to_be_bytes(), &md5(b"secret9")]);
        assert_eq!(ours.answer(&challenge).unwrap(), Next::Send(expected));
        assert_eq!(ours.answer(&join(&[b"a", &md5(b"secret7")])).unwrap(), Next::Done);
        assert_eq!(ours.answer(&join(&[b"a", &md5(b"wrong7")])), Err(Refused::Cookie));
    }

    #[test]
    fn an_old_node_is_greeted_in_its_words() {
        let ours = Handshake::new("rpc@h", 1, 7, b"secret", 5);
        assert_eq!(ours.hello()[..3], *b"n\x00\x05");
        let challenge = join(&[b"n", &[0; 6], &9_u32.to_be_bytes(), b"name@h"]);
        assert!(matches!(ours.answer(&challenge), Ok(Next::Send(_))));
        assert_eq!(ours.answer(b"snot_allowed"), Err(Refused::Said("not_allowed".to_string())));
        assert_eq!(ours.answer(b"n\x00"), Err(Refused::Malformed));
        assert_eq!(ours.answer(b""), Err(Refused::Malformed));
    }

    #[test]
    fn the_port_mapper_is_asked_and_understood() {
        assert_eq!(ask_port(b"ab"), b"\x00\x03zab");
        let answer = [119, 0, 0x12, 0x34, 77, 0, 0, 6, 0, 5];
        assert_eq!(read_port(&answer), Some(Port { port: 0x1234, highest: 6 }));
        assert_eq!(read_port(&[119, 1]), None);
    }
}
