//! One question to one name server (RFC 1035): the addresses of a name, over UDP, or over TCP where the answer is long.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

/// The most packets that are read while the answer is waited for: others are no answers to the question.
const MAX_FOREIGN_PACKETS: usize = 16;

/// A question for the addresses of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DnsQuery<'a> {
    /// The full name, without a dot at its end.
    pub(crate) name: &'a str,
    /// True when IPv6 addresses are asked for too.
    pub(crate) ipv6: bool,
    /// True when TCP is used from the beginning.
    pub(crate) tcp: bool,
    /// The wait for each answer.
    pub(crate) timeout: Duration,
}

/// The answer of a server.
enum DnsAnswer {
    Addresses(Vec<IpAddr>),
    /// The answer does not fit into a packet.
    Truncated,
}

impl DnsQuery<'_> {
    /// Asks `server`. Returns no address when the name does not exist or has none.
    ///
    /// # Errors
    /// Fails when the server does not answer in time, refuses, or sends something that is no answer.
    pub(crate) fn ask(&self, server: SocketAddr) -> io::Result<Vec<IpAddr>> {
        let mut addresses = self.ask_type(server, TYPE::A)?;
        if self.ipv6 {
            // A name with IPv4 addresses serves, even where the server fails for the other kind.
            match self.ask_type(server, TYPE::AAAA) {
                Ok(more) => drop(addresses.splice(0..0, more)),
                Err(error) if addresses.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(addresses)
    }

    fn ask_type(&self, server: SocketAddr, kind: TYPE) -> io::Result<Vec<IpAddr>> {
        // Seeded by the system, as every hash table's: an answer cannot be guessed.
        let id = RandomState::new().build_hasher().finish() as u16;
        let question = self.encode(id, kind)?;
        if !self.tcp
            && let DnsAnswer::Addresses(addresses) = self.ask_udp(server, id, kind, &question)?
        {
            return Ok(addresses);
        }
        match self.ask_tcp(server, id, kind, &question)? {
            DnsAnswer::Addresses(addresses) => Ok(addresses),
            DnsAnswer::Truncated => Err(invalid("a truncated answer over TCP")),
        }
    }

    fn encode(&self, id: u16, kind: TYPE) -> io::Result<Vec<u8>> {
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name =
            Name::new(self.name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
    }

    fn ask_udp(&self, server: SocketAddr, id: u16, kind: TYPE, question: &[u8]) -> io::Result<DnsAnswer> {
        let own: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((own, 0))?;
        // Packets of others than the server are then dropped by the kernel.
        socket.connect(server)?;
        socket.set_read_timeout(Some(self.timeout))?;
        socket.send(question)?;
        let mut bytes = [0; 4096];
        for _ in 0..MAX_FOREIGN_PACKETS {
            let length = socket.recv(&mut bytes).map_err(as_timeout)?;
            if let Some(answer) = self.decode(&bytes[..length], id, kind)? {
                return Ok(answer);
            }
        }
        Err(invalid("packets that answer another question"))
    }

    fn ask_tcp(&self, server: SocketAddr, id: u16, kind: TYPE, question: &[u8]) -> io::Result<DnsAnswer> {
        let mut stream = TcpStream::connect_timeout(&server, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let length = u16::try_from(question.len()).expect("a question has one name of 255 bytes at most");
        stream.write_all(&[&length.to_be_bytes()[..], question].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).map_err(as_timeout)?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut bytes).map_err(as_timeout)?;
        self.decode(&bytes, id, kind)?.ok_or_else(|| invalid("an answer to another question"))
    }

    /// Reads an answer. Returns `None` when it belongs to another question.
    fn decode(&self, bytes: &[u8], id: u16, kind: TYPE) -> io::Result<Option<DnsAnswer>> {
        let Ok(packet) = Packet::parse(bytes) else { return Err(invalid("an answer that cannot be read")) };
        let asked = packet.questions.first().is_some_and(|question| {
            question.qname.to_string().eq_ignore_ascii_case(self.name) && question.qtype == QTYPE::TYPE(kind)
        });
        if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !asked {
            return Ok(None);
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Ok(Some(DnsAnswer::Truncated));
        }
        let code = packet.rcode();
        if code == RCODE::NameError {
            return Ok(Some(DnsAnswer::Addresses(Vec::new())));
        }
        if code != RCODE::NoError {
            return Err(io::Error::other(format!("it refuses the name ({code:?})")));
        }
        // The server has followed aliases: the addresses stand behind them in the same answer.
        let addresses = packet.answers.iter().filter_map(|record| match (&record.rdata, kind) {
            (RData::A(address), TYPE::A) => Some(IpAddr::V4(Ipv4Addr::from(address.address))),
            (RData::AAAA(address), TYPE::AAAA) => Some(IpAddr::V6(Ipv6Addr::from(address.address))),
            _ => None,
        });
        Ok(Some(DnsAnswer::Addresses(addresses.collect())))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it sent {what}"))
}

/// A read of a socket that ran into its timeout says `WouldBlock`.
fn as_timeout(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
    }
    error
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a server of tests answers questions for addresses only")]
pub(crate) mod tests {
    use std::net::TcpListener;
    use std::thread;

    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};

    use super::*;

    /// A name that a [`DnsServer`] knows.
    #[derive(Debug, Clone)]
    pub(crate) struct ServedName {
        name: String,
        addresses: Vec<IpAddr>,
        kind: AnswerKind,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum AnswerKind {
        Plain,
        /// The answer fits into no packet.
        Long,
        /// A packet with another id, and one for another name, come first.
        ForeignPackets,
        Refused,
        Garbage,
        Silent,
        Alias,
    }

    impl ServedName {
        pub(crate) fn new(name: &str, addresses: &[&str]) -> ServedName {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            ServedName { name: name.to_owned(), addresses, kind: AnswerKind::Plain }
        }

        fn with(name: &str, kind: AnswerKind) -> ServedName {
            ServedName { kind, ..ServedName::new(name, &["10.0.0.1"]) }
        }

        fn reply(&self, question: &Packet<'_>, over_tcp: bool) -> Vec<Vec<u8>> {
            let asked = &question.questions[0];
            let reply = |id: u16, name: &str, code: RCODE, truncated: bool| {
                let mut packet = Packet::new_reply(id);
                let name = Name::new(name).unwrap().into_owned();
                packet.questions.push(Question::new(name.clone(), asked.qtype, asked.qclass, false));
                *packet.rcode_mut() = code;
                if truncated {
                    packet.set_flags(PacketFlag::TRUNCATION);
                }
                let owner = match self.kind {
                    AnswerKind::Alias => {
                        let target = Name::new("real.example").unwrap().into_owned();
                        packet.answers.push(ResourceRecord::new(
                            name,
                            CLASS::IN,
                            1,
                            RData::CNAME(CNAME(target.clone())),
                        ));
                        target
                    }
                    _ => name,
                };
                for address in self.addresses.iter().filter(|_| code == RCODE::NoError && !truncated) {
                    let data = match (address, asked.qtype) {
                        (IpAddr::V4(address), QTYPE::TYPE(TYPE::A)) => RData::A(A { address: (*address).into() }),
                        (IpAddr::V6(address), QTYPE::TYPE(TYPE::AAAA)) => {
                            RData::AAAA(AAAA { address: (*address).into() })
                        }
                        _ => continue,
                    };
                    packet.answers.push(ResourceRecord::new(owner.clone(), CLASS::IN, 1, data));
                }
                packet.build_bytes_vec().unwrap()
            };
            let (id, name) = (question.id(), asked.qname.to_string());
            match self.kind {
                AnswerKind::Plain | AnswerKind::Alias => vec![reply(id, &name, RCODE::NoError, false)],
                AnswerKind::Long => vec![reply(id, &name, RCODE::NoError, !over_tcp)],
                AnswerKind::ForeignPackets => vec![
                    reply(id.wrapping_add(1), &name, RCODE::NoError, false),
                    reply(id, "other.example", RCODE::NoError, false),
                    reply(id, &name, RCODE::NoError, false),
                ],
                AnswerKind::Refused => vec![reply(id, &name, RCODE::Refused, false)],
                AnswerKind::Garbage => vec![vec![0xff; 7]],
                AnswerKind::Silent => Vec::new(),
            }
        }
    }

    /// A name server on the loopback address, over UDP and TCP. Its threads end with the test program.
    pub(crate) struct DnsServer {
        port: u16,
    }

    impl DnsServer {
        pub(crate) fn start(names: Vec<ServedName>) -> DnsServer {
            // The same port for both: another program may have one of the two.
            let (udp, tcp) = (0..50)
                .find_map(|_| {
                    let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
                    let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                    Some((udp, tcp))
                })
                .unwrap();
            let port = udp.local_addr().unwrap().port();
            let known = names.clone();
            thread::spawn(move || {
                let mut bytes = [0; 1500];
                while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                    for reply in DnsServer::replies(&known, &bytes[..length], false) {
                        udp.send_to(&reply, from).unwrap();
                    }
                }
            });
            thread::spawn(move || {
                for stream in tcp.incoming() {
                    let mut stream = stream.unwrap();
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).unwrap();
                    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut bytes).unwrap();
                    for reply in DnsServer::replies(&names, &bytes, true) {
                        let length = u16::try_from(reply.len()).unwrap();
                        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).unwrap();
                    }
                }
            });
            DnsServer { port }
        }

        fn replies(names: &[ServedName], bytes: &[u8], over_tcp: bool) -> Vec<Vec<u8>> {
            let question = Packet::parse(bytes).unwrap();
            let name = question.questions[0].qname.to_string();
            match names.iter().find(|served| served.name == name) {
                Some(served) => served.reply(&question, over_tcp),
                None => {
                    let mut packet = Packet::new_reply(question.id());
                    packet.questions = question.questions.clone();
                    *packet.rcode_mut() = RCODE::NameError;
                    vec![packet.build_bytes_vec().unwrap()]
                }
            }
        }

        pub(crate) fn port(&self) -> u16 {
            self.port
        }
    }

    #[test]
    fn each_kind_of_answer_is_read_or_refused() {
        let server = DnsServer::start(vec![
            ServedName::new("both.example", &["10.0.0.1", "10.0.0.2", "::1"]),
            ServedName::new("empty.example", &[]),
            ServedName::with("long.example", AnswerKind::Long),
            ServedName::with("foreign.example", AnswerKind::ForeignPackets),
            ServedName::with("alias.example", AnswerKind::Alias),
            ServedName::with("refused.example", AnswerKind::Refused),
            ServedName::with("garbage.example", AnswerKind::Garbage),
            ServedName::with("silent.example", AnswerKind::Silent),
        ]);
        let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
        let ask = |name: &str, tcp| {
            DnsQuery { name, ipv6: true, tcp, timeout: Duration::from_millis(500) }
                .ask(address)
                .map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (name, expected) in [
            ("both.example", "::1 10.0.0.1 10.0.0.2"),
            ("BOTH.example", ""),
            ("empty.example", ""),
            ("none.example", ""),
            ("long.example", "10.0.0.1"),
            ("foreign.example", "10.0.0.1"),
            ("alias.example", "10.0.0.1"),
        ] {
            assert_eq!(ask(name, false).unwrap(), expected, "{name}");
        }
        assert_eq!(ask("both.example", true).unwrap(), "::1 10.0.0.1 10.0.0.2");
        for (name, kind) in [
            ("refused.example", io::ErrorKind::Other),
            ("garbage.example", io::ErrorKind::InvalidData),
            ("silent.example", io::ErrorKind::TimedOut),
        ] {
            assert_eq!(ask(name, false).unwrap_err().kind(), kind, "{name}");
        }
    }
}
