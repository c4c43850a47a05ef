//! The environment of this process. It is read here and passed on.
#![allow(clippy::disallowed_methods, reason = "no other file reads the environment")]

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use dram_build::container::HostSettings;
use dram_image::{ArchiveLimit, ArchiveLimits, RFC3339_TIMES};
use dram_remote::{EngineSelection, ProxySettings, TrustStore};
use dram_sandbox::{HostChecks, MissingHostSupport, ProcessPrivilege, ResourceLimit, RlimitKind as Limited};
use dram_store::{Store, StoreLocation};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;
use crate::report;

/// The most space that the store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreQuota {
    /// The user's limit in bytes.
    Explicit(u64),
    /// The default, which depends on the size of the disk.
    Default,
    /// No limit.
    Unlimited,
}

impl StoreQuota {
    /// The default limit in bytes, or a tenth of the disk where that is more.
    const DEFAULT_MINIMUM: u64 = 10_000_000_000;

    /// The limit in bytes, if there is one.
    pub(crate) fn bytes(self, store: &dram_store::Store) -> Option<u64> {
        match self {
            StoreQuota::Explicit(bytes) => Some(bytes),
            StoreQuota::Default => Some(StoreQuota::DEFAULT_MINIMUM.max(store.disk_size() / 10)),
            StoreQuota::Unlimited => None,
        }
    }

    fn parse(given: Option<&str>) -> Result<StoreQuota, Failure> {
        let from_env = env_var("DRAM_MAX_SIZE").filter(|text| !text.is_empty());
        match given.or(from_env.as_deref()) {
            None => Ok(StoreQuota::Default),
            Some("none") => Ok(StoreQuota::Unlimited),
            Some(text) => crate::cmd::parse_size(text).map(StoreQuota::Explicit),
        }
    }
}

/// The privileges of this process, and the location of its store.
#[derive(Debug)]
pub(crate) struct AmbientContext {
    store: Option<StoreLocation>,
    quota: StoreQuota,
    privilege: Result<ProcessPrivilege, MissingHostSupport>,
    limits: Vec<ResourceLimit>,
}

impl AmbientContext {
    /// Reads the environment and raises the limit of open files. A process that is not root enters a user namespace as
    /// its root, which only works while there is one thread.
    pub(crate) fn enter(
        store: Option<PathBuf>,
        limits: &[String],
        most: Option<&str>,
    ) -> Result<AmbientContext, Failure> {
        let most = StoreQuota::parse(most)?;
        let limits = read_limits(limits)?;
        let store = store_root(store);
        let given = match most {
            StoreQuota::Explicit(bytes) => Some(bytes),
            StoreQuota::Default | StoreQuota::Unlimited => None,
        };
        let store = store.map(|root| StoreLocation { root, limits, max_bytes: given });
        Ok(AmbientContext {
            store,
            quota: most,
            privilege: dram_sandbox::enter_user_namespace(),
            limits: raise_open_files(),
        })
    }

    /// The location of the store, which is of the current version. Fails if neither an option nor the environment names
    /// a directory, or if a store of an older version cannot be migrated.
    pub(crate) fn store(&self) -> Result<&StoreLocation, Failure> {
        if let Some(lack) = HostChecks::check_file_access() {
            return Err(Failure::from(lack));
        }
        let place = self.store.as_ref().ok_or_else(|| {
            Failure::usage("it is not known where the store is: HOME is not set").help("give --store or set DRAM_STORE")
        })?;
        let waiting = || report::print_note("the store is of an older version: waiting until no other dram uses it");
        Store::migrate(place, &waiting)?;
        Ok(place)
    }

    /// The most space that the store may take.
    pub(crate) fn quota(&self) -> StoreQuota {
        self.quota
    }

    /// The properties of this machine that commands see: name servers, privileges and resource limits.
    pub(crate) fn host(&self) -> HostSettings {
        let resolv_conf = fs::read("/etc/resolv.conf").unwrap_or_default();
        let (no_new_privs, one_id) = match &self.privilege {
            Ok(ProcessPrivilege::Root) => (false, false),
            Ok(ProcessPrivilege::UserNamespace { ids, .. }) => (true, *ids == 1),
            Err(_) => (true, false),
        };
        HostSettings { resolv_conf, no_new_privs, single_id: one_id, limits: self.limits.clone() }
    }

    /// The ability that is missing for running commands, if one is.
    pub(crate) fn missing_ability(&self) -> Option<MissingHostSupport> {
        match &self.privilege {
            Ok(ProcessPrivilege::Root | ProcessPrivilege::UserNamespace { .. }) => {
                HostChecks::check_entered_namespace()
            }
            Err(lack) => Some(lack.clone()),
        }
    }

    /// The reason for which this user has a single id, if that is so.
    pub(crate) fn single_id_reason(&self) -> Option<&str> {
        match &self.privilege {
            Ok(ProcessPrivilege::UserNamespace { limitation: limited, .. }) => limited.as_deref(),
            Ok(ProcessPrivilege::Root) | Err(_) => None,
        }
    }
}

/// Raises the soft limit of open files, at most to what a thousand layers need. Returns the old limits if they changed:
/// commands run with those.
fn raise_open_files() -> Vec<ResourceLimit> {
    const ENOUGH: u64 = 8192;
    let before = getrlimit(Resource::Nofile);
    let most = before.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if before.current.is_none_or(|now| now >= most) {
        return Vec::new();
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: before.maximum }) {
        Ok(()) => vec![ResourceLimit { kind: Limited::Nofile, soft: before.current, hard: before.maximum }],
        // The process goes on with the limit that it has.
        Err(_) => Vec::new(),
    }
}

/// Reads the limits for foreign archives: from the environment, then from the command line, which overrides it.
fn read_limits(given: &[String]) -> Result<ArchiveLimits, Failure> {
    let mut limits = ArchiveLimits::default();
    let from_env = env_var("DRAM_LIMITS");
    for text in from_env.iter().chain(given) {
        limits.apply(text).map_err(|error| {
            let names = ArchiveLimit::ALL.map(ArchiveLimit::name).join(", ");
            Failure::usage(format!("cannot limit `{}`", text.escape_debug()))
                .because(&error)
                .help(format!("write NAME=NUMBER, as `size=500g`; the names are {names}, and `none` is no limit"))
        })?;
    }
    Ok(limits)
}

fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The directory of the store: `given`, that of the environment, or the default one. `None` if nothing says where it is.
pub(crate) fn store_root(given: Option<PathBuf>) -> Option<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    given.or_else(|| env_path("DRAM_STORE")).or_else(|| default_store(is_root))
}

/// The default location of the store: in the XDG data directory; for root without one `/var/lib/dram`, as for a
/// service.
fn default_store(is_root: bool) -> Option<PathBuf> {
    if let Some(data) = env_path("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Some(data.join("dram"));
    }
    if is_root {
        return Some(PathBuf::from("/var/lib/dram"));
    }
    env_path("HOME").map(|home| home.join(".local/share/dram"))
}

/// The environment's `SOURCE_DATE_EPOCH`; `None` if it is empty or not set.
pub(crate) fn source_date_epoch() -> Result<Option<i64>, Failure> {
    parse_epoch(env_var(SOURCE_DATE_EPOCH).as_deref())
}

/// The variable, or build argument, with the time of a build.
pub(crate) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Parses a value of `SOURCE_DATE_EPOCH`; `None` if it is empty.
pub(crate) fn parse_epoch(text: Option<&str>) -> Result<Option<i64>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    parse_document_time(SOURCE_DATE_EPOCH, text).map(Some)
}

/// Parses the value `text` of `name`: seconds since 1970, in the years 0 to 9999.
pub(crate) fn parse_document_time(name: &str, text: &str) -> Result<i64, Failure> {
    let wrong = |why: &str| {
        let failure = Failure::usage(format!("{name} is `{}`, which is {why}", text.escape_debug()));
        failure.help("`git log -1 --format=%ct` prints one")
    };
    let time: i64 = text.trim().parse().map_err(|_| wrong("no number of seconds"))?;
    match RFC3339_TIMES.contains(&time) {
        true => Ok(time),
        false => Err(wrong("not in the years 0 to 9999")),
    }
}

/// The current time, as RFC 3339 with nanoseconds.
pub(crate) fn timestamp() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let whole = dram_image::rfc3339(i64::try_from(since.as_secs()).unwrap_or(0));
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), since.subsec_nanos())
}

/// The value of an environment variable; `None` if it is not set, or is not UTF-8.
pub(crate) fn env_var(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// The value of an environment variable, which need not be UTF-8; `None` if it is not set.
pub(crate) fn env_var_os(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// Returns true if the terminal cannot move its cursor: `TERM` is `dumb` or not set.
pub(crate) fn has_dumb_terminal() -> bool {
    env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// Returns true if the user wants no colors: `NO_COLOR` is set.
pub(crate) fn refuses_colors() -> bool {
    env::var_os("NO_COLOR").is_some()
}

/// This machine's architecture under its Go name.
pub(crate) fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "x86" => "386",
        other => other,
    }
}

/// This machine's platform.
pub(crate) fn platform() -> dram_image::ImagePlatform {
    dram_image::ImagePlatform { architecture: architecture().to_owned(), os: "linux".to_owned(), variant: None }
}

/// The complete environment.
pub(crate) fn environment() -> BTreeMap<Vec<u8>, Vec<u8>> {
    env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect()
}

/// The search path of programs.
pub(crate) fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"))
}

/// The current time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The time of day, in seconds since 1970 and nanoseconds. A clock before 1970 counts as 1970.
pub(crate) fn wall_clock() -> (i64, u32) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

/// The time since the first call of this function, from a monotonic clock.
pub(crate) fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The working directory; `None` if it was removed.
pub(crate) fn working_dir() -> Option<PathBuf> {
    env::current_dir().ok()
}

/// An environment variable by its name in lower or in upper case, if it has a value.
fn env_var_any_case(name: &str) -> Option<String> {
    [name.to_ascii_lowercase(), name.to_owned()].iter().find_map(|name| env::var(name).ok().filter(|v| !v.is_empty()))
}

/// The proxies of the environment.
pub(crate) fn proxies() -> ProxySettings {
    ProxySettings {
        http: env_var_any_case("HTTP_PROXY"),
        https: env_var_any_case("HTTPS_PROXY"),
        all_proxy: env_var_any_case("ALL_PROXY"),
        no_proxy: env_var_any_case("NO_PROXY"),
    }
}

/// The certificates that are trusted.
pub(crate) fn trusted_certificates() -> TrustStore {
    TrustStore { file: env_path("SSL_CERT_FILE"), dir: env::var_os("SSL_CERT_DIR").filter(|value| !value.is_empty()) }
}

/// Paths of the configuration files, certificates and credentials for registries.
pub(crate) struct RegistryConfigPaths {
    /// `registries.conf` and its drop-in directories; the last one has precedence.
    pub(crate) registries: Vec<PathBuf>,
    /// Directories with a directory of certificates for each host.
    pub(crate) certificates: Vec<PathBuf>,
    /// Credential files; the first one has precedence.
    pub(crate) credentials: Vec<PathBuf>,
    /// The file that new credentials are written to.
    pub(crate) new_credentials: Option<PathBuf>,
}

/// Returns the settings of the environment that select the Docker engine.
pub(crate) fn engine_selection() -> EngineSelection {
    let config_dir = env_path("DOCKER_CONFIG").or_else(|| env_path("HOME").map(|home| home.join(".docker")));
    EngineSelection {
        host: env_var("DOCKER_HOST"),
        context: env_var("DOCKER_CONTEXT"),
        config_dir,
        tls: env_var("DOCKER_TLS_VERIFY").is_some_and(|text| !text.is_empty()),
        certificates: env_path("DOCKER_CERT_PATH"),
    }
}

/// The paths that Docker and the containers tools use.
pub(crate) fn registry_config_paths() -> RegistryConfigPaths {
    let home = env_path("HOME");
    let config = env_path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let own = config.map(|config| config.join("containers"));
    let etc = PathBuf::from("/etc/containers");
    let named = env_path("CONTAINERS_REGISTRIES_CONF");
    let main =
        named.clone().or_else(|| own.as_ref().map(|own| own.join("registries.conf")).filter(|file| file.is_file()));
    let mut registries = vec![main.unwrap_or_else(|| etc.join("registries.conf"))];
    if named.is_none() {
        registries.push(etc.join("registries.conf.d"));
        registries.extend(own.as_ref().map(|own| own.join("registries.conf.d")));
    }
    let docker = home.as_ref().map(|home| home.join(".docker/config.json"));
    let given = [env_path("DOCKER_CONFIG").map(|dir| dir.join("config.json")), env_path("REGISTRY_AUTH_FILE")];
    let usual = [
        env_path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        own.as_ref().map(|own| own.join("auth.json")),
        docker.clone(),
    ];
    let is_given = given.iter().any(Option::is_some);
    let new_credentials = given.iter().flatten().next().cloned().or(docker);
    RegistryConfigPaths {
        registries,
        certificates: [
            Some(etc.join("certs.d")),
            Some("/etc/docker/certs.d".into()),
            own.map(|own| own.join("certs.d")),
        ]
        .into_iter()
        .flatten()
        .collect(),
        // A file that the environment names replaces all usual ones.
        credentials: match is_given {
            true => given.into_iter().flatten().collect(),
            false => usual.into_iter().flatten().collect(),
        },
        new_credentials,
    }
}

/// The timeout for a server: `most`, or less if `DRAM_NETWORK_TIMEOUT` has fewer seconds.
pub(crate) fn network_timeout(most: Duration) -> Duration {
    let text = env::var("DRAM_NETWORK_TIMEOUT").ok();
    let seconds = text.and_then(|text| text.parse::<f64>().ok()).filter(|seconds| (0.01..=86400.0).contains(seconds));
    seconds.map_or(most, |seconds| most.min(Duration::from_secs_f64(seconds)))
}

/// The socket of the user's ssh agent.
pub(crate) fn ssh_agent() -> Option<PathBuf> {
    env_path("SSH_AUTH_SOCK")
}

/// The environment of `git`: proxies, trusted certificates and the ssh command.
pub(crate) fn git_environment() -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = Vec::new();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            all.extend(env::var_os(&name).map(|value| (OsString::from(name), value)));
        }
    }
    all.extend(env::var_os("SSL_CERT_FILE").map(|value| ("GIT_SSL_CAINFO".into(), value)));
    // Of the user's ssh settings only the known hosts are used, and of the keys only those in an agent that was given.
    // Nobody can answer a question.
    let mut ssh = "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o GSSAPIAuthentication=no".to_owned();
    if let Some(hosts) = env_path("HOME").map(|home| home.join(".ssh/known_hosts")).filter(|hosts| hosts.is_file())
        && let Some(hosts) = hosts.to_str().filter(|hosts| !hosts.contains(['\'', '"', '\\']))
    {
        ssh.push_str(&format!(" -o 'UserKnownHostsFile=\"{hosts}\"'"));
    }
    all.push(("GIT_SSH_COMMAND".into(), ssh.into()));
    all
}
