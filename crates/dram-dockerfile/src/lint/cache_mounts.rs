//! Advice to use cache mounts for package managers, which otherwise fetch everything when their step is executed again.

use dram_plan::{PlanStep, RunMount, RunOp};

use super::apt;
use crate::diagnostic::{Diagnostic, DiagnosticCollector};
use crate::rules;

/// A package manager that downloads packages.
struct PackageManager {
    /// The name for messages.
    name: &'static str,
    /// Returns true when a command makes it download.
    fetches: fn(&[String]) -> bool,
    /// A cache mount whose target or id contains this word counts as its own.
    mount_hint: &'static str,
    /// Returns its cache directories.
    cache_dirs: fn(&CacheDirContext<'_>) -> Vec<String>,
}

/// The step and the home directory of its user, from which cache directories are derived.
struct CacheDirContext<'r> {
    run: &'r RunOp,
    home: String,
}

impl CacheDirContext<'_> {
    /// Returns the value of `variable` followed by `below`, or the path `otherwise` in the home directory.
    fn env_or_home(&self, variable: &str, below: &str, otherwise: &str) -> String {
        let value = self.run.env.iter().find(|(name, value)| name == variable && !value.is_empty());
        value.map_or_else(|| format!("{}/{otherwise}", self.home), |(_, value)| format!("{value}{below}"))
    }

    fn is_root(&self) -> bool {
        ["", "0", "root"].contains(&self.run.user.split(':').next().unwrap_or_default())
    }
}

/// Returns true when the command is one of `programs` and has one of `verbs`.
fn runs_program(words: &[String], programs: &[&str], verbs: &[&str]) -> bool {
    let verb = |word: &String| verbs.contains(&word.trim_end_matches(','));
    programs.contains(&words[0].as_str()) && words[1..].iter().any(verb)
}

const PACKAGE_MANAGERS: &[PackageManager] = &[
    PackageManager {
        name: "Hex",
        fetches: |words| runs_program(words, &["mix"], &["deps.get", "deps.update", "hex.package"]),
        mount_hint: "hex",
        cache_dirs: |seen| vec![seen.env_or_home("HEX_HOME", "", ".hex")],
    },
    PackageManager {
        name: "rebar3",
        fetches: |words| {
            runs_program(words, &["rebar3"], &["get-deps", "compile", "release", "as", "tar", "escriptize", "upgrade"])
        },
        mount_hint: "rebar3",
        cache_dirs: |seen| vec![seen.env_or_home("REBAR_CACHE_DIR", "", ".cache/rebar3")],
    },
    PackageManager {
        name: "npm",
        fetches: |words| runs_program(words, &["npm"], &["ci", "install", "i", "add"]),
        mount_hint: "npm",
        cache_dirs: |seen| vec![seen.env_or_home("npm_config_cache", "", ".npm")],
    },
    PackageManager {
        name: "yarn",
        fetches: |words| {
            words[0] == "yarn"
                && (words.len() == 1
                    || words[1].starts_with('-')
                    || runs_program(words, &["yarn"], &["install", "add"]))
        },
        mount_hint: "yarn",
        cache_dirs: |seen| match seen.is_root() {
            true if !seen.run.env.iter().any(|(name, _)| name == "YARN_CACHE_FOLDER") => {
                vec!["/usr/local/share/.cache/yarn".to_owned()]
            }
            _ => vec![seen.env_or_home("YARN_CACHE_FOLDER", "", ".cache/yarn")],
        },
    },
    PackageManager {
        name: "pnpm",
        fetches: |words| runs_program(words, &["pnpm"], &["install", "i", "add", "fetch"]),
        mount_hint: "pnpm",
        cache_dirs: |seen| vec![seen.env_or_home("PNPM_HOME", "/store", ".local/share/pnpm/store")],
    },
    PackageManager {
        name: "cargo",
        fetches: |words| {
            runs_program(words, &["cargo"], &["build", "install", "fetch", "test", "check", "run", "chef"])
        },
        mount_hint: "cargo",
        cache_dirs: |seen| vec![seen.env_or_home("CARGO_HOME", "/registry", ".cargo/registry")],
    },
    PackageManager {
        name: "pip",
        fetches: |words| {
            let module =
                words[0].starts_with("python") && words[1..].windows(2).any(|pair| pair[0] == "-m" && pair[1] == "pip");
            let pip = words[0].starts_with("pip") || module;
            pip && words.iter().any(|word| word == "install") && !words.iter().any(|word| word == "--no-cache-dir")
        },
        mount_hint: "pip",
        cache_dirs: |seen| vec![seen.env_or_home("PIP_CACHE_DIR", "", ".cache/pip")],
    },
    PackageManager {
        name: "uv",
        fetches: |words| {
            runs_program(words, &["uv"], &["sync", "install", "add", "lock"])
                && !words.iter().any(|word| word == "--no-cache")
        },
        mount_hint: "uv",
        cache_dirs: |seen| vec![seen.env_or_home("UV_CACHE_DIR", "", ".cache/uv")],
    },
    PackageManager {
        name: "go",
        fetches: |words| runs_program(words, &["go"], &["build", "install", "get", "test", "download"]),
        mount_hint: "go",
        cache_dirs: |seen| {
            let modules = seen.run.env.iter().find(|(name, _)| name == "GOMODCACHE");
            let modules = modules
                .map_or_else(|| seen.env_or_home("GOPATH", "/pkg/mod", "go/pkg/mod"), |(_, value)| value.clone());
            vec![modules, seen.env_or_home("GOCACHE", "", ".cache/go-build")]
        },
    },
    PackageManager {
        name: "apt",
        fetches: |words| apt::runs_apt(words, &["install"]),
        mount_hint: "apt",
        cache_dirs: |_| vec!["/var/cache/apt,sharing=locked".to_owned(), "/var/lib/apt,sharing=locked".to_owned()],
    },
];

/// Finds package managers among the commands of one step that have no cache mount.
pub(super) fn check(commands: &[Vec<String>], run: &RunOp, step: &PlanStep, report: &mut DiagnosticCollector) {
    let Some(home) = home_dir(run) else { return };
    let seen = CacheDirContext { run, home };
    let mounted = |word: &str| {
        run.mounts.iter().any(|mount| match mount {
            RunMount::Cache(cache) => cache.target.contains(word) || cache.id.contains(word),
            RunMount::Tmpfs { target, .. } | RunMount::Bind { target, .. } => target.contains(word),
            RunMount::Secret { .. } | RunMount::Ssh { .. } => false,
        })
    };
    for fetcher in PACKAGE_MANAGERS {
        let fetches = commands.iter().any(|words| (fetcher.fetches)(words));
        if !fetches || mounted(fetcher.mount_hint) {
            continue;
        }
        let places = (fetcher.cache_dirs)(&seen);
        if places.iter().any(|place| run.mounts.iter().any(|mount| is_mounted_at(place, mount))) {
            continue;
        }
        let flags: Vec<String> = places.iter().map(|place| format!("--mount=type=cache,target={place}")).collect();
        let message = format!("{} fetches everything again whenever this step runs again", fetcher.name);
        let mut remark = Diagnostic::warning(Some(&rules::CACHE_MOUNT_HELPS), step.origin.span(), message)
            .help(format!("keep it in a cache mount: `RUN {} …`", flags.join(" ")));
        if fetcher.name == "apt" {
            remark = remark.note("images of Debian and Ubuntu throw the packages away unless `/etc/apt/apt.conf.d/docker-clean` is removed");
        } else if !seen.is_root() {
            remark = remark.note("a cache mount is root's unless `uid=` says whose it is");
        }
        report.push(remark);
    }
}

/// Returns true when a cache is mounted at `place` or above it.
fn is_mounted_at(place: &str, kind: &RunMount) -> bool {
    let RunMount::Cache(cache) = kind else { return false };
    let place = place.split(',').next().unwrap_or_default();
    place.strip_prefix(cache.target.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the home directory of the user of the step; `None` when it is unknown.
fn home_dir(run: &RunOp) -> Option<String> {
    let given = run.env.iter().find(|(name, _)| name == "HOME").map(|(_, value)| value.clone());
    let user = run.user.split(':').next().unwrap_or_default();
    given.or_else(|| match user {
        "" | "0" | "root" => Some("/root".to_owned()),
        id if id.bytes().all(|byte| byte.is_ascii_digit()) => None,
        name => Some(format!("/home/{name}")),
    })
}
