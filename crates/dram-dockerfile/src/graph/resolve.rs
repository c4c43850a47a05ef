//! Resolves names: global arguments, bases, `--from` references and the target.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use dram_image::Reference;
use dram_plan::{InputRef, StageBase};

use super::{BaseName, OnbuildTriggers, StageNode, external_key, reference_error};
use crate::ast::{
    ArgDeclaration, Dockerfile, DockerfileInstruction, FromInstruction, InstructionBody, Keyword, SpannedText,
};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::expand::{ExpandOptions, ExpandedWord, expand};
use crate::ordered_env::OrderedEnv;
use crate::parse::parse_trigger;
use crate::rules;
use crate::settings::BuildSettings;

/// Resolves references between all stages of the file.
pub(super) struct StageResolver<'f> {
    dockerfile: &'f Dockerfile,
    settings: &'f BuildSettings,
    globals: &'f OrderedEnv,
    stages: &'f [Range<usize>],
    /// The lower-case name of each stage, if it has one.
    names: Vec<Option<String>>,
    /// The stages with each name, in order.
    by_name: HashMap<String, Vec<usize>>,
    /// The arguments declared before the first `FROM`, with or without a value.
    declared: HashSet<&'f str>,
    /// The global arguments without build arguments; `None` when there are no build arguments.
    defaults: Option<OrderedEnv>,
    /// The triggers of base images, as far as their configs are known.
    triggers: &'f OnbuildTriggers,
}

/// The maximum number of triggers of an image that are read.
const MAX_TRIGGERS: usize = 1000;

/// The maximum number of stages that [`StageResolver::depends_on`] visits.
const MAX_VISITED_STAGES: usize = 100;

/// The maximum total size of the global arguments, in bytes.
const MAX_GLOBALS_SIZE: usize = 32 << 20;

impl<'f> StageResolver<'f> {
    /// Returns the arguments that `FROM` can use.
    pub(super) fn globals(
        dockerfile: &Dockerfile,
        settings: &BuildSettings,
        stages: &[Range<usize>],
        report: &mut DiagnosticCollector,
    ) -> OrderedEnv {
        let target = settings.target.clone().unwrap_or_else(|| {
            let last = stages.last().and_then(|stage| dockerfile.instructions[stage.start].as_from());
            last.and_then(|from| from.name.as_ref()).map(|name| name.text.to_lowercase()).unwrap_or_default()
        });
        let mut globals = settings.platform_args(&target);
        let end = stages.first().map_or(dockerfile.instructions.len(), |first| first.start);
        for instruction in &dockerfile.instructions[..end] {
            for argument in instruction.arguments() {
                define_global(argument, &mut globals, settings, dockerfile.directives.escape, report);
                if globals.approximate_size() > MAX_GLOBALS_SIZE {
                    report.error(instruction.span.clone(), "the arguments before the first `FROM` grow beyond 32 MiB");
                    return globals;
                }
            }
        }
        globals
    }

    pub(super) fn new(
        dockerfile: &'f Dockerfile,
        settings: &'f BuildSettings,
        globals: &'f OrderedEnv,
        stages: &'f [Range<usize>],
        triggers: &'f OnbuildTriggers,
    ) -> StageResolver<'f> {
        let name = |stage: &Range<usize>| {
            let from = dockerfile.instructions[stage.start].as_from()?;
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
        let declared = dockerfile.instructions[..end].iter().flat_map(DockerfileInstruction::arguments);
        let declared = declared.map(|argument| argument.name.text.as_str()).collect();
        let defaults = (!settings.build_args.is_empty()).then(|| {
            let plain = BuildSettings { build_args: BTreeMap::new(), ..settings.clone() };
            StageResolver::globals(dockerfile, &plain, stages, &mut DiagnosticCollector::default())
        });
        StageResolver { dockerfile, settings, globals, stages, names, by_name, declared, defaults, triggers }
    }

    /// Returns the last stage of this name before stage `at`.
    fn earlier_stage(&self, name: &str, at: usize) -> Option<usize> {
        let all = self.by_name.get(name)?;
        all[..all.partition_point(|stage| *stage < at)].last().copied()
    }

    fn later_stage(&self, name: &str, at: usize) -> Option<usize> {
        self.by_name.get(name)?.iter().copied().find(|stage| *stage > at)
    }

    fn earlier_names(&self, at: usize) -> impl Iterator<Item = &str> {
        self.names[..at].iter().flatten().map(String::as_str)
    }

    fn is_context(&self, name: &str) -> bool {
        self.settings.context_for(name).is_some()
    }

    /// Resolves all stages; those with errors are left out.
    pub(super) fn resolve_stages(&self, report: &mut DiagnosticCollector) -> Vec<StageNode> {
        (0..self.stages.len()).filter_map(|at| self.resolve_stage(at, report)).collect()
    }

    fn resolve_stage(&self, at: usize, report: &mut DiagnosticCollector) -> Option<StageNode> {
        let instructions = &self.dockerfile.instructions[self.stages[at].clone()];
        let (first, rest) = instructions.split_first()?;
        let from = first.as_from()?;
        let platform = match &from.platform {
            Some(platform) => {
                Some(SpannedText { text: self.resolve_platform(platform, from, report)?, span: platform.span.clone() })
            }
            None => None,
        };
        let base = self.resolve_base(from, at, platform.as_ref(), report);
        let named = from.name.as_ref().filter(|name| self.is_context(&name.text.to_lowercase()));
        let (base, base_span, rest) = match named {
            // A named context with the name of the stage replaces the whole stage.
            Some(name) => {
                let span = name.span.clone();
                let name = name.text.to_lowercase();
                let base = StageBase::External(name.clone());
                (Some((base, BaseName { name, platform: None })), span, &[][..])
            }
            None => (base, from.base.span.clone(), rest),
        };
        let mut instructions = match &base {
            Some((base, _)) => self.base_triggers(base, &base_span, first.line, report),
            None => Vec::new(),
        };
        instructions.extend(rest.iter().cloned());
        let mut steps = Vec::with_capacity(instructions.len());
        for instruction in instructions {
            let mounts = instruction.kind == Some(Keyword::Run);
            let origins = instruction
                .from_words()
                .iter()
                .filter_map(|from| self.resolve_from(from, mounts, at, report))
                .collect();
            steps.push((instruction, origins));
        }
        let name = from.name.as_ref().map_or_else(|| format!("stage-{at}"), |name| name.text.clone());
        let (base, base_name) = base?;
        Some(StageNode { name, index: at, base, base_name, from: first.clone(), base_span, steps })
    }

    /// Returns the `ONBUILD` triggers of the base, parsed.
    fn base_triggers(
        &self,
        base: &StageBase,
        span: &Range<usize>,
        line: usize,
        report: &mut DiagnosticCollector,
    ) -> Vec<DockerfileInstruction> {
        let texts: Vec<&str> = match base {
            StageBase::Scratch => Vec::new(),
            StageBase::Stage(stage) => {
                let own = &self.dockerfile.instructions[self.stages[*stage].clone()];
                let trigger = |one: &'f DockerfileInstruction| match &one.body {
                    InstructionBody::OnBuild(trigger) => Some(trigger.text.as_str()),
                    InstructionBody::From(_)
                    | InstructionBody::Arg(_)
                    | InstructionBody::Env(_)
                    | InstructionBody::Label(_)
                    | InstructionBody::Run(_)
                    | InstructionBody::Cmd(_)
                    | InstructionBody::Entrypoint(_)
                    | InstructionBody::Copy(_)
                    | InstructionBody::Add(_)
                    | InstructionBody::Workdir(_)
                    | InstructionBody::User(_)
                    | InstructionBody::Expose(_)
                    | InstructionBody::Volume(_)
                    | InstructionBody::StopSignal(_)
                    | InstructionBody::Shell(_)
                    | InstructionBody::Healthcheck(_)
                    | InstructionBody::Maintainer(_)
                    | InstructionBody::Invalid => None,
                };
                own.iter().filter_map(trigger).collect()
            }
            StageBase::External(key) => {
                self.triggers.get(key).into_iter().flatten().map(String::as_str).take(MAX_TRIGGERS).collect()
            }
        };
        texts.into_iter().filter_map(|text| parse_trigger(text, span, line, report)).collect()
    }

    fn resolve_base(
        &self,
        from: &FromInstruction,
        at: usize,
        platform: Option<&SpannedText>,
        report: &mut DiagnosticCollector,
    ) -> Option<(StageBase, BaseName)> {
        let expanded = self.expand(&from.base, report)?;
        self.warn_undefined(&from.base, &expanded, report);
        self.check_default_base(&from.base, report);
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
        if let Some(stage) = self.earlier_stage(&name, at) {
            return Some((StageBase::Stage(stage), BaseName::default()));
        }
        if name == "scratch" {
            return Some((StageBase::Scratch, BaseName::default()));
        }
        if self.is_context(&name) {
            return Some(self.external_base(name, platform));
        }
        if let Some(later) = self.later_stage(&name, at) {
            let means_image = self.depends_on(later, at, &name);
            report.push(self.later_base_problem(&name, later, means_image, span.clone()));
            if !means_image {
                return None;
            }
        }
        if let Err(problem) = name.parse::<Reference>() {
            let error = Diagnostic::error(span, format!("{} is not the name of an image", quote(&name)));
            report.push(error.note(problem.to_string()).did_you_mean(&name, self.earlier_names(at)));
            return None;
        }
        Some(self.external_base(name, platform))
    }

    /// Returns the diagnostic for a base with the name of a later stage. BuildKit looks for an image of that name.
    /// That is intended when the later stage depends on this one or on that image; otherwise the order is wrong.
    fn later_base_problem(&self, name: &str, later: usize, means_image: bool, span: Range<usize>) -> Diagnostic {
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
    fn depends_on(&self, from: usize, to: usize, image: &str) -> bool {
        let mut seen = HashSet::new();
        let mut waiting = vec![from];
        while let Some(stage) = waiting.pop() {
            // A chain beyond the limit is no simple mistake in the order of a few stages.
            if stage == to || seen.len() > MAX_VISITED_STAGES {
                return true;
            }
            if !seen.insert(stage) {
                continue;
            }
            let instructions = &self.dockerfile.instructions[self.stages[stage].clone()];
            let base = instructions[0].as_from().map(|from| from.base.clone());
            for word in base.into_iter().chain(instructions.iter().flat_map(DockerfileInstruction::from_words)) {
                let number = word.text.parse().ok().filter(|number| *number < stage);
                match self.earlier_stage(&word.text.to_lowercase(), stage).or(number) {
                    Some(before) => waiting.push(before),
                    None if word.text == image => return true,
                    None => {}
                }
            }
        }
        false
    }

    fn external_base(&self, name: String, platform: Option<String>) -> (StageBase, BaseName) {
        let platform = platform.filter(|platform| self.settings.builds_for(platform) == Some(false));
        (StageBase::External(external_key(&name, platform.as_deref())), BaseName { name, platform })
    }

    fn resolve_platform(
        &self,
        platform: &SpannedText,
        from: &FromInstruction,
        report: &mut DiagnosticCollector,
    ) -> Option<String> {
        let expanded = self.expand(platform, report)?;
        self.warn_undefined(platform, &expanded, report);
        match self.settings.builds_for(&expanded.text) {
            Some(_) => self.warn_needless_platform(platform, &expanded, from, report),
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

    fn warn_needless_platform(
        &self,
        platform: &SpannedText,
        expanded: &ExpandedWord,
        from: &FromInstruction,
        report: &mut DiagnosticCollector,
    ) {
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

    fn expand(&self, word: &SpannedText, report: &mut DiagnosticCollector) -> Option<ExpandedWord> {
        let options = ExpandOptions::new(self.dockerfile.directives.escape);
        match expand(&word.text, options, &|name| self.globals.get(name)) {
            Ok(expanded) => Some(expanded),
            Err(problem) => {
                report.error(word.span.clone(), problem.to_string());
                None
            }
        }
    }

    fn warn_undefined(&self, word: &SpannedText, expanded: &ExpandedWord, report: &mut DiagnosticCollector) {
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
    fn check_default_base(&self, base: &SpannedText, report: &mut DiagnosticCollector) {
        if !base.text.contains('$') {
            return;
        }
        let defaults = self.defaults.as_ref().unwrap_or(self.globals);
        let options = ExpandOptions::new(self.dockerfile.directives.escape);
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
    fn resolve_from(
        &self,
        from: &SpannedText,
        mounts: bool,
        at: usize,
        report: &mut DiagnosticCollector,
    ) -> Option<InputRef> {
        let span = from.span.clone();
        let options = ExpandOptions::new(self.dockerfile.directives.escape);
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
            return self.stage_by_number(number, span, at, report).map(InputRef::Stage);
        }
        let lower = from.text.to_lowercase();
        if let Some(stage) = self.earlier_stage(&lower, at) {
            return Some(InputRef::Stage(stage));
        }
        if self.is_context(&from.text) {
            return Some(InputRef::External(from.text.clone()));
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
        if self.later_stage(&lower, at).is_some() {
            report.push(
                reference_error(span, "the stage", &from.text, "is defined later")
                    .help("move it above the stage that copies from it"),
            );
            return None;
        }
        if lower == "scratch" && mounts {
            return Some(InputRef::Scratch);
        }
        if lower == "scratch" {
            report.push(Diagnostic::error(span, "`scratch` is empty, so there is nothing to copy from it"));
            return None;
        }
        self.resolve_image(&from.text, span, at, report)
    }

    fn resolve_image(
        &self,
        name: &str,
        span: Range<usize>,
        at: usize,
        report: &mut DiagnosticCollector,
    ) -> Option<InputRef> {
        if let Err(problem) = name.parse::<Reference>() {
            report.push(
                Diagnostic::error(span, format!("{} is neither a stage nor the name of an image", quote(name)))
                    .note(problem.to_string())
                    .did_you_mean(name, self.earlier_names(at)),
            );
            return None;
        }
        // A bare word close to the name of a stage more likely means that stage than an image in a registry.
        if let Some(meant) = crate::suggest::nearest_name(name, self.earlier_names(at))
            && !name.contains([':', '/', '@'])
        {
            let message = format!("no stage is named {}, so it is taken for an image", quote(name));
            report.push(
                Diagnostic::warning(Some(&rules::MISTYPED_STAGE_NAME), span, message)
                    .help(format!("did you mean {}?", quote(meant))),
            );
        }
        Some(InputRef::External(name.to_owned()))
    }

    fn stage_by_number(
        &self,
        number: i64,
        span: Range<usize>,
        at: usize,
        report: &mut DiagnosticCollector,
    ) -> Option<usize> {
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
    pub(super) fn resolve_target(&self, report: &mut DiagnosticCollector) -> Option<usize> {
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

fn define_global(
    argument: &ArgDeclaration,
    globals: &mut OrderedEnv,
    settings: &BuildSettings,
    escape: char,
    report: &mut DiagnosticCollector,
) {
    let name = &argument.name.text;
    if name.contains('$') {
        let error = Diagnostic::error(
            argument.name.span.clone(),
            "the name of an `ARG` before the first `FROM` has a variable",
        );
        report.push(error.help("write the name itself"));
        return;
    }
    if let Some(given) = settings.build_args.get(name) {
        globals.set_last(name, given);
        return;
    }
    let Some(default) = &argument.default else { return };
    match expand(&default.text, ExpandOptions::new(escape), &|name| globals.get(name)).map(|expanded| expanded.text) {
        Ok(value) => globals.set_last(name, &value),
        Err(problem) => report.error(default.span.clone(), problem.to_string()),
    }
}
