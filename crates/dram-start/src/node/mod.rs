//! A client of the Erlang distribution protocol, without an emulator: address, handshake, calls.

pub mod address;
pub mod cookie;
pub mod handshake;
pub mod input;
mod md5;
pub mod session;
