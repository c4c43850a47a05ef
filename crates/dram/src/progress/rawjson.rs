//! `--progress=rawjson`: events as JSON lines of BuildKit's `SolveStatus`. Programs that read those of `docker buildx
//! build` can read these.

use std::collections::BTreeMap;

use dram_build::{BuildEvent, StepPosition};
use dram_dockerfile::Diagnostic;
use dram_image::{Digest, base64};
use dram_plan::Plan;
use serde_json::{Value, json};

use crate::ambient;
use crate::failure::SourceDiagnostics;

/// The steps of a plan as vertexes of BuildKit's `SolveStatus`.
#[derive(Default)]
pub(super) struct SolveStatusWriter {
    vertexes: BTreeMap<StepPosition, SolveVertex>,
    /// Running steps, and the start of each.
    running: BTreeMap<StepPosition, String>,
    /// The start of packing the image, and the number of layers that are ready.
    packing: Option<(String, usize)>,
}

struct SolveVertex {
    digest: String,
    inputs: Vec<String>,
    name: String,
}

impl SolveStatusWriter {
    /// The vertexes of the steps of `plan`, with their names from `labels`.
    pub(super) fn new(plan: &Plan, labels: &BTreeMap<StepPosition, String>) -> SolveStatusWriter {
        let digest = |at: &StepPosition| {
            let text =
                format!("{} {} {}", plan.stages[at.stage].index, at.step, labels.get(at).map_or("", String::as_str));
            Digest::of(text.as_bytes()).to_string()
        };
        let vertex = |(at, name): (&StepPosition, &String)| {
            let before = at.step.checked_sub(1).map(|step| StepPosition { step, ..*at });
            let inputs = before.iter().map(digest).collect();
            (*at, SolveVertex { digest: digest(at), inputs, name: name.clone() })
        };
        SolveStatusWriter { vertexes: labels.iter().map(vertex).collect(), running: BTreeMap::new(), packing: None }
    }

    /// The line for `event`.
    pub(super) fn event_line(&mut self, event: &BuildEvent) -> String {
        let now = ambient::timestamp();
        let status = match event {
            BuildEvent::Started(at, why) => {
                self.running.insert(*at, now.clone());
                let mut status = self.vertex_status(*at, json!({ "started": now }));
                status["statuses"] = json!([self.status(*at, &why.to_string(), &now)]);
                status
            }
            BuildEvent::WaitingForStep(at) => {
                json!({ "statuses": [self.status(*at, "waiting for another build's result", &now)] })
            }
            BuildEvent::WaitingForCache(at, id) => {
                json!({ "statuses": [self.status(*at, &format!("waiting for the cache `{id}`"), &now)] })
            }
            BuildEvent::Log(at, line) => {
                let end: &[u8] = if line.ends_with(b"\r") { b"" } else { b"\n" };
                let data = base64::encode(&[line.as_slice(), end].concat());
                json!({ "logs": [{ "vertex": self.vertex_digest(*at), "stream": 1, "data": data, "timestamp": now }] })
            }
            BuildEvent::Cached(at) | BuildEvent::SharedCacheHit(at) => {
                self.vertex_status(*at, json!({ "started": now, "completed": now, "cached": true }))
            }
            BuildEvent::Executed(at, _) => {
                let started = self.running.remove(at).unwrap_or_else(|| now.clone());
                self.vertex_status(*at, json!({ "started": started, "completed": now }))
            }
            BuildEvent::Remark(remark) => {
                json!({ "warnings": [{ "level": 1, "short": base64::encode(remark.message.as_bytes()) }] })
            }
            BuildEvent::Unpacking { image } => {
                let name = format!("unpacking {image}");
                let digest = Digest::of(name.as_bytes()).to_string();
                json!({ "vertexes": [{ "digest": digest, "name": name, "started": now, "completed": now }] })
            }
            BuildEvent::Fetching { from, size } => {
                let name = format!("fetching {size} bytes from {from}");
                let digest = Digest::of(name.as_bytes()).to_string();
                json!({ "vertexes": [{ "digest": digest, "name": name, "started": now, "completed": now }] })
            }
            BuildEvent::Packing { ready, total: of } => self.packing_status(*ready, *of, &now),
        };
        format!("{status}\n")
    }

    /// The line that ends everything that still runs at the end of the build, with an error for steps; empty if nothing
    /// runs.
    pub(super) fn end_line(&mut self) -> String {
        let now = ambient::timestamp();
        let mut vertexes = Vec::new();
        for (at, started) in std::mem::take(&mut self.running) {
            let more = json!({ "started": started, "completed": now, "error": "the step did not end well" });
            vertexes.extend(self.vertex_status(at, more)["vertexes"].as_array().cloned().unwrap_or_default());
        }
        if let Some((started, _)) = self.packing.take() {
            vertexes.push(export_vertex(&json!({ "started": started, "completed": now })));
        }
        match vertexes.is_empty() {
            true => String::new(),
            false => format!("{}\n", json!({ "vertexes": vertexes })),
        }
    }

    fn packing_status(&mut self, ready: usize, of: usize, now: &str) -> Value {
        let started = self.packing.take().map_or_else(|| now.to_owned(), |(started, _)| started);
        self.packing = Some((started.clone(), ready));
        let vertex = export_vertex(&json!({ "started": started }));
        let layer = json!({
            "id": "packing layers", "vertex": vertex["digest"], "current": ready, "total": of, "timestamp": now,
            "started": started,
        });
        json!({ "vertexes": [vertex], "statuses": [layer] })
    }

    fn vertex_digest(&self, at: StepPosition) -> &str {
        self.vertexes.get(&at).map_or("", |vertex| vertex.digest.as_str())
    }

    fn vertex_status(&self, at: StepPosition, more: Value) -> Value {
        let mut fields = more;
        if let Some(vertex) = self.vertexes.get(&at) {
            fields["digest"] = json!(vertex.digest);
            fields["name"] = json!(vertex.name);
            if !vertex.inputs.is_empty() {
                fields["inputs"] = json!(vertex.inputs);
            }
        }
        json!({ "vertexes": [fields] })
    }

    fn status(&self, at: StepPosition, id: &str, now: &str) -> Value {
        json!({ "id": id, "vertex": self.vertex_digest(at), "current": 0, "timestamp": now, "started": now, "completed": now })
    }
}

fn export_vertex(more: &Value) -> Value {
    const NAME: &str = "exporting to image";
    let mut fields = more.clone();
    fields["digest"] = json!(Digest::of(NAME.as_bytes()).to_string());
    fields["name"] = json!(NAME);
    fields
}

/// The line with warnings about the Dockerfile.
pub(super) fn warnings_line(remarks: &SourceDiagnostics) -> String {
    let all: Vec<Value> = remarks.diagnostics.iter().map(|remark| warning_json(remark, remarks)).collect();
    format!("{}\n", json!({ "warnings": all }))
}

fn warning_json(remark: &Diagnostic, remarks: &SourceDiagnostics) -> Value {
    let short = match remark.rule {
        Some(rule) => format!("{rule}: {}", remark.message),
        None => remark.message.clone(),
    };
    let detail: Vec<String> =
        remark.notes.iter().chain(&remark.helps).map(|text| base64::encode(text.as_bytes())).collect();
    let source = json!({
        "filename": remarks.name, "data": base64::encode(remarks.text.as_bytes()), "language": "Dockerfile",
    });
    json!({
        "vertex": Digest::of(remarks.text.as_bytes()).to_string(), "level": 1, "short": base64::encode(short.as_bytes()),
        "detail": detail, "sourceInfo": source,
        "range": [{ "start": position_json(&remarks.text, remark.span.start), "end": position_json(&remarks.text, remark.span.end) }],
    })
}

/// A position in the text as a line, from 1, and a character, from 0.
fn position_json(text: &str, at: usize) -> Value {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    json!({ "line": line, "character": String::from_utf8_lossy(&before[start..]).chars().count() })
}
