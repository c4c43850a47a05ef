#!/usr/bin/env bash
# Fuzzes every reader of foreign bytes, each for the given number of seconds.
#
#   fuzz/run.sh [SECONDS [TARGET…]]
#
# Starts from what is in fuzz/seeds, one input in each line, written with escapes; the tests replay these.
# Needs a C++ compiler for libFuzzer. What was learnt stays in fuzz/corpus, what
# crashed in fuzz/artifacts; neither is committed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- dockerfile plan expand ignore tar manifest index config reference elf term etf beam app appup cache credentials challenge

# libFuzzer needs the compiler's coverage counters, which are not a stable option.
export RUSTC_BOOTSTRAP=1
flags='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
flags+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
flags+=' -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1'
host=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
RUSTFLAGS=$flags cargo build --release --target "$host"

for target; do
  mkdir -p "corpus/$target" "artifacts/$target"
  if [ -f "seeds/$target.txt" ]; then
    number=0
    while IFS= read -r line; do
      number=$((number + 1))
      printf '%b' "$line" >"corpus/$target/seed-$number"
    done <"seeds/$target.txt"
  fi
  printf '== %s, %s seconds\n' "$target" "$seconds"
  "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix="artifacts/$target/" "corpus/$target"
done
