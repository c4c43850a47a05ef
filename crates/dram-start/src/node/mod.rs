//! A client of the Erlang distribution protocol, without an emulator: address, handshake, calls.

pub mod address;
pub mod handshake;
mod md5;
pub mod session;
