//! Tests of the start program: its arguments are those of the real `erlexec`, and a release runs with it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests start programs and write files")]
#![allow(clippy::unwrap_used, reason = "what helps a test may fail like one")]

mod as_mix;
mod config_copy;
mod env_sh;
mod erlexec;
mod hidden_cookie;
#[path = "../../program/recipe.rs"]
mod recipe;
mod release;
mod running;
mod shared_tmp;
mod stop_hooks;
mod test_release;
mod tls;
mod upgrade;
mod working_directory;
