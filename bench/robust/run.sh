#!/usr/bin/env bash
# What kills, crowds, full disks, power cuts and limits leave; as root. Arguments go to robust.py:
# `bench/robust/run.sh --rounds 10 "kill -9 of pull" crowd`.
#
#   DRAM    the dram to try; without it, one is built with cargo
#   TMPDIR  where the stores go; a disk that overlay can work on
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
"$root/scripts/install-needs.sh" test
if [ -z "${DRAM:-}" ]; then
  (cd "$root" && cargo build --release --locked -p dram)
  host=$(rustc -vV | sed -n 's/^host: //p')
  DRAM=${CARGO_TARGET_DIR:-$root/target}/$host/release/dram
fi
exec python3 -B "$root/bench/robust/robust.py" --dram "$DRAM" "$@"
