//! Applies the effect of each instruction to the state of a stage.

use std::ops::Range;

use dram_image::config::EmptyObject;
use dram_plan::{
    DockerfileOrigin, HeredocScript, InputRef, PlanStep, RunNetwork, RunOp, StepOp, StepOrigin, StepPart, WorkdirOp,
};

use super::stage_state::StageState;
use super::{PlanBudget, expose, history};
use crate::ast::{
    ArgDeclaration, CommandForm, DockerfileInstruction, InstructionBody, KeyValuePair, RunInstruction, SpannedText,
};
use crate::diagnostic::{Diagnostic, DiagnosticCollector, quote};
use crate::expand::{ExpandOptions, ExpandedWord, expand};
use crate::graph::StageGraph;
use crate::{heredoc, paths, remote, rules};

/// Applies instructions to one stage.
pub(super) struct StagePlanner<'g> {
    pub(super) graph: &'g StageGraph,
    pub(super) state: StageState,
    pub(super) budget: &'g mut PlanBudget,
    pub(super) report: &'g mut DiagnosticCollector,
}

/// The effect of an instruction: the operation, the history entry, and true when it creates a layer.
pub(super) struct InstructionEffect {
    pub(super) op: StepOp,
    pub(super) created_by: String,
    pub(super) layer: bool,
    /// The byte ranges of parts of the instruction.
    pub(super) parts: Vec<(StepPart, Range<usize>)>,
}

impl InstructionEffect {
    fn config_only(created_by: String) -> Option<InstructionEffect> {
        Some(InstructionEffect { op: StepOp::ConfigOnly, created_by, layer: false, parts: Vec::new() })
    }
}

impl StagePlanner<'_> {
    /// Applies one instruction, or reports its errors.
    pub(super) fn apply(&mut self, instruction: &DockerfileInstruction, inputs: &[InputRef]) {
        if self.budget.is_spent() {
            return;
        }
        let Some(effect) = self.effect(instruction, inputs) else { return };
        if !self.budget.spend(effect.created_by.len() + instruction.text.len() + 256) {
            self.report.push(
                Diagnostic::error(instruction.span.clone(), "the values of the Dockerfile grow too large together")
                    .help("set long values once, near the steps that use them"),
            );
            return;
        }
        self.state.push_history(effect.created_by, !effect.layer);
        let origin = DockerfileOrigin { line: instruction.line, span: instruction.span.clone(), parts: effect.parts };
        self.state.steps.push(PlanStep {
            text: display_text(instruction),
            origin: StepOrigin::Dockerfile(origin),
            op: effect.op,
        });
    }

    fn effect(&mut self, instruction: &DockerfileInstruction, inputs: &[InputRef]) -> Option<InstructionEffect> {
        match &instruction.body {
            InstructionBody::Arg(arguments) => self.plan_arg(arguments, instruction),
            InstructionBody::Env(pairs) => self.plan_env(pairs),
            InstructionBody::Label(pairs) => self.plan_label(pairs),
            InstructionBody::Run(run) => {
                self.check_no_devices(instruction).then(|| self.plan_run(run, instruction, inputs))?
            }
            InstructionBody::Cmd(command) => self.plan_cmd(command, instruction),
            InstructionBody::Entrypoint(command) => self.plan_entrypoint(command, instruction),
            InstructionBody::Copy(transfer) => self.plan_copy(transfer, instruction, inputs.first(), false),
            InstructionBody::Add(transfer) => self.plan_copy(transfer, instruction, None, true),
            InstructionBody::Workdir(path) => self.plan_workdir(path),
            InstructionBody::User(user) => self.plan_user(user),
            InstructionBody::Expose(ports) => self.plan_expose(ports),
            InstructionBody::Volume(paths) => self.plan_volume(paths),
            InstructionBody::StopSignal(signal) => self.plan_stop_signal(signal),
            InstructionBody::Shell(words) => {
                let words = word_texts(words);
                let created_by = format!("SHELL {}", history::go_list(&words));
                self.state.config.config.shell = Some(words);
                InstructionEffect::config_only(created_by)
            }
            InstructionBody::Healthcheck(check) => {
                self.state.config.config.healthcheck = Some(check.clone());
                InstructionEffect::config_only(history::healthcheck_entry(check))
            }
            InstructionBody::Maintainer(name) => {
                self.state.config.author = Some(name.text.clone());
                InstructionEffect::config_only(format!("MAINTAINER {}", name.text))
            }
            // Only stored for derived images: it has no history entry.
            InstructionBody::OnBuild(trigger) => {
                if self.budget.spend(trigger.text.len()) {
                    self.state.triggers.push(trigger.text.clone());
                }
                None
            }
            // `parse` has reported an invalid instruction, and the graph handles `FROM`.
            InstructionBody::From(_) | InstructionBody::Invalid => None,
        }
    }

    /// Expands a word in the current scope and reports errors.
    pub(super) fn expand(&mut self, word: &SpannedText) -> Option<String> {
        self.expand_splitting(word, false).map(|expanded| expanded.text)
    }

    /// Expands the contents of a file: quotes are ordinary characters.
    pub(super) fn expand_text(&mut self, word: &SpannedText) -> Option<String> {
        self.expand_with(word, ExpandOptions { plain_quotes: true, ..ExpandOptions::new('\\') })
            .map(|expanded| expanded.text)
    }

    /// Expands a word, and splits it into words when `split` is set.
    fn expand_splitting(&mut self, word: &SpannedText, split: bool) -> Option<ExpandedWord> {
        self.expand_with(word, ExpandOptions { split, ..ExpandOptions::new(self.graph.directives.escape) })
    }

    fn expand_with(&mut self, word: &SpannedText, options: ExpandOptions) -> Option<ExpandedWord> {
        let scope = &self.state.scope;
        match expand(&word.text, options, &|name| scope.get(name)) {
            Ok(expanded) => {
                self.warn_undefined(word, &expanded);
                if !self.budget.spend(expanded.text.len()) {
                    let message = "the values of the Dockerfile grow too large together";
                    self.report.error(word.span.clone(), message);
                    return None;
                }
                Some(expanded)
            }
            Err(problem) => {
                self.report.push(Diagnostic::error(word.span.clone(), problem.to_string()).label("in this word"));
                None
            }
        }
    }

    fn warn_undefined(&mut self, word: &SpannedText, expanded: &ExpandedWord) {
        for name in expanded.unmatched.iter().filter(|name| !self.state.args.contains(name)) {
            if self.report.is_full_of_warnings() {
                self.report.skip();
                continue;
            }
            let message = format!("{} is not defined here", quote(&format!("${name}")));
            let mut warning = Diagnostic::warning(Some(&rules::UNDEFINED_VAR), word.span.clone(), message)
                .did_you_mean(name, self.state.scope.names());
            if self.graph.globals.contains(name) {
                warning = warning.help(format!("write `ARG {name}` in this stage to use the global argument"));
            }
            self.report.push(warning);
        }
    }

    fn plan_arg(
        &mut self,
        arguments: &[ArgDeclaration],
        instruction: &DockerfileInstruction,
    ) -> Option<InstructionEffect> {
        let mut created_by = String::from("ARG");
        for argument in arguments {
            let name = self.expand_arg_name(&argument.name)?;
            let name = name.as_str();
            let given = self.graph.settings.build_args.get(name).cloned();
            let value = match (given, &argument.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.graph.globals.get(name).map(str::to_owned),
            };
            created_by.push(' ');
            created_by.push_str(name);
            if let Some(value) = &value {
                if !self.budget.spend(name.len() + value.len()) {
                    let message = "the values of the Dockerfile grow too large together";
                    self.report.error(instruction.span.clone(), message);
                    return None;
                }
                self.state.scope.set_last(name, value);
                created_by.push('=');
                created_by.push_str(value);
            }
            self.state.args.declare(name, value.as_deref());
        }
        InstructionEffect::config_only(created_by)
    }

    /// Expands the variables in the name of an argument, as BuildKit does.
    fn expand_arg_name(&mut self, name: &SpannedText) -> Option<String> {
        if !name.text.contains('$') {
            return Some(name.text.clone());
        }
        let expanded = self.expand(name)?;
        if expanded.is_empty() {
            self.report.error(name.span.clone(), "a name of `ARG` expands to nothing");
            return None;
        }
        Some(expanded)
    }

    /// Warns of a shell command that writes a file which is made for each command, and so is never in the image.
    fn warn_of_mounted_files(&mut self, instruction: &DockerfileInstruction, argv: &[String]) {
        let Some(file) = argv.last().and_then(|text| written_mounted_file(text)) else { return };
        let message = format!("what this command writes to `{file}` is not in the image");
        let warning = Diagnostic::warning(None, instruction.span.clone(), message);
        self.report.push(warning.note("the file is made for each command").help(match file {
            HOSTS_FILE => "give the build its names with `--add-host`, and containers theirs when they start",
            _ => "set the name servers when the container starts",
        }));
    }

    /// Expands pairs, all in the same scope, before any of them is set.
    fn expand_pairs(&mut self, pairs: &[KeyValuePair], keyword: &str) -> Option<Vec<(String, String)>> {
        let mut expanded = Vec::with_capacity(pairs.len());
        let mut wrong = false;
        for pair in pairs {
            let (name, value) = (self.expand(&pair.name), self.expand(&pair.value));
            match (name, value) {
                (Some(name), Some(_)) if name.is_empty() => {
                    let message = format!("a name of `{keyword}` expands to nothing");
                    self.report.error(pair.name.span.clone(), message);
                    wrong = true;
                }
                (Some(name), Some(value)) => expanded.push((name, value)),
                (_, _) => wrong = true,
            }
        }
        (!wrong).then_some(expanded)
    }

    fn plan_env(&mut self, pairs: &[KeyValuePair]) -> Option<InstructionEffect> {
        let mut created_by = String::from("ENV");
        for (name, value) in self.expand_pairs(pairs, "ENV")? {
            created_by.push_str(&format!(" {name}={value}"));
            self.state.scope.set_last(&name, &value);
            self.state.env.set(&name, &value);
        }
        InstructionEffect::config_only(created_by)
    }

    fn plan_label(&mut self, pairs: &[KeyValuePair]) -> Option<InstructionEffect> {
        let mut created_by = String::from("LABEL");
        for (name, value) in self.expand_pairs(pairs, "LABEL")? {
            created_by.push_str(&format!(" {name}={value}"));
            self.state.config.config.labels.insert(name, value);
        }
        InstructionEffect::config_only(created_by)
    }

    /// Returns the argument vector of a command; the shell form is prefixed with the shell.
    fn argv(&self, command: &CommandForm) -> Vec<String> {
        match command {
            CommandForm::Exec(words) => word_texts(words),
            CommandForm::Shell(text) => {
                let mut words = match &self.state.config.config.shell {
                    Some(shell) if !shell.is_empty() => shell.clone(),
                    Some(_) | None => vec!["/bin/sh".to_owned(), "-c".to_owned()],
                };
                words.push(text.text.clone());
                words
            }
        }
    }

    /// Refuses `RUN --device`; reported here and not by the parser, since an unneeded stage may have it.
    fn check_no_devices(&mut self, instruction: &DockerfileInstruction) -> bool {
        let device = instruction.flags.iter().find(|flag| flag.name == "device");
        if let Some(flag) = device {
            self.report.push(
                Diagnostic::error(flag.span.clone(), "`RUN --device` is not supported")
                    .help("leave the flag out; `RUN` sees no devices of the host"),
            );
        }
        device.is_none()
    }

    fn plan_run(
        &mut self,
        line: &RunInstruction,
        instruction: &DockerfileInstruction,
        inputs: &[InputRef],
    ) -> Option<InstructionEffect> {
        let (command, scripts) = resolve_heredocs(line);
        let span = match &line.command {
            CommandForm::Shell(text) => text.span.clone(),
            CommandForm::Exec(words) => words.first().map_or(0..0, |word| word.span.clone()),
        };
        let mounts = self.plan_mounts(&line.mounts, inputs);
        let argv = self.argv(&command);
        self.warn_of_mounted_files(instruction, &argv);
        let args: usize = self.state.args.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
        let words: usize = argv.iter().map(String::len).sum();
        if !self.budget.spend(self.state.scope.approximate_size() + args + words) {
            self.report.error(span, "the environment of the steps grows too large together");
            return None;
        }
        let scope = &self.state.scope;
        let args = self.state.args.iter().map(|(name, value)| (name, scope.get(name).unwrap_or(value)));
        let args: Vec<(String, String)> = args.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let created_by = history::run_entry(&args, &argv);
        let env = scope.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let given = |name: &str, value: &str| self.state.args.contains(name) && self.state.env.get(name) != Some(value);
        let from_args =
            scope.iter().filter(|(name, value)| given(name, value)).map(|(name, _)| name.to_owned()).collect();
        let run = RunOp {
            argv,
            env,
            cwd: self.state.working_dir(),
            user: self.state.config.config.user.clone(),
            from_args,
            hidden_env: self.graph.settings.proxy_env(),
            mounts: mounts?,
            scripts,
            network: line.network.as_ref().map(|word| match word.text.as_str() {
                "none" => RunNetwork::None,
                _ => RunNetwork::Host,
            }),
            insecure: line.security.is_some(),
        };
        let mounts = line.mounts.iter().enumerate();
        let parts = mounts.map(|(at, mount)| (StepPart::Mount(at), mount.span.clone())).collect();
        Some(InstructionEffect { op: StepOp::Run(run), created_by, layer: true, parts })
    }

    fn plan_cmd(&mut self, command: &CommandForm, instruction: &DockerfileInstruction) -> Option<InstructionEffect> {
        self.warn_shell_form(command, instruction);
        let argv = self.argv(command);
        let created_by = format!("CMD {}", history::go_quoted_list(&argv));
        let config = &mut self.state.config.config;
        config.cmd = (!argv.is_empty()).then_some(argv);
        config.args_escaped = Some(true);
        self.state.cmd_given = true;
        InstructionEffect::config_only(created_by)
    }

    fn plan_entrypoint(
        &mut self,
        command: &CommandForm,
        instruction: &DockerfileInstruction,
    ) -> Option<InstructionEffect> {
        self.warn_shell_form(command, instruction);
        let argv = self.argv(command);
        let created_by = format!("ENTRYPOINT {}", history::go_quoted_list(&argv));
        let config = &mut self.state.config.config;
        config.entrypoint = (!argv.is_empty()).then_some(argv);
        if !self.state.cmd_given {
            config.cmd = None;
        }
        InstructionEffect::config_only(created_by)
    }

    fn warn_shell_form(&mut self, command: &CommandForm, instruction: &DockerfileInstruction) {
        let has_shell = self.state.config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        let CommandForm::Shell(text) = command else { return };
        // A mistyped JSON array has a warning already.
        if has_shell || crate::json::looks_like_json_array(&text.text) {
            return;
        }
        let name = instruction.kind.map_or("CMD", |kind| kind.name());
        let message = format!("a shell starts the command of `{name}`, so signals do not reach it");
        self.report.push(
            Diagnostic::warning(Some(&rules::JSON_ARGS_RECOMMENDED), instruction.span.clone(), message)
                .help(format!("write `{name} [\"program\", \"argument\"]`")),
        );
    }

    fn plan_workdir(&mut self, word: &SpannedText) -> Option<InstructionEffect> {
        let path = self.expand(word)?;
        if !self.state.workdir_given && !path.starts_with('/') {
            let message = format!("{} depends on the base image's working directory", quote(&path));
            self.report.push(
                Diagnostic::warning(Some(&rules::WORKDIR_RELATIVE_PATH), word.span.clone(), message)
                    .help("write an absolute path"),
            );
        }
        self.state.workdir_given = true;
        let dir = self.state.working_dir();
        let kept = paths::workdir(&dir, &path);
        let created_by = format!("WORKDIR {kept}");
        self.state.config.config.working_dir = kept;
        let path = self.state.working_dir();
        if path == "/" {
            return InstructionEffect::config_only(created_by);
        }
        let user = self.state.config.config.user.clone();
        let op = StepOp::Workdir(WorkdirOp { path, user });
        Some(InstructionEffect { op, created_by, layer: true, parts: Vec::new() })
    }

    fn plan_user(&mut self, word: &SpannedText) -> Option<InstructionEffect> {
        let user = self.expand(word)?;
        if user.is_empty() {
            let message = format!("{} expands to nothing, which means root", quote(&word.text));
            self.report.push(
                Diagnostic::warning(Some(&rules::EMPTY_USER), word.span.clone(), message)
                    .help("give the argument a default, or write `USER root`"),
            );
        }
        if !self.check_ids(&user, word.span.clone()) {
            return None;
        }
        let created_by = format!("USER {user}");
        self.state.config.config.user = user;
        InstructionEffect::config_only(created_by)
    }

    /// Checks that numeric ids in `user[:group]` are in range; the largest 32-bit value means "none" and is refused.
    pub(super) fn check_ids(&mut self, user: &str, span: Range<usize>) -> bool {
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let fits = |part: &str| part.parse::<u32>().is_ok_and(|id| id < u32::MAX);
        let wrong = user.split(':').find(|part| number(part) && !fits(part));
        if let Some(part) = wrong {
            let message = format!("{} is too large for an id", quote(part));
            self.report.push(Diagnostic::error(span, message).note(format!("the largest id is {}", u32::MAX - 1)));
        }
        wrong.is_none()
    }

    fn plan_expose(&mut self, words: &[SpannedText]) -> Option<InstructionEffect> {
        let mut words: Vec<&SpannedText> = words.iter().collect();
        words.sort_by(|left, right| left.text.cmp(&right.text));
        let mut all = Vec::new();
        let mut wrong = false;
        for word in words {
            let Some(expanded) = self.expand_splitting(word, true) else {
                wrong = true;
                continue;
            };
            for port in &expanded.words {
                match expose::parse_ports(port, word, self.report) {
                    Some(ports) if self.budget.spend(128 * ports.len()) => all.extend(ports),
                    Some(_) => {
                        self.report.error(word.span.clone(), "the exposed ports are too many");
                        return None;
                    }
                    None => wrong = true,
                }
            }
        }
        if wrong {
            return None;
        }
        let created_by = format!("EXPOSE {}", history::go_list(&all));
        self.state.config.config.exposed_ports.extend(all.into_iter().map(|port| (port, EmptyObject {})));
        InstructionEffect::config_only(created_by)
    }

    fn plan_volume(&mut self, words: &[SpannedText]) -> Option<InstructionEffect> {
        let mut paths = Vec::with_capacity(words.len());
        for word in words {
            let trimmed = SpannedText { text: word.text.trim().to_owned(), span: word.span.clone() };
            let path = self.expand(&trimmed)?;
            if path.is_empty() {
                let message = format!("the volume {} expands to nothing", quote(&word.text));
                self.report.error(word.span.clone(), message);
                return None;
            }
            paths.push(path);
        }
        let created_by = format!("VOLUME {}", history::go_list(&paths));
        self.state.config.config.volumes.extend(paths.into_iter().map(|path| (path, EmptyObject {})));
        InstructionEffect::config_only(created_by)
    }

    fn plan_stop_signal(&mut self, word: &SpannedText) -> Option<InstructionEffect> {
        let signal = self.expand(word)?;
        if !expose::is_signal(&signal) {
            self.report.push(
                Diagnostic::error(word.span.clone(), format!("{} is not a signal", quote(&signal)))
                    .did_you_mean(&signal, ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGKILL", "SIGUSR1"])
                    .help("write a name as in `SIGTERM`, or a number"),
            );
            return None;
        }
        let created_by = format!("STOPSIGNAL {signal}");
        self.state.config.config.stop_signal = Some(signal);
        InstructionEffect::config_only(created_by)
    }
}

/// Returns the command with its heredocs. A heredoc that is the whole command is the text for a shell, or a script file
/// when it starts with `#!`; other heredocs are passed to the shell unchanged.
fn resolve_heredocs(line: &RunInstruction) -> (CommandForm, Vec<HeredocScript>) {
    let (CommandForm::Shell(text), Some(first)) = (&line.command, line.heredocs.first()) else {
        return (line.command.clone(), Vec::new());
    };
    let word = |text: String, span: &Range<usize>| SpannedText { text, span: span.clone() };
    if heredoc::parse_start(&text.text).is_none() {
        let mut whole = text.text.clone();
        for heredoc in &line.heredocs {
            whole.push('\n');
            whole.push_str(&heredoc.contents);
            whole.push_str(&heredoc.name);
        }
        return (CommandForm::Shell(word(whole, &text.span)), Vec::new());
    }
    let contents = first.text();
    if !contents.starts_with("#!") {
        return (CommandForm::Shell(word(contents, &text.span)), Vec::new());
    }
    let path = paths::absolute("/dev/pipes", &first.name);
    (CommandForm::Shell(word(path.clone(), &text.span)), vec![HeredocScript { path, contents }])
}

fn word_texts(words: &[SpannedText]) -> Vec<String> {
    words.iter().map(|word| word.text.clone()).collect()
}

/// Formats the instruction on one line: keyword in capitals, blanks joined, and the first line of its first heredoc.
fn display_text(instruction: &DockerfileInstruction) -> String {
    const LONGEST: usize = 60;
    let mut words = instruction.text.split_whitespace();
    let mut out = if instruction.trigger { "ONBUILD ".to_owned() } else { String::new() };
    out.push_str(&words.next().unwrap_or_default().to_uppercase());
    let is_add = matches!(instruction.body, InstructionBody::Add(_));
    for word in words {
        out.push(' ');
        // Credentials in a URL must not be shown.
        out.push_str(&if is_add { remote::redacted(word) } else { word.to_owned() });
    }
    if let InstructionBody::Run(RunInstruction { heredocs, .. }) = &instruction.body
        && let Some(first) =
            heredocs.first().and_then(|heredoc| heredoc.contents.lines().find(|line| !line.trim().is_empty()))
    {
        let shown: String = first.trim().chars().take(LONGEST).collect();
        out.push_str(&format!(" ({shown}…)"));
    }
    out
}

const HOSTS_FILE: &str = "/etc/hosts";

/// Returns the file that is mounted in each command and that the shell command `text` writes by `>`, `>>` or `tee`.
fn written_mounted_file(text: &str) -> Option<&'static str> {
    [HOSTS_FILE, "/etc/resolv.conf"].into_iter().find(|file| {
        text.match_indices(file).any(|(at, _)| {
            let is_whole =
                !text[at + file.len()..].starts_with(|next: char| next.is_alphanumeric() || "./_-".contains(next));
            let before = text[..at].trim_end_matches(['"', '\'']).trim_end_matches([' ', '\t']);
            is_whole && (before.ends_with('>') || before.ends_with("tee") || before.ends_with("tee -a"))
        })
    })
}
