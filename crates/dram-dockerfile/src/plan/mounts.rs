//! Plans `RUN --mount`: interprets the fields after variables are expanded.
//!
//! Follows BuildKit's `instructions/commands_runmount.go` and `dockerfile2llb/convert_runmount.go`: a key is checked
//! against the type given before it, and every value except that of `from` may hold variables.

use std::ops::Range;

use dram_plan::{CacheMount, CacheSharing, InputRef, MountedFile, RunMount};

use super::stage_planner::StagePlanner;
use crate::ast::{MountFlag, SpannedText};
use crate::diagnostic::{Diagnostic, quote};
use crate::option_value::{parse_go_bool, parse_size};
use crate::paths;

/// The keys of `RUN --mount`, for all types together.
pub const MOUNT_KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// The types of `RUN --mount`.
pub const MOUNT_TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// The parsed fields of one mount.
#[derive(Default)]
struct MountFields {
    kind: MountType,
    source: String,
    target: String,
    read_only: Option<bool>,
    id: String,
    sharing: Option<CacheSharing>,
    required: bool,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl MountType {
    fn find(word: &str) -> Option<MountType> {
        Some(match word {
            "bind" => MountType::Bind,
            "cache" => MountType::Cache,
            "tmpfs" => MountType::Tmpfs,
            "secret" => MountType::Secret,
            "ssh" => MountType::Ssh,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            MountType::Bind => "bind",
            MountType::Cache => "cache",
            MountType::Tmpfs => "tmpfs",
            MountType::Secret => "secret",
            MountType::Ssh => "ssh",
        }
    }
}

type MountResult<T> = Result<T, Box<Diagnostic>>;

impl StagePlanner<'_> {
    /// Plans the mounts of one `RUN` and reports their errors.
    pub(super) fn plan_mounts(&mut self, lines: &[MountFlag], inputs: &[InputRef]) -> Option<Vec<RunMount>> {
        let mut inputs = inputs.iter();
        let mut mounts = Vec::with_capacity(lines.len());
        let mut agents = 0;
        for line in lines {
            let from = if line.from_value().is_some() { inputs.next().cloned() } else { None };
            let Some(values) = self.expand_mount_fields(line) else { continue };
            match self.plan_mount(&values, &line.span, from, &mut agents) {
                Ok(mount) => mounts.push(mount),
                Err(error) => self.report.push(*error),
            }
        }
        (mounts.len() == lines.len()).then_some(mounts)
    }

    /// Expands the fields of a mount.
    fn expand_mount_fields(&mut self, line: &MountFlag) -> Option<Vec<(String, Option<String>)>> {
        let mut values = Vec::with_capacity(line.fields.len());
        for (key, value) in &line.fields {
            let value = match value {
                Some(text) if key != "from" => {
                    Some(self.expand(&SpannedText { text: text.clone(), span: line.span.clone() })?)
                }
                other => other.clone(),
            };
            values.push((key.clone(), value));
        }
        Some(values)
    }

    fn plan_mount(
        &self,
        values: &[(String, Option<String>)],
        span: &Range<usize>,
        from: Option<InputRef>,
        agents: &mut usize,
    ) -> MountResult<RunMount> {
        let mut fields = MountFields::default();
        for (key, value) in values {
            fields.set(key, value.as_deref(), span)?;
        }
        fields.check_combination(from.is_some(), span)?;
        match fields.kind {
            MountType::Bind => Ok(RunMount::Bind {
                target: self.mount_target(&fields.target, span)?,
                from: from.unwrap_or(InputRef::Context),
                source: paths::absolute("/", &fields.source),
                writable: !fields.read_only.unwrap_or(true),
            }),
            MountType::Cache => self.plan_cache_mount(&fields, from, span).map(RunMount::Cache),
            MountType::Tmpfs => {
                Ok(RunMount::Tmpfs { target: self.mount_target(&fields.target, span)?, size: fields.size })
            }
            MountType::Secret => self.plan_secret_mount(&fields, span),
            MountType::Ssh => {
                let number = *agents;
                *agents += 1;
                let id = if fields.id.is_empty() { &fields.source } else { &fields.id };
                let target = match fields.target.as_str() {
                    "" => format!("/run/buildkit/ssh_agent.{number}"),
                    target => self.mount_target(target, span)?,
                };
                Ok(RunMount::Ssh {
                    id: if id.is_empty() { "default".to_owned() } else { id.clone() },
                    file: fields.mounted_file(target, 0o600),
                    required: fields.required,
                })
            }
        }
    }

    fn plan_cache_mount(
        &self,
        fields: &MountFields,
        from: Option<InputRef>,
        span: &Range<usize>,
    ) -> MountResult<CacheMount> {
        let target = self.mount_target(&fields.target, span)?;
        let id = if fields.id.is_empty() { paths::clean(&fields.target) } else { fields.id.clone() };
        let namespace = self.graph.settings.build_args.get("BUILDKIT_CACHE_MOUNT_NS").filter(|name| !name.is_empty());
        let source = paths::absolute("/", &fields.source);
        Ok(CacheMount {
            target,
            id: namespace.map_or_else(|| id.clone(), |namespace| format!("{namespace}/{id}")),
            sharing: fields.sharing.unwrap_or(CacheSharing::Shared),
            read_only: fields.read_only.unwrap_or(false),
            seed: from.map(|from| (from, source)),
            mode: fields.mode.unwrap_or(0o755),
            uid: fields.uid.unwrap_or(0),
            gid: fields.gid.unwrap_or(0),
        })
    }

    fn plan_secret_mount(&self, fields: &MountFields, span: &Range<usize>) -> MountResult<RunMount> {
        let id = [&fields.id, &fields.source].into_iter().find(|name| !name.is_empty());
        let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let id = id.cloned().unwrap_or_else(|| last(&fields.target));
        // A secret that is only a variable needs no file.
        let file = match (&fields.env, fields.target.as_str()) {
            (Some(_), "") => None,
            (None, "") => Some(format!("/run/secrets/{}", last(&id))),
            (_, target) => Some(self.mount_target(target, span)?),
        };
        let env = match fields.env.as_deref() {
            Some("") => Some(last(&id)),
            other => other.map(str::to_owned),
        };
        if let Some(name) = env.as_deref().filter(|name| name.contains('=')) {
            let message = format!("{} cannot be the name of a variable", quote(name));
            return Err(Box::new(Diagnostic::error(span.clone(), message)));
        }
        let file = file.map(|target| fields.mounted_file(target, 0o400));
        Ok(RunMount::Secret { id, file, env, required: fields.required })
    }

    /// Returns the target as an absolute path; an empty target is the working directory.
    fn mount_target(&self, target: &str, span: &Range<usize>) -> MountResult<String> {
        let path = paths::absolute(&self.state.working_dir(), target);
        if path == "/" {
            let error = Diagnostic::error(span.clone(), "nothing can be mounted on `/`");
            let help = "name a directory below it, `--mount=…,target=/path`, or write a `WORKDIR` above";
            return Err(Box::new(error.help(help)));
        }
        Ok(path)
    }
}

impl MountFields {
    fn set(&mut self, key: &str, value: Option<&str>, span: &Range<usize>) -> MountResult<()> {
        let error = |message: String| Diagnostic::error(span.clone(), message);
        let Some(value) = value else {
            match key {
                "readonly" | "ro" => self.read_only = Some(true),
                "readwrite" | "rw" => self.read_only = Some(false),
                "required" => self.set_required(true, span)?,
                // SELinux relabelling, accepted for compatibility with other builders: no mount here needs it.
                "z" => {}
                _ if MOUNT_KEYS.contains(&key) => {
                    let help = format!("write `{key}=…`");
                    return Err(Box::new(error(format!("{} lacks its value", quote(key))).help(help)));
                }
                _ => return Err(unknown_key(key, span)),
            }
            return Ok(());
        };
        let wrong = |what: &str| Box::new(error(format!("{} is not {what}", quote(&format!("{key}={value}")))));
        let truth = || parse_go_bool(value).ok_or_else(|| wrong("on or off; write `true` or `false`"));
        let id = || value.parse().map_err(|_| wrong("an id"));
        match key {
            "type" => {
                let lower = value.to_lowercase();
                self.kind = MountType::find(&lower).ok_or_else(|| {
                    let error = error(format!("there are no mounts of type {}", quote(value)));
                    Box::new(
                        error
                            .did_you_mean(&lower, MOUNT_TYPES)
                            .note("the types are `bind`, `cache`, `tmpfs`, `secret` and `ssh`"),
                    )
                })?;
            }
            "from" => {}
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "readonly" | "ro" => self.read_only = Some(truth()?),
            "readwrite" | "rw" => self.read_only = Some(!truth()?),
            "required" => self.set_required(truth()?, span)?,
            "size" if self.kind == MountType::Tmpfs => {
                self.size = Some(parse_size(value).ok_or_else(|| wrong("a size; write it as in `size=64m`"))?);
            }
            "size" => return Err(self.unexpected_key(key, span)),
            "id" => value.clone_into(&mut self.id),
            "sharing" => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => CacheSharing::Shared,
                    "private" => CacheSharing::Private,
                    "locked" => CacheSharing::Locked,
                    other => {
                        let error = *wrong("a way to share");
                        let error = error.did_you_mean(other, ["shared", "private", "locked"]);
                        return Err(Box::new(error.note("it is `shared`, `private` or `locked`")));
                    }
                });
            }
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                self.mode = Some(mode.ok_or_else(|| wrong("a mode; write it in octal, as `mode=0755`"))?);
            }
            "uid" => self.uid = Some(id()?),
            "gid" => self.gid = Some(id()?),
            "env" => self.env = Some(value.to_owned()),
            "relabel" if ["shared", "private"].contains(&value) => {}
            _ => return Err(unknown_key(key, span)),
        }
        Ok(())
    }

    fn set_required(&mut self, required: bool, span: &Range<usize>) -> MountResult<()> {
        match self.kind {
            MountType::Secret | MountType::Ssh => self.required = required,
            MountType::Bind | MountType::Cache | MountType::Tmpfs => return Err(self.unexpected_key("required", span)),
        }
        Ok(())
    }

    fn unexpected_key(&self, key: &str, span: &Range<usize>) -> Box<Diagnostic> {
        let message = format!("{} means nothing to a mount of type {}", quote(key), quote(self.kind.name()));
        Box::new(Diagnostic::error(span.clone(), message).help("write `type=…` first, or leave the key out"))
    }

    /// Refuses fields that the type does not support, and contradictory ones.
    fn check_combination(&self, from: bool, span: &Range<usize>) -> MountResult<()> {
        let wrong = match self.kind {
            MountType::Bind | MountType::Tmpfs => {
                let given = [("mode", self.mode.is_some()), ("uid", self.uid.is_some()), ("gid", self.gid.is_some())];
                given.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
            }
            MountType::Secret if from => Some("from"),
            MountType::Secret | MountType::Cache | MountType::Ssh => None,
        };
        if let Some(key) = wrong {
            return Err(self.unexpected_key(key, span));
        }
        if self.sharing.is_some() && self.kind != MountType::Cache {
            return Err(self.unexpected_key("sharing", span));
        }
        if self.kind != MountType::Secret {
            return Ok(());
        }
        let error = |message: &str| Box::new(Diagnostic::error(span.clone(), message.to_owned()));
        if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
            return Err(Box::new(
                error("a secret lacks its name").help("write it as in `--mount=type=secret,id=name`"),
            ));
        }
        if !self.source.is_empty() && !self.id.is_empty() {
            return Err(Box::new(error("a secret has both `id` and `source`, which mean the same").help("keep one")));
        }
        Ok(())
    }

    fn mounted_file(&self, target: String, mode: u32) -> MountedFile {
        MountedFile { target, mode: self.mode.unwrap_or(mode), uid: self.uid.unwrap_or(0), gid: self.gid.unwrap_or(0) }
    }
}

fn unknown_key(key: &str, span: &Range<usize>) -> Box<Diagnostic> {
    let error = Diagnostic::error(span.clone(), format!("a mount has no {}", quote(key)));
    Box::new(error.did_you_mean(key, MOUNT_KEYS))
}
