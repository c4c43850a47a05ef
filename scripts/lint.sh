#!/usr/bin/env bash
# Formatting, lints and shell scripts; `make lint` calls it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install-needs.sh lint
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
mapfile -t scripts < <(git ls-files '*.sh' .ci/run ':!tests/parity/*/prepare.sh')
shellcheck "${scripts[@]}"
mapfile -t scripts < <(git ls-files 'tests/parity/*/prepare.sh')
shellcheck --shell=sh "${scripts[@]}"
