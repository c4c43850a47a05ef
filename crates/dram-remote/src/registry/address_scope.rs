//! The network scope of a host, as far as its name shows it: a server may not redirect to a less public network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The scope of an address. A host name that is not an address counts as public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressScope {
    Public,
    /// A private network, or another block that IANA lists as special-purpose and not globally reachable.
    Private,
    LinkLocal,
    Loopback,
    /// An address in a non-standard notation, which hides its scope.
    Obscured,
}

/// Returns the scope of `host`, which may have a port.
pub(super) fn scope_of_host(host: &str) -> AddressScope {
    let bare = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    if bare == "localhost" || bare.ends_with(".localhost") {
        return AddressScope::Loopback;
    }
    // An address with a zone (RFC 6874) belongs to one link of a machine.
    if bare.contains('%') {
        return AddressScope::Obscured;
    }
    match bare.parse::<IpAddr>() {
        Ok(address) => scope_of_ip(address),
        // A literal in brackets is an address, whatever its notation is.
        Err(_) if host.starts_with('[') => AddressScope::Obscured,
        // Resolvers read `127.1`, `0x7f000001` and `2852039166` as addresses; honest servers do not use them.
        Err(_) if is_number(bare.rsplit('.').next().unwrap_or_default()) => AddressScope::Obscured,
        Err(_) => AddressScope::Public,
    }
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the scope of an IP address.
pub(super) fn scope_of_ip(address: IpAddr) -> AddressScope {
    match address {
        IpAddr::V4(address) => scope_of_v4(address),
        IpAddr::V6(address) => embedded_v4(address).map_or_else(|| scope_of_v6(address), scope_of_v4),
    }
}

/// Returns the IPv4 address that is embedded in an IPv6 address: mapped, behind NAT64 (RFC 6052), or of 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let behind = Ipv4Addr::from_bits(address.to_bits() as u32);
    let of_6to4 = Ipv4Addr::from_bits((address.to_bits() >> 80) as u32);
    let nat64 = || (address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]).then_some(behind);
    address.to_ipv4_mapped().or_else(nat64).or_else(|| (address.segments()[0] == 0x2002).then_some(of_6to4))
}

/// The blocks of IANA's IPv4 special-purpose address registry (RFC 6890) that are not globally reachable, multicast, and
/// the 6to4 relays that RFC 7526 took back: first address and length of the prefix.
const SPECIAL_V4: [([u8; 4], u32); 13] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same for IPv6: local NAT64, discard-only, the block of protocol assignments with Teredo, documentation (twice),
/// segment routing, unique local, the former site-local, multicast.
const SPECIAL_V6: [([u16; 3], u32); 9] = [
    ([0x64, 0xff9b, 1], 48),
    ([0x100, 0, 0], 64),
    ([0x2001, 0, 0], 23),
    ([0x2001, 0xdb8, 0], 32),
    ([0x3fff, 0, 0], 20),
    ([0x5f00, 0, 0], 16),
    ([0xfc00, 0, 0], 7),
    ([0xfec0, 0, 0], 10),
    ([0xff00, 0, 0], 8),
];

fn scope_of_v4(address: Ipv4Addr) -> AddressScope {
    let is_in =
        |(first, length): &([u8; 4], u32)| (address.to_bits() ^ Ipv4Addr::from(*first).to_bits()) >> (32 - length) == 0;
    match address {
        address if address.is_loopback() || address.is_unspecified() => AddressScope::Loopback,
        address if address.is_link_local() => AddressScope::LinkLocal,
        _ if SPECIAL_V4.iter().any(is_in) => AddressScope::Private,
        _ => AddressScope::Public,
    }
}

fn scope_of_v6(address: Ipv6Addr) -> AddressScope {
    let is_in = |([a, b, c], length): &([u16; 3], u32)| {
        (address.to_bits() ^ Ipv6Addr::new(*a, *b, *c, 0, 0, 0, 0, 0).to_bits()) >> (128 - length) == 0
    };
    match address {
        address if address.is_loopback() || address.is_unspecified() => AddressScope::Loopback,
        address if address.is_unicast_link_local() => AddressScope::LinkLocal,
        _ if SPECIAL_V6.iter().any(is_in) => AddressScope::Private,
        _ => AddressScope::Public,
    }
}

/// Returns whether a server at `from` may redirect to `to`.
pub(super) fn redirect_allowed(from: &str, to: &str) -> bool {
    match scope_of_host(to) {
        AddressScope::Public => true,
        AddressScope::Obscured => false,
        // A server may redirect within its own scope. The addresses of a name are not known before it is resolved.
        kin @ (AddressScope::Private | AddressScope::LinkLocal | AddressScope::Loopback) => scope_of_host(from) == kin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_scopes_that_limit_redirects() {
        let table = [
            ("localhost:5000", AddressScope::Loopback),
            ("127.1.2.3", AddressScope::Loopback),
            ("[::1]:80", AddressScope::Loopback),
            ("[::ffff:127.0.0.1]:80", AddressScope::Loopback),
            ("0.0.0.0", AddressScope::Loopback),
            ("169.254.169.254", AddressScope::LinkLocal),
            ("[fe80::1]", AddressScope::LinkLocal),
            ("10.0.0.1:5000", AddressScope::Private),
            ("[fd00::1]:5000", AddressScope::Private),
            ("8.8.8.8", AddressScope::Public),
            ("0.1.2.3", AddressScope::Private),
            ("100.63.255.255", AddressScope::Public),
            ("100.64.0.1", AddressScope::Private),
            ("100.127.255.255", AddressScope::Private),
            ("100.128.0.0", AddressScope::Public),
            ("172.32.0.1", AddressScope::Public),
            ("192.0.0.8", AddressScope::Private),
            ("192.0.1.1", AddressScope::Public),
            ("198.19.255.255", AddressScope::Private),
            ("198.20.0.0", AddressScope::Public),
            ("203.0.113.9", AddressScope::Private),
            ("224.0.0.1", AddressScope::Private),
            ("255.255.255.255", AddressScope::Private),
            ("[2002:0a00:1::1]", AddressScope::Private),
            ("[2002:0808:0808::1]", AddressScope::Public),
            ("[2001:db8::1]", AddressScope::Private),
            ("[2001:1ff:ffff::1]", AddressScope::Private),
            ("[2606:4700::1]", AddressScope::Public),
            ("[ff02::1]", AddressScope::Private),
            ("[64:ff9b:1::1]", AddressScope::Private),
            ("LOCALHOST.:80", AddressScope::Loopback),
            ("a.localhost", AddressScope::Loopback),
            ("[64:ff9b::a9fe:a9fe]", AddressScope::LinkLocal),
            ("127.1", AddressScope::Obscured),
            ("2852039166:80", AddressScope::Obscured),
            ("0xa9fea9fe", AddressScope::Obscured),
            ("a.0x7f", AddressScope::Obscured),
            ("[fe80::1%25eth0]:5000", AddressScope::Obscured),
            ("[v1.fe80]", AddressScope::Obscured),
            ("1.example", AddressScope::Public),
            ("registry.example:5000", AddressScope::Public),
        ];
        for (host, kin) in table {
            assert_eq!(scope_of_host(host), kin, "{host}");
        }
        assert!(redirect_allowed("127.0.0.1:5000", "127.0.0.1:5001"));
        assert!(!redirect_allowed("127.0.0.1:5000", "169.254.169.254"));
        assert!(!redirect_allowed("registry.example", "127.0.0.1"));
        assert!(!redirect_allowed("registry.example", "100.64.0.1"));
        assert!(redirect_allowed("127.0.0.1:5000", "blobs.example"));
        assert!(!redirect_allowed("127.0.0.1:5000", "127.1"));
    }
}
