//! `dram build --check` and `--call`: checks, outlines and targets of a Dockerfile without building it.

use serde_json::Value;

use crate::support::{CommandOutput, Context, Store};

/// Runs `dram build` with `options` in the context's directory, with a store that has a base image, and asserts that it
/// builds no image.
fn run_check(context: &Context, options: &[&str]) -> CommandOutput {
    let store = Store::with_base();
    let done = store.dram(["build"]).args(options).arg(".").dir(context.path()).end();
    assert_eq!(store.dram(["images", "--json"]).ok().stdout, Store::with_base().dram(["images", "--json"]).ok().stdout);
    done
}

fn json(done: &CommandOutput) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}\n{done}"))
}

#[test]
fn a_clean_dockerfile_has_no_warnings() {
    let context = Context::new("FROM parity-base:1 AS base\nRUN true\nFROM base\nCMD [\"true\"]\n");
    let done = run_check(&context, &["--check"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "check complete: no warnings found\n", ""));
    assert_eq!(json(&run_check(&context, &["--check", "--json"]))["warnings"], Value::Array(Vec::new()));
}

#[test]
fn warnings_show_their_location_and_exit_with_1() {
    let context =
        Context::new("FROM parity-base AS Build\nRUN exit 1\nCOPY a$B notes/x /c/\n").file(".dockerignore", "notes\n");
    let done = run_check(&context, &["--check"]);
    assert_eq!(done.code, 1, "{done}");
    let expected = "\
advice[BaseImageLatest]: `parity-base` has no version
 --> ./Dockerfile:1:6
  |
1 | FROM parity-base AS Build
  |      ^^^^^^^^^^^
  |
  = help: write the version that was tested, as in `parity-base:VERSION`

warning[StageNameCasing]: the stage name `Build` is not lower case
 --> ./Dockerfile:1:21
  |
1 | FROM parity-base AS Build
  |                     ^^^^^
  |
  = help: write `build`

warning[UndefinedVar]: `$B` is not defined here
 --> ./Dockerfile:3:6
  |
3 | COPY a$B notes/x /c/
  |      ^^^

warning[CopyIgnoredFile]: `.dockerignore` leaves `notes/x` out, so there is nothing to copy
 --> ./Dockerfile:3:10
  |
3 | COPY a$B notes/x /c/
  |          ^^^^^^^
  |
  = note: the pattern `notes` on line 1 does
  = help: remove the pattern or the COPY, or bring the file back: `!notes/x` below it

check complete: 3 warnings found, and 1 piece of advice
";
    assert_eq!(done.stdout, expected, "nothing was run or copied, and standard output has it all");
    assert_eq!(done.stderr, "");
    assert_eq!(run_check(&context, &["--call=check,ignorestatus=true"]).code, 0);
}

#[test]
fn json_has_buildkits_fields_and_exact_ranges() {
    let context = Context::new("FROM scratch AS é\nFROM scratch\nENV a=1 \\\n  tökén=ü key=2\n");
    let done = run_check(&context, &["--call=check,format=json"]);
    let all = json(&done);
    assert_eq!(done.code, 1);
    assert_eq!(all["buildError"]["location"]["ranges"][0]["start"]["line"], 1, "{done}");
    assert_eq!(all["errors"][0]["detail"], all["buildError"]["message"]);
    assert_eq!(all["sources"][0]["language"], "Dockerfile");
    assert!(all["sources"][0]["data"].as_str().unwrap().starts_with("RlJPTSBzY3JhdGNo"));
    let warning = &all["warnings"][0];
    assert_eq!(warning["ruleName"], "SecretsUsedInArgOrEnv");
    assert_eq!(warning["url"], "docs/checks.md#secretsusedinargorenv");
    let lines: Vec<&Value> = warning["location"]["ranges"].as_array().unwrap().iter().collect();
    assert_eq!(lines.iter().map(|range| &range["start"]["line"]).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(warning["place"]["start"], serde_json::json!({"line": 3, "character": 0}));
    assert_eq!(warning["place"]["end"], serde_json::json!({"line": 4, "character": 15}));
}

#[test]
fn all_errors_are_reported_at_once_and_exit_with_1() {
    let context = Context::new("FROM scratch AS Bad\nMAINTAINER me\nBADCMD\nCOPY x\n");
    let done = run_check(&context, &["--check"]);
    assert_eq!(done.code, 1, "{done}");
    assert!(done.stdout.ends_with("check complete: 2 errors and 2 warnings found\n"), "{done}");
    let done = run_check(&context, &["--check", "--json"]);
    let all = json(&done);
    assert_eq!(all["errors"].as_array().map(Vec::len), Some(2), "{done}");
    assert_eq!(all["warnings"].as_array().map(Vec::len), Some(2), "{done}");
}

#[test]
fn a_check_directive_turns_warnings_into_errors() {
    let context = Context::new("# check=error=true\nFROM scratch as a\n");
    let done = run_check(&context, &[]);
    assert_eq!(done.code, 2, "{done}");
    assert!(done.stderr.contains("error[FromAsCasing]"), "{done}");
    let all = json(&run_check(&context, &["--check", "--json"]));
    assert_eq!(all["warnings"][0]["ruleName"], "FromAsCasing");
    assert_eq!(all["buildError"]["message"], "`check=error=true` makes errors of FromAsCasing");
    let argument = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"];
    assert_eq!(run_check(&context, &argument).code, 0, "the argument takes the place of the directive");
}

#[test]
fn advice_has_a_level_and_decides_only_on_request() {
    let advice = "FROM parity-base\nENV A=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n";
    let context = Context::new(advice);
    let done = run_check(&context, &["--check"]);
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stdout.starts_with("advice[BaseImageLatest]: "), "{done}");
    assert!(done.stdout.ends_with("check complete: no warnings found, and 2 pieces of advice\n"), "{done}");
    let done = run_check(&context, &["--check", "--json"]);
    let levels: Vec<Value> =
        json(&done)["warnings"].as_array().unwrap().iter().map(|one| one["level"].clone()).collect();
    assert_eq!((done.code, levels), (0, vec!["advice".into(), "advice".into()]));
    for options in [&["--check=advice"][..], &["--call=check,advice"], &["--check=advice", "--json"]] {
        assert_eq!(run_check(&context, options).code, 1, "{options:?}");
    }
    assert_eq!(run_check(&context, &["--check=true"]).code, 0);
    // With error=true the same rules decide, in a check and in a build.
    let strict = Context::new(&format!("# check=error=true\n{advice}"));
    assert_eq!(run_check(&strict, &["--check"]).code, 0);
    let done = run_check(&strict, &["--check=false", "--network=none"]);
    assert!(done.code == 0 && done.stderr.contains("advice[SecretInValue]"), "{done}");
    let both = Context::new(&format!("# check=error=true\n{advice}MAINTAINER me\n"));
    let done = run_check(&both, &["--check", "--json"]);
    assert_eq!(done.code, 1, "{done}");
    assert_eq!(json(&done)["buildError"]["message"], "`check=error=true` makes errors of MaintainerDeprecated");
    let levels: Vec<Value> =
        json(&done)["warnings"].as_array().unwrap().iter().map(|one| one["level"].clone()).collect();
    assert_eq!(levels, ["advice", "advice", "error"]);
    // A build argument that nothing uses is no finding of a rule.
    let unused = Context::new("FROM scratch\nCOPY . /\n");
    assert_eq!(run_check(&unused, &["--check", "--build-arg", "NONE=1"]).code, 0);
}

#[test]
fn a_build_warns_only_of_unused_build_arguments() {
    let context = Context::new("FROM parity-base\nARG VERSION\nRUN apt-get --version || true\n");
    let done = run_check(&context, &["--build-arg", "VERSOIN=1", "--build-arg", "HTTP_PROXY=", "--network=none"]);
    assert_eq!(done.code, 0, "{done}");
    let start = "warning: the build argument `VERSOIN` is not used\n";
    assert!(done.stderr.starts_with(start), "{done}");
    assert_eq!(done.stderr.matches("warning").count(), 1, "{done}");
    assert!(done.stderr.contains("did you mean `VERSION`?"), "{done}");
}

#[test]
fn check_needs_no_base_image_and_knows_the_variables_of_a_local_one() {
    let away = Context::new("FROM example.org/away:1\nCOPY $FROM_AWAY /x\n");
    assert_eq!(run_check(&away, &["--check"]).code, 0, "it may have that variable");
    let here = Context::new("FROM parity-base:latest\n# check=skip=BaseImageLatest\nCOPY $PATH $PAHT /x/\n");
    let all = json(&run_check(&here, &["--check", "--json"]));
    let rules: Vec<&str> =
        all["warnings"].as_array().unwrap().iter().filter_map(|one| one["ruleName"].as_str()).collect();
    assert_eq!(rules, ["BaseImageLatest", "UndefinedVar"], "what a file skips for one instruction is for that one");
}

#[test]
fn check_works_without_a_store_and_creates_none() {
    let context = Context::new("FROM scratch\nCOPY . /\n");
    let empty = crate::support::temp();
    let root = empty.path().join("none");
    let done = crate::support::tool(crate::support::dram_path().to_str().unwrap())
        .arg("--store")
        .arg(&root)
        .args(["build", "--check", "."])
        .dir(context.path())
        .end();
    assert_eq!(done.code, 0, "{done}");
    assert!(!root.exists());
}

#[test]
fn an_outline_lists_arguments_secrets_and_caches_of_a_target() {
    let dockerfile = "\
# TAG is the version of the base
ARG TAG=1
FROM parity-base:${TAG} AS build
ARG MODE
RUN --mount=type=secret,id=key,required --mount=type=cache,target=/c true
# release is what runs
FROM scratch AS release
COPY --from=build /a /a
";
    let context = Context::new(dockerfile);
    let done = run_check(&context, &["--call=outline", "--build-arg", "MODE=fast"]);
    let expected = "\
TARGET:      release
DESCRIPTION: is what runs

BUILD ARG   VALUE   DESCRIPTION
TAG         1       is the version of the base
MODE        fast

SECRET   REQUIRED
key      true

CACHE   MOUNTED AT
/c      /c
";
    assert_eq!((done.code, done.stdout.as_str()), (0, expected), "{done}");
    let all = json(&run_check(&context, &["--call=outline,format=json", "--target=build"]));
    assert_eq!(all["name"], "build");
    assert_eq!(all["args"][0]["description"], "is the version of the base");
    assert_eq!(
        all["secrets"][0],
        serde_json::json!({
            "name": "key", "required": true,
            "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]}
        })
    );
    assert_eq!(all["cache"][0]["ID"], "/c");
}

#[test]
fn targets_are_listed() {
    let context = Context::new("# a makes it\nFROM scratch AS a\nFROM scratch\nFROM a AS b\n");
    let done = run_check(&context, &["--call=targets"]);
    let expected = "\
TARGET        DESCRIPTION
a             makes it
-
b (default)
";
    assert_eq!((done.code, done.stdout.as_str()), (0, expected), "{done}");
    let all = json(&run_check(&context, &["--call=targets", "--json"]));
    assert_eq!(all["targets"][2]["default"], true);
    assert_eq!(all["targets"][2]["base"], "a");
    assert_eq!(run_check(&Context::new("FORM x\n"), &["--call=targets"]).code, 2);
}

#[test]
fn mistyped_calls_and_targets_get_suggestions() {
    let context = Context::new("FROM scratch AS build\n");
    run_check(&context, &["--call=chekc"]).says("did you mean `check`?");
    run_check(&context, &["--json"]).says("add --check");
    let done = run_check(&context, &["--call=outline", "--target=biuld"]);
    assert_eq!(done.code, 2, "{done}");
    assert!(done.stderr.contains("did you mean `build`?"), "{done}");
}
