#![cfg_attr(not(test), no_std)]
//! What a release's start program decides. The program itself, in `program/`, only acts.
//!
//! # The program
//! `bin/NAME` of every release is one small static program. It needs no shell, no C library, no `/proc` and no `/etc`,
//! and runs the same on a read-only root. It finds the release beside itself, reads `releases/VSN/start.conf`
//! ([`conf::Conf`] lists the keys), and obeys a command ([`command::usage`] lists them).
//!
//! - A *start* (`foreground`, `console`, `daemon`; Mix's `start` and `start_iex`) works out the emulator's arguments as
//!   `erlexec` does and executes `beam.smp` in its place. As process 1 it stays, hands signals on, waits for orphans,
//!   and ends with the emulator's code, or 128 and the signal's number.
//! - A *call* (`rpc`, `ping`, `pid`, `stop`, …) speaks the distribution protocol itself and takes some milliseconds.
//!   Without a node name, `ping`, `pid` and `stop` go by `RELEASE_TMP/NAME.state`, whose lock the emulator holds.
//! - A *helper* (`eval`, `remote_console`, `escript`, `console_clean`) is another emulator, without the system's name.
//!
//! Distribution is off until the settings, the environment, `vm.args` or `--sname` and `--name` ask for it. If then no
//! cookie is set, one is made in `RELEASE_TMP/NAME.cookie`, for this user only. The first of these that is there counts:
//! `RELEASE_COOKIE`, `-setcookie` in `vm.args`, `releases/COOKIE`, the one that was made.
//!
//! # Files of the release
//! `releases/start_erl.data`; in `releases/VSN`: `start.conf`, `start.boot`, `start_clean.boot`, `sys.config`, `vm.args`,
//! `remote.vm.args`, `env.sh`. `sys.config.src` and `vm.args.src` stand in for files that are not there, with variables
//! replaced. `env.sh` and the hooks of a start are read by `/bin/sh`, which exports what they set and calls the program
//! again; an `env.sh` that only gives values to variables needs no shell ([`assign`]).
//!
//! # Environment
//! As in Mix: `RELEASE_NAME`, `RELEASE_VSN`, `RELEASE_PROG`, `RELEASE_COOKIE`, `RELEASE_NODE`, `RELEASE_SYS_CONFIG`,
//! `RELEASE_VM_ARGS`, `RELEASE_REMOTE_VM_ARGS`, `RELEASE_TMP`, `RELEASE_MODE`, `RELEASE_DISTRIBUTION`,
//! `RELEASE_BOOT_SCRIPT`, `RELEASE_BOOT_SCRIPT_CLEAN`, `ELIXIR_ERL_OPTIONS`; set for others are also `RELEASE_ROOT`,
//! `RELEASE_COMMAND` and, in hooks and commands, `RELEASE_PROGRAM`, the program to call.
//! As in Distillery: `RELEASE_MUTABLE_DIR`, `RELEASE_READ_ONLY`, `RELEASE_CONFIG_DIR`, `VMARGS_PATH`, `SYS_CONFIG_PATH`,
//! `REPLACE_OS_VARS`, `COOKIE`, `NAME` (with `NAME_TYPE`, or with an `@`), `ERL_OPTS`, `EXTRA_OPTS`, `PIPE_DIR`,
//! `RUNNER_LOG_DIR`, `CODE_LOADING_MODE`, `PIDFILE`, `VERBOSE`, `DEBUG_BOOT`. As in relx: `RELX_REPLACE_OS_VARS`,
//! `RELX_COOKIE`. As in `erlexec`: `ERL_AFLAGS`, `ERL_FLAGS`, `ERL_ZFLAGS`, `ERL_EPMD_PORT`, `ESCRIPT_NAME`.

extern crate alloc;

pub mod assign;
pub mod bytes;
pub mod command;
pub mod conf;
pub mod environment;
pub mod erlexec;
pub mod fault;
pub mod launch;
pub mod limits;
pub mod node;
mod plus;
pub mod release;
pub mod shim;
pub mod state;
pub mod term;
pub mod variables;
