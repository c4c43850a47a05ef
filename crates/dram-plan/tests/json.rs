//! Plans as JSON: what is written can be read, and hostile texts are refused.

#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_pass_by_value, reason = "the fields are literals of `json!`")]

#[path = "support/checks.rs"]
mod checks;

use dram_image::ImageConfig;
use dram_plan::{
    ChmodMode, CopyOp, CopySource, CopySourceKind, InputRef, MAX_PLAN_SIZE, Plan, PlanStage, PlanStep, StageBase,
    StepOp, StepOrigin, UnpackPolicy, WorkdirOp,
};
use serde_json::{Value, json};

/// Returns a stage with one step.
fn stage(op: Value) -> Value {
    json!({
        "name": "a",
        "index": 0,
        "base": "scratch",
        "steps": [{ "text": "the step", "origin": { "generated": { "by": "a test" } }, "op": op }],
        "config": { "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } }
    })
}

/// Returns a plan with one stage and one step.
fn plan(op: Value) -> Value {
    json!({ "version": 1, "target": 0, "stages": [stage(op)] })
}

fn copy(fields: Value) -> Value {
    let mut copy =
        json!({ "from": "context", "sources": [{ "text": "a", "kind": "path" }], "dest": "/", "unpack": "no" });
    copy.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    plan(json!({ "copy": copy }))
}

fn run(fields: Value) -> Value {
    let mut run = json!({ "argv": ["a"], "env": [], "cwd": "/" });
    run.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    plan(json!({ "run": run }))
}

fn git(remote: &str, reference: &str) -> Value {
    let git = json!({ "remote": remote, "short_name": "r", "reference": reference, "subdir": "" });
    copy(json!({ "sources": [{ "text": remote, "kind": { "git": git } }] }))
}

/// Returns the error of a text with its causes.
fn refusal(text: &[u8]) -> String {
    let error = Plan::from_json(text).expect_err("the text is refused");
    match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[test]
fn optional_fields_have_defaults() {
    let step = |value: Value| Plan::from_json(value.to_string().as_bytes()).unwrap().stages.remove(0).steps.remove(0);
    let StepOp::Copy(copied) = step(copy(json!({ "chmod": "u=rwX" }))).op else { panic!("it is a copy") };
    let expected = CopyOp {
        from: InputRef::Context,
        sources: vec![CopySource { text: "a".to_owned(), kind: CopySourceKind::Path }],
        dest: "/".to_owned(),
        chown: None,
        chmod: ChmodMode::parse("u=rwX"),
        unpack: UnpackPolicy::No,
        link: false,
        parents: false,
        exclude: Vec::new(),
        checksum: None,
        keep_git_dir: false,
    };
    assert_eq!(copied, expected);
    let StepOp::Run(command) = step(run(json!({}))).op else { panic!("it is a command") };
    assert!(command.user.is_empty() && command.mounts.is_empty() && !command.insecure && command.network.is_none());
}

#[test]
fn written_plan_starts_with_its_version() {
    let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    let op = StepOp::Workdir(WorkdirOp { path: "/w".to_owned(), user: String::new() });
    let origin = StepOrigin::Generated { by: "a test".to_owned() };
    let steps = vec![PlanStep { text: "WORKDIR /w".to_owned(), origin, op }];
    let stage = PlanStage { name: "a".to_owned(), index: 0, base: StageBase::Scratch, steps, config };
    let plan = Plan { stages: vec![stage], target: 0 };
    let json = plan.to_json().unwrap();
    assert!(json.starts_with(br#"{"version":1,"stages":["#), "{}", String::from_utf8_lossy(&json));
    assert_eq!(Plan::from_json(&json).unwrap(), plan);
}

#[test]
fn proxies_are_not_written() {
    let mut plan = Plan::from_json(run(json!({})).to_string().as_bytes()).unwrap();
    let StepOp::Run(command) = &mut plan.stages[0].steps[0].op else { panic!("it is a command") };
    command.hidden_env = vec![("http_proxy".to_owned(), "http://user:word@proxy".to_owned())];
    assert!(!String::from_utf8(plan.to_json().unwrap()).unwrap().contains("word"));
}

#[test]
fn invalid_plan_is_not_written() {
    let plan = Plan { stages: Vec::new(), target: 0 };
    let error = plan.to_json().unwrap_err().to_string();
    assert_eq!(error, "the plan: the target is stage 0, and the number of stages is 0");
}

#[test]
fn text_that_is_no_plan_of_this_version_is_refused() {
    let unknown = r#"{"version":1,"stages":[],"target":0,"more":1}"#;
    let twice = r#"{"version":1,"version":1,"stages":[],"target":0}"#;
    let table = [
        ("", "the text is not a plan: EOF while parsing"),
        ("[]", "the text is not a plan"),
        ("{}", "missing field `version`"),
        (r#"{"version":"1"}"#, "expected u64"),
        (r#"{"version":2,"new":[]}"#, "the plan has version 2, and this program reads version 1"),
        (r#"{"version":18446744073709551615}"#, "the plan has version 18446744073709551615"),
        (unknown, "unknown field `more`"),
        (twice, "duplicate field `version`"),
        (r#"{"version":1,"stages":[],"target":-1}"#, "invalid value"),
        (r#"{"version":1,"stages":[],"target":0} x"#, "trailing characters"),
        (r#"{"version":1,"stages":[],"target":0}"#, "the number of stages is 0"),
    ];
    for (text, expected) in table {
        assert!(refusal(text.as_bytes()).contains(expected), "{text}: {}", refusal(text.as_bytes()));
    }
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    for nested in [open.clone(), format!("{open}{close}")] {
        let text = format!(r#"{{"version":1,"stages":{nested},"target":0}}"#);
        assert!(refusal(text.as_bytes()).contains("the text is not a plan"));
    }
    assert!(refusal(&vec![b' '; MAX_PLAN_SIZE + 1]).contains("are the most"));
    assert!(refusal(b"{\"version\":1,\"stages\":\xff").contains("the text is not a plan"));
}

#[test]
fn values_that_no_step_can_have_are_refused() {
    let mount = |mount: Value| run(json!({ "mounts": [mount] }));
    let file = |target: &str, mode: u32| json!({ "target": target, "mode": mode, "uid": 0, "gid": 0 });
    let table = [
        (copy(json!({ "sources": [] })), "a copy needs a source"),
        (copy(json!({ "dest": "a" })), "the destination, `a`, is not absolute and clean"),
        (copy(json!({ "dest": "/a/../../b/" })), "is not absolute and clean"),
        (copy(json!({ "dest": "/a//" })), "is not absolute and clean"),
        (copy(json!({ "dest": "" })), "is not absolute and clean"),
        (copy(json!({ "chmod": "u=z" })), "`u=z` is not a mode"),
        (copy(json!({ "chown": "" })), "the owner is empty"),
        (copy(json!({ "from": { "stage": 0 } })), "it needs stage 0, which is not an earlier one"),
        (copy(json!({ "from": { "external": "" } })), "the name of an image is empty"),
        (copy(json!({ "sources": [{ "text": "a/b", "kind": { "inline": "" } }] })), "`a/b` is not the name of a file"),
        (copy(json!({ "sources": [{ "text": "..", "kind": { "inline": "" } }] })), "`..` is not the name of a file"),
        (copy(json!({ "sources": [{ "text": "file:///etc", "kind": "url" }] })), "is not the URL of a file"),
        (
            copy(json!({ "sources": [{ "text": "https://a/b", "kind": "url" }], "checksum": "sha256:1" })),
            "`sha256:1` is not the checksum of a file",
        ),
        (git("--upload-pack=x", ""), "is not the address of a repository"),
        (git("ext::sh -c x", ""), "is not the address of a repository"),
        (git("file:///x", ""), "is not the address of a repository"),
        (git("-o@x:y", ""), "is not the address of a repository"),
        (git("https://a/b.git", "--output=x"), "is not a branch, tag or commit"),
        (run(json!({ "argv": [] })), "the command is empty"),
        (run(json!({ "argv": ["a\u{0}"] })), "a word of the command has a NUL character"),
        (run(json!({ "cwd": "a" })), "the working directory, `a`, is not absolute"),
        (run(json!({ "env": [["A=B", "c"]] })), "`A=B` is not the name of a variable"),
        (run(json!({ "scripts": [{ "path": "/etc/a", "contents": "" }] })), "is not below `/dev/pipes`"),
        (run(json!({ "network": "wide" })), "unknown variant `wide`"),
        (run(json!({ "hidden_env": [] })), "unknown field `hidden_env`"),
        (mount(json!({ "tmpfs": { "target": "/", "size": null } })), "a mount cannot replace the root"),
        (mount(json!({ "tmpfs": { "target": "/a/..", "size": null } })), "is not absolute and clean"),
        (
            mount(json!({ "bind": { "target": "/a", "from": "context", "source": "../x", "writable": false } })),
            "the source of a mount, `../x`,",
        ),
        (
            mount(json!({ "bind": { "target": "/a", "from": { "stage": 3 }, "source": "/", "writable": false } })),
            "it needs stage 3",
        ),
        (
            mount(json!({ "ssh": { "id": "", "file": file("/a", 0), "required": true } })),
            "the id of an ssh agent is empty",
        ),
        (mount(json!({ "ssh": { "id": "a", "file": file("/a", 0o10000), "required": true } })), "10000 is not a mode"),
        (plan(json!({ "workdir": { "path": "w" } })), "the directory, `w`, is not absolute"),
        (plan(json!({ "workdir": { "path": "/w", "mode": 1 } })), "unknown field `mode`"),
        (plan(json!("run")), "invalid type"),
        (plan(json!({ "run": {}, "copy": {} })), "missing field"),
    ];
    for (text, expected) in table {
        let error = refusal(text.to_string().as_bytes());
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn error_names_the_stage_and_the_step() {
    let error = refusal(run(json!({ "argv": [] })).to_string().as_bytes());
    assert_eq!(error, "stage 0 (`a`), step 1 (`the step`): the command is empty");
}

#[test]
fn stages_that_are_not_there_are_refused() {
    let base = |base: Value| {
        let mut plan = plan(json!("config_only"));
        plan["stages"][0]["base"] = base;
        plan
    };
    let target = |target: usize| {
        let mut plan = plan(json!("config_only"));
        plan["target"] = json!(target);
        plan
    };
    let mut layers = plan(json!("config_only"));
    layers["stages"][0]["config"]["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
    let mut span = plan(json!("config_only"));
    span["stages"][0]["steps"][0]["origin"] = json!({ "dockerfile": { "line": 1, "span": { "start": 2, "end": 1 } } });
    let table = [
        (base(json!({ "stage": 0 })), "it needs stage 0, which is not an earlier one"),
        (base(json!({ "stage": 7 })), "it needs stage 7, which is not an earlier one"),
        (base(json!({ "external": "" })), "the name of the base image is empty"),
        (target(1), "the target is stage 1, and the number of stages is 1"),
        (layers, "the config of a plan has no diff IDs"),
        (span, "a byte range ends before it starts"),
    ];
    for (text, expected) in table {
        let error = refusal(text.to_string().as_bytes());
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn too_many_steps_are_refused() {
    let mut plan = plan(json!("config_only"));
    let step = json!({ "text": "", "origin": { "generated": { "by": "" } }, "op": "config_only" });
    plan["stages"][0]["steps"] = Value::Array(vec![step; dram_plan::MAX_PLAN_STEPS]);
    assert!(refusal(plan.to_string().as_bytes()).contains("more than 200000 stages and steps"));
}

#[test]
fn seeds_keep_the_invariants() {
    let seeds = include_str!("../../../fuzz/seeds/plan.txt");
    assert!(seeds.lines().filter(|seed| Plan::from_json(seed.as_bytes()).is_ok()).count() == 2);
    seeds.lines().for_each(|seed| checks::plan(seed.as_bytes()));
}
