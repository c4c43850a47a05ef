#!/usr/bin/env bash
# Every test of the workspace; `make test` calls it. Arguments go to `cargo test`.
#
#   DEMO_BASES  where the tests find elixir-1.14.tar and demo-base.tar;
#               made in .demo/bases when not given
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scripts/install-needs.sh test
if [ -z "${DEMO_BASES:-}" ]; then
  export DEMO_BASES=$root/.demo/bases
  scripts/make-bases.sh "$DEMO_BASES"
fi
cargo test --workspace --locked "$@"
