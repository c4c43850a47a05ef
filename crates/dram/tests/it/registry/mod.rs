//! Registries for tests on the loopback interface (Debian's docker-registry, and a fake one that injects faults), and
//! tests of dram with each.

mod auth;
mod client;
pub(crate) mod debian;
pub(crate) mod fake;
mod fixtures;
mod http;
mod interop;
mod interrupts;
mod memory_registry;
mod pulls;
mod pushes;
mod scenario;
