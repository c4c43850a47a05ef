//! Another node, without an emulator of our own: who it is, how to meet it, how to call it.

pub mod address;
pub mod handshake;
mod md5;
pub mod session;
