//! Options for the containers of RUN and of `dram run`: additional hosts, resource limits, shared memory.

use std::net::IpAddr;

use dram_dockerfile::option_value::parse_size;
use dram_dockerfile::suggest::nearest_name;
use dram_sandbox::{ResourceLimit, RlimitKind};

use crate::cli::NetworkMode;
use crate::failure::Failure;

/// Commands use the network of this machine, so they reach it by this address.
const GATEWAY: &str = "127.0.0.1";

/// The names and addresses of `--add-host`.
pub(super) fn parse_hosts(texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    texts.iter().map(|text| parse_host(text)).collect()
}

fn parse_host(text: &str) -> Result<(String, String), Failure> {
    let wrong = |why: &str| {
        let failure = Failure::usage(format!("`--add-host {text}`: {why}"));
        failure.help("`--add-host NAME:ADDRESS`, as `db:192.0.2.1`, `db=2001:db8::1` or `me:host-gateway`")
    };
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = split.filter(|(name, address)| !name.is_empty() && !address.is_empty()) else {
        return Err(wrong("it is not NAME:ADDRESS"));
    };
    if name.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '#') {
        return Err(wrong("the name has a letter that no host has"));
    }
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match address.parse::<IpAddr>() {
        Ok(address) => Ok((name.to_owned(), address.to_string())),
        Err(_) if address == "host-gateway" => Ok((name.to_owned(), GATEWAY.to_owned())),
        Err(_) => Err(wrong(&format!("`{address}` is no address"))),
    }
}

/// The resource limits of `--ulimit`.
pub(super) fn parse_limits(texts: &[String]) -> Result<Vec<ResourceLimit>, Failure> {
    texts.iter().map(|text| parse_limit(text)).collect()
}

fn parse_limit(text: &str) -> Result<ResourceLimit, Failure> {
    let wrong = |why: &str| Failure::usage(format!("`--ulimit {text}`: {why}"));
    let shape = "`--ulimit NAME=SOFT:HARD`, as `nofile=1024:4096`; -1 is no limit";
    let (name, values) = text.split_once('=').ok_or_else(|| wrong("it is not NAME=SOFT[:HARD]").help(shape))?;
    let names = || RlimitKind::ALL.into_iter().map(RlimitKind::name);
    let Some(what) = RlimitKind::from_name(name) else {
        let failure = wrong(&format!("there is no limit `{name}`"));
        return Err(match nearest_name(name, names()) {
            Some(near) => failure.help(format!("did you mean `{near}`?")),
            None => failure.help(format!("one of {}", names().collect::<Vec<_>>().join(", "))),
        });
    };
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        text => text.parse::<u64>().map(Some).map_err(|_| wrong(&format!("`{text}` is no number")).help(shape)),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err(wrong("the soft limit is above the hard one").help(shape));
    }
    Ok(ResourceLimit { kind: what, soft, hard })
}

/// The size of `/dev/shm` in bytes, from `--shm-size`.
pub(super) fn parse_shm_size(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match parse_size(text) {
        // As in Docker, zero means the default.
        Some(0) => Ok(None),
        Some(size) => Ok(Some(size)),
        None => {
            Err(Failure::usage(format!("`--shm-size {text}` is no size")).help("a number of bytes, or `128m`, `1g`"))
        }
    }
}

/// Verifies the ports of `-p`, which need no mapping: a command has the network of this machine, where the ports that it
/// listens on are reached.
pub(super) fn verify_ports(texts: &[String], network: NetworkMode) -> Result<(), Failure> {
    texts.iter().try_for_each(|text| verify_port(text, network))
}

fn verify_port(text: &str, network: NetworkMode) -> Result<(), Failure> {
    let usage = |why: &str| Failure::usage(format!("`-p {text}`: {why}"));
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (address, ports) = match ports.rmatch_indices(':').nth(1) {
        Some((at, _)) => (&ports[..at], &ports[at + 1..]),
        None => ("", ports),
    };
    let (outer, inner) = ports.split_once(':').unwrap_or((ports, ports));
    let is_port = |text: &str| text.split('-').count() <= 2 && text.split('-').all(|port| port.parse::<u16>().is_ok());
    if !matches!(protocol, "tcp" | "udp" | "sctp") || !is_port(inner) || !outer.is_empty() && !is_port(outer) {
        return Err(usage("it is not [[ADDRESS:]PORT:]PORT[/PROTOCOL]"));
    }
    if network == NetworkMode::None {
        return Err(usage("with `--network none` no port can be reached").help("leave `--network none` out"));
    }
    if !outer.is_empty() && outer != inner {
        let failure = usage("the command has the network of this machine, where no port stands for another");
        return Err(failure.help(format!("let the command listen on {outer}; `-p` is not needed then")));
    }
    match address.trim_matches(['[', ']']) {
        "" | "0.0.0.0" | "::" => Ok(()),
        address => {
            let failure = usage("the command has the network of this machine, on all of its addresses");
            Err(failure.help(format!("let the command listen on {address} only; `-p` is not needed then")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_host_is_parsed_and_malformed_ones_refused() {
        for (text, name, address) in [
            ("db:192.0.2.1", "db", "192.0.2.1"),
            ("db=192.0.2.1", "db", "192.0.2.1"),
            ("db:2001:db8::1", "db", "2001:db8::1"),
            ("db=[2001:DB8::1]", "db", "2001:db8::1"),
            ("me:host-gateway", "me", "127.0.0.1"),
        ] {
            assert_eq!(parse_host(text).unwrap(), (name.to_owned(), address.to_owned()), "{text}");
        }
        for text in ["db", "db:", ":192.0.2.1", "db:nowhere", "a b:192.0.2.1", "a\nb:192.0.2.1", "db:192.0.2.256"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ulimit_is_parsed_with_soft_and_hard_limit() {
        let nofile = |soft, hard| ResourceLimit { kind: RlimitKind::Nofile, soft, hard };
        for (text, want) in [
            ("nofile=10", nofile(Some(10), Some(10))),
            ("nofile=10:20", nofile(Some(10), Some(20))),
            ("nofile=10:-1", nofile(Some(10), None)),
            ("nofile=-1", nofile(None, None)),
        ] {
            assert_eq!(parse_limit(text).unwrap(), want, "{text}");
        }
        for text in ["nofile", "nofile=", "nofile=a", "nofile=20:10", "nofile=-1:10", "files=1", "nofile=1:2:3"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
        assert_eq!(parse_limit("nofil=1").unwrap_err().helps, ["did you mean `nofile`?"]);
    }

    #[test]
    fn published_ports_are_accepted_where_they_need_no_mapping() {
        for (text, refused) in [
            ("80", None),
            ("80:80", None),
            ("80:80/udp", None),
            (":80", None),
            ("0.0.0.0:80:80", None),
            ("[::]:80:80", None),
            ("7000-7010:7000-7010", None),
            ("8080:80", Some("let the command listen on 8080; `-p` is not needed then")),
            ("127.0.0.1:80:80", Some("let the command listen on 127.0.0.1 only; `-p` is not needed then")),
            ("[::1]:80:80", Some("let the command listen on ::1 only; `-p` is not needed then")),
        ] {
            let found = verify_port(text, NetworkMode::Host).err();
            assert_eq!(found.as_ref().and_then(|failure| failure.helps.first()).map(String::as_str), refused, "{text}");
            assert!(verify_port(text, NetworkMode::None).is_err(), "{text}");
        }
        for text in ["", "x", "80:", "80:x", "99999", "80/http", "1-2-3:80", "a:b:c:d"] {
            let failure = verify_port(text, NetworkMode::Host).unwrap_err();
            assert!(failure.causes[0].contains("PORT"), "{text}: {failure:?}");
        }
    }
}
