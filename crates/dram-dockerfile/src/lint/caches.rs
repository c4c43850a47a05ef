//! Advice to use cache mounts for package managers, which otherwise fetch everything when their step is executed again.

use super::apt;
use crate::diagnostic::{Diagnostic, Report};
use crate::plan::{MountKind, Run, Step};
use crate::rules;

/// A package manager that downloads packages.
struct Fetcher {
    /// The name for messages.
    name: &'static str,
    /// Returns true when a command makes it download.
    fetches: fn(&[String]) -> bool,
    /// A cache mount whose target or id contains this word counts as its own.
    word: &'static str,
    /// Returns its cache directories.
    places: fn(&Seen<'_>) -> Vec<String>,
}

/// The step and the home directory of its user, from which cache directories are derived.
struct Seen<'r> {
    run: &'r Run,
    home: String,
}

impl Seen<'_> {
    /// Returns the value of `variable` followed by `below`, or the path `otherwise` in the home directory.
    fn or_home(&self, variable: &str, below: &str, otherwise: &str) -> String {
        let value = self.run.env.iter().find(|(name, value)| name == variable && !value.is_empty());
        value.map_or_else(|| format!("{}/{otherwise}", self.home), |(_, value)| format!("{value}{below}"))
    }

    fn is_root(&self) -> bool {
        ["", "0", "root"].contains(&self.run.user.split(':').next().unwrap_or_default())
    }
}

/// Returns true when the command is one of `programs` and has one of `verbs`.
fn is(words: &[String], programs: &[&str], verbs: &[&str]) -> bool {
    let verb = |word: &String| verbs.contains(&word.trim_end_matches(','));
    programs.contains(&words[0].as_str()) && words[1..].iter().any(verb)
}

const FETCHERS: &[Fetcher] = &[
    Fetcher {
        name: "Hex",
        fetches: |words| is(words, &["mix"], &["deps.get", "deps.update", "hex.package"]),
        word: "hex",
        places: |seen| vec![seen.or_home("HEX_HOME", "", ".hex")],
    },
    Fetcher {
        name: "rebar3",
        fetches: |words| {
            is(words, &["rebar3"], &["get-deps", "compile", "release", "as", "tar", "escriptize", "upgrade"])
        },
        word: "rebar3",
        places: |seen| vec![seen.or_home("REBAR_CACHE_DIR", "", ".cache/rebar3")],
    },
    Fetcher {
        name: "npm",
        fetches: |words| is(words, &["npm"], &["ci", "install", "i", "add"]),
        word: "npm",
        places: |seen| vec![seen.or_home("npm_config_cache", "", ".npm")],
    },
    Fetcher {
        name: "yarn",
        fetches: |words| {
            words[0] == "yarn"
                && (words.len() == 1 || words[1].starts_with('-') || is(words, &["yarn"], &["install", "add"]))
        },
        word: "yarn",
        places: |seen| match seen.is_root() {
            true if !seen.run.env.iter().any(|(name, _)| name == "YARN_CACHE_FOLDER") => {
                vec!["/usr/local/share/.cache/yarn".to_owned()]
            }
            _ => vec![seen.or_home("YARN_CACHE_FOLDER", "", ".cache/yarn")],
        },
    },
    Fetcher {
        name: "pnpm",
        fetches: |words| is(words, &["pnpm"], &["install", "i", "add", "fetch"]),
        word: "pnpm",
        places: |seen| vec![seen.or_home("PNPM_HOME", "/store", ".local/share/pnpm/store")],
    },
    Fetcher {
        name: "cargo",
        fetches: |words| is(words, &["cargo"], &["build", "install", "fetch", "test", "check", "run", "chef"]),
        word: "cargo",
        places: |seen| vec![seen.or_home("CARGO_HOME", "/registry", ".cargo/registry")],
    },
    Fetcher {
        name: "pip",
        fetches: |words| {
            let module =
                words[0].starts_with("python") && words[1..].windows(2).any(|pair| pair[0] == "-m" && pair[1] == "pip");
            let pip = words[0].starts_with("pip") || module;
            pip && words.iter().any(|word| word == "install") && !words.iter().any(|word| word == "--no-cache-dir")
        },
        word: "pip",
        places: |seen| vec![seen.or_home("PIP_CACHE_DIR", "", ".cache/pip")],
    },
    Fetcher {
        name: "uv",
        fetches: |words| {
            is(words, &["uv"], &["sync", "install", "add", "lock"]) && !words.iter().any(|word| word == "--no-cache")
        },
        word: "uv",
        places: |seen| vec![seen.or_home("UV_CACHE_DIR", "", ".cache/uv")],
    },
    Fetcher {
        name: "go",
        fetches: |words| is(words, &["go"], &["build", "install", "get", "test", "download"]),
        word: "go",
        places: |seen| {
            let modules = seen.run.env.iter().find(|(name, _)| name == "GOMODCACHE");
            let modules =
                modules.map_or_else(|| seen.or_home("GOPATH", "/pkg/mod", "go/pkg/mod"), |(_, value)| value.clone());
            vec![modules, seen.or_home("GOCACHE", "", ".cache/go-build")]
        },
    },
    Fetcher {
        name: "apt",
        fetches: |words| apt::does(words, &["install"]),
        word: "apt",
        places: |_| vec!["/var/cache/apt,sharing=locked".to_owned(), "/var/lib/apt,sharing=locked".to_owned()],
    },
];

/// Finds package managers among the commands of one step that have no cache mount.
pub(super) fn check(commands: &[Vec<String>], run: &Run, step: &Step, report: &mut Report) {
    let Some(home) = home(run) else { return };
    let seen = Seen { run, home };
    let mounted = |word: &str| {
        run.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Cache(cache) => cache.target.contains(word) || cache.id.contains(word),
            MountKind::Tmpfs { target, .. } | MountKind::Bind { target, .. } => target.contains(word),
            MountKind::Secret { .. } | MountKind::Ssh { .. } => false,
        })
    };
    for fetcher in FETCHERS {
        let fetches = commands.iter().any(|words| (fetcher.fetches)(words));
        if !fetches || mounted(fetcher.word) {
            continue;
        }
        let places = (fetcher.places)(&seen);
        if places.iter().any(|place| run.mounts.iter().any(|mount| is_in(place, &mount.kind))) {
            continue;
        }
        let flags: Vec<String> = places.iter().map(|place| format!("--mount=type=cache,target={place}")).collect();
        let message = format!("{} fetches everything again whenever this step runs again", fetcher.name);
        let mut remark = Diagnostic::warning(Some(&rules::CACHE_MOUNT_HELPS), step.span.clone(), message)
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
fn is_in(place: &str, kind: &MountKind) -> bool {
    let MountKind::Cache(cache) = kind else { return false };
    let place = place.split(',').next().unwrap_or_default();
    place.strip_prefix(cache.target.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the home directory of the user of the step; `None` when it is unknown.
fn home(run: &Run) -> Option<String> {
    let given = run.env.iter().find(|(name, _)| name == "HOME").map(|(_, value)| value.clone());
    let user = run.user.split(':').next().unwrap_or_default();
    given.or_else(|| match user {
        "" | "0" | "root" => Some("/root".to_owned()),
        id if id.bytes().all(|byte| byte.is_ascii_digit()) => None,
        name => Some(format!("/home/{name}")),
    })
}
