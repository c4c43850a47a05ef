#![cfg_attr(not(test), no_std)]
//! The logic of a release's start program, without effects. The program in `program/` does the input and output.
//!
//! # The program
//! `bin/NAME` of every release is one small static program. It needs no shell, no C library, no `/proc` and no `/etc`,
//! and runs the same on a read-only root. It finds the release by its own path, reads `releases/VSN/start.conf`
//! ([`start_conf::StartConf`] lists the keys), and runs a command ([`command::usage`] lists them).
//!
//! - A *start* (`foreground`, `console`, `daemon`; Mix's `start` and `start_iex`) computes the emulator's arguments as
//!   `erlexec` does and executes `beam.smp` in its place. As process 1 it stays, forwards signals, reaps orphans, and
//!   exits with the emulator's code, or 128 and the signal's number.
//! - A *call* (`rpc`, `ping`, `pid`, `stop`, …) speaks the distribution protocol itself and takes some milliseconds.
//!   Without a node name, `ping`, `pid` and `stop` use `RELEASE_TMP/NAME.state`, whose lock the emulator holds.
//! - A *helper* (`eval`, `remote_console`, `escript`, `console_clean`) is another emulator, without the release's node
//!   name.
//!
//! Distribution is off unless the settings, the environment, `vm.args` or `--sname` and `--name` request it. If no
//! cookie is set then, one is generated in `RELEASE_TMP/NAME.cookie`, readable by this user only. The first of these
//! cookies is used: `RELEASE_COOKIE`, `-setcookie` in `vm.args`, `releases/COOKIE`, the generated one.
//!
//! # Files of the release
//! `releases/start_erl.data`; in `releases/VSN`: `start.conf`, `start.boot`, `start_clean.boot`, `sys.config`,
//! `vm.args`, `remote.vm.args`, `env.sh`. If `sys.config` or `vm.args` is missing, `sys.config.src` or `vm.args.src` is
//! used, with variables replaced. `env.sh` and the hooks of a start are sourced by `/bin/sh`, which exports their
//! variables and executes the program again; an `env.sh` that only assigns variables needs no shell ([`env_script`]).
//!
//! # Environment
//! As in Mix: `RELEASE_NAME`, `RELEASE_VSN`, `RELEASE_PROG`, `RELEASE_COOKIE`, `RELEASE_NODE`, `RELEASE_SYS_CONFIG`,
//! `RELEASE_VM_ARGS`, `RELEASE_REMOTE_VM_ARGS`, `RELEASE_TMP`, `RELEASE_MODE`, `RELEASE_DISTRIBUTION`,
//! `RELEASE_BOOT_SCRIPT`, `RELEASE_BOOT_SCRIPT_CLEAN`, `ELIXIR_ERL_OPTIONS`; also set for child processes are
//! `RELEASE_ROOT`, `RELEASE_COMMAND` and, in hooks and commands, `RELEASE_PROGRAM`, the path of this program. As in
//! Distillery: `RELEASE_MUTABLE_DIR`, `RELEASE_READ_ONLY`, `RELEASE_CONFIG_DIR`, `VMARGS_PATH`, `SYS_CONFIG_PATH`,
//! `REPLACE_OS_VARS`, `COOKIE`, `NAME` (with `NAME_TYPE`, or with an `@`), `ERL_OPTS`, `EXTRA_OPTS`, `PIPE_DIR`,
//! `RUNNER_LOG_DIR`, `CODE_LOADING_MODE`, `PIDFILE`, `VERBOSE`, `DEBUG_BOOT`. As in relx: `RELX_REPLACE_OS_VARS`,
//! `RELX_COOKIE`. As in `erlexec`: `ERL_AFLAGS`, `ERL_FLAGS`, `ERL_ZFLAGS`, `ERL_EPMD_PORT`, `ESCRIPT_NAME`.

extern crate alloc;

pub mod byte_string;
pub mod command;
mod emulator_flags;
pub mod env_script;
pub mod environment;
pub mod erlexec;
pub mod error;
pub mod launch;
pub mod named_release;
pub mod node;
pub mod open_file_limit;
pub mod release;
pub mod start_conf;
pub mod state_file;
pub mod term;
pub mod trampoline;
pub mod variables;
