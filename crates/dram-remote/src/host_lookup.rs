//! Name resolution without the C library.
//!
//! In a static program, `getaddrinfo` of glibc loads the host's NSS modules, which were built for another glibc: the
//! program crashes. So names are resolved here: `/etc/hosts`, then the servers of `/etc/resolv.conf`
//! (`hosts(5)`, `resolv.conf(5)`, RFC 1035), and at the end the host's own `getent` where `/etc/nsswitch.conf` names
//! sources beside these two. `localhost` is always the loopback address (RFC 6761).

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{child_process, dns_query};

/// The largest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The most name servers that are asked, as in glibc.
const MAX_SERVERS: usize = 3;
/// The most domains of a search list, as in newer versions of glibc a bound for hostile files only.
const MAX_SEARCH_DOMAINS: usize = 32;
/// The most addresses of one name.
const MAX_ADDRESSES: usize = 16;
/// The port of name servers.
const DNS_PORT: u16 = 53;

/// A resolver of host names, with the files that it reads at each lookup.
#[derive(Debug, Clone)]
pub(crate) struct HostResolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    nsswitch: PathBuf,
    getent: Vec<PathBuf>,
    /// The port of name servers.
    port: u16,
}

impl Default for HostResolver {
    fn default() -> HostResolver {
        HostResolver {
            hosts: PathBuf::from("/etc/hosts"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            nsswitch: PathBuf::from("/etc/nsswitch.conf"),
            getent: ["/usr/bin/getent", "/bin/getent"].map(PathBuf::from).to_vec(),
            port: DNS_PORT,
        }
    }
}

/// The settings of `resolv.conf(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ResolvConf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
    without_ipv6: bool,
    tcp: bool,
}

impl HostResolver {
    /// Returns the addresses of `host` with `port`, in the order in which they should be tried. `limit` bounds the wait
    /// for each answer.
    ///
    /// # Errors
    /// Fails with `NotFound` when no source knows the name, and with the last error of a name server when none
    /// answered.
    pub(crate) fn resolve(&self, host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = self.lookup(host, limit)?;
        addresses.truncate(MAX_ADDRESSES);
        Ok(sort_by_reachability(addresses).into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    fn lookup(&self, host: &str, limit: Duration) -> io::Result<Vec<IpAddr>> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no host name")));
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
        let listed = addresses_in_hosts(&read_config(&self.hosts)?, &name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let conf = ResolvConf::parse(&read_config(&self.resolv_conf)?, self.port);
        let found = lookup_in_dns(&conf, &name, bare.ends_with('.'), limit);
        match found {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            unanswered => {
                if has_other_sources(&read_config(&self.nsswitch)?)
                    && let Some(getent) = self.getent.iter().find(|path| path.is_file())
                    && let Some(text) = child_process::getent_hosts(getent, &name, limit)
                {
                    let addresses = addresses_of_getent(&text);
                    if !addresses.is_empty() {
                        return Ok(addresses);
                    }
                }
                unanswered?;
                Err(io::Error::new(io::ErrorKind::NotFound, format!("no address is known for the host `{host}`")))
            }
        }
    }

    /// Connects to `address`, which is `HOST:PORT`, by the first of its addresses that answers.
    ///
    /// # Errors
    /// Fails when the name cannot be resolved or no address accepts the connection within `limit`.
    pub(crate) fn connect(&self, address: &str, limit: Duration) -> io::Result<TcpStream> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{address}` is not HOST:PORT"));
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no address is known for the host `{host}`"));
        for address in self.resolve(host, port, limit)? {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Reads a configuration file. A missing one is empty.
fn read_config(path: &Path) -> io::Result<String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the addresses that `hosts(5)` gives for `name`, which is in lower case.
fn addresses_in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.split('%').next()?.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Returns whether `nsswitch.conf(5)` names sources of hosts that are not resolved here.
fn has_other_sources(text: &str) -> bool {
    let hosts = text.lines().find_map(|line| line.trim_start().strip_prefix("hosts:")).unwrap_or_default();
    let words = hosts.split('#').next().unwrap_or_default().split_ascii_whitespace();
    // An action such as `[!UNAVAIL=return]` is no source.
    words.filter(|word| !word.starts_with('[') && !word.ends_with(']')).any(|word| word != "files" && word != "dns")
}

/// Reads the output of `getent ahosts`: an address, a socket type and at times a name on each line.
fn addresses_of_getent(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in text.lines().filter_map(|line| line.split_ascii_whitespace().next()?.split('%').next()?.parse().ok())
    {
        if !found.contains(&address) && found.len() < MAX_ADDRESSES {
            found.push(address);
        }
    }
    found
}

impl ResolvConf {
    fn parse(text: &str, port: u16) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            without_ipv6: false,
            tcp: false,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| server_address(word, port));
                    conf.servers.extend(server.filter(|_| conf.servers.len() < MAX_SERVERS));
                }
                // The last of these two lines counts.
                Some("domain" | "search") => {
                    let domains = words.map(|word| word.trim_end_matches('.').to_ascii_lowercase());
                    conf.search = domains.filter(|domain| !domain.is_empty()).take(MAX_SEARCH_DOMAINS).collect();
                }
                Some("options") => words.for_each(|word| conf.set_option(word)),
                Some(_) | None => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        }
        conf
    }

    fn set_option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let number = value.parse::<u32>().ok();
        match (name, number) {
            ("ndots", Some(number)) => self.ndots = number.min(15) as usize,
            ("timeout", Some(number)) => self.timeout = Duration::from_secs(u64::from(number.clamp(1, 30))),
            ("attempts", Some(number)) => self.attempts = number.clamp(1, 5),
            ("no-aaaa", _) => self.without_ipv6 = true,
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// Returns the names to ask for in turn: with enough dots, or with one at the end, first the name itself.
    fn candidates(&self, name: &str, is_absolute: bool) -> Vec<String> {
        let own = std::iter::once(name.to_owned());
        if is_absolute {
            return own.collect();
        }
        let below = self.search.iter().map(|domain| format!("{name}.{domain}")).filter(|name| name.len() <= 253);
        match name.matches('.').count() >= self.ndots {
            true => own.chain(below).collect(),
            false => below.chain(own).collect(),
        }
    }
}

/// Reads the address of a name server; a link-local one has the name of its network device after a `%`.
fn server_address(word: &str, port: u16) -> Option<SocketAddr> {
    let Some((address, device)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse().ok()?, port));
    };
    let index = device.parse().ok().or_else(|| {
        let path = Path::new("/sys/class/net").join(Path::new(device).file_name()?).join("ifindex");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    })?;
    Some(SocketAddr::V6(SocketAddrV6::new(address.parse().ok()?, port, 0, index)))
}

/// Asks the name servers for each candidate in turn. Returns no address when the name does not exist.
fn lookup_in_dns(conf: &ResolvConf, name: &str, is_absolute: bool, limit: Duration) -> io::Result<Vec<IpAddr>> {
    let mut failure = None;
    for candidate in conf.candidates(name, is_absolute) {
        match ask_servers(conf, &candidate, limit) {
            Ok(addresses) if addresses.is_empty() => {}
            Ok(addresses) => return Ok(addresses),
            Err(error) => drop(failure.get_or_insert(error)),
        }
    }
    failure.map_or(Ok(Vec::new()), Err)
}

fn ask_servers(conf: &ResolvConf, name: &str, limit: Duration) -> io::Result<Vec<IpAddr>> {
    let query = dns_query::DnsQuery { name, ipv6: !conf.without_ipv6, tcp: conf.tcp, timeout: conf.timeout.min(limit) };
    let mut failure = None;
    for _ in 0..conf.attempts {
        for server in &conf.servers {
            match query.ask(*server) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => {
                    failure = Some(io::Error::new(error.kind(), format!("the name server {server}: {error}")));
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::other("no name server is configured")))
}

/// Puts addresses last that this machine has no route to, as RFC 6724 does; the order is else kept. Connecting a UDP
/// socket sends nothing.
fn sort_by_reachability(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let is_unreachable = |address: &IpAddr| {
        let own: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        UdpSocket::bind((own, 0)).and_then(|socket| socket.connect((*address, DNS_PORT))).is_err()
    };
    addresses.sort_by_cached_key(is_unreachable);
    addresses
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::dns_query::tests::{DnsServer, ServedName};

    fn resolver(dir: &Path, hosts: &str, resolv_conf: &str, nsswitch: &str, port: u16) -> HostResolver {
        let write = |name: &str, text: &str| {
            fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        HostResolver {
            hosts: write("hosts", hosts),
            resolv_conf: write("resolv.conf", resolv_conf),
            nsswitch: write("nsswitch.conf", nsswitch),
            getent: vec![dir.join("getent")],
            port,
        }
    }

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn literals_localhost_and_hosts_entries_need_no_server() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = "# 9.9.9.9 registry\n10.0.0.1\tregistry.example  registry # other\n10.0.0.2 REGISTRY\n::2 registry\nbad line\n";
        // Nobody listens at port 1.
        let resolver = resolver(dir.path(), hosts, "nameserver 127.0.0.1\noptions timeout:1 attempts:1", "", 1);
        let lookup = |host: &str| resolver.lookup(host, LIMIT);
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
        for (host, expected) in [
            ("10.1.2.3", &["10.1.2.3"][..]),
            ("[::1]", &["::1"]),
            ("::5", &["::5"]),
            ("localhost", &["127.0.0.1", "::1"]),
            ("a.LOCALHOST.", &["127.0.0.1", "::1"]),
            ("registry", &["10.0.0.1", "10.0.0.2", "::2"]),
            ("Registry.Example", &["10.0.0.1"]),
        ] {
            assert_eq!(lookup(host).unwrap(), parse(expected), "{host}");
        }
        for host in ["", "a..b", &"a".repeat(64), &"a.".repeat(130)] {
            assert_eq!(lookup(host).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{host}");
        }
        assert!(lookup("unknown.example").is_err());
    }

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let text = "; a comment\nnameserver 10.0.0.1\nnameserver fe80::1%7\nnameserver x\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n\
                    domain lost.example\nsearch A.example. b.example\noptions ndots:2 timeout:0 attempts:99 no-aaaa rotate\n";
        let conf = ResolvConf::parse(text, 53);
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fe80::1%7]:53", "10.0.0.3:53"]);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (2, Duration::from_secs(1), 5));
        assert!(conf.without_ipv6);
        assert_eq!(ResolvConf::parse("", 53).servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn search_domains_come_first_for_names_with_few_dots_only() {
        let conf = ResolvConf::parse("search a b\noptions ndots:2", 53);
        assert_eq!(conf.candidates("x", false), ["x.a", "x.b", "x"]);
        assert_eq!(conf.candidates("x.y.z", false), ["x.y.z", "x.y.z.a", "x.y.z.b"]);
        assert_eq!(conf.candidates("x", true), ["x"]);
    }

    #[test]
    fn names_are_found_by_the_search_list_at_a_server() {
        let server = DnsServer::start(vec![ServedName::new("registry.team.example", &["10.0.0.7", "::7"])]);
        let dir = tempfile::tempdir().unwrap();
        let conf = "nameserver 127.0.0.1\nsearch none.example team.example\noptions timeout:2";
        let resolver = resolver(dir.path(), "", conf, "", server.port());
        let mut found = resolver.lookup("registry", LIMIT).unwrap();
        found.sort();
        assert_eq!(found, ["10.0.0.7".parse::<IpAddr>().unwrap(), "::7".parse().unwrap()]);
        let error = resolver.lookup("nothing.example", LIMIT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("nothing.example"));
    }

    #[test]
    fn getent_is_asked_only_where_nsswitch_names_other_sources() {
        let sources = |line: &str| has_other_sources(&format!("passwd: files ldap\n{line}\n"));
        assert!(!sources("hosts: files dns"));
        assert!(!sources("hosts: files [NOTFOUND=return] dns # mdns"));
        assert!(!sources(""));
        assert!(sources("hosts: files myhostname resolve [!UNAVAIL=return] dns"));
        assert!(sources("hosts:\tfiles mdns4_minimal [NOTFOUND=return] dns"));
        let listed =
            addresses_of_getent("fe80::1%eth0    STREAM host\nfe80::1%eth0    DGRAM\n10.0.0.1  STREAM\nrubbish\n");
        assert_eq!(listed, ["fe80::1".parse::<IpAddr>().unwrap(), "10.0.0.1".parse().unwrap()]);

        let server = DnsServer::start(Vec::new());
        let dir = tempfile::tempdir().unwrap();
        let conf = "nameserver 127.0.0.1\noptions timeout:2";
        let script = dir.path().join("getent");
        fs::write(&script, "#!/bin/sh\n[ \"$1 $2\" = 'ahosts printer' ] && echo '10.0.0.9 STREAM printer'\n").unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let with = |nsswitch| resolver(dir.path(), "", conf, nsswitch, server.port()).lookup("printer", LIMIT);
        assert_eq!(with("hosts: files mdns dns").unwrap(), ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert!(with("hosts: files dns").is_err());
    }

    #[test]
    fn a_server_that_refuses_is_passed_over_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let server = DnsServer::start(vec![ServedName::new("a.example", &["10.0.0.7"])]);
        // 127.0.0.2 refuses the port at once: the answer comes from the second server.
        let conf = "nameserver 127.0.0.2\nnameserver 127.0.0.1\noptions timeout:1";
        let resolver = resolver(dir.path(), "", conf, "", server.port());
        assert_eq!(resolver.lookup("a.example", LIMIT).unwrap(), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn connecting_by_name_reaches_the_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, receiver) = mpsc::channel();
        let accepting = thread::spawn(move || sender.send(listener.accept().is_ok()));
        HostResolver::default().connect(&format!("localhost:{port}"), LIMIT).unwrap();
        assert!(receiver.recv_timeout(LIMIT).unwrap());
        accepting.join().unwrap().unwrap();
        assert!(HostResolver::default().connect("localhost", LIMIT).is_err());
    }
}
