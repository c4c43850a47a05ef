//! A compiled Mix or rebar3 project becomes a release on disk: a tree and a `.tar.gz`.
//!
//! This room finds the project, asks its own tools what they alone know (`mix.exs` is a program), and writes what
//! `dram-release` works out. It reads and writes files, starts threads, and starts the project's tools.

mod start_program;
