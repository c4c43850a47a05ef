//! The network scope of a host, as far as its name shows it: a server may not redirect to a less public network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The scope of an address. A host name that is not an address counts as public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kin {
    Public,
    Private,
    LinkLocal,
    Loopback,
    /// An address in a non-standard notation, which hides its scope.
    Disguised,
}

/// Returns the scope of `host`, which may have a port.
pub(super) fn of(host: &str) -> Kin {
    let bare = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    if bare == "localhost" || bare.ends_with(".localhost") {
        return Kin::Loopback;
    }
    match bare.parse::<IpAddr>() {
        Ok(address) => of_address(address),
        // Resolvers read `127.1`, `0x7f000001` and `2852039166` as addresses; honest servers do not use them.
        Err(_) if is_number(bare.rsplit('.').next().unwrap_or_default()) => Kin::Disguised,
        Err(_) => Kin::Public,
    }
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the scope of an IP address.
pub(super) fn of_address(address: IpAddr) -> Kin {
    match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => inner(address).map_or_else(|| of_v6(address), of_v4),
    }
}

/// Returns the IPv4 address that is embedded in an IPv6 address: mapped, or behind NAT64 (RFC 6052).
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let behind = Ipv4Addr::from_bits(address.to_bits() as u32);
    address.to_ipv4_mapped().or_else(|| (address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]).then_some(behind))
}

fn of_v4(address: Ipv4Addr) -> Kin {
    match address {
        address if address.is_loopback() || address.is_unspecified() => Kin::Loopback,
        address if address.is_link_local() => Kin::LinkLocal,
        address if address.is_private() => Kin::Private,
        _ => Kin::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Kin {
    match address {
        address if address.is_loopback() || address.is_unspecified() => Kin::Loopback,
        address if address.is_unicast_link_local() => Kin::LinkLocal,
        address if address.is_unique_local() => Kin::Private,
        _ => Kin::Public,
    }
}

/// Returns whether a server at `from` may redirect to `to`.
pub(super) fn may_lead(from: &str, to: &str) -> bool {
    match of(to) {
        Kin::Public => true,
        Kin::Disguised => false,
        // A server may redirect within its own scope. The addresses of a name are not known before it is resolved.
        kin => of(from) == kin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_scopes_that_limit_redirects() {
        let table = [
            ("localhost:5000", Kin::Loopback),
            ("127.1.2.3", Kin::Loopback),
            ("[::1]:80", Kin::Loopback),
            ("[::ffff:127.0.0.1]:80", Kin::Loopback),
            ("0.0.0.0", Kin::Loopback),
            ("169.254.169.254", Kin::LinkLocal),
            ("[fe80::1]", Kin::LinkLocal),
            ("10.0.0.1:5000", Kin::Private),
            ("[fd00::1]:5000", Kin::Private),
            ("8.8.8.8", Kin::Public),
            ("LOCALHOST.:80", Kin::Loopback),
            ("a.localhost", Kin::Loopback),
            ("[64:ff9b::a9fe:a9fe]", Kin::LinkLocal),
            ("127.1", Kin::Disguised),
            ("2852039166:80", Kin::Disguised),
            ("0xa9fea9fe", Kin::Disguised),
            ("a.0x7f", Kin::Disguised),
            ("1.example", Kin::Public),
            ("registry.example:5000", Kin::Public),
        ];
        for (host, kin) in table {
            assert_eq!(of(host), kin, "{host}");
        }
        assert!(may_lead("127.0.0.1:5000", "127.0.0.1:5001"));
        assert!(!may_lead("127.0.0.1:5000", "169.254.169.254"));
        assert!(!may_lead("registry.example", "127.0.0.1"));
        assert!(may_lead("127.0.0.1:5000", "blobs.example"));
        assert!(!may_lead("127.0.0.1:5000", "127.1"));
    }
}
