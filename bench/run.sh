#!/usr/bin/env bash
# Timings of dram beside `mix release` and `buildah bud --layers`; `make bench`
# calls it. Arguments go to bench.py: `bench/run.sh --runs 3 no-op one-edit`; with
# `release` as the first one, to release.py, and nothing is built; with `moving`, to
# moving.py, which pushes and pulls; with `cache`, to cache.py, which builds with a
# cache in a registry.
#
#   DRAM        the dram to measure; without it, one is built with cargo
#   DEMO_BASES  a directory with the base tarballs, made before
#   TMPDIR      where the stores go; a disk that overlay can work on
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/install-needs.sh" bench
if [ -z "${DRAM:-}" ]; then
  (cd "$root" && cargo build --release --locked -p dram)
  host=$(rustc -vV | sed -n 's/^host: //p')
  DRAM=${CARGO_TARGET_DIR:-$root/target}/$host/release/dram
fi
if [ "${1:-release}" = release ]; then
  python3 "$root/bench/release.py" --dram "$DRAM" "${@:2}"
  [ $# -eq 0 ] || exit 0
fi
if [ "${1:-}" = moving ]; then
  "$root/scripts/install-needs.sh" test
  exec python3 -B "$root/bench/moving.py" --dram "$DRAM" "${@:2}"
fi
if [ -z "${DEMO_BASES:-}" ]; then
  DEMO_BASES=$root/.demo/bases
  "$root/scripts/make-bases.sh" "$DEMO_BASES"
fi
if [ "${1:-}" = cache ]; then
  "$root/scripts/install-needs.sh" test
  exec python3 -B "$root/bench/cache.py" --dram "$DRAM" --bases "$DEMO_BASES" "${@:2}"
fi
exec python3 "$root/bench/bench.py" --dram "$DRAM" --bases "$DEMO_BASES" "$@"
