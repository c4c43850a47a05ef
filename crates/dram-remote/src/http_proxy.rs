//! Plain HTTP through a proxy: the request line holds the absolute URL (RFC 9112, 3.2.2). `ureq` asks every proxy for a
//! `CONNECT` tunnel, which most refuse when there is no TLS in it.

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error};

use crate::host_lookup::HostResolver;

/// Returns an agent that requests `host` through `proxy`.
pub(crate) fn proxied_agent(config: Config, proxy: Uri, host: &str) -> Agent {
    let whole = AbsoluteFormConnector { prefix: format!("http://{host}").into_bytes() };
    Agent::with_parts(
        config,
        TcpConnector::default().chain(whole),
        ProxyResolver { proxy, inner: AgentResolver::default() },
    )
}

/// Returns an agent that resolves names by [`HostResolver`].
pub(crate) fn direct_agent(config: Config) -> Agent {
    Agent::with_parts(config, DefaultConnector::default(), AgentResolver::default())
}

/// The resolver of all agents: `ureq`'s own calls `getaddrinfo`.
#[derive(Debug, Default)]
struct AgentResolver(HostResolver);

impl Resolver for AgentResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let invalid = || Error::BadUri(uri.to_string());
        let (scheme, authority) = (uri.scheme().ok_or_else(invalid)?, uri.authority().ok_or_else(invalid)?);
        let address = DefaultResolver::host_and_port(scheme, authority).ok_or_else(invalid)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let mut found = self.empty();
        self.0.resolve(host, port, *timeout.after)?.into_iter().for_each(|address| found.push(address));
        Ok(found)
    }
}

/// Resolves every host to the address of the proxy.
#[derive(Debug)]
struct ProxyResolver {
    proxy: Uri,
    inner: AgentResolver,
}

impl Resolver for ProxyResolver {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.inner.resolve(&self.proxy, config, timeout)
    }
}

#[derive(Debug)]
struct AbsoluteFormConnector {
    prefix: Vec<u8>,
}

impl<In: Transport> Connector<In> for AbsoluteFormConnector {
    type Out = AbsoluteFormTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| AbsoluteFormTransport { inner, prefix: self.prefix.clone() }))
    }
}

/// A connection that puts its prefix before the path of the first request. A connection carries one request only.
#[derive(Debug)]
struct AbsoluteFormTransport<T> {
    inner: T,
    prefix: Vec<u8>,
}

impl<T: Transport> Transport for AbsoluteFormTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, mut amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let prefix = std::mem::take(&mut self.prefix);
        let out = self.inner.buffers().output();
        if let Some(at) = out[..amount].iter().position(|byte| *byte == b' ').filter(|_| !prefix.is_empty()) {
            if amount + prefix.len() > out.len() {
                return Err(Error::BadUri("it is too long for a proxy".to_owned()));
            }
            out.copy_within(at + 1..amount, at + 1 + prefix.len());
            out[at + 1..][..prefix.len()].copy_from_slice(&prefix);
            amount += prefix.len();
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}
