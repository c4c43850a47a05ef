#!/usr/bin/env bash
# Formatting, lints and shell scripts; `make lint` calls it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install-needs.sh lint
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
# Two packages are no members of the workspace: the start program is built without a standard library, the fuzz
# targets with instrumentation. Neither is compiled by the line above, and a renamed type breaks both.
program=crates/dram-start/program
cargo fmt --check --manifest-path "$program/Cargo.toml"
cargo clippy --release --locked --manifest-path "$program/Cargo.toml" --target-dir target/start-program -- -D warnings
cargo fmt --check --manifest-path fuzz/Cargo.toml
cargo clippy --locked --bins --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings
mapfile -t scripts < <(git ls-files '*.sh' .ci/run ':!tests/parity/*/prepare.sh')
shellcheck "${scripts[@]}"
mapfile -t scripts < <(git ls-files 'tests/parity/*/prepare.sh')
shellcheck --shell=sh "${scripts[@]}"
