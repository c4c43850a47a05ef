//! Tests of the jail. They need root, busybox-static and uidmap.
#![allow(clippy::unwrap_used)]

mod binds;
mod death;
mod hostile;
mod house;
mod insecure;
mod isolation;
mod layer;
mod limits;
mod mounts;
mod rootless;
mod starting;
mod terminal;
