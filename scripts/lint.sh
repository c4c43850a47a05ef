#!/usr/bin/env bash
# Formatting, lints, shell scripts and licences; `make lint` calls it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install-needs.sh lint
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
# Three packages are no members of the workspace: the start program and the helper of jails are built without a standard
# library, the fuzz targets with instrumentation. None is checked by the line above, and a renamed type breaks all.
for program in crates/dram-start/program crates/dram-sandbox/helper; do
  cargo fmt --check --manifest-path "$program/Cargo.toml"
  cargo clippy --release --locked --manifest-path "$program/Cargo.toml" --target-dir target/start-program -- -D warnings
done
cargo fmt --check --manifest-path fuzz/Cargo.toml
cargo clippy --locked --bins --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings
# Advisories are not checked here: they need a database from the network, and change while the sources do not.
cargo deny --locked check licenses bans sources
scripts/third-party-licenses.py --check
mapfile -t scripts < <(git ls-files '*.sh' .ci/run ':!tests/parity/*/prepare.sh')
shellcheck "${scripts[@]}"
mapfile -t scripts < <(git ls-files 'tests/parity/*/prepare.sh')
shellcheck --shell=sh "${scripts[@]}"
