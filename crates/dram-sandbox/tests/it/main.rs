//! What a jail promises. Needs root, busybox-static and uidmap.
#![allow(clippy::unwrap_used)]

mod death;
mod house;
mod isolation;
mod layer;
mod rootless;
mod starting;
mod terminal;
