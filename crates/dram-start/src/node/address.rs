//! Resolves the host of a node to addresses, without a resolver of the C library.

use alloc::vec::Vec;

use crate::byte_string::{ByteString, concat, parse_number, split_once, split_words};
use crate::start_conf::StartNodeNameKind;

/// An IP address without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAddress {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 address.
    V6([u8; 16]),
}

impl NodeAddress {
    /// The address family as Linux numbers it.
    #[must_use]
    pub fn family(&self) -> u16 {
        match self {
            Self::V4(_) => 2,
            Self::V6(_) => 10,
        }
    }

    /// The address and port as a `sockaddr` of Linux.
    #[must_use]
    pub fn to_sockaddr(&self, port: u16) -> ByteString {
        let head = concat(&[&self.family().to_ne_bytes(), &port.to_be_bytes()]);
        match self {
            Self::V4(four) => concat(&[&head, four, &[0; 8]]),
            Self::V6(six) => concat(&[&head, &[0; 4], six, &[0; 4]]),
        }
    }

    /// Parses a numeric address.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        match text.parse::<core::net::IpAddr>().ok()? {
            core::net::IpAddr::V4(four) => Some(Self::V4(four.octets())),
            core::net::IpAddr::V6(six) => Some(Self::V6(six.octets())),
        }
    }
}

/// Completes the name of a node with a host, if it lacks one, as the emulator does.
#[must_use]
pub fn full_node_name(node: &[u8], kind: StartNodeNameKind, own: &[u8], hosts: &[u8]) -> ByteString {
    if node.contains(&b'@') {
        return node.to_vec();
    }
    let short = own.split(|b| *b == b'.').next().unwrap_or(own);
    let host = match kind {
        StartNodeNameKind::Name if !own.contains(&b'.') => hosts_lines(hosts)
            .filter(|line| line[1..].iter().any(|name| name == own))
            .find_map(|line| line[1..].iter().find(|name| name.contains(&b'.')).cloned())
            .unwrap_or_else(|| own.to_vec()),
        StartNodeNameKind::Name => own.to_vec(),
        StartNodeNameKind::Sname | StartNodeNameKind::None => short.to_vec(),
    };
    concat(&[node, b"@", &host])
}

/// The addresses that the machine `host` may have. `own` is the name of this machine, `hosts` the content of
/// `/etc/hosts`.
#[must_use]
pub fn host_addresses(host: &[u8], own: &[u8], hosts: &[u8]) -> Vec<NodeAddress> {
    if let Some(address) = NodeAddress::parse(host) {
        return Vec::from([address]);
    }
    let mut found = Vec::new();
    let short = |name: &[u8]| name.split(|b| *b == b'.').next().unwrap_or_default().to_ascii_lowercase();
    if host.eq_ignore_ascii_case(b"localhost") || short(host) == short(own) {
        found.push(NodeAddress::V4([127, 0, 0, 1]));
    }
    for line in hosts_lines(hosts).filter(|line| line[1..].iter().any(|name| name.eq_ignore_ascii_case(host))) {
        found.extend(NodeAddress::parse(&line[0]).filter(|address| !found.contains(address)));
    }
    if found.contains(&NodeAddress::V4([127, 0, 0, 1])) {
        found.push(NodeAddress::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    }
    found
}

fn hosts_lines(hosts: &[u8]) -> impl Iterator<Item = Vec<ByteString>> {
    let lines = hosts.split(|b| *b == b'\n').map(|line| split_once(line, b'#').map_or(line, |(line, _)| line));
    lines.map(split_words).filter(|line| line.len() > 1)
}

/// The port of EPMD.
#[must_use]
pub fn epmd_port(variable: Option<&[u8]>) -> u16 {
    variable.and_then(parse_number).and_then(|port| u16::try_from(port).ok()).unwrap_or(4369)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &[u8] = b"127.0.0.1 localhost # here\n10.0.0.7 box.example.org box\n::1 localhost\n";

    #[test]
    fn node_names_without_host_get_the_host_the_emulator_gives_them() {
        assert_eq!(full_node_name(b"a", StartNodeNameKind::Sname, b"box.example.org", HOSTS), b"a@box");
        assert_eq!(full_node_name(b"a", StartNodeNameKind::Name, b"box", HOSTS), b"a@box.example.org");
        assert_eq!(full_node_name(b"a@b", StartNodeNameKind::Name, b"box", HOSTS), b"a@b");
    }

    #[test]
    fn the_loopback_address_of_this_machine_comes_first() {
        let found = host_addresses(b"box", b"box", HOSTS);
        assert_eq!(found[..2], [NodeAddress::V4([127, 0, 0, 1]), NodeAddress::V4([10, 0, 0, 7])]);
        assert_eq!(host_addresses(b"192.168.1.2", b"box", HOSTS), [NodeAddress::V4([192, 168, 1, 2])]);
        assert!(host_addresses(b"elsewhere", b"box", HOSTS).is_empty());
    }

    #[test]
    fn addresses_have_the_layout_of_sockaddr() {
        assert_eq!(NodeAddress::V4([1, 2, 3, 4]).to_sockaddr(0x1122)[2..8], [0x11, 0x22, 1, 2, 3, 4]);
        assert_eq!(NodeAddress::V6([7; 16]).to_sockaddr(1).len(), 28);
    }
}
