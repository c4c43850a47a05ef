//! Debian's `docker-registry`, run for the duration of a test.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{RunningCommand, temp, tool, wait_until};

/// User and password of the registry with basic authentication.
pub(crate) const USER: &str = "tester";
pub(crate) const WORD: &str = "hidden";
/// Output of `htpasswd -nbB -C 4 tester hidden`.
const HTPASSWD: &str = "tester:$2y$04$1ipB/aqJ4qyosGzU.SJlg.zlAm2ZtPiFg0n.Z1NYBqXooPsiyfJvi\n";

/// A running registry, empty at first and killed when dropped.
#[derive(Debug)]
pub(crate) struct Debian {
    dir: TempDir,
    port: u16,
    _process: RunningCommand,
}

impl Debian {
    /// Starts a registry over HTTP without authentication.
    pub(crate) fn plain() -> Debian {
        Debian::start(temp(), "")
    }

    /// Starts a registry over HTTP with basic authentication for [`USER`] and [`WORD`].
    pub(crate) fn basic() -> Debian {
        let dir = temp();
        Debian::start(dir, &Debian::auth())
    }

    /// Starts a registry over TLS as `localhost`, with a certificate signed by [`Debian::authority`].
    pub(crate) fn tls() -> Debian {
        let dir = certified();
        Debian::start(dir, "  tls: {certificate: server.pem, key: server.key}\n")
    }

    /// Starts a registry over TLS with basic authentication for [`USER`] and [`WORD`].
    pub(crate) fn tls_basic() -> Debian {
        let dir = certified();
        Debian::start(dir, &format!("  tls: {{certificate: server.pem, key: server.key}}\n{}", Debian::auth()))
    }

    /// Starts a registry over TLS that requires a client certificate of [`Debian::authority`]: `client.cert` and
    /// `client.key` beside it.
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

    /// Starts a pull-through mirror of the registry at this URL.
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
        // The kernel chooses the port, and only the log has it. The registry is killed with its parent.
        let process = process.run_under("sh", &["-c", r#"exec setpriv --pdeathsig KILL "$0" "$@" > log 2>&1"#]);
        let process = process.dir(dir.path()).start();
        let mut port = 0;
        wait_until("the registry listens", Duration::from_secs(20), || {
            let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            let text = log.split("listening on 127.0.0.1:").nth(1).unwrap_or_default();
            let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            // The line may be read incompletely: a quote follows the port.
            port = if text.len() > digits.len() { digits.parse().unwrap_or(0) } else { 0 };
            port != 0
        });
        Debian { dir, port, _process: process }
    }

    /// Returns `localhost:PORT`, the name in the certificates.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Returns the name of an image in this registry.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    /// Returns the path of the certificate authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// Returns every request that the registry answered, from its log: method, path and status.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
        log.lines().filter(|line| line.contains(" HTTP/1.1\" ")).filter_map(quoted).collect()
    }
}

/// Creates a directory with a certificate authority and a certificate for `localhost`.
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
