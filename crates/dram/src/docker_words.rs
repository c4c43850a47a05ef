//! The commands and options of `docker` that dram has under other names or not at all.
//!
//! Commands are translated before the command line is parsed, so that `docker image ls` works here too. What has no
//! meaning without a daemon is refused in one sentence, with a help that says what to do instead.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;

/// Options of dram that stand before a command and have a value.
const GLOBAL_OPTIONS: [&str; 3] = ["--store", "--limit", "--max-size"];

/// Groups of commands in `docker`, with their commands and the names of these here.
const GROUPS: [(&str, &[(&str, &str)]); 5] = [
    (
        "image",
        &[
            ("build", "build"),
            ("history", "history"),
            ("import", "import"),
            ("inspect", "inspect"),
            ("list", "images"),
            ("load", "load"),
            ("ls", "images"),
            ("prune", "prune"),
            ("pull", "pull"),
            ("push", "push"),
            ("remove", "rm"),
            ("rm", "rm"),
            ("save", "save"),
            ("tag", "tag"),
        ],
    ),
    ("buildx", &[("b", "build"), ("build", "build"), ("du", "df"), ("prune", "prune")]),
    ("builder", &[("build", "build"), ("prune", "prune")]),
    ("container", &[("run", "run")]),
    ("system", &[("df", "df"), ("prune", "prune")]),
];

/// A group of commands or options of `docker` that dram does not have.
struct RefusedWords {
    /// Commands by name, with `GROUP NAME` for one of a group; or options.
    words: &'static [&'static str],
    /// The reason.
    why: &'static str,
    /// The way out.
    help: &'static str,
}

const NO_CONTAINERS: &str = "dram keeps no containers: a container begins and ends with its `dram run`";
const NO_SERVICES: &str = "dram runs one command at a time and keeps no services";

/// Commands of `docker` that dram does not have. A command of a group that is not listed is refused as its group.
const COMMANDS: &[RefusedWords] = &[
    RefusedWords {
        words: &["ps", "top", "stats", "port", "container ls", "container list", "container ps"],
        why: NO_CONTAINERS,
        help: "`ps` of this machine shows the commands that run",
    },
    RefusedWords {
        words: &["stop", "kill", "pause", "unpause", "wait", "container stop", "container kill"],
        why: NO_CONTAINERS,
        help: "end its command with Ctrl-C, or `kill` its `dram run`, which passes signals on",
    },
    RefusedWords {
        words: &["create", "start", "restart", "rename", "update", "container create", "container start"],
        why: NO_CONTAINERS,
        help: "`dram run IMAGE CMD` starts a new one",
    },
    RefusedWords {
        words: &["exec", "attach", "container exec"],
        why: NO_CONTAINERS,
        help: "`dram run -it IMAGE sh` opens a shell in a new one, `dram shell --failed` in what a failed RUN left",
    },
    RefusedWords {
        words: &["logs", "container logs"],
        why: NO_CONTAINERS,
        help: "the output of a command is that of its `dram run`: `dram run IMAGE >FILE`",
    },
    RefusedWords {
        words: &["cp", "export", "diff", "container cp", "container export"],
        why: NO_CONTAINERS,
        help: "files of an image: `echo FROM IMAGE | dram build --output DIR -`, or `dram run -v DIR:/out IMAGE cp -r PATH /out`",
    },
    RefusedWords {
        words: &["commit", "container commit"],
        why: NO_CONTAINERS,
        help: "write the change as a RUN of a Dockerfile, and `dram build` it",
    },
    RefusedWords {
        words: &["container", "container rm", "container prune"],
        why: NO_CONTAINERS,
        help: "nothing of it is left to be removed or shown",
    },
    RefusedWords {
        words: &["compose", "swarm", "service", "stack", "node", "config", "secret", "plugin", "docker-compose"],
        why: NO_SERVICES,
        help: "a service manager, systemd for example, can start `dram run`",
    },
    RefusedWords {
        words: &["volume"],
        why: "dram has no volumes",
        help: "`dram run -v DIR:PATH` mounts a directory of this machine; `dram cache ls` lists cache mounts",
    },
    RefusedWords {
        words: &["network"],
        why: "dram makes no networks: commands have that of this machine, or none",
        help: "`dram run --network none`",
    },
    RefusedWords {
        words: &["scout", "sbom"],
        why: "dram does not search images for vulnerabilities",
        help: "`dram save -o DIR/ IMAGE` writes an OCI layout, which scanners read",
    },
    RefusedWords {
        words: &["trust"],
        why: "dram signs no images",
        help: "`dram copy --referrers` takes signatures along that another tool made",
    },
    RefusedWords {
        words: &["search"],
        why: "dram does not search in registries",
        help: "look at the pages of the registry, then `dram pull NAME`",
    },
    RefusedWords {
        words: &["context"],
        why: "dram has no engine that a context could select",
        help: "`docker context use`, DOCKER_CONTEXT and DOCKER_HOST say where `docker-daemon:NAME` leads",
    },
    RefusedWords {
        words: &["info", "system", "system info"],
        why: "there is no daemon that could be asked",
        help: "`dram doctor` shows what this machine has, `dram df` what the store takes",
    },
    RefusedWords {
        words: &["events", "system events"],
        why: "there is no daemon whose events could be shown",
        help: "`dram build --progress rawjson` prints those of a build",
    },
    RefusedWords {
        words: &["manifest", "buildx imagetools"],
        why: "dram makes no index of several images",
        help: "`dram inspect IMAGE` shows the platforms of one, `dram copy --all` copies all of them",
    },
    RefusedWords {
        words: &["buildx bake"],
        why: "dram reads no bake files",
        help: "`dram build --target STAGE .` for each target; what they share is built once",
    },
    RefusedWords {
        words: &["buildx history"],
        why: "dram keeps no list of builds",
        help: "`dram why` explains the last build of a Dockerfile",
    },
    RefusedWords {
        words: &["buildx", "builder"],
        why: "there are no builders to make, choose or remove: each `dram build` builds in its own process",
        help: "leave this command out",
    },
    RefusedWords {
        words: &["image"],
        why: "dram has no such command for images",
        help: "`dram images`, `inspect`, `history`, `tag`, `rm` and `prune`",
    },
];

const NO_LIMITS: &str = "dram sets no limits of control groups";
const NO_NETWORKS: &str = "a command has the network of this machine, or none";
const NO_PRIVILEGES: &str = "the privileges of a command cannot be changed";

/// Options of `docker` that dram does not have, by command.
const OPTIONS: &[(&[&str], RefusedWords)] = &[
    (
        &["run"],
        RefusedWords {
            words: &["-d", "--detach", "--restart", "--detach-keys", "--cidfile", "-a", "--attach", "--sig-proxy"],
            why: "a container begins and ends with its `dram run`",
            help: "let the shell run it in the background, with `&`, or a service manager, with `systemd-run`",
        },
    ),
    (
        &["run"],
        RefusedWords {
            words: &["--mount", "--tmpfs", "--volumes-from", "--volume-driver", "--device", "--gpus", "--read-only"],
            why: "a command has the files of its image and those of `-v`",
            help: "`-v SRC:DST[:ro]` mounts a file or directory of this machine",
        },
    ),
    (
        &["run"],
        RefusedWords {
            words: &["--env-file"],
            why: "variables are not read from files",
            help: "give each with `-e NAME=VALUE`, or `-e NAME` for one of this environment",
        },
    ),
    (
        &["run"],
        RefusedWords {
            words: &[
                "-h",
                "--hostname",
                "--domainname",
                "--add-host",
                "--dns",
                "--dns-option",
                "--dns-search",
                "--link",
                "--ip",
                "--ip6",
                "--mac-address",
                "--network-alias",
                "--net",
            ],
            why: NO_NETWORKS,
            help: "`--network host` or `--network none`; `-v FILE:/etc/hosts:ro` gives it other names of hosts",
        },
    ),
    (
        &["run"],
        RefusedWords {
            words: &[
                "--privileged",
                "--cap-add",
                "--cap-drop",
                "--security-opt",
                "--userns",
                "--group-add",
                "--pid",
                "--ipc",
                "--uts",
                "--cgroupns",
                "--sysctl",
                "--device-cgroup-rule",
            ],
            why: NO_PRIVILEGES,
            help: "`RUN --security=insecure` and `dram build --allow security.insecure` give them to a step of a build",
        },
    ),
    (
        &["run"],
        RefusedWords {
            words: &[
                "-m",
                "--memory",
                "--memory-swap",
                "--memory-reservation",
                "--memory-swappiness",
                "-c",
                "--cpu-shares",
                "--cpus",
                "--cpu-period",
                "--cpu-quota",
                "--cpuset-cpus",
                "--cpuset-mems",
                "--pids-limit",
                "--blkio-weight",
                "--oom-kill-disable",
                "--oom-score-adj",
                "--cgroup-parent",
            ],
            why: NO_LIMITS,
            help: "`systemd-run --scope -p MemoryMax=1G dram run …` sets them; `--ulimit` sets those of processes",
        },
    ),
    (
        &["run"],
        RefusedWords {
            words: &[
                "--log-driver",
                "--log-opt",
                "--health-cmd",
                "--health-interval",
                "--health-retries",
                "--health-timeout",
                "--health-start-period",
                "--no-healthcheck",
                "--stop-signal",
                "--stop-timeout",
                "--runtime",
                "--storage-opt",
                "--isolation",
            ],
            why: "no daemon watches the command",
            help: "leave it out",
        },
    ),
    (
        &["images", "history", "df", "inspect", "why", "prune"],
        RefusedWords {
            words: &["--format", "-f", "--filter", "--size", "-s", "--human", "-H", "--tree"],
            why: "dram has neither templates nor filters for its lists",
            help: "`--json`, or the JSON of `dram inspect`, can be read with `jq`",
        },
    ),
    (
        &["prune"],
        RefusedWords {
            words: &["--volumes"],
            why: "dram has no volumes",
            help: "`dram cache prune` removes cache mounts",
        },
    ),
    (
        &["pull", "push"],
        RefusedWords {
            words: &["-a", "--all-tags"],
            why: "dram does not list the tags of a registry",
            help: "name each of them",
        },
    ),
    (
        &["login"],
        RefusedWords {
            words: &["-p", "--password"],
            why: "every user of this machine can read the password on a command line",
            help: "`dram login -u USER --password-stdin HOST <FILE`",
        },
    ),
    (
        &["import"],
        RefusedWords {
            words: &["-c", "--change", "-m", "--message"],
            why: "an imported image has no settings",
            help: "`FROM` it in a Dockerfile that sets them",
        },
    ),
    (
        &["rm"],
        RefusedWords {
            words: &["-v", "--volumes", "-l", "--link"],
            why: "`dram rm` removes names of images, and there are no containers to remove",
            help: "leave this command out",
        },
    ),
    (
        &[],
        RefusedWords {
            words: &["-H", "--host", "-c", "--context", "--config", "--tls", "--tlsverify", "-l", "--log-level"],
            why: "dram speaks to no engine, except to give it an image",
            help: "DOCKER_HOST and DOCKER_CONTEXT say where `dram push IMAGE docker-daemon:NAME` leads",
        },
    ),
];

/// Returns the words of the command line with the commands of `docker` in their form here.
///
/// # Errors
/// Fails for a command of `docker` that dram does not have.
pub(crate) fn translate(words: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let Some(at) = position_of_command(&words) else { return Ok(words) };
    let text = |at: usize| words.get(at).and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    let command = text(at);
    if command == "version" {
        return Ok([&words[..at], &["--version".into()]].concat());
    }
    let Some((_, commands)) = GROUPS.iter().find(|(group, _)| *group == command) else {
        return match find_command(&command) {
            Some(refused) => Err(refusal(&command, refused)),
            None => Ok(words),
        };
    };
    let mut next = at + 1;
    // The options of a group: they say how a client of `docker` works.
    while next < words.len() && text(next).starts_with('-') && !matches!(text(next).as_str(), "-h" | "--help") {
        next += if text(next) == "--builder" { 2 } else { 1 };
    }
    match commands.iter().find(|(name, _)| *name == text(next)) {
        Some((_, own)) => Ok([&words[..at], &[own.into()], &words[next + 1..]].concat()),
        None => {
            let whole = format!("{command} {}", text(next));
            let refused = find_command(&whole).or_else(|| find_command(&text(next)).filter(|_| command == "container"));
            let refused = refused.or_else(|| find_command(&command)).expect("each group has a sentence");
            Err(refusal(whole.trim_end(), refused))
        }
    }
}

/// Returns the failure for an option of `docker` that dram does not have, if `error` is about one.
pub(crate) fn refuse_option(error: &clap::Error, words: &[OsString]) -> Option<Failure> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let option = option.split('=').next().unwrap_or_default();
    let is_before =
        |at: &usize| words[1..*at].iter().any(|word| word.to_str().is_some_and(|word| word.starts_with(option)));
    let at = position_of_command(words).filter(|at| !is_before(at));
    let command = at.and_then(|at| words[at].to_str()).map(|word| match word {
        "rmi" => "rm",
        word => word,
    });
    let (_, refused) = OPTIONS.iter().find(|(commands, refused)| {
        let is_here = command.map_or(commands.is_empty(), |command| commands.contains(&command));
        is_here && refused.words.contains(&option)
    })?;
    let what = match command {
        Some(command) => format!("{command} {option}"),
        None => option.to_owned(),
    };
    Some(refusal(&what, refused))
}

fn refusal(what: &str, refused: &RefusedWords) -> Failure {
    Failure::usage(format!("`dram {what}`: {}", refused.why)).help(refused.help)
}

fn find_command(word: &str) -> Option<&'static RefusedWords> {
    COMMANDS.iter().find(|refused| refused.words.contains(&word))
}

/// Returns the position of the first word that is neither an option nor the value of one.
fn position_of_command(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        match word.to_str() {
            Some(word) if GLOBAL_OPTIONS.contains(&word) => at += 2,
            Some(word) if word.starts_with('-') => at += 1,
            Some(_) | None => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::Cli;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn commands_of_docker_work_where_they_have_a_meaning_here() {
        for (text, expected) in [
            ("dram image ls", "dram images"),
            ("dram image list -q", "dram images -q"),
            ("dram image rm -f x", "dram rm -f x"),
            ("dram image inspect x", "dram inspect x"),
            ("dram image prune --all --force", "dram prune --all --force"),
            ("dram --store /x image ls", "dram --store /x images"),
            ("dram --store=/x system df -v", "dram --store=/x df -v"),
            ("dram system prune -af", "dram prune -af"),
            ("dram buildx build -t x .", "dram build -t x ."),
            ("dram buildx --debug build --load .", "dram build --load ."),
            ("dram buildx --builder b build .", "dram build ."),
            ("dram buildx build --debug .", "dram build --debug ."),
            ("dram buildx b .", "dram build ."),
            ("dram buildx du --verbose", "dram df --verbose"),
            ("dram builder prune -f", "dram prune -f"),
            ("dram container run -it --init x", "dram run -it --init x"),
            ("dram images -q", "dram images -q"),
            ("dram images --all --no-trunc debian", "dram images --all --no-trunc debian"),
            ("dram rmi --no-prune x", "dram rmi --no-prune x"),
            ("dram run --rm --name a -l b=c -p 80:80 -P --ulimit nofile=1:2 x ps", ""),
            ("dram run x ps -p 1", ""),
            ("dram tag ps cp", ""),
        ] {
            let expected = if expected.is_empty() { text } else { expected };
            let found = translate(words(text)).unwrap();
            assert_eq!(found, words(expected), "{text}");
            Cli::try_parse_from(found).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        let version = Cli::try_parse_from(translate(words("dram version")).unwrap()).unwrap_err();
        assert_eq!(version.kind(), ErrorKind::DisplayVersion);
    }

    #[test]
    fn commands_and_options_that_dram_lacks_are_refused_with_the_way_out() {
        for (text, sentence, help) in [
            ("dram ps", "`dram ps`: dram keeps no containers", "`ps` of this machine"),
            ("dram ps --help", "`dram ps`: dram keeps no containers", "`ps` of this machine"),
            ("dram container ls", "`dram container ls`: dram keeps no containers", "`ps` of this machine"),
            ("dram container stats x", "`dram container stats`: dram keeps no containers", "`ps` of this machine"),
            ("dram container", "`dram container`: dram keeps no containers", "nothing of it is left"),
            ("dram stop x", "`dram stop`: dram keeps no containers", "Ctrl-C"),
            ("dram cp x:/a .", "`dram cp`: dram keeps no containers", "dram build --output"),
            ("dram --store /x exec -it x sh", "`dram exec`: dram keeps no containers", "dram run -it"),
            ("dram scout cves x", "`dram scout`: dram does not search", "OCI layout"),
            ("dram compose up", "`dram compose`: dram runs one command", "service manager"),
            ("dram volume ls", "`dram volume`: dram has no volumes", "dram run -v"),
            ("dram buildx create", "`dram buildx create`: there are no builders", "leave this command out"),
            ("dram buildx bake", "`dram buildx bake`: dram reads no bake files", "--target"),
            ("dram buildx imagetools inspect x", "`dram buildx imagetools`: dram makes no index", "dram inspect"),
            ("dram system info", "`dram system info`: there is no daemon", "dram doctor"),
            ("dram image frobnicate", "`dram image frobnicate`: dram has no such command", "dram images"),
            ("dram run -d x", "`dram run -d`: a container begins and ends", "`&`"),
            ("dram run -itd x", "`dram run -d`: a container begins and ends", "`&`"),
            ("dram run --detach=true x", "`dram run --detach`: a container begins and ends", "`&`"),
            ("dram run --restart always x", "`dram run --restart`: a container begins", "systemd-run"),
            ("dram run --mount type=bind,src=/a,dst=/b x", "`dram run --mount`: a command has", "-v SRC:DST"),
            ("dram run --privileged x", "`dram run --privileged`: the privileges", "security.insecure"),
            ("dram run -m 1g x", "`dram run -m`: dram sets no limits", "systemd-run"),
            ("dram run --hostname a x", "`dram run --hostname`: a command has the network", "/etc/hosts"),
            ("dram images --format {{.ID}}", "`dram images --format`: dram has neither", "--json"),
            ("dram image ls --filter a=b", "`dram images --filter`: dram has neither", "--json"),
            ("dram inspect -f {{.Id}} x", "`dram inspect -f`: dram has neither", "jq"),
            ("dram system prune --volumes", "`dram prune --volumes`: dram has no volumes", "dram cache prune"),
            ("dram pull -a debian", "`dram pull -a`: dram does not list", "name each"),
            ("dram login -p secret", "`dram login -p`: every user", "--password-stdin"),
            ("dram rm -v x", "`dram rm -v`: `dram rm` removes names", "leave this command out"),
            ("dram -H tcp://x images", "`dram -H`: dram speaks to no engine", "DOCKER_HOST"),
        ] {
            let failure = translate(words(text)).and_then(|found| {
                let error = Cli::try_parse_from(&found).expect_err(text);
                Err::<(), _>(refuse_option(&error, &found).unwrap_or_else(|| panic!("{text}: {error}")))
            });
            let failure = failure.unwrap_err();
            assert_eq!(failure.code(), 2, "{text}");
            assert!(failure.causes[0].starts_with(sentence), "{text}: {:?}", failure.causes);
            assert!(failure.helps[0].contains(help), "{text}: {:?}", failure.helps);
        }
        let other = Cli::try_parse_from(words("dram run --no-such x")).unwrap_err();
        assert!(refuse_option(&other, &words("dram run --no-such x")).is_none());
    }

    #[test]
    fn words_of_docker_hide_no_command_or_option_of_dram() {
        let mut cli = Cli::command();
        cli.build();
        for refused in COMMANDS {
            for word in refused.words {
                assert!(cli.find_subcommand(word).is_none(), "`{word}` is a command of dram");
            }
        }
        for (group, _) in GROUPS {
            assert!(cli.find_subcommand(group).is_none() && find_command(group).is_some(), "{group}");
        }
        for (commands, refused) in OPTIONS {
            for command in *commands {
                let command = cli.find_subcommand(command).unwrap();
                let has = |word: &str| {
                    let (long, short) = (word.strip_prefix("--"), word.chars().nth(1));
                    command.get_arguments().any(|arg| match long {
                        Some(long) => arg.get_long() == Some(long),
                        None => arg.get_short() == short,
                    })
                };
                let lacks = refused.words.iter().any(|word| !has(word));
                assert!(lacks, "{}: it has all of these", command.get_name());
            }
        }
    }
}
