//! Resolves the host of a node to addresses, without a resolver of the C library.

use alloc::vec::Vec;

use crate::bytes::{Bytes, join, number, split_once, words};
use crate::conf::Distribution;

/// An IP address without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 address.
    Four([u8; 4]),
    /// An IPv6 address.
    Six([u8; 16]),
}

impl Address {
    /// The address family as Linux numbers it.
    #[must_use]
    pub fn family(&self) -> u16 {
        match self {
            Self::Four(_) => 2,
            Self::Six(_) => 10,
        }
    }

    /// The address and port as a `sockaddr` of Linux.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Bytes {
        let head = join(&[&self.family().to_ne_bytes(), &port.to_be_bytes()]);
        match self {
            Self::Four(four) => join(&[&head, four, &[0; 8]]),
            Self::Six(six) => join(&[&head, &[0; 4], six, &[0; 4]]),
        }
    }

    /// Parses a numeric address.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        match text.parse::<core::net::IpAddr>().ok()? {
            core::net::IpAddr::V4(four) => Some(Self::Four(four.octets())),
            core::net::IpAddr::V6(six) => Some(Self::Six(six.octets())),
        }
    }
}

/// Completes the name of a node with a host, if it lacks one, as the emulator does.
#[must_use]
pub fn full_name(node: &[u8], kind: Distribution, own: &[u8], hosts: &[u8]) -> Bytes {
    if node.contains(&b'@') {
        return node.to_vec();
    }
    let short = own.split(|b| *b == b'.').next().unwrap_or(own);
    let host = match kind {
        Distribution::Name if !own.contains(&b'.') => lines(hosts)
            .filter(|line| line[1..].iter().any(|name| name == own))
            .find_map(|line| line[1..].iter().find(|name| name.contains(&b'.')).cloned())
            .unwrap_or_else(|| own.to_vec()),
        Distribution::Name => own.to_vec(),
        Distribution::Sname | Distribution::None => short.to_vec(),
    };
    join(&[node, b"@", &host])
}

/// The addresses that the machine `host` may have. `own` is the name of this machine, `hosts` the content of
/// `/etc/hosts`.
#[must_use]
pub fn addresses(host: &[u8], own: &[u8], hosts: &[u8]) -> Vec<Address> {
    if let Some(address) = Address::read(host) {
        return Vec::from([address]);
    }
    let mut found = Vec::new();
    let short = |name: &[u8]| name.split(|b| *b == b'.').next().unwrap_or_default().to_ascii_lowercase();
    if host.eq_ignore_ascii_case(b"localhost") || short(host) == short(own) {
        found.push(Address::Four([127, 0, 0, 1]));
    }
    for line in lines(hosts).filter(|line| line[1..].iter().any(|name| name.eq_ignore_ascii_case(host))) {
        found.extend(Address::read(&line[0]).filter(|address| !found.contains(address)));
    }
    if found.contains(&Address::Four([127, 0, 0, 1])) {
        found.push(Address::Six([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    }
    found
}

fn lines(hosts: &[u8]) -> impl Iterator<Item = Vec<Bytes>> {
    let lines = hosts.split(|b| *b == b'\n').map(|line| split_once(line, b'#').map_or(line, |(line, _)| line));
    lines.map(words).filter(|line| line.len() > 1)
}

/// The port of EPMD.
#[must_use]
pub fn mapper_port(variable: Option<&[u8]>) -> u16 {
    variable.and_then(number).and_then(|port| u16::try_from(port).ok()).unwrap_or(4369)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &[u8] = b"127.0.0.1 localhost # here\n10.0.0.7 box.example.org box\n::1 localhost\n";

    #[test]
    fn node_names_without_host_get_the_host_the_emulator_gives_them() {
        assert_eq!(full_name(b"a", Distribution::Sname, b"box.example.org", HOSTS), b"a@box");
        assert_eq!(full_name(b"a", Distribution::Name, b"box", HOSTS), b"a@box.example.org");
        assert_eq!(full_name(b"a@b", Distribution::Name, b"box", HOSTS), b"a@b");
    }

    #[test]
    fn the_loopback_address_of_this_machine_comes_first() {
        let found = addresses(b"box", b"box", HOSTS);
        assert_eq!(found[..2], [Address::Four([127, 0, 0, 1]), Address::Four([10, 0, 0, 7])]);
        assert_eq!(addresses(b"192.168.1.2", b"box", HOSTS), [Address::Four([192, 168, 1, 2])]);
        assert!(addresses(b"elsewhere", b"box", HOSTS).is_empty());
    }

    #[test]
    fn addresses_have_the_layout_of_sockaddr() {
        assert_eq!(Address::Four([1, 2, 3, 4]).with_port(0x1122)[2..8], [0x11, 0x22, 1, 2, 3, 4]);
        assert_eq!(Address::Six([7; 16]).with_port(1).len(), 28);
    }
}
