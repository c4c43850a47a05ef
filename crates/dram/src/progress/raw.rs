//! `--progress=rawjson`: events as JSON lines of BuildKit's `SolveStatus`. Programs that read those of `docker buildx
//! build` can read these.

use std::collections::BTreeMap;

use dram_build::{Event, StepAt};
use dram_dockerfile::{Diagnostic, Plan};
use dram_image::{Digest, base64};
use serde_json::{Value, json};

use crate::ambient;
use crate::failure::Remarks;

/// The steps of a plan as vertexes of BuildKit's `SolveStatus`.
#[derive(Default)]
pub(super) struct Vertexes {
    known: BTreeMap<StepAt, Vertex>,
    /// Running steps, and the start of each.
    running: BTreeMap<StepAt, String>,
    /// The start of packing the image, and the number of layers that are ready.
    packing: Option<(String, usize)>,
}

struct Vertex {
    digest: String,
    inputs: Vec<String>,
    name: String,
}

impl Vertexes {
    /// The vertexes of the steps of `plan`, with their names from `labels`.
    pub(super) fn new(plan: &Plan, labels: &BTreeMap<StepAt, String>) -> Vertexes {
        let digest = |at: &StepAt| {
            let text =
                format!("{} {} {}", plan.stages[at.stage].index, at.step, labels.get(at).map_or("", String::as_str));
            Digest::of(text.as_bytes()).to_string()
        };
        let vertex = |(at, name): (&StepAt, &String)| {
            let before = at.step.checked_sub(1).map(|step| StepAt { step, ..*at });
            let inputs = before.iter().map(digest).collect();
            (*at, Vertex { digest: digest(at), inputs, name: name.clone() })
        };
        Vertexes { known: labels.iter().map(vertex).collect(), running: BTreeMap::new(), packing: None }
    }

    /// The line for `event`.
    pub(super) fn line(&mut self, event: &Event) -> String {
        let now = ambient::timestamp();
        let status = match event {
            Event::Started(at, why) => {
                self.running.insert(*at, now.clone());
                let mut status = self.vertex(*at, json!({ "started": now }));
                status["statuses"] = json!([self.status(*at, &why.to_string(), &now)]);
                status
            }
            Event::Waiting(at) => json!({ "statuses": [self.status(*at, "waiting for another build's result", &now)] }),
            Event::WaitingForCache(at, id) => {
                json!({ "statuses": [self.status(*at, &format!("waiting for the cache `{id}`"), &now)] })
            }
            Event::Log(at, line) => {
                let data = base64::encode(&[line.as_slice(), b"\n"].concat());
                json!({ "logs": [{ "vertex": self.digest(*at), "stream": 1, "data": data, "timestamp": now }] })
            }
            Event::Remembered(at) | Event::Shared(at) => {
                self.vertex(*at, json!({ "started": now, "completed": now, "cached": true }))
            }
            Event::Done(at) => {
                let started = self.running.remove(at).unwrap_or_else(|| now.clone());
                self.vertex(*at, json!({ "started": started, "completed": now }))
            }
            Event::Remark(remark) => {
                json!({ "warnings": [{ "level": 1, "short": base64::encode(remark.message.as_bytes()) }] })
            }
            Event::Unpacking { image } => {
                let name = format!("unpacking {image}");
                let digest = Digest::of(name.as_bytes()).to_string();
                json!({ "vertexes": [{ "digest": digest, "name": name, "started": now, "completed": now }] })
            }
            Event::Fetching { from, size } => {
                let name = format!("fetching {size} bytes from {from}");
                let digest = Digest::of(name.as_bytes()).to_string();
                json!({ "vertexes": [{ "digest": digest, "name": name, "started": now, "completed": now }] })
            }
            Event::Packing { ready, of } => self.packing(*ready, *of, &now),
        };
        format!("{status}\n")
    }

    /// The line that ends everything that still runs at the end of the build, with an error for steps; empty if nothing
    /// runs.
    pub(super) fn end(&mut self) -> String {
        let now = ambient::timestamp();
        let mut vertexes = Vec::new();
        for (at, started) in std::mem::take(&mut self.running) {
            let more = json!({ "started": started, "completed": now, "error": "the step did not end well" });
            vertexes.extend(self.vertex(at, more)["vertexes"].as_array().cloned().unwrap_or_default());
        }
        if let Some((started, _)) = self.packing.take() {
            vertexes.push(exporting(&json!({ "started": started, "completed": now })));
        }
        match vertexes.is_empty() {
            true => String::new(),
            false => format!("{}\n", json!({ "vertexes": vertexes })),
        }
    }

    fn packing(&mut self, ready: usize, of: usize, now: &str) -> Value {
        let started = self.packing.take().map_or_else(|| now.to_owned(), |(started, _)| started);
        self.packing = Some((started.clone(), ready));
        let vertex = exporting(&json!({ "started": started }));
        let layer = json!({
            "id": "packing layers", "vertex": vertex["digest"], "current": ready, "total": of, "timestamp": now,
            "started": started,
        });
        json!({ "vertexes": [vertex], "statuses": [layer] })
    }

    fn digest(&self, at: StepAt) -> &str {
        self.known.get(&at).map_or("", |vertex| vertex.digest.as_str())
    }

    fn vertex(&self, at: StepAt, more: Value) -> Value {
        let mut fields = more;
        if let Some(vertex) = self.known.get(&at) {
            fields["digest"] = json!(vertex.digest);
            fields["name"] = json!(vertex.name);
            if !vertex.inputs.is_empty() {
                fields["inputs"] = json!(vertex.inputs);
            }
        }
        json!({ "vertexes": [fields] })
    }

    fn status(&self, at: StepAt, id: &str, now: &str) -> Value {
        json!({ "id": id, "vertex": self.digest(at), "current": 0, "timestamp": now, "started": now, "completed": now })
    }
}

fn exporting(more: &Value) -> Value {
    const NAME: &str = "exporting to image";
    let mut fields = more.clone();
    fields["digest"] = json!(Digest::of(NAME.as_bytes()).to_string());
    fields["name"] = json!(NAME);
    fields
}

/// The line with warnings about the Dockerfile.
pub(super) fn warnings(remarks: &Remarks) -> String {
    let all: Vec<Value> = remarks.diagnostics.iter().map(|remark| warning(remark, remarks)).collect();
    format!("{}\n", json!({ "warnings": all }))
}

fn warning(remark: &Diagnostic, remarks: &Remarks) -> Value {
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
        "range": [{ "start": place(&remarks.text, remark.span.start), "end": place(&remarks.text, remark.span.end) }],
    })
}

/// A position in the text as a line, from 1, and a character, from 0.
fn place(text: &str, at: usize) -> Value {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    json!({ "line": line, "character": String::from_utf8_lossy(&before[start..]).chars().count() })
}
