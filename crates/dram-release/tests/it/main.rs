//! Compatibility tests: the output is identical to that of Erlang, Mix and relx.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests start the peers and write files")]
#![allow(clippy::unwrap_used, reason = "what helps a test may fail like one")]

mod apps;
mod appups;
mod attributes;
mod beams;
mod boot;
mod fixtures;
mod graphs;
mod limits;
mod mix;
mod peer;
mod refusals;
mod relup;
mod term_rng;
mod terms;
