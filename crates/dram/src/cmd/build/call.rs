//! `dram build --call`: checks or describes a Dockerfile without building it.

mod json;
mod text;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::process::ExitCode;

use dram_build::{Cancel, Image, Outside};
use dram_dockerfile::lint::{self, Subject};
use dram_dockerfile::nearest::nearest;
use dram_dockerfile::outline;
use dram_dockerfile::{Diagnostic, Need, NeedKind, Parsed, Plan, Settings, StageGraph, Triggers};
use dram_image::ImageConfig;
use dram_store::Store;

use super::elsewhere::Bring;
use super::outside::{Named, named_image};
use super::planned::{has_errors, settings, wrong};
use super::source::{Source, context};
use super::words::build_args;
use crate::ambient::Ambient;
use crate::cli;
use crate::cmd::say;
use crate::failure::Failure;
use crate::find;

/// The request of `--call` or `--check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    method: Method,
    /// Print JSON.
    json: bool,
    /// Exit with 0, whatever the checks find.
    ignore_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Build,
    Check,
    Outline,
    Targets,
}

impl Call {
    /// The request of the options; `None` if they ask for a build.
    pub(crate) fn of(args: &cli::Build) -> Result<Option<Call>, Failure> {
        let mut call = match &args.call {
            Some(text) => Call::parse(text)?,
            None => Call { method: Method::Build, json: false, ignore_status: false },
        };
        if args.check && call.method == Method::Build {
            call.method = Method::Check;
        }
        if args.json && call.method == Method::Build {
            let failure = Failure::usage("`--json` is for what is said without building");
            return Err(failure.help("add --check, --call=outline or --call=targets"));
        }
        call.json |= args.json;
        Ok(Some(call).filter(|call| call.method != Method::Build))
    }

    /// Parses `METHOD[,format=json][,ignorestatus=true]`, as buildx does.
    fn parse(text: &str) -> Result<Call, Failure> {
        let mut call = Call { method: Method::Build, json: false, ignore_status: false };
        for part in text.split(',') {
            match part {
                "build" => call.method = Method::Build,
                "check" | "lint" => call.method = Method::Check,
                "outline" => call.method = Method::Outline,
                "targets" => call.method = Method::Targets,
                "format=json" => call.json = true,
                "format=text" => call.json = false,
                "ignorestatus" | "ignorestatus=true" => call.ignore_status = true,
                "ignorestatus=false" => call.ignore_status = false,
                other => {
                    let known = ["build", "check", "outline", "targets", "format=json", "format=text", "ignorestatus"];
                    let failure = Failure::usage(format!("`--call={text}` has the unknown part `{other}`"));
                    return Err(match nearest(other, known) {
                        Some(meant) => failure.help(format!("did you mean `{meant}`?")),
                        None => failure.help("write `check`, `outline` or `targets`, and `,format=json` behind it"),
                    });
                }
            }
        }
        Ok(call)
    }
}

/// Answers a request. The exit code of a check with diagnostics is 1.
pub(crate) fn call(ambient: &Ambient, args: &cli::Build, call: Call) -> Result<ExitCode, Failure> {
    let build_args = build_args(args)?;
    let store = OnceCell::new();
    let open = || match store.get() {
        Some(store) => Ok(store),
        None => Store::open_to_write(ambient.store()?).map(|new| store.get_or_init(|| new)).map_err(Failure::from),
    };
    let (_, source) = context(args, &build_args, &Bring { store: &open, files: false, cancel: Cancel::default() })?;
    let parsed = dram_dockerfile::parse(&source.bytes);
    if call.method == Method::Targets {
        if has_errors(&parsed.diagnostics) {
            return Err(wrong(&source, parsed.diagnostics));
        }
        let targets = outline::targets(&parsed.dockerfile);
        say(&if call.json { json::targets(&targets, &source) } else { text::targets(&targets) });
        return Ok(ExitCode::SUCCESS);
    }
    let contexts = Named::new(args)?;
    let mut settings = settings(args, build_args, &contexts)?;
    settings.all_stages = call.method == Method::Check && settings.target.is_none();
    let known = |needs: &[Need]| known(ambient, needs, &settings, &contexts);
    let seen = Seen::new(&parsed, &settings, &known)?;
    if call.method == Method::Outline {
        let (Some(graph), Some(plan)) = (&seen.graph, &seen.plan) else { return Err(wrong(&source, seen.said)) };
        let outline = outline::outline(&parsed.dockerfile, graph, plan, &seen.found);
        say(&if call.json { json::outline(&outline, &source) } else { text::outline(&outline) });
        return Ok(ExitCode::SUCCESS);
    }
    let remarks = seen.check(&parsed, &settings, &source);
    let fine = remarks.is_empty() || call.ignore_status;
    say(&match call.json {
        true => json::check(&parsed.dockerfile, remarks, &source),
        false => text::check(remarks, &source),
    });
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The results of reading a Dockerfile without building it.
struct Seen {
    graph: Option<StageGraph>,
    plan: Option<Plan>,
    /// The configs of the images that are in the store.
    found: BTreeMap<String, ImageConfig>,
    said: Vec<Diagnostic>,
}

type Known<'k> = &'k dyn Fn(&[Need]) -> Result<BTreeMap<String, ImageConfig>, Failure>;

impl Seen {
    /// Reads as much of the Dockerfile as is possible without the images that are not in the store.
    fn new(parsed: &Parsed, settings: &Settings, known: Known<'_>) -> Result<Seen, Failure> {
        let mut triggers = Triggers::new();
        loop {
            let mut said = parsed.diagnostics.clone();
            let (graph, more) = StageGraph::new(&parsed.dockerfile, settings, &triggers);
            said.extend(more);
            let Some(graph) = graph else { return Ok(Seen { graph: None, plan: None, found: BTreeMap::new(), said }) };
            let needs = graph.needs();
            let found = known(&needs)?;
            let with = |(key, config): (&String, &ImageConfig)| (key.clone(), config.config.on_build.clone());
            let new: Triggers = found.iter().map(with).filter(|(_, texts)| !texts.is_empty()).collect();
            if new != triggers {
                triggers = new;
                continue;
            }
            let mut bases = found.clone();
            for need in needs.into_iter().filter(|need| need.kind == NeedKind::Base) {
                if settings.context_for(&need.name).is_none() {
                    bases.entry(need.key).or_default();
                }
            }
            let (plan, more) = graph.plan(&bases);
            said.extend(more);
            return Ok(Seen { graph: Some(graph), plan, found, said });
        }
    }

    fn check(self, parsed: &Parsed, settings: &Settings, source: &Source) -> Vec<Diagnostic> {
        let subject = Subject {
            dockerfile: &parsed.dockerfile,
            settings,
            graph: self.graph.as_ref(),
            plan: self.plan.as_ref(),
            found: &self.found,
            ignore: source.ignore.as_ref().map(|(name, ignore)| (name.as_str(), &**ignore)),
            thorough: true,
        };
        lint::check(&subject, self.said)
    }
}

/// Returns the configs of the images that are in the store. Nothing is fetched, and no store is created.
fn known(
    ambient: &Ambient,
    needs: &[Need],
    settings: &Settings,
    contexts: &Named,
) -> Result<BTreeMap<String, ImageConfig>, Failure> {
    let mut found = BTreeMap::new();
    let Some(store) = ambient.store().ok().filter(|at| at.root.exists()).and_then(|at| Store::open(at).ok()) else {
        return Ok(found);
    };
    for need in needs {
        let image = match settings.context_for(&need.name).and_then(|name| contexts.get(name)) {
            Some(value) => match named_image(&store, value)? {
                Some(Outside::Image(image)) => Some(*image),
                Some(Outside::Files(_)) | None => None,
            },
            // An image that cannot be read counts as missing: a build reports it.
            None => match find::descriptor(&store, &need.name) {
                Ok(Some(descriptor)) => Image::open(&store, &descriptor).ok(),
                Ok(None) | Err(_) => None,
            },
        };
        if let Some(image) = image {
            found.insert(need.key.clone(), image.config.value().clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_option_is_parsed_and_typos_get_help() {
        let table = [
            ("check", Method::Check, false, false),
            ("lint,format=json", Method::Check, true, false),
            ("format=json,outline", Method::Outline, true, false),
            ("targets,format=text,ignorestatus=true", Method::Targets, false, true),
            ("build", Method::Build, false, false),
        ];
        for (text, method, json, ignore_status) in table {
            assert_eq!(Call::parse(text).unwrap(), Call { method, json, ignore_status }, "{text}");
        }
        assert_eq!(Call::parse("chekc").unwrap_err().helps, ["did you mean `check`?"]);
        assert!(Call::parse("").is_err());
    }
}
