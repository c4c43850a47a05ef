//! Resolves names: global arguments, bases, `--from` references and the target.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use dram_image::Reference;

use super::{Ground, Node, Origin, Triggers, key, reference_error};
use crate::ast::{Argument, Body, Dockerfile, FromLine, Instruction, Keyword, Word};
use crate::diagnostic::{Diagnostic, Report, quote};
use crate::env::Env;
use crate::expand::{Expanded, Options, expand};
use crate::parse::trigger;
use crate::rules;
use crate::settings::Settings;

/// Resolves references between all stages of the file.
pub(super) struct Resolver<'f> {
    dockerfile: &'f Dockerfile,
    settings: &'f Settings,
    globals: &'f Env,
    stages: &'f [Range<usize>],
    /// The lower-case name of each stage, if it has one.
    names: Vec<Option<String>>,
    /// The stages with each name, in order.
    by_name: HashMap<String, Vec<usize>>,
    /// The arguments declared before the first `FROM`, with or without a value.
    declared: HashSet<&'f str>,
    /// The global arguments without build arguments; `None` when there are no build arguments.
    defaults: Option<Env>,
    /// The triggers of base images, as far as their configs are known.
    triggers: &'f Triggers,
}

/// The maximum number of triggers of an image that are read.
const MOST_TRIGGERS: usize = 1000;

/// The maximum number of stages that [`StageResolver::depends_on`] visits.
const MOST_LOOKED_AT: usize = 100;

/// The maximum total size of the global arguments, in bytes.
const LONGEST_GLOBALS: usize = 32 << 20;

impl<'f> Resolver<'f> {
    /// Returns the arguments that `FROM` can use.
    pub(super) fn globals(
        dockerfile: &Dockerfile,
        settings: &Settings,
        stages: &[Range<usize>],
        report: &mut Report,
    ) -> Env {
        let target = settings.target.clone().unwrap_or_else(|| {
            let last = stages.last().and_then(|stage| dockerfile.instructions[stage.start].from_line());
            last.and_then(|from| from.name.as_ref()).map(|name| name.text.to_lowercase()).unwrap_or_default()
        });
        let mut globals = settings.platform_args(&target);
        let end = stages.first().map_or(dockerfile.instructions.len(), |first| first.start);
        for instruction in &dockerfile.instructions[..end] {
            for argument in instruction.arguments() {
                global(argument, &mut globals, settings, dockerfile.directives.escape, report);
                if globals.weight() > LONGEST_GLOBALS {
                    report.error(instruction.span.clone(), "the arguments before the first `FROM` grow beyond 32 MiB");
                    return globals;
                }
            }
        }
        globals
    }

    pub(super) fn new(
        dockerfile: &'f Dockerfile,
        settings: &'f Settings,
        globals: &'f Env,
        stages: &'f [Range<usize>],
        triggers: &'f Triggers,
    ) -> Resolver<'f> {
        let name = |stage: &Range<usize>| {
            let from = dockerfile.instructions[stage.start].from_line()?;
            from.name.as_ref().map(|name| name.text.to_lowercase())
        };
        let names: Vec<Option<String>> = stages.iter().map(name).collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, name) in names.iter().enumerate() {
            if let Some(name) = name {
                by_name.entry(name.clone()).or_default().push(at);
            }
        }
        let end = stages.first().map_or(dockerfile.instructions.len(), |first| first.start);
        let declared = dockerfile.instructions[..end].iter().flat_map(Instruction::arguments);
        let declared = declared.map(|argument| argument.name.text.as_str()).collect();
        let defaults = (!settings.build_args.is_empty()).then(|| {
            let plain = Settings { build_args: BTreeMap::new(), ..settings.clone() };
            Resolver::globals(dockerfile, &plain, stages, &mut Report::default())
        });
        Resolver { dockerfile, settings, globals, stages, names, by_name, declared, defaults, triggers }
    }

    /// Returns the last stage of this name before stage `at`.
    fn earlier(&self, name: &str, at: usize) -> Option<usize> {
        let all = self.by_name.get(name)?;
        all[..all.partition_point(|stage| *stage < at)].last().copied()
    }

    fn later(&self, name: &str, at: usize) -> Option<usize> {
        self.by_name.get(name)?.iter().copied().find(|stage| *stage > at)
    }

    fn names_before(&self, at: usize) -> impl Iterator<Item = &str> {
        self.names[..at].iter().flatten().map(String::as_str)
    }

    fn is_context(&self, name: &str) -> bool {
        self.settings.context_for(name).is_some()
    }

    /// Resolves all stages; those with errors are left out.
    pub(super) fn nodes(&self, report: &mut Report) -> Vec<Node> {
        (0..self.stages.len()).filter_map(|at| self.node(at, report)).collect()
    }

    fn node(&self, at: usize, report: &mut Report) -> Option<Node> {
        let instructions = &self.dockerfile.instructions[self.stages[at].clone()];
        let (first, rest) = instructions.split_first()?;
        let from = first.from_line()?;
        let platform = match &from.platform {
            Some(platform) => Some(Word { text: self.platform(platform, from, report)?, span: platform.span.clone() }),
            None => None,
        };
        let base = self.base(from, at, platform.as_ref(), report);
        let named = from.name.as_ref().filter(|name| self.is_context(&name.text.to_lowercase()));
        let (base, base_span, rest) = match named {
            // A named context with the name of the stage replaces the whole stage.
            Some(name) => {
                let span = name.span.clone();
                let name = name.text.to_lowercase();
                let ground = Ground::Outside { key: name.clone(), name, platform: None };
                (Some(ground), span, &[][..])
            }
            None => (base, from.base.span.clone(), rest),
        };
        let mut instructions = match &base {
            Some(base) => self.triggers(base, &base_span, first.line, report),
            None => Vec::new(),
        };
        instructions.extend(rest.iter().cloned());
        let mut steps = Vec::with_capacity(instructions.len());
        for instruction in instructions {
            let mounts = instruction.kind == Some(Keyword::Run);
            let origins = instruction.froms().iter().filter_map(|from| self.origin(from, mounts, at, report)).collect();
            steps.push((instruction, origins));
        }
        let name = from.name.as_ref().map_or_else(|| format!("stage-{at}"), |name| name.text.clone());
        Some(Node { name, index: at, base: base?, from: first.clone(), base_span, steps })
    }

    /// Returns the `ONBUILD` triggers of the base, parsed.
    fn triggers(&self, base: &Ground, span: &Range<usize>, line: usize, report: &mut Report) -> Vec<Instruction> {
        let texts: Vec<&str> = match base {
            Ground::Scratch => Vec::new(),
            Ground::Stage(stage) => {
                let own = &self.dockerfile.instructions[self.stages[*stage].clone()];
                let trigger = |one: &'f Instruction| match &one.body {
                    Body::OnBuild(trigger) => Some(trigger.text.as_str()),
                    _ => None,
                };
                own.iter().filter_map(trigger).collect()
            }
            Ground::Outside { key, .. } => {
                self.triggers.get(key).into_iter().flatten().map(String::as_str).take(MOST_TRIGGERS).collect()
            }
        };
        texts.into_iter().filter_map(|text| trigger(text, span, line, report)).collect()
    }

    fn base(&self, from: &FromLine, at: usize, platform: Option<&Word>, report: &mut Report) -> Option<Ground> {
        let expanded = self.expand(&from.base, report)?;
        self.undefined(&from.base, &expanded, report);
        self.default_base(&from.base, report);
        let platform = platform.map(|platform| platform.text.clone());
        let name = expanded.text;
        let span = from.base.span.clone();
        if name.is_empty() {
            report.push(
                Diagnostic::error(span, format!("the base {} expands to nothing", quote(&from.base.text)))
                    .help("give the argument a default: `ARG NAME=value` before the first `FROM`"),
            );
            return None;
        }
        if let Some(stage) = self.earlier(&name, at) {
            return Some(Ground::Stage(stage));
        }
        if name == "scratch" {
            return Some(Ground::Scratch);
        }
        if self.is_context(&name) {
            return Some(self.outside(name, platform));
        }
        if let Some(later) = self.later(&name, at) {
            let means_image = self.leads_to(later, at, &name);
            report.push(self.later_base(&name, later, means_image, span.clone()));
            if !means_image {
                return None;
            }
        }
        if let Err(problem) = name.parse::<Reference>() {
            let error = Diagnostic::error(span, format!("{} is not the name of an image", quote(&name)));
            report.push(error.note(problem.to_string()).did_you_mean(&name, self.names_before(at)));
            return None;
        }
        Some(self.outside(name, platform))
    }

    /// Returns the diagnostic for a base with the name of a later stage. BuildKit looks for an image of that name.
    /// That is intended when the later stage depends on this one or on that image; otherwise the order is wrong.
    fn later_base(&self, name: &str, later: usize, means_image: bool, span: Range<usize>) -> Diagnostic {
        let line = self.dockerfile.instructions[self.stages[later].start].line;
        if means_image {
            let message = format!("{} is the image of that name, as the stage is defined later", quote(name));
            return Diagnostic::warning(Some(&rules::STAGE_DEFINED_LATER), span, message)
                .note(format!("the stage is defined on line {line}"))
                .help("move it above this stage, or give it another name");
        }
        reference_error(span, "the stage", name, "is defined later")
            .note(format!("it is defined on line {line}"))
            .help(format!("move it above this stage; if the image is meant, write `{name}:latest`"))
    }

    /// Returns true when stage `from` depends on stage `to` or on an image called `image`.
    fn leads_to(&self, from: usize, to: usize, image: &str) -> bool {
        let mut seen = HashSet::new();
        let mut waiting = vec![from];
        while let Some(stage) = waiting.pop() {
            // A chain beyond the limit is no simple mistake in the order of a few stages.
            if stage == to || seen.len() > MOST_LOOKED_AT {
                return true;
            }
            if !seen.insert(stage) {
                continue;
            }
            let instructions = &self.dockerfile.instructions[self.stages[stage].clone()];
            let base = instructions[0].from_line().map(|from| from.base.clone());
            for word in base.into_iter().chain(instructions.iter().flat_map(Instruction::froms)) {
                let number = word.text.parse().ok().filter(|number| *number < stage);
                match self.earlier(&word.text.to_lowercase(), stage).or(number) {
                    Some(before) => waiting.push(before),
                    None if word.text == image => return true,
                    None => {}
                }
            }
        }
        false
    }

    fn outside(&self, name: String, platform: Option<String>) -> Ground {
        let platform = platform.filter(|platform| self.settings.builds_for(platform) == Some(false));
        Ground::Outside { key: key(&name, platform.as_deref()), name, platform }
    }

    fn platform(&self, platform: &Word, from: &FromLine, report: &mut Report) -> Option<String> {
        let expanded = self.expand(platform, report)?;
        self.undefined(platform, &expanded, report);
        match self.settings.builds_for(&expanded.text) {
            Some(_) => self.needless_platform(platform, &expanded, from, report),
            None if expanded.text.is_empty() => {
                let message = format!("the platform {} expands to nothing", quote(&platform.text));
                let error = Diagnostic::error(platform.span.clone(), message);
                let names = expanded.unmatched.iter().next().map_or("", String::as_str);
                report.push(error.did_you_mean(names, self.globals.names()).help("leave the flag out for the default"));
                return None;
            }
            None => {
                let message = format!("{} is not a platform", quote(&expanded.text));
                report.push(
                    Diagnostic::error(platform.span.clone(), message)
                        .help("write it as in `linux/amd64` or `linux/arm64`"),
                );
                return None;
            }
        }
        Some(expanded.text)
    }

    fn needless_platform(&self, platform: &Word, expanded: &Expanded, from: &FromLine, report: &mut Report) {
        let span = platform.span.clone();
        let target = self.globals.get("TARGETPLATFORM") == Some(&expanded.text);
        if expanded.matched.len() == 1 && expanded.matched.contains("TARGETPLATFORM") && target {
            let message = format!("{} is the default", quote(&platform.text));
            let rule = Some(&rules::REDUNDANT_TARGET_PLATFORM);
            report.push(Diagnostic::warning(rule, span, message).help("leave the flag out"));
        } else if expanded.matched.is_empty() && expanded.unmatched.is_empty() {
            let name = from.name.as_ref().map(|name| name.text.to_lowercase()).unwrap_or_default();
            if !expanded.text.split('/').take(2).any(|part| name.contains(part)) {
                let message = format!("the platform {} is fixed", quote(&expanded.text));
                let rule = Some(&rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED);
                report.push(
                    Diagnostic::warning(rule, span, message)
                        .help("use `$BUILDPLATFORM` or `$TARGETPLATFORM`, or leave the flag out"),
                );
            }
        }
    }

    fn expand(&self, word: &Word, report: &mut Report) -> Option<Expanded> {
        let options = Options::new(self.dockerfile.directives.escape);
        match expand(&word.text, options, &|name| self.globals.get(name)) {
            Ok(expanded) => Some(expanded),
            Err(problem) => {
                report.error(word.span.clone(), problem.to_string());
                None
            }
        }
    }

    fn undefined(&self, word: &Word, expanded: &Expanded, report: &mut Report) {
        for name in expanded.unmatched.iter().filter(|name| !self.declared.contains(name.as_str())) {
            let message = format!("{} is not declared before the first `FROM`", quote(&format!("${name}")));
            report.push(
                Diagnostic::warning(Some(&rules::UNDEFINED_ARG_IN_FROM), word.span.clone(), message)
                    .did_you_mean(name, self.globals.names())
                    .help(format!("write `ARG {name}` before the first `FROM`")),
            );
        }
    }

    /// Warns when the base is valid only with build arguments.
    fn default_base(&self, base: &Word, report: &mut Report) {
        if !base.text.contains('$') {
            return;
        }
        let defaults = self.defaults.as_ref().unwrap_or(self.globals);
        let options = Options::new(self.dockerfile.directives.escape);
        let Ok(expanded) = expand(&base.text, options, &|name| defaults.get(name)) else { return };
        if expanded.text.parse::<Reference>().is_err() {
            let message = format!("without build arguments {} is not the name of an image", quote(&base.text));
            report.push(
                Diagnostic::warning(Some(&rules::INVALID_DEFAULT_ARG_IN_FROM), base.span.clone(), message)
                    .help("give each `ARG` before the first `FROM` a default"),
            );
        }
    }

    /// Resolves the `from` of a `COPY`, or of a mount when `mounts` is set.
    fn origin(&self, from: &Word, mounts: bool, at: usize, report: &mut Report) -> Option<Origin> {
        let span = from.span.clone();
        let options = Options::new(self.dockerfile.directives.escape);
        if expand(&from.text, options, &|_| None).map(|expanded| expanded.text).as_deref() != Ok(&from.text) {
            report.push(
                Diagnostic::error(span, "`--from` takes no variables")
                    .help("name a stage with `FROM $IMAGE AS name` and copy from that"),
            );
            return None;
        }
        if from.text.is_empty() {
            report.push(Diagnostic::error(span, "`--from` is empty").help("name a stage or an image"));
            return None;
        }
        if let Ok(number) = from.text.parse::<i64>() {
            return self.numbered(number, span, at, report).map(Origin::Stage);
        }
        let lower = from.text.to_lowercase();
        if let Some(stage) = self.earlier(&lower, at) {
            return Some(Origin::Stage(stage));
        }
        if self.is_context(&from.text) {
            return Some(Origin::Outside(from.text.clone()));
        }
        let own = self.names[at].as_deref() == Some(lower.as_str());
        if own {
            report.push(
                reference_error(
                    span,
                    "the stage",
                    &from.text,
                    if mounts { "cannot mount itself" } else { "cannot copy from itself" },
                )
                .help("files of the same stage are moved with `RUN cp`"),
            );
            return None;
        }
        if self.later(&lower, at).is_some() {
            report.push(
                reference_error(span, "the stage", &from.text, "is defined later")
                    .help("move it above the stage that copies from it"),
            );
            return None;
        }
        if lower == "scratch" && mounts {
            return Some(Origin::Scratch);
        }
        if lower == "scratch" {
            report.push(Diagnostic::error(span, "`scratch` is empty, so there is nothing to copy from it"));
            return None;
        }
        self.image(&from.text, span, at, report)
    }

    fn image(&self, name: &str, span: Range<usize>, at: usize, report: &mut Report) -> Option<Origin> {
        if let Err(problem) = name.parse::<Reference>() {
            report.push(
                Diagnostic::error(span, format!("{} is neither a stage nor the name of an image", quote(name)))
                    .note(problem.to_string())
                    .did_you_mean(name, self.names_before(at)),
            );
            return None;
        }
        // A bare word close to the name of a stage more likely means that stage than an image in a registry.
        if let Some(meant) = crate::nearest::nearest(name, self.names_before(at))
            && !name.contains([':', '/', '@'])
        {
            let message = format!("no stage is named {}, so it is taken for an image", quote(name));
            report.push(
                Diagnostic::warning(Some(&rules::MISTYPED_STAGE_NAME), span, message)
                    .help(format!("did you mean {}?", quote(meant))),
            );
        }
        Some(Origin::Outside(name.to_owned()))
    }

    fn numbered(&self, number: i64, span: Range<usize>, at: usize, report: &mut Report) -> Option<usize> {
        let problem = match usize::try_from(number) {
            Ok(stage) if stage < at => return Some(stage),
            Ok(stage) if stage == at => "is this stage itself",
            Ok(stage) if stage < self.stages.len() => "is defined later",
            Ok(_) | Err(_) => "does not exist",
        };
        let error = reference_error(span, "stage number", &number.to_string(), problem);
        report.push(match at {
            0 => error.note("this is the first stage, number 0"),
            _ => error.help(format!("stages are counted from 0, so 0 to {} can be copied from here", at - 1)),
        });
        None
    }

    /// Resolves the stage to build.
    pub(super) fn target(&self, report: &mut Report) -> Option<usize> {
        let Some(target) = &self.settings.target else { return self.stages.len().checked_sub(1) };
        let found = self.by_name.get(&target.to_lowercase()).and_then(|stages| stages.last().copied());
        if found.is_none() {
            let names = self.names.iter().flatten().map(String::as_str);
            let mut listed: Vec<String> = self.names.iter().flatten().take(20).map(|name| quote(name)).collect();
            listed.dedup();
            let error = Diagnostic::error(0..0, format!("no stage is named {}", quote(target)));
            report.push(match listed.as_slice() {
                [] => error.note("no stage of this Dockerfile has a name"),
                listed => error.did_you_mean(target, names).note(format!("the stages are {}", listed.join(", "))),
            });
        }
        found
    }
}

fn global(argument: &Argument, globals: &mut Env, settings: &Settings, escape: char, report: &mut Report) {
    let name = &argument.name.text;
    if let Some(given) = settings.build_args.get(name) {
        globals.set_last(name, given);
        return;
    }
    let Some(default) = &argument.default else { return };
    match expand(&default.text, Options::new(escape), &|name| globals.get(name)).map(|expanded| expanded.text) {
        Ok(value) => globals.set_last(name, &value),
        Err(problem) => report.error(default.span.clone(), problem.to_string()),
    }
}
