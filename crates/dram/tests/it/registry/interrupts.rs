//! Interrupts during transfers with a registry.

use std::time::{Duration, Instant};

use super::fake::{FakeAuth, FakeRegistry, Fault, FaultPoint, Misbehaviour};
use super::http::Delivery;
use super::scenario::{registry_with_image, store_problems, test_image};
use crate::support::{Store, wait_until};

#[test]
fn an_interrupted_pull_ends_quickly_and_can_be_repeated() {
    let fake = registry_with_image(FakeAuth::Everybody, []);
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        let store = Store::empty();
        fake.set_faults([Fault::always(
            FaultPoint::Blob,
            Misbehaviour::Delivered(Delivery::Stall(Duration::from_secs(600))),
        )
        .at(&test_image().large)]);
        fake.take_requests();
        let pull = store.dram(["pull", &fake.name("x:1")]).start();
        let mut seen = Vec::new();
        wait_until("the blob is asked for", Duration::from_secs(20), || {
            seen.extend(fake.take_requests());
            seen.iter().any(|seen| seen.path.contains(&test_image().large))
        });
        let asked = Instant::now();
        pull.signal(signal);
        let done = pull.end();
        assert!(asked.elapsed() < Duration::from_secs(10), "{signal}: {:?}", asked.elapsed());
        assert_eq!(done.code, if signal == "KILL" { 137 } else { 130 }, "{done}");
        assert_eq!(store_problems(&store), Vec::<String>::new(), "{signal}");
        fake.set_faults([]);
        store.dram(["pull", &fake.name("x:1")]).ok();
        assert_eq!(store_problems(&store), Vec::<String>::new(), "{signal}");
    }
}

#[test]
fn an_interrupted_push_ends_quickly_and_can_be_repeated() {
    let store = Store::empty();
    let fake =
        FakeRegistry::new([Fault::always(FaultPoint::StartUpload, Misbehaviour::Delivered(Delivery::SlowHeader))]);
    let name = fake.name("x:1");
    store.dram(["load", "-t", &name]).arg(&test_image().archive).ok();
    let push = store.dram(["push", &name]).start();
    let mut seen = Vec::new();
    wait_until("an upload begins", Duration::from_secs(20), || {
        seen.extend(fake.take_requests());
        seen.iter().any(|seen| seen.method == "POST")
    });
    let asked = Instant::now();
    push.signal("INT");
    let done = push.end();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(done.code, 130, "{done}");
    assert_eq!(store_problems(&store), Vec::<String>::new());
    fake.set_faults([]);
    store.dram(["push", &name]).ok();
    assert_eq!(fake.tag("x", "1"), Some(test_image().digest.clone()));
}
