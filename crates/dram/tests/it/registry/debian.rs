//! Debian's `docker-registry`, for as long as a test needs it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Started, temp, tool, until};

/// Whom the registry with authentication knows, and by which word.
pub(crate) const USER: &str = "tester";
pub(crate) const WORD: &str = "hidden";
/// `htpasswd -nbB -C 4 tester hidden`.
const HTPASSWD: &str = "tester:$2y$04$1ipB/aqJ4qyosGzU.SJlg.zlAm2ZtPiFg0n.Z1NYBqXooPsiyfJvi\n";

/// A registry that is empty at first, and gone with the value.
#[derive(Debug)]
pub(crate) struct Debian {
    dir: TempDir,
    port: u16,
    _process: Started,
}

impl Debian {
    /// Over HTTP, for everybody.
    pub(crate) fn plain() -> Debian {
        Debian::start(temp(), "")
    }

    /// Over HTTP, for [`USER`] with [`WORD`].
    pub(crate) fn basic() -> Debian {
        let dir = temp();
        Debian::start(dir, &Debian::auth())
    }

    /// Over TLS as `localhost`, for everybody, with a certificate that [`Debian::authority`] vouches for.
    pub(crate) fn tls() -> Debian {
        let dir = certified();
        Debian::start(dir, "  tls: {certificate: server.pem, key: server.key}\n")
    }

    /// Over TLS, for [`USER`] with [`WORD`].
    pub(crate) fn tls_basic() -> Debian {
        let dir = certified();
        Debian::start(dir, &format!("  tls: {{certificate: server.pem, key: server.key}}\n{}", Debian::auth()))
    }

    /// Over TLS, for those who have a certificate of [`Debian::authority`]: `client.cert` and `client.key` beside it.
    pub(crate) fn tls_for_known() -> Debian {
        let dir = certified();
        let script = "set -e; \
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=tester \
                -keyout client.key -out client.csr; \
            printf 'extendedKeyUsage=clientAuth\n' > uses; \
            openssl x509 -req -in client.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 \
                -extfile uses -out client.cert";
        tool("sh").dir(dir.path()).args(["-c", script]).ok();
        Debian::start(dir, "  tls: {certificate: server.pem, key: server.key, clientcas: [authority.pem]}\n")
    }

    /// A mirror that takes what it has not from the registry at this address.
    pub(crate) fn mirror_of(url: &str) -> Debian {
        Debian::start(temp(), &format!("proxy: {{remoteurl: \"{url}\"}}\n"))
    }

    fn auth() -> String {
        "auth:\n  htpasswd: {realm: tests, path: htpasswd}\n".to_owned()
    }

    fn start(dir: TempDir, more: &str) -> Debian {
        let settings = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: data}}\n  delete: {{enabled: true}}\n\
             http:\n  addr: 127.0.0.1:0\n{more}"
        );
        fs::write(dir.path().join("config.yml"), settings).unwrap();
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let process = tool("docker-registry").args(["serve", "config.yml"]).env("OTEL_TRACES_EXPORTER", "none");
        // The kernel chose the port, and only the log has it. No registry outlives its test.
        let process = process.within("sh", &["-c", r#"exec setpriv --pdeathsig KILL "$0" "$@" > log 2>&1"#]);
        let process = process.dir(dir.path()).start();
        let mut port = 0;
        until("the registry listens", Duration::from_secs(20), || {
            let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            let text = log.split("listening on 127.0.0.1:").nth(1).unwrap_or_default();
            let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            // The line may be cut where it is read: the quote is behind the port.
            port = if text.len() > digits.len() { digits.parse().unwrap_or(0) } else { 0 };
            port != 0
        });
        Debian { dir, port, _process: process }
    }

    /// `localhost:PORT`: a name that certificates have.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The name of an image there.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    /// Who vouches for its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// Every request that it answered: method, path, status, as its log has them.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
        log.lines().filter(|line| line.contains(" HTTP/1.1\" ")).filter_map(quoted).collect()
    }
}

/// A directory with an authority of its own, and a certificate for `localhost`.
fn certified() -> TempDir {
    let dir = temp();
    let script = "set -e; \
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tests \
            -keyout authority.key -out authority.pem; \
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
            -keyout server.key -out server.csr; \
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' > names; \
        openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 \
            -extfile names -out server.pem";
    tool("sh").dir(dir.path()).args(["-c", script]).ok();
    dir
}
