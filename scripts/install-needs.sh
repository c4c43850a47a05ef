#!/usr/bin/env bash
# Installs with apt what is missing on this machine, and only that.
#
#   scripts/install-needs.sh [build|demo|test|bench|lint]…
#
# `build` is included unless DRAM names a dram that is built already. Where
# nothing is missing it needs neither root nor the network; where something is
# and you are not root, it says what.
set -euo pipefail

missing=()

# need PACKAGE COMMAND: the package is missing where the command is.
need() { command -v "$2" >/dev/null 2>&1 || missing+=("$1"); }

need_static_busybox() {
  # A dynamic busybox would not run in an otherwise empty root file system.
  local busybox
  if ! busybox=$(command -v busybox) || ldd "$busybox" >/dev/null 2>&1; then
    missing+=(busybox-static)
  fi
}

need_erlang() {
  # Debian has Erlang in many packages: the projects need these, and their libraries of C its header.
  local root=/usr/lib/erlang application
  if command -v erl >/dev/null; then
    root=$(erl -noshell -eval 'io:put_chars(code:root_dir()), halt().')
  fi
  [ -e "$root/usr/include/erl_nif.h" ] || missing+=(erlang-dev)
  for application in crypto runtime_tools; do
    compgen -G "$root/lib/$application-*" >/dev/null || missing+=("erlang-${application//_/-}")
  done
}

needs_build() {
  need gcc gcc
  # libc.a: dram is linked statically.
  compgen -G '/usr/lib*/libc.a' >/dev/null || compgen -G '/usr/lib/*/libc.a' >/dev/null ||
    missing+=(libc6-dev)
}

needs_demo() {
  need elixir mix
  need mmdebstrap mmdebstrap
  need curl curl
}

needs_peer() {
  need buildah buildah
  need runc runc
  need_static_busybox
}

needs_test() {
  need git git
  need openssl openssl
  need docker-registry docker-registry
  need e2fsprogs mkfs.ext4
  need rsync rsync
  need attr setfattr
  needs_demo
  needs_peer
  need skopeo skopeo
  need umoci umoci
  need podman podman
  need docker.io dockerd
  need procps pgrep
  need strace strace
  need uidmap newuidmap
  need openssh-client ssh-agent
  compgen -G '/lib/ld-musl-*' >/dev/null || missing+=(musl)
  need xz-utils xz
  need zstd zstd
  need bzip2 bzip2
  need zip zip
  # Web servers, in C and in Go.
  need nginx-light nginx
  need caddy caddy
  need python3 python3
  # Projects to release, and what builds them.
  need elixir mix
  need rebar3 rebar3
  need erlang-base erl
  need make make
  need gcc gcc
  need_erlang
}

needs_bench() {
  needs_demo
  needs_peer
  need python3 python3
}

needs_lint() {
  need git git
  need shellcheck shellcheck
  need python3 python3
}

[ -n "${DRAM:-}" ] || needs_build
for purpose; do
  case $purpose in
  build) needs_build ;;
  demo | test | bench | lint) "needs_$purpose" ;;
  *)
    printf 'install-needs.sh: no such purpose: %s\n' "$purpose" >&2
    exit 2
    ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    printf 'missing here: %s\nas root: apt-get install --no-install-recommends %s\n' \
      "${missing[*]}" "${missing[*]}" >&2
    exit 1
  fi
  printf 'needs: installing %s\n' "${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # Who needs a service starts it: Debian starts what it installs, unless this file says no.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$log" "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    exit 1
  fi
  if [[ " ${missing[*]} " == *" docker.io "* ]]; then
    # Nor is it to start with the machine: it would set up a network and a firewall.
    update-rc.d docker disable >/dev/null 2>&1 || true
    systemctl disable docker.service docker.socket >/dev/null 2>&1 || true
  fi
fi

# The Rust that Cargo.toml asks for. With rustup it is installed for this
# directory; the cargo of a distribution is often too old to read Cargo.toml.
need_rust() {
  local root wanted found how
  root=$(cd "$(dirname "$0")/.." && pwd)
  wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' "$root/Cargo.toml")
  found=$(cd "$root" && cargo --version 2>/dev/null | cut -d' ' -f2 | cut -d- -f1) || found=
  if [ -n "$found" ] && [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n1)" = "$wanted" ]; then
    return
  fi
  if command -v rustup >/dev/null; then
    printf 'needs: installing Rust %s with rustup, for this directory\n' "$wanted"
    rustup toolchain install "$wanted" --profile minimal && rustup override set "$wanted" --path "$root"
    return
  fi
  how='install rustup (https://rustup.rs; in Debian 13 and newer: apt-get install rustup && rustup default stable), then try again'
  if [ -n "$found" ]; then
    printf 'dram needs Rust %s or newer, and this cargo is %s (%s): %s\n' "$wanted" "$found" "$(command -v cargo)" "$how" >&2
  else
    printf 'cargo is missing, and dram needs Rust %s or newer: %s\n' "$wanted" "$how" >&2
  fi
  exit 1
}

[ -n "${DRAM:-}" ] || need_rust
if [[ " $* " == *" lint "* ]]; then
  for component in rustfmt clippy; do
    case $component in rustfmt) tool=fmt ;; *) tool=$component ;; esac
    cargo "$tool" --version >/dev/null 2>&1 || rustup component add "$component"
  done
  # Without optimisation it is built in a minute, and is fast enough.
  cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked --debug --version 0.20.2 cargo-deny
fi
