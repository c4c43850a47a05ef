//! What is told to end while it waits for a registry.

use std::time::{Duration, Instant};

use super::fake::{Auth, Fake, Fault, On, What};
use super::http::Way;
use super::row::{damaged, offer, stocked};
use crate::support::{Store, until};

#[test]
fn an_interrupted_pull_ends_soon_and_the_next_one_goes_on() {
    let fake = stocked(Auth::Everybody, []);
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        let store = Store::empty();
        fake.now([Fault::always(On::Blob, What::Comes(Way::Stall(Duration::from_secs(600)))).at(&offer().large)]);
        fake.seen();
        let pull = store.dram(["pull", &fake.name("x:1")]).start();
        let mut seen = Vec::new();
        until("the blob is asked for", Duration::from_secs(20), || {
            seen.extend(fake.seen());
            seen.iter().any(|seen| seen.path.contains(&offer().large))
        });
        let asked = Instant::now();
        pull.signal(signal);
        let done = pull.end();
        assert!(asked.elapsed() < Duration::from_secs(10), "{signal}: {:?}", asked.elapsed());
        assert_eq!(done.code, if signal == "KILL" { 137 } else { 130 }, "{done}");
        assert_eq!(damaged(&store), Vec::<String>::new(), "{signal}");
        fake.now([]);
        store.dram(["pull", &fake.name("x:1")]).ok();
        assert_eq!(damaged(&store), Vec::<String>::new(), "{signal}");
    }
}

#[test]
fn an_interrupted_push_ends_soon() {
    let store = Store::empty();
    let fake = Fake::new([Fault::always(On::Start, What::Comes(Way::SlowHeader))]);
    let name = fake.name("x:1");
    store.dram(["load", "-t", &name]).arg(&offer().archive).ok();
    let push = store.dram(["push", &name]).start();
    let mut seen = Vec::new();
    until("an upload begins", Duration::from_secs(20), || {
        seen.extend(fake.seen());
        seen.iter().any(|seen| seen.method == "POST")
    });
    let asked = Instant::now();
    push.signal("INT");
    let done = push.end();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(done.code, 130, "{done}");
    assert_eq!(damaged(&store), Vec::<String>::new());
    fake.now([]);
    store.dram(["push", &name]).ok();
    assert_eq!(fake.tag("x", "1"), Some(offer().digest.clone()));
}
