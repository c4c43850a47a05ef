//! Parses the ports of `EXPOSE` and the signal of `STOPSIGNAL`.

use crate::ast::SpannedText;
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::rules;

/// Returns the ports of one word of `EXPOSE` as `80/tcp`. The word is `[[ip:]host:]from[-to][/protocol]`; address and
/// host port are ignored with a warning.
pub(super) fn parse_ports(text: &str, word: &SpannedText, report: &mut DiagnosticCollector) -> Option<Vec<String>> {
    match parse_port_word(text) {
        Ok((ports, protocol, mapped)) => {
            if mapped {
                let message = format!("the address or host port of {} has no effect", quote(text));
                report.push(
                    Diagnostic::warning(Some(&rules::EXPOSE_INVALID_FORMAT), word.span.clone(), message)
                        .help("name the container's port only"),
                );
            }
            let lower = protocol.to_ascii_lowercase();
            if lower != protocol {
                let message = format!("the protocol {} is not lower case", quote(protocol));
                let rule = Some(&rules::EXPOSE_PROTO_CASING);
                report.push(
                    Diagnostic::warning(rule, word.span.clone(), message).help(format!("write {}", quote(&lower))),
                );
            }
            Some(ports.map(|port| format!("{port}/{lower}")).collect())
        }
        Err(problem) => {
            report.push(
                Diagnostic::error(word.span.clone(), format!("{} is not a port: {problem}", quote(text)))
                    .help("write it as in `80`, `8000-8010` or `53/udp`"),
            );
            None
        }
    }
}

type PortRange<'t> = (std::ops::RangeInclusive<u16>, &'t str, bool);

fn parse_port_word(text: &str) -> Result<PortRange<'_>, &'static str> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let (host, address) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (range, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    if range.is_empty() {
        return Err("it has no number");
    }
    if !["tcp", "udp", "sctp"].iter().any(|known| known.eq_ignore_ascii_case(protocol)) {
        return Err("the protocol is neither `tcp` nor `udp` nor `sctp`");
    }
    let bare = address.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err("the part before the ports is not an address");
    }
    let ports = parse_port_range(range)?;
    if !host.is_empty() {
        let host = parse_port_range(host)?;
        if ports.len() > 1 && ports.len() != host.len() {
            return Err("the two ranges differ in length");
        }
    }
    Ok((ports, protocol, !host.is_empty() || !address.is_empty()))
}

fn parse_port_range(text: &str) -> Result<std::ops::RangeInclusive<u16>, &'static str> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u16>().map_err(|_| "the largest port is 65535") } else { Err("it is not a number") }
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    if to < from { Err("the range ends before it starts") } else { Ok(from..=to) }
}

/// Returns true when `text` is a Linux signal: a number, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |start: &str, most: u8| {
        let digits = name.strip_prefix(start).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u8>().ok()).is_some_and(|offset| (1..=most).contains(&offset))
    };
    NAMES.contains(&name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_parsed_and_invalid_ones_refused() {
        let table: &[(&str, &[&str])] = &[
            ("80", &["80/tcp"]),
            ("53/udp", &["53/udp"]),
            ("53/UDP", &["53/udp"]),
            ("80-82", &["80/tcp", "81/tcp", "82/tcp"]),
            ("8080:80", &["80/tcp"]),
            ("127.0.0.1::80", &["80/tcp"]),
            ("[::1]:8080:80", &["80/tcp"]),
            ("80/", &["80/tcp"]),
        ];
        for (text, expected) in table {
            let mut report = DiagnosticCollector::default();
            assert_eq!(
                parse_ports(text, &SpannedText::default(), &mut report).as_deref(),
                Some(&expected.map_strings()[..]),
                "{text}"
            );
        }
        for text in ["", "x", "80/icmp", "82-80", "65536", "-1", "+1", "80-", "1:2:3:4", "x:80", "1-3:80-81", "/tcp"] {
            assert_eq!(parse_ports(text, &SpannedText::default(), &mut DiagnosticCollector::default()), None, "{text}");
        }
    }

    trait MapStrings {
        fn map_strings(&self) -> Vec<String>;
    }

    impl MapStrings for &[&str] {
        fn map_strings(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn signal_names_and_numbers_are_recognised() {
        for signal in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14"] {
            assert!(is_signal(signal), "{signal}");
        }
        for signal in ["", "0", "99", "SIGFOO", "RTMIN+16", "RTMAX-0", "-1", "SIG"] {
            assert!(!is_signal(signal), "{signal}");
        }
    }
}
