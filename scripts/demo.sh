#!/usr/bin/env bash
# The whole story of dram with the demo application; `make demo` calls it.
#
# A release assembled here and started where there is no Erlang; two base
# images made from Debian packages; the application built in two stages with
# `dram release`, in two with `mix release`, and in one; their sizes, the page
# they serve, and how they stop. It fails when anything is not as it should be.
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

# see_it_run IMAGE [ARGUMENT…]: starts it, requests its page, stops it.
see_it_run() {
  local port code=0
  # Port 0: any free one; the application says which.
  printf '$ dram run -e PORT=0 %s &\n' "$*"
  # What the one before said would else be there until the new process has opened the file.
  : >"$scratch/log"
  dram run -e PORT=0 "$@" >"$scratch/log" 2>&1 </dev/null &
  running=$!
  for _ in $(seq 300); do
    grep -q READY "$scratch/log" && break
    kill -0 "$running" 2>/dev/null || break
    sleep 0.1
  done
  cat "$scratch/log"
  port=$(sed -n 's/^READY .*:\([0-9][0-9]*\)[^0-9]*$/\1/p' "$scratch/log")
  [ -n "$port" ] || fail "it did not print READY"
  shown curl -sS --noproxy '*' --fail --max-time 10 "http://127.0.0.1:$port/" | tee "$scratch/page"
  grep -q '<code>[0-9a-f]\{64\}</code>' "$scratch/page" || fail "the page has no hash made by crypto"
  printf '$ kill -TERM %s\n' "$running"
  kill -TERM "$running"
  wait "$running" || code=$?
  running=
  grep SIGTERM "$scratch/log" || true
  echo "exit code $code"
  [ "$code" -eq 0 ] || fail "it should stop with exit code 0"
}

headline "A release: everything that the application needs, in one directory"
mkdir "$scratch/examples" "$scratch/tool"
cp -r "$root/examples/demo" "$scratch/examples/demo"
(cd "$scratch" && shown dram release examples/demo) | tee "$scratch/release"
release=$scratch/examples/demo/_build/prod/rel/demo
grep -qF "$release/bin/demo foreground" "$scratch/release" || fail "it does not say how to start it"
[ -s "$(dirname "$release")/demo-0.1.0.tar.gz" ] || fail "there is no archive"

headline "It runs where there is no Erlang"
see_it_run -v "$release:/opt/demo:ro" demo-base:bookworm /opt/demo/bin/demo foreground

headline "Two stages with dram release: built with Elixir, run on nothing"
cat "$root/examples/demo/Dockerfile.dram"
echo
# The directory that the Dockerfile calls `dram`.
cp "$(realpath "$scratch/dram")" "$scratch/tool/dram"
shown dram build -t demo:dram -f "$root/examples/demo/Dockerfile.dram" --build-context "dram=$scratch/tool" \
  "$root/examples/demo"

headline "Two stages with mix release: built with Elixir, run on a small base"
cat "$root/examples/demo/Dockerfile"
echo
began=$(date +%s%N)
shown dram build -t demo:two-stage "$root/examples/demo"
printf 'built in %s ms\n' "$((($(date +%s%N) - began) / 1000000))"

headline "One stage, to compare"
shown dram build -t demo:single-stage -f "$root/examples/demo/Dockerfile.single" "$root/examples/demo"

headline "The sizes"
shown dram images | tee "$scratch/images"
for tag in dram two-stage single-stage; do
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

headline "demo:dram runs"
see_it_run demo:dram

headline "demo:two-stage runs"
see_it_run demo:two-stage

headline "All as it should be"
