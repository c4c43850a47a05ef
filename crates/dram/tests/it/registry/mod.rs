//! Registries for tests, on loopback: Debian's, which does as the specification says, and one that does what it is told
//! to do wrong. And what dram does with each.

mod client;
pub(crate) mod debian;
pub(crate) mod fake;
mod fixtures;
mod http;
mod peers;
mod pulls;
mod pushes;
mod rights;
mod row;
mod serve;
mod stops;
