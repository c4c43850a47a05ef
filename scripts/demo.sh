#!/usr/bin/env bash
# The whole story of dram with the demo application; `make demo` calls it.
#
# Two base images made from Debian packages, a two-stage and a single-stage
# build, their sizes, the page it serves, and how it stops. It fails when
# anything is not as it should be.
#
#   DRAM        the dram to use; without it, one is built with cargo
#   DRAM_STORE  the store to use; .demo/store by default
#   DEMO_BASES  a directory with the base tarballs, made before; nothing is
#               installed then, and root is not needed
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$root/.demo
scratch=$(mktemp -d)
mkdir -p "$work" 2>/dev/null || true
[ -w "$work" ] || work=$scratch
export DRAM_STORE=${DRAM_STORE:-$work/store}
running=

clean_up() {
  if [ -n "$running" ]; then
    kill -KILL "$running" 2>/dev/null || true
  fi
  # A store of an unprivileged user holds files of that user's other ids.
  rm -rf "$scratch" 2>/dev/null || unshare --map-root-user --map-auto rm -rf "$scratch" || true
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
headline() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
shown() {
  printf '$ %s\n' "$*"
  "$@"
}
fail() {
  printf '\ndemo: %s\n' "$*" >&2
  exit 1
}

if [ -z "${DEMO_BASES:-}" ]; then
  headline "What this machine lacks"
  "$root/scripts/install-needs.sh" demo
  echo "nothing any more"
fi

headline "dram"
if [ -z "${DRAM:-}" ]; then
  (cd "$root" && cargo build --release --locked -p dram)
  host=$(rustc -vV | sed -n 's/^host: //p')
  DRAM=${CARGO_TARGET_DIR:-$root/target}/$host/release/dram
fi
[ -x "$DRAM" ] || fail "no dram at $DRAM"
# Found by its name from here on, so that what is printed can be typed.
ln -s "$(realpath "$DRAM")" "$scratch/dram"
PATH=$scratch:$PATH
printf 'one static binary of %s KB, no daemon; the store is %s\n' \
  "$(($(stat -Lc %s "$scratch/dram") / 1024))" "$DRAM_STORE"

headline "The base images"
if [ -z "${DEMO_BASES:-}" ]; then
  DEMO_BASES=$work/bases
  "$root/scripts/make-bases.sh" "$DEMO_BASES"
fi
# import TARBALL NAME: unless this store has that very tarball already.
import() {
  local tarball=$DEMO_BASES/$1 note=$work/imported-$1 now
  [ -f "$tarball" ] || fail "no $tarball; scripts/make-bases.sh makes it"
  now="$DRAM_STORE $(stat -Lc '%s %Y' "$tarball")"
  if [ "$(cat "$note" 2>/dev/null)" = "$now" ] && dram inspect "$2" >/dev/null 2>&1; then
    echo "$2 is in the store already"
  else
    shown dram import "$tarball" "$2"
    printf '%s\n' "$now" >"$note"
  fi
}
import elixir-1.14.tar elixir:1.14
import demo-base.tar demo-base:bookworm

headline "Two stages: built with Elixir, run without"
cat "$root/examples/demo/Dockerfile"
echo
began=$(date +%s%N)
shown dram build -t demo:two-stage "$root/examples/demo"
printf 'built in %s ms\n' "$((($(date +%s%N) - began) / 1000000))"

headline "One stage, to compare"
shown dram build -t demo:single-stage -f "$root/examples/demo/Dockerfile.single" "$root/examples/demo"

headline "The sizes"
shown dram images | tee "$scratch/images"
for tag in two-stage single-stage; do
  grep -q "demo.*$tag" "$scratch/images" || fail "demo:$tag is not listed"
done

headline "The base of the small image has no Erlang"
# shellcheck disable=SC2016 # for the shell inside
look='for program in erl erlc elixir mix epmd; do command -v "$program"; done
find / \( -path /proc -o -path /sys -o -path /dev \) -prune -o \( -name "beam*" -o -name "*.beam" -o -name "*erlang*" \) -print
echo "looked everywhere"'
shown dram run demo-base:bookworm sh -c "$look" | tee "$scratch/look"
[ "$(tail -n 1 "$scratch/look")" = "looked everywhere" ] || fail "could not look into demo-base:bookworm"
[ "$(grep -vc '^\$ \|^find \|^echo ' "$scratch/look")" -eq 1 ] ||
  fail "there is Erlang in demo-base:bookworm"
echo "and found none"

headline "It runs"
# Port 0: any free one; the application says which.
printf '$ dram run -e PORT=0 demo:two-stage &\n'
dram run -e PORT=0 demo:two-stage >"$scratch/log" 2>&1 </dev/null &
running=$!
for _ in $(seq 300); do
  grep -q READY "$scratch/log" && break
  kill -0 "$running" 2>/dev/null || break
  sleep 0.1
done
cat "$scratch/log"
port=$(sed -n 's/^READY .*:\([0-9][0-9]*\)[^0-9]*$/\1/p' "$scratch/log")
[ -n "$port" ] || fail "it did not print READY"

headline "It serves its page"
shown curl -sS --noproxy '*' --fail --max-time 10 "http://127.0.0.1:$port/" | tee "$scratch/page"
grep -q '<code>[0-9a-f]\{64\}</code>' "$scratch/page" || fail "the page has no hash made by crypto"

headline "It stops on SIGTERM"
printf '$ kill -TERM %s\n' "$running"
kill -TERM "$running"
code=0
wait "$running" || code=$?
running=
grep SIGTERM "$scratch/log" || true
echo "exit code $code"
[ "$code" -eq 0 ] || fail "it should stop with exit code 0"

headline "All as it should be"
