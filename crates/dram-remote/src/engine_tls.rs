//! TLS with Docker engines: the certificate of the engine is verified with `ca.pem`, and `cert.pem` and `key.pem`, if
//! they exist, authenticate this client.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The files of TLS with an engine.
#[derive(Debug, Clone)]
pub struct EngineTls {
    dir: PathBuf,
}

impl EngineTls {
    /// Returns the files in the directory `dir`, under the names that Docker gives them.
    pub fn in_dir(dir: &Path) -> EngineTls {
        EngineTls { dir: dir.to_owned() }
    }

    /// Returns the path of the certificates that are trusted.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Starts TLS with the engine at `address`, `HOST:PORT`. The handshake is part of the first read or write.
    ///
    /// # Errors
    /// Fails when a file cannot be read or is not valid, or the host is no valid name.
    pub(crate) fn start(
        &self,
        address: &str,
        stream: TcpStream,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid(format!("`{host}` is no host")))?;
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(&self.authority())? {
            roots.add(certificate).map_err(|error| at(&self.authority(), &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| invalid(error.to_string()))?.with_root_certificates(roots);
        let (certificate, key) = (self.dir.join("cert.pem"), self.dir.join("key.pem"));
        let config = match certificate.is_file() {
            false => builder.with_no_client_auth(),
            true => {
                let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| at(&key, &error))?;
                let own = read_certificates(&certificate)?;
                builder.with_client_auth_cert(own, secret).map_err(|error| at(&certificate, &error))?
            }
        };
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

fn read_certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| at(path, &error))?;
    match all.is_empty() {
        true => Err(at(path, &"it holds no certificate")),
        false => Ok(all),
    }
}

/// Returns an error with the file that caused it.
fn at(path: &Path, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", path.display()))
}
