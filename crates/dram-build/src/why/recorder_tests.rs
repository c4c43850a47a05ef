//! Tests of the build journal: the causes of cache misses between two builds, and what is recorded.

use std::sync::Mutex;

use crate::testing::{MemoryImage, TestBuild, TestHouse, build_id};
use crate::why::{BuildJournal, StepOutcome};

/// Builds `text`, and returns each executed step with the causes of its cache miss.
fn causes(build: &TestBuild<'_>) -> Vec<String> {
    let _ = build.run();
    let steps = journal(build.house()).stages.into_iter().filter(|stage| stage.in_last_build);
    let steps = steps.flat_map(|stage| stage.steps).filter(|step| step.outcome == StepOutcome::Executed);
    steps.map(|step| format!("{}: {}", step.text, step.why)).collect()
}

fn journal(house: &TestHouse) -> BuildJournal {
    BuildJournal::read(house.store.build_history(), &build_id().key()).unwrap()
}

fn causes_of(house: &TestHouse, text: &str) -> Vec<String> {
    causes(&TestBuild::new(house, text))
}

#[test]
fn first_build_of_a_step_is_its_own_cause() {
    let house = TestHouse::new();
    assert_eq!(causes_of(&house, "FROM scratch\nRUN write a 1\n"), ["RUN write a 1: first build of this step"]);
}

#[test]
fn changed_command_is_the_cause_and_later_steps_name_the_step() {
    let house = TestHouse::new();
    causes_of(&house, "FROM scratch\nRUN write a 1\nRUN write b 1\n");
    let now = causes_of(&house, "FROM scratch\nRUN write a 2\nRUN write b 1\n");
    let expected = ["RUN write a 2: the command changed", "RUN write b 1: an earlier step changed: [stage-0 1/2]"];
    assert_eq!(now, expected);
}

#[test]
fn changed_variable_is_named_with_both_values() {
    let house = TestHouse::new();
    let text = |value: &str| format!("FROM scratch\nENV VERSION={value}\nRUN write a 1\n");
    causes_of(&house, &text("1.0"));
    assert_eq!(causes_of(&house, &text("1.1")), ["RUN write a 1: ENV VERSION 1.0 → 1.1"]);
}

#[test]
fn value_of_a_secret_variable_is_nowhere_in_the_journal() {
    let house = TestHouse::new();
    let text = |value: &str| format!("FROM scratch\nENV API_TOKEN={value} PLACE=/x/{value}\nRUN write a {value}\n");
    causes_of(&house, &text("hunter2first"));
    let now = causes_of(&house, &text("hunter2second"));
    assert_eq!(now.len(), 1);
    assert!(now[0].contains("the command changed"), "{now:?}");
    let bytes = house.store.build_history().journal(&build_id().key()).unwrap();
    let stored = String::from_utf8_lossy(&bytes);
    assert!(!stored.contains("API_TOKEN=hunter2"), "{stored}");
    let values = stored.matches("hunter2").count();
    // The command itself is the user's text; no recorded value of a variable holds the secret.
    let commands = stored.matches("write a hunter2").count();
    assert_eq!(values, commands, "{stored}");
}

#[test]
fn changed_file_of_the_build_context_is_named() {
    let house = TestHouse::new();
    house.write("src/a", "1");
    house.write("src/b", "1");
    let text = "FROM scratch\nCOPY src /x/\n";
    causes_of(&house, text);
    house.write("src/b", "22");
    house.write("src/c", "1");
    assert_eq!(causes_of(&house, text), ["COPY src /x/: changed src/b (+1 more)"]);
}

#[test]
fn changed_base_image_is_the_cause_of_the_first_step_over_it() {
    let house = TestHouse::new();
    let build = |content: &str| {
        let image = MemoryImage::new(&[&[("etc/a", content)]]);
        TestBuild::new(&house, "FROM base\nRUN write b 1\n").with_image("base", image.open_complete(&house.store))
    };
    causes(&build("1"));
    assert_eq!(causes(&build("2")), ["RUN write b 1: the base image changed: base"]);
}

#[test]
fn removed_step_and_option_without_cache_are_causes() {
    let house = TestHouse::new();
    causes_of(&house, "FROM scratch\nRUN write a 1\nRUN write b 1\n");
    let now = causes_of(&house, "FROM scratch\nRUN write b 1\n");
    assert_eq!(now, ["RUN write b 1: an earlier step is gone: RUN write a 1"]);
    let now = causes(&TestBuild::new(&house, "FROM scratch\nRUN write b 1\n").without_cache());
    assert_eq!(now, ["RUN write b 1: --no-cache"]);
}

#[test]
fn changed_stage_is_the_cause_of_a_copy_from_it() {
    let house = TestHouse::new();
    let text = |value: &str| format!("FROM scratch AS a\nRUN write f {value}\nFROM scratch\nCOPY --from=a /f /\n");
    causes_of(&house, &text("1"));
    let now = causes_of(&house, &text("2"));
    assert!(now[1].starts_with("COPY --from=a /f /: "), "{now:?}");
    assert!(now[1].contains("changed f") || now[1].contains("[a 1/1]"), "{now:?}");
}

#[test]
fn failed_and_unreached_steps_are_recorded_as_such() {
    let house = TestHouse::new();
    causes_of(&house, "FROM scratch\nRUN write a 1\nRUN fail\nRUN write b 1\n");
    let outcomes = |journal: BuildJournal| journal.stages[0].steps.iter().map(|step| step.outcome).collect::<Vec<_>>();
    let expected = [StepOutcome::Executed, StepOutcome::Failed, StepOutcome::NotReached];
    assert_eq!(outcomes(journal(&house)), expected);
    let text = "FROM scratch\nRUN write a 1\nRUN fail\nRUN write b 1\n";
    let events = Mutex::new(TestBuild::new(&house, text).run().events);
    assert_eq!(events.into_inner().unwrap()[0], "cached RUN write a 1");
    assert_eq!(outcomes(journal(&house))[0], StepOutcome::Cached);
}

#[test]
fn journal_without_resource_usage_is_read_and_unknown_fields_are_skipped() {
    let house = TestHouse::new();
    causes_of(&house, "FROM scratch\nRUN write a 1\n");
    let (history, key) = (house.store.build_history(), build_id().key());
    let bytes = history.journal(&key).unwrap();
    let (head, json) = bytes.split_at(dram_store::JOURNAL_HEAD_SIZE);
    let text = String::from_utf8(json.to_vec()).unwrap();
    let usage = r#""usage":{"user_millis":7,"system_millis":0,"max_rss":1048576},"#;
    assert!(text.contains(usage), "{text}");
    for other in [text.replace(usage, ""), text.replace(usage, r#""later":[1],"#)] {
        history.put_journal(&key, &[head, other.as_bytes()].concat(), &[].into()).unwrap();
        assert_eq!(journal(&house).stages[0].steps[0].usage, None);
    }
}
