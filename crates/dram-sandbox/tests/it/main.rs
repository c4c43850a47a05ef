//! Tests of the jail. They need root, busybox-static and uidmap.
#![allow(clippy::unwrap_used)]

mod binds;
mod fixture;
mod hostile;
mod insecure;
mod isolation;
mod layer;
mod lifetime;
mod limits;
mod mounts;
mod rootless;
mod starting;
mod terminal;
